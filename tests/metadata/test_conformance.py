"""Every suite of `hypersend_server.metadata.conformance` over every backend: neither can be left out."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypersend_server.metadata import conformance
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.sqlite import SqliteMetadata

BACKENDS = ("sqlite", "mongo over motor", "mongo over pymongo")


@pytest.fixture(params=BACKENDS)
async def metadata(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metadata]:
    backend: Metadata
    if request.param == "sqlite":
        backend = SqliteMetadata(tmp_path / "metadata.sqlite3")
    else:
        uri = request.getfixturevalue("mongo_server").fresh_uri()
        backend = MongoMetadata(uri, driver="motor" if request.param == "mongo over motor" else "pymongo")
    await backend.open()
    yield backend
    await backend.close()


for found in pkgutil.iter_modules(conformance.__path__):
    module = importlib.import_module(f"{conformance.__name__}.{found.name}")
    for name, suite in list(vars(module).items()):
        if isinstance(suite, type) and name.endswith("Conformance") and suite.__module__ == module.__name__:
            globals()[f"Test{name}"] = type(f"Test{name}", (suite,), {})
