"""Servers under measurement: each a process of its own, on loopback, with a folder that is removed afterwards."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
CACHE = HERE / ".cache"
START_S = 30.0
GIB = 2**30
KEPT_FREE = 3 * GIB
PAGE = 4096


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A fresh folder on the disk that all servers share: BENCH_DIR, or beside this package."""
    parent = Path(os.environ.get("BENCH_DIR", CACHE / "work"))
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("*-bench"):  # by a run that was killed
        if not Path("/proc", left.name.partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", suffix="-bench", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Server:
    """A running process that answers HTTP at `port`. start_s: from its start to the first good answer."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.start_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_mb(self) -> float:
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """The highest resident size since `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tree_mb(self) -> float:
        """Of this process and its children; see `tree_mb`."""
        return tree_mb(self.process.pid)

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError(f"no {name} for this process")

    def wait_until_ready(self, path: str) -> None:
        """Raises: RuntimeError with the end of its log where it stops or does not answer in time."""
        until = time.perf_counter() + START_S
        while time.perf_counter() < until:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self.url + path, timeout=5):
                    return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass
            time.sleep(0.005)
        raise RuntimeError(f"a server did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def serving(
    command: Sequence[str], port: int, where: Path, *, ready: str = "/", env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start `command`, wait until GET `ready` answers, stop it at the end."""
    log = where / f"server-{port}.log"
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command), cwd=REPOSITORY, env={**inherited, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output)
    server = Server(process, port, log)
    try:
        server.wait_until_ready(ready)
        server.start_s = time.perf_counter() - began
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def hypersend(where: Path, **settings: str) -> Iterator[Server]:
    """HyperSend as an operator starts it; only the limits a person has are off."""
    port = free_port()
    env = {
        "DATA_ROOT": str(where / "data"), "PORT": str(port), "RATE_LIMITS": "off", "REGISTRATION": "open", **settings}
    command = [str(Path(sys.executable).with_name("hypersend-server")), "serve"]
    with serving(command, port, where, ready="/readyz", env=env) as server:
        yield server


@contextlib.contextmanager
def reference(module: str, where: Path) -> Iterator[Server]:
    """A bare server of this package."""
    port = free_port()
    with serving([sys.executable, "-m", f"benchmarks.{module}", str(port), str(where)], port, where) as server:
        yield server


def load(module: str, plan: Mapping[str, Any], timeout_s: float = 900) -> dict[str, Any]:
    """Run a client of this package in its own process. Raises: RuntimeError with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}"], cwd=REPOSITORY, input=json.dumps(plan), text=True,
        capture_output=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextlib.contextmanager
def holding(module: str, plan: Mapping[str, Any]) -> Iterator[None]:
    """Run a client that stays connected until the end of the block; entered once it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}"], cwd=REPOSITORY, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(plan) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "connected":
            raise RuntimeError(f"{module} did not connect")
        yield
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def tree_mb(pid: int) -> float:
    """The memory of a process and all that descend from it.

    What they share counts once (PSS). Pages of files, programs and libraries mostly, count as the process with the most
    of them has them: by their PSS a program would gain from others that run the same libraries on this machine.
    Source: proc(5), smaps_rollup and status.
    """
    own_kb, files_kb = 0, 0
    for each in _tree(pid):
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        own_kb += sum(int(found) for found in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.MULTILINE))
        resident = re.search(r"^RssFile:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text(), re.MULTILINE)
        files_kb = max(files_kb, int(resident[1]) if resident else 0)
    return (own_kb + files_kb) * 1024 / 1e6


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def disk_bytes(path: Path) -> int:
    """Bytes that the tree takes on disk; what vanishes meanwhile counts nothing."""
    total = 0
    for top, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(top, name)).st_blocks * 512
    return total


def touch_memory(most: int | None = None) -> float:
    """Use the free memory once, all but KEPT_FREE and `most` bytes of it at most. Returns: GiB.

    The host of a virtual machine backs its pages when they are first used, which takes some 2 s of CPU a GiB there: on
    a fresh machine whichever server comes first to fill the page cache would pay that for all that come after it.
    """
    free = max(0, _available() - KEPT_FREE)
    size = (free if most is None else min(free, most)) // PAGE * PAGE
    if size:
        with mmap.mmap(-1, size) as pages:
            for start in range(0, size, GIB):
                end = min(start + GIB, size)
                pages[start:end:PAGE] = b"\1" * ((end - start) // PAGE)
    return size / GIB


def _available() -> int:
    """Bytes that may be had without swapping, by this machine and by this control group."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        available = min(available, int(most) - int(used.read_text()))
    return available


def busy() -> float:
    """How much of the machine is taken during one second, 0 to 1: by others, where nothing of ours runs."""
    def times() -> list[int]:
        return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]

    before = times()
    time.sleep(1)
    spent = [after - earlier for after, earlier in zip(times(), before, strict=True)]
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and waiting for the disk
