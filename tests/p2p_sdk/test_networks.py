"""Three machines, as network namespaces: two devices, and the server between them.

The files, of up to 2 GiB each, lie under HYPERSEND_BIG_DIR, by default the tests' own folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.p2p_sdk.pairs import pair
from tests.p2p_sdk.process import End
from tests.parts import program, require
from tests.process import REPOSITORY, ServerProcess, environment
from tests.sdk_transfers.device import MIB, digest, leftovers

SIZE, DIRECT_SIZE = 2048 * MIB, 256 * MIB
KEPT = 8 * MIB  # what the server may write meanwhile: its database and the log of that
LOSSY_SIZE = 32 * MIB
PORT = 8000
MARK = b"nobody but the two of them shall ever read this line. "


def ip(*arguments: str) -> None:
    subprocess.run([program("ip"), *arguments], check=True, capture_output=True)


class Networks:
    """server, asha, ben: namespaces. url: of the server, as each of the two reaches it."""

    def __init__(self, *, shared: bool) -> None:
        tag = f"hs{os.getpid() % 10000}{'s' if shared else 'r'}"
        self.server, self.asha, self.ben = (f"{tag}{name}" for name in ("srv", "asha", "ben"))
        self._shared = shared
        self.url = {self.asha: f"http://10.77.1.1:{PORT}", self.ben: f"http://10.77.{1 if shared else 2}.1:{PORT}"}

    def make(self) -> None:
        for name in (self.server, self.asha, self.ben):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        if self._shared:
            ip("-n", self.server, "link", "add", "br0", "type", "bridge")
            ip("-n", self.server, "addr", "add", "10.77.1.1/24", "dev", "br0")
            ip("-n", self.server, "link", "set", "br0", "up")
        for number, name in ((1, self.asha), (2, self.ben)):
            network = 1 if self._shared else number
            ip("-n", self.server, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", name, "addr", "add", f"10.77.{network}.{10 + number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            if self._shared:
                ip("-n", self.server, "link", "set", f"to{number}", "master", "br0")
            else:
                ip("-n", self.server, "addr", "add", f"10.77.{network}.1/24", "dev", f"to{number}")
            ip("-n", self.server, "link", "set", f"to{number}", "up")

    def cut(self, name: str) -> None:
        """Reset the connections of this machine with the server."""
        subprocess.run(
            [program("ip"), "netns", "exec", name, program("ss"), "-K", "dport", "=", f":{PORT}"], check=True,
            capture_output=True)

    def move(self, name: str, address: str) -> None:
        """This machine has another address from now on, and nobody tells whoever speaks with the old one."""
        ip("-n", name, "addr", "flush", "dev", "eth0")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")

    def lose(self, name: str) -> None:
        """One packet in twenty that comes to this machine is lost from now on."""
        subprocess.run(
            [program("ip"), "netns", "exec", name, program("iptables"), "-A", "INPUT", "-m", "statistic", "--mode",
             "random", "--probability", "0.05", "-j", "DROP"], check=True, capture_output=True)

    def remove(self) -> None:
        for name in (self.server, self.asha, self.ben):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


class Far:
    """The server in its namespace."""

    def __init__(self, namespace: str, data: Path) -> None:
        self._namespace = namespace
        self._data = data
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with (self._data.parent / "far.log").open("a") as log:
            self._process = subprocess.Popen(
                [program("ip"), "netns", "exec", self._namespace, sys.executable, "-m", "hypersend_server", "serve"],
                cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=log,
                env=environment(self._data, HOST="0.0.0.0", PORT=str(PORT), RATE_LIMITS="off"))
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if re.search(r"is at http", line):
                return
        raise RuntimeError((self._data.parent / "far.log").read_text())

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def write_marked(path: Path, size: int) -> None:
    """Noise, and in each MiB of it a line that can be looked for."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(MARK * 20 + os.urandom(MIB - 20 * len(MARK)))


def traces(folder: Path) -> list[Path]:
    """Files in which something of the content stands."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                while piece := file.read(8 * MIB):
                    if MARK in piece:
                        found.append(path)
                        break
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where two files have room; emptied afterwards."""
    told = os.environ.get("HYPERSEND_BIG_DIR")
    folder = Path(told) / f"networks-{tmp_path.name}-{os.getpid()}" if told else tmp_path / "networks"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size > MIB:
                path.unlink()


@pytest.fixture(params=[False, True], ids=["apart", "together"])
def networks(request: pytest.FixtureRequest) -> Iterator[Networks]:
    program("ip")
    program("ss")
    require("namespaces", os.geteuid() == 0)
    made = Networks(shared=request.param)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            require("namespaces", False)
            raise AssertionError(error.stderr) from error
        yield made
    finally:
        made.remove()


async def offered(place: Path, path: Path) -> tuple[str, str]:
    """Two people, a chat and an offer: (chat, transfer)."""
    with ServerProcess(place / "data", RATE_LIMITS="off") as near:
        async with pair(place / "people", near.url, near.url) as two:
            offer = await two.asha.hs.p2p.send(two.chat_id, path)
            await offer.stop()
            return two.chat_id, offer.transfer_id


@contextlib.asynccontextmanager
async def crossing(place: Path, networks: Networks, size: int, *limit: str) -> AsyncIterator[tuple[Far, End, End]]:
    """A file on its way between the two: (the server, Asha's end, Ben's end). Afterwards it has arrived, whole, and the
    server has kept nothing of it.

    limit: bytes a second of Asha's.
    """
    path = place / "film.mkv"
    await asyncio.to_thread(write_marked, path, size)
    chat_id, transfer_id = await offered(place, path)
    before = size_of(place / "data")
    far = Far(networks.server, place / "data")
    far.start()
    asha = End(place / "people" / "asha", networks.url[networks.asha], "send", chat_id, path, "direct", *limit,
               namespace=networks.asha)
    ben = End(place / "people" / "ben", networks.url[networks.ben], "receive", transfer_id, place / "received",
              "direct", namespace=networks.ben)
    try:
        await asyncio.gather(asha.start(), ben.start())
        yield far, asha, ben
        await asyncio.gather(asha.wait(), ben.wait())
    finally:
        for end in (asha, ben):
            await end.kill()
        far.kill()
    received = place / "received" / "film.mkv"
    assert await asyncio.to_thread(digest, received) == await asyncio.to_thread(digest, path)
    assert leftovers(received.parent) == []
    assert traces(place / "data") == []
    assert size_of(place / "data") - before < KEPT


async def test_file_crosses_networks_through_cuts_and_a_killed_server_and_directly_where_it_can(
    place: Path, networks: Networks
) -> None:
    is_shared = networks.url[networks.asha] == networks.url[networks.ben]
    size = DIRECT_SIZE if is_shared else SIZE
    limit = [] if is_shared else [str(size // 16)]
    async with crossing(place, networks, size, *limit) as (far, asha, ben):
        if not is_shared:
            await ben.until_bytes(size // 8)
            networks.cut(networks.ben)
            await ben.until_round(2)
            await ben.until_bytes(size // 4)
            far.kill()
            far.start()
            await ben.until_round(3)
            await ben.until_bytes(size // 2)
            networks.cut(networks.asha)
    if is_shared:
        assert "direct" in asha.ways
    else:
        assert ben.ways == {"relay"}
        # Two cuts, and one server; where the newer socket was quicker than the news of the cut, one more round.
        assert ben.rounds >= 4


async def test_a_line_that_loses_one_packet_in_twenty_brings_all(place: Path, networks: Networks) -> None:
    async with crossing(place, networks, LOSSY_SIZE):
        for name in (networks.server, networks.asha, networks.ben):
            networks.lose(name)


@pytest.mark.parametrize("networks", [False], ids=["apart"], indirect=True)
@pytest.mark.parametrize("who", ["asha", "ben"])
async def test_a_device_with_another_address_goes_on(place: Path, networks: Networks, who: str) -> None:
    async with crossing(place, networks, DIRECT_SIZE, str(DIRECT_SIZE // 4)) as (_, _, ben):
        await ben.until_bytes(DIRECT_SIZE // 4)
        if who == "asha":
            networks.move(networks.asha, "10.77.1.99")
        else:
            networks.move(networks.ben, "10.77.2.99")
    assert ben.rounds >= 2
