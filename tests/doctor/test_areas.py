"""Certificate, disk, database, secrets, object storage, Redis: each wrong in turn, found, and mended where that is
safe."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin
from motor.motor_asyncio import AsyncIOMotorClient

from hypersend_server.doctor import machine, objects
from hypersend_server.doctor.disk import file_system
from hypersend_server.doctor.findings import Area
from hypersend_server.keys import server_process
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_storage.s3_api import S3Api
from tests.doctor.front import diagnose, free_port, nginx
from tests.mongo_server import MongoServer
from tests.parts import program
from tests.process import ServerProcess, command
from tests.redis_server import RedisServer
from tests.s3_servers import S3Server

KEY = {"SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz"}


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Of a server that was started once and does not run."""
    root = tmp_path / "data"
    with ServerProcess(root):
        return root


def make_certificate(folder: Path, name: str, days: int) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName={name}", "-out", str(chain), "-keyout",
         str(key)], check=True, capture_output=True)
    return chain, key


@pytest.mark.parametrize(("name", "days", "level", "words"), [
    ("IP:127.0.0.1", 90, "ok", "good for"),
    ("IP:127.0.0.1", 5, "warn", "ends in"),
    ("DNS:other.example.org", 90, "problem", "not accepted"),
])
def test_a_certificate_that_ends_soon_or_does_not_match_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, level: str, words: str
) -> None:
    certificate = make_certificate(tmp_path, name, days)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    settings = {**KEY, "ALLOWED_ORIGINS": url, "X_ACCEL_PREFIX": "/_files/"}
    with (ServerProcess(tmp_path / "data", **settings) as server,
          nginx(tmp_path, server, port=port, certificate=certificate)):
        found = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=url, SSL_CERT_FILE=str(certificate[0]),
                         REGISTRATION="invite", **settings)
    assert words in found.of("tls", level)[0]["what"]
    # What else there is to see is seen all the same.
    assert found.of("uploads", "problem") == [] or level != "ok"
    assert ("tls" in found.problems()) == (level == "problem")


def test_an_address_without_tls_is_told_from_one_that_is_silent(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", **KEY) as server:
        found = diagnose(server.data_root, PUBLIC_URL=server.url.replace("http", "https"), **KEY)
    assert "speaks no TLS" in found.of("tls", "problem")[0]["what"]


def test_a_key_that_others_may_read_is_found_and_fix_closes_it(data_root: Path) -> None:
    (data_root / "secret.key").chmod(0o644)
    data_root.chmod(0o755)
    found = diagnose(data_root)
    assert "secret.key" in found.of("disk", "problem")[0]["what"]
    assert f"chmod go-rwx {data_root}/secret.key" in found.of("disk", "problem")[0]["fix"]
    assert (data_root / "secret.key").stat().st_mode & 0o777 == 0o644, "without --fix nothing is changed"
    mended = diagnose(data_root, "--fix")
    assert [entry for entry in mended.of("disk") if entry["is_mended"]]
    assert (data_root / "secret.key").stat().st_mode & 0o777 == 0o600
    assert data_root.stat().st_mode & 0o007 == 0
    assert mended.of("disk", "problem") == []


def test_a_missing_index_is_found_and_fix_makes_it_again(data_root: Path) -> None:
    database = data_root / "hypersend.sqlite3"
    with closing(sqlite3.connect(database)) as opened:
        name = opened.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchone()[0]
        opened.execute(f"DROP INDEX {name}")
    found = diagnose(data_root)
    assert name in found.of("database", "problem")[0]["what"]
    assert "CREATE" in found.of("database", "problem")[0]["fix"]
    assert [entry["what"] for entry in diagnose(data_root, "--fix").of("database") if entry["is_mended"]]
    assert diagnose(data_root).of("database", "problem") == []


def test_a_newer_and_a_damaged_database_are_named_and_left_alone(data_root: Path) -> None:
    database = data_root / "hypersend.sqlite3"
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("PRAGMA user_version = 999")
    found = diagnose(data_root, "--fix")
    assert "999" in found.of("database", "problem")[0]["what"]
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (999,)
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 4))
    found = diagnose(data_root)
    assert "restore" in found.of("database", "problem")[-1]["fix"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = diagnose(tmp_path / "nowhere")
    assert "not there" in found.of("disk", "problem")[0]["what"]
    assert not (tmp_path / "nowhere").exists()


def test_a_secret_that_can_be_guessed_is_found_and_not_shown(tmp_path: Path) -> None:
    weak = "change-me-" * 5
    done = command(tmp_path, "doctor", SECRET_KEY=weak, METRICS_TOKEN="watchword")
    assert done.returncode == 1
    assert "SECRET_KEY can be guessed" in done.stdout
    assert "openssl rand -hex 32" in done.stdout
    assert weak not in done.stdout + done.stderr
    assert "watchword" not in done.stdout + done.stderr


def test_a_kept_key_that_would_sign_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("short\n")
    found = diagnose(tmp_path)
    assert "holds no key" in found.of("secrets", "problem")[0]["what"]
    assert "backup" in found.of("secrets", "problem")[0]["fix"]


def test_a_full_disk_is_a_problem(small_disk: Path) -> None:
    found = diagnose(small_disk)
    assert "are free" in found.of("disk", "problem")[0]["what"]
    assert "gc --delete" in found.of("disk", "problem")[0]["fix"]


def test_the_file_system_of_a_folder_is_the_one_mounted_nearest() -> None:
    mounts = ("21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
              "30 21 0:40 / /srv/with\\040space rw - nfs4 host:/x rw\n"
              "31 30 0:41 / /srv/with\\040space/in rw - xfs /dev/sdb rw\n")
    assert file_system(Path("/srv/other"), mounts) == "ext4"
    assert file_system(Path("/srv/with space/data"), mounts) == "nfs4"
    assert file_system(Path("/srv/with space/in/data"), mounts) == "xfs"
    assert file_system(Path("/x"), "nonsense\n") == ""


def test_the_limits_of_the_server_that_runs_are_those_that_count(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root) as server:
        assert server_process(root) == server.pid
        area = Area("machine")
        machine.check(area, server.pid)
        assert any("files may be open" in found.what or "may open" in found.what for found in area.findings)
    assert server_process(root) is None


async def test_object_storage_is_tried_call_by_call(minio: S3Server, tmp_path: Path) -> None:
    settings = {**KEY, "STORAGE_BACKEND": "s3", "S3_ENDPOINT": minio.url, "S3_BUCKET": minio.new_bucket(),
                "S3_ACCESS_KEY": minio.access_key, "S3_SECRET_KEY": minio.secret_key, "S3_REGION": minio.region}
    good = await asyncio.to_thread(lambda: diagnose(tmp_path, **settings))
    assert good.of("object storage", "problem") == [], good.findings
    assert any("abort an upload" in found["what"] for found in good.of("object storage", "ok"))
    assert any("signed parts" in found["what"] for found in good.of("object storage", "ok"))
    assert list(minio.client().list_objects(settings["S3_BUCKET"], recursive=True)) == []
    for name, value in (("S3_BUCKET", "not-there"), ("S3_SECRET_KEY", "wrong"), ("S3_ACCESS_KEY", "nobody")):
        done = await asyncio.to_thread(lambda wrong: diagnose(tmp_path, **wrong), {**settings, name: value})
        (problem, *_) = done.of("object storage", "problem")
        assert name in problem["what"]
        assert minio.secret_key not in str(done.findings)
    gone = await asyncio.to_thread(lambda: diagnose(tmp_path, **{**settings, "S3_ENDPOINT": "http://127.0.0.1:9"}))
    assert "cannot be reached" in gone.of("object storage", "problem")[0]["what"]


def test_redis_is_heard_or_named(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, password="open sesame").start()
    try:
        well = diagnose(tmp_path, REDIS_URL=f"redis://:open%20sesame@127.0.0.1:{redis.port}/0")
        assert "passes a message on" in well.of("redis")[0]["what"]
        wrong = diagnose(tmp_path, REDIS_URL=f"redis://:guessed@127.0.0.1:{redis.port}/0")
        assert wrong.of("redis")[0]["level"] == "problem"
        assert "guessed" not in str(wrong.findings)
    finally:
        redis.kill()


async def test_mongodb_is_examined_and_a_missing_index_is_made_again(
    mongo_server: MongoServer, tmp_path: Path
) -> None:
    uri = mongo_server.fresh_uri()
    settings = {**KEY, "MONGODB_URI": uri}
    metadata = MongoMetadata(uri)
    await metadata.open()
    await metadata.server.identity()
    await metadata.close()
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(uri)
    await client.get_default_database()["files"].drop_index("backend_location")
    client.close()
    found = await asyncio.to_thread(lambda: diagnose(tmp_path, **settings))
    assert any("files.backend_location" in entry["what"] for entry in found.of("database", "problem")), found.findings
    mended = await asyncio.to_thread(lambda: diagnose(tmp_path, "--fix", **settings))
    assert any("backend_location" in entry["what"] for entry in mended.of("database") if entry["is_mended"])
    again = await asyncio.to_thread(lambda: diagnose(tmp_path, **settings))
    assert again.of("database", "problem") == []


def test_a_mongodb_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    uri = "mongodb://hyper:sesame@127.0.0.1:9/hypersend?serverSelectionTimeoutMS=500"
    found = diagnose(tmp_path, **KEY, MONGODB_URI=uri)
    assert found.of("database", "problem")
    assert "sesame" not in str(found.findings)


RIGHTS = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
          "s3:ListBucket", "s3:ListBucketMultipartUploads"]


@pytest.mark.parametrize("missing", RIGHTS)
async def test_a_key_without_a_right_is_named_by_that_right(minio: S3Server, tmp_path: Path, missing: str) -> None:
    bucket = minio.new_bucket()
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": [right for right in RIGHTS if right != missing],
         "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]}
    admin = MinioAdmin(endpoint=f"127.0.0.1:{minio.port}", region=minio.region, secure=False,
                       credentials=StaticProvider(minio.access_key, minio.secret_key))
    made = json.loads(admin.add_service_account(policy=policy, name="test", description="test"))["credentials"]
    settings = {**KEY, "STORAGE_BACKEND": "s3", "S3_ENDPOINT": minio.url, "S3_BUCKET": bucket,
                "S3_ACCESS_KEY": made["accessKey"], "S3_SECRET_KEY": made["secretKey"], "S3_REGION": minio.region}
    found = await asyncio.to_thread(lambda: diagnose(tmp_path, **settings))
    (problem,) = found.of("object storage", "problem")
    assert missing in problem["what"]
    assert missing in problem["fix"]
    assert made["secretKey"] not in str(found.findings)


def test_what_earlier_checks_left_in_the_bucket_is_removed_by_fix(
    minio: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = minio.new_bucket()
    minio.client().put_object(bucket, "probe/old", io.BytesIO(b"x"), 1)
    minio.client().put_object(bucket, "files/a/b", io.BytesIO(b"x"), 1)
    api = S3Api(endpoint=minio.url, bucket=bucket, access_key=minio.access_key, secret_key=minio.secret_key,
                region=minio.region, connections=2, clock=time.time)
    monkeypatch.setattr(objects, "STALE_S", -60.0)
    for fix, level, left in ((False, "warn", {"probe/old", "files/a/b"}), (True, "ok", {"files/a/b"})):
        area = Area("object storage")
        objects._check_leftovers(api, area, fix=fix)
        assert area.findings[0].level == level
        assert {item.object_name for item in minio.client().list_objects(bucket, recursive=True)} == left
    api.close()


def test_nothing_is_said_of_a_clock_that_agrees_and_much_of_one_that_does_not(
    minio: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = Area("object storage")
    objects._check_clock(minio.url, area)
    assert area.findings[0].level == "ok"
    now = time.time()
    monkeypatch.setattr(objects.time, "time", lambda: now + 3600)
    area = Area("object storage")
    objects._check_clock(minio.url, area)
    assert area.findings[0].level == "problem"
    assert "clock" in area.findings[0].what
