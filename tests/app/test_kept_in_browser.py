"""What the browser keeps of a session, and what goes with it."""

from __future__ import annotations

import json

from hypersend_client.app.kept_in_browser import SENDING, TYPED, UPLOADS, KeptInBrowser
from hypersend_client.sdk.store import Draft
from tests.app.fakes import FakeMemory


async def test_what_was_typed_last_is_newer_than_the_draft_and_is_kept_as_one() -> None:
    memory = FakeMemory()
    kept = KeptInBrowser(memory)
    await kept.save_draft("ann", Draft("chat", "Half", "m1"))
    await kept.save_draft("ann", Draft("other", "Tea", None))
    memory.values[TYPED] = json.dumps(["chat", "Half a thought"])
    wanted = [Draft("other", "Tea", None), Draft("chat", "Half a thought", "m1")]
    assert await kept.drafts("ann") == wanted
    assert TYPED not in memory.values
    assert sorted(await kept.drafts("ann"), key=lambda draft: draft.text, reverse=True) == wanted


async def test_what_another_program_left_there_is_passed_over() -> None:
    for odd in ("", "[]", "{}", "7", '["chat"]', "no JSON"):
        assert await KeptInBrowser(FakeMemory(**{TYPED: odd, "draft.ann.chat": odd})).drafts("ann") == []


async def test_signing_out_takes_ones_own_and_leaves_what_somebody_else_is_sending() -> None:
    for sender, left in (("ann", set()), ("bob", {SENDING, UPLOADS, "draft.bob.chat"})):
        note = json.dumps([sender, "chat", "Tea"])
        memory = FakeMemory(**{SENDING: note, UPLOADS: "{}", TYPED: "[]", f"draft.{sender}.chat": '["a", null]'})
        await KeptInBrowser(memory).forget("ann")
        assert memory.values.keys() == left


async def test_a_page_that_opens_signed_out_leaves_what_the_upload_page_of_a_link_has_not_finished() -> None:
    memory = FakeMemory(**{SENDING: '["ann", "chat", "Tea"]', UPLOADS: "{}", "draft.ann.chat": '["a", null]'})
    await KeptInBrowser(memory).forget()
    assert memory.values.keys() == {UPLOADS}
