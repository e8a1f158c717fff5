"""Staying signed in by a cookie that no script and no screen can read."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hypersend_server.clock import Ids, system_clock
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Caller, register
from hypersend_server.metrics import Metrics
from hypersend_server.middleware import build_middleware
from hypersend_server.settings import Settings
from hypersend_server.web_client.sign_in import WebSignIn
from tests.harness import SettableClock


@dataclass
class Sessions:
    """Sessions in memory. live: id → (user id, hash of its web secret or None)."""

    live: dict[str, tuple[str, bytes | None]] = field(default_factory=lambda: {"s1": ("alice", None)})
    issued: int = 0

    async def keep(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        if self.live.get(session_id) != (user_id, None):
            return False
        self.live[session_id] = (user_id, secret_hash)
        return True

    async def is_kept(self, session_id: str) -> bool:
        return session_id in self.live and self.live[session_id][1] is not None

    async def recognise(self, session_id: str, secret_hash: bytes) -> bool:
        return session_id in self.live and self.live[session_id][1] == secret_hash

    async def access(self, session_id: str) -> tuple[str, int]:
        if not await self.is_kept(session_id):
            raise HyperSendError("session_ended")
        self.issued += 1
        return f"access-{session_id}-{self.issued}", 900

    async def authenticate(self, request: web.Request, *, accept_upload_ticket: bool) -> Caller:
        if request.headers.get("Authorization") != "Bearer access":
            raise HyperSendError("unauthenticated")
        return Caller("alice", "s1")


class Room:
    def __init__(self, client: Any, sessions: Sessions, clock: SettableClock) -> None:
        self.client, self.sessions, self.clock = client, sessions, clock

    async def browser(self) -> dict[str, str]:
        """A browser's cookies after it loaded the page."""
        return self.cookies(await self.client.get("/page"))

    async def ticket(self, browser: dict[str, str]) -> dict[str, Any]:
        told = await (await self.client.get("/handshake", cookies=browser)).json()
        answer = await self.client.post(
            "/web/ticket", json={"browser": told["X-HyperSend-Browser"]}, headers={"Authorization": "Bearer access"})
        assert answer.status == 200
        body: dict[str, Any] = await answer.json()
        return body

    async def enter(self, url: str, browser: dict[str, str], **headers: str) -> Any:
        return await self.client.get(url, cookies=browser, headers=headers, allow_redirects=False)

    @staticmethod
    def cookies(answer: Any) -> dict[str, str]:
        return {name: morsel.value for line in answer.headers.getall("Set-Cookie", [])
                for name, morsel in SimpleCookie(line).items()}


@pytest.fixture
async def room(aiohttp_client: Any) -> Room:
    sessions, clock = Sessions(), SettableClock()
    sign_in = WebSignIn(sessions, "k" * 40, "server", is_https=lambda request: "X-Tls" in request.headers,
                        clock=clock, entropy=os.urandom)

    async def page(request: web.Request) -> web.Response:
        response = web.Response()
        for cookie in sign_in.cookies_of_page(request):
            response.headers.add("Set-Cookie", cookie)
        return response

    async def handshake(request: web.Request) -> web.Response:
        known = await sign_in.handshake(request)
        response = web.json_response(known.told)
        for cookie in known.cookies:
            response.headers.add("Set-Cookie", cookie)
        return response

    app = web.Application(middlewares=build_middleware(Settings.from_env({}), Ids(system_clock), Metrics()))
    register(app, sign_in.routes(), sessions)
    app.router.add_get("/page", page)
    app.router.add_get("/handshake", handshake)
    return Room(await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar()), sessions, clock)


async def test_signing_in_once_keeps_the_browser_signed_in(room: Room) -> None:
    before = await room.browser()
    ticket = await room.ticket(before)
    entered = await room.enter(ticket["url"], before)
    assert entered.status == 204
    after = {**before, **room.cookies(entered)}
    told = await (await room.client.get("/handshake", cookies=after)).json()
    assert told["X-HyperSend-Access-Token"].startswith("access-s1-")
    assert not any(after[name] in str(told) for name in after), "the screens see no cookie"


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Dest": "iframe"}])
async def test_the_frame_stays_as_it_is_also_where_the_browser_does_not_say_that_it_is_one(
    room: Room, headers: dict[str, str]
) -> None:
    before = await room.browser()
    entered = await room.enter((await room.ticket(before))["url"], before, **headers)
    assert (entered.status, await entered.read()) == (204, b"")
    assert any("session" in name for name in room.cookies(entered))


async def test_the_page_can_keep_the_next_person_after_the_one_before_signed_out(room: Room) -> None:
    before = await room.browser()
    told = await (await room.client.get("/handshake", cookies=before)).json()
    await room.enter((await room.ticket(before))["url"], before)
    room.sessions.live = {"s1": ("alice", None)}  # signed out, and in again
    answer = await room.client.post(
        "/web/ticket", json={"browser": told["X-HyperSend-Browser"]}, headers={"Authorization": "Bearer access"})
    assert (await room.enter((await answer.json())["url"], before)).status == 204


async def test_cookies_are_out_of_reach_of_scripts_and_other_sites(room: Room) -> None:
    before = await room.browser()
    entered = await room.enter((await room.ticket(before))["url"], before, **{"X-Tls": "1"})
    for line in entered.headers.getall("Set-Cookie"):
        assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} <= {part.strip() for part in line.split(";")}


async def test_a_ticket_is_worth_one_secret_in_its_minute(room: Room) -> None:
    before = await room.browser()
    url = (await room.ticket(before))["url"]
    entered, at_once = [await room.enter(url, before) for _ in range(2)]  # the frame was loaded again meanwhile
    assert entered.status == at_once.status == 204
    assert room.cookies(entered) == room.cookies(at_once) != {}
    again = await room.enter(url, {**before, **room.cookies(entered)})
    assert (again.status, room.cookies(again)) == (204, {}), "the same frame, loaded again"
    room.clock.advance(61)
    assert (await room.enter(url, before)).status == 404


async def test_a_ticket_of_a_session_that_ended_is_worth_nothing(room: Room) -> None:
    before = await room.browser()
    url = (await room.ticket(before))["url"]
    await room.enter(url, before)
    room.sessions.live.clear()
    assert (await room.enter(url, before)).status == 404


async def test_ticket_of_one_browser_signs_no_other_in(room: Room) -> None:
    attacker, victim = await room.browser(), await room.browser()
    url = (await room.ticket(attacker))["url"]
    assert (await room.enter(url, victim)).status == 404
    assert (await room.enter(url, {})).status == 404


async def test_ticket_is_good_for_a_minute(room: Room) -> None:
    before = await room.browser()
    url = (await room.ticket(before))["url"]
    room.clock.advance(61)
    assert (await room.enter(url, before)).status == 404


async def test_changed_ticket_is_refused(room: Room) -> None:
    before = await room.browser()
    url = (await room.ticket(before))["url"]
    assert (await room.enter(url[:-1] + ("A" if url[-1] != "A" else "B"), before)).status == 404


async def test_renewals_give_tokens_while_the_session_lives(room: Room) -> None:
    before = await room.browser()
    ticket = await room.ticket(before)
    renewal = ticket["renewal"]
    early = await room.client.post("/web/token", json={"renewal": renewal})
    assert (await early.json())["code"] == "session_ended", "worth nothing before the browser keeps the session"
    await room.enter(ticket["url"], before)
    first = await (await room.client.post("/web/token", json={"renewal": renewal})).json()
    second = await room.client.post("/web/token", json={"renewal": first["renewal"]})
    assert second.status == 200
    del room.sessions.live["s1"]
    ended = await room.client.post("/web/token", json={"renewal": first["renewal"]})
    assert (ended.status, (await ended.json())["code"]) == (401, "session_ended")


async def test_renewals_end_after_a_day_and_cannot_be_made_up(room: Room) -> None:
    before = await room.browser()
    ticket = await room.ticket(before)
    renewal = ticket["renewal"]
    await room.enter(ticket["url"], before)
    forged = await room.client.post("/web/token", json={"renewal": "x" + renewal})
    room.clock.advance(24 * 3600 + 1)
    late = await room.client.post("/web/token", json={"renewal": renewal})
    assert (await forged.json())["code"] == "token_invalid"
    assert (await late.json())["code"] == "session_ended"


async def test_cookie_of_an_ended_session_is_taken_away(room: Room) -> None:
    before = await room.browser()
    after = {**before, **room.cookies(await room.enter((await room.ticket(before))["url"], before))}
    room.sessions.live.clear()
    answer = await room.client.get("/handshake", cookies=after)
    assert "X-HyperSend-Access-Token" not in await answer.json()
    (line,) = answer.headers.getall("Set-Cookie")
    assert "Max-Age=0" in line


@pytest.mark.parametrize("kept", ["s1.wrong", "nobody.x", "s1", ".", "\N{SNOWMAN}"])
async def test_made_up_cookies_sign_nobody_in(room: Room, kept: str) -> None:
    before = await room.browser()
    after = {**before, **room.cookies(await room.enter((await room.ticket(before))["url"], before))}
    name = next(name for name in after if "session" in name)
    told = await (await room.client.get("/handshake", cookies={name: kept})).json()
    assert "X-HyperSend-Access-Token" not in told


async def test_ticket_needs_a_session(room: Room) -> None:
    answer = await room.client.post("/web/ticket", json={"browser": "b"})
    assert answer.status == 401


async def test_an_access_token_that_leaked_from_the_screens_gets_no_ticket(room: Room) -> None:
    before = await room.browser()
    await room.enter((await room.ticket(before))["url"], before)
    answer = await room.client.post(
        "/web/ticket", json={"browser": "another"}, headers={"Authorization": "Bearer access"})
    assert (answer.status, (await answer.json())["code"]) == (403, "not_allowed")


async def test_the_log_never_shows_a_ticket(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    before = await room.browser()
    url = (await room.ticket(before))["url"]
    with caplog.at_level(logging.DEBUG):
        await room.enter(url, before)
        await room.enter(url, before)
    # The served application writes an access log of its own in place of aiohttp's, which this test's server has too.
    records = [record for record in caplog.records if record.name != "aiohttp.access"]
    assert sum("/web/in" in record.getMessage() for record in records) >= 2
    assert url.partition("=")[2] not in " ".join(str(record.__dict__) for record in records)
