"""`serve` with something wrong: it says all that is wrong at once, exits with 1, starts nothing, prints no secret."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hypersend_server.settings import SETTINGS
from tests.process import REPOSITORY, ServerProcess, command, environment

S3 = {"STORAGE_BACKEND": "s3", "S3_ENDPOINT": "http://127.0.0.1:9", "S3_BUCKET": "files", "S3_ACCESS_KEY": "key",
      "S3_SECRET_KEY": "hush"}
# Each setting, wrong in each way that matters. Text that any operator might type takes HOST, S3_… keys and tokens.
WRONG: dict[str, tuple[str, ...]] = {
    "DATA_ROOT": ("",),
    "MONGODB_URI": ("localhost:27017", "http://user:sesame@host"),
    "REDIS_URL": ("localhost", "redis://:sesame@host:port", "http://:sesame@host"),
    "INSTANCE_URL": ("10.0.0.2:8000", "ftp://10.0.0.2"),
    "HOST": (),
    "PORT": ("http", "-1", "65536", "80.5", "８０"),
    "PUBLIC_URL": ("chat.example.org", "ftp://chat.example.org", "https://", "https://a.example/?x=1"),
    "SECRET_KEY": ("sesame", "s" * 31),
    "APP_NAME": ("x" * 61, "bell\x07"),
    "ACCENT_COLOR": ("blue", "#12345", "#1234567"),
    "LOGO": ("/nowhere/logo.png", "/etc/hostname", "/"),
    "REGISTRATION": ("maybe", "OPEN"),
    "MAX_FILE_SIZE": ("big", "-1", "0", "40 GiBB", "9999999999TB"),
    "USER_QUOTA": ("-1", "much"),
    "UPLOAD_TTL": ("a week", "7", "-1d", "99999999999d"),
    "STORAGE_BACKEND": ("tape", "S3"),
    "S3_ENDPOINT": ("minio:9000", "ftp://files.example.org"),
    "S3_PUBLIC_ENDPOINT": ("files.example.org",),
    "S3_BUCKET": ("Not A Bucket", "ab"),
    "S3_ACCESS_KEY": (),
    "S3_SECRET_KEY": (),
    "S3_REGION": (),
    "S3_DIRECT": ("sometimes", "true"),
    "S3_BUFFER_BYTES": ("a lot", "-1"),
    "X_ACCEL_PREFIX": ("files", "/files?x", "/with space"),
    "TRUSTED_PROXIES": ("the proxy", "10.0.0.0/33", "10.0.0.1;10.0.0.2"),
    "ALLOWED_ORIGINS": ("example.org", "https://a.example,b.example"),
    "WEB_CLIENT": ("maybe", "web:8550"),
    "RATE_LIMITS": ("yes", "0"),
    "BACKGROUND_JOBS": ("1", "true"),
    "METRICS_TOKEN": (),
    "LOG_FORMAT": ("xml", "JSON"),
}
CASES = [(name, text) for name, texts in WRONG.items() for text in texts if text]


def test_every_setting_has_a_row_here() -> None:
    missing = {setting.name for setting in SETTINGS} - WRONG.keys()
    assert not missing, f"say how {missing} can be wrong"


@pytest.mark.parametrize(("name", "text"), CASES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(CASES)])
def test_serve_refuses_a_setting_that_is_wrong(tmp_path: Path, name: str, text: str) -> None:
    root = tmp_path / "data"
    done = command(root, "serve", **{"DATA_ROOT": str(root), name: text})
    assert done.returncode == 1
    assert f"hypersend-server: {name} must" in done.stderr
    assert "sesame" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not root.exists(), "something was begun"


def test_all_that_is_wrong_is_said_together(tmp_path: Path) -> None:
    root = tmp_path / "data"
    wrong = {name: texts[0] for name, texts in WRONG.items() if texts and texts[0]}
    done = command(root, "serve", **wrong)
    assert done.returncode == 1
    told = {line.removeprefix("hypersend-server: ").split()[0] for line in done.stderr.splitlines()}
    assert wrong.keys() <= told
    assert "sesame" not in done.stderr
    assert not root.exists()


@pytest.mark.parametrize("missing", sorted(S3.keys() - {"STORAGE_BACKEND"}))
def test_object_storage_that_lacks_a_setting_is_refused(tmp_path: Path, missing: str) -> None:
    done = command(tmp_path / "data", "serve", **{**S3, missing: ""})
    assert done.returncode == 1
    assert f"{missing} must be set" in done.stderr
    assert "hush" not in done.stderr


def test_mongodb_without_a_key_of_its_own_is_refused(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "serve", MONGODB_URI="mongodb://u:sesame@127.0.0.1:9/x", PORT="many")
    assert done.returncode == 1
    assert "SECRET_KEY must be set where MONGODB_URI is" in done.stderr
    assert "PORT must" in done.stderr
    assert "sesame" not in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(tmp_path / "data", "serve", PORT=str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "HyperSend is at" not in done.stdout


def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0o555)
    root.chmod(0o555)
    arguments = [sys.executable, "-m", "hypersend_server", "serve"]
    if os.geteuid() == 0:  # whom modes do not stop: give the right to write anywhere away
        arguments = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *arguments]
    done = subprocess.run(arguments, cwd=REPOSITORY, env=environment(root), capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert str(root) in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("key", [b"", b"\n", b"short\n", b"\xff\xfe" * 32, bytes(65), b"a" * 64])
def test_a_kept_key_that_would_sign_nothing_is_refused(tmp_path: Path, key: bytes) -> None:
    root = tmp_path / "data"
    with ServerProcess(root):
        pass
    good = (root / "secret.key").read_bytes()
    (root / "secret.key").write_bytes(key)
    done = command(root, "serve")
    assert done.returncode == 1
    assert "secret.key holds no key of at least 32 bytes" in done.stderr
    assert "Traceback" not in done.stderr
    (root / "secret.key").write_bytes(good)
    with ServerProcess(root):
        pass


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root):
        pass
    with (root / "hypersend.sqlite3").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(40_000))
    done = command(root, "serve")
    assert done.returncode == 1
    assert "The server's database is damaged." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root):
        pass
    database = root / "hypersend.sqlite3"
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("PRAGMA user_version = 999")
    done = command(root, "serve")
    assert done.returncode == 1
    assert "schema version 999" in done.stderr
    assert "Traceback" not in done.stderr
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (999,)


def test_a_second_server_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data"):
        done = command(tmp_path / "data", "serve")
    assert done.returncode == 1
    assert "another server" in done.stderr
