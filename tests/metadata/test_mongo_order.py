"""Fifty writers and editors in two processes, while readers poll: no rev before a lower one, no gap, no double.

HYPERSEND_ORDER_MESSAGES sets how many messages; 5,000 by default.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time

from hypersend_server.metadata.chats import Chats, SyncPosition
from hypersend_server.metadata.conformance.chats_people import group, people
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.mongo.engine import TURNS_AT_ONCE, Tx
from tests.metadata.mongo_writer import CHAT, EDIT_EVERY, write_all
from tests.mongo_server import MongoServer

MESSAGES = int(os.environ.get("HYPERSEND_ORDER_MESSAGES", "5000"))
PAUSE_S = 0.1  # between polls: the stand-in reads a whole chat for each
WRITERS = 25  # a process
Replica = dict[str, tuple[int, int, str]]  # message id: seq, rev, text


async def poll_by_rev(chats: Chats, until: asyncio.Event, replica: Replica) -> int:
    """Keep what `after_rev` tells, page by page; the rev that it ends at."""
    at = 0
    while True:
        is_last = until.is_set()
        page = await chats.messages_after_rev(CHAT, "reader", at, 500)
        for message in page.messages:
            assert message.rev > at, "a rev came twice, or after a higher one"
            assert message.id not in replica or replica[message.id][1] < message.rev
            at = message.rev
            replica[message.id] = (message.seq, message.rev, message.text)
        assert page.rev >= at
        at = page.rev
        if is_last and not page.messages:
            return at
        await asyncio.sleep(PAUSE_S)


async def poll_by_sync(chats: Chats, until: asyncio.Event, replica: Replica) -> None:
    position = SyncPosition("", "reader", 0)
    page = await chats.sync(position, 200)
    assert page.reset == [CHAT]
    for message in (await chats.messages_by_seq(CHAT, "reader", 200)).messages:
        replica[message.id] = (message.seq, message.rev, message.text)
    at = 0
    while True:
        is_last = until.is_set() and not page.more
        page = await chats.sync(page.position, 500)
        assert not page.reset
        for message in page.messages:
            assert message.rev > at, "a rev came twice, or after a higher one"
            at = message.rev
            replica[message.id] = (message.seq, message.rev, message.text)
        if is_last and not page.more and not page.messages:
            return
        await asyncio.sleep(PAUSE_S)


async def test_no_reader_sees_a_rev_before_a_lower_one(mongo_server: MongoServer) -> None:
    uri = mongo_server.fresh_uri()
    here, reading = MongoMetadata(uri), MongoMetadata(uri)
    await here.open()
    await reading.open()
    await people(here, "one", "two", "reader")
    await group(here.chats, "one", "two", "reader", chat_id=CHAT)
    by_rev: Replica = {}
    by_sync: Replica = {}
    written = asyncio.Event()
    began = time.monotonic()
    readers = asyncio.gather(
        poll_by_rev(reading.chats, written, by_rev), poll_by_sync(reading.chats, written, by_sync))
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.metadata.mongo_writer", uri, "two", str(MESSAGES // 2), str(WRITERS))
    await write_all(here, "one", MESSAGES - MESSAGES // 2, WRITERS)
    assert await other.wait() == 0
    seconds = time.monotonic() - began
    written.set()
    last_rev = await readers
    truth: Replica = {}
    while page := (await reading.chats.messages_by_seq(CHAT, "reader", 1000, after=len(truth))).messages:
        truth.update({message.id: (message.seq, message.rev, message.text) for message in page})
    assert sorted(seq for seq, _, _ in truth.values()) == list(range(1, MESSAGES + 2))
    edits = sum(text.startswith("edited") for _, _, text in truth.values())
    assert edits >= MESSAGES // EDIT_EVERY
    assert last_rev[0] == max(rev for _, rev, _ in truth.values()) == MESSAGES + 1 + edits
    assert by_rev == truth
    assert by_sync == truth
    print(f"{MESSAGES} messages and {edits} edits by {2 * WRITERS} writers in two processes: {seconds:.1f} s")
    await here.close()
    await reading.close()


async def test_a_process_that_writes_without_end_lets_others_have_a_turn(mongo_server: MongoServer) -> None:
    """The one whose transactions are open never collides, so it does not notice whom it turns away."""
    busy = MongoMetadata(mongo_server.fresh_uri())
    await busy.open()
    began: list[float] = []

    async def hold(tx: Tx) -> None:
        began.append(time.monotonic())
        await asyncio.sleep(0.3)

    for _ in range(TURNS_AT_ONCE + 2):  # each is there as soon as the one before was answered
        await busy.chats._engine.write(f"chat:{CHAT}", hold)
    pauses = [after - before - 0.3 for before, after in itertools.pairwise(began)]
    assert pauses[TURNS_AT_ONCE - 1] > 0.25
    assert max(pauses[:TURNS_AT_ONCE - 1]) < 0.25
    await busy.close()
