"""Where a message is written: attach, a field that grows to six lines, send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.chat.bubble import quote_box
from hypersend_client.app.chat.model import quote_of
from hypersend_client.app.chat.room import Room
from hypersend_client.app.components.forms import icon_button
from hypersend_client.app.components.text import style, text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import use_app, use_t
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Colour, Corner, Space, Type


@ft.component
def Composer(room: Room, mode: str, draft: str, attach: Callable[[], Any], on_sent: Callable[[], Any]) -> ft.Control:
    """mode: a message's id that is answered or changed, or ""; draft: what the field holds when the mode begins."""
    app, t = use_app(), use_t()
    words, set_words = ft.use_state(draft)
    shown_mode, set_shown_mode = ft.use_state(mode)
    used, set_used = ft.use_state(False)
    # What the field is made to hold, and how often that was: in between it is the browser's, whose letters would be
    # lost if an older text was drawn over them.
    made, set_made = ft.use_state((0, draft))
    applied = ft.use_ref(-1)

    def put(text: str) -> None:
        set_words(text)
        set_made((made[0] + 1, text))

    if shown_mode != mode:
        # Editing puts the message into the field, and its end brings the draft back.
        set_shown_mode(mode)
        if mode.startswith("edit") or shown_mode.startswith("edit"):
            words, made = draft, (made[0] + 1, draft)
            set_words(draft)
            set_made(made)
        else:
            made = (made[0] + 1, words)
            set_made(made)

    def was_applied() -> None:
        applied.current = made[0]

    ft.use_effect(was_applied, [made[0]])

    def changed(value: str) -> None:
        set_words(value)
        room.type(value)

    async def send(value: str) -> None:
        if not value.strip():
            return
        put("")
        set_used(True)
        if await room.send(value):
            on_sent()
        else:
            set_made((made[0] + 2, value))
            set_words(value)

    def pressed(key: str) -> None:
        if key == "Arrow Up" and not words and room.editing is None:
            room.edit_last()

    can_send = bool(words.strip())
    icon = ft.Icons.CHECK if room.editing is not None else ft.Icons.SEND_ROUNDED
    row = ft.Row(
        [
            icon_button(ft.Icons.ATTACH_FILE, t("chat.attach"), lambda e: attach(), identifier="attach"),
            ft.Semantics(
                identifier="composer",
                label=t("chat.field") if words else None,  # the field is read out by its hint, which words replace
                expand=True,
                content=_listening(
                    pressed,
                    ft.TextField(
                        # A new one for each mode, which takes the focus: asking a control that may be gone by then
                        # costs the whole connection (Flet 1.0.5).
                        key=f"field-{mode}",
                        autofocus=bool(mode) or used or app.layout.panes > 1,
                        value=made[1] if applied.current != made[0] else None,  # type: ignore[arg-type]
                        hint_text=t("chat.field"),
                        multiline=True,
                        shift_enter=True,
                        min_lines=1,
                        max_lines=ChatSize.LINES,
                        on_change=lambda e: changed(e.control.value or ""),
                        on_submit=lambda e: app.spawn(send(e.control.value or "")),
                        filled=True,
                        fill_color=Colour.FIELD,
                        border=ft.OutlineInputBorder(
                            border_radius=ft.BorderRadius.all(Corner.CARD + Space.M), side=ft.BorderSide(0, Colour.NONE)
                        ),
                        content_padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
                        text_style=style(Type.BODY, words, color=Colour.TEXT),
                        hint_style=style(Type.BODY, color=Colour.SECONDARY),
                    ),
                ),
            ),
            ft.Semantics(
                identifier="send",
                content=ft.IconButton(
                    icon=icon,
                    tooltip=t("chat.save" if room.editing is not None else "chat.send"),
                    icon_color=Colour.ACCENT if can_send else Colour.LINE,
                    disabled=not can_send,
                    on_click=lambda e: app.spawn(send(words)),
                ),
            ),
        ],
        spacing=Space.XS,
        vertical_alignment=ft.CrossAxisAlignment.END,
    )
    return ft.Container(
        padding=ft.Padding.only(left=Space.XS, right=Space.XS, top=Space.XS, bottom=Space.S),
        content=ft.Column([*_above(room, app, t), row], spacing=Space.XS, tight=True),
    )


def _listening(on_key: Callable[[str], None], field: ft.Control) -> ft.Control:
    """The field, and what is pressed in it."""
    return ft.KeyboardListener(content=field, on_key_down=lambda e: on_key(e.key))


def _above(room: Room, app: AppState, t: Translator) -> list[ft.Control]:
    """What is answered or changed, over the field."""
    message = room.editing or room.reply
    if message is None:
        return []
    quote = quote_of(message.id, {message.id: message}, app.people.name)
    if quote is None:
        return []
    stop: Callable[[], None]
    if room.editing is not None:
        title, stop, label = t("chat.editing"), lambda: room.edit(None), t("chat.stop_edit")
        icon = ft.Icons.EDIT_OUTLINED
    else:
        title, stop, label = (
            t("chat.replying", name=quote.name or t("someone")),
            lambda: room.answer(None),
            t("chat.stop_reply"),
        )
        icon = ft.Icons.REPLY
    return [
        ft.Row(
            [
                ft.Container(content=ft.Icon(icon, color=Colour.ACCENT), padding=ft.Padding.only(left=Space.M)),
                ft.Column(
                    [
                        text(title, Type.SECONDARY_STRONG, color=Colour.ACCENT, lines=1),
                        quote_box(quote, t, None, bare=True),
                    ],
                    spacing=0,
                    expand=True,
                    tight=True,
                ),
                icon_button(ft.Icons.CLOSE, label, lambda e: stop(), identifier="stop-mode"),
            ],
            spacing=Space.M,
        )
    ]
