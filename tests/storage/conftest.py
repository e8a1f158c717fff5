"""The stores that the suite runs over: one place for every entry of the drivers table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from hypersend_storage import DRIVERS, Store, make_store

pytest.register_assert_rewrite("hypersend_storage.conformance")

MakeStore = Callable[[], Store]


@asynccontextmanager
async def local_place(folder: Path) -> AsyncIterator[MakeStore]:
    yield lambda: make_store("local", root=folder / "data")


PLACES: dict[str, Callable[[Path], AbstractAsyncContextManager[MakeStore]]] = {
    "local": local_place,
}
"""Name of the driver → an empty place, which answers new instances over it."""


@pytest.fixture(params=sorted(DRIVERS))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    async with PLACES[request.param](tmp_path) as new_store:
        yield new_store


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
