"""The app folder as `flet build` 1.0.5 stages it, and a Python with nothing but what the app declares.

Source: flet_cli.commands.build_base (package_python_app), flet_cli.utils.app_excludes: `build`, what the settings
exclude, hidden files at the top and `__pycache__` at any depth stay out, and the rest is copied without its folder.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).parents[2] / "hypersend_client"


def settings() -> dict[str, Any]:
    return tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))


def stage(target: Path, *, compiled: bool = False) -> Path:
    """Copy the app to `target`. compiled: sources replaced by bytecode, as for a release."""
    left_out = {CLIENT / path for path in ["build", *settings()["tool"]["flet"]["app"]["exclude"]]}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if Path(folder, name) in left_out or name == "__pycache__" or (Path(folder) == CLIENT and name[0] == ".")
        ]

    shutil.copytree(CLIENT, target, ignore=ignored)
    if compiled:
        assert compileall.compile_dir(target, quiet=2, legacy=True)
        for path in target.rglob("*.py"):
            path.unlink()
    return target


def make_python(folder: Path) -> Path:
    """A new environment with what the app declares. Raises: CalledProcessError, with pip's words in its stderr."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    python = folder / "bin" / "python"
    declared = settings()["project"]["dependencies"]
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *declared],
        check=True, capture_output=True, text=True, env=clean_env())
    return python


def clean_env(**more: str) -> dict[str, str]:
    """Without what leads Python or the app elsewhere."""
    kept = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "FLET_", "HYPERSEND_")) and name not in ("VIRTUAL_ENV", "API_BASE_URL")}
    return {**kept, **more}
