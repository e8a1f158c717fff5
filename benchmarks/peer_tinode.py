"""tinode with PostgreSQL under the same load, where its programs are there.

The server and `tinode-db` are built for PostgreSQL with Go; TINODE and TINODE_INIT_DB name other binaries of them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import postgresql
from benchmarks.install import go_program, named
from benchmarks.processes import Server, free_port, serving, tree_mb

MODULE, VERSION = "github.com/tinode/chat", "v0.25.3"
# The key that belongs to the salt in tinode's sample configuration.
API_KEY = "AQEAAAABAAD_rAp4DJh05a1HAwFT3A6K"
API_KEY_SALT = "T713/rYYgW7g4m3vG6zGRh7+FM1t0T8j13koXScOAj4="
PATH = f"/v0/channels?apikey={API_KEY}"
_HI = {"hi": {"id": "hi", "ver": "0.22", "ua": "benchmark/1.0"}}
_FRAMES = {"ack": '{"ctrl":{"id":"p"', "accepted": '"code":202', "message": '{"data":', "refused": '{"ctrl":{"code":5'}


def programs() -> tuple[Path, Path] | None:
    """The server and the program that makes its database."""
    server = named("TINODE") or go_program("tinode", f"{MODULE}/server@{VERSION}", "-tags", "postgres")
    init_db = named("TINODE_INIT_DB") or go_program("tinode-db", f"{MODULE}/tinode-db@{VERSION}", "-tags", "postgres")
    return (server, init_db) if server and init_db else None


def absent() -> str | None:
    """Why tinode is left out, or None where it is there."""
    if not postgresql.is_installed():
        return "tinode is left out: PostgreSQL is not installed (Debian: apt-get install postgresql)."
    if programs() is None:
        return "tinode is left out: it did not build, and TINODE and TINODE_INIT_DB name no binaries."
    return None


@contextlib.contextmanager
def tinode(
    where: Path, people: int, text: str, is_group: Callable[[str], bool], plan_of: Callable[..., dict[str, Any]]
) -> Iterator[tuple[Callable[[str], dict[str, Any]], Callable[[], float]]]:
    """A running server with so many accounts, in pairs and in one group.

    Yields: case → plan for client_messages; MB of the server and its database.
    """
    found = programs()
    assert found is not None
    program, init_db = found
    with postgresql.cluster(where) as (database_port, database_pid):
        port = free_port()
        config = where / "tinode.conf"
        config.write_text(json.dumps(_config(database_port)))
        made = subprocess.run([str(init_db), f"--config={config}", "--reset"], cwd=where, check=False,
                              capture_output=True, text=True, timeout=60)
        if made.returncode:
            raise RuntimeError(f"tinode's database: {made.stdout}{made.stderr}")
        command = [str(program), f"--config={config}", f"--listen=127.0.0.1:{port}",
                   f"--grpc_listen=127.0.0.1:{free_port()}", f"--static_data={where}"]
        with serving(command, port, where, ready="/v0/version") as server:
            users, group = asyncio.run(_sign_up(server, people))

            def plan(case: str) -> dict[str, Any]:
                sockets = []
                for n in range(people):
                    topic = group if is_group(case) else users[n ^ 1]
                    sockets.append({
                        "path": PATH, "headers": {},
                        "hello": [{"send": json.dumps(step), "until": f'"id":"{name}"'} for name, step in (
                            ("hi", _HI), ("login", {"login": {"id": "login", **_secret(n)}}),
                            ("sub", {"sub": {"id": "sub", "topic": topic}}))],
                        "message": [f'{{"pub":{{"id":"p","topic":"{topic}","noecho":true,"content":"',
                                    f'{text[8:]}"}}}}'],
                        "marks": []})
                return plan_of(case, server.port, _FRAMES, sockets)

            yield plan, lambda: server.tree_mb() + tree_mb(database_pid)


def _secret(n: int) -> dict[str, str]:
    return {"scheme": "basic", "secret": base64.b64encode(f"person{n}:secret-{n}".encode()).decode()}


async def _sign_up(server: Server, people: int) -> tuple[list[str], str]:
    """(the users' ids, the group's topic), everyone in the group and each pair in a topic of its own."""
    users: list[str] = []
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        sockets = []
        for n in range(people):
            ws = await stack.enter_async_context(session.ws_connect(server.url + PATH))
            await _ask(ws, _HI)
            answer = await _ask(ws, {"acc": {
                "id": "acc", "user": "new", "login": True, "desc": {"public": {"fn": f"Person {n}"}}, **_secret(n)}})
            users.append(answer["params"]["user"])
            sockets.append(ws)
        made = await _ask(sockets[0], {"sub": {"id": "sub", "topic": "new1"}})
        group: str = made["topic"]
        for n, ws in enumerate(sockets):
            if n:
                await _ask(ws, {"sub": {"id": "sub", "topic": group}})
            await _ask(ws, {"sub": {"id": "sub", "topic": users[n ^ 1]}})
    return users, group


async def _ask(ws: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]) -> dict[str, Any]:
    """The ctrl that answers the frame. Raises: RuntimeError where it refuses."""
    (kind, content), = frame.items()
    await ws.send_str(json.dumps(frame))
    while True:
        answer: dict[str, Any] = json.loads(await ws.receive_str(timeout=30)).get("ctrl", {})
        if answer.get("id") == content["id"]:
            if answer["code"] >= 400:
                raise RuntimeError(f"{kind}: {answer}")
            return answer


def _config(database_port: int) -> dict[str, Any]:
    key = base64.b64encode(bytes(range(32))).decode()
    return {
        "api_path": "/", "static_mount": "/", "api_key_salt": API_KEY_SALT, "max_message_size": 131072,
        "max_subscriber_count": 128, "max_tag_count": 16, "ws_compression_disabled": True,
        "push": [], "auth_config": {
            "basic": {"min_login_length": 4, "min_password_length": 6},
            "token": {"expire_in": 1209600, "serial_num": 1, "key": key},
            "code": {"expire_in": 900, "max_retries": 3, "code_length": 6}},
        "store_config": {
            "uid_key": base64.b64encode(bytes(range(16))).decode(), "max_results": 1024, "use_adapter": "postgres",
            "adapters": {"postgres": {
                "User": "postgres", "Passwd": "unused", "Host": "127.0.0.1", "Port": str(database_port),
                "DBName": "tinode", "SSLMode": "disable", "max_open_conns": 50, "max_idle_conns": 50,
                "conn_max_lifetime": 60, "sql_timeout": 10}}},
    }
