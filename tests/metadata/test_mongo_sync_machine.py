"""The machine of `tests/chats/test_sync_machine.py` over two instances on one MongoDB, taken in turns."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis.stateful import initialize, run_state_machine_as_test

import hypersend_server.metadata.mongo.chats_sync as chats_sync
from hypersend_server.metadata.conformance.chats_people import people
from hypersend_server.metadata.mongo import MongoMetadata
from tests.chats.test_sync_machine import DEVICES, PEOPLE, SMALL_BEHIND, Device, SyncMachine, Talk, named, walks_of
from tests.mongo_server import MongoServer


class InTurns:
    """Each call goes to the next instance."""

    def __init__(self, instances: list[Any]) -> None:
        self._instances = itertools.cycle(instances)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._instances), name)


class MongoSyncMachine(SyncMachine):
    server: MongoServer
    overlap_ms: int

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        uri = self.server.fresh_uri()
        self.instances = [MongoMetadata(uri), MongoMetadata(uri, driver="pymongo")]
        for instance in self.instances:
            self.run(instance.open())
            instance.chats.longest_transaction_ms = self.overlap_ms
        self.run(people(self.instances[0], *PEOPLE))
        self.chats: Any = InTurns([instance.chats for instance in self.instances])
        self.accounts: Any = InTurns([instance.accounts for instance in self.instances])
        self.world: Any = self
        self.talks: dict[str, Talk] = {}
        self.names = {name: name.title() for name in PEOPLE}
        self.devices = {name: Device(name.split()[0]) for name in DEVICES}
        self.now = 1000
        self.count = 0
        for history in ("all", "since_join"):
            self.begin_group("alice", {"bob", "carol"}, history)
        self.begin_direct(("alice", "bob"))
        for chat_id in list(self.talks):
            for user in list(self.talks[chat_id].parts):
                self.say(chat_id, user)
        self.sync_to_the_end("alice phone", 8)
        self.sync_to_the_end("bob phone", 3)

    async def rename(self, user_id: str, name: str) -> None:
        await self.instances[1].accounts.update_profile(user_id, display_name=name)

    def look_again(self, device: Device, limit: int) -> None:
        """Some rows come twice here, in one more round; messages never do, which `page` asserts."""
        while self.page(device, limit):
            pass

    def teardown(self) -> None:
        for instance in getattr(self, "instances", []):
            self.run(instance.close())
        if hasattr(self, "runner"):
            self.runner.close()


@pytest.mark.parametrize("overlap_ms", [65_000, 20])
def test_devices_that_sync_over_two_instances_know_exactly_what_they_must(
    mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch, overlap_ms: int
) -> None:
    monkeypatch.setattr(chats_sync, "MAX_BEHIND", SMALL_BEHIND)
    machine = named(MongoSyncMachine, str(overlap_ms), server=mongo_server, overlap_ms=overlap_ms)
    run_state_machine_as_test(machine, settings=walks_of(8, steps=40))  # type: ignore[no-untyped-call]
