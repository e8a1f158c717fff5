"""What somebody tries who means harm, where no other test tries it already; `docs/security.md` has the whole table."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from passlib.context import CryptContext  # type: ignore[import-untyped]

from tests.faults.test_kill import Phone
from tests.harness import running
from tests.http_session import http_session
from tests.process import REPOSITORY, ServerProcess
from tests.users.test_over_http import first_invite

SCRIPT = '"><script>alert(1)</script>.html'


async def test_unknown_and_disabled_people_cost_the_same_hashing_as_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    verify, create = CryptContext.verify_and_update, CryptContext.hash

    def verified(self: CryptContext, secret: str, stored: str) -> object:
        done.append("verify " + stored.split("r=")[1].split("$")[0])
        return verify(self, secret, stored)

    def hashed(self: CryptContext, secret: str) -> object:
        done.append("hash")
        return create(self, secret)

    monkeypatch.setattr(CryptContext, "verify_and_update", verified)
    monkeypatch.setattr(CryptContext, "hash", hashed)
    async with running(tmp_path, RATE_LIMITS="off") as server:
        admin = await server.person("asha", invite=await first_invite(server.app))
        bela = await server.person("bela")
        assert (await admin.patch(f"/admin/users/{bela.id}", {"disabled": True})).status == 200
        found = {}
        for name in ("asha", "nobody", "bela"):
            done.clear()
            answer = await server.post(
                "/auth/login", {"email": f"{name}@example.org", "password": "not the right one"})
            assert (answer.status, answer.code) == (401, "credentials_invalid")
            found[name] = list(done)
    assert found["nobody"] == found["asha"] == found["bela"]
    assert len(found["asha"]) == 1


async def test_nothing_that_is_sent_begins_a_line_of_the_log(tmp_path: Path) -> None:
    forged = "INFO hypersend forged"
    with ServerProcess(tmp_path / "data") as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            await phone.call("POST", "/files/init", {"name": f"a\r\n{forged}\u2028{forged}.txt", "size": 1})
            await phone.client.get(f"/chats/%0d%0a{forged}")
        # What an HTTP library would not send.
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        writer.write(b"GET /\n" + forged.encode() + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m\r\n"
                     b"X-Request-Id: a\x0b" + forged.encode() + b"\r\n\r\n")
        async with asyncio.timeout(30):
            await reader.read()
        writer.close()
        await asyncio.to_thread(server.stop)
    log = server.log()
    assert not re.search(rf"^{forged}", log, re.MULTILINE)
    assert "\x1b" not in log
    assert "\u2028" not in log


async def test_a_file_that_is_a_page_never_runs(tmp_path: Path) -> None:
    page = b"<html><script>alert(document.cookie)</script></html>"
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        for data, name, mime in ((page, SCRIPT, "text/html"), (drawing, "tea.svg", "image/svg+xml"),
                                 (page, "tea.png", "image/png"), (page, "tea.pdf", "application/pdf")):
            file = (await asha.post("/files/init", {"name": name, "size": len(data), "mime": mime})).json
            await asha.put(f"/files/{file['id']}/chunk?index=0", data=data)
            await asha.post(f"/files/{file['id']}/complete")
            ticket = (await asha.post(f"/files/{file['id']}/ticket", {})).json["url"]
            for path in (f"/files/{file['id']}/download?inline=true", ticket):
                answer = await asha.get(path)
                assert answer.status == 200, answer
                assert answer.headers["Content-Disposition"].startswith("attachment"), (name, path)
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert not re.search(r"[\r\n]", answer.headers["Content-Disposition"])


async def test_a_head_that_never_ends_holds_no_connection(tmp_path: Path) -> None:
    """Dripping a head byte by byte (slowloris) does not keep a connection past its time."""
    async with running(tmp_path, idle_s=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        closed = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not closed.done():
                writer.write(b"X")
                await asyncio.wait({closed}, timeout=0.2)
        writer.close()


async def test_a_json_body_that_drips_is_answered_and_holds_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes soon after the one before, and the whole never."""
    monkeypatch.setattr("hypersend_server.http.BODY_TIMEOUT_S", 0.5)
    async with running(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 100000\r\n\r\n{")
        said = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not said.done():
                writer.write(b" ")
                await asyncio.wait({said}, timeout=0.05)
        writer.close()
        assert said.result().startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in said.result()


def test_every_attack_of_the_table_has_its_test() -> None:
    """As pytest collects them: one that was renamed, removed or left out with its whole module is none."""
    text = (REPOSITORY / "docs/security.md").read_text()
    table = text[text.index("## Attacks and their tests") :].partition("## What we build on")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| attack ")]
    named = {f"tests/{path}::{name}" for path, name in re.findall(r"`([\w/]+\.py)`::(\w+)", table)}
    assert len(named) > 30
    assert [row for row in rows if not re.search(r"`([\w/]+\.py)`::(\w+)", row)] == []
    files = sorted({name.partition("::")[0] for name in named})
    assert [path for path in files if not (REPOSITORY / path).is_file()] == []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
         "-p", "tests.security.collected", *files],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    collected: dict[str, set[str]] = {}
    for _, node, *marks in (line.split() for line in done.stdout.splitlines() if line.startswith("collected: ")):
        collected.setdefault(node, set()).update(marks)
    assert named - collected.keys() == set()
    if os.environ.get("HYPERSEND_REQUIRE_PARTS"):  # what is missing fails there, and nothing is left out otherwise
        assert {node for node in named if collected[node] & {"skip", "skipif", "xfail"}} == set()
