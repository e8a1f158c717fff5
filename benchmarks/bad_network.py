"""A person with a phone on a bad network: sends a big file and writes meanwhile.

    sudo unshare -n .venv/bin/python -m benchmarks.bad_network [--size-mib 200] [--loss 0.05] [--delay-ms 100]
                                                              [--keep docs/reliability/bad_network.json]

The line is that of `benchmarks.lossy`: each way 100 ms, at most 1,000 KiB/s, one packet in twenty lost; every 20 s all
connections die without a word, and for 3 s nothing passes. Another person on a good line reads along and fetches the
file at the end. Told are: how long it took and what passed beside the file's own bytes; the longest time in which
nothing moved; when each message arrived, once and in order; and what one plain TCP connection carries over the same
line without any cut.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.lossy import HERE, THERE, Network
from benchmarks.report import machine, when
from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.events import Event, MessageReceived
from hypersend_client.sdk.transfers import Transfers
from tests.process import ServerProcess

MIB = 1024 * 1024
DARK_S = 3.0
PLAIN_S = 60.0
WRITE_S = 2.0
PASSWORD = "correct horse battery"


async def plain(seconds: float) -> float:
    """KiB/s of one TCP connection."""
    received = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(65536):
            received += len(data)
        writer.close()

    server = await asyncio.start_server(take, HERE, 0)
    _, writer = await asyncio.open_connection(THERE, server.sockets[0].getsockname()[1])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        writer.write(bytes(65536))
        await asyncio.wait({asyncio.ensure_future(writer.drain())}, timeout=until - time.monotonic())
    writer.transport.abort()
    server.close()
    return received / 1024 / seconds


async def cutting(network: Network, every_s: float) -> None:
    """All connections die, and for a while nothing passes; again and again."""
    while True:
        await asyncio.sleep(every_s)
        network.cut()
        loss, network.loss = network.loss, 1.0
        await asyncio.sleep(DARK_S)
        network.loss = loss


async def main(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hypersend-bad-network-"))
    network = Network(options.loss, options.delay_ms / 1000, options.kib_per_s * 1024)
    network.start()
    try:
        alone = await plain(PLAIN_S)
        print(f"one plain TCP connection, never cut: {alone:.0f} KiB/s", flush=True)
        with ServerProcess(folder / "data", RATE_LIMITS="off", HOST=HERE) as server:
            await walk(folder, server.url, network, options)
    finally:
        shutil.rmtree(folder)


async def walk(folder: Path, url: str, network: Network, options: argparse.Namespace) -> None:
    source = folder / "holiday.mp4"
    source.write_bytes(os.urandom(options.size_mib * MIB))
    async with (
        HyperSend(url.replace(HERE, THERE), tokens=FileTokenStore(folder / "asha.json"), cache_dir=folder) as asha,
        HyperSend(url, tokens=FileTokenStore(folder / "ben.json")) as ben,
    ):
        ben_user = await ben.register("ben@example.org", "ben", PASSWORD)
        await asha.register("asha@example.org", "asha", PASSWORD)
        chat = await asha.chats.open_direct(ben_user.id)
        arrived: dict[str, float] = {}
        order: list[str] = []

        def hear(event: Event) -> None:
            if isinstance(event, MessageReceived) and event.message.text:
                order.append(event.message.text)
                arrived.setdefault(event.message.text, time.monotonic())

        ben.connection.on(hear)
        await ben.start()
        await asha.start()
        await asyncio.gather(ben.connection.wait_online(), asha.connection.wait_online())
        transfers = Transfers(asha, folder / "transfers.sqlite")
        written: dict[str, float] = {}

        async def write() -> None:
            while True:
                text = f"message {len(written)}"
                written[text] = time.monotonic()
                await asha.outbox.put(chat.id, text)
                await asyncio.sleep(WRITE_S)

        tasks = [asyncio.create_task(write()), asyncio.create_task(cutting(network, options.cut_s))]
        began, before = time.monotonic(), network.bytes
        upload = await transfers.upload(source, chat_id=chat.id)
        states: Counter[str] = Counter()
        moved_at, done, still, back = began, 0, 0.0, 0
        async for progress in upload.updates(0.25):
            now = time.monotonic()
            states[progress.state] += 1
            if progress.done_bytes > done:
                still, moved_at = max(still, now - moved_at), now
            back = max(back, done - progress.done_bytes)
            done = progress.done_bytes
        file = await upload.wait()
        seconds, passed = time.monotonic() - began, network.bytes - before
        await asha.outbox.put(chat.id, "the film", file_ids=[file.id])
        written["the film"] = time.monotonic()
        for task in tasks:
            task.cancel()
        network.loss = options.loss
        async with asyncio.timeout(120):
            while len(arrived) < len(written):
                await asyncio.sleep(0.1)
        got = Transfers(ben, folder / "ben.sqlite", folder=folder / "got")
        path = await (await got.download(await ben.files.get(file.id))).wait()
        assert path.read_bytes() == source.read_bytes()
        await transfers.close()
        await got.close()
        in_order = [t for t in order if t != "the film"] == [t for t in written if t != "the film"]
        waits = [arrived[text] - at for text, at in written.items()]
        size = options.size_mib * MIB
        tell({
            "MiB": options.size_mib, "seconds": seconds, "KiB/s": size / 1024 / seconds, "cuts": network.cuts,
            "passed on the line, of the file's size": passed / size, "longest time in which nothing moved, s": still,
            "progress went back by at most, bytes": back, "states, a look each 0.25 s": dict(states),
            "messages": len(written), **spread("with the other", waits), "seen twice": len(order) - len(set(order)),
            "in order": in_order,
        }, options.keep)
        assert len(order) == len(set(order)) == len(written), "messages were lost or doubled"
        assert in_order, "messages are out of order"


def spread(name: str, waits: list[float]) -> dict[str, float]:
    waits = sorted(waits)
    return {f"{name}: p50, s": statistics.median(waits), f"{name}: p90, s": waits[int(len(waits) * 0.9)],
            f"{name}: longest, s": waits[-1]}


def tell(figures: dict[str, Any], path: Path | None) -> None:
    """path: where they are kept too."""
    figures = {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name}: {value}", flush=True)
    if path is not None:
        path.write_text(json.dumps({"measured": when(), "machine": machine(), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=200)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--delay-ms", type=float, default=100)
    parser.add_argument("--kib-per-s", type=float, default=1000)
    parser.add_argument("--cut-s", type=float, default=20)
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    asyncio.run(main(parser.parse_args()))
