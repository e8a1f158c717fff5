"""A line on which nobody is any more is left within seconds; a peer that merely takes nothing is waited for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from hypersend_client.sdk import lines
from tests.parts import program, require
from tests.process import REPOSITORY
from tests.sdk_transfers.device import MIB

TALKER = """
import asyncio, socket, sys
from hypersend_client.sdk import lines

async def main():
    sock = socket.create_connection(("10.78.1.2", 9000))
    sock.setblocking(False)
    lines.ask_when_idle(sock)
    if sys.argv[1] == "sends":
        async def send():
            while True:
                await asyncio.get_running_loop().sock_sendall(sock, bytes(1000))
                await asyncio.sleep(0.05)
        sending = asyncio.create_task(send())
    print("talks", flush=True)
    await lines.watch(sock, lambda: print("dead", flush=True))

asyncio.run(main())
"""
TAKER = """
import socket
server = socket.create_server(("10.78.1.2", 9000))
print("listens", flush=True)
taken, _ = server.accept()
while taken.recv(65536):
    pass
"""


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    ip = program("ip")
    require("namespaces", os.geteuid() == 0)
    near, far = (f"hsl{os.getpid() % 100000}{end}" for end in "nf")

    def run(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True)

    try:
        for name in (near, far):
            run("netns", "add", name)
        run("-n", near, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", far)
        for name, address in ((near, "10.78.1.1/24"), (far, "10.78.1.2/24")):
            run("-n", name, "addr", "add", address, "dev", "eth0")
            run("-n", name, "link", "set", "eth0", "up")
        yield near, far
    finally:
        for name in (near, far):
            subprocess.run([ip, "netns", "del", name], check=False, capture_output=True)


@pytest.mark.parametrize("what", ["sends", "listens"])
async def test_a_line_on_which_nobody_is_any_more_is_dead(namespaces: tuple[str, str], what: str) -> None:
    require("TCP_INFO", hasattr(socket, "TCP_INFO"))
    near, far = namespaces

    async def start(name: str, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            program("ip"), "netns", "exec", name, sys.executable, "-c", *words, cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE)

    async def says(process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            return (await process.stdout.readline()).decode().strip()

    taker = await start(far, TAKER)
    assert await says(taker) == "listens"
    talker = await start(near, TALKER, what)
    try:
        assert await says(talker) == "talks"
        subprocess.run([program("ip"), "-n", far, "link", "set", "eth0", "down"], check=True)
        assert await says(talker) == "dead"  # not for minutes by the system alone
    finally:
        for process in (talker, taker):
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    require("TCP_INFO", hasattr(socket, "TCP_INFO"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    lines.ask_when_idle(near)
    with near, far:
        yield near, far


async def test_a_peer_that_takes_nothing_is_there(ends: tuple[socket.socket, socket.socket]) -> None:
    near, _ = ends
    with pytest.raises(BlockingIOError):
        while True:
            near.send(bytes(MIB))
    dead = asyncio.Event()
    watching = asyncio.create_task(lines.watch(near, dead.set))
    await asyncio.sleep(lines.SILENT_S * 2)
    assert not dead.is_set()
    watching.cancel()


async def test_a_peer_that_says_nothing_is_there(ends: tuple[socket.socket, socket.socket]) -> None:
    near, _ = ends
    dead = asyncio.Event()
    watching = asyncio.create_task(lines.watch(near, dead.set))
    await asyncio.sleep(lines.SILENT_S * 2)
    assert not dead.is_set()
    watching.cancel()


async def test_sending_after_a_long_silence_is_no_death(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    await asyncio.sleep(lines.SILENT_S + 1)
    dead = asyncio.Event()
    watching = asyncio.create_task(lines.watch(near, dead.set))
    near.send(b"hello")
    assert far.recv(10) == b"hello"
    await asyncio.sleep(2)
    assert not dead.is_set()
    watching.cancel()
