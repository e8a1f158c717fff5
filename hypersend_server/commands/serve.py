"""`hypersend-server serve`: the server itself."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
from typing import Any

from aiohttp import web

from hypersend_server.app import BODIES, START_INVITE, SYSTEM, build_app
from hypersend_server.commands.console import Console
from hypersend_server.keys import AlreadyServing, lock_data_root
from hypersend_server.logs import set_up_logging
from hypersend_server.settings import Settings

MAX_DESCRIPTORS = 65_536
IDLE_S = 75.0  # a connection without a request, or between two, is closed after this; proxies give up sooner
UNREAD_MS = 120_000  # a peer that takes no bytes for so long holds a file and a descriptor for nothing
# What is under way when the server is told to stop gets this long, chunks first; process managers wait 10 s.
BODIES_S = 3.0
GRACE_S = 4.0
MIB = 1024 * 1024
KEPT_BYTES = 8 * MIB  # free at the end of the heap, at most
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
log = logging.getLogger("hypersend")


def add_to(commands: Any) -> None:
    parser = commands.add_parser("serve", help="start the server")
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    set_up_logging(settings.log_format)
    if settings.mongodb_uri:  # then any number of processes may serve, also over one DATA_ROOT
        return asyncio.run(_serve(settings, console))
    try:
        lock = lock_data_root(settings.data_root)
    except AlreadyServing as error:
        console.problem(str(error))
        return 1
    try:
        return asyncio.run(_serve(settings, console))
    finally:
        os.close(lock)


def _raise_file_limit() -> None:
    """A socket is a descriptor: take as many as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_freed_pages() -> None:
    """Where the C library is glibc: the buffers of bodies come and go a hundred times a second, and it would return
    each one's pages to the system and fetch them anew. One heap, since the threads take turns anyway, and each of
    sixteen heaps would keep pages of its own. Source: mallopt(3)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 4 * MIB)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)


async def _serve(settings: Settings, console: Console) -> int:
    _raise_file_limit()
    keep_freed_pages()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    app = await build_app(settings)
    # handler_cancellation: a client that leaves in the middle of a chunk must not hold the chunk.
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_S, keepalive_timeout=IDLE_S)
    await runner.setup()
    try:
        try:
            for listener in _listen(settings.host, settings.port):
                await web.SockSite(runner, listener, backlog=256).start()
        except OSError as error:
            console.problem(f"cannot listen on {settings.host} port {settings.port}: {error.strerror} (HOST, PORT)")
            return 1
        app[SYSTEM].ready = True
        # What the start has made stays: looking through it for garbage held everything up for 20 ms again and again.
        gc.collect()
        gc.freeze()
        address = settings.public_url or _address(settings.host, runner.addresses[0][1])
        console.say(f"HyperSend is at {address}")
        if code := app[START_INVITE]:
            console.say("There is no administrator yet. Whoever registers with this invite becomes one:")
            console.say(f"    {code}")
        sys.stdout.flush()
        await stop.wait()
        log.info("stopping")
        app[SYSTEM].ready = False
        await app[BODIES].close(BODIES_S)
    finally:
        await runner.cleanup()
    return 0


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address that the name stands for; what they accept inherits their options.

    Raises: OSError.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners = []
    for family, _, _, _, address in dict.fromkeys(found):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listeners.append(listener)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
            listener.bind(address)
        except OSError:
            for other in listeners:
                other.close()
            raise
    return listeners


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
