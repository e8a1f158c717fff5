"""The process that runs the screens, and what Flet leaves behind without us."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import pytest
from fastapi import WebSocket
from flet_web.fastapi.flet_app_manager import app_manager
from starlette.websockets import WebSocketDisconnected

from hypersend_client.web.browser import Browser, browser_of, browser_of_page
from hypersend_client.web.build import FLET_VERSION
from hypersend_client.web.child import is_news
from hypersend_client.web.screens import Connection, Screens
from hypersend_server.web_client import child as server_child
from tests.web.site import Site, site

REPOSITORY = Path(__file__).parents[2]


async def connect(server: Site) -> Any:
    return await server.http.ws_connect(server.url + "/ws", headers={"Origin": server.url}, max_msg_size=0)


async def registered(server: Site) -> Any:
    """A page that the screens have greeted."""
    socket = await connect(server)
    await socket.send_bytes(b"\x00" + register())
    assert (await socket.receive(30)).data[:1] == b"\x00"
    return socket


def register(session_id: str = "") -> bytes:
    packed: bytes = msgpack.packb([1, {"session_id": session_id, "page_name": "", "page": {"route": "/"}}])
    return packed


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_interrupt_from_the_terminal_is_for_the_server_alone(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        child = server.web_client.child
        assert child is not None
        await server.request("GET", server.url + "/")
        async with asyncio.timeout(30):
            while child.pid is None:
                await asyncio.sleep(0.02)
        assert os.getpgid(child.pid) == child.pid


async def test_screens_start_with_the_first_page_and_not_before(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        child = server.web_client.child
        assert child is not None
        await server.request("GET", server.url + "/upload")
        await server.request("GET", server.url + "/main.dart.mjs")
        assert child.starts == 0
        socket = await registered(server)
        assert child.starts == 1
        pid = child.pid
        assert pid is not None
        await socket.close()
    assert not is_running(pid)


async def test_killed_screens_come_back_and_pages_connect_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        socket = await registered(server)
        child = server.web_client.child
        assert child is not None
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while not socket.closed:
                await socket.receive()
        again = await registered(server)  # waits in the listening socket meanwhile
        assert child.starts == 2
        await again.close()


async def test_screens_that_cannot_start_are_tried_again_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_child, "FIRST_DELAY_S", 0.02)
    child = server_child.Child(tmp_path)  # there is no hypersend_client in here
    waits: list[float] = []
    sleep = asyncio.sleep

    async def counting(delay: float) -> None:
        waits.append(delay)
        await sleep(0 if len(waits) < 5 else 60)

    monkeypatch.setattr(server_child.asyncio, "sleep", counting)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(server_child.sys, "executable", "/bin/false")
    child.start("http://127.0.0.1:9")
    async with asyncio.timeout(20):
        while len(waits) < 5:
            await sleep(0.01)
    await child.close()
    assert waits == [0.02, 0.04, 0.08, 0.16, 0.32]


async def test_screens_are_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s" * 40)
    monkeypatch.setenv("METRICS_TOKEN", "token")
    async with site(tmp_path) as server:
        await (await registered(server)).close()
        child = server.web_client.child
        assert child is not None
        environment = Path(f"/proc/{child.pid}/environ").read_bytes().decode().split("\0")
    names = {line.partition("=")[0] for line in environment if line}
    assert not {"SECRET_KEY", "METRICS_TOKEN", "DATA_ROOT"} & names
    assert f"API_BASE_URL={server.url}" in environment


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_screens_die_with_a_server_that_was_killed() -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom hypersend_server.web_client.child import Child\n"
        "async def main():\n"
        "    child = Child(Path.cwd())\n    child.start('http://127.0.0.1:9')\n"
        "    _, writer = await asyncio.open_unix_connection(child.socket_path)\n"
        "    writer.write(b'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n    await _.readline()\n"
        "    print(child.pid, child.socket_path, flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())")
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "TMPDIR": tempfile.gettempdir()})
    assert parent.stdout is not None
    pid, socket_path = parent.stdout.readline().split()
    watched = os.pidfd_open(int(pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    ended, _, _ = select.select([watched], [], [], 10)
    os.close(watched)
    Path(socket_path).unlink()
    Path(socket_path).parent.rmdir()
    assert ended


# What Flet leaves behind: the inside of one version, which build.FLET_VERSION pins


class Wire:
    """One WebSocket as ASGI sees it; sending fails once `broken` is set."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.sent = asyncio.Event()
        self.broken = False

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            if self.broken:
                raise ConnectionResetError("gone")
            self.sent.set()

    def websocket(self) -> WebSocket:
        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"x")], "query_string": b"",
                 "client": ("203.0.113.7", 0), "scheme": "ws", "server": ("x", 80), "root_path": ""}
        return WebSocket(scope, self.receive, self.send)

    def hear(self, data: bytes) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})


def connection(main: Any) -> Connection:
    return Connection(loop=asyncio.get_running_loop(), executor=app_manager.executor, main=main, before_main=None)


def test_flet_is_the_version_whose_inside_is_patched() -> None:
    assert {metadata.version("flet"), metadata.version("flet-web")} == {FLET_VERSION}


async def test_session_whose_browser_vanished_while_we_sent_is_disconnected() -> None:
    pages: list[Any] = []
    wire = Wire()
    handled = asyncio.create_task(connection(pages.append).handle(wire.websocket()))
    wire.hear(b"\x00" + register())
    await asyncio.wait_for(wire.sent.wait(), 5)
    while not pages:
        await asyncio.sleep(0.01)
    session = pages[0].session
    assert session.connection is not None
    wire.broken = True
    pages[0].title = "cannot be sent"
    pages[0].update()
    await asyncio.sleep(0)
    wire.leave()
    await asyncio.wait_for(handled, 5)
    assert session.connection is None
    assert session.expires_at is not None


async def test_socket_that_never_said_who_it_is_ends_with_its_browser() -> None:
    wire = Wire()
    handled = asyncio.create_task(connection(lambda page: None).handle(wire.websocket()))
    await asyncio.sleep(0)
    wire.leave()
    await asyncio.wait_for(handled, 5)


async def test_screens_learn_which_browser_they_draw_for() -> None:
    seen: asyncio.Queue[Browser] = asyncio.Queue()
    wire = Wire()
    scope = {**wire.websocket().scope, "headers": [
        (b"host", b"x"), (b"x-hypersend-browser", b"b1"), (b"x-hypersend-access-token", b"t1"),
        (b"x-hypersend-renewal", b"r1"), (b"accept-language", b"hi"), (b"x-hypersend-zone", b"Asia/Kolkata")]}
    drawing = asyncio.create_task(
        Screens(lambda page: seen.put_nowait(browser_of_page()))(scope, wire.receive, wire.send))
    wire.hear(b"\x00" + register())
    assert await asyncio.wait_for(seen.get(), 5) == Browser(
        "b1", "t1", "r1", "hi", ZoneInfo("Asia/Kolkata"))
    wire.leave()
    await asyncio.wait_for(drawing, 5)
    assert browser_of_page() == Browser()


@pytest.mark.parametrize("name", [b"Nowhere/Atall", b"Europe", b"../etc/passwd", b"/etc/localtime", b"undefined", b"",
                                  b"\xff"])
def test_a_zone_that_nobody_knows_is_the_servers(name: bytes) -> None:
    assert browser_of({b"x-hypersend-zone": name}).zone is None


def test_frames_that_are_none_of_flets_and_browsers_that_left_are_no_news() -> None:
    def record(text: str, error: BaseException) -> logging.LogRecord:
        return logging.LogRecord("flet_web.fastapi", logging.WARNING, "flet_app.py", 1, text, (),
                                 (type(error), error, None))

    for junk in (b"\xc1", b"\x01\x02", b"\x92\x01", b""):
        with pytest.raises(Exception) as broken:
            msgpack.unpackb(junk)
        assert not is_news(record(f"Receive loop error: {broken.value}", broken.value)), junk
    assert not is_news(record("Task failed", WebSocketDisconnected()))
    assert is_news(record("Receive loop error: of our own", ValueError("of our own")))
