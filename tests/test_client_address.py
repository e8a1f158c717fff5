from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.auth.guesses import ADDRESS_FREE
from hypersend_server.client_address import client_address
from tests.harness import Answer, Server, running

PROXIES = (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("10.0.0.0/8"))


def address(peer: str, *forwarded: str) -> str:
    request = make_mocked_request("GET", "/", headers=[("X-Forwarded-For", value) for value in forwarded])
    return client_address(request.clone(remote=peer), PROXIES)


@pytest.mark.parametrize(("peer", "forwarded", "expected"), [
    ("198.51.100.7", (), "198.51.100.7"),
    ("198.51.100.7", ("203.0.113.9",), "198.51.100.7"),  # not a proxy of ours: what it says counts nothing
    ("127.0.0.1", ("198.51.100.7",), "198.51.100.7"),
    ("127.0.0.1", ("203.0.113.9, 198.51.100.7",), "198.51.100.7"),  # further left is the client's own invention
    ("127.0.0.1", ("203.0.113.9, 198.51.100.7, 10.1.2.3",), "198.51.100.7"),
    ("127.0.0.1", ("203.0.113.9", "198.51.100.7"), "198.51.100.7"),
    ("127.0.0.1", ("2001:db8::1",), "2001:db8::1"),
    ("127.0.0.1", ("not an address",), "127.0.0.1"),
    ("127.0.0.1", (), "127.0.0.1"),
    ("127.0.0.1", (" , ,",), "127.0.0.1"),
])
def test_the_client_is_the_rightmost_that_is_no_proxy(peer: str, forwarded: tuple[str, ...], expected: str) -> None:
    assert address(peer, *forwarded) == expected


@given(st.text(alphabet="0123456789abcdef.:, xyz", max_size=60))
def test_whatever_is_claimed_the_answer_is_an_address(claimed: str) -> None:
    ipaddress.ip_address(address("127.0.0.1", claimed))


async def _guess(server: Server, number: int, **headers: str) -> Answer:
    return await server.post("/auth/login", {
        "email": f"nobody{number}@example.org", "password": "a wrong guess"}, headers=headers)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "CF-Connecting-IP"])
async def test_who_is_no_proxy_gains_no_guesses_by_another_address_each_time(tmp_path: Path, header: str) -> None:
    async with running(tmp_path, TRUSTED_PROXIES="10.0.0.0/8") as server:
        for number in range(ADDRESS_FREE):
            address = f"198.51.100.{number}"
            answer = await _guess(server, number, **{header: f"for={address}" if header == "Forwarded" else address})
            assert (answer.status, answer.code) == (401, "credentials_invalid")
        refused = await _guess(server, 200, **{header: "203.0.113.77"})
        assert (refused.status, refused.code) == (429, "rate_limited")


async def test_what_a_client_puts_before_a_proxys_own_entry_gains_it_no_guesses(tmp_path: Path) -> None:
    async with running(tmp_path, TRUSTED_PROXIES="127.0.0.1") as server:
        for number in range(ADDRESS_FREE):
            answer = await _guess(server, number, **{"X-Forwarded-For": f"198.51.100.{number}, 203.0.113.9"})
            assert (answer.status, answer.code) == (401, "credentials_invalid")
        refused = await _guess(server, 200, **{"X-Forwarded-For": "198.51.100.200, 203.0.113.9"})
        assert (refused.status, refused.code) == (429, "rate_limited")
        other = await _guess(server, 201, **{"X-Forwarded-For": "198.51.100.200, 203.0.113.10"})
        assert other.status == 401
