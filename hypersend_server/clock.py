"""Time and identifiers, both from sources that are passed in.

Times inside the server are Unix milliseconds (int); on the wire they are RFC 3339 in UTC with milliseconds.
Ids are 26 lower-case characters of Crockford's base 32, 48 bits of time before 80 random ones (the layout of a
ULID), so that they sort by time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache

Clock = Callable[[], int]
"""Answers the present time in Unix milliseconds."""

Entropy = Callable[[int], bytes]
"""Answers n random bytes, fit for secrets."""

_IDS_A_DRAW = 64
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class Ids:
    """Makes ids that sort by time."""

    def __init__(self, clock: Clock = system_clock, entropy: Entropy = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._pool: list[bytes] = []

    def __call__(self) -> str:
        try:
            random = self._pool.pop()
        except IndexError:
            # One call for many ids: beside busy threads each costs some 20 µs, a fifth of what a message costs.
            drawn = self._entropy(10 * _IDS_A_DRAW)
            pool = [drawn[start : start + 10] for start in range(0, len(drawn), 10)]
            random = pool.pop()
            self._pool = pool
        value = (self._clock() << 80) | int.from_bytes(random, "big")
        pairs = _PAIRS
        return "".join([pairs[(value >> shift) & 1023] for shift in range(120, -1, -10)])


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds))


def rfc3339(ms: int) -> str:
    """Unix milliseconds as `2026-01-31T09:30:00.125Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}{rest:03d}Z"


def rfc3339_or_none(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
