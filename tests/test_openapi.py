"""The API's document: every route is in it, with its limits and errors, and the server keeps to it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from hypersend_server.app import PARTS, START_INVITE
from hypersend_server.errors import ERRORS
from tests.fuzz.town import PNG
from tests.harness import running
from tests.process import REPOSITORY

ACCEPTS = ["2xx", "3xx", 401, 403, 404, 409, 429]  # what schemathesis takes for accepted, without 5xx
# Operations that may refuse what their schema allows, each with the statuses and the reason.
CURSOR = "a cursor is what an answer gave, and nothing else"
EMOJI = "any text fits the path, and only a single emoji is one"
VERSION = "any text fits the version, and only three numbers are one"
REFUSES: dict[str, tuple[list[int], str]] = {
    "GET /api/v1/admin/audit": ([400], CURSOR),
    "GET /api/v1/admin/invites": ([400], CURSOR),
    "GET /api/v1/admin/users": ([400], CURSOR),
    "GET /api/v1/auth/sessions": ([400], CURSOR),
    "GET /api/v1/chats": ([400], CURSOR),
    "GET /api/v1/chats/{chat_id}/members": ([400], CURSOR),
    "GET /api/v1/p2p/history/{chat_id}": ([400], CURSOR),
    "GET /api/v1/search": ([400], CURSOR),
    "GET /api/v1/users": ([400], CURSOR),
    "GET /api/v1/users/me/blocks": ([400], CURSOR),
    "POST /api/v1/sync": ([400], CURSOR),
    "GET /api/v1/files": ([400, 422], CURSOR + "; of a chat's files `state` is always complete"),
    "GET /api/v1/chats/{chat_id}/messages": ([422], "there is one place to start from"),
    "POST /api/v1/chats": ([422], "a title of blanks or of two lines; oneself as the other one"),
    "PATCH /api/v1/chats/{chat_id}": ([422], "a title of blanks or of two lines"),
    "PATCH /api/v1/chats/{chat_id}/me": ([422], "any text fits muted_until, and only a time is one"),
    "PUT /api/v1/chats/{chat_id}/avatar": ([422], "any bytes fit, and only a picture is one"),
    "PUT /api/v1/users/me/avatar": ([422], "any bytes fit, and only a picture is one"),
    "POST /api/v1/chats/{chat_id}/messages": ([422], "neither a text nor a file nor a forward"),
    "PATCH /api/v1/chats/{chat_id}/messages/{message_id}": ([422], "an empty text without a file"),
    "PUT /api/v1/chats/{chat_id}/messages/{message_id}/reactions/{emoji}": ([422], EMOJI),
    "DELETE /api/v1/chats/{chat_id}/messages/{message_id}/reactions/{emoji}": ([422], EMOJI),
    "POST /api/v1/files/init": (
        [413, 422, 507], "a size above MAX_FILE_SIZE, or above the quota and the disk; an empty Idempotency-Key"),
    "PUT /api/v1/files/{upload_id}/chunk": (
        [400, 422], "a digest header of another form, or of other bytes; an index past the end; another size"),
    "POST /api/v1/files/{upload_id}/parts": ([400], "an index past the end"),
    "GET /api/v1/files/{file_id}/download": ([416], "a range past the end"),
    "POST /api/v1/p2p/send": ([422], "a name of which nothing is left, as `..`"),
    "GET /api/v1/updates/check": ([422], VERSION),
    "GET /api/v1/updates/{version}": ([422], VERSION),
    "GET /api/v1/updates/{version}/download": ([416, 422], VERSION + "; a range past the end"),
    "POST /api/v1/updates/release": ([422], VERSION),
}

# Checks that are left out for one operation, each with the reason.
LEFT_OUT: dict[str, tuple[str, str]] = {
    "POST /api/v1/chats/{chat_id}/members": (
        "ensure_resource_availability", "404 is also said of the people whom the body names"),
    "POST /api/v1/chats/{chat_id}/messages": (
        "ensure_resource_availability", "404 is also said of the files and messages that the body names"),
    "PUT /api/v1/users/me/avatar": (
        "negative_data_rejection", "the picture that is put there, for schemathesis bytes and so no string"),
    "PUT /api/v1/chats/{chat_id}/avatar": (
        "negative_data_rejection", "the picture that is put there, for schemathesis bytes and so no string"),
    "GET /api/v1/files/{file_id}/download": (
        "ignored_auth", "an invalid ticket is a link to nothing, which is 404"),
}

# Operations of which no call is accepted in these runs, each with the reason.
NEVER_ACCEPTED = {
    "POST /api/v1/p2p/{transfer_id}/vouch": "wants a transfer that its sender has put on the server",
    "PUT /api/v1/files/{upload_id}/chunk": "wants a body of exactly the chunk's size, which comes by chance",
    "GET /api/v1/openapi.json": "what the runs are made from: each begins with it, and asks no more",
    "POST /api/v1/files/{upload_id}/parts": "only where files are in an object store: tests/files",
    "POST /web/token": "only with a renewal, which comes with the handshake of the screens: tests/web/test_sign_in.py",
    "GET /web/in": "only with a ticket for the browser whose cookie comes along: tests/web/test_sign_in.py",
}


async def test_every_route_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        document = (await server.get("/openapi.json")).json
        documented = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
        served = {
            (route.method, route.resource.canonical)
            for route in server.app.router.routes() if route.resource is not None
        }
        served = {(method, path) for method, path in served if method != "HEAD" or (method, path) in documented}
        served = {(method, path) for method, path in served if not path.startswith("/upload")}  # a page, not a call
        sockets = {("GET", path) for path in document["x-websockets"]}
        assert sockets <= served
        assert documented == served - sockets


async def test_every_code_that_is_documented_is_one_of_the_table(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        document = (await server.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    named = set(re.findall(r"- `(\w+)`:", str(document)))
    assert named <= set(ERRORS)
    assert set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(ERRORS)


async def test_bodies_state_their_limits(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        document = (await server.get("/openapi.json")).json
    unlimited = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                reference = content["schema"].get("$ref")
                if reference:
                    unlimited += [
                        f"{method} {path} {place}"
                        for place in strings_without_limit(document, document["components"]["schemas"][
                            reference.rsplit("/", 1)[-1]])]
    assert unlimited == []


def strings_without_limit(document: dict, schema: dict, place: str = "") -> list[str]:  # type: ignore[type-arg]
    """Places of strings, arrays and numbers in a request body that have no bound."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    found = []
    if schema.get("type") == "string" and not {"maxLength", "enum", "format", "pattern"} & set(schema):
        found.append(place)
    if schema.get("type") == "array" and "maxItems" not in schema:
        found.append(place)
    if "enum" in schema or "const" in schema:
        return []
    for choice in schema.get("anyOf", ()):
        found += strings_without_limit(document, choice, place)
    for name, field in schema.get("properties", {}).items():
        found += strings_without_limit(document, field, f"{place}.{name}")
    if isinstance(schema.get("items"), dict):
        found += strings_without_limit(document, schema["items"], f"{place}[]")
    return found


async def test_the_readable_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        page = await server.get("/docs")
    text = page.body.decode()
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.findall(r"(?:src|href)=['\"](?!#|/api/v1/openapi)", text)
    assert "<script" not in text
    assert "/api/v1/chats" in text


async def test_unknown_paths_and_methods_are_problem_documents(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        nothing = await server.get("/nothing/here")
        assert (nothing.status, nothing.code) == (404, "not_found")
        assert nothing.headers["Content-Type"].startswith("application/problem+json")
        assert nothing.headers["X-Request-Id"] == nothing.json["request_id"]
        wrong = await server.delete("/server")
        assert (wrong.status, wrong.code) == (405, "method_not_allowed")
        assert "GET" in wrong.headers["Allow"]


async def test_unknown_and_repeated_query_keys_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        unknown = await server.get("/server?verbose=1")
        assert unknown.status == 422
        assert unknown.json["errors"] == [{"field": "verbose", "problem": "is not known here"}]
        asha = await server.person("asha")
        repeated = await asha.get("/chats?limit=1&limit=2")
        assert repeated.json["errors"] == [{"field": "limit", "problem": "is given more than once"}]


async def test_bodies_that_are_no_json_are_refused_by_name(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        for body, status, code in (
            (b"{", 400, "malformed_body"),
            (b"\xff\xfe", 400, "malformed_body"),
            (b"[" * 100_000, 422, "validation_failed"),
            (b'{"email": ' + b"[" * 100_000, 422, "validation_failed"),
            (b'{"email": 5}', 422, "validation_failed"),
            (b'{"email": "a@b.c", "password": "0123456789", "extra": 1}', 422, "validation_failed"),
            (b" " * (1024 * 1024 + 1), 413, "body_too_large"),
        ):
            answer = await server.post("/auth/login", data=body, headers={"Content-Type": "application/json"})
            assert (answer.status, answer.code) == (status, code), body[:40]
        answer = await server.post("/auth/login", data=b"{}", headers={"Content-Type": "text/plain"})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_bodies_with_a_content_encoding_are_refused(tmp_path: Path) -> None:
    """They are not unpacked either: 64 KiB that would be 64 MiB cost what 64 KiB cost."""
    nothing = bytes(64 * 2**20)
    bombs = {"gzip": gzip.compress(nothing), "deflate": zlib.compress(nothing)}
    del nothing
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        upload = (await asha.post("/files/init", {"name": "a", "size": 2**20})).json
        tracemalloc.start()
        try:
            for encoding in ("gzip", "deflate", "br", "zstd", "identity"):
                for method, path, kind in (
                    ("POST", "/auth/login", "application/json"), ("PUT", "/users/me/avatar", "image/png"),
                    ("PUT", f"/files/{upload['id']}/chunk?index=0", "application/octet-stream"),
                ):
                    body = bombs.get(encoding, bombs["gzip"])
                    answer = await asha.request(method, path, data=body, headers={
                        "Content-Type": kind, "Content-Encoding": encoding})
                    assert (answer.status, answer.code) == (415, "unsupported_media_type"), (encoding, path)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 32 * 2**20, most


async def test_what_says_of_a_body_that_is_not_there_how_it_is_compressed_means_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        assert (await asha.get("/files", headers={"Content-Encoding": "gzip"})).status == 200


@pytest.mark.parametrize("who", ["member", "administrator"])
async def test_schemathesis_finds_nothing(tmp_path: Path, who: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every check on every operation, by an ordinary member and by an administrator, with people and things there."""
    logo, answers, said = tmp_path / "logo.png", tmp_path / "answers", tmp_path / "said"
    logo.write_bytes(PNG)
    (tmp_path / "schemathesis.toml").write_text(_checks())
    # In this process, where hashes of passwords are cheap: they would take most of the time.
    async with running(tmp_path / "data", RATE_LIMITS="off", LOGO=str(logo)) as server:
        await server.person("cleo")
        reset = await server.app[PARTS].accounts.create_reset("cleo@example.org")
        with said.open("wb") as out:
            done = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/api/v1/openapi.json",
                "--workers", "1", "--generation-deterministic",
                "--max-examples", os.environ.get("HYPERSEND_SCHEMATHESIS_EXAMPLES", "5"),
                "--suppress-health-check", "all", "--request-timeout", "120", "--warnings", "off", "--no-color",
                cwd=tmp_path, stdout=out, stderr=out,
                env={**os.environ, "PYTHONWARNINGS": "", "PYTHONPATH": str(REPOSITORY),
                     "SCHEMATHESIS_HOOKS": "tests.fuzz.sessions", "ANSWERS_AT": str(answers), "TOWN_AT": server.url,
                     "TOWN_WHO": who, "TOWN_INVITE": server.app[START_INVITE], "RESET_CODE": reset})
            async with asyncio.timeout(3600):
                status = await done.wait()
        document = (await server.get("/openapi.json")).json
    assert status == 0, said.read_text()[-12_000:]
    # What is no HTTP (whether a header may hold a NUL is tried) is a line of the log where the server runs by itself.
    assert [record.getMessage() for record in caplog.records
            if record.exc_info and not isinstance(record.exc_info[1], HttpProcessingError)] == []
    operations = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    accepted = {line.split(" ", 1)[1] for line in answers.read_text().splitlines() if line.startswith("2")}
    closed = {name for name in operations if who == "member" and _is_for_administrators(name)}
    assert operations - accepted <= NEVER_ACCEPTED.keys() | closed
    assert not closed & accepted


def _is_for_administrators(operation: str) -> bool:
    return "/api/v1/admin/" in operation or operation == "POST /api/v1/updates/release"


def _checks() -> str:
    """schemathesis.toml: all checks for every operation, but for the named exceptions."""
    # A body of more than 1 MiB is refused for that, whatever else is wrong with it.
    lines = ["[checks]", "negative_data_rejection.expected-statuses ="
             " [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]",
             f"positive_data_acceptance.expected-statuses = {json.dumps(ACCEPTS)}"]
    for operation in sorted(REFUSES.keys() | LEFT_OUT.keys()):
        lines += ["", "[[operations]]", f"include-name = {json.dumps(operation)}"]
        if operation in REFUSES:
            also, _ = REFUSES[operation]
            lines.append(f"checks.positive_data_acceptance.expected-statuses = {json.dumps([*ACCEPTS, *also])}")
        if operation in LEFT_OUT:
            lines.append(f"checks.{LEFT_OUT[operation][0]}.enabled = false")
    return "\n".join(lines) + "\n"
