"""Build the static copy of the web app: `python -m hypersend_client.web.build [TARGET]`.

Flet's web files, without what this app never loads (Pyodide, symbols, source maps, KaTeX), told where its
WebSocket is, with our fallback fonts and icons, and compressed once. `static.json` beside them says what is served:

    {"stamp": "…", "csp_scripts": ["sha256-…"],
     "files": {"index.html": {"etag": "…", "type": "text/html", "encodings": ["br", "gzip"]}}}

A copy of the same versions is left as it is, so calling this again costs a fraction of a second.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import mimetypes
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brotli

HERE = Path(__file__).parent
DEFAULT_TARGET = HERE / "static"
FLET_VERSION = "1.0.5"  # what this trims and patches is the inside of that version
NAME = "@APP_NAME@"  # the server puts its own in
COLOUR = "@ACCENT_COLOR@"
ICON, ICON_TYPE, TOUCH_ICON = "@ICON@", "@ICON_TYPE@", "@TOUCH_ICON@"  # ours, or the server's logo

DROPPED = re.compile(
    r"(pyodide/|python-worker\.js|python\.js|flutter\.js|flutter_service_worker\.js|favicon\.png|icons/|version\.json"
    r"|canvaskit/(experimental_webparagraph/|wimp\.)|.*\.(symbols|map|d\.ts)$"
    r"|assets/packages/(flutter_math_fork|flutter_map|media_kit|record_web|wakelock_plus)/)")
COMPRESSED = {".js", ".mjs", ".wasm", ".json", ".html", ".otf", ".ttf", ".frag", ".bin", ".svg", ""}
MEDIA_TYPES = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json",
    ".html": "text/html", ".woff2": "font/woff2", ".otf": "font/otf", ".ttf": "font/ttf", ".svg": "image/svg+xml",
}
# The screens run far from the browser's clock: the connection tells them where it is.
ZONE = ('<script>document.cookie = "hypersend_zone=" + Intl.DateTimeFormat().resolvedOptions().timeZone'
        ' + "; Path=/; SameSite=Strict"</script>')
LINE = HERE / "line.js"
LOADING = """<div id="loading" role="status" aria-label="@APP_NAME@">
    <style>
      #loading { position: fixed; inset: 0; display: grid; place-items: center; background: #fff; }
      #loading::after { content: ""; width: 40px; height: 40px; border-radius: 50%;
        border: 4px solid color-mix(in srgb, @ACCENT_COLOR@ 20%, transparent); border-top-color: @ACCENT_COLOR@;
        animation: turn 1s linear infinite; }
      @keyframes turn { to { transform: rotate(1turn); } }
      @media (prefers-reduced-motion: reduce) { #loading::after { animation-duration: 8s; } }
      @media (prefers-color-scheme: dark) { #loading { background: #111318; } }
    </style>
  </div>"""


def build(target: Path = DEFAULT_TARGET) -> bool:
    """False where `target` is of these versions already.

    Raises: RuntimeError where the Flet that is installed is another than this knows.
    """
    source = _flet_web()
    stamp = _stamp()
    try:
        if json.loads((target / "static.json").read_text())["stamp"] == stamp:
            return False
    except (OSError, ValueError, KeyError):
        pass
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".static-", dir=target.parent) as folder:
        fresh = Path(folder) / "fresh"
        _copy(source, fresh)
        scripts = _patch(fresh)
        files = _compress(fresh)
        (fresh / "static.json").write_text(
            json.dumps({"stamp": stamp, "csp_scripts": scripts, "files": files}, indent=1, sort_keys=True))
        if target.exists():
            os.replace(target, Path(folder) / "old")
        os.replace(fresh, target)
    return True


def _flet_web() -> Path:
    version = importlib.metadata.version("flet-web")
    spec = importlib.util.find_spec("flet_web")
    if version != FLET_VERSION or spec is None or spec.origin is None:
        raise RuntimeError(f"the web app is built from flet-web {FLET_VERSION}, not {version}")
    return Path(spec.origin).parent / "web"


def _stamp() -> str:
    """Changes with Flet, with the compressor and with every file of ours that goes in."""
    digest = hashlib.sha256(f"{FLET_VERSION} {importlib.metadata.version('brotli')}".encode())
    for path in sorted([HERE / "build.py", LINE, *HERE.glob("fonts/*.woff2"), *HERE.glob("icons/*")]):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _copy(source: Path, fresh: Path) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and not DROPPED.match(name):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, fresh / name)
    shutil.copytree(HERE / "icons", fresh / "icons")
    (fresh / "fonts").mkdir()
    for path in HERE.glob("fonts/*.woff2"):
        shutil.copyfile(path, fresh / "fonts" / path.name)


def _patch(fresh: Path) -> list[str]:
    """Our settings, name and look in the page; what the Content-Security-Policy calls its inline scripts."""
    from flet_web import patch_font_manifest_json, patch_index_html

    index = fresh / "index.html"
    patch_index_html(str(index), base_href="/", websocket_endpoint_path="/ws", no_cdn=True)
    page = index.read_text(encoding="utf-8")
    line = f"<script>\n{LINE.read_text(encoding='utf-8')}</script>"
    for pattern, put in (
        (r"<title>.*?</title>", f"<title>{NAME}</title>"),
        (r'(name="(?:description|apple-mobile-web-app-title)" content=)"[^"]*"', rf'\1"{NAME}"'),
        (r'<link rel="apple-touch-icon"[^>]*>', f'<link rel="apple-touch-icon" href="{TOUCH_ICON}">'),
        (r'<link rel="icon"[^>]*>', f'<link rel="icon" href="{ICON}" type="{ICON_TYPE}">'),
        (r'\s*<script src="python\.js"></script>',
         lambda found: f'\n  <meta name="theme-color" content="{COLOUR}">\n  {ZONE}\n  {line}'),
        (r'<meta content="IE=Edge"[^>]*>',
         '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">'),
        (r'<div id="loading".*?</div>', LOADING),
    ):
        page, found = re.subn(pattern, put, page, flags=re.DOTALL)
        if not found:
            raise RuntimeError(f"Flet's index.html has changed: nothing matches {pattern}")
    index.write_text(page, encoding="utf-8")

    fonts = fresh / "assets" / "FontManifest.json"
    families = [family for family in json.loads(fonts.read_text()) if "flutter_math_fork" not in family["family"]]
    fonts.write_text(json.dumps(families))
    patch_font_manifest_json(str(fonts))

    (fresh / "manifest.json").write_text(json.dumps({
        "name": NAME, "short_name": NAME, "start_url": "/", "display": "standalone", "background_color": "#FFFFFF",
        "theme_color": COLOUR, "icons": [
            {"src": "icons/icon-192.png", "sizes": "192x192", "type": "image/png"},
            {"src": "icons/icon-512.png", "sizes": "512x512", "type": "image/png"},
            {"src": "icons/icon-maskable-512.png", "sizes": "512x512", "type": "image/png", "purpose": "maskable"},
        ]}))
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    return ["sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]


def _compress(fresh: Path) -> dict[str, dict[str, object]]:
    """Write .br and .gz beside what gets smaller by it; name → what the server needs to know of it."""
    def one(path: Path) -> tuple[str, dict[str, object]]:
        data = path.read_bytes()
        encodings = []
        if path.suffix in COMPRESSED:
            # 9, not 11: 1 % larger, twenty times as fast.
            for encoding, suffix, smaller in (
                ("br", ".br", brotli.compress(data, quality=9)), ("gzip", ".gz", gzip.compress(data, 9, mtime=0)),
            ):
                if len(smaller) < len(data) * 0.95:
                    path.with_name(path.name + suffix).write_bytes(smaller)
                    encodings.append(encoding)
        media_type = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return path.relative_to(fresh).as_posix(), {
            "etag": hashlib.sha256(data).hexdigest()[:20], "type": media_type, "encodings": encodings}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(one, [path for path in sorted(fresh.rglob("*")) if path.is_file()]))


def main(argv: list[str]) -> int:
    target = Path(argv[0]).absolute() if argv else DEFAULT_TARGET
    try:
        built = build(target)
    except (RuntimeError, importlib.metadata.PackageNotFoundError) as error:
        sys.stderr.write(f"The web app cannot be built: {error}. Install it with: pip install 'hypersend[client]'\n")
        return 1
    if built:
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        print(f"Built the web app in {target} ({size / 1e6:.0f} MB)")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
