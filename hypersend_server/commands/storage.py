"""`hypersend-server gc` and `verify`."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from hypersend_server.app import open_parts
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.files.housekeeping import GcReport, VerifyReport
from hypersend_server.settings import Settings, size_bytes


def add_to(commands: Any) -> None:
    parser = commands.add_parser("gc", help="find what nothing needs any more; nothing younger than 24 hours")
    parser.add_argument("--delete", action="store_true", help="remove it; without this it is only listed")
    json_flag(parser)
    parser.set_defaults(run=run_gc)
    parser = commands.add_parser("verify", help="re-read stored files against the digests of their chunks")
    parser.add_argument("--sample", type=_share, default=1.0, metavar="SHARE", help="only this share, such as 5%%")
    parser.add_argument("--rate", type=_rate, default=None, metavar="BYTES", help="a second at most, such as 20MB")
    parser.add_argument("--after", default="", metavar="FILE_ID", help="go on behind the last file of an earlier run")
    parser.add_argument("--repair", action="store_true", help="remove records of files whose bytes are gone")
    json_flag(parser)
    parser.set_defaults(run=run_verify)


def _share(text: str) -> float:
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < value <= 1:
        raise ValueError
    return value


def _rate(text: str) -> int:
    value = size_bytes(text)
    if value < 1:
        raise ValueError
    return value


def run_gc(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    async def work() -> GcReport:
        async with open_parts(settings, must_exist=True) as parts:
            return await parts.housekeeping.gc(delete=arguments.delete)

    report = asyncio.run(work())
    for stray in report.stray:
        console.say(f"stray    {stray.location} on {stray.backend}, {shown_size(stray.size)}")
    for file_id in report.unshown:
        console.say(f"unshown  {file_id}")
    for file_id in report.lost:
        console.say(f"lost     {file_id}: in the database, but its bytes are not there")
    did = "removed" if report.deleted else "to remove (--delete)"
    console.say(f"{len(report.stray)} strays ({shown_size(report.stray_bytes)}) and {len(report.unshown)} files that "
                f"nothing shows {did}; {len(report.lost)} lost")
    console.result(report)
    return 1 if report.lost else 0


def run_verify(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    report = VerifyReport(after=arguments.after)

    async def work() -> None:
        async with open_parts(settings, must_exist=True) as parts:
            await parts.housekeeping.verify(
                sample=arguments.sample, bytes_per_s=arguments.rate, after=arguments.after, report=report)
            if arguments.repair:
                await parts.housekeeping.gc(delete=True, forget_lost=True)

    interrupted = False
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        interrupted = True
        console.note(f"stopped; go on with --after {report.after}")
    for damage in report.damaged:
        where = f" in chunks {', '.join(map(str, damage.chunks))}" if damage.chunks else ""
        console.say(f"damaged  {damage.id} {damage.name!r} {damage.problem}{where}")
    console.say(f"{report.files} files ({shown_size(report.bytes)}) read, {len(report.damaged)} damaged")
    console.result(report)
    return 1 if report.damaged or interrupted else 0
