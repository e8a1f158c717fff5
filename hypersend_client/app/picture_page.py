"""Choosing a picture of a person or a group.

In the browser a page of our own makes a photo small before it leaves: through the app's own socket a picture of more
than a megabyte would not come. It goes up as a file, which is looked for by its name, used, and removed again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import flet as ft

from hypersend_client.app.components.forms import icon_button
from hypersend_client.app.components.text import text
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Colour, Corner, Size, Space, Type
from hypersend_client.app.upload_dock import page_source
from hypersend_client.sdk import HyperSend
from hypersend_client.sdk.events import Event, Ready, UploadProgress

MAX_PICTURE = 2 * 1024 * 1024
PICTURES = ["jpg", "jpeg", "png", "webp"]

Use = Callable[[bytes], Awaitable[object]]


async def choose_picture(app: AppState, page: Any, use: Use) -> None:
    """Let the person choose one, and `use` it. Raises: what `use` raises; in the browser Files.upload_ticket's."""
    if page.web:
        if not any(isinstance(control.data, PictureFrame) for control in page.overlay):
            ticket = await app.hs.files.upload_ticket()
            PictureFrame(app, page, ticket.url, use).show()
        return
    files = await ft.FilePicker().pick_files(file_type=ft.FilePickerFileType.CUSTOM, allowed_extensions=PICTURES)
    if not files or not files[0].path:
        return
    path = Path(files[0].path)
    if (await asyncio.to_thread(path.stat)).st_size > MAX_PICTURE:
        app.notices.tell(app.t("profile.picture_large"))
        return
    await use(await asyncio.to_thread(path.read_bytes))


async def read_small(hs: HyperSend, file_id: str) -> bytes:
    """The bytes of a file of at most MAX_PICTURE. Raises: ApiError, ConnectionFailed."""
    found = bytearray()
    async with hs.transport.stream("GET", f"/files/{file_id}/download") as response:
        async for piece in hs.transport.pieces(response):
            found += piece
            if len(found) > MAX_PICTURE:
                break
    return bytes(found)


class PictureFrame:
    """The page, in a frame over the screens, and the bar over it. url: with its ticket."""

    def __init__(self, app: AppState, page: Any, url: str, use: Use) -> None:
        self.app, self.page, self._use = app, page, use
        self.name = f"picture-{secrets.token_hex(8)}.jpg"
        self._is_over = False
        t = app.t
        # Only the web app shows this page, so only there the package has to be installed.
        from flet_webview import WebView  # type: ignore[import-untyped]

        source = page_source(app, page, url, {"name": self.name}, place="/upload/picture.html")
        bar = ft.Row(
            [
                ft.Container(width=Space.S),
                text(t("profile.picture"), Type.LIST_TITLE, lines=1, expand=True),
                icon_button(ft.Icons.CLOSE, t("upload.close"), lambda e: self.remove(), identifier="picture-close"),
            ],
            spacing=Space.XS,
        )
        wide = app.layout.panes > 1
        self.control = ft.Container(
            data=self,
            right=Space.S,
            bottom=Space.S,
            left=None if wide else Space.S,
            width=ChatSize.DOCK_WIDE if wide else None,
            height=ChatSize.DOCK_HIGH,
            bgcolor=Colour.CARD,
            border_radius=Corner.BUBBLE,
            border=ft.Border.all(Size.LINE, Colour.LINE),
            clip_behavior=ft.ClipBehavior.ANTI_ALIAS,
            content=ft.Column(
                [bar, ft.Container(content=WebView(url=source, expand=True), expand=True)], spacing=0, expand=True
            ),
        )
        self._stop = app.on_event(self._heard)
        # Held here: who listens is only weakly held by what is listened to.
        self._on_session = lambda *_: self.remove() if app.session.status == "signed_out" else None
        self._stop_session = app.session.subscribe(self._on_session)

    def show(self) -> None:
        self.page.overlay.append(self.control)
        self.page.update()

    def _heard(self, event: Event) -> None:
        """A file of nobody's chat is there, or something may have been missed."""
        if isinstance(event, Ready) or (
            isinstance(event, UploadProgress) and event.state == "complete" and not event.chat_id
        ):
            self.app.spawn(self._look())

    async def _look(self) -> None:
        hs = self.app.hs
        found = await hs.files.page(text=self.name, state="complete", limit=1)
        if self._is_over or not found.items:
            return
        self._is_over = True
        self.remove()
        file = found.items[0]
        try:
            image = await read_small(hs, file.id)
        finally:
            await hs.files.delete(file.id)
        await self._use(image)

    def remove(self) -> None:
        self._stop()
        self._stop_session()
        if self.control in self.page.overlay:
            self.page.overlay.remove(self.control)
            self.page.update()
