"""What a bubble can ask for. One object a conversation, so that a bubble is not drawn again for its sake."""

from __future__ import annotations

from collections.abc import Callable

from hypersend_client.app.chat.model import Bubble
from hypersend_client.sdk import File


class Actions:
    """menu(bubble): its menu. reply(bubble). jump(message_id). retry(bubble): one that failed. react(bubble, emoji):
    set or take away. show(file): a picture, large. fetch(file): to this device. touch: it is used with fingers.
    """

    def __init__(
        self,
        *,
        menu: Callable[[Bubble], None],
        reply: Callable[[Bubble], None],
        jump: Callable[[str], None],
        retry: Callable[[Bubble], None],
        react: Callable[[Bubble, str], None],
        show: Callable[[File], None],
        fetch: Callable[[File], None],
        touch: bool,
    ) -> None:
        self.menu = menu
        self.reply = reply
        self.jump = jump
        self.retry = retry
        self.react = react
        self.show = show
        self.fetch = fetch
        self.touch = touch
