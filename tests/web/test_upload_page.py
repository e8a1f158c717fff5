"""The upload page in a real browser, against the real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route

from hypersend_server.errors import HyperSendError
from hypersend_server.files.body import Body
from hypersend_server.files.uploads import Uploads
from tests.harness import Person
from tests.web.chromium import Watched, chromium, watch
from tests.web.relay import relay
from tests.web.site import Site, site

MIB = 1024 * 1024
CHUNKS = re.compile(r"/chunk\?index=\d+")


class Visit:
    def __init__(self, server: Site, alice: Person, watched: Watched, url: str) -> None:
        self.server, self.alice, self.watched, self.url = server, alice, watched, url

    @property
    def page(self) -> Page:
        return self.watched.page

    async def choose(self, *files: Path) -> None:
        await self.page.locator("#files").set_input_files(list(files))

    async def words(self, row: int = 0) -> str:
        return (await self.page.locator("li .words").nth(row).inner_text()).replace("\xa0", " ")

    async def stored(self) -> list[dict[str, object]]:
        items: list[dict[str, object]] = (await self.alice.get("/files?state=complete")).json["items"]
        return items

    async def assert_stored(self, file: Path) -> None:
        (found,) = [item for item in await self.stored() if item["name"] == file.name]
        answer = await self.alice.get(f"/files/{found['id']}/download")
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(file.read_bytes()).digest()


@asynccontextmanager
async def visit(tmp_path: Path, *arguments: str, host: str = "", fragment: str = "&lang=en", **settings: str
                ) -> AsyncIterator[Visit]:
    async with site(tmp_path / "data", web_client="off", **settings) as server, chromium(*arguments) as browser:
        alice = await server.person("alice")
        url = (await alice.post("/files/upload-ticket")).json["url"] + fragment
        if host:
            url = url.replace("127.0.0.1", host)
        visit = Visit(server, alice, await watch(browser), url)
        await visit.page.goto(url)
        yield visit


def make(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        while size > 0:
            file.write(os.urandom(min(size, MIB)))
            size -= MIB
    return path


async def test_300_mb_arrive_as_they_were(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 300 * MIB)
    async with visit(tmp_path) as there:
        await there.choose(file)
        await there.page.locator("li.done").wait_for(timeout=120_000)
        assert await there.words() == "Sent · 315 MB"
        await there.assert_stored(file)
        assert there.watched.foreign(there.server.url) == []
        assert there.watched.errors == []


async def test_a_line_that_died_unheard_is_given_up_in_seconds(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 40 * MIB)
    async with visit(tmp_path) as there, relay(there.server.url) as line:
        await there.page.goto(there.url.replace(there.server.url, line.url))
        line.up_bytes_per_s = 2 * MIB
        await there.choose(file)
        while line.up_bytes < 16 * MIB:  # half of each of four chunks
            await asyncio.sleep(0.05)
        line.forget()
        line.up_bytes_per_s = None
        # Nothing but the page's own patience ends such a request: it was a minute for one that was sent, and a quarter
        # of an hour for a question.
        await there.page.locator("li.done").wait_for(timeout=45_000)
        assert line.up_bytes < 42 * MIB  # what had come was not sent again
        await there.assert_stored(file)


async def test_several_files_go_one_after_the_other_empty_ones_too(tmp_path: Path) -> None:
    files = [make(tmp_path / name, size) for name, size in (
        ("फ़ोटो 2026.jpg", 3 * MIB), ("empty.txt", 0), ("exactly.bin", 16 * MIB), ("no ending", 5))]
    async with visit(tmp_path) as there:
        await there.choose(*files)
        await there.page.locator("li.done").nth(3).wait_for()
        await there.page.locator("#keep", has_text="Everything is sent.").wait_for()
        for file in files:
            await there.assert_stored(file)


async def test_after_a_reload_the_same_file_goes_on_where_it_was(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 40 * MIB)
    async with visit(tmp_path) as there:
        sent: list[str] = []

        async def two_only(route: Route) -> None:
            sent.append(CHUNKS.search(route.request.url)[0])  # type: ignore[index]
            await (route.continue_() if len(sent) <= 2 else route.abort("connectionreset"))

        await there.watched.context.route(CHUNKS, two_only)
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        (upload,) = (await there.alice.get("/files?state=uploading")).json["items"]
        there.page.on("dialog", lambda dialog: dialog.accept())
        await there.page.reload()
        row = there.page.locator("li.unfinished")
        await row.wait_for()
        assert "choose the same file again" in (await there.words()).lower()
        await there.watched.context.unroute(CHUNKS)
        again: list[str] = []
        there.page.on("request", lambda request: again.append(request.url) if CHUNKS.search(request.url) else None)
        await there.choose(file)
        await there.page.locator("li.done").wait_for(timeout=60_000)
        assert await there.page.locator("li").count() == 1
        (stored,) = await there.stored()
        assert stored["id"] == upload["id"]
        assert not set(sent[:2]) & {CHUNKS.search(url)[0] for url in again}  # type: ignore[index]
        await there.assert_stored(file)


async def test_another_file_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 20 * MIB)
    async with visit(tmp_path) as there:
        await there.watched.context.route(CHUNKS, lambda route: route.abort("connectionreset"))
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        there.page.on("dialog", lambda dialog: dialog.accept())
        await there.page.reload()
        await there.watched.context.unroute(CHUNKS)
        make(file, 21 * MIB)
        await there.choose(file)
        await there.page.locator("li.done").wait_for()
        await there.assert_stored(file)
        assert await there.page.locator("li.unfinished").count() == 1


async def test_lost_connections_and_damaged_chunks_are_sent_again(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 40 * MIB)
    async with visit(tmp_path) as there:
        troubles = ["reset", "damaged", "busy", "reset", "restarting"]

        async def troubled(route: Route) -> None:
            trouble = troubles.pop(0) if troubles else ""
            if trouble == "reset":
                await route.abort("connectionreset")
            elif trouble == "restarting":
                await route.fulfill(status=502, body="<html>bad gateway</html>")
            elif trouble == "busy":
                await route.fulfill(status=409, json={"code": "chunk_busy", "retryable": True})
            elif trouble == "damaged":
                headers = {**route.request.headers, "repr-digest": "sha-256=:" + "A" * 43 + "=:"}
                await route.continue_(headers=headers)
            else:
                await route.continue_()

        await there.watched.context.route(CHUNKS, troubled)
        await there.choose(file)
        await there.page.locator("li.done").wait_for(timeout=60_000)
        assert troubles == []
        await there.assert_stored(file)


async def test_a_server_that_loses_parts_each_time_is_told_of(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", MIB)
    async with visit(tmp_path) as there:
        completed = 0

        async def closed(route: Route) -> None:
            await route.fulfill(status=409, json={"code": "upload_closed", "retryable": False})

        async def missing(route: Route) -> None:
            nonlocal completed
            completed += 1
            await route.fulfill(status=409, json={"code": "chunks_missing", "retryable": False, "missing": [[0, 0]]})

        await there.watched.context.route(CHUNKS, closed)
        await there.watched.context.route(re.compile("/complete$"), missing)
        await there.choose(file)
        await there.page.locator("li.failed").wait_for(timeout=60_000)
        assert (await there.words()).startswith("The server keeps losing parts of this file.")
        assert completed == 5


async def test_bodies_that_go_nowhere_are_sent_again_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make(tmp_path / "film.mp4", MIB)
    asked: list[int] = []

    async def taken_for_nothing(
        self: Uploads, uploader: object, file_id: str, index: int, body: Body, claims: object, *, offset: int = 0
    ) -> None:
        asked.append(offset)
        if offset:
            raise HyperSendError("chunk_offset", extra={"have": 0})
        async for _ in body:
            pass
        raise HyperSendError("busy")

    async with visit(tmp_path) as there:
        monkeypatch.setattr(Uploads, "put_chunk", taken_for_nothing)
        await there.choose(file)
        await asyncio.sleep(8)
        assert MIB in asked
        assert 3 <= len(asked) < 12
        monkeypatch.undo()
        await there.page.locator("li.done").wait_for(timeout=60_000)
        await there.assert_stored(file)


async def test_a_cut_chunk_goes_on_by_its_offset(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 8 * MIB)
    async with visit(tmp_path) as there, relay(there.server.url) as line:
        asked: list[str] = []
        there.page.on("request", lambda request: asked.append(request.url) if CHUNKS.search(request.url) else None)
        await there.page.goto(there.url.replace(there.server.url, line.url))
        line.up_bytes_per_s, line.cut_after = 4 * MIB, 4 * MIB
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        assert (await there.words()).startswith("No connection, trying again")
        line.is_down = False
        await there.page.locator("li.done").wait_for()
        assert "offset=" in asked[-1]
        await there.assert_stored(file)


async def test_pausing_keeps_what_has_gone_even_of_a_chunk(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 24 * MIB)
    async with visit(tmp_path) as there, relay(there.server.url) as line:
        asked: list[str] = []
        there.page.on("request", lambda request: asked.append(request.url) if CHUNKS.search(request.url) else None)
        await there.page.goto(there.url.replace(there.server.url, line.url))
        line.up_bytes_per_s = MIB
        before = line.up_bytes
        await there.choose(file)
        async with asyncio.timeout(60):
            while line.up_bytes < before + 3 * MIB:  # more than what buffers on the way may lose
                await asyncio.sleep(0.05)
        await there.page.get_by_role("button", name="Pause film.mp4").click()
        await there.page.locator("li.paused").wait_for()
        assert re.match(r"Paused · \d", await there.words())
        line.up_bytes_per_s = None
        line.cut()  # a kernel with large buffers would bring the rest of the chunks after all
        line.is_down = False
        async with asyncio.timeout(60):
            while not (await there.alice.get("/files?state=uploading")).json["items"][0]["upload"]["partial"]:
                await asyncio.sleep(0.05)
        asked.clear()
        await there.page.get_by_role("button", name="Go on with film.mp4").click()
        await there.page.locator("li.done").wait_for()
        assert any("offset=" in url for url in asked)
        await there.assert_stored(file)


async def test_cancelling_asks_first_and_then_frees_the_space(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 20 * MIB)
    async with visit(tmp_path) as there:
        await there.watched.context.route(CHUNKS, lambda route: route.abort("connectionreset"))
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        await there.page.get_by_role("button", name="Cancel film.mp4").click()
        await there.page.get_by_role("button", name="Keep").click()
        assert await there.page.locator("li").count() == 1
        await there.page.get_by_role("button", name="Cancel film.mp4").click()
        async with there.page.expect_response(lambda answer: answer.request.method == "DELETE"):
            await there.page.get_by_role("button", name="Cancel upload").click()
        assert await there.page.locator("li").count() == 0
        use = (await there.alice.get("/users/me/storage")).json
        assert use["reserved_bytes"] == 0
        await there.page.reload()
        assert await there.page.locator("li").count() == 0


async def test_digests_are_made_without_a_secure_context_too(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 20 * MIB)
    async with visit(
        tmp_path, "--host-resolver-rules=MAP home.test 127.0.0.1", host="home.test"
    ) as there:
        assert await there.page.evaluate("isSecureContext") is False
        asked: list[str | None] = []
        there.page.on("request", lambda request: asked.append(request.headers.get("repr-digest"))
                      if CHUNKS.search(request.url) else None)
        await there.choose(file)
        await there.page.locator("li.done").wait_for(timeout=60_000)
        assert len(asked) == 3
        assert all(asked)
        await there.assert_stored(file)


@pytest.mark.parametrize(("settings", "words"), [
    ({"MAX_FILE_SIZE": "1MB"}, "Too large: this server takes files up to 1 MB."),
    ({"USER_QUOTA": "1MB"}, "Your storage is used up."),
])
async def test_refusals_are_said_in_the_persons_words(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    file = make(tmp_path / "film.mp4", 2 * MIB)
    async with visit(tmp_path, **settings) as there:
        await there.choose(file)
        await there.page.locator("li.failed").wait_for()
        assert (await there.words()).startswith(words)


async def test_signed_out_and_incomplete_links_say_what_to_do(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 2 * MIB)
    async with visit(tmp_path) as there:
        await there.alice.post("/auth/logout")
        await there.choose(file)
        await there.page.locator("li.failed").wait_for()
        assert "This link has expired." in await there.words()
        await there.page.goto("about:blank")
        await there.page.goto(there.url.partition("#")[0])
        assert "not complete" in await there.page.locator("#banner").inner_text()
        assert await there.page.locator("#choose").is_hidden()


async def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    file = make(tmp_path / "film.mp4", 20 * MIB)
    async with visit(tmp_path) as there:
        await there.watched.context.route(CHUNKS, lambda route: route.abort("connectionreset"))
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        await there.page.get_by_role("button", name="Pause film.mp4").click()
        make(file, 20 * MIB)
        os.utime(file, (1, 1))
        await there.watched.context.unroute(CHUNKS)
        await there.page.get_by_role("button", name="Go on with film.mp4").click()
        await there.page.locator("li.failed").wait_for(timeout=60_000)
        assert await there.words() == "The file changed or can’t be read any more. Choose it again."
        assert await there.stored() == []


@pytest.mark.parametrize("fragment", ["&lang=en&theme=light", "&lang=hi&theme=dark&accent=%23F5C542"])
async def test_everything_has_a_name_and_room_for_a_finger(tmp_path: Path, fragment: str) -> None:
    file = make(tmp_path / ("a very long name that goes on " * 6 + ".mp4"), 2 * MIB)
    async with visit(tmp_path, fragment=fragment) as there:
        await there.watched.context.route(CHUNKS, lambda route: route.abort("connectionreset"))
        await there.choose(file)
        await there.page.locator("li.offline").wait_for()
        for button in await there.page.get_by_role("button").all():
            box = await button.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 48
            assert (await button.get_attribute("aria-label")) or (await button.inner_text()).strip()
        bar = there.page.locator("li").get_by_role("progressbar")
        assert file.name in str(await bar.get_attribute("aria-label"))
        assert await there.page.evaluate("document.documentElement.scrollWidth") <= 400
        await there.page.keyboard.press("Tab")
        assert await there.page.evaluate("document.activeElement.tagName") == "BUTTON"


async def test_both_languages_say_everything(tmp_path: Path) -> None:
    async with visit(tmp_path) as there:
        keys = await there.page.evaluate(
            "import('/upload/words.js').then(({ WORDS }) => Object.fromEntries(Object.entries(WORDS).map("
            "([lang, words]) => [lang, Object.entries(words).map(([key, value]) => key + typeof value).sort()])))")
    assert keys["en"] == keys["hi"]
