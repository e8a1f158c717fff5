"""Where the lines of a conversation stand, and how the list goes on at the end that it begins at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.app.chat import model
from hypersend_client.app.chat.blocks import SEQS, blocks, line_at, plan
from hypersend_client.sdk import Message

PAD = 8.0


def conversation(count: int, start: int = 1) -> tuple[model.Line, ...]:
    began = datetime(2026, 3, 1, tzinfo=UTC)
    messages = [
        Message(f"m-{n}", "c", n, n, sender_id="ann", text="x", created_at=began + n * timedelta(hours=1))
        for n in range(start, start + count)
    ]
    return model.lines(messages, me="me", zone=UTC, unread_after=start + count // 2)


@given(st.integers(0, 120), st.integers(1, 1000))
def test_blocks_hold_every_line_once_in_order(count: int, start: int) -> None:
    lines = conversation(count, start)
    found = blocks(lines)
    assert [line for block in reversed(found) for line in block.lines] == list(reversed(lines))
    assert all(block.first // SEQS == block.last // SEQS == block.number for block in found)


@given(st.integers(20, 120), st.integers(1, 40))
def test_what_is_added_leaves_the_other_blocks_as_they_were(count: int, more: int) -> None:
    before = blocks(conversation(count, 200))
    after = blocks(conversation(count + more, 200 - more), before)
    # All but the oldest, where the day line may have moved, and those around the unread line.
    kept = {id(block) for block in after}
    same = sum(id(block) in kept for block in before)
    assert same >= len(before) - 5


@given(
    heights=st.lists(st.floats(50, 2000), min_size=1, max_size=40),
    share=st.floats(0, 1),
    viewport=st.floats(300, 1200),
    margin=st.floats(0, 3000),
    turn=st.booleans(),
)
def test_what_is_in_sight_stays_where_it_is(
    heights: list[float], share: float, viewport: float, margin: float, turn: bool
) -> None:
    shown = blocks(conversation(SEQS * len(heights), SEQS))
    shown = shown[: len(heights)]
    known = {block.number: height for block, height in zip(shown, heights, strict=True)}
    whole = sum(heights) + 2 * PAD
    pixels = share * max(0.0, whole - viewport)
    found = plan(shown, known, pixels=pixels, viewport=viewport, pad=PAD, margin=margin, turn=turn)
    assert found is not None
    kept = [block for block in shown if found.first <= block.first and block.last <= found.last]
    edge = PAD
    tops = {}
    for block in shown:
        tops[block.number] = edge
        edge += known[block.number]
    in_sight = [b for b in shown if tops[b.number] < pixels + viewport and tops[b.number] + known[b.number] > pixels]
    assert {block.number for block in in_sight} <= {block.number for block in kept}
    if whole < viewport:
        return
    order = kept[::-1] if turn else kept
    edge = PAD
    for block in order:
        here = edge - found.offset
        edge += known[block.number]
        there = edge - found.offset
        was = tops[block.number] - pixels
        # From the other end, the lower edge of a block is its upper one.
        assert abs((viewport - there if turn else here) - was) < 0.01


def test_nothing_is_planned_while_a_height_in_sight_is_not_known() -> None:
    shown = blocks(conversation(SEQS * 3, SEQS))
    heights = {shown[0].number: 400.0}
    assert plan(shown, heights, pixels=0, viewport=700, pad=PAD, margin=100, turn=True) is None
    assert plan(shown, heights, pixels=0, viewport=300, pad=PAD, margin=1000, turn=True) is not None


def test_the_line_at_a_place_is_about_the_one_that_is_drawn_there() -> None:
    shown = blocks(conversation(SEQS * 2, SEQS))
    heights = {block.number: 1600.0 for block in shown}
    newest, oldest = shown[0].lines[-1], shown[-1].lines[0]
    assert line_at(shown, heights, 1, forward=False) is newest
    assert line_at(shown, heights, 3199, forward=False) is oldest
    assert line_at(shown[::-1], heights, 1, forward=True) is oldest
    assert line_at(shown, heights, 9999, forward=False) is None


@given(st.integers(0, 60))
def test_an_album_has_room_for_every_picture(count: int) -> None:
    rows = model.album(count)
    assert sum(rows) == count
    assert all(1 <= row <= 3 for row in rows)
    assert 1 not in rows or count in (1, 3)
