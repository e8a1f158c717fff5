"""A conversation in blocks of a few lines, and where on the screen they stand.

The list is made of blocks, so that what does not change costs nothing however long it is, and so that their heights,
which the screen tells, say what is in sight. A list keeps its place only for what is added at its far end: it grows
upwards when it is built from its newest line (`forward` is False), downwards when from its oldest. To go on at the
near end it is turned round, and what is in sight stays where it is by the offset that `plan` works out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hypersend_client.app.chat.model import Bubble, DayLine, Line, SystemLine, UnreadLine

SEQS = 16


@dataclass(frozen=True, slots=True)
class Block:
    """lines: the oldest first. first, last: the `seq` of its messages on the server; 0 where it has none."""

    number: int
    lines: tuple[Line, ...]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What stays, as `seq` of the first and last message; where the list is to be scrolled to then, in pixels."""

    first: int
    last: int
    offset: float


def blocks(lines: Sequence[Line], before: Iterable[Block] = ()) -> tuple[Block, ...]:
    """The newest first, as `lines` are. before: those of last time, which are used again where they are the same."""
    known = {block.number: block for block in before}
    found: list[Block] = []
    held: list[Line] = []  # a day line goes with what follows it
    seq = 0
    parts: dict[int, list[Line]] = {}
    seqs: dict[int, list[int]] = {}
    for line in reversed(lines):
        held.append(line)
        if isinstance(line, DayLine | UnreadLine):
            continue
        message = line.message
        seq = message.seq if message is not None else seq + 1  # what waits will come next
        number = seq // SEQS
        parts.setdefault(number, []).extend(held)
        if message is not None:
            seqs.setdefault(number, []).append(seq)
        held = []
    for number, part in parts.items():
        own = seqs.get(number, [0])
        block = Block(number, tuple(part), own[0], own[-1])
        old = known.get(number)
        found.append(old if old is not None and old == block else block)
    found.reverse()
    return tuple(found)


def plan(
    shown: Sequence[Block],
    heights: dict[int, float],
    *,
    pixels: float,
    viewport: float,
    pad: float,
    margin: float,
    turn: bool,
) -> Plan | None:
    """How to go on with what is in sight and `margin` pixels around it; None while a height is not known.

    shown: from the end where the list begins. pixels: scrolled from there. pad: space at each end of the list. turn:
    whether it is to begin at the other end.
    """
    kept: list[Block] = []
    edge, cut = pad, 0.0
    for block in shown:
        height = heights.get(block.number)
        if height is None:
            if edge < pixels + viewport:
                return None
            break
        start, edge = edge, edge + height
        if edge <= pixels - margin:
            cut += height
        elif start < pixels + viewport + margin:
            kept.append(block)
        else:
            break
    seqs = [seq for block in kept for seq in (block.first, block.last) if seq]
    if not seqs:
        return None
    whole = sum(heights[block.number] for block in kept) + 2 * pad
    offset = pixels - cut
    return Plan(min(seqs), max(seqs), max(0.0, whole - viewport - offset) if turn else offset)


def line_at(shown: Sequence[Block], heights: dict[int, float], y: float, *, forward: bool) -> Line | None:
    """About which line stands `y` pixels from the end where the list begins; the lines of a block count alike."""
    edge = 0.0
    for block in shown:
        height = heights.get(block.number)
        if height is None:
            return None
        if y <= edge + height and height > 0:
            share = min(1.0, max(0.0, (y - edge) / height))
            place = share if forward else 1 - share
            return block.lines[min(len(block.lines) - 1, int(place * len(block.lines)))]
        edge += height
    return None


def time_of(line: Line) -> datetime | None:
    match line:
        case Bubble() | DayLine():
            return line.at
        case SystemLine():
            return line.message.created_at
    return None
