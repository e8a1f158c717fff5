"""What a client, a balancer or an operator asks of the server itself: who it is, whether it is well, its numbers."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from aiohttp import web

from hypersend_server import __version__
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Call, Handler, Route, json_reply
from hypersend_server.metrics import CONTENT_TYPE, Metrics
from hypersend_server.openapi import build_document, render_page
from hypersend_server.resources import Resource
from hypersend_server.settings import LOGO_TYPES, Settings

API_VERSION = 1
MIN_CLIENT = "0.1.0"

Probe = Callable[[], Awaitable[None]]
"""Raises HyperSendError where its part is gone."""


class ServerInfo(Resource):
    server_id: str
    name: str
    version: str
    api_version: int
    min_client: str
    registration: Literal["open", "invite", "closed"]
    max_file_size: int
    features: list[str]
    accent_color: str
    logo_url: str | None


class Alive(Resource):
    status: Literal["ok"]


class Ready(Resource):
    status: Literal["ready", "degraded"]
    degraded: list[Literal["metadata", "storage", "bus"]]


class System:
    """probes: part → how to ask whether it is there. features: what this deployment can do at the moment.
    measure: brings the metrics that are asked for up to date."""

    def __init__(
        self, settings: Settings, server_id: str, features: Callable[[], Sequence[str]], probes: dict[str, Probe],
        metrics: Metrics, measure: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._probes = probes
        self._metrics = metrics
        self._measure = measure
        self.ready = False
        logo = Path(settings.logo) if settings.logo else None
        self._logo = logo.read_bytes() if logo else None
        self._logo_type = LOGO_TYPES.get(logo.suffix.lower(), "application/octet-stream") if logo else ""
        self._features = features
        self._info = ServerInfo(
            server_id=server_id, name=settings.app_name, version=__version__, api_version=API_VERSION,
            min_client=MIN_CLIENT, registration=settings.registration,  # type: ignore[arg-type]
            max_file_size=settings.max_file_size, features=[], accent_color=settings.accent_color,
            logo_url="/api/v1/server/logo" if logo else None)
        self._document = b""
        self._page = ""

    def describe(self, routes: Sequence[Route], websockets: dict[str, object]) -> None:
        """Make the API's document; called once, when every route is known."""
        document = build_document(routes, websockets, name=self._settings.app_name)
        self._document = msgspec.json.encode(document)
        self._page = render_page(document)

    def routes(self) -> list[Route]:
        def get(path: str, handler: Handler, summary: str,
                reply: object, errors: Sequence[str] = ()) -> Route:
            return Route(method="GET", path=path, handler=handler, summary=summary, tag="server", auth="none",
                         replies={200: reply}, errors=errors)

        return [
            get("/api/v1/server", self.info, "What a client needs before it signs in.", ServerInfo),
            get("/api/v1/server/logo", self.logo, "The operator's logo.", "image/*", ("not_found",)),
            get("/api/v1/openapi.json", self.document, "This document.", "application/json"),
            get("/api/v1/docs", self.page, "This document as a page.", "text/html"),
            get("/healthz", self.alive, "Whether the process is alive.", Alive),
            get("/readyz", self.is_ready, "Whether requests should come here, and which part is missing.", Ready,
                ("not_ready",)),
            get("/metrics", self.numbers, "Numbers for Prometheus: from loopback, or with METRICS_TOKEN.",
                "text/plain", ("not_allowed",)),
        ]

    async def info(self, call: Call) -> web.StreamResponse:
        return json_reply(msgspec.structs.replace(self._info, features=sorted(self._features())))

    async def logo(self, call: Call) -> web.StreamResponse:
        if self._logo is None:
            raise HyperSendError("not_found", "This server has no logo.")
        return web.Response(body=self._logo, content_type=self._logo_type,
                            headers={"Cache-Control": "public, max-age=3600"})

    async def document(self, call: Call) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/json")

    async def page(self, call: Call) -> web.StreamResponse:
        return web.Response(text=self._page, content_type="text/html", headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"})

    async def alive(self, call: Call) -> web.StreamResponse:
        return json_reply(Alive(status="ok"))

    async def is_ready(self, call: Call) -> web.StreamResponse:
        if not self.ready:
            raise HyperSendError("not_ready")
        degraded: list[Literal["metadata", "storage", "bus"]] = []
        for part, probe in self._probes.items():
            try:
                await probe()
            except HyperSendError:
                degraded.append(part)  # type: ignore[arg-type]
        return json_reply(Ready(status="degraded" if degraded else "ready", degraded=degraded))

    async def numbers(self, call: Call) -> web.StreamResponse:
        if not self._may_read_numbers(call.request):
            raise HyperSendError("not_allowed", "Ask from the machine itself, or send METRICS_TOKEN as Bearer.")
        await self._measure()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    def _may_read_numbers(self, request: web.Request) -> bool:
        token = self._settings.metrics_token
        sent = request.headers.get("Authorization", "")
        if token and hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()):
            return True
        if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
            return False  # a proxy on this machine speaks for somebody else
        try:
            return ipaddress.ip_address(request.remote or "").is_loopback
        except ValueError:
            return False
