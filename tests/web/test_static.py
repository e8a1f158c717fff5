"""The app's files as the server gives them out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import brotli
import pytest
from PIL import Image

from hypersend_client.web import build
from tests.web.site import site


async def test_built_copy_holds_what_the_app_loads_and_no_more(tmp_path: Path) -> None:
    async with site(tmp_path):
        files = json.loads((build.DEFAULT_TARGET / "static.json").read_text())["files"]
    assert {"index.html", "main.dart.wasm", "main.dart.js", "canvaskit/skwasm.wasm", "canvaskit/canvaskit.wasm",
            "canvaskit/skwasm_heavy.wasm", "assets/fonts/roboto.woff2", "assets/NOTICES"} <= files.keys()
    assert not [name for name in files if re.search(r"pyodide|\.symbols|\.map$|KaTeX", name)]


async def test_building_again_does_nothing(tmp_path: Path) -> None:
    async with site(tmp_path):
        before = (build.DEFAULT_TARGET / "static.json").stat().st_mtime_ns
        assert build.build(build.DEFAULT_TARGET) is False
        assert (build.DEFAULT_TARGET / "static.json").stat().st_mtime_ns == before


def test_another_flet_is_refused_rather_than_patched_blindly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLET_VERSION", "9.9.9")
    with pytest.raises(RuntimeError, match=r"9\.9\.9"):
        build.build(tmp_path / "static")


async def test_page_carries_the_servers_name_and_its_policy_names_each_script_in_it(tmp_path: Path) -> None:
    async with site(tmp_path, APP_NAME="Tea & <Biscuits>", ACCENT_COLOR="#AA3366") as server:
        answer = await server.request("GET", server.url + "/")
        manifest = await server.request("GET", server.url + "/manifest.json")
    page = answer.body.decode()
    assert "<title>Tea &amp; &lt;Biscuits&gt;</title>" in page
    assert "#AA3366" in page
    assert b"#AA3366" in manifest.body
    assert "@APP_NAME@" not in page + manifest.body.decode()
    policy = answer.headers["Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == 5
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "'unsafe-eval'" not in policy
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_manifest_has_the_name_as_it_is_and_our_icons_where_the_server_has_no_logo(tmp_path: Path) -> None:
    async with site(tmp_path, APP_NAME='Tea & "Biscuits"') as server:
        manifest = json.loads((await server.request("GET", server.url + "/manifest.json")).body)
        icons = [await server.request("GET", f"{server.url}/{icon['src']}") for icon in manifest["icons"]]
        page = (await server.request("GET", server.url + "/")).body.decode()
    assert manifest["name"] == manifest["short_name"] == 'Tea & "Biscuits"'
    assert [icon.status for icon in icons] == [200, 200, 200]
    assert '<link rel="icon" href="icons/icon.svg" type="image/svg+xml">' in page
    assert "@" not in re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)


async def test_servers_logo_is_the_icon_of_the_page_and_of_the_installed_app(tmp_path: Path) -> None:
    logo = tmp_path / "logo.webp"
    Image.new("RGB", (64, 64), "#AA3366").save(logo)
    async with site(tmp_path / "data", LOGO=str(logo)) as server:
        page = (await server.request("GET", server.url + "/")).body.decode()
        manifest = json.loads((await server.request("GET", server.url + "/manifest.json")).body)
        icon = await server.request("GET", server.url + manifest["icons"][0]["src"])
    assert '<link rel="icon" href="/api/v1/server/logo" type="image/webp">' in page
    assert '<link rel="apple-touch-icon" href="/api/v1/server/logo">' in page
    assert len(manifest["icons"]) == 1
    assert (icon.status, icon.headers["Content-Type"], icon.body) == (200, "image/webp", logo.read_bytes())


async def test_files_come_in_the_best_coding_the_browser_takes(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        url = server.url + "/canvaskit/skwasm.js"
        got = {}
        for accepted in ("gzip, deflate, br", "gzip", "identity", "br;q=0, gzip"):
            async with server.http.get(url, headers={"Accept-Encoding": accepted}, auto_decompress=False) as answer:
                got[accepted] = (answer.headers.get("Content-Encoding"), await answer.read(), answer.headers["ETag"])
    plain = got["identity"][1]
    assert got["identity"][0] is None
    assert got["gzip, deflate, br"][0] == "br"
    assert brotli.decompress(got["gzip, deflate, br"][1]) == plain
    assert got["gzip"][0] == got["br;q=0, gzip"][0] == "gzip"
    assert gzip.decompress(got["gzip"][1]) == plain
    assert len({etag for _, _, etag in got.values()}) == 3


async def test_what_the_browser_has_is_not_sent_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        for path in ("/", "/main.dart.wasm", "/upload", "/upload/page.js"):
            first = await server.head(server.url + path)
            again = await server.request(
                "GET", server.url + path, headers={"If-None-Match": first.headers["ETag"]})
            assert first.status == 200
            assert int(first.headers["Content-Length"]) > 0
            assert first.headers["Cache-Control"] == "no-cache"
            assert (again.status, again.body) == (304, b"")


async def test_places_in_the_app_open_the_app_and_missing_files_do_not(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        home = await server.request("GET", server.url + "/")
        place = await server.request("GET", server.url + "/chats/01abc")
        missing = await server.request("GET", server.url + "/assets/nothing.png")
        outside = await server.request("GET", server.url + "/..%2f..%2fbuild.py")
    assert place.body == home.body
    assert (missing.status, missing.code) == (404, "not_found")
    assert outside.status == 404


async def test_the_api_answers_as_it_did_before(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        unknown = await server.get("/nothing")
        wrong_method = await server.get("/auth/login")
        alive = await server.get("/healthz")
    assert (unknown.status, unknown.code) == (404, "not_found")
    assert (wrong_method.status, wrong_method.headers["Allow"]) == (405, "POST")
    assert alive.json == {"status": "ok"}


async def test_every_fallback_font_the_engine_asks_for_is_answered(tmp_path: Path) -> None:
    engine = (build._flet_web() / "main.dart.js").read_text(encoding="utf-8")
    paths = re.findall(r'"(noto[a-z0-9]+/v\d+/[^"]+\.woff2)"', engine)
    assert len(paths) > 500
    async with site(tmp_path) as server:
        sizes = {}
        for path in paths[::7] + [path for path in paths if re.match("notosansdevanagari|notocoloremoji", path)]:
            answer = await server.request("GET", f"{server.url}/assets/fonts/{path}")
            assert (answer.status, answer.body[:4]) == (200, b"wOF2")
            sizes[path.split("/")[0]] = len(answer.body)
    assert sizes["notosansdevanagari"] > 30_000


def test_fonts_stay_small_and_bring_their_licences() -> None:
    fonts = build.HERE / "fonts"
    assert sum(path.stat().st_size for path in fonts.iterdir()) < 3_000_000
    assert "SIL OPEN FONT LICENSE" in (fonts / "LICENSE-Noto.txt").read_text()
    assert "CC-BY-4.0" in (fonts / "LICENSE-Twemoji.txt").read_text()


async def test_off_serves_the_upload_page_and_nothing_of_the_app(tmp_path: Path) -> None:
    async with site(tmp_path, web_client="off") as server:
        home = await server.request("GET", server.url + "/")
        upload = await server.request("GET", server.url + "/upload")
    assert home.status == 404
    assert upload.status == 200
    assert upload.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")


def test_server_imports_nothing_of_the_client() -> None:
    script = (
        "import sys, hypersend_server.web_client as w\n"
        "w.WebClient('off', app_name='x', accent_color='#000000', host='', origins=(), trusted_proxies=(),"
        " limit=w.NoLimits())\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('hypersend_client', 'flet', 'flet_web')])")
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == "[]"
