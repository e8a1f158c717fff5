"""Calls that are done to their end, though whoever made them has left."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hypersend_server.app import PARTS
from hypersend_server.errors import HyperSendError
from hypersend_server.http import MOST_LEFT, Call, Caller, UnderWay, no_content
from tests.harness import running


def call_of(user_id: str) -> Call:
    return Call(make_mocked_request("POST", "/"), _caller=Caller(user_id, "session"))


async def leave_in_the_middle(under_way: UnderWay, error: Exception | None, user_id: str = "a") -> asyncio.Event:
    """Ends with `error`, once the event is set."""
    go_on = asyncio.Event()

    async def work(call: Call) -> web.StreamResponse:
        await go_on.wait()
        if error is not None:
            raise error
        return no_content()

    caller = asyncio.create_task(under_way.to_the_end(work, call_of(user_id)))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    return go_on


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), HyperSendError("not_found"), None])
async def test_what_fails_after_its_caller_left_is_logged_unless_it_was_only_refused(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    under_way = UnderWay()
    (await leave_in_the_middle(under_way, error)).set()
    await under_way.close()
    await asyncio.sleep(0)
    logged = [record.exc_info[1] for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
    assert logged == ([error] if isinstance(error, RuntimeError) else [])


async def test_closing_waits_for_what_is_under_way_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = UnderWay()
    go_on = await leave_in_the_middle(under_way, None)
    closing = asyncio.create_task(under_way.close())
    done, _ = await asyncio.wait([closing], timeout=0.1)
    assert not done
    go_on.set()
    await closing
    monkeypatch.setattr("hypersend_server.http.CLOSE_S", 0.05)
    go_on = await leave_in_the_middle(under_way, None)
    await under_way.close()
    go_on.set()
    await under_way.close()


async def answer(call: Call) -> web.StreamResponse:
    return no_content()


async def test_who_leaves_again_and_again_is_refused_and_others_are_not() -> None:
    under_way = UnderWay()
    going_on = [await leave_in_the_middle(under_way, None) for _ in range(MOST_LEFT)]
    with pytest.raises(HyperSendError, match="busy"):
        await under_way.to_the_end(answer, call_of("a"))
    assert (await under_way.to_the_end(answer, call_of("b"))).status == 204
    for go_on in going_on:
        go_on.set()
    await under_way.close()
    await asyncio.sleep(0)
    assert (await under_way.to_the_end(answer, call_of("a"))).status == 204


async def test_who_stays_is_answered_with_what_it_raises() -> None:
    async def work(call: Call) -> web.StreamResponse:
        raise HyperSendError("not_found")

    with pytest.raises(HyperSendError, match="not_found"):
        await UnderWay().to_the_end(work, call_of("a"))


@pytest.mark.parametrize(("method", "what", "body"), [
    ("POST", "append", {"client_id": "m2", "text": "more tea"}), ("PATCH", "edit", {"text": "no tea"})])
async def test_what_was_written_is_told_though_its_sender_left_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, what: str,
    body: dict[str, str],
) -> None:
    async with running(tmp_path) as server:
        caplog.set_level(logging.INFO)
        alice, bob = await server.person("alice"), await server.person("bob")
        chat_id = (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).json["id"]
        message = (await alice.post(f"/chats/{chat_id}/messages", {"client_id": "m1", "text": "tea"})).json
        chats = server.app[PARTS].metadata.chats
        write, written, go_on = getattr(chats, what), asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Any:
            found = await write(*arguments)
            written.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(chats, what, slow)
        live = await bob.socket()
        path = f"/chats/{chat_id}/messages" + (f"/{message['id']}" if method == "PATCH" else "")
        leaving = asyncio.create_task(alice.request(method, path, body))
        async with asyncio.timeout(10):
            await written.wait()
            leaving.cancel()
            while not any(record.__dict__.get("status") == 499 for record in caplog.records):
                await asyncio.sleep(0.01)
            go_on.set()
        told = await live.until("message" if method == "POST" else "message.changed")
        assert told["message"]["text"] == body["text"]
