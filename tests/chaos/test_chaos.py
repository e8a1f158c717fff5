"""A while of everything going wrong, by a fixed seed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.scale import ScaleWorld
from tests.chaos.world import World
from tests.parts import require

MINUTES = float(os.environ.get("HYPERSEND_CHAOS_MINUTES", "2"))
SCALE_MINUTES = float(os.environ.get("HYPERSEND_CHAOS_SCALE_MINUTES", "2"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that the run fills up now and then; large enough for what is sent."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500m", "tmpfs", str(place)], check=False).returncode == 0
    require("tmpfs", mounted)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_nothing_that_was_confirmed_is_lost_or_doubled(tmp_path: Path, disk: Path) -> None:
    async with World(tmp_path, 11, disk) as world:
        await _suffer_and_check(world, MINUTES)


async def test_two_servers_over_mongodb_redis_and_object_storage_lose_nothing_either(tmp_path: Path) -> None:
    async with ScaleWorld(tmp_path, 8) as world:
        await _suffer_and_check(world, SCALE_MINUTES)


async def _suffer_and_check(world: World, minutes: float) -> None:
    await world.suffer(minutes * 60)
    counted = await world.check()
    assert counted["messages"] > 20
    assert [what for what in ("files", "edits", "reactions", "downloads", "passed on") if not counted[what]] == []
    assert [fault.__name__ for fault in world.faults() if not counted.get(fault.__name__)] == []
