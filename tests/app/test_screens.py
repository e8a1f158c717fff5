"""Every screen, drawn without a client over a fake connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import flet as ft
import pytest

from hypersend_client.app.transfer_list import TransferRow
from hypersend_client.sdk import ApiError, Chat, ConnectionFailed, User, transfer_errors
from hypersend_client.sdk.events import StateChanged
from hypersend_client.sdk.models import Device, StorageUse
from tests.app.fakes import ACCOUNT, ANN, World, message
from tests.app.stage import Stage, staged

HERE = "https://tea.example.org"
OFFLINE = ConnectionFailed("no", reason="name")


@asynccontextmanager
async def shown(*, route: str = "/", width: float = 400, chats: tuple[Chat, ...] = (), **options: Any
                ) -> AsyncIterator[tuple[World, Stage]]:  # fmt: skip
    world = World(**options)
    if options.get("signed_in", True):
        await world.tokens.put(ACCOUNT)
    async with staged(world.app, width=width, route=route) as stage:
        if chats:
            await world.put(*chats)
        yield world, stage


def direct(number: int = 1, **more: Any) -> Chat:
    options = {
        "kind": "direct",
        "peer": ANN,
        "seq": 1,
        "rev": 1,
        "updated_at": datetime(2026, 3, 10, tzinfo=UTC),
        "last_message": message(f"c-{number}", 1, "Shall we?"),
    } | more
    return Chat(f"c-{number}", **options)


async def test_a_server_that_cannot_be_reached_is_named_under_its_field() -> None:
    async with shown(signed_in=False, connect=OFFLINE) as (_, stage):
        await stage.click("next")
        await stage.reads("Enter the address of your server.")
        await stage.fill("server-address", "tea.example.org")
        await stage.click("next")
        await stage.reads("Couldn't reach tea.example.org. Check the address or your connection.")


async def test_signing_in_leads_to_the_chats() -> None:
    async with shown(signed_in=False, built_in=HERE) as (world, stage):
        await stage.click("sign-in")
        await stage.reads("Enter your e-mail address.")
        await stage.fill("email", "meera@example.org")
        await stage.fill("password", "secret")
        await stage.submit("password")
        world.client.connection.happen(StateChanged("online"))
        world.client.sync.become("current")
        await stage.sees("start-chat")
        await stage.reads("Tea house")


async def test_a_wrong_password_is_told_under_its_field_and_the_form_stays() -> None:
    refused = ApiError("credentials_invalid", status=401)
    async with shown(signed_in=False, built_in=HERE, login=refused) as (_, stage):
        await stage.fill("email", "meera@example.org")
        await stage.fill("password", "wrong")
        await stage.click("sign-in")
        await stage.reads("E-mail or password is wrong. Check both.")
        field = next(c for c in stage.controls() if isinstance(c, ft.TextField) and c.label == "E-mail")
        assert field.value == "meera@example.org"


@pytest.mark.parametrize(("error", "words"), [
    (ApiError("username_taken", status=409), "This user name is taken. Choose another one."),
    (ApiError("email_taken", status=409), "There is an account with this e-mail. Sign in instead."),
    (ApiError("invite_invalid", status=403), "This invite does not work any more. Ask for a new one."),
    (ApiError("validation_failed", status=422, errors=[{"field": "username", "problem": "x"}]),
     "Use 3–32 of a–z, 0–9, dot and underscore."),
    (OFFLINE, "Couldn't reach tea.example.org. Check the address or your connection."),
])  # fmt: skip
async def test_registering_tells_what_is_wrong(error: Exception, words: str) -> None:
    async with shown(signed_in=False, built_in=HERE, register=error) as (_, stage):
        await stage.click("to-register")
        await stage.fill("register-username", "meera")
        await stage.fill("register-email", "meera@example.org")
        await stage.fill("register-password", "long enough it is")
        await stage.click("register")
        await stage.reads(words)


async def test_registering_leads_to_the_chats() -> None:
    async with shown(signed_in=False, built_in=HERE) as (world, stage):
        await stage.click("to-register")
        await stage.fill("register-username", "Meera")
        await stage.fill("register-email", "meera@example.org")
        await stage.fill("register-password", "short")
        await stage.click("register")
        await stage.reads("Choose a password of at least 10 characters.")
        await stage.fill("register-password", "long enough it is")
        await stage.click("register")
        await stage.until(lambda: world.app.session.status == "signed_in")
        assert (
            "register",
            ("meera@example.org", "meera", "long enough it is"),
            {"display_name": "", "invite": ""},
        ) in world.client.calls


async def test_a_session_that_ended_is_explained_at_sign_in() -> None:
    async with shown(chats=(direct(),)) as (world, stage):
        await stage.sees("chat-row-c-1")
        world.client.end("session_ended")
        await stage.reads("This session was ended from somewhere else. Sign in to go on.")


async def test_the_chat_list_shows_filters_and_offers_what_can_be_done() -> None:
    other = direct(2, peer=User(id="u-bo", display_name="बोधि"), unread=3)
    async with shown(chats=(direct(), other)) as (world, stage):
        await stage.sees("chat-row-c-2")
        row = await stage.sees("chat-row-c-2")
        assert row.label is not None
        assert "3 unread messages" in row.label
        await stage.fill("chat-filter", "ann")
        await stage.until(lambda: stage.find("chat-row-c-2") is None)
        assert stage.find("chat-row-c-1") is not None
        await stage.fill("chat-filter", "nobody")
        await stage.reads("No chat matches “nobody”")
        await stage.fill("chat-filter", "")
        row = await stage.sees("chat-row-c-1")
        await stage.page.session.dispatch_event(row._i, "long_press", None)
        await stage.click("menu-pin")
        await stage.until(lambda: ("chats.update_mine", ("c-1",), {"pinned": True}) in world.client.calls)


async def test_a_chat_is_deleted_only_after_asking() -> None:
    async with shown(chats=(direct(),)) as (world, stage):
        row = await stage.sees("chat-row-c-1")
        await stage.page.session.dispatch_event(row._i, "long_press", None)
        await stage.click("menu-delete")
        await stage.reads("Delete the chat with Ann Lee?")
        assert "chats.delete" not in [name for name, _, _ in world.client.calls]
        await stage.click("confirm-yes")
        await stage.until(lambda: ("chats.delete", ("c-1",), {}) in world.client.calls)


async def test_what_the_server_refuses_is_told_at_the_bottom() -> None:
    refused = ApiError("not_allowed", status=403)
    async with shown(chats=(direct(),), chats__update_mine=refused) as (_, stage):
        row = await stage.sees("chat-row-c-1")
        await stage.page.session.dispatch_event(row._i, "long_press", None)
        await stage.click("menu-mute")
        await stage.reads("You may not do this here.")


async def test_the_banner_says_that_messages_will_be_sent_later() -> None:
    async with shown(chats=(direct(),)) as (world, stage):
        world.client.connection.happen(StateChanged("offline", OFFLINE))
        await stage.reads("No connection: messages will be sent later")


async def test_archived_chats_stand_in_the_archive() -> None:
    async with shown(chats=(direct(), direct(2, archived=True))) as (_, stage):
        await stage.sees("chat-row-c-1")
        assert stage.find("chat-row-c-2") is None
        await stage.click("archive")
        await stage.sees("chat-row-c-2")
        await stage.click("back")
        await stage.until(lambda: stage.find("chat-row-c-1"))


PLACES = {
    "/settings": "Sign out", "/settings/profile": "Delete account", "/settings/password": "Current password",
    "/settings/devices": "Chrome on Linux", "/settings/storage": "holiday.mp4", "/settings/blocks": "Nobody is blocked",
    "/settings/appearance": "हिन्दी", "/settings/about": "40 GB",
}  # fmt: skip


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("route", PLACES)
async def test_a_settings_screen_opens_at_its_address_in_any_width(route: str, width: float) -> None:
    async with shown(route=route, width=width) as (_, stage):
        await stage.reads(PLACES[route])


@pytest.mark.parametrize("name", ["me__devices", "me__storage", "me__blocks"])
async def test_what_cannot_be_loaded_says_why_and_can_be_tried_again(name: str) -> None:
    place = name.removeprefix("me__")
    async with shown(route=f"/settings/{place}", **{name: OFFLINE}) as (world, stage):
        await stage.reads("Couldn't reach tea.example.org")
        world.client.answers.pop(name.replace("__", "."))
        await stage.click("retry")
        await stage.reads(PLACES[f"/settings/{place}"])


async def test_another_device_is_signed_out_only_after_asking() -> None:
    devices = [Device("d-1", device="Here", current=True), Device("d-2", device="Old phone", ip="10.0.0.9")]
    async with shown(route="/settings/devices", me__devices=devices) as (world, stage):
        await stage.click("end-d-2")
        await stage.reads("Sign out Old phone?")
        await stage.click("confirm-no")
        await stage.until(lambda: stage.find("confirm-yes") is None)
        assert "me.end_device" not in [name for name, _, _ in world.client.calls]
        await stage.click("end-d-2")
        await stage.click("confirm-yes")
        await stage.until(lambda: ("me.end_device", ("d-2",), {}) in world.client.calls)


async def test_a_storage_that_is_nearly_full_says_what_to_do() -> None:
    use = StorageUse(used_bytes=9_800_000_000, quota_bytes=10_000_000_000, files=3)
    async with shown(route="/settings/storage", me__storage=use) as (_, stage):
        await stage.reads("9.8 GB of 10 GB used")
        await stage.reads("Nearly full. Remove files you no longer need.")


async def test_the_language_takes_effect_at_once_everywhere() -> None:
    async with shown(route="/settings/appearance") as (world, stage):
        await stage.click("language-hi")
        await stage.reads("थीम और भाषा")
        await stage.click("theme-dark")
        await stage.until(lambda: stage.page.theme_mode == ft.ThemeMode.DARK)
        assert world.memory.values == {"language": "hi", "theme": "dark", "accent": "#B3261E"}


async def test_the_servers_accent_and_name_dress_the_page() -> None:
    async with shown() as (_, stage):
        await stage.until(lambda: stage.page.title == "Tea house")
        assert stage.page.theme is not None
        assert stage.page.theme.color_scheme_seed == "#B3261E"


async def test_a_profile_is_saved_and_a_name_is_needed() -> None:
    async with shown(route="/settings/profile") as (world, stage):
        await stage.fill("profile-name", "  ")
        await stage.click("profile-save")
        await stage.reads("Enter a name that others will recognise.")
        await stage.fill("profile-name", "Meera")
        await stage.click("profile-save")
        saved = ("me.update", (), {"display_name": "Meera", "about": ""})
        await stage.until(lambda: saved in world.client.calls)


async def test_signing_out_asks_and_leads_to_sign_in() -> None:
    async with shown(route="/settings", chats=(direct(),)) as (world, stage):
        await stage.click("sign-out")
        await stage.reads("Sign out of this device?")
        await stage.click("confirm-yes")
        await stage.sees("sign-in")
        assert world.app.chats.rows == ()


async def test_a_wide_window_has_a_rail_and_the_list_beside() -> None:
    async with shown(chats=(direct(),)) as (_, stage):
        await stage.sees("chat-row-c-1")
        assert stage.find("tab-settings") is not None
        await stage.resize(1280, 800)
        await stage.reads("Choose a chat to read it")
        await stage.sees("chat-row-c-1")
        await stage.click("tab-settings")
        await stage.sees("sign-out")


async def test_escape_goes_back() -> None:
    async with shown(route="/settings/about") as (_, stage):
        await stage.sees("back")
        await stage.press("Escape")
        await stage.until(lambda: stage.page.route == "/settings")


async def test_after_a_dropped_socket_everything_is_drawn_again_and_works() -> None:
    async with shown(chats=(direct(),)) as (world, stage):
        await stage.sees("chat-row-c-1")
        await stage.reconnect()
        await stage.sees("chat-row-c-1")
        assert world.client.connection.doubted == 1
        await world.put(direct(rev=2, unread=5))
        await stage.until(lambda: "5 unread" in ((stage.find("chat-row-c-1") or row_gone).label or ""))
        await stage.fill("chat-filter", "nobody")
        await stage.reads("No chat matches")


row_gone = ft.Semantics(label="")


async def test_only_rows_that_changed_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from hypersend_client.app.screens import chats as screen

    drawn: list[str] = []
    real = screen._preview

    def noting(row: Any, *more: Any) -> Any:
        drawn.append(row.id)
        return real(row, *more)

    monkeypatch.setattr(screen, "_preview", noting)
    async with shown(chats=tuple(direct(n) for n in range(1, 31))) as (world, stage):
        await stage.until(lambda: len(set(drawn)) == 30)
        await stage.sees("chat-row-c-30")
        drawn.clear()
        await world.put(direct(7, rev=2, unread=1))
        await stage.until(lambda: "1 unread" in ((stage.find("chat-row-c-7") or row_gone).label or ""))
        assert set(drawn) == {"c-7"}


async def test_an_unknown_address_leads_back_to_the_chats() -> None:
    async with shown(route="/nowhere/at/all") as (_, stage):
        await stage.reads("There is nothing at this address")


def device(number: int, *, current: bool = False) -> Device:
    return Device(id=f"s-{number}", device=f"Device {number}", current=current)


async def test_all_other_devices_are_signed_out_at_once_after_asking() -> None:
    there = [device(1, current=True), device(2), device(3)]
    async with shown(route="/settings/devices", me__devices=there) as (world, stage):
        await stage.click("end-others")
        await stage.reads("Sign out all other devices?")
        assert "me.end_device" not in [name for name, _, _ in world.client.calls]
        await stage.click("confirm-yes")
        await stage.until(lambda: ("me.end_device", ("s-3",), {}) in world.client.calls)
        assert ("me.end_device", ("s-2",), {}) in world.client.calls
        assert ("me.end_device", ("s-1",), {}) not in world.client.calls


async def test_the_number_of_running_transfers_stands_on_the_navigation_entry() -> None:
    async with shown(chats=(direct(),)) as (world, stage):
        await stage.sees("tab-transfers")
        moving = TransferRow("t-1", True, "film.mkv", 100, 10, "running")
        queued, done = replace(moving, id="t-2", state="queued"), replace(moving, id="t-3", state="done")
        world.app.transfers.rows = (moving, queued, done)
        await stage.until(lambda: "2" in texts_in(stage, "tab-transfers"))
        world.app.transfers.rows = (replace(moving, state="done"),)
        await stage.until(lambda: texts_in(stage, "tab-transfers") == ["Transfers"])


def texts_in(stage: Stage, identifier: str) -> list[str]:
    part = stage.find(identifier)
    return [control.value for control in stage.within(part) if isinstance(control, ft.Text)] if part is not None else []


async def test_a_finished_download_can_be_opened_and_shown_and_a_failed_one_says_why() -> None:
    done = TransferRow("t-1", False, "film.mkv", 100, 100, "done", file_id="f-1", path="/nowhere/film.mkv")
    failed = TransferRow("t-2", False, "song.mp3", 100, 10, "failed", error=transfer_errors.DiskFull("/x"))
    async with shown(route="/transfers", chats=(direct(),)) as (world, stage):
        await stage.reads("Nothing is being sent or fetched")
        world.app.transfers.rows = (done, failed)
        await stage.reads(world.app.t("error.disk_full"))
        await stage.reads("Try song.mp3 again")
        await stage.sees("show-t-1")
        await stage.click("open-t-1")
        await stage.reads("The file is no longer where it was saved. Download it again.")


async def test_of_many_chats_so_many_are_drawn_as_are_scrolled_to() -> None:
    many = tuple(direct(n, title=f"Chat {n}", kind="group", peer=None) for n in range(300))
    async with shown(chats=many) as (_, stage):
        await stage.until(lambda: len(rows_of(stage)) == 120)
        near = {"event_type": "update", "pixels": 8000.0, "min_scroll_extent": 0.0, "max_scroll_extent": 8640.0,
                "viewport_dimension": 700.0, "scroll_delta": 100.0}  # fmt: skip
        for wanted in (240, 300):
            listed = next(c for c in stage.controls() if isinstance(c, ft.ListView) and c.on_scroll is not None)
            await stage.page.session.dispatch_event(listed._i, "scroll", near)
            await stage.until(lambda wanted=wanted: len(rows_of(stage)) == wanted)
        await stage.fill("chat-filter", "Chat 29")
        await stage.until(lambda: len(rows_of(stage)) == 11)


def rows_of(stage: Stage) -> list[str]:
    return [c.identifier or "" for c in stage.controls()
            if isinstance(c, ft.Semantics) and (c.identifier or "").startswith("chat-row-")]  # fmt: skip
