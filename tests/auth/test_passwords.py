from __future__ import annotations

import asyncio
import threading

import bcrypt
import pytest

from hypersend_server.auth.passwords import Passwords
from hypersend_server.errors import HyperSendError


@pytest.fixture
async def passwords() -> Passwords:
    return Passwords(rounds=4)


async def test_long_passwords_differ_beyond_72_bytes(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 200 + "a")
    assert stored.startswith("$bcrypt-sha256$")
    assert await passwords.verify("x" * 200 + "a", stored) == (True, None)
    assert await passwords.verify("x" * 200 + "b", stored) == (False, None)


@pytest.mark.parametrize("password", ["nul\0in the middle", "पासवर्ड बहुत लंबा", "😀" * 64])
async def test_any_text_can_be_a_password(passwords: Passwords, password: str) -> None:
    assert (await passwords.verify(password, await passwords.hash(password)))[0]


async def test_composed_and_decomposed_accents_are_the_same_password(passwords: Passwords) -> None:
    assert (await passwords.verify("cafe\u0301 au lait", await passwords.hash("caf\u00e9 au lait")))[0]


async def test_older_hashes_are_taken_and_renewed(passwords: Passwords) -> None:
    plain = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    right, renewed = await passwords.verify("correct horse", plain)
    assert right
    assert renewed is not None
    assert await passwords.verify("correct horse", renewed) == (True, None)
    weaker = await passwords.hash("correct horse")
    right, renewed = await Passwords(rounds=5).verify("correct horse", weaker)
    assert right
    assert renewed is not None
    assert ",r=5$" in renewed


async def test_nobodys_password_is_never_right_but_hashed_all_the_same(passwords: Passwords) -> None:
    assert passwords._context.identify(passwords._nobody) == "bcrypt_sha256"
    for password in ("", "password", "abc"):
        assert (await passwords.verify(password, None))[0] is False


async def test_a_full_line_is_refused_and_the_loop_stays_free() -> None:
    passwords = Passwords(rounds=4, threads=1, max_waiting=2)
    gate, started = threading.Event(), threading.Event()

    def slow() -> int:
        started.set()
        assert gate.wait(10)
        return 1

    waiting = [asyncio.create_task(passwords._run(slow)) for _ in range(3)]
    await asyncio.to_thread(started.wait, 10)
    with pytest.raises(HyperSendError) as caught:
        await passwords.hash("one too many")
    assert caught.value.code == "busy"
    assert caught.value.kind.status == 503
    waiting[2].cancel()  # somebody who gave up makes room
    await asyncio.gather(waiting[2], return_exceptions=True)
    gate.set()
    assert await asyncio.gather(*waiting[:2]) == [1, 1]
    assert await passwords.hash("room again")
