"""Text in the type scale of tokens.Type."""

from __future__ import annotations

from typing import Any

import flet as ft

from hypersend_client.app.tokens import FONT_DEVANAGARI, FONT_EMOJI, LINE_HEIGHT, LINE_HEIGHT_DEVANAGARI, Colour, Type


def style(type_: Type, text: str = "", *, color: str | None = None, italic: bool = False) -> ft.TextStyle:
    """text: decides the line height, since Devanagari needs more of it."""
    size, weight = type_.value
    return ft.TextStyle(
        size=size,
        weight=weight,
        height=LINE_HEIGHT_DEVANAGARI if has_devanagari(text) else LINE_HEIGHT,
        color=color,
        italic=italic,
        letter_spacing=0,
        font_family_fallback=[FONT_DEVANAGARI, FONT_EMOJI],
    )


def text(
    value: str,
    type_: Type = Type.BODY,
    *,
    color: str | None = Colour.TEXT,
    lines: int | None = None,
    align: ft.TextAlign = ft.TextAlign.START,
    italic: bool = False,
    selectable: bool = False,
    expand: bool = False,
    **more: Any,
) -> ft.Text:
    """lines: at most so many, the rest is cut with an ellipsis."""
    return ft.Text(
        value,
        style=style(type_, value, color=color, italic=italic),
        max_lines=lines,
        overflow=ft.TextOverflow.ELLIPSIS if lines is not None else ft.TextOverflow.CLIP,
        text_align=align,
        selectable=selectable,
        rtl=is_rtl(value),
        expand=expand or None,
        **more,
    )


def has_devanagari(value: str) -> bool:
    return any("\u0900" <= c <= "\u097f" for c in value)


def is_rtl(value: str) -> bool:
    """By the first strong letter: Hebrew and Arabic scripts."""
    for c in value:
        if "\u0590" <= c <= "\u08ff" or "\ufb1d" <= c <= "\ufefc":
            return True
        if c.isalpha():
            return False
    return False
