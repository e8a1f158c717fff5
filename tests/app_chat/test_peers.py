"""Files from device to device as a person meets them, drawn without a client over a fake connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.app.chat.peer_body import standing_words
from hypersend_client.app.i18n import LANGUAGES, Translator
from hypersend_client.app.peer_list import PeerList, PeerView, view_of
from hypersend_client.sdk import transfer_errors
from hypersend_client.sdk.events import MessageChanged, TransferChanged
from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.transfer import Progress
from hypersend_client.sdk.transfer_errors import KeyMissing
from tests.app.fakes import ACCOUNT, ANN, ME, SERVER, FakeEnd
from tests.app.stage import Stage
from tests.app_chat.house import House, lived_in

HERE = ACCOUNT.session_id
WITH_P2P = replace(SERVER, features=["p2p"])
GB = 10**9


def transfer(status: str = "offered", **fields: Any) -> PeerTransfer:
    """Ann's, to us."""
    base = {
        "id": "t-1", "chat_id": "c-1", "name": "film.mkv", "size": 20 * GB, "status": status, "sender_id": ANN.id,
        "sender_session": "ses-ann", "receiver_id": ME.id, "updated_at": "2026-03-01T10:00:00.000Z",
    }  # fmt: skip
    return PeerTransfer.from_json(base | fields)


def ours(status: str = "offered", **fields: Any) -> PeerTransfer:
    return transfer(status, **{"sender_id": ME.id, "sender_session": HERE, "receiver_id": ANN.id} | fields)


def as_json(info: PeerTransfer) -> dict[str, Any]:
    return {
        name: getattr(info, name)
        for name in ("id", "chat_id", "name", "size", "status", "sender_id", "sender_session", "receiver_id",
                     "receiver_session", "transferred_bytes", "file_id", "sender_key")
    } | {"updated_at": info.updated_at.isoformat().replace("+00:00", "Z") if info.updated_at else None}  # fmt: skip


def seen(info: PeerTransfer, progress: Progress | None = None, *, native: bool = True) -> PeerView:
    return view_of(info, progress, me=ME.id, session_id=HERE, native=native)


@pytest.mark.parametrize(("info", "standing", "choices"), [
    (transfer(), "offer", {"accept", "decline"}),
    (transfer(receiver_id=None), "offer", {"accept"}),
    (transfer(receiver_id="u-x"), "for_other", set()),
    (ours(), "asking", {"cancel", "store"}),
    (ours(sender_session="ses-2"), "asking", {"cancel"}),
    (transfer("accepted", receiver_session=HERE), "here", {"cancel"}),
    (transfer("active", receiver_session="ses-2"), "away_in", {"cancel"}),
    (ours("paused", receiver_session="ses-ann"), "here", {"cancel", "store"}),
    (ours("active", sender_session="ses-2"), "away_out", {"cancel"}),
    (transfer("active", receiver_id="u-x"), "between_others", set()),
    (transfer("done", receiver_session=HERE), "done", set()),
    (ours("declined"), "declined", set()),
    (ours("cancelled"), "cancelled", set()),
    (ours("cancelled", file_id="f-1"), "stored", set()),
    (ours("expired"), "expired", {"store"}),
    (ours("failed", receiver_session="ses-ann"), "failed", {"store"}),
    (transfer("failed", receiver_session=HERE), "failed", set()),
    (ours(receiver_id=ME.id), "asking", {"cancel", "store"}),
    (transfer(sender_id=ME.id, sender_session="ses-2"), "offer", {"accept", "decline"}),
])  # fmt: skip
def test_what_can_be_done_follows_from_who_and_where_one_is(
    info: PeerTransfer, standing: str, choices: set[str]
) -> None:
    view = seen(info)
    assert (view.standing, set(view.choices)) == (standing, choices)


@pytest.mark.parametrize(("info", "standing", "choices"), [
    (transfer(), "offer_web", {"decline"}),
    (ours(sender_session="ses-2"), "asking", {"cancel"}),
    (transfer("active", receiver_session="ses-2"), "away_in", {"cancel"}),
    (transfer("done", receiver_session="ses-2"), "done", set()),
])  # fmt: skip
def test_the_web_app_looks_on(info: PeerTransfer, standing: str, choices: set[str]) -> None:
    view = seen(info, native=False)
    assert (view.standing, set(view.choices)) == (standing, choices)


def test_what_moves_here_can_be_paused_and_what_is_paused_sent_through_the_server() -> None:
    active = ours("active", receiver_session="ses-ann")
    running = seen(active, Progress("running", GB, 20 * GB, 2e7, 60.0, None))
    assert (running.group, set(running.choices)) == ("running", {"cancel", "pause"})
    paused = seen(active, Progress("paused", GB, 20 * GB, 0.0, None, None))
    assert (paused.group, set(paused.choices)) == ("waiting", {"cancel", "resume", "store"})
    failed = seen(active, Progress("failed", GB, 20 * GB, 0.0, None, transfer_errors.Tampered("x")))
    assert set(failed.choices) == {"cancel", "retry", "store"}


def test_what_was_called_off_without_a_network_shows_so_before_the_server_knows() -> None:
    for info in (ours("active", receiver_session="ses-ann"), ours()):
        view = seen(info, Progress("cancelled", GB, 20 * GB, 0.0, None, transfer_errors.TransferCancelled()))
        assert (view.standing, view.group, set(view.choices)) == ("cancelled", "done", set())


async def test_calling_off_without_a_network_asks_the_server_nothing() -> None:
    class Offline(Began):
        async def cancel(self, transfer_id: str) -> None:
            self.ends[0].be("cancelled")

    end = FakeEnd(transfer("active", receiver_session=HERE))
    peers, calls = PeerList(), Offline([end])  # which has no `get`
    peers.begin(calls, calls, me=ME.id, session_id=HERE)  # type: ignore[arg-type]
    await peers.go_on()
    await peers.do("t-1", "cancel")
    assert [view.standing for view in peers.views] == ["cancelled"]


def test_a_receiver_that_goes_on_from_the_server_still_shows_how_far_it_is() -> None:
    stored = transfer("cancelled", receiver_session=HERE, file_id="f-1")
    assert seen(stored, Progress("running", GB, 20 * GB, 2e7, 60.0, None)).standing == "here"
    assert seen(stored, Progress("done", 20 * GB, 20 * GB, 0.0, None, None)).standing == "stored"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_standing_has_words(language: str) -> None:
    t = Translator(language)
    for name in ("asking", "offer", "offer_web", "for_other", "between_others", "away_out", "away_in", "waiting",
                 "done_out", "done_in", "declined_out", "declined_in", "cancelled", "stored", "expired_out",
                 "expired_in", "failed_out", "failed_in"):  # fmt: skip
        assert "{" not in t(f"p2p.{name}", name="Ann", size="1 GB", done="1 MB")


async def offered(house: House, info: PeerTransfer) -> None:
    await house.furnish(count=1)
    await house.say("c-1", "", sender_id=info.sender_id, kind="transfer", transfer=as_json(info))


async def opened(stage: Stage) -> None:
    await stage.go("/chat/c-1")
    await stage.sees("composer")


def at(second: int) -> str:
    return f"2026-03-01T10:00:{second:02}.000Z"


def clock(second: int) -> datetime:
    return datetime(2026, 3, 1, 10, 0, second, tzinfo=UTC)


async def test_a_device_that_was_never_met_is_told_before_and_while_it_moves() -> None:
    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        end = FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1)))
        end.is_new_device = True
        return end

    connected = {"connect": WITH_P2P, "p2p__is_new_device": True, "p2p__receive": receive}
    async with lived_in(native=True, **connected) as (house, stage):
        await offered(house, transfer())
        await opened(stage)
        await stage.reads("Ann Lee has not used this device with you before. Compare the safety number below")
        await stage.reads("Safety number 11111 22222")
        await stage.click("peer-accept-t-1")
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")
        await stage.reads("Compare the safety number of this file in the details of the chat.")


async def test_an_offer_is_accepted_moves_and_is_there() -> None:
    ends: list[FakeEnd] = []

    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        ends.append(FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1))))
        return ends[0]

    async with lived_in(native=True, connect=WITH_P2P, p2p__receive=receive) as (house, stage):
        await offered(house, transfer())
        await opened(stage)
        await stage.reads("20 GB · Ann Lee wants to send it to this device")
        await stage.reads("Goes from device to device and is not stored on the server")
        await stage.click("peer-accept-t-1")
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")
        [end] = ends
        end.be("running", 5 * GB, status="active", updated_at=clock(2))
        await stage.reads("5 GB of 20 GB")
        await stage.click("peer-pause-t-1")
        await stage.reads("Paused at 5 GB of 20 GB")
        await stage.click("peer-resume-t-1")
        await stage.reads("20 MB/s")
        assert end.did == ["pause", "resume", "start"]
        await stage.go("/transfers")
        await stage.sees("peer-t-1")
        end.be("done", 20 * GB, result=Path("/nowhere/film.mkv"), status="done", updated_at=clock(3))
        await stage.reads("20 GB · received")
        await stage.click("peer-open-t-1")
        await stage.reads("The file is no longer where it was saved")
        await stage.click("clear-done")
        await stage.reads("Nothing is being sent or fetched")


async def test_one_s_own_offer_shows_what_the_other_side_does_and_can_go_through_the_server() -> None:
    end: list[FakeEnd] = []
    stored = ours("cancelled", file_id="f-9", updated_at=at(9))
    answers: dict[str, Any] = {"p2p.store": None, "GET /p2p/status/t-1": as_json(stored)}
    async with lived_in(native=True, connect=WITH_P2P, **answers) as (house, stage):
        await offered(house, ours())
        end.append(FakeEnd(ours()))
        house.answers["p2p.send"] = end[0]
        await opened(stage)
        await house.app.peers.send("c-1", "/tmp/film.mkv")
        await stage.reads("20 GB · waiting for Ann Lee to accept")
        end[0].be("running", GB, status="active", receiver_session="ses-ann", updated_at=clock(2))
        await stage.reads("1 GB of 20 GB")
        assert stage.find("peer-store-t-1") is None
        end[0].be("waiting", GB, transfer_errors.PeerAway())
        await stage.reads("Waiting for Ann Lee · 1 GB of 20 GB")
        end[0].be("cancelled", GB)
        house.app.peers.clear_done()
        await stage.click("peer-store-t-1")
        await stage.reads("The whole file (20 GB) is uploaded and then kept on the server")
        await stage.click("confirm-no")
        assert not [call for call in house.client.calls if call[0] == "p2p.store"]
        await stage.click("peer-store-t-1")
        await stage.click("confirm-yes")
        await stage.reads("It went on as a file on the server")
        assert ("p2p.store", ("t-1",), {}) in house.client.calls


async def test_frames_move_the_bubble_and_an_older_message_does_not_turn_it_back() -> None:
    async with lived_in(connect=WITH_P2P) as (house, stage):
        await offered(house, transfer())
        await opened(stage)
        await stage.reads("20 GB · Ann Lee wants to send it")
        await stage.reads("Open Tea house on a phone or computer to take part in it.")
        active = transfer("active", receiver_session="ses-2", transferred_bytes=3 * GB, updated_at=at(5))
        house.client.connection.happen(TransferChanged(as_json(active)))
        await stage.reads("3 GB of 20 GB · taken on another of your devices")
        message = house.kept["c-1"][-1]
        late = replace(message, rev=message.rev + 1, transfer=as_json(transfer("accepted", updated_at=at(3))))
        await house.store.write(lambda w: w.message(late, live=True))
        house.client.connection.happen(MessageChanged(late))
        await stage.reads("3 GB of 20 GB · taken on another of your devices")
        done = transfer("done", receiver_session="ses-2", transferred_bytes=20 * GB, updated_at=at(8))
        house.client.connection.happen(TransferChanged(as_json(done)))
        await stage.reads("20 GB · received")


async def test_declining_and_cancelling_ask_only_where_something_is_lost() -> None:
    declined = as_json(transfer("declined", updated_at=at(4)))
    async with lived_in(connect=WITH_P2P, **{"POST /p2p/t-1/decline": declined}) as (house, stage):
        await offered(house, transfer())
        await opened(stage)
        await stage.click("peer-decline-t-1")
        await stage.reads("You declined it")
    moving = transfer("active", receiver_session="ses-2", transferred_bytes=GB)
    cancelled = as_json(transfer("cancelled", updated_at=at(4)))
    answers = {"POST /p2p/t-1/cancel": cancelled, "GET /p2p/status/t-1": cancelled}
    async with lived_in(connect=WITH_P2P, **answers) as (house, stage):
        await offered(house, moving)
        await opened(stage)
        await stage.click("peer-cancel-t-1")
        await stage.click("confirm-no")
        assert not [call for call in house.client.calls if call[0].startswith("POST")]
        await stage.click("peer-cancel-t-1")
        await stage.click("confirm-yes")
        await stage.reads("Called off")


async def test_an_offer_that_waits_stands_on_the_navigation_and_among_the_transfers() -> None:
    waiting = {"items": [as_json(transfer())]}
    async with lived_in(native=True, connect=WITH_P2P, **{"GET /p2p": waiting}) as (house, stage):
        await stage.until(lambda: house.app.peers.offers == 1)
        await stage.go("/transfers")
        await stage.sees("peer-accept-t-1")
        await stage.reads("1")


async def test_on_a_device_the_sheet_offers_device_to_device_and_on_the_web_it_says_where() -> None:
    for native, words in ((True, "Nothing is stored on the server"),
                          (False, "For this, open Tea house as an app on a phone or computer.")):  # fmt: skip
        async with lived_in(native=native, connect=WITH_P2P) as (house, stage):
            await house.furnish(count=1)
            await opened(stage)
            await stage.until(lambda house=house: house.app.session.server is not None)
            await stage.click("attach")
            await stage.sees("attach-device")
            await stage.reads(words)
            if not native:
                await stage.click("attach-device")
                await stage.until(lambda house=house, words=words: house.app.notices.text == words)


async def test_the_safety_number_stands_in_the_details() -> None:
    number = "12345 23456 34567 45678 56789 67890"
    asked: list[str] = []

    def numbers(chat_id: str) -> list[tuple[str, str, str]]:
        asked.append(chat_id)
        return [("film.mkv", "u-ann", number)]

    async with lived_in(native=True, connect=WITH_P2P, p2p__safety_numbers=numbers) as (house, stage):
        await house.furnish(count=1)
        await stage.until(lambda: house.app.session.server is not None)
        await stage.go("/details/c-1")
        await stage.sees("safety-number")
        await stage.reads(number)
        await stage.reads("film.mkv")
    assert asked == ["c-1"]


async def test_what_is_shown_of_an_offer_is_what_is_accepted() -> None:
    """The number belongs to a key, and that key goes along: another one is refused by the SDK."""
    accepted: list[str | None] = []

    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        accepted.append(sender_key)
        return FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1)))

    async with lived_in(native=True, connect=WITH_P2P, p2p__receive=receive) as (house, stage):
        await offered(house, transfer(sender_key="shown"))
        await opened(stage)
        await stage.reads("Safety number 11111 22222")
        await stage.click("peer-accept-t-1")
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")
    assert accepted == ["shown"]


class Slow:
    """Looking at a device takes until `go_on`."""

    def __init__(self, house: House, number: str = "11111 22222") -> None:
        self.go_on = asyncio.Event()
        self.began = asyncio.Event()
        self._number = number
        house.client.p2p.number_for = self.number_for

    async def number_for(self, info: PeerTransfer) -> str:
        self.began.set()
        await self.go_on.wait()
        return self._number


async def test_accepting_waits_for_the_number_of_the_key_that_is_accepted() -> None:
    accepted: list[str | None] = []

    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        accepted.append(sender_key)
        return FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1)))

    async with lived_in(native=True, connect=WITH_P2P, p2p__receive=receive) as (house, stage):
        slow = Slow(house)
        await offered(house, transfer(sender_key="shown"))
        await opened(stage)
        await stage.click("peer-accept-t-1")
        await slow.began.wait()
        assert accepted == []
        slow.go_on.set()
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")
    assert accepted == ["shown"]


async def test_a_device_that_turns_out_to_be_new_while_it_is_accepted_is_shown_first() -> None:
    accepted: list[str | None] = []

    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        accepted.append(sender_key)
        return FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1)))

    connected = {"connect": WITH_P2P, "p2p__is_new_device": True, "p2p__receive": receive}
    async with lived_in(native=True, **connected) as (house, stage):
        slow = Slow(house)
        await offered(house, transfer(sender_key="shown"))
        await opened(stage)
        await stage.click("peer-accept-t-1")
        await slow.began.wait()
        slow.go_on.set()
        await stage.reads("Ann Lee has not used this device with you before.")
        assert accepted == []
        await stage.click("peer-accept-t-1")
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")
    assert accepted == ["shown"]


async def test_an_offer_is_looked_at_again_once_another_device_was_met() -> None:
    """Until then there was none to tell it from."""
    met: list[bool] = []
    ends = [FakeEnd(transfer("active", id="t-2", receiver_session=HERE))]
    answers = {"p2p__is_new_device": lambda info: bool(met), "p2p__resume": ends}
    async with lived_in(native=True, connect=WITH_P2P, **answers) as (house, stage):
        await offered(house, transfer(sender_key="shown"))
        await opened(stage)
        await stage.reads("Safety number 11111 22222")
        assert not any("has not used this device" in shown for shown in stage.texts())
        met.append(True)
        ends[0].be("done", 20 * GB, result=Path("/nowhere/film.mkv"), status="done", updated_at=clock(3))
        await stage.reads("Ann Lee has not used this device with you before. Compare the safety number below")


async def test_an_offer_of_which_no_number_can_be_shown_is_not_accepted_and_looked_at_again() -> None:
    has_key: list[bool] = []
    ends: list[FakeEnd] = []

    def receive(transfer_id: str, *, sender_key: str | None = None) -> FakeEnd:
        ends.append(FakeEnd(transfer("accepted", receiver_session=HERE, updated_at=at(1))))
        return ends[0]

    connected = {"connect": WITH_P2P, "p2p__receive": receive,
                 "p2p__number_for": lambda info: "11111 22222" if has_key else KeyMissing(),
                 "GET /p2p/status/t-1": as_json(transfer(sender_key="shown"))}
    async with lived_in(native=True, **connected) as (house, stage):
        await offered(house, transfer(sender_key="shown"))
        await opened(stage)
        await stage.click("peer-accept-t-1")
        await stage.until(lambda: "has no key yet" in house.app.notices.text)
        assert ends == []
        has_key.append(True)
        await stage.click("peer-accept-t-1")
        await stage.reads("Waiting for Ann Lee · 0 B of 20 GB")


async def test_the_number_of_one_s_own_other_device_is_shown_too() -> None:
    own = transfer(sender_id=ME.id, sender_session="ses-2", sender_key="shown")
    async with lived_in(native=True, connect=WITH_P2P) as (house, stage):
        await offered(house, own)
        await opened(stage)
        await stage.reads("Safety number 11111 22222")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_new_device_is_compared_where_its_number_stands(language: str) -> None:
    t = Translator(language)
    below, details = {"en": ("below", "details"), "hi": ("नीचे", "विवरण")}[language]
    offer, moving = t("p2p.new_device_offer", name="Ann"), t("p2p.new_device", name="Ann")
    assert (below in offer, details in offer) == (True, False)
    assert (below in moving, details in moving) == (False, True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_question_before_storing_names_the_size_and_that_it_stays_unsealed(language: str) -> None:
    line = Translator(language)("p2p.store_line", size="20 GB")
    assert "20 GB" in line
    kept, unsealed = {"en": ("kept on the server", "not end-to-end"), "hi": ("सर्वर पर रखी", "एंड-टू-एंड")}[language]
    assert kept in line
    assert unsealed in line


async def test_pause_all_and_the_total_hold_for_what_goes_from_device_to_device_too() -> None:
    ends = [FakeEnd(transfer("active", id=f"t-{n}", receiver_session=HERE)) for n in (1, 2)]
    async with lived_in(native=True, connect=WITH_P2P, p2p__resume=ends) as (house, stage):
        await stage.until(lambda: len(house.app.peers.views) == 2)
        for end in ends:
            end.be("running", 5 * GB, status="active", updated_at=clock(2))
        await stage.go("/transfers")
        await stage.reads("2 transfers · 10 GB of 40 GB")
        await stage.reads("40 MB/s")
        await stage.click("pause-all")
        await stage.sees("resume-all")
        assert [end.did for end in ends] == [["pause"], ["pause"]]
        assert not any("2 transfers" in shown for shown in stage.texts())
        await stage.click("resume-all")
        await stage.sees("pause-all")
        assert [end.did for end in ends] == [["pause", "resume", "start"]] * 2


async def test_an_offer_is_no_part_of_the_total_and_cannot_be_paused() -> None:
    waiting = {"items": [as_json(transfer()), as_json(ours(id="t-2"))]}
    async with lived_in(native=True, connect=WITH_P2P, **{"GET /p2p": waiting}) as (house, stage):
        await stage.until(lambda: len(house.app.peers.views) == 2)
        await stage.go("/transfers")
        await stage.sees("peer-accept-t-1")
        assert stage.find("pause-all") is None
        assert not any("transfers ·" in shown for shown in stage.texts())


async def test_a_number_to_compare_appears_in_details_that_are_open() -> None:
    numbers: list[tuple[str, str, str]] = []
    asked: list[str] = []
    end: list[FakeEnd] = []

    def known(chat_id: str) -> list[tuple[str, str, str]]:
        asked.append(chat_id)
        return list(numbers)

    def send(*_: Any) -> FakeEnd:
        end.append(FakeEnd(ours()))
        return end[0]

    answers = {"p2p__safety_numbers": known, "p2p__send": send}
    async with lived_in(native=True, connect=WITH_P2P, **answers) as (house, stage):
        await house.furnish(count=1)
        await stage.until(lambda: house.app.session.server is not None)
        await stage.go("/details/c-1")
        await stage.until(lambda: asked)
        await house.app.peers.send("c-1", "/tmp/film.mkv")
        assert stage.find("safety-number") is None
        numbers.append(("film.mkv", ANN.id, "12345 23456"))
        end[0].be("running", GB, status="active", receiver_session="ses-ann", updated_at=clock(2))
        await stage.sees("safety-number")
        await stage.reads("12345 23456")


def test_what_the_server_alone_says_is_told_so() -> None:
    sent = ours("done", receiver_session="ses-ann")
    view = view_of(sent, None, me=ME.id, session_id=HERE, native=True, is_confirmed=False)
    assert (view.standing, view.is_confirmed) == ("done", False)
    assert "the server says" in standing_words(view, Translator("en"), "Ann Lee", None)  # type: ignore[arg-type]


@dataclass
class Began:
    """Both the calls and the ends of this device, of which nothing is offered and some have begun."""

    ends: list[FakeEnd]

    async def open(self) -> list[PeerTransfer]:
        return []

    async def resume(self) -> list[FakeEnd]:
        return self.ends


@pytest.mark.parametrize(("is_vouched", "words"), [
    (True, "Ann Lee’s device vouches"), (False, "only the server says what is in it")])
async def test_what_came_through_the_server_is_told_so(is_vouched: bool, words: str) -> None:
    end = FakeEnd(transfer("cancelled", receiver_session=HERE, file_id="f-1"))
    peers = PeerList()
    peers.begin(Began([end]), Began([end]), me=ME.id, session_id=HERE)  # type: ignore[arg-type]
    await peers.go_on()
    end.came_through_server, end.is_vouched = True, is_vouched
    end.be("running", GB)
    (view,) = peers.views
    assert not view.server_copy  # what it is was not compared yet
    end.be("done", 20 * GB)
    (view,) = peers.views
    assert words in standing_words(view, Translator("en"), "Ann Lee", None)  # type: ignore[arg-type]
