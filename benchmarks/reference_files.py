"""Bare handlers without rules: what aiohttp, SHA-256 and the disk allow on this machine.

    python -m benchmarks.reference_files PORT FOLDER

PUT /store/{name}/chunk?index=N   hashes and writes in place: 1 MiB gathered, then SHA-256 and `pwritev` in a thread
                                  while the next is gathered; answers with the digest
PUT /discard                      receives and throws away
GET /file/{name}                  aiohttp's FileResponse

No login, no metadata, no lock, no check of anything, nothing made durable. Memory is handled as HyperSend does.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from hypersend_server.commands.serve import keep_freed_pages
from hypersend_storage.local_slot import in_small_writes

MIB = 1024 * 1024
CHUNK_BYTES = 8 * MIB
READ_BYTES = 256 * 1024  # what aiohttp gathers before it stops reading; HyperSend uses the same


def application(root: Path) -> web.Application:
    pool = ThreadPoolExecutor(8)

    async def store(request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        digest = hashlib.sha256()
        offset = int(request.query["index"]) * CHUNK_BYTES
        descriptor = os.open(root / request.match_info["name"], os.O_RDWR | os.O_CREAT, 0o640)

        def write(parts: list[bytes], at: int) -> None:
            for part in parts:
                digest.update(part)
            for views in in_small_writes(parts):
                at += os.pwritev(descriptor, views, at)

        running: asyncio.Future[None] | None = None
        parts: list[bytes] = []
        gathered = 0
        try:
            async for part in request.content.iter_any():
                parts.append(part)
                gathered += len(part)
                if gathered >= MIB:
                    if running is not None:
                        await running
                    running = loop.run_in_executor(pool, write, parts, offset)
                    offset += gathered
                    parts, gathered = [], 0
            if running is not None:
                await running
            if parts:
                await loop.run_in_executor(pool, write, parts, offset)
        finally:
            os.close(descriptor)
        return web.json_response({"sha256": digest.hexdigest()})

    async def discard(request: web.Request) -> web.Response:
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
        return web.json_response({"size": size})

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(root / request.match_info["name"])

    async def ready(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(handler_args={"read_bufsize": READ_BYTES})
    app.router.add_get("/", ready)
    app.router.add_put("/store/{name}/chunk", store)
    app.router.add_put("/discard", discard)
    app.router.add_get("/file/{name}", file)
    return app


def main() -> None:
    keep_freed_pages()
    web.run_app(application(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
