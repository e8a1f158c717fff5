"""One run measures every section, whatever becomes of one of them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import processes, report, run
from benchmarks.figures import Section
from benchmarks.processes import KEPT_FREE

MIB = 2**20


def rates(quick: bool, repeats: int) -> Section:
    section = Section("rates", "Rates", "MiB/s")
    section.row("ours <1>", [30.0, 10.0, 20.0])
    section.row("theirs", [10.0, 10.0, 10.0])
    section.ratio("ours to theirs", [30.0, 10.0, 20.0], [10.0, 10.0, 10.0], 2)
    section.ratio("theirs to ours", [10.0, 10.0, 10.0], [30.0, 10.0, 20.0], 2)
    return section


def broken(quick: bool, repeats: int) -> Section:
    raise RuntimeError("the peer crashed")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "CACHE", tmp_path)
    monkeypatch.setattr(run, "MEASURES", {"broken": broken, "rates": rates})
    monkeypatch.setattr(run, "busy", lambda: 0.0)
    monkeypatch.setattr(run, "touch_memory", lambda most: 1.0)
    return tmp_path


def test_a_section_that_fails_leaves_the_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--quick", "--repeats", "3"]) == 1
    sections = json.loads((place / "results.json").read_text())["sections"]
    assert [*sections] == ["rates"]
    assert sections["rates"]["command"] == ".venv/bin/python -m benchmarks.run --quick --only rates --repeats 3"
    assert sections["rates"]["machine"] == report.machine()
    assert "Not measured: broken: RuntimeError: the peer crashed" in capsys.readouterr().err


def test_a_run_in_which_all_is_measured_exits_with_0(place: Path) -> None:
    assert run.main(["--quick", "--only", "rates"]) == 0
    document = (place / "docs" / "benchmarks.md").read_text()
    assert "| ours to theirs | 2.00 × (1.00–3.00) | at least 2.00 × | yes, not in every repeat |" in document
    assert "| theirs to ours | 0.50 × (0.33–1.00) | at least 2.00 × | **no** |" in document
    assert "`make bench QUICK=1 ONLY=rates`" in document
    ET.parse(place / "docs" / "benchmarks" / "rates.svg")


def test_merging_keeps_the_machine_on_which_a_section_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    old = {"cores": 64, "memory_gib": 256, "kernel": "Linux 1", "python": "3.11.0"}
    path.write_text(json.dumps({"machine": old, "sections": {"old": {"title": "Old"}, "new": {"title": "Before"}}}))
    here = report.machine()
    merged = report.merge(path, {"new": {"title": "Now", "machine": here}})
    assert merged["sections"] == {"old": {"title": "Old", "machine": old}, "new": {"title": "Now", "machine": here}}
    assert json.loads(path.read_text()) == merged


@pytest.mark.parametrize(("available", "most", "touched_mib"), [
    (KEPT_FREE + 8 * MIB, None, 8), (KEPT_FREE + 8 * MIB, 4 * MIB, 4), (KEPT_FREE + 2 * MIB, 4 * MIB, 2),
    (KEPT_FREE, None, 0), (1, None, 0)])
def test_memory_is_touched_as_far_as_it_is_free(
    monkeypatch: pytest.MonkeyPatch, available: int, most: int | None, touched_mib: int
) -> None:
    monkeypatch.setattr(processes, "_available", lambda: available)
    assert processes.touch_memory(most) == touched_mib / 1024
