"""The messages as a list that is scrolled: blocks of lines, the day that floats over them, paging both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import flet as ft

from hypersend_client.app.chat.actions import Actions
from hypersend_client.app.chat.blocks import Block, line_at, plan, time_of
from hypersend_client.app.chat.bubble import BubbleLine, DayRow, SystemRow, UnreadRow, pill
from hypersend_client.app.chat.model import Bubble, DayLine, Line, SystemLine, UnreadLine
from hypersend_client.app.chat.room import Room
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Motion, Space
from hypersend_client.app.words import day

PAD = Space.S
EDGE = 2  # pixels
NUDGE = 40
AHEAD = 1000  # is laid out before it comes into sight
MARGIN = 3000  # of what was scrolled past is kept when the list is turned or cut
MOST_BLOCKS = 60
DAY_S = 1.2
SETTLE_S = (0.1, 0.2, 0.4)

Face = tuple[str, str, str | None]  # a sender's id, name, picture
memo: Any = ft.memo


class FloatingTime(ft.Observable):
    """when: a time on the day that floats at the top; None for none."""

    def __init__(self) -> None:
        self.when: datetime | None = None
        self._timer: asyncio.TimerHandle | None = None

    def show(self, when: datetime) -> None:
        """For a moment."""
        if self.when is None or self.when.date() != when.date():
            self.when = when
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(DAY_S, self.hide)

    def hide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.when = None


class Sight:
    """What is in sight, as far as the screen has told: the heights of blocks by number, and of the list, in pixels."""

    def __init__(self) -> None:
        self.heights: dict[int, float] = {}
        self.viewport = 0.0
        self.pixels: float | None = None
        self.day = FloatingTime()
        self.on_sized: Callable[[], None] = lambda: None

    def is_near(self, offset: float) -> bool:
        """Whether the list has told, since it was last moved, that it is scrolled to about there."""
        return self.pixels is not None and abs(self.pixels - offset) < self.viewport

    def sized(self, number: int, height: float) -> None:
        self.heights[number] = height
        self.on_sized()


@ft.component
def Messages(room: Room, group: bool, most: int, actions: Actions, sight: Sight) -> ft.Control:
    """The list; most: pixels that a bubble may be wide."""
    app = use_app()
    if group:
        watch(app.people)
    listing: Any = ft.use_ref(None)

    async def move() -> None:
        if room.moves and listing.current is not None:
            number = room.moves
            await listing.current.scroll_to(offset=room.offset)
            # A list that is turned at that moment may take it for its other direction, so what it tells is awaited.
            for pause in SETTLE_S:
                await asyncio.sleep(pause)
                if number != room.moves or not room.is_open or sight.is_near(room.offset):
                    return
                await listing.current.scroll_to(offset=room.offset)

    ft.use_effect(move, [room.moves])
    nudged: Any = ft.use_ref(-1)

    def nudge() -> None:
        """A list that begins with its oldest line is first scrolled a little, so that one can scroll up at all."""
        if nudged.current != room.place:
            nudged.current = room.place
            if room.forward and room.has_older:
                app.spawn(listing.current.scroll_to(offset=NUDGE))

    sight.on_sized = nudge

    def scrolled(event: ft.OnScrollEvent) -> None:
        on_scroll(room, sight, event)

    shown = room.blocks[::-1] if room.forward else room.blocks
    listing.current = ft.ListView(
        [_block(block, most, room, app, group, actions, sight) for block in shown],
        key=f"place-{room.place}",
        reverse=not room.forward,
        expand=True,
        padding=ft.Padding.symmetric(vertical=PAD),
        on_scroll=scrolled,
        scroll_interval=ChatSize.PAGE_STEP,
        cache_extent=AHEAD,
    )
    found: ft.Control = listing.current
    return found


def on_scroll(room: Room, sight: Sight, event: Any) -> None:
    """Page, turn the list where it has to go on at the end that it begins at, and float the day."""
    pixels = event.pixels - event.min_scroll_extent
    left = event.max_scroll_extent - event.pixels
    sight.viewport, sight.pixels = event.viewport_dimension, pixels
    shown = room.blocks[::-1] if room.forward else room.blocks
    top = pixels if room.forward else pixels + sight.viewport
    line = line_at(shown, sight.heights, max(0.0, top - PAD), forward=room.forward)
    when = time_of(line) if line is not None else None
    if when is not None and event.scroll_delta:
        sight.day.show(when)
    _mark_seen(room, sight, shown, pixels)
    if room.forward:
        room.scrolled(left, pixels, ChatSize.SCROLL)
    else:
        room.scrolled(pixels, left, ChatSize.SCROLL)

    def turn(*, forward: bool) -> bool:
        found = plan(
            shown, sight.heights, pixels=pixels, viewport=sight.viewport, pad=PAD, margin=MARGIN,
            turn=forward is not room.forward,
        )  # fmt: skip
        if found is not None:
            sight.pixels = None
            room.reframe(found, forward=forward)
        return found is not None

    if room.forward and left <= EDGE and room.follows and not room.has_newer:
        turn(forward=False)
    elif room.forward and pixels <= EDGE and room.has_older:
        if turn(forward=False):
            room.app.spawn(room.older())
    elif not room.forward and pixels <= EDGE and room.has_newer and not room.follows:
        if turn(forward=True):
            room.app.spawn(room.newer())
    elif len(shown) > MOST_BLOCKS and not room.loading_older and not room.loading_newer:
        turn(forward=room.forward)


def _mark_seen(room: Room, sight: Sight, shown: tuple[Block, ...], pixels: float) -> None:
    """What has wholly passed the lower edge has been read."""
    if not room.forward:
        return
    edge = float(PAD)
    for block in shown:
        height = sight.heights.get(block.number)
        edge += height or 0.0
        if height is None or edge > pixels + sight.viewport:
            return
        if block.last > room.seen_to:
            room.app.spawn(room.saw(block.last))


def _block(
    block: Block, most: int, room: Room, app: AppState, group: bool, actions: Actions, sight: Sight
) -> ft.Control:
    lit = room.highlight
    if lit and not any(isinstance(line, Bubble) and line.message_id == lit for line in block.lines):
        lit = ""
    drawn: ft.Control = memo(BlockOfLines)(
        block,
        most,
        lit,
        group,
        _faces(block, app) if group else (),
        actions,
        sight,
        key=f"block-{block.number}",
    )
    return drawn


def _faces(block: Block, app: AppState) -> tuple[Face, ...]:
    """Who stands beside the bubbles of others."""
    senders = {line.sender_id: None for line in block.lines if isinstance(line, Bubble) and line.tail and not line.mine}
    faces = []
    for sender_id in senders:
        user = app.people.get(sender_id)
        url = app.media_url(user.avatar_url) if user is not None else None
        faces.append((sender_id or "", app.people.name(sender_id), url))
    return tuple(faces)


@ft.component
def BlockOfLines(
    block: Block,
    most: int,
    lit: str,
    group: bool,
    faces: tuple[Face, ...],
    actions: Actions,
    sight: Sight,
) -> ft.Control:
    """lit: the id of the message that was jumped to."""
    names = {sender_id: (name, url) for sender_id, name, url in faces}

    def sized(event: Any) -> None:
        sight.sized(block.number, event.height)

    return ft.Container(
        data="block",
        on_size_change=sized,
        content=ft.Column(
            [_line(line, most, lit, group, names, actions) for line in block.lines],
            spacing=0,
            tight=True,
            horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
        ),
    )


def _line(
    line: Line, most: int, lit: str, group: bool, names: dict[str, tuple[str, str | None]], actions: Actions
) -> ft.Control:
    drawn: ft.Control
    match line:
        case DayLine():
            drawn = memo(DayRow)(line, key=line.key)
        case UnreadLine():
            drawn = memo(UnreadRow)(key=line.key)
        case SystemLine():
            drawn = memo(SystemRow)(line, key=line.key)
        case _:
            name, url = names.get(line.sender_id or "", ("", None))
            is_lit = bool(lit) and lit == line.message_id
            drawn = memo(BubbleLine)(line, most, is_lit, group, name, url, actions, key=line.key)
    return drawn


@ft.component
def FloatingDay(time: FloatingTime) -> ft.Control:
    """The day of what is at the top, while it is scrolled."""
    app, t = use_app(), use_t()
    shown = time.when
    last: Any = ft.use_ref(None)
    last.current = shown or last.current
    label = day(last.current, watch(app.clock).now, t) if last.current is not None else ""
    return ft.TransparentPointer(
        content=ft.Semantics(
            identifier="floating-day" if shown is not None else None,
            exclude_semantics=True,
            content=ft.Container(
                content=pill(label),
                opacity=1.0 if shown is not None else 0.0,
                animate_opacity=Motion.NORMAL,
            ),
        )
    )
