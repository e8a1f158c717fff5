"""nginx as the project configures it: what it passes on, what it takes away, what it says itself."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.anywhere.front import certificate, check, echo, front, render
from tests.anywhere.two_people import meet
from tests.harness import PASSWORD, Client
from tests.parts import require
from tests.process import ServerProcess

LONG_S = 60
TLS = {"TLS": "own", "DOMAIN": "localhost"}
WAYS = {
    "lite": {"COMPOSE_PROFILES": "lite"},
    "standard": {"COMPOSE_PROFILES": "standard"},
    "all": {"COMPOSE_PROFILES": "standard,s3,scale"},
    "behind a proxy": {"COMPOSE_PROFILES": "lite", "FRONT_PROXIES": "10.0.0.0/8,192.0.2.7"},
    "own certificate": {"COMPOSE_PROFILES": "standard,s3", **TLS},
    "certificate to come": {"COMPOSE_PROFILES": "lite,letsencrypt", "TLS": "letsencrypt", "DOMAIN": "chat.example.org"},
}


def prepared(way: str, folder: Path) -> dict[str, str]:
    environment = dict(WAYS[way])
    if environment.get("TLS") == "own":
        environment["CERTIFICATES"] = str(certificate(folder / "certificates", "localhost"))
    return environment


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rendered_passes_nginxs_own_check(way: str, tmp_path: Path) -> None:
    # Names of containers are unknown here, and nginx looks them up.
    servers = "127.0.0.1:8000 127.0.0.1:8001" if "scale" in WAYS[way]["COMPOSE_PROFILES"] else "127.0.0.1:8000"
    done = render(tmp_path, SERVERS=servers, OBJECTS_AT="127.0.0.1:9000", **prepared(way, tmp_path))
    assert done.returncode == 0, done.stderr
    checked = check(tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    for file in (tmp_path / "out").iterdir():
        text = file.read_text()
        assert not re.search("^#(if|end|each)", text, re.MULTILINE)
        assert "@hypersend" in text or "@" not in text


@pytest.mark.parametrize("way", WAYS)
def test_gixy_finds_nothing(way: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("gixy")
    require("gixy", program.exists())
    # As the container's nginx is told: it looks names up again.
    done = render(tmp_path, nginx_version="1.28.0", **prepared(way, tmp_path))
    assert done.returncode == 0, done.stderr
    found = subprocess.run([program, tmp_path / "out" / "nginx.conf"], capture_output=True, text=True, timeout=120,
                           check=False)
    assert "No issues found" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize(("wrong", "said"), [
    ({"COMPOSE_PROFILES": ""}, "COMPOSE_PROFILES must have standard or lite"),
    ({"COMPOSE_PROFILES": "lite,standard"}, "not both"),
    ({"COMPOSE_PROFILES": "lite,scale"}, "scale needs standard"),
    ({"TLS": "on"}, "TLS must be one of"),
    ({"TLS": "own", "DOMAIN": ""}, "needs DOMAIN"),
    ({"TLS": "own", "DOMAIN": "a.example; }"}, "needs DOMAIN"),
    ({"TLS": "own", "DOMAIN": "a.example", "CERTIFICATES": "/nowhere"}, "needs /nowhere/fullchain.pem"),
    ({"TLS": "letsencrypt", "DOMAIN": "a.example"}, "needs letsencrypt in COMPOSE_PROFILES"),
    ({"FRONT_PROXIES": "the proxy"}, "FRONT_PROXIES must be"),
    ({"COMPOSE_PROFILES": "lite,s3", "S3_BUCKET": "../x"}, "S3_BUCKET must be"),
])
def test_a_wrong_setting_is_named_and_nothing_written(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    done = render(tmp_path, **{"COMPOSE_PROFILES": "lite", **wrong})
    assert done.returncode == 1
    assert said in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    certificates = certificate(tmp_path / "certificates", "localhost")
    other = certificate(tmp_path / "other", "localhost")
    (certificates / "privkey.pem").write_bytes((other / "privkey.pem").read_bytes())
    assert render(tmp_path, COMPOSE_PROFILES="lite", SERVERS="127.0.0.1:8000", CERTIFICATES=str(certificates),
                  **TLS).returncode == 0
    checked = check(tmp_path)
    assert checked.returncode != 0
    assert "key values mismatch" in checked.stderr


def shake_hands(port: int, context: ssl.SSLContext, name: str) -> str | None:
    """The protocol that was agreed on."""
    with (
        socket.create_connection(("127.0.0.1", port), LONG_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        return tls.selected_alpn_protocol()


async def test_two_people_over_https_with_files_sent_by_nginx(tmp_path: Path) -> None:
    certificates = certificate(tmp_path / "certificates", "localhost")
    with (
        ServerProcess(tmp_path / "data", X_ACCEL_PREFIX="/_files", TRUSTED_PROXIES="127.0.0.1") as server,
        front(tmp_path / "front", server.url.removeprefix("http://"), FILES=str(server.data_root / "files"),
              CERTIFICATES=str(certificates), **TLS) as nginx,
    ):
        trusted = ssl.create_default_context(cafile=str(certificates / "fullchain.pem"))
        address = f"https://localhost:{nginx.https}"
        headers = await meet(address, 20 * 2**20, aiohttp.TCPConnector(ssl=trusted))
        assert headers["Server"] == "nginx"
        assert "X-Accel-Redirect" not in headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("sandbox")
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Request-Id"]
        assert "Content-Encoding" not in headers

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http:
            plain = await Client(http, nginx.url).get(nginx.url + "/api/v1/server?a=b")
            assert (plain.status, plain.headers["Location"]) == (301, f"{address}/api/v1/server?a=b")
            hidden = await Client(http, address).get(f"{address}/_files/x")
            assert hidden.status == 404

            # Bodies above the server's limits come back with the server's own word, not nginx's.
            person = Client(http, address)
            session = await person.post("/auth/login", {"email": "asha@example.org", "password": PASSWORD})
            person.headers["Authorization"] = f"Bearer {session.json['access_token']}"
            file = (await person.post("/files/init", {"name": "a", "size": 9 * 2**20})).json
            long = await person.put(f"/files/{file['id']}/chunk?index=1", data=b"x" * (2 * 2**20))
            assert (long.status, long.code) == (400, "chunk_size_mismatch")
            body = b'{"kind": "group", "title": "' + b"x" * 3_000_000 + b'", "member_ids": []}'
            huge = await person.post("/chats", data=body, headers={"Content-Type": "application/json"})
            assert (huge.status, huge.headers["Content-Type"]) == (413, "application/problem+json")

        trusted.set_alpn_protocols(["h2", "http/1.1"])
        assert await asyncio.to_thread(shake_hands, nginx.https, trusted, "localhost") == "http/1.1"
        trusted.check_hostname = False
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await asyncio.to_thread(shake_hands, nginx.https, trusted, "other.example.org")
        assert "?" not in nginx.log()


FORGED = {
    "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example.org",
    "X-Forwarded-Port": "1", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-HyperSend-Relay": "pass",
    "X-HyperSend-Browser": "b", "X-HyperSend-Access-Token": "t", "X-HyperSend-Renewal": "r", "X-HyperSend-Zone": "Z",
}


@pytest.mark.parametrize("path", ["/", "/api/v1/chats", "/api/v1/auth/login", "/api/v1/p2p/sender/abc", "/ws"])
async def test_nothing_that_a_client_forged_is_passed_on(path: str, tmp_path: Path) -> None:
    async with echo() as upstream, aiohttp.ClientSession() as http:
        with front(tmp_path, upstream.address) as nginx:
            async with http.get(nginx.url + path, headers=FORGED) as answer:
                assert answer.status == 200
                compressed = answer.headers.get("Content-Encoding") == "gzip"
            assert compressed is (path == "/api/v1/chats")
        (request,) = upstream.requests
        assert request.headers.getall("X-Forwarded-For") == ["127.0.0.1"]
        assert request.headers.getall("X-Forwarded-Proto") == ["http"]
        assert request.headers["Host"] == f"127.0.0.1:{nginx.http}"
        kept = set(FORGED) - {"X-Forwarded-For", "X-Forwarded-Proto"}
        assert not kept & set(request.headers)


async def test_a_proxy_in_front_that_was_named_is_believed(tmp_path: Path) -> None:
    async with echo() as upstream, aiohttp.ClientSession() as http:
        with front(tmp_path, upstream.address, FRONT_PROXIES="127.0.0.1") as nginx:
            forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
            async with http.get(nginx.url, headers=forwarded) as answer:
                assert answer.headers["Strict-Transport-Security"]
        (request,) = upstream.requests
        assert request.headers["X-Forwarded-For"] == "203.0.113.9"
        assert request.headers["X-Forwarded-Proto"] == "https"


async def test_a_body_reaches_the_server_while_it_is_still_being_sent(tmp_path: Path) -> None:
    async with echo() as upstream, aiohttp.ClientSession() as http:
        with front(tmp_path, upstream.address) as nginx:
            async def body() -> AsyncIterator[bytes]:
                yield b"a" * 100_000
                await asyncio.wait_for(upstream.arrived.wait(), LONG_S)  # a proxy that buffers never lets this happen
                yield b"b" * 100_000

            async with http.put(nginx.url + "/api/v1/files/abc/chunk?index=0", data=body()) as answer:
                assert answer.status == 200
        assert upstream.received == 200_000


async def test_a_flood_of_sign_ins_is_held_back_and_says_so(tmp_path: Path) -> None:
    async with echo() as upstream, aiohttp.ClientSession() as http:
        with front(tmp_path, upstream.address) as nginx:
            client = Client(http, nginx.url)
            answers = [await client.post("/auth/login", {}) for _ in range(60)]
            assert answers[0].status == 200
            refused = [answer for answer in answers if answer.status != 200]
            assert refused
            assert {(answer.status, answer.code) for answer in refused} == {(429, "rate_limited")}
            assert refused[0].headers["Retry-After"] == "10"
            assert (await client.get("/chats")).status == 200


async def test_a_server_that_is_away_is_said_to_come_back(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        with front(tmp_path, "127.0.0.1:1") as nginx:
            answer = await Client(http, nginx.url).get("/chats")
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "not_ready", "3")
