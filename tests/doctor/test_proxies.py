"""Each mistake of a proxy, made in a real nginx, is found, and nothing else is; its fix is a line of configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.front import RIGHT, Diagnosis, diagnose, free_port, nginx
from tests.process import ServerProcess

SETTINGS = {"SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz", "X_ACCEL_PREFIX": "/_files/"}

# area → (what is wrong in nginx, words of what is found, words of the fix)
MISTAKES = {
    "body limit": ("uploads", {"body": "client_max_body_size 1m;"}, "413", "client_max_body_size 0;"),
    "default body limit": ("uploads", {"body": ""}, "413", "client_max_body_size 0;"),
    "buffering": ("uploads", {"stream": "proxy_http_version 1.1; proxy_request_buffering on;"}, "gathers",
                  "proxy_request_buffering off;"),
    "no upgrade": ("websocket", {"upgrade": ""}, "cannot be opened", "proxy_set_header Upgrade $http_upgrade;"),
    "impatience": ("websocket", {"idle": "proxy_read_timeout 5s;"}, "is cut", "proxy_read_timeout 1h;"),
    "no address": ("client address", {"address": ""}, "X-Forwarded-For", "$proxy_add_x_forwarded_for"),
    "claimed address": ("client address", {"address": "proxy_set_header X-Forwarded-For $http_x_forwarded_for;"},
                        "claims", "$proxy_add_x_forwarded_for"),
    "no files": ("downloads", {"files": "internal; alias /nowhere/;"}, "404", "internal;"),
    "its own ETag": ("downloads", {"files": "internal; alias {files}/; etag off;"}, "ETag", "etag off;"),
    "no ranges": ("downloads", {"files": RIGHT["files"] + " max_ranges 0;"}, "range", "alias"),
    "open CORS": ("cors", {"other": "add_header Access-Control-Allow-Origin * always;"}, "twice",
                  "remove `add_header"),
}


@pytest.fixture
def port() -> int:
    """Where nginx will listen."""
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", **SETTINGS, ALLOWED_ORIGINS=f"http://127.0.0.1:{port}") as running:
        yield running


def through(tmp_path: Path, server: ServerProcess, *arguments: str, parts: dict[str, str] | None = None,
            **settings: str) -> Diagnosis:
    port = int(server.settings["ALLOWED_ORIGINS"].rsplit(":", 1)[1])
    with nginx(tmp_path, server, port=port, **parts or {}) as url:
        return diagnose(server.data_root, "--idle", "4", *arguments, PUBLIC_URL=url, **{**SETTINGS, **settings})


def test_a_right_nginx_has_no_problem_and_nothing_of_the_probe_stays(tmp_path: Path, server: ServerProcess) -> None:
    found = through(tmp_path, server)
    assert found.problems() == set(), found.findings
    assert found.status == 0
    said = {area: found.of(area, "ok")[0]["what"] for area in ("uploads", "websocket", "downloads", "client address")}
    assert "streams" in said["uploads"]
    assert "4 s of silence" in said["websocket"]
    assert "X-Accel-Redirect" in said["downloads"]
    assert "says who sends" in said["client address"]
    assert [path for path in (server.data_root / "files").rglob("*") if path.is_file()] == []
    assert list(server.data_root.glob(".doctor-*")) == []


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_in_nginx_is_named_with_its_fix(tmp_path: Path, server: ServerProcess, mistake: str) -> None:
    area, parts, words, fix = MISTAKES[mistake]
    found = through(tmp_path, server, "--idle", "7" if mistake == "impatience" else "1", parts=parts)
    assert found.status == 1
    assert found.problems() == {area}, found.findings
    problem = found.of(area, "problem")[0]
    assert words in problem["what"]
    assert fix in problem["fix"]


def test_the_named_fix_of_each_part_is_what_a_right_nginx_has(tmp_path: Path, server: ServerProcess) -> None:
    """The lines that doctor names, put into a wrong nginx, make it right."""
    wrong = {"body": "client_max_body_size 1m;", "stream": "", "address": "", "idle": "proxy_read_timeout 5s;"}
    told: dict[str, None] = {}
    for _ in range(4):  # one mistake may hide another
        parts = {**dict.fromkeys(wrong, ""), "other": " ".join(told)} if told else wrong
        found = through(tmp_path, server, "--idle", "7", parts=parts)
        if not found.problems():
            break
        lines = [line.strip() for finding in found.findings if finding["level"] == "problem"
                 for line in finding["fix"].splitlines()]
        # Those of the socket stand in this nginx already.
        told.update(dict.fromkeys(line for line in lines if line.endswith(";") and "pgrade" not in line))
    assert found.problems() == set(), (told, found.findings)
    assert len(told) >= 4


def test_a_proxy_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    settings = {**SETTINGS, "TRUSTED_PROXIES": "10.0.0.1", "ALLOWED_ORIGINS": f"http://127.0.0.1:{free_port()}"}
    with ServerProcess(tmp_path / "data", **settings) as server:
        found = through(tmp_path, server, TRUSTED_PROXIES="10.0.0.1")
    assert found.problems() == {"client address"}
    assert found.of("client address")[0]["fix"] == "TRUSTED_PROXIES=127.0.0.1"


def test_without_a_proxy_all_is_well(tmp_path: Path) -> None:
    key = {"SECRET_KEY": SETTINGS["SECRET_KEY"]}
    with ServerProcess(tmp_path / "data", **key) as server:
        found = diagnose(server.data_root, "--idle", "1", "--url", server.url, **key)
    assert found.problems() == set(), found.findings
    assert "no proxy is in front" in found.of("client address")[0]["what"]


def test_x_accel_without_a_proxy_that_knows_it_is_found(tmp_path: Path, server: ServerProcess) -> None:
    found = diagnose(server.data_root, "--idle", "1", "--url", server.url, **SETTINGS)
    assert found.problems() == {"downloads"}
    assert found.of("downloads")[0]["fix"] == "X_ACCEL_PREFIX="


@pytest.mark.parametrize(("other", "words"), [
    ('proxy_set_header Range "";', "range is answered 200"),
    ("proxy_hide_header ETag;", "ETag"),
    ("proxy_hide_header Content-Disposition;", "Content-Disposition"),
])
def test_a_proxy_that_changes_downloads_of_the_server_itself_is_named(tmp_path: Path, other: str, words: str) -> None:
    port = free_port()
    settings = {"SECRET_KEY": SETTINGS["SECRET_KEY"], "ALLOWED_ORIGINS": f"http://127.0.0.1:{port}"}
    with (ServerProcess(tmp_path / "data", **settings) as server,
          nginx(tmp_path, server, port=port, other=other) as url):
        found = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=url, **settings)
    assert found.problems() == {"downloads"}
    assert words in found.of("downloads", "problem")[0]["what"]
    assert "the server itself" in found.of("downloads", "problem")[0]["what"]


def test_a_server_that_does_not_run_and_another_one_are_told_apart(tmp_path: Path, server: ServerProcess) -> None:
    with nginx(tmp_path, server) as url:
        server.kill()
        down = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=url, **SETTINGS)
    assert down.problems() == {"address"}
    assert "502" in down.of("address")[0]["what"]
    silent = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=server.url, **SETTINGS)
    assert "nothing answers" in silent.of("address")[0]["what"]
    server.start()
    stranger = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=server.url, SECRET_KEY="another key of " * 3)
    assert "SECRET_KEY" in stranger.of("address")[0]["what"]
    with ServerProcess(tmp_path / "other", **SETTINGS) as other:
        mixed = diagnose(server.data_root, "--idle", "1", PUBLIC_URL=other.url, **SETTINGS)
    assert "another HyperSend server" in mixed.of("address")[0]["what"]
