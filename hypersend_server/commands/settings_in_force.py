"""`hypersend-server config`: the settings in force, secrets hidden."""

from __future__ import annotations

import argparse
from typing import Any

from hypersend_server.commands.console import Console, json_flag
from hypersend_server.settings import SETTINGS, Settings


def add_to(commands: Any) -> None:
    parser = commands.add_parser("config", help="print the settings in force, secrets hidden")
    json_flag(parser)
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    shown = {setting.name: _shown(settings, setting.attribute, setting.secret) for setting in SETTINGS}
    for name, value in shown.items():
        console.say(f"{name}={value}")
    console.result(shown)
    return 0


def _shown(settings: Settings, attribute: str, secret: bool) -> str:
    value = getattr(settings, attribute)
    if secret:
        return "(set)" if value else ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
