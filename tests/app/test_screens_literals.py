"""Screens take their words from the translator and their colours and sizes from `tokens`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCREENS = Path(__file__).parents[2] / "hypersend_client" / "app" / "screens"
SIZES = {
    "width", "height", "size", "padding", "spacing", "border_radius", "radius", "left", "right", "top", "bottom",
    "icon_size", "bar_height", "min_width", "max_width", "horizontal", "vertical", "run_spacing", "elevation",
    "blur_radius", "spread_radius", "duration",
}  # fmt: skip
TEXTS = {"label", "tooltip", "hint_text", "helper", "helper_text", "error", "text", "title", "subtitle", "value",
         "semantics_label", "content", "placeholder"}  # fmt: skip
SHOWING = {"text", "ft.Text", "ft.TextSpan", "Screen", "ft.SnackBar", "app.notices.tell", "states.empty",
           "states.loading", "states.failed", "forms.tile", "forms.section", "forms.field", "states.primary_button",
           "states.quiet_button", "states.confirm"}  # fmt: skip


def literals(source: str) -> list[str]:
    """What stands in a screen though it belongs to `tokens` or to the words."""
    found: list[str] = []

    def say(node: ast.AST, what: str) -> None:
        found.append(f"line {node.lineno}: {what}: {ast.unparse(node)}")  # type: ignore[attr-defined]

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ft.Colors":
            say(node, "a colour")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("#"):
            say(node, "a colour")
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            value = keyword.value
            if (
                isinstance(value, ast.Constant)
                and isinstance(value.value, (int, float))
                and not isinstance(value.value, bool)
                and value.value
                and keyword.arg in SIZES
            ):
                say(keyword.value, f"a size for {keyword.arg}")
            if _is_text(value) and keyword.arg in TEXTS:
                say(keyword.value, f"a text for {keyword.arg}")
        if ast.unparse(node.func) in SHOWING:
            for argument in node.args:
                if _is_text(argument):
                    say(argument, "a text")
    return found


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(_is_text(part) for part in node.values)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and any(c.isalpha() for c in node.value)


@pytest.mark.parametrize("path", sorted(SCREENS.glob("*.py")), ids=lambda path: path.name)
def test_a_screen_has_no_literal_text_colour_or_size(path: Path) -> None:
    assert literals(path.read_text(encoding="utf-8")) == []


def test_the_check_finds_literals() -> None:
    source = (
        'ft.Text("Hello", size=12, color=ft.Colors.RED)\nft.Container(bgcolor="#fff", padding=8)\nforms.tile(f"a {b}")'
    )
    assert len(literals(source)) == 6
