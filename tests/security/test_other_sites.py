"""Pages of other sites in somebody's browser: they read nothing, and what the browser sends along opens nothing."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.harness import Person, Server, running
from tests.p2p.pair import pair
from tests.security.doors import Doors
from tests.security.test_access import PUBLIC

OWN = "https://chat.example.org"
FOREIGN = ["https://evil.example", "null", "http://chat.example.org", "https://chat.example.org.evil.example",
           "https://evil.example/https://chat.example.org", ""]
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize("settings", [{}, {"ALLOWED_ORIGINS": OWN}, {"PUBLIC_URL": OWN}])
async def test_only_pages_of_allowed_origins_may_read(tmp_path: Path, settings: dict[str, str]) -> None:
    async with running(tmp_path, **settings) as server:
        asha = await server.person("asha")
        for origin in (*FOREIGN, OWN):
            for who, method, path in (
                (server, "GET", "/server"), (asha, "GET", "/users/me"), (server, "GET", "/users/me"),
                (asha, "PATCH", "/users/me"), (server, "GET", "/nothing"), (server, "OPTIONS", "/users/me"),
                (server, "POST", "/auth/login"),
            ):
                headers = {"Origin": origin, **(PREFLIGHT if method == "OPTIONS" else {})}
                answer = await who.request(method, path, headers=headers)
                said = answer.headers.get("Access-Control-Allow-Origin")
                allowed = origin == OWN and bool(settings)
                assert said == (OWN if allowed else None), (origin, method, path)
                assert "Access-Control-Allow-Credentials" not in answer.headers  # never by cookie, whoever asks
                if settings:
                    assert "Origin" in answer.headers["Vary"]
                if method == "OPTIONS":
                    assert (answer.status == 204) == allowed
                    assert ("Access-Control-Allow-Methods" in answer.headers) == allowed


async def test_the_browsers_cookie_alone_changes_nothing(doors: Doors) -> None:
    """No call takes the cookie for a session: a form or a picture on another page is nobody."""
    server = doors.server
    cookie = {"Cookie": f"{doors.cookie_name}={doors.tokens['web cookie']}"}
    assert await doors.opens("web cookie", doors.tokens["web cookie"])  # it is good, where it belongs
    tried = 0
    for route in server.app.router.routes():
        if route.resource is None or route.method in ("GET", "HEAD", "OPTIONS"):
            continue
        name = f"{route.method} {route.resource.canonical}"
        path = route.resource.canonical
        for part in ("{chat_id}", "{message_id}", "{file_id}", "{id}", "{upload_id}", "{transfer_id}", "{user_id}",
                     "{session_id}", "{invite_id}"):
            path = path.replace(part, "0" * 26)
        path = path.replace("{emoji}", "x").replace("{version}", "1.0.0")
        assert "{" not in path, path
        for content in ({"json": {}}, {"data": b"a=b"}):
            kind = {} if "json" in content else {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await server.request(
                route.method, server.url + path, headers={**cookie, **kind, "Origin": server.url}, **content)
            # Those that need no session need a secret in a JSON body, which a form cannot send.
            expected = {415 if kind else 422} if name in PUBLIC else {401}
            assert answer.status in expected, (name, answer)
        tried += 1
    assert tried > 40


@pytest.mark.parametrize("origin", FOREIGN)
async def test_pages_of_other_origins_get_no_ticket_and_no_token(doors: Doors, origin: str) -> None:
    server, headers = doors.server, {"Origin": origin}
    ticket = await doors.asha.post(server.url + "/web/ticket", {"browser": "x"}, headers=headers)
    assert (ticket.status, ticket.code) == (403, "not_allowed")
    renewal = {"renewal": doors.tokens["web renewal"]}
    token = await server.post(server.url + "/web/token", renewal, headers=headers)
    assert (token.status, token.code) == (403, "not_allowed")
    for own in ({}, {"Origin": server.url}):
        assert (await server.post(server.url + "/web/token", renewal, headers=own)).status == 200
        assert (await doors.asha.post(server.url + "/web/ticket", {"browser": "x"}, headers=own)).status == 200


async def _handshake(server: Server, path: str, person: Person | None, origin: str) -> int:
    url = server.url.replace("http", "ws", 1) + path
    headers = {"Origin": origin, **(person.headers if person is not None else {})}
    try:
        async with server.http.ws_connect(url, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def test_pages_of_other_origins_open_no_socket(tmp_path: Path) -> None:
    async with running(tmp_path, ALLOWED_ORIGINS=OWN) as server:
        both = await pair(server)
        transfer = await both.accepted()
        for path, person in (("/api/v1/ws", both.asha), (f"/api/v1/p2p/sender/{transfer['id']}", both.asha),
                             (f"/api/v1/p2p/receiver/{transfer['id']}", both.ben)):
            for who in (person, None):  # None: the token would come in the first frame
                for origin in FOREIGN:
                    assert await _handshake(server, path, who, origin) == 403, (path, origin)
                for origin in (OWN, server.url):
                    assert await _handshake(server, path, who, origin) == 101, (path, origin)
