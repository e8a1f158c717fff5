"""Which screen stands at which address, and how a screen gets at the state and its words.

A screen is an `@ft.component` without arguments that returns `frame.Screen(...)`; it never makes an `ft.View`
itself. Its parameters come from the address: `ft.use_route_params()["id"]`. In a narrow window each address is a
view of its own on a stack, so the system's back gesture works; from two panes on, everything stands in one view:
rail, chat list, and the screen beside it.

    app = use_app()                  # AppState
    t = use_t()                      # Translator; draws again when the language changes
    chats = watch(app.chats)         # draws again when it changes
    go("/chat/abc"); back()

Screens are looked up by `SCREENS`: path → (pane, module, component). `pane`: which item of the bottom bar is
marked, and whether the chat list stands beside it ("chats").
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import flet as ft

from hypersend_client.app.i18n import Translator
from hypersend_client.app.state import AppState

O = TypeVar("O", bound=ft.Observable)  # noqa: E741

_STATE = "hypersend"


@dataclass(frozen=True, slots=True)
class Place:
    """path: with `:name` parameters. parent: where back leads. tab: of the bottom bar."""

    path: str
    screen: str
    tab: str
    parent: str | None = None

    @property
    def component(self) -> Callable[..., Any]:
        module, _, name = self.screen.partition(":")
        found = getattr(importlib.import_module(f"hypersend_client.app.screens.{module}"), name)
        return cast("Callable[..., Any]", found)


TABS = ("chats", "transfers", "settings")

SIGNED_OUT = (
    Place("/", "sign_in:SignIn", ""),
    Place("/register", "register:Register", "", "/"),
    Place("/reset", "register:Reset", "", "/"),
)

SIGNED_IN = (
    Place("/", "chats:Chats", "chats"),
    Place("/archive", "chats:Archive", "chats", "/"),
    Place("/chat/:id", "chat:ChatScreen", "chats", "/"),
    Place("/details/:id", "chat:DetailsScreen", "chats", "/chat/:id"),
    Place("/new", "new_chat:NewChat", "chats", "/"),
    Place("/new/group", "new_group:NewGroup", "chats", "/new"),
    Place("/group/:id", "group:GroupDetails", "chats", "/chat/:id"),
    Place("/search", "search:Search", "chats", "/"),
    Place("/transfers", "transfers:Transfers", "transfers"),
    Place("/settings", "settings:Settings", "settings"),
    Place("/settings/profile", "profile:Profile", "settings", "/settings"),
    Place("/settings/password", "profile:Password", "settings", "/settings"),
    Place("/settings/devices", "devices:Devices", "settings", "/settings"),
    Place("/settings/storage", "storage:Storage", "settings", "/settings"),
    Place("/settings/blocks", "blocks:Blocks", "settings", "/settings"),
    Place("/settings/appearance", "appearance:Appearance", "settings", "/settings"),
    Place("/settings/about", "about:About", "settings", "/settings"),
)


def set_app(app: AppState) -> None:
    """Of the page that is being drawn."""
    ft.context.page.session.store.set(_STATE, app)


def use_app() -> AppState:
    # No context of Flet's: under a memoised component that was drawn again it is not found (1.0.5).
    app = ft.context.page.session.store.get(_STATE)
    assert isinstance(app, AppState)
    return app


def use_t() -> Translator:
    return Translator(watch(use_app().prefs).spoken)


def watch(part: O) -> O:
    """Draw this component again whenever `part` changes; to be called at every drawing, like any hook."""
    state, _ = ft.use_state(part)
    return state


def go(path: str) -> None:
    ft.context.page.navigate(path)


def back() -> None:
    """To the parent of where we are; the top of a tab has none."""
    place, params = match(ft.context.page.route or "/")
    if place is not None and place.parent is not None:
        go(fill(place.parent, params))


def match(route: str) -> tuple[Place | None, dict[str, str]]:
    """The place of a route, with its parameters."""
    parts = route.split("?")[0].split("#")[0].strip("/").split("/")
    for place in SIGNED_IN:
        pattern = place.path.strip("/").split("/")
        if len(pattern) == len(parts) and all(
            p == q or (p.startswith(":") and q) for p, q in zip(pattern, parts, strict=True)
        ):
            return place, {p[1:]: q for p, q in zip(pattern, parts, strict=True) if p.startswith(":")}
    return None, {}


def fill(path: str, params: dict[str, str]) -> str:
    return "/".join(params.get(part[1:], part) if part.startswith(":") else part for part in path.split("/"))
