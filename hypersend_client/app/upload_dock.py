"""The upload page in the web app: a frame over the screens that stays while one walks about in the app.

The page itself sends the bytes; it would stop if its frame were taken away, so it lives in the page's overlay, can be
made small, and is closed by the person. A reload or a restart of the server takes it away all the same; where it was
sending, the browser remembers for which chat, and it is shown again: it names what it had not finished.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import flet as ft
from yarl import URL

from hypersend_client.app.components import states
from hypersend_client.app.components.text import text
from hypersend_client.app.kept_in_browser import SENDING
from hypersend_client.app.media import on_this_server, page_url
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import DEFAULT_ACCENT, ChatSize, Colour, Corner, Size, Space, Type


async def take_up(app: AppState, page: Any) -> None:
    """Show the page again that was sending when the screens went."""
    try:
        user_id, chat_id, title = json.loads(await app.memory.get(SENDING) or "")
    except (ValueError, TypeError):
        return
    if app.session.status == "signed_in" and user_id == app.me_id:
        await app.attempt(open_upload_page(app, page, str(chat_id), str(title)))


async def open_upload_page(app: AppState, page: Any, chat_id: str, title: str, *, media: bool = False) -> None:
    """Show the page for this chat; one that is busy for another chat is kept instead.

    media: it offers photos and videos alone.

    Raises: what Files.upload_ticket raises.
    """
    docks = [control.data for control in page.overlay if isinstance(control.data, UploadDock)]
    dock = docks[0] if docks else None
    if dock is not None and (dock.chat_id == chat_id or app.transfers.busy_in_page):
        dock.resize(small=False)
        return
    if dock is not None:
        dock.remove()
    ticket = await app.hs.files.upload_ticket(chat_id=chat_id)
    source = page_source(app, page, ticket.url, {"to": title, **({"accept": "media"} if media else {})})
    page.overlay.append(UploadDock(app, page, chat_id, title, source).control)
    page.update()


def page_source(app: AppState, page: Any, url: str, more: dict[str, str], *, place: str = "/upload") -> str:
    """A page's address with its language, theme, accent and `more` after the #, where no server sees them.

    url: of a ticket. place: the page's path.
    """
    dark = app.prefs.theme == "dark" or (app.prefs.theme == "system" and page.platform_brightness == ft.Brightness.DARK)
    options = {
        "lang": app.prefs.spoken,
        "theme": "dark" if dark else "light",
        "accent": app.prefs.accent or DEFAULT_ACCENT,
        **more,
    }
    whole = page_url(page, on_this_server(app, url))
    fragment = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    base, _, ticket = whole.partition("#")
    return f"{URL(base).with_path(place)}#{ticket}&{fragment}"


class UploadDock:
    """The frame and the bar over it. chat_id: where what it sends goes. source: the page's address, with its ticket."""

    def __init__(self, app: AppState, page: Any, chat_id: str, title: str, source: str) -> None:
        self.app, self.page, self.chat_id, self._chat_title = app, page, chat_id, title
        self._is_small = self._is_noted = False
        self._asking: ft.AlertDialog | None = None
        t = app.t
        self._title = text(t("upload.title", title=title), Type.LIST_TITLE, lines=1, expand=True)
        self._size = ft.IconButton(
            ft.Icons.KEYBOARD_ARROW_DOWN, tooltip=t("upload.smaller"), on_click=lambda e: self.resize()
        )
        # Only the web app shows this page, so only there the package has to be installed.
        from flet_webview import WebView  # type: ignore[import-untyped]

        self._frame = ft.Container(content=WebView(url=source, expand=True), expand=True)
        self.control = ft.Container(
            data=self,
            bgcolor=Colour.CARD,
            border_radius=Corner.BUBBLE,
            border=ft.Border.all(Size.LINE, Colour.LINE),
            clip_behavior=ft.ClipBehavior.ANTI_ALIAS,
            content=ft.Column(
                [
                    ft.Row(
                        [
                            ft.Container(width=Space.S),
                            self._title,
                            ft.Semantics(content=self._size, identifier="upload-size"),
                            ft.Semantics(
                                content=ft.IconButton(
                                    ft.Icons.CLOSE, tooltip=t("upload.close"), on_click=lambda e: self.close()
                                ),
                                identifier="upload-close",
                            ),
                        ],
                        spacing=Space.XS,
                    ),
                    self._frame,
                ],
                spacing=0,
                expand=True,
            ),
        )
        self._lay_out()
        # Held here: who listens is only weakly held by what is listened to.
        self._listener = lambda *_: self._moved()
        self._stop = app.transfers.subscribe(self._listener)
        self._on_session = lambda *_: self.remove() if app.session.status == "signed_out" else None
        self._stop_session = app.session.subscribe(self._on_session)

    def resize(self, *, small: bool | None = None) -> None:
        self._is_small = not self._is_small if small is None else small
        self._lay_out()
        self.page.update()

    def _lay_out(self) -> None:
        """Small: the bar alone; the frame keeps a pixel, since one that is not drawn is taken out of the page."""
        control, t = self.control, self.app.t
        wide = self.app.layout.panes > 1
        control.right = Space.S
        control.bottom = Size.ACTION if self._is_small or wide else Space.S  # one may write meanwhile
        control.left = None if wide else Space.S
        control.width = ChatSize.DOCK_WIDE if wide else None
        control.height = Size.TOP_BAR if self._is_small else ChatSize.DOCK_HIGH
        self._size.icon = ft.Icons.KEYBOARD_ARROW_UP if self._is_small else ft.Icons.KEYBOARD_ARROW_DOWN
        self._size.tooltip = t("upload.larger" if self._is_small else "upload.smaller")

    def _moved(self) -> None:
        self._note(self.app.transfers.busy_in_page)
        if not self._is_small:
            return
        t = self.app.t
        rows = [row for row in self.app.transfers.rows if row.in_page and row.group == "running"]
        share = int(100 * sum(row.done_bytes for row in rows) / max(1, sum(row.size_bytes for row in rows)))
        self._title.value = t("upload.running", share=share) if rows else t("upload.idle")
        self._title.update()

    def close(self) -> None:
        """Asks first where something would be cut off."""
        if not self.app.transfers.busy_in_page:
            self.remove()
            return
        t = self.app.t

        def no() -> None:
            self.page.pop_dialog()

        def yes() -> None:
            self.page.pop_dialog()
            self.remove()

        self.page.show_dialog(
            states.confirm(
                t("upload.close_title"),
                t("upload.close_line"),
                yes=t("upload.close_yes"),
                no=t("upload.close_no"),
                on_yes=yes,
                on_no=no,
            )
        )

    def _note(self, is_busy: bool) -> None:
        if is_busy == self._is_noted:
            return
        self._is_noted, memory = is_busy, self.app.memory
        note = json.dumps([self.app.me_id, self.chat_id, self._chat_title])
        self.app.spawn(memory.set(SENDING, note) if is_busy else memory.remove(SENDING))

    def remove(self) -> None:
        self._note(False)
        self._stop()
        self._stop_session()
        if self.control in self.page.overlay:
            self.page.overlay.remove(self.control)
            self.page.update()
