"""About a chat: who it is, notifications, members, and the files that were sent in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import flet as ft

from hypersend_client.app.chat.file_body import ICONS, Picture
from hypersend_client.app.chat.model import file_kind, is_shown, short_name
from hypersend_client.app.chat.peer_body import number_lines
from hypersend_client.app.chat.sheets import chat_title
from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.finder import name_of
from hypersend_client.app.i18n import Translator
from hypersend_client.app.media import inline_url, picture_dialog, save_file
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import ChatSize, Colour, Size, Space, Type
from hypersend_client.app.words import explain, last_seen, size
from hypersend_client.sdk import Changes, Chat, File, HyperSendError, Member, User

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
ORDER = {"owner": 0, "admin": 1, "member": 2}
FEW = 12  # members shown before one asks for more
PAGE = 30
_NO_FILE: File | None = None


class About(ft.Observable):
    """What is known of a chat. files: its files, the newest first; more: there are others. error: of the files.

    safety: (a transfer's name, the safety number of its two devices).
    """

    def __init__(self, app: AppState, chat_id: str) -> None:
        self.app = app
        self.chat_id = chat_id
        self.chat: Chat | None = None
        self.peer: User | None = None
        self.members: tuple[Member, ...] = ()
        self.files: tuple[File, ...] = ()
        self.files_known = False
        self.more = ""
        self.error: HyperSendError | None = None
        self.safety: tuple[tuple[str, str], ...] = ()
        self._undo: Callable[[], None] = lambda: None
        self._stop: Callable[[], None] = lambda: None
        self._begun: list[tuple[str, str, bool]] = []
        self._listener = lambda _, field: self._on_peers(field)  # held here, since listeners are held weakly

    async def open(self) -> None:
        self.close()
        self._undo = self.app.on_changes(self._on_changes)
        self._stop = self.app.peers.subscribe(self._listener)
        await self._load()
        self.app.spawn(self._fresh())
        self.app.spawn(self._learn_safety())
        await self.more_files()

    def close(self) -> None:
        self._undo()
        self._stop()

    async def _fresh(self) -> None:
        """What the server knows newer: a person's line about themselves, or who is in a group."""
        if self.chat is not None and self.chat.peer is not None:
            self.peer = await self.app.hs.users.get(self.chat.peer.id)
        elif self.chat is not None and self.chat.kind == "group":
            await self.app.hs.sync.members(self.chat_id)
            await self._load()

    async def _learn_safety(self) -> None:
        server = self.app.session.server
        if server is not None and "p2p" in server.features:
            self.safety = tuple(await self.app.peers.safety_numbers(self.chat_id))

    def _on_peers(self, field: str | None) -> None:
        """Whoever is told to compare a number here may have this open while the transfer begins."""
        if field != "views":
            return
        views = [view for view in self.app.peers.views if view.chat_id == self.chat_id and view.standing == "here"]
        begun: list[tuple[str, str, bool]] = [(view.id, view.row.state, view.is_new_device) for view in views]
        if begun != self._begun:
            self._begun = begun
            self.app.spawn(self._learn_safety())

    async def _load(self) -> None:
        store = self.app.hs.store
        self.chat = await store.chat(self.chat_id)
        here = [member for member in await store.members(self.chat_id) if member.left_at is None]
        self.app.people.add(*(member.user for member in here))
        self.members = tuple(sorted(here, key=lambda m: (ORDER.get(m.role, 2), name_of(m.user).casefold())))

    async def more_files(self) -> None:
        """A page of them; what goes wrong stands where they would be."""
        self.error = None
        try:
            page = await self.app.hs.files.page(
                chat_id=self.chat_id, state="complete", limit=PAGE, cursor=self.more or None
            )
        except HyperSendError as error:
            self.error = error
            return
        self.files = (*self.files, *page.items)
        self.more = page.next_cursor or ""
        self.files_known = True

    def _on_changes(self, changes: Changes) -> None:
        if self.chat_id in changes.members | changes.chats:
            self.app.spawn(self._load())


@ft.component
def Details(chat_id: str) -> ft.Control:
    app = use_app()
    about: About = ft.use_memo(lambda: About(app, chat_id), [chat_id])
    ft.use_effect(about.open, [chat_id], cleanup=about.close)
    return DetailsBody(about)


@ft.component
def DetailsBody(about: About) -> ft.Control:
    app, t = use_app(), use_t()
    row = watch(app.chats).row(about.chat_id)
    watch(app.people)
    large, set_large = ft.use_state(_NO_FILE)
    source, set_source = ft.use_state("")
    all_members, show_all = ft.use_state(False)

    async def show(file: File) -> None:
        set_source("")
        set_large(file)
        set_source(await app.attempt(inline_url(app, file)) or "")

    dialog = None
    if large is not None:
        dialog = picture_dialog(
            large, source, t, app, on_close=lambda: set_large(None), on_save=lambda: app.spawn(save_file(app, large))
        )
    ft.use_dialog(dialog)
    if row is None:
        return states.loading(t("details.title"))
    parts: list[ft.Control] = [_head(about, app, t), *_words_about(about, t)]
    if row.kind != "saved":
        muted = row.muted
        parts.append(
            forms.section(
                "",
                [
                    forms.tile(
                        t("details.notifications"),
                        subtitle=t("details.off" if muted else "details.on"),
                        icon=ft.Icons.NOTIFICATIONS_OFF_OUTLINED if muted else ft.Icons.NOTIFICATIONS_OUTLINED,
                        on_click=lambda: app.spawn(
                            app.hs.chats.update_mine(about.chat_id, muted_until=None if muted else FOREVER)
                        ),
                        identifier="details-mute",
                    ),
                    forms.tile(
                        t("chat.search"),
                        icon=ft.Icons.SEARCH,
                        on_click=lambda: go(f"/search?chat={about.chat_id}"),
                        identifier="details-search",
                    ),
                ],
            )
        )
    if about.safety:
        parts.append(forms.section(t("p2p.safety"), [_safety(name, number, t) for name, number in about.safety]))
    if row.kind == "group":
        parts.append(_members(about, app, t, all_members, lambda: show_all(True)))
    parts += _files(about, app, t, lambda file: app.spawn(show(file)))
    return ft.ListView(
        [ft.Container(content=part, padding=ft.Padding.only(bottom=Space.L)) for part in parts],
        expand=True,
        padding=ft.Padding.symmetric(horizontal=Space.M, vertical=Space.S),
        build_controls_on_demand=False,
    )


def _head(about: About, app: AppState, t: Translator) -> ft.Control:
    row = app.chats.row(about.chat_id)
    title = chat_title(row, t)
    peer = app.people.get(row.peer_id) if row is not None and row.peer_id else None
    line = ""
    if peer is not None:
        line = last_seen(peer.online, peer.last_seen_at, app.clock.now, t)
    elif row is not None and row.kind == "group":
        line = t("details.members", n=len(about.members) or (about.chat.members_count if about.chat else 0))
    words = [text(title, Type.TITLE, lines=3, align=ft.TextAlign.CENTER)]
    if line:
        colour = Colour.ACCENT if peer is not None and peer.online else Colour.SECONDARY
        words.append(text(line, Type.SECONDARY, color=colour, align=ft.TextAlign.CENTER))
    return ft.Column(
        [
            avatar(
                title,
                row.colour_id if row is not None else about.chat_id,
                app.media_url(row.avatar_url) if row is not None else None,
                size=Size.AVATAR_LARGE,
                icon=ft.Icons.BOOKMARK if row is not None and row.kind == "saved" else None,
            ),
            *words,
        ],
        spacing=Space.S,
        tight=True,
        horizontal_alignment=ft.CrossAxisAlignment.CENTER,
    )


def _words_about(about: About, t: Translator) -> list[ft.Control]:
    """A person's user name and line, a group's line."""
    lines: list[ft.Control] = []
    peer = about.peer or (about.chat.peer if about.chat is not None else None)
    words = peer.about if peer is not None else about.chat.about if about.chat is not None else ""
    if words:
        lines.append(_fact(t("details.about"), words))
    if peer is not None and peer.username:
        lines.append(_fact(t("details.handle"), t("new.handle", name=peer.username)))
    return [forms.section("", lines)] if lines else []


def _safety(name: str, number: str, t: Translator) -> ft.Control:
    return ft.Semantics(
        identifier="safety-number",
        container=True,
        content=_fact(t("p2p.safety_hint", name=short_name(name)), number_lines(number)),
    )


def _fact(label: str, words: str) -> ft.Control:
    return ft.Container(
        padding=ft.Padding.symmetric(horizontal=Space.L, vertical=Space.M),
        content=ft.Column(
            [text(words, selectable=True), text(label, Type.SECONDARY, color=Colour.SECONDARY)],
            spacing=Space.XXS,
            tight=True,
            horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
        ),
    )


def _members(about: About, app: AppState, t: Translator, all_members: bool, show_all: Callable[[], None]) -> ft.Control:
    async def write(user: User) -> None:
        chat = await app.hs.chats.open_direct(user.id)
        go(f"/chat/{chat.id}")

    def tile(member: Member) -> ft.Control:
        user = app.people.get(member.user.id) or member.user
        is_me = user.id == app.me_id
        name = name_of(user)
        return forms.tile(
            t("group.you", name=name) if is_me else name,
            subtitle=t(f"group.role.{member.role}") if member.role in ("owner", "admin") else "",
            leading=avatar(
                name, user.id, app.media_url(user.avatar_url), size=Size.AVATAR_SMALL, online=user.online and not is_me
            ),
            on_click=None if is_me else lambda: app.spawn(write(user)),
            identifier=f"member-{user.username}",
        )

    shown = about.members if all_members else about.members[:FEW]
    tiles = [tile(member) for member in shown]
    rest = len(about.members) - len(shown)
    if rest:
        tiles.append(
            forms.tile(
                t("details.all_members", n=rest), icon=ft.Icons.EXPAND_MORE, on_click=show_all, identifier="all-members"
            )
        )
    tiles.append(
        forms.tile(
            t("details.group"),
            icon=ft.Icons.SETTINGS_OUTLINED,
            on_click=lambda: go(f"/group/{about.chat_id}"),
            identifier="details-group",
        )
    )
    return forms.section(t("details.members", n=len(about.members)), tiles)


def _files(about: About, app: AppState, t: Translator, show: Callable[[File], Any]) -> list[ft.Control]:
    pictures = [file for file in about.files if is_shown(file)]
    others = [file for file in about.files if not is_shown(file)]
    parts: list[ft.Control] = []
    if pictures:
        side = ChatSize.TILE
        tiles: list[ft.Control] = [Picture(file, side, show, (side, side)) for file in pictures]
        grid = ft.Row(tiles, wrap=True, spacing=Space.XS, run_spacing=Space.XS)
        parts.append(_titled(t("details.media"), grid))
    if others:
        parts.append(forms.section(t("details.files"), [_file(file, app, t) for file in others]))
    if about.error is not None:
        line = explain(about.error, t, address=app.session.address)
        parts.append(_titled(t("details.files"), text(line, Type.SECONDARY, color=Colour.SECONDARY)))
        parts.append(states.quiet_button(t("retry"), lambda e: app.spawn(about.more_files()), identifier="files-retry"))
    elif about.more:
        parts.append(
            states.quiet_button(t("details.more"), lambda e: app.spawn(about.more_files()), identifier="files-more")
        )
    elif about.files_known and not about.files:
        nothing = text(t("details.no_files"), Type.SECONDARY, color=Colour.SECONDARY)
        parts.append(_titled(t("details.files"), nothing))
    return parts


def _titled(title: str, content: ft.Control) -> ft.Control:
    head = text(title, Type.SECONDARY, color=Colour.SECONDARY)
    return ft.Column(
        [ft.Container(content=part, padding=ft.Padding.symmetric(horizontal=Space.L)) for part in (head, content)],
        spacing=Space.S,
        tight=True,
    )


def _file(file: File, app: AppState, t: Translator) -> ft.Control:
    return forms.tile(
        short_name(file.name),
        subtitle=size(file.size, t),
        icon=ICONS[file_kind(file.name, file.mime)],
        on_click=lambda: app.spawn(save_file(app, file)),
        identifier=f"shared-{file.id}",
    )
