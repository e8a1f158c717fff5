"""A real nginx in front of a real server, configured right or deliberately wrong, and doctor run against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.parts import program
from tests.process import ServerProcess, command

RIGHT = {
    "body": "client_max_body_size 0;",
    "stream": "proxy_http_version 1.1; proxy_request_buffering off;",
    "address": "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "upgrade": "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;",
    "idle": "proxy_read_timeout 1h; proxy_send_timeout 1h;",
    "other": "",
    "files": "internal; alias {files}/; etag off; add_header ETag $upstream_http_etag;",
}
CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port}{tls};
    {certificate}
    location / {{
      proxy_pass {upstream}; proxy_set_header Host $http_host;
      {body} {stream} {address} {upgrade} {idle} {other}
    }}
    location /_files/ {{ {files} }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


@contextmanager
def nginx(folder: Path, server: ServerProcess, *, port: int = 0, certificate: tuple[Path, Path] | None = None,
          **parts: str) -> Iterator[str]:
    """Its address. parts: those of RIGHT that are to be otherwise. certificate: chain and key."""
    port = port or free_port()
    chosen = {**RIGHT, **parts}
    text = CONFIGURATION.format(
        folder=folder, port=port, upstream=server.url, tls=" ssl" if certificate else "",
        certificate=f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};" if certificate else "",
        **{name: value.format(files=server.data_root / "files") if name == "files" else value
           for name, value in chosen.items()})
    path = folder / "nginx.conf"
    path.write_text(text)
    folder.chmod(0o755)
    with (folder / "nginx.out").open("wb") as said:
        process = subprocess.Popen([program("nginx"), "-c", str(path)], stdout=said, stderr=said)
    try:
        asyncio.run(_until_listening(port))
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


class Diagnosis:
    def __init__(self, status: int, report: dict[str, Any]) -> None:
        self.status = status
        self.findings: list[dict[str, Any]] = report["findings"]

    def of(self, area: str, level: str | None = None) -> list[dict[str, Any]]:
        return [found for found in self.findings if found["area"] == area and level in (None, found["level"])]

    def problems(self) -> set[str]:
        return {found["area"] for found in self.findings if found["level"] == "problem"}


def diagnose(data_root: Path, *arguments: str, **settings: str) -> Diagnosis:
    """Run `hypersend-server doctor --json` as an operator does."""
    done = command(data_root, "doctor", "--json", *arguments, timeout_s=300, **settings)
    assert done.stdout, done.stderr
    return Diagnosis(done.returncode, json.loads(done.stdout))
