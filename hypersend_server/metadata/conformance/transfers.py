"""What every backend's `Transfers` must do, also when calls come together; and the messages that show them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import NewSession
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import Draft
from hypersend_server.metadata.conformance.chats_people import NOW, group, people, refused, say
from hypersend_server.metadata.transfers import MOVING, OPEN, TransferRecord

LATER = NOW + 1000


def an_offer(number: int = 1, **fields: Any) -> TransferRecord:
    return TransferRecord(**{
        "id": f"t{number:02}", "chat_id": "c", "message_id": f"m{number}", "client_id": f"k{number}",
        "sender_id": "a", "sender_session": "sa", "sender_key": "ka", "receiver_id": "b", "name": "film.mkv",
        "size": 100, "mime": "video/x-matroska",
        "created_at": NOW, "updated_at": NOW, "expires_at": LATER, **fields})


async def kept(metadata: Metadata, number: int = 1, **fields: Any) -> TransferRecord:
    return (await metadata.transfers.offer(an_offer(number, **fields), 10))[0]


async def now_of(metadata: Metadata, transfer_id: str = "t01") -> TransferRecord:
    found = await metadata.transfers.get(transfer_id)
    assert found is not None
    return found


async def signed_in(metadata: Metadata, user_id: str, *session_ids: str) -> None:
    for session_id in session_ids:
        await metadata.accounts.create_session(
            NewSession(id=session_id, user_id=user_id, device="d", ip="", salt=b"s" * 16), now_ms=NOW)


async def offer_in(metadata: Metadata, chat_id: str, number: int, **fields: Any) -> TransferRecord:
    """An offer of a's, and the message that shows it."""
    offered = await kept(metadata, number, chat_id=chat_id, **fields)
    await metadata.chats.append(
        Draft(id=offered.message_id, chat_id=chat_id, sender_id="a", client_id=offered.client_id,
              transfer={"status": "offered"}, now=NOW), -1)
    return offered


def ids(transfers: list[TransferRecord]) -> list[str]:
    return [transfer.id for transfer in transfers]


class TransfersConformance:
    """Tests of `metadata.transfers`; `metadata` is an open, empty backend."""

    async def test_the_same_offer_again_is_the_first_one(self, metadata: Metadata) -> None:
        offers = await asyncio.gather(
            *(metadata.transfers.offer(an_offer(n, client_id="k"), 10) for n in range(1, 6)))
        assert len({transfer.id for transfer, _ in offers}) == 1
        assert sum(is_new for _, is_new in offers) == 1
        found = await now_of(metadata, offers[0][0].id)
        assert found == an_offer(int(found.id[1:]), client_id="k")
        assert await metadata.transfers.get("none") is None

    async def test_one_sender_has_so_many_open_and_no_more(self, metadata: Metadata) -> None:
        found = await asyncio.gather(
            *(metadata.transfers.offer(an_offer(n), 3) for n in range(1, 8)), return_exceptions=True)
        refusals = [error.code for error in found if isinstance(error, HyperSendError)]
        assert refusals == ["transfer_limit"] * 4
        await metadata.transfers.offer(an_offer(9, sender_id="z"), 3)
        for transfer in await metadata.transfers.open_of("a", 10):
            await metadata.transfers.change(transfer.id, OPEN, NOW, status="cancelled")
        await metadata.transfers.offer(an_offer(8), 3)

    @pytest.mark.parametrize(("blocking", "blocked"), [("a", "b"), ("b", "a")])
    async def test_between_two_of_whom_one_blocks_the_other_nothing_is_offered(
        self, metadata: Metadata, blocking: str, blocked: str
    ) -> None:
        await people(metadata, "a", "b")
        await metadata.accounts.block(blocking, blocked, now_ms=NOW)
        await refused("blocked", metadata.transfers.offer(an_offer(), 10))
        assert await metadata.transfers.get("t01") is None
        await metadata.accounts.unblock(blocking, blocked)
        await kept(metadata)

    @pytest.mark.parametrize(("blocking", "blocked"), [("a", "b"), ("b", "a")])
    @pytest.mark.parametrize("receiver_id", ["b", None])
    async def test_who_is_blocked_since_the_offer_does_not_accept_it(
        self, metadata: Metadata, blocking: str, blocked: str, receiver_id: str | None
    ) -> None:
        await people(metadata, "a", "b", "c")
        offered = await kept(metadata, receiver_id=receiver_id)
        named = await kept(metadata, 2)
        assert not await metadata.transfers.is_blocked(named)
        await metadata.accounts.block(blocking, blocked, now_ms=NOW)
        await refused("blocked", metadata.transfers.accept("t01", "b", "sb", "kb", LATER, LATER))
        assert await now_of(metadata) == offered
        assert await metadata.transfers.is_blocked(named)
        assert await metadata.transfers.is_blocked(offered) is (receiver_id is not None)  # by nobody in particular
        if receiver_id is None:
            assert (await metadata.transfers.accept("t01", "c", "sc", None, LATER, LATER)).receiver_id == "c"

    async def test_open_ones_between_two_people(self, metadata: Metadata) -> None:
        await kept(metadata)
        await kept(metadata, 2, chat_id="d", sender_id="b", receiver_id="a")
        await kept(metadata, 3, receiver_id="e")
        await kept(metadata, 4, receiver_id=None)
        await kept(metadata, 5, sender_id="b", receiver_id="b")
        await kept(metadata, 6)
        assert ids(await metadata.transfers.open_of_pair("a", "b", 10)) == ["t01", "t02", "t06"]
        assert ids(await metadata.transfers.open_of_pair("b", "a", 2)) == ["t01", "t02"]
        await metadata.transfers.change("t01", OPEN, LATER, status="done")
        assert ids(await metadata.transfers.open_of_pair("b", "a", 10)) == ["t02", "t06"]

    async def test_open_ones_of_sessions_that_send_or_receive(self, metadata: Metadata) -> None:
        await kept(metadata)
        await kept(metadata, 2, sender_session="sa2")
        await kept(metadata, 3, sender_id="e", sender_session="se", receiver_id="a")
        await metadata.transfers.accept("t03", "a", "sa", None, NOW, LATER)
        await kept(metadata, 4, sender_id="e", sender_session="se", receiver_id="a")  # any device of a's may come
        await kept(metadata, 5)
        assert ids(await metadata.transfers.open_of_sessions("a", ["sa"], 10)) == ["t01", "t03", "t05"]
        assert ids(await metadata.transfers.open_of_sessions("a", ["sa", "sa2"], 2)) == ["t01", "t02"]
        assert await metadata.transfers.open_of_sessions("a", [], 10) == []
        await metadata.transfers.change("t01", OPEN, LATER, status="done")
        assert ids(await metadata.transfers.open_of_sessions("a", ["sa"], 10)) == ["t03", "t05"]

    async def test_the_transfer_that_a_message_offers(self, metadata: Metadata) -> None:
        offered = await kept(metadata)
        assert await metadata.transfers.of_message("c", offered.message_id) == offered
        assert await metadata.transfers.of_message("d", offered.message_id) is None
        assert await metadata.transfers.of_message("c", "none") is None

    async def test_what_can_never_come_to_be_is_found(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        await signed_in(metadata, "a", "sa", "gone")
        await signed_in(metadata, "b", "sb", "gone too")
        chat_id, _, _ = await metadata.chats.create_direct("a", "b", "direct", NOW)
        for number in (1, 2, 4, 5):
            await offer_in(metadata, chat_id, number)
        await offer_in(metadata, chat_id, 3, sender_session="gone")
        await offer_in(metadata, chat_id, 6, receiver_id=None)
        await kept(metadata, 7, chat_id=chat_id)  # its message is still to come
        await kept(metadata, 8, chat_id=chat_id, sender_session="unknown")
        await kept(metadata, 9, chat_id=chat_id, sender_session="gone")
        await metadata.transfers.change("t09", OPEN, NOW, status="done")
        await metadata.transfers.accept("t02", "b", "sb", None, NOW, LATER)
        await metadata.transfers.accept("t04", "b", "gone too", None, NOW, LATER)
        assert ids(await metadata.transfers.stranded(10)) == ["t08"]
        await metadata.accounts.end_sessions("a", now_ms=NOW, only_id="gone")
        await metadata.accounts.end_sessions("b", now_ms=NOW, only_id="gone too")
        await metadata.chats.delete_message(chat_id, "m5", "a", NOW)
        assert ids(await metadata.transfers.stranded(10)) == ["t03", "t04", "t05", "t08"]
        assert ids(await metadata.transfers.stranded(3)) == ["t03", "t04", "t05"]
        for blocking, blocked in (("a", "b"), ("b", "a")):
            await metadata.accounts.block(blocking, blocked, now_ms=NOW)
            assert ids(await metadata.transfers.stranded(10)) == ["t01", "t02", "t03", "t04", "t05", "t07", "t08"]
            await metadata.accounts.unblock(blocking, blocked)

    async def test_what_somebody_who_has_left_sends_or_receives_is_found(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        await signed_in(metadata, "a", "sa")
        await signed_in(metadata, "b", "sb")
        await group(metadata.chats, "a", "b", "c", chat_id="g")
        chat_id, _, _ = await metadata.chats.create_direct("a", "b", "direct", NOW)
        await offer_in(metadata, "g", 1)
        await offer_in(metadata, "g", 2, receiver_id=None)
        await offer_in(metadata, "g", 3, sender_id="b", sender_session="sb", receiver_id="a")
        await offer_in(metadata, "g", 4, receiver_id="c")
        await metadata.chats.delete_chat(chat_id, "b", NOW)
        await kept(metadata, 5, chat_id=chat_id)  # its message will open b's side again
        assert await metadata.transfers.stranded(10) == []
        await metadata.chats.remove_member("g", "a", "b", "left", NOW)
        assert ids(await metadata.transfers.stranded(10)) == ["t01", "t03"]
        await metadata.chats.delete_chat("g", "a", NOW)
        assert ids(await metadata.transfers.stranded(10)) == ["t01", "t02", "t03", "t04"]
        while await metadata.chats.purge("g", 10):
            pass
        assert ids(await metadata.transfers.stranded(10)) == ["t01", "t02", "t03", "t04"]

    async def test_who_joined_later_sees_no_earlier_transfer(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        await group(metadata.chats, "a", "b", chat_id="g")
        for number in (1, 2, 3):
            await offer_in(metadata, "g", number)
        second = await metadata.chats.get_message("g", "m2", "a")
        assert second is not None
        transfers = metadata.transfers
        assert await transfers.get("t01", second.seq) is None
        assert await transfers.get("t02", second.seq) == await now_of(metadata, "t02")
        assert await transfers.get("t02", second.seq + 1) is None
        assert await transfers.get("none", second.seq) is None
        assert ids(await transfers.history("g", None, 10, second.seq)) == ["t03", "t02"]
        assert ids(await transfers.history("g", "t03", 10, second.seq)) == ["t02"]
        assert ids(await transfers.history("g", None, 10, 1)) == ["t03", "t02", "t01"]
        await kept(metadata, 4, chat_id="g")  # its message did not come to be, so nobody who joined sees it
        assert await transfers.get("t04", second.seq) is None

    async def test_pages_of_history_pass_over_what_came_before_one_joined(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        await group(metadata.chats, "a", "b", chat_id="g")
        # The order of ids is not that of messages: whole pages in between are not for who joined.
        for number in (3, 4, 5, 6, 7):
            await offer_in(metadata, "g", number)
        last = await metadata.chats.get_message("g", "m7", "a")
        assert last is not None
        for number in (1, 2, 8):
            await offer_in(metadata, "g", number)
        history = metadata.transfers.history
        assert ids(await history("g", None, 2, last.seq + 1)) == ["t08", "t02"]
        assert ids(await history("g", "t02", 2, last.seq + 1)) == ["t01"]
        assert ids(await history("g", None, 3, last.seq + 1)) == ["t08", "t02", "t01"]
        assert ids(await history("g", None, 2, last.seq)) == ["t08", "t07"]

    async def test_one_device_accepts_and_the_others_see_it_taken(self, metadata: Metadata) -> None:
        await kept(metadata)
        answers = await asyncio.gather(
            *(metadata.transfers.accept("t01", "b", f"s{n}", f"k{n}", LATER, LATER + 5) for n in range(5)),
            return_exceptions=True)
        taken = [answer for answer in answers if isinstance(answer, TransferRecord)]
        assert len(taken) == 1
        assert [error.code for error in answers if isinstance(error, HyperSendError)] == ["transfer_taken"] * 4
        found = await now_of(metadata)
        assert found == taken[0]
        assert (found.status, found.updated_at, found.expires_at) == ("accepted", LATER, LATER + 5)
        session = found.receiver_session
        assert session is not None
        assert found.receiver_key == f"k{session[1:]}"
        assert await metadata.transfers.accept("t01", "b", session, "other", LATER + 9, LATER + 9) == found
        await refused("not_found", metadata.transfers.accept("none", "b", "s", None, NOW, NOW))

    async def test_what_is_over_is_not_accepted(self, metadata: Metadata) -> None:
        await kept(metadata)
        await metadata.transfers.change("t01", OPEN, LATER, status="declined")
        with pytest.raises(HyperSendError) as caught:
            await metadata.transfers.accept("t01", "b", "s", None, LATER, LATER)
        assert (caught.value.code, caught.value.extra["transfer_status"]) == ("transfer_closed", "declined")

    async def test_a_status_changes_only_from_where_it_may(self, metadata: Metadata) -> None:
        await kept(metadata)
        await refused("transfer_closed", metadata.transfers.change("t01", MOVING, LATER, status="done"))
        await refused("not_found", metadata.transfers.change("none", OPEN, LATER, status="done"))
        changes = await asyncio.gather(
            *(metadata.transfers.change("t01", OPEN, LATER, status=status) for status in ("cancelled", "declined")),
            return_exceptions=True)
        assert sum(isinstance(change, HyperSendError) for change in changes) == 1

    async def test_progress_never_goes_back_and_keeps_it_alive(self, metadata: Metadata) -> None:
        await kept(metadata)
        await metadata.transfers.progress("t01", 60, LATER + 50, NOW + 1)
        await metadata.transfers.progress("t01", 40, LATER + 10, NOW + 2)
        found = await now_of(metadata)
        assert (found.transferred_bytes, found.expires_at, found.status) == (60, LATER + 50, "offered")
        assert await metadata.transfers.expire(LATER + 40, 10) == []

    async def test_what_nobody_took_expires_once(self, metadata: Metadata) -> None:
        await kept(metadata)
        await kept(metadata, 2, expires_at=LATER + 100)
        await kept(metadata, 3)
        await metadata.transfers.change("t03", OPEN, NOW, status="cancelled")
        assert [t.id for t in await metadata.transfers.expire(LATER, 10)] == ["t01"]
        assert await metadata.transfers.expire(LATER, 10) == []
        assert (await now_of(metadata)).status == "expired"

    async def test_a_message_that_is_behind_is_found_until_it_shows_the_status(self, metadata: Metadata) -> None:
        await kept(metadata)
        assert [t.id for t in await metadata.transfers.unshown(NOW + 2, 1, 10)] == ["t01"]
        assert await metadata.transfers.unshown(NOW + 1, 1, 10) == []
        # The clock ran ahead when it changed, and was set back.
        assert await metadata.transfers.unshown(NOW - 1, 1, 10) == []
        assert [t.id for t in await metadata.transfers.unshown(NOW - 2, 1, 10)] == ["t01"]
        await metadata.transfers.mark_shown("t01", "accepted")
        assert len(await metadata.transfers.unshown(NOW + 2, 1, 10)) == 1
        await metadata.transfers.mark_shown("t01", "offered")
        assert await metadata.transfers.unshown(NOW + 2, 1, 10) == []
        await metadata.transfers.change("t01", OPEN, LATER, status="cancelled")
        assert [t.status for t in await metadata.transfers.unshown(LATER + 2, 1, 10)] == ["cancelled"]
        await kept(metadata, 2)
        assert [t.id for t in await metadata.transfers.unshown(LATER + 2, 1, 10)] == ["t01", "t02"]  # the oldest last

    async def test_history_and_what_is_open(self, metadata: Metadata) -> None:
        for number in range(1, 6):
            await kept(metadata, number)
        await kept(metadata, 6, chat_id="d", sender_id="b", receiver_id="a")
        await kept(metadata, 7, chat_id="d", receiver_id=None)
        assert [t.id for t in await metadata.transfers.history("c", None, 3)] == ["t05", "t04", "t03"]
        assert [t.id for t in await metadata.transfers.history("c", "t03", 3)] == ["t02", "t01"]
        await metadata.transfers.change("t02", OPEN, LATER, status="done")
        assert [t.id for t in await metadata.transfers.open_of("a", 10)] == ["t01", "t03", "t04", "t05", "t06", "t07"]
        assert [t.id for t in await metadata.transfers.open_of("b", 2)] == ["t01", "t03"]
        assert await metadata.transfers.open_of("nobody", 10) == []

    async def test_one_process_joins_both_ends(self, metadata: Metadata) -> None:
        await kept(metadata)
        await refused("transfer_closed", metadata.transfers.claim("t01", "p", NOW, NOW + 100))  # nobody accepted yet
        await metadata.transfers.change("t01", OPEN, NOW, status="accepted")
        claims = await asyncio.gather(
            *(metadata.transfers.claim("t01", f"p{n}", NOW, NOW + 100) for n in range(4)))
        assert len(set(claims)) == 1
        holder = claims[0]
        assert await metadata.transfers.claim("t01", "other", NOW + 99, NOW + 200) == holder
        assert await metadata.transfers.claim("t01", holder, NOW + 99, NOW + 150) == holder
        assert await metadata.transfers.claim("t01", "other", NOW + 149, NOW + 300) == holder
        await metadata.transfers.release("t01", "other")
        assert await metadata.transfers.claim("t01", "other", NOW + 149, NOW + 300) == holder
        await metadata.transfers.release("t01", holder)
        assert await metadata.transfers.claim("t01", "other", NOW + 149, NOW + 300) == "other"
        assert await metadata.transfers.claim("t01", holder, NOW + 300, NOW + 400) == holder
        # Of several who find a process gone one takes its place, and the others learn which.
        takers = await asyncio.gather(*(
            metadata.transfers.claim("t01", f"q{n}", NOW + 310, NOW + 400, holder) for n in range(4)))
        assert len(set(takers)) == 1
        assert takers[0] != holder
        await metadata.transfers.change("t01", OPEN, NOW, status="cancelled")
        await refused("transfer_closed", metadata.transfers.claim("t01", takers[0], NOW + 320, NOW + 400))
        await refused("not_found", metadata.transfers.claim("none", "p", NOW, NOW))

    async def test_open_ones_of_people_who_leave_a_chat(self, metadata: Metadata) -> None:
        for number, fields in enumerate(({}, {"chat_id": "d"}, {"sender_id": "b", "receiver_id": "e"}), 1):
            await kept(metadata, number, **fields)
        assert [t.id for t in await metadata.transfers.open_between("c", ["b"], 10)] == ["t01", "t03"]
        assert [t.id for t in await metadata.transfers.open_between("c", ["a", "e"], 10)] == ["t01", "t03"]
        await metadata.transfers.change("t01", OPEN, LATER, status="done")
        assert [t.id for t in await metadata.transfers.open_between("c", ["b"], 10)] == ["t03"]
        assert not await metadata.transfers.is_blocked(await kept(metadata, 9))

    async def test_an_active_one_whose_process_died_is_found(self, metadata: Metadata) -> None:
        for number in (1, 2, 3):
            await kept(metadata, number)
            await metadata.transfers.change(f"t{number:02}", OPEN, NOW, status="accepted")
            await metadata.transfers.claim(f"t{number:02}", "p", NOW, NOW + 100 * number)
        for number in (1, 2):
            await metadata.transfers.change(f"t{number:02}", OPEN, NOW, status="active")
        assert [t.id for t in await metadata.transfers.abandoned(NOW + 100, 100, 10)] == ["t01"]
        # The clock ran ahead when t02 was claimed, and was set back.
        assert [t.id for t in await metadata.transfers.abandoned(NOW + 50, 100, 10)] == ["t02"]

    async def test_a_message_shows_a_transfer_and_its_changes_by_rev(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chat_id, _, _ = await metadata.chats.create_direct("a", "b", "c", NOW)
        draft = Draft(id="m", chat_id=chat_id, sender_id="a", client_id="k", transfer={"status": "offered"}, now=NOW)
        posted = await metadata.chats.append(draft, -1)
        assert (posted.message.kind, posted.message.extra.transfer) == ("transfer", {"status": "offered"})
        assert (await metadata.chats.append(draft, -1)).created is False
        changed = await metadata.chats.show_transfer(chat_id, "m", {"status": "done"})
        assert changed is not None
        assert changed.changed
        assert changed.message.rev == posted.message.rev + 1
        found = await metadata.chats.get_message(chat_id, "m", "b")
        assert found is not None
        assert (found.extra.transfer, found.seq, found.rev) == ({"status": "done"}, posted.message.seq, 2)
        again = await metadata.chats.show_transfer(chat_id, "m", {"status": "done"})
        assert again is not None
        assert not again.changed
        assert await metadata.chats.show_transfer(chat_id, "none", {}) is None
        await metadata.chats.delete_message(chat_id, "m", "a", NOW)
        gone = await metadata.chats.show_transfer(chat_id, "m", {"status": "failed"})
        assert gone is not None
        assert not gone.changed

    async def test_a_transfer_is_not_forwarded_or_edited(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chat_id, _, _ = await metadata.chats.create_direct("a", "b", "c", NOW)
        await say(metadata.chats, chat_id, "a", "before")
        draft = Draft(id="m", chat_id=chat_id, sender_id="a", client_id="k", transfer={"status": "offered"}, now=NOW)
        await metadata.chats.append(draft, -1)
        forward = Draft(id="f", chat_id=chat_id, sender_id="b", client_id="f", forward=(chat_id, "m"), now=NOW)
        await refused("not_allowed", metadata.chats.append(forward, -1))
        await refused("not_allowed", metadata.chats.edit(chat_id, "m", "a", "text", NOW))
