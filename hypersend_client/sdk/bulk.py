"""Bodies of any size, over blocking sockets in threads.

Hashing, encryption, copying and the disk then run beside each other and beside the event loop, which an app
needs for its screen; passing the same bytes through the loop costs about a third of the speed. What a request
means (address, token, refresh, errors) is the `Transport`'s; only the bytes go another way.

HTTP/1.1, one request at a time on a connection that is kept for the next one. Bodies that are received have a
Content-Length; small ones, such as problem documents, may be chunked.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from io import BufferedReader
from types import MappingProxyType
from typing import Any, TypeVar, cast

import aiohappyeyeballs
from yarl import URL

from hypersend_client.sdk import lines
from hypersend_client.sdk.answers import parse_json, refusal_of, translate
from hypersend_client.sdk.errors import ConnectionFailed, NotHyperSend, TlsFailed
from hypersend_client.sdk.transfer import in_thread
from hypersend_client.sdk.transport import Query, Transport, frugal_socket

T = TypeVar("T")

MAX_SMALL_BYTES = 1024 * 1024
MAX_LINE_BYTES = 65536
MAX_REDIRECTS = 5
MAX_INTERIM = 16
LENGTH_DIGITS = 18
BUFFER_BYTES = 64 * 1024
ANY_STATUS = frozenset(range(200, 600))
OTHER_SIZE = "the answer has another length than it says"


class Stopped(Exception):
    """The caller went away."""


class ElsewhereFailed(ConnectionFailed):
    """Not our server but the object store to which it sent us cannot be used."""


@dataclass(slots=True)
class Response:
    """remaining: bytes of the body that are still to come; None where that is not said. is_early: it came
    before the request's own body was sent."""

    status: int
    reason: str
    headers: Message
    remaining: int | None
    wire: Wire
    is_early: bool = False

    def read_into(self, view: memoryview) -> int:
        """Whatever comes next, at least a byte. Blocking. Raises: ConnectionFailed."""
        if self.remaining is None:
            raise ConnectionFailed("the answer does not say how long it is")
        count = self.wire.read_into(view[: self.remaining])
        if not count:
            raise ConnectionFailed(OTHER_SIZE)
        self.remaining -= count
        return count

    @property
    def is_whole(self) -> bool:
        """Read to its end, on a connection that may be used again."""
        return self.remaining == 0 and not self.is_early and (self.headers.get("Connection") or "").lower() != "close"


class Wire:
    """A connected socket, used by one thread at a time; `stop` may be called from anywhere."""

    def __init__(self, url: URL, sock: socket.socket) -> None:
        self.url = url
        self.stopped = threading.Event()
        self._sock = sock
        self._file: BufferedReader | None = None

    def begin(self, context: ssl.SSLContext | None) -> None:
        """Encrypt the connection where it shall be. Blocking, as all below. Raises: TlsFailed, ConnectionFailed."""
        if self._file is not None:
            return
        with self._network():
            if context is not None:
                self._sock = context.wrap_socket(
                    self._sock, server_hostname=self.url.host, do_handshake_on_connect=False
                )
                if self.stopped.is_set():
                    raise Stopped
                self._sock.do_handshake()
            self._file = cast(BufferedReader, self._sock.makefile("rb", BUFFER_BYTES))

    def request(self, method: str, headers: Mapping[str, str]) -> None:
        lines = [f"{method} {self.url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise NotHyperSend(str(self.url.origin()), "it names a header with a line break")
        self.send(memoryview("\r\n".join([*lines, "", ""]).encode("latin-1", "replace")))

    def send(self, view: memoryview) -> None:
        while view:
            with self._network():
                view = view[self._sock.send(view) :]

    def response(self, method: str) -> Response:
        """The head of an answer; 100 is one too."""
        assert self._file is not None
        with self._network():
            line = self._file.readline(MAX_LINE_BYTES)
            words = line.decode("latin-1").split(None, 2)
            if not line:
                raise ConnectionFailed(f"{self.url.origin()} closed the connection")
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or not _is_status(words[1]):
                raise NotHyperSend(str(self.url.origin()), "it does not speak HTTP")
            headers = http.client.parse_headers(self._file)
        status, length = int(words[1]), headers.get("Content-Length", "")
        remaining = int(length) if length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS else None
        if method == "HEAD" or status in (204, 304) or status < 200:
            remaining = 0
        if words[0] == "HTTP/1.0" and "Connection" not in headers:
            headers["Connection"] = "close"
        return Response(status, words[2].strip() if len(words) > 2 else "", headers, remaining, self)

    def read_into(self, view: memoryview) -> int:
        assert self._file is not None
        with self._network():
            return self._file.readinto1(view)

    def read_all(self, response: Response) -> bytes:
        """A small body, whole. Raises: NotHyperSend where it is not small."""
        assert self._file is not None
        with self._network():
            if "chunked" in (response.headers.get("Transfer-Encoding") or "").lower():
                return self._read_chunked(self._file)
            wanted = MAX_SMALL_BYTES + 1 if response.remaining is None else response.remaining
            data = self._file.read(min(wanted, MAX_SMALL_BYTES + 1))
        if len(data) > MAX_SMALL_BYTES:
            raise NotHyperSend(str(self.url.origin()), "the answer has no end")
        if response.remaining is not None:
            if len(data) < response.remaining:
                raise ConnectionFailed(OTHER_SIZE)
            response.remaining = 0
        return data

    def _read_chunked(self, file: BufferedReader) -> bytes:
        data = b""
        while True:
            text = file.readline(MAX_LINE_BYTES).split(b";")[0].strip()
            try:
                size = int(text, 16)
            except ValueError:
                raise ConnectionFailed(OTHER_SIZE) from None
            if size == 0:
                return data  # what may follow is dropped with the connection
            if size < 0 or len(data) + size > MAX_SMALL_BYTES:
                raise NotHyperSend(str(self.url.origin()), "the answer has no end")
            data += file.read(size)
            file.readline(MAX_LINE_BYTES)

    def stop(self) -> None:
        """Let whatever blocks fail now."""
        self.stopped.set()
        self.cut()

    @property
    def sock(self) -> socket.socket:
        return self._sock

    def cut(self) -> None:
        """As if the network had done it."""
        try:
            # Not SSLSocket's own, which also takes the encryption away from under the thread.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._sock.close()

    @contextmanager
    def _network(self) -> Iterator[None]:
        if self.stopped.is_set():
            raise Stopped
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if self.stopped.is_set():
                raise Stopped from None
            if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                raise ConnectionFailed(f"the connection to {self.url.origin()} was cut") from error
            raise translate(error, str(self.url.origin())) from error


class BulkConnection:
    """Requests to one server, one after the other, and to the object store it sends us to.

    pool: its threads are blocked for as long as bytes move.
    """

    def __init__(self, transport: Transport, pool: ThreadPoolExecutor) -> None:
        self._transport = transport
        self._pool = pool
        self._wires: dict[URL, Wire] = {}

    async def put(
        self,
        path: str,
        *,
        query: Query,
        headers: Mapping[str, str],
        length: int,
        send: Callable[[Wire], None],
    ) -> Any:
        """send: called in the thread to send exactly `length` bytes. Answers the JSON.

        With `Expect: 100-continue` among the headers nothing is sent before the server wants it.
        Raises: as `Transport.call`, and what `send` raises.
        """
        sent = {"Content-Type": "application/octet-stream", "Content-Length": str(length), **headers}
        _, data = await self._request("PUT", path, query, sent, _sender(send), lambda response: b"", frozenset())
        try:
            return parse_json(data)
        except ValueError:
            raise NotHyperSend(self._transport.url, "the answer is no JSON") from None

    async def put_elsewhere(
        self, url: str, *, headers: Mapping[str, str], length: int, send: Callable[[Wire], None]
    ) -> int:
        """A signed request to the object store; the status it answers with, whatever it is.

        Raises: ElsewhereFailed where it does not answer, and what `send` raises.
        """
        sent = {**headers, "Content-Length": str(length)}
        response, _ = await self._request(
            "PUT", url, {}, sent, _sender(send), lambda response: response.wire.read_all(response), ANY_STATUS)
        return response.status

    async def get(
        self,
        path: str,
        *,
        query: Query = MappingProxyType({}),
        headers: Mapping[str, str],
        receive: Callable[[Response], T],
        allow: frozenset[int] = frozenset(),
    ) -> T:
        """receive: called in the thread with an answer of 2xx or `allow`; its result. Redirects are followed, without
        the token to another origin.
        """
        found: list[T] = []

        def take(response: Response) -> bytes:
            found.append(receive(response))
            return b""

        def work(wire: Wire, response: Response | None) -> Response:
            return wire.response("GET")

        await self._request("GET", path, query, headers, work, take, allow)
        return found[0]

    async def close(self) -> None:
        wires = list(self._wires.values())
        self._wires.clear()
        for wire in wires:
            wire.stop()

        def work() -> None:
            for wire in wires:
                wire.close()

        if wires:  # done to its end also where the caller is cancelled now
            await in_thread(self._pool, work)

    # Inside

    async def _request(
        self,
        method: str,
        path: str,
        query: Query,
        headers: Mapping[str, str],
        work: Callable[[Wire, Response | None], Response],
        take: Callable[[Response], bytes],
        allow: frozenset[int],
    ) -> tuple[Response, bytes]:
        transport = self._transport
        url = transport.absolute(path)
        if query:  # a signed one must stay as it is, letter by letter
            url = url.update_query({name: str(value) for name, value in query.items() if value is not None})
        auth = transport.auth if transport.is_own(url) else None
        token, renewed, redirects = await auth.token() if auth is not None else "", False, 0
        while True:
            is_own = transport.is_own(url)
            sent = {"Host": url.host_port_subcomponent or "", **transport.headers, **headers}
            if auth is not None and is_own:
                sent["Authorization"] = f"Bearer {token}"
            if not is_own:  # it has another ETag for the same bytes; ours was compared before we were sent here
                sent.pop("If-Range", None)

            def run(wire: Wire, sent: dict[str, str] = sent) -> tuple[Response, bytes]:
                wire.begin(transport.ssl_context() if wire.url.scheme == "https" else None)
                wire.request(method, sent)
                response = work(wire, wire.response(method) if "Expect" in headers else None)
                for _ in range(MAX_INTERIM):
                    if response.status >= 200:
                        break
                    response = wire.response(method)
                else:
                    raise NotHyperSend(str(wire.url.origin()), "it never comes to its answer")
                if response.status in allow or (200 <= response.status < 300 and method == "GET"):
                    return response, take(response)
                return response, wire.read_all(response)

            try:
                response, data = await self._in_thread(url, run)
            except (ConnectionFailed, TlsFailed, NotHyperSend) as error:
                if is_own:
                    raise
                raise ElsewhereFailed(str(error)) from error
            if response.status in allow or 200 <= response.status < 300:
                return response, data
            if response.status in (301, 302, 303, 307, 308) and method == "GET" and redirects < MAX_REDIRECTS:
                redirects += 1
                url = _joined(url, response.headers.get("Location") or "")
                continue
            if not is_own:
                raise ElsewhereFailed(f"{url.origin()} answered {response.status}")
            problem: Any = None
            if response.headers.get_content_type() in ("application/problem+json", "application/json"):
                try:
                    problem = parse_json(data)
                except ValueError:
                    problem = None
            names = {name: str(value) for name, value in response.headers.items()}
            refusal = refusal_of(response.status, response.reason, http_headers(names), problem)
            if auth is None or refusal.status != 401 or renewed:
                raise refusal
            renewed = True
            if refusal.code == "token_expired":
                token = await auth.renew(token)
                continue
            await auth.ended(token, refusal.code)
            token = await auth.token()

    async def _in_thread(self, url: URL, run: Callable[[Wire], tuple[Response, bytes]]) -> tuple[Response, bytes]:
        wire = self._wires.pop(url.origin(), None)
        if wire is None:
            wire = Wire(url, await self._connect(url))
        wire.url = url
        is_kept = False
        watching = asyncio.create_task(lines.watch(wire.sock, wire.cut))
        future = asyncio.get_running_loop().run_in_executor(self._pool, run, wire)
        # Where nobody is left to be told, which may be before the thread has ended.
        future.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            response, data = await asyncio.shield(future)
            is_kept = response.is_whole
            return response, data
        except asyncio.CancelledError:
            wire.stop()
            await asyncio.wait({future})
            raise
        finally:
            watching.cancel()
            if is_kept:
                self._wires[url.origin()] = wire
            else:
                wire.close()

    async def _connect(self, url: URL) -> socket.socket:
        """A connected socket, by whichever of the server's addresses answers first."""
        transport = self._transport
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(transport.connect_s):
                found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
                sock = await aiohappyeyeballs.start_connection(
                    found, happy_eyeballs_delay=0.25, interleave=1, socket_factory=frugal_socket
                )
        except TimeoutError:
            raise ConnectionFailed(f"{url.origin()} does not answer", reason="timeout", sent=False) from None
        except (socket.gaierror, ValueError) as error:  # ValueError: a name that cannot even be asked for
            raise ConnectionFailed(f"the name of {url.origin()} is not known", reason="name", sent=False) from error
        except OSError as error:
            raise ConnectionFailed(
                f"{url.origin()} cannot be reached: {error}", reason="refused", sent=False
            ) from error
        sock.settimeout(transport.stall_s)
        lines.be_patient(sock)
        lines.ask_when_idle(sock)
        return sock


def _sender(send: Callable[[Wire], None]) -> Callable[[Wire, Response | None], Response]:
    """What a PUT does once its head is sent. The second argument: an answer that came before."""

    def work(wire: Wire, response: Response | None) -> Response:
        if response is not None and response.status != 100:
            response.is_early = True
            return response
        try:
            send(wire)
        except ConnectionFailed as error:
            if error.reason == "cut":  # refused before the end: the reason may have arrived all the same
                with suppress(ConnectionFailed):
                    response = wire.response("PUT")
                    response.is_early = True
                    return response
            raise
        return wire.response("PUT")

    return work


def _joined(url: URL, location: str) -> URL:
    """Where a redirect leads. Raises: NotHyperSend."""
    try:
        found = url.join(URL(location, encoded=True))
        if found.scheme not in ("http", "https") or not found.host:
            raise ValueError("it is no web address")
        found.origin()
        return found
    except ValueError as error:
        raise NotHyperSend(str(url.origin()), f"it leads nowhere: {error}") from None


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit()


def http_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Names as they are usually written."""
    return {name.title(): value for name, value in headers.items()}
