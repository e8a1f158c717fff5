"""The machine: clock, open files, memory, programs."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sqlite3
from pathlib import Path

from hypersend_server import __version__
from hypersend_server.commands.console import shown_size
from hypersend_server.doctor.findings import Area

TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 512  # more than any machine's struct timex
FEW_FILES = 4096
LITTLE_MEMORY = 256 << 20
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def check(area: Area, server_pid: int | None) -> None:
    """server_pid: of the server that runs here; its limits count. In a thread."""
    area.ok(f"HyperSend {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    _check_clock(area)
    files = _file_limit(server_pid)
    if files < FEW_FILES:
        area.warn(f"the server may open {files} files, and each connection is one",
                  "systemd:\n    LimitNOFILE=65536\ncompose:\n    ulimits: { nofile: 16384 }")
    else:
        area.ok(f"{files} files may be open")
    memory = _memory_limit()
    if memory is not None and memory < LITTLE_MEMORY:
        area.warn(f"the server may use {shown_size(memory)} of memory",
                  "Give it 256 MB or more; systemd:\n    MemoryMax=512M\ncompose:\n    mem_limit: 512m")
    elif memory is not None:
        area.ok(f"{shown_size(memory)} of memory may be used")
    if os.geteuid() == 0:
        area.ok("doctor runs as root here: what the server's own user may do is not seen")


def _check_clock(area: Area) -> None:
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return
    state = adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))  # modes 0: only asks
    if state == TIME_ERROR:
        area.warn("nothing keeps this machine's clock right: sign-ins, links and object storage depend on it",
                  "timedatectl set-ntp true    (or install chrony)")
    elif state >= 0:
        area.ok("the clock is kept right")


def _file_limit(server_pid: int | None) -> int:
    """What the server raises its limit to: the hard one."""
    if server_pid is not None:
        try:
            for line in Path(f"/proc/{server_pid}/limits").read_text().splitlines():
                if line.startswith("Max open files"):
                    hard = line.split()[4]
                    return 1 << 30 if hard == "unlimited" else int(hard)
        except OSError:
            pass  # another user's process, or another machine's
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 30 if hard_limit == resource.RLIM_INFINITY else hard_limit


def _memory_limit() -> int | None:
    """In bytes: of the control group where it has one, else the machine's."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return min(int(text), whole)
    return whole if whole > 0 else None
