"""What runs of chaos have found."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientConnectionResetError, test_utils, web

from hypersend_server.clock import Ids
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metrics import Metrics
from hypersend_server.middleware import build_middleware
from hypersend_server.settings import Settings
from hypersend_storage.base import UploadRef
from tests.files.room import opened


def _app() -> web.Application:
    app = web.Application(middlewares=build_middleware(Settings.from_env({}), Ids(), Metrics()))

    async def gone(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise ClientConnectionResetError("Cannot write to closing transport")

    async def there(request: web.Request) -> web.StreamResponse:
        raise ConnectionRefusedError("of something behind")

    app.router.add_get("/gone", gone)
    app.router.add_get("/there", there)
    return app


async def test_a_client_that_leaves_in_a_handshake_is_no_failure_of_the_server(
        caplog: pytest.LogCaptureFixture) -> None:
    async with test_utils.TestServer(_app()) as server, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(server.make_url("/gone"))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_connection_of_the_server_itself_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        test_utils.TestServer(_app()) as server,
        aiohttp.ClientSession() as http,
        http.get(server.make_url("/there")) as answer,
    ):
        assert answer.status == 500
    assert any(record.levelno >= logging.ERROR for record in caplog.records)


async def test_what_the_store_began_ends_with_an_init_that_fails_after_that(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as room:
        ended: list[str] = []

        async def begun_and_not_recorded(file: FileRecord) -> FileRecord:
            await room.files.set_location(file.id, "a key at the store")
            raise HyperSendError("metadata_unavailable")

        async def abort(upload: UploadRef) -> None:
            ended.append(upload.location)

        monkeypatch.setattr(room.uploads, "open", begun_and_not_recorded)
        monkeypatch.setattr(room.store, "abort", abort)
        assert await room.code_of(room.init(5)) == "metadata_unavailable"
        assert ended == ["a key at the store"]
        assert await room.service.storage_use("alice") == (0, 0, 0)
