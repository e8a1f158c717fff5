"""How commands speak: lines for people, or one JSON object for programs on standard output."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

import msgspec

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Console:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, line: str = "") -> None:
        """A line for a person; nothing where a program reads."""
        if not self._as_json:
            sys.stdout.write(_shown(line) + "\n")

    def note(self, line: str) -> None:
        """Progress, on standard error."""
        sys.stderr.write(_shown(line) + "\n")
        sys.stderr.flush()

    def problem(self, line: str) -> None:
        """Why it could not be done, on standard error, and as JSON where a program reads."""
        sys.stderr.write(f"hypersend-server: {_shown(line)}\n")
        if self._as_json:
            self.result({"error": line})

    def result(self, report: Any) -> None:
        """The outcome as one JSON object, where a program reads."""
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


def _shown(line: str) -> str:
    """Without what a terminal would obey: names and addresses come from anybody."""
    return _CONTROL.sub("\ufffd", line)


def json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def shown_size(count: int) -> str:
    """Bytes in the customary units: 1 MB is 1,000,000 bytes."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
