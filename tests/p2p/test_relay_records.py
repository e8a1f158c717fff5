"""The relay and what is written of a transfer: a database that is slow or away, claims, and other processes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import PARTS, RELAY
from hypersend_server.errors import HyperSendError
from hypersend_server.p2p import relay, wire
from tests.harness import Server, running
from tests.p2p.pair import KEY, begun, end, meet, pair


async def test_who_is_left_hears_it_though_the_database_is_slow(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await begun(both, transfer["id"])
    await both.until(transfer["id"], "active")
    transfers, go = server.app[PARTS].transfers, asyncio.Event()
    moved = transfers.moved

    async def slow(*arguments: Any) -> None:
        await go.wait()
        await moved(*arguments)

    monkeypatch.setattr(transfers, "moved", slow)
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    try:
        async with asyncio.timeout(5):
            assert (await sender.until("peer"))["present"] is False
        assert (await both.status(transfer["id"]))["status"] == "active"
    finally:
        go.set()
    await both.until(transfer["id"], "paused")


async def test_an_end_that_came_back_before_its_leaving_was_written_is_greeted_once_and_stays_active(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, number = await meet(both, transfer["id"])
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    await receiver.send(type="ack", offset=10)  # written at once
    await receiver.send(type="ack", offset=400)  # not yet
    while (await sender.until("ack"))["offset"] < 400:
        pass
    await both.until(transfer["id"], "active")
    transfers, came, go, left = server.app[PARTS].transfers, asyncio.Event(), asyncio.Event(), asyncio.Event()
    progressed, moves = transfers.progressed, []

    async def slow(*arguments: Any) -> None:
        came.set()
        await go.wait()
        await progressed(*arguments)
        left.set()

    async def moved(transfer_id: str, status: str) -> None:
        moves.append(status)

    monkeypatch.setattr(transfers, "progressed", slow)
    monkeypatch.setattr(transfers, "moved", moved)
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await came.wait()
    again = await end(both.ben, "receiver", transfer["id"])
    assert (await again.until("peer"))["round"] == number + 1
    go.set()
    await left.wait()
    await again.send(type="ready", round=number + 1, key=KEY, offset=400)
    heard = []
    while not heard or heard[-1]["type"] != "ready":
        heard.append(await sender.text())
    assert [(frame["type"], frame["round"]) for frame in heard] == [
        ("peer", None), ("peer", number + 1), ("ready", number + 1)]
    assert moves == []
    assert (await both.status(transfer["id"]))["status"] == "active"


@pytest.mark.parametrize("frame", [{"type": "cancel"}, {"type": "fail", "code": "tampered"}])
async def test_the_other_end_hears_that_it_is_over_also_where_that_cannot_be_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, frame: dict[str, str]
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await meet(both, transfer["id"])
    monkeypatch.setattr(server.app[PARTS].transfers, "finished", _database_away)
    await receiver.send(**frame)
    assert await sender.text() == frame
    assert await receiver.closed() == 1011
    assert (await sender.until("peer"))["present"] is False


async def test_done_is_told_only_once_it_is_written(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await begun(both, transfer["id"])
    await both.until(transfer["id"], "active")
    with monkeypatch.context() as patch:
        patch.setattr(server.app[PARTS].transfers, "finished", _database_away)
        await receiver.send(type="done")
        assert await receiver.closed() == 1011
    assert await sender.text() == {"type": "peer", "present": False, "round": None}
    await both.asha.post(f"/p2p/{transfer['id']}/cancel")  # and not by what ends it in another way
    with pytest.raises(ConnectionError, match=str(wire.OVER)):
        await sender.text()


async def _database_away(*arguments: Any) -> None:
    raise HyperSendError("metadata_unavailable")


async def test_claims_are_renewed_together_and_after_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CLAIM_MS", 600)
    async with running(tmp_path) as server:
        both = await pair(server)
        ends = []
        for number in range(3):
            transfer = await both.accepted(client_id=f"k{number}")
            ends.append(await end(both.asha, "sender", transfer["id"]))
            await ends[-1].until("joined")
        together = asyncio.Barrier(3)

        async def broken(*arguments: Any) -> str:
            if not together.broken:
                await together.wait()
                await together.abort()
                raise RuntimeError("nobody thought of this")
            return "another process"

        async with asyncio.timeout(10):
            monkeypatch.setattr(server.app[RELAY], "_claim", broken)
            assert [await each.closed() for each in ends] == [wire.STOPPING] * 3


@pytest.mark.parametrize("place", ["here:another", "http://gone.invalid:8000", "a socket that takes nobody in"])
async def test_an_end_does_not_wait_for_a_process_that_cannot_be_reached(server: Server, place: str) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    with contextlib.ExitStack() as stack:
        if " " in place:
            place = stack.enter_context(_full_socket())
        parts = server.app[PARTS]
        now = parts.clock()
        await parts.metadata.transfers.claim(transfer["id"], place, now, now + 600_000)
        async with asyncio.timeout(10):
            sender, receiver, _ = await meet(both, transfer["id"])
        assert not sender.ws.closed
        assert not receiver.ws.closed


@contextlib.contextmanager
def _full_socket() -> Iterator[str]:
    """An address where a connection is neither taken nor refused, as that of a machine that is off."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # more than the kernel keeps for a server that takes none
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
