"""Files in a bubble: their icon, name and size, what is moving, and pictures in their proportions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.chat.actions import Actions
from hypersend_client.app.chat.model import album, file_kind, fit, short_name
from hypersend_client.app.components.forms import icon_button
from hypersend_client.app.components.text import text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.media import inline_url
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Colour, Corner, Size, Space, Type
from hypersend_client.app.transfer_list import TransferRow
from hypersend_client.app.words import duration, explain, size, speed
from hypersend_client.sdk import File

ICONS: dict[str, ft.IconData] = {
    "image": ft.Icons.IMAGE_OUTLINED,
    "video": ft.Icons.MOVIE_OUTLINED,
    "audio": ft.Icons.AUDIO_FILE_OUTLINED,
    "pdf": ft.Icons.PICTURE_AS_PDF_OUTLINED,
    "archive": ft.Icons.FOLDER_ZIP_OUTLINED,
    "app": ft.Icons.APPS,
    "document": ft.Icons.DESCRIPTION_OUTLINED,
    "file": ft.Icons.INSERT_DRIVE_FILE_OUTLINED,
}


def progress_words(row: TransferRow, t: Translator, *, address: str = "") -> str:
    """`412 MB of 3.1 GB · 18 MB/s · 2 min`, or what it waits for."""
    done, whole = size(row.done_bytes, t), size(row.size_bytes, t)
    match row.state:
        case "running" if row.left_s is not None:
            return t(
                "file.moving", done=done, size=whole, speed=speed(row.bytes_per_s, t), left=duration(row.left_s, t)
            )
        case "running":
            return t("file.of", done=done, size=whole)
        case "failed":
            return explain(row.error, t, address=address) if row.error is not None else t("error.error")
        case "waiting" | "paused":
            return t(f"file.{row.state}", done=done, size=whole)
        case "done":
            return t("file.done", size=whole)
        case _:
            return t(f"file.{row.state}")


def ring(row: TransferRow, t: Translator, app: AppState, on_cancel: Callable[[], Any]) -> ft.Control:
    """The progress as a ring with a stop inside."""
    return ft.Stack(
        width=Size.TOUCH,
        height=Size.TOUCH,
        controls=[
            ft.ProgressRing(
                value=row.share if row.state not in ("queued", "checking", "finishing") else None,
                width=Size.TOUCH,
                height=Size.TOUCH,
                stroke_width=ChatSize.RING,
                color=Colour.ACCENT,
                bgcolor=Colour.LINE,
            ),
            icon_button(ft.Icons.CLOSE, t("file.cancel", name=row.name), lambda e: on_cancel(), color=Colour.ACCENT),
        ],
    )


def transfer_buttons(row: TransferRow, t: Translator, app: AppState) -> list[ft.Control]:
    """Pause, go on, try again: what can be done now besides calling it off."""
    if row.in_page:
        return []
    if row.state == "paused":
        return [
            icon_button(ft.Icons.PLAY_ARROW, t("file.resume", name=row.name), lambda e: app.transfers.resume(row.id))
        ]
    if row.state == "failed":
        return [icon_button(ft.Icons.REFRESH, t("file.retry", name=row.name), lambda e: app.transfers.resume(row.id))]
    if row.group == "running" or row.state in ("queued", "waiting"):
        return [icon_button(ft.Icons.PAUSE, t("file.pause", name=row.name), lambda e: app.transfers.pause(row.id))]
    return []


@ft.component
def FileBody(file: File, actions: Actions) -> ft.Control:
    """A file that is on the server; while it is fetched, how far."""
    app, t = use_app(), use_t()
    row = watch(app.transfers).download_of(file.id)
    moving = row is not None and row.state not in ("done", "cancelled")
    if moving and row is not None:
        lead = ring(row, t, app, lambda: app.spawn(app.transfers.cancel(row.id)))
        words = progress_words(row, t, address=app.session.address)
        more = transfer_buttons(row, t, app)
    else:
        lead, more = _disc(ICONS[file_kind(file.name, file.mime)]), []
        words = (
            t("file.done", size=size(file.size, t)) if row is not None and row.state == "done" else size(file.size, t)
        )
    body = _row(lead, short_name(file.name), words, more, failed=row is not None and row.state == "failed")
    return ft.Semantics(
        label=t("file.download", name=file.name),
        identifier=f"file-{file.id}",
        button=True,
        content=ft.Container(content=body, on_click=(lambda e: actions.fetch(file)) if not moving else None, ink=True),
    )


@ft.component
def WaitingFile(ref: str) -> ft.Control:
    """A file of this device that is being uploaded for a message."""
    app, t = use_app(), use_t()
    row = watch(app.transfers).row(ref)
    if row is None:
        return _row(_disc(ICONS["file"]), t("file.sending"), t("file.queued"), [])
    lead = ring(row, t, app, lambda: app.spawn(app.transfers.cancel(row.id)))
    words = progress_words(row, t, address=app.session.address)
    return _row(lead, short_name(row.name), words, transfer_buttons(row, t, app), failed=row.state == "failed")


def _disc(icon: ft.IconData) -> ft.Control:
    return ft.Container(
        content=ft.Icon(icon, color=Colour.ON_ACCENT, size=Size.ICON),
        width=Size.TOUCH,
        height=Size.TOUCH,
        bgcolor=Colour.ACCENT,
        border_radius=Corner.ROUND,
        alignment=ft.Alignment.CENTER,
    )


def _row(lead: ft.Control, name: str, words: str, more: list[ft.Control], *, failed: bool = False) -> ft.Control:
    return ft.Row(
        [
            lead,
            ft.Column(
                [
                    text(name, Type.BODY_STRONG, lines=2),
                    text(words, Type.SECONDARY, color=Colour.LOSS if failed else Colour.SECONDARY),
                ],
                spacing=Space.XXS,
                tight=True,
                expand=True,
            ),
            *more,
        ],
        spacing=Space.M,
        width=ChatSize.FILE_WIDE,
        vertical_alignment=ft.CrossAxisAlignment.CENTER,
    )


def picture_size(file: File, most: int) -> tuple[float, float]:
    return fit(file.width, file.height, min(most - Space.XL, ChatSize.PICTURE_WIDE), ChatSize.PICTURE_HIGH)


def picture_wall(files: list[File], most: int, show: Callable[[File], Any]) -> tuple[ft.Control, float]:
    """An album, and how wide it is."""
    wide = float(min(most - Space.XL, ChatSize.PICTURE_WIDE))
    left, rows = list(files), []
    for count in album(len(files)):
        side = (wide - Space.XXS * (count - 1)) / count
        high = side if count > 1 else side * ChatSize.WIDE_SHARE
        tiles: list[ft.Control] = [Picture(file, most, show, (side, high)) for file in left[:count]]
        rows.append(ft.Row(tiles, spacing=Space.XXS, tight=True))
        left = left[count:]
    return ft.Column([*rows], spacing=Space.XXS, tight=True), wide


@ft.component
def Picture(file: File, most: int, show: Callable[[File], Any], fixed: tuple[float, float] | None = None) -> ft.Control:
    """An image, its place kept before it has loaded.

    show: it was touched. fixed: width and height, where they are not its own.
    """
    app, t = use_app(), use_t()
    source, set_source = ft.use_state(app.media_url(file.preview_url) or "")
    failed, set_failed = ft.use_state(False)
    wide, high = fixed or picture_size(file, most)

    async def find() -> None:
        if not source:
            found = await app.attempt(inline_url(app, file))
            set_source(found or "")
            set_failed(not found)

    ft.use_effect(find, [file.id])
    content: ft.Control = ft.Icon(
        ft.Icons.BROKEN_IMAGE_OUTLINED if failed else ft.Icons.IMAGE_OUTLINED,
        size=Size.ICON_LARGE,
        color=Colour.SECONDARY,
    )
    if source:
        content = ft.Image(
            src=source,
            width=wide,
            height=high,
            fit=ft.BoxFit.COVER,
            gapless_playback=True,
            exclude_from_semantics=True,
            error_content=ft.Container(content=content, alignment=ft.Alignment.CENTER),
        )
    return ft.Semantics(
        label=t("chat.image", name=file.name),
        identifier=f"picture-{file.id}",
        image=True,
        button=True,
        content=ft.Container(
            content=content,
            width=wide,
            height=high,
            bgcolor=Colour.LINE,
            border_radius=Corner.CARD if fixed is None else Corner.TAIL,
            clip_behavior=ft.ClipBehavior.ANTI_ALIAS,
            alignment=ft.Alignment.CENTER,
            on_click=lambda e: show(file),
        ),
    )
