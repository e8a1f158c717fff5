"""PostgreSQL for the peers that need one: a cluster for the run, with its defaults."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.install import debian_package
from benchmarks.processes import free_port


def is_installed() -> bool:
    """Installed now where that is possible, and no cluster of its own begun."""
    if _program("initdb") is None:
        config = Path("/etc/postgresql-common/createcluster.conf")
        if os.geteuid() == 0 and not config.exists():
            config.parent.mkdir(exist_ok=True)
            config.write_text("create_main_cluster = false\n")
        debian_package("postgresql", "-o", "Dpkg::Options::=--force-confold")
    return _program("initdb") is not None


@contextlib.contextmanager
def cluster(where: Path) -> Iterator[tuple[int, int]]:
    """A cluster in `where`: its port and its process.

    PostgreSQL refuses to run as root, so there it runs as the user that Debian made for it.
    """
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        raise RuntimeError("PostgreSQL is not installed")
    data = where / "postgresql"
    data.mkdir(mode=0o700)
    run_as: dict[str, Any] = {}
    if os.geteuid() == 0:
        where.chmod(0o711)
        shutil.chown(data, "postgres", "postgres")
        run_as = {"user": "postgres", "group": "postgres", "extra_groups": []}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"],
                   check=True, timeout=120, **quiet, **run_as)
    port = free_port()
    process = subprocess.Popen(
        [postgres, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(data)], **quiet, **run_as)
    try:
        for _ in range(300):
            if (data / "postmaster.pid").exists() and "ready" in (data / "postmaster.pid").read_text():
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        else:
            raise RuntimeError("PostgreSQL did not start")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _program(name: str) -> str | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    return shutil.which(name)
