from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.mongo_server import MongoServer
from tests.parts import require
from tests.s3_servers import KINDS, S3Server

SMALL_DISK_MIB = 24

# How long an example takes depends on what else the machine does, and says nothing about it.
settings.register_profile("hypersend", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hypersend")


class S3Servers:
    """One server of each kind for the whole run, started when the first test asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, S3Server] = {}

    def __call__(self, kind: str) -> S3Server:
        if kind not in self._running:
            self._running[kind] = S3Server(kind, self._folder / kind).start()
        return self._running[kind]

    def stop(self) -> None:
        for server in self._running.values():
            server.kill()


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Servers]:
    servers = S3Servers(tmp_path_factory.mktemp("s3"))
    yield servers
    servers.stop()


@pytest.fixture(params=KINDS)
def s3_server(request: pytest.FixtureRequest, s3_servers: S3Servers) -> S3Server:
    """A real S3 server, each kind in turn; shared, so it is not to be killed."""
    return s3_servers(request.param)


@pytest.fixture
def minio(s3_servers: S3Servers) -> S3Server:
    """The shared MinIO."""
    return s3_servers("minio")


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """The stand-in for MongoDB; shared, so it is not to be killed. Each test takes a database of its own."""
    server = MongoServer(tmp_path_factory.mktemp("mongo") / "data").start()
    yield server
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB that is easily full."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(place)], check=False).returncode == 0
    require("tmpfs", mounted)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
