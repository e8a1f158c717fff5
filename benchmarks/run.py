"""Measure, print the ratios, and write results.json and docs/benchmarks.md.

    .venv/bin/python -m benchmarks.run [--quick] [--only upload,messages] [--repeats N]
    .venv/bin/python -m benchmarks.run --document     # writes the document again, from the figures that are there

A quick run is smaller and writes to benchmarks/.cache instead, so that it never replaces the real figures.
A section that fails leaves the others as they are; its error is told at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from benchmarks import measure_files, measure_messages, measure_p2p, measure_s3, measure_server, report
from benchmarks.figures import Section
from benchmarks.processes import CACHE, GIB, HERE, REPOSITORY, busy, touch_memory

MEASURES: dict[str, Callable[[bool, int], Section]] = {
    "start": measure_server.starting,
    "messages": measure_messages.messages,
    "upload": measure_files.uploads,
    "completing": measure_files.completing,
    "download": measure_files.downloads,
    "p2p": measure_p2p.transfers,
    "s3": measure_s3.object_storage,
    "memory": measure_server.memory,
}
REPEATS, QUICK_REPEATS = 5, 1
QUICK_TOUCH = 2 * GIB  # about what a quick run writes at once


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a section failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}, separated by commas")
    parser.add_argument("--repeats", type=int, help="of each measurement")
    parser.add_argument("--document", action="store_true", help="measure nothing, write the document again")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name] or [*MEASURES]
    if unknown := set(names) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failures: dict[str, str] = {}
    absent: list[str] = []
    began = time.monotonic()
    results_file, document = HERE / "results.json", REPOSITORY / "docs" / "benchmarks.md"
    if options.quick:
        results_file, document = CACHE / "results.json", CACHE / "docs" / "benchmarks.md"
    if options.document:
        report.write_document(document, json.loads(results_file.read_text()), [*MEASURES])
        print(f"Written: {document}")
        return 0
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    touched = touch_memory(QUICK_TOUCH if options.quick else None)
    for name in names:
        taken = busy()
        section_began = time.monotonic()
        try:
            measured = MEASURES[name](options.quick, repeats)
        except Exception as error:  # whatever it was: it is told, and the other sections are measured
            traceback.print_exc()
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        section = measured.document()
        absent += measured.absent
        if taken > report.BUSY:
            section["notes"].append(f"The machine was {taken:.0%} busy with other work when this began: measure again.")
            print(f"\nThe machine is {taken:.0%} busy with other work; figures will be off.", file=sys.stderr)
        section["command"] = _command(name, options.quick, options.repeats)
        section["repeats"] = repeats
        section["touched_gib"] = round(touched, 1)
        section["machine"] = report.machine()
        section["measured"] = report.when()
        print(report.table(section), f"\n  {name} took {time.monotonic() - section_began:.0f} s", sep="\n", flush=True)
        results = report.merge(results_file, {name: section})  # a later failure loses nothing
        report.write_document(document, results, [*MEASURES])
    if len(failures) < len(names):
        print(f"\nWritten in {(time.monotonic() - began) / 60:.1f} minutes: {results_file}, {document}")
    for line in absent:
        print(f"\nNot compared: {line}", file=sys.stderr)
    for name, failure in failures.items():
        print(f"\nNot measured: {name}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _command(name: str, quick: bool, repeats: int | None) -> str:
    """What measures this section again in the same way."""
    if repeats is None:
        return f"make bench{' QUICK=1' if quick else ''} ONLY={name}"
    return f".venv/bin/python -m benchmarks.run{' --quick' if quick else ''} --only {name} --repeats {repeats}"


if __name__ == "__main__":
    sys.exit(main())
