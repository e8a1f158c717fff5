"""Chunk writes that are cut, wrong, repeated and restarted at random, beside a model of what must be on the disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hypersend_storage.base import ChunkReceipt, Layout, UploadRef
from hypersend_storage.conformance import Cut, chunk_of, content, read
from hypersend_storage.errors import DigestMismatch, SizeMismatch, UploadLost
from hypersend_storage.local import LocalStore

CHUNK = 1000
indexes = st.integers(0, 3)
part_lengths = st.integers(1, 400)
seeds = st.integers(0, 1)  # 0 is the file's own content, 1 is something else
lengths = st.integers(0, CHUNK + 5)


async def body(data: bytes, part_length: int, is_cut: bool) -> AsyncIterator[bytes]:
    for start in range(0, len(data), part_length):
        yield data[start:start + part_length]
        if start % 3 == 0:
            await asyncio.sleep(0)
    if is_cut:
        raise Cut


class ChunkStates(RuleBasedStateMachine):
    """The rules play the caller: it keeps receipts and prefixes, and writes no chunk that has a receipt."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.new_store()
        self.receipts: dict[int, ChunkReceipt] = {}
        self.prefixes: dict[int, bytes] = {}
        self.location = ""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def new_store(self) -> LocalStore:
        store = LocalStore(Path(self.folder.name), threads=2, buffer_bytes=64)
        self.run(store.open())
        return store

    @initialize(last=st.integers(1, CHUNK))
    def begin(self, last: int) -> None:
        self.layout = Layout(3 * CHUNK + last, CHUNK)
        self.data = content(self.layout.size)
        self.upload = UploadRef("id", self.run(self.store.create("id", self.layout)), self.layout)

    @precondition(lambda self: not self.location)
    @rule(index=indexes, seed=seeds, goes_on=st.booleans(), length=lengths, is_whole=st.booleans(),
          is_cut=st.booleans(), part_length=part_lengths)
    def write(self, index: int, seed: int, goes_on: bool, length: int, is_whole: bool, is_cut: bool,
              part_length: int) -> None:
        if index in self.receipts:
            return
        right = chunk_of(self.upload, self.data, index)
        before = self.prefixes.get(index, b"") if goes_on else b""
        rest = len(right) - len(before)
        sent = content(2 * CHUNK, seed=7) if seed else right[len(before):] + b"too long"
        sent = sent[:rest if is_whole else min(length, rest + 5)]

        async def attempt() -> tuple[ChunkReceipt | Exception, int]:
            async with self.store.chunk(self.upload, index) as slot:
                try:
                    return await slot.write(body(sent, part_length, is_cut), offset=len(before),
                                            sha256=sha256(right).digest()), slot.in_place
                except (Cut, SizeMismatch, DigestMismatch) as error:
                    return error, slot.in_place

        outcome, in_place = self.run(attempt())
        self.prefixes.pop(index, None)
        if len(sent) > rest:
            assert isinstance(outcome, SizeMismatch)
            assert in_place == 0
        elif is_cut or len(sent) < rest:
            assert isinstance(outcome, Cut if is_cut else SizeMismatch)
            assert in_place == len(before) + len(sent)
            self.prefixes[index] = before + sent
        elif before + sent != right:
            assert isinstance(outcome, DigestMismatch)
            assert in_place == 0
        else:
            assert outcome == ChunkReceipt(index, len(right), sha256(right).digest())
            self.receipts[index] = outcome

    @precondition(lambda self: not self.location)
    @rule(goes_on=st.booleans(), part_length=part_lengths)
    def write_what_is_missing(self, goes_on: bool, part_length: int) -> None:
        for index in range(4):
            right = chunk_of(self.upload, self.data, index)
            prefix = self.prefixes.get(index, b"")
            self.write(index, 0, goes_on and right.startswith(prefix), 0, True, False, part_length)
        assert len(self.receipts) == 4

    @precondition(lambda self: self.receipts)
    @rule(index=indexes, seed=seeds, length=lengths, is_cut=st.booleans(), part_length=part_lengths)
    def repeat(self, index: int, seed: int, length: int, is_cut: bool, part_length: int) -> None:
        if index not in self.receipts:
            return
        expected = self.receipts[index].size
        sent = (content(2 * CHUNK, seed=7) if seed else chunk_of(self.upload, self.data, index))[:length]
        receiving = self.store.read_received(self.upload, body(sent, part_length, is_cut), expected=expected)
        if len(sent) == expected and not is_cut:
            assert self.run(receiving) == sha256(sent).digest()
        else:
            with pytest.raises((SizeMismatch, Cut)):
                self.run(receiving)

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.new_store()

    @rule()
    def sync(self) -> None:
        self.run(self.store.sync(self.upload))

    @precondition(lambda self: len(self.receipts) == 4)
    @rule()
    def complete(self) -> None:
        location = self.run(self.store.complete(self.upload, [self.receipts[index] for index in range(4)]))
        assert location == (self.location or location)
        self.location = location
        assert self.run(read(self.store, location, 0, self.layout.size)) == self.data

    @precondition(lambda self: self.location)
    @rule(index=indexes)
    def write_late(self, index: int) -> None:
        async def attempt() -> None:
            async with self.store.chunk(self.upload, index):
                pass

        with pytest.raises(UploadLost):
            self.run(attempt())

    @invariant()
    def what_counts_is_on_the_disk(self) -> None:
        if not hasattr(self, "upload"):
            return
        on_disk = self.store.path(self.location or self.upload.location).read_bytes()
        assert len(on_disk) == self.layout.size
        for index in self.receipts:
            assert chunk_of(self.upload, on_disk, index) == chunk_of(self.upload, self.data, index)
        for index, prefix in self.prefixes.items():
            assert chunk_of(self.upload, on_disk, index)[:len(prefix)] == prefix

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


class TestChunkStates(ChunkStates.TestCase):
    settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
