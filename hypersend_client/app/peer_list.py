"""Files on their way from device to device, as the screens show them.

What the server says of a transfer (`transfer` frames, messages of kind `transfer`) and how far it is on this device
together give one frozen view. The web app neither sends nor receives: its code runs on the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import flet as ft

from hypersend_client.app.transfer_list import DRAW_S, Group, TransferRow
from hypersend_client.sdk import HyperSendError
from hypersend_client.sdk.events import Event, TransferChanged
from hypersend_client.sdk.p2p_calls import PeerCalls, PeerTransfer
from hypersend_client.sdk.transfer import ENDED, Progress
from hypersend_client.sdk.uploads import Upload

Choice = Literal["accept", "decline", "cancel", "pause", "resume", "retry", "store"]
ServerCopy = Literal["", "vouched", "unvouched"]
Standing = Literal[
    "asking", "offer", "offer_web", "for_other", "between_others", "away_out", "away_in", "here",
    "done", "declined", "cancelled", "stored", "expired", "failed",
]  # fmt: skip


class End(Protocol):
    """One end of a transfer on this device."""

    info: PeerTransfer
    is_new_device: bool

    @property
    def progress(self) -> Progress: ...

    @property
    def ended(self) -> bool: ...

    def on_progress(self, listener: Callable[[Progress], None]) -> Callable[[], None]: ...

    async def wait(self) -> Any: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def start(self) -> None: ...


class Peers(Protocol):
    """`HyperSend.p2p`, as far as it is used here."""

    async def send(self, chat_id: str, path: str) -> Any: ...

    async def receive(self, transfer_id: str, *, sender_key: str | None = None) -> Any: ...

    async def store(self, transfer_id: str) -> Any: ...

    async def cancel(self, transfer_id: str) -> Any: ...

    async def is_new_device(self, info: PeerTransfer) -> bool: ...

    async def number_for(self, info: PeerTransfer) -> str: ...

    async def safety_numbers(self, chat_id: str) -> list[Any]: ...

    async def resume(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class PeerView:
    """standing: what it means to who looks; `here` where this device moves it, and then `row` says how far.

    choices: what can be done now. is_new_device: the other one is not a device that was met before. safety_number: of
    an offer. is_confirmed: not only the server says that it has arrived. server_copy: of what came through the server
    to this device: whether the one that sent it vouches for it.
    """

    id: str
    chat_id: str
    name: str
    size_bytes: int
    done_bytes: int
    mine: bool
    standing: Standing
    choices: frozenset[Choice]
    row: TransferRow
    other_id: str | None
    path: str = ""
    is_new_device: bool = False
    safety_number: str = ""
    is_confirmed: bool = True
    server_copy: ServerCopy = ""

    @property
    def group(self) -> Group:
        if self.standing == "here":
            return self.row.group
        if self.standing in ("asking", "offer", "offer_web", "away_out", "away_in"):
            return "waiting"
        return "done"


def view_of(
    info: PeerTransfer, progress: Progress | None, *, me: str, session_id: str, native: bool, path: str = "",
    is_new_device: bool = False, safety_number: str = "", is_confirmed: bool = True, server_copy: ServerCopy = "",
) -> PeerView:
    """progress: of this device's end, if it has one in this run. native: this device can send and receive."""
    sends_here = native and info.sender_session == session_id
    receives_here = native and info.receiver_session == session_id and not sends_here
    # To oneself: the device that offered it sends, the others may receive.
    mine = info.sender_id == me and not (info.receiver_id == me and not sends_here)
    for_me = not sends_here and (info.receiver_id == me or (info.receiver_id is None and info.sender_id != me))
    # A receiver may still be writing what is done, or go on with the upload that took the transfer's place.
    goes_on = receives_here and (info.status == "done" or info.file_id is not None)
    moves = goes_on and progress is not None and progress.state not in ENDED
    standing: Standing
    choices: set[Choice] = set()
    if info.is_over and not moves:
        standing = _over(info, progress)
        if sends_here and info.status in ("expired", "failed") and not info.file_id:
            choices.add("store")
    elif progress is not None and progress.state == "cancelled":
        standing = "cancelled"  # perhaps without a network: the server hears it later
    elif info.status == "offered":
        if mine:
            standing = "asking"
            choices.add("cancel")
            if sends_here:
                choices.add("store")
        elif for_me:
            standing = "offer" if native else "offer_web"
            if native:
                choices.add("accept")
            if info.receiver_id == me:
                choices.add("decline")
        else:
            standing = "for_other"
    elif sends_here or receives_here:
        standing = "here"
        choices |= _moving(progress, sends_here)
    elif mine:
        standing = "away_out"
        choices.add("cancel")
    elif info.receiver_id == me:
        standing = "away_in"
        choices.add("cancel")
    else:
        standing = "between_others"
    done = info.transferred_bytes if progress is None else max(progress.done_bytes, info.transferred_bytes)
    state = progress.state if progress is not None else "waiting"
    row = TransferRow(
        info.id, mine, info.name, info.size, done, "done" if standing == "done" else state,
        progress.bytes_per_s if progress is not None else 0.0, progress.left_s if progress is not None else None,
        progress.error if progress is not None else None, path=path,
    )  # fmt: skip
    other = info.receiver_id if mine else info.sender_id
    return PeerView(
        info.id, info.chat_id, info.name, info.size, done, mine, standing, frozenset(choices), row, other, path,
        is_new_device, safety_number if standing == "offer" else "", is_confirmed,
        server_copy if standing == "stored" else "",
    )


def _server_copy(end: End | None) -> ServerCopy:
    if end is None or end.progress.state != "done" or not getattr(end, "came_through_server", False):
        return ""
    return "vouched" if getattr(end, "is_vouched", False) else "unvouched"


def _over(info: PeerTransfer, progress: Progress | None) -> Standing:
    match info.status:
        case "done":
            return "done"
        case "declined":
            return "declined"
        case "expired":
            return "stored" if info.file_id else "expired"
        case "failed":
            return "stored" if info.file_id else "failed"
    return "stored" if info.file_id else "cancelled"


def _moving(progress: Progress | None, sends: bool) -> set[Choice]:
    """progress: None where the app began without a network and has no end yet, so nothing that could be paused."""
    choices: set[Choice] = {"cancel"}
    state = progress.state if progress is not None else "waiting"
    if state == "paused":
        choices.add("resume")
    elif state == "failed":
        choices.add("retry")
    elif progress is not None and state in ("running", "waiting", "queued"):
        choices.add("pause")
    if sends and state in ("paused", "waiting", "failed"):
        choices.add("store")
    return choices


class PeerList(ft.Observable):
    """views: those that concern this person and were open in this run, the newest first.

    version: grows with every change, also of what is not among them. offers, moving: how many wait for a word, and
    move. on_upload: called when a file goes to the server instead.
    """

    def __init__(self, on_upload: Callable[[], None] = lambda: None) -> None:
        self._on_upload = on_upload
        self.views: tuple[PeerView, ...] = ()
        self.version = 0
        self.offers = 0
        self.moving = 0
        self._me = ""
        self._session_id = ""
        self._calls: PeerCalls | None = None
        self._peers: Peers | None = None
        self._went_on = False
        self._going_on = asyncio.Lock()
        self._paths: dict[str, str] = {}
        self._known: dict[str, PeerTransfer] = {}
        self._new_devices: set[str] = set()
        self._numbers: dict[str, tuple[PeerTransfer, str]] = {}  # of an offer, as it was when its number was made
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._listed: dict[str, None] = {}
        self._ends: dict[str, End] = {}
        self._heard: dict[str, Callable[[], None]] = {}
        self._drawn_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, calls: PeerCalls, peers: Peers | None, *, me: str, session_id: str) -> None:
        """peers: None in the browser, where a person can only look on."""
        self._calls, self._peers, self._went_on = calls, peers, False
        self._me, self._session_id = me, session_id

    async def go_on(self) -> None:
        """What was on its way when the app ended, and what was offered meanwhile. Raises: HyperSendError."""
        async with self._going_on:
            if self._calls is None:
                return
            if self._peers is not None and not self._went_on:
                for end in await self._peers.resume():
                    if not isinstance(end, Upload):
                        self._hold(end)
                self._went_on = True
                self._on_upload()
            for info in await self._calls.open():
                self._learn(info, listed=True)
            self._draw()

    def end(self) -> None:
        """Nobody is signed in any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for undo in self._heard.values():
            undo()
        self._calls = self._peers = None
        for task in self._looks.values():
            task.cancel()
        for kept in (self._heard, self._ends, self._known, self._listed, self._paths, self._new_devices, self._looks,
                     self._numbers):
            kept.clear()
        self.views, self.offers, self.moving = (), 0, 0

    @property
    def can_move(self) -> bool:
        return self._peers is not None

    def view(self, transfer: dict[str, Any] | PeerTransfer) -> PeerView | None:
        """Of a message's `transfer`, as it is by now; None where it cannot be read."""
        if isinstance(transfer, dict):
            try:
                transfer = PeerTransfer.from_json(transfer)
            except ValueError:
                return None
        info = _newer(self._known.get(transfer.id), transfer)
        end = self._ends.get(info.id)
        is_for_others = info.status == "offered" and info.sender_session != self._session_id
        if is_for_others and self._peers is not None and info.id not in self._looks:
            self._look(self._peers, info)
        return view_of(
            info, None if end is None else end.progress, me=self._me, session_id=self._session_id,
            native=self._peers is not None, path=self._paths.get(info.id, ""),
            is_new_device=end.is_new_device if end is not None else info.id in self._new_devices,
            safety_number=self._numbers.get(info.id, (info, ""))[1],
            is_confirmed=end is None or getattr(end, "is_confirmed", True), server_copy=_server_copy(end),
        )  # fmt: skip

    async def safety_numbers(self, chat_id: str) -> list[tuple[str, str]]:
        """(the last file's name, number) of each device with which this one began a transfer in the chat, the latest
        first. Raises: HyperSendError.
        """
        if self._peers is None:
            return []
        return [(name, number) for name, _, number in await self._peers.safety_numbers(chat_id)]

    # Doing

    async def send(self, chat_id: str, path: str) -> None:
        """Offer a local file. Raises: FileUnreadable, ApiError."""
        assert self._peers is not None
        self._hold(await self._peers.send(chat_id, path))
        self._draw()

    async def do(self, transfer_id: str, choice: Choice) -> None:
        """Raises: ApiError, LocalStorageFailed; of accepting KeyMissing."""
        assert self._calls is not None
        calls, peers, end = self._calls, self._peers, self._ends.get(transfer_id)
        match choice:
            case "accept" if peers is not None:
                await self._accept(peers, transfer_id)
            case "decline":
                self._learn(await calls.decline(transfer_id))
            case "cancel":
                await (peers or calls).cancel(transfer_id)
                if end is None or end.progress.state != "cancelled":  # else it is called off also without a network
                    self._learn(await calls.get(transfer_id))
            case "store" if peers is not None:
                await peers.store(transfer_id)
                self._on_upload()
                self._learn(await calls.get(transfer_id))
            case "pause" if end is not None:
                end.pause()
            case "resume" | "retry" if end is not None:
                end.resume()
                end.start()
        self._draw()

    @property
    def rows(self) -> tuple[TransferRow, ...]:
        """Those that this device moves, as uploads and downloads have them."""
        return tuple(view.row for view in self.views if view.standing == "here")

    def pause_all(self) -> None:
        self._all_with("pause", lambda end: end.pause())

    def resume_all(self) -> None:
        def go_on(end: End) -> None:
            end.resume()
            end.start()

        self._all_with("resume", go_on)

    def _all_with(self, choice: Choice, do: Callable[[End], None]) -> None:
        for view in self.views:
            end = self._ends.get(view.id)
            if end is not None and choice in view.choices:
                do(end)
        self._draw()

    def clear_done(self) -> None:
        for view in self.views:
            if view.group == "done":
                self._listed.pop(view.id, None)
                undo = self._heard.pop(view.id, None)
                if undo is not None:
                    undo()
                self._ends.pop(view.id, None)
        self._draw()

    # What is heard

    def on_event(self, event: Event) -> None:
        if isinstance(event, TransferChanged):
            try:
                info = PeerTransfer.from_json(event.transfer)
            except ValueError:
                return
            self._learn(info, listed=not info.is_over)
            if info.status == "active":
                self._draw_soon()
            else:
                self._draw()

    def _learn(self, info: PeerTransfer, *, listed: bool = False) -> None:
        self._known[info.id] = _newer(self._known.get(info.id), info)
        if listed:
            self._listed.setdefault(info.id)

    def _hold(self, end: End) -> None:
        transfer_id = end.info.id
        if transfer_id in self._heard:
            self._heard.pop(transfer_id)()
        self._ends[transfer_id] = end
        self._learn(end.info, listed=True)
        self._heard[transfer_id] = end.on_progress(lambda progress: self._moved(end, progress))

    def _moved(self, end: End, progress: Progress) -> None:
        self._learn(end.info)
        if progress.state == "done" and end.info.id not in self._paths:
            self._paths[end.info.id] = ""
            self._finding = asyncio.ensure_future(self._find(end))
            self._look_again()
        if progress.state in ("running", "checking", "finishing"):
            self._draw_soon()
        else:
            self._draw()

    async def _accept(self, peers: Peers, transfer_id: str) -> None:
        """Of the device that was shown alone. Where it only now turns out to be a new one, that is shown, and nothing
        accepted.
        """
        was_new, task = transfer_id in self._new_devices, self._looks.get(transfer_id)
        if task is None or task.done():
            if transfer_id in self._numbers:
                task = self._look(peers, self._numbers[transfer_id][0])  # others may have been met since
            else:
                assert self._calls is not None
                task = self._look(peers, await self._calls.get(transfer_id))  # perhaps the key is known by now
        await asyncio.shield(task)
        if transfer_id in self._new_devices and not was_new:
            return
        self._hold(await peers.receive(transfer_id, sender_key=self._numbers[transfer_id][0].sender_key))

    def _look_again(self) -> None:
        """A device was met, beside which others are new ones."""
        for info, _ in [*self._numbers.values()]:
            if self._peers is not None and _newer(self._known.get(info.id), info).status == "offered":
                self._look(self._peers, info)

    def _look(self, peers: Peers, info: PeerTransfer) -> asyncio.Task[None]:
        task = self._looks[info.id] = asyncio.ensure_future(self._look_at_device(peers, info))
        # Whoever accepts is told; until then it is no error that nobody has asked for.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    async def _look_at_device(self, peers: Peers, info: PeerTransfer) -> None:
        """Before it is accepted, people are to know which device that is, and whether they have met it.

        Raises: KeyMissing, LocalStorageFailed.
        """
        number = await peers.number_for(info)
        (self._new_devices.add if await peers.is_new_device(info) else self._new_devices.discard)(info.id)
        # Last, and both at once: from here on it counts as shown.
        self._numbers[info.id] = (info, number)
        self._draw()

    async def _find(self, end: End) -> None:
        """Where a file that was received has come to lie."""
        with contextlib.suppress(HyperSendError):
            result = await end.wait()
            if isinstance(result, Path):
                self._paths[end.info.id] = str(result)
                self._draw()

    # Drawing

    def _draw_soon(self) -> None:
        wait_s = self._drawn_at + DRAW_S - time.monotonic()
        if wait_s <= 0:
            self._draw()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._draw)

    def _draw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drawn_at = time.monotonic()
        self.views = tuple(_present(self.view(self._known[transfer_id]) for transfer_id in reversed([*self._listed])))
        self.offers = sum(1 for view in self.views if view.standing == "offer")
        self.moving = sum(1 for view in self.views if view.group == "running")
        self.version += 1


def _present(views: Iterable[PeerView | None]) -> list[PeerView]:
    return [view for view in views if view is not None and view.standing not in ("for_other", "between_others")]


def _newer(one: PeerTransfer | None, other: PeerTransfer) -> PeerTransfer:
    """Frames and messages come by different ways, and perhaps not in order."""
    if one is None or one.updated_at is None or other.updated_at is None:
        return other
    if one.is_over != other.is_over:  # what is over stays so, but for the upload that takes its place
        return one if one.is_over else other
    return one if one.updated_at > other.updated_at else other
