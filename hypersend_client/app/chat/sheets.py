"""What opens over a conversation: the menu of a message, the question before a deletion, the choice of where to
forward. All are for `ft.use_dialog`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import flet as ft

from hypersend_client.app.chat.model import Bubble
from hypersend_client.app.chat_list import ChatRow
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.finder import search_field
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.tokens import DIALOG_WIDTH, ChatSize, Colour, Corner, Size, Space, Type

Attachment = Literal["media", "file", "device"]
MOST_CHATS = 120  # are offered at once; the field finds the others
QUICK = ("👍", "❤️", "😂", "😮", "😢", "🙏")


def message_menu(
    bubble: Bubble,
    t: Translator,
    *,
    close: Callable[[], None],
    react: Callable[[str], None],
    choices: list[tuple[str, ft.IconData, Callable[[], None]]],
) -> ft.BottomSheet:
    """choices: (the last part of its key in `chat.menu`, icon, what it does)."""

    def then(do: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            close()
            do()

        return run

    parts: list[ft.Control] = []
    if bubble.message is not None and not bubble.deleted:
        mine = {reaction.emoji for reaction in bubble.reactions if reaction.mine}
        parts.append(
            ft.Row(
                [
                    ft.Semantics(
                        label=t("chat.react", emoji=emoji),
                        identifier=f"react-{emoji}",
                        button=True,
                        selected=emoji in mine,
                        content=ft.Container(
                            content=text(emoji, Type.EMOJI),
                            width=Size.TOUCH,
                            height=Size.TOUCH,
                            alignment=ft.Alignment.CENTER,
                            bgcolor=Colour.SELECTED if emoji in mine else None,
                            border_radius=Corner.ROUND,
                            on_click=lambda e, emoji=emoji: then(lambda: react(emoji))(),
                            ink=True,
                        ),
                    )
                    for emoji in QUICK
                ],
                alignment=ft.MainAxisAlignment.SPACE_EVENLY,
            )
        )
    parts += [
        forms.tile(
            t(f"chat.menu.{key}"),
            icon=icon,
            danger=key in ("delete", "discard"),
            on_click=then(do),
            identifier=f"menu-{key}",
        )
        for key, icon, do in choices
    ]
    return ft.BottomSheet(
        show_drag_handle=True,
        scrollable=True,
        on_dismiss=lambda e: close(),
        content=ft.Container(
            padding=ft.Padding.only(bottom=Space.L),
            content=ft.Column(parts, tight=True, spacing=0),
        ),
    )


def attach_sheet(
    t: Translator,
    *,
    device: bool,
    web: bool,
    name: str,
    close: Callable[[], None],
    choose: Callable[[Attachment], None],
) -> ft.BottomSheet:
    """What can be sent besides words. device: the server passes files from device to device. name: of the app."""

    def then(what: Attachment) -> Callable[[], None]:
        def run() -> None:
            close()
            choose(what)

        return run

    tiles = [
        forms.tile(
            t("chat.attach_media"), icon=ft.Icons.PHOTO_OUTLINED, on_click=then("media"), identifier="attach-media"
        ),
        forms.tile(
            t("chat.attach_file"),
            subtitle=t("chat.attach_file_hint"),
            icon=ft.Icons.INSERT_DRIVE_FILE_OUTLINED,
            on_click=then("file"),
            identifier="attach-file",
        ),
    ]
    if device:
        tiles.append(
            forms.tile(
                t("chat.attach_device"),
                subtitle=t("chat.attach_device_web", name=name) if web else t("chat.attach_device_hint"),
                icon=ft.Icons.DEVICES,
                on_click=then("device"),
                identifier="attach-device",
            )
        )
    return ft.BottomSheet(
        show_drag_handle=True,
        scrollable=True,
        on_dismiss=lambda e: close(),
        content=ft.Container(padding=ft.Padding.only(bottom=Space.L), content=ft.Column(tiles, tight=True, spacing=0)),
    )


def delete_question(
    t: Translator,
    *,
    everyone: bool,
    on_me: Callable[[], None],
    on_everyone: Callable[[], None],
    on_no: Callable[[], None],
) -> ft.AlertDialog:
    """everyone: whether it may be deleted for everyone, too."""
    actions = [states.quiet_button(t("chat.cancel"), lambda e: on_no(), identifier="delete-no")]
    actions.append(states.quiet_button(t("chat.delete_me"), lambda e: on_me(), identifier="delete-me", danger=True))
    if everyone:
        actions.append(
            states.quiet_button(
                t("chat.delete_everyone"), lambda e: on_everyone(), identifier="delete-everyone", danger=True
            )
        )
    line = t("chat.delete_everyone_line" if everyone else "chat.delete_me_line")
    return ft.AlertDialog(
        title=text(t("chat.delete_title"), Type.TITLE),
        content=ft.Container(width=DIALOG_WIDTH, content=text(line, color=Colour.SECONDARY)),
        actions=actions,
        on_dismiss=lambda e: on_no(),
        scrollable=True,
    )


def chat_title(row: ChatRow | None, t: Translator) -> str:
    if row is None:
        return ""
    return t("chats.saved") if row.kind == "saved" else row.title or t("chats.nameless")


def forward_dialog(t: Translator, *, on_choose: Callable[[str], None], on_no: Callable[[], None]) -> ft.AlertDialog:
    return ft.AlertDialog(
        title=text(t("chat.forward_title"), Type.TITLE),
        content=ft.Container(width=DIALOG_WIDTH, height=ChatSize.DOCK_HIGH, content=ForwardList(on_choose)),
        content_padding=ft.Padding.symmetric(horizontal=Space.S, vertical=Space.M),
        actions=[states.quiet_button(t("chat.cancel"), lambda e: on_no(), identifier="forward-no")],
        on_dismiss=lambda e: on_no(),
    )


@ft.component
def ForwardList(on_choose: Callable[[str], None]) -> ft.Control:
    """The chats, to choose one."""
    app, t = use_app(), use_t()
    chats = watch(app.chats)
    wanted, set_wanted = ft.use_state("")
    needle = wanted.strip().casefold()
    rows = [row for row in chats.rows if needle in chat_title(row, t).casefold()][:MOST_CHATS]
    tiles: list[ft.Control] = [
        forms.tile(
            chat_title(row, t),
            leading=avatar(
                chat_title(row, t),
                row.colour_id,
                app.media_url(row.avatar_url),
                size=Size.AVATAR_SMALL,
                icon=ft.Icons.BOOKMARK if row.kind == "saved" else None,
            ),
            on_click=lambda row=row: on_choose(row.id),  # type: ignore[misc]
            identifier=f"forward-{row.id}",
        )
        for row in rows
    ]
    if not tiles:
        tiles = [
            ft.Container(content=text(t("chat.forward_none"), Type.SECONDARY, color=Colour.SECONDARY), padding=Space.L)
        ]
    return ft.Column(
        [
            search_field(t("chat.forward_search"), set_wanted, identifier="forward-search"),
            ft.ListView(tiles, expand=True),
        ],
        spacing=Space.S,
        horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
    )
