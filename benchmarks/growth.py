"""How cost grows, and where the time goes: tables and charts in docs/growth.md, the figures in growth.json.

    .venv/bin/python -m benchmarks.growth [--quick] [--only messages,chats,sockets,uploads,files,profiles] [--before]
    .venv/bin/python -m benchmarks.growth --document     # writes the document again, from the figures that are there

A quick run is smaller and writes to benchmarks/.cache instead. `--before` keeps what it measures as the figures from
before a change, to stand beside later ones: run it on the older code.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import growth_load, growth_messages, growth_profiles
from benchmarks.charts import number
from benchmarks.growth_tables import FLAT, Growth, cell, flatness, lines_chart, middle, table
from benchmarks.processes import CACHE, HERE, REPOSITORY, busy, touch_memory
from benchmarks.report import BUSY, TOUCHED, busy_note, machine, touched, when
from benchmarks.run import QUICK_TOUCH

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}, {PROFILES}, separated by commas")
    parser.add_argument("--before", action="store_true", help="keep the figures as those from before a change")
    parser.add_argument("--document", action="store_true", help="measure nothing, write the document again")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name] or [*MEASURES, PROFILES]
    if unknown := set(names) - {*MEASURES, PROFILES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results_file, document = HERE / "growth.json", REPOSITORY / "docs" / "growth.md"
    if options.quick:
        results_file, document = CACHE / "growth.json", CACHE / "docs" / "growth.md"
    if options.document:
        write_document(document, json.loads(results_file.read_text()))
        print(f"Written: {document}")
        return
    began = time.monotonic()
    touched_gib = round(touch_memory(QUICK_TOUCH if options.quick else None), 1)
    for name in names:
        taken = busy()
        section_began = time.monotonic()
        if taken > BUSY:
            print(f"\nThe machine is {taken:.0%} busy with other work; figures will be off.", file=sys.stderr)
        part: dict[str, Any]
        if name == PROFILES:
            part = {"paths": growth_profiles.profiles(options.quick)}
        else:
            part = MEASURES[name](options.quick).document()
            print("\n" + "\n".join([part["title"], *table(part)]), flush=True)
        print(f"\n  {name} took {time.monotonic() - section_began:.0f} s", flush=True)
        part["busy"] = round(taken, 2)
        part["touched_gib"] = touched_gib
        part["command"] = f"make growth{' QUICK=1' if options.quick else ''} ONLY={name}"
        part["measured"] = when()
        keep(results_file, name, part, before=options.before)
        write_document(document, json.loads(results_file.read_text()))
    print(f"\nWritten in {(time.monotonic() - began) / 60:.1f} minutes: {results_file}, {document}")


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
        f"Python {here['python']}; server and client share them. {TOUCHED}",
    ]
    for name in MEASURES:
        if name in results["sections"]:
            lines += _section(name, results["sections"][name], charts)
    if PROFILES in results["sections"]:
        lines += growth_profiles.document(results["sections"][PROFILES])
    lines += ["", *EXPLAINED.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def _section(name: str, section: dict[str, Any], charts: Path) -> list[str]:
    lines = [
        "", f"## {section['title']}", "",
        f"`{section['command']}` · {section['measured']}{touched(section)}{busy_note(section)}", "", *table(section)]
    for chart, rows in section["charts"].items():
        (charts / f"{name}-{chart}.svg").write_text(lines_chart(section, rows))
        lines += ["", f"![{section['title']}: {chart}]({charts.name}/{name}-{chart}.svg)"]
    lines += _flatness(section)
    if "before" in section:
        lines += _before(section)
    return [*lines, "", *(f"- {note}" for note in section["notes"])]


def _flatness(section: dict[str, Any]) -> list[str]:
    """Which costs stay, and which do not."""
    grown = flatness(section)
    if not grown:
        return []
    first, last = section["labels"][0], section["labels"][section["flat_to"]]
    told = [(times, f"{row} {number(times)}×" + (f" (from {since})" if since != first else ""))
            for row, since, times in grown]
    lines = ["", f"At {last} as a multiple of the figure at {first}, the smallest:"]
    if flat := [text for times, text in told if times <= FLAT]:
        lines += ["", f"- flat, at most {number(FLAT)}×: {'; '.join(flat)}"]
    if rising := [text for times, text in told if times > FLAT]:
        lines += ["", f"- **not flat**: {'; '.join(rising)}. Why: [below](#what-grows-and-why)"]
    return lines


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
