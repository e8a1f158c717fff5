"""The server over object storage against the minio SDK alone: on the same MinIO, in the same run, taking turns.

Measured: what a direct upload costs the server (CPU, bytes, memory); an upload and a download through the server
against the SDK's own; `migrate-storage` against the SDK copying the same files, and its memory. MinIO comes from
tests/install-parts.sh.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.figures import Section, in_turn
from benchmarks.processes import folder as folder_on_disk
from hypersend_client.sdk import HyperSend, MemoryTokenStore
from hypersend_client.sdk.transfers import Transfers
from tests.harness import PASSWORD
from tests.process import REPOSITORY, ServerProcess, environment
from tests.s3_servers import S3Server, is_there
from tests.sdk_transfers.line import line_to

MIB = 1024 * 1024
CHUNK = 8 * MIB
FILES = 4
PARALLEL = 3  # what the SDK does by itself
SECRET = {"SECRET_KEY": "k" * 40, "RATE_LIMITS": "off", "BACKGROUND_JOBS": "off"}


def settings(minio: S3Server, **others: str) -> dict[str, str]:
    return {
        **SECRET, "STORAGE_BACKEND": "s3", "S3_ENDPOINT": minio.url, "S3_BUCKET": minio.new_bucket(),
        "S3_ACCESS_KEY": minio.access_key, "S3_SECRET_KEY": minio.secret_key, "S3_REGION": minio.region, **others}


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def make_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size // CHUNK):
            file.write(os.urandom(CHUNK))
    return path


class Rates:
    """MiB a second by name, over several turns."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.all: dict[str, list[float]] = {}

    async def timed(self, name: str, work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        self.all.setdefault(name, []).append(self._size / MIB / (time.perf_counter() - began))

    def into(self, section: Section, what: str, ours: str, theirs: str, goal: float, than: str = "the SDK alone"
             ) -> None:
        section.row(f"HyperSend, {what}", self.all[ours])
        section.row(f"{than}, {what}", self.all[theirs])
        section.ratio(f"HyperSend to {than}, {what}", self.all[ours], self.all[theirs], goal)


async def signed_in(url: str, home: Path) -> tuple[HyperSend, Transfers]:
    hs = HyperSend(url, tokens=MemoryTokenStore())
    await hs.register(f"{home.name}@example.org", home.name, PASSWORD)
    return hs, Transfers(hs, home.with_suffix(".sqlite"), folder=home, parallel=PARALLEL)


async def direct_upload(
    section: Section, minio: S3Server, folder: Path, source: Path, rates: Rates, turn: int
) -> None:
    """By a server of its own, whose start and sign-in are not timed."""
    server = ServerProcess(folder / f"direct{turn}", **settings(minio)).start()
    try:
        async with line_to(server.url) as line:
            hs, transfers = await signed_in(line.url, folder / f"asha{turn}")
            before, passed = cpu_s(server.pid), line.up_bytes + line.down_bytes

            async def up() -> None:
                await (await transfers.upload(source)).wait()

            await rates.timed("direct", up())
            size = source.stat().st_size
            section.cost("HyperSend's server, direct upload", {
                "CPU s/GiB": (cpu_s(server.pid) - before) / size * 1024 * MIB,
                "KiB through it": (line.up_bytes + line.down_bytes - passed) / 1024,
                "peak memory MiB": peak_mib(server.pid)})
            await transfers.close()
            await hs.close()
    finally:
        server.kill()


async def put_all(http: aiohttp.ClientSession, url: str, token: str, source: Path) -> str:
    """An upload through the server, PARALLEL chunks at a time; the file's id."""
    headers = {"Authorization": f"Bearer {token}"}
    size = source.stat().st_size
    async with http.post(f"{url}/api/v1/files/init", json={"name": "a", "size": size}, headers=headers) as answer:
        file_id = str((await answer.json())["id"])
    left = iter(range(size // CHUNK))

    async def lane() -> None:
        with source.open("rb") as file:
            for index in left:
                file.seek(index * CHUNK)
                chunk = await asyncio.to_thread(file.read, CHUNK)
                digest = (await asyncio.to_thread(hashlib.sha256, chunk)).hexdigest()
                async with http.put(
                    f"{url}/api/v1/files/{file_id}/chunk?index={index}", data=_pieces(chunk), headers=headers,
                ) as answer:
                    if answer.status != 200 or (await answer.json())["sha256"] != digest:
                        raise RuntimeError(await answer.text())

    await asyncio.gather(*(lane() for _ in range(PARALLEL)))
    async with http.post(f"{url}/api/v1/files/{file_id}/complete", headers=headers) as answer:
        if answer.status != 201:
            raise RuntimeError(await answer.text())
    return file_id


async def _pieces(chunk: bytes):  # type: ignore[no-untyped-def]
    view = memoryview(chunk)
    for start in range(0, len(chunk), 256 * 1024):
        yield bytes(view[start : start + 256 * 1024])


async def get_all(http: aiohttp.ClientSession, url: str, size: int, token: str = "") -> None:
    """Raises: RuntimeError where it is not a whole file of this size."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    got = 0
    async with http.get(url, headers=headers) as answer:
        async for part in answer.content.iter_chunked(MIB):
            got += len(part)
    if (answer.status, got) != (200, size):
        raise RuntimeError(f"{answer.status}, {got} of {size} bytes")


async def files(section: Section, minio: S3Server, folder: Path, source: Path, repeats: int) -> None:
    """Uploads, directly, through the server and by the SDK, then downloads; in turns, so that each ratio is that of
    neighbours in time."""
    chosen = settings(minio, S3_DIRECT="off")
    server = ServerProcess(folder / "proxied", **chosen).start()
    rates, client, bucket = Rates(source.stat().st_size), minio.client(), chosen["S3_BUCKET"]
    try:
        hs, transfers = await signed_in(server.url, folder / "bina")
        size = source.stat().st_size
        async with aiohttp.ClientSession() as http:
            uploaded: list[str] = []

            async def through() -> None:
                uploaded.append((await (await transfers.upload(source)).wait()).id)

            def sdk() -> None:
                client.fput_object(bucket, "sdk", str(source), part_size=CHUNK, num_parallel_uploads=PARALLEL)

            async def fetched(name: str, url: str, token: str = "") -> None:
                await rates.timed(name, get_all(http, url, size, token))

            for repeat in range(repeats):
                ups: list[Callable[[], Awaitable[None]]] = [
                    lambda: rates.timed("SDK up", asyncio.to_thread(sdk)),
                    lambda: rates.timed("up", through()),
                    partial(direct_upload, section, minio, folder, source, rates, repeat)]
                for send in in_turn(ups, repeat):
                    await send()
                await hs.me.get()  # a token ends after a quarter of an hour
                assert hs.account is not None
                plain, token = client.presigned_get_object(bucket, "sdk"), hs.account.access_token
                ours = f"{server.url}/api/v1/files/{uploaded[-1]}/download"
                downs: list[Callable[[], Awaitable[None]]] = [
                    partial(fetched, "GET", plain), partial(fetched, "down", ours, token)]
                for fetch in in_turn(downs, repeat):
                    await fetch()
            section.row("HyperSend, direct upload", rates.all["direct"])
            rates.into(section, "upload through the server", "up", "SDK up", 0.8)
            rates.into(section, "download through the server", "down", "GET", 0.7, "a plain GET from MinIO")
            section.ratio("HyperSend to the SDK alone, direct upload", rates.all["direct"], rates.all["SDK up"])
            section.cost("HyperSend's server, through it", {"peak memory MiB": peak_mib(server.pid)})
        await transfers.close()
        await hs.close()
    finally:
        server.kill()


async def migration(section: Section, minio: S3Server, folder: Path, size: int, repeats: int) -> None:
    data = folder / "moved"
    server = ServerProcess(data, **SECRET).start()
    sources = [make_file(folder / f"part{n}", size // FILES) for n in range(FILES)]
    try:
        async with aiohttp.ClientSession() as http:
            person = {"email": "m@example.org", "username": "moved", "password": PASSWORD}
            async with http.post(f"{server.url}/api/v1/auth/register", json=person) as answer:
                token = (await answer.json())["access_token"]
            for source in sources:
                await put_all(http, server.url, token, source)
    finally:
        server.stop()
    chosen, rates, client = settings(minio), Rates(size), minio.client()
    bucket, peaks = chosen["S3_BUCKET"], list[float]()

    def copy() -> None:
        for source in sources:
            client.fput_object(bucket, source.name, str(source), part_size=CHUNK, num_parallel_uploads=PARALLEL)

    def move(target: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "hypersend_server", "migrate-storage", "--to", target, "--json"], cwd=REPOSITORY,
            env=environment(data, **chosen), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:  # what wait4 tells has the peak of the process that forked in it
            with suppress(OSError, AssertionError):
                peak = max(peak, peak_mib(process.pid))
            time.sleep(0.02)
        said, _ = process.communicate()
        report = json.loads(said)
        if process.returncode or report["files"] != FILES:
            raise RuntimeError(str(report))
        peaks.append(peak)

    works: list[tuple[str, Callable[[], None]]] = [("SDK", copy), ("migrate", partial(move, "s3"))]
    for repeat in range(repeats):
        for name, work in in_turn(works, repeat):
            await rates.timed(name, asyncio.to_thread(work))
        await asyncio.to_thread(move, "local")
    rates.into(section, f"migrate-storage of {FILES} files", "migrate", "SDK", 0.7)
    section.check("peak memory of migrate-storage, both ways", peaks, 150, "at most", "MiB")


async def measure(section: Section, folder: Path, mib: int, repeats: int) -> None:
    size = mib * MIB // CHUNK // FILES * FILES * CHUNK
    (folder / "minio").mkdir()
    minio = S3Server("minio", folder / "minio").start()
    try:
        source = make_file(folder / "source.bin", size)
        await files(section, minio, folder, source, repeats)
        source.unlink()
        await migration(section, minio, folder, size, repeats)
    finally:
        minio.kill()


def object_storage(quick: bool, repeats: int) -> Section:
    """Raises: RuntimeError without MinIO."""
    mib = 128 if quick else 1024
    section = Section("s3", f"Object storage: {mib:,} MiB on one MinIO", "MiB/s")
    if not is_there("minio"):
        raise RuntimeError("MinIO is not there; tests/install-parts.sh builds it")
    with folder_on_disk() as folder:
        asyncio.run(measure(section, folder, mib, repeats))
    section.notes.append(
        f"Client, server and MinIO share the machine. The SDK sends parts of {CHUNK // MIB} MiB, {PARALLEL} at a time; "
        "so does HyperSend's client, which hashes what it sends. All of them in turns; migrate-storage is the whole "
        "command. A direct upload goes from the client to MinIO by URLs that the server signed.")
    return section
