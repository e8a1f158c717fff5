"""Cursors of lists whose position is one id or name: opaque, but not secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypersend_server.errors import HyperSendError
from hypersend_server.signer import b64, unb64

T = TypeVar("T")


def position(cursor: str | None) -> str | None:
    """Raises: `cursor_invalid`."""
    if cursor is None:
        return None
    try:
        found = unb64(cursor).decode()
    except ValueError:
        raise HyperSendError("cursor_invalid") from None
    if not 1 <= len(found) <= 64 or not found.isprintable():
        raise HyperSendError("cursor_invalid")
    return found


def page(rows: Sequence[T], limit: int, position_of: Callable[[T], str]) -> tuple[list[T], str | None]:
    """The first `limit` of up to limit + 1 rows, and the cursor for what follows them."""
    kept = list(rows[:limit])
    return kept, b64(position_of(kept[-1]).encode()) if len(rows) > limit else None
