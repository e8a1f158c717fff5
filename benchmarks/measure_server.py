"""What the process itself costs: memory and the time to start."""

from __future__ import annotations

from benchmarks.figures import Section
from benchmarks.measure_files import GIB, MIB, chunk_requests, complete_request, in_words, init
from benchmarks.people import Person, register_all
from benchmarks.processes import Server, folder, holding, hypersend, load

SOCKETS_A_PERSON = 16
STREAMS = 4


def memory(quick: bool, repeats: int) -> Section:
    small, large = (64 * MIB, 512 * MIB) if quick else (GIB, 4 * GIB)
    sockets = 160 if quick else 1000  # signing up those who hold them takes most of a quick run's time
    section = Section("memory", "Memory of the server (resident)", "MB")
    idle: list[float] = []
    connected: list[float] = []
    peaks: dict[int, list[float]] = {small: [], large: []}
    for _ in range(repeats):
        with folder() as where:
            with hypersend(where) as server:
                people = register_all(server, -(-sockets // SOCKETS_A_PERSON))
            # Started again, so that what registering took does not count as idle.
            with hypersend(where) as server:
                for person in people:
                    person.server = server
                idle.append(server.rss_mb())
                with holding("client_messages", _idle_sockets(server, people, sockets)):
                    connected.append(server.rss_mb())
                    for size in (small, large):
                        server.reset_peak()
                        _upload_in_parallel(server, people[:STREAMS], size)
                        peaks[size].append(server.peak_mb())
    section.row("idle, just started", idle)
    section.row(f"{sockets:,} idle WebSockets", connected)
    for size, samples in peaks.items():
        section.row(f"and peak with {STREAMS} uploads of {in_words(size)} at once", samples)
    section.check("idle", idle, 70, "at most", "MB")
    section.check(f"peak with {STREAMS} uploads of {in_words(large)} beside {sockets:,} WebSockets", peaks[large],
                  100, "at most", "MB")
    section.check(f"the same, uploads of {in_words(large)} less uploads of {in_words(small)}", [
        a - b for a, b in zip(peaks[large], peaks[small], strict=True)], 5, "at most", "MB")
    section.notes.append(
        f"{SOCKETS_A_PERSON} sockets a person, as far as one session goes; VmRSS and VmHWM of the one process.")
    return section


def _idle_sockets(server: Server, people: list[Person], count: int) -> dict[str, object]:
    return {
        "port": server.port, "hold": True, "protocol": {
            "ack": "-", "accepted": "-", "message": "-", "refused": '{"type":"error"'},
        "sockets": [
            {"path": "/api/v1/ws", "headers": {"Authorization": f"Bearer {people[n // SOCKETS_A_PERSON].token}"},
             "hello": [{"send": None, "until": '"ready"'}], "message": None, "marks": []}
            for n in range(count)]}


def _upload_in_parallel(server: Server, people: list[Person], size: int) -> None:
    files = [(person, init(person, size)) for person in people]
    load("client_upload", {
        "port": server.port,
        "streams": [chunk_requests(person, file, 1)[0] for person, file in files],
        "finish": [complete_request(person, file) for person, file in files]})


def starting(quick: bool, repeats: int) -> Section:
    section = Section("start", "From start to ready", "s")
    first: list[float] = []
    again: list[float] = []
    for _ in range(repeats):
        with folder() as where:
            with hypersend(where) as server:
                first.append(server.start_s)
            with hypersend(where) as server:
                again.append(server.start_s)
    section.row("the first start, with an empty folder", first)
    section.row("each later start", again)
    section.check("the first start", first, 1, "at most", "s")
    section.check("each later start", again, 1, "at most", "s")
    section.notes.append("From starting the process to the first 200 of /readyz.")
    return section
