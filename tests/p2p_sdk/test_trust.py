"""What a server says of a transfer is not believed where a device knows better: size, name, and who stored what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.sdk.p2p_names import offered_name
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_seal import decode_key, encode_key, file_key
from hypersend_client.sdk.p2p_stored import tag_of, vouch_of
from hypersend_client.sdk.transfer_errors import Tampered
from hypersend_server.files.names import clean_name
from tests.harness import Server, running
from tests.p2p_sdk.hostile import Hostile, hostile_to
from tests.p2p_sdk.pairs import LIMIT_S, Pair, pair, until
from tests.sdk_transfers.device import MIB, device, digest, leftovers

MALLORY = X25519PrivateKey.generate()
LIES: list[dict[str, Any]] = [{"size": 1500}, {"size": 2500}, {"name": "holiday.exe"}, {"name": "other.jpg"}]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def hostile(server: Server) -> AsyncIterator[Hostile]:
    async with hostile_to(server.url) as hostile:
        yield hostile


@pytest.fixture
async def two(tmp_path: Path, hostile: Hostile) -> AsyncIterator[Pair]:
    """It lies to both."""
    async with pair(tmp_path / "people", hostile.url, hostile.url) as two:
        yield two


def of_transfers(**lie: Any) -> Callable[[str, Any], Any]:
    """Of every transfer in any answer."""

    def answer(path: str, found: Any) -> Any:
        if isinstance(found, dict) and "sender_key" in found:
            return {**found, **lie}
        if isinstance(found, dict) and isinstance(found.get("items"), list):
            return {**found, "items": [answer(path, item) for item in found["items"]]}
        return found

    return answer


@pytest.mark.parametrize("lie", LIES)
async def test_size_or_name_that_the_server_tells_both_ends_wrongly_is_noticed_by_the_sender(
    two: Pair, hostile: Hostile, lie: dict[str, Any]
) -> None:
    path = two.asha.file("holiday.jpg", 2000)
    hostile.answer = of_transfers(**lie)
    with pytest.raises(Tampered):
        await two.asha.hs.p2p.send(two.chat_id, path)
    assert two.asha.hs.p2p.sending == {}


@pytest.mark.parametrize("lie", LIES)
async def test_size_or_name_that_the_server_tells_wrongly_later_is_noticed_when_it_goes_on(
    two: Pair, hostile: Hostile, lie: dict[str, Any]
) -> None:
    path = two.asha.file("holiday.jpg", 2000)
    asha = two.asha.hs.p2p
    sending = await asha.send(two.chat_id, path)
    await sending.stop()
    asha.sending.clear()
    hostile.answer = of_transfers(**lie)
    [again] = await asha.resume()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await again.wait()
    with pytest.raises(Tampered):
        await asha.store(sending.transfer_id)


@given(st.text(max_size=300) | st.text(st.sampled_from("ab. /\\\u202e\u200dé\u0301\n\u0000"), max_size=400))
def test_name_is_offered_as_every_server_keeps_it(name: str) -> None:
    assert offered_name(name) == clean_name(name)
    assert offered_name(offered_name(name)) == offered_name(name)


# Instead of the sealed file


async def stored_file(two: Pair, name: str, size: int) -> str:
    """A file on the server that is as large and called as what is sent, of the same owner, and another one."""
    path = two.asha.home / "others"
    path.write_bytes(b"x" * size)
    upload = await two.asha.transfers.upload(path, name=name, chat_id=two.chat_id)
    file = await upload.wait()
    await two.asha.hs.messages.send(two.chat_id, "", file_ids=[file.id], client_id="others")
    return file.id


async def paused_half_way(two: Pair, path: Path) -> PeerReceiver:
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > MIB)
    await receiving.stop()
    await sending.stop()
    return receiving


async def own_vouch(two: Pair, transfer_id: str, name: str, size: int) -> dict[str, Any]:
    """What the server can make with a key of its own."""
    key = file_key(MALLORY, decode_key(await two.ben.hs.p2p.public_key()), transfer_id)
    tag = await tag_of(str(two.asha.home / "others"), key, two.ben.hs.p2p._pool, size)
    public = encode_key(MALLORY.public_key().public_bytes_raw())
    return {"sender_key": public, "vouch": vouch_of(key, tag, name, size)}


@pytest.mark.parametrize("claim", ["no word of the sender", "a word of its own", "a word under a key of its own"])
async def test_server_that_puts_a_file_of_its_own_in_the_place_of_a_sealed_one_is_noticed(
    two: Pair, hostile: Hostile, claim: str
) -> None:
    size = 12 * MIB
    path = two.asha.file("film.mkv", size)
    file_id = await stored_file(two, "film.mkv", size)
    receiving = await paused_half_way(two, path)
    lie: dict[str, Any] = {"status": "cancelled", "file_id": file_id}
    if claim == "a word of its own":
        lie["vouch"] = "0" * 64
    elif claim == "a word under a key of its own":
        lie |= await own_vouch(two, receiving.transfer_id, "film.mkv", size)
    hostile.answer = of_transfers(**lie)
    receiving.start()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert receiving.came_through_server
    assert not receiving.is_vouched
    assert not (two.ben.home / "Downloads" / "film.mkv").exists()


@pytest.mark.parametrize("other", [{"name": "film.exe"}, {"size": 100}, {"owner_id": "somebody"}])
async def test_stored_file_that_is_not_the_one_of_the_offer_costs_nothing_of_what_is_there(
    two: Pair, hostile: Hostile, other: dict[str, Any]
) -> None:
    size = 12 * MIB
    path = two.asha.file("film.mkv", size)
    file_id = await stored_file(two, "film.mkv", size)
    receiving = await paused_half_way(two, path)
    kept = receiving.part().path.stat().st_size
    lying = of_transfers(status="cancelled", file_id=file_id, vouch="0" * 64)
    hostile.answer = lambda where, found: (
        {**found, **other} if where == f"/api/v1/files/{file_id}" else lying(where, found))
    receiving.start()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Tampered):
            await receiving.wait()
    assert receiving.part().path.stat().st_size == kept
    assert not (two.ben.home / "Downloads" / "film.mkv").exists()


async def test_word_of_the_sender_for_what_it_stored_is_checked_before_the_file_has_its_name(two: Pair) -> None:
    path = two.asha.file("film.mkv", 12 * MIB)
    receiving = await paused_half_way(two, path)
    upload = await two.asha.hs.p2p.store(receiving.transfer_id)
    receiving.start()
    async with asyncio.timeout(LIMIT_S):
        await upload.wait()
        assert digest(await receiving.wait()) == digest(path)
    assert (receiving.came_through_server, receiving.is_vouched) == (True, True)
    assert leftovers(two.ben.home / "Downloads") == []
    await two.ben.transfers.close()
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:  # whoever asks once more gets it no less checked
        again = await ben.hs.p2p.receive(receiving.transfer_id)
        async with asyncio.timeout(LIMIT_S):
            assert digest(await again.wait()) == digest(path)
        assert again.is_vouched


async def test_what_was_stored_before_anybody_accepted_is_told_from_what_came_sealed(two: Pair) -> None:
    path = two.asha.file("film.mkv", 5000)
    sending = await two.asha.hs.p2p.send(two.chat_id, path)
    await (await two.asha.hs.p2p.store(sending.transfer_id)).wait()
    receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
    async with asyncio.timeout(LIMIT_S):
        assert digest(await receiving.wait()) == digest(path)
    assert (receiving.came_through_server, receiving.is_vouched) == (True, False)
