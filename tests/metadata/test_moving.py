"""`migrate-metadata`: everything from SQLite to MongoDB and back, compared record by record."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.__main__ import main
from hypersend_server.keys import lock_data_root
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import SyncPosition
from hypersend_server.metadata.conformance.chats_people import NOW, group, people, post, rest, say, texts
from hypersend_server.metadata.conformance.files import complete, uploading
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.mongo.port import MongoPort
from hypersend_server.metadata.sqlite import FILE_NAME, SqliteMetadata
from hypersend_server.metadata.sqlite.port import SqlitePort
from hypersend_server.metadata.sqlite.schema import migrations
from hypersend_server.metadata.transport import LEFT_OUT, TABLES, Port, Row, Table, digest_of
from tests.mongo_server import MongoServer

UPKEEP = {"changed", "change", "number", "began"}  # columns that are made anew


async def fill(metadata: Metadata) -> None:
    """Something of most kinds."""
    await metadata.server.identity()
    await people(metadata, "a", "b", "c")
    chats = metadata.chats
    await group(chats, "a", "b", "c")
    await chats.ensure_saved("a", "saved", NOW)
    chat_id, _, _ = await chats.create_direct("a", "b", "direct", NOW)
    for n in range(40):
        await say(chats, "g", "ab"[n % 2], f"green tea {n}")
    first = await say(chats, chat_id, "b", "hello $where a.b")
    await chats.react(chat_id, first.id, "a", "👍", True)
    await chats.edit(chat_id, first.id, "b", "hello there", NOW)
    hidden = await say(chats, "g", "c", "spoiler")
    await chats.hide("g", hidden.id, "b")
    await chats.set_marks("g", "b", 20, 10, -1)
    await chats.remove_member("g", "a", "c", "gone", NOW)
    await metadata.accounts.block("c", "a", now_ms=NOW)
    await complete(metadata, "file", size=100, owner_id="a", duration_s=3.0)
    await uploading(metadata, "half", owner_id="b")
    await chats.append(draft_with("file"), -1)
    await metadata.files.remove((await complete(metadata, "removed", size=100)).id, NOW)
    await metadata.server.set_mark("verify", "f1")


def draft_with(file_id: str) -> Any:
    from hypersend_server.metadata.chats import Draft

    return Draft(id="with-file", chat_id="g", sender_id="a", client_id="with-file", file_ids=(file_id,), now=NOW)


async def digests(port: Port) -> dict[str, tuple[int, str]]:
    found = {}
    for table in TABLES:
        digest = await digest_of(port, table)
        found[table.name] = (digest.count, digest.hex)
    return found


def test_every_column_of_every_table_is_carried() -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    for _, script in migrations():
        connection.executescript(script)
    names = [row[0] for row in connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'search%' AND name NOT LIKE 'sqlite%'")]
    assert set(names) - LEFT_OUT == {table.name for table in TABLES}
    for table in TABLES:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        assert columns - UPKEEP == set(table.columns), table.name
    connection.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DATA_ROOT with a server's data in SQLite, which the commands find."""
    data_root = tmp_path / "data"

    async def make() -> None:
        metadata = SqliteMetadata(data_root / FILE_NAME)
        await metadata.open()
        await fill(metadata)
        await metadata.close()

    asyncio.run(make())
    monkeypatch.setenv("DATA_ROOT", str(data_root))
    monkeypatch.setenv("SECRET_KEY", "k" * 40)
    monkeypatch.delenv("MONGODB_URI", raising=False)
    return data_root


def read_sqlite(path: Path) -> dict[str, tuple[int, str]]:
    port = SqlitePort(path)
    try:
        return asyncio.run(digests(port))
    finally:
        port.close()


def test_there_and_back_every_record_is_the_same(
    root: Path, mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    before = read_sqlite(root / FILE_NAME)
    assert before["messages"][0] > 40
    uri = mongo_server.fresh_uri()
    assert main(["migrate-metadata", "--to", uri, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["differ"] == []
    assert {name: (report["records"][name], report["digests"][name]) for name in before} == before

    async def used() -> None:
        metadata = MongoMetadata(uri)
        await metadata.open()
        chats = metadata.chats
        assert await texts(chats, "direct", "a") == ["hello there"]
        assert [hit.message.text for hit in await chats.search("a", "hello", None, None, 5)] == ["hello there"]
        assert not (await post(chats, "g", "a", "green tea 0")).created  # client ids are known
        [page] = await rest(chats, SyncPosition("", "a", 0))
        assert sorted(page.reset) == ["direct", "g", "saved"]
        said = await say(chats, "g", "a", "after the move")
        assert await chats.search("a", "after the", None, None, 5)
        [page] = await rest(chats, page.position)
        assert [message.id for message in page.messages] == [said.id]
        assert (await metadata.files.get_readable("file", "b")) is not None
        await metadata.close()

    asyncio.run(used())
    monkeypatch.setenv("MONGODB_URI", uri)
    back = root.parent / "back" / FILE_NAME
    assert main(["migrate-metadata", "--to", str(back)]) == 0
    after = read_sqlite(back)
    assert after["messages"][0] == before["messages"][0] + 1
    assert {name for name in after if after[name] != before[name]} == {"messages", "chats"}

    async def used_again() -> None:
        metadata = SqliteMetadata(back)
        await metadata.open()
        assert [hit.message.text for hit in await metadata.chats.search("b", "after", None, None, 5)] == [
            "after the move"]
        said = await say(metadata.chats, "g", "b", "home again")
        page = await metadata.chats.messages_after_rev("g", "a", said.rev - 1, 10)
        assert [message.id for message in page.messages] == [said.id]
        await metadata.close()

    asyncio.run(used_again())


def test_what_was_cut_off_goes_on_where_it_was(
    root: Path, mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = mongo_server.fresh_uri()
    put = MongoPort.put

    async def cut(self: MongoPort, table: Table, rows: list[Row]) -> None:
        if table.name == "messages":
            await put(self, table, rows[: len(rows) // 2])
            raise OSError("the cable was pulled")
        await put(self, table, rows)

    with monkeypatch.context() as patched:
        patched.setattr(MongoPort, "put", cut)
        assert main(["migrate-metadata", "--to", uri]) == 1
    moved: list[str] = []

    async def watched(self: MongoPort, table: Table, rows: list[Row]) -> None:
        moved.append(table.name)
        await put(self, table, rows)

    monkeypatch.setattr(MongoPort, "put", watched)
    assert main(["migrate-metadata", "--to", uri]) == 0
    assert "users" not in moved  # all of them were there
    assert "messages" in moved


def test_a_target_with_other_data_is_refused(
    root: Path, mongo_server: MongoServer, capsys: pytest.CaptureFixture[str],
) -> None:
    uri = mongo_server.fresh_uri()

    async def other() -> None:
        metadata = MongoMetadata(uri)
        await metadata.open()
        await metadata.server.identity()
        await people(metadata, "somebody")
        await metadata.close()

    asyncio.run(other())
    assert main(["migrate-metadata", "--to", uri]) == 1
    assert "holds data already" in capsys.readouterr().err
    assert main(["migrate-metadata", "--to", "sqlite"]) == 1
    assert "both ends are the same" in capsys.readouterr().err


def test_a_running_server_is_refused(
    root: Path, mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    held = lock_data_root(root)
    try:
        assert main(["migrate-metadata", "--to", mongo_server.fresh_uri()]) == 1
        assert "another server" in capsys.readouterr().err
    finally:
        os.close(held)


def test_a_new_epoch_is_begun_after_a_restore_of_mongodbs_own(
    root: Path, mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    uri = mongo_server.fresh_uri()
    assert main(["migrate-metadata", "--to", uri]) == 0
    monkeypatch.setenv("MONGODB_URI", uri)
    epochs = set()
    for _ in range(2):
        capsys.readouterr()
        assert main(["migrate-metadata", "--new-epoch", "--json"]) == 0
        epochs.add(json.loads(capsys.readouterr().out)["epoch"])
    assert len(epochs) == 2


def test_a_backup_of_mongodb_is_not_pretended(
    root: Path, mongo_server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_server.fresh_uri())
    assert main(["backup", str(root.parent / "copy")]) == 1
    assert "mongodump" in capsys.readouterr().err
    assert main(["restore", str(root.parent / "copy")]) == 1
    assert "mongorestore" in capsys.readouterr().err
