"""Documents as records. A document has its record's fields under their names, `id` being `_id`; absent is None."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.mongo.engine import STAMP, Doc, Tx
from hypersend_server.metadata.server import AuditEntry

R = TypeVar("R", bound=msgspec.Struct)
LAST = "\U0010ffff"  # sorts after every other character
SOME = 1000  # values of one $in


def record_of(kind: type[R], doc: Doc) -> R:
    return kind(**{name: doc.get("_id" if name == "id" else name) for name in kind.__struct_fields__})


def doc_of(record: msgspec.Struct, **more: Any) -> Doc:
    fields = msgspec.structs.asdict(record)
    if "id" in fields:
        fields["_id"] = fields.pop("id")
    return {**fields, **more}


def fields_of(kind: type[msgspec.Struct]) -> dict[str, int]:
    """The projection of a record."""
    return {"_id" if name == "id" else name: 1 for name in kind.__struct_fields__}


def beginning(prefix: str) -> Doc:
    """The condition that a text begins so."""
    return {"$gte": prefix, "$lt": prefix + LAST}


def parts_of(values: Collection[str]) -> Iterator[Sequence[str]]:
    listed = list(values)
    for start in range(0, len(listed), SOME):
        yield listed[start : start + SOME]


async def stamp_accounts(tx: Tx) -> tuple[int, int]:
    """(number, time) of one more change of accounts. All of them meet at this document, so their numbers are in the
    order of their commits, and rules over several people (the last administrator) hold."""
    doc = await tx.changed(
        "meta", {"_id": "accounts"}, [{"$set": {"value": {"$add": ["$value", 1]}, "changed": STAMP}}])
    assert doc is not None
    return doc["value"], doc["changed"]


async def write_audit(tx: Tx, entry: AuditEntry | None) -> None:
    if entry is not None:
        await tx.insert("audit", doc_of(entry))


def not_found(what: str = "chat") -> HyperSendError:
    return HyperSendError("not_found", f"There is no such {what}, or you may not see it.")
