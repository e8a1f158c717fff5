"""Room that is kept for the day when the disk is full.

On a full disk nothing can be recorded, not even a deletion that would make room. So a file of a few MiB lies beside
the database. When there is no room left it is given up, and until there is room again only what does not make the
server larger is let through: signing in, deleting, moving on. Who asks is told by `is_low`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

FILE_NAME = "reserve"
MOST_BYTES = 16 * 1024 * 1024
LEAST_FREE_BYTES = 256 * 1024
log = logging.getLogger(__name__)


class DiskReserve:
    """folder: where the database is. Methods block and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self.is_low = False

    def release(self) -> bool:
        """Give the room up; False where there was none to give."""
        self.is_low = True
        try:
            self._path.unlink()
        except OSError:
            return False
        log.error("the disk of %s is full: only what makes room is accepted now", self._path.parent)
        return True

    def check(self) -> None:
        """Give the room up where the disk is full, and take it back where there is plenty. Called now and again."""
        status = os.statvfs(self._path.parent)
        free = status.f_bavail * status.f_frsize
        size = min(MOST_BYTES, status.f_blocks * status.f_frsize // 64)
        if self._path.exists():
            if free < LEAST_FREE_BYTES:
                self.release()
        elif free >= 4 * size:
            self._take(size)
            if self.is_low:
                log.warning("there is room on the disk of %s again", self._path.parent)
            self.is_low = False

    def _take(self, size: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
