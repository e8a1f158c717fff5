"""Rows of files as records."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from hypersend_server.metadata.files import FileRecord

_FIELDS = FileRecord.__struct_fields__
FILE = ", ".join(f"f.{name}" for name in _FIELDS)
MAX_VARIABLES = 500  # of one statement


def file_of(row: Sequence[Any]) -> FileRecord:
    """A row that begins with FILE."""
    return FileRecord(**dict(zip(_FIELDS, row, strict=False)))


def get_file(connection: sqlite3.Connection, file_id: str) -> FileRecord | None:
    row = connection.execute(f"SELECT {FILE} FROM files f WHERE f.id = ?", (file_id,)).fetchone()  # noqa: S608
    return None if row is None else file_of(row)


def files_by_id(connection: sqlite3.Connection, file_ids: Collection[str]) -> dict[str, FileRecord]:
    """Those of these files that have a record, deleted ones included."""
    found: dict[str, FileRecord] = {}
    for part in parts_of(list(file_ids)):
        marks = ", ".join("?" * len(part))
        for row in connection.execute(f"SELECT {FILE} FROM files f WHERE f.id IN ({marks})", part):  # noqa: S608
            found[row[0]] = file_of(row)
    return found


def parts_of(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), MAX_VARIABLES):
        yield values[start : start + MAX_VARIABLES]
