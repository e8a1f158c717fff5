"""The application for `make dev`: aiohttp-devtools starts it anew at every change of the code."""

from __future__ import annotations

import os

from aiohttp import web

from hypersend_server.app import build_app
from hypersend_server.settings import Settings


async def dev_app() -> web.Application:
    return await build_app(Settings.from_env({"REGISTRATION": "open", **os.environ}))
