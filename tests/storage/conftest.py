"""The stores that the suite runs over: one place or more for every entry of the drivers table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hypersend_storage import Store, make_store
from hypersend_storage.base import MIB
from hypersend_storage.s3 import S3Store
from tests.s3_servers import S3Server

pytest.register_assert_rewrite("hypersend_storage.conformance")

MakeStore = Callable[[], Store]


def options_of(server: S3Server, bucket: str, **changed: Any) -> dict[str, Any]:
    """What the driver is told about a server of the tests."""
    return {"endpoint": server.url, "bucket": bucket, "access_key": server.access_key,
            "secret_key": server.secret_key, "region": server.region, "buffer_bytes": 32 * MIB,
            "lost_pauses_s": (0.1, 0.2, 0), **changed}


@asynccontextmanager
async def opened(server: S3Server, bucket: str | None = None, **changed: Any) -> AsyncIterator[S3Store]:
    store = S3Store(**options_of(server, bucket or server.new_bucket(), **changed))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def s3_store(s3_server: S3Server) -> AsyncIterator[S3Store]:
    """On each kind of server."""
    async with opened(s3_server) as store:
        yield store


@pytest.fixture
def own_minio(tmp_path: Path) -> Any:
    """A MinIO that may be killed."""
    server = S3Server("minio", tmp_path / "own").start()
    yield server
    server.kill()


@dataclass(frozen=True)
class Place:
    """Where a driver keeps things in tests. make: an empty place, which answers new instances over it."""

    driver: str
    make: Callable[[pytest.FixtureRequest, Path], MakeStore]


def local_place(request: pytest.FixtureRequest, folder: Path) -> MakeStore:
    return lambda: make_store("local", root=folder / "data")


def s3_place(kind: str) -> Callable[[pytest.FixtureRequest, Path], MakeStore]:
    def make(request: pytest.FixtureRequest, folder: Path) -> MakeStore:
        server = request.getfixturevalue("s3_servers")(kind)
        options = options_of(server, server.new_bucket())
        return lambda: make_store("s3", **options)

    return make


PLACES = {
    "local": Place("local", local_place),
    "minio": Place("s3", s3_place("minio")),
    "versitygw": Place("s3", s3_place("versitygw")),
}


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    return PLACES[request.param].make(request, tmp_path)


@pytest.fixture
async def store(place: MakeStore) -> AsyncIterator[Store]:
    store = place()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def twin(place: MakeStore) -> AsyncIterator[Store]:
    """Another instance over the same place, as another process has it."""
    store = place()
    await store.open()
    yield store
    await store.close()
