"""How the calls of a day grow with the messages in one chat, and with the chats of one person."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.growth_fill import COMMON, Filling, Words, filling
from benchmarks.growth_tables import Growth, ask
from benchmarks.people import Person, register
from benchmarks.processes import Server, folder, hypersend
from hypersend_server.metadata.sqlite import FILE_NAME

TIMES = 200
OTHERS = 5000  # people besides, each in two chats that are none of the measured person's
FILLED = (
    "Filled through the server's own metadata module, many messages to a transaction, by the function that each sent "
    "message goes through; all that is measured goes over HTTP to the server as it is started by an operator, with "
    "SQLite. `/sync` tokens are those of a device that had caught up before."
)
NEW = 100  # messages to catch up with


class Caller:
    """One kept connection of one person."""

    def __init__(self, server: Server, token: str, headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}

    def raw(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Raises: RuntimeError for any answer that is not a success."""
        self._connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return text

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        text = self.raw(method, path, body)
        return json.loads(text) if text else None

    def close(self) -> None:
        self._connection.close()


class Day:
    """The calls, each measured for one size of `growth`."""

    def __init__(self, growth: Growth, server: Server, person: Person, data_root: Path) -> None:
        self.growth, self.server, self.data_root = growth, server, data_root
        person.server = server
        person.refresh()
        self.caller = Caller(server, person.token)
        self.cpu: dict[str, float] = {}

    def time(self, name: str, call: Callable[[int], object], times: int = TIMES) -> None:
        took, cpu = ask(self.server, call, times)
        self.growth.add(name, "ms", took)
        self.cpu[name] = cpu

    def search(self, name: str, words: str, found: bool) -> None:
        path = f"/search?limit=20&q={quote(words)}"
        if bool(self.caller.call("GET", path)["items"]) != found:
            raise RuntimeError(f"searching {words!r} found {'nothing' if found else 'something'}")
        self.get(name, path)

    def get(self, name: str, *paths: str) -> None:
        """These in turns."""
        self.time(name, lambda n: self.caller.raw("GET", paths[n % len(paths)]))

    def sync(self, name: str, token: str | None) -> None:
        body = {} if token is None else {"token": token}
        self.time(name, lambda _: self.caller.raw("POST", "/sync", body))

    def send(self, chat_id: str, mark: str) -> None:
        self.time("sending", lambda n: self.caller.raw(
            "POST", f"/chats/{chat_id}/messages", {"client_id": f"{mark}-{n}", "text": "See you there."}))

    def end(self) -> None:
        """What is not a call, and the CPU of those that were."""
        self.growth.add("memory of the server", "MB", self.server.rss_mb())
        self.growth.add("database", "MB", sum(
            os.path.getsize(path) for path in self.data_root.glob(f"{FILE_NAME}*")) / 1e6)
        for name, cpu in self.cpu.items():
            self.growth.add(f"CPU of {name}", "ms", cpu)
        self.caller.close()


def in_one_chat(quick: bool) -> Growth:
    sizes = [1000, 10_000] if quick else [1000, 10_000, 100_000, 1_000_000]
    growth = Growth("messages", "Messages in one chat", "messages", sizes, [f"{size:,}" for size in sizes])
    words = Words()
    with folder() as where:
        data_root = where / "data"
        with hypersend(where) as server:
            reader, writer = register(server, "reader"), register(server, "writer")
            chat_id = reader.call("POST", "/chats", {"kind": "direct", "user_id": writer.id})["id"]
            reader.call("POST", "/chats", {"kind": "group", "title": "Other", "member_ids": [writer.id]})
        there, old_token = 0, None

        async def fill(count: int, rare: str) -> str:
            """The token from before the last of them."""
            async with filling(data_root, words) as database:
                turns = (reader.id, writer.id)
                await database.say([(chat_id, turns[n % 2]) for n in range(count)], {count // 2: rare})
                token = await database.knows_all(reader.id)
                await database.say([(chat_id, turns[n % 2]) for n in range(NEW)])
                return token

        for size in sizes:
            token = asyncio.run(fill(size - there - NEW, f"rhinoceros{size}"))
            there = size
            with hypersend(where) as server:
                day = Day(growth, server, reader, data_root)
                messages = f"/chats/{chat_id}/messages"
                day.get("list of chats", "/chats")
                day.get("opening the chat", f"{messages}?limit=50")
                day.get("scrolling in its middle", *(
                    f"{messages}?limit=50&before_seq={size // 2 + n}" for n in range(TIMES)))
                day.sync(f"catching up with {NEW}", token)
                if old_token is None:
                    growth.add("catching up, nine tenths behind", "ms", None)
                    growth.add("CPU of catching up, nine tenths behind", "ms", None)
                else:
                    day.sync("catching up, nine tenths behind", old_token)
                day.search("search, a rare word", f"rhinoceros{size}", True)
                day.search("search, a common word", COMMON, True)
                day.search("search, a common word's beginning", COMMON[:3], True)
                day.search("search, a common and a rare word", f"{COMMON[:4]} rhinoceros{size}", False)
                day.search("search, two letters", "ab", True)
                day.send(chat_id, f"{size}")
                old_token = token
                day.end()
    growth.flat = [name for name in growth.rows if not name.startswith(("memory", "database"))]
    growth.charts = {
        "calls": [name for name in growth.flat if not name.startswith(("search", "CPU"))],
        "search": [name for name in growth.flat if name.startswith("search")],
        "space": ["memory of the server", "database"],
    }
    growth.notes = [
        FILLED,
        "Two people write in turns, texts of 4 to 20 words; the common word stands in every second message, the rare "
        "one in a single message in the middle. A search looks in all of the person's chats.",
    ]
    return growth


def of_one_person(quick: bool) -> Growth:
    sizes = [10, 100, 1000] if quick else [10, 100, 1000, 10_000]
    others = OTHERS // 10 if quick else OTHERS
    growth = Growth("chats", "Chats of one person", "chats", sizes, [f"{size:,}" for size in sizes])
    words = Words()
    with folder() as where:
        data_root = where / "data"
        with hypersend(where) as server:
            reader = register(server, "reader")
        strangers = [f"stranger{n}" for n in range(others)]
        peers = [f"peer{n}" for n in range(sizes[-1])]
        foreign: list[tuple[str, str]] = []
        mine: list[tuple[str, str]] = []

        async def begin() -> None:
            async with filling(data_root, words) as database:
                await database.people(strangers)
                await database.people(peers)
                for n in range(0, others - 2, 100):
                    one = strangers[n]
                    ids = await database.direct(one, strangers[n + 1:n + 100])
                    foreign.extend((chat_id, one) for chat_id in ids)

        async def grow(size: int) -> tuple[str, str]:
            """The tokens from before the last messages, and from behind them."""
            async with filling(data_root, words) as database:
                new = peers[len(mine):size]
                mine.extend(zip(await database.direct(reader.id, new), new, strict=True))
                await talk(database, mine[-len(new):] * 3, {len(new) // 2: f"rhinoceros{size}"})
                before = await database.knows_all(reader.id)
                await talk(database, [mine[n * 7 % len(mine)] for n in range(NEW)], {})
                return before, await database.knows_all(reader.id)

        async def talk(database: Filling, places: list[tuple[str, str]], rare: dict[int, str]) -> None:
            """Among as many messages of other people."""
            await database.say(places, rare)
            await database.say([foreign[n % len(foreign)] for n in range(len(places))])

        asyncio.run(begin())
        for size in sizes:
            before, now = asyncio.run(grow(size))
            with hypersend(where) as server:
                day = Day(growth, server, reader, data_root)
                cursor = day.caller.call("GET", f"/chats?limit={min(200, size // 2)}")["next_cursor"]
                chat_id = mine[size // 2][0]
                day.get("list of chats", "/chats")
                day.get("next page of the list", f"/chats?cursor={cursor}")
                day.get("opening a chat", *(f"/chats/{place[0]}/messages?limit=50" for place in mine[-TIMES:]))
                day.sync("catching up with nothing", now)
                day.sync(f"catching up with {NEW}", before)
                day.sync("a new device's first page", None)
                day.search("search, a rare word", f"rhinoceros{size}", True)
                day.search("search, a common word", COMMON, True)
                day.search("search, a common word's beginning", COMMON[:3], True)
                day.send(chat_id, f"{size}")
                day.end()
    growth.flat = [name for name in growth.rows if not name.startswith(("memory", "database"))]
    growth.charts = {
        "calls": [name for name in growth.flat if not name.startswith(("search", "CPU"))],
        "search": [name for name in growth.flat if name.startswith("search")],
        "space": ["memory of the server", "database"],
    }
    growth.notes = [
        FILLED,
        f"Direct chats with as many people, with three messages each, beside {others:,} other people whose chats get "
        f"as many messages again. The {NEW} to catch up with are spread over as many chats as there are, so that from "
        f"100 chats on {NEW} chats come with them.",
    ]
    return growth
