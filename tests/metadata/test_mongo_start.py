"""What an operator meets who set MONGODB_URI: wrong addresses, one line each; and MongoDB going away in operation."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bson
import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.conformance.chats_people import NOW, group, people, say, texts
from hypersend_server.metadata.errors import MetadataError, MetadataTooNew
from hypersend_server.metadata.mongo import MongoMetadata, engine
from hypersend_server.metadata.mongo.indexes import INDEXES, SCHEMA_VERSION
from hypersend_server.settings import Settings, SettingsError
from tests.harness import running
from tests.mongo_server import MongoServer, free_port
from tests.process import command

SECRET = "s3cr%40t"
GIVE_UP_S = 60


@asynccontextmanager
async def answering(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> AsyncIterator[int]:
    """A server that speaks just enough of MongoDB's wire protocol to be refused; the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, request, _, code = struct.unpack("<iiii", await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                if code == 2004:  # OP_QUERY, which a driver begins with
                    name_end = body.index(b"\0", 4)
                    asked = bson.decode(body[name_end + 9:])
                    reply = bson.encode(answer(asked))
                    head = struct.pack("<iqii", 8, 0, 0, 1)
                    message = struct.pack("<iiii", 16 + len(head) + len(reply), 0, request, 1) + head + reply
                else:
                    asked = bson.decode(body[5:5 + struct.unpack("<i", body[5:9])[0]])
                    reply = struct.pack("<iB", 0, 0) + bson.encode(answer(asked))
                    message = struct.pack("<iiii", 16 + len(reply), 0, request, 2013) + reply
                writer.write(message)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def old_or_alone(version: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if "buildInfo" in asked or "buildinfo" in asked:
            return {"ok": 1, "version": version}
        if asked.keys() & {"hello", "ismaster", "isMaster"}:
            return {"ok": 1, "isWritablePrimary": True, "ismaster": True, "helloOk": True, "minWireVersion": 0,
                    "maxWireVersion": 21, "maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 48_000_000,
                    "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30}
        return {"ok": 1}

    return answer


@pytest.mark.parametrize("uri", [
    f"mongodb://me:{SECRET}@host:notaport/db", f"mongodb://me:{SECRET}@/db",
    f"mongodb://me:{SECRET}@h/db?w=1&serverSelectionTimeoutMS=x", f"mongodb://me:{SECRET}:x@h/db?authMechanism=WHAT",
    "mongodb://",
])
def test_an_address_that_cannot_be_read_is_one_line_without_the_password(uri: str, tmp_path: Path) -> None:
    done = command(tmp_path, "serve", SECRET_KEY="k" * 40, MONGODB_URI=uri)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len([line for line in lines if line.startswith("hypersend-server:")]) == 1
    assert "MONGODB_URI" in lines[-1]
    assert "s3cr" not in done.stdout + done.stderr


def test_settings_ask_for_a_key_and_hide_the_address() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MONGODB_URI": f"mongodb://me:{SECRET}@h/db"})
    assert any("SECRET_KEY" in problem for problem in caught.value.problems)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MONGODB_URI": f"http://me:{SECRET}@h", "SECRET_KEY": "k" * 40})
    assert "MONGODB_URI" in caught.value.problems[0]
    assert SECRET not in str(caught.value.problems)


async def test_nobody_there_is_waited_for_and_then_said() -> None:
    metadata = MongoMetadata(
        f"mongodb://me:{SECRET}@127.0.0.1:{free_port()}/db?serverSelectionTimeoutMS=200", wait_s=1)
    said = r"MONGODB_URI: MongoDB at 127\.0\.0\.1:.* did not answer within 1 s"
    with pytest.raises(MetadataError, match=said) as caught:
        await metadata.open()
    assert "s3cr" not in str(caught.value)


async def test_one_that_comes_up_late_is_found(tmp_path: Path) -> None:
    server = MongoServer(tmp_path / "late")
    metadata = MongoMetadata(server.uri("late") + "&serverSelectionTimeoutMS=300", wait_s=GIVE_UP_S)
    opening = asyncio.create_task(metadata.open())
    await asyncio.sleep(0.5)
    assert not opening.done()
    await asyncio.to_thread(server.start)
    try:
        await asyncio.wait_for(opening, GIVE_UP_S)
        await metadata.server.ping()
        await metadata.close()
    finally:
        server.stop()


async def test_an_old_one_and_one_that_is_no_replica_set_are_refused() -> None:
    async with answering(old_or_alone("4.2.8")) as port:
        with pytest.raises(MetadataError, match=r"MONGODB_URI: .* is version 4\.2\.8"):
            await MongoMetadata(f"mongodb://127.0.0.1:{port}/db?directConnection=true", wait_s=5).open()
    async with answering(old_or_alone("7.0.1")) as port:
        with pytest.raises(MetadataError, match=r"MONGODB_URI: .* is no replica set"):
            await MongoMetadata(f"mongodb://127.0.0.1:{port}/db?directConnection=true", wait_s=5).open()


async def test_a_wrong_password_is_said_without_it() -> None:
    def refuse(asked: dict[str, Any]) -> dict[str, Any]:
        if "saslStart" in asked:
            return {"ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
        return old_or_alone("7.0.1")(asked)

    async with answering(refuse) as port:
        uri = f"mongodb://me:{SECRET}@127.0.0.1:{port}/db?directConnection=true&authMechanism=SCRAM-SHA-256"
        with pytest.raises(MetadataError, match="refuses the name or the password") as caught:
            await MongoMetadata(uri, wait_s=5).open()
        assert "s3cr" not in str(caught.value)


async def test_starting_twice_makes_nothing_twice_and_newer_data_is_refused(mongo_server: MongoServer) -> None:
    uri = mongo_server.fresh_uri()
    both = [MongoMetadata(uri), MongoMetadata(uri)]
    await asyncio.gather(*(metadata.open() for metadata in both))
    assert await both[0].server.identity() == await both[1].server.identity()
    for name in {index.collection for index in INDEXES}:
        wanted = {"_id_", *(index.model().document["name"] for index in INDEXES if index.collection == name)}
        assert set(await both[0].db[name].index_information()) == wanted
    await both[0].db["meta"].update_one({"_id": "schema"}, {"$set": {"value": SCHEMA_VERSION + 1}})
    with pytest.raises(MetadataTooNew):
        await MongoMetadata(uri).open()
    for metadata in both:
        await metadata.close()


async def test_a_command_makes_no_server_of_a_mistyped_database(mongo_server: MongoServer) -> None:
    metadata = MongoMetadata(mongo_server.fresh_uri(), must_exist=True)
    with pytest.raises(MetadataError, match="there is no HyperSend server in the database"):
        await metadata.open()


async def test_operators_in_a_persons_text_stay_text(mongo_server: MongoServer) -> None:
    metadata = MongoMetadata(mongo_server.fresh_uri())
    await metadata.open()
    await people(metadata, "a")
    await group(metadata.chats, "a")
    odd = ['{"$where": "sleep(1000)"}', "$rev", "a.b.$c", "$$NOW", ".*", "\\E(.*)"]
    for text in odd:
        await say(metadata.chats, "g", "a", text)
    assert await texts(metadata.chats, "g", "a") == odd
    await metadata.chats.update_group("g", "a", {"title": "$rev", "about": "$$ROOT"}, None, "t", NOW)
    view = await metadata.chats.get_chat("g", "a")
    assert view is not None
    assert (view.chat.title, view.chat.about) == ("$rev", "$$ROOT")
    assert await metadata.chats.search("a", ".*", None, None, 10) == []
    listing = await metadata.files.list_own("a", ("complete",), "(.*\0", None, 10)
    assert listing.files == []
    await metadata.close()


async def test_a_server_without_its_database_says_so_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    server = MongoServer(tmp_path / "mongo").start()
    uri = server.uri("outage") + "&serverSelectionTimeoutMS=500&connectTimeoutMS=500"
    try:
        async with running(tmp_path / "data", MONGODB_URI=uri) as app:
            alice = await app.person("alice")
            made = await alice.post("/chats", {"kind": "group", "title": "Tea", "member_ids": []})
            chat_id = made.json["id"]
            said = await alice.post(f"/chats/{chat_id}/messages", {"client_id": "1", "text": "before"})
            assert said.status == 201
            await asyncio.to_thread(server.stop)  # killed, the stand-in may forget what it acknowledged
            down = await alice.post(f"/chats/{chat_id}/messages", {"client_id": "2", "text": "meanwhile"})
            assert (down.status, down.code, down.json["retryable"]) == (503, "metadata_unavailable", True)
            assert int(down.headers["Retry-After"]) > 0
            ready = await alice.get("/readyz")
            assert (ready.status, ready.json["degraded"]) == (200, ["metadata"])
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(GIVE_UP_S):
                while (again := await alice.post(
                        f"/chats/{chat_id}/messages", {"client_id": "2", "text": "meanwhile"})).status == 503:
                    await asyncio.sleep(0.2)
            assert again.status in (200, 201)
            listed = await alice.get(f"/chats/{chat_id}/messages")
            assert [m["text"] for m in listed.json["items"] if m["kind"] == "text"] == ["before", "meanwhile"]
            assert json.dumps(listed.json).count("meanwhile") == 1
    finally:
        server.stop()


async def test_a_write_that_mongodb_does_not_answer_is_unavailable() -> None:
    metadata = MongoMetadata(f"mongodb://127.0.0.1:{free_port()}/db?serverSelectionTimeoutMS=200")
    with pytest.raises(HyperSendError) as caught:
        await metadata.accounts.update_profile("a", about="x")
    assert (caught.value.code, caught.value.retry_after_s) == ("metadata_unavailable", 5)
    await metadata.close()


async def test_what_is_written_after_its_writer_was_refused_is_caught_up_on_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WAIT_S", 0.5)
    server = MongoServer(tmp_path / "mongo").start()
    try:
        async with running(tmp_path / "data", MONGODB_URI=server.uri("late")) as site:
            alice, bob = await site.person("alice"), await site.person("bob")
            chat_id = (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).json["id"]
            live = await bob.socket()
            server.freeze()
            late = await alice.post(f"/chats/{chat_id}/messages", {"client_id": "1", "text": "late"})
            assert (late.status, late.code) == (503, "metadata_unavailable")
            server.thaw()
            await live.until("resync")
            listed = await bob.get(f"/chats/{chat_id}/messages")
            assert [message["text"] for message in listed.json["items"]] == ["late"]
    finally:
        server.stop()
