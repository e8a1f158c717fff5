"""Files for browsers: compressed once, known by ETag, asked for again at every load (their names carry no hash)."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from hypersend_server.files.sending import open_file, send_file

# Every page that Flet's page shows in a frame must carry these too, for it asks for cross-origin isolation.
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SUFFIXES = {"br": ".br", "gzip": ".gz"}  # best first


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. bodies: content coding ('' for none) → its bytes, or where they are on disk."""

    media_type: str
    etag: str
    bodies: Mapping[str, bytes | Path]


def small_asset(data: bytes, media_type: str) -> Asset:
    """Kept in memory, and compressed there."""
    return Asset(media_type, hashlib.sha256(data).hexdigest()[:20],
                 {"gzip": gzip.compress(data, mtime=0), "": data})


class _File(msgspec.Struct):
    etag: str
    type: str
    encodings: list[str]


class _Static(msgspec.Struct):
    stamp: str
    csp_scripts: list[str]
    files: dict[str, _File]


@dataclass(frozen=True, slots=True)
class Built:
    """A static copy: its files by name, and what the policy calls the scripts inside its page."""

    assets: dict[str, Asset]
    csp_scripts: list[str]


@dataclass(frozen=True, slots=True)
class Look:
    """What makes the page this server's own. accent: `#2F6BED`. logo: its URL; "" where there is none."""

    name: str
    accent: str
    logo: str = ""
    logo_type: str = ""


def read_built(folder: Path, look: Look) -> Built:
    """What `hypersend_client.web.build` left in `folder`, the page and its manifest dressed by `look`.

    Raises: OSError, ValueError (msgspec's own errors among them).
    """
    static = msgspec.json.decode((folder / "static.json").read_bytes(), type=_Static)
    assets = {}
    for name, file in static.files.items():
        path = folder / name
        bodies: dict[str, bytes | Path] = {
            coding: path.with_name(path.name + SUFFIXES[coding]) for coding in file.encodings}
        assets[name] = Asset(file.type, file.etag, {**bodies, "": path})
    page = (folder / "index.html").read_text(encoding="utf-8")
    for word, replacement in (
        ("@APP_NAME@", look.name), ("@ACCENT_COLOR@", look.accent), ("@ICON@", look.logo or "icons/icon.svg"),
        ("@ICON_TYPE@", look.logo_type or "image/svg+xml"), ("@TOUCH_ICON@", look.logo or "icons/icon-192.png"),
    ):
        page = page.replace(word, html.escape(replacement))
    assets["index.html"] = small_asset(page.encode(), static.files["index.html"].type)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=dict[str, object])
    manifest |= {"name": look.name, "short_name": look.name, "theme_color": look.accent}
    if look.logo:
        manifest["icons"] = [{"src": look.logo, "sizes": "any", "type": look.logo_type}]
    assets["manifest.json"] = small_asset(msgspec.json.encode(manifest), static.files["manifest.json"].type)
    return Built(assets, static.csp_scripts)


async def send_asset(request: web.Request, asset: Asset, headers: Mapping[str, str]) -> web.StreamResponse:
    """200 in the best coding that the browser takes, or 304."""
    coding = _best_coding(request.headers.get("Accept-Encoding", ""), asset.bodies)
    whole = {
        **headers, **ISOLATION, "ETag": f'"{asset.etag}{coding and "-" + coding}"', "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding"}
    if asset.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=whole)
    if coding:
        whole["Content-Encoding"] = coding
    text = asset.media_type.startswith("text/") or asset.media_type == "application/json"
    whole["Content-Type"] = asset.media_type + ("; charset=utf-8" if text else "")
    body = asset.bodies[coding]
    if isinstance(body, bytes):
        return web.Response(body=body, headers=whole)
    if request.method == "HEAD":
        size = (await asyncio.to_thread(body.stat)).st_size
        return web.Response(headers={**whole, "Content-Length": str(size)})
    file = await open_file(body)
    size = (await asyncio.to_thread(body.stat)).st_size
    return await send_file(request, web.StreamResponse(headers=whole), file, 0, size)


def _best_coding(accepted: str, bodies: Mapping[str, object]) -> str:
    names = set()
    for part in accepted.split(","):
        name, _, quality = part.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0"):
            names.add(name.strip().lower())
    return next((coding for coding in bodies if coding in names), "")
