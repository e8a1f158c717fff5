"""What the person sees: results on standard output; progress and sentences on standard error."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json as jsonlib
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

from hypersend_client.cli.words import duration, reason, size
from hypersend_client.sdk.models import Model
from hypersend_client.sdk.transfer import Progress, Transfer

LINE_S = 5.0
# What other people wrote must not move the cursor, recolour the terminal or turn the line around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str, *, one_line: bool = True) -> str:
    """Text of others, without what a terminal would obey."""
    text = _CONTROL.sub("", text)
    return " ".join(text.split()) if one_line else text


def width(text: str) -> int:
    """Columns on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Screen:
    """json: results are one JSON object."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.is_terminal = sys.stderr.isatty()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a name that this terminal cannot show is no reason to end

    def say(self, text: str) -> None:
        """A sentence for the person."""
        sys.stderr.write(text.strip() + "\n")
        sys.stderr.flush()

    async def ask(self, question: str) -> str:
        """The line that is typed, "" at its end. Not `input`, which asks on standard output, and for whose Enter Ctrl-C
        would wait.
        """
        sys.stderr.write(question)
        sys.stderr.flush()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        def tell(line: bytes) -> None:
            if not answer.done():
                answer.set_result(line)

        def read() -> None:
            # Past Python's own buffer, whose lock would be missed when the program ends first.
            line = os.read(sys.stdin.fileno(), 4096)
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(tell, line)

        threading.Thread(target=read, daemon=True).start()
        return (await answer).decode(errors="replace")

    def fail(self, code: str, text: str) -> None:
        self.say(text)
        if self.json:
            self.put({"error": {"code": code, "message": text}})

    def result(self, value: Model | dict[str, Any], text: str) -> None:
        """value: for --json. text: otherwise."""
        if self.json:
            self.put(value.to_json() if isinstance(value, Model) else value)
        elif text:
            self.out(text)

    def put(self, value: dict[str, Any]) -> None:
        """One JSON object on one line."""
        self.out(jsonlib.dumps(value, ensure_ascii=False))

    def out(self, text: str) -> None:
        """One result."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def table(self, rows: Sequence[Sequence[str]], empty: str) -> str:
        """Columns; `empty` is said where there are no rows."""
        if self.json:
            return ""
        if not rows:
            self.say(empty)
            return ""
        widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell + " " * (widths[at] - width(cell)) for at, cell in enumerate(row)).rstrip() for row in rows
        )

    async def follow(self, transfers: Sequence[Transfer[Any]]) -> None:
        """Show how they go, until all have ended, however they ended."""
        if self.is_terminal:
            await self._bars(transfers)
        else:
            await asyncio.gather(*(self._lines(transfer) for transfer in transfers))

    async def _lines(self, transfer: Transfer[Any]) -> None:
        """How it goes, a second after it began and then now and then; and each other state that it comes to."""
        loop = asyncio.get_running_loop()
        name, due_at, said = clean(transfer.name), loop.time() + 1, "running"
        async for progress in transfer.updates():
            is_running = progress.state in ("queued", "running", "finishing")
            if is_running and (progress.state == "queued" or loop.time() < due_at):
                continue
            if is_running or progress.state != said:
                self.say(f"{name}: {_line(progress)}")
                due_at, said = loop.time() + (LINE_S if is_running else 1), progress.state

    async def _bars(self, transfers: Sequence[Transfer[Any]]) -> None:
        # Imported here, as it costs a tenth of a second that `hypersend chats` need not wait for.
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Bars(*columns, console=Console(stderr=True), expand=True) as bars:

            async def one(transfer: Transfer[Any]) -> None:
                name = clean(transfer.name)
                name = name if len(name) <= 40 else name[:28] + "…" + name[-11:]
                task = bars.add_task(name, total=None, note="")
                async for progress in transfer.updates(0.1):
                    total = progress.size_bytes
                    if progress.state == "done" and not total:
                        bars.update(task, total=1, completed=1, note=_note(progress))
                    else:
                        bars.update(task, total=total or None, completed=progress.done_bytes, note=_note(progress))

            await asyncio.gather(*map(one, transfers))


def _note(progress: Progress) -> str:
    match progress.state:
        case "running" | "finishing":
            left = f"  {duration(progress.left_s)} left" if progress.left_s is not None else ""
            speed = f"  {size(progress.bytes_per_s)}/s" if progress.bytes_per_s >= 1 else ""
            return f"{size(progress.done_bytes)}{speed}{left}"
        case "waiting":
            return f"waiting: {reason(progress.error)}"
        case "done":
            return size(progress.size_bytes)
        case state:
            return state


def _line(progress: Progress) -> str:
    if progress.state in ("running", "finishing") and progress.size_bytes:
        return f"{100 * progress.done_bytes // progress.size_bytes} %, {_note(progress).replace('  ', ', ')}"
    return f"done, {size(progress.size_bytes)}" if progress.state == "done" else _note(progress)
