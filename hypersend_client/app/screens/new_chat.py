"""Start a conversation: with one person, or a group."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import forms
from hypersend_client.app.finder import PeopleFinder, narrow
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import go, use_app, use_t
from hypersend_client.sdk import User


@ft.component
def NewChat() -> ft.Control:
    app, t = use_app(), use_t()

    async def start(user: User) -> None:
        chat = await app.hs.chats.open_direct(user.id)
        go(f"/chat/{chat.id}")

    def above() -> list[ft.Control]:
        return [
            forms.tile(
                t("new.group"),
                subtitle=t("new.group_hint"),
                icon=ft.Icons.GROUP_ADD_OUTLINED,
                on_click=lambda: go("/new/group"),
                identifier="new-group",
            )
        ]

    return Screen(t("new.title"), narrow(PeopleFinder(lambda user: app.spawn(start(user)), above=above)))
