"""The real server with the web client in front, on a free loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from hypersend_client.web.build import DEFAULT_TARGET, build
from hypersend_server.app import STORES, WEB_SIGN_IN, build_app
from hypersend_server.auth.passwords import Passwords
from hypersend_server.limits import Buckets, NoLimits
from hypersend_server.settings import Settings
from hypersend_server.web_client import WebClient
from tests.harness import Server
from tests.http_session import http_session


class Site(Server):
    """web_client: of this server."""

    web_client: WebClient

    async def stop(self) -> None:
        """As the server does it when it is told to."""
        await self.runner.cleanup()

    runner: web.AppRunner


@asynccontextmanager
async def site(
    data_root: Path, *, web_client: str = "on", port: int = 0, origins: tuple[str, ...] = (),
    limit: Buckets | None = None, **environment: str,
) -> AsyncIterator[Site]:
    if web_client != "off":
        await asyncio.to_thread(build, DEFAULT_TARGET)
    settings = Settings.from_env({
        "DATA_ROOT": str(data_root), "PORT": "0", "REGISTRATION": "open", "SECRET_KEY": "k" * 40, **environment})
    app = await build_app(settings, passwords=Passwords(rounds=4))
    client = WebClient(
        web_client, app_name=settings.app_name, accent_color=settings.accent_color, host=settings.host,
        logo=settings.logo,
        origins=origins, trusted_proxies=settings.trusted_proxies, limit=limit or NoLimits(),
        sign_in=app[WEB_SIGN_IN],
        direct_origins=app[STORES].direct_origins())
    client.add_to(app)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=8)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with http_session() as http:
        server = Site(http, address, app=app, settings=settings)
        server.web_client, server.runner = client, runner
        try:
            yield server
        finally:
            await runner.cleanup()
