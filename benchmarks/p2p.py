"""Person to person through the relay, end to end encrypted, beside magic-wormhole and croc through theirs.

    python -m benchmarks.p2p DIR [--mib 512] [--peers BIN] [--repeats 3]

DIR: a folder on a disk with room for three times the file. BIN: a folder with `wormhole`, `twist` and `croc`; what is
not there is left out and said so. Every run is whole commands, from the receiver's start to the end of both, Python's
own start included; the same file in the same run, in turns. Prints a table for docs/p2p.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.harness import PASSWORD
from tests.p2p_sdk.process import End
from tests.process import ServerProcess

MIB = 1024 * 1024
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int, what: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise ValueError(what)


async def device(home: Path, url: str, name: str | None = None) -> tuple[HyperSend, Transfers]:
    home.mkdir(exist_ok=True)
    hs = HyperSend(url, tokens=FileTokenStore(home / "accounts.json"))
    await hs.__aenter__()
    if name is not None:
        await hs.register(f"{name}@example.org", name, PASSWORD)
    return hs, Transfers(hs, home / "transfers.sqlite")


async def offer(folder: Path, url: str, path: Path, *, is_new: bool) -> tuple[str, str]:
    """(chat, transfer) of a new offer."""
    asha, sending = await device(folder / "asha", url, "asha" if is_new else None)
    ben, receiving = await device(folder / "ben", url, "ben" if is_new else None)
    account = ben.account
    assert account is not None
    chat = await asha.chats.open_direct(account.user_id)
    end = await asha.p2p.send(chat.id, path)
    await end.stop()
    for transfers, hs in ((sending, asha), (receiving, ben)):
        await transfers.close()
        await hs.close()
    return chat.id, end.transfer_id


async def ours(folder: Path, server: ServerProcess, path: Path, *, is_new: bool) -> tuple[float, float]:
    """(seconds, seconds of the server's CPU)."""
    chat_id, transfer_id = await offer(folder, server.url, path, is_new=is_new)
    ends = [End(folder / "asha", server.url, "send", chat_id, path, "relay"),
            End(folder / "ben", server.url, "receive", transfer_id, folder / "got", "relay")]
    await ends[0].start()
    await asyncio.sleep(2)  # it waits for the other one by then
    before, began = cpu_s(server.pid), time.monotonic()
    await ends[1].start()
    await asyncio.gather(*(end.wait() for end in ends))
    took = time.monotonic() - began
    used = cpu_s(server.pid) - before
    shutil.rmtree(folder / "got")
    return took, used


async def memory(folder: Path, server: ServerProcess, path: Path) -> float:
    """MiB of the server above idle with a sender that pushes and a receiver at 1 MB/s, after 8 s."""
    chat_id, transfer_id = await offer(folder, server.url, path, is_new=False)
    idle = rss_mib(server.pid)
    sending, sends = await device(folder / "asha", server.url)
    receiving, receives = await device(folder / "ben", server.url)
    sending.p2p.direct = receiving.p2p.direct = False
    receiving.p2p.receive_limit.bytes_per_s = 1e6
    await sending.p2p.send(chat_id, path)
    await receiving.p2p.receive(transfer_id, folder / "slow")
    most = 0.0
    for _ in range(40):
        await asyncio.sleep(0.2)
        most = max(most, rss_mib(server.pid) - idle)
    await sending.p2p.cancel(transfer_id)
    for transfers, hs in ((sends, sending), (receives, receiving)):
        await transfers.close()
        await hs.close()
    return most


def pair_of_commands(first: list[str], second: list[str], env: dict[str, str], folder: Path) -> float:
    """Seconds from the start of the second one until both have ended."""
    got = folder / "got"
    got.mkdir()
    with subprocess.Popen(first, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sender:
        time.sleep(2)  # it waits for the other one by then
        began = time.monotonic()
        subprocess.run(second, env=env, cwd=got, check=True, timeout=300,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        sender.wait(60)
    took = time.monotonic() - began
    shutil.rmtree(got)
    return took


def wormhole(binaries: Path, folder: Path, path: Path) -> Callable[[], float]:
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    mailbox, transit = 41001, 41002
    for plugin in (["wormhole-mailbox", f"--port=tcp:{mailbox}:interface=127.0.0.1"],
                   ["transitrelay", f"--port=tcp:{transit}:interface=127.0.0.1"]):
        SERVERS.append(subprocess.Popen([str(binaries / "twist"), *plugin], cwd=folder, env=env,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    time.sleep(4)
    base = [str(binaries / "wormhole"), "--relay-url", f"ws://127.0.0.1:{mailbox}/v1",
            "--transit-helper", f"tcp:127.0.0.1:{transit}"]
    count = iter(range(100))

    def run() -> float:
        code = f"{next(count)}-tea-house"
        return pair_of_commands([*base, "send", "--no-listen", "--hide-progress", "--code", code, str(path)],
                                [*base, "receive", "--no-listen", "--hide-progress", "--accept-file", code],
                                env, folder)

    return run


def croc(binaries: Path, folder: Path, path: Path) -> Callable[[], float]:
    program = str(binaries / "croc")
    env = {**os.environ, "HOME": str(folder), "CROC_SECRET": "1234-tea-house-bench", "CROC_RELAY": "127.0.0.1:9009"}
    SERVERS.append(subprocess.Popen([program, "relay", "--host", "127.0.0.1"], env=env,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    time.sleep(1)
    base = [program, "--yes", "--overwrite", "--relay", "127.0.0.1:9009"]
    return lambda: pair_of_commands([*base, "send", "--no-local", str(path)], base, env, folder)


SERVERS: list[subprocess.Popen[bytes]] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = options.folder / f"bench-{os.getpid()}"
    folder.mkdir(parents=True)
    path = folder / "film.mkv"
    with path.open("wb") as file:
        for _ in range(options.mib):
            file.write(os.urandom(MIB))
    peers: dict[str, Callable[[], float]] = {}
    if options.peers and (options.peers / "wormhole").exists():
        peers["magic-wormhole, its transit relay"] = wormhole(options.peers, folder, path)
    if options.peers and (options.peers / "croc").exists():
        peers["croc, its relay"] = croc(options.peers, folder, path)
    took: dict[str, list[float]] = {"HyperSend": [], **{name: [] for name in peers}}
    used: list[float] = []
    try:
        with ServerProcess(folder / "data", RATE_LIMITS="off") as server:
            for repeat in range(options.repeats):
                seconds, cpu = asyncio.run(ours(folder, server, path, is_new=repeat == 0))
                took["HyperSend"].append(seconds)
                used.append(cpu)
                for name, run in peers.items():
                    took[name].append(run())
            above = asyncio.run(memory(folder, server, path))
    finally:
        for process in SERVERS:
            process.terminate()
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
    own = statistics.median(took["HyperSend"])
    print(f"| {options.mib} MiB through a relay, median of {options.repeats} | seconds | MiB/s | HyperSend is |")
    print("|---|---|---|---|")
    for name, times in took.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle:.1f} | {options.mib / middle:.0f} | {middle / own:.1f}× |")
    print(f"\nCPU of the server: {statistics.median(used) / (options.mib / 1024):.2f} s a GiB.")
    print(f"Memory of the server above idle, receiver at 1 MB/s: {above:.1f} MiB at most.")
    if len(peers) < 2:
        print("Not compared: " + ", ".join({"wormhole", "croc"} - {name.split(",")[0][-8:] for name in peers}))


if __name__ == "__main__":
    main()
