"""A direct connection of two devices on the same network, beside their relayed one.

The receiver listens and tells its addresses by a sealed control frame; the sender tries them. On the connection each
message is its length (4 bytes, big-endian) and so many bytes:

    sender     {"transfer", "round", "key", "cipher"}     JSON, in the clear: its ephemeral key of this connection
    receiver   {"key", "cipher"}                          JSON, in the clear
    sender     {"kind": "here"}                           a sealed control frame, as are all from now on (`p2p_seal`)
    receiver   {"kind": "here"}
    sender     {"kind": "switch", "offset"}               the file goes on here from this offset
    sender     data frames, and {"kind": "end", …}

The keys come of the same agreement as on the relay, marked as direct. Who does not have a device's key cannot say
`here`, and is dropped; and an address that leads to somebody else leads nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from hypersend_client.sdk import lines
from hypersend_client.sdk.answers import parse_json
from hypersend_client.sdk.p2p_line import MessageLine
from hypersend_client.sdk.p2p_seal import Cipher, Handshake, Opener, Sealer
from hypersend_client.sdk.transfer_errors import KeyMissing, Tampered

HELLO_S = 5.0
CONNECT_S = 3.0
PROOF_S = 1.0
MOST_GUESTS = 8
MOST_ADDRESSES = 12
# Nothing is sent there: asking the system from which address it would tell the networks that one is in.
_ASKED = ("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.1.1", "192.0.2.1", "fd00::1", "2001:db8::1")
# RFC 1918, RFC 3927, RFC 4193, RFC 4291
_AT_HOME = [ipaddress.ip_network(network) for network in (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")]
log = logging.getLogger(__name__)

Address = tuple[str, int]
_BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError, Tampered, KeyMissing)


class Channel:
    """One end of a direct connection. Raises, everywhere: OSError, EOFError."""

    def __init__(self, line: MessageLine) -> None:
        self.line = line
        self.sealer: Sealer
        self.opener: Opener
        self._left: list[memoryview] = []

    async def send(self, message: bytes) -> None:
        await self.line.send(message)

    async def receive(self) -> bytes:
        """The next message. Raises: ValueError where it is longer than any frame."""
        self._left = self._left or await self.receive_all()
        return bytes(self._left.pop(0))

    async def receive_all(self) -> list[memoryview]:
        """All that have come, at least one; good until the next call. Raises: as `receive`."""
        left, self._left = self._left, []
        found = left or await self.line.receive()
        if not found:
            raise EOFError
        return found

    async def greet(self, handshake: Handshake, hello: dict[str, Any], proving: asyncio.Lock) -> None:
        """As the sender. hello: what goes with the key. proving: held by the one connection that says `here`, since
        it is the one that the receiver takes."""
        await self.send(json.dumps({**hello, "key": handshake.key, "cipher": handshake.cipher}).encode())
        answer = parse_json(await self.receive())
        self.sealer, self.opener = handshake.finish(answer["key"], cipher_of(answer["cipher"]), 0)
        async with proving, asyncio.timeout(PROOF_S):
            await self.send(self.sealer.control({"kind": "here"}))
            await self._expect_here()

    async def answer(self, handshake: Handshake, hello: dict[str, Any]) -> None:
        """As the receiver. hello: what the sender said."""
        self.sealer, self.opener = handshake.finish(hello["key"], cipher_of(hello["cipher"]), 0)
        await self.send(json.dumps({"key": handshake.key, "cipher": handshake.cipher}).encode())
        await self._expect_here()
        await self.send(self.sealer.control({"kind": "here"}))

    async def _expect_here(self) -> None:
        if self.opener.open(await self.receive()) != {"kind": "here"}:
            raise Tampered("the other device did not say who it is")

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Meanwhile a line on which nobody is any more is closed; one that is merely slow is not."""
        sock = self.line.get_extra_info("socket")
        lines.be_patient(sock)
        lines.ask_when_idle(sock)
        watching = asyncio.create_task(lines.watch(sock, self.close))
        try:
            yield
        finally:
            watching.cancel()

    def close(self) -> None:
        self.line.abort()


def cipher_of(found: Any) -> Cipher:
    return "chacha20-poly1305" if found == "chacha20-poly1305" else "aes-256-gcm"


class Listener:
    """Waits for the sender. make: a handshake for a connection. found: called with the channel, once it is proved who
    is there, and awaited for as long as it serves; only one is let in."""

    def __init__(
        self, hello: dict[str, Any], make: Callable[[], Handshake], found: Callable[[Channel], Awaitable[None]]
    ) -> None:
        self._hello = hello
        self._make = make
        self._found = found
        self._server: asyncio.Server | None = None
        self._guests: set[asyncio.Task[None]] = set()
        self._is_taken = False

    async def open(self, own: Iterable[str]) -> list[Address]:
        """Where it can be reached; own: this device's addresses."""
        loop = asyncio.get_running_loop()
        hosts = ["0.0.0.0", "::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]  # noqa: S104
        # Only what is kept here can be closed: one that also begins to serve is lost where it is cancelled meanwhile.
        try:
            self._server = await loop.create_server(
                lambda: MessageLine(self._accept), hosts, 0, start_serving=False)
        except OSError:
            self._server = await loop.create_server(
                lambda: MessageLine(self._accept), "0.0.0.0", 0, start_serving=False)  # noqa: S104
        await self._server.start_serving()
        ports = {s.family: s.getsockname()[1] for s in self._server.sockets}
        found = []
        for host in own:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            if family in ports:
                found.append((host, ports[family]))
        return found[:MOST_ADDRESSES]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._guests):
            task.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)

    def _accept(self, line: MessageLine) -> None:
        if len(self._guests) >= MOST_GUESTS:
            line.abort()
            return
        task = asyncio.create_task(self._serve(Channel(line)))
        self._guests.add(task)
        task.add_done_callback(self._guests.discard)

    async def _serve(self, channel: Channel) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = parse_json(await channel.receive())
                if any(hello[name] != value for name, value in self._hello.items()):
                    raise ValueError("it is for another transfer")
                await channel.answer(self._make(), hello)
            if not self._is_taken:
                self._is_taken = True
                await self._found(channel)
        except (*_BROKEN, RecursionError) as error:
            log.debug("a direct connection came to nothing: %r", error)
        finally:
            channel.close()


async def connect(addresses: Iterable[Address], hello: dict[str, Any], make: Callable[[], Handshake]
                  ) -> Channel | None:
    """The first of these addresses where the other device proves that it is there; None where it is at none."""
    proving = asyncio.Lock()
    tasks = [asyncio.create_task(_try(address, hello, make, proving)) for address in addresses]
    found: Channel | None = None
    try:
        for done in asyncio.as_completed(tasks):
            channel = await done
            if channel is not None:
                found = channel
                return channel
    finally:
        for task in tasks:
            task.cancel()
        for other in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(other, Channel) and other is not found:
                other.close()
    return None


async def _try(
    address: Address, hello: dict[str, Any], make: Callable[[], Handshake], proving: asyncio.Lock
) -> Channel | None:
    channel: Channel | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            _, line = await asyncio.get_running_loop().create_connection(MessageLine, *address)
            channel = Channel(line)
            await channel.greet(make(), hello, proving)
    except (*_BROKEN, RecursionError) as error:
        log.debug("%s is not the other device: %r", address, error)
        if channel is not None:
            channel.close()
        return None
    except BaseException:
        if channel is not None:
            channel.close()
        raise
    return channel


def told_addresses(found: Any, *, loopback: bool) -> list[Address]:
    """Those of a control frame that may be tried: of a network at home, never out in the world.

    loopback: whether this device reaches the server over loopback, so that the other one may be this machine.
    """
    addresses = []
    for entry in found if isinstance(found, list) else []:
        match entry:
            case [str(host), int(port)] if 0 < port < 65536 and not isinstance(port, bool):
                with contextlib.suppress(ValueError):
                    ip = ipaddress.ip_address(host)
                    ip = getattr(ip, "ipv4_mapped", None) or ip
                    if (loopback and ip.is_loopback) or any(ip in network for network in _AT_HOME):
                        addresses.append((str(ip), port))
    return addresses[:MOST_ADDRESSES]


def own_addresses(used: str | None) -> list[str]:
    """This device's addresses. used: the one from which it reaches the server."""
    found = [used] if used else []
    for host in _ASKED:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((host, 9))
            found.append(asking.getsockname()[0])
    return list(dict.fromkeys(found))
