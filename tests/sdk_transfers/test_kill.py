"""`kill -9` of the client, and of the server, at random moments of twenty uploads and twenty downloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.process import REPOSITORY, ServerProcess
from tests.sdk_transfers.device import CHUNK, MIB, Device, device, digest, leftovers
from tests.sdk_transfers.line import line_to

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77)
# What a kill may cost: of each connection, what lay in the buffers of the network and of the processes.
LOST = 24 * MIB


def twenty(asha: Device, moments: random.Random) -> list[Path]:
    return [asha.file(f"{number}.bin", moments.choice(SIZES)) for number in range(20)]


async def worker_until_done(
    home: Path, url: str, rate: float, what: str, names: list[str], moments: random.Random, kills: int
) -> int:
    """Run the worker, killing it at random moments at first; how often it was killed."""
    killed = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.sdk_transfers.worker", str(home), url, str(rate), what, *names, cwd=REPOSITORY
        )
        try:
            await asyncio.wait_for(process.wait(), moments.uniform(0.5, 1.3) if killed < kills else 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            killed += 1
            continue
        assert process.returncode == 0
        return killed


async def test_twenty_uploads_and_downloads_survive_a_client_that_is_killed_again_and_again(tmp_path: Path) -> None:
    moments = random.Random(4)
    with ServerProcess(tmp_path / "data", RATE_LIMITS="off") as server:
        async with line_to(server.url) as line:
            async with device(tmp_path / "asha", line.url, "asha") as asha:
                paths = {str(path): path for path in twenty(asha, moments)}
            total = sum(path.stat().st_size for path in paths.values())

            killed = await worker_until_done(asha.home, line.url, 24 * MIB, "upload", [*paths], moments, 4)
            assert killed >= 3
            assert line.up_bytes < total + killed * LOST
            uploaded = json.loads((asha.home / "uploaded.json").read_text())
            assert uploaded.keys() == paths.keys()
            assert len(set(uploaded.values())) == 20

            line.down_bytes = 0
            killed = await worker_until_done(
                asha.home, line.url, 24 * MIB, "download", [*uploaded.values()], moments, 4
            )
            assert killed >= 3
            assert line.down_bytes < total + killed * 2 * LOST
            downloaded = json.loads((asha.home / "downloaded.json").read_text())
            for path, file_id in uploaded.items():
                assert digest(Path(downloaded[file_id])) == digest(paths[path])
            # Killed after the rename and before it was written down, one is fetched once more, beside the first.
            assert leftovers(asha.home / "Downloads") == []

        async with device(tmp_path / "asha", server.url) as asha:
            on_server = (await asha.hs.files.page(limit=200)).items
            assert sorted(file.id for file in on_server) == sorted(uploaded.values())


@asynccontextmanager
async def killing(server: ServerProcess, moments: random.Random) -> AsyncIterator[list[int]]:
    """Kill it and start it again, for as long as this lasts."""
    done, kills = asyncio.Event(), [0]

    async def run() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), moments.uniform(0.4, 1.0))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            kills[0] += 1

    task = asyncio.create_task(run())
    try:
        yield kills
    finally:
        done.set()
        await task


async def test_twenty_uploads_and_downloads_survive_a_server_that_is_killed_again_and_again(tmp_path: Path) -> None:
    moments = random.Random(5)
    server = ServerProcess(tmp_path / "data", RATE_LIMITS="off").start()
    try:
        async with device(tmp_path / "asha", server.url, "asha", parallel=2, max_active=2) as asha:
            paths = twenty(asha, moments)
            asha.transfers.upload_limit.bytes_per_s = asha.transfers.download_limit.bytes_per_s = 64 * MIB
            async with killing(server, moments) as kills:
                uploads = [await asha.transfers.upload(path) for path in paths]
                files = [await upload.wait() for upload in uploads]
                assert kills[0] >= 2
                before = kills[0]
                downloads = [await asha.transfers.download(file) for file in files]
                found = [await download.wait() for download in downloads]
                assert kills[0] >= before + 2
            assert [digest(path) for path in found] == [digest(path) for path in paths]
            assert len((await asha.hs.files.page(limit=200)).items) == 20
    finally:
        server.kill()
