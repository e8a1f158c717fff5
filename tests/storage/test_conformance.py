from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

from hypersend_storage import DRIVERS, Store, conformance
from hypersend_storage.conformance import (
    LocalPathConformance,
    NamedFirstConformance,
    PresignedConformance,
    StoreConformance,
    VolatileWritesConformance,
)
from tests.storage.conftest import PLACES, MakeStore


class TestStore(StoreConformance):
    pass


class TestLocalPath(LocalPathConformance):
    pass


class TestVolatileWrites(VolatileWritesConformance):
    pass


class TestNamedFirst(NamedFirstConformance):
    pass


class TestPresigned(PresignedConformance):
    pass


def classes_of(module: ModuleType) -> list[type]:
    return [value for _, value in inspect.getmembers(module, inspect.isclass) if value.__module__ == module.__name__]


def test_every_driver_has_a_place_to_be_tested_in() -> None:
    assert {place.driver for place in PLACES.values()} == DRIVERS.keys()


def test_no_part_of_the_suite_is_left_out() -> None:
    run = {base for value in classes_of(sys.modules[__name__]) for base in value.__bases__}
    assert run == {value for value in classes_of(conformance) if value.__name__.endswith("Conformance")}


def test_a_store_knows_its_name_in_the_table(request: pytest.FixtureRequest, place: MakeStore) -> None:
    store: Store = place()
    assert store.name == PLACES[request.node.callspec.params["place"]].driver


def test_no_driver_is_imported_before_it_is_asked_for() -> None:
    program = "import sys, hypersend_storage; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "hypersend_storage.base" in loaded
    assert not {target.partition(":")[0] for target in DRIVERS.values()} & set(loaded)
