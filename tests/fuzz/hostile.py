"""What a server that is broken, or that means ill, may answer; and a server that answers it byte for byte."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from hypersend_server.errors import ERRORS

NUMBERS = st.one_of(
    st.integers(), st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**70, 10**400]),
    st.floats())
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\ud800", "\x00", "a\r\nb: c", "../../x", "http://[", "https://x:99999/", "/", "%", "é" * 300,
                     "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "2026-01-01T00:00:00", "٣"]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(["id", "type"])), inner,
                                                 max_size=4)), max_leaves=10)
DEEP = st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900])
BYTES = st.one_of(st.binary(max_size=200), st.sampled_from([b"", b"{", b"null", b"\xff\xfe", b"NaN", b"1e999"]))


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document where something stands."""
    found = [path] if path else []
    inside: Any = document.items() if isinstance(document, dict) else ()
    for name, value in enumerate(document) if isinstance(document, list) else inside:
        found += places(value, (*path, name))
    return found


@st.composite
def changed(draw: st.DrawFn, *documents: Any) -> Any:
    """One of these documents with something in one to three of its places that does not belong there, or nothing."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        at = places(document)
        if not at:
            return draw(JSON)
        *path, last = draw(st.sampled_from(at))
        holder = document
        for name in path:
            holder = holder[name]
        if isinstance(holder, dict) and draw(st.integers(0, 5)) == 0:
            del holder[last]
        else:
            holder[last] = draw(JSON)
    return document


class Said(bytes):
    """Bytes that show only how they begin."""

    def __repr__(self) -> str:
        return f"{bytes(self[:3000])!r} of {len(self)}"


def told(*documents: Any) -> st.SearchStrategy[bytes]:
    """Bodies and frames: near one of these documents, or near nothing."""
    return st.one_of(
        changed(*documents).map(encoded), changed(*documents).map(encoded), JSON.map(encoded), DEEP, BYTES).map(Said)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()  # with NaN and Infinity, as many servers write them


STATUSES = st.one_of(st.just(200), st.just(200), st.integers(200, 599), st.sampled_from([201, 202, 204, 206, 301, 401]))
HEADERS = st.lists(st.one_of(
    st.tuples(st.just("Retry-After"), st.sampled_from(["-1", "9" * 400, "nan", "1e9", "soon", "0"])),
    st.tuples(st.just("Location"), st.sampled_from(
        ["", "//", "http://[", "ftp://x/y", "http://", "https://x:99999/", "/loop", "?", "http:///x", "\x80",
         "mailto:a", "http://a..b/", "http://\xff/"])),
    st.tuples(st.just("Content-Type"), st.sampled_from(
        ["application/json", "application/problem+json", "text/html", "application/json; charset=nonsense", ";;", ""])),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "nonsense"])),
    st.tuples(st.just("Content-Range"), st.sampled_from(["", "bytes 0-9/10", "bytes */*", "bytes -5-/x", "x"])),
    st.tuples(st.just("ETag"), st.sampled_from(['"x"', "x", 'W/"', ""])),
    st.tuples(st.just("Set-Cookie"), st.sampled_from(["a=b", "=;=;", "a=\x80"])),
    st.tuples(st.sampled_from(["X-Request-Id", "Server"]), st.sampled_from(["", "\x80", "a" * 9000])),
), max_size=3)
LENGTHS = st.sampled_from(["true", "true", "true", "none", "-1", "²", "1" * 5000, "chunked", "0", "99"])
FIRST_LINES = st.sampled_from(
    ["", "HTTP/1.1", "HTTP/1.1 ²00 OK", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/2 200 OK", "SSH-2.0-x",
     "HTTP/1.1 -5 x", "HTTP/1.1 99999 x", "HTTP/1.1 " + "9" * 5000 + " x", "HTTP/1.1 000 x", "HTTP/1.1 101 x",
     "x" * 70_000])


@st.composite
def answers(draw: st.DrawFn, *documents: Any, any_line: bool = True) -> bytes:
    """A whole HTTP answer, the connection's end included."""
    body = draw(told(*documents))
    line = f"HTTP/1.1 {draw(STATUSES)} Said"
    if any_line and draw(st.integers(0, 7)) == 0:
        line = draw(FIRST_LINES)
    headers = [f"{name}: {value}" for name, value in draw(HEADERS)]
    if not any(header.startswith("Content-Type") for header in headers):
        headers.append("Content-Type: application/json")
    headers.append("Connection: close")
    length = draw(LENGTHS)
    if length == "chunked":
        headers.append("Transfer-Encoding: chunked")
        size = draw(st.sampled_from([f"{len(body):x}", "-5", "zz", "ffffffffff", "", "5" * 5000]))
        body = size.encode() + b"\r\n" + body + draw(st.sampled_from([b"\r\n0\r\n\r\n", b"", b"0"]))
    elif length != "none":
        headers.append(f"Content-Length: {len(body) if length == 'true' else length}")
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.sampled_from([0, 0, 0, 1, 100]))
    return Said(interim + "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body)


def answer_of(document: Any, status: int = 200) -> bytes:
    """As a healthy server says it."""
    body, kind = encoded(document), b"json" if status < 400 else b"problem+json"
    return (b"HTTP/1.1 %d Said\r\nContent-Type: application/%s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        status, kind, len(body), body))


@st.composite
def refusals(draw: st.DrawFn, *codes: str) -> bytes:
    """A refusal as the contract has it, of one of these codes or of any, at whatever time."""
    code = draw(st.sampled_from(codes or tuple(ERRORS)))
    kind = ERRORS[code]
    return Said(answer_of({
        "type": "about:blank", "title": kind.title, "status": kind.status, "detail": "d", "code": code,
        "retryable": draw(st.sampled_from([kind.retryable, kind.retryable, True, False])), "request_id": "r",
        "have": draw(st.sampled_from([0, 5, 999, 1000, 2500])),
        "missing": draw(st.sampled_from([[[0, 2]], [[1, 1]], []])),
    }, kind.status))


@dataclass
class Raw:
    """A server that says `answers` in turn, the last one for ever, whatever it is asked."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)

    def answer(self, line: str) -> bytes:
        """line: the request's first, as `GET /path HTTP/1.1`."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")]
            await reader.readexactly(lengths[0] if lengths and b"expect:" not in head.lower() else 0)
            writer.write(self.answer(head.split(b"\r\n")[0].decode()))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # it went away
        finally:
            writer.close()


@dataclass
class Routed(Raw):
    """A server that has answers of their own for each kind of call, and says them round and round.

    said: what the first line of a request has in it → its answers; the first that fits.
    """

    said: dict[str, list[bytes]] = field(default_factory=dict)

    def answer(self, line: str) -> bytes:
        said = next(said for mark, said in self.said.items() if mark in line)
        said.append(said.pop(0))
        return said[-1]


@asynccontextmanager
async def raw_server(raw: Raw | None = None) -> AsyncIterator[Raw]:
    raw = raw or Raw()
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
