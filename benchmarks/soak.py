"""Hours of ordinary use of one real server, with what it takes written down every 15 seconds.

    .venv/bin/python -m benchmarks.soak DIR [--minutes 120] [--people 24] [--web]
    sudo .venv/bin/python -m benchmarks.soak DIR --minutes 60 --people 8 --web --limit-mib 512    # a small VPS
    .venv/bin/python -m benchmarks.soak_report DIR/records.jsonl

People write, edit, mark, search, catch up, sign in and out and come back; files go up in chunks, some are given up or
cut off, others are read in ranges and deleted after a while; files go from device to device through the relay. The
load is modest and the same all the time, so whatever grows is the server's own. A record: seconds since the start;
memory (RSS, PSS), open files, threads, sockets as the server counts them, the size of the database and of its log,
CPU seconds so far; p50 and p99 of a message and of a small download since the record before; what was done so far, and
what failed, each of which is explained in DIR/failures.log. `--web`: one of the people has the web app open in a real
browser (`soak_web`), and the process that draws its screens is looked at too. `--limit-mib`: all but that browser is in
a control group with so much memory, page cache included; what it killed is in the last record. SIGTERM and Ctrl-C end
it early with its last record.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.soak_person import Person
from tests.process import ServerProcess

SAMPLE_S = 15
MIB = 1024 * 1024
KEPT_FILES = 40
TRANSFER_S = 120.0
RENEW_S = 480.0  # of an access token's 15 minutes
FAILURES = (aiohttp.ClientError, OSError, TimeoutError, TypeError, AssertionError)
Work = Callable[[], Awaitable[None]]


class Soak:
    def __init__(self, server: ServerProcess, http: aiohttp.ClientSession, folder: Path, count: int, seed: int) -> None:
        self.server = server
        self.folder = folder
        self.moments = random.Random(seed)
        self.people = [Person(http, server.url, f"person_{n}") for n in range(count)]
        self.done: Counter[str] = Counter()
        self.latencies: dict[str, list[float]] = {"message": [], "download": []}
        self.files: list[tuple[Person, str, int]] = []

    def tell_browser(self) -> None:
        """Whose app it opens, and where it writes."""
        first = self.people[0]
        told = {"url": self.server.url, "email": f"{first.name}@example.org", "chat_id": first.chats[0]}
        (self.folder / "web.tmp").write_text(json.dumps(told))
        (self.folder / "web.tmp").rename(self.folder / "web.json")

    async def prepare(self) -> None:
        for person in self.people:
            await person.sign_in("/auth/register")
            await person.connect()
        first = self.people[0]
        group = await first.call("POST", "/chats", {
            "kind": "group", "title": "Everybody", "member_ids": [person.id for person in self.people[1:]]})
        for one, other in zip(self.people[::2], self.people[1::2], strict=True):
            chat = await one.call("POST", "/chats", {"kind": "direct", "user_id": other.id})
            for person in (one, other):
                person.chats = [chat["id"], chat["id"], chat["id"], group["id"]]
                key = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
                await person.call("PUT", "/auth/device-key", {"public_key": key})

    # What people do

    async def live(self, number: int) -> None:
        """One person's day."""
        person = self.people[number]
        actions = (*[self.write] * 12, self.edit, self.read, self.search, self.catch_up, self.look, self.come_back)
        while True:
            await asyncio.sleep(self.moments.uniform(0.5, 3.5))
            if time.monotonic() - person.renewed_at > RENEW_S:
                await self._try("renew", person.renew)
            if person.ws is None or person.ws.closed:
                self.done["sockets lost"] += 1
                await self._try("connect", person.connect)
            action = self.moments.choice(actions)
            await self._try(action.__name__, partial(action, person))

    def all_day(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on beside each other until it is cancelled."""
        return [*(self.live(number) for number in range(len(self.people))), self._every(10, self.sign_in_and_out),
                self._every(4, self.upload), self._every(20, self.pass_on)]

    async def _try(self, name: str, work: Work) -> None:
        """What fails is counted, and the day goes on."""
        try:
            await work()
        except FAILURES as error:
            self.done["failures"] += 1
            with (self.folder / "failures.log").open("a") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {name}: {error!r}\n")

    async def _every(self, seconds: float, work: Work) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._try(work.__name__, work)

    async def write(self, person: Person) -> None:
        began = time.monotonic()
        text = " ".join(self.moments.choice(WORDS) for _ in range(self.moments.randint(1, 30)))
        await person.say(
            type="message.send", chat_id=self.moments.choice(person.chats), client_id=os.urandom(12).hex(), text=text)
        self.latencies["message"].append(time.monotonic() - began)
        self.done["messages"] += 1

    async def edit(self, person: Person) -> None:
        chat_id = self.moments.choice(person.chats)
        page = await person.call("GET", f"/chats/{chat_id}/messages?limit=30")
        own = [message for message in page["items"] if message["sender_id"] == person.id and message["kind"] == "text"]
        if own:
            message = self.moments.choice(own)
            await person.call("PATCH", f"/chats/{chat_id}/messages/{message['id']}", {"text": message["text"] + "!"})
            self.done["edits"] += 1

    async def read(self, person: Person) -> None:
        chats = await person.call("GET", "/chats")
        for chat in chats["items"]:
            await person.say(type="read", chat_id=chat["id"], seq=chat["seq"])
        self.done["reads"] += 1

    async def search(self, person: Person) -> None:
        await person.call("GET", f"/search?q={self.moments.choice(WORDS)}")
        self.done["searches"] += 1

    async def catch_up(self, person: Person) -> None:
        more = True
        while more:
            body = {"token": person.sync_token} if person.sync_token else {}
            found = await person.call("POST", "/sync", body)
            person.sync_token, more = found["token"], found["more"]
        self.done["syncs"] += 1

    async def look(self, person: Person) -> None:
        if self.files:
            owner, file_id, size = self.moments.choice(self.files[KEPT_FILES // 4 :] or self.files)
            start = self.moments.randrange(max(1, size - 65536))
            began = time.monotonic()
            await owner.call("GET", f"/files/{file_id}/download", headers={"Range": f"bytes={start}-{start + 65535}"})
            self.latencies["download"].append(time.monotonic() - began)
            self.done["downloads"] += 1

    async def come_back(self, person: Person) -> None:
        await person.connect()
        self.done["reconnects"] += 1

    # And beside that

    async def sign_in_and_out(self) -> None:
        visitor = Person(self.people[0].http, self.people[0].url, self.moments.choice(self.people).name)
        await visitor.sign_in()
        await visitor.connect()
        await visitor.call("POST", "/auth/logout")
        await visitor.disconnect()
        self.done["sign-ins"] += 1

    async def upload(self) -> None:
        person = self.moments.choice(self.people)
        size = self.moments.choice((1, 70_000, 3 * MIB, 8 * MIB + 1, 20 * MIB))
        data = os.urandom(size)
        file = await person.call("POST", "/files/init", {"name": "film.bin", "size": size})
        chunk = file["upload"]["chunk_size"]
        gives_up = self.moments.random() < 0.2
        for index in range(file["upload"]["chunk_count"]):
            part = data[index * chunk : (index + 1) * chunk]
            if gives_up:
                await self._cut_off(person, file["id"], index, part)
                await person.call("DELETE", f"/files/{file['id']}")
                self.done["uploads given up"] += 1
                break
            digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
            await person.call("PUT", f"/files/{file['id']}/chunk?index={index}", data=part,
                              headers={"Content-Digest": f"sha-256=:{digest}:"})
        else:
            await person.call("POST", f"/files/{file['id']}/complete")
            self.files.append((person, file["id"], size))
            self.done["uploads"] += 1
        if len(self.files) > KEPT_FILES:
            owner, file_id, _ = self.files.pop(0)
            await owner.call("DELETE", f"/files/{file_id}")

    async def _cut_off(self, person: Person, file_id: str, index: int, part: bytes) -> None:
        """A connection that ends in the middle of a chunk."""
        _, port = person.url.rsplit(":", 1)
        _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write((
            f"PUT /api/v1/files/{file_id}/chunk?index={index} HTTP/1.1\r\nHost: h\r\n"
            f"Authorization: {person.headers['Authorization']}\r\nContent-Length: {len(part)}\r\n\r\n").encode())
        writer.write(part[: len(part) // 2])
        await writer.drain()
        writer.transport.abort()

    async def pass_on(self) -> None:
        """From device to device; every third one is left by its receiver and cancelled."""
        number = self.moments.randrange(0, len(self.people), 2)
        one, other = self.people[number], self.people[number + 1]
        transfer = await one.call("POST", "/p2p/send", {
            "chat_id": one.chats[0], "name": "film.bin", "size": 4 * MIB, "client_id": os.urandom(12).hex()})
        await other.call("POST", f"/p2p/{transfer['id']}/accept")
        socket = f"{one.url.replace('http', 'ws', 1)}/api/v1/p2p"
        async with asyncio.timeout(TRANSFER_S):
            async with (
                one.http.ws_connect(f"{socket}/sender/{transfer['id']}", headers=one.headers) as sender,
                other.http.ws_connect(f"{socket}/receiver/{transfer['id']}", headers=other.headers) as receiver,
            ):
                present = False
                while not present:
                    frame = await sender.receive_json()
                    present = frame["type"] == "peer" and frame["present"]
                sending = asyncio.create_task(self._send(sender))
                left = 4 * MIB
                async for message in receiver:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        left -= len(message.data)
                        if left <= 0:
                            break
                await sending
                assert left == 0, f"{left} bytes of a transfer did not arrive"
                if self.done["transfers"] % 3:
                    await receiver.send_json({"type": "done"})
                else:
                    await receiver.send_json({"type": "cancel"})
        self.done["transfers"] += 1

    async def _send(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        for _ in range(64):
            await ws.send_bytes(bytes(65536))

    # What is written down

    async def sample(self, seconds: float) -> dict[str, Any]:
        pid = self.server.pid
        async with self.people[0].http.get(f"{self.server.url}/metrics") as answer:
            measures = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line[:1] != "#")
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        data = self.server.data_root
        found: dict[str, Any] = {
            "seconds": round(seconds, 1),
            "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
            "pss_mib": round(int(rollup.split("Pss:", 1)[1].split()[0]) / 1024, 2),
            "threads": int(status["Threads"]),
            "open_files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "sockets": int(float(measures["hypersend_sockets"])),
            "cpu_s": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            "database_mib": round(sum(p.stat().st_size for p in data.glob("*.sqlite*")) / MIB, 2),
            "log_mib": round(sum(p.stat().st_size for p in data.glob("*-wal")) / MIB, 2),
            "load": os.getloadavg()[0],
            "cores": len(os.sched_getaffinity(0)),
            "done": dict(self.done),
        }
        if screens := _children(pid):
            found["web_rss_mib"] = round(sum(map(_rss_mib, screens)), 2)
        for name, values in self.latencies.items():
            if len(values) > 1:
                found[f"{name}_p50_ms"] = round(statistics.median(values) * 1000, 2)
                found[f"{name}_p99_ms"] = round(statistics.quantiles(values, n=100, method="inclusive")[-1] * 1000, 2)
            values.clear()
        return found


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def _rss_mib(pid: int) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


class ControlGroup:
    """This process and what it starts from now on, with so much memory, as either version of the kernel's has it."""

    def __init__(self, limit_mib: int) -> None:
        root = Path("/sys/fs/cgroup")
        is_second = (root / "cgroup.controllers").exists()
        self._path = (root if is_second else root / "memory") / f"hypersend-soak-{os.getpid()}"
        self._path.mkdir()
        limit, self._events = ("memory.max", "memory.events") if is_second else (
            "memory.limit_in_bytes", "memory.oom_control")
        (self._path / limit).write_text(str(limit_mib * MIB))
        (self._path / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def kills(self) -> int:
        """Processes that ended for want of memory."""
        counts = dict(line.split() for line in (self._path / self._events).read_text().splitlines())
        return int(counts["oom_kill"])


WORDS = [f"{one}{two}" for one in ("tea", "rain", "film", "song", "road", "light", "paper", "river")
         for two in ("", "house", "time", "worn", "man", "side", "line", "way")]


async def run(
    server: ServerProcess, folder: Path, minutes: float, people: int, seed: int, group: ControlGroup | None,
    browser: subprocess.Popen[bytes] | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        soak = Soak(server, http, folder, people, seed)
        await soak.prepare()
        if browser is not None:
            soak.tell_browser()
        began = time.monotonic()
        tasks = [asyncio.create_task(work) for work in soak.all_day()]
        with (folder / "records.jsonl").open("a") as records:

            async def write_down(**more: Any) -> None:
                found = await soak.sample(time.monotonic() - began)
                records.write(json.dumps({**found, **more}) + "\n")
                records.flush()

            while time.monotonic() - began < minutes * 60 and not stop.is_set():
                await write_down()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), SAMPLE_S)
                for task in tasks:
                    if task.done():
                        task.result()
                if browser is not None and browser.poll() is not None:
                    raise RuntimeError(f"the browser ended: see {folder}/browser.log")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for person in soak.people:
                await person.disconnect()
            more: dict[str, Any] = {} if group is None else {"killed": group.kills}
            if browser is not None:
                browser.terminate()
                await asyncio.to_thread(browser.wait)
                with contextlib.suppress(OSError):
                    more["browser"] = json.loads((folder / "browser.json").read_text())
            await asyncio.sleep(5)
            await write_down(is_idle=True, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--web", action="store_true")
    parser.add_argument("--limit-mib", type=int)
    options = parser.parse_args()
    try:
        options.folder.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"{options.folder} exists: name a new folder, which holds what this run leaves")
    browser = None
    if options.web:
        with (options.folder / "browser.log").open("wb") as log:
            browser = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.soak_web", str(options.folder)], stdout=log, stderr=log)
        while not (options.folder / "browser.ready").exists():
            if browser.poll() is not None:
                parser.error(f"the browser does not start: see {options.folder}/browser.log")
            time.sleep(0.1)
    settings = {"WEB_CLIENT": "on"} if options.web else {}
    try:
        group = None if options.limit_mib is None else ControlGroup(options.limit_mib)
        with ServerProcess(options.folder / "data", RATE_LIMITS="off", **settings) as server:
            asyncio.run(run(server, options.folder, options.minutes, options.people, options.seed, group, browser))
    finally:
        if browser is not None:
            browser.terminate()
            browser.wait()


if __name__ == "__main__":
    main()
