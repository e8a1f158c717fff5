"""Every suite of `hypersend_server.metadata.conformance` over every backend: neither can be left out."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hypersend_server.metadata import conformance
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.sqlite import SqliteMetadata

BACKENDS: dict[str, Callable[[Path], Metadata]] = {
    "sqlite": lambda root: SqliteMetadata(root / "metadata.sqlite3"),
}


@pytest.fixture(params=BACKENDS)
async def metadata(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metadata]:
    backend = BACKENDS[request.param](tmp_path)
    await backend.open()
    yield backend
    await backend.close()


for found in pkgutil.iter_modules(conformance.__path__):
    module = importlib.import_module(f"{conformance.__name__}.{found.name}")
    for name, suite in list(vars(module).items()):
        if isinstance(suite, type) and name.endswith("Conformance") and suite.__module__ == module.__name__:
            globals()[f"Test{name}"] = type(f"Test{name}", (suite,), {})
