"""Profiles of the hot paths: py-spy beside a real server under load, as the functions that its time goes into."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.growth_fill import COMMON, Words, filling
from benchmarks.growth_messages import Caller
from benchmarks.measure_files import GIB, MIB, chunk_requests, init, upload
from benchmarks.measure_messages import GROUP, PAIRS, ours
from benchmarks.measure_p2p import ours as by_commands
from benchmarks.people import register
from benchmarks.processes import folder, hypersend, load
from benchmarks.report import busy_note
from tests.process import ServerProcess

RATE = 500  # samples a second
COMMAND = "py-spy record --format raw --rate 500 --duration SECONDS --pid PID --output FILE"
SHOWN = 14
# Threads that wait in these are taken for busy now and then; what is waited for is no work.
WAITING = ("EpollSelector.select · selectors.py", "Condition.wait · threading.py", "_worker · thread.py")
_WHERE = re.compile(r"^(.*) \((.*?)(?::\d+)?\)$")


@contextlib.contextmanager
def recorded(pid: int, into: list[str], seconds: int) -> Iterator[None]:
    """Profile a process for so long, from the start of the block on. into: gets py-spy's lines."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "raw"
        spy = subprocess.Popen(
            [str(Path(sys.executable).with_name("py-spy")), "record", "--format", "raw", "--rate", str(RATE),
             "--duration", str(seconds), "--pid", str(pid), "--output", str(path), "--nonblocking"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            yield
            _, said = spy.communicate(timeout=seconds + 60)
        except BaseException:
            spy.kill()
            spy.communicate()
            raise
        if not path.exists():
            raise RuntimeError(f"py-spy: {said.decode(errors='replace')[-500:]}")
        into += path.read_text().splitlines()


def summary(lines: list[str]) -> dict[str, Any]:
    """Shares of all samples of threads at work: a function's own, and with what it calls."""
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        if frames[-1] in WAITING:
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            under[frame] += int(count)
    top = [{"function": name, "own": round(count / total, 4), "total": round(under[name] / total, 4)}
           for name, count in own.most_common(SHOWN)]
    return {"samples": total, "top": top}


def _short(frame: str) -> str:
    match = _WHERE.match(frame)
    if match is None:
        return frame
    parts = Path(match[2]).parts
    for package in ("hypersend_server", "hypersend_storage", "site-packages"):
        if package in parts:
            at = parts.index(package) + (package == "site-packages")
            return f"{match[1]} · {'/'.join(parts[at:])}"
    return f"{match[1]} · {parts[-1]}"


def profiles(quick: bool) -> list[dict[str, Any]]:
    seconds = 3 if quick else 8
    found = []
    paths: list[tuple[str, Callable[[list[str]], None]]] = [
        ("messages in 25 direct chats", lambda lines: _messages(lines, seconds, PAIRS)),
        ("messages to a group of 50", lambda lines: _messages(lines, seconds, GROUP)),
        ("receiving upload chunks, 4 connections", lambda lines: _uploading(lines, seconds)),
        ("downloading ranges of 8 MiB", lambda lines: _downloading(lines, seconds)),
        ("relaying from person to person", lambda lines: _relaying(lines, seconds)),
        ("catching up by /sync with 100 messages in 100 of 2,000 chats", lambda lines: _reading(lines, seconds, False)),
        ("searching a common word among 100,000 messages", lambda lines: _reading(lines, seconds, True)),
    ]
    for name, path in paths:
        lines: list[str] = []
        path(lines)
        one = {"name": name, **summary(lines)}
        found.append(one)
        print(f"\n{name}: {one['samples']} samples")
        for row in one["top"]:
            print(f"  {row['own']:6.1%} {row['total']:6.1%}  {row['function']}", flush=True)
    return found


def document(section: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = ["", "## Profiles", "",
             f"`{section['command']}` · {section['measured']}{busy_note(section)}, with `{COMMAND}` on the server "
             "process while the load runs. Samples are of threads at work, in SQLite, the file system and hashing too; "
             "own is the function itself, total with what it calls."]
    for one in section["paths"]:
        title = one["name"][0].upper() + one["name"][1:]
        lines += ["", f"### {title}", "", "| own | total | function |", "|---|---|---|"]
        lines += [f"| {row['own']:.1%} | {row['total']:.1%} | `{row['function']}` |" for row in one["top"]]
    return lines


def _messages(lines: list[str], seconds: int, case: str) -> None:
    with folder() as where, ours(where) as server:
        assert server.pid is not None
        with _meanwhile(lambda: server.run(case, seconds + 3)):
            threading.Event().wait(2)
            with recorded(server.pid, lines, seconds):
                pass


@contextlib.contextmanager
def _meanwhile(work: Callable[[], object]) -> Iterator[None]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _over_and_over(work: Callable[[], object]) -> Iterator[None]:
    """Do it again and again until the end of the block."""
    end = threading.Event()

    def run() -> None:
        while not end.is_set():
            work()

    with _meanwhile(run):
        try:
            yield
        finally:
            end.set()


def _uploading(lines: list[str], seconds: int) -> None:
    with folder() as where, hypersend(where, USER_QUOTA="1TiB") as server:
        person = register(server, "sender")

        def once() -> None:
            file = init(person, GIB)
            load("client_upload", {"port": server.port, "streams": chunk_requests(person, file, 4)})
            person.call("DELETE", f"/files/{file['id']}")

        with _over_and_over(once), recorded(server.process.pid, lines, seconds):
            pass


def _downloading(lines: list[str], seconds: int) -> None:
    with folder() as where, hypersend(where) as server:
        person = register(server, "sender")
        file, _ = upload(person, GIB, 4)
        step = 8 * MIB
        requests = [{"path": f"/api/v1/files/{file['id']}/download", "status": 206, "size": step, "headers": {
            "Authorization": f"Bearer {person.token}", "Range": f"bytes={at}-{at + step - 1}"}}
            for at in range(0, GIB, step)]
        plan = {"port": server.port, "requests": requests}
        with _over_and_over(lambda: load("client_download", plan)), recorded(server.process.pid, lines, seconds):
            pass


def _relaying(lines: list[str], seconds: int) -> None:
    with folder() as where, ServerProcess(where / "data", RATE_LIMITS="off") as server:
        path = where / "film.mkv"
        with path.open("wb") as file:
            file.truncate(max(1, seconds // 2) * GIB)
        transfer = by_commands(where, server, path, lambda _: None)
        with _over_and_over(transfer):
            threading.Event().wait(4)  # the receiver's command begins after 2 s
            with recorded(server.pid, lines, seconds):
                pass


def _reading(lines: list[str], seconds: int, searches: bool) -> None:
    with folder() as where:
        with hypersend(where) as server:
            reader = register(server, "reader")

        async def fill() -> str:
            async with filling(where / "data", Words()) as database:
                peers = [f"peer{n}" for n in range(2000)]
                await database.people(peers)
                chats = await database.direct(reader.id, peers)
                places = list(zip(chats, peers, strict=True))
                if searches:
                    await database.say([places[0]] * 100_000)
                await database.say(places)
                token = await database.knows_all(reader.id)
                await database.say(places[:100])
                return token

        token = asyncio.run(fill())
        with hypersend(where) as server:
            reader.server = server
            reader.refresh()
            caller = Caller(server, reader.token)

            def once() -> None:
                if searches:
                    caller.raw("GET", f"/search?q={COMMON}&limit=20")
                else:
                    caller.raw("POST", "/sync", {"token": token})

            with _over_and_over(once), recorded(server.process.pid, lines, seconds):
                pass
            caller.close()
