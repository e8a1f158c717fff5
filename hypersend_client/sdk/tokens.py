"""Where the sessions of this device are kept: several servers, several accounts on each.

A session belongs to (`server_id`, `user_id`), not to an address, so a server that moved is recognised. Three
stores: a JSON file (mode 0600 in a folder of mode 0700), the same file with the tokens in the platform's
keyring, and memory (for the web app, whose people have no place on the server's disk).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from hypersend_client.sdk.errors import LocalStorageFailed

T = TypeVar("T")
log = logging.getLogger(__name__)

LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Account:
    """One session on one server."""

    server_id: str
    user_id: str
    url: str
    session_id: str
    access_token: str
    refresh_token: str
    email: str = ""
    username: str = ""
    display_name: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.server_id, self.user_id

    def __repr__(self) -> str:  # tokens must not reach a log
        return f"Account({self.username or self.user_id} on {self.url}, session {self.session_id})"


class TokenStore(Protocol):
    async def accounts(self) -> list[Account]:
        """All of them, the one that was used last first."""

    async def get(self, server_id: str, user_id: str) -> Account | None: ...

    async def put(self, account: Account) -> None:
        """Save it; it becomes the one that was used last. Raises: LocalStorageFailed."""

    async def remove(self, server_id: str, user_id: str) -> None: ...

    def refreshing(self, server_id: str, user_id: str) -> AbstractAsyncContextManager[None]:
        """Held by the one, among all processes that share the store, who refreshes this session."""


class MemoryTokenStore:
    """Gone with the process."""

    def __init__(self, *accounts: Account) -> None:
        self._accounts: dict[tuple[str, str], Account] = {account.key: account for account in accounts}
        self._lock = asyncio.Lock()

    async def accounts(self) -> list[Account]:
        return list(reversed(self._accounts.values()))

    async def get(self, server_id: str, user_id: str) -> Account | None:
        return self._accounts.get((server_id, user_id))

    async def put(self, account: Account) -> None:
        self._accounts.pop(account.key, None)
        self._accounts[account.key] = account

    async def remove(self, server_id: str, user_id: str) -> None:
        self._accounts.pop((server_id, user_id), None)

    @asynccontextmanager
    async def refreshing(self, server_id: str, user_id: str) -> AsyncIterator[None]:
        async with self._lock:
            yield


class FileTokenStore:
    """A JSON file that several processes may share.

    Format: {"version": 1, "accounts": [the fields of Account]}, the one used last first. Beside it stand
    `<name>.lock`, held while the file is rewritten, and `<name>.refresh.lock`, held through a refresh.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    async def accounts(self) -> list[Account]:
        return await self._io(self._read)

    async def get(self, server_id: str, user_id: str) -> Account | None:
        return next((a for a in await self.accounts() if a.key == (server_id, user_id)), None)

    async def put(self, account: Account) -> None:
        await self._change(lambda accounts: [account, *(a for a in accounts if a.key != account.key)])

    async def remove(self, server_id: str, user_id: str) -> None:
        await self._change(lambda accounts: [a for a in accounts if a.key != (server_id, user_id)])

    @asynccontextmanager
    async def refreshing(self, server_id: str, user_id: str) -> AsyncIterator[None]:
        async with self._locked("refresh.lock"):
            yield

    async def _change(self, change: Callable[[list[Account]], list[Account]]) -> None:
        def work() -> None:
            accounts = self._read()
            self._set_aside()
            self._write(change(accounts))

        async with self._locked("lock"):
            await self._io(work)

    async def _io(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise LocalStorageFailed(str(self.path), error.strerror or str(error)) from error

    def _read(self) -> list[Account]:
        try:
            document = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError as error:
            # Nothing in it can be used; the sessions can be had again by signing in.
            log.warning("%s cannot be read (%s), so nobody counts as signed in", self.path, error)
            return []
        entries = document.get("accounts") if isinstance(document, dict) else None
        return [a for a in map(_account, entries if isinstance(entries, list) else []) if a is not None]

    def _set_aside(self) -> None:
        """Keep a file of which not all can be read as `<name>.damaged`, in place of writing over it."""
        try:
            document = json.loads(self.path.read_bytes())
            if all(_account(entry) is not None for entry in document["accounts"]):
                return
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError):
            pass
        names = (f"{self.path.name}.damaged{number}" for number in ("", *range(2, 100)))
        os.replace(self.path, next(place for name in names if not (place := self.path.with_name(name)).exists()))

    def _write(self, accounts: list[Account]) -> None:
        document = {"version": 1, "accounts": [asdict(account) for account in accounts]}
        # mkstemp makes it 0600 from the start, so the tokens are never readable by others, not even for a
        # moment.
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(document, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise

    @asynccontextmanager
    async def _locked(self, suffix: str) -> AsyncIterator[None]:
        """Polled rather than waited for, so that a caller that is cancelled leaves no thread with the
        lock.
        """

        def open_() -> BinaryIO:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return open(self.path.parent / f"{self.path.name}.{suffix}", "a+b")

        file = await self._io(open_)
        try:
            while not try_lock(file):
                await asyncio.sleep(LOCK_POLL_S)
            yield
        finally:
            file.close()  # and the lock with it


class KeyringTokenStore(FileTokenStore):
    """The file says who; the tokens themselves are in the platform's keyring. Needs the package `keyring`."""

    SERVICE = "HyperSend"

    def __init__(self, path: str | os.PathLike[str], keyring: Any = None) -> None:
        super().__init__(path)
        self._keyring = keyring if keyring is not None else importlib.import_module("keyring")

    @staticmethod
    def available() -> bool:
        """Whether this machine has a keyring that keeps anything."""
        try:
            keyring = importlib.import_module("keyring")
        except ImportError:
            return False
        return float(getattr(keyring.get_keyring(), "priority", 0)) >= 1

    def _read(self) -> list[Account]:
        accounts = []
        for account in super()._read():
            secret = self._keyring.get_password(self.SERVICE, "/".join(account.key))
            if secret is not None:
                access, refresh = json.loads(secret)
                accounts.append(replace(account, access_token=access, refresh_token=refresh))
        return accounts

    def _write(self, accounts: list[Account]) -> None:
        kept = {account.key for account in accounts}
        for gone in super()._read():
            if gone.key not in kept:
                with contextlib.suppress(Exception):  # vendors raise kinds of their own for "not there"
                    self._keyring.delete_password(self.SERVICE, "/".join(gone.key))
        for account in accounts:
            secret = json.dumps([account.access_token, account.refresh_token])
            self._keyring.set_password(self.SERVICE, "/".join(account.key), secret)
        super()._write([replace(account, access_token="", refresh_token="") for account in accounts])


def _account(entry: Any) -> Account | None:
    if not isinstance(entry, dict):
        return None
    fields = {name: entry.get(name, "") for name in Account.__dataclass_fields__}
    if not all(isinstance(value, str) for value in fields.values()) or not fields["user_id"]:
        return None
    return Account(**fields)


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def try_lock(file: BinaryIO) -> bool:
        """Take the lock of this open file, or answer False at once; closing the file gives it back."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(file: BinaryIO) -> bool:
        """Take the lock of this open file, or answer False at once; closing the file gives it back."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
