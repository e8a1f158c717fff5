"""What the app knows, for one person at one screen; the screens draw it and nothing else.

`AppState` ties the SDK to small observable parts. A screen gets it by `use_app()` (router.py) and names what it
depends on:

    app = use_app()
    chats = watch(app.chats)        # drawn again whenever the list of chats changes

    app.session   signed in or not, oneself, the server and its name
    app.link      is there a connection; what the banner says
    app.chats     rows of the chat list, with previews, drafts, typing
    app.people    everybody who was met, by id
    app.prefs     theme, language
    app.layout    one, two or three panes
    app.notices   a passing sentence at the bottom
    app.transfers what this device sends and fetches; app.peers: from device to device
    app.update    a newer build of this app
    app.clock     ticks once a minute, for "5 minutes ago"

A screen with data of its own (a chat's messages, transfers) keeps an `ft.Observable` of its own and fills it from
`app.hs` (the SDK), `app.on_changes` (what the store changed) and `app.on_event` (what the server told). Both
survive a drop of the connection; after signing out they stay silent.

There is no page in here and nothing of Flet but its observable base, so all of it is tested without a screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, TypeVar

from hypersend_client.app.chat_list import ChatList, ChatRow
from hypersend_client.app.i18n import Translator
from hypersend_client.app.kept_in_browser import KeptInBrowser, Memory
from hypersend_client.app.peer_list import PeerList
from hypersend_client.app.transfer_list import TransferList
from hypersend_client.app.updates import Build, UpdateNotice
from hypersend_client.app.watched import Clock, Layout, Link, Notices, People, Prefs, Session, Theme
from hypersend_client.app.words import explain
from hypersend_client.sdk import (
    Account,
    Changes,
    Chat,
    Draft,
    HyperSend,
    HyperSendError,
    ServerInfo,
    SignedOut,
    TokenStore,
)
from hypersend_client.sdk.address import normalise
from hypersend_client.sdk.events import (
    Event,
    PresenceChanged,
    Ready,
    StateChanged,
    TransferChanged,
    Typing,
    UpdateAvailable,
)
from hypersend_client.sdk.p2p_calls import PeerCalls
from hypersend_client.sdk.transfers import Transfers

__all__ = ["AppState", "ChatList", "ChatRow", "Memory"]

T = TypeVar("T")
L = TypeVar("L")
log = logging.getLogger(__name__)

PATIENCE_S = 1.0  # a shorter break of the connection is nobody's business
DRAFT_S = 0.4
MAX_WATCHED = 500


class AppState:
    """connect(address): a client that is not started yet. tokens: the store that it uses.

    built_in: the only server of this build (white label, or the web app's own); "" lets people type one.
    transfers: makes what moves files on this device; None in the browser, where the upload page does.
    media_base: the address that this person sees, also for pictures, where it is another than the process uses
    (in the browser); "" where it is the same.
    build: this app, where a newer one can take its place; None in the browser.
    keep: makes a session that just began outlast this page (in the browser, which keeps drafts then, too); None: the
    token store does, and the client's cache.
    """

    def __init__(
        self,
        *,
        connect: Callable[[str], HyperSend],
        tokens: TokenStore,
        memory: Memory,
        built_in: str = "",
        media_base: str = "",
        locale: str = "en",
        transfers: Callable[[HyperSend], Transfers] | None = None,
        keep: Callable[[HyperSend], Awaitable[None]] | None = None,
        build: Build | None = None,
    ) -> None:
        self.session = Session()
        self.link = Link()
        self.chats = ChatList()
        self.people = People()
        self.prefs = Prefs(locale)
        self.layout = Layout()
        self.notices = Notices()
        self.clock = Clock()
        self.transfers = TransferList()
        self.peers = PeerList(self.transfers.look_again)
        self.update = UpdateNotice(build)
        self._make_transfers = transfers
        self._keep = keep
        self.built_in = built_in
        self.drafts: dict[str, Draft] = {}
        self._browser = None if keep is None else KeptInBrowser(memory)
        self._drafts_of = ""  # whose the browser keeps
        self._connect = connect
        self._tokens = tokens
        self.memory = memory
        self._media_base = media_base
        self._hs: HyperSend | None = None
        self._changes_listeners: list[Callable[[Changes], None]] = []
        self._event_listeners: list[Callable[[Event], None]] = []
        self._escape_handlers: list[Callable[[], bool]] = []
        self._undo: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[object]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._draft_timers: dict[str, asyncio.TimerHandle] = {}
        self._pending = Changes()
        self._refreshing: asyncio.Task[object] | None = None
        self._watched: frozenset[str] = frozenset()

    @property
    def hs(self) -> HyperSend:
        """The SDK. Raises: SignedOut where nobody is signed in."""
        if self._hs is None:
            raise SignedOut
        return self._hs

    @property
    def me_id(self) -> str:
        account = None if self._hs is None else self._hs.account
        return account.user_id if account is not None else ""

    @property
    def t(self) -> Translator:
        """The words of the language in force; in a screen `use_t()`, which draws again when it changes."""
        return Translator(self.prefs.spoken)

    def media_url(self, path: str | None) -> str | None:
        """The whole URL of an `avatar_url`, `preview_url` or ticket."""
        if not path or "://" in path:
            return path or None
        return (self._media_base or self.session.address).rstrip("/") + path

    # Listening

    def on_changes(self, listener: Callable[[Changes], None]) -> Callable[[], None]:
        """`listener(changes)` after each write to the store; answers a function that ends it."""
        return _listen(self._changes_listeners, listener)

    def on_event(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """`listener(event)` for each event of the connection; answers a function that ends it."""
        return _listen(self._event_listeners, listener)

    def on_escape(self, handler: Callable[[], bool]) -> Callable[[], None]:
        """The Escape key asks the newest handler first; one that answers True dealt with it, else it goes back."""
        return _listen(self._escape_handlers, handler)

    def escape(self) -> bool:
        return any(handler() for handler in reversed(self._escape_handlers))

    def spawn(self, work: Awaitable[object]) -> None:
        """Do it beside; an SDK error in it is told at the bottom of the screen."""
        task = self._start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start(self, work: Awaitable[object]) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.ensure_future(self.attempt(work))
        if asyncio.iscoroutine(work):
            coroutine = work
            # Cancelled before it began, it would never have been awaited.
            task.add_done_callback(lambda _: coroutine.close())
        return task

    async def attempt(self, work: Awaitable[T]) -> T | None:
        """Await it; what the SDK raises is told at the bottom of the screen, and None comes back."""
        try:
            return await work
        except SignedOut:
            return None  # the sign-in screen says so
        except HyperSendError as error:
            self.notices.tell(explain(error, self.t, address=self.session.address))
            return None

    # Opening and closing

    async def open(self) -> None:
        """Restore what was chosen and who was signed in; the last known chats are there when this returns."""
        self.prefs.theme = _theme(await self.memory.get("theme"))
        self.prefs.language = await self.memory.get("language") or "system"
        self.prefs.accent = await self.memory.get("accent") or ""
        self.session.status, self.session.error = "starting", None
        try:
            accounts = await self._tokens.accounts()
            address = self.built_in or (accounts[0].url if accounts else "") or await self.memory.get("address") or ""
            self.session.address = self._media_base or address
            if not address:
                self.session.status = "signed_out"
                return
            await self._use(address)
            if self.hs.account is None:
                self.session.status = "signed_out"
                self.spawn(self._learn_server())
                if self._browser is not None:  # the session may have ended while no page was open
                    self.spawn(self._browser.forget())
            else:
                await self._begin()
        except HyperSendError as error:
            self.session.error = error
            self.session.status = "failed"

    async def close(self) -> None:
        """The window is gone for good."""
        self._detach()
        self.update.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._stop_moving()
        hs, self._hs = self._hs, None
        if hs is not None:
            await hs.close()

    async def _stop_moving(self) -> None:
        self.peers.end()
        await self.transfers.end()

    def wake(self) -> None:
        """The window is back after a drop: doubt the socket that was there."""
        if self._undo:
            self.hs.connection.network_changed()

    async def _use(self, address: str) -> HyperSend:
        """Talk to this server from now on."""
        if self._hs is not None and self._hs.url == address:
            return self._hs
        old, self._hs = self._hs, None
        if old is not None:
            await old.close()
        hs = self._connect(address)
        await hs.__aenter__()
        hs.session.on_signed_out(self._signed_out)
        self._hs = hs
        return hs

    async def _learn_server(self) -> None:
        if self.update.build is not None:
            self.spawn(self.update.check(self.hs))  # beside: a server that refuses this version offers a newer one
        info = await self.hs.connect()
        self.session.server = info
        self.session.address = self._media_base or self.hs.url
        if self.session.status == "signed_in" and "p2p" in info.features:
            self.spawn(self.peers.go_on())
        if info.accent_color and info.accent_color != self.prefs.accent:
            self.prefs.accent = info.accent_color
            await self.memory.set("accent", info.accent_color)

    async def _begin(self) -> None:
        hs = self.hs
        # Before the outbox starts, which asks it for files that are to be sent.
        mover = None if self._make_transfers is None else self._make_transfers(hs)
        self.transfers.begin(hs, mover)
        account = hs.account
        session_id = "" if account is None else account.session_id
        self.peers.begin(
            PeerCalls(hs.transport), None if mover is None else hs.p2p, me=self.me_id, session_id=session_id
        )
        kept = []
        if self._browser is not None:
            self._drafts_of = self.me_id
            kept = await self._browser.drafts(self.me_id)
        await hs.start()
        for draft in kept:
            await hs.store.set_draft(draft.chat_id, draft.text, draft.reply_to)
        self._undo = [hs.store.on_change(self._on_changes), hs.connection.on(self._on_event)]
        hs.sync.on_state = lambda state: self._show_link()
        self.drafts = await hs.store.drafts()
        self.chats.me, self.chats.name_of = self.me_id, self.people.name
        await self._load_chats()
        self._show_link()
        self.session.ended = ""
        self.session.status = "signed_in"
        self.spawn(self._learn_server())
        self.spawn(self.load_me())
        self.spawn(self.transfers.go_on())

    def _detach(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []
        for timer in [*self._draft_timers.values(), *([self._patience] if self._patience else [])]:
            timer.cancel()
        self._draft_timers.clear()
        self._patience = None
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        self._pending = Changes()

    # Signing in and out

    async def find_server(self, address: str) -> ServerInfo:
        """Ask who is at an address that was typed. Raises: what HyperSend.connect raises, InvalidAddress."""
        url = normalise(address)
        await self._use(url)
        await self._learn_server()
        await self.memory.set("address", self.session.address)
        assert self.session.server is not None
        return self.session.server

    async def sign_in(self, email: str, password: str) -> None:
        """Raises: what HyperSend.login raises, LocalStorageFailed."""
        self.session.me = await self.hs.login(email.strip(), password)
        await self._begin()
        self.keep_session()

    async def register(self, email: str, username: str, password: str, display_name: str, invite: str) -> None:
        """Raises: what HyperSend.register raises, LocalStorageFailed."""
        self.session.me = await self.hs.register(
            email.strip(), username.strip(), password, display_name=display_name.strip(), invite=invite.strip()
        )
        await self._begin()
        self.keep_session()

    def keep_session(self) -> None:
        """Make it outlast this page, where the token store does not."""
        if self._keep is not None:
            self.spawn(self._keep(self.hs))

    async def sign_out(self) -> None:
        """End the session here; drafts and unsent messages of this account are removed from this device."""
        self._detach()
        await self._stop_moving()
        await self.hs.logout()
        self._forget("")

    @property
    def account(self) -> Account | None:
        """Who is signed in here; None: nobody."""
        return None if self._hs is None else self._hs.account

    def become(self, account: Account | None) -> None:
        """Show what belongs to this account from now on; None: the sign-in screen. What was shown is gone at once.

        Another page of this browser may have signed out meanwhile, or somebody else in.
        """
        self._detach()
        if account is not None and account.user_id == self._drafts_of:
            self._drafts_of = ""  # the same person, in another tab, whose drafts they are too
        self._forget("")
        if account is not None:
            self.session.status = "starting"
        self.spawn(self._become(account))

    async def _become(self, account: Account | None) -> None:
        try:
            await self._stop_moving()
            await self.hs.stop()
            await self.hs.session.forget()
            if account is not None:
                await self.hs.session.begin(account)
                await self._begin()
        except HyperSendError as error:
            self.session.error = error
            self.session.status = "failed"

    def _signed_out(self, reason: str) -> None:
        self._detach()
        self.spawn(self._stop_moving())
        self._forget(reason)
        if self._hs is not None:
            self.spawn(self._hs.stop())

    def _forget(self, reason: str) -> None:
        self.drafts = {}
        if self._browser is not None and self._drafts_of:
            self.spawn(self._browser.forget(self._drafts_of))
            self._drafts_of = ""
        self.chats.clear()
        self.people.clear()
        self.session.me = None
        self.session.ended = reason
        self.link.online, self.link.banner = False, ""
        self.session.status = "signed_out"

    async def load_me(self) -> None:
        self.session.me = await self.hs.me.get()
        self.people.add(self.session.me)

    # Choices

    async def set_theme(self, theme: Theme) -> None:
        self.prefs.theme = theme
        await self.memory.set("theme", theme)

    async def set_language(self, language: str) -> None:
        self.prefs.language = language
        await self.memory.set("language", language)

    # Drafts

    def set_draft(self, chat_id: str, text: str, reply_to: str | None = None) -> None:
        """Kept at once; written to the store when the typing pauses, or nothing is left."""
        if text or reply_to:
            self.drafts[chat_id] = Draft(chat_id, text, reply_to)
        else:
            self.drafts.pop(chat_id, None)
        timer = self._draft_timers.pop(chat_id, None)
        if timer is not None:
            timer.cancel()
        if text or reply_to:
            loop = asyncio.get_running_loop()
            self._draft_timers[chat_id] = loop.call_later(DRAFT_S, self._save_draft, chat_id)
        else:
            self._save_draft(chat_id)  # sent, most often: it must not come back

    def _save_draft(self, chat_id: str) -> None:
        self._draft_timers.pop(chat_id, None)
        draft = self.drafts.get(chat_id) or Draft(chat_id, "")
        if self._undo:
            self.spawn(self.hs.store.set_draft(chat_id, draft.text, draft.reply_to))
            if self._browser is not None:
                self.spawn(self._browser.save_draft(self._drafts_of, draft))

    # What the SDK tells

    def _on_changes(self, changes: Changes) -> None:
        for name in Changes.__slots__:
            getattr(self._pending, name).update(getattr(changes, name))
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._start(self._refresh())
        for listener in list(self._changes_listeners):
            listener(changes)

    async def _refresh(self) -> None:
        while self._pending:
            changes, self._pending = self._pending, Changes()
            store = self.hs.store
            if changes.users:
                self.people.add(*(await store.users(changes.users)).values())
            if changes.outbox:
                self.chats.set_waiting(await self.hs.outbox.entries())
            touched = changes.chats | changes.gone | changes.outbox | changes.drafts
            found = [await store.chat(chat_id) for chat_id in touched]
            chats = [chat for chat in found if chat is not None]
            await self._meet(chats)
            self.chats.update(chats, gone=touched - {chat.id for chat in chats}, drafts=self.drafts)
            if touched:
                await self._watch_presence()
            await asyncio.sleep(0.03)  # a burst of changes is drawn once

    async def _load_chats(self) -> None:
        store = self.hs.store
        chats = await store.chats(archived=None)
        await self._meet(chats)
        self.chats.set_waiting(await self.hs.outbox.entries())
        known = bool(chats) or await store.setting("token") is not None
        self.chats.load(chats, drafts=self.drafts, known=known)

    async def _meet(self, chats: Sequence[Chat]) -> None:
        """Know the people that rows name."""
        self.people.add(*(chat.peer for chat in chats if chat.peer is not None))
        senders = {chat.last_message.sender_id for chat in chats if chat.last_message is not None}
        await self.meet(user_id for user_id in senders if user_id is not None)

    async def meet(self, user_ids: Iterable[str]) -> None:
        """Know these people, as far as this device has heard of them."""
        unknown = [user_id for user_id in user_ids if self.people.get(user_id) is None]
        if unknown:
            self.people.add(*(await self.hs.store.users(unknown)).values())

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._show_link()
        elif isinstance(event, Ready):
            self._watched = frozenset()
            self.spawn(self._watch_presence())
            if self.session.server is not None and "p2p" in self.session.server.features:
                self.spawn(self.peers.go_on())
        elif isinstance(event, TransferChanged):
            self.peers.on_event(event)
        elif isinstance(event, PresenceChanged):
            self.people.presence(event.user_id, event.online, event.last_seen_at)
        elif isinstance(event, Typing):
            self.chats.typing(event.chat_id, event.user_id)
        elif isinstance(event, UpdateAvailable):
            self.spawn(self.update.check(self.hs))  # whether it is for this device, the server knows
        for listener in list(self._event_listeners):
            listener(event)

    async def _watch_presence(self) -> None:
        """Hear of the people in the topmost direct chats."""
        wanted = frozenset([row.peer_id for row in self.chats.rows if row.peer_id][:MAX_WATCHED])
        if (
            wanted
            and wanted != self._watched
            and await self.hs.connection.tell("presence.watch", user_ids=sorted(wanted))
        ):
            self._watched = wanted

    def _show_link(self) -> None:
        hs = self._hs
        if hs is None or not self._undo:
            return
        state = hs.connection.state
        self.link.online = state == "online"
        if state == "online" and hs.sync.state == "current":
            self.chats.known = True
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._banner() == "":
            self.link.banner = ""
        elif self.link.banner:
            self.link.banner = self._banner()
        else:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        self.link.banner = self._banner()

    def _banner(self) -> Literal["", "connecting", "offline", "updating"]:
        hs = self.hs
        if hs.connection.state == "online":
            return "" if hs.sync.state == "current" else "updating"
        return "offline" if hs.connection.error is not None else "connecting"


def _theme(value: str | None) -> Theme:
    if value == "light":
        return "light"
    return "dark" if value == "dark" else "system"


def _listen(listeners: list[L], listener: L) -> Callable[[], None]:
    listeners.append(listener)

    def stop() -> None:
        with contextlib.suppress(ValueError):
            listeners.remove(listener)

    return stop
