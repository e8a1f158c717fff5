"""Names and paths that climb out of what is served, sent as they are: no library between that would tidy them.

Every file that must not come out holds the same words, so an answer that has them is the fault.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from hypersend_server import web_client
from tests.harness import Person, Server, running

CANARY = b"canary-3f9c1e-that-nobody-may-read"
PAGE = b"<!DOCTYPE html><title>@APP_NAME@</title>"
DEPTHS = (0, 1, 2, 3, 4, 12)
UP = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f", "%252e%252e/", "..\\", "..%5c", "%2e%2e%5c",
      "..%255c", "....//", "..././", ".%2e/", "..;/", "%c0%ae%c0%ae%c0%af", "%uff0e%uff0e/", "./../", "x/../../")


def make_served(root: Path) -> tuple[Path, Path]:
    """An installed client and a DATA_ROOT side by side, the canary around and among them. Returns: both."""
    client, data = root / "lib" / "hypersend_client", root / "lib" / "data"
    static, upload = client / "web" / "static", client / "web" / "upload"
    for folder in (static / "assets", upload, client / "web" / "icons", data):
        folder.mkdir(parents=True)
    (static / "index.html").write_bytes(PAGE)
    (static / "manifest.json").write_text("{}")
    (static / "assets" / "app.js").write_text("// the app\n")
    types = {"index.html": "text/html", "manifest.json": "application/json", "assets/app.js": "text/javascript"}
    (static / "static.json").write_text(json.dumps({"stamp": "1", "csp_scripts": [], "files": {
        name: {"etag": "1", "type": kind, "encodings": []} for name, kind in types.items()}}))
    (upload / "index.html").write_text("<!DOCTYPE html><title>upload</title>")
    (client / "web" / "icons" / "icon.svg").write_text("<svg/>")
    for folder in (root, root / "lib", client, client / "web", static, data):  # in static: there, but not in its list
        (folder / "canary.txt").write_bytes(CANARY)
    (data / "secret.key").write_bytes(CANARY)
    return client, data


def climbs(root: Path) -> Iterator[str]:
    for name in ("canary.txt", "secret.key", "data/secret.key"):
        for up in UP:
            for depth in DEPTHS:
                yield up * depth + name
        for absolute in (str(root / name), str(root / "lib" / name)):
            yield absolute
            yield "/" + absolute
            yield absolute.replace("/", "%2f")
            yield absolute.replace("/", "%252f")
            yield "file://" + absolute
        yield f"%00{name}"
        yield f"{name}%00.html"
        yield f"../{name}%00"


async def ask(port: int, path: str, token: str = "") -> bytes:
    """The whole answer to a GET whose path goes out byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    signed_in = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{signed_in}\r\n".encode())
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


async def ask_all(port: int, paths: list[str], token: str = "") -> dict[str, bytes]:
    room = asyncio.Semaphore(16)

    async def one(path: str) -> tuple[str, bytes]:
        async with room:
            return path, await ask(port, path, token)

    return dict(await asyncio.gather(*(one(path) for path in paths)))


@asynccontextmanager
async def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, Person]]:
    """The whole server with a web app to give out; its key is the canary, as DATA_ROOT has it."""
    client, data = make_served(tmp_path)
    monkeypatch.setattr(web_client, "_installed", lambda: client)
    async with running(data, SECRET_KEY="", WEB_CLIENT="http://127.0.0.1:9", RATE_LIMITS="off") as server:
        yield server, await server.person("asha")


async def test_paths_that_climb_reach_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, monkeypatch) as (server, asha):
        port = int(server.url.rsplit(":", 1)[1])
        file = (await asha.post("/files/init", {"name": "tea.txt", "size": 3})).json
        await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")
        await asha.post(f"/files/{file['id']}/complete")
        # What is to be had there: nothing below passes because nothing is served.
        for path, content in (("/", b"<title>HyperSend</title>"), ("/chats/somewhere", b"<title>HyperSend</title>"),
                              ("/assets/app.js", b"// the app"), ("/upload", b"<title>upload</title>"),
                              ("/upload/icon.svg", b"<svg/>"), (f"/api/v1/files/{file['id']}/download", b"tea")):
            assert content in await ask(port, path, asha.token), path

        places = ["/{}", "/assets/{}", "/assets/fonts/notosans/v1/{}", "/static/{}", "/web/{}", "/upload/{}",
                  "/upload{}", "/api/{}", "/api/v1/files/{}", "/api/v1/files/{}/download",
                  f"/api/v1/files/{file['id']}/{{}}", f"/api/v1/files/{file['id']}/download/{{}}",
                  "/api/v1/pictures/{}", "/api/v1/updates/{}/download", "/api/v1/server/{}", "/_files/{}"]
        asked = [place.format(climb) for place in places for climb in climbs(tmp_path)]
        answers = await ask_all(port, list(dict.fromkeys(asked)), asha.token)
        assert [path for path, answer in answers.items() if CANARY in answer] == []
        for path, answer in answers.items():
            status = answer.split(b" ", 2)[1]
            assert status in (b"400", b"404", b"422"), (path, answer)


async def test_the_same_paths_climb_out_of_a_server_that_joins_them(tmp_path: Path) -> None:
    """That the payloads are worth something: each decoding that a careless server may do lets some of them out."""
    client, _ = make_served(tmp_path)
    static = client / "web" / "static"

    def once(path: str) -> str:
        return unquote(path)

    def twice(path: str) -> str:
        return unquote(unquote(path))

    def slashes(path: str) -> str:
        return unquote(path).replace("\\", "/")

    def cleaned_too_early(path: str) -> str:
        return unquote(path.replace("../", ""))

    def cleaned_once(path: str) -> str:
        return path.replace("../", "")

    for careless in (str, once, twice, slashes, cleaned_too_early, cleaned_once):
        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, careless: Callable[[str], str] = careless
        ) -> None:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            try:
                writer.write((static / careless(path).removeprefix("/")).read_bytes())
            except (OSError, ValueError):
                writer.write(b"nothing")
            writer.close()

        # What is asked for is out of its folder, so that what lies in it does not count.
        (static / "canary.txt").unlink(missing_ok=True)
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            answers = await ask_all(port, list(dict.fromkeys("/" + climb for climb in climbs(tmp_path))))
        assert [path for path, found in answers.items() if CANARY in found], careless


@pytest.mark.parametrize("name", ["../secret.key", "../../canary.txt", "..\\..\\canary.txt", "/etc/passwd", ".."])
async def test_a_files_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with serving(tmp_path, monkeypatch) as (_, asha):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.name in ("canary.txt", "secret.key")}
        assert len(before) == 7
        file = (await asha.post("/files/init", {"name": name, "size": 3})).json
        await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")
        assert (await asha.post(f"/files/{file['id']}/complete")).status == 201
        assert (await asha.get(f"/files/{file['id']}/download")).body == b"tea"
        assert {path: path.read_bytes() for path in before} == before
