"""`upload` frames to the owner's sockets: at once when a state changes, else at most one in INTERVAL_S an upload."""

from __future__ import annotations

import asyncio

from hypersend_server.metadata.files import FileRecord
from hypersend_server.realtime import wire
from hypersend_server.realtime.events import Bus, Frame

INTERVAL_S = 0.5


class ProgressEvents:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._quiet: dict[str, asyncio.TimerHandle] = {}
        self._latest: dict[str, tuple[FileRecord, int]] = {}

    def received(self, file: FileRecord, received_bytes: int) -> None:
        """More bytes have arrived."""
        if file.id in self._quiet:
            known = self._latest.get(file.id)
            # Chunks in parallel may report out of order; progress only grows.
            self._latest[file.id] = (file, max(received_bytes, known[1] if known else 0))
            return
        self._send(file, received_bytes, "uploading")
        self._be_quiet(file.id)

    def state(self, file: FileRecord, state: str) -> None:
        """The upload is in another state now."""
        handle = self._quiet.pop(file.id, None)
        if handle is not None:
            handle.cancel()
        self._latest.pop(file.id, None)
        self._send(file, file.received_bytes, state)

    def close(self) -> None:
        for handle in self._quiet.values():
            handle.cancel()
        self._quiet.clear()
        self._latest.clear()

    def _be_quiet(self, file_id: str) -> None:
        self._quiet[file_id] = asyncio.get_running_loop().call_later(INTERVAL_S, self._wake, file_id)

    def _wake(self, file_id: str) -> None:
        del self._quiet[file_id]
        held = self._latest.pop(file_id, None)
        if held is not None:
            file, received_bytes = held
            self._send(file, received_bytes, "uploading")
            self._be_quiet(file_id)

    def _send(self, file: FileRecord, received_bytes: int, state: str) -> None:
        chat_id = file.chat_id if file.ticket_id is not None else None
        self._bus.publish(Frame([file.owner_id], wire.upload(file.id, received_bytes, state, chat_id)))
