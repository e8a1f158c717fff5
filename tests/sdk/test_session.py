from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hypersend_client.sdk import (
    ApiError,
    ClientTooOld,
    ConnectionFailed,
    FileTokenStore,
    HyperSend,
    MemoryTokenStore,
    NotHyperSend,
    OtherServer,
    ServerTooOld,
    SignedOut,
    TlsFailed,
)
from tests.sdk.peer import Monotonic, Naps, Peer, Tokens, problem, serving
from tests.sdk.test_transport import certificate


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as peer:
        yield peer


async def test_twenty_calls_with_an_expired_token_refresh_once(peer: Peer) -> None:
    tokens = Tokens(peer)
    async with HyperSend(peer.url) as hs:
        await hs.login("ann@example.org", "p")
        tokens.expire()
        people = await asyncio.gather(*(hs.me.get() for _ in range(20)))
    assert [person.username for person in people] == ["ann"] * 20
    assert tokens.refreshed == ["refresh-1"]


async def test_a_token_is_refreshed_before_it_expires(peer: Peer) -> None:
    tokens, clock = Tokens(peer, expires_in=900), Monotonic()
    async with HyperSend(peer.url, monotonic=clock) as hs:
        await hs.login("ann@example.org", "p")
        clock.now += 800
        await hs.me.get()
        assert tokens.refreshed == []
        clock.now += 95
        tokens.expire()
        seen = peer.count("/users/me")
        await hs.me.get()
    assert tokens.refreshed == ["refresh-1"]
    assert peer.count("/users/me") == seen + 1, "the old token was not tried"


async def test_a_wall_clock_that_jumps_changes_nothing(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(peer)
    async with HyperSend(peer.url) as hs:
        await hs.login("ann@example.org", "p")
        for now in (0.0, 4_000_000_000.0):
            monkeypatch.setattr("time.time", lambda now=now: now)
            assert (await hs.me.get()).username == "ann"
    assert tokens.refreshed == []


async def test_a_lost_answer_to_a_refresh_is_asked_for_again(peer: Peer) -> None:
    tokens = Tokens(peer)
    lost: list[web.StreamResponse] = []

    async def lose(request: web.Request) -> web.StreamResponse:
        answer = await tokens.refresh(request)
        if not lost:
            lost.append(answer)
            assert request.transport is not None
            request.transport.abort()
        return answer

    peer.on("/auth/refresh", lose)
    async with HyperSend(peer.url, sleep=Naps()) as hs:
        await hs.login("ann@example.org", "p")
        tokens.expire()
        await hs.me.get()
    assert tokens.refreshed == ["refresh-1", "refresh-1"]


@pytest.mark.parametrize("reason", ["refresh_reused", "session_ended"])
async def test_an_ended_session_signs_out_and_forgets_the_token(peer: Peer, reason: str) -> None:
    tokens, store = Tokens(peer), MemoryTokenStore()
    told: list[str] = []
    async with HyperSend(peer.url, tokens=store) as hs:
        hs.session.on_signed_out(told.append)
        await hs.login("ann@example.org", "p")
        tokens.expire()
        peer.on("/auth/refresh", lambda request: _answer(problem(401, reason)))
        with pytest.raises(SignedOut) as caught:
            await hs.me.get()
        assert caught.value.reason == reason
        assert hs.account is None
    assert await store.accounts() == []
    assert told == [reason]


async def _answer(response: web.Response) -> web.StreamResponse:
    return response


async def test_without_a_session_there_is_no_request(peer: Peer) -> None:
    async with HyperSend(peer.url) as hs:
        with pytest.raises(SignedOut):
            await hs.me.get()
    assert peer.count("/users/me") == 0


async def test_a_refresh_that_cannot_reach_the_server_keeps_the_session(peer: Peer) -> None:
    tokens, store = Tokens(peer), MemoryTokenStore()

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with HyperSend(peer.url, tokens=store, sleep=Naps()) as hs:
        await hs.login("ann@example.org", "p")
        tokens.expire()
        peer.on("/auth/refresh", cut)
        with pytest.raises(ConnectionFailed):
            await hs.me.get()
        peer.on("/auth/refresh", tokens.refresh)
        assert (await hs.me.get()).username == "ann"


async def test_a_second_process_uses_what_the_first_one_refreshed(peer: Peer, tmp_path: Path) -> None:
    tokens = Tokens(peer)
    path = tmp_path / "tokens.json"
    async with HyperSend(peer.url, tokens=FileTokenStore(path)) as one:
        await one.login("ann@example.org", "p")
        async with HyperSend(peer.url, tokens=FileTokenStore(path)) as two:
            tokens.expire()
            await one.me.get()
            await two.me.get()
    assert tokens.refreshed == ["refresh-1"]


PROCESS = """
import asyncio, sys
from hypersend_client.sdk import FileTokenStore, HyperSend

async def main():
    async with HyperSend(sys.argv[1], tokens=FileTokenStore(sys.argv[2])) as hs:
        await hs.connect()
        print("ready", flush=True)
        sys.stdin.readline()
        for person in await asyncio.gather(*(hs.me.get() for _ in range(5))):
            assert person.username == "ann"
    print("done", flush=True)

asyncio.run(main())
"""


async def test_processes_that_share_a_token_store_refresh_once(peer: Peer, tmp_path: Path) -> None:
    tokens = Tokens(peer)
    path = tmp_path / "tokens.json"
    async with HyperSend(peer.url, tokens=FileTokenStore(path)) as hs:
        await hs.login("ann@example.org", "p")
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, peer.url, str(path), stdin=pipe, stdout=pipe)
        for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    tokens.expire()
    said = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [out for out, _ in said] == [b"done\n", b"done\n"]
    assert tokens.refreshed == ["refresh-1"]
    assert (await FileTokenStore(path).accounts())[0].access_token == "access-2"


async def test_another_program_that_signed_out_signs_this_one_out_too(peer: Peer, tmp_path: Path) -> None:
    tokens = Tokens(peer)
    store = FileTokenStore(tmp_path / "tokens.json")
    async with HyperSend(peer.url, tokens=store) as hs:
        account_key = (await hs.login("ann@example.org", "p")).id
        await store.remove("server-1", account_key)
        tokens.expire()
        with pytest.raises(SignedOut):
            await hs.me.get()


# The server at the address


async def test_a_server_that_moved_is_recognised(peer: Peer, tmp_path: Path) -> None:
    Tokens(peer)
    store = FileTokenStore(tmp_path / "tokens.json")
    async with HyperSend(peer.url, tokens=store) as hs:
        await hs.login("ann@example.org", "p")
    moved = Peer()
    Tokens(moved)
    async with serving(moved):
        async with HyperSend(moved.url, tokens=store) as hs:
            assert (await hs.me.get()).username == "ann"
        async with HyperSend(moved.url, tokens=store) as hs:
            assert hs.account is not None, "known by its address from now on"


async def test_another_server_at_the_address_never_gets_the_token(peer: Peer) -> None:
    tokens = Tokens(peer)
    store = MemoryTokenStore()
    async with HyperSend(peer.url, tokens=store) as hs:
        await hs.login("ann@example.org", "p")
    peer.server["server_id"] = "somebody-else"
    seen = len(peer.headers)
    async with HyperSend(peer.url, tokens=store) as hs:
        with pytest.raises(OtherServer):
            await hs.me.get()
    assert all("Authorization" not in headers for headers in peer.headers[seen:])
    assert tokens.refreshed == []
    assert len(await store.accounts()) == 1


@pytest.mark.parametrize("answer", [
    web.json_response({"hello": "world"}), web.json_response([1]), web.Response(status=404, text="nothing"),
    web.Response(text="<html>", content_type="text/html"), web.Response(status=401),
    web.Response(body=b"\xff{", content_type="application/json"),
])
async def test_an_address_that_is_no_hypersend_is_told_apart(peer: Peer, answer: web.Response) -> None:
    async def other(request: web.Request) -> web.StreamResponse:
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    peer.on("/server", other)
    async with HyperSend(peer.url) as hs:
        with pytest.raises(NotHyperSend):
            await hs.login("ann@example.org", "p")


async def test_something_that_speaks_no_http_is_told_apart() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, HyperSend(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sleep=Naps()) as hs:
        with pytest.raises(NotHyperSend):
            await hs.connect()


async def test_versions_that_do_not_fit_say_which_side_is_too_old(peer: Peer) -> None:
    async with HyperSend(peer.url) as hs:
        peer.server["api_version"] = 0
        with pytest.raises(ServerTooOld):
            await hs.connect()
        peer.server.update(api_version=7, min_client="0.0.9")
        assert (await hs.connect()).api_version == 7, "a newer server that takes this client is fine"
        peer.server.update(min_client="99.0.0")
        with pytest.raises(ClientTooOld) as caught:
            await hs.connect()
        assert caught.value.needed == "99.0.0"


async def test_an_address_that_redirects_is_followed_and_kept(peer: Peer) -> None:
    tokens = Tokens(peer)
    front = Peer()

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMovedPermanently(peer.url + request.path_qs)

    front.on("/server", away)
    async with serving(front), HyperSend(front.url) as hs:
        await hs.login("ann@example.org", "p")
        assert hs.url == peer.url
        await hs.me.get()
    assert tokens.refreshed == []


async def test_https_never_leads_to_http(peer: Peer, tmp_path: Path) -> None:
    front = Peer()

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMovedPermanently(peer.url + request.path_qs)

    front.on("/server", away)
    async with serving(front, certificate(tmp_path)):
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        async with HyperSend(front.url, ssl=trust) as hs:
            with pytest.raises(TlsFailed):
                await hs.connect()


async def test_a_wrong_password_is_an_api_error_and_not_signed_out(peer: Peer) -> None:
    peer.on("/auth/login", lambda request: _answer(problem(401, "credentials_invalid")))
    async with HyperSend(peer.url) as hs:
        with pytest.raises(ApiError) as caught:
            await hs.login("ann@example.org", "p")
    assert caught.value.code == "credentials_invalid"


# The file


async def test_tokens_are_for_their_owner_alone(peer: Peer, tmp_path: Path) -> None:
    Tokens(peer)
    path = tmp_path / "private" / "tokens.json"
    old = os.umask(0)
    try:
        async with HyperSend(peer.url, tokens=FileTokenStore(path)) as hs:
            await hs.login("ann@example.org", "p")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_logout_leaves_nothing_behind_even_offline(peer: Peer, tmp_path: Path) -> None:
    Tokens(peer)
    store = FileTokenStore(tmp_path / "tokens.json")
    async with HyperSend(peer.url, tokens=store, cache_dir=tmp_path / "cache", sleep=Naps()) as hs:
        await hs.login("ann@example.org", "p")
        await hs.start()
        await hs.store.set_draft("chat", "secret plans")
        peer.on("/auth/logout", lambda request: _answer(problem(503, "not_ready", retryable=True)))
        await hs.logout()
        assert hs.account is None
    assert "access-1" not in (tmp_path / "tokens.json").read_text()
    assert list((tmp_path / "cache").iterdir()) == []


async def test_a_damaged_token_file_means_signing_in_again(peer: Peer, tmp_path: Path) -> None:
    Tokens(peer)
    path = tmp_path / "tokens.json"
    path.write_bytes(b'{"version": 1, "acc')
    async with HyperSend(peer.url, tokens=FileTokenStore(path)) as hs:
        with pytest.raises(SignedOut):
            await hs.me.get()
        await hs.login("ann@example.org", "p")
    assert json.loads(path.read_text())["accounts"][0]["user_id"] == "user-1"
