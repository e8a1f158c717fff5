from __future__ import annotations

import ipaddress

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.client_address import client_address

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
