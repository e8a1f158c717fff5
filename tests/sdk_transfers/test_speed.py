"""How fast a transfer is said to go."""

from __future__ import annotations

import pytest

from hypersend_client.sdk.transfer import BREAK_S, Speed


def test_a_break_is_no_part_of_the_speed_that_follows() -> None:
    now = 0.0
    speed = Speed(lambda: now)
    for _ in range(50):
        now += 0.2
        speed.add(200_000)
    assert speed.bytes_per_s == pytest.approx(1e6, rel=0.1)
    now += BREAK_S + 60
    assert speed.bytes_per_s == 0
    speed.add(200_000)
    assert speed.bytes_per_s == 0  # one piece says nothing yet
    for _ in range(10):
        now += 0.2
        speed.add(100_000)
    assert speed.bytes_per_s == pytest.approx(500_000, rel=0.2)


def test_a_line_so_slow_that_pieces_take_seconds_has_a_speed() -> None:
    now = 0.0
    speed = Speed(lambda: now)
    for _ in range(6):
        now += 10
        speed.add(100_000)
    now += 5
    assert 5_000 < speed.bytes_per_s < 25_000
