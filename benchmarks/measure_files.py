"""Uploading, completing and downloading."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.client_upload import payload
from benchmarks.figures import Section, in_turn
from benchmarks.install import versions
from benchmarks.peers import COPYPARTY, TUS_SERVER, TUSD, TUSPYSERVER, UploadPeer, nginx, upload_peers
from benchmarks.people import Person, register
from benchmarks.processes import Server, disk_bytes, folder, hypersend, load, reference
from hypersend_server.clock import Ids, system_clock
from hypersend_server.metadata.files import ChunkRecord
from hypersend_server.metadata.sqlite import FILE_NAME, SqliteMetadata

MIB = 1024 * 1024
GIB = 1024 * MIB
RANGE_BYTES = 8 * MIB


@dataclass
class Taken:
    """What an upload took. bytes_s: until the last body was answered; total_s: until it was completed; cpu_s, peak_mb:
    of the server; disk: of its folder, as a multiple of the file."""

    bytes_s: float
    total_s: float
    cpu_s: float
    peak_mb: float
    disk: float


def in_words(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB"


def init(person: Person, size: int) -> dict[str, Any]:
    return person.call("POST", "/files/init", {"name": "benchmark.bin", "size": size})


def chunk_requests(person: Person, file: dict[str, Any], streams: int, *, digest: bool = False) -> list[list[Any]]:
    """The PUTs of a whole file, dealt out to so many connections."""
    size, chunk_bytes = file["size"], file["upload"]["chunk_size"]
    headers = {"Authorization": f"Bearer {person.token}"}
    digests: dict[int, str] = {}
    dealt: list[list[Any]] = [[] for _ in range(streams)]
    for index in range(file["upload"]["chunk_count"]):
        length = min(chunk_bytes, size - index * chunk_bytes)
        if digest and length not in digests:
            digests[length] = base64.b64encode(hashlib.sha256(body(length)).digest()).decode()
        dealt[index % streams].append({
            "method": "PUT", "path": f"/api/v1/files/{file['id']}/chunk?index={index}", "size": length,
            "headers": {**headers, **({"Content-Digest": f"sha-256=:{digests[length]}:"} if digest else {})}})
    return dealt


def body(length: int) -> bytes:
    """What the upload client sends as a body of this length."""
    data = payload()
    return (data * -(-length // len(data)))[:length]


def complete_request(person: Person, file: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": f"/api/v1/files/{file['id']}/complete", "size": 0,
            "headers": {"Authorization": f"Bearer {person.token}"}}


def upload(person: Person, size: int, streams: int, *, digest: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the File as it began, the client's answer)."""
    file = init(person, size)
    answer = load("client_upload", {
        "port": person.server.port, "streams": chunk_requests(person, file, streams, digest=digest),
        "finish": [complete_request(person, file)]})
    return file, answer


def taken(server: Server, where: Path, size: int, work: Callable[[], dict[str, Any]]) -> Taken:
    """work: sends `size` bytes; answers what the upload client does."""
    os.sync()
    server.reset_peak()
    cpu_s, before = server.cpu_s(), disk_bytes(where)
    answer = work()
    return Taken(answer["bytes_s"], answer["total_s"], server.cpu_s() - cpu_s, server.peak_mb(),
                 (disk_bytes(where) - before) / size)


# Each of these serves from a fresh folder and sends a little to warm up, then `size` bytes.

def _ours(where: Path, size: int, streams: int, *, digest: bool) -> Taken:
    with hypersend(where) as server:
        person = register(server, "sender")
        upload(person, 32 * MIB, streams)
        return taken(server, where, size, lambda: upload(person, size, streams, digest=digest)[1])


def _bare(where: Path, size: int, streams: int, path: str) -> Taken:
    with reference("reference_files", where) as server:
        def plan(name: str, total: int) -> dict[str, Any]:
            dealt: list[list[Any]] = [[] for _ in range(streams)]
            for index in range(total // RANGE_BYTES):
                dealt[index % streams].append({
                    "method": "PUT", "path": path.format(name=name, index=index), "headers": {}, "size": RANGE_BYTES})
            return {"port": server.port, "streams": dealt}

        load("client_upload", plan("warm", 32 * MIB))
        return taken(server, where, size, lambda: load("client_upload", plan("file", size)))


def _peer(where: Path, size: int, streams: int, peer: UploadPeer) -> Taken:
    with peer.serve(where) as server:
        load("client_upload", {"port": server.port, "streams": peer.streams(server, [8 * MIB])})
        for path in (where / "files").glob("*"):
            if path.is_file():
                path.unlink()
        plan = {"port": server.port, "streams": peer.streams(server, [size // streams] * streams)}
        found = taken(server, where, size, lambda: load("client_upload", plan))
        stored = sum(path.stat().st_size for path in (where / "files").rglob("*") if path.is_file())
        if stored < size:
            raise RuntimeError(f"{peer.name} kept {stored} of {size} bytes")
        return found


def uploads(quick: bool, repeats: int) -> Section:
    size = 256 * MIB if quick else 2 * GIB
    section = Section("upload", f"Uploading {size // MIB:,} MiB over loopback", "MiB/s")
    peers, section.absent = upload_peers()
    ours, with_digest, completed = "HyperSend", "HyperSend, with Content-Digest", "HyperSend, until completed"
    bare, discard = "bare handler", "received and thrown away"
    for streams in (1, 4):
        label = "one stream" if streams == 1 else f"{streams} streams"
        rates: dict[str, list[float]] = defaultdict(list)
        each: list[tuple[str, Callable[..., Taken]]] = [
            (ours, partial(_ours, digest=False)),
            (bare, partial(_bare, path="/store/{name}/chunk?index={index}")),
            (with_digest, partial(_ours, digest=True)),
            (discard, partial(_bare, path="/discard")),
            *((peer.name, partial(_peer, peer=peer)) for peer in peers),
        ]
        for repeat in range(repeats):
            for name, work in in_turn(each, repeat):
                with folder() as where:
                    one = work(where, size, streams)
                rates[name].append(size / MIB / one.bytes_s)
                if name == ours:
                    rates[completed].append(size / MIB / one.total_s)
                section.cost(f"{name}, {label}", {
                    "CPU s/GiB": one.cpu_s / size * GIB, "peak MB": one.peak_mb, "disk ×": one.disk})
        for name in (ours, with_digest, completed, bare, discard, *(peer.name for peer in peers)):
            section.row(f"{name}, {label}", rates[name])
        section.ratio(f"HyperSend to a bare handler, {label}", rates[ours], rates[bare], 0.85)
        section.ratio(f"the same with Content-Digest, {label}", rates[with_digest], rates[bare], 0.85)
        for peer in peers:
            section.ratio(f"HyperSend, completed, to {peer.name}, {label}", rates[completed], rates[peer.name], 2)
        for peer in peers:
            section.ratio(f"peak memory of HyperSend to {peer.name}'s, {label}", *(
                section.costs[f"{name}, {label}"]["peak MB"] for name in (ours, peer.name)), sense="at most")
    section.notes += [
        versions(COPYPARTY, TUSD, *TUS_SERVER, *TUSPYSERVER, variables=["TUSD"]),
        "One client program for all, sending from memory. HyperSend and the bare handler get chunks of 8 MiB in a PUT "
        "each, over one or four connections into one file; the bare handler hashes and writes the same way and does "
        "nothing else. Peers get one body a stream, a file each. CPU and peak memory are the server process's own.",
        "Until completed: the whole file is on the disk (fsync) and downloadable. The bare handler and the peers make "
        "nothing durable; HyperSend does so four times a second while it receives."]
    return section


def completing(quick: bool, repeats: int) -> Section:
    sent, small, large = (256 * MIB, GIB, 8 * GIB) if quick else (4 * GIB, 4 * GIB, 40 * GIB)
    section = Section("completing", "Completing an upload", "ms")
    times: dict[str, list[float]] = {"sent": [], "small": [], "large": []}
    during: list[float] = []
    after: list[float] = []
    for _ in range(repeats):
        with folder() as where, hypersend(where, MAX_FILE_SIZE="41GiB") as server:
            if shutil.disk_usage(where).free < large + 5 * GIB:
                raise RuntimeError(f"this needs {in_words(large + 5 * GIB)} of free disk, little of which it writes to")
            person = register(server, "sender")
            before = disk_bytes(where)
            file = init(person, sent)
            with _Watch(where) as watch:
                load("client_upload", {"port": server.port, "streams": chunk_requests(person, file, 4)})
                times["sent"].append(_complete(person, file))
            during.append((watch.peak - before) / sent)
            after.append((disk_bytes(where) - before) / sent)
        with folder() as where, hypersend(where, MAX_FILE_SIZE="41GiB") as server:
            person = register(server, "sender")
            for key, size in (("small", small), ("large", large)):
                file = init(person, size)
                asyncio.run(give_receipts_for_zeros(where / "data", file))
                times[key].append(_complete(person, file))
    section.row(f"{in_words(sent)}, sent", times["sent"])
    section.row(f"{in_words(small)} of zeros", times["small"])
    section.row(f"{in_words(large)} of zeros", times["large"])
    section.check(f"completing {in_words(sent)} right after its last chunk", times["sent"], 100, "at most", "ms")
    section.check(f"completing {in_words(large)}, zeros", times["large"], 100, "at most", "ms")
    section.check(f"{in_words(large)} less {in_words(small)}, both zeros", [
        large_ms - small_ms for large_ms, small_ms in zip(times["large"], times["small"], strict=True)],
        10, "at most", "ms")
    section.check("highest disk use while uploading, to the file's size", during, 1.01, "at most", "×")
    section.check("disk use afterwards, to the file's size", after, 1.01, "at most", "×")
    section.notes.append(
        f"The {in_words(sent)} are sent over four connections and completed at once, with the last chunks "
        "not yet on the disk. For the zeros the file is begun as always; its chunks are holes in the sparse file, "
        "for which this program puts the receipts (with the right digests) into the server's database through its "
        "own metadata module; completing is the ordinary call.")
    return section


def _complete(person: Person, file: dict[str, Any]) -> float:
    began = time.perf_counter()
    done = person.call("POST", f"/files/{file['id']}/complete")
    took = (time.perf_counter() - began) * 1000
    if done["state"] != "complete":
        raise RuntimeError(f"not complete: {done}")
    return took


async def give_receipts_for_zeros(data_root: Path, file: dict[str, Any]) -> None:
    """Receipts as if every chunk had been sent full of zeros, which a hole in a file reads as; durable already."""
    size, chunk_bytes = file["size"], file["upload"]["chunk_size"]
    digests = {n: hashlib.sha256(bytes(n)).digest() for n in {chunk_bytes, size % chunk_bytes or chunk_bytes}}
    metadata = SqliteMetadata(data_root / FILE_NAME, new_id=Ids(system_clock))
    await metadata.open()
    try:
        expires_at = system_clock() + 3_600_000
        lengths = [min(chunk_bytes, size - at) for at in range(0, size, chunk_bytes)]
        await asyncio.gather(*(
            metadata.files.add_receipt(file["id"], ChunkRecord(n, length, digests[length], "", None), expires_at)
            for n, length in enumerate(lengths)))
    finally:
        await metadata.close()


class _Watch:
    """The most that a tree took on disk meanwhile, looked at ten times a second."""

    def __init__(self, path: Path) -> None:
        self.peak = 0
        self._path = path
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            self.peak = max(self.peak, disk_bytes(self._path))
            self._end.wait(0.1)


def downloads(quick: bool, repeats: int) -> Section:
    size = 256 * MIB if quick else 2 * GIB
    section = Section("download", f"Downloading {size // MIB:,} MiB over loopback", "MiB/s")
    rates: dict[str, list[float]] = defaultdict(list)
    with folder() as where, hypersend(where) as ours:
        person = register(ours, "sender")
        file, _ = upload(person, size, 4)
        path = next(path for path in (where / "data" / "files").rglob("*") if path.is_file())
        with contextlib.ExitStack() as servers:
            bare = servers.enter_context(reference("reference_files", path.parent))
            kinds: dict[str, tuple[Server, str, dict[str, str]]] = {
                "HyperSend": (
                    ours, f"/api/v1/files/{file['id']}/download", {"Authorization": f"Bearer {person.token}"}),
                "bare FileResponse": (bare, f"/file/{path.name}", {}),
            }
            if shutil.which("nginx"):
                kinds["nginx"] = (servers.enter_context(nginx(where, path.parent)), f"/file/{path.name}", {})
            else:
                section.notes.append("Not measured here: nginx, which is not installed.")
            for repeat in range(repeats + 1):  # the first, uncounted, fills the page cache
                for name, (server, address, headers) in in_turn([*kinds.items()], repeat):
                    plans: dict[str, list[dict[str, Any]]] = {
                        "whole": [{"path": address, "headers": headers, "status": 200, "size": size}],
                        "from the middle on": [
                            {"path": address, "headers": {**headers, "Range": f"bytes={size // 2}-"}, "status": 206,
                             "size": size // 2}],
                        "ranges of 8 MiB": [
                            {"path": address, "status": 206, "size": RANGE_BYTES,
                             "headers": {**headers, "Range": f"bytes={at}-{at + RANGE_BYTES - 1}"}}
                            for at in range(0, size, RANGE_BYTES)],
                    }
                    for kind, requests in plans.items():
                        seconds = load("client_download", {"port": server.port, "requests": requests})["seconds"]
                        if repeat:
                            read = sum(request["size"] for request in requests)
                            rates[f"{name}, {kind}"].append(read / MIB / seconds)
    for kind in ("whole", "from the middle on", "ranges of 8 MiB"):
        for name in kinds:
            section.row(f"{name}, {kind}", rates[f"{name}, {kind}"])
        section.ratio(f"HyperSend to a bare FileResponse, {kind}", rates[f"HyperSend, {kind}"],
                      rates[f"bare FileResponse, {kind}"], 0.95)
        if "nginx" in kinds:
            section.ratio(f"HyperSend to nginx, {kind}", rates[f"HyperSend, {kind}"], rates[f"nginx, {kind}"])
    section.notes.append(
        "One connection, the same file on disk, in the page cache for all. A range of 8 MiB is what a client that "
        "downloads in chunks asks for, one after the other.")
    return section
