from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

from tests.chaos.world import World


async def run(seed: int, minutes: float, folder: Path, disk: Path | None) -> None:
    began = time.monotonic()
    async with World(folder, seed, disk) as world:
        await world.suffer(minutes * 60)
        counted = await world.check()
    print(f"seed {seed}, {time.monotonic() - began:.0f} s: " + ", ".join(f"{n} {what}" for what, n in counted.items()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--disk", type=Path, help="a small file system of its own, to be filled up")
    parser.add_argument("--folder", type=Path, help="kept afterwards; by default a new one that is removed")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True)
        asyncio.run(run(arguments.seed, arguments.minutes, arguments.folder, arguments.disk))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(run(arguments.seed, arguments.minutes, Path(folder), arguments.disk))


main()
