"""Durable messages: 25 direct chats, one group of 50, and one writer alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import peer_tinode
from benchmarks.figures import Section
from benchmarks.people import register_all
from benchmarks.processes import folder, hypersend, load, reference

PEOPLE = 50
TEXT = "x" * 100
PAIRS, GROUP, ALONE = "25 direct chats", "a group of 50", "one writer alone"
CASES = (PAIRS, GROUP, ALONE)

Plan = dict[str, Any]
Planner = Callable[[str], Plan]
"""Case → a plan for client_messages, without its durations."""

_FRAMES = {
    "ack": '{"type":"ack"', "accepted": '"client_id"', "message": '{"type":"message",', "refused": '{"type":"error"'}


def plan_of(case: str, port: int, protocol: dict[str, str], sockets: list[Plan]) -> Plan:
    """sockets: one a person, in the order of the pairs. Of a pair alone only the first writes."""
    if case == ALONE:
        sockets = [sockets[0], {**sockets[1], "message": None}]
    return {"port": port, "protocol": protocol, "sockets": sockets, "listeners": PEOPLE - 1 if case == GROUP else 1}


@contextlib.contextmanager
def ours(where: Path) -> Iterator[Planner]:
    with hypersend(where) as server:
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

        yield plan


@contextlib.contextmanager
def bare(where: Path) -> Iterator[Planner]:
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

        yield plan


def messages(quick: bool, repeats: int) -> Section:
    section = Section("messages", "Durable messages over WebSocket", "messages/s")
    times = {"warm_s": 0.5, "seconds": 2 if quick else 5}
    servers: dict[str, Planner] = {}
    answers: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        servers["HyperSend"] = stack.enter_context(ours(stack.enter_context(folder())))
        servers["bare reference"] = stack.enter_context(bare(stack.enter_context(folder())))
        absent = peer_tinode.absent()
        if absent is None:
            servers["tinode"] = stack.enter_context(
                peer_tinode.tinode(stack.enter_context(folder()), PEOPLE, TEXT, lambda case: case == GROUP, plan_of))
        for _ in range(repeats):
            for case in CASES:
                for name, plan in servers.items():
                    answers.setdefault((name, case), []).append(load("client_messages", {**plan(case), **times}))

    def samples(name: str, case: str, key: str = "per_s") -> list[float]:
        return [answer[key] for answer in answers[name, case]]

    for case in CASES:
        for name in servers:
            if case == ALONE:
                section.row(f"{name}, {case}, p50", samples(name, case, "p50_ms"), "ms")
            else:
                section.row(f"{name}, {case}", samples(name, case))
    for case, goal, times_tinode in ((PAIRS, 0.4, 4), (GROUP, 0.6, 3)):
        section.ratio(f"HyperSend to the bare reference, {case}", samples("HyperSend", case),
                      samples("bare reference", case), goal)
        if "tinode" in servers:
            section.ratio(f"HyperSend to tinode, {case}", samples("HyperSend", case), samples("tinode", case),
                          times_tinode)
    section.check(f"{ALONE}, p50", samples("HyperSend", ALONE, "p50_ms"), 1.5, "at most", "ms")
    section.check(f"deliveries a second in {GROUP}", samples("HyperSend", GROUP, "deliveries_per_s"), unit="/s")
    section.notes += [
        "Texts of 100 bytes, one in flight a writer, acknowledged after the commit (`synchronous=FULL`); the time ends "
        "with the last delivery, and every message is counted at every listener. In the group all 50 are connected, "
        "so each message goes to 49 sockets. Server and client share the machine.",
        "HyperSend checks membership, blocks and repeats, keeps order, counters and the search index, and every "
        "listener sends a delivered and a read mark a second; the reference stores, acknowledges and forwards.",
        absent or "tinode runs on PostgreSQL with its defaults; all sessions are attached to the group and read.",
    ]
    return section
