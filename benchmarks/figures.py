"""What a measurement answers: rows of samples, and ratios of two rows taken in the same repeats."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Sense = Literal["at least", "at most"]
T = TypeVar("T")


def in_turn(items: Sequence[T], repeat: int) -> list[T]:
    """Each repeat begins with another one, so that none always has what its predecessor left behind."""
    first = repeat % len(items)
    return [*items[first:], *items[:first]]


@dataclass
class Row:
    """samples: one a repeat, in the section's unit."""

    name: str
    samples: list[float]
    unit: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass
class Check:
    """A figure with its goal. samples: one a repeat; a ratio's are those of each repeat's own pair."""

    name: str
    samples: list[float]
    unit: str = ""
    goal: float | None = None
    sense: Sense = "at least"

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def is_met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median >= self.goal if self.sense == "at least" else self.median <= self.goal


@dataclass
class Section:
    """One subject. rows are drawn as bars in the order given; notes say what a reader must know; costs: who → what,
    its unit included → one sample a repeat; absent: a line for each that could not be had."""

    key: str
    title: str
    unit: str
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    costs: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def row(self, name: str, samples: Sequence[float], unit: str = "") -> None:
        self.rows.append(Row(name, list(samples), unit))

    def check(
        self, name: str, samples: Sequence[float], goal: float | None = None, sense: Sense = "at least",
        unit: str = "",
    ) -> None:
        self.checks.append(Check(name, list(samples), unit, goal, sense))

    def cost(self, name: str, spent: dict[str, float]) -> None:
        """What a row cost in one repeat, beside the section's own unit."""
        for kind, sample in spent.items():
            self.costs.setdefault(name, {}).setdefault(kind, []).append(sample)

    def ratio(
        self, name: str, ours: Sequence[float], theirs: Sequence[float], goal: float | None = None,
        sense: Sense = "at least",
    ) -> None:
        self.check(name, [a / b for a, b in zip(ours, theirs, strict=True)], goal, sense, "×")

    def document(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "unit": self.unit,
            "rows": [{"name": row.name, "unit": row.unit or self.unit, **_spread(row.samples)} for row in self.rows],
            "checks": [
                {"name": check.name, "unit": check.unit, "goal": check.goal, "sense": check.sense,
                 "met": check.is_met, **_spread(check.samples)}
                for check in self.checks
            ],
            "notes": [*self.notes, *self.absent],
            "costs": {name: {kind: _spread(samples) for kind, samples in spent.items()}
                      for name, spent in self.costs.items()},
        }


def _spread(given: Sequence[float]) -> dict[str, Any]:
    samples = [round(sample, 5) for sample in given]
    return {"median": round(statistics.median(given), 5), "min": min(samples), "max": max(samples), "samples": samples}
