"""The log of a whole visit, as text and as JSON: who, what, how long; and nothing that opens a door."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import PARTS
from hypersend_server.logs import JsonFormatter, TextFormatter
from hypersend_server.web_client.sign_in import _browser
from tests.faults.test_kill import Phone
from tests.harness import PASSWORD, running
from tests.http_session import http_session
from tests.process import ServerProcess, command

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


async def _more_doors(server: ServerProcess, phone: Phone, session: dict[str, Any]) -> list[str]:
    """Refreshing, staying in a browser, an end of a transfer, invites, a reset, another password: all their secrets."""
    client = phone.client
    # The web cookie, by a session of its own.
    known = await client.get("/server")
    suffix = hashlib.sha256(known.json["server_id"].encode()).hexdigest()[:8]
    stays = (await client.post("/auth/login", {"email": "asha@example.org", "password": PASSWORD})).json
    bearer = {"Authorization": f"Bearer {stays['access_token']}"}
    web = await client.post(client.url + "/web/ticket", {"browser": _browser("a-browser")}, headers=bearer)
    entered = await client.get(client.url + web.json["url"], headers={
        "Cookie": f"hypersend_before_{suffix}=a-browser"})
    assert entered.status == 204
    cookie = entered.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    token = await client.post(client.url + "/web/token", {"renewal": web.json["renewal"]})
    assert token.status == 200
    refused = await client.get("/users/me", headers={
        "Cookie": f"hypersend_session_{suffix}={cookie}", "Authorization": ""})
    assert refused.status == 401
    # The first frame of a socket, here of an end of a transfer that is none of hers.
    for path in (f"/api/v1/p2p/sender/{'0' * 26}", "/api/v1/ws"):
        async with client.http.ws_connect(client.url.replace("http", "ws", 1) + path) as ws:
            await ws.send_json({"type": "auth", "token": session["access_token"]})
            await ws.receive()
    # Invites, in a body; who administers, and who comes.
    assert server.process is not None
    assert server.process.stdout is not None
    start = [server.process.stdout.readline().strip() for _ in range(2)][-1]
    root = await client.post("/auth/register", {
        "email": "root@example.org", "username": "root", "password": PASSWORD, "invite": start})
    assert root.json["user"]["is_admin"]
    invite = (await client.post("/admin/invites", {}, headers={
        "Authorization": f"Bearer {root.json['access_token']}"})).json["code"]
    bina = await client.post("/auth/register", {
        "email": "bina@example.org", "username": "bina", "password": PASSWORD, "invite": invite})
    assert bina.status == 201
    wrong_invite = await client.post("/auth/register", {
        "email": "cleo@example.org", "username": "cleo", "password": PASSWORD, "invite": "an-invite-that-is-none"})
    assert wrong_invite.status == 403
    # A reset, refreshing, and another password.
    told = await asyncio.to_thread(command, server.data_root, "user", "reset", "bina@example.org")
    code = told.stdout.split()[-1]
    for value, status in ((code, 204), ("a-code-that-is-none", 403)):
        answer = await client.post("/auth/reset", {"code": value, "new_password": "a password after the reset"})
        assert answer.status == status
    refreshed = await client.post("/auth/refresh", {"refresh_token": root.json["refresh_token"]})
    assert refreshed.status == 200
    changed = await client.put("/auth/password", {
        "current_password": PASSWORD, "new_password": "another password altogether"})
    assert changed.status == 204
    return [stays["access_token"], web.json["url"].partition("ticket=")[2], web.json["renewal"], "a-browser", cookie,
            token.json["access_token"], token.json["renewal"], start, invite, "an-invite-that-is-none", code,
            "a-code-that-is-none", "a password after the reset", refreshed.json["access_token"],
            refreshed.json["refresh_token"], "another password altogether"]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_failure_is_logged_with_its_traceback_and_no_secret(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the failing call brought: in its body, its headers, its query."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    try:
        async with running(tmp_path) as server:
            asha = await server.person("asha")

            async def broken(*arguments: Any, **fields: Any) -> Any:
                raise RuntimeError("the disk is on fire")

            file = (await asha.post("/files/init", {"name": "a.txt", "size": 5})).json
            await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"hello")
            await asha.post(f"/files/{file['id']}/complete")
            ticket = (await asha.post(f"/files/{file['id']}/ticket", {})).json["url"]
            accounts, files = server.app[PARTS].metadata.accounts, server.app[PARTS].metadata.files
            for name in ("credentials", "create_user", "get_session", "set_device_key"):
                monkeypatch.setattr(accounts, name, broken)
            monkeypatch.setattr(files, "get", broken)
            monkeypatch.setattr(files, "get_readable", broken)
            failed = [
                await server.post("/auth/login", {"email": asha.email, "password": PASSWORD}),
                await server.post("/auth/register", {
                    "email": "b@example.org", "username": "bina", "password": "a new password"}),
                await server.post("/auth/refresh", {"refresh_token": asha.session["refresh_token"]}),
                await asha.put("/auth/device-key", {"public_key": "k" * 43}),
                await server.get(ticket),
            ]
            assert [(answer.status, answer.code) for answer in failed] == [(500, "internal")] * len(failed)
            assert all("fire" not in answer.body.decode() for answer in failed)
    finally:
        logging.getLogger().removeHandler(handler)
    log = written.getvalue()
    assert log.count("the disk is on fire") >= len(failed)
    assert "Traceback" in log
    for secret in (PASSWORD, "a new password", asha.token, asha.session["refresh_token"], "k" * 40,
                   ticket.partition("ticket=")[2]):
        assert secret
        assert secret not in log


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_visit_leaves_ids_and_addresses_and_no_secret(tmp_path: Path, form: str) -> None:
    with ServerProcess(tmp_path / "data", LOG_FORMAT=form, SECRET_KEY=SECRET, METRICS_TOKEN="watchword" * 3) as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            login = await phone.client.post("/auth/login", {"email": "asha@example.org", "password": PASSWORD})
            session = login.json
            phone.client.headers["Authorization"] = f"Bearer {session['access_token']}"
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Tea", "member_ids": []})
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "1", "text": "a private word"})
            file = await phone.call("POST", "/files/init", {"name": "a.txt", "size": 5})
            await phone.call("PUT", f"/files/{file['id']}/chunk?index=0", data=b"hello")
            await phone.call("POST", f"/files/{file['id']}/complete")
            ticket = await phone.call("POST", f"/files/{file['id']}/ticket")
            assert (await phone.client.get(ticket["url"])).status == 200
            upload_ticket = await phone.call("POST", "/files/upload-ticket", {})
            refused = await phone.client.post("/auth/login", {"email": "asha@example.org", "password": "a wrong guess"})
            assert refused.status == 401
            secrets = await _more_doors(server, phone, session)
            numbers = await phone.client.get("/metrics", headers={"Authorization": "Bearer " + "watchword" * 3})
            assert numbers.status == 200
        server.stop()
    log = server.log()
    for secret in (PASSWORD, "a wrong guess", SECRET, "watchword", session["access_token"], session["refresh_token"],
                   ticket["url"].partition("ticket=")[2], upload_ticket["url"].partition("#")[2], "a private word",
                   *secrets):
        assert secret
        assert secret not in log
    request_id = login.headers["X-Request-Id"]
    (line,) = [line for line in log.splitlines() if request_id in line]
    (own,) = [line for line in log.splitlines() if f"/files/{file['id']}/ticket" in line]
    if form == "json":
        entry = json.loads(line)
        assert (entry["path"], entry["status"], entry["client"]) == ("/api/v1/auth/login", 200, "127.0.0.1")
        assert json.loads(own)["session_id"] == session["session_id"]
        for other in log.splitlines():
            json.loads(other)
    else:
        assert "POST /api/v1/auth/login 200" in line
        assert " 127.0.0.1 " in line
        assert session["session_id"] in own
