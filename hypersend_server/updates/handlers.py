"""The calls about updates. Who asks need not be signed in: an app that is too old to sign in must get the new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hypersend_server.http import Call, Route, json_reply
from hypersend_server.updates.service import UpdateService
from hypersend_server.updates.types import BuildQuery, Checked, CheckQuery, LatestQuery, Release, ReleaseBody

SendFile = Callable[[web.Request, str, str], Awaitable[web.StreamResponse]]
"""(request, file id, name) → the bytes or a range of them. Raises: `not_found`, `range_not_satisfiable`, …"""

BASE = "/api/v1/updates"


def routes(
    service: UpdateService, send_file: SendFile, identity_of: Callable[[web.Request], Awaitable[str]], app_name: str
) -> list[Route]:
    """identity_of: what stands for who asks, in a release that only a share of people gets."""

    async def check(call: Call) -> web.StreamResponse:
        return json_reply(await service.check(call.query, await identity_of(call.request)))

    async def latest(call: Call) -> web.StreamResponse:
        return json_reply(await service.latest(call.query))

    async def find(call: Call) -> web.StreamResponse:
        return json_reply(service.present(await service.find(call.path("version"), call.query)))

    async def download(call: Call) -> web.StreamResponse:
        release = await service.find(call.path("version"), call.query)
        suffix = {"android": "apk", "windows": "msix", "macos": "dmg", "linux": "tar.gz"}[release.platform]
        name = f"{app_name}-{release.version}-{release.abi}.{suffix}"
        return await send_file(call.request, release.file_id, name)

    async def publish(call: Call) -> web.StreamResponse:
        return json_reply(await service.publish(call.caller.user_id, call.body), 201)

    common: dict[str, Any] = {"tag": "updates"}
    return [
        Route(method="GET", path=f"{BASE}/check", handler=check, query=CheckQuery, auth="none", replies={200: Checked},
              summary="Whether there is something newer for this device.", **common),
        Route(method="GET", path=f"{BASE}/latest", handler=latest, query=LatestQuery, auth="none",
              replies={200: Release}, errors=("not_found",), summary="The newest for a platform.", **common),
        Route(method="GET", path=f"{BASE}/{{version}}", handler=find, query=BuildQuery, auth="none",
              replies={200: Release}, errors=("not_found",), summary="One version.", **common),
        Route(method="GET", path=f"{BASE}/{{version}}/download", handler=download, query=BuildQuery, auth="none",
              replies={200: "*/*", 206: "*/*", 304: None, 307: None},
              errors=("not_found", "range_not_satisfiable", "storage_unavailable"),
              headers={"Range": "bytes=FIRST-LAST.", "If-Range": "The ETag that the range belongs to."},
              summary="Its bytes, whole or a range; also HEAD.", **common),
        Route(method="POST", path=f"{BASE}/release", handler=publish, body=ReleaseBody, auth="admin",
              replies={201: Release}, errors=("not_found", "upload_incomplete", "release_exists"),
              summary="Publish a file that was uploaded.", **common),
    ]
