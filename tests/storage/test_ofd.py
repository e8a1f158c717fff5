from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypersend_storage.base import Layout, UploadRef
from hypersend_storage.conformance import content, put
from hypersend_storage.errors import ChunkBusy
from hypersend_storage.local import LocalStore
from hypersend_storage.ofd import lock_range

LAYOUT = Layout(3000, 1000)

HOLDER = """
import asyncio, sys
from pathlib import Path
from hypersend_storage.base import Layout, UploadRef
from hypersend_storage.local import LocalStore

async def hold(root, file_id, location):
    store = LocalStore(Path(root))
    async with store.chunk(UploadRef(file_id, location, Layout(3000, 1000)), 1):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await store.close()

asyncio.run(hold(*sys.argv[1:]))
"""


@contextmanager
def another_process_holds_chunk_1(root: Path, upload: UploadRef) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), upload.file_id, upload.location],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


async def test_another_process_keeps_its_chunk_and_only_that_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.open()
    upload = UploadRef("a", await store.create("a", LAYOUT), LAYOUT)
    data = content(LAYOUT.size)
    with another_process_holds_chunk_1(tmp_path, upload):
        with pytest.raises(ChunkBusy):
            await put(store, upload, data, 1)
        with pytest.raises(ChunkBusy):
            await store.complete(upload, [])
        with pytest.raises(ChunkBusy):
            await store.abort(upload)
        await put(store, upload, data, 0)
        await put(store, upload, data, 2)
    await store.close()


async def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.open()
    upload = UploadRef("a", await store.create("a", LAYOUT), LAYOUT)
    with another_process_holds_chunk_1(tmp_path, upload) as process:
        process.kill()
        await asyncio.to_thread(process.wait)
        await put(store, upload, content(LAYOUT.size), 1)
    await store.close()


def test_ranges_exclude_where_they_overlap_and_only_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with path.open("r+b") as first, path.open("r+b") as second:
        lock_range(first.fileno(), 100, 50)
        lock_range(second.fileno(), 0, 100)
        lock_range(second.fileno(), 150, 50)
        for start, length in ((149, 1), (100, 1), (99, 2), (0, 0)):
            with pytest.raises(ChunkBusy):
                lock_range(second.fileno(), start, length)


def test_a_plain_posix_lock_would_let_a_second_writer_of_this_process_in(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with path.open("r+b") as first, path.open("r+b") as second:
        fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB, 100)
        fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB, 100)  # granted, and here is the harm
    with path.open("r+b") as first, path.open("r+b") as second:
        lock_range(first.fileno(), 0, 100)
        with pytest.raises(ChunkBusy):
            lock_range(second.fileno(), 0, 100)


def test_closing_another_descriptor_would_drop_a_plain_posix_lock(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    is_free = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 100)"

    def another_process_gets_it() -> bool:
        return subprocess.run([sys.executable, "-c", is_free, str(path)], capture_output=True).returncode == 0

    with path.open("r+b") as holder:
        fcntl.lockf(holder, fcntl.LOCK_EX | fcntl.LOCK_NB, 100)
        assert not another_process_gets_it()
        path.open("r+b").close()
        assert another_process_gets_it()
    with path.open("r+b") as holder:
        lock_range(holder.fileno(), 0, 100)
        path.open("r+b").close()
        assert not another_process_gets_it()
