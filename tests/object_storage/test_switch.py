"""The switch to object storage and back as docs/object-storage.md tells it, on real processes, while people work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.settings import SETTINGS
from tests.harness import Person, Server
from tests.http_session import http_session
from tests.object_storage.calls import CHUNK, Settings, download, objects, stored
from tests.process import REPOSITORY, ServerProcess, command, environment
from tests.s3_servers import S3Server

GUIDE = (REPOSITORY / "docs" / "object-storage.md").read_text()
WAIT_S = 180


def section(title: str) -> str:
    return GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands(title: str) -> list[list[str]]:
    """What the section tells the operator to run."""
    return [line.split() for line in re.findall(r"^\$ hypersend-server (.*)$", section(title), re.MULTILINE)]


def told_settings(title: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", section(title), re.MULTILINE))


@asynccontextmanager
async def people(url: str) -> AsyncIterator[Server]:
    async with http_session() as http:
        yield Server(http, url)


async def run(data_root: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """An operator's command to its end: its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hypersend_server", *arguments, cwd=REPOSITORY,
        env=environment(data_root, **settings), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with asyncio.timeout(WAIT_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


class Load:
    """Somebody who uploads, reads and deletes without a pause. kept: what must be there at the end."""

    def __init__(self, person: Person, kept: dict[str, bytes]) -> None:
        self.person, self.kept = person, kept
        self.turns = 0
        self.over = False

    async def go_on(self) -> None:
        while not self.over:
            content = os.urandom(70_000)
            file = await stored(self.person, content, direct=False)
            self.kept[file["id"]] = content
            short_lived = await stored(self.person, b"gone soon", direct=False)
            for file_id in list(self.kept)[-3:] + list(self.kept)[:3]:
                assert await download(self.person, file_id) == self.kept[file_id]
            assert (await self.person.delete(f"/files/{short_lived['id']}")).status == 204
            self.turns += 1


@asynccontextmanager
async def under_load(server: ServerProcess, session: dict[str, Any], kept: dict[str, bytes]) -> AsyncIterator[Load]:
    async with people(server.url) as there:
        load = Load(there.signed_in(session), kept)
        task = asyncio.create_task(load.go_on())
        try:
            yield load
        finally:
            load.over = True  # not cancelled: a turn given up halfway leaves a file that kept does not know
            async with asyncio.timeout(WAIT_S):
                await task


async def check_all(server: ServerProcess, session: dict[str, Any], kept: dict[str, bytes], backend: str) -> None:
    async with people(server.url) as there:
        person = there.signed_in(session)
        for file_id, content in kept.items():
            assert (await person.get(f"/files/{file_id}")).json["backend"] == backend
            assert await download(person, file_id) == content


def test_the_guide_names_real_settings() -> None:
    names = {setting.name for setting in SETTINGS}
    for title in ("Turning it on", "And back again"):
        assert set(told_settings(title)) <= names
        assert [line[0] for line in commands(title)].count("migrate-storage") == 2


async def test_the_switch_and_back_as_the_guide_tells_it(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    data, kept = tmp_path / "data", dict[str, bytes]()
    there = s3_settings(minio)
    secret = {"SECRET_KEY": "k" * 40, "RATE_LIMITS": "off"}
    server = ServerProcess(data, **secret).start()
    try:
        async with people(server.url) as guests:
            alice = await guests.person("alice")
            session = alice.session
            for size in (0, 1, 3 * CHUNK + 5, *[200_000] * 20):
                content = os.urandom(size)
                kept[(await stored(alice, content, direct=False))["id"]] = content
        server.stop()

        told = told_settings("Turning it on")
        assert set(told) <= set(there)
        assert told["STORAGE_BACKEND"] == there["STORAGE_BACKEND"]
        server.settings.update(there)
        server.start()
        async with under_load(server, session, kept) as load:
            for arguments in commands("Turning it on"):
                status, said = await run(data, *arguments, **secret, **there)
                assert status == 0, said
            assert load.turns > 0
        status, said = await run(data, "migrate-storage", "--to", "s3", "--json", **secret, **there)
        report = json.loads(said.splitlines()[-1])
        assert (status, report["files"], report["failed"]) == (0, 0, [])
        await check_all(server, session, kept, "s3")
        _, said = await run(data, "status", "--json", **secret, **there)
        held = json.loads(said.splitlines()[-1])["store_bytes"]
        assert (held["local"], held["s3"]) == (0, sum(map(len, kept.values())))
        server.stop()
        shutil.rmtree(data / "files")
        server.start()
        await check_all(server, session, kept, "s3")

        server.stop()
        server.settings.update(told_settings("And back again"))
        back = {**there, **told_settings("And back again")}
        assert back["STORAGE_BACKEND"] == "local"
        server.start()
        async with under_load(server, session, kept) as load:
            for arguments in commands("And back again"):
                status, said = await run(data, *arguments, **secret, **back)
                assert status == 0, said
            assert load.turns > 0
        await check_all(server, session, kept, "local")
        server.stop()
        for name in there:
            server.settings.pop(name, None)
        server.start()
        await check_all(server, session, kept, "local")
        assert server.log().count("Traceback") == 0
        assert minio.secret_key not in server.log()
    finally:
        server.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_a_migration_that_is_stopped_goes_on(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, how: signal.Signals
) -> None:
    data, kept = tmp_path / "data", dict[str, bytes]()
    settings = {"SECRET_KEY": "k" * 40, "RATE_LIMITS": "off", **s3_settings(minio, STORAGE_BACKEND="local")}
    server = ServerProcess(data, **settings).start()
    try:
        async with people(server.url) as guests:
            alice = await guests.person("alice")
            for size in (4 * CHUNK, 4 * CHUNK, *[100_000] * 8):
                content = os.urandom(size)
                kept[(await stored(alice, content, direct=False))["id"]] = content
        for _ in range(3):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hypersend_server", "migrate-storage", "--to", "s3", "--rate", "12MB",
                cwd=REPOSITORY, env=environment(data, **settings), stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE)
            assert process.stderr is not None
            async with asyncio.timeout(WAIT_S):
                for _ in range(2):  # a note, then a line of progress
                    await process.stderr.readline()
                process.send_signal(how)
                await process.communicate()
            assert process.returncode == (1 if how is signal.SIGINT else -signal.SIGKILL)
        done = command(data, "migrate-storage", "--to", "s3", "--json", timeout_s=WAIT_S, **settings)
        report = json.loads(done.stdout)
        assert (done.returncode, report["failed"], report["stopped"]) == (0, [], "")
        await check_all(server, alice.session, kept, "s3")
        assert len(objects(minio, settings)) == len(kept)
        assert json.loads(command(data, "migrate-storage", "--to", "s3", "--json", **settings).stdout)["files"] == 0
    finally:
        server.kill()


async def test_a_migration_waits_for_a_store_that_is_killed(
    tmp_path: Path, own_minio: S3Server, s3_settings: Settings
) -> None:
    data, kept = tmp_path / "data", dict[str, bytes]()
    settings = {"SECRET_KEY": "k" * 40, "RATE_LIMITS": "off", **s3_settings(own_minio, STORAGE_BACKEND="local")}
    server = ServerProcess(data, **settings).start()
    try:
        async with people(server.url) as guests:
            alice = await guests.person("alice")
            for size in (5 * CHUNK, 300_000, 300_000):
                content = os.urandom(size)
                kept[(await stored(alice, content, direct=False))["id"]] = content
        running = asyncio.create_task(run(data, "migrate-storage", "--to", "s3", "--rate", "10MB", **settings))
        async with asyncio.timeout(WAIT_S):
            while not objects(own_minio, settings):
                await asyncio.sleep(0.05)
        own_minio.kill()
        async with people(server.url) as guests:
            person = guests.signed_in(alice.session)
            answers = [await person.get(f"/files/{file_id}/download") for file_id in kept]
            assert {answer.status for answer in answers} <= {200, 307}  # what is on the disk is served
        own_minio.start()
        status, said = await running
        assert status == 0, said
        await check_all(server, alice.session, kept, "s3")
    finally:
        server.kill()
