"""Measure, print the ratios, and write results.json and docs/benchmarks.md.

    python -m benchmarks.run [--quick] [--only upload,messages] [--repeats N]

A quick run is smaller and writes to benchmarks/.cache instead, so that it never replaces the real figures.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable

from benchmarks import measure_files, measure_messages, measure_server, report
from benchmarks.figures import Section
from benchmarks.processes import CACHE, HERE, REPOSITORY, busy

MEASURES: dict[str, Callable[[bool, int], Section]] = {
    "start": measure_server.starting,
    "messages": measure_messages.messages,
    "upload": measure_files.uploads,
    "completing": measure_files.completing,
    "download": measure_files.downloads,
    "memory": measure_server.memory,
}
BUSY = 0.1
# These take long and hardly vary.
FEWER_REPEATS = {"memory": 2, "completing": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}, separated by commas")
    parser.add_argument("--repeats", type=int, help="of each measurement")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or [*MEASURES]
    if unknown := set(names) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    sections = {}
    results_file, document = HERE / "results.json", REPOSITORY / "docs" / "benchmarks.md"
    if options.quick:
        results_file, document = CACHE / "results.json", CACHE / "docs" / "benchmarks.md"
    for name in names:
        repeats = options.repeats or min(2 if options.quick else 5, FEWER_REPEATS.get(name, 5))
        taken = busy()
        section = MEASURES[name](options.quick, repeats).document()
        if taken > BUSY:
            section["notes"].append(f"The machine was {taken:.0%} busy with other work when this began: measure again.")
            print(f"\nThe machine is {taken:.0%} busy with other work; figures will be off.", file=sys.stderr)
        section["command"] = f"make bench{' QUICK=1' if options.quick else ''} ONLY={name}"
        section["repeats"] = repeats
        section["measured"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        sections[name] = section
        print(report.table(section), flush=True)
        results = report.merge(results_file, {name: section})  # a later failure loses nothing
        report.write_document(document, results, [*MEASURES])
    print(f"\nWritten: {results_file.relative_to(REPOSITORY)}, {document.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
