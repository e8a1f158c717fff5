"""`hypersend-server serve`: the server itself."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from typing import Any

from aiohttp import web

from hypersend_server.app import START_INVITE, SYSTEM, build_app
from hypersend_server.commands.console import Console
from hypersend_server.keys import AlreadyServing, lock_data_root
from hypersend_server.logs import set_up_logging
from hypersend_server.settings import Settings

MAX_DESCRIPTORS = 65_536
GRACE_S = 8.0  # what is under way when the server is told to stop gets this long; process managers wait 10 s
log = logging.getLogger("hypersend")


def add_to(commands: Any) -> None:
    parser = commands.add_parser("serve", help="start the server")
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    set_up_logging(settings.log_format)
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


async def _serve(settings: Settings, console: Console) -> int:
    _raise_file_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    app = await build_app(settings)
    # handler_cancellation: a client that leaves in the middle of a chunk must not hold the chunk.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=256)
        try:
            await site.start()
        except OSError as error:
            console.problem(f"cannot listen on {settings.host} port {settings.port}: {error.strerror} (HOST, PORT)")
            return 1
        app[SYSTEM].ready = True
        address = settings.public_url or _address(settings.host, runner.addresses[0][1])
        console.say(f"HyperSend is at {address}")
        if code := app[START_INVITE]:
            console.say("There is no administrator yet. Whoever registers with this invite becomes one:")
            console.say(f"    {code}")
        sys.stdout.flush()
        await stop.wait()
        log.info("stopping")
        app[SYSTEM].ready = False
    finally:
        await runner.cleanup()
    return 0


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
