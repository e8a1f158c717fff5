"""What writing a file costs by the size of one write.

    python -m benchmarks.write_sizes DIR [--mib 2048] [--repeats 3]

A fresh sparse file each time, the sizes in turns; the system's CPU seconds a GiB, median and range. A kernel that
keeps pages in large folios looks for as much contiguous memory as one write has bytes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
from pathlib import Path

KIB = 1024
SIZES = (64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB)


def system_s(path: Path, size: int, step: int) -> float:
    data = os.urandom(step)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        for position in range(0, size, step):
            os.pwrite(descriptor, data, position)
        return resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
    finally:
        os.close(descriptor)
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    size = options.mib * KIB * KIB
    found: dict[int, list[float]] = {step: [] for step in SIZES}
    for _ in range(options.repeats):
        for step, samples in found.items():
            samples.append(system_s(options.folder / "write_sizes.bin", size, step) / size * KIB**3)
    for step, samples in found.items():
        print(f"{step // KIB} KiB: {statistics.median(samples):.2f} s/GiB ({min(samples):.2f}–{max(samples):.2f})")


if __name__ == "__main__":
    main()
