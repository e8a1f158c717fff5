"""MinIO as a process of its own, one for all tests that leave it running; each test has a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.s3_servers import S3Server


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server("minio", tmp_path_factory.mktemp("minio")).start()
    yield server
    server.kill()


@pytest.fixture
def own_minio(tmp_path: Path) -> Iterator[S3Server]:
    """One that the test may kill."""
    (tmp_path / "minio").mkdir()
    server = S3Server("minio", tmp_path / "minio").start()
    yield server
    server.kill()


@pytest.fixture
def s3_settings() -> Callable[..., dict[str, str]]:
    def settings(server: S3Server, **others: str) -> dict[str, str]:
        """A server's settings for a new bucket there."""
        return {
            "STORAGE_BACKEND": "s3", "S3_ENDPOINT": server.url, "S3_BUCKET": server.new_bucket(),
            "S3_ACCESS_KEY": server.access_key, "S3_SECRET_KEY": server.secret_key, "S3_REGION": server.region,
            **others}

    return settings
