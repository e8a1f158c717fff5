"""A group: its name and line, its members and their roles, leaving it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.components.text import text
from hypersend_client.app.finder import PeopleFinder, name_of
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.picture_page import choose_picture
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.state import AppState
from hypersend_client.app.tokens import DIALOG_WIDTH, ChatSize, Colour, Size, Space, Type
from hypersend_client.app.words import explain
from hypersend_client.sdk import Changes, Chat, HyperSendError, Member, User

_NOBODY: tuple[User, ...] = ()
ORDER = {"owner": 0, "admin": 1, "member": 2}


class Group(ft.Observable):
    """A group as this screen shows it. status: `loading`, `ready`, `failed` with `error`, or `gone`."""

    def __init__(self, app: AppState, chat_id: str) -> None:
        self.app = app
        self.chat_id = chat_id
        self.chat: Chat | None = None
        self.members: tuple[Member, ...] = ()
        self.status = "loading"
        self.error: HyperSendError | None = None
        self._stop: Callable[[], None] = lambda: None

    async def open(self) -> None:
        self._stop()
        self._stop = self.app.on_changes(self._on_changes)
        try:
            await self.app.hs.sync.members(self.chat_id, fresh=True)
            await self._load()
        except HyperSendError as error:
            self.error, self.status = error, "failed"

    def close(self) -> None:
        self._stop()

    async def _load(self) -> None:
        store = self.app.hs.store
        self.chat = await store.chat(self.chat_id)
        here = [member for member in await store.members(self.chat_id) if member.left_at is None]
        self.members = tuple(sorted(here, key=lambda m: (ORDER.get(m.role, 2), name_of(m.user).casefold())))
        self.app.people.add(*(member.user for member in here))
        self.status = "ready" if self.chat is not None else "gone"

    def _on_changes(self, changes: Changes) -> None:
        if self.chat_id in changes.members | changes.chats | changes.gone:
            self.app.spawn(self._load())

    @property
    def role(self) -> str:
        return next((m.role for m in self.members if m.user.id == self.app.me_id), "member")

    @property
    def may_manage(self) -> bool:
        return self.role in ("owner", "admin")

    async def changed(self, work: Any) -> bool:
        """Do it, then read the members anew."""
        try:
            await work
        except HyperSendError as error:
            self.app.notices.tell(explain(error, self.app.t, address=self.app.session.address))
            return False
        await self.app.hs.sync.members(self.chat_id, fresh=True)
        await self._load()
        return True


@ft.component
def GroupDetails() -> ft.Control:
    app, t = use_app(), use_t()
    chat_id = ft.use_route_params()["id"]
    group = ft.use_memo(lambda: Group(app, chat_id), [chat_id])
    ft.use_effect(group.open, [chat_id], cleanup=group.close)
    return Screen(t("group.title"), GroupBody(group))


@ft.component
def GroupBody(group: Group) -> ft.Control:
    app, t = use_app(), use_t()
    row = watch(app.chats).row(group.chat_id)
    asking, set_asking = ft.use_state("")
    about, set_about = ft.use_state("")
    person = next((m for m in group.members if m.user.id == about), None)
    # Two hooks: one that changes from a sheet to a dialog leaves the sheet open (Flet 1.0.5).
    opened = _dialog(app, group, t, asking, person, set_asking, set_about)
    ft.use_dialog(opened if isinstance(opened, ft.BottomSheet) else None)
    ft.use_dialog(None if isinstance(opened, ft.BottomSheet) else opened)
    if group.status == "loading":
        return states.loading(t("group.title"))
    if group.status == "failed" and group.error is not None:
        return states.failed(
            explain(group.error, t, address=app.session.address), t("retry"), lambda e: app.spawn(group.open())
        )
    if group.chat is None or row is None:
        return states.empty(ft.Icons.LOGOUT, t("chat.gone"), action=t("chat.gone_action"), on_action=lambda e: go("/"))
    chat = group.chat
    head: list[ft.Control] = [
        ft.Row(
            [avatar(chat.title, chat.id, app.media_url(chat.avatar_url), size=Size.AVATAR_LARGE)],
            alignment=ft.MainAxisAlignment.CENTER,
        )
    ]
    if group.may_manage:
        head.append(_picture_buttons(group, app, t))
        head.append(GroupForm(group, chat.title, chat.about))
    else:
        head.append(text(chat.title, Type.TITLE, align=ft.TextAlign.CENTER))
        if chat.about:
            head.append(text(chat.about, color=Colour.SECONDARY, align=ft.TextAlign.CENTER))
    tiles: list[ft.Control] = []
    if group.may_manage:
        tiles.append(
            forms.tile(
                t("group.add"),
                icon=ft.Icons.PERSON_ADD_OUTLINED,
                on_click=lambda: set_asking("add"),
                identifier="add-members",
            )
        )
    tiles += [_member(member, group, app, t, set_about) for member in group.members]
    ends = [
        forms.tile(
            t("group.leave"),
            icon=ft.Icons.LOGOUT,
            danger=True,
            on_click=lambda: set_asking("leave"),
            identifier="leave-group",
        )
    ]
    if group.role == "owner":
        ends.append(
            forms.tile(
                t("group.delete"),
                icon=ft.Icons.DELETE_OUTLINE,
                danger=True,
                on_click=lambda: set_asking("delete"),
                identifier="delete-group",
            )
        )
    return forms.page_of(
        [*head, forms.section(t("group.members", n=len(group.members)), tiles), forms.section("", ends)]
    )


def _picture_buttons(group: Group, app: AppState, t: Translator) -> ft.Control:
    chats = app.hs.chats
    buttons = [
        states.quiet_button(
            t("profile.picture"),
            lambda e: app.spawn(
                choose_picture(app, ft.context.page, lambda image: chats.set_avatar(group.chat_id, image))
            ),
            identifier="choose-picture",
        )
    ]
    if group.chat is not None and group.chat.avatar_url:
        buttons.append(
            states.quiet_button(
                t("profile.picture_remove"),
                lambda e: app.spawn(group.changed(chats.remove_avatar(group.chat_id))),
                identifier="remove-picture",
            )
        )
    return ft.Row(buttons, alignment=ft.MainAxisAlignment.CENTER, wrap=True)


@ft.component
def GroupForm(group: Group, title: str, about: str) -> ft.Control:
    """Name and line, for those who may change them."""
    app, t = use_app(), use_t()
    name, set_name = ft.use_state(title)
    line, set_line = ft.use_state(about)
    changed = name.strip() != title or line.strip() != about

    async def save() -> None:
        if not name.strip():
            app.notices.tell(t("new.group_name_missing"))
        elif (
            await app.attempt(app.hs.chats.update(group.chat_id, title=name.strip(), about=line.strip() or None))
            is not None
        ):
            app.notices.tell(t("group.saved"))

    parts: list[ft.Control] = [
        forms.field(t("group.name"), name, set_name, identifier="group-name"),
        forms.field(
            t("group.about"), line, set_line, identifier="group-about", multiline=True, max_lines=ChatSize.LINES
        ),
    ]
    if changed:
        parts.append(
            ft.Row(
                [
                    states.primary_button(
                        t("group.save"), lambda e: app.spawn(save()), identifier="group-save", expand=True
                    )
                ]
            )
        )
    return ft.Column(parts, spacing=Space.M, tight=True, horizontal_alignment=ft.CrossAxisAlignment.STRETCH)


def _member(member: Member, group: Group, app: AppState, t: Translator, set_about: Callable[[str], Any]) -> ft.Control:
    name = name_of(member.user)
    is_me = member.user.id == app.me_id
    known = app.people.get(member.user.id) or member.user
    role = (
        text(t(f"group.role.{member.role}"), Type.SECONDARY, color=Colour.ACCENT)
        if member.role in ("owner", "admin")
        else None
    )
    return forms.tile(
        t("group.you", name=name) if is_me else name,
        subtitle=t("new.handle", name=member.user.username) if member.user.username else "",
        leading=avatar(name, member.user.id, app.media_url(member.user.avatar_url), online=known.online and not is_me),
        trailing=role,
        on_click=None if is_me else lambda: set_about(member.user.id),
        identifier=f"member-{member.user.username}",
    )


def _dialog(
    app: AppState,
    group: Group,
    t: Translator,
    asking: str,
    person: Member | None,
    set_asking: Callable[[str], Any],
    set_about: Callable[[str], Any],
) -> Any:
    """The sheet or the question that is open, if any. asking: `add`, `leave`, `delete`, `remove` or `owner`."""

    def close() -> None:
        set_asking("")
        set_about("")

    if group.chat is None:
        return None
    chats, title = app.hs.chats, group.chat.title
    if asking == "add":
        return _add_dialog(app, group, t, close)

    def question(key: str, work: Callable[[], Any], name: str = "") -> ft.AlertDialog:
        def yes() -> None:
            close()
            app.spawn(work())

        return states.confirm(
            t(f"group.{key}_title", title=title, name=name), t(f"group.{key}_line"),
            yes=t(f"group.{key}_yes"), no=t("chat.cancel"),
            on_yes=yes, on_no=close,
        )  # fmt: skip

    async def leave() -> None:
        await chats.remove_member(group.chat_id, app.me_id)
        go("/")

    async def delete() -> None:
        await chats.delete(group.chat_id)
        go("/")

    if asking == "leave":
        return question("leave", leave)
    if asking == "delete":
        return question("delete", delete)
    if person is None:
        return None
    user = person.user
    if asking == "remove":
        return question("remove", lambda: group.changed(chats.remove_member(group.chat_id, user.id)), name_of(user))
    if asking == "owner":
        return question("owner", lambda: group.changed(chats.set_role(group.chat_id, user.id, "owner")), name_of(user))
    return _member_sheet(app, group, t, person, close, set_asking)


def _member_sheet(
    app: AppState, group: Group, t: Translator, member: Member, close: Callable[[], None], ask: Callable[[str], Any]
) -> ft.BottomSheet:
    user = member.user

    def do(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            close()
            app.spawn(work())

        return run

    async def write() -> None:
        chat = await app.hs.chats.open_direct(user.id)
        go(f"/chat/{chat.id}")

    def role(name: Any) -> Callable[[], Any]:
        return lambda: group.changed(app.hs.chats.set_role(group.chat_id, user.id, name))

    tiles = [
        forms.tile(t("group.write"), icon=ft.Icons.CHAT_BUBBLE_OUTLINE, on_click=do(write), identifier="member-write")
    ]
    if group.role == "owner":
        if member.role == "member":
            tiles.append(
                forms.tile(
                    t("group.make_admin"),
                    icon=ft.Icons.SHIELD_OUTLINED,
                    on_click=do(role("admin")),
                    identifier="make-admin",
                )
            )
        else:
            tiles.append(
                forms.tile(
                    t("group.make_member"),
                    icon=ft.Icons.REMOVE_MODERATOR_OUTLINED,
                    on_click=do(role("member")),
                    identifier="make-member",
                )
            )
        tiles.append(
            forms.tile(
                t("group.make_owner"),
                icon=ft.Icons.KEY_OUTLINED,
                on_click=lambda: ask("owner"),
                identifier="make-owner",
            )
        )
    if group.role == "owner" or (group.role == "admin" and member.role == "member"):
        tiles.append(
            forms.tile(
                t("group.remove"),
                icon=ft.Icons.PERSON_REMOVE_OUTLINED,
                danger=True,
                on_click=lambda: ask("remove"),
                identifier="member-remove",
            )
        )
    return ft.BottomSheet(
        show_drag_handle=True,
        scrollable=True,
        on_dismiss=lambda e: close(),
        content=ft.Container(
            padding=ft.Padding.only(bottom=Space.L),
            content=ft.Column(
                [
                    ft.Container(
                        content=text(name_of(user), Type.LIST_TITLE, lines=2),
                        padding=ft.Padding.symmetric(horizontal=Space.L),
                    ),
                    *tiles,
                ],
                tight=True,
                spacing=0,
            ),
        ),
    )


def _add_dialog(app: AppState, group: Group, t: Translator, close: Callable[[], None]) -> ft.AlertDialog:
    async def add(people: tuple[User, ...]) -> None:
        await group.changed(app.hs.chats.add_members(group.chat_id, [user.id for user in people]))

    def done(people: tuple[User, ...]) -> None:
        close()
        app.spawn(add(people))

    return ft.AlertDialog(
        title=text(t("group.add_title"), Type.TITLE),
        content=ft.Container(
            width=DIALOG_WIDTH,
            height=ChatSize.DOCK_HIGH,
            content=AddMembers(tuple(m.user.id for m in group.members), done, close),
        ),
        content_padding=ft.Padding.symmetric(horizontal=Space.S, vertical=Space.M),
        on_dismiss=lambda e: close(),
    )


@ft.component
def AddMembers(
    there: tuple[str, ...], on_done: Callable[[tuple[User, ...]], None], on_no: Callable[[], None]
) -> ft.Control:
    t = use_t()
    people, set_people = ft.use_state(_NOBODY)

    def toggle(user: User) -> None:
        others = tuple(one for one in people if one.id != user.id)
        set_people(others if len(others) < len(people) else (*people, user))

    buttons: list[ft.Control] = [states.quiet_button(t("chat.cancel"), lambda e: on_no(), identifier="add-no")]
    if people:
        buttons.append(
            states.primary_button(t("group.add_yes", n=len(people)), lambda e: on_done(people), identifier="add-yes")
        )
    return ft.Column(
        [
            ft.Container(content=PeopleFinder(toggle, tuple(user.id for user in people), there), expand=True),
            ft.Row(buttons, alignment=ft.MainAxisAlignment.END),
        ],
        expand=True,
        horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
    )
