"""What looks after a run notices what it is there to notice."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.clock import WallClock, sweep
from tests.chaos.world import find_all
from tests.process import ServerProcess, environment

SAID = [{"chat_id": "c", "client_id": f"said-{n}", "text": f"text {n}"} for n in range(4)]
SHOWN: dict[str, Any] = {
    name: {"c": {"seq": 4, "messages": [[n + 1, n + 1, f"said-{n}", f"text {n}", [], []] for n in range(4)]}}
    for name in ("asha", "ben")}

Change = Callable[[dict[str, Any]], object]


def test_what_is_whole_passes() -> None:
    assert [message[3] for message in find_all("asha", SAID, SHOWN)] == [entry["text"] for entry in SAID]


@pytest.mark.parametrize("change", [
    lambda shown: [view["c"]["messages"].pop(1) for view in shown.values()],
    lambda shown: [view["c"]["messages"].reverse() for view in shown.values()],
    lambda shown: [view["c"].update(seq=5) for view in shown.values()],
    lambda shown: [view["c"]["messages"][3].__setitem__(2, "said-0") for view in shown.values()],
    lambda shown: shown["ben"]["c"]["messages"][2].__setitem__(3, "another text"),
    lambda shown: shown["ben"]["c"]["messages"].pop(),
], ids=["lost", "out of order", "one is missing at the end", "doubled", "another text", "not on every client"])
def test_what_is_lost_doubled_or_different_is_noticed(change: Change) -> None:
    shown = copy.deepcopy(SHOWN)
    change(shown)
    with pytest.raises(AssertionError):
        find_all("asha", SAID, shown)


def test_a_servers_clock_jumps_both_ways_and_it_serves_on(tmp_path: Path) -> None:
    clock = WallClock(tmp_path / "clock")
    with ServerProcess(tmp_path / "data", **clock.settings) as server:
        for seconds in (36_000, -86_400, 0):
            clock.jump(seconds)
            until = time.monotonic() + 60
            while abs(_server_time(server) - time.time() - seconds) > 30:
                assert time.monotonic() < until
                time.sleep(0.1)
        assert server.stop() == 0
    sweep()


def test_a_process_whose_clock_jumps_sleeps_as_long_as_it_wants(tmp_path: Path) -> None:
    clock = WallClock(tmp_path / "clock")
    clock.jump(-3600)
    program = "import time; began = time.monotonic(); time.sleep(0.3); print(time.monotonic() - began >= 0.3)"
    found = subprocess.run([sys.executable, "-c", program], env=environment(tmp_path, **clock.settings),
                           capture_output=True, text=True, check=True)
    assert found.stdout == "True\n"


def _server_time(server: ServerProcess) -> float:
    with urllib.request.urlopen(server.url + "/readyz", timeout=30) as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
