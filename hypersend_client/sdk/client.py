"""One account on one HyperSend server.

    async with HyperSend("https://chat.example.org") as hs:
        await hs.login("ann@example.org", "…")
        chat = await hs.chats.open_direct(user_id)
        await hs.messages.send(chat.id, "Hello")

That much needs no disk but the token store. `await hs.start()` makes it live: the cache opens with what was
known last, before any network; the WebSocket is kept open; `hs.sync` keeps `hs.store` equal to the server;
`hs.outbox` sends what was written offline.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl as ssllib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from yarl import URL

from hypersend_client import __version__
from hypersend_client.sdk.accounts import Admin, Me, Users
from hypersend_client.sdk.address import normalise
from hypersend_client.sdk.chats import Chats, Messages
from hypersend_client.sdk.connection import Connection
from hypersend_client.sdk.errors import (
    ApiError,
    ClientTooOld,
    ConnectionFailed,
    HyperSendError,
    NotHyperSend,
    OtherServer,
    ServerTooOld,
    SignedOut,
    TlsFailed,
)
from hypersend_client.sdk.events import Event
from hypersend_client.sdk.files import Files
from hypersend_client.sdk.models import ServerInfo, User
from hypersend_client.sdk.outbox import Outbox, Uploads
from hypersend_client.sdk.pages import model
from hypersend_client.sdk.retry import Random, Sleep
from hypersend_client.sdk.session import Session, account_of
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.sync import Sync
from hypersend_client.sdk.tokens import Account, FileTokenStore, MemoryTokenStore, TokenStore
from hypersend_client.sdk.transport import Transport
from hypersend_client.sdk.updates import Updates

if TYPE_CHECKING:
    from hypersend_client.sdk.p2p import PeerToPeer
    from hypersend_client.sdk.transfers import Transfers

T = TypeVar("T")

API_VERSION = 1
"""The oldest API version of a server that this client works with."""


class HyperSend:
    """url: the server's address, as typed. tokens: where sessions are kept, by default in memory.

    cache_dir: where the account's cache is kept, one file an account; None keeps it in memory (the web app).
    account: which one of the store's accounts, where there are several on this server; by default the one
    used last.
    device: how this device is called in the list of sessions. ssl: a context for a private certificate
    authority.
    headers: sent with every request (the web app passes its person's address on).
    """

    def __init__(
        self,
        url: str,
        *,
        tokens: TokenStore | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        account: Account | None = None,
        device: str = "",
        ssl: ssllib.SSLContext | bool = True,
        headers: dict[str, str] | None = None,
        uploads: Uploads | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        rand: Random = random.random,
    ) -> None:
        self.transport = Transport(url, ssl=ssl, headers=headers, monotonic=monotonic, sleep=sleep, rand=rand)
        self.tokens: TokenStore = tokens if tokens is not None else MemoryTokenStore()
        self.device = device
        self.session = Session(self.tokens, self._refresh, before=self._verified, monotonic=monotonic)
        self.transport.auth = self.session
        self.connection = Connection(self.transport, self.session, monotonic=monotonic)
        self.me = Me(self.transport)
        self.users = Users(self.transport)
        self.admin = Admin(self.transport)
        self.files = Files(self.transport)
        self.updates = Updates(self.transport)
        self.chats = Chats(self.transport, self._seen)
        self.messages = Messages(self.transport, self.connection.request, self._seen)
        self.server: ServerInfo | None = None
        self._wanted = account
        self.uploads = uploads
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        self._connecting = asyncio.Lock()
        self._rand = rand
        self._monotonic = monotonic
        self._store: Store | None = None
        self._sync: Sync | None = None
        self._outbox: Outbox | None = None
        self._transfers: Transfers | None = None
        self._p2p: PeerToPeer | None = None

    async def __aenter__(self) -> Self:
        """Takes the account of this address from the token store; no network yet."""
        await self._find_account(lambda account: account.url == self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.stop()
        await self.transport.close()

    @property
    def url(self) -> str:
        return self.transport.url

    @property
    def account(self) -> Account | None:
        """Who is signed in; None: nobody."""
        return self.session.account

    # The server

    async def connect(self) -> ServerInfo:
        """Ask who is there, and check that it is the server this account belongs to.

        Called by itself before the first token goes out. A server that moved is recognised by its
        `server_id`: its account is taken over to the new address. An address that redirects (http to https)
        is followed.
        Raises: NotHyperSend, OtherServer, ClientTooOld, ServerTooOld, TlsFailed, ConnectionFailed.
        """
        async with self._connecting:
            info = await self._ask_server()
            if info.api_version < API_VERSION:
                raise ServerTooOld(API_VERSION, info.api_version)
            if _version(info.min_client) > _version(__version__):
                raise ClientTooOld(info.min_client, __version__)
            if self.account is None:
                await self._find_account(lambda account: account.server_id == info.server_id)
            account = self.account
            if account is not None and account.server_id != info.server_id:
                raise OtherServer(self.url, account.server_id, info.server_id)
            if account is not None and account.url != self.url:
                await self.session.begin(replace(account, url=self.url))
            self.server = info
            return info

    async def _ask_server(self) -> ServerInfo:
        backoff = self.transport.backoff(most_s=4.0)
        for last in (False, False, True):
            try:
                async with self.transport.stream("GET", "/server", auth=False) as response:
                    data = await self.transport.read_json(response)
                    found = response.url
                break
            except ConnectionFailed as error:
                if last:
                    raise
                await backoff.wait(error)
            except ApiError as error:
                if error.status in (429, 502, 503, 504) and not last:
                    await backoff.wait(error)
                elif error.retryable:
                    raise
                else:
                    raise NotHyperSend(self.url, str(error)) from error
        try:
            info = model(ServerInfo, data)
        except NotHyperSend as error:
            raise NotHyperSend(self.url) from error
        self._follow(found)
        return info

    def _follow(self, found: URL) -> None:
        """Keep the address that a redirect led to; never from https to http."""
        asked = URL(self.url)
        if found.origin() == asked.origin():
            return
        if asked.scheme == "https" and found.scheme != "https":
            raise TlsFailed(f"{self.url} leads to {found.origin()}, which is not encrypted", certificate=False)
        self.transport.url = normalise(str(found.with_query(None)).removesuffix("/server"))

    async def _verified(self) -> None:
        if self.server is None:
            await self.connect()

    async def _find_account(self, fits: Callable[[Account], bool]) -> None:
        found = self._wanted
        if found is not None:
            found = await self.tokens.get(*found.key)
        else:
            found = next((account for account in await self.tokens.accounts() if fits(account)), None)
        if found is not None:
            self.session.adopt(found)

    # Accounts

    async def register(
        self, email: str, username: str, password: str, *, display_name: str = "", invite: str = ""
    ) -> User:
        """Raises: ApiError `email_taken`, `username_taken`, `invite_required`, `invite_invalid`,
        `registration_closed`, `validation_failed`.
        """
        body = {
            "email": email,
            "username": username,
            "password": password,
            "display_name": display_name,
            "invite": invite,
            "device": self.device,
        }
        return await self._sign_in("/auth/register", {name: value for name, value in body.items() if value})

    async def login(self, email: str, password: str) -> User:
        """Raises: ApiError `credentials_invalid`, `account_disabled`, `rate_limited`."""
        body = {"email": email, "password": password, "device": self.device}
        return await self._sign_in("/auth/login", {name: value for name, value in body.items() if value})

    async def reset_password(self, code: str, new_password: str) -> None:
        """code: from the server's operator. Raises: ApiError `reset_invalid`."""
        await self.transport.call("POST", "/auth/reset", json={"code": code, "new_password": new_password}, auth=False)

    async def logout(self) -> None:
        """End the session and forget it here, its cache, drafts and unsent messages too.

        It works offline: the server is told where it can be reached.
        """
        account = self.account
        try:
            await self.transport.call("POST", "/auth/logout", idempotent=True, max_tries=2)
        except HyperSendError:
            pass  # the person wants to be signed out here, whatever the server says
        await self.stop()
        await self.session.forget()
        if account is not None:
            await self._cache(account).erase()
            if isinstance(self.tokens, FileTokenStore):
                await self.p2p.forget(account.key)

    async def _sign_in(self, path: str, body: dict[str, Any]) -> User:
        info = await self.connect()
        await self.stop()
        answer = await self.transport.call("POST", path, json=body, auth=False)
        account, expires_in = account_of(answer.data, server_id=info.server_id, url=self.url)
        self._wanted = None
        await self.session.begin(account, expires_in)
        return model(User, answer.data["user"])

    async def _refresh(self, refresh_token: str) -> dict[str, Any]:
        # The same old token answers the same new pair, so a lost answer may be asked for again.
        answer = await self.transport.call(
            "POST", "/auth/refresh", json={"refresh_token": refresh_token}, auth=False, idempotent=True
        )
        return answer.data if isinstance(answer.data, dict) else {}

    # Being live

    async def start(self) -> None:
        """Open the cache and keep it up to date from now on; returns without waiting for the network.

        Raises: SignedOut where nobody is signed in, LocalStorageFailed.
        """
        if self._store is not None:
            return
        account = self.account
        if account is None:
            await self._verified()  # perhaps the server moved, and the account is known by its server_id
            account = self.account
        if account is None:
            raise SignedOut
        store = self._cache(account)
        await store.open()
        self._store = store
        self._sync = Sync(
            store,
            self.transport,
            self.connection,
            self.chats,
            self.messages,
            rand=self._rand,
            monotonic=self._monotonic,
        )
        self._outbox = Outbox(store, self.messages, self.connection, self.transport.backoff, uploads=self.uploads)
        self._sync.start()
        await self._outbox.start()
        self.connection.start()

    async def stop(self) -> None:
        """Close the WebSocket and the cache; calls still work."""
        await self.connection.stop()
        if self._outbox is not None:
            await self._outbox.stop()
        if self._sync is not None:
            await self._sync.stop()
        store, self._store, self._sync, self._outbox = self._store, None, None, None
        if store is not None:
            await store.close()

    def _cache(self, account: Account) -> Store:
        if self._cache_dir is None:
            return Store(":memory:", account.user_id)
        # The ids come from a server: they must not lead out of the folder.
        name = "".join(c for c in f"{account.server_id}-{account.user_id}" if c.isalnum() or c in "-_")
        return Store(self._cache_dir / f"{name}.sqlite", account.user_id)

    @property
    def store(self) -> Store:
        return _started(self._store)

    @property
    def sync(self) -> Sync:
        return _started(self._sync)

    @property
    def outbox(self) -> Outbox:
        return _started(self._outbox)

    # From person to person

    @property
    def p2p(self) -> PeerToPeer:
        """Needs the package `cryptography`, and a `Transfers` of this account."""
        if self._p2p is None:
            from hypersend_client.sdk.p2p import PeerToPeer  # late: most programs never need its ciphers
            from hypersend_client.sdk.p2p_keys import DeviceKeys

            self._p2p = PeerToPeer(self, DeviceKeys.beside(self.tokens))
            if self._transfers is not None:
                self._p2p.attach(self._transfers)
        return self._p2p

    def attach_transfers(self, transfers: Transfers) -> None:
        """By `Transfers` itself: its journal is that of `p2p`, too."""
        self._transfers = transfers
        if self._p2p is not None:
            self._p2p.attach(transfers)

    async def detach_transfers(self) -> None:
        self._transfers = None
        if self._p2p is not None:
            await self._p2p.detach()

    def _seen(self, event: Event) -> None:
        if self._sync is not None:
            self._sync.take(event)


def _started(part: T | None) -> T:
    if part is None:
        raise RuntimeError("start() was not called")
    return part


def _version(text: str) -> tuple[int, ...]:
    """`1.10.2` → (1, 10, 2); what is no number counts as 0."""
    parts = text.split("-")[0].split(".")
    return tuple(int(part[:9]) if part.isascii() and part.isdigit() else 0 for part in parts)
