"""The process that runs the screens of the web app: `python -m hypersend_client.web.child`.

The server starts it with `--fd` of a Unix socket that listens already. In a container of its own it listens by
itself, `--host 0.0.0.0 --port 8001`, and the server's WEB_CLIENT names it; nobody else should reach it, for it
believes what the server tells about a browser.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys

import msgpack  # type: ignore[import-untyped]
import uvicorn
from starlette.websockets import WebSocketDisconnected

from hypersend_client.web.screens import Screens

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent: int) -> None:
    """End when the parent does, however it ends. Exits at once where it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def is_news(record: logging.LogRecord) -> bool:
    """False for Flet's warning, trace included, that a browser left while something was being sent to it, or sent what
    cannot be unpacked, which ends its connection."""
    error = record.exc_info[1] if record.exc_info else None
    cannot_unpack = isinstance(error, (msgpack.UnpackException, msgpack.ExtraData)) or (
        type(error) is ValueError and str(error).startswith("Unpack failed"))
    return not (cannot_unpack or isinstance(error, WebSocketDisconnected))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hypersend_client.web.child", description=__doc__)
    parser.add_argument("--fd", type=int, help="a listening socket that was inherited")
    parser.add_argument("--parent", type=int, help="end when this process does")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    arguments = parser.parse_args(argv)
    if arguments.parent is not None:
        die_with(arguments.parent)
    logging.getLogger("flet_web.fastapi").addFilter(is_news)
    from hypersend_client.main import main as draw

    config = uvicorn.Config(
        Screens(draw), host=arguments.host, port=arguments.port, fd=arguments.fd, ws="websockets-sansio",
        ws_max_size=1024 * 1024, ws_per_message_deflate=False, proxy_headers=True, forwarded_allow_ips="*",
        access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
