"""An upload and a download over a network that loses packets and cuts connections.

    sudo unshare -n .venv/bin/python -m benchmarks.lossy [--size-mib 48] [--loss 0.05] [--kib-per-s 1000]

Needs a network namespace of its own (`unshare -n`) and /dev/net/tun. Every packet between client and server goes
through a TUN device and this script, which swaps source and destination (so that 10.9.0.1 is both ends and no
checksum changes), delays it by 30 ms, keeps to the rate, and drops one in twenty. At each cut all connections that
exist die without a word, as when a phone changes its network: their packets are dropped from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from hypersend_client.sdk import HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.process import ServerProcess

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
HERE, THERE = "10.9.0.1", "10.9.0.2"
MIB = 1024 * 1024
QUEUE_S = 0.3


class Network:
    def __init__(self, loss: float, delay_s: float, bytes_per_s: float) -> None:
        self.loss, self.delay_s, self.bytes_per_s = loss, delay_s, bytes_per_s
        self._free_at = 0.0
        self.cuts = self.lost = self.passed = self.bytes = 0
        self._random = random.Random(1)
        self._dead: set[tuple[int, int]] = set()
        self._alive: set[tuple[int, int]] = set()
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH", b"lossy0", IFF_TUN | IFF_NO_PI))
        for command in ("link set lo up", f"addr add {HERE}/24 dev lossy0", "link set lossy0 up"):
            subprocess.run(["ip", *command.split()], check=True)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, self._take)

    def cut(self) -> None:
        """All connections that exist die."""
        self.cuts += 1
        self._dead |= self._alive
        self._alive.clear()

    def _take(self) -> None:
        while True:
            try:
                packet = bytearray(os.read(self._fd, 65536))
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4 or packet[9] != 6:
                continue
            ports = struct.unpack_from("!HH", packet, (packet[0] & 15) * 4)
            flow = (min(ports), max(ports))
            if flow in self._dead:
                continue
            self._alive.add(flow)
            if self._random.random() < self.loss:
                self.lost += 1
                continue
            loop = asyncio.get_running_loop()
            self._free_at = max(self._free_at, loop.time())
            if self._free_at - loop.time() > QUEUE_S:
                self.lost += 1
                continue
            self._free_at += len(packet) / self.bytes_per_s
            self.passed += 1
            self.bytes += len(packet)
            packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
            loop.call_at(self._free_at + self.delay_s, self._give, bytes(packet))

    def _give(self, packet: bytes) -> None:
        try:
            os.write(self._fd, packet)
        except OSError:
            self.lost += 1  # its queue is full, as a router's may be


async def main(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hypersend-lossy-"))
    network = Network(options.loss, options.delay_ms / 1000, options.kib_per_s * 1024)
    network.start()
    try:
        with ServerProcess(folder / "data", RATE_LIMITS="off", HOST=HERE) as server:
            source = folder / "source.bin"
            source.write_bytes(os.urandom(options.size_mib * MIB))

            async def cutting() -> None:
                while True:
                    await asyncio.sleep(options.cut_s)
                    network.cut()

            async with HyperSend(server.url.replace(HERE, THERE)) as hs:
                await hs.register("asha@example.org", "asha", "correct horse battery")
                transfers = Transfers(hs, folder / "transfers.sqlite", folder=folder / "got")
                cutter = asyncio.create_task(cutting())
                for way in ("upload", "download"):
                    began, cuts, passed, lost = time.monotonic(), network.cuts, network.passed, network.lost
                    if way == "upload":
                        file = await (await transfers.upload(source)).wait()
                    else:
                        path = await (await transfers.download(file)).wait()
                    seconds = time.monotonic() - began
                    packets = network.passed - passed + network.lost - lost
                    print(
                        f"{way}: {options.size_mib} MiB in {seconds:.0f} s, {network.cuts - cuts} cuts, "
                        f"{network.lost - lost} of {packets} packets lost"
                    )
                cutter.cancel()
                subprocess.run(["cmp", str(source), str(path)], check=True)
                await transfers.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=48)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--delay-ms", type=float, default=30)
    parser.add_argument("--kib-per-s", type=float, default=1000)
    parser.add_argument("--cut-s", type=float, default=20)
    asyncio.run(main(parser.parse_args()))
