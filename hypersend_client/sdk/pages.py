"""Answers as models."""

from __future__ import annotations

from typing import Any, TypeVar

from hypersend_client.sdk.errors import NotHyperSend
from hypersend_client.sdk.models import Model, Page
from hypersend_client.sdk.transport import Answer

M = TypeVar("M", bound=Model)


def model(kind: type[M], data: Any) -> M:
    """Raises: NotHyperSend where the answer is of another shape."""
    try:
        return kind.from_json(data)
    except ValueError as error:
        raise NotHyperSend("the server", f"its answer cannot be read: {error}") from error


def read(kind: type[M], answer: Answer) -> M:
    return model(kind, answer.data)


def page_of(kind: type[M], answer: Answer) -> Page[M]:
    data = answer.data
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise NotHyperSend("the server", "its answer is no list")
    cursor = data.get("next_cursor")
    return Page([model(kind, item) for item in data["items"]], cursor if isinstance(cursor, str) else None)


def items_of(kind: type[M], answer: Answer) -> list[M]:
    return page_of(kind, answer).items
