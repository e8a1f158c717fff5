"""A device of somebody: an SDK client with a journal, that can be switched off and on again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.harness import PASSWORD

MIB = 1024 * 1024
CHUNK = 8 * MIB


@dataclass
class Device:
    hs: HyperSend
    transfers: Transfers
    home: Path

    def file(self, name: str, size: int) -> Path:
        """A local file of random bytes."""
        path = self.home / name
        path.write_bytes(os.urandom(size))
        return path


@asynccontextmanager
async def device(
    home: Path, url: str, name: str | None = None, *, trust: ssl.SSLContext | bool = True,
    patient: bool = False, **options: Any,
) -> AsyncIterator[Device]:
    """name: registers somebody new; without it, whoever is signed in on this device.

    patient: it waits between tries as long as the product does; else delays are short.
    """
    home.mkdir(exist_ok=True)
    tokens = FileTokenStore(home / "accounts.json")
    delays: dict[str, Any] = {} if patient else {"rand": lambda: 0.0, "sleep": soon}
    async with HyperSend(url, tokens=tokens, ssl=trust, **delays) as hs:
        if name is not None:
            await hs.register(f"{name}@example.org", name, PASSWORD)
        backoff: Callable[..., Any] = hs.transport.backoff
        if not patient:
            hs.transport.backoff = lambda first_s=0.5, most_s=30.0: backoff(0.02, 0.2)  # type: ignore[method-assign]
        transfers = Transfers(hs, home / "transfers.sqlite", folder=home / "Downloads", **options)
        try:
            yield Device(hs, transfers, home)
        finally:
            await transfers.close()


async def soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.05))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Parts and journals that were not cleared away."""
    return [path.name for path in folder.iterdir() if ".part" in path.name] if folder.exists() else []
