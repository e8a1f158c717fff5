"""What may be there when all is done, and no more: by the operator's `gc`, today and as it will be later on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hypersend_server.app import open_parts
from hypersend_server.clock import system_clock
from hypersend_server.settings import Settings
from tests.process import ServerProcess, command, environment

CALM_S = 90  # the server looks for what was left over once a minute, and then takes a while for it
DAY_MS = 24 * 3600 * 1000


async def gc_later(server: ServerProcess, days: int) -> dict[str, Any]:
    """What `gc --delete` finds by then: nothing that is younger than a day is ever garbage to it.

    Its clock is handed over, not the process's own one changed: an object store refuses what is signed so early.
    """
    settings = Settings.from_env(environment(server.data_root, **server.settings))
    async with open_parts(settings, clock=lambda: system_clock() + days * DAY_MS, must_exist=True) as parts:
        return dict(msgspec.to_builtins(await parts.housekeeping.gc(delete=True)))


async def check_garbage(server: ServerProcess, unshown: set[str], stored: Callable[[], set[str]], shown: set[str]
                        ) -> None:
    """unshown: ids of complete files that nothing shows. stored: ids of those whose bytes the store holds. shown: of
    those that messages show.

    Raises: AssertionError where anything else is garbage, or is left when that has been removed.
    """
    ran = await asyncio.to_thread(command, server.data_root, "gc", "--json", timeout_s=300, **server.settings)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # Some may be due today: completed while the clock was a day back. And an upload that ended while its store or the
    # database was away waits for its clearing, which comes every hour.
    _check_report(json.loads(ran.stdout), lambda found: found <= unshown)
    # A file that is removed waits an hour before its bytes go: what the second of them removes, the third has gone.
    _check_report(await gc_later(server, 2), lambda found: found == unshown)
    last = await gc_later(server, 3)
    _check_report(last, lambda found: not found)
    assert not last["abandoned"], last
    there = await asyncio.to_thread(stored)
    assert there == shown, f"what has no bytes: {shown - there}, whose bytes were left: {there - shown}"


def _check_report(report: dict[str, Any], is_due: Callable[[set[str]], bool]) -> None:
    assert is_due(set(report["unshown"])), report
    assert not any(report[what] for what in ("stray", "lost", "problems")), report


def is_alone(pid: int) -> bool:
    """Whether nobody has a TCP connection to this process."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for kind in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[9] in own}
    return not any(row[9] in own and row[1] in listening and row[3] != "0A" for row in rows)


async def until(condition: Callable[[], bool], otherwise: str) -> None:
    end = asyncio.get_running_loop().time() + CALM_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, otherwise
        await asyncio.sleep(0.2)
