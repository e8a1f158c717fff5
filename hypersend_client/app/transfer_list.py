"""What is being sent and fetched, as rows for the screen.

On a desktop or a phone the SDK moves the bytes (`begin` gives it the account's `Transfers`). In the browser the upload
page does, and its progress comes as `upload` events, which name the chat that the page was opened for; when the file is
there, the message goes out to it. Uploads of this person's other devices name no chat and are left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Literal

import flet as ft

from hypersend_client.sdk import ApiError, File, HyperSend, HyperSendError
from hypersend_client.sdk.downloads import Download
from hypersend_client.sdk.events import UploadProgress
from hypersend_client.sdk.transfer import Progress, Speed, State
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.sdk.uploads import Upload

DRAW_S = 0.25
Group = Literal["running", "waiting", "done"]
_GROUPS: dict[State, Group] = {
    "done": "done",
    "cancelled": "done",
    "failed": "waiting",
    "paused": "waiting",
    "queued": "waiting",
}


@dataclass(frozen=True, slots=True)
class TransferRow:
    """id: the SDK's, or `web:` and the file's. path: of a finished download. error: why it waits, or failed."""

    id: str
    up: bool
    name: str
    size_bytes: int
    done_bytes: int
    state: State
    bytes_per_s: float = 0.0
    left_s: float | None = None
    error: HyperSendError | None = None
    file_id: str = ""
    path: str = ""
    in_page: bool = False

    @property
    def group(self) -> Group:
        return _GROUPS.get(self.state, "running")

    @property
    def share(self) -> float | None:
        """0–1; None where the size is not known yet."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.done_bytes / self.size_bytes) if self.size_bytes else None


@dataclass(frozen=True, slots=True)
class Total:
    """Of all that is not done. left_s: None while it cannot be told."""

    count: int
    done_bytes: int
    size_bytes: int
    bytes_per_s: float
    left_s: float | None


def total_of(rows: Collection[TransferRow]) -> Total:
    active = [row for row in rows if row.group == "running"]
    done = sum(row.done_bytes for row in active)
    size = sum(row.size_bytes for row in active)
    rate = sum(row.bytes_per_s for row in active)
    return Total(len(active), done, size, rate, (size - done) / rate if rate > 1 else None)


def running_count(transfers: TransferList) -> int:
    """What moves at this moment: the number on the navigation entry."""
    return sum(1 for row in transfers.rows if row.group == "running" or row.state == "queued")


class _PageUpload:
    """A file that the upload page sends."""

    def __init__(self, file: File, chat_id: str) -> None:
        self.file = file
        self.chat_id = chat_id
        self.done_bytes = 0
        self.state: State = "running"
        self.speed = Speed()
        self.sent = False


class TransferList(ft.Observable):
    """rows: the newest first."""

    def __init__(self) -> None:
        self.rows: tuple[TransferRow, ...] = ()
        self.waiting = 0
        self._hs: HyperSend | None = None
        self._sdk: Transfers | None = None
        self._page_uploads: dict[str, _PageUpload] = {}
        self._sought: set[str] = set()
        self._heard: dict[str, Callable[[], None]] = {}
        self._drawn_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    def begin(self, hs: HyperSend, transfers: Transfers | None) -> None:
        """transfers: None in the browser, where the upload page moves the bytes."""
        self._unsubscribe()
        self._hs, self._sdk = hs, transfers
        if transfers is not None:
            hs.uploads = transfers
        else:
            self._unsubscribe = hs.connection.on(lambda event: self._on_event(event))

    async def go_on(self) -> None:
        """After signing in: what was not finished last time. Raises: SignedOut, LocalStorageFailed."""
        if self._sdk is not None:
            await self._sdk.resume()
            self._listen()
            self._draw()

    async def end(self) -> None:
        """Stop all for now: the window is gone, or nobody is signed in."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for undo in self._heard.values():
            undo()
        self._heard.clear()
        self._page_uploads.clear()
        sdk, self._sdk, self._hs = self._sdk, None, None
        if sdk is not None:
            await sdk.close()
        self.rows, self.waiting = (), 0

    def look_again(self) -> None:
        """Transfers were begun elsewhere."""
        if self._sdk is not None:
            self._listen()
            self._draw()

    def row(self, row_id: str) -> TransferRow | None:
        return next((row for row in self.rows if row.id == row_id), None)

    def download_of(self, file_id: str) -> TransferRow | None:
        return next((row for row in self.rows if not row.up and row.file_id == file_id), None)

    # Doing

    async def send(self, chat_id: str, path: str, *, reply_to: str | None = None) -> None:
        """Upload a local file and send it. Raises: FileUnreadable, LocalStorageFailed, SignedOut."""
        assert self._sdk is not None
        assert self._hs is not None
        ref = await self._sdk.attach(path, chat_id=chat_id)
        self._listen()
        self._draw()
        await self._hs.outbox.put(chat_id, local_files=[ref], reply_to=reply_to)

    async def fetch(self, file: File) -> None:
        """Download to this device. Raises: RemoteFileGone, LocalStorageFailed, SignedOut."""
        assert self._sdk is not None
        await self._sdk.download(file)
        self._listen()
        self._draw()

    def pause(self, row_id: str) -> None:
        transfer = self._transfer(row_id)
        if transfer is not None:
            transfer.pause()

    def resume(self, row_id: str) -> None:
        """Go on, or try again."""
        transfer = self._transfer(row_id)
        if transfer is not None:
            transfer.resume()
            transfer.start()

    def pause_all(self) -> None:
        for row in self.rows:
            # What waits for its turn too: it would have that as soon as another one is paused.
            if (row.group == "running" or row.state == "queued") and not row.in_page:
                self.pause(row.id)

    def resume_all(self) -> None:
        for row in self.rows:
            if row.state == "paused":
                self.resume(row.id)

    async def cancel(self, row_id: str) -> None:
        """Call it off; a message that waits for it is given up too. Raises: what Files.delete raises."""
        page = self._page_uploads.get(row_id)
        if page is not None and self._hs is not None:
            await self._hs.files.delete(page.file.id)
            page.state = "cancelled"
            self._draw()
            return
        transfer = self._transfer(row_id)
        if transfer is None:
            return
        if self._hs is not None and isinstance(transfer, Upload):
            for entry in await self._hs.outbox.entries():
                if row_id in entry.waiting:
                    await self._hs.outbox.discard(entry.client_id)
        await transfer.cancel()
        self._forget(row_id)

    def clear_done(self) -> None:
        for row in self.rows:
            if row.group == "done":
                self._page_uploads.pop(row.id, None)
                self._forget(row.id)
        self._draw()

    def _forget(self, row_id: str) -> None:
        undo = self._heard.pop(row_id, None)
        if undo is not None:
            undo()
        if self._sdk is not None:
            self._sdk.uploads.pop(row_id, None)
            self._sdk.downloads.pop(row_id, None)
        self._draw()

    def _transfer(self, row_id: str) -> Upload | Download | None:
        if self._sdk is None:
            return None
        return self._sdk.uploads.get(row_id) or self._sdk.downloads.get(row_id)

    def _listen(self) -> None:
        assert self._sdk is not None
        for transfer in self._sdk.all:
            if transfer.row.id not in self._heard:
                self._heard[transfer.row.id] = transfer.on_progress(self._moved)

    def _moved(self, progress: Progress) -> None:
        if progress.state in ("running", "checking", "finishing"):
            self._draw_soon()
        else:
            self._draw()

    # The upload page

    @property
    def busy_in_page(self) -> bool:
        return any(page.state == "running" for page in self._page_uploads.values())

    def _on_event(self, event: object) -> None:
        if not isinstance(event, UploadProgress):
            return
        row_id = f"web:{event.file_id}"
        page = self._page_uploads.get(row_id)
        if page is not None:
            self._page_moved(page, event)
        elif (
            event.chat_id
            and event.file_id not in self._sought
            and event.state in ("uploading", "completing", "complete")
        ):
            self._sought.add(event.file_id)
            self._spawn(self._learn(event, event.chat_id))

    async def _learn(self, event: UploadProgress, chat_id: str) -> None:
        if self._hs is None:
            return
        try:
            file = await self._hs.files.get(event.file_id)
        except HyperSendError:
            self._sought.discard(event.file_id)  # the next event asks again
            return
        page = self._page_uploads[f"web:{file.id}"] = _PageUpload(file, chat_id)
        self._page_moved(page, event if file.state == "uploading" else UploadProgress(file.id, file.size, file.state))

    def _page_moved(self, page: _PageUpload, event: UploadProgress) -> None:
        page.speed.add(max(0, event.received_bytes - page.done_bytes))
        page.done_bytes = max(page.done_bytes, event.received_bytes)
        match event.state:
            case "complete":
                page.state, page.done_bytes = "done", page.file.size
                if not page.sent:
                    page.sent = True
                    self._spawn(self._send(page))
            case "completing":
                page.state = "finishing"
            case "uploading":
                page.state = "running"
            case _:
                page.state = "cancelled"
        self._draw_soon()

    async def _send(self, page: _PageUpload) -> None:
        """The same client_id whoever sends it, so that two tabs make one message."""
        if self._hs is None:
            return
        try:
            await self._hs.messages.send(page.chat_id, file_ids=[page.file.id], client_id=f"upload-{page.file.id}")
        except ApiError as error:
            if not error.retryable:
                page.state = "failed"
                self._draw()
                return
            await self._hs.outbox.put(page.chat_id, file_ids=[page.file.id])
        except HyperSendError:
            await self._hs.outbox.put(page.chat_id, file_ids=[page.file.id])

    def _spawn(self, work: Awaitable[object]) -> None:
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        rows = [_page_row(row_id, page) for row_id, page in self._page_uploads.items()]
        for transfer in self._sdk.all if self._sdk is not None else ():
            progress = transfer.progress
            up = isinstance(transfer, Upload)
            file_id = transfer.file_id or ""
            path = transfer.row.target if isinstance(transfer, Download) else ""
            rows.append(
                TransferRow(
                    transfer.row.id,
                    up,
                    transfer.name,
                    progress.size_bytes,
                    progress.done_bytes,
                    progress.state,
                    progress.bytes_per_s,
                    progress.left_s,
                    progress.error,
                    file_id,
                    path,
                )
            )
        self.rows = tuple(reversed(rows))
        self.waiting = sum(1 for row in rows if row.group != "done")


def _page_row(row_id: str, page: _PageUpload) -> TransferRow:
    speed = page.speed.bytes_per_s if page.state == "running" else 0.0
    left = max(0, page.file.size - page.done_bytes)
    return TransferRow(
        row_id,
        True,
        page.file.name,
        page.file.size,
        page.done_bytes,
        page.state,
        speed,
        left / speed if speed > 1 else None,
        None,
        page.file.id,
        in_page=True,
    )
