"""Theme and language; both take effect at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import flet as ft

from hypersend_client.app.components import forms
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import LANGUAGES
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.tokens import Colour, Size
from hypersend_client.app.watched import Theme

ICONS = {
    "system": ft.Icons.BRIGHTNESS_AUTO_OUTLINED,
    "light": ft.Icons.LIGHT_MODE_OUTLINED,
    "dark": ft.Icons.DARK_MODE_OUTLINED,
}


@ft.component
def Appearance() -> ft.Control:
    app, t = use_app(), use_t()
    prefs = watch(app.prefs)

    def choice(label: str, chosen: bool, on_click: Callable[[], Any], identifier: str, icon: Any = None) -> ft.Control:
        mark = ft.Icon(ft.Icons.CHECK, color=Colour.ACCENT, size=Size.ICON, semantics_label=t("appearance.selected"))
        return forms.tile(label, icon=icon, trailing=mark if chosen else None, on_click=on_click, identifier=identifier)

    def pick_theme(theme: Theme) -> Callable[[], None]:
        return lambda: app.spawn(app.set_theme(theme))

    def pick_language(code: str) -> Callable[[], None]:
        return lambda: app.spawn(app.set_language(code))

    themes = [
        choice(t(f"appearance.{theme}"), prefs.theme == theme, pick_theme(theme), f"theme-{theme}", ICONS[theme])
        for theme in get_args(Theme)
    ]
    languages = [
        choice(t("appearance.system"), prefs.language == "system", pick_language("system"), "language-system"),
        *(
            choice(name, prefs.language == code, pick_language(code), f"language-{code}")
            for code, name in LANGUAGES.items()
        ),
    ]
    return Screen(
        t("appearance.title"),
        forms.page_of(
            [forms.section(t("appearance.theme"), themes), forms.section(t("appearance.language"), languages)]
        ),
    )
