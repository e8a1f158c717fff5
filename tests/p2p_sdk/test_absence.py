"""A device that is silent for a while, without its connections being closed: asleep, or out of reach."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.sdk import p2p_line
from hypersend_client.sdk.p2p_digest import RunningTag
from hypersend_client.sdk.p2p_end import PeerEnd
from hypersend_server.p2p import relay
from tests.harness import running
from tests.p2p_sdk.pairs import both, pair, until
from tests.p2p_sdk.process import LIMIT_S, End
from tests.sdk_transfers.device import MIB, digest, leftovers
from tests.sdk_transfers.line import line_to

DARK_S = 30.0


async def test_receiver_that_slept_longer_than_the_relay_waits_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SILENCE_S", 2.0)
    async with running(tmp_path / "data", RATE_LIMITS="off") as server, line_to(server.url) as line:
        line.bytes_per_s = 16 * MIB
        async with pair(tmp_path / "people", server.url, line.url) as two:
            path = two.asha.file("film.mkv", 48 * MIB)
            offer = await two.asha.hs.p2p.send(two.chat_id, path)
            await offer.stop()
        folder = tmp_path / "people" / "received"
        sender = End(tmp_path / "people" / "asha", server.url, "send", two.chat_id, path, "relay")
        receiver = End(tmp_path / "people" / "ben", line.url, "receive", offer.transfer_id, folder, "relay")
        await asyncio.gather(sender.start(), receiver.start())
        await receiver.until_bytes(8 * MIB)
        assert receiver._process is not None
        os.kill(receiver._process.pid, signal.SIGSTOP)
        seen = len(sender.states)
        try:
            async with asyncio.timeout(LIMIT_S):
                while "waiting" not in sender.states[seen:]:  # the relay has let it go
                    await asyncio.sleep(0.1)
        finally:
            os.kill(receiver._process.pid, signal.SIGCONT)
        line.bytes_per_s = None
        await asyncio.gather(sender.wait(), receiver.wait())
        assert digest(folder / "film.mkv") == digest(path)
        assert leftovers(folder) == []


async def test_half_a_minute_without_a_network_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server, line_to(server.url) as line:
        line.bytes_per_s = 16 * MIB
        async with pair(tmp_path / "people", server.url, line.url) as two:
            path = two.asha.file("film.mkv", 48 * MIB)
            sending, receiving = await two.begin(path)
            await until(lambda: receiving.verified_bytes > 8 * MIB)
            line.is_dark = True
            await asyncio.sleep(DARK_S)
            before = receiving.verified_bytes
            assert before < 48 * MIB
            line.is_dark, line.bytes_per_s = False, None
            assert digest(await both(sending, receiving)) == digest(path)


async def test_who_compares_a_large_file_for_long_is_not_taken_for_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SILENCE_S", 2.0)
    monkeypatch.setattr(p2p_line, "PULSE_S", 0.2)
    whole = RunningTag.whole

    async def slowly(tag: RunningTag, size: int) -> str:
        await asyncio.sleep(4.0)
        return await whole(tag, size)

    monkeypatch.setattr(RunningTag, "whole", slowly)
    async with (
        running(tmp_path / "data", RATE_LIMITS="off") as server,
        pair(tmp_path / "people", server.url, server.url) as two,
    ):
        path = two.asha.file("film.mkv", MIB)
        sending, receiving = await two.begin(path)
        assert digest(await both(sending, receiving)) == digest(path)
        assert (sending.rounds, receiving.rounds) == (1, 1)


async def test_who_waits_for_the_other_device_looks_for_it_again_and_shows_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may be connected, and the relay of one not know of the other."""
    monkeypatch.setattr(PeerEnd, "apart_s", 0.2)
    async with (
        running(tmp_path / "data", RATE_LIMITS="off") as server,
        pair(tmp_path / "people", server.url, server.url) as two,
    ):
        http, opened, states = two.asha.hs.transport, 0, []
        upgrade = http.upgrade

        async def counted(path: str, token: str) -> Any:
            nonlocal opened
            opened += 1
            return await upgrade(path, token)

        monkeypatch.setattr(http, "upgrade", counted)
        path = two.asha.file("film.mkv", MIB)
        sending, receiving = await two.begin(path)
        receiving.pause()
        await until(lambda: sending.state == "waiting")
        already = opened
        sending.on_progress(lambda progress: states.append((progress.state, progress.error and progress.error.code)))
        await until(lambda: opened >= already + 3)
        assert set(states) == {("waiting", "peer_away")}
        receiving.resume()
        assert digest(await both(sending, receiving)) == digest(path)
