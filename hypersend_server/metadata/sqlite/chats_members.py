"""Members of chats on SQLite: coming, going, roles, and the system messages that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    MAX_MEMBERS,
    Audience,
    ChatRecord,
    Extra,
    MemberChange,
    MemberRecord,
    MessageRecord,
    Role,
)
from hypersend_server.metadata.sqlite.chats_messages import INSERT_MESSAGE
from hypersend_server.metadata.sqlite.chats_rows import (
    MEMBER,
    audience_of,
    encode_extra,
    member_of,
    membership,
    not_found,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

JOIN = (
    "INSERT INTO members"
    " (chat_id, user_id, role, first_seq, delivered_seq, read_seq, joined_at, began, changed)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?7) ON CONFLICT (chat_id, user_id) DO UPDATE SET role = ?3,"
    " first_seq = ?4, delivered_seq = ?5, read_seq = ?5, joined_at = ?6, began = ?7, changed = ?7,"
    " left_at = NULL, pinned = 0, archived = 0, muted_until = NULL"
)


class SqliteMembers:
    _engine: Engine

    async def get_member(self, chat_id: str, user_id: str) -> MemberRecord | None:
        def job(connection: ReadTx) -> MemberRecord | None:
            row = connection.execute(
                f"SELECT {MEMBER} FROM members m WHERE m.chat_id = ? AND m.user_id = ? AND m.left_at IS NULL",  # noqa: S608
                (chat_id, user_id),
            ).fetchone()
            return None if row is None else member_of(row)

        return await self._engine.read(job)

    async def list_members(self, chat_id: str, user_id: str, after_user_id: str, limit: int) -> list[MemberRecord]:
        def job(connection: ReadTx) -> list[MemberRecord]:
            membership(connection, chat_id, user_id)
            return [
                member_of(row)
                for row in connection.execute(
                    f"SELECT {MEMBER} FROM members m WHERE m.chat_id = ? AND m.user_id > ?"  # noqa: S608
                    " AND m.left_at IS NULL ORDER BY m.user_id LIMIT ?",
                    (chat_id, after_user_id, limit),
                )
            ]

        return await self._engine.read(job)

    async def add_members(
        self, chat_id: str, actor_id: str, user_ids: Sequence[str], message_id: str, now: int
    ) -> MemberChange:
        def job(tx: Tx) -> MemberChange:
            chat, me = membership(tx.connection, chat_id, actor_id)
            require_role(chat, me, "owner", "admin")
            require_people(tx, user_ids)
            new = [user_id for user_id in dict.fromkeys(user_ids) if find_member(tx, chat_id, user_id) is None]
            if not new:
                return MemberChange(None, audience_of(tx.connection, chat_id, chat.members_rev))
            require_unblocked(tx, new, actor_id)
            require_room(chat.members_count + len(new))
            stamp = tx.stamp()
            first_seq = 1 if chat.history == "all" else chat.seq + 1
            for user_id in new:
                tx.execute(JOIN, (chat_id, user_id, "member", first_seq, chat.seq, now, stamp))
            return _member_change(
                tx,
                chat,
                {"event": "member_added", "actor_id": actor_id, "user_ids": new},
                message_id,
                now,
                stamp,
                new,
                count=chat.members_count + len(new),
            )

        return await self._engine.write(job)

    async def remove_member(self, chat_id: str, actor_id: str, user_id: str, message_id: str, now: int) -> MemberChange:
        def job(tx: Tx) -> MemberChange:
            chat, me = membership(tx.connection, chat_id, actor_id)
            if chat.kind != "group":
                raise HyperSendError("not_allowed", "Only groups have members who come and go.")
            if actor_id != user_id:
                require_role(chat, me, "owner", "admin")
                target = find_member(tx, chat_id, user_id)
                if target is None:
                    raise not_found("member")
                if target.role == "owner" or (target.role == "admin" and me.role != "owner"):
                    raise HyperSendError("not_allowed", "Only the owner may remove an admin.")
            return leave(tx, chat, actor_id, user_id, message_id, now)

        return await self._engine.write(job)

    async def set_role(
        self, chat_id: str, actor_id: str, user_id: str, role: Role, message_id: str, now: int
    ) -> MemberChange:
        def job(tx: Tx) -> MemberChange:
            chat, me = membership(tx.connection, chat_id, actor_id)
            require_role(chat, me, "owner")
            target = find_member(tx, chat_id, user_id)
            if target is None:
                raise not_found("member")
            if target.role == role:
                return MemberChange(None, audience_of(tx.connection, chat_id, chat.members_rev), (target,))
            if target.role == "owner":
                raise HyperSendError("owner_required", "Make somebody else the owner instead.")
            stamp = tx.stamp()
            roles = {user_id: role, **({actor_id: "admin"} if role == "owner" else {})}
            for one, new in roles.items():
                tx.execute(
                    "UPDATE members SET role = ?, changed = ? WHERE chat_id = ? AND user_id = ?",
                    (new, stamp, chat_id, one),
                )
            return _member_change(
                tx,
                chat,
                {"event": "role_changed", "actor_id": actor_id, "user_ids": [user_id], "role": role},
                message_id,
                now,
                stamp,
                list(roles),
                count=chat.members_count,
            )

        return await self._engine.write(job)


def find_member(tx: Tx, chat_id: str, user_id: str) -> MemberRecord | None:
    row = tx.execute(
        f"SELECT {MEMBER} FROM members m WHERE m.chat_id = ? AND m.user_id = ? AND m.left_at IS NULL",  # noqa: S608
        (chat_id, user_id),
    ).fetchone()
    return None if row is None else member_of(row)


def post_system(
    tx: Tx,
    chat: ChatRecord,
    system: dict[str, Any],
    message_id: str,
    now: int,
    stamp: int,
    **chat_fields: Any,
) -> MessageRecord:
    """Append a system message under `stamp`, and give the chat these columns' new values with it."""
    message = MessageRecord(
        id=message_id,
        chat_id=chat.id,
        seq=chat.seq + 1,
        rev=chat.rev + 1,
        sender_id=None,
        client_id=None,
        kind="system",
        text="",
        extra=Extra(system=system),
        created_at=now,
    )
    tx.execute(
        INSERT_MESSAGE,
        (
            stamp,
            message_id,
            chat.id,
            message.seq,
            message.rev,
            None,
            None,
            "system",
            "",
            encode_extra(message.extra),
            now,
        ),
    )
    columns = {"seq": message.seq, "rev": message.rev, "updated_at": now, "changed": stamp, **chat_fields}
    tx.execute(
        f"UPDATE chats SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",  # noqa: S608
        (*columns.values(), chat.id),
    )
    return message


def _member_change(
    tx: Tx,
    chat: ChatRecord,
    system: dict[str, Any],
    message_id: str,
    now: int,
    stamp: int,
    user_ids: Sequence[str],
    *,
    count: int,
    gone: tuple[str, ...] = (),
) -> MemberChange:
    members_rev = chat.members_rev + 1
    message = post_system(tx, chat, system, message_id, now, stamp, members_rev=members_rev, members_count=count)
    rows = [
        tx.execute(
            f"SELECT {MEMBER} FROM members m WHERE m.chat_id = ? AND m.user_id = ?",  # noqa: S608
            (chat.id, user_id),
        ).fetchone()
        for user_id in user_ids
    ]
    return MemberChange(
        message, audience_of(tx.connection, chat.id, members_rev), tuple(member_of(row) for row in rows), gone
    )


def leave(tx: Tx, chat: ChatRecord, actor_id: str, user_id: str, message_id: str, now: int) -> MemberChange:
    """Take a present member out of a group."""
    target = find_member(tx, chat.id, user_id)
    assert target is not None
    if chat.members_count == 1:
        end_chat(tx, chat.id, now)
        return MemberChange(None, Audience(chat.id, chat.members_rev + 1, ()), (), (user_id,))
    stamp = tx.stamp()
    tx.execute(
        "UPDATE members SET left_at = ?, changed = ? WHERE chat_id = ? AND user_id = ?",
        (now, stamp, chat.id, user_id),
    )
    touched = [user_id]
    system: dict[str, Any] = {
        "event": "member_left" if actor_id == user_id else "member_removed",
        "actor_id": actor_id,
        "user_ids": [user_id],
    }
    if target.role == "owner":
        heir = tx.execute(
            "SELECT user_id FROM members WHERE chat_id = ? AND left_at IS NULL"
            " ORDER BY role = 'admin' DESC, joined_at, user_id LIMIT 1",
            (chat.id,),
        ).fetchone()[0]
        tx.execute(
            "UPDATE members SET role = 'owner', changed = ? WHERE chat_id = ? AND user_id = ?",
            (stamp, chat.id, heir),
        )
        touched.append(heir)
        system["new_owner_id"] = heir
    return _member_change(
        tx, chat, system, message_id, now, stamp, touched, count=chat.members_count - 1, gone=(user_id,)
    )


def close_side(tx: Tx, chat: ChatRecord, user_id: str, now: int) -> None:
    """One person's side of a direct chat: nothing said so far is theirs any more. A new message opens it
    again."""
    tx.execute(
        "UPDATE members SET left_at = ?1, changed = ?2, first_seq = ?3 + 1, read_seq = ?3,"
        " delivered_seq = ?3,"
        " pinned = 0, archived = 0, muted_until = NULL WHERE chat_id = ?4 AND user_id = ?5",
        (now, tx.stamp(), chat.seq, chat.id, user_id),
    )
    tx.execute(
        "UPDATE chats SET members_count = members_count - 1, members_rev = members_rev + 1 WHERE id = ?",
        (chat.id,),
    )


def end_chat(tx: Tx, chat_id: str, now: int) -> None:
    """The chat is no more; its messages are removed by upkeep."""
    stamp = tx.stamp()
    tx.execute(
        "UPDATE members SET left_at = ?, changed = ? WHERE chat_id = ? AND left_at IS NULL",
        (now, stamp, chat_id),
    )
    tx.execute(
        "UPDATE chats SET deleted_at = ?, changed = ?, pair_key = NULL, members_count = 0,"
        " members_rev = members_rev + 1 WHERE id = ?",
        (now, stamp, chat_id),
    )
    tx.execute(
        "INSERT INTO jobs (id, kind, payload) VALUES (?, 'purge_chat', ?) ON CONFLICT DO NOTHING",
        (f"purge_chat:{chat_id}", chat_id.encode()),
    )


def require_role(chat: ChatRecord, me: MemberRecord, *roles: Role) -> None:
    if chat.kind != "group":
        raise HyperSendError("not_allowed", "Only groups can be changed in this way.")
    if me.role not in roles:
        raise HyperSendError("not_allowed", f"This takes the role {' or '.join(roles)}.")


def require_room(members_count: int) -> None:
    if members_count > MAX_MEMBERS:
        raise HyperSendError("chat_full", f"A group has at most {MAX_MEMBERS} members.")


def require_unblocked(tx: Tx, user_ids: Sequence[str], actor_id: str) -> None:
    """Nobody is brought into a group by somebody they block. Raises: `blocked`."""
    for user_id in user_ids:
        if tx.execute("SELECT 1 FROM blocks WHERE user_id = ? AND blocked_id = ?", (user_id, actor_id)).fetchone():
            raise HyperSendError("blocked", f"{user_id} does not want to be in a chat with you.")


def require_people(tx: Tx, user_ids: Sequence[str]) -> None:
    for user_id in user_ids:
        if not tx.execute("SELECT 1 FROM users WHERE id = ? AND deleted_at IS NULL", (user_id,)).fetchone():
            raise HyperSendError("not_found", f"There is no person {user_id}.")
