"""Making an account, and setting a password with a reset code."""

from __future__ import annotations

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.router import go, use_app, use_t, watch
from hypersend_client.app.screens.sign_in import notice, welcome
from hypersend_client.app.words import explain
from hypersend_client.sdk import ApiError, HyperSendError

MIN_PASSWORD = 10
FIELDS = {
    "email_taken": "email",
    "username_taken": "username",
    "invite_required": "invite",
    "invite_invalid": "invite",
    "registration_closed": "email",
}


@ft.component
def Register() -> ft.Control:
    app, t = use_app(), use_t()
    session = watch(app.session)
    form = forms.use_form(name="", username="", email="", password="", invite="")
    problem, set_problem = ft.use_state(("", ""))
    busy, set_busy = ft.use_state(False)
    registration = session.server.registration if session.server is not None else ""

    async def submit(event: object = None) -> None:
        if busy:
            return
        for name, key in (("username", "error.field.username"), ("email", "sign_in.email_missing")):
            if not form[name].strip():
                set_problem((name, t(key)))
                return
        if len(form["password"]) < MIN_PASSWORD:
            set_problem(("password", t("password.short")))
            return
        set_busy(True)
        set_problem(("", ""))
        try:
            await app.register(form["email"], form["username"].lower(), form["password"], form["name"], form["invite"])
        except HyperSendError as error:
            set_problem((_field(error), explain(error, t, address=session.address)))
            set_busy(False)
            return
        go("/")

    def line(name: str, label: str, hint: str = "", **more: object) -> ft.Control:
        return forms.field(
            t(label),
            form[name],
            lambda value: form.update({name: value}),
            identifier=f"register-{name}",
            error=problem[1] if problem[0] == name else "",
            helper=t(hint) if hint else None,
            on_submit=submit,
            **more,
        )

    if registration == "closed":
        children = [notice(t("register.closed"))]
    else:
        children = [
            line("name", "register.name", "register.name_hint", autofocus=True),
            line("username", "register.username", "register.username_hint", autocorrect=False),
            line("email", "sign_in.email", keyboard_type=ft.KeyboardType.EMAIL, autocorrect=False),
            line("password", "sign_in.password", "register.password_hint", password=True, can_reveal_password=True),
            *(
                [line("invite", "register.invite", "register.invite_hint", autocorrect=False)]
                if registration == "invite" or problem[0] == "invite"
                else []
            ),
            states.primary_button(t("register.button"), submit, busy=busy, identifier="register"),
        ]
    return welcome(
        t("register.title"),
        "",
        [*children, states.quiet_button(t("register.have_account"), lambda e: go("/"), identifier="to-sign-in")],
    )


def _field(error: HyperSendError) -> str:
    """Under which field the problem stands."""
    if isinstance(error, ApiError) and error.code == "validation_failed":
        names = [str(entry.get("field")) for entry in error.errors]
        return next((n for n in names if n in ("email", "username", "password", "invite")), "name")
    return FIELDS.get(error.code, "password")


@ft.component
def Reset() -> ft.Control:
    app, t = use_app(), use_t()
    form = forms.use_form(code="", password="")
    problem, set_problem = ft.use_state(("", ""))
    busy, set_busy = ft.use_state(False)

    async def submit(event: object = None) -> None:
        if busy:
            return
        if len(form["password"]) < MIN_PASSWORD:
            set_problem(("password", t("password.short")))
            return
        set_busy(True)
        set_problem(("", ""))
        try:
            await app.hs.reset_password(form["code"].strip(), form["password"])
        except HyperSendError as error:
            field = "password" if error.code == "validation_failed" else "code"
            set_problem((field, explain(error, t, address=app.session.address)))
        else:
            app.notices.tell(t("reset.done"))
            go("/")
        set_busy(False)

    return welcome(
        t("reset.title"),
        t("reset.hint"),
        [
            forms.field(
                t("reset.code"),
                form["code"],
                lambda value: form.update(code=value),
                identifier="reset-code",
                error=problem[1] if problem[0] == "code" else "",
                autofocus=True,
                autocorrect=False,
            ),
            forms.field(
                t("reset.new"),
                form["password"],
                lambda value: form.update(password=value),
                identifier="reset-password",
                error=problem[1] if problem[0] == "password" else "",
                on_submit=submit,
                password=True,
                can_reveal_password=True,
            ),
            states.primary_button(t("reset.button"), submit, busy=busy, identifier="reset"),
            states.quiet_button(t("register.have_account"), lambda e: go("/"), identifier="to-sign-in"),
        ],
    )
