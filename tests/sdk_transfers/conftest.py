from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Server, SettableClock, running
from tests.sdk_transfers.device import Device, device
from tests.sdk_transfers.line import Line, line_to


@pytest.fixture
def clock() -> SettableClock:
    """The server's."""
    return SettableClock()


@pytest.fixture
async def server(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", clock=clock, RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    async with line_to(server.url) as line:
        yield line


@pytest.fixture
async def asha(tmp_path: Path, line: Line) -> AsyncIterator[Device]:
    """Somebody's device, whose network is `line`."""
    async with device(tmp_path / "asha", line.url, "asha") as asha:
        yield asha
