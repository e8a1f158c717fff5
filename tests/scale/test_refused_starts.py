"""A server that cannot use its Redis or its MongoDB ends with one line: which setting, what was tried, no password."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mongo_server import MongoServer
from tests.process import command
from tests.redis_server import RedisServer

PASSWORD = "a secret word".replace(" ", "-")
KEY = "k" * 40


def serve(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return command(folder / "data", "serve", timeout_s=120, SECRET_KEY=KEY, **settings)


def require_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in ended.stderr.splitlines() if "WARNING" not in line]
    assert ended.returncode == 1, ended
    assert len(lines) == 1, ended.stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert PASSWORD not in ended.stdout + ended.stderr
    assert "is at http" not in ended.stdout  # it did not half start


@pytest.mark.parametrize("said", [PASSWORD, ""])
def test_a_redis_with_another_password_or_any(
    tmp_path: Path, mongo_server: MongoServer, said: str
) -> None:
    redis = RedisServer(tmp_path / "redis", password="the-right-one").start()
    try:
        login = f":{said}@" if said else ""
        ended = serve(tmp_path, MONGODB_URI=mongo_server.fresh_uri(),
                      REDIS_URL=f"redis://{login}127.0.0.1:{redis.port}/0")
        require_one_line(ended, "REDIS_URL", f"127.0.0.1:{redis.port}")
    finally:
        redis.kill()


@pytest.mark.parametrize(
    "url", [f"http://:{PASSWORD}@127.0.0.1/", f"redis://:{PASSWORD}@127.0.0.1:port/0",
            f"redis://:{PASSWORD}@127.0.0.1:6379/first"])
def test_a_redis_address_that_cannot_be_read(tmp_path: Path, mongo_server: MongoServer, url: str) -> None:
    require_one_line(serve(tmp_path, MONGODB_URI=mongo_server.fresh_uri(), REDIS_URL=url), "REDIS_URL")


@pytest.mark.parametrize(
    "uri", [f"mongo://me:{PASSWORD}@127.0.0.1/x", f"mongodb://me:{PASSWORD}@127.0.0.1:port/x",
            f"mongodb://me:{PASSWORD}@127.0.0.1/x?retryWrites=perhaps", "mongodb:///x"])
def test_a_mongodb_address_that_cannot_be_read(tmp_path: Path, uri: str) -> None:
    require_one_line(serve(tmp_path, MONGODB_URI=uri), "MONGODB_URI")
