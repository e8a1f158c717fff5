"""Finding people: a field, those one writes with, and what the server finds while one types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import style, text
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.tokens import CONTENT_WIDTH, Colour, Corner, Size, Space, Type
from hypersend_client.sdk import User

PAUSE_S = 0.3
_NOBODY: tuple[User, ...] = ()


def name_of(user: User) -> str:
    return user.display_name or user.username or ""


def search_field(
    label: str,
    on_change: Callable[[str], Any],
    *,
    identifier: str,
    autofocus: bool = True,
    on_submit: Callable[[], Any] | None = None,
) -> ft.Control:
    """A round field to find something in, as wide as there is room. Its text is the browser's own: drawing an older one
    over it would lose letters.
    """
    return ft.Semantics(
        identifier=identifier,
        content=ft.TextField(
            value=None,  # type: ignore[arg-type]
            hint_text=label,
            prefix_icon=ft.Icons.SEARCH,
            autofocus=autofocus,
            on_submit=(lambda e: on_submit()) if on_submit is not None else None,
            on_change=lambda e: on_change(e.control.value or ""),
            dense=True,
            filled=True,
            fill_color=Colour.FIELD,
            border=ft.OutlineInputBorder(
                border_radius=ft.BorderRadius.all(Corner.ROUND), side=ft.BorderSide(0, Colour.NONE)
            ),
            text_style=style(Type.BODY, color=Colour.TEXT),
            hint_style=style(Type.BODY, label, color=Colour.SECONDARY),
            hint_max_lines=1,
        ),
    )


def narrow(content: ft.Control) -> ft.Control:
    """No wider than is good to read."""
    return ft.Container(
        expand=True, alignment=ft.Alignment.TOP_CENTER, content=ft.Container(content=content, width=CONTENT_WIDTH)
    )


@ft.component
def PeopleFinder(
    on_choose: Callable[[User], Any],
    chosen: Collection[str] = (),
    hidden: Collection[str] = (),
    above: Callable[[], list[ft.Control]] | None = None,
) -> ft.Control:
    """on_choose(user): it was tapped. chosen: ids that are marked. hidden: ids not shown. above: rows before them."""
    app, t = use_app(), use_t()
    wanted, set_wanted = ft.use_state("")
    found, set_found = ft.use_state(_NOBODY)
    asked, set_asked = ft.use_state("")
    chats, people = watch(app.chats), watch(app.people)

    async def look() -> None:
        needle = wanted.strip()
        if needle:
            await asyncio.sleep(PAUSE_S)  # the typing goes on
            page = await app.attempt(app.hs.users.find(needle))
            set_found(tuple(page.items) if page is not None else ())
        set_asked(needle)

    ft.use_effect(look, [wanted])
    needle = wanted.strip()
    known = [user for row in chats.rows if row.peer_id and (user := people.get(row.peer_id)) is not None]
    shown = [user for user in (found if needle else known) if user.id not in hidden and user.id != app.me_id]
    tiles = [_tile(user, user.id in chosen, on_choose, app, t) for user in shown]
    rows: list[ft.Control] = [] if needle or above is None else above()
    if tiles and not needle:
        rows.append(
            ft.Container(
                content=text(t("new.people"), Type.SECONDARY, color=Colour.SECONDARY),
                padding=ft.Padding.only(left=Space.L, top=Space.L, bottom=Space.XS),
            )
        )
    body: ft.Control
    if tiles or (rows and not needle):
        body = ft.ListView([*rows, *tiles], expand=True)
        if not tiles:
            body = ft.Column(
                [*rows, states.empty(ft.Icons.PERSON_SEARCH, t("new.hint"), hint=t("new.hint_line"))], expand=True
            )
    elif needle and asked == needle:
        body = states.empty(ft.Icons.SEARCH_OFF, t("new.none", text=needle), hint=t("new.none_hint"))
    elif needle:
        body = states.loading(t("new.search"))
    else:
        body = states.empty(ft.Icons.PERSON_SEARCH, t("new.hint"), hint=t("new.hint_line"))
    field = search_field(t("new.search"), set_wanted, identifier="find-people")
    return ft.Column(
        [
            ft.Container(content=field, padding=ft.Padding.symmetric(horizontal=Space.L)),
            ft.Container(content=body, expand=True),
        ],
        spacing=Space.S,
        expand=True,
        horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
    )


def _tile(user: User, marked: bool, on_choose: Callable[[User], Any], app: Any, t: Any) -> ft.Control:
    return forms.tile(
        name_of(user),
        subtitle=t("new.handle", name=user.username) if user.username else "",
        leading=avatar(name_of(user), user.id, app.media_url(user.avatar_url), online=user.online),
        trailing=ft.Icon(ft.Icons.CHECK_CIRCLE, color=Colour.ACCENT, size=Size.ICON) if marked else None,
        selected=marked,
        on_click=lambda: on_choose(user),
        identifier=f"user-{user.username}",
    )
