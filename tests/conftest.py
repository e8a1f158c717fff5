from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.parts import require

SMALL_DISK_MIB = 24

# How long an example takes depends on what else the machine does, and says nothing about it.
settings.register_profile("hypersend", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hypersend")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB that is easily full."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(place)], check=False).returncode == 0
    require("tmpfs", mounted)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
