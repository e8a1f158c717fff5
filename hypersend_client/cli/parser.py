"""What can be typed, and its help."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence

from hypersend_client import __version__

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_EPILOG = """\
The server is --server, else API_BASE_URL (or API_URL), else the one used last. A password is asked for, or taken
from HYPERSEND_PASSWORD or from standard input.

Uploads and downloads go on where they were: stop with Ctrl-C, and give the same command again.

Exit status: 0 done, 1 it could not be done, 2 wrong usage.
"""


def rate(text: str) -> float:
    """`500K`, `2.5M`: bytes a second."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?(?:/s)?", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"a rate is written like 500K or 2M, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def common_options() -> argparse.ArgumentParser:
    """Options that may stand anywhere."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--server", metavar="ADDRESS", help="the server, such as https://chat.example.org")
    parser.add_argument("--account", metavar="NAME", help="which account, by e-mail or user name")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output at the end")
    return parser


def build() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hypersend",
        description="Chat, and send files of any size, on your own HyperSend server.",
        parents=[common_options()],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hypersend {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", allow_abbrev=False)

    def limit(of: argparse.ArgumentParser) -> None:
        of.add_argument("--limit-rate", type=rate, metavar="RATE", help="at most so many bytes a second: 500K, 2M")

    login = command("login", "sign in on a server")
    login.add_argument("email", metavar="EMAIL")
    command("logout", "sign out and forget the account on this device")
    command("whoami", "show who is signed in, and where")
    chats = command("chats", "list chats")
    chats.add_argument("--archived", action="store_true", help="the archived ones")
    send = command("send", "send a message, or files; what was stopped goes on")
    send.add_argument("chat", metavar="CHAT", help="its id, @username, or the title of a group")
    send.add_argument("text", nargs="*", default=[], metavar="TEXT", help="the text; - reads it from standard input")
    send.add_argument("--file", nargs="+", action="extend", default=[], metavar="PATH", help="up to 10 files")
    send.add_argument("--p2p", action="store_true", help="from device to device; the server keeps nothing")
    send.set_defaults(relay_only=False)
    limit(send)
    watch = command("watch", "show messages as they come")
    watch.add_argument("chat", nargs="?", metavar="CHAT", help="of this chat alone")
    get = command("get", "download a file, or the files of a message")
    get.add_argument("id", metavar="FILE_ID|MESSAGE")
    get.add_argument("-o", "--output", metavar="PATH", help="file or folder; otherwise the Downloads folder")
    limit(get)
    upload = command("upload", "upload a file without sending it to anyone")
    upload.add_argument("path", metavar="PATH")
    limit(upload)
    p2p = command("p2p", "send files from device to device; the server keeps nothing of them")
    ways = p2p.add_subparsers(dest="p2p", metavar="send|receive|list|store|decline|cancel|safety", required=True)

    def way(name: str, help_: str) -> argparse.ArgumentParser:
        of = ways.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", allow_abbrev=False)
        of.set_defaults(limit_rate=None, relay_only=False)
        return of

    offer = way("send", "offer files, or all in a folder, and send them once they are accepted")
    offer.add_argument("chat", metavar="CHAT", help="its id, @username, or the title of a group")
    offer.add_argument("path", nargs="+", metavar="PATH")
    take = way("receive", "accept a file and receive it; what was stopped goes on")
    take.add_argument("transfer", nargs="?", metavar="TRANSFER", help="otherwise the oldest that waits, else the next")
    take.add_argument("--yes", action="store_true", help="accept without asking")
    take.add_argument("--all", action="store_true", help="all that come, until nothing more is offered")
    take.add_argument("-o", "--output", metavar="DIR", help="folder; otherwise the Downloads folder")
    for of in (offer, take):
        limit(of)
        of.add_argument("--relay-only", action="store_true", help="never directly, also on the same network")
    known = way("list", "list what you send and are offered, and what became of it in a chat")
    known.add_argument("chat", nargs="?", metavar="CHAT", help="all of this chat; otherwise what is not over")
    for name, help_ in (
        ("store", "put a file that you offered on the server instead, which keeps it"),
        ("decline", "turn an offer down"),
        ("cancel", "call a transfer off, from either side"),
    ):
        of = way(name, help_)
        of.add_argument("transfer", metavar="TRANSFER", help="its id, as `hypersend p2p list` shows it")
        if name == "store":
            limit(of)
    number = way("safety", "show the safety numbers of this device and theirs, to compare them")
    number.add_argument("chat", metavar="CHAT", help="its id, @username, or the title of a group")
    command("ls", "list your files on the server")
    rm = command("rm", "remove a file from the server, for everyone")
    rm.add_argument("id", metavar="FILE_ID")
    if importlib.util.find_spec("hypersend_client.main") is not None:
        command("app", "open the app")
    completion = command("completion", "print a script that lets the shell complete this command")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Wrong usage ends the program with status 2."""
    # Taken out first, as argparse would let `send CHAT --json hello` end at CHAT.
    common, rest = common_options().parse_known_args(list(arguments))
    options = build().parse_args(rest, argparse.Namespace())
    for name, value in vars(common).items():
        setattr(options, name, value)
    if options.command == "completion":
        from hypersend_client.cli.completion import script

        sys.stdout.write(script(options.shell, build()))
        sys.exit(0)
    return options
