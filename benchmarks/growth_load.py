"""How cost grows with connected sockets, with uploads at once, and with the size of a file."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.growth_fill import Words, filling
from benchmarks.growth_messages import Caller
from benchmarks.growth_tables import Growth, ask, percentiles
from benchmarks.measure_files import (
    GIB,
    MIB,
    chunk_requests,
    complete_request,
    give_receipts_for_zeros,
    in_words,
    init,
)
from benchmarks.people import Person, register
from benchmarks.processes import Server, folder, holding, hypersend, load

IDLE_S = 10.0
RANGES = 50
ROOM = 5 * GIB  # that the disk must have beside a file
SENT_S = 3600.0


def kernel_s(server: Server) -> float:
    """The part of its CPU time that was spent in the kernel."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]) / os.sysconf("SC_CLK_TCK")


class Pair:
    """Two people in a direct chat, one of whom writes while the other listens."""

    def __init__(self, server: Server) -> None:
        self._people = [register(server, name) for name in ("writer", "listener")]
        one, other = self._people
        self._chat_id = one.call("POST", "/chats", {"kind": "direct", "user_id": other.id})["id"]
        self._turns = itertools.count()

    @property
    def people(self) -> list[Person]:
        return self._people

    def write(self, server: Server, seconds: float) -> list[float]:
        """[p50, p99] in ms until a message is acknowledged, one after the other."""
        turn = next(self._turns)
        sockets: list[dict[str, Any]] = []
        for person in self._people:
            person.server = server
            person.refresh()
            sockets.append({
                "path": "/api/v1/ws", "headers": {"Authorization": f"Bearer {person.token}"},
                "hello": [{"send": None, "until": '"ready"'}], "message": None, "marks": []})
        sockets[0]["message"] = [
            f'{{"type":"message.send","ref":"r","chat_id":"{self._chat_id}","client_id":"{turn}-', '","text":"Hello."}']
        answer = load("client_messages", {
            "port": server.port, "sockets": sockets, "listeners": 1, "warm_s": 0.3, "seconds": seconds,
            "protocol": {"ack": '{"type":"ack"', "accepted": '"client_id"', "message": '{"type":"message",',
                         "refused": '{"type":"error"'}})
        return [answer["p50_ms"], answer["p99_ms"]]


def sockets(quick: bool) -> Growth:
    sizes = [1, 10, 100, 1000] if quick else [1, 10, 100, 1000, 10_000]
    growth = Growth("sockets", "Connected sockets", "sockets", sizes, [f"{size:,}" for size in sizes])
    with folder() as where:
        with hypersend(where) as server:
            pair = Pair(server)
        names = [f"idle{n}" for n in range(sizes[-1])]

        async def sign_in(count: int) -> list[str]:
            async with filling(where / "data", Words()) as database:
                if count == 0:
                    await database.people(names)
                return await database.tokens(names[:count])

        asyncio.run(sign_in(0))
        for size in sizes:
            tokens = asyncio.run(sign_in(size))
            with hypersend(where) as server:
                empty = server.rss_mb()
                cpu = server.cpu_s()
                with holding("client_sockets", {"port": server.port, "tokens": tokens}):
                    growth.add("CPU of connecting and signing in", "ms a socket", (server.cpu_s() - cpu) / size * 1000)
                    time.sleep(1)
                    growth.add("memory of the server", "MB", server.rss_mb())
                    growth.add("memory above none", "KiB a socket", (server.rss_mb() - empty) * 1e6 / 1024 / size
                               if size >= 100 else None)
                    cpu, began = server.cpu_s(), time.perf_counter()
                    time.sleep(2 if quick else IDLE_S)
                    growth.add("CPU while all are idle", "% of a core",
                               (server.cpu_s() - cpu) / (time.perf_counter() - began) * 100)
                    growth.add("a message beside them, acknowledged", "ms", pair.write(server, 1 if quick else 5))
    growth.charts = {"memory": ["memory of the server"], "latency": ["a message beside them, acknowledged"]}
    growth.flat = [
        "a message beside them, acknowledged", "CPU of connecting and signing in", "memory above none"]
    growth.notes = [
        "Each socket is another person's, signed in by its own access token over the socket. Idle ones answer a "
        "heartbeat every 30 s. The message is one of 6 bytes in a direct chat of two more people, one at a time, "
        "acknowledged after its commit.",
        "The sessions are put into the database through the server's own metadata module: signing in 10,000 people by "
        "password takes three quarters of an hour on one core, which is what a password hash is for.",
    ]
    return growth


def parallel_uploads(quick: bool) -> Growth:
    sizes = [1, 4, 16] if quick else [1, 4, 16, 64]
    total, seconds = (512 * MIB, 0.5) if quick else (4 * GIB, 2.0)
    growth = Growth("uploads", "Uploads at once", "uploads", sizes, [f"{size}" for size in sizes])
    with folder() as where, hypersend(where, USER_QUOTA="1TiB") as server:
        pair = Pair(server)
        idle = pair.write(server, seconds)
        for size in sizes:
            files = [init(pair.people[0], total // size) for _ in range(size)]
            server.reset_peak()
            cpu = server.cpu_s()
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(load, "client_upload", {
                    "port": server.port,
                    "streams": [chunk_requests(pair.people[0], file, 1)[0] for file in files],
                    "finish": [complete_request(pair.people[0], file) for file in files]})
                meanwhile = pair.write(server, seconds)
                answer = sending.result()
            growth.add("all together", "MiB/s", total / MIB / answer["total_s"])
            growth.add("CPU of the server", "s a GiB", (server.cpu_s() - cpu) * GIB / total)
            growth.add("peak memory of the server", "MB", server.peak_mb())
            growth.add("a message meanwhile, acknowledged", "ms", meanwhile)
            for file in files:
                pair.people[0].call("DELETE", f"/files/{file['id']}")
            _remove_bytes(where / "data")
    growth.charts = {"cost": ["peak memory of the server", "a message meanwhile, acknowledged", "CPU of the server"]}
    growth.flat = ["peak memory of the server", "CPU of the server", "a message meanwhile, acknowledged"]
    growth.notes = [
        f"{total // MIB:,} MiB in all, in as many files and connections as there are uploads, chunks of 8 MiB; the "
        "client shares the machine. The CPU has the messages' in it. Without uploads a message was acknowledged in "
        f"{idle[0]:.1f} ms (p99 {idle[1]:.1f}).",
    ]
    return growth


def _remove_bytes(data_root: Path) -> None:
    """What was deleted waits an hour for its end; the disk of a measurement does not."""
    for path in (data_root / "files").rglob("*"):
        if path.is_file():
            path.unlink()


def file_sizes(quick: bool) -> Growth:
    sizes = [10 * MIB, 100 * MIB, GIB] if quick else [10 * MIB, 100 * MIB, GIB, 10 * GIB, 40 * GIB]
    with folder() as where:
        sent = [size for size in sizes if size < 40 * GIB or shutil.disk_usage(where).free > size + ROOM]
    labels = [in_words(size) + ("" if size in sent else ", not sent") for size in sizes]
    growth = Growth("files", "Size of a file", "size", sizes, labels)
    with folder() as where, hypersend(where, MAX_FILE_SIZE="41GiB", USER_QUOTA="1TiB") as server:
        person = register(server, "sender")
        load("client_upload", {"port": server.port, "streams": chunk_requests(person, init(person, 32 * MIB), 4)})
        for size in sizes:
            caller = Caller(server, person.token)
            began = time.perf_counter()
            file = init(person, size)
            growth.add("beginning", "ms", (time.perf_counter() - began) * 1000)
            if size in sent:
                server.reset_peak()
                cpu, kernel = server.cpu_s(), kernel_s(server)
                answer = load("client_upload", {"port": server.port, "streams": chunk_requests(person, file, 4)},
                              timeout_s=SENT_S)
                growth.add("upload", "MiB/s", size / MIB / answer["bytes_s"])
                used = (server.cpu_s() - cpu) * GIB / size
                growth.add("CPU of the server", "s a GiB", used if size >= 100 * MIB else None)
                used = (kernel_s(server) - kernel) * GIB / size
                growth.add("of which in the kernel", "s a GiB", used if size >= 100 * MIB else None)
                growth.add("peak memory of the server", "MB", server.peak_mb())
            else:
                asyncio.run(give_receipts_for_zeros(where / "data", file))
                for name, unit in (("upload", "MiB/s"), ("CPU of the server", "s a GiB"),
                                   ("of which in the kernel", "s a GiB"), ("peak memory of the server", "MB")):
                    growth.add(name, unit, None)
            took, _ = ask_state(server, caller, file)
            growth.add("asking what has arrived", "ms", took)
            server.reset_peak()
            began = time.perf_counter()
            done = caller.call("POST", f"/files/{file['id']}/complete")
            growth.add("completing", "ms", (time.perf_counter() - began) * 1000)
            if done["state"] != "complete":
                raise RuntimeError(f"not complete: {done}")
            growth.add("reading 64 KiB near the end", "ms", ranged(server, person, file))
            growth.add("memory of the server, completing and reading", "MB", server.peak_mb())
            caller.call("DELETE", f"/files/{file['id']}")
            caller.close()
            _remove_bytes(where / "data")
            person.refresh()
    growth.charts = {
        "time": ["beginning", "asking what has arrived", "completing", "reading 64 KiB near the end"],
        "memory": ["peak memory of the server", "memory of the server, completing and reading"]}
    growth.flat = [
        "beginning", "CPU of the server", "asking what has arrived", "completing", "reading 64 KiB near the end",
        "memory of the server, completing and reading"]
    growth.flat_to = len(sent) - 1 - len(sizes)  # what was not sent is not compared with what was
    growth.notes = [
        f"Up to {in_words(sent[-1])} every byte is sent, over four connections, each size once, from the client's "
        "memory.",
        *([] if sent == sizes else [
            "The disk had no room for 40 GiB: the file is begun as always; its chunks are holes in the sparse file, "
            "for which this program puts the receipts with the right digests into the database through the server's "
            "own metadata module. Completing and reading are the ordinary calls."]),
        "Completing comes right after the last chunk, while what came in the last moment is not on the disk yet.",
    ]
    return growth


def ask_state(server: Server, caller: Caller, file: dict[str, Any]) -> tuple[list[float], float]:
    return ask(server, lambda _: caller.raw("GET", f"/files/{file['id']}"), 100)


def ranged(server: Server, person: Person, file: dict[str, Any]) -> list[float]:
    """[p50, p99] ms of ranges in the last MiB, each over a connection of its own."""
    took = []
    for n in range(RANGES):
        start = file["size"] - MIB + n * 16_384
        began = time.perf_counter()
        caller = Caller(server, person.token, {"Range": f"bytes={start}-{start + 65_535}"})
        body = caller.raw("GET", f"/files/{file['id']}/download")
        took.append((time.perf_counter() - began) * 1000)
        caller.close()
        if len(body) != 65_536:
            raise RuntimeError(f"a range of {len(body)} bytes")
    return percentiles(took)
