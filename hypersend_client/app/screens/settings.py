"""Settings: the profile on top, then what can be changed, then signing out."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.tokens import Colour, Size, Space, Type


@ft.component
def Settings() -> ft.Control:
    app, t = use_app(), use_t()
    session = watch(app.session)
    panes = watch(app.layout).panes
    asking, set_asking = ft.use_state(False)

    async def sign_out() -> None:
        set_asking(False)
        await app.attempt(app.sign_out())
        go("/")

    dialog = states.confirm(
        t("settings.sign_out_ask"),
        t("settings.sign_out_loss"),
        yes=t("settings.sign_out"),
        no=t("cancel"),
        on_yes=lambda: app.spawn(sign_out()),
        on_no=lambda: set_asking(False),
    )
    ft.use_dialog(dialog if asking else None)
    here = ft.context.page.route or "/"
    me = session.me

    def line(name: str, icon: ft.IconData, hint: str = "") -> ft.Control:
        path = f"/settings/{name}"
        return forms.tile(
            t(f"settings.{name}"),
            subtitle=t(hint) if hint else "",
            icon=icon,
            on_click=lambda: go(path),
            selected=panes > 1 and here == path,
            identifier=f"to-{name}",
        )

    update = watch(app.update)

    def show_update() -> None:
        update.put_off = False

    newer = []
    if update.release is not None:
        newer.append(
            forms.section(
                "",
                [
                    forms.tile(
                        t("update.settings", version=update.release.version),
                        subtitle=t("update.settings_hint"),
                        icon=ft.Icons.SYSTEM_UPDATE_ALT,
                        on_click=show_update,
                        identifier="to-update",
                    )
                ],
            )
        )
    name = (me.display_name or me.username or "") if me is not None else ""
    top = forms.tile(
        name or t("settings.profile"),
        subtitle=t("profile.handle", name=me.username) if me is not None and me.username else "",
        leading=avatar(name, app.me_id, app.media_url(me.avatar_url) if me is not None else None),
        on_click=lambda: go("/settings/profile"),
        selected=panes > 1 and here in ("/settings", "/settings/profile"),
        identifier="to-profile",
    )
    body = forms.page_of(
        [
            forms.section("", [top]),
            *newer,
            forms.section(
                t("settings.account"),
                [
                    line("devices", ft.Icons.DEVICES, "settings.devices_hint"),
                    line("storage", ft.Icons.CLOUD_OUTLINED, "settings.storage_hint"),
                    line("blocks", ft.Icons.BLOCK, "settings.blocks_hint"),
                    line("password", ft.Icons.KEY_OUTLINED),
                ],
            ),
            forms.section(
                t("settings.app"),
                [
                    line("appearance", ft.Icons.PALETTE_OUTLINED),
                    line("about", ft.Icons.INFO_OUTLINE, "settings.about_hint"),
                ],
            ),
            forms.section(
                "",
                [
                    forms.tile(
                        t("settings.sign_out"),
                        icon=ft.Icons.LOGOUT,
                        danger=True,
                        on_click=lambda: set_asking(True),
                        identifier="sign-out",
                    )
                ],
            ),
        ]
    )
    return Screen(t("settings.title"), body, leads_back=False)


def pair(label: str, value: str) -> ft.Control:
    """A label over what it names."""
    return ft.Container(
        padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
        content=ft.Column(
            [
                text(label, Type.SECONDARY, color=Colour.SECONDARY),
                text(value, selectable=True),
            ],
            spacing=Space.XXS,
            tight=True,
        ),
    )


def spinner() -> ft.Control:
    return ft.ProgressRing(width=Size.SPINNER, height=Size.SPINNER)
