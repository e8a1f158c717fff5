"""The documents of the measurements say what the kept figures and the code make of them, to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth, report, run, soak_report
from benchmarks.growth_tables import flatness
from tests.process import REPOSITORY

DOCS = REPOSITORY / "docs"
FIGURES = REPOSITORY / "benchmarks"


def write_benchmarks(path: Path) -> None:
    report.write_document(path, json.loads((FIGURES / "results.json").read_text()), [*run.MEASURES])


def write_growth(path: Path) -> None:
    growth.write_document(path, json.loads((FIGURES / "growth.json").read_text()))


@pytest.mark.parametrize(("name", "write"), [("benchmarks", write_benchmarks), ("growth", write_growth)])
def test_document_and_charts_are_those_of_the_kept_figures(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    """`.venv/bin/python -m benchmarks.run --document` and the same of benchmarks.growth write them again."""
    write(tmp_path / f"{name}.md")
    assert (tmp_path / f"{name}.md").read_text() == (DOCS / f"{name}.md").read_text()
    assert contents(tmp_path / name) == contents(DOCS / name)


SOAK = DOCS / "reliability" / "soak.json"


def test_report_of_the_soak_is_that_of_its_records(tmp_path: Path) -> None:
    soak_report.write(soak_report.read(SOAK), tmp_path)
    made = contents(tmp_path)
    assert made == {name: text for name, text in contents(DOCS / "reliability").items() if name in made}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def soaked(count: int) -> list[dict[str, Any]]:
    figures = {name: 10.0 for name in soak_report.LINES}
    records: list[dict[str, Any]] = [
        {"seconds": 15.0 * n, "cpu_s": n, "load": 0.5, "cores": 3, "done": {"messages": n}, **figures}
        for n in range(count)]
    del records[0]["message_p50_ms"]  # nobody had written yet
    return [*records, {**records[-1], "is_idle": True}]


def test_kept_records_of_a_soak_give_the_same_report(tmp_path: Path) -> None:
    soak_report.write(soaked(120), tmp_path)
    first = contents(tmp_path)
    soak_report.write(soak_report.read(tmp_path / "soak.json"), tmp_path)
    assert contents(tmp_path) == first
    assert "the load average of the 3 cores was 0.5" in first["soak.md"]


def test_cost_is_held_against_the_smallest_size_that_was_measured() -> None:
    section = {
        "labels": ["1", "10", "100", "1,000, not sent"], "flat": ["call", "late"], "flat_to": 2,
        "rows": [{"name": "call", "unit": "ms", "values": [[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [0.1, 9.0]]},
                 {"name": "late", "unit": "ms", "values": [None, 4.0, 2.0, None]}]}
    assert flatness(section) == [("call", "1", 3.0), ("late", "10", 0.5)]


def test_document_says_which_costs_are_not_flat() -> None:
    section = {
        "labels": ["10", "1,000"], "flat": ["steady", "rising"], "flat_to": -1,
        "rows": [{"name": "steady", "unit": "ms", "values": [2.0, 2.0]},
                 {"name": "rising", "unit": "ms", "values": [2.0, 6.0]}]}
    text = "\n".join(growth._flatness(section))
    assert "- flat, at most 1.50×: steady 1.00×" in text
    assert "- **not flat**: rising 3.00×" in text
