"""Synapse on PostgreSQL under the same load: rooms in place of chats, and everybody listens by /sync."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from benchmarks import postgresql
from benchmarks.install import python_with
from benchmarks.processes import Server, free_port, load, serving, tree_mb

PACKAGES = ("matrix-synapse==1.163.2", "psycopg2-binary==2.9.13")
API = "/_matrix/client/v3"
DATABASE = "synapse"
AT_ONCE = 8
T = TypeVar("T")
FAST = {"per_second": 1e6, "burst_count": 10**6}


def absent() -> str | None:
    """Why Synapse is left out, or None where it is there."""
    if not postgresql.is_installed():
        return "Synapse is left out: PostgreSQL is not installed (Debian: apt-get install postgresql)."
    if python_with("synapse", *PACKAGES) is None:
        return "Synapse could not be installed, so it is left out."
    return None


@contextlib.contextmanager
def synapse(
    where: Path, people: int, text: str, is_group: Callable[[str], bool], is_alone: Callable[[str], bool],
) -> Iterator[tuple[Callable[[str, float], dict[str, float]], Callable[[], float]]]:
    """A running homeserver with so many accounts, in pairs and in one room of all.

    Yields: case and seconds → what client_matrix answers, after so many seconds to warm up and in three times as
    many, since one message takes seconds; MB of the server and its database.
    """
    binaries = python_with("synapse", *PACKAGES)
    assert binaries is not None
    with postgresql.cluster(where) as (database_port, database_pid):
        _make_database(binaries, database_port)
        port = free_port()
        config = where / "homeserver.yaml"
        config.write_text(json.dumps(_config(where, port, database_port)))  # JSON is YAML
        command = [str(binaries / "python"), "-m", "synapse.app.homeserver", "--config-path", str(config)]
        done = subprocess.run([*command, "--generate-keys"], cwd=where, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"Synapse: {done.stderr[-2000:]}")
        with serving(command, port, where, ready=f"{API.rpartition('/')[0]}/versions") as server:
            tokens, pairs, group = asyncio.run(_sign_up(server, people))

            def run(case: str, seconds: float) -> dict[str, float]:
                room = [group] * people if is_group(case) else [pairs[n // 2] for n in range(people)]
                writers = [0] if is_alone(case) else list(range(people))
                listeners = [0, 1] if is_alone(case) else writers
                return load("client_matrix", {
                    "url": server.url + API, "text": text, "warm_s": seconds, "seconds": 3 * seconds,
                    "writers": [{"token": tokens[n], "room": room[n]} for n in writers],
                    "listeners": [{"token": tokens[n], "room": room[n]} for n in listeners]})

            yield run, lambda: server.tree_mb() + tree_mb(database_pid)


def _make_database(binaries: Path, port: int) -> None:
    made = subprocess.run([str(binaries / "python"), "-c", (
        "import psycopg2\n"
        f"there = psycopg2.connect(host='127.0.0.1', port={port}, user='postgres', dbname='postgres')\n"
        "there.autocommit = True\n"
        f"there.cursor().execute(\"CREATE DATABASE {DATABASE} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' "
        "TEMPLATE template0\")\n")], check=False, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"Synapse's database: {made.stderr[-2000:]}")


def _config(where: Path, port: int, database_port: int) -> dict[str, Any]:
    """As its documentation says, with every limit a person has out of the way."""
    log = where / "log.yaml"
    log.write_text(json.dumps({
        "version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING", "handlers": ["console"]},
        "handlers": {"console": {"class": "logging.StreamHandler"}}}))
    return {
        "server_name": "bench.test", "report_stats": False, "pid_file": str(where / "synapse.pid"),
        "signing_key_path": str(where / "signing.key"), "media_store_path": str(where / "media"),
        "log_config": str(log), "trusted_key_servers": [], "suppress_key_server_warning": True,
        "enable_registration": True, "enable_registration_without_verification": True,
        "macaroon_secret_key": "bench", "form_secret": "bench", "bcrypt_rounds": 4,
        "listeners": [{"port": port, "type": "http", "tls": False, "bind_addresses": ["127.0.0.1"],
                       "resources": [{"names": ["client"]}]}],
        "database": {"name": "psycopg2", "args": {
            "user": "postgres", "host": "127.0.0.1", "port": database_port, "dbname": DATABASE,
            "cp_min": 5, "cp_max": 10}},
        "rc_message": FAST, "rc_registration": FAST, "rc_joins": {"local": FAST, "remote": FAST},
        "rc_joins_per_room": FAST, "rc_invites": {"per_room": FAST, "per_user": FAST, "per_issuer": FAST},
        "rc_login": {"address": FAST, "account": FAST, "failed_attempts": FAST}, "rc_room_creation": FAST,
        "presence": {"enabled": False},
    }


async def _sign_up(server: Server, people: int) -> tuple[list[str], list[str], str]:
    """(tokens, the rooms of the pairs, the room of all)."""
    async with aiohttp.ClientSession() as http:
        async def call(path: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with http.post(server.url + API + path, json=body, headers=headers) as answer:
                said: dict[str, Any] = await answer.json()
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {said}")
                return said

        async def some_at_once(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
            """In their order; much of each is waiting for the database's disk."""
            turn = asyncio.Semaphore(AT_ONCE)

            async def one(work: Coroutine[Any, Any, T]) -> T:
                async with turn:
                    return await work

            return await asyncio.gather(*(one(work) for work in works))

        users = await some_at_once(call("/register", {
            "username": f"person{n}", "password": f"secret-{n}", "auth": {"type": "m.login.dummy"}})
            for n in range(people))
        tokens = [user["access_token"] for user in users]

        async def room(members: range) -> str:
            first, *others = members  # a room that anybody may join takes them without an invitation each
            made: str = (await call("/createRoom", {"preset": "public_chat"}, tokens[first]))["room_id"]
            for n in others:
                await call(f"/join/{made}", {}, tokens[n])
            return made

        pairs = await some_at_once(room(range(n, n + 2)) for n in range(0, people, 2))
        return tokens, pairs, await room(range(people))
