"""Processes that reserve room for one person at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.metadata.reserving import OWNER, opened_at, reserve
from tests.process import REPOSITORY

PROCESSES, UPLOADS, SIZE, QUOTA = 3, 8, 300, 3000
WAIT_S = 120


@pytest.mark.parametrize("backend", ["sqlite", "mongo"])
async def test_processes_together_never_reserve_more_than_the_quota_and_all_of_it(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "metadata.sqlite3")
    if backend == "mongo":
        place = request.getfixturevalue("mongo_server").fresh_uri()
    metadata = opened_at(place)
    await metadata.open()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.metadata.reserving", place, f"p{number}", str(UPLOADS), str(SIZE), str(QUOTA),
            cwd=REPOSITORY, stdin=PIPE, stdout=PIPE)
        for number in range(PROCESSES)]
    try:
        async with asyncio.timeout(WAIT_S):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            said = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    let_in = [file_id for out, _ in said for file_id in json.loads(out)]
    assert len(let_in) == QUOTA // SIZE
    assert await metadata.files.usage(OWNER) == (0, QUOTA, 0)
    await metadata.files.remove(let_in[0], 3)
    assert await metadata.files.usage(OWNER) == (0, QUOTA - SIZE, 0)
    assert sorted(await asyncio.gather(*(reserve(metadata, f"late-{n}", SIZE, QUOTA) for n in range(3)))) == [
        False, False, True]
    await metadata.close()
