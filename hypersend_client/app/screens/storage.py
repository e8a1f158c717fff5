"""How much of the server's space is used, and the largest files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.loaded import show, use_loaded
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import use_app, use_t
from hypersend_client.app.tokens import Colour, Corner, Size, Space, Type
from hypersend_client.app.words import moment, now, size
from hypersend_client.sdk import File
from hypersend_client.sdk.models import StorageUse

MOST_FILES = 2000
PAGE = 200
SHOWN = 20
NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Use:
    """largest: complete files, the largest first."""

    storage: StorageUse
    largest: list[File]


@ft.component
def Storage() -> ft.Control:
    app, t = use_app(), use_t()

    async def fetch() -> Use:
        storage = await app.hs.me.storage()
        files: list[File] = []
        cursor: str | None = None
        while len(files) < MOST_FILES:
            page = await app.hs.files.page(state="complete", limit=PAGE, cursor=cursor)
            files += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        return Use(storage, sorted(files, key=lambda file: file.size, reverse=True)[:SHOWN])

    loaded = use_loaded(fetch)
    doomed, set_doomed = ft.use_state(cast(File | None, None))

    async def remove(file: File) -> None:
        set_doomed(None)
        await app.hs.files.delete(file.id)
        await loaded.reload()

    dialog = None
    if doomed is not None:
        dialog = states.confirm(
            t("storage.remove_ask"),
            t("storage.remove_loss", name=doomed.name),
            yes=t("storage.remove_yes"),
            no=t("cancel"),
            on_yes=lambda: app.spawn(remove(doomed)),
            on_no=lambda: set_doomed(None),
        )
    ft.use_dialog(dialog)

    def line(file: File) -> ft.Control:
        when = moment(file.created_at, now(), t) if file.created_at is not None else ""
        detail = t("storage.detail", size=size(file.size, t), when=when) if when else size(file.size, t)
        return forms.tile(
            file.name,
            subtitle=detail,
            icon=ft.Icons.INSERT_DRIVE_FILE_OUTLINED,
            trailing=forms.icon_button(
                ft.Icons.DELETE_OUTLINE,
                t("storage.remove", name=file.name),
                lambda e: set_doomed(file),
                color=Colour.LOSS,
                identifier=f"remove-{file.id}",
            ),
        )

    def draw(use: Use) -> ft.Control:
        none = ft.Container(content=text(t("storage.none"), color=Colour.SECONDARY), padding=Space.L)
        return forms.page_of(
            [
                forms.section("", [_bar(use.storage, t)]),
                forms.section(t("storage.largest"), [line(file) for file in use.largest] or [none]),
            ]
        )

    return Screen(t("storage.title"), show(loaded, draw))


def _bar(storage: StorageUse, t: Translator) -> ft.Control:
    used, quota = storage.used_bytes + storage.reserved_bytes, storage.quota_bytes
    share = min(1.0, used / quota) if quota else None
    full = share is not None and share >= NEARLY_FULL
    head = t("storage.of", used=size(used, t), quota=size(quota, t)) if quota else t("storage.used", used=size(used, t))
    parts: list[ft.Control] = [
        ft.Row(
            [
                text(head, Type.LIST_TITLE, expand=True),
                text(t("storage.files", n=storage.files), Type.SECONDARY, color=Colour.SECONDARY),
            ],
            spacing=Space.S,
        )
    ]
    if share is not None and quota:
        parts.append(
            ft.ProgressBar(
                value=share,
                bar_height=Size.BAR_THICK,
                border_radius=Corner.ROUND,
                color=Colour.LOSS if full else Colour.ACCENT,
                semantics_label=head,
            )
        )
        free = t("storage.free", free=size(max(0, quota - used), t))
        parts.append(
            text(t("storage.full") if full else free, Type.SECONDARY, color=Colour.LOSS if full else Colour.SECONDARY)
        )
    bar = ft.Container(content=ft.Column(parts, spacing=Space.S, tight=True), padding=Space.L)
    return ft.Semantics(content=bar, identifier="storage-use", container=True)
