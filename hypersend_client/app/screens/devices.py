"""Where this account is signed in, and signing out elsewhere."""

from __future__ import annotations

from typing import cast

import flet as ft

from hypersend_client.app.components import forms, states
from hypersend_client.app.components.loaded import show, use_loaded
from hypersend_client.app.components.text import text
from hypersend_client.app.frame import Screen
from hypersend_client.app.i18n import Translator
from hypersend_client.app.router import use_app, use_t
from hypersend_client.app.tokens import Colour, Space
from hypersend_client.app.words import ago, now
from hypersend_client.sdk.models import Device


@ft.component
def Devices() -> ft.Control:
    app, t = use_app(), use_t()
    loaded = use_loaded(lambda: app.hs.me.devices())
    doomed, set_doomed = ft.use_state(cast(Device | None, None))
    all_doomed, set_all_doomed = ft.use_state(False)

    async def end(device: Device) -> None:
        set_doomed(None)
        await app.hs.me.end_device(device.id)
        await loaded.reload()

    async def end_others() -> None:
        set_all_doomed(False)
        for device in loaded.value or []:
            if not device.current:
                await app.hs.me.end_device(device.id)
        await loaded.reload()

    dialog = None
    if all_doomed:
        dialog = states.confirm(
            t("devices.end_all_ask"),
            t("devices.end_all_loss"),
            yes=t("devices.end"),
            no=t("cancel"),
            on_yes=lambda: app.spawn(end_others()),
            on_no=lambda: set_all_doomed(False),
        )
    if doomed is not None:
        name = doomed.device or t("devices.unknown")
        dialog = states.confirm(
            t("devices.end_ask", device=name),
            t("devices.end_loss"),
            yes=t("devices.end"),
            no=t("cancel"),
            on_yes=lambda: app.spawn(end(doomed)),
            on_no=lambda: set_doomed(None),
        )
    ft.use_dialog(dialog)

    def draw(devices: list[Device]) -> ft.Control:
        here = [line(device) for device in devices if device.current]
        others = [line(device) for device in devices if not device.current]
        none = ft.Container(content=text(t("devices.none"), color=Colour.SECONDARY), padding=Space.L)
        if len(others) > 1:
            others.append(
                forms.tile(
                    t("devices.end_all"),
                    icon=ft.Icons.LOGOUT,
                    danger=True,
                    on_click=lambda: set_all_doomed(True),
                    identifier="end-others",
                )
            )
        return forms.page_of(
            [forms.section(t("devices.this"), here), forms.section(t("devices.others"), others or [none])]
        )

    def line(device: Device) -> ft.Control:
        name = device.device or t("devices.unknown")
        button = forms.icon_button(
            ft.Icons.LOGOUT,
            t("devices.end_on", device=name),
            lambda e: set_doomed(device),
            color=Colour.LOSS,
            identifier=f"end-{device.id}",
        )
        return forms.tile(
            name,
            subtitle=_detail(device, t),
            icon=ft.Icons.DEVICES,
            trailing=None if device.current else button,  # that it is this one stands over it
        )

    return Screen(t("devices.title"), show(loaded, draw))


def _detail(device: Device, t: Translator) -> str:
    seen = t("devices.active")
    if not device.current and device.last_seen_at is not None:
        seen = t("devices.seen", when=ago(device.last_seen_at, now(), t))
    return t("devices.detail", ip=device.ip, seen=seen) if device.ip else seen
