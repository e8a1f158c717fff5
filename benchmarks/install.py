"""Programs to measure beside ours, installed once into `.cache`; None where that is not possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import CACHE

INSTALL_S = 600


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
        if not shutil.which("go") or not run("env", f"GOBIN={building}", "go", "install", *flags, package):
            return None
        building.rename(place)
    return next(iter(place.iterdir()))


def node_package(name: str, *packages: str) -> Path | None:
    """A folder in whose `node_modules` these packages are."""
    place = CACHE / name
    if not (place / "node_modules" / packages[-1].rpartition("@")[0]).exists():
        place.mkdir(parents=True, exist_ok=True)
        if not shutil.which("npm") or not run(
            "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *packages
        ):
            return None
    return place


def named(variable: str) -> Path | None:
    """The program that an environment variable names."""
    given = os.environ.get(variable)
    return Path(given) if given else None


def run(*command: str) -> bool:
    """Whether it went well."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=INSTALL_S, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
