"""Every kind of token there is, all of one person, and the doors that they open."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from PIL import Image

from hypersend_server.app import WEB_SIGN_IN
from hypersend_server.clock import system_clock
from hypersend_server.p2p.edge import PASS_HEADER, Pass
from hypersend_server.signer import Signer
from hypersend_server.web_client.sign_in import TOKEN_HEADER, WebSignIn
from tests.harness import Person, Server, running
from tests.p2p.pair import KEY, pair
from tests.realtime.serving import PATH

KINDS = ("access", "refresh", "web ticket", "web renewal", "web cookie", "upload ticket", "download ticket", "picture",
         "pass")


@dataclass
class Doors:
    """How each kind is used, and whether it opened. tokens: by kind. cookies: of the browser."""

    server: Server
    asha: Person
    tokens: dict[str, str]
    browser: dict[str, str]
    cookie_name: str
    file_id: str
    transfer_id: str
    picture: str

    async def opens(self, door: str, token: str) -> bool:
        doors: dict[str, Callable[[str], Awaitable[bool]]] = {
            "access": self._access, "refresh": self._refresh, "web ticket": self._web_ticket,
            "web renewal": self._web_renewal, "web cookie": self._web_cookie, "upload ticket": self._upload,
            "download ticket": self._download, "picture": self._picture, "pass": self._pass}
        return await doors[door](token)

    async def _access(self, token: str) -> bool:
        """By all the ways in which one is given."""
        bearer = {"Authorization": f"Bearer {token}"}
        found = [(await self.server.get("/users/me", headers=bearer)).status == 200]
        url = self.server.url.replace("http", "ws", 1)
        async with self.server.http.ws_connect(url + PATH, headers=bearer) as ws:
            found.append((await ws.receive()).type is aiohttp.WSMsgType.TEXT)
        async with self.server.http.ws_connect(url + PATH) as ws:
            await ws.send_json({"type": "auth", "token": token})
            found.append((await ws.receive()).type is aiohttp.WSMsgType.TEXT)
        async with self.server.http.ws_connect(f"{url}/api/v1/p2p/sender/{self.transfer_id}") as ws:
            await ws.send_json({"type": "auth", "token": token})
            found.append((await ws.receive()).type is aiohttp.WSMsgType.TEXT)
        assert len(set(found)) == 1, found
        return found[0]

    async def _refresh(self, token: str) -> bool:
        return (await self.server.post("/auth/refresh", {"refresh_token": token})).status == 200

    async def _web_ticket(self, token: str) -> bool:
        cookies = "; ".join(f"{name}={value}" for name, value in self.browser.items())
        answer = await self.server.get(
            f"{self.server.url}/web/in?ticket={quote(token)}", headers={"Cookie": cookies})
        return answer.status == 204

    async def _web_renewal(self, token: str) -> bool:
        return (await self.server.post(self.server.url + "/web/token", {"renewal": token})).status == 200

    async def _web_cookie(self, token: str) -> bool:
        sign_in = self.server.app[WEB_SIGN_IN]
        told = await sign_in.handshake(_request(f"{self.cookie_name}={token}"))
        return TOKEN_HEADER in told.told

    async def _upload(self, token: str) -> bool:
        answer = await self.server.post(
            "/files/init", {"name": "a.txt", "size": 3}, headers={"Authorization": f"Bearer {token}"})
        return answer.status == 201

    async def _download(self, token: str) -> bool:
        return (await self.server.get(f"/files/{self.file_id}/download?ticket={quote(token)}")).status == 200

    async def _picture(self, token: str) -> bool:
        parts = urlsplit(self.picture)
        until = parse_qs(parts.query)["e"][0]
        return (await self.server.get(f"{parts.path}?e={until}&s={quote(token[:64])}")).status == 200

    async def _pass(self, token: str) -> bool:
        url = f"{self.server.url.replace('http', 'ws', 1)}/api/v1/p2p/sender/{self.transfer_id}"
        try:
            async with self.server.http.ws_connect(url, headers={PASS_HEADER: token}) as ws:
                return (await ws.receive()).type is aiohttp.WSMsgType.TEXT
        except aiohttp.WSServerHandshakeError as error:
            if error.status != 401:
                raise
            return False


def _request(cookie: str = "") -> aiohttp.web.Request:
    return make_mocked_request("GET", "/", headers={"Cookie": cookie} if cookie else {})


def _cookies(lines: list[str]) -> dict[str, str]:
    return {name: morsel.value for line in lines for name, morsel in SimpleCookie(line).items()}


async def _kept(server: Server, sign_in: WebSignIn) -> tuple[dict[str, str], str, str]:
    """Somebody who stays signed in by a browser: (its cookies, the name of the session's, the renewal)."""
    browser = _cookies(sign_in.cookies_of_page(_request()))
    person = await server.login("asha@example.org")
    ticket = await _ticket(server, person, sign_in, browser)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.items())
    entered = await server.get(server.url + ticket["url"], headers={"Cookie": cookies})
    ((name, value),) = _cookies([entered.headers["Set-Cookie"]]).items()
    return {**browser, name: value}, name, ticket["renewal"]


async def _ticket(server: Server, person: Person, sign_in: WebSignIn, browser: dict[str, str]) -> dict[str, str]:
    told = await sign_in.handshake(_request("; ".join(f"{name}={value}" for name, value in browser.items())))
    answer = await person.post(server.url + "/web/ticket", {"browser": told.told["X-HyperSend-Browser"]})
    assert answer.status == 200, answer
    return dict(answer.json)


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        both = await pair(server)
        asha = both.asha
        for person in (both.asha, both.ben):
            await person.put("/auth/device-key", {"public_key": KEY})
        transfer = await both.accepted()
        file = (await asha.post("/files/init", {"name": "tea.txt", "size": 3})).json
        await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")
        await asha.post(f"/files/{file['id']}/complete")
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, "PNG")
        picture = (await asha.put("/users/me/avatar", data=out.getvalue(), headers={
            "Content-Type": "image/png"})).json["avatar_url"]
        sign_in = server.app[WEB_SIGN_IN]
        browser, cookie_name, renewal = await _kept(server, sign_in)
        other = await server.login(asha.email)
        browser = {name: value for name, value in browser.items() if name != cookie_name} | {cookie_name: browser[
            cookie_name]}
        before = {name: value for name, value in browser.items() if name != cookie_name}
        ticket = await _ticket(server, await server.login(asha.email), sign_in, before)
        passed = Signer("k" * 40, "relay").seal(Pass(
            transfer["id"], "sender", asha.session["session_id"], system_clock() // 1000 + 60))
        upload = (await asha.post("/files/upload-ticket", {})).json["url"].partition("#ticket=")[2]
        download = (await asha.post(f"/files/{file['id']}/ticket", {})).json["url"].partition("ticket=")[2]
        yield Doors(server, asha, {
            "access": asha.token, "refresh": other.session["refresh_token"], "web renewal": renewal,
            "web ticket": parse_qs(urlsplit(ticket["url"]).query)["ticket"][0], "web cookie": browser[cookie_name],
            "upload ticket": upload, "download ticket": download,
            "picture": parse_qs(urlsplit(picture).query)["s"][0], "pass": passed,
        }, before, cookie_name, file["id"], transfer["id"], picture)
