"""Pages lead somewhere: every link to a file of this repository, and every command of ours that they name, is there."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from hypersend_server.__main__ import build_parser
from hypersend_server.settings import SETTINGS
from tests.process import REPOSITORY

PAGES = sorted([*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command with its parser; 'user add' for one of a group."""
    found: dict[str, argparse.ArgumentParser] = {}

    def collect(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            found[" ".join(words)] = parser
        for group in groups:
            for name, inner in group.choices.items():
                collect(inner, (*words, name))

    collect(build_parser(), ())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    known = commands()
    for line in re.findall(r"hypersend-server ([a-z][^`\n|)]*)", page.read_text()):
        words = line.split()
        name = next((candidate for candidate in (" ".join(words[:2]), words[0].strip(".,;:"))
                     if candidate in known), None)
        assert name is not None or any(key.split()[0] == words[0].strip(".,;:") for key in known), line
        if name is not None:
            options = {option for action in known[name]._actions for option in action.option_strings}
            named = [word.rstrip(".,;:`") for word in words if re.match(r"--[a-z]", word)]
            assert set(named) <= options, line


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text()
    missing = [page.name for page in (REPOSITORY / "docs").glob("*.md")
               if page.name != "README.md" and f"({page.name})" not in index]
    assert [name for name in missing if not name.startswith("app-figures")] == []


def test_every_command_is_described_somewhere() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in commands() if f"hypersend-server {name}" not in text] == []


def test_settings_in_pages_are_settings() -> None:
    known = {setting.name for setting in SETTINGS}
    for page in PAGES:
        for name in re.findall(r"`((?:S3|X_ACCEL|TRUSTED|ALLOWED|UPLOAD|BACKGROUND|METRICS|LOG|RATE|USER)_[A-Z_]+)[=`]",
                               page.read_text()):
            assert name in known, f"{name} in {page.name}"
