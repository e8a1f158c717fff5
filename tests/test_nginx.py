"""Behind a real nginx: X-Accel-Redirect downloads with our ETag and ranges, and the client's true address."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.test_kill import Phone
from tests.harness import Client
from tests.http_session import http_session
from tests.parts import program
from tests.process import ServerProcess

CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream}; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
    }}
    location /_files/ {{ internal; alias {files}/; etag off; add_header ETag $upstream_http_etag; }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[ServerProcess, str]]:
    """A server behind nginx: (the server, nginx's address)."""
    nginx = program("nginx")
    with ServerProcess(tmp_path / "data", X_ACCEL_PREFIX="/_files/",
                       TRUSTED_PROXIES="127.0.0.1") as server:
        port = free_port()
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(
            folder=tmp_path, port=port, upstream=server.url, files=server.data_root / "files"))
        tmp_path.chmod(0o755)
        process = subprocess.Popen([nginx, "-c", str(configuration)], stderr=subprocess.PIPE)
        try:
            asyncio.run(_until_listening(port))
            yield server, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def test_downloads_through_nginx_have_our_etag_ranges_and_name(proxied: tuple[ServerProcess, str]) -> None:
    server, address = proxied
    content = os.urandom(9 * 1024 * 1024)
    async with http_session() as http:
        phone = Phone(server, http)
        phone.client = Client(http, address)
        await phone.register("asha")
        file = await phone.call("POST", "/files/init", {"name": "फ़िल्म 1.bin", "size": len(content)})
        chunk = file["upload"]["chunk_size"]
        for index in range(2):
            part = content[index * chunk : (index + 1) * chunk]
            await phone.call("PUT", f"/files/{file['id']}/chunk?index={index}", data=part)
        done = await phone.call("POST", f"/files/{file['id']}/complete")

        path = f"/files/{file['id']}/download"
        whole = await phone.client.get(path)
        assert hashlib.sha256(whole.body).digest() == hashlib.sha256(content).digest()
        assert whole.headers["ETag"] == done["etag"]
        assert "X-Accel-Redirect" not in whole.headers
        assert "filename*=UTF-8''%E0%A4%AB" in whole.headers["Content-Disposition"]
        part_answer = await phone.client.get(path, headers={"Range": "bytes=5000000-5000009"})
        assert part_answer.status == 206
        assert part_answer.body == content[5_000_000:5_000_010]
        stale = await phone.client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
        assert (stale.status, len(stale.body)) == (200, len(content))
        unchanged = await phone.client.get(path, headers={"If-None-Match": done["etag"]})
        assert (unchanged.status, unchanged.body) == (304, b"")
        direct = await phone.client.get(f"{address}/_files/x")
        assert direct.status == 404


async def test_sessions_show_the_address_behind_the_proxy_and_not_what_the_client_claims(
    proxied: tuple[ServerProcess, str]
) -> None:
    server, address = proxied
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as http:
        phone = Phone(server, http)
        phone.client = Client(http, address, {"X-Forwarded-For": "203.0.113.9"})
        await phone.register("asha")
        (session,) = (await phone.client.get("/auth/sessions")).json["items"]
        assert session["ip"] == "127.0.0.2"


async def test_a_websocket_passes_through_nginx(proxied: tuple[ServerProcess, str]) -> None:
    server, address = proxied
    async with http_session() as http:
        phone = Phone(server, http)
        phone.client = Client(http, address)
        await phone.register("asha")
        async with http.ws_connect(address.replace("http", "ws") + "/api/v1/ws", headers=phone.client.headers) as ws:
            assert (await ws.receive_json(timeout=10))["type"] == "ready"
            await ws.send_json({"type": "ping"})
            assert (await ws.receive_json(timeout=10))["type"] == "pong"
