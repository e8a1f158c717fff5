"""The name, the colour and the logo of a server are what its people see."""

from __future__ import annotations

from dataclasses import replace

import flet as ft

from hypersend_client.app.theme import contrast_with_white, theme
from tests.app.fakes import SERVER
from tests.app.test_screens import shown

HERE = "https://tea.example.org"
BRANDED = replace(SERVER, logo_url="/api/v1/server/logo")


async def test_signing_in_shows_the_servers_logo_name_and_colour() -> None:
    async with shown(signed_in=False, built_in=HERE, connect=BRANDED) as (_, stage):
        await stage.until(lambda: any(isinstance(control, ft.Image) for control in stage.controls()))
        logo = next(control for control in stage.controls() if isinstance(control, ft.Image))
        assert logo.src == f"{HERE}/api/v1/server/logo"
        assert any("Tea house" in text for text in stage.texts())
        assert not any("HyperSend" in text for text in stage.texts())
        await stage.until(lambda: stage.page.title == "Tea house")
        assert stage.page.dark_theme is not None
        assert stage.page.dark_theme.color_scheme_seed == "#B3261E"


async def test_chat_list_is_headed_by_the_servers_name() -> None:
    async with shown() as (_, stage):
        await stage.until(lambda: "Tea house" in stage.texts())


def test_a_pale_accent_is_not_written_on_in_white() -> None:
    pale, strong = "#FFE08A", "#AA3366"
    assert contrast_with_white(pale) < 4.5 < contrast_with_white(strong)
    assert theme(pale, dark=False).color_scheme is None
    chosen = theme(strong, dark=False).color_scheme
    assert chosen is not None
    assert chosen.primary == strong
