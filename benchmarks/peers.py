"""Other servers that take large uploads, on loopback beside ours. Their packages are installed in `.cache`.

copyparty and tuspyserver come from PyPI, `@tus/server` from npm, tusd from its source; the environment variable TUSD
names another binary of it. A peer that cannot be had is left out, and the report says so.
"""

from __future__ import annotations

import contextlib
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.install import go_program, named, node_package, node_program, python_with
from benchmarks.processes import Server, free_port, serving

TUSD = "github.com/tus/tusd/v2/cmd/tusd@v2.9.1"
COPYPARTY = "copyparty==1.20.26"
TUS_SERVER = ("@tus/server@2.4.5", "@tus/file-store@2.1.1")
TUSPYSERVER = ("tuspyserver==4.4.3", "uvicorn[standard]==0.54.0")

_TUS_SCRIPT = """\
import {Server} from '@tus/server'
import {FileStore} from '@tus/file-store'
const [port, directory] = process.argv.slice(2)
new Server({path: '/files', datastore: new FileStore({directory})}).listen({host: '127.0.0.1', port: Number(port)})
"""

_TUSPYSERVER_SCRIPT = """\
import sys
import uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router
port, folder = sys.argv[1:]
app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=folder))
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
"""


class UploadPeer(Protocol):
    name: str

    def serve(self, where: Path) -> contextlib.AbstractContextManager[Server]: ...

    def streams(self, server: Server, sizes: list[int]) -> list[list[dict[str, Any]]]:
        """One upload a stream, in one request each."""
        ...


class Copyparty:
    name = "copyparty"

    def __init__(self, python: Path) -> None:
        self._python = python

    @contextlib.contextmanager
    def serve(self, where: Path) -> Iterator[Server]:
        (where / "files").mkdir()
        port = free_port()
        command = [str(self._python), "-m", "copyparty", "-q", "-i", "127.0.0.1", "-p", str(port),
                   "-v", f"{where / 'files'}::rwd"]
        env = {"HOME": str(where), "XDG_CONFIG_HOME": str(where / "config")}
        with serving(command, port, where, env=env) as server:
            yield server

    def streams(self, server: Server, sizes: list[int]) -> list[list[dict[str, Any]]]:
        return [[{"method": "PUT", "path": f"/file-{n}.bin", "headers": {}, "size": size}]
                for n, size in enumerate(sizes)]


class Tus:
    """The tus 1.0 protocol: an upload is created, then one PATCH brings its bytes."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._command = command

    @contextlib.contextmanager
    def serve(self, where: Path) -> Iterator[Server]:
        (where / "files").mkdir()
        port = free_port()
        command = [part.format(port=port, folder=where / "files") for part in self._command]
        with serving(command, port, where) as server:
            yield server

    def streams(self, server: Server, sizes: list[int]) -> list[list[dict[str, Any]]]:
        return [[{"method": "PATCH", "path": self._create(server, size), "size": size, "headers": {
            "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}}]
            for size in sizes]

    def _create(self, server: Server, size: int) -> str:
        request = urllib.request.Request(server.url + "/files/", method="POST", headers={
            "Tus-Resumable": "1.0.0", "Upload-Length": str(size)})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return "/files/" + str(answer.headers["Location"]).rsplit("/", 1)[1]


_NGINX = """\
daemon off;
{user}
worker_processes auto;
pid {where}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {where}/nginx-body;
    proxy_temp_path {where}/nginx-proxy;
    fastcgi_temp_path {where}/nginx-fastcgi;
    uwsgi_temp_path {where}/nginx-uwsgi;
    scgi_temp_path {where}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location /file/ {{ alias {folder}/; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(where: Path, folder: Path) -> Iterator[Server]:
    """The distribution's nginx with sendfile, as distributed; serves the files of `folder` below /file/."""
    port, config = free_port(), where / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must be able to read the files
    config.write_text(_NGINX.format(user=user, where=where, port=port, folder=folder))
    with serving(["nginx", "-c", str(config), "-e", "stderr"], port, where) as server:
        yield server


def upload_peers() -> tuple[list[UploadPeer], list[str]]:
    """(those that are there, a line for each that is not)."""
    found: list[UploadPeer] = []
    absent: list[str] = []
    if binaries := python_with("copyparty", COPYPARTY):
        found.append(Copyparty(binaries / "python"))
    else:
        absent.append("copyparty could not be installed, so it is left out.")
    if binary := named("TUSD") or go_program("tusd", TUSD):
        found.append(Tus("tusd", [
            str(binary), "-host", "127.0.0.1", "-port", "{port}", "-upload-dir", "{folder}", "-base-path", "/files/"]))
    else:
        absent.append("tusd is left out: it did not build, and TUSD names no binary.")
    node = node_program("node")
    if node and (place := node_package("tus", *TUS_SERVER)):
        found.append(Tus("@tus/server", [
            str(node), str(_script(place / "serve.mjs", _TUS_SCRIPT)), "{port}", "{folder}"]))
    else:
        absent.append("@tus/server is left out: npm could not install it.")
    if binaries := python_with("tuspyserver", *TUSPYSERVER):
        script = _script(binaries.parent / "serve.py", _TUSPYSERVER_SCRIPT)
        found.append(Tus("tuspyserver", [str(binaries / "python"), str(script), "{port}", "{folder}"]))
    else:
        absent.append("tuspyserver could not be installed, so it is left out.")
    return found, absent


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
