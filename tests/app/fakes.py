"""A connection without a server: the SDK's real store, and calls that a test answers itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypersend_client.app.state import AppState
from hypersend_client.app.updates import Build
from hypersend_client.sdk import (
    Account,
    Chat,
    Entry,
    HyperSendError,
    MemoryTokenStore,
    Message,
    ServerInfo,
    TokenStore,
    User,
)
from hypersend_client.sdk.events import Event, StateChanged
from hypersend_client.sdk.models import Device, File, Page, StorageUse
from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.transfer import ENDED, Progress

ME = User(id="u-me", username="meera", display_name="Meera Kulkarni", email="meera@example.org")
ANN = User(id="u-ann", username="ann", display_name="Ann Lee", online=True)
SERVER = ServerInfo(
    server_id="s-1",
    api_version=1,
    name="Tea house",
    version="0.1.0",
    registration="open",
    max_file_size=40 * 10**9,
    accent_color="#B3261E",
)
ACCOUNT = Account("s-1", ME.id, "https://tea.example.org", "ses-1", "access", "refresh", username="meera")


class FakeMemory:
    def __init__(self, **values: str) -> None:
        self.values = values

    async def get(self, key: str) -> str | None:
        return self.values.get(key)

    async def set(self, key: str, value: str) -> None:
        self.values[key] = value

    async def remove(self, key: str) -> None:
        self.values.pop(key, None)

    async def keys(self, prefix: str) -> list[str]:
        return [key for key in self.values if key.startswith(prefix)]


class Calls:
    """Any call of a part of the API: noted, and answered by `answers[name]` (a value, an error, or a function)."""

    def __init__(self, part: str, owner: FakeClient) -> None:
        self._part = part
        self._owner = owner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            return self._owner.answer(f"{self._part}.{name}", *arguments, **options)

        return call


class FakeConnection:
    def __init__(self) -> None:
        self.state = "offline"
        self.error: HyperSendError | None = None
        self.listeners: list[Callable[[Event], None]] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.doubted = 0

    def on(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    async def tell(self, kind: str, **fields: Any) -> bool:
        self.told.append((kind, fields))
        return self.state == "online"

    def network_changed(self) -> None:
        self.doubted += 1

    def happen(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.state, self.error = event.state, event.error
        for listener in list(self.listeners):
            listener(event)


class FakeSync:
    def __init__(self) -> None:
        self.state = "stale"
        self.on_state: Callable[[str], None] = lambda state: None

    def become(self, state: str) -> None:
        self.state = state
        self.on_state(state)


class FakeOutbox:
    def __init__(self) -> None:
        self.waiting: list[Entry] = []

    async def entries(self, chat_id: str | None = None) -> list[Entry]:
        return [entry for entry in self.waiting if chat_id in (None, entry.chat_id)]


class FakeSession:
    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []

    def on_signed_out(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    async def forget(self) -> None:
        """What the token store has is another one's."""

    async def begin(self, account: Account) -> None:
        """The token store has it already."""


class Answer:
    def __init__(self, data: Any) -> None:
        self.data = data


class FakeTransport:
    """For what is called without a part: answered by `answers["GET /p2p"]`."""

    def __init__(self, owner: FakeClient) -> None:
        self._owner = owner

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        return Answer(self._owner.answer(f"{method} {path}", **options))


class FakeEnd:
    """One end of a transfer from device to device; a test moves it."""

    def __init__(self, info: PeerTransfer) -> None:
        self.info = info
        self.is_new_device = self.came_through_server = self.is_vouched = False
        self.progress = Progress("waiting", 0, info.size, 0.0, None, None)
        self.did: list[str] = []
        self._listeners: list[Callable[[Progress], None]] = []
        self._result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        return self.progress.state in ENDED

    def on_progress(self, listener: Callable[[Progress], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def be(self, state: Any, done: int = 0, error: HyperSendError | None = None, result: Any = None, **info: Any
           ) -> None:  # fmt: skip
        self.info = replace(self.info, **info)
        speed = 20_000_000.0 if state == "running" else 0.0
        self.progress = Progress(state, done, self.info.size, speed, 60.0 if speed else None, error)
        if state == "done":
            self._result.set_result(result)
        for listener in list(self._listeners):
            listener(self.progress)

    async def wait(self) -> Any:
        return await self._result

    def pause(self) -> None:
        self.did.append("pause")
        self.be("paused", self.progress.done_bytes)

    def resume(self) -> None:
        self.did.append("resume")

    def start(self) -> None:
        self.did.append("start")
        self.be("running", self.progress.done_bytes)


class FakePeers:
    """`HyperSend.p2p`: each call is noted, and answered by `answers["p2p.send"]` and so on."""

    def __init__(self, owner: FakeClient) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(Calls("p2p", self._owner), name)  # type: ignore[no-any-return]


class FakeMover:
    """`Transfers` without anything to move."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.uploads: dict[str, Any] = {}
        self.downloads: dict[str, Any] = {}

    async def resume(self) -> list[Any]:
        return []

    async def close(self) -> None:
        pass


class FakeClient:
    """Stands where HyperSend stands. answers: by `part.call`, such as `me.devices`; `login`, `connect` too."""

    def __init__(self, url: str, tokens: TokenStore, answers: dict[str, Any]) -> None:
        self.url = url
        self.tokens = tokens
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.session = FakeSession()
        self.connection = FakeConnection()
        self.sync = FakeSync()
        self.outbox = FakeOutbox()
        self.store = Store(":memory:", ME.id)
        self.transport = FakeTransport(self)
        self.p2p = FakePeers(self)
        self.account: Account | None = None
        self.server: ServerInfo | None = None
        self.closed = False
        self.started = False
        self.chats, self.messages, self.me, self.users, self.files, self.updates = (
            Calls(part, self) for part in ("chats", "messages", "me", "users", "files", "updates")
        )

    async def __aenter__(self) -> FakeClient:
        self.account = next(iter(await self.tokens.accounts()), None)
        return self

    def answer(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.calls.append((name, arguments, options))
        found = self.answers[name] if name in self.answers else DEFAULTS[name]
        if callable(found):
            found = found(*arguments, **options)
        if isinstance(found, Exception):
            raise found
        return found

    async def connect(self) -> ServerInfo:
        self.server = self.answer("connect")
        return self.server

    async def login(self, email: str, password: str) -> User:
        user: User = self.answer("login", email, password)
        await self._signed_in()
        return user

    async def register(self, email: str, username: str, password: str, **more: str) -> User:
        user: User = self.answer("register", email, username, password, **more)
        await self._signed_in()
        return user

    async def reset_password(self, code: str, new_password: str) -> None:
        self.answer("reset_password", code, new_password)

    async def _signed_in(self) -> None:
        self.account = ACCOUNT
        await self.tokens.put(ACCOUNT)

    async def start(self) -> None:
        self.answer("start")
        if not self.started:
            self.started = True
            if self.store._db is None:
                await self.store.open()

    async def stop(self) -> None:
        self.started = False

    async def logout(self) -> None:
        self.answer("logout")
        self.account = None
        await self.tokens.remove(*ACCOUNT.key)
        await self.stop()

    async def close(self) -> None:
        self.closed = True
        await self.store.close()

    def end(self, reason: str) -> None:
        """As the SDK does it when the server ends the session."""
        self.account = None
        for listener in self.session.listeners:
            listener(reason)


DEFAULTS: dict[str, Any] = {
    "connect": SERVER, "login": ME, "register": ME, "reset_password": None, "start": None, "logout": None,
    "me.get": ME, "me.devices": [Device("d-1", device="Chrome on Linux", ip="127.0.0.1", current=True)],
    "me.storage": StorageUse(used_bytes=3_100_000_000, quota_bytes=10_000_000_000, files=3), "me.blocks": [],
    "files.page": Page([File("f-1", name="holiday.mp4", size=3_000_000_000, state="complete")], None),
    "chats.update_mine": None, "chats.delete": None, "chats.remove_member": None, "me.end_device": None,
    "me.unblock": None, "me.update": ME, "me.set_password": None, "files.delete": None, "me.delete": {},
    "updates.check": None, "p2p.resume": [], "p2p.is_new_device": False, "GET /p2p": {"items": []},
    "p2p.number_for": "11111 22222", "p2p.safety_numbers": [],
    "chats.members": [], "messages.page": None, "me.remove_avatar": None,
}  # fmt: skip


async def _keep(hs: object) -> None:
    """The browser has its cookie."""


class World:
    """An AppState over fakes. client: the one in use. clients: all that were made."""

    def __init__(self, *, signed_in: bool = True, built_in: str = "", memory: dict[str, str] | None = None,
                 locale: str = "en", build: Build | None = None, native: bool = False, web: bool = False,
                 **answers: Any) -> None:  # fmt: skip
        self.answers = {name.replace("__", "."): value for name, value in answers.items()}
        self.tokens = MemoryTokenStore()
        self.memory = FakeMemory(**(memory or {}))
        self.clients: list[FakeClient] = []
        self.app = AppState(
            connect=self._connect, tokens=self.tokens, memory=self.memory, built_in=built_in, locale=locale,
            build=build, transfers=(lambda hs: FakeMover()) if native else None, keep=_keep if web else None,
        )  # type: ignore[arg-type]
        self._signed_in = signed_in

    def _connect(self, url: str) -> FakeClient:
        self.clients.append(FakeClient(url, self.tokens, self.answers))
        return self.clients[-1]

    @property
    def client(self) -> FakeClient:
        return self.clients[-1]

    async def open(self) -> AppState:
        if self._signed_in:
            await self.tokens.put(ACCOUNT)
        await self.app.open()
        return self.app

    async def put(self, *chats: Chat) -> None:
        """As the sync does it when chats change."""
        await self.client.store.write(lambda writer: [writer.chat(chat) for chat in chats])


def message(chat_id: str, seq: int, text: str, sender_id: str | None = ANN.id, **more: Any) -> Message:
    from datetime import UTC, datetime

    return Message(
        f"m-{chat_id}-{seq}",
        chat_id,
        seq,
        seq,
        sender_id=sender_id,
        text=text,
        created_at=datetime(2026, 3, 10, 12, seq, tzinfo=UTC),
        **more,
    )
