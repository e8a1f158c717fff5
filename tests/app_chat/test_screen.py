"""The conversation as a person uses it, drawn without a client over a fake connection."""

from __future__ import annotations

import gc
from dataclasses import replace

import flet as ft
import pytest

from hypersend_client.app.chat import listing
from hypersend_client.sdk import ConnectionFailed, User
from hypersend_client.sdk.events import StateChanged, Typing
from hypersend_client.sdk.models import File, Page
from tests.app.fakes import ANN, SERVER
from tests.app.stage import Stage, _walk
from tests.app_chat.house import lived_in, picture

BO = User(id="u-bo", username="bo", display_name="Bodhi Sharma")


async def opened(stage: Stage, sign: str = "composer", chat_id: str = "c-1") -> None:
    await stage.go(f"/chat/{chat_id}")
    await stage.sees(sign)


async def write(stage: Stage, words: str) -> None:
    await stage.fill("composer", words)
    await stage.submit("composer")


async def long_press(stage: Stage, identifier: str) -> None:
    part = await stage.sees(identifier)
    pressed = next(c for c in _walk(part) if isinstance(c, ft.GestureDetector))
    await stage.page.session.dispatch_event(pressed._i, "long_press", None)


def field_of(stage: Stage) -> ft.TextField:
    part = stage.find("composer")
    assert part is not None
    return next(c for c in _walk(part) if isinstance(c, ft.TextField))


def bubbles(stage: Stage) -> list[str]:
    """Identifiers of the messages, the oldest first."""
    return [c.identifier or "" for c in stage.controls()
            if isinstance(c, ft.Semantics) and (c.identifier or "").startswith("message-")]  # fmt: skip


async def spoken(stage: Stage, words: str) -> ft.Semantics:
    """The bubble that is read out like this."""
    found: ft.Semantics = await stage.until(
        lambda: next((c for c in stage.controls() if isinstance(c, ft.Semantics) and words in (c.label or "")), None),
        words,
    )
    return found


async def test_what_is_written_is_shown_sent_and_the_field_is_empty_again() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=3)
        await opened(stage)
        await write(stage, "Hello there")
        await spoken(stage, "Hello there. Sent")
        assert [entry.text for entry in house.sent] == ["Hello there"]
        assert field_of(stage).value in ("", None)


async def test_the_attach_sheet_offers_what_the_server_can() -> None:
    async with lived_in() as (house, stage):
        await house.furnish()
        await opened(stage)
        await stage.click("attach")
        await stage.sees("attach-media")
        await stage.sees("attach-file")
        assert stage.find("attach-device") is None


async def test_device_to_device_is_offered_where_the_server_can_and_says_that_it_needs_the_app() -> None:
    able = replace(SERVER, features=["p2p"])
    async with lived_in(connect=able) as (house, stage):
        await stage.until(lambda: house.app.session.server is not None)
        await house.furnish()
        stage.page.web = True
        await opened(stage)
        await stage.click("attach")
        await stage.click("attach-device")
        words = "For this, open Tea house as an app on a phone or computer."
        await stage.until(lambda: house.app.notices.text == words)


async def test_answering_quotes_the_message_and_escape_gives_it_up() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=3)
        await opened(stage)
        await long_press(stage, "message-m-c-1-2")
        await stage.click("menu-reply")
        await stage.reads("Reply to Ann Lee")
        await stage.press("Escape")
        await stage.until(lambda: stage.find("stop-mode") is None)
        await long_press(stage, "message-m-c-1-2")
        await stage.click("menu-reply")
        await stage.sees("stop-mode")
        await write(stage, "Yes")
        await stage.until(lambda: house.sent)
        assert house.sent[0].body["reply_to"] == "m-c-1-2"
        await stage.until(lambda: stage.find("stop-mode") is None)


async def test_arrow_up_in_an_empty_field_changes_the_last_message_of_ones_own() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=2)
        await opened(stage)
        await write(stage, "See you at sevn")
        await spoken(stage, "See you at sevn. Sent")
        part = await stage.sees("composer")
        listener = next(c for c in _walk(part) if isinstance(c, ft.KeyboardListener))
        await stage.page.session.dispatch_event(listener._i, "key_down", {"key": "Arrow Up"})
        await stage.reads("Edit message")
        await stage.until(lambda: field_of(stage).value == "See you at sevn")
        await write(stage, "See you at seven")
        await spoken(stage, "edited: See you at seven")
        assert [name for name, _, _ in house.client.calls if name == "messages.edit"] == ["messages.edit"]


async def test_deleting_for_everyone_asks_first_and_leaves_a_mark() -> None:
    async with lived_in() as (house, stage):
        await house.furnish()
        await opened(stage)
        await write(stage, "Oh no")
        await spoken(stage, "Oh no. Sent")
        await long_press(stage, "message-out-0")
        await stage.click("menu-delete")
        await stage.click("delete-everyone")
        await stage.reads("This message was deleted")


async def test_reacting_sets_a_chip_and_touching_the_chip_takes_it_away() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await opened(stage)
        await long_press(stage, "message-m-c-1-1")
        await stage.click("react-👍")
        chip = await stage.sees("reaction-👍")
        assert chip.label == "👍, 1 person"
        await stage.click("reaction-👍")
        await stage.until(lambda: stage.find("reaction-👍") is None)


async def test_a_message_is_forwarded_to_the_chat_that_is_chosen() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await house.furnish("c-2", kind="group", title="Tea house keepers")
        await opened(stage)
        await long_press(stage, "message-m-c-1-1")
        await stage.click("menu-forward")
        await stage.fill("forward-search", "keepers")
        await stage.until(lambda: stage.find("forward-c-1") is None)
        await stage.click("forward-c-2")
        await stage.until(lambda: house.sent)
        assert (house.sent[0].chat_id, house.sent[0].body["forward"]) == ("c-2", ("c-1", "m-c-1-1"))
        await stage.until(lambda: house.app.notices.text == "Forwarded to Tea house keepers")


async def test_searching_from_the_chat_looks_in_this_chat() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await opened(stage)
        await stage.click("chat-title")
        await stage.click("details-search")
        await stage.reads("Search in Ann Lee")


async def scroll(stage: Stage, *, pixels: float, most: float, height: float = 700) -> None:
    """As the list tells it. pixels: from where it begins."""
    listing = [c for c in stage.controls() if isinstance(c, ft.ListView) and c.on_scroll is not None][-1]
    await stage.page.session.dispatch_event(listing._i, "scroll", {
        "event_type": "update", "pixels": pixels, "min_scroll_extent": 0.0, "max_scroll_extent": most,
        "viewport_dimension": height, "scroll_delta": 10.0})  # fmt: skip


async def lay_out(stage: Stage, height: float = 800) -> None:
    """Every block tells how high it is."""
    for control in list(stage.controls()):
        if isinstance(control, ft.Container) and control.data == "block":
            await stage.page.session.dispatch_event(control._i, "size_change", {"w": 400.0, "h": height})


def is_reverse(stage: Stage) -> bool:
    return [c for c in stage.controls() if isinstance(c, ft.ListView) and c.on_scroll is not None][-1].reverse


async def test_scrolling_up_adds_older_pages_and_the_day_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "DAY_S", 60)
    async with lived_in() as (house, stage):
        await house.furnish(count=450)
        await opened(stage, "message-m-c-1-450")
        assert len(bubbles(stage)) == 100
        assert stage.find("jump") is None
        await lay_out(stage)
        await scroll(stage, pixels=4000, most=4200)
        await stage.sees("message-m-c-1-251")
        await stage.sees("jump")
        await stage.sees("floating-day")
        assert is_reverse(stage)
        await stage.click("jump")
        await stage.until(lambda: len(bubbles(stage)) == 100)


async def test_unread_messages_begin_at_their_line_and_go_on_downwards_without_a_jump() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=450, unread=250)
        await opened(stage, "unread-line")
        assert bubbles(stage)[0] == "message-m-c-1-199"
        assert not is_reverse(stage)
        await lay_out(stage)
        await scroll(stage, pixels=5000, most=5100)
        await stage.sees("message-m-c-1-390")
        assert bubbles(stage)[0] == "message-m-c-1-199"
        await lay_out(stage)
        row = await stage.until(lambda: house.app.chats.row("c-1"))
        assert row.unread < 250  # what was passed counts as read


async def test_at_the_top_of_unread_messages_the_list_turns_and_shows_older_ones() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=450, unread=250)
        await opened(stage, "unread-line")
        await lay_out(stage)
        await scroll(stage, pixels=0, most=6000)
        await stage.until(lambda: is_reverse(stage))
        await stage.sees("message-m-c-1-120")
        assert bubbles(stage)[-1] != "message-m-c-1-450"


async def test_an_offline_message_waits_and_goes_out_later() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await opened(stage)
        house.client.connection.happen(StateChanged("offline", ConnectionFailed("no", reason="name")))
        house.app._lose_patience()
        await stage.reads("No connection: messages will be sent later")
        await write(stage, "Later")
        await spoken(stage, "Later. Waiting to be sent")
        house.go_online()
        await house.outbox.go_out()
        await spoken(stage, "Later. Sent")


async def test_a_message_that_failed_says_so_and_is_sent_again_by_a_touch() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        house.outbox.refuse = "blocked"
        await opened(stage)
        await write(stage, "Hello")
        await stage.reads("Not sent. Tap to retry")
        house.outbox.refuse = ""
        part = await stage.sees("message-out-0")
        touched = next(c for c in _walk(part) if isinstance(c, ft.GestureDetector))
        await stage.page.session.dispatch_event(touched._i, "tap", None)
        await spoken(stage, "Hello. Sent")


async def test_a_draft_is_there_again_when_one_comes_back() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await opened(stage)
        await stage.fill("composer", "Not yet fin")
        await stage.go("/")
        await stage.sees("chat-row-c-1")
        await stage.reads("Draft: ")
        await opened(stage)
        assert field_of(stage).value == "Not yet fin"
        await stage.reconnect()
        await stage.sees("composer")
        assert field_of(stage).value == "Not yet fin"


async def test_blocking_puts_its_end_in_the_composers_place() -> None:
    blocked: list[User] = []
    async with lived_in(me__blocks=lambda: list(blocked), me__block=lambda user_id: blocked.append(ANN)) as (
        house,
        stage,
    ):
        await house.furnish(count=1)
        await opened(stage)
        menu = await stage.sees("chat-menu")
        entry = next(i for c in _walk(menu) if isinstance(c, ft.PopupMenuButton) for i in c.items
                     if isinstance(i.content, ft.Semantics) and i.content.identifier == "menu-block")  # fmt: skip
        await stage.page.session.dispatch_event(entry._i, "click", None)
        await stage.click("confirm-yes")
        await stage.reads("You blocked Ann Lee. To write to each other, take the block away.")
        assert stage.find("composer") is None
        await stage.go("/")
        await opened(stage, "blocked")
        await stage.click("unblock")
        await stage.sees("composer")


async def test_details_stand_in_a_third_pane_and_on_a_screen_of_their_own_where_it_is_narrow() -> None:
    files = [picture(n) for n in range(3)] + [File("f-9", name="plan.pdf", size=9_000_000, state="complete")]
    async with lived_in(width=1280, files__page=lambda **o: Page(files, None)) as (house, stage):
        await house.furnish(kind="group", title="Weekend", count=2, members=(BO,))
        await opened(stage)
        assert stage.find("details-close") is None
        await stage.click("chat-title")
        await stage.sees("details-close")
        await stage.sees("member-bo")
        await stage.sees("picture-f-1")
        await stage.reads("plan.pdf")
        await stage.sees("composer")
        await stage.click("details-close")
        await stage.until(lambda: stage.find("details-close") is None)
        await stage.resize(400, 850)
        await stage.click("chat-title")
        await stage.sees("member-bo")
        assert stage.page.route == "/details/c-1"
        await stage.click("back")
        await stage.sees("composer")


async def test_muting_is_done_from_the_details() -> None:
    async with lived_in(files__page=lambda **o: Page([], None)) as (house, stage):
        await house.furnish(count=1)
        await stage.go("/details/c-1")
        await stage.click("details-mute")
        await stage.until(lambda: any(name == "chats.update_mine" for name, _, _ in house.client.calls))
        await stage.reads("Files that are sent here are listed in this place.")


async def test_a_part_of_a_bubble_that_was_passed_over_is_still_drawn_by_itself() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await house.say("c-1", "", files=[File("f-9", name="plan.pdf", size=9_000_000, state="complete")], kind="file")
        await opened(stage, "file-f-9")
        for n in range(3):
            await house.say("c-1", f"and {n}")
            await stage.reads(f"and {n}")
        gc.collect()
        await house.app.set_language("hi")
        await stage.until(lambda: any("मेगाबाइट" in shown or "MB" in shown for shown in stage.texts()))
        file = await stage.sees("file-f-9")
        await stage.until(lambda: (file.label or "") and "plan.pdf" in (stage.find("file-f-9").label or ""))  # type: ignore[union-attr]
        await house.say("c-1", "last")
        await stage.reads("last")


async def test_ten_pictures_stand_in_rows() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await house.say("c-1", "", files=[picture(n) for n in range(10)], kind="file")
        await opened(stage, "picture-f-9")
        part = await stage.sees("message-m-c-1-2")
        rows = [
            c
            for c in _walk(part)
            if isinstance(c, ft.Row)
            and any(isinstance(x, ft.Semantics) and (x.identifier or "").startswith("picture-") for x in _walk(c))
        ]
        assert len(rows) == 4


async def test_on_a_phone_a_swipe_answers_and_on_a_desktop_there_is_none() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=2)
        stage.page.session.apply_page_patch({"platform": ft.PagePlatform.ANDROID})
        await opened(stage)
        await stage.sees("message-m-c-1-2")
        swipes = [c for c in stage.controls() if isinstance(c, ft.Dismissible)]
        await stage.page.session.dispatch_event(swipes[-1]._i, "confirm_dismiss", {"direction": "startToEnd"})
        await stage.reads("Reply to Ann Lee")
        assert len(bubbles(stage)) == 2
    async with lived_in() as (house, stage):
        await house.furnish(count=2)
        stage.page.session.apply_page_patch({"platform": ft.PagePlatform.LINUX})
        await opened(stage, "message-m-c-1-2")
        assert not [c for c in stage.controls() if isinstance(c, ft.Dismissible)]


async def test_the_arrow_keys_walk_through_the_chats_and_enter_opens_one() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=2)
        await house.furnish("c-2", kind="group", title="Weekend", count=1)
        await stage.sees("chat-row-c-2")
        listener = next(c for c in stage.controls() if isinstance(c, ft.KeyboardListener))
        for key in ("Arrow Down", "Arrow Down"):
            await stage.page.session.dispatch_event(listener._i, "key_down", {"key": key})
        await stage.submit("chat-filter")
        await stage.until(lambda: stage.page.route == f"/chat/{house.app.chats.rows[1].id}")


async def test_letters_in_the_chat_filter_are_never_drawn_over() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=2)
        await stage.sees("chat-row-c-1")
        await stage.fill("chat-filter", "zzz")
        await stage.reads("No chat matches “zzz”")
        part = await stage.sees("chat-filter")
        field = next(c for c in _walk(part) if isinstance(c, ft.TextField))
        assert field.value in (None, "zzz")
        await stage.fill("chat-filter", "an")
        await stage.sees("chat-row-c-1")


async def test_typing_is_shown_in_the_header() -> None:
    async with lived_in() as (house, stage):
        await house.furnish(count=1)
        await opened(stage)
        house.client.connection.happen(Typing(chat_id="c-1", user_id=ANN.id))
        await stage.reads("typing…")


async def test_a_place_in_the_chat_that_is_open_is_jumped_to() -> None:
    async with lived_in(width=1280) as (house, stage):
        await house.furnish(count=400)
        await opened(stage)
        await stage.until(lambda: "message-m-c-1-400" in bubbles(stage))
        await stage.go("/chat/c-1?at=42")
        await stage.until(lambda: "message-m-c-1-42" in bubbles(stage))
        await stage.go("/chat/c-1?at=300")
        await stage.until(lambda: "message-m-c-1-300" in bubbles(stage))
