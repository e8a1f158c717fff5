"""The entry of the packaged app (Android, desktop bundles), as `pyproject.toml` beside it names it.

`flet build` stages what lies in this folder, without the folder: in the package there is no `hypersend_client/`. So
the staged folder is made known under that name first; then everything imports as it does anywhere else. The settings
file also tells the app its own name, and its server where the build has one (`[tool.hypersend]`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGE = "hypersend_client"


def name_folder(folder: Path) -> None:
    """Let `import hypersend_client` find its files in `folder`, which may hold sources or compiled files."""
    found = PathFinder.find_spec("__init__", [str(folder)])
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(PACKAGE, found.origin, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


def built_in(folder: Path) -> dict[str, str]:
    """Variable → what this build says, for the app to read: its name, and its server where it has one of its own."""
    tool = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    told = {"HYPERSEND_APP_NAME": tool["flet"]["product"], "API_BASE_URL": tool["hypersend"]["server"]}
    return {name: value for name, value in told.items() if value}


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    name_folder(here)
    os.environ.update(built_in(here))

    import flet as ft

    from hypersend_client.main import main

    ft.run(main)
