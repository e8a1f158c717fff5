"""The chat list and the archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import flet as ft

from hypersend_client.app.chat.bubble import swiped
from hypersend_client.app.chat_list import ChatRow
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.finder import search_field
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import go, match, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import Colour, Corner, Motion, Size, Space, Type
from hypersend_client.app.words import moment, system_line

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
MANY_UNREAD = 999
ROWS = 120  # are drawn, and so many more each time that their end is near
NEAR_END = 1500  # pixels
TOUCH = (ft.PagePlatform.ANDROID, ft.PagePlatform.IOS)
memo: Any = ft.memo


@ft.component
def Chats() -> ft.Control:
    app, t = use_app(), use_t()
    search = forms.icon_button(
        ft.Icons.MANAGE_SEARCH, t("chats.search_messages"), lambda e: go("/search"), identifier="search"
    )
    server = watch(app.session).server
    button = ft.Semantics(
        content=ft.FloatingActionButton(
            icon=ft.Icons.EDIT_OUTLINED, tooltip=t("chats.new"), on_click=lambda e: go("/new")
        ),
        identifier="new-chat",
    )
    name = server.name if server is not None and server.name else t("chats.title")
    return Screen(name, ChatsBody(False), actions=[search], floating=button, leads_back=False)


@ft.component
def Archive() -> ft.Control:
    t = use_t()
    return Screen(t("chats.archive"), ChatsBody(True), leads_back=True)


@ft.component
def ChatsBody(archived: bool) -> ft.Control:
    app, t = use_app(), use_t()
    chats = watch(app.chats)
    panes = watch(app.layout).panes
    watch(app.clock)
    wanted, set_wanted = ft.use_state("")
    menu, set_menu = ft.use_state("")
    same: Any = ft.use_ref(cast("Any", lambda: set_menu))
    open_menu: Callable[[str], None] = same.current  # the same at every drawing, so that rows can be skipped
    doomed, set_doomed = ft.use_state("")
    most, set_most = ft.use_state(ROWS)
    marked, show_marked = ft.use_state("")
    mark: Any = ft.use_ref("")  # ahead of what is drawn, for keys that follow each other fast
    chosen = chats.row(menu) if menu else None
    lost = chats.row(doomed) if doomed else None

    def ask(chat_id: str) -> None:
        set_menu("")
        set_doomed(chat_id)

    # Two hooks: a sheet that is replaced by a dialog of another kind would stay open under it.
    ft.use_dialog(_menu_sheet(app, t, chosen, lambda: set_menu(""), ask) if chosen is not None else None)
    ft.use_dialog(_loss_dialog(app, t, lost, lambda: set_doomed("")) if lost is not None else None)

    stored = [row for row in chats.rows if row.archived]
    rows = stored if archived else [row for row in chats.rows if not row.archived]
    if not chats.known and not rows:
        return states.loading(t("chats.loading"))
    if archived and not rows:
        return states.empty(ft.Icons.ARCHIVE_OUTLINED, t("chats.archive_empty"))
    nobody = states.empty(
        ft.Icons.FORUM_OUTLINED,
        t("chats.empty"),
        hint=t("chats.empty_hint"),
        action=t("chats.start"),
        on_action=lambda e: go("/new"),
        identifier="start-chat",
    )
    if not rows and not stored:
        return nobody
    needle = wanted.strip().casefold()
    found = [row for row in rows if needle in _title(row, t).casefold()] if needle else rows
    place, params = match(ft.context.page.route or "/")
    open_id = params.get("id", "") if panes > 1 and place is not None else ""
    touch = ft.context.page.platform in TOUCH
    items: list[ft.Control] = [
        memo(ChatTile)(row, t.language, row.id == open_id, row.id == marked, open_menu, touch, key=row.id)
        for row in found[:most]
    ]

    def set_marked(chat_id: str) -> None:
        mark.current = chat_id
        show_marked(chat_id)

    def filtered(text: str) -> None:
        set_wanted(text)
        set_most(ROWS)
        set_marked("")

    def scrolled(event: ft.OnScrollEvent) -> None:
        if most < len(found) and event.max_scroll_extent - event.pixels < NEAR_END:
            set_most(most + ROWS)

    def pressed(key: str) -> None:
        """The arrow keys walk through the list, Enter opens what they have come to."""
        steps = {"Arrow Down": 1, "Arrow Up": -1}
        if key in steps and found:
            ids = [row.id for row in found]
            place = ids.index(mark.current) + steps[key] if mark.current in ids else 0
            place = min(len(ids) - 1, max(0, place))
            set_marked(ids[place])
            if place >= most:
                set_most(most + ROWS)

    def open_marked() -> None:
        chosen_id = mark.current or (found[0].id if needle and found else "")
        if chosen_id:
            go(f"/chat/{chosen_id}")

    if not archived and stored and not needle:
        items.insert(
            0,
            forms.tile(
                t("chats.archive"),
                subtitle=t("chats.archive_count", n=len(stored)),
                icon=ft.Icons.ARCHIVE_OUTLINED,
                on_click=lambda: go("/archive"),
                identifier="archive",
            ),
        )
    body: ft.Control = ft.ListView(
        items,
        expand=True,
        padding=ft.Padding.only(bottom=Size.ACTION),
        scroll_interval=Motion.SCROLL,
        on_scroll=scrolled if most < len(found) else None,
    )
    if not items:
        body = states.empty(ft.Icons.SEARCH_OFF, t("chats.no_match", text=wanted.strip()))
    elif not stored and all(row.kind == "saved" for row in rows):
        body = ft.Column([*items, nobody], spacing=0, expand=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH)
    field = search_field(
        t("chats.search"), filtered, identifier="chat-filter", autofocus=False, on_submit=lambda: open_marked()
    )
    parts = ft.Column(
        [ft.Container(content=field, padding=ft.Padding.only(left=Space.M, right=Space.M, bottom=Space.S)), body],
        spacing=0,
        expand=True,
        horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
    )
    return ft.Container(content=ft.KeyboardListener(content=parts, on_key_down=lambda e: pressed(e.key)), expand=True)


@ft.component
def ChatTile(
    row: ChatRow, language: str, selected: bool, marked: bool, on_menu: Callable[[str], None], touch: bool
) -> ft.Control:
    """One row; drawn again only when what it shows has changed. marked: the arrow keys stand on it."""
    app = use_app()
    t = Translator(language)
    title = _title(row, t)
    preview, colour = _preview(row, t, app)
    when = moment(row.at, app.clock.now, t) if row.at is not None else ""
    draft = t("chats.draft") if row.preview == "draft" and not row.typing else ""
    marks: list[ft.Control] = []
    if row.muted:
        marks.append(
            ft.Icon(
                ft.Icons.NOTIFICATIONS_OFF_OUTLINED,
                size=Size.ICON_TINY,
                color=Colour.SECONDARY,
                tooltip=t("chats.muted"),
            )
        )
    second: list[ft.Control] = [
        *([text(draft, Type.SECONDARY, color=Colour.LOSS)] if draft else []),
        text(preview, Type.SECONDARY, color=colour, lines=1, align=ft.TextAlign.LEFT, expand=True),
    ]
    if row.unread:
        second.append(_badge(row, t))
    elif row.pinned:
        second.append(
            ft.Icon(ft.Icons.PUSH_PIN_OUTLINED, size=Size.ICON_TINY, color=Colour.SECONDARY, tooltip=t("chats.pinned"))
        )
    face = avatar(
        title,
        row.colour_id,
        app.media_url(row.avatar_url),
        online=row.online,
        icon=ft.Icons.BOOKMARK if row.kind == "saved" else None,
    )
    content = ft.Container(
        content=ft.Row(
            [
                face,
                ft.Column(
                    [
                        ft.Row(
                            [
                                text(title, Type.LIST_TITLE, lines=1, align=ft.TextAlign.LEFT, expand=True),
                                *marks,
                                text(
                                    when,
                                    Type.SMALL,
                                    color=Colour.ACCENT if row.unread and not row.muted else Colour.SECONDARY,
                                ),
                            ],
                            spacing=Space.S,
                        ),
                        ft.Row(second, spacing=Space.S),
                    ],
                    spacing=Space.XXS,
                    expand=True,
                    tight=True,
                ),
            ],
            spacing=Space.M,
            vertical_alignment=ft.CrossAxisAlignment.CENTER,
        ),
        padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.M),
        bgcolor=Colour.SELECTED if selected else Colour.FIELD if marked else None,
        ink=True,
        on_click=lambda e: go(f"/chat/{row.id}"),
        on_long_press=lambda e: on_menu(row.id),
    )
    unread = t("chats.unread", n=row.unread) if row.unread else ""
    line = ft.Semantics(
        label=", ".join(part for part in (title, draft + preview, when, unread) if part),
        identifier=f"chat-row-{row.id}",
        button=True,
        selected=selected,
        exclude_semantics=True,
        on_tap=lambda e: go(f"/chat/{row.id}"),
        on_long_press=lambda e: on_menu(row.id),
        content=ft.GestureDetector(content=content, on_secondary_tap=lambda e: on_menu(row.id)),
    )
    if not touch:
        return line

    def archive() -> None:
        app.spawn(app.hs.chats.update_mine(row.id, archived=not row.archived))

    icon = ft.Icons.UNARCHIVE_OUTLINED if row.archived else ft.Icons.ARCHIVE_OUTLINED
    return swiped(line, ft.DismissDirection.END_TO_START, icon, archive, identifier="swipe-archive")


def _badge(row: ChatRow, t: Translator) -> ft.Control:
    shown = t("chats.unread_many") if row.unread > MANY_UNREAD else t("chats.unread_short", n=row.unread)
    return ft.Container(
        content=text(shown, Type.SMALL_STRONG, color=Colour.ON_MUTED_BADGE if row.muted else Colour.ON_ACCENT),
        bgcolor=Colour.MUTED_BADGE if row.muted else Colour.ACCENT,
        border_radius=Corner.ROUND,
        padding=ft.Padding.symmetric(horizontal=Space.S, vertical=Space.XXS),
    )


def _title(row: ChatRow, t: Translator) -> str:
    return t("chats.saved") if row.kind == "saved" else row.title or t("chats.nameless")


def _preview(row: ChatRow, t: Translator, app: AppState) -> tuple[str, str]:
    """The second line and its colour; before a draft stands the word for it."""
    if row.typing:
        names = [name for name in row.typing if name]
        line = t("chats.typing")
        if row.kind == "group" and len(row.typing) > 1:
            line = t("chats.typing_many", n=len(row.typing))
        elif row.kind == "group" and names:
            line = t("chats.typing_one", name=names[0])
        return line, Colour.ACCENT
    if row.preview == "failed":
        return t("chats.not_sent", text=row.text), Colour.LOSS
    line = row.text
    if row.preview == "system":
        line = system_line(row.last.system if row.last is not None else None, t, app.people.name, app.me_id)
    elif row.preview == "deleted":
        line = t("chats.deleted")
    elif row.preview == "transfer":
        line = t("preview.transfer", name=row.text)
    elif row.preview == "":
        line = t("chats.no_messages")
    if row.preview in ("text", "file", "transfer", "deleted", "waiting"):
        if row.mine:
            line = t("chats.you", text=line)
        elif row.sender:
            line = t("chats.by", name=row.sender, text=line)
    return line, Colour.SECONDARY


def _menu_sheet(
    app: AppState, t: Translator, row: ChatRow, close: Callable[[], None], ask: Callable[[str], None]
) -> ft.BottomSheet:
    def act(work: Callable[[], Awaitable[object]]) -> Callable[[], None]:
        def run() -> None:
            close()
            app.spawn(work())

        return run

    chats = app.hs.chats
    remove = "chats.delete"
    if row.kind == "group":
        remove = "chats.delete_group" if row.role == "owner" else "chats.leave"
    return ft.BottomSheet(
        show_drag_handle=True,
        scrollable=True,
        on_dismiss=lambda e: close(),
        content=ft.Container(
            padding=ft.Padding.only(bottom=Space.L),
            content=ft.Column(
                [
                    ft.Container(
                        content=text(_title(row, t), Type.LIST_TITLE, lines=2),
                        padding=ft.Padding.symmetric(horizontal=Space.L),
                    ),
                    forms.tile(
                        t("chats.unpin" if row.pinned else "chats.pin"),
                        icon=ft.Icons.PUSH_PIN_OUTLINED,
                        on_click=act(lambda: chats.update_mine(row.id, pinned=not row.pinned)),
                        identifier="menu-pin",
                    ),
                    forms.tile(
                        t("chats.unmute" if row.muted else "chats.mute"),
                        icon=ft.Icons.NOTIFICATIONS_OUTLINED if row.muted else ft.Icons.NOTIFICATIONS_OFF_OUTLINED,
                        on_click=act(lambda: chats.update_mine(row.id, muted_until=None if row.muted else FOREVER)),
                        identifier="menu-mute",
                    ),
                    forms.tile(
                        t("chats.from_archive" if row.archived else "chats.to_archive"),
                        icon=ft.Icons.UNARCHIVE_OUTLINED if row.archived else ft.Icons.ARCHIVE_OUTLINED,
                        on_click=act(lambda: chats.update_mine(row.id, archived=not row.archived)),
                        identifier="menu-archive",
                    ),
                    *(
                        [
                            forms.tile(
                                t(remove),
                                icon=ft.Icons.LOGOUT if remove == "chats.leave" else ft.Icons.DELETE_OUTLINE,
                                danger=True,
                                on_click=lambda: ask(row.id),
                                identifier="menu-delete",
                            )
                        ]
                        if row.kind != "saved"
                        else []
                    ),
                ],
                tight=True,
                spacing=0,
            ),
        ),
    )


def _loss_dialog(app: AppState, t: Translator, row: ChatRow, close: Callable[[], None]) -> ft.AlertDialog:
    kind = "delete" if row.kind != "group" else "delete_group" if row.role == "owner" else "leave"

    def yes() -> None:
        close()
        hs = app.hs
        app.spawn(hs.chats.remove_member(row.id, app.me_id) if kind == "leave" else hs.chats.delete(row.id))

    return states.confirm(
        t(f"chats.{kind}_ask", title=_title(row, t)),
        t(f"chats.{kind}_loss"),
        yes=t("chats.leave" if kind == "leave" else "chats.delete"),
        no=t("cancel"),
        on_yes=yes,
        on_no=close,
    )
