"""Two real server processes over one database: what one does, people at the other see, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from hypersend_client.sdk import HyperSend
from hypersend_server.app import open_parts
from hypersend_server.chats.types import NewMessage
from hypersend_server.settings import Settings
from tests.harness import PASSWORD, Answer, Person, Server
from tests.http_session import http_session
from tests.mongo_server import MongoServer
from tests.process import environment
from tests.redis_server import RedisServer
from tests.scale.deployment import Deployment, at
from tests.scale.rolling_restart import rolling_restart
from tests.sdk.people import person, texts, until, user_id

LONG_S = 90.0
BURST = int(os.environ.get("HYPERSEND_BURST", "1000"))  # 10,000 when there is time


@pytest.fixture
def two(tmp_path: Path, mongo_server: MongoServer, redis_server: RedisServer) -> Iterator[Deployment]:
    with Deployment(tmp_path / "two", mongo_server, redis_server) as deployment:
        yield deployment


@asynccontextmanager
async def clients(deployment: Deployment) -> AsyncIterator[tuple[Server, Server]]:
    async with http_session() as http:
        yield Server(http, deployment.urls[0]), Server(http, deployment.urls[1])


async def group(owner: Person, *others: str) -> str:
    answer = await owner.post("/chats", {"kind": "group", "title": "Tea", "member_ids": list(others)})
    assert answer.status == 201, answer
    return str(answer.json["id"])


async def say(who: Person, chat_id: str, text: str) -> Answer:
    return await who.post(f"/chats/{chat_id}/messages", {"client_id": text, "text": text})


async def test_a_message_a_mark_and_presence_cross_from_one_process_to_the_other(two: Deployment) -> None:
    async with clients(two) as (a, b):
        alice, bob = await a.person("alice"), await b.person("bob")
        chat_id = await group(alice, bob.id)
        at_a, at_b = await alice.socket(), await bob.socket()
        await at_a.send(type="presence.watch", user_ids=[bob.id])
        shown = await at_a.until("presence", LONG_S)
        while not shown["online"]:
            shown = await at_a.until("presence", LONG_S)
        assert (await say(alice, chat_id, "hello")).status == 201
        message = (await at_b.until("message", LONG_S))["message"]
        while message["kind"] == "system":
            message = (await at_b.until("message", LONG_S))["message"]
        assert message["text"] == "hello"
        await at_b.send(type="read", chat_id=chat_id, seq=message["seq"])
        assert (await at_a.until("read", LONG_S))["user_id"] == bob.id
        await at_b.close()
        while shown["online"]:
            shown = await at_a.until("presence", LONG_S)
        await at_a.close()


async def test_a_session_that_ends_at_one_process_ends_its_sockets_at_the_other(two: Deployment) -> None:
    async with clients(two) as (a, b):
        alice = await a.person("alice")
        socket = await at(b.url, alice).socket()
        assert (await alice.post("/auth/logout")).status == 204
        assert await socket.close_code(LONG_S) == 4503
        async with asyncio.timeout(LONG_S):  # requests too, by the bus or by the poll
            while (await at(b.url, alice).get("/users/me")).status != 401:
                await asyncio.sleep(0.05)


async def test_every_message_of_a_burst_reaches_the_other_process_once(two: Deployment) -> None:
    """Both write into one chat at the same time; the bus's own burst of 10,000 is in test_bus."""
    many = BURST // 2
    async with clients(two) as (a, b):
        alice, bob = await a.person("alice"), await b.person("bob")
        chat_id = await group(alice, bob.id)
        sockets = await alice.socket(), await bob.socket()

        async def hear(socket: Any) -> list[dict[str, Any]]:
            heard = []
            while len(heard) < 2 * many:
                message = (await socket.until("message", LONG_S))["message"]
                if message["kind"] == "text":
                    heard.append(message)
            return heard

        ears = [asyncio.create_task(hear(socket)) for socket in sockets]
        gate = asyncio.Semaphore(40)

        async def send(who: Person, text: str) -> None:
            async with gate:
                assert (await say(who, chat_id, text)).status == 201

        await asyncio.gather(*(send(who, f"{who.id}-{n}") for n in range(many) for who in (alice, bob)))
        for ear in ears:
            heard = await asyncio.wait_for(ear, LONG_S + BURST / 20)
            assert max(Counter(message["text"] for message in heard).values()) == 1
            assert len({message["seq"] for message in heard}) == 2 * many
        page = await alice.get(f"/chats/{chat_id}/messages?after_seq=0&limit=200")
        assert [message["seq"] for message in page.json["items"]] == list(range(1, 201))
        for socket in sockets:
            await socket.close()


async def test_chunks_may_go_to_either_process_and_completing_happens_once(two: Deployment) -> None:
    async with clients(two) as (a, b):
        alice = await a.person("alice")
        sides = alice, at(b.url, alice)
        chunk = 8 * 1024 * 1024
        data = os.urandom(4 * chunk + 5)
        file = (await alice.post("/files/init", {"name": "tea.bin", "size": len(data)})).json
        for index in range(file["upload"]["chunk_count"]):
            answer = await sides[index % 2].put(
                f"/files/{file['id']}/chunk?index={index}", data=data[index * chunk:(index + 1) * chunk])
            assert answer.status == 200, answer
        for side in sides:
            assert (await side.get(f"/files/{file['id']}")).json["upload"]["received"] == [[0, 4]]
        answers = await asyncio.gather(*(side.post(f"/files/{file['id']}/complete") for side in sides * 3))
        assert Counter(answer.status for answer in answers) == {201: 1, 200: 5}, answers
        assert len({answer.json["checksum"] for answer in answers}) == 1
        assert len({answer.json["completed_at"] for answer in answers}) == 1
        use = (await alice.get("/users/me/storage")).json
        assert (use["files"], use["used_bytes"], use["reserved_bytes"]) == (1, len(data), 0)
        for side in sides:
            got = await side.get(f"/files/{file['id']}/download")
            assert hashlib.sha256(got.body).digest() == hashlib.sha256(data).digest()


async def test_what_a_killed_process_received_is_completed_by_the_other(two: Deployment) -> None:
    async with clients(two) as (a, b):
        alice = await a.person("alice")
        data = os.urandom(8 * 1024 * 1024)
        file = (await alice.post("/files/init", {"name": "tea.bin", "size": len(data)})).json
        assert (await alice.put(f"/files/{file['id']}/chunk?index=0", data=data)).status == 200
        two.servers[0].kill()  # before or after its receipt became durable
        at_b = at(b.url, alice)
        assert (await at_b.post(f"/files/{file['id']}/complete")).status == 201
        got = await at_b.get(f"/files/{file['id']}/download")
        assert hashlib.sha256(got.body).digest() == hashlib.sha256(data).digest()


async def test_a_chunk_that_one_process_is_taking_is_busy_at_the_other(two: Deployment) -> None:
    async with clients(two) as (a, b):
        alice = await a.person("alice")
        chunk = 8 * 1024 * 1024
        file = (await alice.post("/files/init", {"name": "tea.bin", "size": chunk})).json
        path = f"/files/{file['id']}/chunk?index=0"
        data, going, go_on = os.urandom(chunk), asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield data[:chunk // 2]
            going.set()
            await go_on.wait()
            yield data[chunk // 2:]

        first = asyncio.create_task(alice.put(path, data=slowly(), headers={"Content-Length": str(chunk)}))
        await going.wait()
        async with asyncio.timeout(LONG_S):
            while (other := await at(b.url, alice).put(path, data=data)).status == 200:
                raise AssertionError("both were taken")
        assert (other.status, other.code) == (409, "chunk_busy")
        go_on.set()
        assert (await first).status == 200
        assert (await at(b.url, alice).put(path, data=data)).status == 200  # the same bytes again


async def friends(alice: HyperSend, bob: HyperSend) -> str:
    chat = await alice.chats.open_direct(user_id(bob))
    return chat.id


async def test_a_process_killed_between_commit_and_publish_leaves_no_client_stale(two: Deployment) -> None:
    """What it committed is written here by parts whose bus was never started; then the process is killed."""
    async with person(two.urls[0], "alice") as alice, person(two.urls[1], "bob") as bob:
        chat_id = await friends(alice, bob)
        await alice.outbox.put(chat_id, "heard")
        await until(bob, lambda: _shows(bob, chat_id, "heard"), LONG_S)
        await asyncio.sleep(5)  # bob's process has seen the lease of alice's
        settings = Settings.from_env(environment(two.folder / "data", **two.settings))
        async with open_parts(settings) as parts:
            await parts.chats.post(user_id(alice), chat_id, NewMessage(client_id="quiet", text="never told"))
        two.servers[0].kill()
        await until(bob, lambda: _shows(bob, chat_id, "heard", "never told"), LONG_S)


async def _shows(hs: HyperSend, chat_id: str, *wanted: str) -> bool:
    return set(wanted) <= set(await texts(hs, chat_id))


async def test_with_redis_away_messages_are_taken_and_reach_everyone_afterwards(
    two: Deployment, redis_server: RedisServer
) -> None:
    async with person(two.urls[0], "alice") as alice, person(two.urls[1], "bob") as bob, clients(two) as (a, _):
        chat_id = await friends(alice, bob)
        sender = await a.login("alice@example.org", PASSWORD)
        assert (await say(sender, chat_id, "before")).status == 201
        await until(bob, lambda: _shows(bob, chat_id, "before"), LONG_S)
        redis_server.kill()
        said = [f"in the dark {number}" for number in range(20)]
        for text in said:
            assert (await say(sender, chat_id, text)).status == 201
        async with asyncio.timeout(LONG_S):
            while (ready := await a.get("/readyz")).json != {"status": "degraded", "degraded": ["bus"]}:
                await asyncio.sleep(0.05)
        assert ready.status == 200
        await asyncio.to_thread(redis_server.start)
        await until(bob, lambda: _shows(bob, chat_id, *said), LONG_S)
        async with asyncio.timeout(LONG_S):
            while (await a.get("/readyz")).json["status"] != "ready":
                await asyncio.sleep(0.05)


async def test_the_database_away_is_said_and_all_goes_on_by_itself(tmp_path: Path, redis_server: RedisServer) -> None:
    mongo = MongoServer(tmp_path / "mongo").start()
    try:
        with Deployment(tmp_path / "two", mongo, redis_server) as two:
            async with person(two.urls[0], "alice") as alice, person(two.urls[1], "bob") as bob, clients(two) as (a, b):
                chat_id = await friends(alice, bob)
                sender = await a.login("alice@example.org", PASSWORD)
                assert (await say(sender, chat_id, "before")).status == 201
                await until(bob, lambda: _shows(bob, chat_id, "before"), LONG_S)
                await asyncio.to_thread(mongo.stop)  # killed, the stand-in forgets; see tests/mongo_server.py
                refused = await say(sender, chat_id, "meanwhile")
                assert (refused.status, refused.code) == (503, "metadata_unavailable")
                assert int(refused.headers["Retry-After"]) > 0
                ready = await b.get("/readyz")
                assert (ready.status, ready.json["degraded"]) == (200, ["metadata"])
                await asyncio.to_thread(mongo.start)
                async with asyncio.timeout(LONG_S):
                    while (await say(sender, chat_id, "after")).status not in (200, 201):
                        await asyncio.sleep(0.1)
                await until(bob, lambda: _shows(bob, chat_id, "before", "after"), LONG_S)
    finally:
        mongo.kill()


async def test_a_process_stops_in_time_though_somebody_holds_its_chats(two: Deployment) -> None:
    """As another that was killed in the middle of transactions does, until the database ends these."""
    uri = two.settings["MONGODB_URI"]
    async with clients(two) as (a, _), AsyncMongoClient(uri) as holder:
        alice, bob = await a.person("alice"), await a.person("bob")
        socket = await bob.socket()
        chat_ids = [await group(alice, bob.id) for _ in range(5)]
        for chat_id in chat_ids:
            assert (await say(alice, chat_id, "one")).status == 201
            assert (await say(alice, chat_id, "two")).status == 201
        async with holder.start_session() as session:
            await session.start_transaction()
            for chat_id in chat_ids:
                await holder.get_default_database().chats.update_one(
                    {"_id": chat_id}, {"$inc": {"seq": 1}}, session=session)
            posts = [asyncio.create_task(say(alice, chat_id, "held up")) for chat_id in chat_ids]
            for chat_id in chat_ids:
                await socket.send(type="read", chat_id=chat_id, seq=1)
                await socket.send(type="read", chat_id=chat_id, seq=2)
            stopping = asyncio.create_task(asyncio.to_thread(two.servers[0].stop))
            done, _ = await asyncio.wait([stopping], timeout=50)
            await session.abort_transaction()
            assert await stopping == 0
            assert done, "it waited for each of them"
        await asyncio.gather(*posts, return_exceptions=True)


async def test_a_rolling_restart_behind_nginx_loses_no_message_and_breaks_no_upload(
    two: Deployment, tmp_path: Path
) -> None:
    outcome = await rolling_restart(two, tmp_path)
    assert outcome.received == outcome.sent  # each once, in order
    assert len(outcome.sent) > 20
    assert outcome.is_whole
