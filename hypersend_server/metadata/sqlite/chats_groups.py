"""Chats on SQLite: making, listing, changing, deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    Audience,
    ChatPosition,
    ChatView,
    MemberChange,
    pair_key,
)
from hypersend_server.metadata.sqlite.chats_members import (
    JOIN,
    close_side,
    end_chat,
    post_system,
    require_people,
    require_role,
    require_room,
    require_unblocked,
)
from hypersend_server.metadata.sqlite.chats_rows import (
    CHAT,
    MEMBER,
    audience_of,
    membership,
    views_of,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

LISTED = (
    f"SELECT {CHAT}, {MEMBER} FROM members m CROSS JOIN chats c ON c.id = m.chat_id"  # noqa: S608
    " WHERE m.user_id = ?1 AND m.left_at IS NULL"
)
# The order alone, from an index of the memberships; a long list is then read where the page is.
PAGE = (
    "SELECT m.chat_id FROM members m CROSS JOIN chats c ON c.id = m.chat_id"
    " WHERE m.user_id = ?1 AND m.archived = ?2 AND m.left_at IS NULL"
    " AND (m.pinned, c.updated_at, c.id) < (?3, ?4, ?5)"
    " ORDER BY m.pinned DESC, c.updated_at DESC, c.id DESC LIMIT ?6"
)
_NEW_CHAT = (
    "INSERT INTO chats (id, kind, pair_key, title, history, members_count, members_rev, created_at,"
    " updated_at, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7, ?8)"
)


class SqliteGroups:
    _engine: Engine

    async def ensure_saved(self, user_id: str, chat_id: str, now: int) -> str:
        def find(connection: ReadTx) -> str | None:
            row = connection.execute("SELECT id FROM chats WHERE pair_key = ?", (user_id,)).fetchone()
            return None if row is None else row[0]

        def job(tx: Tx) -> str:
            there = find(tx.connection)
            if there is not None:
                return there
            # As old as the account: made late, it must not stand above chats in which something was said.
            account = tx.execute("SELECT created_at FROM users WHERE id = ?", (user_id,)).fetchone()
            began = now if account is None else account[0]
            stamp = tx.stamp()
            tx.execute(_NEW_CHAT, (chat_id, "saved", user_id, "", "all", 1, began, stamp))
            tx.execute(JOIN, (chat_id, user_id, "owner", 1, 0, began, stamp))
            return chat_id

        found = await self._engine.read(find)
        return await self._engine.write(job) if found is None else found

    async def create_direct(self, user_id: str, peer_id: str, chat_id: str, now: int) -> tuple[str, bool, Audience]:
        key = pair_key(user_id, peer_id)

        def job(tx: Tx) -> tuple[str, bool, Audience]:
            row = tx.execute(
                "SELECT c.id, c.members_rev, m.left_at FROM chats c JOIN members m"
                " ON m.chat_id = c.id AND m.user_id = ? WHERE c.pair_key = ?",
                (user_id, key),
            ).fetchone()
            if row is not None:
                found, members_rev, left_at = row
                if left_at is not None:
                    members_rev += 1
                    stamp = tx.stamp()
                    tx.execute(
                        "UPDATE members SET left_at = NULL, joined_at = ?1, began = ?2, changed = ?2"
                        " WHERE chat_id = ?3 AND user_id = ?4",
                        (now, stamp, found, user_id),
                    )
                    tx.execute(
                        "UPDATE chats SET members_count = members_count + 1, members_rev = ? WHERE id = ?",
                        (members_rev, found),
                    )
                return found, False, audience_of(tx.connection, found, members_rev)
            require_people(tx, [peer_id])
            if tx.execute("SELECT 1 FROM blocks WHERE user_id = ? AND blocked_id = ?", (peer_id, user_id)).fetchone():
                raise HyperSendError("blocked")
            stamp = tx.stamp()
            tx.execute(_NEW_CHAT, (chat_id, "direct", key, "", "all", 2, now, stamp))
            for one in (user_id, peer_id):
                tx.execute(JOIN, (chat_id, one, "member", 1, 0, now, stamp))
            return chat_id, True, audience_of(tx.connection, chat_id, 1)

        return await self._engine.write(job)

    async def create_group(
        self,
        owner_id: str,
        member_ids: Sequence[str],
        title: str,
        history: Literal["all", "since_join"],
        chat_id: str,
        message_id: str,
        now: int,
    ) -> MemberChange:
        others = [user_id for user_id in dict.fromkeys(member_ids) if user_id != owner_id]

        def job(tx: Tx) -> MemberChange:
            require_people(tx, others)
            require_unblocked(tx, others, owner_id)
            require_room(len(others) + 1)
            stamp = tx.stamp()
            tx.execute(_NEW_CHAT, (chat_id, "group", None, title, history, len(others) + 1, now, stamp))
            for user_id in (owner_id, *others):
                tx.execute(JOIN, (chat_id, user_id, "owner" if user_id == owner_id else "member", 1, 0, now, stamp))
            chat, _ = membership(tx.connection, chat_id, owner_id)
            system = {"event": "group_created", "actor_id": owner_id, "user_ids": others, "title": title}
            return MemberChange(
                post_system(tx, chat, system, message_id, now, stamp), audience_of(tx.connection, chat_id, 1)
            )

        return await self._engine.write(job)

    async def get_chat(self, chat_id: str, user_id: str) -> ChatView | None:
        def job(connection: ReadTx) -> ChatView | None:
            found = views_of(connection, connection.execute(f"{LISTED} AND m.chat_id = ?2", (user_id, chat_id)))
            return found[0] if found else None

        return await self._engine.read(job)

    async def list_chats(self, user_id: str, archived: bool, after: ChatPosition | None, limit: int) -> list[ChatView]:
        at = after or ChatPosition(True, 2**62, "~")

        def job(connection: ReadTx) -> list[ChatView]:
            return views_of(
                connection,
                connection.execute(
                    f"SELECT {CHAT}, {MEMBER} FROM ({PAGE}) page"  # noqa: S608
                    " CROSS JOIN chats c ON c.id = page.chat_id"
                    " CROSS JOIN members m ON m.chat_id = c.id AND m.user_id = ?1"
                    " ORDER BY m.pinned DESC, c.updated_at DESC, c.id DESC",
                    (user_id, archived, at.pinned, at.updated_at, at.chat_id, limit),
                ),
            )

        return await self._engine.read(job)

    async def update_group(
        self,
        chat_id: str,
        actor_id: str,
        fields: dict[str, str | None],
        picture: tuple[str, str, bytes] | None,
        message_id: str,
        now: int,
    ) -> MemberChange:
        def job(tx: Tx) -> MemberChange:
            chat, me = membership(tx.connection, chat_id, actor_id)
            require_role(chat, me, "owner", "admin")
            new: dict[str, Any] = {name: value for name, value in fields.items() if getattr(chat, name) != value}
            if not new:
                return MemberChange(None, audience_of(tx.connection, chat_id, chat.members_rev))
            if picture is not None:
                tx.execute("INSERT INTO pictures (id, mime, data) VALUES (?, ?, ?)", picture)
            if "avatar_id" in new and chat.avatar_id is not None:
                tx.execute("DELETE FROM pictures WHERE id = ?", (chat.avatar_id,))
            system: dict[str, Any] = {
                "event": "group_changed",
                "actor_id": actor_id,
                "fields": sorted("avatar" if name == "avatar_id" else name for name in new),
            }
            if "title" in new:
                system["title"] = new["title"]
            message = post_system(tx, chat, system, message_id, now, tx.stamp(), **new)
            return MemberChange(message, audience_of(tx.connection, chat_id, chat.members_rev))

        return await self._engine.write(job)

    async def delete_chat(self, chat_id: str, user_id: str, now: int) -> list[str]:
        def job(tx: Tx) -> list[str]:
            chat, me = membership(tx.connection, chat_id, user_id)
            if chat.kind == "saved":
                raise HyperSendError("not_allowed", "The chat with oneself cannot be deleted.")
            if chat.kind == "direct":
                close_side(tx, chat, user_id, now)
                return [user_id]
            require_role(chat, me, "owner")
            gone = [
                row[0]
                for row in tx.execute("SELECT user_id FROM members WHERE chat_id = ? AND left_at IS NULL", (chat_id,))
            ]
            end_chat(tx, chat_id, now)
            return gone

        return await self._engine.write(job)

    async def set_own(self, chat_id: str, user_id: str, fields: dict[str, Any]) -> None:
        def job(tx: Tx) -> None:
            membership(tx.connection, chat_id, user_id)
            new = {name: fields[name] for name in ("pinned", "archived", "muted_until") if name in fields}
            if new:
                tx.execute(
                    f"UPDATE members SET changed = ?, {', '.join(f'{name} = ?' for name in new)}"  # noqa: S608
                    " WHERE chat_id = ? AND user_id = ?",
                    (tx.stamp(), *new.values(), chat_id, user_id),
                )

        await self._engine.write(job)

    async def audience(self, chat_id: str, user_id: str) -> Audience:
        def job(connection: ReadTx) -> Audience:
            chat, _ = membership(connection, chat_id, user_id)
            return audience_of(connection, chat_id, chat.members_rev)

        return await self._engine.read(job)
