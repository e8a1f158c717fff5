"""Files in the browser and on the screen: the address of a picture, a picture in full, saving a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft
from yarl import URL

from hypersend_client.app.components import forms
from hypersend_client.app.components.text import text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import Colour, Size, Space, Type
from hypersend_client.sdk import File


def on_this_server(app: AppState, url: str) -> str:
    """A ticket's URL as this screen reaches the server: the server may know itself by another address."""
    parsed = URL(url)
    path = str(parsed.relative()) if parsed.is_absolute() else url
    return app.media_url(path) or url


async def inline_url(app: AppState, file: File) -> str:
    """Where an image can be loaded from without a token. Raises: what Files.ticket raises."""
    ticket = await app.hs.files.ticket(file.id)
    return str(URL(on_this_server(app, ticket.url)).update_query(inline="true"))


async def save_file(app: AppState, file: File) -> None:
    """To this device: the browser's own download, or one that the app does. Raises: HyperSendError."""
    page = ft.context.page
    if page.web:
        ticket = await app.hs.files.ticket(file.id)
        await ft.UrlLauncher().launch_url(
            page_url(page, on_this_server(app, ticket.url)), web_only_window_name=ft.UrlTarget.SELF.value
        )
    else:
        await app.transfers.fetch(file)


def page_url(page: Any, url: str) -> str:
    """A URL of this server as a whole one, by the address that the browser has the page from."""
    parsed = URL(url)
    if not page.web:
        return url
    own = URL(str(page.url))
    scheme = {"ws": "http", "wss": "https"}.get(own.scheme, own.scheme)
    origin = own.with_scheme(scheme).origin()
    relative = str(parsed.relative()) if parsed.is_absolute() else url
    return str(origin).rstrip("/") + relative


def picture_dialog(
    file: File, source: str, t: Translator, app: AppState, *, on_close: Callable[[], None], on_save: Callable[[], None]
) -> ft.AlertDialog:
    """A picture in full, to be zoomed; for `ft.use_dialog`. source: "" while it is not known."""
    width, height = app.layout.size
    content: ft.Control = ft.ProgressRing(width=Size.ICON_LARGE, height=Size.ICON_LARGE)
    if source:
        content = ft.InteractiveViewer(
            content=ft.Image(
                src=source,
                fit=ft.BoxFit.CONTAIN,
                semantics_label=t("chat.image", name=file.name),
                error_content=text(t("chat.image_failed"), Type.SECONDARY, color=Colour.SECONDARY),
                expand=True,
            ),
            expand=True,
        )
    return ft.AlertDialog(
        inset_padding=Space.S,
        content_padding=Space.S,
        title_padding=ft.Padding.symmetric(horizontal=Space.S, vertical=Space.XS),
        title=ft.Row(
            [
                ft.Container(
                    content=text(file.name, Type.LIST_TITLE, lines=1),
                    expand=True,
                    padding=ft.Padding.only(left=Space.S),
                ),
                forms.icon_button(
                    ft.Icons.DOWNLOAD, t("chat.menu.save_file"), lambda e: on_save(), identifier="save-picture"
                ),
                forms.icon_button(
                    ft.Icons.CLOSE, t("chat.image_close"), lambda e: on_close(), identifier="close-picture"
                ),
            ]
        ),
        content=ft.Container(content=content, width=width, height=height, alignment=ft.Alignment.CENTER),
        on_dismiss=lambda e: on_close(),
    )
