"""`hypersend-server status`: how the server is, in a few lines: asked of the one that runs, and of the database."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from hypersend_server import __version__
from hypersend_server.app import open_parts
from hypersend_server.backup import LAST_BACKUP
from hypersend_server.clock import system_clock
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.files.housekeeping import LAST_GC
from hypersend_server.settings import Settings

ANSWER_S = 10.0


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The server that answers at HOST and PORT. degraded: parts that are gone. version: '' where it does not tell its
    numbers to this address."""

    version: str
    uptime_s: int
    sockets: int
    people_online: int
    transfers: int
    writes_waiting: int
    memory_bytes: int
    degraded: list[str]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """running: null where no server answers here. store_bytes: of files, by store. free_bytes: by store, where that is
    known. last_backup, last_gc: RFC 3339, '' for never."""

    version: str
    running: Running | None
    users: int
    messages: int
    files: int
    file_bytes: int
    store_bytes: dict[str, int]
    uploads: int
    upload_bytes: int
    free_bytes: dict[str, int]
    last_backup: str
    last_gc: str


def add_to(commands: Any) -> None:
    parser = commands.add_parser("status", help="whether the server runs, who is there, what is stored")
    json_flag(parser)
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    status = asyncio.run(_status(settings))
    _show(status, console)
    console.result(status)
    return 0 if status.running is not None and not status.running.degraded else 1


async def _status(settings: Settings) -> Status:
    running = await asyncio.to_thread(ask, settings)
    async with open_parts(settings, must_exist=True) as parts:
        stats = await parts.metadata.accounts.stats()
        now = system_clock()
        held = {name: (await parts.metadata.files.stored(name, now)).size for name in parts.stores}
        free = {name: await store.free_bytes() for name, store in parts.stores.items()}
        return Status(
            version=__version__, running=running, users=stats.users, messages=stats.messages, files=stats.files,
            file_bytes=stats.file_bytes, store_bytes=held, uploads=stats.uploads,
            upload_bytes=stats.upload_bytes,
            free_bytes={name: size for name, size in free.items() if size is not None},
            last_backup=await parts.metadata.server.get_mark(LAST_BACKUP),
            last_gc=await parts.metadata.server.get_mark(LAST_GC))


def ask(settings: Settings) -> Running | None:
    """What the server at HOST and PORT says of itself; None where none answers. In a thread."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104
    base = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    try:
        ready = json.loads(_get(f"{base}/readyz", settings))
        try:
            numbers = _numbers(_get(f"{base}/metrics", settings).decode())
        except urllib.error.HTTPError as error:  # where HOST is not loopback and there is no METRICS_TOKEN
            error.close()
            numbers = []
    except (OSError, ValueError):
        return None
    if not isinstance(ready, dict) or not isinstance(ready.get("degraded"), list):
        return None  # something else listens there
    now = time.time()
    return Running(
        version=next((labels["version"] for name, labels, _ in numbers if name == "hypersend_build_info"), ""),
        uptime_s=max(0, int(now - (_one(numbers, "process_start_time_seconds") or now))),
        sockets=int(_one(numbers, "hypersend_sockets")), people_online=int(_one(numbers, "hypersend_people_online")),
        transfers=int(_one(numbers, "hypersend_relay_transfers")),
        writes_waiting=int(_one(numbers, "hypersend_writes_waiting")),
        memory_bytes=int(_one(numbers, "process_resident_memory_bytes")), degraded=[*map(str, ready["degraded"])])


def _get(url: str, settings: Settings) -> bytes:
    """Raises: OSError, urllib.error.HTTPError among them."""
    token = {"Authorization": f"Bearer {settings.metrics_token}"} if settings.metrics_token else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=token), timeout=ANSWER_S) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


def _numbers(text: str) -> list[tuple[str, Mapping[str, str], float]]:
    """(name, labels, value) of each sample. Raises: ValueError."""
    return [(sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text) for sample in family.samples]


def _one(numbers: list[tuple[str, Mapping[str, str], float]], name: str) -> float:
    return next((value for found, _, value in numbers if found == name), 0.0)


def _show(status: Status, console: Console) -> None:
    running = status.running
    if running is None:
        console.say("server    not running here")
    else:
        state = f"degraded: {', '.join(running.degraded)}" if running.degraded else "well"
        if running.version:
            console.say(f"server    version {running.version}, up {shown_time(running.uptime_s)}, {state}, "
                        f"{shown_size(running.memory_bytes)} of memory")
            console.say(f"now       {running.people_online} people online, {running.sockets} sockets, "
                        f"{running.transfers} transfers, {running.writes_waiting} writes waiting")
        else:
            console.say(f"server    runs, {state}; set METRICS_TOKEN for its numbers")
    console.say(f"people    {status.users}, {status.messages} messages")
    free = ", ".join(f"{shown_size(size)} free on {name}" for name, size in status.free_bytes.items())
    stores = ", ".join(f"{shown_size(size)} on {name}" for name, size in status.store_bytes.items())
    held = stores if len(status.store_bytes) > 1 else shown_size(status.file_bytes)
    console.say(f"files     {status.files} ({held}){'; ' if free else ''}{free}")
    console.say(f"uploads   {status.uploads} under way ({shown_size(status.upload_bytes)})")
    console.say(f"backup    {status.last_backup or 'never'}")
    console.say(f"gc        {status.last_gc or 'never'}")
    if running is not None and running.version not in ("", status.version):
        console.say(f"note      this program is version {status.version}: start the server again")


def shown_time(seconds: int) -> str:
    """The two largest units: '3 d 4 h', '12 min 5 s'."""
    units = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    shown = [f"{count} {unit}" for count, unit in units if count]
    return " ".join(shown[:2]) or "0 s"
