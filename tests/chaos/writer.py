"""A person of a run: a client process, to be killed at any moment, and what it wrote down."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.checks import Note, Said
from tests.chaos.client import lines
from tests.process import REPOSITORY
from tests.sdk_transfers.line import Line

SETTLE_S = 300
COUNTED = re.compile(r" \(\d+\)(?=\.bin$)")  # what a name gets behind it where it is there already


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Writer:
    """A person's client process. unnoted: local file → how many kills came before it had noted that it was passed on.
    """

    def __init__(self, home: Path, line: Line, seed: str, pause_s: float) -> None:
        self.home = home
        self.line = line
        self._seed = seed
        self._starts = 0
        self._pause_s = pause_s
        self.process: asyncio.subprocess.Process | None = None
        self.unnoted: Counter[str] = Counter()

    async def start(self) -> None:
        """Unless it runs; it ends only by being killed."""
        if self.process is not None and self.process.returncode not in (None, -signal.SIGKILL):
            raise AssertionError(f"a client ended by itself: {(self.home / 'errors.log').read_text()[-4000:]}")
        if self.process is None or self.process.returncode is not None:
            self.process = await self._run("write")

    async def _run(self, what: str) -> asyncio.subprocess.Process:
        errors = (self.home / "errors.log").open("a")
        self._starts += 1
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.chaos.client", str(self.home), self.line.url,
                f"{self._seed}.{self._starts}", str(self._pause_s), what, cwd=REPOSITORY, stderr=errors,
                stdout=asyncio.subprocess.PIPE)
        finally:
            errors.close()

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
            # Whatever it was passing on may have arrived, and it does not know that.
            passed = {line["file"] for line in lines(self.home / "passed.jsonl")}
            self.unnoted.update(
                line["file"] for line in lines(self.home / "passing.jsonl") if line["file"] not in passed)

    async def settle(self) -> dict[str, Any]:
        """What this person's client shows when it has sent and received all: the one that runs, else a new one."""
        process, self.process = self.process or await self._run("settle"), None
        try:
            async with asyncio.timeout(SETTLE_S):
                out, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"{self.home.name}'s client did not settle; see {self.home}/errors.log") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, (self.home / "errors.log").read_text()[-4000:]
        return dict(json.loads(out))

    def said(self) -> Said:
        return Said(*(lines(self.home / f"{what}.jsonl") for what in ("said", "editing", "edited", "reacted")))

    def refused(self) -> list[Note]:
        return lines(self.home / "failed.jsonl")

    def offered(self) -> dict[str, tuple[str, str, str]]:
        """Local file → to whom it was to go, its name, its SHA-256."""
        return {line["file"]: (line["to"], Path(line["file"]).name, line["sha256"])
                for line in lines(self.home / "passing.jsonl")}

    def passed(self) -> list[str]:
        """Local files of which the other device has confirmed that it has them."""
        return [line["file"] for line in lines(self.home / "passed.jsonl")]

    def received(self) -> list[tuple[str, str, str]]:
        """All that lies where transfers arrive, whole or not: whose it is, its name as it was offered, its SHA-256."""
        return [(self.home.name, COUNTED.sub("", path.name), sha256_of(path))
                for path in (self.home / "received").rglob("*") if path.is_file()]

    def downloaded(self) -> list[tuple[Path, str]]:
        """What lies where files are downloaded to, and its SHA-256."""
        return [(path, sha256_of(path)) for path in (self.home / "Downloads").rglob("*")
                if path.is_file() and ".part" not in path.suffixes]

    def unsaid(self) -> Counter[str]:
        """Names of files that were attached to a message of which nothing was noted, since the client was killed."""
        said = {entry["text"].removeprefix("file ") for entry in lines(self.home / "said.jsonl") if entry["sha256"]}
        return Counter(line["file"] for line in lines(self.home / "attaching.jsonl") if line["file"] not in said)

    def unfinished(self) -> list[Path]:
        """What lies where files are downloaded to and is not a whole one."""
        return [path for path in (self.home / "Downloads").rglob("*") if ".part" in path.suffixes]
