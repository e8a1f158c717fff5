"""A conversation, and what is to be known about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import flet as ft

from hypersend_client.app.chat.conversation import Conversation
from hypersend_client.app.chat.details import Details
from hypersend_client.app.chat.room import Room
from hypersend_client.app.chat.sheets import chat_title
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import DETAILS_WIDTH, Colour, Corner, Size, Space, Type
from hypersend_client.app.words import explain, last_seen

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


@ft.component
def ChatScreen() -> ft.Control:
    app = use_app()
    params = ft.use_route_params()
    chat_id = params["id"]
    room = ft.use_memo(lambda: Room(app, chat_id), [chat_id])

    async def opened() -> None:
        if ft.context.page.web:
            await ft.BrowserContextMenu().disable()  # type: ignore[no-untyped-call]  # the right button opens ours
        await room.open(at=_wanted_seq())

    ft.use_effect(opened, [chat_id], cleanup=room.close)
    place = _wanted_seq()
    came: Any = ft.use_ref(place)

    async def moved() -> None:
        """To a place in the chat that is open already."""
        if place is not None and place != came.current and room.is_open:
            await room.jump_to_seq(place)
        came.current = place

    ft.use_effect(moved, [chat_id, place])
    layout = watch(app.layout)
    screen = Screen(ChatHeader(chat_id, room), ChatBody(room), actions=[ChatMenu(room)])
    if layout.panes < 3 or not layout.details:
        return ft.Row([ft.Container(content=screen, expand=True)], spacing=0, expand=True)
    pane = ft.Container(
        content=DetailsPane(chat_id),
        width=DETAILS_WIDTH,
        bgcolor=Colour.PANE,
        border=ft.Border.only(left=ft.BorderSide(Size.LINE, Colour.LINE)),
    )
    return ft.Row(
        [ft.Container(content=screen, expand=True), pane],
        spacing=0,
        expand=True,
        vertical_alignment=ft.CrossAxisAlignment.STRETCH,
    )


@ft.component
def DetailsPane(chat_id: str) -> ft.Control:
    """Beside the conversation."""
    app, t = use_app(), use_t()

    def close() -> None:
        app.layout.details = False

    top = ft.Row(
        [
            forms.icon_button(ft.Icons.CLOSE, t("details.close"), lambda e: close(), identifier="details-close"),
            text(t("details.title"), Type.LIST_TITLE, lines=1, expand=True),
        ],
        spacing=Space.XS,
    )
    return ft.Column(
        [
            ft.Container(content=top, padding=ft.Padding.symmetric(horizontal=Space.XS, vertical=Space.XS)),
            ft.Container(content=Details(chat_id), expand=True),
        ],
        spacing=0,
    )


@ft.component
def DetailsScreen() -> ft.Control:
    """A screen of its own where there is no room beside the conversation."""
    t = use_t()
    chat_id = ft.use_route_params()["id"]
    return Screen(t("details.title"), Details(chat_id))


def _wanted_seq() -> int | None:
    """`/chat/…?at=123`: from a search result."""
    _, _, query = (ft.context.page.route or "").partition("?at=")
    return int(query) if query.isascii() and query.isdigit() else None


@ft.component
def ChatHeader(chat_id: str, room: Room) -> ft.Control:
    """Avatar, name, and whether somebody is there or types."""
    app, t = use_app(), use_t()
    chats, people, clock = watch(app.chats), watch(app.people), watch(app.clock)
    row = chats.row(chat_id)
    title = chat_title(row, t)
    status, accent = "", False
    peer = people.get(row.peer_id) if row is not None and row.peer_id else None
    if row is not None and row.typing:
        accent = True
        if row.kind != "group":
            status = t("chat.typing")
        elif len(row.typing) == 1 and row.typing[0]:
            status = t("chat.typing_one", name=row.typing[0])
        else:
            status = t("chat.typing_many", n=len(row.typing))
    elif peer is not None:
        status = last_seen(peer.online, peer.last_seen_at, clock.now, t)
        accent = peer.online
    elif row is not None and row.kind == "group" and room.chat is not None:
        status = t("chat.members", n=room.chat.members_count)
    words: list[ft.Control] = [text(title, Type.LIST_TITLE, lines=1)]
    if status:
        words.append(
            ft.Semantics(
                identifier="chat-status",
                live_region=True,
                content=text(status, Type.SECONDARY, color=Colour.ACCENT if accent else Colour.SECONDARY, lines=1),
            )
        )
    face = avatar(
        title,
        row.colour_id if row is not None else chat_id,
        app.media_url(row.avatar_url) if row is not None else None,
        size=Size.AVATAR_SMALL + Space.S,
        online=peer is not None and peer.online,
        icon=ft.Icons.BOOKMARK if row is not None and row.kind == "saved" else None,
    )
    content = ft.Row(
        [face, ft.Column(words, spacing=0, tight=True, expand=True)],
        spacing=Space.M,
        vertical_alignment=ft.CrossAxisAlignment.CENTER,
    )
    return ft.Semantics(
        identifier="chat-title",
        button=True,
        content=ft.Container(
            content=content, on_click=lambda e: show_details(app, chat_id), ink=True, border_radius=Corner.CARD
        ),
    )


def show_details(app: AppState, chat_id: str) -> None:
    """In the third pane, or take it away again; on a screen of their own where there is none."""
    if app.layout.panes < 3:
        go(f"/details/{chat_id}")
    else:
        app.layout.details = not app.layout.details


@ft.component
def ChatMenu(room: Room) -> ft.Control:
    """What can be done with the whole conversation."""
    app, t = use_app(), use_t()
    row = watch(app.chats).row(room.chat_id)
    asking, set_asking = ft.use_state(False)
    name = chat_title(row, t)

    async def block() -> None:
        await room.set_blocked(True)
        app.notices.tell(t("chat.blocked", name=name))

    def confirmed() -> None:
        set_asking(False)
        app.spawn(block())

    dialog = None
    if asking:
        dialog = states.confirm(
            t("chat.block_title", name=name),
            t("chat.block_line"),
            yes=t("chat.block"),
            no=t("chat.cancel"),
            on_yes=confirmed,
            on_no=lambda: set_asking(False),
        )
    ft.use_dialog(dialog)
    items = [_item(ft.Icons.SEARCH, t("chat.search"), lambda: go(f"/search?chat={room.chat_id}"), "menu-search")]
    items.append(
        _item(ft.Icons.INFO_OUTLINE, t("details.title"), lambda: show_details(app, room.chat_id), "menu-details")
    )
    if row is not None and row.kind != "saved":
        muted = row.muted
        items.append(
            _item(
                ft.Icons.NOTIFICATIONS_OUTLINED if muted else ft.Icons.NOTIFICATIONS_OFF_OUTLINED,
                t("chat.unmute" if muted else "chat.mute"),
                lambda: app.spawn(app.hs.chats.update_mine(room.chat_id, muted_until=None if muted else FOREVER)),
                "menu-mute",
            )
        )
    if row is not None and row.peer_id is not None:
        if room.blocked:
            items.append(
                _item(ft.Icons.BLOCK, t("chat.unblock"), lambda: app.spawn(room.set_blocked(False)), "menu-unblock")
            )
        else:
            items.append(_item(ft.Icons.BLOCK, t("chat.block"), lambda: set_asking(True), "menu-block"))
    return ft.Semantics(
        identifier="chat-menu",
        content=ft.PopupMenuButton(
            items=items, icon=ft.Icons.MORE_VERT, tooltip=t("chat.more"), icon_color=Colour.SECONDARY
        ),
    )


def _item(icon: ft.IconData, label: str, do: Callable[[], Any], identifier: str) -> ft.PopupMenuItem:
    content = ft.Row([ft.Icon(icon, color=Colour.SECONDARY), text(label, expand=True)], spacing=Space.M)
    return ft.PopupMenuItem(content=ft.Semantics(content=content, identifier=identifier), on_click=lambda e: do())


@ft.component
def ChatBody(room: Room) -> ft.Control:
    app, t = use_app(), use_t()
    row = watch(app.chats).row(room.chat_id)
    if room.status == "loading":
        return states.loading(t("chat.loading"))
    if room.status == "failed" and room.error is not None:
        return states.failed(
            explain(room.error, t, address=app.session.address), t("retry"), lambda e: app.spawn(room.open())
        )
    if row is None:
        return states.empty(ft.Icons.LOGOUT, t("chat.gone"), action=t("chat.gone_action"), on_action=lambda e: go("/"))
    return Conversation(room, row.kind)
