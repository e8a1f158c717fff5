"""The upload page in a real browser, its bytes straight to MinIO, and through the server where that is not to be."""

from __future__ import annotations

from pathlib import Path

from tests.object_storage.calls import Settings
from tests.s3_servers import S3Server
from tests.web.test_upload_page import MIB, Visit, make, visit

CHUNK = 8 * MIB
WAIT_MS = 120_000


async def assert_stored(there: Visit, file: Path) -> None:
    (found,) = await there.stored()
    assert (found["name"], found["backend"]) == (file.name, "s3")
    answer = await there.alice.get(f"/files/{found['id']}/download?direct=false")
    assert answer.body == file.read_bytes()


async def test_a_browser_sends_its_parts_to_the_store(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    file = make(tmp_path / "film.mp4", 5 * CHUNK + 3)
    async with visit(tmp_path, **s3_settings(minio)) as there:
        sent: list[str] = []
        there.page.context.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
        await there.choose(file)
        await there.page.locator("li.done").wait_for(timeout=WAIT_MS)
        await assert_stored(there, file)
        assert there.watched.errors == []
        assert len([line for line in sent if line.startswith(f"PUT {minio.url}/")]) == 6
        assert not [line for line in sent if "/chunk?" in line]


async def test_where_the_store_does_not_know_the_page_the_bytes_go_through_the_server(
    tmp_path: Path, s3_settings: Settings
) -> None:
    (tmp_path / "minio").mkdir()
    closed = S3Server("minio", tmp_path / "minio", MINIO_API_CORS_ALLOW_ORIGIN="https://elsewhere.example.org").start()
    try:
        file = make(tmp_path / "film.mp4", 5 * CHUNK + 3)
        async with visit(tmp_path, **s3_settings(closed)) as there:
            await there.choose(file)
            await there.page.locator("li.done").wait_for(timeout=WAIT_MS)
            await assert_stored(there, file)
    finally:
        closed.kill()
