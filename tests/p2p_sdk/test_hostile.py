"""A relay that tries each attack is noticed by the devices, and no damaged file ever gets its name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hypersend_client.sdk.errors import ConnectionFailed, HyperSendError
from hypersend_client.sdk.journal import Journal
from hypersend_client.sdk.p2p_end import PeerEnd
from hypersend_client.sdk.p2p_seal import encode_key
from hypersend_client.sdk.p2p_sender import PeerSender
from hypersend_client.sdk.transfer_errors import KeyMissing, PeerEnded, PeerFailed, Tampered
from tests.harness import Server, running
from tests.p2p_sdk.hostile import Frame, Hostile, hostile_to
from tests.p2p_sdk.pairs import LIMIT_S, Pair, both, pair, until
from tests.sdk_transfers.device import MIB, digest

FALSE_KEY = encode_key(X25519PrivateKey.generate().public_key().public_bytes_raw())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def hostile(server: Server) -> AsyncIterator[Hostile]:
    async with hostile_to(server.url) as hostile:
        yield hostile


@pytest.fixture
async def two(tmp_path: Path, server: Server, hostile: Hostile) -> AsyncIterator[Pair]:
    """It is Ben, the receiver, to whom it lies."""
    async with pair(tmp_path / "people", server.url, hostile.url) as two:
        yield two


class Counted:
    """Does something to the sixth binary frame."""

    def __init__(self, change: Callable[[bytes], list[Frame]]) -> None:
        self._change = change
        self._count = 0

    def __call__(self, frame: Frame) -> list[Frame]:
        if isinstance(frame, bytes):
            self._count += 1
            if self._count == 6:
                return self._change(frame)
        return [frame]


class Swapped:
    """The sixth and the seventh change places."""

    def __init__(self) -> None:
        self._count = 0
        self._held: Frame = b""

    def __call__(self, frame: Frame) -> list[Frame]:
        if isinstance(frame, bytes):
            self._count += 1
            if self._count == 6:
                self._held = frame
                return []
            if self._count == 7:
                return [frame, self._held]
        return [frame]


def changed(**fields: Any) -> Callable[[Frame], list[Frame]]:
    """Fields of the greeting."""

    def change(frame: Frame) -> list[Frame]:
        if isinstance(frame, str):
            found = json.loads(frame)
            if found["type"] in ("hello", "ready"):
                return [json.dumps({**found, **fields})]
        return [frame]

    return change


def flipped(frame: bytes) -> list[Frame]:
    return [frame[:5000] + bytes([frame[5000] ^ 1]) + frame[5001:]]


ATTACKS: dict[str, Callable[[], Callable[[Frame], list[Frame]]]] = {
    "tamper": lambda: Counted(flipped),
    "leave out": lambda: Counted(lambda frame: []),
    "repeat": lambda: Counted(lambda frame: [frame, frame]),
    "reorder": Swapped,
    "truncate": lambda: Counted(lambda frame: [frame[:-1]]),
    "another offset": lambda: Counted(lambda frame: [frame[:1] + bytes(8) + frame[9:]]),
    "another kind": lambda: Counted(lambda frame: [b"\x01" + frame[1:]]),
    "inject": lambda: Counted(lambda frame: [b"\x00" * 200, frame]),
    "swap the sender's key": lambda: changed(key=FALSE_KEY),
    "another cipher": lambda: changed(cipher="chacha20-poly1305"),
}


async def fails(two: Pair, path: Path) -> tuple[HyperSendError, HyperSendError]:
    """How it ends on both sides: (sender's, receiver's error). The file never gets its name."""
    sending, receiving = await two.begin(path)
    async with asyncio.timeout(LIMIT_S):
        found = await asyncio.gather(sending.wait(), receiving.wait(), return_exceptions=True)
    assert not (two.ben.home / "Downloads" / path.name).exists()
    assert isinstance(found[0], HyperSendError)
    assert isinstance(found[1], HyperSendError)
    return found[0], found[1]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_on_the_frames_stops_the_transfer(two: Pair, hostile: Hostile, attack: str) -> None:
    hostile.down = ATTACKS[attack]()
    sender, receiver = await fails(two, two.asha.file("film.mkv", 2 * MIB))
    assert isinstance(receiver, Tampered)
    assert isinstance(sender, PeerFailed)
    assert sender.reason == "tampered"


async def test_fail_that_never_came_to_the_relay_is_said_by_another_way_until_the_server_hears_it(
    two: Pair, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.down = ATTACKS["tamper"]()
    hostile.up = lambda frame: [] if isinstance(frame, str) and '"fail"' in frame else [frame]
    calls, refused = two.ben.hs.p2p.calls, 0
    cancel = calls.cancel

    async def cancel_later(transfer_id: str) -> Any:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise ConnectionFailed("the database is away")
        return await cancel(transfer_id)

    monkeypatch.setattr(calls, "cancel", cancel_later)
    sender, receiver = await fails(two, two.asha.file("film.mkv", 2 * MIB))
    assert isinstance(receiver, Tampered)
    assert isinstance(sender, PeerEnded)
    assert sender.status == "cancelled"
    assert refused == 3


async def test_end_that_is_not_told_of_the_other_one_looks_again(
    two: Pair, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PeerEnd, "apart_s", 0.5)
    untold = 0

    def down(frame: Frame) -> list[Frame]:
        nonlocal untold
        if isinstance(frame, str) and '"peer"' in frame and untold < 2:
            untold += 1
            return []
        return [frame]

    hostile.down = down
    path = two.asha.file("film.mkv", MIB)
    assert digest(await both(*await two.begin(path))) == digest(path)
    assert untold == 2


@pytest.mark.parametrize("fields", [{"key": FALSE_KEY}, {"offset": 65_536}])
async def test_changing_what_the_receiver_says_stops_the_transfer(
    two: Pair, hostile: Hostile, fields: dict[str, Any]
) -> None:
    hostile.up = changed(**fields)
    _, receiver = await fails(two, two.asha.file("film.mkv", 2 * MIB))
    assert isinstance(receiver, Tampered)


async def test_frame_that_is_turned_back_is_noticed(two: Pair, hostile: Hostile) -> None:
    two.ben.hs.p2p.direct = True  # so that the receiver seals something, too

    def up(frame: Frame) -> list[Frame]:
        if isinstance(frame, bytes):
            hostile.back.append(frame)
        return [frame]

    hostile.up = up
    _, receiver = await fails(two, two.asha.file("film.mkv", 2 * MIB))
    assert isinstance(receiver, Tampered)


async def test_whole_round_that_is_played_again_is_noticed(two: Pair, hostile: Hostile) -> None:
    recorded: list[Frame] = []
    state = {"round": 0}

    def down(frame: Frame) -> list[Frame]:
        kind = json.loads(frame)["type"] if isinstance(frame, str) else "sealed"
        if isinstance(frame, str) and kind == "hello":
            state["round"] += 1
            if state["round"] == 2:
                first = json.loads(str(recorded[0]))
                return [json.dumps({**first, "round": json.loads(frame)["round"]}), *recorded[1:]]
        if state["round"] == 1:
            if isinstance(frame, bytes) and len(recorded) >= 8:
                return []
            if kind in ("hello", "sealed"):
                recorded.append(frame)
        return [frame]

    hostile.down = down
    sending, receiving = await two.begin(two.asha.file("film.mkv", 2 * MIB))
    async with asyncio.timeout(LIMIT_S):
        while len(recorded) < 8 or not receiving.verified_bytes:
            await asyncio.sleep(0.01)
        sending.pause()
        while sending.state != "paused" or receiving.state != "waiting":
            await asyncio.sleep(0.01)
        sending.resume()
        with pytest.raises(Tampered):
            await receiving.wait()
    await sending.stop()


async def test_keys_that_the_server_swaps_are_noticed_and_change_the_safety_number(
    two: Pair, hostile: Hostile
) -> None:
    def answer(path: str, found: Any) -> Any:
        return {**found, "sender_key": FALSE_KEY} if "sender_key" in found else found

    hostile.answer = answer
    path = two.asha.file("film.mkv", 2 * MIB)
    sending, receiving = await two.begin(path)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert sending.safety_number is not None
    assert sending.safety_number != receiving.safety_number
    await sending.stop()


async def test_key_that_changes_after_they_have_met_stops_the_transfer(two: Pair, hostile: Hostile) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 2 * MIB
    sending, receiving = await two.begin(two.asha.file("film.mkv", 64 * MIB))
    await until(lambda: receiving.verified_bytes > 0)
    receiving.pause()
    await until(lambda: receiving.state == "paused")
    rounds = receiving.rounds
    hostile.answer = lambda path, found: {**found, "sender_key": FALSE_KEY} if "sender_key" in found else found
    receiving.resume()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert receiving.rounds == rounds  # before anything is said to it
    await sending.stop()


async def test_own_key_that_the_server_tells_wrongly_is_noticed_before_a_byte_moves(
    two: Pair, hostile: Hostile
) -> None:
    hostile.answer = lambda path, found: (
        {**found, "receiver_key": FALSE_KEY} if found.get("receiver_key") else found)
    sending, receiving = await two.begin(two.asha.file("film.mkv", 1000))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert receiving.rounds == 0
    await sending.stop()


async def test_server_without_keys_is_refused(two: Pair, hostile: Hostile) -> None:
    hostile.answer = lambda path, found: {**found, "sender_key": None} if "sender_key" in found else found
    sending, receiving = await two.begin(two.asha.file("film.mkv", 1000))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(KeyMissing):
            await receiving.wait()
    await sending.stop()


@pytest.mark.parametrize("lie", [
    {"status": "done"}, {"status": "done", "size": 0}, {"status": "done", "size": 3 * MIB}])
async def test_server_that_says_done_makes_no_file(two: Pair, hostile: Hostile, lie: dict[str, Any]) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    sending, receiving = await two.begin(two.asha.file("film.mkv", 64 * MIB))
    await until(lambda: receiving.verified_bytes > 2 * MIB)
    receiving.pause()
    await until(lambda: receiving.state == "paused")
    hostile.answer = lambda path, found: {**found, **lie} if path.startswith("/api/v1/p2p/status") else found
    receiving.resume()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises((PeerEnded, Tampered)):
            await receiving.wait()
    await sending.stop()
    assert not (two.ben.home / "Downloads" / "film.mkv").exists()
    assert not await _has_met(two)


async def test_empty_file_needs_its_senders_word(two: Pair, hostile: Hostile) -> None:
    hostile.answer = lambda path, found: (
        {**found, "status": "done"} if path.startswith("/api/v1/p2p/status") and found["status"] != "offered"
        else found)
    hostile.down = lambda frame: [] if isinstance(frame, bytes) else [frame]
    sending, receiving = await two.begin(two.asha.file("empty", 0))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(PeerEnded):
            await receiving.wait()
    await sending.stop()
    assert not (two.ben.home / "Downloads" / "empty").exists()


async def _has_met(two: Pair) -> bool:
    """Whether Ben's device would warn of another one of Asha's."""
    info = replace((await two.asha.hs.p2p.open())[0], sender_key=FALSE_KEY)
    return await two.ben.hs.p2p.is_new_device(info)


async def test_name_that_the_server_changes_is_noticed_on_either_side(
    two: Pair, hostile: Hostile, server: Server, tmp_path: Path
) -> None:
    def answer(path: str, found: Any) -> Any:
        return {**found, "name": "holiday.exe"} if isinstance(found, dict) and found.get("name") else found

    hostile.answer = answer
    sending, receiving = await two.begin(two.asha.file("holiday.jpg", 1000))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    await sending.stop()
    assert not (two.ben.home / "Downloads" / "holiday.exe").exists()
    with pytest.raises(Tampered):  # Ben sends through the same server
        await two.ben.hs.p2p.send(two.chat_id, two.ben.file("picture.jpg", 1000))


async def test_safety_numbers_are_of_the_keys_that_sealed_and_not_of_what_the_server_tells_later(
    two: Pair, hostile: Hostile
) -> None:
    """A server in the middle: its own key while they meet, the true one wherever numbers might be looked up."""
    hostile.answer = lambda path, found: (
        {**found, "sender_key": FALSE_KEY}
        if isinstance(found, dict) and found.get("sender_key") and "/history" not in path else found)
    sending, receiving = await two.begin(two.asha.file("film.mkv", 1000))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    [theirs] = await two.ben.hs.p2p.safety_numbers(two.chat_id)
    [ours] = await two.asha.hs.p2p.safety_numbers(two.chat_id)
    assert theirs.number == receiving.safety_number
    assert theirs.number != ours.number
    assert (theirs.file_name, ours.file_name) == ("film.mkv", "film.mkv")
    await sending.stop()


async def test_key_that_changes_between_the_question_and_the_acceptance_is_refused(
    two: Pair, hostile: Hostile
) -> None:
    await both(*await two.begin(two.asha.file("first.mkv", 1000)))
    sending = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("second.mkv", 1000))
    ben = two.ben.hs.p2p
    shown = await ben.next()
    number = await ben.number_for(shown)
    hostile.answer = lambda path, found: (
        {**found, "sender_key": FALSE_KEY} if isinstance(found, dict) and found.get("sender_key") else found)
    receiving = await ben.receive(shown.id, sender_key=shown.sender_key)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert receiving.rounds == 0
    assert [known.number for known in await ben.safety_numbers(two.chat_id)] == [number]
    await sending.stop()


async def test_id_that_is_a_path_leads_nowhere(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "in" / "transfers.sqlite")
    try:
        async with journal.lock("p2p-receiver-x/../../../planted", "film.mkv"):
            pass
    finally:
        await journal.close()
    assert [path.name for path in tmp_path.rglob("*planted*")] == ["p2p-receiver-xplanted"]
    assert (tmp_path / "in" / "transfers.sqlite.locks" / "p2p-receiver-xplanted").exists()


async def test_sender_does_not_believe_a_server_that_says_done(tmp_path: Path, server: Server) -> None:
    async with hostile_to(server.url) as hostile, pair(tmp_path / "people", hostile.url, server.url) as two:
        hostile.down = lambda frame: ['{"type": "done"}'] if isinstance(frame, str) and '"ready"' in frame else [frame]
        sending, receiving = await two.begin(two.asha.file("film.mkv", 1000))
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(Tampered):
                await sending.wait()
        await receiving.stop()


async def test_relay_sees_nothing_of_the_content(two: Pair, hostile: Hostile) -> None:
    seen = bytearray()

    def down(frame: Frame) -> list[Frame]:
        seen.extend(frame if isinstance(frame, bytes) else frame.encode())
        return [frame]

    hostile.down = down
    path = two.asha.home / "letter.txt"
    path.write_bytes(b"nobody else shall read this. " * 5000)
    found = await both(*await two.begin(path))
    assert digest(found) == digest(path)
    assert len(seen) > 140_000
    assert b"nobody else" not in seen


@pytest.mark.parametrize("more", [70_000, -70_000])
async def test_sender_that_sends_another_size_than_it_offered_is_refused(
    two: Pair, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    meet = PeerSender._meet
    calls = two.asha.hs.p2p.calls  # of a sender that tells itself another size than the server
    offer, get = calls.offer, calls.get

    async def false_offer(chat_id: str, name: str, size: int, **options: Any) -> Any:
        return replace(await offer(chat_id, name, size - more, **options), size=size)

    async def false_get(transfer_id: str) -> Any:
        found = await get(transfer_id)
        return replace(found, size=found.size + more)

    async def false_meet(self: PeerSender, *arguments: Any) -> None:
        self.size_bytes = self.row.identity.size
        await meet(self, *arguments)

    monkeypatch.setattr(calls, "offer", false_offer)
    monkeypatch.setattr(calls, "get", false_get)
    monkeypatch.setattr(PeerSender, "_meet", false_meet)
    _, receiver = await fails(two, two.asha.file("film.mkv", 3 * MIB))
    assert isinstance(receiver, PeerFailed)
    assert receiver.reason == "wrong_size"
