from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from hypersend_client.sdk import (
    Account,
    FileTokenStore,
    KeyringTokenStore,
    LocalStorageFailed,
    MemoryTokenStore,
    TokenStore,
)

ANN = Account("s1", "ann", "https://one.example", "session", "access", "refresh", "ann@example.org", "ann", "Ann")
BOB = replace(ANN, user_id="bob", username="bob", access_token="access-b")
ELSEWHERE = replace(ANN, server_id="s2", url="https://two.example")


class Keyring:
    """A keyring in memory, with the interface of the package `keyring`."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        return self.secrets.get((service, name))

    def set_password(self, service: str, name: str, secret: str) -> None:
        self.secrets[service, name] = secret

    def delete_password(self, service: str, name: str) -> None:
        del self.secrets[service, name]


@pytest.fixture(params=["memory", "file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TokenStore:
    if request.param == "memory":
        return MemoryTokenStore()
    if request.param == "file":
        return FileTokenStore(tmp_path / "tokens.json")
    return KeyringTokenStore(tmp_path / "tokens.json", Keyring())


async def test_several_servers_and_accounts_are_kept_apart(store: TokenStore) -> None:
    for account in (ANN, BOB, ELSEWHERE):
        await store.put(account)
    assert await store.accounts() == [ELSEWHERE, BOB, ANN], "the one used last comes first"
    await store.put(replace(ANN, access_token="new"))
    assert (await store.accounts())[0].access_token == "new"
    await store.remove(*BOB.key)
    assert await store.get(*BOB.key) is None
    assert await store.get(*ELSEWHERE.key) == ELSEWHERE


async def test_one_refreshes_at_a_time_and_a_cancelled_one_leaves_no_lock(store: TokenStore) -> None:
    inside: list[str] = []
    began = asyncio.Event()

    async def refresh(name: str) -> None:
        async with store.refreshing("s1", "ann"):
            inside.append(name)
            began.set()
            await asyncio.sleep(0.02)
            inside.append(name)

    first = asyncio.create_task(refresh("first"))
    await began.wait()
    waiting = asyncio.create_task(refresh("cancelled"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(first, waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        await asyncio.gather(refresh("a"), refresh("b"))
    assert inside in (["first"] * 2 + ["a"] * 2 + ["b"] * 2, ["first"] * 2 + ["b"] * 2 + ["a"] * 2)


async def test_programs_that_write_at_once_lose_no_account(tmp_path: Path) -> None:
    stores = [FileTokenStore(tmp_path / "tokens.json") for _ in range(8)]
    await asyncio.gather(*(s.put(replace(ANN, user_id=str(n))) for n, s in enumerate(stores)))
    assert {a.user_id for a in await stores[0].accounts()} == set("01234567")


async def test_with_a_keyring_no_token_is_in_the_file(tmp_path: Path) -> None:
    keyring = Keyring()
    store = KeyringTokenStore(tmp_path / "tokens.json", keyring)
    await store.put(ANN)
    assert "access" not in json.loads((tmp_path / "tokens.json").read_text())["accounts"][0].values()
    assert list(keyring.secrets) == [("HyperSend", "s1/ann")]
    await store.remove(*ANN.key)
    assert keyring.secrets == {}


async def test_a_disk_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStorageFailed):
        await FileTokenStore(tmp_path / "file" / "tokens.json").put(ANN)


async def test_a_file_that_cannot_be_read_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    broken = ["{broken", "[]", '{"version": 2, "accounts": {"ann": 1}}', '{"accounts": [{"user_id": 7}]}']
    for content in broken:
        (tmp_path / "tokens.json").write_text(content)
        assert await store.accounts() == []
        await store.put(ANN)
        await store.put(BOB)
        assert await store.accounts() == [BOB, ANN]
    kept = [(tmp_path / f"tokens.json.damaged{number}").read_text() for number in ("", 2, 3, 4)]
    assert kept == broken


def test_an_account_shows_no_token_in_a_log() -> None:
    assert "access" not in repr(ANN)
    assert "refresh" not in f"{ANN}"
