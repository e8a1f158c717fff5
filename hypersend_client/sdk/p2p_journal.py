"""Which files this device sends to people, and receives from them: rows in the journal that survive `kill -9`."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from hypersend_client.sdk.journal import Identity, Journal
from hypersend_client.sdk.p2p_names import offered_name
from hypersend_client.sdk.p2p_seal import Role
from hypersend_client.sdk.uploads import text_of

_ROW = "key, role, chat_id, receiver_id, path, size, mtime_ns, transfer_id"
_NAME = "(SELECT name FROM p2p_names WHERE p2p_names.key = p2p.key)"


@dataclass(frozen=True, slots=True)
class PeerRow:
    """key: `client_id` of the offer, or the transfer's id where we receive. path: of the local file, or the one that it
    shall have. identity: of the local file. transfer_id: '' before the offer was answered. name: under which it is
    offered, '' where we receive."""

    key: str
    role: Role
    chat_id: str
    receiver_id: str
    path: str
    identity: Identity
    transfer_id: str
    name: str = ""


def lock_name(role: str, transfer_id: str) -> str:
    """Of the lock that the one program holds which serves this end."""
    return f"p2p-{role}-{transfer_id}"


class PeerJournal:
    """account: (server_id, user_id)."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def rows(self, account: tuple[str, str]) -> list[PeerRow]:
        """All that may still go on, also as an upload; the oldest first."""
        sql = f"SELECT {_ROW}, {_NAME} FROM p2p WHERE server_id = ? AND user_id = ? ORDER BY rowid"  # noqa: S608
        return [_row(row) for row in await self.journal.do(lambda db: db.execute(sql, account).fetchall())]

    async def sending(
        self, account: tuple[str, str], chat_id: str, receiver_id: str, path: str, identity: Identity
    ) -> PeerRow | None:
        """The row of this very file to these people, if it is on its way."""
        rows = await self._of_path(account, chat_id, receiver_id, path)
        return next((row for row in rows if row.identity.is_content_of(identity)), None)

    async def outdated(
        self, account: tuple[str, str], chat_id: str, receiver_id: str, path: str, identity: Identity
    ) -> list[PeerRow]:
        """What is on its way to these people of what the file was before."""
        rows = await self._of_path(account, chat_id, receiver_id, path)
        return [row for row in rows if not row.identity.is_content_of(identity)]

    async def _of_path(self, account: tuple[str, str], chat_id: str, receiver_id: str, path: str) -> list[PeerRow]:
        return [row for row in await self.rows(account)
                if (row.role, row.chat_id, row.receiver_id, row.path) == ("sender", chat_id, receiver_id, path)]

    async def add_sending(
        self, account: tuple[str, str], chat_id: str, receiver_id: str, path: str, identity: Identity, name: str
    ) -> PeerRow:
        row = PeerRow(uuid.uuid4().hex, "sender", chat_id, receiver_id, path, identity, "", name)
        await self._add(account, row)
        return row

    async def add_receiving(self, account: tuple[str, str], transfer_id: str, chat_id: str, target: str) -> PeerRow:
        """The one there is, or a new one."""
        for row in await self.rows(account):
            if row.key == transfer_id:
                return row
        row = PeerRow(transfer_id, "receiver", chat_id, "", target, Identity(0, 0, 0), transfer_id)
        await self._add(account, row)
        return row

    async def note_offer(self, key: str, transfer_id: str) -> None:
        await self.journal.do(lambda db: db.execute("UPDATE p2p SET transfer_id = ? WHERE key = ?", (transfer_id, key)))

    async def first_key(self, key: str, other_key: str) -> str:
        """The other device's key as this device heard it first. key: of the row. other_key: as it is told now."""

        def work(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO p2p_keys VALUES (?, ?)", (key, other_key))
            return str(db.execute("SELECT other_key FROM p2p_keys WHERE key = ?", (key,)).fetchone()[0])

        return await self.journal.do(work)

    async def known_key(self, key: str) -> str | None:
        """What `first_key` answers; None where it was never asked."""
        sql = "SELECT other_key FROM p2p_keys WHERE key = ?"
        found = await self.journal.do(lambda db: db.execute(sql, (key,)).fetchone())
        return None if found is None else str(found[0])

    async def note_met(self, account: tuple[str, str], chat_id: str, other_id: str, key: str, name: str) -> None:
        """A transfer is begun with this device. name: of the file."""
        row = (*account, chat_id, other_id, key, name, time.time_ns() // 1_000_000)
        await self.journal.do(lambda db: db.execute("INSERT OR REPLACE INTO p2p_met VALUES (?, ?, ?, ?, ?, ?, ?)", row))

    async def met(self, account: tuple[str, str], chat_id: str) -> list[tuple[str, str, str]]:
        """(the last file's name, the other person, the key) of each device, the latest first."""
        sql = ("SELECT name, other_id, key FROM p2p_met WHERE server_id = ? AND user_id = ? AND chat_id = ? "
               "ORDER BY met_at DESC")
        return await self.journal.do(lambda db: db.execute(sql, (*account, chat_id)).fetchall())

    async def is_new_device(self, account: tuple[str, str], other_id: str, key: str) -> bool:
        """Whether this person was met before, and never with this key. key: base64url."""
        sql = "SELECT key FROM p2p_devices WHERE server_id = ? AND user_id = ? AND other_id = ?"
        found = await self.journal.do(lambda db: db.execute(sql, (*account, other_id)).fetchall())
        return bool(found) and (key,) not in found

    async def remember_device(self, account: tuple[str, str], other_id: str, key: str) -> None:
        await self.journal.do(
            lambda db: db.execute("INSERT OR IGNORE INTO p2p_devices VALUES (?, ?, ?, ?)", (*account, other_id, key)))

    async def note_ending(self, account: tuple[str, str], transfer_id: str) -> None:
        """It is over for this device, and the server is still to hear it."""
        await self.journal.do(
            lambda db: db.execute("INSERT OR IGNORE INTO p2p_endings VALUES (?, ?, ?)", (*account, transfer_id)))

    async def endings(self, account: tuple[str, str]) -> list[str]:
        """Transfers of which the server is still to hear that they are over."""
        sql = "SELECT transfer_id FROM p2p_endings WHERE server_id = ? AND user_id = ?"
        return [str(row[0]) for row in await self.journal.do(lambda db: db.execute(sql, account).fetchall())]

    async def drop_ending(self, account: tuple[str, str], transfer_id: str) -> None:
        sql = "DELETE FROM p2p_endings WHERE server_id = ? AND user_id = ? AND transfer_id = ?"
        await self.journal.do(lambda db: db.execute(sql, (*account, transfer_id)))

    async def drop(self, key: str, *, keeps_key: bool = False) -> None:
        """keeps_key: what `known_key` answers stays, for whoever asks for the same transfer again."""

        def work(db: sqlite3.Connection) -> list[tuple[str, str]]:
            found = db.execute("DELETE FROM p2p WHERE key = ? RETURNING role, transfer_id", (key,)).fetchall()
            if not keeps_key:
                db.execute("DELETE FROM p2p_keys WHERE key = ?", (key,))
            db.execute("DELETE FROM p2p_names WHERE key = ?", (key,))
            return found

        for role, transfer_id in await self.journal.do(work):
            await self.journal.drop_lock(lock_name(role, transfer_id))

    async def _add(self, account: tuple[str, str], row: PeerRow) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(
                f"INSERT OR IGNORE INTO p2p ({_ROW}, server_id, user_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (row.key, row.role, row.chat_id, row.receiver_id, os.fsencode(row.path), row.identity.size,
                 row.identity.mtime_ns, row.transfer_id, *account))
            if row.name:
                db.execute("INSERT OR IGNORE INTO p2p_names VALUES (?, ?)", (row.key, row.name))

        await self.journal.do(work)


def _row(row: tuple[str, Role, str, str, bytes, int, int, str, str | None]) -> PeerRow:
    key, role, chat_id, receiver_id, encoded, size, mtime_ns, transfer_id, name = row
    path = os.fsdecode(encoded)
    if role == "sender" and name is None:  # of before names were kept: files had their own
        name = offered_name(text_of(Path(path).name))
    return PeerRow(key, role, chat_id, receiver_id, path, Identity(size, mtime_ns, 0), transfer_id, name or "")
