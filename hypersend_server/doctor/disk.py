"""The disk under DATA_ROOT: room, kind, speed, sparse files, and who may read it."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from hypersend_server.commands.console import shown_size
from hypersend_server.doctor.findings import Area, shown_ms
from hypersend_server.keys import KEY_FILE
from hypersend_server.metadata.sqlite import FILE_NAME

LOW_BYTES = 1 << 30
SPEED_BYTES = 32 << 20
SLOW_BYTES_PER_S = 20_000_000
SLOW_SYNC_S = 0.05
SYNCS = 8
MOUNTS = Path("/proc/self/mountinfo")
FOR_OTHERS = stat.S_IRWXO
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "ceph",
                     "glusterfs", "fuse.glusterfs"})
NOT_FOR_LONG = frozenset({"tmpfs", "ramfs", "overlay"})
NOT_SPARSE = frozenset({"vfat", "msdos", "exfat", "hfs", "hfsplus"})


def check(root: Path, max_file_size: int, *, holds_database: bool, fix: bool, area: Area) -> None:
    """In a thread."""
    if not root.is_dir():
        area.problem(f"the folder {root} (DATA_ROOT) is not there",
                     f"install -d -m 0750 -o hypersend -g hypersend {root}")
        return
    free = _check_room(root, max_file_size, area)
    _check_kind(root, area, holds_database=holds_database)
    _check_modes(root, area, fix=fix)
    if free < 4 * SPEED_BYTES:
        return  # what is left is not to be written full
    probe = root / f".doctor-{secrets.token_hex(8)}"
    try:
        _check_writing(probe, area)
    except OSError as error:
        area.problem(f"nothing can be written to {root}: {error.strerror}",
                     f"chown -R hypersend:hypersend {root}    (the user that runs the server), or mount it read-write")
    finally:
        probe.unlink(missing_ok=True)


def _check_room(root: Path, max_file_size: int, area: Area) -> int:
    """Returns: the bytes that are free."""
    state = os.statvfs(root)
    free, total = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    text = f"{shown_size(free)} of {shown_size(total)} are free at {root}"
    fix = "Make room: hypersend-server gc --delete, a larger disk, USER_QUOTA, or STORAGE_BACKEND=s3"
    if free < LOW_BYTES:
        area.problem(text, fix)
    elif free < max_file_size:
        area.warn(f"{text}: less than the largest file that is taken", f"{fix}; or a smaller MAX_FILE_SIZE")
    else:
        area.ok(text)
    if state.f_files and state.f_favail < state.f_files // 50:
        area.problem(f"{state.f_favail} of {state.f_files} inodes are left at {root}",
                     "Remove many small files there, or make the file system anew with more inodes (mkfs.ext4 -N).")
    return free


def _check_kind(root: Path, area: Area, *, holds_database: bool) -> None:
    kind = file_system(root, MOUNTS.read_text(encoding="utf-8", errors="replace"))
    if kind in NOT_SPARSE:
        area.problem(f"{root} is on {kind}, which keeps no sparse or no large files", "Use ext4, xfs, btrfs or zfs.")
    elif kind in NETWORK and holds_database:
        area.problem(f"{root} is on {kind}: SQLite over a network loses data",
                     "Put DATA_ROOT on a disk of this machine, or set MONGODB_URI and STORAGE_BACKEND=s3.")
    elif kind in NOT_FOR_LONG:
        area.warn(f"{root} is on {kind}: it is gone when the machine or the container ends",
                  "Mount a volume there; compose:\n    volumes: [\"data:/data\"]")
    else:
        area.ok(f"the file system is {kind or 'unknown'}")
    folders = [folder for folder in (root / "uploads", root / "files") if folder.is_dir()]
    if len({folder.stat().st_dev for folder in folders}) > 1:
        area.problem(f"{root}/uploads and {root}/files are on two file systems: no upload can be completed",
                     "Mount the disk at DATA_ROOT itself.")


def file_system(path: Path, mountinfo: str) -> str:
    """The kind of the file system that `path` is on, by /proc/self/mountinfo (proc(5)); '' where it is not said."""
    found, length = "", -1
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        if len(point.parts) >= length and path.resolve().is_relative_to(point):
            found, length = after.split(" ")[0], len(point.parts)
    return found


def _check_modes(root: Path, area: Area, *, fix: bool) -> None:
    wrong = [path for path in _private(root) if stat.S_IMODE(path.lstat().st_mode) & _too_much(path)]
    if not wrong:
        area.ok("nobody else on this machine may read the data")
        return
    if fix:
        for path in wrong:
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_too_much(path))
        area.mended(f"others may no longer read {', '.join(map(str, wrong))}")
        return
    area.problem(f"others on this machine may read {', '.join(map(str, wrong))}",
                 "hypersend-server doctor --fix, or:\n"
                 + "\n".join(f"    chmod {'go-rwx' if _too_much(path) & stat.S_IRWXG else 'o-rwx'} {path}"
                             for path in wrong))


def _private(root: Path) -> Iterator[Path]:
    yield root
    for name in (KEY_FILE, FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "uploads", "files"):
        if (root / name).exists():
            yield root / name


def _too_much(path: Path) -> int:
    return FOR_OTHERS | (stat.S_IRWXG if path.name == KEY_FILE else 0)


def _check_writing(probe: Path, area: Area) -> None:
    """Raises: OSError."""
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, 1 << 30)
        os.pwrite(descriptor, b"end", (1 << 30) - 3)
        if os.fstat(descriptor).st_blocks * 512 > 1 << 28:
            area.warn("files are not sparse here: an upload takes its whole size at once", "Use ext4, xfs or btrfs.")
        os.ftruncate(descriptor, 0)
        block, began = os.urandom(1 << 20), time.monotonic()
        for number in range(SPEED_BYTES >> 20):
            os.pwrite(descriptor, block, number << 20)
        os.fdatasync(descriptor)
        speed = SPEED_BYTES / (time.monotonic() - began)
        began = time.monotonic()
        for number in range(SYNCS):
            os.pwrite(descriptor, b"x", number)
            os.fdatasync(descriptor)
        sync_s = (time.monotonic() - began) / SYNCS
    finally:
        os.close(descriptor)
    text = f"{shown_size(int(speed))} a second are written, a sync takes {shown_ms(sync_s)}"
    if speed < SLOW_BYTES_PER_S or sync_s > SLOW_SYNC_S:
        area.warn(f"the disk is slow: {text}", "Every message waits for one sync: prefer an SSD for DATA_ROOT.")
    else:
        area.ok(text)
