"""Whether there is still anybody at the other end of a connection.

A phone that changes its network leaves connections behind that nobody closes. The system asks again and again, ever
more seldom, and would go on for minutes; what was sent and is not acknowledged for SILENT_S, or questions that nobody
answers, mean here: connect anew. A peer that merely takes nothing (it acknowledges, or answers the questions) is there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

SILENT_S = 5.0
LOOK_S = 1.0
ASK_AFTER_S, ASK_EVERY_S, ASKED = 3, 1, 3
# struct tcp_info of Linux: icsk_probes at byte 3; tcpi_unacked, tcpi_last_ack_recv in ms.
_PROBES, _UNACKED, _LAST_ACK = 3, 24, 56
_SIZE = 60


def ask_when_idle(sock: socket.socket) -> None:
    """Have the system ask the other end when nothing was heard for a while, so that a `Look` can tell."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ASK_AFTER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_EVERY_S)
    except (OSError, AttributeError):
        pass  # then a read that lasts too long tells


def be_impatient(sock: socket.socket) -> None:
    """What is sent and neither acknowledged nor taken for SILENT_S ends the connection, where the system can do it."""
    _set_user_timeout(sock, int(SILENT_S * 1000))


def be_patient(sock: socket.socket) -> None:
    """For a peer that may take nothing for a while."""
    _set_user_timeout(sock, 0)


def _set_user_timeout(sock: socket.socket, milliseconds: int) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    except (OSError, AttributeError):
        pass


class Look:
    """One look each LOOK_S at a connection that is in use."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._silent = 0

    def is_dead(self) -> bool:
        """False also where the system does not tell."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        except OSError:
            return False
        if len(info) < _SIZE:
            return False
        (unacked,) = struct.unpack_from("=I", info, _UNACKED)
        (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK)
        # The last one may be from before a pause, so it takes several looks in which none came.
        self._silent = self._silent + 1 if unacked > 0 and last_ack_ms > LOOK_S * 1000 else 0
        return info[_PROBES] >= ASKED or self._silent > SILENT_S / LOOK_S


async def watch(sock: socket.socket, dead: Callable[[], None]) -> None:
    """Call `dead` once, when nobody is there any more."""
    look = Look(sock)
    while not look.is_dead():
        await asyncio.sleep(LOOK_S)
    dead()
