"""The messages of a chat with what opens over them, and the composer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.chat.actions import Actions
from hypersend_client.app.chat.composer import Composer
from hypersend_client.app.chat.listing import FloatingDay, Messages, Sight
from hypersend_client.app.chat.model import Bubble, bubble_width
from hypersend_client.app.chat.peer_body import app_name
from hypersend_client.app.chat.room import Room, may_edit
from hypersend_client.app.chat.sheets import (
    Attachment,
    attach_sheet,
    chat_title,
    delete_question,
    forward_dialog,
    message_menu,
)
from hypersend_client.app.components import states
from hypersend_client.app.components.text import text
from hypersend_client.app.i18n import Translator
from hypersend_client.app.media import inline_url, picture_dialog, save_file
from hypersend_client.app.router import use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import LIST_WIDTH, RAIL_WIDTH, ChatSize, Colour, Size, Space, Type
from hypersend_client.app.upload_dock import open_upload_page
from hypersend_client.sdk import File

TOUCH = (ft.PagePlatform.ANDROID, ft.PagePlatform.IOS)
_NO_FILE: File | None = None


@ft.component
def Conversation(room: Room, kind: str) -> ft.Control:
    """The messages and the composer."""
    app, t = use_app(), use_t()
    menu, set_menu = ft.use_state("")
    doomed, set_doomed = ft.use_state("")
    forwarded, set_forwarded = ft.use_state("")
    large, set_large = ft.use_state(_NO_FILE)
    source, set_source = ft.use_state("")
    attaching, set_attaching = ft.use_state(False)
    width, set_width = ft.use_state(_pane_width(app))
    sight: Sight = ft.use_memo(Sight, [room.chat_id])
    page = ft.context.page
    server = watch(app.session).server

    def find(key: str) -> Bubble | None:
        return (
            next((line for line in room.lines if isinstance(line, Bubble) and line.key == key), None) if key else None
        )

    async def show(file: File) -> None:
        set_source("")
        set_large(file)
        set_source(await inline_url(app, file))

    async def offer() -> None:
        """Files from this device to another one."""
        if not app.peers.can_move:
            app.notices.tell(t("chat.attach_device_web", name=app_name(app, t)))
            return
        for file in await ft.FilePicker().pick_files(allow_multiple=True) or []:
            if file.path:
                await app.peers.send(room.chat_id, file.path)
        await room.jump_to_end()

    async def attach(what: Attachment) -> None:
        if what == "device":
            await offer()
            return
        media = what == "media"
        if page.web:
            title = chat_title(app.chats.row(room.chat_id), t)
            await open_upload_page(app, page, room.chat_id, title, media=media)
            return
        chosen_type = ft.FilePickerFileType.MEDIA if media else ft.FilePickerFileType.ANY
        for file in await ft.FilePicker().pick_files(file_type=chosen_type, allow_multiple=True) or []:
            if file.path:
                await app.transfers.send(room.chat_id, file.path)
        await room.jump_to_end()

    def make_actions() -> Actions:
        return Actions(
            menu=lambda bubble: set_menu(bubble.key),
            reply=lambda bubble: room.answer(bubble.message),
            touch=page.platform in TOUCH,
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
    elif attaching:
        sheet = attach_sheet(
            t,
            device=server is not None and "p2p" in server.features,
            web=not app.peers.can_move,
            name=app_name(app, t),
            close=lambda: set_attaching(False),
            choose=lambda what: app.spawn(attach(what)),
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
        sight.viewport = event.height
        step = ChatSize.PAGE_STEP
        wide = int(event.width)
        # Above this nothing changes, so the bubbles are not drawn for each pixel that the window grows.
        set_width(min(wide, (Size.BUBBLE_MAX * step) // int(Size.BUBBLE_SHARE * step) + step))

    if room.lines:
        content: ft.Control = Messages(room, kind == "group", most, actions, sight)
    elif kind == "saved":
        content = states.empty(ft.Icons.BOOKMARK_OUTLINE, t("chat.empty_saved"))
    else:
        content = states.empty(ft.Icons.FORUM_OUTLINED, t("chat.empty"), hint=t("chat.empty_hint"))
    layers: list[ft.Control] = [
        ft.Container(content=content, expand=True, on_size_change=resized),
        ft.Container(content=FloatingDay(sight.day), left=0, right=0, top=0),
    ]
    if room.lines and (not room.at_end or room.has_newer):
        layers.append(_jump_button(room, app, t))
    draft = app.drafts.get(room.chat_id)
    mode = f"edit-{room.editing.id}" if room.editing else f"reply-{room.reply.id}" if room.reply else ""
    words = room.editing.text if room.editing else draft.text if draft else ""
    return ft.Column(
        [
            ft.Stack(layers, expand=True, fit=ft.StackFit.EXPAND),
            ft.Container(height=Size.LINE, bgcolor=Colour.LINE),
            Blocked(room) if room.blocked else Composer(room, mode, words, lambda: set_attaching(True), lambda: None),
        ],
        spacing=0,
        expand=True,
    )


def _pane_width(app: AppState) -> int:
    """What the conversation has at first, until it has been laid out."""
    width, _ = app.layout.size
    return int(width if app.layout.panes == 1 else width - LIST_WIDTH - RAIL_WIDTH)


@ft.component
def Blocked(room: Room) -> ft.Control:
    """In the composer's place, where the other one is blocked."""
    app, t = use_app(), use_t()
    name = chat_title(app.chats.row(room.chat_id), t)
    return ft.Container(
        padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.XS),
        content=ft.Column(
            [
                ft.Row(
                    [
                        ft.Icon(ft.Icons.BLOCK, color=Colour.SECONDARY, size=Size.ICON_SMALL),
                        ft.Semantics(
                            identifier="blocked",
                            expand=True,
                            content=text(t("chat.is_blocked", name=name), Type.SECONDARY, color=Colour.SECONDARY),
                        ),
                    ],
                    spacing=Space.M,
                ),
                states.quiet_button(
                    t("chat.unblock"), lambda e: app.spawn(room.set_blocked(False)), identifier="unblock"
                ),
            ],
            spacing=0,
            tight=True,
            horizontal_alignment=ft.CrossAxisAlignment.END,
        ),
    )


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
    return ft.Container(content=ft.Semantics(content=button, identifier="jump"), right=Space.L, bottom=Space.M)


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
        if bubble.mine and may_edit(message):
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
