"""What the images install is what we ask for, and each file of it is one whose digest was written down."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.process import REPOSITORY

LOCK = REPOSITORY / "docker" / "requirements.lock"
EXTRAS = ("client", "mongo", "s3", "redis")


def locked() -> dict[str, tuple[str, list[str]]]:
    """name → (version, digests)"""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK.read_text().strip()):
        line, *digests = re.split(r"\s*\\\n\s*", entry)
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(?: ;.*)?", line.strip())
        assert match, line
        found[canonicalize_name(match[1])] = (match[2], digests)
    return found


def wanted() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    for extra in EXTRAS:
        lines += setup["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in map(str.strip, lines) if line and not line.startswith("#")]


def test_all_that_we_ask_for_is_locked_in_a_version_that_we_allow() -> None:
    found = locked()
    asked = wanted()
    assert len(asked) > 10
    for requirement in asked:
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: run `make lock`"


def test_every_file_has_a_digest_and_no_address_is_named() -> None:
    for name, (_, digests) in locked().items():
        assert digests, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in digests), name
    assert "://" not in LOCK.read_text()
    assert "index" not in re.sub(r"==\S+|[a-z-]+index[a-z-]*==", "", LOCK.read_text())


def test_the_images_install_nothing_else() -> None:
    text = (REPOSITORY / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install([^\n&]*)", text)
    assert installs
    for arguments in installs:
        words = set(arguments.split())
        assert {"--require-hashes", "--only-binary", "-r"} <= words or {"--no-deps", "--no-build-isolation"} <= words


def test_the_lock_can_be_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--require-hashes",
         "--only-binary", ":all:", "--target", str(tmp_path / "there"), "-r", str(LOCK)],
        capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def test_a_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.lock"
    other.write_text("six==1.17.0 --hash=sha256:" + "0" * 64 + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(tmp_path),
         "-r", str(other)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
