"""A conversation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import flet as ft

from hypersend_client.app.chat.actions import Actions
from hypersend_client.app.chat.bubble import BubbleLine, DayRow, SystemRow, UnreadRow
from hypersend_client.app.chat.composer import Composer
from hypersend_client.app.chat.model import Bubble, DayLine, Line, SystemLine, UnreadLine, bubble_width
from hypersend_client.app.chat.room import Room
from hypersend_client.app.chat.sheets import chat_title, delete_question, forward_dialog, message_menu
from hypersend_client.app.components import states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.media import inline_url, picture_dialog, save_file
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import LIST_WIDTH, RAIL_WIDTH, ChatSize, Colour, Corner, Size, Space, Type
from hypersend_client.app.upload_dock import open_upload_page
from hypersend_client.app.words import explain, last_seen
from hypersend_client.sdk import File

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_NO_FILE: File | None = None
memo: Any = ft.memo


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
    return Screen(ChatHeader(chat_id, room), ChatBody(room), actions=[ChatMenu(room)])


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
    leads = row is not None and row.kind == "group"
    content = ft.Row(
        [face, ft.Column(words, spacing=0, tight=True, expand=True)],
        spacing=Space.M,
        vertical_alignment=ft.CrossAxisAlignment.CENTER,
    )
    if not leads:
        return ft.Semantics(identifier="chat-title", header=True, content=content)
    return ft.Semantics(
        identifier="chat-title",
        button=True,
        content=ft.Container(
            content=content, on_click=lambda e: go(f"/group/{chat_id}"), ink=True, border_radius=Corner.CARD
        ),
    )


@ft.component
def ChatMenu(room: Room) -> ft.Control:
    """What can be done with the whole conversation."""
    app, t = use_app(), use_t()
    row = watch(app.chats).row(room.chat_id)
    asking, set_asking = ft.use_state(False)
    name = chat_title(row, t)

    async def block() -> None:
        assert row is not None
        assert row.peer_id is not None
        await app.hs.me.block(row.peer_id)
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
    items = [_item(ft.Icons.SEARCH, t("chat.search"), lambda: go(f"/search?chat={room.chat_id}"))]
    if row is not None and row.kind == "group":
        items.append(_item(ft.Icons.INFO_OUTLINE, t("chat.info"), lambda: go(f"/group/{room.chat_id}")))
    if row is not None and row.kind != "saved":
        muted = row.muted
        items.append(
            _item(
                ft.Icons.NOTIFICATIONS_OUTLINED if muted else ft.Icons.NOTIFICATIONS_OFF_OUTLINED,
                t("chat.unmute" if muted else "chat.mute"),
                lambda: app.spawn(app.hs.chats.update_mine(room.chat_id, muted_until=None if muted else FOREVER)),
            )
        )
    if row is not None and row.peer_id is not None:
        items.append(_item(ft.Icons.BLOCK, t("chat.block"), lambda: set_asking(True)))
    return ft.Semantics(
        identifier="chat-menu",
        content=ft.PopupMenuButton(
            items=items, icon=ft.Icons.MORE_VERT, tooltip=t("chat.more"), icon_color=Colour.SECONDARY
        ),
    )


def _item(icon: ft.IconData, label: str, do: Callable[[], Any]) -> ft.PopupMenuItem:
    return ft.PopupMenuItem(
        content=ft.Row([ft.Icon(icon, color=Colour.SECONDARY), text(label)], spacing=Space.M), on_click=lambda e: do()
    )


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


@ft.component
def Conversation(room: Room, kind: str) -> ft.Control:
    """The messages and the composer."""
    app, t = use_app(), use_t()
    menu, set_menu = ft.use_state("")
    doomed, set_doomed = ft.use_state("")
    forwarded, set_forwarded = ft.use_state("")
    large, set_large = ft.use_state(_NO_FILE)
    source, set_source = ft.use_state("")
    width, set_width = ft.use_state(_pane_width(app))
    watch(app.people)
    page = ft.context.page

    def find(key: str) -> Bubble | None:
        return (
            next((line for line in room.lines if isinstance(line, Bubble) and line.key == key), None) if key else None
        )

    async def show(file: File) -> None:
        set_source("")
        set_large(file)
        set_source(await inline_url(app, file))

    async def attach() -> None:
        if page.web:
            await open_upload_page(app, page, room.chat_id, chat_title(app.chats.row(room.chat_id), t))
            return
        for file in await ft.FilePicker().pick_files(allow_multiple=True) or []:
            if file.path:
                await app.transfers.send(room.chat_id, file.path)
        await room.jump_to_end()

    def make_actions() -> Actions:
        return Actions(
            menu=lambda bubble: set_menu(bubble.key),
            jump=lambda message_id: app.spawn(room.jump_to(message_id)),
            retry=lambda bubble: app.spawn(room.retry(bubble.entry)) if bubble.entry is not None else None,
            react=lambda bubble, emoji: (
                app.spawn(room.react(bubble.message, emoji)) if bubble.message is not None else None
            ),
            show=lambda file: app.spawn(show(file)),
            fetch=lambda file: app.spawn(save_file(app, file)),
        )

    actions = ft.use_memo(make_actions, [room.chat_id])

    def escaped() -> bool:
        if room.editing is not None:
            room.edit(None)
        elif room.reply is not None:
            room.answer(None)
        else:
            return False
        return True

    stop: Any = ft.use_ref(None)

    def listen() -> None:
        stop.current = app.on_escape(escaped)

    ft.use_effect(listen, [], cleanup=lambda: stop.current() if stop.current else None)

    chosen, lost, sent_on = find(menu), find(doomed), find(forwarded)
    dialog: Any = None
    if large is not None:
        dialog = picture_dialog(
            large, source, t, app, on_close=lambda: set_large(None), on_save=lambda: app.spawn(save_file(app, large))
        )
    elif lost is not None and lost.message is not None:
        dialog = _delete_dialog(app, room, lost, t, lambda: set_doomed(""))
    elif sent_on is not None and sent_on.message is not None:
        dialog = _forward(app, room, sent_on, t, lambda: set_forwarded(""))
    # A hook of its own: one hook that changes from a sheet to a dialog leaves the sheet open (Flet 1.0.5).
    sheet = None
    if chosen is not None and dialog is None:
        sheet = message_menu(
            chosen,
            t,
            close=lambda: set_menu(""),
            react=lambda emoji: actions.react(chosen, emoji),
            choices=_choices(app, room, chosen, t, set_doomed, set_forwarded),
        )
    ft.use_dialog(sheet)
    ft.use_dialog(dialog)

    most = int(
        bubble_width(
            width - Space.XL - (Size.AVATAR_SMALL + Space.S if kind == "group" else 0),
            Size.BUBBLE_SHARE,
            Size.BUBBLE_MAX,
        )
    )

    def resized(event: Any) -> None:
        step = ChatSize.PAGE_STEP
        wide = int(event.width)
        # Above this nothing changes, so the bubbles are not drawn for each pixel that the window grows.
        set_width(min(wide, (Size.BUBBLE_MAX * step) // int(Size.BUBBLE_SHARE * step) + step))

    def scrolled(event: ft.OnScrollEvent) -> None:
        room.scrolled(event.pixels - event.min_scroll_extent, event.max_scroll_extent - event.pixels, ChatSize.SCROLL)

    if room.lines:
        content: ft.Control = ft.ListView(
            [_line(line, most, room, app, kind, actions) for line in room.lines],
            key=f"place-{room.place}",
            reverse=True,
            expand=True,
            padding=ft.Padding.symmetric(vertical=Space.S),
            on_scroll=scrolled,
            scroll_interval=ChatSize.PAGE_STEP,
        )
    elif kind == "saved":
        content = states.empty(ft.Icons.BOOKMARK_OUTLINE, t("chat.empty_saved"))
    else:
        content = states.empty(ft.Icons.FORUM_OUTLINED, t("chat.empty"), hint=t("chat.empty_hint"))
    layers: list[ft.Control] = [ft.Container(content=content, expand=True, on_size_change=resized)]
    if room.lines and (not room.at_end or room.has_newer):
        layers.append(_jump_button(room, app, t))
    draft = app.drafts.get(room.chat_id)
    mode = f"edit-{room.editing.id}" if room.editing else f"reply-{room.reply.id}" if room.reply else ""
    words = room.editing.text if room.editing else draft.text if draft else ""
    return ft.Column(
        [
            ft.Stack(layers, expand=True, fit=ft.StackFit.EXPAND),
            ft.Container(height=Size.LINE, bgcolor=Colour.LINE),
            Composer(room, mode, words, lambda: app.spawn(attach()), lambda: None),
        ],
        spacing=0,
        expand=True,
    )


def _pane_width(app: AppState) -> int:
    """What the conversation has at first, until it has been laid out."""
    width, _ = app.layout.size
    return int(width if app.layout.panes == 1 else width - LIST_WIDTH - RAIL_WIDTH)


def _line(line: Line, most: int, room: Room, app: AppState, kind: str, actions: Actions) -> ft.Control:
    match line:
        case DayLine():
            drawn: ft.Control = memo(DayRow)(line, key=line.key)
            return drawn
        case UnreadLine():
            drawn = memo(UnreadRow)(key=line.key)
            return drawn
        case SystemLine():
            drawn = memo(SystemRow)(line, key=line.key)
            return drawn
    sender = app.people.get(line.sender_id)
    drawn = memo(BubbleLine)(
        line,
        most,
        bool(room.highlight) and room.highlight == line.message_id,
        kind == "group",
        app.people.name(line.sender_id),
        app.media_url(sender.avatar_url) if sender is not None else None,
        actions,
        key=line.key,
    )
    return drawn


def _jump_button(room: Room, app: AppState, t: Translator) -> ft.Control:
    label = t("chat.jump_count", n=room.below) if room.below else t("chat.jump")
    button = ft.FloatingActionButton(
        icon=ft.Icons.KEYBOARD_ARROW_DOWN,
        mini=True,
        tooltip=label,
        shape=ft.CircleBorder(),
        bgcolor=Colour.CARD,
        foreground_color=Colour.TEXT,
        badge=ft.Badge(label=str(room.below)) if room.below else None,
        on_click=lambda e: app.spawn(room.jump_to_end()),
    )
    return ft.Container(content=ft.Semantics(content=button, identifier="jump"), right=Space.M, bottom=Space.M)


def _choices(
    app: AppState,
    room: Room,
    bubble: Bubble,
    t: Translator,
    ask_delete: Callable[[str], Any],
    ask_forward: Callable[[str], Any],
) -> list[tuple[str, ft.IconData, Callable[[], None]]]:
    """What the menu of this message offers."""
    message, entry = bubble.message, bubble.entry

    async def copy() -> None:
        await ft.Clipboard().set(bubble.text)
        app.notices.tell(t("chat.copied"))

    found: list[tuple[str, ft.IconData, Callable[[], None]]] = []
    if entry is not None:
        if entry.state == "failed":
            found.append(("retry", ft.Icons.REFRESH, lambda: app.spawn(room.retry(entry))))
        if bubble.text:
            found.append(("copy", ft.Icons.CONTENT_COPY, lambda: app.spawn(copy())))
        found.append(("discard", ft.Icons.DELETE_OUTLINE, lambda: app.spawn(room.discard(entry))))
        return found
    assert message is not None
    if not bubble.deleted:
        found.append(("reply", ft.Icons.REPLY, lambda: room.answer(message)))
        if bubble.text:
            found.append(("copy", ft.Icons.CONTENT_COPY, lambda: app.spawn(copy())))
        if bubble.mine and bubble.text and not bubble.forwarded and message.kind in ("text", "file"):
            found.append(("edit", ft.Icons.EDIT_OUTLINED, lambda: room.edit(message)))
        if message.kind in ("text", "file"):
            found.append(("forward", ft.Icons.FORWARD, lambda: ask_forward(bubble.key)))
        if len(message.files) == 1:
            found.append(("save_file", ft.Icons.DOWNLOAD, lambda: app.spawn(save_file(app, message.files[0]))))
    found.append(("delete", ft.Icons.DELETE_OUTLINE, lambda: ask_delete(bubble.key)))
    return found


def _delete_dialog(
    app: AppState, room: Room, bubble: Bubble, t: Translator, close: Callable[[], Any]
) -> ft.AlertDialog:
    message = bubble.message
    assert message is not None

    def delete(for_everyone: bool) -> None:
        close()
        app.spawn(room.delete(message, for_everyone=for_everyone))

    return delete_question(
        t,
        everyone=(bubble.mine or room.may_moderate) and not bubble.deleted,
        on_me=lambda: delete(False),
        on_everyone=lambda: delete(True),
        on_no=close,
    )


def _forward(app: AppState, room: Room, bubble: Bubble, t: Translator, close: Callable[[], Any]) -> ft.AlertDialog:
    async def send(chat_id: str) -> None:
        await app.hs.outbox.put(chat_id, forward=(room.chat_id, bubble.message_id))
        app.notices.tell(t("chat.forwarded_to", title=chat_title(app.chats.row(chat_id), t)))

    def chosen(chat_id: str) -> None:
        close()
        app.spawn(send(chat_id))

    return forward_dialog(t, on_choose=chosen, on_no=close)
