"""A plugin for `pytest --collect-only`: each test with its marks, one a line."""

from __future__ import annotations

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        marks = " ".join(sorted({mark.name for mark in item.iter_markers()}))
        print(f"\ncollected: {item.nodeid.partition('[')[0]} {marks}")
