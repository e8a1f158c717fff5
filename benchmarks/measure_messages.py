"""Durable messages: 25 direct chats, one group of 50, and one writer alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peer_synapse, peer_tinode
from benchmarks.figures import Section, in_turn
from benchmarks.install import versions
from benchmarks.people import register_all
from benchmarks.processes import Server, folder, hypersend, load, reference
from tests.app.driver import Screen
from tests.web.chromium import chromium

PEOPLE = 50
TEXT = "x" * 100
PAIRS, GROUP, ALONE = "25 direct chats", "a group of 50", "one writer alone"
CASES = (PAIRS, GROUP, ALONE)

Plan = dict[str, Any]
WARM_S = 0.5
SETTLE_S = 5.0


@dataclass
class Peer:
    """A running server. run: case and seconds → what client_messages answers; memory_mb: of all its processes; pid: of
    one that is a single process; with_app_mb: as memory_mb, with the web app open that it brings along."""

    run: Callable[[str, float], dict[str, float]]
    memory_mb: Callable[[], float]
    pid: int | None = None
    with_app_mb: Callable[[], float] | None = None


def driven(
    plan: Callable[[str], Plan], memory_mb: Callable[[], float], pid: int | None = None,
    with_app_mb: Callable[[], float] | None = None,
) -> Peer:
    """By client_messages. plan: case → its plan, without the durations."""
    return Peer(lambda case, seconds: load("client_messages", {**plan(case), "warm_s": WARM_S, "seconds": seconds}),
                memory_mb, pid, with_app_mb)


_FRAMES = {
    "ack": '{"type":"ack"', "accepted": '"client_id"', "message": '{"type":"message",', "refused": '{"type":"error"'}


def plan_of(case: str, port: int, protocol: dict[str, str], sockets: list[Plan]) -> Plan:
    """sockets: one a person, in the order of the pairs. Of a pair alone only the first writes."""
    if case == ALONE:
        sockets = [sockets[0], {**sockets[1], "message": None}]
    return {"port": port, "protocol": protocol, "sockets": sockets, "listeners": PEOPLE - 1 if case == GROUP else 1}


@contextlib.contextmanager
def ours(where: Path) -> Iterator[Peer]:
    with hypersend(where, WEB_CLIENT="on") as server:
        people = register_all(server, PEOPLE)
        pairs = [one.call("POST", "/chats", {"kind": "direct", "user_id": other.id})["id"]
                 for one, other in zip(people[::2], people[1::2], strict=True)]
        group = people[0].call("POST", "/chats", {
            "kind": "group", "title": "Everyone", "member_ids": [person.id for person in people[1:]]})["id"]

        turns = itertools.count()  # a client_id that was used before would not be stored again

        def plan(case: str) -> Plan:
            turn = next(turns)
            sockets = []
            for n, person in enumerate(people):
                person.refresh()
                chat = group if case == GROUP else pairs[n // 2]
                sockets.append({
                    "path": "/api/v1/ws", "headers": {"Authorization": f"Bearer {person.token}"},
                    "hello": [{"send": None, "until": '"ready"'}],
                    "message": [f'{{"type":"message.send","ref":"r","chat_id":"{chat}","client_id":"{turn}-{n}-',
                                f'","text":"{TEXT}"}}'],
                    "marks": [[f'{{"type":"{mark}","chat_id":"{chat}","seq":', "}"] for mark in ("delivered", "read")],
                })
            return plan_of(case, server.port, _FRAMES, sockets)

        yield driven(plan, server.tree_mb, server.process.pid, lambda: asyncio.run(_with_app_mb(server)))


async def _with_app_mb(server: Server) -> float:
    """Memory while somebody has the web app open in a real browser and is signed in."""
    async with chromium() as browser:
        screen = await Screen.open(browser, server.url)
        await screen.register("reader", "A Reader")
        await screen.sees("start-chat")
        await asyncio.sleep(SETTLE_S)
        return server.tree_mb()


@contextlib.contextmanager
def bare(where: Path) -> Iterator[Peer]:
    with reference("reference_messages", where) as server:
        turns = itertools.count()

        def plan(case: str) -> Plan:
            turn = next(turns)
            sockets = []
            for n in range(PEOPLE):
                chat = f"{turn}-{0 if case == GROUP else n // 2}".ljust(26, "c")  # as long as an id of ours
                sockets.append({
                    "path": f"/ws?chat={chat}", "headers": {}, "hello": [{"send": None, "until": '"ready"'}],
                    "message": [f'{{"type":"message.send","ref":"r","chat_id":"{chat}","client_id":"{n}-',
                                f'","text":"{TEXT}"}}'],
                    "marks": []})
            return plan_of(case, server.port, _FRAMES, sockets)

        yield driven(plan, server.tree_mb)


def messages(quick: bool, repeats: int) -> Section:
    section = Section("messages", "Durable messages over WebSocket", "messages/s")
    seconds = 1.0 if quick else 5.0
    peers: dict[str, Peer] = {}
    answers: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        def fresh() -> Path:
            return stack.enter_context(folder())

        peers["HyperSend"] = stack.enter_context(ours(fresh()))
        peers["bare reference"] = stack.enter_context(bare(fresh()))
        no_tinode, no_synapse = peer_tinode.absent(), peer_synapse.absent()
        section.absent += [line for line in (no_tinode, no_synapse) if line]
        if no_tinode is None:
            plan, memory_mb = stack.enter_context(
                peer_tinode.tinode(fresh(), PEOPLE, TEXT, lambda case: case == GROUP, plan_of))
            peers["tinode"] = driven(plan, memory_mb)
        if no_synapse is None:
            peers["Synapse"] = Peer(*stack.enter_context(peer_synapse.synapse(
                fresh(), PEOPLE, TEXT, lambda case: case == GROUP, lambda case: case == ALONE)))
        for name, peer in peers.items():
            section.cost(name, {"memory MB, people signed up": peer.memory_mb()})
        for repeat in range(repeats):
            for case in CASES:
                for name, peer in in_turn([*peers.items()], repeat):
                    answer = peer.run(case, seconds)
                    answers.setdefault((name, case), []).append(answer)
                    section.cost(f"{name}, {case}", {
                        "ack p50 ms": answer["p50_ms"], "ack p99 ms": answer["p99_ms"],
                        "deliveries/s": answer["deliveries_per_s"]})
        for name, peer in peers.items():
            section.cost(name, {"memory MB, after the load": peer.memory_mb()})
        for name, peer in peers.items():
            if peer.with_app_mb is not None:
                section.cost(name, {"memory MB, after the load, its web app open": peer.with_app_mb()})

    def samples(name: str, case: str, key: str = "per_s") -> list[float]:
        return [answer[key] for answer in answers[name, case]]

    for case in CASES:
        for name in peers:
            if case == ALONE:
                section.row(f"{name}, {case}, p50", samples(name, case, "p50_ms"), "ms")
            else:
                section.row(f"{name}, {case}", samples(name, case))
    goals = ((PAIRS, 0.4, {"tinode": 4, "Synapse": 80}), (GROUP, 0.6, {"tinode": 3, "Synapse": 80}))
    for case, goal, peer_goals in goals:
        section.ratio(f"HyperSend to the bare reference, {case}", samples("HyperSend", case),
                      samples("bare reference", case), goal)
        for name, times in peer_goals.items():
            if name in peers:
                section.ratio(f"HyperSend to {name}, {case}", samples("HyperSend", case), samples(name, case), times)
    section.check(f"{ALONE}, p50", samples("HyperSend", ALONE, "p50_ms"), 1.5, "at most", "ms")
    section.check(f"deliveries a second in {GROUP}", samples("HyperSend", GROUP, "deliveries_per_s"), unit="/s")
    for when in ("people signed up", "after the load"):
        memory = {name: section.costs[name][f"memory MB, {when}"] for name in peers}
        for name in ("tinode", "Synapse"):
            if name in peers:
                ratio = memory["HyperSend"][0] / memory[name][0]
                section.check(f"memory to {name}'s, {when}", [ratio], 1, "at most", "×")
    for name in ("tinode", "Synapse"):
        if name in peers:
            opened = section.costs["HyperSend"]["memory MB, after the load, its web app open"]
            ratio = opened[0] / section.costs[name]["memory MB, after the load"][0]
            section.check(f"memory to {name}'s, after the load, with our web app open", [ratio], 1, "at most", "×")
    section.notes += [
        versions(f"{peer_tinode.MODULE}@{peer_tinode.VERSION}", *peer_synapse.PACKAGES,
                 variables=["TINODE", "TINODE_INIT_DB"]),
        "Texts of 100 bytes, one in flight a writer, acknowledged after the commit (`synchronous=FULL`); the time ends "
        "with the last delivery, and every message is counted at every listener. In the group all 50 are connected, "
        "so each message goes to 49 sockets. Server and client share the machine.",
        "HyperSend checks membership, blocks and repeats, keeps order, counters and the search index, and every "
        "listener sends a delivered and a read mark a second; the reference stores, acknowledges and forwards.",
        "tinode runs on PostgreSQL with its defaults; all sessions are attached to the group and read. Synapse runs on "
        "PostgreSQL with its limits a person off; everybody listens by /sync, and it is measured three times as long, "
        "after as long as the others take in all, since its acknowledgements take seconds.",
        "Memory: all processes of a server, the database's too, pages in common counted once. It is read once "
        "before and once after all repeats, since the servers stay up between them. HyperSend's own web app is "
        "switched on, as `make run` and Compose have it; its process starts with the first page.",
    ]
    return section
