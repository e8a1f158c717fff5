"""How one line of a conversation is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.chat.actions import Actions
from hypersend_client.app.chat.file_body import FileBody, Picture, WaitingFile, picture_size, picture_wall
from hypersend_client.app.chat.model import Bubble, DayLine, Quote, SystemLine, is_shown, pieces
from hypersend_client.app.chat.peer_body import PeerBody
from hypersend_client.app.components.avatar import avatar, tone
from hypersend_client.app.components.text import is_rtl, style, text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.tokens import ChatSize, Colour, Corner, Motion, Size, Space, Type
from hypersend_client.app.words import clock, day, system_line

TICKS: dict[str, ft.IconData] = {
    "waiting": ft.Icons.SCHEDULE,
    "sent": ft.Icons.CHECK,
    "delivered": ft.Icons.DONE_ALL,
    "read": ft.Icons.DONE_ALL,
    "failed": ft.Icons.ERROR_OUTLINE,
}
NO_BREAK = "\u00a0"


@ft.component
def BubbleLine(
    line: Bubble, most: int, highlighted: bool, group: bool, avatar_name: str, avatar_url: str | None, actions: Actions
) -> ft.Control:
    """One message at its side. most: of the width. avatar_name, avatar_url: of its sender, for the last of several."""
    t = use_t()
    body = _card(line, t, most, highlighted, actions)
    limited = ft.Row(
        [ft.Container(content=body, expand=True, expand_loose=True)],
        width=most,
        alignment=ft.MainAxisAlignment.END if line.mine else ft.MainAxisAlignment.START,
    )
    parts: list[ft.Control] = [limited]
    if group and not line.mine:
        face: ft.Control = ft.Container(width=Size.AVATAR_SMALL)
        if line.tail:
            face = avatar(avatar_name, line.sender_id or "", avatar_url, size=Size.AVATAR_SMALL)
        parts.insert(0, face)
    row: ft.Control = ft.Container(
        padding=ft.Padding.only(left=Space.M, right=Space.M, top=Space.S if line.start else Space.XXS),
        content=ft.Row(
            parts,
            spacing=Space.S,
            alignment=ft.MainAxisAlignment.END if line.mine else ft.MainAxisAlignment.START,
            vertical_alignment=ft.CrossAxisAlignment.END,
        ),
    )
    if actions.touch and line.message is not None and not line.deleted:
        row = swiped(
            row, ft.DismissDirection.START_TO_END, ft.Icons.REPLY, lambda: actions.reply(line), identifier="swipe"
        )
    return row


def swiped(
    content: ft.Control,
    direction: ft.DismissDirection,
    icon: ft.IconData,
    do: Callable[[], object],
    *,
    identifier: str,
) -> ft.Control:
    """A swipe does it, and what was swiped comes back; for fingers."""

    async def confirm(event: Any) -> None:
        await event.control.confirm_dismiss(False)
        do()

    mark = ft.Container(
        content=ft.Icon(icon, color=Colour.ACCENT, size=Size.ICON),
        padding=ft.Padding.symmetric(horizontal=Space.XL),
        alignment=ft.Alignment.CENTER_LEFT
        if direction == ft.DismissDirection.START_TO_END
        else ft.Alignment.CENTER_RIGHT,
    )
    return ft.Dismissible(
        content=content,
        dismiss_direction=direction,
        dismiss_thresholds={direction: ChatSize.SWIPE},
        background=mark,
        secondary_background=mark if direction == ft.DismissDirection.END_TO_START else None,
        movement_duration=Motion.SHORT,
        on_confirm_dismiss=confirm,
        data=identifier,
    )


def _card(line: Bubble, t: Translator, most: int, highlighted: bool, actions: Actions) -> ft.Control:
    ink = Colour.ON_OWN_BUBBLE if line.mine else Colour.ON_THEIR_BUBBLE
    parts: list[ft.Control] = []
    if line.name:
        parts.append(text(line.name, Type.SECONDARY_STRONG, color=_tone_ink(line.sender_id), lines=1))
    if line.forwarded:
        origin = t("chat.forwarded_from", name=line.forwarded_from) if line.forwarded_from else t("chat.forwarded")
        parts.append(text(origin, Type.SECONDARY, color=Colour.ACCENT, lines=1))
    if line.quote is not None:
        parts.append(quote_box(line.quote, t, actions))
    pictures = [file for file in line.files if is_shown(file)]
    wide: float | None = None
    if len(pictures) > 1:
        wall, wide = picture_wall(pictures, most, actions.show)
        parts.append(wall)
    elif pictures:
        parts.append(Picture(pictures[0], most, actions.show))
        wide = picture_size(pictures[0], most)[0]
    parts += [FileBody(file, actions) for file in line.files if file not in pictures]
    if line.entry is not None:
        parts += [WaitingFile(ref) for ref in line.entry.waiting]
    message = line.message
    if message is not None and message.kind == "transfer" and not line.deleted:
        parts.append(PeerBody(message.transfer or {}))
        wide = ChatSize.FILE_WIDE
    # With something of a known width above it, the last line reaches as far, its time at the edge.
    if wide is None and (line.files or (line.entry is not None and line.entry.waiting)):
        wide = ChatSize.FILE_WIDE
    has_words = bool(line.text) or line.deleted
    if has_words:
        parts.append(ft.Container(content=_words(line, t, ink), width=wide))
    if line.reactions:
        parts.append(ft.Container(content=_reactions(line, t, actions), width=wide))
    if not has_words:
        parts.append(ft.Row([_meta(line, t)], alignment=ft.MainAxisAlignment.END, width=wide))
    if line.tick == "failed":
        parts.append(text(t("chat.tap_retry"), Type.SMALL, color=Colour.LOSS))
    tail = Corner.TAIL if line.tail else Corner.BUBBLE
    card = ft.Container(
        content=ft.Column(parts, spacing=Space.XS, tight=True, horizontal_alignment=ft.CrossAxisAlignment.START),
        bgcolor=Colour.SELECTED if highlighted else Colour.OWN_BUBBLE if line.mine else Colour.THEIR_BUBBLE,
        padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.S),
        border_radius=ft.BorderRadius(
            top_left=Corner.BUBBLE,
            top_right=Corner.BUBBLE,
            bottom_left=Corner.BUBBLE if line.mine else tail,
            bottom_right=tail if line.mine else Corner.BUBBLE,
        ),
    )
    return ft.Semantics(
        identifier=f"message-{line.key}",
        label=spoken(line, t),
        container=True,
        content=ft.GestureDetector(
            content=card,
            on_tap=(lambda e: actions.retry(line)) if line.tick == "failed" else None,
            on_long_press=lambda e: actions.menu(line),
            on_secondary_tap=lambda e: actions.menu(line),
        ),
    )


def spoken(line: Bubble, t: Translator) -> str:
    """What a screen reader says of it."""
    name = t("chat.you") if line.mine else line.speaker or t("someone")
    words = t("chat.deleted") if line.deleted else line.text or ", ".join(file.name for file in line.files)
    if line.message is not None and line.message.kind == "transfer" and not line.deleted:
        words = t("preview.transfer", name=str((line.message.transfer or {}).get("name") or ""))
    when = clock(line.at) if line.at is not None else ""
    if line.edited:
        when = f"{when} {t('chat.edited')}"
    if not line.tick:
        return t("chat.bubble", name=name, time=when, text=words)
    return t("chat.bubble_tick", name=name, time=when, text=words, tick=t(f"chat.tick.{line.tick}"))


def _tone_ink(sender_id: str | None) -> str:
    """The sender's own tone: its ink on a light ground, its paper on a dark one."""
    paper, ink = tone(sender_id or "")
    return paper if ft.context.page.theme_mode == ft.ThemeMode.DARK or _is_dark() else ink


def _is_dark() -> bool:
    page = ft.context.page
    return page.theme_mode != ft.ThemeMode.LIGHT and page.platform_brightness == ft.Brightness.DARK


def _when(line: Bubble, t: Translator) -> str:
    when = clock(line.at) if line.at is not None else ""
    return f"{t('chat.edited')}{NO_BREAK}{when}" if line.edited else when


def _words(line: Bubble, t: Translator, ink: str) -> ft.Control:
    """The text; time and ticks stand in its last line, where an unseen copy of them keeps the place."""
    value = t("chat.deleted") if line.deleted else line.text
    ink = Colour.SECONDARY if line.deleted else ink
    spans = []
    for piece in pieces(value) if not line.deleted else []:
        if piece.url:
            spans.append(
                ft.TextSpan(
                    piece.text,
                    url=ft.Url(piece.url, target=ft.UrlTarget.BLANK),
                    style=ft.TextStyle(color=Colour.ACCENT, decoration=ft.TextDecoration.UNDERLINE),
                )
            )
        else:
            spans.append(ft.TextSpan(piece.text))
    if line.deleted:
        spans.append(ft.TextSpan(value))
    room = Type.BODY.value[0] if not line.tick else Type.TITLE.value[0]
    spans.append(
        ft.TextSpan(
            NO_BREAK * 3 + _when(line, t).replace(" ", NO_BREAK) + (NO_BREAK * int(room // 3) if line.tick else ""),
            style=style(Type.SMALL, value, color=Colour.NONE),
            semantics_label=NO_BREAK,
        )
    )
    shown = text("", Type.BODY, color=ink, italic=line.deleted)
    shown.spans = spans
    shown.style = style(Type.BODY, value, color=ink, italic=line.deleted)
    shown.rtl = is_rtl(value)
    # A line that is written from the right ends at the left.
    place = ft.Container(content=_meta(line, t), bottom=0)
    if shown.rtl:
        place.left = 0
    else:
        place.right = 0
    return ft.Stack([shown, place])


def _meta(line: Bubble, t: Translator) -> ft.Control:
    colour = Colour.SECONDARY
    parts: list[ft.Control] = [text(_when(line, t), Type.SMALL, color=colour, no_wrap=True)]
    if line.tick:
        tint = Colour.LOSS if line.tick == "failed" else Colour.ACCENT if line.tick == "read" else colour
        parts.append(ft.Icon(TICKS[line.tick], size=Size.ICON_TINY, color=tint))
    return ft.Semantics(
        exclude_semantics=True,
        content=ft.Row(parts, spacing=Space.XXS, tight=True, vertical_alignment=ft.CrossAxisAlignment.CENTER),
    )


def quote_box(quote: Quote, t: Translator, actions: Actions | None, *, bare: bool = False) -> ft.Control:
    """What is answered, coloured by its sender; a tap jumps there. bare: its words alone."""
    words = quote.text
    if quote.kind == "deleted":
        words = t("chat.quote_deleted")
    elif quote.kind == "unknown":
        words = t("chat.quote_unknown")
    elif not words:
        words = t("chat.quote_file")
    if bare:
        return text(words, Type.SECONDARY, color=Colour.SECONDARY, lines=1)
    colour = _tone_ink(quote.sender_id) if quote.sender_id else Colour.SECONDARY
    lines: list[ft.Control] = [text(quote.name, Type.SECONDARY_STRONG, color=colour, lines=1)] if quote.name else []
    lines.append(text(words, Type.SECONDARY, color=Colour.SECONDARY, lines=2))
    click: Any = (lambda e: actions.jump(quote.message_id)) if actions is not None else None
    return ft.Container(
        content=ft.Column(lines, spacing=0, tight=True),
        border=ft.Border.only(left=ft.BorderSide(ChatSize.QUOTE_BAR, colour)),
        padding=ft.Padding.only(left=Space.S, right=Space.XS),
        on_click=click,
    )


def _reactions(line: Bubble, t: Translator, actions: Actions) -> ft.Control:
    chips: list[ft.Control] = []
    for reaction in line.reactions:
        count = [
            text(
                str(reaction.count), Type.SMALL_STRONG, color=Colour.ON_SELECTED if reaction.mine else Colour.SECONDARY
            )
        ]
        chips.append(
            ft.Semantics(
                label=t("chat.reaction", n=reaction.count, emoji=reaction.emoji),
                identifier=f"reaction-{reaction.emoji}",
                container=True,
                button=True,
                content=ft.Container(
                    content=ft.Row(
                        [text(reaction.emoji, Type.SECONDARY), *(count if reaction.count > 1 else [])],
                        spacing=Space.XS,
                        tight=True,
                    ),
                    bgcolor=Colour.SELECTED if reaction.mine else Colour.SURFACE,
                    border=ft.Border.all(Size.LINE, Colour.ACCENT if reaction.mine else Colour.LINE),
                    border_radius=Corner.BUBBLE,
                    padding=ft.Padding.symmetric(horizontal=Space.S, vertical=Space.XXS),
                    on_click=lambda e, emoji=reaction.emoji: actions.react(line, emoji),
                ),
            )
        )
    return ft.Row(chips, spacing=Space.XS, run_spacing=Space.XS, wrap=True, tight=True)


# Lines between the messages


@ft.component
def DayRow(line: DayLine) -> ft.Control:
    app, t = use_app(), use_t()
    return pill(day(line.at, watch(app.clock).now, t))


@ft.component
def UnreadRow() -> ft.Control:
    t = use_t()
    return ft.Container(
        margin=ft.Margin.symmetric(vertical=Space.S),
        padding=ft.Padding.symmetric(vertical=Space.XS),
        bgcolor=Colour.BANNER,
        alignment=ft.Alignment.CENTER,
        content=ft.Semantics(
            identifier="unread-line",
            content=text(t("chat.unread"), Type.SECONDARY, color=Colour.ON_BANNER),
        ),
    )


@ft.component
def SystemRow(line: SystemLine) -> ft.Control:
    app, t = use_app(), use_t()
    watch(app.people)
    return pill(system_line(line.message.system, t, app.people.name, app.me_id))


def pill(words: str) -> ft.Control:
    return ft.Row(
        [
            ft.Container(
                content=text(words, Type.SECONDARY, color=Colour.SECONDARY, align=ft.TextAlign.CENTER),
                bgcolor=Colour.CARD,
                border_radius=Corner.BUBBLE,
                padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.XS),
                margin=ft.Margin.symmetric(vertical=Space.S, horizontal=Space.XL),
                expand=True,
                expand_loose=True,
            )
        ],
        alignment=ft.MainAxisAlignment.CENTER,
    )
