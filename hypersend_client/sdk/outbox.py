"""Messages on their way: written down first, sent when there is a network, once and in order.

A message gets its `client_id` before anything is tried, so sending it again, after a cut line, a `kill -9`
or by a second process, makes no second message. Within a chat messages go out in the order in which they were
ready; one that waits for a local file to be uploaded does not hold up those behind it, and one that was
refused for good stays, as `failed` with its reason, until it is retried or discarded.

The seam to uploads: `Uploads.ready(ref)` answers the id of the finished file for a reference that was given
to `put(local_files=…)`; it may take days, is asked again after a restart, and raises where it can never
succeed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from hypersend_client.sdk import events
from hypersend_client.sdk.cache import Writer
from hypersend_client.sdk.chats import Messages, new_client_id
from hypersend_client.sdk.connection import Connection
from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError, SignedOut
from hypersend_client.sdk.models import Message, format_time, parse_time
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.tasks import report

_COLUMNS = "chat_id, client_id, body, waiting, state, code, detail, created_at"


class Uploads(Protocol):
    async def ready(self, ref: str) -> str:
        """The file's id, once it is complete. Raises: HyperSendError; a retryable one is asked again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that is not on the server yet. waiting: local files that are being uploaded; code: why it
    failed.
    """

    chat_id: str
    client_id: str
    body: dict[str, Any]
    waiting: tuple[str, ...]
    state: Literal["waiting", "queued", "failed"]
    code: str
    detail: str
    created_at: datetime

    @property
    def text(self) -> str:
        return str(self.body.get("text") or "")


class Outbox:
    def __init__(
        self,
        store: Store,
        messages: Messages,
        connection: Connection,
        backoff: Callable[[], Backoff],
        *,
        uploads: Uploads | None = None,
    ) -> None:
        self._store = store
        self._messages = messages
        self._connection = connection
        self._make_backoff = backoff
        self.uploads = uploads
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._more: set[str] = set()
        self._waiters: dict[str, asyncio.Task[None]] = {}
        self._hurry = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._running = False

    async def start(self) -> None:
        """Go on with what was left over."""
        self._running = True
        self._unsubscribe = self._connection.on(self._on_event)
        for entry in await self.entries():
            self._go_on(entry)

    async def stop(self) -> None:
        self._running = False
        self._unsubscribe()
        tasks = [*self._senders.values(), *self._waiters.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def put(
        self,
        chat_id: str,
        text: str = "",
        *,
        file_ids: Sequence[str] = (),
        local_files: Sequence[str] = (),
        reply_to: str | None = None,
        mentions: Sequence[str] = (),
        forward: tuple[str, str] | None = None,
    ) -> Entry:
        """Write a message down; it is safe on this device when this returns, and goes out when it can.

        local_files: references that `uploads` knows. forward: (chat_id, message_id).
        """
        body: dict[str, Any] = {
            "client_id": new_client_id(),
            "text": text or None,
            "file_ids": [*file_ids] or None,
            "reply_to": reply_to,
            "mentions": [*mentions] or None,
            "forward": {"chat_id": forward[0], "message_id": forward[1]} if forward else None,
        }
        entry = Entry(
            chat_id,
            body["client_id"],
            {name: value for name, value in body.items() if value is not None},
            tuple(local_files),
            "waiting" if local_files else "queued",
            "",
            "",
            datetime.now(UTC),
        )

        def work(writer: Writer) -> None:
            writer.db.execute(
                f"INSERT INTO outbox ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    chat_id,
                    entry.client_id,
                    json.dumps(entry.body),
                    json.dumps(local_files),
                    entry.state,
                    "",
                    "",
                    format_time(entry.created_at),
                ),
            )
            writer.changes.outbox.add(chat_id)

        await self._store.write(work, durable=True)
        self._go_on(entry)
        return entry

    async def entries(self, chat_id: str | None = None) -> list[Entry]:
        """What is not on the server yet, in order."""
        rows = await self._store.read(
            lambda db: db.execute(
                f"SELECT {_COLUMNS} FROM outbox WHERE ? IN ('', chat_id) ORDER BY number",  # noqa: S608
                (chat_id or "",),
            ).fetchall()
        )
        return [_entry(row) for row in rows]

    async def retry(self, client_id: str) -> None:
        """Try a failed one again."""

        def work(writer: Writer) -> None:
            for (chat_id,) in writer.db.execute(
                "UPDATE outbox SET state = iif(waiting = '[]', 'queued', 'waiting'), code = '', detail = ''"
                " WHERE client_id = ? AND state = 'failed' RETURNING chat_id",
                (client_id,),
            ).fetchall():
                writer.changes.outbox.add(chat_id)

        await self._store.write(work, durable=True)
        for entry in await self.entries():
            if entry.client_id == client_id:
                self._go_on(entry)

    async def discard(self, client_id: str) -> bool:
        """Give a message up; False where it is already on the server."""
        waiter = self._waiters.get(client_id)
        if waiter is not None:
            waiter.cancel()

        def work(writer: Writer) -> bool:
            rows = writer.db.execute(
                "DELETE FROM outbox WHERE client_id = ? RETURNING chat_id", (client_id,)
            ).fetchall()
            writer.changes.outbox.update(chat_id for (chat_id,) in rows)
            return bool(rows)

        return await self._store.write(work, durable=True)

    # Inside

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.StateChanged) and event.state == "online":
            self._hurry.set()
            self._hurry = asyncio.Event()

    def _go_on(self, entry: Entry) -> None:
        if not self._running:
            return
        if entry.state == "queued" and entry.chat_id in self._senders:
            self._more.add(entry.chat_id)
        elif entry.state == "queued":
            self._senders[entry.chat_id] = task = asyncio.create_task(self._send_all(entry.chat_id))
            task.add_done_callback(report)
        elif entry.state == "waiting" and entry.client_id not in self._waiters:
            self._waiters[entry.client_id] = task = asyncio.create_task(self._wait(entry))

            def ended(done: asyncio.Task[None]) -> None:
                self._waiters.pop(entry.client_id, None)
                report(done)

            task.add_done_callback(ended)

    async def _send_all(self, chat_id: str) -> None:
        """One at a time, as long as there are any."""
        backoff = self._make_backoff()
        try:
            while True:
                self._more.discard(chat_id)
                queued = [e for e in await self.entries(chat_id) if e.state == "queued"]
                if not queued:
                    if chat_id in self._more:
                        continue  # it came while we were looking
                    return
                try:
                    message = await self._messages.post(chat_id, queued[0].body)
                except SignedOut:
                    return  # it stays for the next time somebody signs in
                except (ApiError, ConnectionFailed) as error:
                    if error.retryable:
                        await self._pause(backoff.next_s(error))
                    else:
                        await self._fail(queued[0], error)
                except HyperSendError as error:
                    # Another server, TLS, a client too old: none of it is the message's fault.
                    await self._pause(backoff.next_s(error))
                else:
                    backoff.reset()

                    def arrived(
                        writer: Writer, message: Message = message, client_id: str = queued[0].client_id
                    ) -> None:
                        writer.message(message, live=True)
                        writer.sent(chat_id, client_id)

                    await self._store.write(arrived)
        finally:
            self._senders.pop(chat_id, None)

    async def _wait(self, entry: Entry) -> None:
        """Until its files are on the server; what is ready is written down at once."""
        backoff = self._make_backoff()
        waiting, file_ids = list(entry.waiting), list(entry.body.get("file_ids") or ())
        while waiting:
            try:
                if self.uploads is None:
                    raise ApiError("upload_lost", detail="there is nothing here that uploads files")
                file_id = await self.uploads.ready(waiting[0])
            except SignedOut:
                return
            except HyperSendError as error:
                if error.retryable:
                    await self._pause(backoff.next_s(error))
                    continue
                await self._fail(entry, error)
                return
            waiting.pop(0)
            file_ids.append(file_id)
            body = {**entry.body, "file_ids": file_ids}

            def ready(writer: Writer, body: dict[str, Any] = body) -> None:
                writer.db.execute(
                    "UPDATE outbox SET body = ?, waiting = ?, state = ? WHERE client_id = ?",
                    (
                        json.dumps(body),
                        json.dumps(waiting),
                        "waiting" if waiting else "queued",
                        entry.client_id,
                    ),
                )
                writer.changes.outbox.add(entry.chat_id)

            await self._store.write(ready, durable=True)
        for now in await self.entries(entry.chat_id):
            if now.client_id == entry.client_id:
                self._go_on(now)

    async def _pause(self, seconds: float) -> None:
        """Until it is time, or the connection is back."""
        hurry = self._hurry
        try:
            async with asyncio.timeout(seconds):
                await hurry.wait()
        except TimeoutError:
            pass

    async def _fail(self, entry: Entry, error: HyperSendError) -> None:
        def work(writer: Writer) -> None:
            writer.db.execute(
                "UPDATE outbox SET state = 'failed', code = ?, detail = ? WHERE client_id = ?",
                (error.code, error.detail if isinstance(error, ApiError) else str(error), entry.client_id),
            )
            writer.changes.outbox.add(entry.chat_id)

        await self._store.write(work)


def _entry(row: tuple[Any, ...]) -> Entry:
    chat_id, client_id, body, waiting, state, code, detail, created_at = row
    return Entry(
        chat_id,
        client_id,
        json.loads(body),
        tuple(json.loads(waiting)),
        state,
        code,
        detail,
        parse_time(created_at),
    )
