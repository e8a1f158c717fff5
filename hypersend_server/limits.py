"""Token buckets in memory: how often one key (a person, an address) may do a thing, and what counts as one address."""

from __future__ import annotations

import ipaddress
import math

from hypersend_server.clock import Clock


class Buckets:
    """rate_per_s: tokens that come back each second. burst: tokens at most. Buckets that are full are forgotten."""

    def __init__(self, rate_per_s: float, burst: float, clock: Clock) -> None:
        self._rate = rate_per_s / 1000
        self._burst = burst
        self._clock = clock
        self._levels: dict[str, tuple[float, int]] = {}
        self._sweep_at = clock()

    def take(self, key: str, tokens: float = 1) -> int | None:
        """None where it may go on, else the whole seconds after which to try again."""
        now = self._clock()
        if now >= self._sweep_at:
            self._forget_full(now)
        level, since = self._levels.get(key, (self._burst, now))
        # A clock that was set back gives nothing and takes nothing.
        level = min(self._burst, level + max(0, now - since) * self._rate)
        if level < tokens:
            self._levels[key] = (level, now)
            return max(1, math.ceil((tokens - level) / self._rate / 1000))
        self._levels[key] = (level - tokens, now)
        return None

    def _forget_full(self, now: int) -> None:
        full_after = self._burst / self._rate
        self._levels = {k: v for k, v in self._levels.items() if now - v[1] < full_after}
        self._sweep_at = now + 60_000


class NoLimits:
    """`Buckets` that never say no (RATE_LIMITS=off)."""

    def take(self, key: str, tokens: float = 1) -> int | None:
        return None


def network_of(address: str) -> str:
    """The address, or the /64 of an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)
