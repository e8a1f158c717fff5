"""The probe's way in: for who holds SECRET_KEY, for minutes, and for nothing but the probe's own bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypersend_server.clock import Ids, system_clock
from hypersend_server.probe import PROBE_BYTES, SCHEME, ProbeToken, probe_content, probe_signer
from tests.harness import Server, SettableClock, running

KEY = "k" * 40  # the harness's
UNKNOWN = "0" * 26


def headers(key: str = KEY, *, expires_in_s: int = 60) -> dict[str, str]:
    token = probe_signer(key).seal(ProbeToken(system_clock() + expires_in_s * 1000))
    return {"Authorization": f"{SCHEME} {token}"}


async def refused(server: Server, sent: dict[str, str]) -> None:
    """Every path is what it is for everybody."""
    seen = await server.get("/server", headers=sent)
    assert "peer" not in seen.json
    assert (await server.put(f"/files/{UNKNOWN}/chunk?index=0", data=b"x", headers=sent)).status == 401
    assert (await server.get(f"/files/{UNKNOWN}/download", headers=sent)).status == 401
    assert (await server.delete(f"/files/{UNKNOWN}", headers=sent)).status == 401
    socket = await server.get("/ws", headers=sent)
    assert socket.status >= 400


@pytest.mark.parametrize("sent", [
    {}, headers("another key, which is also long enough"), headers(expires_in_s=-1), {"Authorization": "Probe "},
    {"Authorization": "Probe a.b"}, {"Authorization": headers()["Authorization"].replace("Probe", "Bearer")},
    {"Authorization": headers()["Authorization"][:-1] + "!"},
], ids=["none", "another key", "expired", "empty", "nonsense", "as a session", "changed"])
async def test_strangers_meet_what_everybody_meets(tmp_path: Path, sent: dict[str, str]) -> None:
    async with running(tmp_path) as server:
        await refused(server, sent)


async def test_a_token_ends(tmp_path: Path) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        sent = headers(expires_in_s=900)
        assert "peer" in (await server.get("/server", headers=sent)).json
        clock.advance(901)
        await refused(server, sent)


async def test_a_probe_reads_and_removes_its_own_bytes_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        file = (await asha.post("/files/init", {"name": "a.txt", "size": 6})).json
        await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"secret")
        await asha.post(f"/files/{file['id']}/complete")
        sent = headers()
        answer = await server.get(f"/files/{file['id']}/download", headers=sent)
        assert answer.body == probe_content()
        part = await server.get(f"/files/{file['id']}/download", headers={**sent, "Range": "bytes=5-9"})
        assert (part.status, part.body) == (206, probe_content()[5:10])
        assert (await server.delete(f"/files/{file['id']}", headers=sent)).status == 204
        assert (await asha.get(f"/files/{file['id']}/download")).body == b"secret"
        assert (await server.get("/users/me", headers=sent)).status == 401
        assert (await server.get(f"/files/{file['id']}", headers=sent)).status == 401


async def test_a_body_is_counted_and_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await server.put(f"/files/{UNKNOWN}/chunk?index=0", data=bytes(3 * PROBE_BYTES), headers=headers())
        assert answer.json["received_bytes"] == 3 * PROBE_BYTES
        assert [path for name in ("uploads", "files") for path in (tmp_path / name).rglob("*")] == []


async def test_a_socket_says_back_what_it_hears(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http.ws_connect(
        server.url.replace("http", "ws") + "/api/v1/ws", headers=headers()
    ) as socket:
        await socket.send_str("hello")
        assert (await socket.receive(30)).data == "hello"


async def test_ids_of_probes_are_such_as_paths_take() -> None:
    assert len(Ids(system_clock)()) == len(UNKNOWN)
