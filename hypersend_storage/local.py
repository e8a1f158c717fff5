"""Bytes on a disk of this machine.

    ROOT/uploads/ID/GENERATION       an upload in flight
    ROOT/files/XX/ID/GENERATION      a complete file; XX are the last two characters of its id

ID is the caller's id of the file, GENERATION a random name that no other copy of it gets, so that a late removal of
an old copy cannot hit a newer one. A location is the path below ROOT, with '/'.

An upload is one sparse file of the full size from the start; each chunk is written at its own offset, under an OFD
lock on its byte range. Completing takes the lock of the whole file, makes it durable and renames it. So disk use
never exceeds the size, and both folders must be on one file system.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256 as new_sha256
from pathlib import Path

from hypersend_storage.base import (
    MIB,
    Layout,
    LocalPath,
    Piece,
    Receipt,
    Store,
    StoredItem,
    UploadRef,
    VolatileWrites,
)
from hypersend_storage.errors import ChunkBusy, ObjectMissing, SizeMismatch, StorageUnavailable, UploadLost
from hypersend_storage.local_slot import LocalSlot, is_at, translated
from hypersend_storage.ofd import lock_range
from hypersend_storage.pool import Pool

FILE_MODE = 0o640
FOLDER_MODE = 0o750
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOCATION = re.compile(r"(uploads|files/[A-Za-z0-9_-]{1,2})/[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}")


class LocalStore(Store, LocalPath, VolatileWrites):
    """A folder of this machine; several processes may share it.

    boot_id: names this boot of the machine; None reads the kernel's.
    threads: for reading and writing chunks. buffer_bytes: gathered of a body before a thread writes them; each
    stream has two such buffers at most. entropy: answers n random bytes.
    """

    name = "local"

    def __init__(
        self, root: Path, *, boot_id: str | None = None, threads: int = 8, buffer_bytes: int = MIB,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.root = Path(root).absolute()
        self._boot_id = BOOT_ID.read_text().strip() if boot_id is None else boot_id
        self._buffer_bytes = buffer_bytes
        self._entropy = entropy
        self._chunks = Pool(threads, "chunk")
        # A flush or a removal may take seconds: it must not take a thread away from chunks.
        self._upkeep = Pool(4, "storage")

    async def open(self) -> None:
        await self._upkeep.run(self._check)

    async def close(self) -> None:
        await self._chunks.close()
        await self._upkeep.close()

    # Uploads

    async def create(self, file_id: str, layout: Layout) -> str:
        if not _ID.fullmatch(file_id):
            raise ValueError(f"{file_id!r} cannot name a folder")
        location = f"uploads/{file_id}/{self._entropy(8).hex()}"
        await self._upkeep.run(self._create, self.path(location), layout.size)
        return location

    @asynccontextmanager
    async def chunk(self, upload: UploadRef, index: int) -> AsyncIterator[LocalSlot]:
        slot = LocalSlot(self._chunks, self.path(upload.location), upload.layout, index, self._buffer_bytes)
        try:
            await self._chunks.run(slot.take)
            yield slot
        finally:
            slot.release()

    async def read_received(self, upload: UploadRef, body: AsyncIterator[Piece], *, expected: int) -> bytes:
        digest = new_sha256()

        def consume(parts: list[Piece]) -> None:
            for part in parts:
                digest.update(part)

        received = await self._chunks.feed(body, consume, expected=expected, batch_bytes=self._buffer_bytes)
        if received != expected:
            raise SizeMismatch(expected, received)
        return digest.digest()

    async def sync(self, upload: UploadRef) -> None:
        await self._upkeep.run(self._sync, upload.location)

    async def complete(self, upload: UploadRef, receipts: Sequence[Receipt]) -> str:
        return await self._upkeep.run(self._complete, upload.location)

    async def abort(self, upload: UploadRef) -> None:
        await self._upkeep.run(self._abort, self.path(upload.location))

    # Complete files

    async def delete(self, location: str) -> None:
        await self._upkeep.run(_remove, self.path(location))

    async def size(self, location: str) -> int | None:
        return await self._chunks.run(_size, self.path(location))

    async def read(self, location: str, start: int, length: int) -> AsyncIterator[bytes]:
        file = _Reader(self.path(location))
        try:
            await self._chunks.run(file.open)
            end = start + length
            while start < end:
                part = await self._chunks.run(file.read, start, min(MIB, end - start))
                start += len(part)
                yield part
        finally:
            file.close()

    async def items(self) -> AsyncIterator[StoredItem]:
        for top, is_uploading in (("uploads", True), ("files", False)):
            for folder in await self._upkeep.run(_entries, self.root / top):
                for item in await self._upkeep.run(self._items_in, folder, is_uploading):
                    yield item

    async def free_bytes(self) -> int | None:
        return await self._upkeep.run(_free_bytes, self.root)

    # Powers

    @property
    def pools(self) -> Sequence[Pool]:
        return (self._chunks, self._upkeep)

    def path(self, location: str) -> Path:
        return self.root / self.relative_path(location)

    def relative_path(self, location: str) -> str:
        if not _LOCATION.fullmatch(location):
            raise ValueError(f"{location!r} is no location of this store")
        return location

    def boot_id(self) -> str:
        return self._boot_id

    # What runs in threads

    def _check(self) -> None:
        uploads, files = self.root / "uploads", self.root / "files"
        name = f".check-{self._entropy(8).hex()}"
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            _make_folder(self.root)
            _make_folder(uploads)
            _make_folder(files)
            try:
                with (uploads / name).open("xb") as first, (uploads / name).open("r+b") as second:
                    lock_range(first.fileno(), 0, 0)
                    try:
                        lock_range(second.fileno(), 0, 1)
                    except ChunkBusy:
                        pass
                    else:
                        raise StorageUnavailable(f"{self.root}: this file system does not keep file locks")
                # Not a comparison of device numbers: two bind mounts of one disk have the same and refuse a rename.
                (uploads / name).rename(files / name)
            finally:
                (uploads / name).unlink(missing_ok=True)
                (files / name).unlink(missing_ok=True)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise StorageUnavailable(
                    f"{uploads} and {files} must be on one file system, since completing a file renames it") from error
            raise StorageUnavailable(f"cannot keep files in {self.root}: {error.strerror}") from error

    def _create(self, path: Path, size: int) -> None:
        with translated():
            _make_folder(path.parent)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            except OSError:
                _remove_folder(path.parent)
                raise
            try:
                os.fchmod(descriptor, FILE_MODE)  # whatever the umask says: nginx reads it by its group
                os.ftruncate(descriptor, size)
                # Receipts become durable by fdatasync of the file alone; its name must not be lost then.
                _sync_folder(path.parent)
                _sync_folder(path.parent.parent)
            except OSError:
                _remove(path)
                raise
            finally:
                os.close(descriptor)

    def _sync(self, location: str) -> None:
        path = self.path(location)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if self.path(_completed(location)).exists():
                return  # completing made it durable
            raise UploadLost("the upload's file is gone") from error
        except OSError as error:
            raise StorageUnavailable(str(error)) from error
        try:
            os.fdatasync(descriptor)
        except OSError as error:  # a full disk too: bytes that were accepted are lost
            raise StorageUnavailable(f"the disk did not keep what was written: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _complete(self, location: str) -> str:
        source = self.path(location)
        target_location = _completed(location)
        target = self.path(target_location)
        with translated(), _whole_file(source) as descriptor:
            if descriptor is not None:
                try:
                    os.fsync(descriptor)
                except OSError as error:
                    raise StorageUnavailable(f"the disk did not keep what was written: {error.strerror}") from error
                _make_folder(target.parent.parent)
                _make_folder(target.parent)
                source.rename(target)
            elif not target.exists():
                raise UploadLost("the upload's file is gone")
            # Repeated where an earlier call was cut off after its rename. A folder that is gone is on the disk once
            # its parent is.
            _sync_folder(target.parent)
            _sync_folder(target.parent.parent)
            _sync_folder(target.parent.parent.parent)
            for other in _entries(source.parent):  # begun by a process that died before it could name it in the record
                other.unlink(missing_ok=True)
            _sync_folder(_remove_folder(source.parent))
        return target_location

    def _abort(self, path: Path) -> None:
        with translated(), _whole_file(path):
            _remove(path)

    def _items_in(self, folder: Path, is_uploading: bool) -> list[StoredItem]:
        """What is in `uploads/ID` or `files/XX`; whatever vanishes meanwhile is left out."""
        items = []
        for owner in [folder] if is_uploading else _entries(folder):
            for path in _entries(owner):
                location = path.relative_to(self.root).as_posix()
                with translated(), suppress(FileNotFoundError):
                    status = path.lstat()
                    if _LOCATION.fullmatch(location) and stat.S_ISREG(status.st_mode):
                        items.append(StoredItem(
                            location=location, file_id=owner.name, uploading=is_uploading,
                            size=status.st_blocks * 512, modified_ms=status.st_mtime_ns // 1_000_000))
        return items


class _Reader:
    """A complete file, opened and read in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def open(self) -> None:
        with translated():
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise ObjectMissing("nothing is stored here") from error

    def read(self, start: int, length: int) -> bytes:
        with translated():
            part = os.pread(self._descriptor, length, start)
        if not part:
            raise StorageUnavailable(f"{self._path} ends at byte {start}, before the end of what was asked for")
        return part

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)


@contextmanager
def _whole_file(path: Path) -> Iterator[int | None]:
    """Hold the lock of the whole file; None where nothing is there. Raises: ChunkBusy, OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        lock_range(descriptor, 0, 0)
        yield descriptor if is_at(descriptor, path) else None
    finally:
        os.close(descriptor)


def _completed(location: str) -> str:
    """Where an upload's bytes are once it is complete."""
    _, file_id, generation = location.split("/")
    return f"files/{file_id[-2:]}/{file_id}/{generation}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir()
    except FileExistsError:
        return
    # After mkdir, since the umask has its say there; a group that is inherited from the parent stays.
    path.chmod(FOLDER_MODE | path.stat().st_mode & stat.S_ISGID)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with translated():
        path.unlink(missing_ok=True)
        _remove_folder(path.parent)


def _remove_folder(path: Path) -> Path:
    """Remove a file's folder unless another copy is in it. Returns: the folder whose entries changed last."""
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return path
    return path.parent


def _size(path: Path) -> int | None:
    with translated():
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _entries(path: Path) -> list[Path]:
    """What is in a folder; nothing where it is none, or no longer."""
    with translated():
        try:
            return list(path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _free_bytes(root: Path) -> int:
    with translated():
        figures = os.statvfs(root)
        return figures.f_bavail * figures.f_frsize
