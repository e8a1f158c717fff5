"""The API's document: every route is in it, with its limits and errors, and the server keeps to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import aiohttp

from hypersend_server.errors import ERRORS
from tests.harness import PASSWORD, running
from tests.process import ServerProcess

ASHA = {"email": "asha@example.org", "username": "asha", "password": PASSWORD}

# Checks that contradict API.md, or this server's rules, each with the reason why it is left out.
LEFT_OUT = {
    "positive_data_acceptance": "a body of the right shape may still be refused: a size above MAX_FILE_SIZE is 413, no "
    "room is 507, a chunk index out of range is 400, a made-up cursor or digest is 400, oneself as a peer is 422",
    "ensure_resource_availability": "404 is also said of what the body names: a stranger's id in user_ids of a chat "
    "that was just created",
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
    async with running(tmp_path) as server:
        answer = await server.post("/auth/login", data=b"{}", headers={
            "Content-Type": "application/json", "Content-Encoding": "gzip"})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", RATE_LIMITS="off", REGISTRATION="open") as server:
        _register(server.url)
        # A body of more than 1 MiB is refused for that, whatever else is wrong with it.
        (tmp_path / "schemathesis.toml").write_text(
            "[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422,"
            " 428, 429]\n")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/api/v1/openapi.json",
             "--checks", "all", *(("--exclude-checks", ",".join(LEFT_OUT)) if LEFT_OUT else ()),
             "--workers", "1", "--max-examples", os.environ.get("HYPERSEND_SCHEMATHESIS_EXAMPLES", "10"), "--seed", "1",
             "--suppress-health-check", "all", "--request-timeout", "20", "--warnings", "off", "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, timeout=3600, check=False,
            env={**os.environ, "PYTHONWARNINGS": "", "PYTHONPATH": str(Path(__file__).parent.parent),
                 "SCHEMATHESIS_HOOKS": "tests.fuzz.sessions", "SIGN_IN_AT": server.url,
                 "SIGN_IN_AS": json.dumps({"email": ASHA["email"], "password": ASHA["password"]})})
        assert done.returncode == 0, done.stdout[-12_000:]
    log = server.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:6000]


def _register(url: str) -> None:
    async def register() -> None:
        async with aiohttp.ClientSession() as http, http.post(url + "/api/v1/auth/register", json=ASHA) as answer:
            assert answer.status == 201

    asyncio.run(register())

