"""What stands in a conversation, without a screen."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.app.chat import model
from hypersend_client.app.chat.model import Bubble, DayLine, Marks, SystemLine, UnreadLine
from hypersend_client.app.chat.room import split_text
from hypersend_client.sdk import Entry, File, Member, Message, User
from hypersend_client.sdk.models import ForwardedFrom, Reaction

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ME, ANN, BO = "me", "ann", "bo"


def message(seq: int, sender: str = ANN, *, minutes: float = 0, text: str = "Hello", **more: object) -> Message:
    return Message(
        id=f"m{seq}", chat_id="c", seq=seq, rev=seq, sender_id=sender, client_id=f"k{seq}", text=text,
        created_at=T0 + timedelta(minutes=minutes), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def entry(name: str, *, minutes: float = 0, state: str = "queued", **body: object) -> Entry:
    return Entry(
        "c", name, {"client_id": name, "text": "Later", **body}, (), state, "", "", T0 + timedelta(minutes=minutes)
    )  # type: ignore[arg-type]


def bubbles(*messages: Message, **more: object) -> list[Bubble]:
    """From the oldest to the newest."""
    found = model.lines(messages, me=ME, zone=UTC, **more)  # type: ignore[arg-type]
    return [line for line in reversed(found) if isinstance(line, Bubble)]


def test_messages_of_one_sender_within_five_minutes_stand_together() -> None:
    one, two, three = bubbles(message(1), message(2, minutes=5), message(3, minutes=10.1))
    assert (one.start, one.tail) == (True, False)
    assert (two.start, two.tail) == (False, True)
    assert (three.start, three.tail) == (True, True)


def test_another_sender_begins_anew_and_the_name_stands_over_the_first_in_groups() -> None:
    names = {ANN: "Ann", BO: "Bo", ME: "Me", None: ""}
    one, two, three, four = bubbles(
        message(1), message(2), message(3, BO), message(4, ME), group=True, name_of=lambda user_id: names[user_id]
    )
    assert [line.name for line in (one, two, three, four)] == ["Ann", "", "Bo", ""]
    assert [line.speaker for line in (one, two, three, four)] == ["Ann", "Ann", "Bo", ""]
    assert [line.tail for line in (one, two, three, four)] == [False, True, True, True]


def test_a_new_day_has_a_line_and_breaks_what_stands_together() -> None:
    found = model.lines([message(1, minutes=899), message(2, minutes=901)], me=ME, zone=UTC)
    assert [type(line) for line in reversed(found)] == [DayLine, Bubble, DayLine, Bubble]
    assert all(line.start and line.tail for line in found if isinstance(line, Bubble))


def test_the_unread_line_stands_before_the_first_unread_message_of_others() -> None:
    system = replace(message(3), kind="system", system={"event": "member_added"})
    found = model.lines([message(1), message(2, ME), system, message(4), message(5)], me=ME, unread_after=1, zone=UTC)
    kinds = [type(line) for line in reversed(found)]
    assert kinds == [DayLine, Bubble, Bubble, SystemLine, UnreadLine, Bubble, Bubble]


def test_without_anything_unread_there_is_no_unread_line() -> None:
    found = model.lines([message(1), message(2, ME)], me=ME, unread_after=1, zone=UTC)
    assert not any(isinstance(line, UnreadLine) for line in found)


@pytest.mark.parametrize(
    ("members", "tick"),
    [
        ([(1, 0), (9, 9)], "sent"),
        ([(5, 0), (9, 9)], "delivered"),
        ([(5, 4), (9, 5)], "delivered"),
        ([(0, 5), (9, 9)], "read"),
        ([], "sent"),
    ],
)
def test_ticks_follow_the_slowest_of_the_others(members: list[tuple[int, int]], tick: str) -> None:
    others = [
        Member(User(f"u{n}"), delivered_seq=delivered, read_seq=read) for n, (delivered, read) in enumerate(members)
    ]
    marks = model.marks_of([Member(User(ME)), *others], ME)
    assert model.tick_of(message(5, ME), marks, ME) == tick


def test_who_left_holds_no_tick_back_and_messages_of_others_have_none() -> None:
    gone = Member(User("gone"), left_at=T0)
    marks = model.marks_of([Member(User(ME)), gone, Member(User(ANN), read_seq=7)], ME)
    assert model.tick_of(message(7, ME), marks, ME) == "read"
    assert model.tick_of(message(7, ANN), marks, ME) == ""


def test_what_waits_stands_last_with_a_clock_and_goes_when_its_message_has_come() -> None:
    waiting, failed = entry("k9"), entry("k10", state="failed")
    *_, one, two = bubbles(message(1), entries=[waiting, failed])
    assert (one.tick, two.tick) == ("waiting", "failed")
    sent = replace(message(2, ME), client_id="k9")
    shown = bubbles(message(1), sent, entries=[waiting, failed])
    assert [line.key for line in shown] == ["m1", "k9", "k10"]


def test_a_message_keeps_its_key_when_it_is_sent() -> None:
    [before] = bubbles(entries=[entry("k1")])
    [after] = bubbles(message(1, ME))
    assert before.key == after.key


def test_a_deleted_message_loses_all_it_had() -> None:
    full = message(
        1, ME, files=[File("f")], reactions=[Reaction("👍", [ANN])], reply_to="m0", edited_at=T0,
        forwarded_from=ForwardedFrom("x", "y", ANN), deleted_at=T0,
    )  # fmt: skip
    [line] = bubbles(full)
    assert line.deleted
    assert (line.text, line.files, line.reactions, line.quote, line.edited, line.forwarded, line.tick) == (
        "", (), (), None, False, False, ""
    )  # fmt: skip


def test_a_quote_says_who_and_what_and_what_is_not_known() -> None:
    answer = message(2, ME, reply_to="m1")
    far = message(3, ME, reply_to="m0")
    gone = message(4, ME, reply_to="m5")
    deleted = replace(message(5), deleted_at=T0)
    lines = bubbles(message(1, text="two\n lines"), answer, far, gone, deleted, name_of=lambda user_id: "Ann")
    quotes = [line.quote for line in lines]
    assert quotes[1] is not None
    assert (quotes[1].name, quotes[1].text) == ("Ann", "two lines")
    assert quotes[2] is not None
    assert quotes[2].kind == "unknown"
    assert quotes[3] is not None
    assert quotes[3].kind == "deleted"
    assert model.missing_quotes([answer, far], {"m1"}) == {"m0"}


def test_reactions_say_which_are_mine() -> None:
    [line] = bubbles(message(1, reactions=[Reaction("👍", [ANN, ME]), Reaction("🙏", [ANN]), Reaction("😂", [])]))
    assert [(r.emoji, r.count, r.mine) for r in line.reactions] == [("👍", 2, True), ("🙏", 1, False)]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    minutes, found = 0.0, []
    for seq in range(1, draw(st.integers(0, 30)) + 1):
        minutes += draw(st.sampled_from([0, 1, 4, 5, 6, 700]))
        kind = draw(st.sampled_from(["text", "text", "text", "system"]))
        sender = draw(st.sampled_from([ME, ANN, BO]))
        found.append(replace(message(seq, sender, minutes=minutes), kind=kind))
    return found


@given(conversations(), st.integers(-1, 31))
def test_every_message_stands_once_in_order_and_each_run_has_one_start_and_one_tail(
    messages: list[Message], unread_after: int
) -> None:
    found = list(reversed(model.lines(messages, me=ME, zone=UTC, group=True, unread_after=unread_after)))
    shown = [line.message for line in found if isinstance(line, Bubble | SystemLine)]
    assert shown == messages
    assert len({line.key for line in found}) == len(found)
    assert sum(isinstance(line, UnreadLine) for line in found) <= 1
    run: Bubble | None = None
    for line in found:
        if isinstance(line, Bubble):
            assert line.start == (run is None)
            if run is not None:
                assert run.sender_id == line.sender_id
            run = None if line.tail else line
        else:
            assert run is None


@given(conversations(), st.integers(0, 30))
def test_paging_older_messages_in_leaves_the_newer_lines_as_they_were(messages: list[Message], cut: int) -> None:
    """Otherwise the whole conversation would be drawn anew with every page."""
    part = messages[cut:]
    whole = {line.key: line for line in model.lines(messages, me=ME, zone=UTC)}
    for place, line in enumerate(reversed(model.lines(part, me=ME, zone=UTC))):
        if place > 1 and not isinstance(line, DayLine):
            assert whole[line.key] == line


@given(st.text(alphabet="a .,()https:/w\n?=&मн🎬", max_size=60))
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    found = model.pieces(text)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.url.lower().startswith(("http://", "https://")) for piece in found if piece.url)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see https://example.org/a_(b).", ["https://example.org/a_(b)"]),
        ("(https://example.org)", ["https://example.org"]),
        ("www.example.org, and more", ["https://www.example.org"]),
        ("यहाँ देखें: https://example.org/न।", ["https://example.org/न"]),
        ("javascript:alert(1) file:///etc/passwd mail@www.example.org", []),
        ("https://", []),
    ],
)
def test_links_end_where_a_reader_would_end_them(text: str, links: list[str]) -> None:
    assert [piece.url for piece in model.pieces(text) if piece.url] == links


@given(st.text(min_size=1, max_size=200), st.integers(12, 60))
def test_a_short_name_keeps_its_ending_and_its_measure(name: str, most: int) -> None:
    short = model.short_name(name, most)
    assert len(short) <= most
    assert short[-4:] == name[-4:]
    assert short == name or "…" in short


def test_a_short_name_tears_no_letter_from_its_signs() -> None:
    name = "हमारी शादी की पूरी फ़िल्म, आख़िरी संस्करण, सबके लिए.mkv"
    for most in range(12, 50):
        begin, _, end = model.short_name(name, most).partition("…")
        assert not unicodedata.category(end[0]).startswith("M")
        assert not unicodedata.category(name[len(begin)]).startswith("M")


@given(st.one_of(st.none(), st.integers(0, 20_000)), st.one_of(st.none(), st.integers(0, 20_000)))
def test_a_picture_fits_into_its_place(width: int | None, height: int | None) -> None:
    wide, high = model.fit(width, height, 320, 360)
    assert 0 < wide <= 320
    assert 0 < high <= 360 + 1e-6
    assert 1 / 3 - 1e-6 <= wide / high <= 3 + 1e-6


def test_proportions_are_kept() -> None:
    wide, high = model.fit(480, 320, 300, 360)
    assert wide == 300
    assert high == pytest.approx(200)


@given(st.text(max_size=300), st.integers(10, 50))
def test_a_long_text_is_sent_in_parts_without_losing_a_word(text: str, most: int) -> None:
    parts = split_text(text, most)
    assert all(0 < len(part) <= most for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("name", "mime", "kind"),
    [
        ("a.png", "image/png", "image"),
        ("a.tar.gz", "application/gzip", "archive"),
        ("a.PDF", "application/octet-stream", "pdf"),
        ("a.apk", "application/vnd.android.package-archive", "app"),
        ("a.odt", "application/octet-stream", "document"),
        ("a", "application/octet-stream", "file"),
    ],
)
def test_the_icon_follows_type_and_ending(name: str, mime: str, kind: str) -> None:
    assert model.file_kind(name, mime) == kind


def test_marks_of_nobody_are_nothing() -> None:
    assert model.marks_of([], ME) == Marks()
