"""The project's own nginx configuration, rendered and served by a real nginx on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web

from tests.parts import program
from tests.process import REPOSITORY

RENDER = REPOSITORY / "nginx" / "render.sh"
START_S = 60.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def certificate(folder: Path, name: str) -> Path:
    """A folder with fullchain.pem and privkey.pem for this name, signed by themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        capture_output=True, timeout=60, check=True)
    return folder


def render(folder: Path, *, nginx_version: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run render.sh into folder/out. nginx_version: what it is to believe is installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if nginx_version:
        fake = folder / "bin"
        fake.mkdir(parents=True, exist_ok=True)
        (fake / "nginx").write_text(f"#!/bin/sh\necho 'nginx version: nginx/{nginx_version}' >&2\n")
        (fake / "nginx").chmod(0o755)
        path = f"{fake}:{path}"
    defaults = {"PATH": path, "RUN": str(folder / "run"), "ACME": str(folder / "acme"),
                "FILES": str(folder / "files"), "ACCESS_LOG": str(folder / "access.log")}
    return subprocess.run([RENDER, folder / "out"], env={**defaults, **environment}, capture_output=True, text=True,
                          timeout=60, check=False)


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """`nginx -t` on what was rendered."""
    return subprocess.run([program("nginx"), "-t", "-q", "-c", folder / "out" / "nginx.conf"], capture_output=True,
                          text=True, timeout=60, check=False)


class Front:
    """http, https: ports."""

    def __init__(self, folder: Path, http: int, https: int) -> None:
        self.folder, self.http, self.https = folder, http, https

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def log(self) -> str:
        return (self.folder / "access.log").read_text()


@contextlib.contextmanager
def front(folder: Path, servers: str, **environment: str) -> Iterator[Front]:
    """nginx before these addresses (host:port, separated by spaces)."""
    http, https = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    done = render(folder, COMPOSE_PROFILES="lite", SERVERS=servers, HTTP_LISTEN=f"127.0.0.1:{http}",
                  HTTPS_LISTEN=f"127.0.0.1:{https}", HTTPS_PORT=str(https), **environment)
    assert done.returncode == 0, done.stderr
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [program("nginx"), "-c", folder / "out" / "nginx.conf", "-g", "daemon off; user root;"],
            stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_S
        while not _answers(http):
            assert process.poll() is None, (folder / "nginx.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        yield Front(folder, http, https)
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Echo:
    """An upstream that says what reached it: the headers of each request, and its body as it arrives."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[web.BaseRequest] = []
        self.received = 0
        self.arrived = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        async for block in request.content.iter_any():
            self.received += len(block)
            self.arrived.set()
        return web.json_response({"padding": "x" * 4096})


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    upstream = Echo()
    runner = web.ServerRunner(web.Server(upstream.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        await runner.cleanup()
