"""The operator's commands as an operator runs them: real processes, beside a running server where that matters."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_kill import Phone
from tests.harness import PASSWORD
from tests.http_session import http_session
from tests.process import REPOSITORY, ServerProcess, command, environment

CHUNK = 8 * 1024 * 1024


async def sign_in(phone: Phone, email: str) -> dict[str, Any]:
    answer = await phone.client.post("/auth/login", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer
    phone.client.headers["Authorization"] = f"Bearer {answer.json['access_token']}"
    return dict(answer.json)


async def upload(phone: Phone, content: bytes, **fields: Any) -> str:
    file = await phone.call("POST", "/files/init", {"name": "film.bin", "size": len(content), **fields})
    for index in range(file["upload"]["chunk_count"]):
        part = content[index * CHUNK : (index + 1) * CHUNK]
        await phone.call("PUT", f"/files/{file['id']}/chunk?index={index}", data=part)
    await phone.call("POST", f"/files/{file['id']}/complete")
    return str(file["id"])


def test_wrong_usage_is_2_and_problems_are_1(tmp_path: Path) -> None:
    assert command(tmp_path, "nonsense").returncode == 2
    assert command(tmp_path).returncode == 2
    wrong = command(tmp_path, "config", PORT="many", SECRET_KEY="too short")
    assert wrong.returncode == 1
    assert "PORT must be" in wrong.stderr
    assert "SECRET_KEY must be" in wrong.stderr
    assert "too short" not in wrong.stderr


def test_config_hides_secrets(tmp_path: Path) -> None:
    shown = command(tmp_path, "config", "--json", SECRET_KEY="s" * 40, METRICS_TOKEN="watch")
    settings = json.loads(shown.stdout)
    assert settings["SECRET_KEY"] == settings["METRICS_TOKEN"] == "(set)"
    assert "ssss" not in shown.stdout
    assert settings["REGISTRATION"] == "open"


def test_nobody_is_told_when_whoever_read_has_gone(tmp_path: Path) -> None:
    """As in `hypersend-server config | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "hypersend_server", "config"], cwd=REPOSITORY, env=environment(tmp_path),
            stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")


async def test_people_are_made_listed_limited_and_let_back_in(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root, REGISTRATION="closed") as server:
        added = command(root, "user", "add", "asha@example.org", "--username", "asha", "--admin", "--json",
                        HYPERSEND_PASSWORD=PASSWORD)
        assert added.returncode == 0, added.stderr
        assert json.loads(added.stdout)["is_admin"] is True
        by_line = command(root, "user", "add", "ben@example.org", stdin=PASSWORD + "\n")
        assert by_line.returncode == 0, by_line.stderr
        short = command(root, "user", "add", "b@example.org", stdin=PASSWORD + "\n")
        assert short.returncode == 1
        assert "--username" in short.stderr
        coloured = command(root, "user", "add", "c\x1b[31m@example.org", stdin=PASSWORD + "\n")
        assert coloured.returncode == 1
        assert "\x1b" not in coloured.stderr
        twice = command(root, "user", "add", "ben@example.org", "--username", "other", stdin=PASSWORD + "\n")
        assert twice.returncode == 1
        assert "e-mail" in twice.stderr

        assert command(root, "user", "quota", "ben@example.org", "1MB").returncode == 0
        for size in ("much", "9999999999TB", "9" * 400 + ".5TB", "9" * 5000):
            assert command(root, "user", "quota", "ben@example.org", size).returncode == 2
        for uses in ("0", "1001", "9" * 30):
            assert command(root, "invite", "add", "--max-uses", uses).returncode == 2
        users = json.loads(command(root, "user", "list", "--json").stdout)["items"]
        assert {user["username"]: user["quota_bytes"] for user in users} == {"asha": None, "ben": 1_000_000}

        async with http_session() as http:
            phone = Phone(server, http)
            await sign_in(phone, "ben@example.org")
            full = await phone.client.post("/files/init", {"name": "film.bin", "size": 1_000_001})
            assert (full.status, full.code) == (403, "quota_exceeded")
            # The server hears within seconds of what a command changed beside it.
            assert command(root, "user", "disable", "ben@example.org").returncode == 0
            async with asyncio.timeout(15):
                while (answer := await phone.client.get("/users/me")).status == 200:
                    await asyncio.sleep(0.1)
            assert (answer.status, answer.code) == (401, "session_ended")
            refused = await phone.client.post("/auth/login", {"email": "ben@example.org", "password": PASSWORD})
            assert refused.status in (401, 403)
            assert command(root, "user", "disable", "ben@example.org", "--undo").returncode == 0
            await sign_in(phone, "ben@example.org")

            code = json.loads(command(root, "user", "reset", "ben@example.org", "--json").stdout)["code"]
            reset = await phone.client.post("/auth/reset", {"code": code, "new_password": "another good one"})
            assert reset.status == 204
            again = await phone.client.post(
                "/auth/login", {"email": "ben@example.org", "password": "another good one"})
            assert again.status == 200


async def test_an_invite_lets_as_many_in_as_it_says(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root, REGISTRATION="invite") as server:
        code = command(root, "invite", "add", "--max-uses", "1", "--expires-in", "1h").stdout.strip()
        for wrong in ("soon", "0s", "30s", "4000d"):
            assert command(root, "invite", "add", "--expires-in", wrong).returncode == 2
        async with http_session() as http:
            phone = Phone(server, http)
            person = {"email": "asha@example.org", "username": "asha", "password": PASSWORD}
            assert (await phone.client.post("/auth/register", person)).code == "invite_required"
            assert (await phone.client.post("/auth/register", {**person, "invite": code})).status == 201
            other = {"email": "ben@example.org", "username": "ben", "password": PASSWORD, "invite": code}
            assert (await phone.client.post("/auth/register", other)).code == "invite_invalid"
        invites = json.loads(command(root, "invite", "list", "--json").stdout)["items"]
        assert [(i["uses"], i["max_uses"]) for i in invites if i["id"] != "first"] == [(1, 1)]
        assert "used 1 of 1, used up" in command(root, "invite", "list").stdout
        code = command(root, "invite", "add").stdout.strip()
        [found] = [i for i in json.loads(command(root, "invite", "list", "--json").stdout)["items"]
                   if i["uses"] == 0 and i["id"] != "first"]
        assert command(root, "invite", "remove", found["id"]).returncode == 0
        assert command(root, "invite", "remove", found["id"]).returncode == 1
        async with http_session() as http:
            late = {"email": "ben@example.org", "username": "ben", "password": PASSWORD, "invite": code}
            assert (await Phone(server, http).client.post("/auth/register", late)).code == "invite_invalid"


async def test_the_first_start_prints_an_invite_that_makes_the_administrator(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", REGISTRATION="invite") as server:
        assert server.process is not None
        assert server.process.stdout is not None
        lines = [server.process.stdout.readline().strip() for _ in range(2)]
        assert "administrator" in lines[0]
        async with http_session() as http:
            phone = Phone(server, http)
            person = {"email": "asha@example.org", "username": "asha", "password": PASSWORD, "invite": lines[1]}
            session = await phone.client.post("/auth/register", person)
            assert session.status == 201
            assert session.json["user"]["is_admin"] is True


def test_a_second_server_on_the_same_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        second = command(tmp_path / "data", "serve")
        assert second.returncode == 1
        assert str(server.pid) in second.stderr


def test_a_place_where_no_folder_can_be_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = command(tmp_path / "file", "serve")
    assert refused.returncode == 1
    assert "DATA_ROOT cannot be made (File exists)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        other = command(tmp_path / "other", "serve", PORT=server.url.rsplit(":", 1)[1])
        assert other.returncode == 1
        assert "PORT" in other.stderr


def test_a_newer_database_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "hypersend.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    refused = command(tmp_path / "data", "serve")
    assert refused.returncode == 1
    assert "9999" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_key_that_the_server_makes_is_for_its_owner_alone(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data"):
        key = tmp_path / "data" / "secret.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert len(key.read_text().strip()) >= 32


def test_a_server_that_is_told_to_stop_ends_with_0(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data").start()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("files", ["link", "copy"])
async def test_a_restored_server_serves_the_same_messages_and_files(tmp_path: Path, files: str) -> None:
    root, folder, restored = tmp_path / "data", tmp_path / "backup", tmp_path / "restored"
    content = os.urandom(CHUNK + 5)
    with ServerProcess(root) as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Tea", "member_ids": []})
            file_id = await upload(phone, content)
            gone_id = await upload(phone, b"short lived")
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "m1", "file_ids": [file_id]})
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "m2", "text": "before"})
            await phone.client.delete(f"/files/{gone_id}")
            unfinished = await phone.call("POST", "/files/init", {"name": "half.bin", "size": 100})

            backup = command(root, "backup", str(folder), "--files", files, "--json")
            assert backup.returncode == 0, backup.stderr
            report = json.loads(backup.stdout)
            assert (report["files"], report["missing"]) == (1, [])
            for name in ("backup.json", "files.jsonl", "hypersend.sqlite3"):
                assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "m3", "text": "after"})
            epoch = (await phone.call("POST", "/sync", {}))["token"]
            server_id = (await phone.call("GET", "/server"))["server_id"]
    listed = [json.loads(line) for line in (folder / "files.jsonl").read_text().splitlines()]
    assert [line["id"] for line in listed] == [file_id]

    again = command(restored, "restore", str(folder), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["uploads_expired"] == 1
    assert command(restored, "restore", str(folder)).returncode == 1  # not empty any more
    assert command(restored, "verify").returncode == 0

    with ServerProcess(restored) as server:
        async with http_session() as http:
            old = Phone(server, http)
            old.client.headers = dict(phone.client.headers)
            assert (await old.client.get("/users/me")).status == 401  # every session has ended
            phone = Phone(server, http)
            await sign_in(phone, "asha@example.org")
            assert (await phone.call("GET", "/server"))["server_id"] == server_id
            page = await phone.call("GET", f"/chats/{chat['id']}/messages")
            assert [m["client_id"] for m in page["items"] if m["kind"] != "system"] == ["m1", "m2"]
            assert (await phone.client.get(f"/files/{file_id}/download")).body == content
            answer = await phone.client.put(f"/files/{unfinished['id']}/chunk?index=0", data=b"x" * 100)
            assert (answer.status, answer.code) == (410, "upload_expired")
            # Counters went back, so a token from before means: load everything anew.
            reset = await phone.call("POST", "/sync", {"token": epoch})
            assert chat["id"] in reset["reset"] or reset.get("full") is True


def test_backup_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data"):
        (tmp_path / "backup").mkdir()
        (tmp_path / "backup" / "note").touch()
        refused = command(tmp_path / "data", "backup", str(tmp_path / "backup"))
        assert refused.returncode == 1
        assert "not an empty folder" in refused.stderr


def test_restore_refuses_what_is_no_finished_backup(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    refused = command(tmp_path / "data", "restore", str(tmp_path / "half"))
    assert refused.returncode == 1
    assert "not a finished backup" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("damaged", "words"), [
    ("hypersend.sqlite3", "the database of the backup"), ("secret.key", "the backup is damaged"), (None, "")])
def test_restore_refuses_what_is_damaged_and_says_what_is_missing(
    tmp_path: Path, damaged: str | None, words: str
) -> None:
    with ServerProcess(tmp_path / "data"):
        assert command(tmp_path / "data", "backup", str(tmp_path / "backup")).returncode == 0
    if damaged is None:
        (tmp_path / "backup" / "secret.key").unlink()
    else:
        with (tmp_path / "backup" / damaged).open("r+b") as file:
            file.truncate(5)
            file.seek(0, os.SEEK_END)
            file.write(os.urandom(20))
    done = command(tmp_path / "restored", "restore", str(tmp_path / "backup"))
    assert "Traceback" not in done.stderr
    if damaged is None:
        assert (done.returncode, "holds no secret.key" in done.stderr) == (0, True)
    elif damaged == "secret.key":
        assert (done.returncode, words in done.stderr) == (1, True)
        # Where another key signs, this one matters to nobody.
        done = command(tmp_path / "restored", "restore", str(tmp_path / "backup"), SECRET_KEY="0123456789abcdef" * 4)
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert words in done.stderr
        assert not (tmp_path / "restored").exists()


def test_restore_finds_a_page_that_is_damaged(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data"):
        assert command(tmp_path / "data", "backup", str(tmp_path / "backup")).returncode == 0
    with (tmp_path / "backup" / "hypersend.sqlite3").open("r+b") as file:
        file.seek(20_000)
        file.write(os.urandom(5000))
    done = command(tmp_path / "restored", "restore", str(tmp_path / "backup"))
    assert done.returncode == 1
    assert "the database of the backup" in done.stderr
    assert not (tmp_path / "restored").exists()


async def test_verify_finds_a_chunk_that_has_changed_and_gc_what_is_lost(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with ServerProcess(root) as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            kept = await upload(phone, os.urandom(CHUNK + 5))
            assert command(root, "verify").returncode == 0
            (place,) = [path for path in (root / "files").rglob("*") if path.is_file()]
            with place.open("r+b") as file:
                file.seek(CHUNK + 1)
                byte = file.read(1)
                file.seek(CHUNK + 1)
                file.write(bytes([byte[0] ^ 1]))
            damaged = command(root, "verify", "--json")
            assert damaged.returncode == 1
            (damage,) = json.loads(damaged.stdout)["damaged"]
            assert (damage["id"], damage["chunks"]) == (kept, [1])
            gc = command(root, "gc", "--json")
            assert gc.returncode == 0, gc.stderr
            assert json.loads(gc.stdout)["stray"] == []
            place.unlink()
            repaired = command(root, "verify", "--repair")
            assert repaired.returncode == 1
            assert "0 records without bytes removed; 1 stay" in repaired.stdout
            told = json.loads(command(root, "verify", "--repair", "--json").stdout)
            assert (told["forgotten"], told["kept"]) == ([], [kept])
            lost = command(root, "gc", "--json")
            assert (lost.returncode, json.loads(lost.stdout)["lost"]) == (1, [kept])


@pytest.mark.parametrize("words", [
    ["verify", "--sample", "0%"], ["verify", "--sample", "x"], ["verify", "--rate", "fast"],
    ["migrate-storage", "--to", "local", "--rate", "0"], ["migrate-storage", "--to", "local", "--older-than", "30"]])
def test_what_an_option_takes_is_said_in_words(tmp_path: Path, words: list[str]) -> None:
    refused = command(tmp_path, *words)
    assert refused.returncode == 2
    assert f"argument {words[-2]}: must be " in refused.stderr


def test_files_on_a_store_that_is_not_configured_are_neither_read_nor_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert command(root, "user", "add", "asha@example.org", "--username", "asha", stdin=PASSWORD + "\n").returncode == 0
    with sqlite3.connect(root / "hypersend.sqlite3") as database:
        database.execute(
            "INSERT INTO files (id, owner_id, name, size, mime, state, chunk_size, received_bytes, checksum, backend,"
            " location, created_at, completed_at) SELECT 'f1', id, 'film', 1, 'video/mp4', 'complete', 8388608, 1,"
            " zeroblob(32), 's3', 'files/f1/0', 1, 1 FROM users")
    database.close()
    verified, swept = command(root, "verify"), command(root, "gc")
    assert (verified.returncode, swept.returncode) == (1, 1)
    assert "1 files are on a storage that is not open" in verified.stderr
    assert "s3: it is not open" in swept.stderr
    copy = tmp_path / "copy"
    assert command(root, "backup", str(copy)).returncode == 0
    [line] = [json.loads(line) for line in (copy / "files.jsonl").read_text().splitlines()]
    assert (line["id"], line["backend"], line["location"]) == ("f1", "s3", "files/f1/0")
    restored = command(tmp_path / "restored", "restore", str(copy))
    assert restored.returncode == 0
    assert "1 files are on an object store" in restored.stderr


@pytest.mark.parametrize("words", [["user", "list"], ["gc"], ["verify"], ["backup", "copy"]])
def test_a_mistyped_data_root_is_not_an_empty_server(tmp_path: Path, words: list[str]) -> None:
    refused = command(tmp_path / "nowhere", *words)
    assert refused.returncode == 1
    assert "no HyperSend server" in refused.stderr
    assert not (tmp_path / "nowhere").exists()
