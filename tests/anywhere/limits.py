"""A control group with a memory limit, on cgroup v2 or v1, for a process of the tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


class Group:
    """folder: of the group. limit, highest: its files."""

    def __init__(self, folder: Path, limit: Path, highest: Path) -> None:
        self.folder, self.limit, self._highest = folder, limit, highest

    def take(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    @property
    def processes(self) -> set[int]:
        return {int(line) for line in (self.folder / "cgroup.procs").read_text().split()}

    @property
    def highest(self) -> int:
        """Most memory that was ever charged to it, page cache included, bytes; -1 where the kernel does not tell."""
        return int(self._highest.read_text()) if self._highest.exists() else -1

    @property
    def killed(self) -> int:
        """Processes that the kernel ended for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            if (self.folder / name).exists():
                lines = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(lines.get("oom_kill", 0))
        raise AssertionError("this group tells nothing of its kills")


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Group]:
    """Skips the test where control groups cannot be written."""
    name = f"hypersend-test-{os.getpid()}"
    if (ROOT / "cgroup.controllers").exists():
        folder, limit, highest = ROOT / name, "memory.max", "memory.peak"
    else:
        folder, limit, highest = ROOT / "memory" / name, "memory.limit_in_bytes", "memory.max_usage_in_bytes"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be written here: {error}")
    group = Group(folder, folder / limit, folder / highest)
    try:
        try:
            group.limit.write_text(str(limit_bytes))
        except OSError as error:
            pytest.skip(f"memory cannot be limited here: {error}")
        yield group
    finally:
        folder.rmdir()
