"""What goes wrong at signing in, with servers that really do it: said in the person's language, with what to do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from hypersend_client.app.i18n import Translator
from hypersend_client.app.state import AppState
from hypersend_client.app.words import explain
from hypersend_client.sdk import HyperSend, HyperSendError, MemoryTokenStore
from tests.app.fakes import FakeMemory
from tests.harness import PASSWORD
from tests.sdk.test_transport import certificate
from tests.web.site import site

SERVER = {
    "server_id": "s-1", "name": "Tea house", "version": "9.0", "api_version": 1, "registration": "open",
    "max_file_size": 10**9, "features": [],
}  # fmt: skip

@asynccontextmanager
async def app() -> AsyncIterator[AppState]:
    """An app on which nobody is signed in and no server is built in."""
    tokens = MemoryTokenStore()
    state = AppState(
        connect=lambda url: HyperSend(url, tokens=tokens), tokens=tokens, memory=FakeMemory(), transfers=None
    )
    try:
        await state.open()
        yield state
    finally:
        await state.close()


@asynccontextmanager
async def answering(
    respond: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server that answers whatever is asked so; its address."""
    server = web.Application()
    server.router.add_route("*", "/{any:.*}", respond)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def told(state: AppState, work: Awaitable[object], address: str = "") -> dict[str, str]:
    """What the person reads, by language."""
    with pytest.raises(HyperSendError) as caught:
        await work
    return {
        language: explain(caught.value, Translator(language), address=address or state.session.address)
        for language in ("en", "hi")
    }


def has_both(words: dict[str, str], *parts: str) -> None:
    """The English has these parts; the Hindi is Hindi, and no sentence that would fit anything."""
    for part in parts:
        assert part in words["en"]
    assert any("\u0900" <= letter <= "\u097f" for letter in words["hi"])
    general = Translator("hi")
    assert words["hi"] not in {general("error.error"), general("error.refused"), general("error.server")}


@pytest.mark.parametrize("address", ["ht!tp://", "what is this", "http://", "chat.example.org:99999"])
async def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    async with app() as state:
        words = await told(state, state.find_server(address))
        has_both(words, "address")


async def test_where_nobody_answers_the_address_is_named() -> None:
    free = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    async with app() as state:
        address = f"http://127.0.0.1:{port}"
        words = await told(state, state.find_server(address), address)
        has_both(words, f"127.0.0.1:{port}", "Check the address or your connection")
        assert f"127.0.0.1:{port}" in words["hi"]


@pytest.mark.parametrize("kind", ["page", "json", "missing"])
async def test_a_server_that_is_no_hypersend_is_told_as_that(kind: str) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        if kind == "page":
            return web.Response(text="<html>Welcome to nginx</html>", content_type="text/html")
        if kind == "json":
            return web.json_response({"hello": "there"})
        return web.Response(status=404, text="nothing here")

    async with app() as state, answering(respond) as address:
        words = await told(state, state.find_server(address), address)
        assert words["en"] == Translator("en")("error.not_hypersend", host=address.removeprefix("http://"))
        has_both(words, "127.0.0.1")


@pytest.mark.parametrize(("change", "key"), [
    ({"min_client": "99.0"}, "error.client_too_old"),
    ({"api_version": 0}, "error.server_too_old"),
])  # fmt: skip
async def test_a_server_of_another_time_says_which_side_has_to_be_updated(change: dict[str, object], key: str) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        return web.json_response(SERVER | change)

    async with app() as state, answering(respond) as address:
        words = await told(state, state.find_server(address), address)
        host = address.removeprefix("http://")
        assert words["en"] == Translator("en")(key, needed="99.0", host=host)
        has_both(words)


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        return web.json_response(SERVER)

    tls = await asyncio.to_thread(certificate, tmp_path)
    async with app() as state, answering(respond, tls) as address:
        words = await told(state, state.find_server(address), address)
        assert words["en"] == Translator("en")("error.tls_certificate", host=address.removeprefix("https://"))
        has_both(words)


async def test_https_where_only_http_is_spoken_says_so(tmp_path: Path) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        return web.json_response(SERVER)

    async with app() as state, answering(respond) as address:
        wrong = address.replace("http://", "https://")
        words = await told(state, state.find_server(wrong), wrong)
        assert words["en"] == Translator("en")("error.tls_failed", host=address.removeprefix("http://"))
        has_both(words)


async def test_the_real_server_refuses_in_the_persons_words(tmp_path: Path) -> None:
    async with site(tmp_path, web_client="off") as server, app() as state:
        await server.person("ann")
        await state.find_server(server.url)
        wrong = await told(state, state.sign_in("ann@example.org", "not it at all"))
        has_both(wrong, "E-mail or password is wrong")
        taken = await told(state, state.register("new@example.org", "ann", PASSWORD, "", ""))
        has_both(taken, "user name is taken")
        mail = await told(state, state.register("ann@example.org", "ann2", PASSWORD, "", ""))
        has_both(mail, "account with this e-mail")


async def test_an_invite_that_does_not_work_says_to_ask_for_a_new_one(tmp_path: Path) -> None:
    async with site(tmp_path, web_client="off", REGISTRATION="invite") as server, app() as state:
        await state.find_server(server.url)
        none = await told(state, state.register("new@example.org", "newcomer", PASSWORD, "", "long-gone"))
        has_both(none, "Ask for a new one")
