"""Sizes, corners, type, colours and durations: the only place where they are written down.

A screen takes them from here (`tests/app/test_screens_literals.py` fails on a number or a colour in a screen).
Colours are roles of the Material 3 scheme that the accent seeds, so light and dark follow by themselves.
Lengths are logical pixels, times milliseconds.
"""

from __future__ import annotations

from enum import Enum

import flet as ft

DEFAULT_ACCENT = "#2F6BED"

# Frame
TWO_PANES = 840
THREE_PANES = 1200
LIST_WIDTH = 340
RAIL_WIDTH = 80
DETAILS_WIDTH = 320
FORM_WIDTH = 420
CONTENT_WIDTH = 640
DIALOG_WIDTH = 400


class Space:
    XXS = 2
    XS = 4
    S = 8
    M = 12
    L = 16
    XL = 24
    XXL = 32


class Corner:
    CARD = 12
    BUBBLE = 16
    TAIL = 4
    ROUND = 999


class Size:
    TOUCH = 48
    TOP_BAR = 56
    BANNER = 28
    ROW = 72
    AVATAR = 48
    AVATAR_SMALL = 32
    AVATAR_TINY = 24
    AVATAR_LARGE = 96
    DOT = 12
    DOT_BORDER = 2
    BADGE = 20
    ICON_TINY = 14
    ICON_SMALL = 18
    ICON = 24
    ICON_LARGE = 40
    PICTURE = 72
    LINE = 1
    BAR = 4
    BAR_THICK = 8
    BUBBLE_SHARE = 0.78
    BUBBLE_MAX = 520
    SPINNER = 20
    ACTION = 88


class ChatSize:
    """The conversation. SCROLL: from here on the list counts as scrolled up. SWIPE: share of the width."""

    PICTURE_WIDE = 320
    PICTURE_HIGH = 360
    FILE_WIDE = 300
    RING = 3
    QUOTE_BAR = 3
    LINES = 6
    SCROLL = 120
    SHEET_WIDE = 520
    DOCK_WIDE = 400
    DOCK_HIGH = 460
    PAGE_STEP = 100
    SWIPE = 0.2
    TILE = 80
    WIDE_SHARE = 0.62


class Type(Enum):
    """(size, weight)"""

    DISPLAY = (28, ft.FontWeight.W_600)
    TITLE = (20, ft.FontWeight.W_600)
    EMOJI = (24, ft.FontWeight.W_400)
    LIST_TITLE = (16, ft.FontWeight.W_600)
    BODY = (15.5, ft.FontWeight.W_400)
    BODY_STRONG = (15.5, ft.FontWeight.W_600)
    SECONDARY = (13.5, ft.FontWeight.W_400)
    SECONDARY_STRONG = (13.5, ft.FontWeight.W_600)
    SMALL = (11.5, ft.FontWeight.W_400)
    SMALL_STRONG = (11.5, ft.FontWeight.W_600)


LINE_HEIGHT = 1.35
LINE_HEIGHT_DEVANAGARI = 1.5
FONT = "Roboto"
FONT_DEVANAGARI = "Noto Sans Devanagari"
FONT_EMOJI = "Emoji"


class Colour:
    """Roles, not colours."""

    SURFACE = ft.Colors.SURFACE
    PANE = ft.Colors.SURFACE_CONTAINER_LOW
    BAR = ft.Colors.SURFACE_CONTAINER
    CARD = ft.Colors.SURFACE_CONTAINER
    FIELD = ft.Colors.SURFACE_CONTAINER_HIGH
    TEXT = ft.Colors.ON_SURFACE
    SECONDARY = ft.Colors.ON_SURFACE_VARIANT
    LINE = ft.Colors.OUTLINE_VARIANT
    ACCENT = ft.Colors.PRIMARY
    ON_ACCENT = ft.Colors.ON_PRIMARY
    SELECTED = ft.Colors.SECONDARY_CONTAINER
    ON_SELECTED = ft.Colors.ON_SECONDARY_CONTAINER
    OWN_BUBBLE = ft.Colors.PRIMARY_CONTAINER
    ON_OWN_BUBBLE = ft.Colors.ON_PRIMARY_CONTAINER
    THEIR_BUBBLE = ft.Colors.SURFACE_CONTAINER_HIGH
    ON_THEIR_BUBBLE = ft.Colors.ON_SURFACE
    MUTED_BADGE = ft.Colors.OUTLINE
    ON_MUTED_BADGE = ft.Colors.SURFACE
    LOSS = ft.Colors.ERROR
    ON_LOSS = ft.Colors.ON_ERROR
    BANNER = ft.Colors.SECONDARY_CONTAINER
    ON_BANNER = ft.Colors.ON_SECONDARY_CONTAINER
    GOOD = "#1E9E5A"
    NONE = ft.Colors.TRANSPARENT


# Background and letters of an avatar without a picture; each pair has a contrast of at least 4.5:1.
AVATAR_TONES: tuple[tuple[str, str], ...] = (
    ("#C8DBFF", "#0B3A83"),
    ("#CFEBD6", "#0E4A26"),
    ("#FFDCC7", "#7A2E05"),
    ("#E9D7FF", "#4D1E8A"),
    ("#FFD6E4", "#7F1140"),
    ("#C9ECF0", "#0A474F"),
    ("#F3E3B3", "#5A4300"),
    ("#DDE1EA", "#333B4D"),
)


class Motion:
    SHORT = 150
    NORMAL = 200
    NOTICE = 4000
    SCROLL = 100
