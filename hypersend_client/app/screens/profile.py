"""One's own name, picture and password; deleting the account."""

from __future__ import annotations

from dataclasses import replace

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.avatar import avatar
from hypersend_client.app.frame import Screen
from hypersend_client.app.picture_page import choose_picture
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.screens.settings import pair
from hypersend_client.app.tokens import Size
from hypersend_client.app.words import explain
from hypersend_client.sdk import HyperSendError

MIN_PASSWORD = 10


@ft.component
def Profile() -> ft.Control:
    app, t = use_app(), use_t()
    me = watch(app.session).me
    form = forms.use_form(password="")  # and `name`, `about` once they were typed in
    problem, set_problem = ft.use_state(("", ""))
    busy, set_busy = ft.use_state(False)
    asking, set_asking = ft.use_state(False)

    async def save(event: object = None) -> None:
        if busy or me is None:
            return
        name = form.get("name", me.display_name).strip()
        about = form.get("about", me.about).strip()
        if not name:
            set_problem(("name", t("profile.name_missing")))
            return
        set_busy(True)
        set_problem(("", ""))
        try:
            app.session.me = await app.hs.me.update(display_name=name, about=about)
            app.people.add(app.session.me)
            app.notices.tell(t("saved"))
        except HyperSendError as error:
            fields = [entry.get("field") for entry in getattr(error, "errors", ())]
            set_problem(("about" if "about" in fields else "name", explain(error, t, address=app.session.address)))
        set_busy(False)

    async def set_picture(image: bytes) -> None:
        await app.hs.me.set_avatar(image)
        await app.load_me()

    async def remove_picture() -> None:
        await app.hs.me.remove_avatar()
        if app.session.me is not None:
            app.session.me = replace(app.session.me, avatar_url=None)

    async def delete() -> None:
        try:
            await app.hs.me.delete(form["password"])
        except HyperSendError as error:
            set_problem(("password", explain(error, t, address=app.session.address)))
            return
        set_asking(False)
        await app.attempt(app.sign_out())
        go("/")

    password = forms.field(
        t("sign_in.password"),
        form["password"],
        lambda value: form.update(password=value),
        identifier="delete-password",
        error=problem[1] if problem[0] == "password" else "",
        password=True,
        can_reveal_password=True,
    )
    dialog = states.confirm(
        t("profile.delete_ask"),
        t("profile.delete_loss"),
        content=password,
        yes=t("profile.delete"),
        no=t("cancel"),
        on_yes=lambda: app.spawn(delete()),
        on_no=lambda: set_asking(False),
    )
    ft.use_dialog(dialog if asking else None)
    if me is None:
        return Screen(t("profile.title"), states.loading(t("starting")))
    name = me.display_name or me.username or ""
    picture = ft.Column(
        [
            avatar(name, me.id, app.media_url(me.avatar_url), size=Size.AVATAR_LARGE),
            states.quiet_button(
                t("profile.picture"),
                lambda e: app.spawn(choose_picture(app, ft.context.page, set_picture)),
                identifier="choose-picture",
            ),
            *(
                [states.quiet_button(t("profile.picture_remove"), lambda e: app.spawn(remove_picture()))]
                if me.avatar_url
                else []
            ),
        ],
        horizontal_alignment=ft.CrossAxisAlignment.CENTER,
        tight=True,
    )
    fields = [
        forms.field(
            t("profile.name"),
            form.get("name", me.display_name),
            lambda value: form.update(name=value),
            identifier="profile-name",
            error=problem[1] if problem[0] == "name" else "",
            on_submit=save,
        ),
        forms.field(
            t("profile.about"),
            form.get("about", me.about),
            lambda value: form.update(about=value),
            identifier="profile-about",
            error=problem[1] if problem[0] == "about" else "",
            helper=t("profile.about_hint"),
            on_submit=save,
        ),
        states.primary_button(t("save"), save, busy=busy, identifier="profile-save"),
    ]
    facts = forms.section(
        "",
        [
            pair(t("profile.username"), t("profile.handle", name=me.username or "")),
            *([pair(t("profile.email"), me.email)] if me.email else []),
        ],
    )
    danger = forms.section(
        "",
        [
            forms.tile(
                t("profile.delete"),
                icon=ft.Icons.DELETE_FOREVER_OUTLINED,
                danger=True,
                on_click=lambda: set_asking(True),
                identifier="delete-account",
            )
        ],
    )
    return Screen(t("profile.title"), forms.page_of([picture, *fields, facts, danger]))


@ft.component
def Password() -> ft.Control:
    app, t = use_app(), use_t()
    form = forms.use_form(current="", new="")
    problem, set_problem = ft.use_state(("", ""))
    busy, set_busy = ft.use_state(False)

    async def save(event: object = None) -> None:
        if busy:
            return
        if len(form["new"]) < MIN_PASSWORD:
            set_problem(("new", t("password.short")))
            return
        set_busy(True)
        set_problem(("", ""))
        try:
            await app.hs.me.set_password(form["current"], form["new"])
        except HyperSendError as error:
            field = "new" if error.code == "validation_failed" else "current"
            set_problem((field, explain(error, t, address=app.session.address)))
        else:
            app.notices.tell(t("password.done"))
            go("/settings")
        set_busy(False)

    def line(name: str) -> ft.Control:
        return forms.field(
            t(f"password.{name}"),
            form[name],
            lambda value: form.update({name: value}),
            identifier=f"password-{name}",
            error=problem[1] if problem[0] == name else "",
            helper=t("register.password_hint") if name == "new" else None,
            on_submit=save,
            password=True,
            can_reveal_password=True,
        )

    body = forms.page_of(
        [
            line("current"),
            line("new"),
            states.primary_button(t("password.button"), save, busy=busy, identifier="password-save"),
        ]
    )
    return Screen(t("password.title"), body)
