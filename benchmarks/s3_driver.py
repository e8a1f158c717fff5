"""The driver for object storage against the minio SDK alone, on the same MinIO in the same run.

    python -m benchmarks.s3_driver [--mib 512] [--repeats 3]

Takes turns, so that a busy machine slows both; prints the medians and their ratio (up: at least 0.8, down: at least
0.7). MinIO comes from tests/install-parts.sh and writes to a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, cast

from hypersend_storage.base import MIB, ChunkReceipt, Layout, UploadRef
from hypersend_storage.s3 import S3Store
from tests.s3_servers import S3Server

CHUNK = 8 * MIB
PARALLEL = 3  # what the SDK does by itself
DATA = memoryview(bytes(range(256)) * (CHUNK // 256))


class Repeated(io.RawIOBase):
    """The same chunk over and over, as a file that the SDK reads."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(self._left, CHUNK if size < 0 else size)
        self._left -= size
        return bytes(DATA[:size])


async def body() -> AsyncIterator[bytes]:
    for start in range(0, CHUNK, 65_536):  # what a socket gives at a time
        yield bytes(DATA[start:start + 65_536])


async def driver_up(store: S3Store, count: int) -> str:
    layout = Layout(count * CHUNK, CHUNK)
    upload = UploadRef("bench", await store.create("bench", layout), layout)
    left = iter(range(count))
    receipts: list[ChunkReceipt] = []

    async def sender() -> None:
        for index in left:
            async with store.chunk(upload, index) as slot:
                receipts.append(await slot.write(body(), offset=0, sha256=None))

    await asyncio.gather(*[sender() for _ in range(PARALLEL)])
    return await store.complete(upload, sorted(receipts, key=lambda receipt: receipt.index))


async def driver_down(store: S3Store, location: str, size: int) -> None:
    received = 0
    async for part in store.read(location, 0, size):
        received += len(part)
    if received != size:
        raise RuntimeError(f"{received} bytes came instead of {size}")


def sdk_up(server: S3Server, bucket: str, size: int) -> None:
    server.client().put_object(
        bucket, "sdk", cast("BinaryIO", Repeated(size)), size, part_size=CHUNK, num_parallel_uploads=PARALLEL)


def sdk_down(server: S3Server, bucket: str) -> None:
    answer = server.client().get_object(bucket, "sdk")
    while answer.read(MIB):
        pass
    answer.close()


async def measure(folder: Path, mib: int, repeats: int) -> None:
    count = mib * MIB // CHUNK
    size = count * CHUNK
    rates: dict[str, list[float]] = {"SDK up": [], "driver up": [], "SDK down": [], "driver down": []}
    cpu: dict[str, list[float]] = {name: [] for name in rates}
    server = S3Server("minio", folder).start()
    try:
        bucket = server.new_bucket()
        store = S3Store(
            endpoint=server.url, bucket=bucket, access_key=server.access_key, secret_key=server.secret_key,
            region=server.region)
        await store.open()

        async def timed(name: str, work: asyncio.Future[object]) -> object:
            began, used = time.perf_counter(), time.process_time()
            result = await work
            rates[name].append(size / MIB / (time.perf_counter() - began))
            cpu[name].append((time.process_time() - used) / (size / MIB / 1024))
            return result

        for _ in range(repeats):
            await timed("SDK up", asyncio.ensure_future(asyncio.to_thread(sdk_up, server, bucket, size)))
            location = str(await timed("driver up", asyncio.ensure_future(driver_up(store, count))))
            await timed("SDK down", asyncio.ensure_future(asyncio.to_thread(sdk_down, server, bucket)))
            await timed("driver down", asyncio.ensure_future(driver_down(store, location, size)))
            await store.delete(location)
        await store.close()
    finally:
        server.kill()
    for way in ("up", "down"):
        alone, driver = (statistics.median(rates[f"{who} {way}"]) for who in ("SDK", "driver"))
        print(f"{way:>5}: SDK alone {alone:.0f} MiB/s, driver {driver:.0f} MiB/s, ratio {driver / alone:.2f}")
        alone, driver = (statistics.median(cpu[f"{who} {way}"]) for who in ("SDK", "driver"))
        print(f"       CPU of this process a GiB: SDK alone {alone:.2f} s, driver {driver:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory of this process, SDK included: {peak} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="size of the file")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), options.mib, options.repeats))


if __name__ == "__main__":
    main()
