"""Nothing that is measured with has fallen behind what it measures."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks
from benchmarks import growth, run

MODULES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("main", [run.main, growth.main], ids=["bench", "growth"])
def test_an_unknown_section_is_refused(main: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(main)
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "unknown: nothing" in capsys.readouterr().err
