from __future__ import annotations

import asyncio
import json
from pathlib import Path

from aiohttp import web

from hypersend_server.commands.status import ask, shown_time
from hypersend_server.settings import Settings
from tests.doctor.front import free_port
from tests.harness import PASSWORD
from tests.process import ServerProcess, command


def test_status_of_a_running_server_and_of_none(tmp_path: Path) -> None:
    root, port = tmp_path / "data", {"PORT": str(free_port())}
    with ServerProcess(root, **port):
        assert command(root, "user", "add", "asha@example.org", HYPERSEND_PASSWORD=PASSWORD, **port).returncode == 0
        assert command(root, "backup", str(tmp_path / "backup"), **port).returncode == 0
        assert command(root, "gc", "--delete", **port).returncode == 0
        done = command(root, "status", "--json", **port)
        assert done.returncode == 0, done.stderr
        status = json.loads(done.stdout)
        assert status["running"]["degraded"] == []
        assert status["running"]["version"] == status["version"]
        assert status["running"]["uptime_s"] < 600
        assert status["running"]["memory_bytes"] > 1_000_000
        assert status["users"] == 1
        assert status["free_bytes"]["local"] > 0
        assert status["store_bytes"] == {"local": status["file_bytes"]}
        assert status["last_backup"].endswith("Z")
        assert status["last_gc"].endswith("Z")
        shown = command(root, "status", **port).stdout
        assert "well" in shown
        assert "people    1, 0 messages" in shown
    stopped = command(root, "status", "--json", **port)
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["running"] is None
    assert json.loads(stopped.stdout)["users"] == 1
    assert "not running here" in command(root, "status", **port).stdout


async def test_a_server_that_keeps_its_numbers_to_itself_runs_all_the_same(tmp_path: Path) -> None:
    """As one whose HOST is no loopback address does, unless METRICS_TOKEN is sent."""
    async def ready(request: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "degraded": []})

    async def numbers(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer watchword":
            raise web.HTTPForbidden
        return web.Response(text='hypersend_build_info{version="9.9.9"} 1\nhypersend_sockets 3\n')

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", numbers)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = {"PORT": str(runner.addresses[0][1])}
    try:
        without = await asyncio.to_thread(ask, Settings.from_env(port))
        assert without is not None
        assert (without.version, without.degraded) == ("", [])
        told = await asyncio.to_thread(ask, Settings.from_env({**port, "METRICS_TOKEN": "watchword"}))
        assert told is not None
        assert (told.version, told.sockets) == ("9.9.9", 3)
    finally:
        await runner.cleanup()
    assert await asyncio.to_thread(ask, Settings.from_env(port)) is None


def test_status_makes_no_server_where_there_is_none(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "status")
    assert done.returncode == 1
    assert "no HyperSend server" in done.stderr
    assert not (tmp_path / "data").exists()


def test_times_are_shown_by_their_two_largest_units() -> None:
    assert [shown_time(s) for s in (0, 59, 61, 7200, 90061)] == ["0 s", "59 s", "1 min 1 s", "2 h", "1 d 1 h"]
