"""Round pictures of people and groups; without a picture, initials on a tone picked by the id."""

from __future__ import annotations

import zlib

import flet as ft

from hypersend_client.app.components.text import text
from hypersend_client.app.tokens import AVATAR_TONES, Colour, Corner, Size, Type


def initials(name: str) -> str:
    """`Ann Lee` → `AL`; letters only, so an emoji in front of a name is passed over."""
    words = [word for word in name.replace("_", " ").split() if any(c.isalnum() for c in word)]
    letters = [next(c for c in word if c.isalnum()) for word in words]
    return "".join([letters[0], letters[-1]] if len(letters) > 1 else letters).upper()


def tone(key: str) -> tuple[str, str]:
    return AVATAR_TONES[zlib.crc32(key.encode()) % len(AVATAR_TONES)]


def avatar(
    name: str,
    key: str,
    url: str | None = None,
    *,
    size: int = Size.AVATAR,
    online: bool = False,
    icon: ft.IconData | None = None,
) -> ft.Control:
    """key: the user's or chat's id. url: whole, from `app.media_url`. icon: instead of initials."""
    background, ink = tone(key)
    letters = initials(name)
    if icon is not None or not letters:
        face: ft.Control = ft.Icon(icon or ft.Icons.PERSON, color=ink, size=size // 2)
    else:
        scale = Type.LIST_TITLE if size >= Size.AVATAR else Type.SMALL_STRONG
        if size >= Size.AVATAR_LARGE:
            scale = Type.DISPLAY
        face = text(letters, scale, color=ink, no_wrap=True)
    base: ft.Control = ft.Container(
        content=face,
        width=size,
        height=size,
        bgcolor=background,
        alignment=ft.Alignment.CENTER,
        border_radius=Corner.ROUND,
    )
    if url:
        base = ft.Stack(
            width=size,
            height=size,
            controls=[
                base,
                ft.Image(
                    src=url,
                    width=size,
                    height=size,
                    fit=ft.BoxFit.COVER,
                    border_radius=Corner.ROUND,
                    gapless_playback=True,
                    error_content=ft.Container(),
                    exclude_from_semantics=True,
                ),
            ],
        )
    layers = [base]
    if online:
        layers.append(
            ft.Container(
                width=Size.DOT,
                height=Size.DOT,
                right=0,
                bottom=0,
                bgcolor=Colour.GOOD,
                border_radius=Corner.ROUND,
                border=ft.Border.all(Size.DOT_BORDER, Colour.SURFACE),
            )
        )
    return ft.Semantics(content=ft.Stack(width=size, height=size, controls=layers), exclude_semantics=True)
