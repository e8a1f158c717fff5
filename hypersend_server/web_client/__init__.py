"""The web app at the API's own address: its files, its WebSocket, and the upload page.

Nothing of the client is imported: the built files lie in `hypersend_client/web/static`, and the screens run in a
process of their own (WEB_CLIENT=on) or in another container (WEB_CLIENT=https://…). The upload page is there with
any setting, since links to it are made by the API; it is read when somebody first asks for it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import aiohttp
from aiohttp import web

from hypersend_server.errors import HyperSendError
from hypersend_server.limits import Buckets, NoLimits
from hypersend_server.settings import LOGO_TYPES, Network
from hypersend_server.web_client.assets import Asset, Built, Look, read_built, send_asset, small_asset
from hypersend_server.web_client.child import Child
from hypersend_server.web_client.proxy import SocketProxy
from hypersend_server.web_client.sign_in import WebSignIn

CONNECTS_PER_S, CONNECTS_BURST = 0.5, 60  # of one address; a page that lost its socket tries about once a second
ANYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not listened on
# What is ours to answer with a page: everything but the paths that the API has or may get.
PAGE_PATH = r"/{path:(?!(?:api|web|upload)/|(?:healthz|readyz|metrics|ws|upload)$).*}"
LOGO_URL = "/api/v1/server/logo"
UPLOAD_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
                ".txt": "text/plain"}
ZONE_COOKIE = "hypersend_zone"  # set by the page's own script
ZONE_HEADER = "X-HyperSend-Zone"
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_FONT = re.compile(r"assets/fonts/(noto[a-z0-9]+)/v\d+/[\w-]+?(\.\d+)?\.woff2")


class WebClientMissing(Exception):
    """A sentence for the operator."""


class WebClient:
    """setting: off, on, or the URL of the screens. host: what the server listens on.

    direct_origins: of the object store, where browsers send parts straight to it.
    """

    def __init__(
        self, setting: str, *, app_name: str, accent_color: str, host: str, origins: Collection[str],
        trusted_proxies: Sequence[Network], limit: Buckets | NoLimits, sign_in: WebSignIn | None = None,
        direct_origins: Sequence[str] = (), folder: Path | None = None, logo: str = "",
    ) -> None:
        """folder: of `hypersend_client`; found where it is installed otherwise. logo: the path of its file; "": none.

        Raises: WebClientMissing where the setting asks for what is not installed or not built.
        """
        self._folder = folder or _installed()
        self._host = host
        self._sign_in = sign_in
        self._connect_src = " ".join(["'self'", *direct_origins])
        self._built: Built | None = None
        self._child: Child | None = None
        self._proxy: SocketProxy | None = None
        if setting == "off":
            return
        look = Look(app_name, accent_color)
        if logo:
            look = Look(app_name, accent_color, LOGO_URL, LOGO_TYPES[Path(logo).suffix.lower()])
        self._built = self._read_built(look)
        if setting == "on":
            if importlib.util.find_spec("flet_web") is None or self._folder is None:
                raise WebClientMissing("WEB_CLIENT=on needs the web client: pip install 'hypersend[client]'")
            child = self._child = Child(self._folder.parent)
            self._proxy = SocketProxy(
                lambda: aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path=child.socket_path, limit=0),
                    cookie_jar=aiohttp.DummyCookieJar()),
                "http://screens/ws", origins=origins, trusted_proxies=trusted_proxies, limit=limit)
        else:
            self._proxy = SocketProxy(
                lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()),
                f"{setting}/ws", origins=origins, trusted_proxies=trusted_proxies, limit=limit)

    def _read_built(self, look: Look) -> Built:
        if self._folder is None:
            raise WebClientMissing("WEB_CLIENT needs the web client: pip install 'hypersend[client]'")
        try:
            return read_built(self._folder / "web" / "static", look)
        except (OSError, ValueError) as error:
            raise WebClientMissing(
                f"the web app is not built: python -m hypersend_client.web.build ({error})") from None

    @property
    def child(self) -> Child | None:
        return self._child

    def add_to(self, app: web.Application) -> None:
        """Its routes, and what has to be closed with the application."""
        app.router.add_get("/upload", self.upload_page)
        app.router.add_get("/upload/{name}", self.upload_page)
        if self._built is None:
            return
        app.router.add_get("/ws", self.socket, allow_head=False)
        app.router.add_get(PAGE_PATH, self.page)
        app.on_shutdown.append(self._on_shutdown)
        app.on_cleanup.append(self._on_cleanup)

    async def _on_shutdown(self, app: web.Application) -> None:
        assert self._proxy is not None
        await self._proxy.close_sockets()

    async def _on_cleanup(self, app: web.Application) -> None:
        assert self._proxy is not None
        await self._proxy.close()
        if self._child is not None:
            await self._child.close()

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A file of the app, or for what looks like a place in the app, the app."""
        assert self._built is not None
        name = request.match_info["path"]
        if font := _FONT.fullmatch(name):
            # The engine asks for a missing font without end, so it gets one for every family of its list.
            name = f"fonts/{font[1]}{font[2] or ''}.woff2"
            name = name if name in self._built.assets else "fonts/none.woff2"
        asset = self._built.assets.get(name)
        if asset is None and "." not in name.rpartition("/")[2]:
            asset = self._built.assets["index.html"]
        if asset is None:
            raise HyperSendError("not_found", "There is no such path.")
        is_page = asset is self._built.assets["index.html"]
        if is_page:
            self._start_child(request)
        response = await send_asset(request, asset, {"Content-Security-Policy": self._page_policy})
        if is_page and self._sign_in is not None and not response.prepared:
            for cookie in self._sign_in.cookies_of_page(request):
                response.headers.add("Set-Cookie", cookie)
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        assert self._proxy is not None
        self._proxy.require_origin(request)
        self._start_child(request)
        zone = request.cookies.get(ZONE_COOKIE, "")
        told = {ZONE_HEADER: zone} if len(zone) <= 64 and _ZONE.fullmatch(zone) else {}
        if self._sign_in is None:
            return await self._proxy.handle(request, told, [])
        known = await self._sign_in.handshake(request)
        return await self._proxy.handle(request, told | known.told, known.cookies)

    def _start_child(self, request: web.Request) -> None:
        """The screens start when somebody first wants the app: until then they cost no memory."""
        if self._child is not None and request.transport is not None:
            host, port = request.transport.get_extra_info("sockname")[:2]
            if self._host in ANYWHERE:
                host = "127.0.0.1"
            self._child.start(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def upload_page(self, request: web.Request) -> web.StreamResponse:
        asset = self._upload_assets.get(request.match_info.get("name", "index.html"))
        if asset is None:
            raise HyperSendError("not_found", "There is no such path.")
        return await send_asset(request, asset, {"Content-Security-Policy": self._upload_policy})

    @cached_property
    def _upload_assets(self) -> dict[str, Asset]:
        if self._folder is None:
            return {}
        web = self._folder / "web"
        return {path.name: small_asset(path.read_bytes(), UPLOAD_TYPES[path.suffix])
                for path in [*(web / "upload").iterdir(), web / "icons" / "icon.svg"] if path.suffix in UPLOAD_TYPES}

    @cached_property
    def _page_policy(self) -> str:
        assert self._built is not None
        scripts = " ".join(f"'{name}'" for name in self._built.csp_scripts)
        return "; ".join((
            "default-src 'self'", f"script-src 'self' 'wasm-unsafe-eval' {scripts}",
            "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:", "font-src 'self' data:",
            f"connect-src {self._connect_src}", "worker-src 'self' blob:", "frame-src 'self'",
            "frame-ancestors 'self'", "object-src 'none'", "base-uri 'self'", "form-action 'self'"))

    @cached_property
    def _upload_policy(self) -> str:
        return "; ".join((
            "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "img-src 'self'",
            "worker-src 'self'", f"connect-src {self._connect_src}", "frame-ancestors 'self'",
            "base-uri 'none'", "form-action 'none'"))


def _installed() -> Path | None:
    """The folder of `hypersend_client`, found without importing it."""
    spec = importlib.util.find_spec("hypersend_client")
    places = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(places))) if places else None
