"""What the bus costs an event: `python -m benchmarks.bus [REDIS_URL]`; without a URL it starts redis-server itself.

Two buses in one process, one sending and one hearing, so the figure is CPU time of both ends together, without
Redis's own. The event is a message of 100 characters to 2 people.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.bus_redis import RedisBus
from hypersend_server.realtime.events import AnyEvent, Bus, Frame
from tests.redis_server import RedisServer

COUNT = 10_000
EVENT = Frame(["01J0000000000000000000000A", "01J0000000000000000000000B"], b'{"type":"message"}' + b"x" * 600)


async def burst(sender: Bus, hearer: Bus) -> float:
    """CPU microseconds an event."""
    heard, done = 0, asyncio.Event()

    def hear(event: AnyEvent) -> None:
        nonlocal heard
        if isinstance(event, Frame):
            heard += 1
            if heard == COUNT:
                done.set()

    hearer.subscribe(hear)
    began = time.process_time()
    for number in range(COUNT):
        sender.publish(EVENT)
        if number % 100 == 99:
            await asyncio.sleep(0)
    await done.wait()
    return (time.process_time() - began) / COUNT * 1e6


async def latency(sender: Bus, hearer: Bus) -> tuple[float, float]:
    """(p50, p99) in milliseconds from publishing to being heard by the other, one at a time."""
    arrived = asyncio.Event()
    hearer.subscribe(lambda event: arrived.set() if isinstance(event, Frame) else None)
    took = []
    for _ in range(1000):
        arrived.clear()
        began = time.perf_counter()
        sender.publish(EVENT)
        await arrived.wait()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), sorted(took)[990]


async def measure(url: str) -> None:
    local = LocalBus()
    print(f"one process, no Redis: {await burst(local, local):.2f} us of CPU an event")
    buses = [RedisBus(url, "hypersend:benchmark", name) for name in "ab"]
    for bus in buses:
        await bus.start()
    p50, p99 = await latency(buses[0], buses[1])
    print(f"Redis, two processes: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(f"Redis, sending and hearing: {await burst(buses[0], buses[1]):.2f} us of CPU an event, both ends together")
    for bus in buses:
        await bus.close()


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(measure(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        try:
            asyncio.run(measure(server.url))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
