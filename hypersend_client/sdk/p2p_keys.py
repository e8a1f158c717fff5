"""The key of this device for transfers from person to person: made once an account, kept beside its tokens.

A file an account, `device-keys/<server>-<user>.key`, mode 0600 in a folder of mode 0700: the 32 bytes of an X25519
secret key. Whoever reads it can pass for this device; what was transferred before stays closed to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hypersend_client.sdk.errors import LocalStorageFailed
from hypersend_client.sdk.tokens import FileTokenStore, TokenStore

KEY_BYTES = 32


class DeviceKeys:
    """folder: None keeps them in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[tuple[str, str], X25519PrivateKey] = {}

    @staticmethod
    def beside(tokens: TokenStore) -> DeviceKeys:
        return DeviceKeys(tokens.path.parent / "device-keys" if isinstance(tokens, FileTokenStore) else None)

    async def get(self, account: tuple[str, str]) -> X25519PrivateKey:
        """The key of (server_id, user_id) on this device, made where there is none. Raises: LocalStorageFailed."""
        if account not in self._known:
            path = self._path(account)
            if path is None:
                self._known[account] = X25519PrivateKey.generate()
            else:
                try:
                    found = await asyncio.to_thread(_load_or_make, path)
                except OSError as error:
                    raise LocalStorageFailed(str(path), error.strerror or str(error)) from error
                self._known[account] = X25519PrivateKey.from_private_bytes(found)
        return self._known[account]

    async def forget(self, account: tuple[str, str]) -> None:
        self._known.pop(account, None)
        path = self._path(account)
        if path is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def _path(self, account: tuple[str, str]) -> Path | None:
        if self._folder is None:
            return None
        # The ids come from a server: they must not lead out of the folder.
        name = "".join(c for c in "-".join(account) if c.isascii() and (c.isalnum() or c in "-_"))
        return self._folder / f"{name}.key"


def _load_or_make(path: Path) -> bytes:
    """Of several programs that come at once all get the same."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(2):
        try:
            found = path.read_bytes()
            if len(found) == KEY_BYTES:
                return found
            path.unlink()
        except FileNotFoundError:
            pass
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")  # which makes it 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(X25519PrivateKey.generate().private_bytes_raw())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                _claim(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        with contextlib.suppress(FileNotFoundError):
            found = path.read_bytes()
            if len(found) == KEY_BYTES:
                return found
    raise OSError(f"no key could be kept in {path}")


def _claim(name: str, path: Path) -> None:
    """Raises: FileExistsError."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here, as on some storage of Android, where one program alone sees it
        if path.exists():
            raise FileExistsError(str(path)) from None
        os.replace(name, path)
