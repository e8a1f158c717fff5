"""Names that are scripts: as text on the upload page, unchanged and never as a page from the API.

The app draws its words with Flutter, on a canvas, and tells a screen reader of them in elements of its own: there, too,
they are text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Dialog, FilePayload

from tests.app.driver import Screen
from tests.harness import PASSWORD, Answer, running
from tests.web.chromium import chromium
from tests.web.site import site
from tests.web.test_upload_page import CHUNKS, Visit, visit

RUNS = "window.__xss=1;alert(1)"
NAMES = [
    f'"><img src=x onerror="{RUNS}">.txt',
    f"<script>{RUNS}</script>.txt",
    f"<svg onload={RUNS}>",
    f"'-({RUNS})-'.html",
    "javascript:window.__xss=1",
    "&lt;b&gt;&amp;.txt",
]
BOLD = '"><b onmouseover=alert(1)>&amp;\'</b>'


@asynccontextmanager
async def watched_visit(tmp_path: Path, fragment: str = "&lang=en", **settings: str) -> AsyncIterator[Visit]:
    """The upload page; fails where anything ran that a name brought."""
    async with visit(tmp_path, fragment=fragment, **settings) as there:
        dialogs: list[str] = []

        async def on_dialog(dialog: Dialog) -> None:
            if dialog.type != "beforeunload":
                dialogs.append(dialog.message)
            await dialog.accept()

        there.page.on("dialog", on_dialog)
        yield there
        await there.page.wait_for_timeout(200)  # what an image's error would set off
        assert await there.page.evaluate("window.__xss") is None
        assert dialogs == []
        assert there.watched.foreign(there.server.url) == []


def payload(name: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": b"tea"}


async def assert_text_only(there: Visit, names: list[str]) -> None:
    """Each row shows its name as it is, and has no element that the page's own row has not."""
    for row, name in enumerate(names):
        shown = there.page.locator("li .name").nth(row)
        assert await shown.text_content() == name
        assert await shown.get_attribute("title") == name
        assert await shown.evaluate("element => element.childElementCount") == 0
        assert name in str(await there.page.locator("li .bar").nth(row).get_attribute("aria-label"))
    assert await there.page.locator("img, script:not([src]), b, li svg[onload], iframe").count() == 0


async def test_names_that_are_scripts_are_text_on_the_upload_page(tmp_path: Path) -> None:
    async with watched_visit(tmp_path) as there:
        await there.page.locator("#files").set_input_files([payload(name) for name in NAMES])
        await there.page.locator("li.done").nth(len(NAMES) - 1).wait_for()
        await assert_text_only(there, NAMES)
        spoken = await there.page.locator("#spoken").inner_text()
        assert await there.page.locator("#spoken > *").count() == 0, spoken
        # The server keeps the name, and gives it back as a name.
        assert {item["name"] for item in await there.stored()} >= {name for name in NAMES if "/" not in name}
        assert there.watched.errors == []


async def test_they_are_text_after_a_reload_and_where_one_is_asked_for_sure(tmp_path: Path) -> None:
    async with watched_visit(tmp_path) as there:
        await there.watched.context.route(CHUNKS, lambda route: route.abort("connectionreset"))
        await there.page.locator("#files").set_input_files([payload(name) for name in NAMES[:2]])
        await there.page.locator("li.offline").first.wait_for()
        await there.page.locator("li .cancel").first.click()
        assert NAMES[0] in str(await there.page.locator("#sure-words").text_content())
        assert await there.page.locator("#sure-words > *").count() == 0
        await there.page.get_by_role("button", name="Keep").click()
        await there.page.reload()  # what was begun comes out of the browser's own store
        await there.page.locator("li.unfinished").first.wait_for()
        begun = [str(name) for name in await there.page.locator("li .name").all_text_contents()]
        assert begun
        assert set(begun) <= set(NAMES)
        await assert_text_only(there, begun)


@pytest.mark.parametrize("title", [NAMES[0], NAMES[1]])
async def test_what_the_address_says_is_text_too(tmp_path: Path, title: str) -> None:
    """The chat's name comes in the link; so do colour, theme and language."""
    odd = quote(title, safe="")
    async with watched_visit(tmp_path, f"&lang={odd}&theme={odd}&accent={odd}&to={odd}") as there:
        await there.page.locator("#choose").wait_for()
        assert title in str(await there.page.locator("#chat").text_content())
        assert await there.page.locator("#chat *").count() == 0
        assert await there.page.locator("img, script:not([src])").count() == 0


async def test_the_upload_pages_policy_stops_what_would_be_markup(tmp_path: Path) -> None:
    """Were a name ever put into the page as markup, the browser would not run it."""
    async with watched_visit(tmp_path) as there:
        answer = await there.server.request("GET", there.server.url + "/upload")
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert (policy["base-uri"], policy["form-action"], policy["frame-ancestors"]) == ("'none'", "'none'", "'self'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        blocked = await there.page.evaluate("""async (markup) => {
            const blocked = [];
            document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
            const place = document.createElement("div");
            document.body.append(place);
            place.innerHTML = markup;
            const script = document.createElement("script");
            script.textContent = "window.__xss = 2";
            place.append(script);
            await new Promise((resolve) => setTimeout(resolve, 300));
            place.remove();
            return blocked;
        }""", NAMES[0])
        assert {"script-src-attr", "script-src-elem"} <= set(blocked)


async def test_hostile_names_come_back_from_the_api_as_they_were(tmp_path: Path) -> None:
    def assert_data(answer: Answer) -> None:
        assert answer.status in (200, 201), answer
        assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    async with running(tmp_path) as server:
        asha = await server.person("asha", display_name=BOLD)
        bina = await server.person("bina")
        live = await bina.socket()
        made = await asha.post("/chats", {"kind": "group", "title": NAMES[0], "member_ids": [bina.id]})
        chat_id = made.json["id"]
        assert (await asha.patch(f"/chats/{chat_id}", {"about": NAMES[1]})).json["about"] == NAMES[1]
        said = await asha.post(f"/chats/{chat_id}/messages", {"client_id": "1", "text": NAMES[1]})
        while (heard := await live.until("message"))["message"]["id"] != said.json["id"]:
            pass
        assert heard["message"]["text"] == NAMES[1]
        assert (await asha.patch("/users/me", {"about": NAMES[1]})).json["about"] == NAMES[1]
        begun = await asha.post("/files/init", {"name": NAMES[0], "size": 3})

        found = {path: await bina.get(path) for path in (
            f"/chats/{chat_id}", f"/chats/{chat_id}/messages", f"/chats/{chat_id}/members", f"/users/{asha.id}",
            f"/search?q={quote('window')}")}
        for answer in (made, said, begun, *found.values()):
            assert_data(answer)
        chat = found[f"/chats/{chat_id}"].json
        assert (chat["title"], chat["about"]) == (NAMES[0], NAMES[1])
        texts = [item["text"] for item in found[f"/chats/{chat_id}/messages"].json["items"]]
        assert NAMES[1] in texts
        person = found[f"/users/{asha.id}"].json
        assert (person["display_name"], person["about"]) == (BOLD, NAMES[1])
        assert begun.json["name"] == NAMES[0]
        again = await server.post("/auth/login", {"email": asha.email, "password": PASSWORD})
        assert again.json["user"]["display_name"] == BOLD
        # An error does not repeat what was sent as anything but data either.
        wrong = await bina.get(f"/chats/{quote(NAMES[1], safe='')}")
        assert (wrong.status, wrong.headers["Content-Type"].partition(";")[0]) == (404, "application/problem+json")
        assert wrong.headers["X-Content-Type-Options"] == "nosniff"


async def test_names_that_are_scripts_are_words_in_the_app_also_for_a_screen_reader(tmp_path: Path) -> None:
    """In the list of chats, in a chat with a file, in its details and in its members."""
    async with site(tmp_path) as server, chromium() as browser:
        ann = await server.person("ann", display_name="Ann")
        eve = await server.person("eve", display_name=BOLD)
        chat_id = (await eve.post("/chats", {"kind": "group", "title": NAMES[0], "member_ids": [ann.id]})).json["id"]
        file = (await eve.post("/files/init", {"name": NAMES[2], "size": 3, "chat_id": chat_id})).json
        await eve.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")
        assert (await eve.post(f"/files/{file['id']}/complete")).status == 201
        for number, body in enumerate(({"file_ids": [file["id"]]}, {"text": NAMES[1]})):
            said = await eve.post(f"/chats/{chat_id}/messages", {"client_id": str(number), **body})
            assert said.status == 201
        dialogs: list[str] = []
        ran: list[str] = []
        screen = await Screen.open(browser, server.url)

        async def on_dialog(dialog: Dialog) -> None:
            dialogs.append(dialog.message)
            await dialog.dismiss()

        screen.page.on("dialog", on_dialog)
        await screen.page.expose_function("told_of_markup", lambda markup: ran.append(markup))
        # Whatever a name would become, should one ever become an element.
        await screen.page.evaluate("""() => {
            const odd = "script:not([src]), img[onerror], [onload], [onmouseover], iframe[srcdoc], a[href^=javascript]";
            const seen = new Set(document.querySelectorAll(odd));
            new MutationObserver(() => {
                for (const one of document.querySelectorAll(odd)) if (!seen.has(one)) told_of_markup(one.outerHTML);
            }).observe(document, {subtree: true, childList: true, attributes: true});
        }""")
        await screen.sign_in("ann")
        await screen.reads(NAMES[0])
        for path, words in ((f"/chat/{chat_id}", NAMES[1]), (f"/chat/{chat_id}", NAMES[2]),
                            (f"/group/{chat_id}", BOLD)):
            await screen.go(path)
            await screen.reads(words)
            assert await screen.page.evaluate("window.__xss") is None
        assert (dialogs, ran) == ([], [])
        assert screen.watched.foreign(server.url) == []
        # The watch is awake: a name that did become markup is told of.
        await screen.page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", NAMES[0])
        async with asyncio.timeout(30):
            while not ran:
                await screen.page.wait_for_timeout(50)
