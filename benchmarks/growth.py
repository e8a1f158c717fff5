"""How cost grows, and where the time goes: tables and charts in docs/growth.md, the figures in growth.json.

    python -m benchmarks.growth [--quick] [--only messages,chats,sockets,uploads,files,profiles] [--before]

A quick run is smaller and writes to benchmarks/.cache instead. `--before` keeps what it measures as the figures from
before a change, to stand beside later ones: run it on the older code.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import growth_load, growth_messages, growth_profiles
from benchmarks.charts import number
from benchmarks.growth_tables import Growth, cell, flatness, lines_chart, middle, table
from benchmarks.processes import CACHE, HERE, REPOSITORY, busy
from benchmarks.report import machine

MEASURES: dict[str, Callable[[bool], Growth]] = {
    "messages": growth_messages.in_one_chat,
    "chats": growth_messages.of_one_person,
    "sockets": growth_load.sockets,
    "uploads": growth_load.parallel_uploads,
    "files": growth_load.file_sizes,
}
PROFILES = "profiles"
EXPLAINED = HERE / "growth.md"
"""Written by hand: what was mended because of these figures."""
BUSY = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}, {PROFILES}, separated by commas")
    parser.add_argument("--before", action="store_true", help="keep the figures as those from before a change")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or [*MEASURES, PROFILES]
    if unknown := set(names) - {*MEASURES, PROFILES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results_file, document = HERE / "growth.json", REPOSITORY / "docs" / "growth.md"
    if options.quick:
        results_file, document = CACHE / "growth.json", CACHE / "docs" / "growth.md"
    for name in names:
        taken = busy()
        if taken > BUSY:
            print(f"\nThe machine is {taken:.0%} busy with other work; figures will be off.", file=sys.stderr)
        part: dict[str, Any]
        if name == PROFILES:
            part = {"paths": growth_profiles.profiles(options.quick)}
        else:
            part = MEASURES[name](options.quick).document()
            print("\n" + "\n".join([part["title"], *table(part)]), flush=True)
        part["busy"] = round(taken, 2)
        part["command"] = f"make growth{' QUICK=1' if options.quick else ''} ONLY={name}"
        part["measured"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        keep(results_file, name, part, before=options.before)
        write_document(document, json.loads(results_file.read_text()))
    print(f"\nWritten: {results_file.relative_to(REPOSITORY)}, {document.relative_to(REPOSITORY)}")


def keep(path: Path, name: str, part: dict[str, Any], *, before: bool) -> None:
    """Into the results so far; a section keeps its figures from before a change."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"sections": {}}
    results["machine"] = machine()
    sections = results["sections"]
    if before:
        sections.setdefault(name, part)["before"] = part["rows"]
    else:
        if "before" in sections.get(name, {}):
            part["before"] = sections[name]["before"]
        sections[name] = part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def write_document(path: Path, results: dict[str, Any]) -> None:
    """path: of the Markdown file; the charts go into a folder of its name beside it."""
    charts = path.with_suffix("")
    charts.mkdir(parents=True, exist_ok=True)
    here = results["machine"]
    lines = [
        "# How cost grows", "",
        "Written by `make growth`; the figures are in `benchmarks/growth.json`. Where two figures stand in a cell they "
        "are the median and the 99th percentile of calls made one after the other. CPU is that of the server process, "
        "a call where nothing else is said; on a busy machine it is the figure to trust.", "",
        f"Measured over loopback on {here['cores']} cores with {here['memory_gib']} GiB, {here['kernel']}, "
        f"Python {here['python']}; server and client share them.",
    ]
    for name in MEASURES:
        if name in results["sections"]:
            lines += _section(name, results["sections"][name], charts)
    if PROFILES in results["sections"]:
        lines += growth_profiles.document(results["sections"][PROFILES])
    lines += ["", *EXPLAINED.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def _section(name: str, section: dict[str, Any], charts: Path) -> list[str]:
    taken = f" · the machine was {section['busy']:.0%} busy with other work" if section["busy"] > BUSY else ""
    lines = [
        "", f"## {section['title']}", "", f"`{section['command']}` · {section['measured']}{taken}", "", *table(section)]
    for chart, rows in section["charts"].items():
        (charts / f"{name}-{chart}.svg").write_text(lines_chart(section, rows))
        lines += ["", f"![{section['title']}: {chart}]({charts.name}/{name}-{chart}.svg)"]
    grown = flatness(section)
    if grown:
        first, last = section["labels"][section["flat_from"]], section["labels"][-1]
        lines += ["", f"The last figure as a multiple of that at {first}: "
                  + "; ".join(f"{row} {number(times)}×" for row, times in grown) + f" (at {last})."]
    if "before" in section:
        lines += _before(section)
    return [*lines, "", *(f"- {note}" for note in section["notes"])]


def _before(section: dict[str, Any]) -> list[str]:
    """What changed much since the figures from before, at the last size."""
    now = {row["name"]: row for row in section["rows"]}
    changed = []
    for row in section["before"]:
        if row["name"] not in now or len(row["values"]) != len(now[row["name"]]["values"]):
            continue
        was, is_now = middle(row["values"][-1]), middle(now[row["name"]]["values"][-1])
        if was and is_now and not 0.67 < was / is_now < 1.5:
            changed.append(f"| {row['name']}, {row['unit']} | {cell(row['values'][-1])} | "
                           f"{cell(now[row['name']]['values'][-1])} | {number(was / is_now)} |")
    if not changed:
        return []
    return ["", f"Before and after what was mended, at {section['labels'][-1]}:", "",
            "| | before | after | times |", "|---|---|---|---|", *changed]


if __name__ == "__main__":
    main()
