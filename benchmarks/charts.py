"""Bars as SVG, readable on light and on dark pages."""

from __future__ import annotations

from html import escape
from typing import Any

_ROW, _LABEL, _BAR, _TEXT = 26, 330, 380, 190


def bars(section: dict[str, Any]) -> str:
    """The rows of a section that share its unit: medians as bars, a line from the lowest to the highest sample."""
    rows = [row for row in section["rows"] if row["unit"] == section["unit"]]
    scale = _BAR / max(max(row["max"] for row in rows), 1e-9)
    height = _ROW * len(rows) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _BAR + _TEXT}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<style>text{fill:#57606a}.ours{fill:#2f6bed}.other{fill:#9aa4b2}path{stroke:#57606a;fill:none}"
        "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}path{stroke:#c9d1d9}}</style>",
    ]
    any_ours = any(_is_ours(row) for row in rows)
    for n, row in enumerate(rows):
        top = 4 + n * _ROW
        middle = top + _ROW / 2
        kind = "ours" if _is_ours(row) or not any_ours else "other"
        low, high = (_LABEL + row[key] * scale for key in ("min", "max"))
        lines += [
            f'<text x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(row["name"])}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{top + 4}" width="{row["median"] * scale:.1f}" '
            f'height="{_ROW - 8}" rx="2"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>',
            f'<text x="{_LABEL + max(row["median"] * scale, high - _LABEL) + 8:.1f}" y="{middle + 4}">'
            f'{number(row["median"])} {escape(row["unit"])}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _is_ours(row: dict[str, Any]) -> bool:
    return str(row["name"]).startswith("HyperSend")


def number(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
