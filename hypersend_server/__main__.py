"""The `hypersend-server` command.

Exit status: 0 done, 1 problems were found or it could not be done, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence

from hypersend_server import __version__
from hypersend_server.backup import BackupError
from hypersend_server.commands import (
    backups,
    doctor,
    metadata,
    people,
    releases,
    serve,
    settings_in_force,
    status,
    storage,
)
from hypersend_server.commands.console import Console
from hypersend_server.errors import HyperSendError
from hypersend_server.keys import UnfitKey
from hypersend_server.metadata.errors import MetadataError
from hypersend_server.realtime.events import BusRefused
from hypersend_server.settings import Settings, SettingsError
from hypersend_server.web_client import WebClientMissing
from hypersend_storage.errors import StorageError

DONE, PROBLEMS = 0, 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hypersend-server", description="HyperSend's server and its operator's commands. Settings are read from "
        "the environment: see config/example.env, or `hypersend-server config`.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (serve, status, doctor, people, releases, storage, metadata, backups, settings_in_force):
        module.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    console = Console(as_json=getattr(arguments, "json", False))
    try:
        settings = Settings.from_env(os.environ)
        status: int = arguments.run(settings, arguments, console)
        sys.stdout.flush()  # here, where it can be told from an error of ours
        return status
    except SettingsError as error:
        for problem in error.problems:
            console.problem(problem)
    except HyperSendError as error:
        console.problem(error.detail)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (MetadataError, BusRefused, StorageError, BackupError, UnfitKey, WebClientMissing, sqlite3.Error,
            OSError) as error:
        console.problem(str(error))
    except KeyboardInterrupt:
        console.problem("stopped")
    return PROBLEMS


if __name__ == "__main__":
    sys.exit(main())
