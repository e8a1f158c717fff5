"""The client of one page: its session is kept by the browser's cookie and renewed without a refresh token."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from hypersend_client.sdk import Account, MemoryTokenStore, SignedOut
from hypersend_client.web.browser import Browser
from hypersend_client.web.kept import KEPT, WebHyperSend, account_in, is_kept
from hypersend_server.app import WEB_SIGN_IN
from tests.harness import PASSWORD
from tests.web.site import Site, site


class Jar:
    """A browser's cookies. connect: what the screens are told of it."""

    def __init__(self, server: Site) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    async def open(self, path: str) -> int:
        answer = await self.server.request("GET", self.server.url + path, cookies=self.cookies)
        for line in answer.headers.getall("Set-Cookie", []):  # type: ignore[attr-defined]
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer.status

    async def connect(self) -> Browser:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        request = make_mocked_request("GET", "/ws", headers={"Cookie": header})
        told = (await self.server.app[WEB_SIGN_IN].handshake(request)).told
        return Browser(*(told.get(f"X-HyperSend-{name}") for name in ("Browser", "Access-Token", "Renewal")))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def ann_in(jar: Jar) -> Account:
    """Registers on a page, has the browser keep it, and answers what the next page finds."""
    await jar.open("/")
    named = (await jar.connect()).browser
    assert named is not None
    async with WebHyperSend(jar.server.url) as hs:
        await hs.register("ann@example.org", "ann", PASSWORD)
        path, renewal = await hs.web_ticket(named)
        assert not await hs.is_kept(renewal)
        assert not is_kept(hs.account)
        assert await jar.open(path) == 204
        assert await hs.is_kept(renewal)
        assert is_kept(hs.account)
        assert (await hs.me.get()).username == "ann"
    found = account_in(await jar.connect(), jar.server.url)
    assert found is not None
    return found


async def test_all_who_wait_are_renewed_by_one_call(server: Site) -> None:
    found = replace(await ann_in(Jar(server)), access_token="an old one")
    async with WebHyperSend(server.url, tokens=MemoryTokenStore(found)) as hs:
        asked: list[str] = []
        renewed = hs._renewed

        async def counted(renewal: str) -> dict[str, Any]:
            asked.append(renewal)
            return await renewed(renewal)

        hs._renewed = counted  # type: ignore[method-assign]
        tokens = await asyncio.gather(*(hs.session.renew("an old one") for _ in range(5)))
        assert len(asked) == len(set(tokens)) == 1
        assert (await hs.me.get()).username == "ann"
        assert is_kept(hs.account)


async def test_a_session_that_ended_elsewhere_is_renewed_no_more_and_its_cookie_is_void(server: Site) -> None:
    jar = Jar(server)
    found = await ann_in(jar)
    await server.signed_in({"access_token": found.access_token}).post("/auth/logout")
    async with WebHyperSend(server.url, tokens=MemoryTokenStore(found)) as hs:
        reasons: list[str] = []
        hs.session.on_signed_out(reasons.append)
        with pytest.raises(SignedOut):
            await hs.session.renew(found.access_token)
        assert reasons == ["session_ended"]
        assert hs.account is None
    assert (await jar.connect()).access_token is None


async def test_the_refresh_token_of_before_is_void_and_does_no_harm(server: Site) -> None:
    jar = Jar(server)
    await jar.open("/")
    named = (await jar.connect()).browser
    assert named is not None
    async with WebHyperSend(server.url) as hs:
        await hs.register("ann@example.org", "ann", PASSWORD)
        assert hs.account is not None
        old = hs.account.refresh_token
        path, _ = await hs.web_ticket(named)
        assert await jar.open(path) == 204
        assert (await server.post("/auth/refresh", {"refresh_token": old})).code == "session_ended"
        assert (await hs.me.get()).username == "ann"


@pytest.mark.parametrize(("headers", "public_url", "secure"), [
    ({}, "", False),
    ({"X-Forwarded-Proto": "https"}, "", True),
    ({"X-Forwarded-Proto": "http"}, "https://chat.example.org", False),
    ({"Host": "chat.example.org"}, "https://chat.example.org", True),
    ({"Host": "192.168.1.7:8000"}, "https://chat.example.org", False),
])
async def test_cookies_are_secure_where_the_browser_came_over_tls(
    tmp_path: Path, headers: dict[str, str], public_url: str, secure: bool
) -> None:
    async with site(tmp_path, PUBLIC_URL=public_url) as server:
        answer = await server.request("GET", server.url + "/", headers=headers)
    assert ("Secure" in answer.headers["Set-Cookie"]) is secure
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in answer.headers["Set-Cookie"].split(";")}


async def test_who_is_not_believed_cannot_make_cookies_secure(tmp_path: Path) -> None:
    async with site(tmp_path, TRUSTED_PROXIES="203.0.113.0/24") as server:
        answer = await server.request("GET", server.url + "/", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" not in answer.headers["Set-Cookie"]


def token(**claims: Any) -> str:
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode() + ".s"


def test_an_account_is_read_from_the_token() -> None:
    found = account_in(Browser("b", token(iss="srv", sub="usr", sid="ses"), "r"), "http://x")
    assert found is not None
    assert (found.key, found.session_id, found.refresh_token) == (("srv", "usr"), "ses", KEPT + "r")


@pytest.mark.parametrize("access_token", [
    None, "", "x", "a.b.c", "a.W10.c", token(iss="srv", sub="usr"), token(iss="srv", sub=1, sid="s"),
    token(iss="", sub="u", sid="s"), "h.\N{SNOWMAN}.s",
])  # fmt: skip
def test_what_is_no_token_is_nobody(access_token: str | None) -> None:
    assert account_in(Browser("b", access_token, "r"), "http://x") is None
