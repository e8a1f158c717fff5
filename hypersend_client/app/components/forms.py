"""Fields, rows of settings, sections: what forms and lists are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import flet as ft

from hypersend_client.app.components.text import style, text
from hypersend_client.app.tokens import CONTENT_WIDTH, FORM_WIDTH, Colour, Corner, Size, Space, Type


def use_form(**initial: str) -> dict[str, str]:
    """A hook: what is being typed, by name. Typing does not draw anew; drawing anew keeps what was typed."""
    found: Any = ft.use_ref(cast("Any", lambda: dict(initial))).current
    return cast("dict[str, str]", found)


def field(
    label: str,
    value: str,
    on_change: Callable[[str], Any],
    *,
    identifier: str | None = None,
    error: str = "",
    on_submit: Callable[..., Any] | None = None,
    **more: Any,
) -> ft.Control:
    """A line of text, its problem under it. Drawn anew while one types, it keeps the letters on their way here."""
    control = Field(label, value, on_change, error, on_submit, more)
    return ft.Semantics(content=control, identifier=identifier) if identifier else control


@ft.component
def Field(
    label: str,
    value: str,
    on_change: Callable[[str], Any],
    error: str,
    on_submit: Callable[..., Any] | None,
    more: dict[str, Any],
) -> ft.Control:
    heard: Any = ft.use_ref(cast("Any", lambda: None))
    drawn: Any = ft.use_ref(cast("Any", lambda: None))
    if drawn.current is not None and value == heard.current:
        # The field may hold more than was heard of it so far: an older text over it would lose letters.
        value = drawn.current.value or ""
    else:
        heard.current = value

    def changed(event: Any) -> None:
        heard.current = event.control.value or ""
        on_change(heard.current)

    drawn.current = ft.TextField(
        label=label,
        value=value,
        error=text(error, Type.SECONDARY, color=Colour.LOSS) if error else None,
        on_change=changed,
        on_submit=on_submit,
        filled=True,
        fill_color=Colour.FIELD,
        border=ft.UnderlineInputBorder(
            border_radius=ft.BorderRadius.all(Corner.CARD),
            side=ft.BorderSide(Size.LINE, Colour.LOSS) if error else ft.BorderSide(0, Colour.NONE),
        ),
        text_style=style(Type.BODY, value, color=Colour.TEXT),
        label_style=style(Type.BODY, label),
        **more,
    )
    return cast("ft.Control", drawn.current)


def tile(
    title: str,
    *,
    subtitle: str = "",
    icon: ft.IconData | None = None,
    leading: ft.Control | None = None,
    trailing: ft.Control | None = None,
    on_click: Callable[[], Any] | None = None,
    danger: bool = False,
    selected: bool = False,
    identifier: str | None = None,
) -> ft.Control:
    """One line of a list, at least 48 high, that grows with its text."""
    colour = Colour.LOSS if danger else Colour.TEXT
    lead = leading or (
        ft.Icon(icon, color=Colour.LOSS if danger else Colour.SECONDARY, size=Size.ICON) if icon is not None else None
    )
    words: list[ft.Control] = [text(title, color=colour, lines=2)]
    if subtitle:
        words.append(text(subtitle, Type.SECONDARY, color=Colour.SECONDARY, lines=2))
    row = ft.Container(
        padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
        bgcolor=Colour.SELECTED if selected else None,
        ink=on_click is not None,
        on_click=(lambda e: on_click()) if on_click is not None else None,
        content=ft.Row(
            [
                *([lead] if lead is not None else []),
                ft.Column(words, expand=True, spacing=Space.XXS, tight=True),
                *([trailing] if trailing is not None else []),
            ],
            spacing=Space.L,
            vertical_alignment=ft.CrossAxisAlignment.CENTER,
        ),
    )
    return (
        ft.Semantics(content=row, label=None, button=True if on_click is not None else None, identifier=identifier)
        if on_click is not None
        else row
    )


def section(title: str, children: Sequence[ft.Control]) -> ft.Control:
    """A card with a heading above it."""
    head = (
        [
            ft.Container(
                content=text(title, Type.SECONDARY, color=Colour.SECONDARY), padding=ft.Padding.only(left=Space.L)
            )
        ]
        if title
        else []
    )
    card = ft.Container(
        content=ft.Column([*children], spacing=0, tight=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH),
        bgcolor=Colour.CARD,
        border_radius=Corner.CARD,
        clip_behavior=ft.ClipBehavior.HARD_EDGE,
    )
    return ft.Column([*head, card], spacing=Space.S, tight=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH)


def page_of(children: Sequence[ft.Control], *, form: bool = False) -> ft.Control:
    """A scrolling column, no wider than is good to read."""
    return ft.Container(
        expand=True,
        alignment=ft.Alignment.TOP_CENTER,
        content=ft.ListView(
            [
                ft.Row(
                    [
                        ft.Container(
                            content=ft.Column(
                                [*children],
                                spacing=Space.L,
                                tight=True,
                                horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
                            ),
                            padding=Space.L,
                            expand=True,
                        )
                    ],
                    alignment=ft.MainAxisAlignment.CENTER,
                )
            ],
            width=FORM_WIDTH if form else CONTENT_WIDTH,
        ),
    )


def icon_button(
    icon: ft.IconData,
    label: str,
    on_click: Callable[..., Any] | None,
    *,
    identifier: str | None = None,
    color: str | None = Colour.SECONDARY,
    selected: bool = False,
) -> ft.Control:
    """label: what a screen reader says, and the tooltip."""
    button = ft.IconButton(
        icon=icon,
        tooltip=label,
        on_click=on_click,
        icon_color=color,
        width=Size.TOUCH,
        height=Size.TOUCH,
        selected=selected,
    )
    return ft.Semantics(content=button, identifier=identifier) if identifier else button
