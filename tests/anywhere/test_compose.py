"""docker compose up, from the project's own files, on a real Docker Engine; images from elsewhere are stand-ins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypersend_server.settings import TEMPLATE_SECRET
from tests.anywhere.engine import Engine, Stack, compose_program
from tests.anywhere.two_people import FINAL
from tests.process import REPOSITORY

KEY = "k" * 40
PROFILES = ("lite", "standard", "lite,s3", "standard,s3", "standard,scale", "standard,s3,scale,letsencrypt")


def config(tmp_path: Path, profiles: str) -> dict[str, dict[str, object]]:
    """The services that these profiles start, as Compose itself reads the file."""
    for name in ("docker-compose.yml", "nginx", "docker"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    text = (REPOSITORY / "config" / "example.env").read_text()
    (tmp_path / ".env").write_text(text.replace("COMPOSE_PROFILES=standard", f"COMPOSE_PROFILES={profiles}"))
    done = subprocess.run([compose_program(), "config", "--format", "json"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    services: dict[str, dict[str, object]] = json.loads(done.stdout)["services"]
    return services


@pytest.mark.parametrize("profiles", PROFILES)
def test_profiles_choose_services_and_all_are_contained(profiles: str, tmp_path: Path) -> None:
    services = config(tmp_path, profiles)
    wanted = {"prepare", "nginx"}
    chosen = profiles.split(",")
    wanted |= {"server-lite"} if "lite" in chosen else {"server", "web", "mongo"}
    wanted |= {"minio", "objects"} if "s3" in chosen else set()
    wanted |= {"server-2", "redis"} if "scale" in chosen else set()
    wanted |= {"letsencrypt"} if "letsencrypt" in chosen else set()
    assert set(services) == wanted
    for name, service in services.items():
        assert service["profiles"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert not service.get("privileged"), name
        image = str(service["image"])
        assert image.startswith("hypersend-") or not image.endswith((":latest", image.split(":")[0])), name
        if name != "nginx":
            assert "ports" not in service, name


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    compose_program()
    folder = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
    shutil.rmtree(folder)
    engine = Engine(folder).start()
    try:
        engine.stand_in("python:3.13.7-slim-bookworm", "nginx:1.28.0-alpine")
        engine.build("server")
        yield engine
    finally:
        engine.stop()


def test_lite_comes_up_and_two_people_exchange_a_file_through_a_stand_in_for_nginxs_image(
    engine: Engine, tmp_path: Path
) -> None:
    stack = Stack(engine, tmp_path / "stack", {
        "COMPOSE_PROFILES": "lite", "SECRET_KEY": KEY, "REGISTRATION": "open"}, {})
    try:
        stack.up()
        met = stack.inside(sys.executable, "-m", "tests.anywhere.two_people", "http://127.0.0.1:8080")
        assert FINAL in met.stdout, met.stdout + met.stderr + stack.logs()
        page = stack.inside("curl", "-fsS", "http://127.0.0.1:8080/")
        assert "<title>HyperSend</title>" in page.stdout

        facts = json.loads(engine.docker("inspect", stack.container("server-lite")).stdout)[0]
        assert facts["Config"]["User"] == "10001:10001"
        assert facts["HostConfig"]["ReadonlyRootfs"] is True
        assert facts["HostConfig"]["Memory"] == 512 * 2**20
        assert facts["HostConfig"]["CapDrop"] == ["ALL"]

        # Everything is still there after a stop that takes less than the grace.
        stack.compose("stop", "--timeout", "10")
        stopped = json.loads(engine.docker("inspect", stack.container("server-lite")).stdout)[0]["State"]
        assert stopped["ExitCode"] == 0
        stack.up()
        users = engine.docker("exec", stack.container("server-lite"), "hypersend-server", "user", "list")
        assert "asha" in users.stdout
    finally:
        stack.down()


def test_standard_comes_up_with_stand_ins_for_mongodb_and_nginx(engine: Engine, tmp_path: Path) -> None:
    engine.build("web")
    engine.mongo_stand_in("mongo:8.0.13")
    stack = Stack(engine, tmp_path / "stack", {
        "COMPOSE_PROFILES": "standard", "SECRET_KEY": KEY, "REGISTRATION": "open",
        # What the stand-in for MongoDB needs: tests/mongo_server.py.
        "MONGODB_URI": "mongodb://mongo:27017/hypersend?retryWrites=false"}, {"mongo": {
            "command": json.dumps(["secantusd-py", "--host", "127.0.0.1", "--port", "27017",
                                   "--storage-path", "/data/db"]),
            "healthcheck": json.dumps({"test": [
                "CMD", "python", "-c", "import socket; socket.create_connection(('127.0.0.1', 27017)).close()"]})}})
    try:
        stack.up()
        met = stack.inside(sys.executable, "-m", "tests.anywhere.two_people", "http://127.0.0.1:8080")
        assert FINAL in met.stdout, met.stdout + met.stderr + stack.logs()
        ready = json.loads(stack.inside("curl", "-fsS", "http://127.0.0.1:8080/readyz").stdout)
        assert ready == {"status": "ready", "degraded": []}
        page = stack.inside("curl", "-fsS", "http://127.0.0.1:8080/")
        assert "<title>HyperSend</title>" in page.stdout
    finally:
        stack.down()


@pytest.mark.parametrize(("profiles", "secret", "said"), [
    ("lite", TEMPLATE_SECRET, "SECRET_KEY must be your own"),
    ("lite", "short", "SECRET_KEY must be at least 32 bytes"),
    ("standard", "", "SECRET_KEY must be set"),
], ids=["the template's", "short", "none with MongoDB"])
def test_a_weak_secret_stops_the_start_with_one_clear_line(
    engine: Engine, tmp_path: Path, profiles: str, secret: str, said: str
) -> None:
    stack = Stack(engine, tmp_path / "stack", {"COMPOSE_PROFILES": profiles, "SECRET_KEY": secret}, {})
    try:
        done = stack.compose("up", "--no-build", "--pull", "never", "--abort-on-container-failure", "netns", "prepare",
                             check=False)
        printed = done.stdout + done.stderr
        assert done.returncode != 0
        assert said in printed
        assert not secret or secret not in printed.replace(said, "")
    finally:
        stack.down()
