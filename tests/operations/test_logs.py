"""The log of a whole visit, as text and as JSON: who, what, how long; and nothing that opens a door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.test_kill import Phone, http_session
from tests.harness import PASSWORD
from tests.process import ServerProcess

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


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
            numbers = await phone.client.get("/metrics", headers={"Authorization": "Bearer " + "watchword" * 3})
            assert numbers.status == 200
        server.stop()
    log = server.log()
    for secret in (PASSWORD, "a wrong guess", SECRET, "watchword", session["access_token"], session["refresh_token"],
                   ticket["url"].partition("ticket=")[2], upload_ticket["url"].partition("#")[2], "a private word"):
        assert secret
        assert secret not in log
    request_id = login.headers["X-Request-Id"]
    (line,) = [line for line in log.splitlines() if request_id in line]
    (own,) = [line for line in log.splitlines() if "/ticket " in line or '/ticket"' in line]
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
