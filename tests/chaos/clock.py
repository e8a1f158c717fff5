"""The wall clock of a process under test, which can be made to jump: Debian's `libfaketime`.

What measures durations (CLOCK_MONOTONIC) goes on undisturbed, as it does when NTP or an operator sets the clock.
"""

from __future__ import annotations

from pathlib import Path

from tests.parts import require

NOTICED_S = 1  # a jump is seen by the process within so long


def library() -> str:
    """The path of libfaketime, or the test is skipped."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    require("libfaketime", bool(found))
    return str(found[0])


class WallClock:
    """file: keeps how far it is off. settings: of the environment that the process is started with."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)
        self.settings = {
            "LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": str(NOTICED_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(Path(__file__).parent / "awake")}

    def jump(self, seconds: int) -> None:
        """It shows the real time and so much more."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)


def sweep() -> None:
    """Remove what libfaketime left in shared memory of processes that were killed."""
    for path in Path("/dev/shm").glob("*faketime_s*_*"):
        if not Path(f"/proc/{path.name.rpartition('_')[2]}").exists():
            path.unlink(missing_ok=True)
