"""Writers and listeners of the Matrix client-server API, one message in flight a writer.

Standard input, JSON: url (with the API's prefix), text, warm_s, seconds, writers and listeners: [{token, room}].
Standard output: {messages, seconds, per_s, deliveries_per_s, p50_ms, p99_ms}. The seconds end with the last delivery;
every message must arrive at every listener in its room, the writer's own included, else this fails.
Source: https://spec.matrix.org/latest/client-server-api/
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from typing import Any

import aiohttp

DRAIN_S = 60.0


class Load:
    """What all share. mark: begins the texts of the present turn, so that nothing older is counted."""

    def __init__(self, http: aiohttp.ClientSession, plan: dict[str, Any]) -> None:
        self.http = http
        self.plan = plan
        self.sent: dict[str, str] = {}
        self.latencies: list[float] = []
        self.deliveries = 0
        self.last_at = 0.0
        self.mark = ""

    async def call(self, method: str, path: str, token: str, **options: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.request(method, self.plan["url"] + path, headers=headers, **options) as answer:
            said: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {said}")
            return said

    async def write(self, who: dict[str, str], until: float) -> None:
        text = self.plan["text"]
        content = {"msgtype": "m.text", "body": self.mark + text[len(self.mark):]}
        while time.perf_counter() < until:
            began = time.perf_counter()
            path = f"/rooms/{who['room']}/send/m.room.message/{uuid.uuid4().hex}"
            answer = await self.call("PUT", path, who["token"], json=content)
            self.latencies.append(time.perf_counter() - began)
            self.sent[answer["event_id"]] = who["room"]

    async def listen(self, who: dict[str, str], ready: asyncio.Event) -> None:
        kinds = {"types": ["m.room.message"]}
        nothing: dict[str, list[str]] = {"types": []}
        narrow = json.dumps({
            "presence": nothing, "account_data": nothing, "room": {
                "rooms": [who["room"]], "timeline": {**kinds, "limit": 1000}, "state": {"types": []},
                "ephemeral": nothing, "account_data": nothing}})
        since = (await self.call("GET", "/sync", who["token"], params={"filter": narrow, "timeout": "0"}))["next_batch"]
        ready.set()
        while True:
            said = await self.call("GET", "/sync", who["token"], params={
                "filter": narrow, "timeout": "30000", "since": since})
            since = said["next_batch"]
            timeline = said.get("rooms", {}).get("join", {}).get(who["room"], {}).get("timeline", {})
            if timeline.get("limited"):
                raise RuntimeError("a listener's page of messages was too short")
            events = timeline.get("events", [])
            if heard := sum(event["content"].get("body", "").startswith(self.mark) for event in events):
                self.deliveries += heard
                self.last_at = time.perf_counter()

    async def turn(self, seconds: float) -> None:
        """Write for so long, and wait until everything has arrived."""
        self.sent.clear()
        self.latencies.clear()
        self.deliveries = 0
        self.mark = f"{uuid.uuid4().hex} "
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self.write(who, until) for who in self.plan["writers"]))
        rooms = [who["room"] for who in self.plan["listeners"]]
        wanted = sum(rooms.count(room) for room in self.sent.values())
        give_up = time.perf_counter() + DRAIN_S
        while self.deliveries < wanted:
            if time.perf_counter() > give_up:
                raise RuntimeError(f"{self.deliveries} of {wanted} deliveries")
            await asyncio.sleep(0.005)
        if self.deliveries > wanted:
            raise RuntimeError(f"{self.deliveries} deliveries of {wanted} messages")


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        load = Load(http, plan)
        ready = [asyncio.Event() for _ in plan["listeners"]]
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(load.listen(who, event))
                         for who, event in zip(plan["listeners"], ready, strict=True)]
            for event in ready:
                await event.wait()
            await load.turn(plan["warm_s"])
            began = time.perf_counter()
            await load.turn(plan["seconds"])
            for task in listening:
                task.cancel()
    took = load.last_at - began
    ordered = sorted(load.latencies)
    print(json.dumps({
        "messages": len(ordered), "seconds": took, "per_s": len(ordered) / took,
        "deliveries_per_s": load.deliveries / took, "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000}))


if __name__ == "__main__":
    asyncio.run(main())
