"""docs/client.md: every command stands there, and the program on it runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hypersend_client.cli.completion import _commands
from hypersend_client.cli.parser import build
from tests.cli.conftest import Terminal
from tests.harness import PASSWORD
from tests.process import REPOSITORY

MANUAL = (REPOSITORY / "docs" / "client.md").read_text(encoding="utf-8")


def test_manual_has_an_example_of_every_command() -> None:
    for name in _commands(build()):
        assert re.search(rf"^\| `{name}\b.*`[^`]*hypersend {name}", MANUAL, re.MULTILINE), name


def test_every_example_of_the_manual_is_understood() -> None:
    examples = re.findall(r"^\|.*\| `([^`]*hypersend [^`]*)` \|$", MANUAL, re.MULTILINE)
    assert len(examples) >= 12
    for example in examples:
        line = example.replace("\\|", "|")
        words = re.search(r'hypersend ((?:"[^"]*"|[^"$)])*)', line)
        assert words is not None
        arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', words[1])]
        if arguments[0] != "completion":  # prints at once
            build().parse_args([word for word in arguments if word not in ("--json", "--account", "asha", "--server",
                                                                           "https://chat.example.org")])


def test_program_of_the_manual_runs_as_it_stands(asha: Terminal, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    assert len(blocks) == 1
    (tmp_path / "program.py").write_text(blocks[0], encoding="utf-8")
    (tmp_path / "film.mkv").write_bytes(b"film" * 100_000)
    (tmp_path / "received").mkdir()
    for _ in range(2):  # the second time it is signed in
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            env=asha.env(HS=asha.url, EMAIL="asha@example.org", HYPERSEND_PASSWORD=PASSWORD,
                         PYTHONPATH=str(REPOSITORY)))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "sent film.mkv"
        assert done.stdout.splitlines()[-1] == "heard Have you seen it?"
    assert (tmp_path / "received" / "film.mkv").read_bytes() == (tmp_path / "film.mkv").read_bytes()
    assert (tmp_path / "accounts.json").stat().st_mode & 0o777 == 0o600
