"""Steps that several jobs about accounts share."""

from __future__ import annotations

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import LiveSession, NewSession, SessionRecord, UserRecord
from hypersend_server.metadata.mongo.engine import Doc, Tx
from hypersend_server.metadata.mongo.records import fields_of, record_of

ACTIVE: Doc = {"deleted_at": None, "disabled": False}
USER = fields_of(UserRecord)


def user_of(doc: Doc) -> UserRecord:
    return record_of(UserRecord, doc)


async def read_user(tx: Tx, user_id: str) -> UserRecord | None:
    doc = await tx.one("users", {"_id": user_id}, USER)
    return None if doc is None else user_of(doc)


async def require_user(tx: Tx, user_id: str) -> UserRecord:
    """Raises: `not_found`, also for a deleted person."""
    user = await read_user(tx, user_id)
    if user is None or user.deleted_at is not None:
        raise HyperSendError("not_found", "There is no such person.")
    return user


async def has_admin(tx: Tx, *, besides: str = "") -> bool:
    return await tx.one("users", {"is_admin": True, **ACTIVE, "_id": {"$ne": besides}}, {"_id": 1}) is not None


async def keep_an_admin(tx: Tx, user: UserRecord) -> None:
    """Raises: `last_admin` where this person is the only administrator who can sign in."""
    if user.is_admin and not user.disabled and not await has_admin(tx, besides=user.id):
        raise HyperSendError("last_admin")


async def end_sessions(
    tx: Tx, user_id: str, now_ms: int, change: int, *, only_id: str | None = None, except_id: str | None = None
) -> list[str]:
    """change: the number under which others notice."""
    where: Doc = {"user_id": user_id, "ended_at": None}
    if only_id is not None:
        where["_id"] = only_id
    elif except_id is not None:
        where["_id"] = {"$ne": except_id}
    ended = [doc["_id"] for doc in await tx.many("sessions", where, {"_id": 1}, sort=[("_id", 1)])]
    if ended:
        await tx.update_all("sessions", {"_id": {"$in": ended}}, {"$set": {"ended_at": now_ms, "change": change}})
    return ended


async def insert_session(tx: Tx, session: NewSession, now_ms: int, change: int) -> None:
    await tx.insert("sessions", {
        "_id": session.id, "user_id": session.user_id, "device": session.device, "ip": session.ip,
        "salt": session.salt, "generation": 1, "rotated_at": now_ms, "used_at": None, "device_key": None,
        "created_at": now_ms, "last_seen_at": now_ms, "ended_at": None, "web_secret": None, "change": change,
    })


async def read_session(tx: Tx, session_id: str) -> SessionRecord | None:
    doc = await tx.one("sessions", {"_id": session_id})
    return None if doc is None else record_of(SessionRecord, doc)


async def read_live(tx: Tx, session_id: str) -> LiveSession | None:
    session = await read_session(tx, session_id)
    if session is None or session.ended_at is not None:
        return None
    user = await read_user(tx, session.user_id)
    if user is None or user.deleted_at is not None or user.disabled:
        return None
    return LiveSession(session, user)
