"""A download on its way: `<name>.<file id>.part` and its journal, `….part.journal`, beside it.

The journal is lines of text, appended; a line that a crash tore is ignored:

    {"version": 1, "server_id": …, "file_id": …, "etag": …, "size": …, "chunk_size": …, "boot": …}
    d 17            chunk 17 is on the disk and its digest was right
    p 18 1048576    so many bytes of chunk 18 are there; they are hashed again before they are gone on from
    n big.iso       about to be renamed to this; if the part is gone then, it was

After another boot of the machine (or where that cannot be told) the chunks marked `d` are read again, since
a power cut may have kept the journal and lost the bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hypersend_client.sdk.errors import LocalStorageFailed
from hypersend_client.sdk.models import File
from hypersend_client.sdk.places import place
from hypersend_client.sdk.transfer import in_thread
from hypersend_client.sdk.transfer_errors import DiskFull, RemoteFileChanged

T = TypeVar("T")

READ_BYTES = 1024 * 1024
WRITE_BYTES = 128 * 1024  # what a kernel with large folios takes quickly: see docs/decisions.md
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


def boot_id() -> str:
    """Another one after each start of the machine; '' where that cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def part_path(target: Path, file_id: str) -> Path:
    """The id comes from a server: it must not lead out of the folder."""
    name = "".join(c for c in file_id if c.isascii() and (c.isalnum() or c in "-_"))[:48]
    return target.with_name(f"{target.name}.{name}.part")


class Part:
    """target: the path the file shall have. All I/O is in threads of `pool`.

    Raises, everywhere: DiskFull, LocalStorageFailed.
    """

    def __init__(self, target: Path, file: File, server_id: str, pool: ThreadPoolExecutor) -> None:
        self.target = target
        self.path = part_path(target, file.id)
        self.journal_path = self.path.with_name(self.path.name + ".journal")
        self.file = file
        self.chunk_count = -(-file.size // file.chunk_size) if file.size else 0
        self.done: set[int] = set()
        self.partial: dict[int, int] = {}
        self.placed: Path | None = None
        self._is_known_empty = False
        self._head: dict[str, Any] = {
            "version": 1,
            "server_id": server_id,
            "file_id": file.id,
            "etag": file.etag,
            "size": file.size,
            "chunk_size": file.chunk_size,
            "boot": boot_id(),
        }
        self._pool = pool
        self._fd: int | None = None
        self._journal: int | None = None

    def chunk_bytes(self, index: int) -> int:
        return min(self.file.chunk_size, self.file.size - index * self.file.chunk_size)

    @property
    def done_bytes(self) -> int:
        return sum(map(self.chunk_bytes, self.done)) + sum(self.partial.values())

    @property
    def has_all(self) -> bool:
        """Whether it was noted that everything is there; of a file without bytes, that there is nothing to come."""
        return len(self.done) == self.chunk_count if self.chunk_count else self._is_known_empty

    async def open(self) -> set[int]:
        """Read the journal and make the part where there is none. Returns: chunks that have to be checked again.

        `placed` is set where it turns out that the file was finished. Raises: RemoteFileChanged.
        """

        def work() -> set[int]:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            head, intended = self._replay()
            has_part = self.path.exists()
            if head is not None and not has_part and intended is not None:
                place_ = self.path.with_name(intended)
                if place_.is_file() and place_.stat().st_size == self.file.size:
                    self.placed = place_
                    return set()
            if not has_part or head is None or head["chunk_size"] != self.file.chunk_size:
                self.done.clear()
                self.partial.clear()
                self._is_known_empty = False
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            is_new = not self.done and not self.partial
            is_same_boot = head is not None and head["boot"] and head["boot"] == self._head["boot"]
            doubtful = set() if is_same_boot else set(self.done)
            if is_new or doubtful:
                self._write_journal()
            self._journal = os.open(self.journal_path, os.O_WRONLY | os.O_APPEND)
            return doubtful

        return await self.do(work)

    def _replay(self) -> tuple[dict[str, Any] | None, str | None]:
        """Fills `done` and `partial`; (the head, or None where there is none for this file; the intended name)."""
        intended: str | None = None
        try:
            lines = self.journal_path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return None, None
        try:
            head = json.loads(lines[0]) if lines else None
        except ValueError:
            head = None
        same = ("version", "server_id", "file_id")
        if not isinstance(head, dict) or any(head.get(key) != self._head[key] for key in same):
            return None, None
        if (head.get("etag"), head.get("size")) != (self.file.etag, self.file.size):
            raise RemoteFileChanged(self.file.id)
        for line in lines[1:]:
            match line.decode("utf-8", "replace").split(" "):
                case ["d", index] if index.isdigit() and int(index) < self.chunk_count:
                    self.done.add(int(index))
                    self.partial.pop(int(index), None)
                case ["p", index, have] if index.isdigit() and have.isdigit() and int(index) < self.chunk_count:
                    if int(index) not in self.done:
                        self.partial[int(index)] = min(int(have), self.chunk_bytes(int(index)))
                case ["e"]:
                    self._is_known_empty = not self.chunk_count
                case ["n", *_]:
                    intended = os.fsdecode(line[2:])
                case _:
                    pass
        return {"chunk_size": 0, "boot": "", **head}, intended

    def _write_journal(self) -> None:
        """The journal anew, in one step."""
        lines = [json.dumps(self._head), *(f"d {index}" for index in sorted(self.done))]
        lines += [f"p {index} {have}" for index, have in self.partial.items()]
        lines += ["e"] if self._is_known_empty else []
        other = self.journal_path.with_name(self.journal_path.name + "~")
        other.write_bytes("".join(line + "\n" for line in lines).encode())
        os.replace(other, self.journal_path)

    def free_bytes(self) -> tuple[int, int]:
        """(bytes that are still to be written, bytes that are free for them). Blocking."""
        assert self._fd is not None
        status = os.fstat(self._fd)
        blocks = getattr(status, "st_blocks", None)
        taken = status.st_size if blocks is None else blocks * 512
        return max(0, self.file.size - taken), shutil.disk_usage(self.path.parent).free

    async def require_space(self) -> None:
        """Raises: DiskFull with the figures."""
        needed, free = await self.do(self.free_bytes)
        if needed > free:
            raise DiskFull(str(self.path.parent), needed=needed, free=free)

    def hash(self, digest: Digest, index: int, length: int) -> None:
        """Feed the first `length` bytes of a chunk, as they are on the disk, to `digest`. Blocking."""
        start = index * self.file.chunk_size
        for position in range(start, start + length, READ_BYTES):
            digest.update(self._read(position, min(READ_BYTES, start + length - position)))

    async def check(self, index: int, sha256: str) -> bool:
        """Whether the chunk on the disk has this digest; one that has not is forgotten."""

        def work() -> bool:
            digest = hashlib.sha256()
            self.hash(digest, index, self.chunk_bytes(index))
            return digest.hexdigest() == sha256

        is_right = await self.do(work)
        if not is_right:
            self.done.discard(index)
        return is_right

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the file as they are on the disk. Blocking."""
        return self._read(start, length)

    def adopt(self, other: Path, length: int) -> None:
        """Go on with a prefix of the file that came another way; it is checked when this is opened. Blocking."""
        os.replace(other, self.path)
        whole = self.chunk_count if length == self.file.size else length // self.file.chunk_size
        self.done = set(range(whole))
        rest = length - whole * self.file.chunk_size
        self.partial = {whole: rest} if rest > 0 else {}
        self._head["boot"] = ""
        self._write_journal()

    def note_whole(self) -> None:
        """Each chunk is there and right, also after a power cut. Blocking."""
        assert self._fd is not None
        os.fsync(self._fd)
        for index in range(self.chunk_count):
            self.note_done(index)
        if not self.chunk_count:
            self._is_known_empty = True
            self._note("e")

    def write(self, index: int, offset: int, view: memoryview) -> None:
        """Blocking."""
        position = index * self.file.chunk_size + offset
        while view:
            written = self._write(view[:WRITE_BYTES], position)
            position += written
            view = view[written:]

    def note_partial(self, index: int, have: int) -> None:
        """Blocking."""
        self.partial[index] = have
        self._note(f"p {index} {have}")

    def note_done(self, index: int) -> None:
        """Blocking."""
        self.partial.pop(index, None)
        self.done.add(index)
        self._note(f"d {index}")

    def _note(self, line: str) -> None:
        assert self._journal is not None
        os.write(self._journal, line.encode() + b"\n")

    async def finish(self) -> Path:
        """Give it its name, without overwriting anything; the path it has now."""

        def work() -> Path:
            assert self._fd is not None
            os.fsync(self._fd)
            self._close()
            with open(self.journal_path, "ab") as journal:

                def intend(candidate: Path) -> None:
                    journal.write(b"n " + os.fsencode(candidate.name) + b"\n")
                    journal.flush()

                found = place(self.path, self.target, intend)
            self.journal_path.unlink(missing_ok=True)
            return found

        return await self.do(work)

    async def is_whole(self) -> bool:
        """Whether an earlier run noted that everything is there. Only where it is not open."""
        if not self.path.exists():
            return False
        try:
            await self.open()
            return self.has_all
        finally:
            await self.close()

    async def forget(self) -> None:
        """Remove what is there."""

        def work() -> None:
            self._close()
            self.path.unlink(missing_ok=True)
            self.journal_path.unlink(missing_ok=True)

        await self.do(work)

    async def close(self) -> None:
        await self.do(self._close)

    def _close(self) -> None:
        for fd in (self._fd, self._journal):
            if fd is not None:
                os.close(fd)
        self._fd = self._journal = None

    async def do(self, work: Callable[[], T]) -> T:
        with self.disk():
            return await in_thread(self._pool, work)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """Tells the disk's errors as ours."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(str(self.path.parent)) from error
            raise LocalStorageFailed(str(self.path), error.strerror or str(error)) from error

    def _write(self, view: memoryview, position: int) -> int:
        assert self._fd is not None
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, view, position)
        with open(self.path, "r+b", buffering=0) as own:  # pragma: no cover
            own.seek(position)
            return own.write(view) or 0

    def _read(self, position: int, length: int) -> bytes:
        assert self._fd is not None
        if hasattr(os, "pread"):
            return os.pread(self._fd, length, position)
        with open(self.path, "rb", buffering=0) as own:  # pragma: no cover
            own.seek(position)
            return own.read(length)
