"""What is being sent and fetched: running, waiting, done."""

from __future__ import annotations

from typing import Any

import flet as ft

from hypersend_client.app.chat.file_body import progress_words, transfer_buttons
from hypersend_client.app.chat.model import short_name
from hypersend_client.app.chat.peer_body import PeerCard
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.open_file import hand_over, share
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import Colour, Corner, Size, Space, Type
from hypersend_client.app.transfer_list import Total, TransferRow, total_of
from hypersend_client.app.words import duration, size, speed

keyed: Any = ft.memo


@ft.component
def Transfers() -> ft.Control:
    app, t = use_app(), use_t()
    rows = watch(app.transfers).rows
    views, here = watch(app.peers).views, app.peers.rows
    actions: list[ft.Control] = []

    def pause() -> None:
        app.transfers.pause_all()
        app.peers.pause_all()

    def resume() -> None:
        app.transfers.resume_all()
        app.peers.resume_all()

    def clear() -> None:
        app.transfers.clear_done()
        app.peers.clear_done()

    if any(row.group == "running" and not row.in_page for row in (*rows, *here)):
        actions.append(
            forms.icon_button(ft.Icons.PAUSE, t("transfers.pause_all"), lambda e: pause(), identifier="pause-all")
        )
    elif any(row.state == "paused" for row in (*rows, *here)):
        actions.append(
            forms.icon_button(
                ft.Icons.PLAY_ARROW, t("transfers.resume_all"), lambda e: resume(), identifier="resume-all"
            )
        )
    if any(row.group == "done" for row in rows) or any(view.group == "done" for view in views):
        actions.append(
            forms.icon_button(
                ft.Icons.CLEAR_ALL, t("transfers.clear"), lambda e: clear(), identifier="clear-done"
            )
        )
    return Screen(t("transfers.title"), TransfersBody(), actions=actions)


@ft.component
def TransfersBody() -> ft.Control:
    app, t = use_app(), use_t()
    rows = watch(app.transfers).rows
    views = watch(app.peers).views
    doomed, set_doomed = ft.use_state("")
    dialog = None
    if any(row.id == doomed for row in rows):

        def yes() -> None:
            set_doomed("")
            app.spawn(app.transfers.cancel(doomed))

        dialog = states.confirm(
            t("file.cancel_title"), t("file.cancel_line"), yes=t("file.cancel_yes"), no=t("file.cancel_no"),
            on_yes=yes, on_no=lambda: set_doomed(""),
        )  # fmt: skip
    ft.use_dialog(dialog)
    if not rows and not views:
        return states.empty(ft.Icons.SWAP_VERT, t("transfers.empty"), hint=t("transfers.empty_hint"))
    parts: list[ft.Control] = []
    total = total_of((*rows, *app.peers.rows))
    if total.count:
        parts.append(_total(total, t))
    for group in ("running", "waiting", "done"):
        tiles: list[ft.Control] = [
            ft.Container(
                content=keyed(PeerCard)(view, key=view.id),
                padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
            )
            for view in views
            if view.group == group
        ]
        tiles += [_row(row, app, t, lambda row_id: set_doomed(row_id)) for row in rows if row.group == group]
        if tiles:
            parts.append(forms.section(t(f"transfers.{group}"), tiles))
    return forms.page_of(parts)


def _total(total: Total, t: Translator) -> ft.Control:
    words = t("transfers.total", n=total.count, done=size(total.done_bytes, t), size=size(total.size_bytes, t))
    rate = speed(total.bytes_per_s, t)
    pace = t("transfers.total_left", speed=rate, left=duration(total.left_s, t)) if total.left_s is not None else ""
    return ft.Column(
        [
            ft.Row(
                [text(words, Type.BODY_STRONG), text(pace, Type.SECONDARY, color=Colour.SECONDARY)],
                spacing=Space.S,
                run_spacing=0,
                wrap=True,
                alignment=ft.MainAxisAlignment.SPACE_BETWEEN,
            ),
            ft.ProgressBar(
                value=total.done_bytes / total.size_bytes if total.size_bytes else None,
                bar_height=Size.BAR_THICK,
                border_radius=Corner.ROUND,
                color=Colour.ACCENT,
                bgcolor=Colour.LINE,
                semantics_label=words,
            ),
        ],
        spacing=Space.S,
        tight=True,
    )


def _opening(row: TransferRow, app: AppState, t: Translator) -> list[ft.Control]:
    """Of a file that lies on this device; on a phone its own sheet opens files, a browser has them in its own list."""
    page = ft.context.page
    if row.state != "done" or row.up or not row.path or page.web:
        return []
    if page.platform in (ft.PagePlatform.ANDROID, ft.PagePlatform.IOS):
        label = t("transfers.share", name=row.name)
        return [forms.icon_button(ft.Icons.SHARE_OUTLINED, label, lambda e: app.spawn(share(app, row.path)))]
    return [
        forms.icon_button(
            ft.Icons.OPEN_IN_NEW, t("file.open", name=row.name), lambda e: app.spawn(hand_over(app, row.path)),
            identifier=f"open-{row.id}",
        ),
        forms.icon_button(
            ft.Icons.FOLDER_OPEN, t("file.show", name=row.name),
            lambda e: app.spawn(hand_over(app, row.path, show=True)), identifier=f"show-{row.id}",
        ),
    ]  # fmt: skip


def _row(row: TransferRow, app: AppState, t: Translator, ask: object) -> ft.Control:
    colour = Colour.LOSS if row.state == "failed" else Colour.GOOD if row.state == "done" else Colour.SECONDARY
    icon = ft.Icons.ARROW_UPWARD if row.up else ft.Icons.ARROW_DOWNWARD
    lines: list[ft.Control] = [text(short_name(row.name), Type.BODY_STRONG, lines=2)]
    if row.group != "done":
        lines.append(
            ft.ProgressBar(
                value=row.share if row.state not in ("queued", "checking", "finishing") else None,
                bar_height=Size.BAR,
                border_radius=Corner.ROUND,
                color=Colour.LOSS if row.state == "failed" else Colour.ACCENT,
                bgcolor=Colour.LINE,
            )
        )
    words: list[ft.Control] = [text(progress_words(row, t, address=app.session.address), Type.SECONDARY, color=colour)]
    if row.in_page and row.group == "running":
        words.append(text(t("transfers.in_page"), Type.SMALL, color=Colour.SECONDARY))
    buttons = [*transfer_buttons(row, t, app), *_opening(row, app, t)]
    if row.group != "done" and callable(ask):
        buttons.append(forms.icon_button(ft.Icons.CLOSE, t("file.cancel", name=row.name), lambda e: ask(row.id)))
    # Below the name, which so has the whole width where letters are large.
    lines.append(ft.Row([ft.Column(words, spacing=0, tight=True, expand=True), *buttons], spacing=0))
    return ft.Semantics(
        identifier=f"transfer-{row.id}",
        container=True,
        content=ft.Container(
            padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
            content=ft.Row(
                [
                    ft.Icon(icon, color=Colour.ACCENT, tooltip=t("transfers.up" if row.up else "transfers.down")),
                    ft.Column(lines, spacing=Space.XS, tight=True, expand=True),
                ],
                spacing=Space.M,
                vertical_alignment=ft.CrossAxisAlignment.START,
            ),
        ),
    )
