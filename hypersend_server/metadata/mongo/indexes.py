"""Every index, and the query that needs it. `docs/mongodb.md` shows this table; a test explains the queries."""

from __future__ import annotations

from typing import Any, NamedTuple

from pymongo import IndexModel

SCHEMA_VERSION = 1


class Index(NamedTuple):
    """fields: names, with - before a descending one."""

    collection: str
    fields: tuple[str, ...]
    needed_for: str
    unique: bool = False
    sparse: bool = False
    only_where: dict[str, Any] | None = None

    def model(self) -> IndexModel:
        keys = [(field.removeprefix("-"), -1 if field.startswith("-") else 1) for field in self.fields]
        options: dict[str, Any] = {"name": "_".join(field.removeprefix("-") for field in self.fields)}
        if self.unique:
            options["unique"] = True
        if self.sparse:
            options["sparse"] = True
        if self.only_where is not None:
            options["partialFilterExpression"] = self.only_where
        return IndexModel(keys, **options)


INDEXES: tuple[Index, ...] = (
    Index("users", ("email_key",), "signing in; one account an e-mail", unique=True, sparse=True),
    Index("users", ("username",), "finding people; one account a username", unique=True, sparse=True),
    Index("users", ("name_key",), "finding people by the beginning of their name"),
    Index("users", ("changed",), "/sync: people whose profile changed"),
    Index("users", ("change",), "other processes notice what changed, every 2 s"),
    Index("users", ("is_admin", "deleted_at"), "whether an administrator is left"),
    Index("users", ("deleted_at",), "deletions that were cut off; counting people"),
    Index("sessions", ("user_id", "ended_at", "_id"), "a person's devices"),
    Index("sessions", ("change",), "other processes notice ended sessions, every 2 s"),
    Index("sessions", ("ended_at",), "forgetting old sessions; counting"),
    Index("blocks", ("user_id", "blocked_id"), "whom a person blocks"),
    Index("blocks", ("blocked_id",), "who blocks a person"),
    Index("invites", ("code_hash",), "registering with an invite", unique=True),
    Index("resets", ("user_id",), "one reset code a person"),
    Index("resets", ("expires_at",), "forgetting expired codes"),
    Index("guesses", ("updated_at",), "forgetting old failures"),
    Index("chats", ("pair_key",), "the one direct chat of a pair", unique=True, sparse=True),
    Index("chats", ("deleted_at", "kind"), "counting chats"),
    Index("members", ("user_id", "left_at", "chat_id"), "a person's chats; whether two people share one"),
    Index("members", ("chat_id", "left_at", "user_id"), "the members of a chat, whom an event concerns"),
    Index("members", ("chat_id", "changed"), "/sync: marks and roles that changed"),
    Index("messages", ("chat_id", "seq"), "pages of messages, unread counts, previews", unique=True),
    Index("messages", ("chat_id", "rev", "changed"), "catching up by rev; /sync"),
    Index("messages", ("client_key",), "a client id that comes again", unique=True, sparse=True),
    Index("messages", ("chat_id", "terms", "number"), "search"),
    Index("hidden", ("user_id", "chat_id", "seq"), "what a person deleted for themselves"),
    Index("hidden", ("user_id", "changed"), "/sync: what was deleted for oneself"),
    Index("hidden", ("chat_id",), "removing what is left of a chat"),
    Index("message_files", ("file_id", "chat_id", "seq"), "who may read a file; what shows it"),
    Index("message_files", ("chat_id", "seq", "file_id"), "the files of a chat"),
    Index("files", ("owner_id", "state", "size"), "quotas and usage"),
    Index("files", ("owner_id", "created_at", "_id"), "one's own files"),
    Index("files", ("owner_id", "idempotency_key"), "an Idempotency-Key that comes again", unique=True,
          only_where={"idempotency_key": {"$type": "string"}}),
    Index("files", ("state", "expires_at"), "uploads whose time is over"),
    Index("files", ("state", "completed_at"), "aborted uploads; counting"),
    Index("files", ("state", "backend", "_id"), "walking through complete files; reserved space"),
    Index("files", ("unshown_since",), "files that nothing shows"),
    Index("files", ("backend", "location"), "whether bytes belong to a file"),
    Index("files", ("sha256_state", "state", "_id"), "checking claimed digests"),
    Index("chunks", ("file_id", "idx"), "what has arrived of an upload"),
    Index("chunks", ("boot_id",), "receipts that are not durable yet", only_where={"boot_id": {"$gt": ""}}),
    Index("partials", ("file_id", "idx"), "chunks that were cut off"),
    Index("deletions", ("not_before", "_id"), "bytes to remove"),
    Index("releases", ("slot",), "published releases; one of a version", unique=True, sparse=True),
    Index("transfers", ("chat_id", "sender_id", "client_id"), "an offer that comes again", unique=True),
    Index("transfers", ("chat_id", "_id"), "a chat's transfers"),
    Index("transfers", ("sender_id", "status"), "open transfers of a sender"),
    Index("transfers", ("receiver_id", "status"), "open transfers of a receiver"),
    Index("transfers", ("status", "expires_at"), "transfers whose time is over"),
    Index("transfers", ("status", "relay_until"), "transfers whose process went away"),
    Index("transfers", ("shown", "updated_at"), "transfers whose message is behind"),
)
COLLECTIONS: tuple[str, ...] = (
    "meta", "leases", "jobs", "audit", "pictures", *dict.fromkeys(index.collection for index in INDEXES))


async def ensure(db: Any) -> None:
    """Create collections and indexes that are missing; what is there stays. Raises: PyMongoError."""
    there = set(await db.list_collection_names())
    for name in COLLECTIONS:
        if name not in there:
            await _create(db, name)
        models = [index.model() for index in INDEXES if index.collection == name]
        if models:
            await db[name].create_indexes(models)


async def _create(db: Any, name: str) -> None:
    from pymongo.errors import CollectionInvalid, OperationFailure

    try:
        await db.create_collection(name)
    except CollectionInvalid:
        pass  # another process, which starts at the same moment, was quicker
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise
