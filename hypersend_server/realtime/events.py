"""What parts of the server tell each other, and the bus that carries it.

An event is a hint about a change that is already committed: losing one loses nothing, since clients catch up
by `/sync`. `publish` never waits and never fails for its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="t"):
    """Base of all events."""


class Frame(Event, frozen=True, tag="f"):
    """One frame, the same for all its readers, for every socket of these people.

    user_ids: whom it concerns. frame: the JSON text in UTF-8.
    except_session: a session that knows already, or None.
    """

    user_ids: list[str]
    frame: bytes
    except_session: str | None = None


class ChatChanged(Event, frozen=True, tag="c"):
    """A chat's own fields changed; each connected person gets it as that person sees it."""

    chat_id: str
    user_ids: list[str]


class ChatGone(Event, frozen=True, tag="g"):
    """These people have no access to the chat any more."""

    chat_id: str
    user_ids: list[str]


class SessionsEnded(Event, frozen=True, tag="e"):
    """These sessions are over: their sockets close with 4503 at once."""

    user_id: str
    session_ids: list[str]


class Presence(Event, frozen=True, tag="p"):
    """Someone's first socket at this server process opened, or the last one closed. last_seen_at: Unix ms."""

    user_id: str
    online: bool
    last_seen_at: int
    process: str = ""


class Joined(Event, frozen=True, tag="j"):
    """This process hears events from now on: each process answers with `PeopleHere`."""

    process: str


class PeopleHere(Event, frozen=True, tag="h"):
    """All who have a socket at this process."""

    process: str
    user_ids: list[str]


class TransferEnded(Event, frozen=True, tag="x"):
    """A transfer from person to person is over: whoever relays it closes both ends."""

    transfer_id: str
    status: str


class Announcement(Event, frozen=True, tag="a"):
    """One frame for everybody who is connected."""

    frame: bytes


class BusRefused(Exception):
    """The bus cannot be used as it is set. The text names the setting and what was tried, without a password."""


class Resync(Event, frozen=True, tag="r"):
    """Something may have been missed: every client syncs."""


AnyEvent = (
    Frame | ChatChanged | ChatGone | SessionsEnded | Presence | Joined | PeopleHere | TransferEnded | Announcement
    | Resync
)


class Bus(Protocol):
    """Carries events to every process of the deployment, this one included."""

    def publish(self, event: AnyEvent) -> None:
        """Hand the event over; returns at once."""

    def subscribe(self, listener: Callable[[AnyEvent], None]) -> None:
        """`listener` is called in the event loop for every event, in the order of each publisher."""

    async def start(self) -> None: ...

    async def check(self) -> None:
        """Raises: `not_ready` while other processes hear nothing of this one, or it of them."""

    async def close(self) -> None: ...
