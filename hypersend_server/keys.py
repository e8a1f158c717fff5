"""The key that signs tokens and links, and the lock that keeps a second server off the same data."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

KEY_FILE = "secret.key"
LOCK_FILE = "server.lock"
LEAST_KEY_BYTES = 32
LEAST_SIGNS = 8  # that differ


class AlreadyServing(Exception):
    """Another server process holds DATA_ROOT."""


class UnfitKey(Exception):
    """What is kept as a key would sign nothing. fix: what the operator can do."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.fix = ("put back what a backup holds, or remove the file: a new key is made, everybody signs in again, and"
                    " links that were given out end")
        super().__init__(f"{what}: {self.fix}")


def load_secret_key(configured: str, data_root: Path) -> str:
    """SECRET_KEY, or the one kept in DATA_ROOT with mode 0600, made at the first call.

    Raises: OSError; UnfitKey.
    """
    if configured:
        return configured
    path = data_root / KEY_FILE
    _make(data_root)
    fresh = path.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # of two processes that start at once, one makes the key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return kept_secret_key(data_root)


def kept_secret_key(folder: Path) -> str:
    """What lies in a DATA_ROOT, or in a backup. Raises: OSError; UnfitKey."""
    path = folder / KEY_FILE
    key = path.read_bytes().strip()
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    # After a power cut a file may hold nothing, or as many zeros as it had bytes.
    if len(key) < LEAST_KEY_BYTES or not text.isprintable() or len(set(text)) < LEAST_SIGNS:
        raise UnfitKey(f"{path} holds no key of at least {LEAST_KEY_BYTES} bytes")
    return text


def _make(data_root: Path) -> None:
    try:
        data_root.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"DATA_ROOT cannot be made ({error.strerror})", str(data_root)) from None


def lock_data_root(data_root: Path) -> int:
    """Hold DATA_ROOT for this process; the lock ends with the descriptor that is returned.

    Raises: AlreadyServing, OSError.
    """
    _make(data_root)
    descriptor = os.open(data_root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise AlreadyServing(
            f"another server (process {holder or 'unknown'}) serves {data_root}; SQLite takes one server process"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def server_process(data_root: Path) -> int | None:
    """The process id of the server that holds DATA_ROOT, or None where none does or it cannot be seen.

    Looks without touching the lock: trying it would turn away a server that starts at this moment.
    """
    try:
        holder = (data_root / LOCK_FILE).read_text(encoding="ascii").strip()
        command = Path(f"/proc/{int(holder)}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return int(holder) if b"serve" in command else None
