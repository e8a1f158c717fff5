"""`hypersend-server doctor`: looks at the whole deployment, and says what to change."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import aiohttp

from hypersend_server.clock import Ids, system_clock
from hypersend_server.commands.console import Console, json_flag
from hypersend_server.doctor import bus, database, disk, machine, objects, outside, proxy, secrecy
from hypersend_server.doctor.findings import Area, Report, report_of
from hypersend_server.keys import UnfitKey, kept_secret_key, server_process
from hypersend_server.probe import TTL_S, ProbeToken, probe_signer
from hypersend_server.settings import Settings
from hypersend_storage.base import chunk_size_for

IDLE_S = 40  # more than the 30 s between two heartbeats
AREAS = ("secrets", "disk", "database", "object storage", "redis", "machine", "address", "tls", "client address",
         "uploads", "websocket", "downloads", "cors")
MARKS = {"ok": "ok     ", "warn": "warning", "problem": "PROBLEM"}


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="try the whole deployment, through its public address too, and say what to change")
    parser.add_argument("--fix", action="store_true", help="put right what is safe: modes of files, missing indexes, "
                        "MongoDB's parameter, CORS of the bucket, what earlier checks left")
    parser.add_argument("--url", metavar="URL", default="", help="instead of PUBLIC_URL")
    parser.add_argument("--idle", type=int, default=IDLE_S, metavar="S",
                        help=f"how long the WebSocket is silent (default {IDLE_S}: the heartbeat comes every 30)")
    json_flag(parser)
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    areas = {name: Area(name) for name in AREAS}
    url = (arguments.url or settings.public_url).rstrip("/") or f"http://{_loopback(settings.host)}:{settings.port}"
    asyncio.run(_examine(settings, areas, url, arguments.idle, fix=arguments.fix))
    report = report_of([finding for area in areas.values() for finding in area.findings])
    _show(report, console)
    console.result(report)
    return 1 if report.problems else 0


def _loopback(host: str) -> str:
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not listened on
        return "127.0.0.1"
    return f"[{'::1' if host == '::' else host}]" if ":" in host else host


def _show(report: Report, console: Console) -> None:
    for finding in report.findings:
        mark = "mended " if finding.is_mended else MARKS[finding.level]
        console.say(f"{mark}  {finding.area:<14}  {finding.what}")
        for line in finding.fix.splitlines():
            console.say(f"           {line}")
    console.say(f"{report.problems} problems, {report.warnings} warnings")


async def _examine(settings: Settings, areas: dict[str, Area], url: str, idle_s: int, *, fix: bool) -> None:
    secrecy.check(settings, areas["secrets"])
    await asyncio.to_thread(machine.check, areas["machine"], server_process(settings.data_root))
    async with asyncio.TaskGroup() as together:
        if _has_disk(settings):
            together.create_task(asyncio.to_thread(
                disk.check, settings.data_root, settings.max_file_size, holds_database=not settings.mongodb_uri,
                fix=fix, area=areas["disk"]))
        if settings.s3_endpoint or settings.storage_backend == "s3":
            together.create_task(objects.check(settings, fix=fix, area=areas["object storage"]))
        if settings.redis_url:
            together.create_task(bus.check(settings.redis_url, areas["redis"]))
        if settings.mongodb_uri:
            from hypersend_server.doctor import mongo  # with its driver, which the base install has not

            server = together.create_task(mongo.check(settings.mongodb_uri, fix=fix, area=areas["database"]))
        else:
            server = together.create_task(asyncio.to_thread(
                database.check, settings.data_root, fix=fix, area=areas["database"]))
    await _examine_way(settings, areas, url, idle_s, server.result())


def _has_disk(settings: Settings) -> bool:
    """With MongoDB and object storage there is no local state."""
    return not settings.mongodb_uri or settings.storage_backend == "local"


async def _examine_way(settings: Settings, areas: dict[str, Area], url: str, idle_s: int, server_id: str) -> None:
    secret_key = settings.secret_key or _kept_key(settings)
    if not secret_key:
        areas["address"].warn("the way in was not tried: there is no SECRET_KEY here",
                              "Run doctor with the settings of the server, once it has been started.")
        return
    token = probe_signer(secret_key).seal(ProbeToken(system_clock() + TTL_S * 1000))
    reached = await outside.check(url, token, server_id, areas["tls"], areas["address"], areas["client address"])
    if reached is None:
        return
    origins = sorted({*settings.allowed_origins, settings.public_url} - {""})
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        line = proxy.Line(http, url, token, Ids()(), reached)
        idle = asyncio.create_task(proxy.check_socket(line, idle_s, areas["websocket"]))
        try:
            await proxy.check_upload(line, chunk_size_for(settings.max_file_size), areas["uploads"])
            await proxy.check_download(line, settings.x_accel_prefix, str(settings.data_root), areas["downloads"])
            await proxy.check_origins(line, origins, areas["cors"])
            if idle_s > 10 and not idle.done():
                sys.stderr.write(f"waiting for {idle_s} s of silence on a WebSocket …\n")
        finally:
            await idle


def _kept_key(settings: Settings) -> str:
    try:
        return kept_secret_key(settings.data_root)
    except (OSError, UnfitKey):
        return ""
