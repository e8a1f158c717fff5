"""The bus of a single process: the contract of `events.Bus` in its simplest form."""

from __future__ import annotations

from collections.abc import Callable

from hypersend_server.realtime.events import AnyEvent


class LocalBus:
    """Calls every listener at once, in the publisher's own step of the loop."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[AnyEvent], None]] = []

    def publish(self, event: AnyEvent) -> None:
        for listener in self._listeners:
            listener(event)

    def subscribe(self, listener: Callable[[AnyEvent], None]) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        return

    async def check(self) -> None:
        return

    async def close(self) -> None:
        self._listeners.clear()
