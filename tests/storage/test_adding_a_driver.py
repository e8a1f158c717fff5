"""What CONTRIBUTING says of adding a storage driver, done in a copy of the package: three steps and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import REPOSITORY

HERE = Path(__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("hypersend_storage", "tests/storage"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for source in [REPOSITORY / "pyproject.toml", *(REPOSITORY / "tests").glob("*.py")]:
        shutil.copy(source, tmp_path / source.relative_to(REPOSITORY))
    return tmp_path


def suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/storage/test_conformance.py", *arguments], cwd=folder,
        capture_output=True, text=True, timeout=300, check=False)


def add(path: Path, after: str, line: str) -> None:
    text = path.read_text()
    assert text.count(after) == 1, after
    path.write_text(text.replace(after, after + line))


def test_a_driver_is_a_module_a_line_in_the_table_and_a_place_for_the_suite(copy: Path) -> None:
    shutil.copy(HERE / "memory_driver.py", copy / "hypersend_storage" / "memory.py")
    add(copy / "hypersend_storage" / "__init__.py", '    "s3": "hypersend_storage.s3:S3Store",\n',
        '    "memory": "hypersend_storage.memory:MemoryStore",\n')
    without_place = suite(copy, "-k", "place_to_be_tested")
    assert without_place.returncode == 1, "a driver without a place in the tests is noticed"

    add(copy / "tests" / "storage" / "conftest.py", '    "local": Place("local", local_place),\n',
        '    "memory": Place("memory", lambda request, folder: lambda: make_store("memory", place=str(folder))),\n')
    done = suite(copy, "-k", "memory or place_to_be_tested or imported_before")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", suite(copy, "-k", "memory", "-rN", "-o", "addopts=-p no:cacheprovider").stdout)
    assert passed is not None
    assert int(passed[1]) > 40, "the whole suite ran over it"


def test_a_driver_with_a_mistake_does_not_pass(copy: Path) -> None:
    text = (HERE / "memory_driver.py").read_text()
    broken = text.replace("if claimed is not None and actual != claimed:", "if False:")
    assert broken != text
    (copy / "hypersend_storage" / "memory.py").write_text(broken)
    add(copy / "hypersend_storage" / "__init__.py", '    "s3": "hypersend_storage.s3:S3Store",\n',
        '    "memory": "hypersend_storage.memory:MemoryStore",\n')
    add(copy / "tests" / "storage" / "conftest.py", '    "local": Place("local", local_place),\n',
        '    "memory": Place("memory", lambda request, folder: lambda: make_store("memory", place=str(folder))),\n')
    done = suite(copy, "-k", "memory and digest")
    assert done.returncode == 1
    assert "test_a_wrong_digest_earns_nothing" in done.stdout
