"""What a proxy in front does to uploads, downloads, sockets and other origins' requests: each is really sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from hypersend_server.doctor.findings import Area
from hypersend_server.doctor.outside import Reached
from hypersend_server.probe import SCHEME, Arrival, probe_content

PAUSE_S = 4.0
PART_BYTES = 256 * 1024
TRANSFER_S = 180.0
FOREIGN = "https://elsewhere.invalid"

BODY_FIX = "nginx, in the location that passes to the server:\n    client_max_body_size 0;"
STREAM_FIX = "nginx, in the location that passes to the server:\n    proxy_http_version 1.1;\n    " \
             "proxy_request_buffering off;"
UPGRADE_FIX = """nginx, in http and in the location that passes to the server:
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;"""
IDLE_FIX = "nginx, in the location that passes to the server:\n    proxy_read_timeout 1h;\n    proxy_send_timeout 1h;"
ACCEL_FIX = """nginx, beside the location that passes to the server:
    location {prefix}/ {{
        internal;
        alias {root}/files/;
        etag off;
        add_header ETag $upstream_http_etag;
    }}
its worker must be in the group that owns DATA_ROOT; or leave X_ACCEL_PREFIX empty."""


@dataclass(frozen=True, slots=True)
class Line:
    """The way in. file_id: of the probe's file, 26 of 0-9 a-z."""

    http: aiohttp.ClientSession
    url: str
    token: str
    file_id: str
    reached: Reached

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"{SCHEME} {self.token}"}

    @property
    def ssl(self) -> bool:
        return self.reached.verify

    @property
    def file_url(self) -> str:
        return f"{self.url}/api/v1/files/{self.file_id}"


async def check_upload(line: Line, chunk_bytes: int, area: Area) -> None:
    """Send as much as the largest chunk, in two halves with a pause between them."""
    async def body() -> AsyncIterator[bytes]:
        part, sent = bytes(PART_BYTES), 0
        while sent < chunk_bytes:
            if sent == PART_BYTES:
                await asyncio.sleep(PAUSE_S)
            yield part[: min(PART_BYTES, chunk_bytes - sent)]
            sent += min(PART_BYTES, chunk_bytes - sent)

    shown = f"{chunk_bytes / 2**20:.0f} MiB"
    try:
        async with line.http.put(
            f"{line.file_url}/chunk?index=0", data=body(), ssl=line.ssl,
            headers={**line.headers, "Content-Length": str(chunk_bytes), "Content-Type": "application/octet-stream"},
            timeout=aiohttp.ClientTimeout(total=TRANSFER_S),
        ) as answer:
            status, text = answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        area.problem(f"a chunk of {shown} does not get through: {type(error).__name__}", BODY_FIX)
        return
    if status == 413:
        area.problem(f"the proxy refuses a chunk of {shown} (413): uploads fail", BODY_FIX)
        return
    try:
        arrived = msgspec.json.decode(text, type=Arrival)
    except msgspec.MsgspecError:
        area.problem(f"a chunk of {shown} is answered {status} by something between here and the server", BODY_FIX)
        return
    if arrived.received_bytes != chunk_bytes:
        area.problem(f"of {chunk_bytes} bytes of a chunk {arrived.received_bytes} arrived",
                     "Switch off what changes bodies on their way (a filter, a web application firewall).")
    elif arrived.longest_pause_s < PAUSE_S / 2:
        area.problem("the proxy gathers a whole request before it passes it on: uploads go to its disk first, and show "
                     "no progress", STREAM_FIX)
    else:
        area.ok(f"a chunk of {shown} gets through, and streams")


async def check_socket(line: Line, idle_s: float, area: Area) -> None:
    """A WebSocket, silent for `idle_s`: the server's heartbeat comes every 30 s."""
    url = line.url.replace("http", "ws", 1) + "/api/v1/ws"
    try:
        async with line.http.ws_connect(url, headers=line.headers, ssl=line.ssl, compress=0) as socket:
            await _said_back(socket, "one")
            began = asyncio.get_running_loop().time()
            message = None
            try:
                message = await socket.receive(idle_s)
            except TimeoutError:
                await _said_back(socket, "two")
            if message is not None:
                held = asyncio.get_running_loop().time() - began
                area.problem(f"an idle WebSocket is cut after {held:.0f} s; the server's heartbeat comes every 30 s",
                             IDLE_FIX)
                return
    except aiohttp.WSServerHandshakeError as error:
        area.problem(f"a WebSocket cannot be opened (HTTP {error.status}): the app stays without news", UPGRADE_FIX)
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        area.problem(f"a WebSocket does not work: {error or type(error).__name__}", f"{UPGRADE_FIX}\n{IDLE_FIX}")
    else:
        area.ok(f"a WebSocket opens and stays open for {idle_s:.0f} s of silence")


async def _said_back(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
    """Raises: ConnectionError where it is not said back; TimeoutError."""
    await socket.send_str(text)
    message = await socket.receive(20)
    if message.data != text:
        raise ConnectionError("it was closed")


async def check_download(line: Line, x_accel_prefix: str, data_root: str, area: Area) -> None:
    """The probe's file, whole and in part, compared with what was sent."""
    if not line.reached.seen.serves_files:
        return
    fix = ACCEL_FIX.format(prefix=x_accel_prefix, root=data_root) if x_accel_prefix else (
        "The proxy must pass Range, If-Range and ETag on, and change no bodies:\n"
        "    proxy_set_header Range $http_range; proxy_set_header If-Range $http_if_range;\n    gzip off;")
    content = probe_content()
    url = f"{line.file_url}/download"
    way = "X-Accel-Redirect" if x_accel_prefix else "the server itself"
    try:
        status, headers, whole = await _get(line, url)
        if "X-Accel-Redirect" in headers:
            area.problem("X_ACCEL_PREFIX is set, and what is in front is no nginx that serves the files: downloads are "
                         "empty", "X_ACCEL_PREFIX=")
            return
        if status != 200 or whole != content:
            sort = f"is answered {status}" if status != 200 else f"comes with other bytes ({len(whole)})"
            area.problem(f"a download by way of {way} {sort}", fix)
            return
        etag = headers.get("ETag", "")
        wrong: list[str] = []
        status, _, part = await _get(line, url, Range="bytes=1000-1099")
        if (status, part) != (206, content[1000:1100]):
            wrong.append(f"a range is answered {status} with {len(part)} bytes, so downloads cannot be resumed")
        if not etag or etag.startswith("W/"):
            wrong.append("the ETag is lost or weakened, so downloads cannot be resumed safely")
        elif not wrong:
            status, _, part = await _get(line, url, Range="bytes=1000-1099", **{"If-Range": etag})
            if (status, part) != (206, content[1000:1100]):
                wrong.append(f"a range of our own ETag (If-Range) is answered {status}: each resume starts anew")
        if "attachment" not in headers.get("Content-Disposition", ""):
            wrong.append("Content-Disposition is lost, so browsers would open what people send")
        for what in wrong:
            area.problem(f"{what} ({way})", fix)
        if not wrong:
            area.ok(f"downloads come whole and in ranges, by way of {way}")
    except (aiohttp.ClientError, TimeoutError) as error:
        area.problem(f"a download by way of {way} breaks off: {type(error).__name__}", fix)
    finally:
        await _remove(line)


async def _get(line: Line, url: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
    async with line.http.get(
        url, headers={**line.headers, **headers}, ssl=line.ssl, timeout=aiohttp.ClientTimeout(total=TRANSFER_S),
        auto_decompress=False,
    ) as answer:
        return answer.status, answer.headers, await answer.read()


async def _remove(line: Line) -> None:
    try:
        async with line.http.delete(line.file_url, headers=line.headers, ssl=line.ssl):
            return
    except (aiohttp.ClientError, TimeoutError):
        return  # `gc` removes it in a day


async def check_origins(line: Line, origins: Sequence[str], area: Area) -> None:
    """Preflights as browsers send them. origins: those that must be let in; FOREIGN must not."""
    for origin in [*origins, FOREIGN]:
        try:
            async with line.http.options(
                f"{line.file_url}/chunk?index=0", ssl=line.ssl, headers={
                    "Origin": origin, "Access-Control-Request-Method": "PUT",
                    "Access-Control-Request-Headers": "authorization,content-digest"},
            ) as answer:
                allowed = answer.headers.getall("Access-Control-Allow-Origin", [])
                named = answer.headers.get("Access-Control-Allow-Headers", "").lower()
        except (aiohttp.ClientError, TimeoutError) as error:
            area.problem(f"a browser's question before a request (OPTIONS) is not answered: {type(error).__name__}",
                         "The proxy must pass OPTIONS on to the server.")
            return
        if origin == FOREIGN and allowed:
            area.problem(f"pages of any origin may call the API: Access-Control-Allow-Origin is {allowed[0]}",
                         "Remove `add_header Access-Control-Allow-Origin …` from the proxy; name origins in "
                         "ALLOWED_ORIGINS.")
        elif origin != FOREIGN and (len(allowed) != 1 or allowed[0] != origin or "content-digest" not in named):
            sort = "are let in twice, once by the proxy" if len(allowed) > 1 else "may not call the API"
            area.problem(f"pages of {origin} {sort}",
                         "Start the server again since PUBLIC_URL or ALLOWED_ORIGINS were changed; remove `add_header "
                         "Access-Control-…` from the proxy, and let OPTIONS pass.")
    if not area.findings:
        area.ok(f"browsers are told the right origins ({', '.join(origins) or 'none but its own'})")
