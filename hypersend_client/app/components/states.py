"""What stands where content would be: nothing yet, nothing at all, or a failure; and asking before a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.components.text import text
from hypersend_client.app.tokens import DIALOG_WIDTH, Colour, Corner, Size, Space, Type


def empty(
    icon: ft.IconData,
    line: str,
    *,
    hint: str = "",
    action: str = "",
    on_action: Callable[..., Any] | None = None,
    identifier: str | None = None,
) -> ft.Control:
    """One picture, one line, at most one button."""
    parts: list[ft.Control] = [
        ft.Container(
            content=ft.Icon(icon, size=Size.ICON_LARGE, color=Colour.ON_SELECTED),
            width=Size.AVATAR_LARGE,
            height=Size.AVATAR_LARGE,
            bgcolor=Colour.SELECTED,
            border_radius=Corner.ROUND,
            alignment=ft.Alignment.CENTER,
        ),
        text(line, Type.LIST_TITLE, align=ft.TextAlign.CENTER),
    ]
    if hint:
        parts.append(text(hint, Type.SECONDARY, color=Colour.SECONDARY, align=ft.TextAlign.CENTER))
    if action:
        parts.append(primary_button(action, on_action, identifier=identifier))
    return ft.Container(
        expand=True,
        alignment=ft.Alignment.CENTER,
        padding=Space.XXL,
        content=ft.Column(
            parts,
            spacing=Space.L,
            tight=True,
            scroll=ft.ScrollMode.AUTO,
            alignment=ft.MainAxisAlignment.CENTER,
            horizontal_alignment=ft.CrossAxisAlignment.CENTER,
        ),
    )


def failed(line: str, retry: str, on_retry: Callable[..., Any]) -> ft.Control:
    """What happened and what to do, with a button to try again."""
    return empty(ft.Icons.CLOUD_OFF, line, action=retry, on_action=on_retry, identifier="retry")


def loading(label: str) -> ft.Control:
    return ft.Container(
        expand=True,
        alignment=ft.Alignment.CENTER,
        content=ft.Semantics(label=label, content=ft.ProgressRing(width=Size.ICON_LARGE, height=Size.ICON_LARGE)),
    )


def primary_button(
    label: str,
    on_click: Callable[..., Any] | None,
    *,
    busy: bool = False,
    danger: bool = False,
    identifier: str | None = None,
    expand: bool = False,
) -> ft.Control:
    ink = Colour.ON_LOSS if danger else Colour.ON_ACCENT
    button = ft.FilledButton(
        content=ft.ProgressRing(width=Size.SPINNER, height=Size.SPINNER)
        if busy
        else text(label, Type.BODY_STRONG, color=None if busy else ink),
        on_click=on_click,
        disabled=busy,
        height=Size.TOUCH,
        style=ft.ButtonStyle(
            shape=ft.RoundedRectangleBorder(radius=Corner.CARD),
            bgcolor={ft.ControlState.DEFAULT: Colour.LOSS} if danger else None,
        ),
        expand=expand or None,
    )
    return ft.Semantics(content=button, identifier=identifier, expand=expand or None) if identifier else button


def quiet_button(
    label: str, on_click: Callable[..., Any] | None, *, identifier: str | None = None, danger: bool = False
) -> ft.Control:
    button = ft.TextButton(
        content=text(label, Type.BODY_STRONG, color=Colour.LOSS if danger else Colour.ACCENT),
        on_click=on_click,
        height=Size.TOUCH,
    )
    return ft.Semantics(content=button, identifier=identifier) if identifier else button


def confirm(
    title: str,
    line: str,
    *,
    yes: str,
    no: str,
    on_yes: Callable[[], Any],
    on_no: Callable[[], Any],
    danger: bool = True,
    content: ft.Control | None = None,
) -> ft.AlertDialog:
    """For `ft.use_dialog`. on_no is called too where the dialog is dismissed otherwise."""
    body = [text(line, color=Colour.SECONDARY), *([content] if content is not None else [])]
    return ft.AlertDialog(
        title=text(title, Type.TITLE),
        content=ft.Container(width=DIALOG_WIDTH, content=ft.Column(body, tight=True, spacing=Space.L)),
        actions=[
            quiet_button(no, lambda e: on_no(), identifier="confirm-no"),
            quiet_button(yes, lambda e: on_yes(), identifier="confirm-yes", danger=danger),
        ],
        on_dismiss=lambda e: on_no(),
        scrollable=True,
    )
