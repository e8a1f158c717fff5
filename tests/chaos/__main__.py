from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.scale import ScaleWorld
from tests.chaos.world import World


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    seed, began = arguments.seed, time.monotonic()
    make = (ScaleWorld(folder, seed, arguments.pause) if arguments.scale
            else World(folder, seed, arguments.disk, arguments.pause))
    async with make as world:
        await world.suffer(arguments.minutes * 60)
        counted = await world.check()
    print(f"seed {seed}, {time.monotonic() - began:.0f} s: " + ", ".join(f"{n} {what}" for what, n in counted.items()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--pause", type=float, default=0.2, help="people do something after at most so many seconds")
    parser.add_argument("--disk", type=Path, help="a small file system of its own, to be filled up")
    parser.add_argument("--scale", action="store_true", help="two servers behind nginx, over MongoDB, Redis and MinIO")
    parser.add_argument("--folder", type=Path, help="kept afterwards; by default a new one that is removed")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if arguments.folder is not None:
            arguments.folder.mkdir(parents=True)
            asyncio.run(run(arguments, arguments.folder))
        else:
            with tempfile.TemporaryDirectory() as folder:
                asyncio.run(run(arguments, Path(folder)))
    except pytest.skip.Exception as missing:  # what the tests skip without
        parser.error(f"{missing}: see `make parts` and .ci/run")


main()
