"""Which bytes of an unchanging file an answer carries: Range, If-Range and If-None-Match (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

_BYTES = re.compile(r"bytes[ \t]*=[ \t]*(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"(\d*)-(\d*)", re.ASCII)
# Nothing before it that could be long: every search that fails would begin again one character later.
_ETAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_MAX_DIGITS = 19  # longer numbers are past the end of any file


class Selection(NamedTuple):
    """status: 200, 206, 304 or 416. start, length: of the bytes to send, in a file of `size` bytes."""

    status: int
    start: int
    length: int

    def content_range(self, size: int) -> str | None:
        """The header Content-Range where the status wants one."""
        if self.status == 206:
            return f"bytes {self.start}-{self.start + self.length - 1}/{size}"
        return f"bytes */{size}" if self.status == 416 else None


def select(
    size: int, etag: str, *, range_: str | None = None, if_range: str | None = None, if_none_match: str | None = None
) -> Selection:
    """What to answer a GET or HEAD with these headers. etag: ours, strong, with its quotes.

    A Range that cannot be understood, names several ranges, or has an If-Range that is not our ETag (a date never
    is) is ignored: 200 with all bytes, as RFC 9110 allows.
    """
    if if_none_match is not None and matches(if_none_match, etag):
        return Selection(304, 0, 0)
    if range_ is None or (if_range is not None and if_range.strip() != etag):
        return Selection(200, 0, size)
    bounds = parse_range(range_)
    if bounds is None:
        return Selection(200, 0, size)
    first, last = bounds
    if first is None:  # the last `last` bytes
        assert last is not None
        length = min(last, size)
        return Selection(206, size - length, length) if length else Selection(416, 0, 0)
    if first >= size:
        return Selection(416, 0, 0)
    end = size - 1 if last is None else min(last, size - 1)
    return Selection(206, first, end - first + 1)


def parse_range(value: str) -> tuple[int | None, int | None] | None:
    """(first, last) of `bytes=first-last`, (first, None) of `first-`, (None, n) of `-n`; None: ignore the header."""
    match = _BYTES.fullmatch(value.strip())
    if match is None:
        return None
    specs = [spec.strip(" \t") for spec in match[1].split(",")]
    specs = [spec for spec in specs if spec]
    if len(specs) != 1:
        return None
    spec = _SPEC.fullmatch(specs[0])
    if spec is None or not (spec[1] or spec[2]):
        return None
    first, last = _number(spec[1]), _number(spec[2])
    if first is not None and last is not None and last < first:
        return None
    return first, last


def matches(if_none_match: str, etag: str) -> bool:
    """The weak comparison of RFC 9110, section 8.8.3.2, against a list or `*`."""
    if if_none_match.strip() == "*":
        return True
    return any(found[1] == etag for found in _ETAG.finditer(if_none_match))


def _number(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS
