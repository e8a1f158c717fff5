"""`hypersend-server gc`, `verify` and `migrate-storage`."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hypersend_server.app import open_parts
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.files.housekeeping import GcReport, VerifyReport
from hypersend_server.files.migration import Migration, MigrationReport, Stopped
from hypersend_server.settings import Settings, duration_s, size_bytes

SHOW_EVERY_S = 2.0
SPEED_MARKS = 8


def add_to(commands: Any) -> None:
    parser = commands.add_parser("gc", help="find what nothing needs any more; nothing younger than 24 hours")
    parser.add_argument("--delete", action="store_true", help="remove it; without this it is only listed")
    json_flag(parser)
    parser.set_defaults(run=run_gc)
    parser = commands.add_parser("verify", help="re-read stored files against the digests of their chunks")
    parser.add_argument("--sample", type=_share, default=1.0, metavar="SHARE", help="only this share, such as 5%%")
    parser.add_argument("--rate", type=_rate, default=None, metavar="BYTES", help="a second at most, such as 20MB")
    parser.add_argument("--after", default=None, metavar="FILE_ID",
                        help="go on behind this file, '' for all; otherwise where an earlier run was stopped")
    parser.add_argument("--repair", action="store_true", help="remove records of files whose bytes are gone")
    json_flag(parser)
    parser.set_defaults(run=run_verify)
    parser = commands.add_parser("migrate-storage", help="move stored files to another storage while people use them")
    parser.add_argument("--to", required=True, choices=("s3", "local"), help="where they shall be")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be moved")
    parser.add_argument("--rate", type=_rate, default=None, metavar="BYTES", help="a second at most, such as 20MB")
    parser.add_argument("--older-than", type=_age, default=0, metavar="TIME", help="only files older than 30d")
    json_flag(parser)
    parser.set_defaults(run=run_migrate)


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a share such as 5%") from None
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 100%")
    return value


def _rate(text: str) -> int:
    value = _said(size_bytes, text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _age(text: str) -> int:
    return _said(duration_s, text)


def _said(read: Callable[[str], int], text: str) -> int:
    """What a setting's own reader makes of it, and what that says of what it cannot read."""
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from None


def run_gc(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    async def work() -> GcReport:
        async with open_parts(settings, must_exist=True) as parts:
            report = await parts.housekeeping.gc(delete=arguments.delete)
            if arguments.delete:  # and what else recurs, for servers with BACKGROUND_JOBS=off
                await parts.account_deletion.resume()
                await parts.accounts.tidy()
                await parts.transfers.tidy()
            return report

    report = asyncio.run(work())
    for stray in report.stray:
        console.say(f"stray    {stray.location} on {stray.backend}, {shown_size(stray.size)}")
    for file_id in report.unshown:
        console.say(f"unshown  {file_id}")
    for file_id in report.abandoned:
        console.say(f"ended    {file_id}: an upload whose bytes may still be there")
    for problem in report.problems:
        console.problem(problem)
    for file_id in report.lost:
        console.say(f"lost     {file_id}: in the database, but its bytes are not there")
    did = "removed" if report.deleted else "to remove (--delete)"
    console.say(f"{len(report.stray)} strays ({shown_size(report.stray_bytes)}) and {len(report.unshown)} files that "
                f"nothing shows, {len(report.abandoned)} ended uploads {did}; {len(report.lost)} lost")
    console.result(report)
    return 1 if report.lost or report.problems else 0


def run_verify(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    report = VerifyReport()

    async def work() -> None:
        async with open_parts(settings, must_exist=True) as parts:
            await parts.housekeeping.verify(
                sample=arguments.sample, bytes_per_s=arguments.rate, after=arguments.after, report=report,
                mark="verify")
            if arguments.repair:
                swept = await parts.housekeeping.gc(delete=True, forget_lost=True)
                report.forgotten = swept.forgotten
                report.kept = sorted(set(swept.lost) - set(swept.forgotten))

    interrupted = False
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        interrupted = True
        console.note(f"stopped behind {report.after}; the next run goes on there")
    for damage in report.damaged:
        where = f" in chunks {', '.join(map(str, damage.chunks))}" if damage.chunks else ""
        console.say(f"damaged  {damage.id} {damage.name!r} {damage.problem}{where}")
    console.say(f"{report.files} files ({shown_size(report.bytes)}) read, {len(report.damaged)} damaged")
    if report.unread:
        console.note(f"{report.unread} files are on a storage that is not open, and were not read")
    if arguments.repair:
        console.say(f"{len(report.forgotten)} records without bytes removed" + (
            f"; {len(report.kept)} stay: of files younger than 24 hours, of another size, or on a storage that holds "
            "nothing at all" if report.kept else ""))
    console.result(report)
    return 1 if report.damaged or report.unread or interrupted else 0


def run_migrate(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    target: str = arguments.to
    reports: list[MigrationReport] = []
    if target != settings.storage_backend:
        console.note(f"STORAGE_BACKEND is {settings.storage_backend}: new files go there, not to {target}")

    async def work() -> None:
        async with open_parts(settings, must_exist=True, must_open=[target]) as parts:
            migration = Migration(
                parts.metadata.files, parts.metadata.server, parts.stores, target, parts.clock,
                bytes_per_s=arguments.rate, older_than_s=arguments.older_than, dry_run=arguments.dry_run)
            reports.append(migration.report)
            showing = asyncio.create_task(_show(migration, console))
            try:
                await migration.run()
            finally:
                showing.cancel()

    try:
        asyncio.run(work())
    except Stopped as stop:
        console.note(str(stop))
    except KeyboardInterrupt:
        if reports:
            reports[0].stopped = "interrupted"
    for report in reports:
        _say_migrated(report, console)
        console.result(report)
    return 1 if any(report.stopped or report.failed for report in reports) or not reports else 0


async def _show(migration: Migration, console: Console) -> None:
    """A line now and then: how much, how fast, how long it will take."""
    marks = deque([(time.monotonic(), migration.copied_bytes)], maxlen=SPEED_MARKS)
    while True:
        await asyncio.sleep(SHOW_EVERY_S)
        now, done = time.monotonic(), migration.copied_bytes
        began, before = marks[0]
        marks.append((now, done))
        speed = (done - before) / (now - began)
        left = max(0, migration.total_bytes - done)
        time_left = f", {left / speed:.0f} s left" if speed > 0 else ""
        console.note(f"{migration.report.files} files, {shown_size(done)} of {shown_size(migration.total_bytes)}, "
                     f"{shown_size(int(speed))}/s{time_left}")


def _say_migrated(report: MigrationReport, console: Console) -> None:
    for failure in report.failed:
        console.say(f"failed   {failure.id} {failure.name!r}: {failure.reason}")
    did = "would move" if report.dry_run else "moved"
    speed = f" in {report.seconds:.0f} s, {shown_size(int(report.bytes / report.seconds))}/s" if (
        report.bytes and report.seconds and not report.dry_run) else ""
    console.say(f"{did} {report.files} files ({shown_size(report.bytes)}) to {report.to}{speed}; "
                f"{len(report.failed)} failed, {report.removed} were removed meanwhile")
    if report.uploads:
        console.say(f"uploads under way elsewhere: {report.uploads}; run this again when they are complete")
    if report.stopped:
        console.say(f"stopped: {report.stopped}; the same command goes on from here")
