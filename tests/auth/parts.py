"""The rooms of accounts over a real SQLite, without HTTP: for tests that move the clock."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hypersend_server.auth.guesses import Guesses
from hypersend_server.auth.live_sessions import LiveSessions
from hypersend_server.auth.operator import AccountOperator
from hypersend_server.auth.passwords import Passwords
from hypersend_server.auth.service import AuthService
from hypersend_server.auth.tokens import AccessTokens, RefreshTokens
from hypersend_server.auth.types import Login, Register, Session
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.sqlite import SqliteMetadata
from hypersend_server.pictures import Pictures
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.events import AnyEvent, SessionsEnded
from hypersend_server.users.admin import AdminService
from hypersend_server.users.deletion import AccountDeletion
from hypersend_server.users.present import UserPresenter
from hypersend_server.users.service import UserService

SECRET = "k" * 40
PASSWORD = "correct horse battery"
HERE = "192.0.2.10"


class ManualClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


@dataclass
class Forgetting:
    """Stands where another room forgets a person; may be told to fail."""

    count: dict[str, int]
    seen: list[str] = field(default_factory=list)
    fails: bool = False

    async def __call__(self, user_id: str) -> dict[str, int]:
        if self.fails:
            raise HyperSendError("metadata_unavailable")
        self.seen.append(user_id)
        return self.count


@dataclass
class Rooms:
    metadata: SqliteMetadata
    clock: ManualClock
    bus: LocalBus
    access: AccessTokens
    live: LiveSessions
    guesses: Guesses
    auth: AuthService
    operator: AccountOperator
    pictures: Pictures
    presenter: UserPresenter
    users: UserService
    admin: AdminService
    deletion: AccountDeletion
    chats: Forgetting
    files: Forgetting
    online: set[str]
    ended: list[str]

    async def register(self, name: str, *, address: str = HERE, invite: str | None = None) -> Session:
        return await self.auth.register(
            Register(
                email=f"{name}@example.org",
                username=name,
                password=PASSWORD,
                display_name=name.title(),
                invite=invite,
                device="phone",
            ),
            address,
        )

    async def login(self, name: str, password: str = PASSWORD, *, address: str = HERE) -> Session:
        return await self.auth.login(Login(email=f"{name}@example.org", password=password), address)

    async def present(self, access_token: str) -> None:
        """Use an access token, as a request does."""
        claims = self.access.verify(access_token)
        entry = await self.live.require(claims.session_id, claims.user_id)
        self.live.note(entry, claims.session_id, claims.generation, lambda: HERE)


@asynccontextmanager
async def rooms(root: Path, *, registration: str = "open") -> AsyncIterator[Rooms]:
    clock, bus, numbers = ManualClock(), LocalBus(), itertools.count(1)
    metadata = SqliteMetadata(root / "metadata.sqlite3")
    await metadata.open()
    accounts, online, ended = metadata.accounts, set[str](), list[str]()

    def new_id() -> str:
        return f"{next(numbers):026d}"

    def entropy(count: int) -> bytes:
        return next(numbers).to_bytes(count, "big") if count < 20 else next(numbers).to_bytes(8, "little") * 3

    def listen(event: AnyEvent) -> None:
        if isinstance(event, SessionsEnded):
            ended.extend(event.session_ids)

    bus.subscribe(listen)
    access = AccessTokens(SECRET, "server", clock)
    live = LiveSessions(accounts, bus, clock, poll_s=3600)
    await live.start()
    guesses = Guesses(accounts, SECRET, clock)
    passwords = Passwords(rounds=4)
    pictures = Pictures(SECRET, accounts.get_picture, clock)
    presenter = UserPresenter(accounts, pictures.url, online.__contains__)
    chats, files = Forgetting({"groups_left": 2}), Forgetting({"files": 3})
    deletion = AccountDeletion(accounts, bus, clock, chats, files)
    auth = AuthService(
        accounts,
        bus,
        registration=registration,
        passwords=passwords,
        access_tokens=access,
        refresh_tokens=RefreshTokens(SECRET),
        sessions=live,
        guesses=guesses,
        present_me=presenter.me,
        clock=clock,
        new_id=new_id,
        entropy=entropy,
    )

    async def storage_use(user_id: str) -> tuple[int, int, int]:
        return 10, 20, 3

    async def nothing_between(user_id: str, other_id: str) -> None:
        """Here are no transfers."""

    yield Rooms(
        metadata,
        clock,
        bus,
        access,
        live,
        guesses,
        auth,
        AccountOperator(accounts, passwords, clock=clock, new_id=new_id, entropy=entropy),
        pictures,
        presenter,
        UserService(
            accounts,
            presenter=presenter,
            deletion=deletion,
            check_password=auth.check_password,
            avatar=pictures.avatar,
            storage_use=storage_use,
            on_blocked=nothing_between,
            default_quota=1000,
            clock=clock,
            new_id=new_id,
        ),
        AdminService(
            accounts,
            metadata.server,
            bus,
            presenter=presenter,
            deletion=deletion,
            users_changed=live.forget,
            clock=clock,
            new_id=new_id,
            entropy=entropy,
        ),
        deletion,
        chats,
        files,
        online,
        ended,
    )
    await live.close()
    pictures.close()
    passwords.close()
    await metadata.close()


async def refused(code: str, call: object) -> HyperSendError:
    """The call is refused with this code."""
    with pytest.raises(HyperSendError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code == code, caught.value
    return caught.value
