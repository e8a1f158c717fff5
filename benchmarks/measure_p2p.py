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
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp

from benchmarks.figures import Section
from benchmarks.install import go_program, named, python_with
from benchmarks.p2p_plain import pump
from benchmarks.processes import folder as folder_on_disk
from benchmarks.processes import free_port
from benchmarks.soak import Person
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


async def sealed(folder: Path, server: ServerProcess, path: Path, *, is_new: bool) -> tuple[float, float]:
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


async def resuming(folder: Path, server: ServerProcess, path: Path, cuts: int = 3) -> list[float]:
    """Seconds from a cut of the receiver's line to the next verified byte, reconnecting included."""
    chat_id, transfer_id = await offer(folder, server.url, path, is_new=False)
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


async def plain(server: ServerProcess, mib: int) -> tuple[float, float]:
    """Seconds of the same frames, not sealed: (through the relay, through a bare pump)."""
    async with aiohttp.ClientSession() as http:
        one, other, chat_id = await _two(http, server.url)
        ends = await _accepted(one, other, chat_id, mib)
        ours = await asyncio.to_thread(pump, *ends, mib)
    with bare_pump() as bare:
        return ours, await asyncio.to_thread(pump, *bare, mib)


async def messages_beside(server: ServerProcess, mib: int, seconds: float = 5) -> dict[str, list[float]]:
    """Seconds of acknowledgements, one message every 20 ms: alone; while the server's relay runs as fast as it can;
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

        async def while_pumping(ends: tuple[tuple[str, str], tuple[str, str]]) -> list[float]:
            pumping = asyncio.create_task(asyncio.to_thread(pump, *ends, mib))
            await asyncio.sleep(1)  # its processes have started
            found = await write(pumping.done)
            await pumping
            return found

        end = time.monotonic() + seconds
        found = {"alone": await write(lambda: time.monotonic() > end)}
        found["beside the relay"] = await while_pumping(await _accepted(one, other, chat_id, mib))
        with bare_pump() as bare:
            found["beside a bare pump"] = await while_pumping(bare)
        await writer.disconnect()
        await reader.disconnect()
    return found


def p99(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=100)[-1]


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
                                    env, folder)

        yield run


@contextlib.contextmanager
def croc(program: Path, folder: Path, path: Path) -> Iterator[Callable[[], float]]:
    relay = f"127.0.0.1:{CROC_PORT}"
    env = {**os.environ, "HOME": str(folder), "CROC_SECRET": "1234-tea-house-bench", "CROC_RELAY": relay}
    base = [str(program), "--yes", "--overwrite", "--relay", relay]
    with running([str(program), "relay", "--host", "127.0.0.1"], env, folder):
        until_open(CROC_PORT)
        yield lambda: pair_of_commands([*base, "send", "--no-local", str(path)], base, env, folder)


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
        found["croc"] = stack.enter_context(croc(program, folder, path))
    else:
        absent.append("croc is left out: there is no Go to build it, or it did not build, and CROC names no binary.")
    return found, absent


def transfers(quick: bool, repeats: int) -> Section:
    mib = 128 if quick else 1024
    section = Section("p2p", f"Person to person through a relay, {mib:,} MiB, end to end encrypted", "MiB/s")
    with folder_on_disk() as folder, contextlib.ExitStack() as stack:
        path = folder / "film.mkv"
        with path.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        others, absent = peers(folder, path, stack)
        server = stack.enter_context(ServerProcess(folder / "data", RATE_LIMITS="off"))
        rates: dict[str, list[float]] = {"HyperSend": [], **{name: [] for name in others}}
        for repeat in range(repeats):
            seconds, cpu = asyncio.run(sealed(folder, server, path, is_new=repeat == 0))
            rates["HyperSend"].append(mib / seconds)
            section.cost("HyperSend's server", {"CPU s/GiB": cpu / mib * 1024})
            for name, run in others.items():
                rates[name].append(mib / run())
        pumped = [asyncio.run(plain(server, mib)) for _ in range(repeats)]
        above = asyncio.run(memory(folder, server, path))
        resumed = asyncio.run(resuming(folder, server, path))
        latencies = [asyncio.run(messages_beside(server, max(mib, 512) * 2)) for _ in range(min(repeats, 3))]
    for name, samples in rates.items():
        section.row(name, samples)
    for name in others:
        section.ratio(f"HyperSend to {name}", rates["HyperSend"], rates[name], 5)
    section.check("relay alone to a bare aiohttp pump", [bare / ours for ours, bare in pumped], 0.7, unit="×")
    section.check("memory above idle, receiver at 1 MB/s", [above], 8, "at most", "MiB")
    section.check("from a cut to the next verified byte", resumed, 2, "at most", "s")
    section.check("message p99 beside the relay at full rate, to one alone", [
        p99(found["beside the relay"]) / p99(found["alone"]) for found in latencies], 2, "at most", "×")
    section.check("the same beside a bare pump in another process", [
        p99(found["beside a bare pump"]) / p99(found["alone"]) for found in latencies], unit="×")
    for when in latencies[0]:
        section.row(f"message p99, {when}", [p99(found[when]) * 1000 for found in latencies], "ms")
    section.notes += [
        "Whole commands, from the receiver's start (its interpreter's start, signing in and accepting included) to the "
        "end of both; the sender waits by then. The same file in turns, each through its own relay on loopback.",
        "The relay alone: the same frames without seal, digest or disk, through the server and through a bare aiohttp "
        "pump. After a cut of the receiver's line: reconnecting included.",
        *absent]
    return section
