"""Search in one's messages, in all chats or in one."""

from __future__ import annotations

import asyncio
from typing import Any

import flet as ft

from hypersend_client.app.chat.sheets import chat_title
from hypersend_client.app.components import states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import style, text
from hypersend_client.app.finder import narrow, search_field
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import Colour, Size, Space, Type
from hypersend_client.app.words import explain, moment
from hypersend_client.sdk import HyperSendError, Message

PAUSE_S = 0.3
_NOTHING: tuple[Message, ...] = ()
_NO_CURSOR: str | None = None
_NO_ERROR: HyperSendError | None = None


@ft.component
def Search() -> ft.Control:
    t = use_t()
    return Screen(t("search.title"), SearchBody(_chat_id()), leads_back=True)


def _chat_id() -> str:
    """`/search?chat=…`: in one chat alone."""
    return (ft.context.page.route or "").partition("?chat=")[2]


@ft.component
def SearchBody(chat_id: str) -> ft.Control:
    app, t = use_app(), use_t()
    wanted, set_wanted = ft.use_state("")
    asked, set_asked = ft.use_state("")
    found, set_found = ft.use_state(_NOTHING)
    cursor, set_cursor = ft.use_state(_NO_CURSOR)
    error, set_error = ft.use_state(_NO_ERROR)
    chats, people = watch(app.chats), watch(app.people)

    async def look(after: Any = None) -> None:
        needle = wanted.strip()
        if not needle:
            set_found(())
            set_asked("")
            return
        if after is None:
            await asyncio.sleep(PAUSE_S)  # the typing goes on
        try:
            page = await app.hs.messages.search(needle, chat_id=chat_id or None, cursor=after)
            senders = {m.sender_id for m in page.items if m.sender_id and people.get(m.sender_id) is None}
            people.add(*(await app.hs.store.users(senders)).values())
            set_found((*(found if after else ()), *page.items))
            set_cursor(page.next_cursor)
            set_error(None)
        except HyperSendError as problem:
            set_error(problem)
        set_asked(needle)

    ft.use_effect(look, [wanted])
    needle = wanted.strip()
    body: ft.Control
    if needle and error is not None:
        body = states.failed(explain(error, t, address=app.session.address), t("retry"), lambda e: app.spawn(look()))
    elif needle and asked == needle and not found:
        body = states.empty(ft.Icons.SEARCH_OFF, t("search.none", text=needle), hint=t("search.none_hint"))
    elif needle and not found:
        body = states.loading(t("search.title"))
    elif not needle:
        title = chat_title(chats.row(chat_id), t)
        body = states.empty(
            ft.Icons.MANAGE_SEARCH,
            t("search.hint_chat", title=title) if chat_id else t("search.hint"),
            hint=t("search.hint_line"),
        )
    else:
        rows: list[ft.Control] = [_result(message, app, t) for message in found]
        if cursor:
            rows.append(ft.Row([states.quiet_button(t("search.more"), lambda e: app.spawn(look(cursor)),
                                                    identifier="search-more")],
                               alignment=ft.MainAxisAlignment.CENTER))  # fmt: skip
        body = ft.ListView(rows, expand=True)
    field = search_field(t("search.field"), set_wanted, identifier="search-field")
    return narrow(
        ft.Column(
            [
                ft.Container(content=field, padding=ft.Padding.symmetric(horizontal=Space.L)),
                ft.Container(content=body, expand=True),
            ],
            spacing=Space.S,
            expand=True,
            horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
        )
    )


def marked(message: Message) -> list[tuple[str, bool]]:
    """The snippet in parts, and which of them are matches."""
    words = message.snippet or message.text
    parts: list[tuple[str, bool]] = []
    end = 0
    for start, stop in sorted(message.snippet_marks) if message.snippet else ():
        if not end <= start < stop <= len(words):
            continue
        if start > end:
            parts.append((words[end:start], False))
        parts.append((words[start:stop], True))
        end = stop
    if end < len(words):
        parts.append((words[end:], False))
    return parts


def _result(message: Message, app: AppState, t: Translator) -> ft.Control:
    row = app.chats.row(message.chat_id)
    title = chat_title(row, t)
    name = t("chat.you") if message.sender_id == app.me_id else app.people.name(message.sender_id) or t("someone")
    when = moment(message.created_at, app.clock.now, t) if message.created_at is not None else ""
    spans = [
        ft.TextSpan(part, style=style(Type.SECONDARY, part, color=Colour.ACCENT) if is_match else None)
        for part, is_match in marked(message)
    ]
    if row is None or row.kind == "group":
        spans.insert(0, ft.TextSpan(t("chats.by", name=name, text="")))
    content = ft.Row(
        [
            avatar(
                title,
                row.colour_id if row is not None else message.chat_id,
                app.media_url(row.avatar_url) if row is not None else None,
                icon=ft.Icons.BOOKMARK if row is not None and row.kind == "saved" else None,
            ),
            ft.Column(
                [
                    ft.Row(
                        [
                            text(title, Type.LIST_TITLE, lines=1, expand=True),
                            text(when, Type.SMALL, color=Colour.SECONDARY),
                        ],
                        spacing=Space.S,
                    ),
                    ft.Text(
                        spans=spans,
                        max_lines=2,
                        overflow=ft.TextOverflow.ELLIPSIS,
                        style=style(Type.SECONDARY, message.snippet or message.text, color=Colour.SECONDARY),
                    ),
                ],
                spacing=Space.XXS,
                tight=True,
                expand=True,
            ),
        ],
        spacing=Space.M,
    )
    return ft.Semantics(
        identifier=f"result-{message.id}",
        label=t("search.row", title=title, name=name, when=when),
        button=True,
        content=ft.Container(
            content=content,
            padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.S),
            height=None if message.snippet else Size.ROW,
            ink=True,
            on_click=lambda e: go(f"/chat/{message.chat_id}?at={message.seq}"),
        ),
    )
