"""The `hypersend` command.

Exit status: 0 done, 1 it could not be done (standard error says why), 2 wrong usage, 130 stopped by Ctrl-C.
Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Sequence

from hypersend_client.cli.parser import parse

MIB = 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before there is anything to stop
        sys.stderr.write("Stopped.\n")
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    is_own_process = arguments is None
    if is_own_process:
        gc.disable()
    # Imported late, so that --help, completion and wrong usage answer at once.
    from hypersend_client.cli.commands import UsageError, run
    from hypersend_client.cli.screen import Screen
    from hypersend_client.cli.words import explain
    from hypersend_client.sdk.errors import HyperSendError

    screen = Screen(json=options.json)
    if is_own_process:
        # What was imported stays until the end. To look through it for what could go takes a third of the time in which
        # a small command starts and ends.
        gc.freeze()
        gc.enable()
    try:
        if options.command == "app":
            from hypersend_client.cli.desktop import open_app

            return open_app(options, screen)
        _keep_freed_pages()
        return asyncio.run(run(options, screen))
    except UsageError as error:
        screen.say(f"hypersend {options.command}: {error}")
        return 2
    except HyperSendError as error:
        screen.fail(error.code, explain(error))
        return 1
    except KeyboardInterrupt:
        goes_on = options.command in ("send", "upload", "get", "p2p")
        screen.say("Stopped. " + ("The same command again goes on." if goes_on else ""))
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _keep_freed_pages() -> None:
    """Where the C library is glibc: a transfer's buffers come and go thousands of times, and it would return each one's
    pages to the system and fetch them anew, a tenth of the processor's time. Source: mallopt(3)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 4 * MIB)
        mallopt(M_TRIM_THRESHOLD, 8 * MIB)
