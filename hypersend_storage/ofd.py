"""Locks on ranges of a file, held by an open file description.

Plain POSIX locks belong to a process: a second descriptor in it is let in, and closing any descriptor of the file
drops them all. These belong to the one `open` that took them, exclude other opens in this and in other processes,
and end when that descriptor is closed or its process dies.

Source: fcntl_locking(2), "Open file description locks".
"""

from __future__ import annotations

import errno
import fcntl
import struct

from hypersend_storage.errors import ChunkBusy

_FLOCK = "hhqqi0q"  # struct flock: l_type, l_whence, l_start, l_len, l_pid, and the padding at its end


def lock_range(descriptor: int, start: int, length: int) -> None:
    """Take the range for writing, without waiting; a length of 0 reaches to the end, however far that moves.

    Raises: ChunkBusy where somebody holds a part of it, OSError.
    """
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise ChunkBusy("another request is writing here") from error
        raise
