"""Sending a file's bytes over aiohttp: `loop.sendfile` from a path, or parts from a store.

A client that goes away in the middle is no error of ours: the connection is given up and the answer returned as it
is (aiohttp logs what a handler raises).
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from aiohttp import web

from hypersend_server.errors import HyperSendError

PART_BYTES = 256 * 1024
# A peer that is gone, or that took nothing for so long that the kernel gave it up; no ConnectionError in Python.
GONE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}
log = logging.getLogger(__name__)


async def open_file(path: Path) -> io.FileIO:
    """Open in a thread, since a cold disk takes its time. Raises: OSError."""
    work = asyncio.get_running_loop().run_in_executor(None, _open, path)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close_unused)
        raise


def _open(path: Path) -> io.FileIO:
    return io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")


def _close_unused(work: asyncio.Future[io.FileIO]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()


async def send_file(
    request: web.Request, response: web.StreamResponse, file: io.FileIO, start: int, length: int
) -> web.StreamResponse:
    """Answer with a piece of an open file, and close it.

    The kernel copies from the file to the socket, so neither memory nor the loop is used; what was deleted
    meanwhile stays readable through its descriptor.
    """
    response.content_length = length
    try:
        await response.prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            return response
        try:
            await asyncio.get_running_loop().sendfile(transport, file, start, length, fallback=False)
        except asyncio.SendfileNotAvailableError:  # a transport that is no plain socket, such as TLS
            await asyncio.to_thread(file.seek, start)
            while length and (part := await asyncio.to_thread(file.read, min(length, PART_BYTES))):
                await response.write(part)
                length -= len(part)
        await response.write_eof()
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno not in GONE:
            raise
        _give_up(request)
    except RuntimeError:  # what asyncio raises where the transport closed in the meantime
        if request.transport is not None and not request.transport.is_closing():
            raise
    finally:
        file.close()
    return response


async def send_parts(
    request: web.Request, response: web.StreamResponse, first: bytes, parts: AsyncGenerator[bytes, None], length: int
) -> web.StreamResponse:
    """Answer from a store without paths, and close `parts`. first: the first of them, read already."""
    response.content_length = length
    try:
        await response.prepare(request)
        await response.write(first)
        async for part in parts:
            await response.write(part)
        await response.write_eof()
    except ConnectionError:
        _give_up(request)
    except HyperSendError as error:  # too late for an answer of its own: the client sees a body that is too short
        log.warning("a download broke off: %s", error)
        _give_up(request)
    finally:
        await parts.aclose()
    return response


def _give_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
