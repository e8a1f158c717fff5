"""The word that a newer build is there: a dialog that can be put off, or all there is where it cannot."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import states
from hypersend_client.app.components.text import text
from hypersend_client.app.open_file import hand_over, share
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import DIALOG_WIDTH, Colour, Corner, Size, Space, Type
from hypersend_client.app.words import explain, size


def use_update_dialog(app: AppState) -> None:
    """A hook: the notice over whatever is shown, until it is put off."""
    t = use_t()
    update = watch(app.update)
    release = update.release
    shown = release is not None and not release.mandatory and not update.put_off and app.session.status != "starting"

    def later() -> None:
        update.put_off = True

    dialog = None
    if shown and release is not None:
        dialog = ft.AlertDialog(
            title=text(t("update.title", version=release.version), Type.TITLE),
            content=ft.Container(width=DIALOG_WIDTH, content=UpdateBody()),
            actions=[states.quiet_button(t("update.later"), lambda e: later(), identifier="update-later")],
            on_dismiss=lambda e: later(),
            scrollable=True,
        )
    ft.use_dialog(dialog)


@ft.component
def UpdateNeeded() -> ft.Control:
    """In place of everything: this version does not work any more."""
    app, t = use_app(), use_t()
    release = watch(app.update).release
    server = watch(app.session).server
    name = server.name if server is not None and server.name else t("app.name")
    parts: list[ft.Control] = [
        ft.Icon(ft.Icons.SYSTEM_UPDATE_ALT, size=Size.AVATAR, color=Colour.ACCENT),
        ft.Semantics(
            content=text(t("update.must_title"), Type.TITLE, align=ft.TextAlign.CENTER),
            header=True,
            identifier="update-needed",
        ),
        text(
            t("update.must", name=name, version=release.version if release is not None else ""),
            color=Colour.SECONDARY,
            align=ft.TextAlign.CENTER,
        ),
        ft.Container(width=DIALOG_WIDTH, content=UpdateBody()),
    ]
    return ft.Container(
        expand=True,
        alignment=ft.Alignment.CENTER,
        padding=Space.XL,
        content=ft.Column(
            parts,
            spacing=Space.L,
            tight=True,
            scroll=ft.ScrollMode.AUTO,
            horizontal_alignment=ft.CrossAxisAlignment.CENTER,
        ),
    )


@ft.component
def UpdateBody() -> ft.Control:
    """What is new, and the one thing to be done next: fetch it, wait, install it."""
    app, t = use_app(), use_t()
    update = watch(app.update)
    release = update.release
    if release is None:
        return ft.Container()
    parts: list[ft.Control] = [
        text(
            t("update.size", version=release.version, size=size(release.size, t)),
            Type.SECONDARY,
            color=Colour.SECONDARY,
        )
    ]
    if release.notes:
        parts += [text(t("update.notes"), Type.BODY_STRONG), text(release.notes, selectable=True)]
    if update.error is not None:
        line = explain(update.error, t, address=app.session.address)
        parts.append(ft.Semantics(content=text(line, Type.SECONDARY, color=Colour.LOSS), live_region=True))
    if update.state == "loading":
        words = t("update.loading", done=size(update.done_bytes, t), size=size(release.size, t))
        parts += [
            ft.ProgressBar(
                value=update.done_bytes / release.size if release.size else None,
                bar_height=Size.BAR_THICK,
                border_radius=Corner.ROUND,
                color=Colour.ACCENT,
                bgcolor=Colour.LINE,
                semantics_label=words,
            ),
            text(words, Type.SECONDARY, color=Colour.SECONDARY),
            _button(states.quiet_button(t("update.stop"), lambda e: update.stop(), identifier="update-stop")),
        ]
    elif update.state == "ready":
        parts += [
            text(t("update.ready"), Type.SECONDARY, color=Colour.SECONDARY),
            _button(
                states.primary_button(
                    t("update.install"), lambda e: app.spawn(install(app)), identifier="update-install", expand=True
                )
            ),
        ]
    else:
        parts.append(
            _button(
                states.primary_button(
                    t("update.get"), lambda e: update.fetch(), identifier="update-get", expand=True
                )
            )
        )
    return ft.Column(parts, spacing=Space.M, tight=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH)


def _button(button: ft.Control) -> ft.Control:
    return ft.Row([button], alignment=ft.MainAxisAlignment.CENTER)


async def install(app: AppState) -> None:
    """The system's installer does it; on Android it is reached by the sheet for files."""
    path = app.update.path
    if ft.context.page.platform == ft.PagePlatform.ANDROID:
        await share(app, path)
    else:
        await hand_over(app, path)
