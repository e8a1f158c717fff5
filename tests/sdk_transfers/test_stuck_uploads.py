"""An upload whose server comes no further, as a healthy one never does: who does not wait for ever is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hypersend_client.sdk import HyperSend, HyperSendError
from hypersend_client.sdk.transfer_errors import CorruptTransfer, TransferStalled
from hypersend_client.sdk.transfers import Transfers
from tests.sdk.peer import Peer, Tokens, problem, serving
from tests.sdk_transfers.device import soon

CHUNK = 1000
COUNT = 3
Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]


def file_of(*, received: list[list[int]] | None = None, verifying: list[list[int]] | None = None) -> dict[str, Any]:
    there = received or []
    return {
        "id": "f", "name": "a.bin", "size": CHUNK * COUNT, "mime": "application/octet-stream", "state": "uploading",
        "created_at": "2026-01-01T00:00:00Z", "chunk_size": CHUNK, "owner": None, "chat_id": None,
        "upload": {"chunk_size": CHUNK, "chunk_count": COUNT, "received": there, "verifying": verifying or [],
                   "received_bytes": sum((last - first + 1) * CHUNK for first, last in there), "partial": [],
                   "expires_at": "2026-02-01T00:00:00Z", "direct": None}}


class Stuck:
    """state: of the upload, for ever. chunk, completing: what those calls are answered."""

    def __init__(self, state: dict[str, Any], chunk: Answers | None = None, completing: Answers | None = None) -> None:
        self.state = state
        self.chunk = chunk
        self.completing = completing

    def speak(self, peer: Peer) -> None:
        async def say(request: web.Request) -> web.StreamResponse:
            return web.json_response(self.state)

        peer.on("/files/init", say)
        peer.on("/files/f", say)
        if self.chunk is not None:
            peer.on("/files/f/chunk", self.chunk)
        if self.completing is not None:
            peer.on("/files/f/complete", self.completing)


async def takes_it_and_has_nothing(request: web.Request) -> web.StreamResponse:
    """A proxy that takes whole bodies for a server that gets none of them."""
    if "offset" in request.query:
        return problem(409, "chunk_offset", retryable=True, have=0)
    await request.read()
    return problem(503, "busy", retryable=True)


async def says_one_thing_and_then_another(request: web.Request) -> web.StreamResponse:
    """With an offset it has nothing, without one it has some."""
    await request.read()
    return problem(409, "chunk_offset", retryable=True, have=0 if "offset" in request.query else 5)


async def asks_for_a_day(request: web.Request) -> web.StreamResponse:
    return problem(429, "rate_limited", retryable=True, headers={"Retry-After": "86400"})


async def says_that_it_is_closed(request: web.Request) -> web.StreamResponse:
    await request.read()
    return problem(409, "upload_closed")


async def misses_some(request: web.Request) -> web.StreamResponse:
    return problem(409, "chunks_missing", missing=[[0, 2]])


async def puts_it_together(request: web.Request) -> web.StreamResponse:
    return web.json_response(file_of(received=[[0, 2]]), status=202)


async def says_that_it_is_not(request: web.Request) -> web.StreamResponse:
    return web.json_response(file_of(received=[[0, 2]]))


@pytest.mark.parametrize(("server", "end"), [
    (Stuck(file_of(verifying=[[0, 2]])), TransferStalled),
    (Stuck(file_of(received=[[0, 2]]), completing=puts_it_together), TransferStalled),
    (Stuck(file_of(received=[[0, 2]]), completing=says_that_it_is_not), TransferStalled),
    (Stuck(file_of(), takes_it_and_has_nothing), TransferStalled),
    (Stuck(file_of(), says_one_thing_and_then_another), TransferStalled),
    (Stuck(file_of(), asks_for_a_day), TransferStalled),
    (Stuck(file_of(received=[[0, 2]]), completing=misses_some), CorruptTransfer),
    (Stuck(file_of(), says_that_it_is_closed, misses_some), CorruptTransfer),
], ids=["checks", "puts together", "not complete", "takes for nothing", "this and that", "asks for a day", "misses",
        "closed"])
async def test_a_server_that_comes_no_further_is_given_up(
    tmp_path: Path, server: Stuck, end: type[HyperSendError]
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * CHUNK * COUNT)
    async with serving(Peer()) as peer:
        Tokens(peer)
        server.speak(peer)
        async with HyperSend(peer.url, rand=lambda: 0.0, sleep=soon) as hs:
            await hs.login("ann@example.org", "p")
            backoff: Callable[..., Any] = hs.transport.backoff
            hs.transport.backoff = lambda first_s=0.5, most_s=30.0: backoff(0.02, 0.2)  # type: ignore[method-assign]
            transfers = Transfers(hs, tmp_path / "journal", folder=tmp_path / "Downloads",
                                  give_up_s=0.5 if end is TransferStalled else 30)
            try:
                upload = await transfers.upload(path)
                async with asyncio.timeout(30):
                    with pytest.raises(end):
                        await upload.wait()
                asked = len(peer.seen)
            finally:
                await transfers.close()
    assert asked < 150, "each time it waits a little longer"
