"""Person to person through the relay, end to end encrypted, beside magic-wormhole and croc through theirs.

Beside that: the relay alone against a bare aiohttp pump (`p2p_plain`), how long it takes to go on after a cut, the
server's memory, and messages while a relay runs at full rate. magic-wormhole comes from PyPI, croc is built with Go;
the environment variable CROC names another binary of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import Section, in_turn
from benchmarks.install import go_program, named, python_with, versions
from benchmarks.p2p_plain import pump
from benchmarks.processes import folder as folder_on_disk
from benchmarks.processes import free_port
from benchmarks.soak_person import Person
from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.harness import PASSWORD
from tests.p2p_sdk.process import End
from tests.process import ServerProcess
from tests.sdk_transfers.line import line_to

MIB = 1024 * 1024
WORMHOLE = ("magic-wormhole==0.24.0", "magic-wormhole-mailbox-server==0.8.0", "magic-wormhole-transit-relay==0.5.0")
CROC = "github.com/schollz/croc/v10@v10.7.0"
CROC_PORT = 9009  # and the four after it, which its clients take as given
TICKS = os.sysconf("SC_CLK_TCK")
ALONE, RELAY, YIELDING, PUMP = (
    "alone", "beside the relay", "beside the relay, its ends yielding", "beside a bare pump")


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


async def offer(folder: Path, url: str, path: Path) -> tuple[str, str]:
    """(chat, transfer) of an offer between two new people."""
    asha, sending = await device(folder / "asha", url, "asha")
    ben, receiving = await device(folder / "ben", url, "ben")
    account = ben.account
    assert account is not None
    chat = await asha.chats.open_direct(account.user_id)
    end = await asha.p2p.send(chat.id, path)
    await end.stop()
    for transfers, hs in ((sending, asha), (receiving, ben)):
        await transfers.close()
        await hs.close()
    return chat.id, end.transfer_id


def ours(folder: Path, server: ServerProcess, path: Path, cpu: Callable[[float], None]) -> Callable[[], float]:
    """One transfer by the command line, its seconds; two people have signed in by it. cpu: told the server's seconds
    of each."""
    program = str(Path(sys.executable).with_name("hypersend"))
    envs = []
    for name in ("asha", "ben"):
        person = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        request = urllib.request.Request(
            f"{server.url}/api/v1/auth/register", json.dumps(person).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30):
            pass
        env = {**os.environ, "HYPERSEND_HOME": str(folder / f"{name}-home"), "HYPERSEND_PASSWORD": PASSWORD}
        subprocess.run([program, "--server", server.url, "login", person["email"]], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        envs.append(env)

    def run() -> float:
        before = cpu_s(server.pid)
        took = pair_of_commands([program, "p2p", "send", "--relay-only", "@ben", str(path)],
                                [program, "p2p", "receive", "--relay-only", "--yes", "-o", "."], *envs, folder)
        cpu(cpu_s(server.pid) - before)
        return took

    return run


async def memory(folder: Path, server: ServerProcess, path: Path, seconds: float) -> float:
    """MiB of the server above idle with a sender that pushes and a receiver at 1 MB/s, at most, in so many seconds.
    server: just started, since one that has relayed keeps pages for the next time."""
    chat_id, transfer_id = await offer(folder, server.url, path)
    idle = rss_mib(server.pid)
    sending, sends = await device(folder / "asha", server.url)
    receiving, receives = await device(folder / "ben", server.url)
    sending.p2p.direct = receiving.p2p.direct = False
    receiving.p2p.receive_limit.bytes_per_s = 1e6
    await sending.p2p.send(chat_id, path)
    await receiving.p2p.receive(transfer_id, folder / "slow")
    most = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(0.2)
        most = max(most, rss_mib(server.pid) - idle)
    await sending.p2p.cancel(transfer_id)
    for transfers, hs in ((sends, sending), (receives, receiving)):
        await transfers.close()
        await hs.close()
    return most


async def resuming(folder: Path, server: ServerProcess, path: Path, cuts: int) -> list[float]:
    """Seconds from a cut of the receiver's line to the next verified byte, reconnecting included."""
    chat_id, transfer_id = await offer(folder, server.url, path)
    found = []
    async with line_to(server.url) as line:
        line.bytes_per_s = path.stat().st_size / (cuts * 4)
        ends = [End(folder / "asha", server.url, "send", chat_id, path, "relay"),
                End(folder / "ben", line.url, "receive", transfer_id, folder / "got", "relay")]
        for end in ends:
            await end.start()
        for _ in range(cuts):
            await ends[1].until_bytes(ends[1].done_bytes + 1)
            await asyncio.sleep(1)
            line.cut()
            await asyncio.sleep(0)
            before, rounds, began = ends[1].done_bytes, ends[1].rounds, time.monotonic()
            while ends[1].rounds == rounds or ends[1].done_bytes <= before:
                await asyncio.sleep(0.005)
            found.append(time.monotonic() - began)
        line.bytes_per_s = None
        await asyncio.gather(*(end.wait() for end in ends))
    shutil.rmtree(folder / "got")
    return found


async def _two(http: aiohttp.ClientSession, url: str) -> tuple[Person, Person, str]:
    """Two people who may send each other files, and their chat."""
    people = []
    for _ in range(2):
        person = Person(http, url, f"plain_{os.urandom(4).hex()}")
        await person.sign_in("/auth/register")
        key = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        await person.call("PUT", "/auth/device-key", {"public_key": key})
        people.append(person)
    chat = await people[0].call("POST", "/chats", {"kind": "direct", "user_id": people[1].id})
    return people[0], people[1], str(chat["id"])


async def _accepted(one: Person, other: Person, chat_id: str, mib: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """The ends of a new transfer: (URL, token) each."""
    transfer = await one.call("POST", "/p2p/send", {
        "chat_id": chat_id, "name": "film.bin", "size": mib * MIB, "client_id": os.urandom(12).hex()})
    await other.call("POST", f"/p2p/{transfer['id']}/accept")
    socket = f"{one.url.replace('http', 'ws', 1)}/api/v1/p2p"
    sender, receiver = ((f"{socket}/{role}/{transfer['id']}", person.headers["Authorization"].removeprefix("Bearer "))
                        for role, person in (("sender", one), ("receiver", other)))
    return sender, receiver


@contextlib.contextmanager
def bare_pump() -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """The ends of a pump in a process of its own that does nothing else."""
    with subprocess.Popen([sys.executable, "-m", "benchmarks.p2p_plain", "bare"], stdout=subprocess.PIPE, text=True
                          ) as bare:
        assert bare.stdout is not None
        url = f"ws://127.0.0.1:{bare.stdout.readline().strip()}"
        yield (f"{url}/sender", ""), (f"{url}/receiver", "")
        bare.kill()


async def plain(server: ServerProcess, mib: int, repeat: int) -> tuple[float, float]:
    """Seconds of the same frames, not sealed: (through the relay, through a bare pump)."""
    async def relayed() -> float:
        async with aiohttp.ClientSession() as http:
            one, other, chat_id = await _two(http, server.url)
            ends = await _accepted(one, other, chat_id, mib)
            return await asyncio.to_thread(pump, *ends, mib)

    async def pumped() -> float:
        with bare_pump() as bare:
            return await asyncio.to_thread(pump, *bare, mib)

    took = {work: await work() for work in in_turn([relayed, pumped], repeat)}
    return took[relayed], took[pumped]


async def messages_beside(server: ServerProcess, mib: int, seconds: float, repeat: int) -> dict[str, list[float]]:
    """Seconds of acknowledgements, one message every 20 ms: alone; while the server's relay runs as fast as it can;
    the same with both ends of the transfer at the lowest priority, since elsewhere they have machines of their own;
    and while a bare pump in another process takes the same share of the machine."""
    async with aiohttp.ClientSession() as http:
        one, other, chat_id = await _two(http, server.url)
        writer, reader, own_chat = await _two(http, server.url)
        await writer.connect()
        await reader.connect()

        async def write(until: Callable[[], bool]) -> list[float]:
            found = []
            while not until():
                began = time.monotonic()
                await writer.say(type="message.send", chat_id=own_chat, client_id=os.urandom(12).hex(), text="tea?")
                found.append(time.monotonic() - began)
                await asyncio.sleep(0.02)
            return found

        async def while_pumping(ends: tuple[tuple[str, str], tuple[str, str]], *, nice: int = 0) -> list[float]:
            pumping = asyncio.create_task(asyncio.to_thread(pump, *ends, mib, nice=nice))
            await asyncio.sleep(1)  # its processes have started
            found = await write(pumping.done)
            await pumping
            return found

        async def alone() -> list[float]:
            end = time.monotonic() + seconds
            return await write(lambda: time.monotonic() > end)

        async def relaying(*, nice: int = 0) -> list[float]:
            return await while_pumping(await _accepted(one, other, chat_id, mib), nice=nice)

        async def bare_pumping() -> list[float]:
            with bare_pump() as bare:
                return await while_pumping(bare)

        cases: dict[str, Callable[[], Awaitable[list[float]]]] = {
            ALONE: alone, RELAY: relaying, YIELDING: partial(relaying, nice=19), PUMP: bare_pumping}
        found = {name: await work() for name, work in in_turn([*cases.items()], repeat)}
        await writer.disconnect()
        await reader.disconnect()
    return found


def p99(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=100)[-1]


def pair_of_commands(
    first: list[str], second: list[str], env: dict[str, str], other_env: dict[str, str], folder: Path
) -> float:
    """Seconds from the start of the second one until both have ended."""
    got = folder / "got"
    got.mkdir()
    os.sync()
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen(first, env=env, **quiet) as sender:
        time.sleep(2)  # it waits for the other one by then
        began = time.monotonic()
        try:
            subprocess.run(second, env=other_env, cwd=got, check=True, timeout=300, **quiet)
            if sender.wait(60):
                raise RuntimeError(f"{first}: exit status {sender.returncode}")
        finally:
            sender.kill()
    took = time.monotonic() - began
    if sum(path.stat().st_size for path in got.iterdir()) != Path(first[-1]).stat().st_size:
        raise RuntimeError(f"{second}: not what was sent")
    shutil.rmtree(got)
    return took


@contextlib.contextmanager
def wormhole(binaries: Path, folder: Path, path: Path) -> Iterator[Callable[[], float]]:
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    mailbox, transit = free_port(), free_port()
    base = [str(binaries / "wormhole"), "--relay-url", f"ws://127.0.0.1:{mailbox}/v1",
            "--transit-helper", f"tcp:127.0.0.1:{transit}"]
    codes = (f"{n}-tea-house" for n in itertools.count())
    twist = str(binaries / "twist")
    with (running([twist, "wormhole-mailbox", f"--port=tcp:{mailbox}:interface=127.0.0.1"], env, folder),
          running([twist, "transitrelay", f"--port=tcp:{transit}:interface=127.0.0.1"], env, folder)):
        for port in (mailbox, transit):
            until_open(port)

        def run() -> float:
            code = next(codes)
            return pair_of_commands([*base, "send", "--no-listen", "--hide-progress", "--code", code, str(path)],
                                    [*base, "receive", "--no-listen", "--hide-progress", "--accept-file", code],
                                    env, env, folder)

        yield run


@contextlib.contextmanager
def croc(program: Path, folder: Path, path: Path) -> Iterator[Callable[..., float]]:
    """What it yields takes options of croc."""
    relay = f"127.0.0.1:{CROC_PORT}"
    env = {**os.environ, "HOME": str(folder), "CROC_SECRET": "1234-tea-house-bench", "CROC_RELAY": relay}
    base = [str(program), "--yes", "--overwrite", "--relay", relay]
    with running([str(program), "relay", "--host", "127.0.0.1"], env, folder):
        until_open(CROC_PORT)
        yield lambda *options: pair_of_commands(
            [*base, *options, "send", "--no-local", str(path)], [*base, *options], env, env, folder)


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], folder: Path) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def until_open(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > until:
            raise RuntimeError(f"nothing listens at port {port}")
        time.sleep(0.1)


def peers(folder: Path, path: Path, stack: contextlib.ExitStack) -> tuple[dict[str, Callable[[], float]], list[str]]:
    """(name → one transfer, its seconds; a line for each peer that is not there)."""
    found: dict[str, Callable[[], float]] = {}
    absent: list[str] = []
    if binaries := python_with("wormhole", *WORMHOLE):
        found["magic-wormhole"] = stack.enter_context(wormhole(binaries, folder, path))
    else:
        absent.append("magic-wormhole could not be installed, so it is left out.")
    if program := named("CROC") or go_program("croc", CROC):
        run = stack.enter_context(croc(program, folder, path))
        found["croc"] = run
        found["croc --no-compress"] = partial(run, "--no-compress")
    else:
        absent.append("croc is left out: it did not build, and CROC names no binary.")
    return found, absent


def transfers(quick: bool, repeats: int) -> Section:
    mib = 64 if quick else 2048
    section = Section("p2p", f"Person to person through a relay, {mib:,} MiB, end to end encrypted", "MiB/s")
    with folder_on_disk() as folder, contextlib.ExitStack() as stack:
        path = folder / "film.mkv"
        with path.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        above = []
        for n in range(repeats):
            (own := folder / f"memory{n}").mkdir()
            with ServerProcess(own / "data", RATE_LIMITS="off") as fresh:
                above.append(asyncio.run(memory(own, fresh, path, 3 if quick else 8)))
        others, section.absent = peers(folder, path, stack)
        server = stack.enter_context(ServerProcess(folder / "data", RATE_LIMITS="off"))
        runs = {"HyperSend": ours(folder, server, path, lambda seconds: section.cost("HyperSend's server", {
            "CPU s/GiB": seconds / mib * 1024})), **others}
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(repeats):
            for name, run in in_turn([*runs.items()], repeat):
                rates[name].append(mib / run())
        pumped = [asyncio.run(plain(server, mib, repeat)) for repeat in range(repeats)]
        (folder / "cuts").mkdir()
        with ServerProcess(folder / "cuts" / "data", RATE_LIMITS="off") as fresh:
            resumed = asyncio.run(resuming(folder / "cuts", fresh, path, repeats))
        latencies = [asyncio.run(messages_beside(server, max(mib * 2, 512), 2 if quick else 5, repeat))
                     for repeat in range(repeats)]
    for name, samples in rates.items():
        section.row(name, samples)
    for name in others:
        section.ratio(f"HyperSend to {name}", rates["HyperSend"], rates[name], 5)
    section.row("relay alone, not sealed", [mib / ours for ours, _ in pumped])
    section.row("bare aiohttp pump, not sealed", [mib / bare for _, bare in pumped])
    section.check("relay alone to a bare aiohttp pump", [bare / ours for ours, bare in pumped], 0.7, unit="×")
    section.check("memory above idle, receiver at 1 MB/s", above, 8, "at most", "MiB")
    section.check("from a cut to the next verified byte", resumed, 2, "at most", "s")
    for what, when, goal in (
        ("message p99 beside the relay at full rate, to one alone", RELAY, 2.0),
        ("the same, both ends of the transfer yielding to the server", YIELDING, 2.0),
        ("the same beside a bare pump in another process", PUMP, None),  # not ours to promise
    ):
        section.check(what, [p99(found[when]) / p99(found[ALONE]) for found in latencies], goal, "at most", "×")
    for when in (ALONE, RELAY, YIELDING, PUMP):
        section.row(f"message p99, {when}", [p99(found[when]) * 1000 for found in latencies], "ms")
    section.notes += [
        versions(*WORMHOLE, CROC, variables=["CROC"]),
        "Whole commands (`hypersend p2p`), from the receiver's start, accepting included, to the end of both; the "
        "sender waits by then. The same file of random bytes in turns, each through its own relay on loopback. croc "
        "compresses what it sends unless it is told not to.",
        "The relay alone: the same frames without seal, digest or disk, through the server and through a bare aiohttp "
        "pump. After a cut of the receiver's line: reconnecting included.",
        "Messages beside the relay: server, writer, reader and both ends of the transfer share the machine's cores. "
        "Yielding: both ends have the lowest priority (nice 19), which is nearer to where they have machines of their "
        "own. The goal, at most twice as long as alone, holds for both."]
    return section
