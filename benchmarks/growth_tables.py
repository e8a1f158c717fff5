"""How a cost grows: rows of figures, one a size, for the terminal, growth.json and docs/growth.md."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

from benchmarks.charts import number
from benchmarks.processes import Server

FLAT = 1.5
"""A cost that has become at most so many times as large is flat."""
Value = float | list[float] | None
"""One figure, or [p50, p99], or none at this size."""


@dataclass
class Growth:
    """axis: what the sizes count. flat: rows whose p50 at the place `flat_to` is held against that at the smallest
    size."""

    key: str
    title: str
    axis: str
    sizes: list[int]
    labels: list[str]
    rows: dict[str, tuple[str, list[Value]]] = field(default_factory=dict)
    charts: dict[str, list[str]] = field(default_factory=dict)
    flat: list[str] = field(default_factory=list)
    flat_to: int = -1
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, value: Value) -> None:
        """The figure of the next size."""
        self.rows.setdefault(name, (unit, []))[1].append(value)

    def document(self) -> dict[str, Any]:
        return {
            "title": self.title, "axis": self.axis, "sizes": self.sizes, "labels": self.labels,
            "rows": [{"name": name, "unit": unit, "values": [_round(value) for value in values]}
                     for name, (unit, values) in self.rows.items()],
            "charts": self.charts, "flat": self.flat, "flat_to": self.flat_to, "notes": self.notes,
        }


def _round(value: Value) -> Value:
    if isinstance(value, list):
        return [round(part, 4) for part in value]
    return None if value is None else round(value, 4)


def middle(value: Value) -> float | None:
    return value[0] if isinstance(value, list) else value


def ask(server: Server, call: Callable[[int], object], times: int, seconds: float = 8.0) -> tuple[list[float], float]:
    """Call so often, one after the other, and no longer than so many seconds.

    Returns: ([p50, p99] in ms, the server's CPU in ms a call).
    """
    until = time.perf_counter() + seconds
    for n in range(3):  # the first ones open connections and read what is cold
        if time.perf_counter() < until:
            call(-1 - n)
    took = []
    cpu = server.cpu_s()
    for n in range(times):
        began = time.perf_counter()
        call(n)
        ended = time.perf_counter()
        took.append((ended - began) * 1000)
        if ended > until:
            break
    cpu = server.cpu_s() - cpu
    return percentiles(took), cpu * 1000 / len(took)


def percentiles(took: list[float]) -> list[float]:
    """[p50, p99]."""
    ordered = sorted(took)
    return [ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]]


def cell(value: Value) -> str:
    if value is None:
        return "–"
    return " / ".join(number(part) for part in value) if isinstance(value, list) else number(value)


def table(section: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = [
        f"| {section['axis']} | {' | '.join(section['labels'])} |",
        f"|---|{'---|' * len(section['labels'])}",
    ]
    for row in section["rows"]:
        lines.append(f"| {row['name']}, {row['unit']} | {' | '.join(cell(value) for value in row['values'])} |")
    return lines


def flatness(section: dict[str, Any]) -> list[tuple[str, str, float]]:
    """(row, the smallest size at which it was measured, how many times its p50 there it is at the last)."""
    rows = {row["name"]: [middle(value) for value in row["values"]] for row in section["rows"]}
    found = []
    for name in section["flat"]:
        at = next((n for n, value in enumerate(rows[name]) if value), None)
        last = rows[name][section["flat_to"]]
        if at is not None and last is not None:
            found.append((name, section["labels"][at], last / rows[name][at]))
    return found


_LEFT, _WIDTH, _HEIGHT, _TOP, _TEXT = 70, 420, 190, 14, 280
_COLOURS = ("#2f6bed", "#d9822b", "#2f9e6e", "#b04ec9", "#c23b3b", "#5b7083", "#8a7a1f", "#1b9aaa", "#7a4b2b")


def lines_chart(section: dict[str, Any], names: list[str]) -> str:
    """Lines over the sizes as SVG, both axes logarithmic; of [p50, p99] the p50."""
    rows = {row["name"]: row for row in section["rows"]}
    shown = [(name, [middle(value) for value in rows[name]["values"]]) for name in names if name in rows]
    values = [value for _, line in shown for value in line if value]
    if not values:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>\n'
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    sizes = section["sizes"]
    span = max(len(sizes) - 1, 1)

    def x(n: int) -> float:
        return _LEFT + _WIDTH * n / span

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (math.log10(value) - low) / (high - low))

    bottom = max(_TOP + _HEIGHT + 40, _TOP + 18 * len(shown) + 10)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _TEXT}" height="{bottom}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<style>text{fill:#57606a}.grid{stroke:#57606a;stroke-opacity:.25}"
        "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.grid{stroke:#c9d1d9}}</style>",
    ]
    for power in range(low, high + 1):
        out += [
            f'<path class="grid" d="M{_LEFT} {y(10.0 ** power):.1f}h{_WIDTH}"/>',
            f'<text x="{_LEFT - 8}" y="{y(10.0 ** power) + 4:.1f}" text-anchor="end">{10.0 ** power:,g}</text>',
        ]
    for n, label in enumerate(section["labels"]):
        out.append(f'<text x="{x(n):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{escape(label)}</text>')
    out.append(f'<text x="{_LEFT + _WIDTH / 2:.1f}" y="{_TOP + _HEIGHT + 34}" text-anchor="middle">'
               f'{escape(section["axis"])}</text>')
    for n, (name, line) in enumerate(shown):
        colour = _COLOURS[n % len(_COLOURS)]
        points = [(x(at), y(value)) for at, value in enumerate(line) if value]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                   + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        out += [
            f'<path d="M{_LEFT + _WIDTH + 20} {_TOP + 6 + 18 * n}h16" stroke="{colour}" stroke-width="3"/>',
            f'<text x="{_LEFT + _WIDTH + 42}" y="{_TOP + 10 + 18 * n}">{escape(name)}, {escape(rows[name]["unit"])}'
            '</text>',
        ]
    return "\n".join([*out, "</svg>", ""])
