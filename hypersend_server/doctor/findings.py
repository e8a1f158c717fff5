"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Level = Literal["ok", "warn", "problem"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """area: proxy, disk, …. what: one sentence. fix: what to do, as lines of configuration where it is one; '' with
    level ok. is_mended: it was found wrong, and `--fix` has put it right."""

    area: str
    level: Level
    what: str
    fix: str = ""
    is_mended: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    problems: int
    warnings: int
    findings: list[Finding]


class Area:
    """Gathers the findings of one area."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []

    def ok(self, what: str) -> None:
        self.findings.append(Finding(area=self.name, level="ok", what=what))

    def mended(self, what: str) -> None:
        self.findings.append(Finding(area=self.name, level="ok", what=what, is_mended=True))

    def warn(self, what: str, fix: str) -> None:
        self.findings.append(Finding(area=self.name, level="warn", what=what, fix=fix))

    def problem(self, what: str, fix: str) -> None:
        self.findings.append(Finding(area=self.name, level="problem", what=what, fix=fix))


def report_of(findings: Sequence[Finding]) -> Report:
    return Report(
        problems=sum(finding.level == "problem" for finding in findings),
        warnings=sum(finding.level == "warn" for finding in findings), findings=list(findings))


def shown_ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
