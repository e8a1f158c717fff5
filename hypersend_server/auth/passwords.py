"""Password hashing off the event loop, in a pool of its own with a bounded waiting line."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from passlib.context import CryptContext  # type: ignore[import-untyped]

from hypersend_server.errors import HyperSendError

T = TypeVar("T")

THREADS = 2
MAX_WAITING = 64  # at 12 rounds about 8 s of work


class Passwords:
    """bcrypt over SHA-256 (plain bcrypt stops at 72 bytes); hashes of plain bcrypt are taken and renewed.

    rounds: log2 of bcrypt's work, 12 is about 0.2 s. Texts are normalised to NFC (RFC 8265, OpaqueString), so that
    keyboards that compose accents differently type the same password.
    """

    def __init__(self, *, rounds: int = 12, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._context = CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"], deprecated="auto", bcrypt_sha256__rounds=rounds, bcrypt__rounds=rounds
        )
        # Well-formed, of nobody's password: verifying against it costs what any other costs.
        self._nobody = f"$bcrypt-sha256$v=2,t=2b,r={rounds}$N9qo8uLOickgx2ZMRZoMye$IjZAgcfl7p92ldGxad68LJZdL17lhWy"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        self._room = self._whole = threads + max_waiting

    @property
    def waiting(self) -> int:
        """Passwords that are being hashed or wait for it."""
        return self._whole - self._room

    async def hash(self, password: str) -> str:
        """Raises: `busy` where too many wait already."""
        return await self._run(lambda: str(self._context.hash(_normal(password))))

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """(whether it is right, a hash to store instead where `stored` is of an older kind).

        stored None: there is no such account; it takes as long and is never right. Raises: `busy`.
        """

        def job() -> tuple[bool, str | None]:
            right, renewed = self._context.verify_and_update(_normal(password), stored or self._nobody)
            return bool(right) and stored is not None, renewed

        return await self._run(job)

    async def _run(self, job: Callable[[], T]) -> T:
        if self._room == 0:
            raise HyperSendError("busy", "Too many people are signing in right now.", retry_after_s=2)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self._room += 1

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)
