"""What Prometheus reads, and that dashboard and alert rules name nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Server, running
from tests.parts import program
from tests.process import REPOSITORY

RULES = REPOSITORY / "config" / "prometheus" / "hypersend.rules.yml"
DASHBOARD = REPOSITORY / "config" / "grafana" / "hypersend.json"
OF_OURS = re.compile(r"\b(?:hypersend|process)_[a-z_]+\b")


async def numbers(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await server.get("/metrics")
    assert answer.status == 200
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.body.decode()) for sample in family.samples}


async def test_what_people_do_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha, ben = await server.person("asha"), await server.person("ben")
        chat = (await asha.post("/chats", {"kind": "direct", "user_id": ben.id})).json
        socket = await ben.socket()
        for client_id in ("one", "two", "two"):
            await asha.post(f"/chats/{chat['id']}/messages", {"client_id": client_id, "text": "Tea?"})
        file = (await asha.post("/files/init", {"name": "a.bin", "size": 5})).json
        assert (await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"hello")).status == 200
        found = await numbers(server)
        assert found["hypersend_messages_total", ()] == 2, "the repeated one is no third message"
        assert found["hypersend_sockets", ()] == 1
        assert found["hypersend_people_online", ()] == 1
        assert found["hypersend_uploaded_bytes_total", (("backend", "local"),)] == 5
        assert found["hypersend_uploaded_chunks_total", (("backend", "local"),)] == 1
        assert found["hypersend_executor_jobs_total", (("pool", "chunk"),)] > 0
        assert found["hypersend_stored", (("what", "uploads"),)] == 1
        assert found["hypersend_stored", (("what", "users"),)] == 2
        assert {part: found["hypersend_part_up", (("part", part),)] for part in ("metadata", "storage", "bus")} == {
            "metadata": 1, "storage": 1, "bus": 1}
        assert found["hypersend_storage_free_bytes", (("backend", "local"),)] > 0
        posts = ("method", "POST"), ("route", "/api/v1/chats/{chat_id}/messages")
        assert sum(value for (name, labels), value in found.items()
                   if name == "hypersend_requests_total" and set(posts) <= set(labels)) == 3
        await socket.close()


async def test_every_name_of_dashboard_and_rules_is_one_that_is_served(tmp_path: Path) -> None:
    named = set(OF_OURS.findall(RULES.read_text()))
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 20
    for query in queries:
        named |= set(OF_OURS.findall(query))
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        file = (await asha.post("/files/init", {"name": "a.bin", "size": 5})).json
        await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"hello")
        await server.get("/metrics")
        served = {name for name, _ in await numbers(server)}
    assert named <= served, named - served
    assert {name for name in served if name.startswith("hypersend_")
            and not name.endswith(("_created", "_sum", "_count"))} - named == set(), "shown nowhere"


@pytest.mark.parametrize("arguments", [["rules", str(RULES)], ["config", "prometheus.yml"]])
def test_promtool_takes_the_configuration(arguments: list[str]) -> None:
    done = subprocess.run([program("promtool"), "check", *arguments], cwd=RULES.parent, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


async def test_numbers_are_for_loopback_and_token_alone(tmp_path: Path) -> None:
    async with running(tmp_path, METRICS_TOKEN="w" * 32) as server:
        through = {"X-Forwarded-For": "203.0.113.9"}
        assert (await server.get("/metrics", headers=through)).status == 403
        assert (await server.get("/metrics", headers={**through, "Authorization": "Bearer " + "w" * 32})).status == 200
