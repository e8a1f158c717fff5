"""The compose file's way of setting MinIO up, on a real MinIO: its root by files, a bucket, a key with least rights."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error

from tests.anywhere.front import free_port
from tests.process import REPOSITORY
from tests.s3_servers import binary

START_S = 60


def prepare(keys: Path) -> None:
    spec = importlib.util.spec_from_file_location("prepare", REPOSITORY / "docker" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_keys(keys)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(host:port, the folder of keys) of a MinIO that was started as docker-compose.yml starts it."""
    keys = tmp_path / "keys"
    keys.mkdir()
    prepare(keys)
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "minio.log").open("wb") as log:
        process = subprocess.Popen(
            [binary("minio"), "server", "--quiet", "--address", address, str(tmp_path / "objects")],
            stdout=log, stderr=log, env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "MINIO_BROWSER": "off", "CI": "true",
                "MINIO_ROOT_USER_FILE": str(keys / "minio_root_user"),
                "MINIO_ROOT_PASSWORD_FILE": str(keys / "minio_root_password"),
                "MINIO_API_CORS_ALLOW_ORIGIN": "https://chat.example.org",
                "MINIO_API_STALE_UPLOADS_EXPIRY": "240h"})
    try:
        yield address, keys
    finally:
        process.terminate()
        process.wait(60)


def set_up(address: str, keys: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "docker" / "objects.py"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "OBJECTS_AT": address, "KEYS": str(keys), "S3_BUCKET": "hypersend"}, check=False)
    assert done.returncode == 0, done.stderr


def test_the_servers_key_may_use_its_bucket_and_nothing_else(store: tuple[str, Path]) -> None:
    address, keys = store
    set_up(address, keys)
    before = {path.name: path.read_text() for path in keys.iterdir()}
    prepare(keys)  # both run at every start
    set_up(address, keys)
    assert {path.name: path.read_text() for path in keys.iterdir()} == before
    assert all(path.stat().st_mode & 0o777 == 0o400 for path in keys.iterdir())

    client = Minio(address, before["s3_access_key"], before["s3_secret_key"], secure=False, region="us-east-1")
    client.put_object("hypersend", "a", io.BytesIO(b"hello"), 5)
    assert [one.object_name for one in client.list_objects("hypersend")] == ["a"]
    client.remove_object("hypersend", "a")
    root = Minio(address, before["minio_root_user"], before["minio_root_password"], secure=False)
    root.make_bucket("other")
    for refused in (
        lambda: client.make_bucket("mine"), lambda: client.remove_bucket("hypersend"),
        lambda: client.put_object("other", "a", io.BytesIO(b"hello"), 5), lambda: list(client.list_objects("other")),
        lambda: client.get_bucket_policy("hypersend"),
    ):
        with pytest.raises(S3Error) as raised:
            refused()
        assert raised.value.code == "AccessDenied"


def test_pages_of_the_site_alone_may_send_parts(store: tuple[str, Path]) -> None:
    address, keys = store
    set_up(address, keys)

    def allowed(origin: str) -> str | None:
        asked = urllib.request.Request(f"http://{address}/hypersend/a", method="OPTIONS", headers={
            "Origin": origin, "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "x-amz-checksum-sha256"})
        until = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    return str(answer.headers["Access-Control-Allow-Origin"] or "") or None
            except urllib.error.HTTPError as error:
                error.close()
                return None
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    assert allowed("https://chat.example.org") == "https://chat.example.org"
    assert allowed("https://evil.example.org") is None
