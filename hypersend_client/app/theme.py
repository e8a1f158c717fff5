"""Material 3 themes, light and dark, seeded by the accent."""

from __future__ import annotations

import re

import flet as ft

from hypersend_client.app.components.text import style
from hypersend_client.app.tokens import DEFAULT_ACCENT, FONT, Type

READABLE = 4.5
TEXTS = {
    "title_large": Type.TITLE, "title_medium": Type.LIST_TITLE, "title_small": Type.SECONDARY_STRONG,
    "body_large": Type.BODY, "body_medium": Type.BODY, "body_small": Type.SECONDARY,
    "label_large": Type.SECONDARY_STRONG, "label_medium": Type.SMALL_STRONG, "label_small": Type.SMALL_STRONG,
}  # fmt: skip
MODES = {"system": ft.ThemeMode.SYSTEM, "light": ft.ThemeMode.LIGHT, "dark": ft.ThemeMode.DARK}


def seed(accent: str) -> str:
    """The accent a server names, or ours where it is none."""
    return accent if re.fullmatch(r"#[0-9a-fA-F]{6}", accent) else DEFAULT_ACCENT


def contrast_with_white(colour: str) -> float:
    """The contrast ratio of WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def theme(accent: str, *, dark: bool) -> ft.Theme:
    """Seeded by the accent; in the light, what is primary is the accent itself where white can be read on it."""
    colour = seed(accent)
    own = not dark and contrast_with_white(colour) >= READABLE
    return ft.Theme(
        color_scheme_seed=colour,
        color_scheme=ft.ColorScheme(primary=colour, on_primary=ft.Colors.WHITE) if own else None,
        use_material3=True,
        font_family=FONT,
        visual_density=ft.VisualDensity.STANDARD,
        # All of them, so that every part of Flet has the fallback for Devanagari.
        text_theme=ft.TextTheme(**{name: style(type_) for name, type_ in TEXTS.items()}),
    )
