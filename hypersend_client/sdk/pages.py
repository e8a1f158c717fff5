"""Answers as models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hypersend_client.sdk.errors import NotHyperSend
from hypersend_client.sdk.models import Model, Page, whole_number
from hypersend_client.sdk.transport import Answer

M = TypeVar("M", bound=Model)
MAX_PAGES = 1000


def model(kind: type[M], data: Any) -> M:
    """Raises: NotHyperSend where the answer is of another shape."""
    try:
        return kind.from_json(data)
    except ValueError as error:
        raise NotHyperSend("the server", f"its answer cannot be read: {error}") from error


def whole(value: Any) -> int:
    """Raises: NotHyperSend."""
    try:
        return whole_number(value)
    except ValueError as error:
        raise NotHyperSend("the server", f"its answer cannot be read: {error}") from error


def read(kind: type[M], answer: Answer) -> M:
    return model(kind, answer.data)


def page_of(kind: type[M], answer: Answer) -> Page[M]:
    data = answer.data
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise NotHyperSend("the server", "its answer is no list")
    cursor = data.get("next_cursor")
    is_cursor = isinstance(cursor, str) and cursor.isascii()
    return Page([model(kind, item) for item in data["items"]], cursor if is_cursor else None)


async def items_of_all(kind: type[M], ask: Callable[[str | None], Awaitable[Answer]]) -> list[M]:
    """Of every page. ask: for the page at a cursor. Raises: NotHyperSend where they have no end."""
    found: list[M] = []
    cursor: str | None = None
    told: set[str] = set()
    while True:
        page = page_of(kind, await ask(cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        if cursor in told or len(told) >= MAX_PAGES:
            raise NotHyperSend("the server", "its list has no end")
        told.add(cursor)


def items_of(kind: type[M], answer: Answer) -> list[M]:
    return page_of(kind, answer).items
