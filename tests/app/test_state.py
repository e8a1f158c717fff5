"""What the app knows, without a screen: signing in and out, the chat list, the banner, drafts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hypersend_client.app import state as state_module
from hypersend_client.app.state import AppState
from hypersend_client.app.watched import Layout
from hypersend_client.main import browser, make_state
from hypersend_client.sdk import (
    ApiError,
    Chat,
    ConnectionFailed,
    Entry,
    HyperSendError,
    KeyringTokenStore,
    LocalStorageFailed,
    User,
)
from hypersend_client.sdk.events import PresenceChanged, Ready, StateChanged, Typing
from hypersend_client.sdk.store import Draft
from tests.app.fakes import ACCOUNT, ANN, ME, SERVER, World, message


def chat(number: int, **more: Any) -> Chat:
    options = {
        "kind": "group",
        "title": f"Chat {number}",
        "seq": 1,
        "rev": 1,
        "updated_at": datetime(2026, 3, 10, 12, number, tzinfo=UTC),
    } | more
    return Chat(f"c-{number}", **options)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[World, AppState]]:
    world = World(**options)
    app = await world.open()
    try:
        yield world, app
    finally:
        await app.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(state_module, "DRAFT_S", 0.01)


async def test_without_an_account_and_an_address_it_asks_for_the_server() -> None:
    async with opened(signed_in=False) as (world, app):
        assert app.session.status == "signed_out"
        assert app.session.address == ""
        await app.find_server("tea.example.org")
        assert world.client.url == "https://tea.example.org"
        assert app.session.server == SERVER
        assert world.memory.values["address"] == "https://tea.example.org"


async def test_a_built_in_server_is_asked_for_its_name_and_accent() -> None:
    async with opened(signed_in=False, built_in="https://tea.example.org") as (_, app):
        await until(lambda: app.session.server)
        assert app.prefs.accent == SERVER.accent_color


async def test_signing_in_opens_the_chats() -> None:
    async with opened(signed_in=False, built_in="https://tea.example.org") as (_, app):
        await app.sign_in(" meera@example.org ", "secret")
        assert app.session.status == "signed_in"
        assert app.me_id == ME.id


async def test_a_wrong_password_leaves_the_person_signed_out() -> None:
    refused = ApiError("credentials_invalid", status=401)
    async with opened(signed_in=False, built_in="https://tea.example.org", login=refused) as (_, app):
        with pytest.raises(ApiError):
            await app.sign_in("meera@example.org", "wrong")
        assert app.session.status == "signed_out"


async def test_who_was_signed_in_sees_the_known_chats_before_the_network_answers() -> None:
    offline = ConnectionFailed("no", reason="name")
    async with opened(connect=offline, me__get=offline) as (world, app):
        assert app.session.status == "signed_in"
        await world.put(chat(1))
        await until(lambda: app.chats.rows)
        assert app.chats.rows[0].title == "Chat 1"


async def test_a_device_that_cannot_save_says_so_and_tries_again() -> None:
    async with opened(start=LocalStorageFailed("/x", "full")) as (world, app):
        assert app.session.status == "failed"
        assert isinstance(app.session.error, LocalStorageFailed)
        world.answers.pop("start")
        await app.open()
        assert app.session.status == "signed_in"


async def test_rows_are_pinned_first_then_newest() -> None:
    async with opened() as (world, app):
        await world.put(chat(1), chat(2), chat(3, pinned=True, updated_at=datetime(2020, 1, 1, tzinfo=UTC)))
        await until(lambda: len(app.chats.rows) == 3)
        assert [row.title for row in app.chats.rows] == ["Chat 3", "Chat 2", "Chat 1"]


async def test_only_the_row_that_changed_is_made_anew() -> None:
    async with opened() as (world, app):
        await world.put(chat(1), chat(2))
        await until(lambda: len(app.chats.rows) == 2)
        before = {row.id: row for row in app.chats.rows}
        await world.put(chat(1, unread=4, rev=2))
        await until(lambda: app.chats.unread == 1)
        after = {row.id: row for row in app.chats.rows}
        assert after["c-2"] is before["c-2"]
        assert after["c-1"].unread == 4


async def test_a_preview_names_its_sender_in_a_group_and_oneself() -> None:
    async with opened() as (world, app):
        await world.client.store.write(lambda writer: writer.user(ANN))
        await world.put(
            chat(1, last_message=message("c-1", 1, "Hello\nthere")),
            chat(2, last_message=message("c-2", 1, "Mine", sender_id=ME.id)),
            chat(3, kind="direct", peer=ANN, title="", last_message=message("c-3", 1, "Hi")),
        )
        await until(lambda: len(app.chats.rows) == 3)
        theirs, mine, direct = (app.chats.row(f"c-{n}") for n in (1, 2, 3))
        assert theirs is not None
        assert (theirs.sender, theirs.text) == ("Ann", "Hello there")
        assert mine is not None
        assert (mine.mine, mine.sender) == (True, "")
        assert direct is not None
        assert (direct.title, direct.sender, direct.online) == ("Ann Lee", "", True)


async def test_muted_and_archived_chats_are_not_counted_as_waiting() -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    async with opened() as (world, app):
        await world.put(chat(1, unread=2), chat(2, unread=2, muted_until=later), chat(3, unread=2, archived=True))
        await until(lambda: len(app.chats.rows) == 3)
        assert app.chats.unread == 1


async def test_a_draft_shows_in_the_list_and_is_kept() -> None:
    async with opened() as (world, app):
        await world.put(chat(1))
        await until(lambda: app.chats.rows)
        app.set_draft("c-1", "Half a thou")
        await until(lambda: app.chats.rows[0].preview == "draft")
        assert app.chats.rows[0].text == "Half a thou"
        assert (await world.client.store.drafts())["c-1"].text == "Half a thou"
        app.set_draft("c-1", "")
        await until(lambda: app.chats.rows[0].preview != "draft")
        assert await world.client.store.drafts() == {}


async def test_a_message_that_was_not_sent_shows_in_the_list() -> None:
    async with opened() as (world, app):
        await world.put(chat(1))
        failed = Entry("c-1", "x", {"text": "Lost?"}, (), "failed", "blocked", "", datetime.now(UTC))
        world.client.outbox.waiting = [failed]
        await world.client.store.write(lambda writer: writer.changes.outbox.add("c-1"))
        await until(lambda: app.chats.rows and app.chats.rows[0].preview == "failed")
        assert app.chats.rows[0].text == "Lost?"


async def test_a_chat_that_is_gone_leaves_the_list() -> None:
    async with opened() as (world, app):
        await world.put(chat(1), chat(2))
        await until(lambda: len(app.chats.rows) == 2)
        await world.client.store.write(lambda writer: writer.gone("c-1"))
        await until(lambda: len(app.chats.rows) == 1)
        assert app.chats.rows[0].id == "c-2"


async def test_typing_shows_until_the_message_comes() -> None:
    async with opened() as (world, app):
        await world.client.store.write(lambda writer: writer.user(ANN))
        await world.put(chat(1, last_message=message("c-1", 1, "Hi")))
        await until(lambda: app.chats.rows)
        world.client.connection.happen(Typing("c-1", ANN.id))
        assert app.chats.rows[0].typing == ("Ann Lee",)
        world.client.connection.happen(Typing("c-1", ME.id))
        assert app.chats.rows[0].typing == ("Ann Lee",)
        await world.put(chat(1, seq=2, rev=2, last_message=message("c-1", 2, "Done typing")))
        await until(lambda: app.chats.rows[0].text == "Done typing")
        assert app.chats.rows[0].typing == ()


async def test_the_banner_waits_for_a_second_and_goes_when_all_is_well() -> None:
    async with opened() as (world, app):
        connection = world.client.connection
        connection.happen(StateChanged("connecting"))
        assert app.link.banner == ""
        await until(lambda: app.link.banner == "connecting")
        connection.happen(StateChanged("offline", ConnectionFailed("no")))
        assert app.link.banner == "offline"
        connection.happen(StateChanged("online"))
        assert app.link.banner == "updating"
        world.client.sync.become("current")
        assert app.link.banner == ""
        assert app.link.online


async def test_an_empty_list_is_empty_only_once_the_server_has_told_so() -> None:
    async with opened() as (world, app):
        assert not app.chats.known
        world.client.connection.happen(StateChanged("online"))
        assert not app.chats.known
        world.client.sync.become("current")
        assert app.chats.known


async def test_people_of_direct_chats_are_watched_after_every_reconnection() -> None:
    async with opened() as (world, app):
        await world.put(chat(1, kind="direct", peer=ANN, title=""))
        await until(lambda: app.chats.rows)
        world.client.connection.state = "online"
        for _ in range(2):
            told = len(world.client.connection.told)
            world.client.connection.happen(Ready("s", ME.id, None, "e"))
            await until(lambda told=told: len(world.client.connection.told) > told)
        assert world.client.connection.told[-1] == ("presence.watch", {"user_ids": [ANN.id]})
        world.client.connection.happen(PresenceChanged(ANN.id, False, None))
        assert app.people.get(ANN.id) == User(id=ANN.id, username="ann", display_name="Ann Lee", online=False)


MINE = f"draft.{ME.id}.c-1"


async def test_in_the_browser_a_draft_outlasts_the_page_and_not_the_session() -> None:
    memory = {f"draft.{ME.id}.c-2": '["of another tab", null]', "draft.somebody.c-3": '["theirs", null]'}
    async with opened(web=True, memory=memory) as (world, app):
        app.set_draft("c-1", "Half a thou", "m-1")
        await until(lambda: MINE in world.memory.values)
        memory = world.memory.values
    async with opened(web=True, memory=memory) as (world, app):
        assert app.drafts == {
            "c-1": Draft("c-1", "Half a thou", "m-1"), "c-2": Draft("c-2", "of another tab")}
        await world.put(chat(1))
        await until(lambda: app.chats.rows and app.chats.rows[0].preview == "draft")
        await app.sign_out()
        await until(lambda: [key for key in world.memory.values if "draft" in key] == ["draft.somebody.c-3"])


async def test_a_draft_that_was_sent_is_gone_from_the_browser_at_once_and_a_huge_one_is_not_kept() -> None:
    async with opened(web=True) as (world, app):
        app.set_draft("c-1", "Half a thou")
        await until(lambda: MINE in world.memory.values)
        app.set_draft("c-1", "")
        await asyncio.sleep(0)
        assert MINE not in world.memory.values
        app.set_draft("c-1", "Half")
        await until(lambda: MINE in world.memory.values)
        app.set_draft("c-1", "x" * 20_001)
        await until(lambda: MINE not in world.memory.values)


async def test_another_tabs_drafts_stay_where_the_same_person_signed_in_anew() -> None:
    async with opened(web=True, memory={MINE: '["of another tab", null]'}) as (world, app):
        app.become(replace(ACCOUNT, session_id="ses-2"))
        await until(lambda: app.session.status == "signed_in")
        assert app.drafts == {"c-1": Draft("c-1", "of another tab")}
        assert MINE in world.memory.values
        app.become(None)
        await until(lambda: MINE not in world.memory.values)


async def test_drafts_are_gone_where_the_session_ended_while_no_page_was_open() -> None:
    async with opened(web=True, signed_in=False, built_in="https://tea.example.org", memory={MINE: '["x", null]'}) as (
        world, app,
    ):
        assert app.session.status == "signed_out"
        await until(lambda: not any(key.startswith("draft.") for key in world.memory.values))


@pytest.mark.parametrize("kept", ["", "{", "[]", "null", '["x"]', "7", '{"a": 1, "b": 2, "c": 3}'])
async def test_drafts_that_cannot_be_read_are_none(kept: str) -> None:
    async with opened(web=True, memory={MINE: kept}) as (_, app):
        assert (app.session.status, app.drafts) == ("signed_in", {})


async def test_signing_out_forgets_everything_of_the_person() -> None:
    async with opened() as (world, app):
        await world.put(chat(1))
        app.set_draft("c-1", "secret")
        await until(lambda: app.chats.rows)
        await app.sign_out()
        assert app.session.status == "signed_out"
        assert app.chats.rows == ()
        assert app.drafts == {}
        assert app.session.ended == ""
        assert "logout" in [name for name, _, _ in world.client.calls]


async def test_a_session_that_the_server_ended_says_why() -> None:
    async with opened() as (world, app):
        world.client.end("session_ended")
        assert app.session.status == "signed_out"
        assert app.session.ended == "session_ended"


async def test_errors_of_what_runs_beside_are_told_in_the_persons_language() -> None:
    async with opened(memory={"language": "hi"}) as (_, app):

        async def fail() -> None:
            raise ApiError("not_allowed", status=403)

        assert await app.attempt(fail()) is None
        assert app.notices.text == app.t("error.not_allowed")
        assert app.t.language == "hi"


async def test_theme_and_language_are_remembered() -> None:
    async with opened() as (world, app):
        await app.set_theme("dark")
        await app.set_language("hi")
        assert world.memory.values["theme"] == "dark"
        assert world.memory.values["language"] == "hi"
    async with opened(memory=world.memory.values) as (_, again):
        assert again.prefs.theme == "dark"
        assert again.prefs.spoken == "hi"


@pytest.mark.parametrize(("width", "panes"), [(400, 1), (839, 1), (840, 2), (1199, 2), (1200, 3), (1280, 3)])
def test_the_width_decides_on_the_panes(width: int, panes: int) -> None:
    layout = Layout()
    layout.resized(width, 800)
    assert layout.panes == panes


async def test_escape_asks_the_newest_first() -> None:
    async with opened() as (_, app):
        asked: list[str] = []

        def first() -> bool:
            asked.append("first")
            return True

        def second() -> bool:
            asked.append("second")
            return False

        app.on_escape(first)
        undo = app.on_escape(second)
        assert app.escape()
        assert asked == ["second", "first"]
        undo()
        asked.clear()
        assert app.escape()
        assert asked == ["first"]


@pytest.mark.parametrize("error", [ConnectionFailed("no"), ApiError("internal", status=500)])
async def test_a_server_that_does_not_answer_keeps_the_typed_address_out_of_memory(error: HyperSendError) -> None:
    async with opened(signed_in=False, connect=error) as (world, app):
        with pytest.raises(type(error)):
            await app.find_server("tea.example.org")
        assert "address" not in world.memory.values


async def test_on_a_device_of_ones_own_sessions_and_cache_are_kept_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERSEND_HOME", str(tmp_path))
    monkeypatch.setattr(KeyringTokenStore, "available", staticmethod(lambda: False))
    page = SimpleNamespace(web=False, platform="linux", url=None)
    app = make_state(page)  # type: ignore[arg-type]
    await app._tokens.put(ACCOUNT)
    assert (tmp_path / "accounts.json").stat().st_mode & 0o777 == 0o600
    assert app.built_in == ""


@pytest.mark.parametrize(("agent", "name"), [
    ("Mozilla/5.0 (Linux; Android 14) AppleWebKit Chrome/120 Safari/537", "Chrome on Android"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17 Safari/604", "Safari on iPhone"),
    ("Mozilla/5.0 (Windows NT 10.0) Chrome/120 Edg/120", "Edge on Windows"),
    ("curl/8", "Browser"),
])  # fmt: skip
def test_a_browser_has_a_name_that_people_know(agent: str, name: str) -> None:
    assert browser(agent) == name
