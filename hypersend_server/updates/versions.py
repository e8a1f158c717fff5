"""Semantic versions (semver.org 2.0.0): what is newer than what."""

from __future__ import annotations

import re
from functools import total_ordering

_NUMBER = r"(0|[1-9]\d{0,8})"
_PRE = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_PATTERN = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_PRE}(?:\.{_PRE})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?", re.ASCII)
MAX_LENGTH = 64


@total_ordering
class Version:
    """Compared as semver section 11 says; build metadata does not count."""

    def __init__(self, text: str) -> None:
        """Raises: ValueError for what is no semantic version."""
        match = _PATTERN.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise ValueError("is not a version such as 1.4.0 or 2.0.0-beta.1")
        self.text = text
        before = match[4].split(".") if match[4] else []
        # Without a pre-release is newer than with one; numbers are older than words, fewer fields than more.
        self._key = (
            int(match[1]), int(match[2]), int(match[3]), not before,
            [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in before])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(repr(self._key))
