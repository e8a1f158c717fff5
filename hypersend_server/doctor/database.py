"""SQLite: version, integrity, indexes, latency. Reads the file as it is: nothing is migrated."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from hypersend_server.doctor.findings import Area, shown_ms
from hypersend_server.metadata.sqlite import FILE_NAME
from hypersend_server.metadata.sqlite.schema import migrate, migrations, version_of

OLDEST = (3, 37, 0)
SLOW_S = 0.1
CHECK_BELOW_BYTES = 2 << 30  # a larger one is not read whole unasked
RESTORE = "Stop the server, keep a copy, and go back to the last backup: hypersend-server restore DIR (docs/backup.md)"


def check(root: Path, *, fix: bool, area: Area) -> str:
    """In a thread. Returns: the server's id, '' where there is none to be read."""
    path = root / FILE_NAME
    if sqlite3.sqlite_version_info < OLDEST:
        area.problem(f"SQLite is {sqlite3.sqlite_version}", "Use a Python with SQLite 3.37 or later (Debian 12 has).")
    if not path.exists():
        area.warn(f"there is no database at {path} yet", "The first `hypersend-server serve` makes it.")
        return ""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=15, isolation_level=None)) as opened:
            _check_version(opened, area)
            _check_indexes(opened, area, fix=fix)
            _check_content(opened, path, area)
            _check_latency(opened, area)
            row = opened.execute("SELECT value FROM meta WHERE key = 'server_id'").fetchone()
            return str(row[0]) if row else ""
    except sqlite3.Error as error:
        area.problem(f"the database {path} cannot be used: {error}", RESTORE)
        return ""


def _check_version(opened: sqlite3.Connection, area: Area) -> None:
    version, newest = version_of(opened), migrations()[-1][0]
    if version > newest:
        area.problem(f"the database has schema version {version}, this program knows up to {newest}",
                     "Start the newer program that wrote it, or restore a backup from before the upgrade.")
    elif version < newest:
        area.warn(f"the database has schema version {version}; {newest} is current",
                  "The next start brings it there: take a backup first (hypersend-server backup DIR).")
    else:
        area.ok(f"schema version {version} is current")


def _indexes(opened: sqlite3.Connection) -> dict[str, str]:
    return dict(opened.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))


def _check_indexes(opened: sqlite3.Connection, area: Area, *, fix: bool) -> None:
    if version_of(opened) != migrations()[-1][0]:
        return
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh)
        wanted = _indexes(fresh)
    missing = sorted(wanted.keys() - _indexes(opened).keys())
    if not missing:
        area.ok(f"all {len(wanted)} indexes are there")
    elif fix:
        for name in missing:
            opened.execute(wanted[name])
        area.mended(f"the indexes {', '.join(missing)} were made again")
    else:
        area.problem(f"the indexes {', '.join(missing)} are missing: it is slow, and may hold things twice",
                     "hypersend-server doctor --fix, or:\n" + "\n".join(f"    {wanted[name]};" for name in missing))


def _check_content(opened: sqlite3.Connection, path: Path, area: Area) -> None:
    if path.stat().st_size > CHECK_BELOW_BYTES:
        area.ok("the database is too large to be read whole here (sqlite3 FILE 'PRAGMA integrity_check' does)")
        return
    found = [row[0] for row in opened.execute("PRAGMA integrity_check(5)")]
    if found == ["ok"]:
        area.ok("the database is sound")
    else:
        area.problem(f"the database is damaged: {'; '.join(' '.join(text.split()) for text in found)}", RESTORE)


def _check_latency(opened: sqlite3.Connection, area: Area) -> None:
    opened.execute("PRAGMA synchronous = FULL")
    began = time.monotonic()
    opened.execute("BEGIN IMMEDIATE")
    # A number is left out, which nobody minds; the same one again would not be written at all.
    opened.execute("UPDATE meta SET value = value + 1 WHERE key = 'change'")
    opened.execute("COMMIT")
    took = time.monotonic() - began
    if took > SLOW_S:
        area.warn(f"a write takes {shown_ms(took)}, and every message is one", "Put DATA_ROOT on an SSD.")
    else:
        area.ok(f"a write takes {shown_ms(took)}")
