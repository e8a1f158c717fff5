"""The people one has blocked."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.loaded import show, use_loaded
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import use_app, use_t
from hypersend_client.app.tokens import Colour, Size, Space, Type
from hypersend_client.sdk import User


@ft.component
def Blocks() -> ft.Control:
    app, t = use_app(), use_t()
    loaded = use_loaded(lambda: app.hs.me.blocks())

    async def unblock(user: User) -> None:
        await app.hs.me.unblock(user.id)
        await loaded.reload()

    def line(user: User) -> ft.Control:
        name = user.display_name or user.username or t("someone")
        return forms.tile(
            name,
            subtitle=t("profile.handle", name=user.username) if user.username else "",
            leading=avatar(name, user.id, app.media_url(user.avatar_url), size=Size.AVATAR),
            trailing=states.quiet_button(
                t("blocks.unblock"), lambda e: app.spawn(unblock(user)), identifier=f"unblock-{user.id}"
            ),
        )

    def draw(users: list[User]) -> ft.Control:
        if not users:
            return states.empty(ft.Icons.SENTIMENT_SATISFIED, t("blocks.empty"), hint=t("blocks.hint"))
        hint = ft.Container(
            content=text(t("blocks.hint"), Type.SECONDARY, color=Colour.SECONDARY),
            padding=ft.Padding.symmetric(horizontal=Space.L),
        )
        return forms.page_of([hint, forms.section("", [line(user) for user in users])])

    return Screen(t("blocks.title"), show(loaded, draw))
