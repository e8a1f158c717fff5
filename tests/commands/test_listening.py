"""What the server listens on."""

from __future__ import annotations

import socket

import pytest

from hypersend_server.commands.serve import UNREAD_MS, _listen


def test_connections_inherit_the_limit_for_peers_that_take_nothing() -> None:
    (listener,) = _listen("127.0.0.1", 0)
    with listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MS


def test_a_name_without_an_address_and_a_taken_port_are_errors() -> None:
    with pytest.raises(OSError):
        _listen("nowhere.invalid", 0)
    (listener,) = _listen("127.0.0.1", 0)
    with listener:
        listener.listen()
        with pytest.raises(OSError):
            _listen("127.0.0.1", listener.getsockname()[1])
