"""Make a group: its name, its people, and whether those who come later see what was written before."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.text import text
from hypersend_client.app.finder import PeopleFinder, name_of, narrow
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import go, use_app, use_t
from hypersend_client.app.tokens import Colour, Corner, Space, Type
from hypersend_client.sdk import User

_NOBODY: tuple[User, ...] = ()


@ft.component
def NewGroup() -> ft.Control:
    app, t = use_app(), use_t()
    title, set_title = ft.use_state("")
    people, set_people = ft.use_state(_NOBODY)
    history, set_history = ft.use_state(True)
    error, set_error = ft.use_state("")
    busy, set_busy = ft.use_state(False)

    def toggle(user: User) -> None:
        others = tuple(one for one in people if one.id != user.id)
        set_people(others if len(others) < len(people) else (*people, user))

    async def create() -> None:
        if not title.strip():
            set_error(t("new.group_name_missing"))
            return
        set_busy(True)
        chat = await app.attempt(
            app.hs.chats.create_group(
                title.strip(), [user.id for user in people], history="all" if history else "since_join"
            )
        )
        set_busy(False)
        if chat is not None:
            go(f"/chat/{chat.id}")

    chips: list[ft.Control] = [
        ft.Container(
            content=ft.Row(
                [
                    text(name_of(user), Type.SECONDARY, color=Colour.ON_SELECTED),
                    ft.Icon(ft.Icons.CLOSE, color=Colour.ON_SELECTED, size=Space.L),
                ],
                tight=True,
                spacing=Space.XS,
            ),
            tooltip=t("new.group_remove", name=name_of(user)),
            bgcolor=Colour.SELECTED,
            border_radius=Corner.BUBBLE,
            padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.S),
            on_click=lambda e, user=user: toggle(user),
            ink=True,
        )
        for user in people
    ]
    body = ft.Column(
        [
            ft.Container(
                padding=ft.Padding.only(left=Space.L, right=Space.L, top=Space.S),
                content=ft.Column(
                    [
                        forms.field(
                            t("new.group_name"), title, set_title, identifier="group-name", error=error, autofocus=True
                        ),
                        ft.Row(
                            [
                                text(t("new.group_history"), expand=True),
                                ft.Semantics(
                                    label=t("new.group_history"),
                                    identifier="group-history",
                                    content=ft.Switch(
                                        value=history, on_change=lambda e: set_history(bool(e.control.value))
                                    ),
                                ),
                            ]
                        ),
                        *([ft.Row(chips, wrap=True, spacing=Space.S, run_spacing=Space.S)] if chips else []),
                    ],
                    spacing=Space.S,
                    tight=True,
                    horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
                ),
            ),
            ft.Container(content=PeopleFinder(toggle, tuple(user.id for user in people)), expand=True),
            ft.Container(
                padding=Space.L,
                content=ft.Row(
                    [
                        states.primary_button(
                            t("new.group_create"),
                            lambda e: app.spawn(create()),
                            busy=busy,
                            identifier="create-group",
                            expand=True,
                        )
                    ]
                ),
            ),
        ],
        spacing=Space.S,
        expand=True,
        horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
    )
    return Screen(t("new.group_title"), narrow(body))
