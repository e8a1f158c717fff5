"""Signing in: the server's address first where none is built in, then e-mail and password."""

from __future__ import annotations

from collections.abc import Callable

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.text import text
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.tokens import Colour, Corner, Size, Space, Type
from hypersend_client.app.words import explain
from hypersend_client.sdk import HyperSendError


@ft.component
def SignIn() -> ft.Control:
    app = use_app()
    session = watch(app.session)
    typing_address, set_typing_address = ft.use_state(not session.address)
    if typing_address:
        return ServerForm(lambda: set_typing_address(False))
    return AccountForm(None if app.built_in else lambda: set_typing_address(True))


@ft.component
def ServerForm(on_found: Callable[[], None]) -> ft.Control:
    app, t = use_app(), use_t()
    form = forms.use_form(address=app.session.address)
    problem, set_problem = ft.use_state("")
    busy, set_busy = ft.use_state(False)

    async def submit(event: object = None) -> None:
        if busy:
            return
        if not form["address"].strip():
            set_problem(t("sign_in.address_missing"))
            return
        set_busy(True)
        set_problem("")
        try:
            await app.find_server(form["address"])
        except HyperSendError as error:
            set_problem(explain(error, t, address=form["address"]))
            set_busy(False)
            return
        set_busy(False)
        on_found()

    return welcome(
        t("sign_in.server_title"),
        t("sign_in.server_hint"),
        [
            forms.field(
                t("sign_in.server"),
                form["address"],
                lambda value: form.update(address=value),
                identifier="server-address",
                error=problem,
                on_submit=submit,
                autofocus=True,
                keyboard_type=ft.KeyboardType.URL,
                autocorrect=False,
            ),
            states.primary_button(t("sign_in.next"), submit, busy=busy, identifier="next"),
        ],
    )


@ft.component
def AccountForm(on_other_server: Callable[[], None] | None) -> ft.Control:
    app, t = use_app(), use_t()
    session = watch(app.session)
    form = forms.use_form(email="", password="")
    problem, set_problem = ft.use_state(("", ""))
    busy, set_busy = ft.use_state(False)

    async def submit(event: object = None) -> None:
        if busy:
            return
        if not form["email"].strip():
            set_problem(("email", t("sign_in.email_missing")))
            return
        if not form["password"]:
            set_problem(("password", t("sign_in.password_missing")))
            return
        set_busy(True)
        set_problem(("", ""))
        try:
            await app.sign_in(form["email"], form["password"])
        except HyperSendError as error:
            field = "email" if error.code == "validation_failed" else "password"
            set_problem((field, explain(error, t, address=session.address)))
            set_busy(False)
            return
        go("/")

    ended = f"ended.{session.ended}" if t.has(f"ended.{session.ended}") else "ended.other"
    server = session.server
    return welcome(
        t("sign_in.welcome", name=server.name if server is not None and server.name else t("app.name")),
        t("sign_in.on_server", host=session.address.split("//")[-1]) if on_other_server is not None else "",
        [
            *([notice(t(ended))] if session.ended else []),
            ft.AutofillGroup(
                content=ft.Column(
                    [
                        forms.field(
                            t("sign_in.email"),
                            form["email"],
                            lambda value: form.update(email=value),
                            identifier="email",
                            error=problem[1] if problem[0] == "email" else "",
                            on_submit=submit,
                            autofocus=True,
                            keyboard_type=ft.KeyboardType.EMAIL,
                            autofill_hints=[ft.AutofillHint.EMAIL],
                            autocorrect=False,
                        ),
                        forms.field(
                            t("sign_in.password"),
                            form["password"],
                            lambda value: form.update(password=value),
                            identifier="password",
                            error=problem[1] if problem[0] == "password" else "",
                            on_submit=submit,
                            password=True,
                            can_reveal_password=True,
                            autofill_hints=[ft.AutofillHint.PASSWORD],
                        ),
                    ],
                    spacing=Space.L,
                    tight=True,
                    horizontal_alignment=ft.CrossAxisAlignment.STRETCH,
                )
            ),
            states.primary_button(t("sign_in.button"), submit, busy=busy, identifier="sign-in"),
            states.quiet_button(t("sign_in.no_account"), lambda e: go("/register"), identifier="to-register"),
            states.quiet_button(t("sign_in.forgot"), lambda e: go("/reset"), identifier="to-reset"),
            *(
                [states.quiet_button(t("sign_in.other_server"), lambda e: on_other_server(), identifier="other-server")]
                if on_other_server is not None
                else []
            ),
        ],
    )


def notice(line: str) -> ft.Control:
    return ft.Container(
        content=text(line, Type.SECONDARY, color=Colour.ON_BANNER),
        bgcolor=Colour.BANNER,
        border_radius=Corner.CARD,
        padding=Space.M,
    )


def welcome(title: str, hint: str, children: list[ft.Control]) -> ft.Control:
    """The logo or the app's mark, a title, and the form."""
    app = use_app()
    server = app.session.server
    logo = app.media_url(server.logo_url) if server is not None else None
    mark: ft.Control = ft.Container(
        content=ft.Icon(ft.Icons.SEND_ROUNDED, color=Colour.ON_ACCENT, size=Size.ICON_LARGE),
        width=Size.PICTURE,
        height=Size.PICTURE,
        bgcolor=Colour.ACCENT,
        border_radius=Corner.BUBBLE,
        alignment=ft.Alignment.CENTER,
    )
    if logo:
        mark = ft.Image(src=logo, width=Size.PICTURE, height=Size.PICTURE, fit=ft.BoxFit.CONTAIN, error_content=mark)
    return forms.page_of(
        [
            ft.Container(content=mark, alignment=ft.Alignment.CENTER, padding=ft.Padding.only(top=Space.XXL)),
            ft.Semantics(content=text(title, Type.TITLE, align=ft.TextAlign.CENTER), header=True),
            *([text(hint, Type.SECONDARY, color=Colour.SECONDARY, align=ft.TextAlign.CENTER)] if hint else []),
            *children,
        ],
        form=True,
    )
