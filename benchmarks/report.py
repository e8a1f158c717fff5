"""The table on the terminal, results.json, and docs/benchmarks.md with its charts."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.charts import bars, number
from benchmarks.processes import REPOSITORY

Results = dict[str, Any]

BUSY = 0.1
PRODUCT = ("hypersend_server", "hypersend_storage", "hypersend_client")
EXPLAINED = Path(__file__).with_name("explained.md")
"""Written by hand, the end of the document: what a figure's goal was missed by and why, and figures from elsewhere."""


TOUCHED = (
    "Before its first section a run uses most of the free memory once, as far as a section says: the host of a virtual "
    "machine backs each page when it is first used, and whichever server came first would pay for that.")


def touched(section: dict[str, Any]) -> str:
    """What a section says of it; those measured before runs did so say nothing."""
    return f" · {number(section['touched_gib'])} GiB of memory used once before" if "touched_gib" in section else ""


def busy_note(section: dict[str, Any]) -> str:
    """What a section says of other work that went on when it began."""
    return f" · the machine was {section['busy']:.0%} busy with other work" if section["busy"] > BUSY else ""


def when() -> str:
    """Now, and of which commit the program is."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = _git("describe", "--always")
    return f"{now}, commit {commit}{' with changes' if _git('diff', 'HEAD', '--stat', '--', *PRODUCT) else ''}"


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return found.stdout.strip() or found.stderr.strip()


def machine() -> dict[str, Any]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def table(section: dict[str, Any]) -> str:
    """Ratios and goals first, then what was measured."""
    lines = ["", section["title"]]
    for check in section["checks"]:
        goal = "" if check["goal"] is None else f"  {check['sense']} {number(check['goal'])}: {_verdict(check)}"
        lines.append(f"  {check['name']:<70} {_value(check):>30}{goal}")
    lines += [f"    {row['name']:<68} {_value(row):>30}" for row in section["rows"]]
    lines += [f"    {name:<50} " + ", ".join(f"{kind} {number(figure['median'])}" for kind, figure in spent.items())
              for name, spent in section.get("costs", {}).items()]
    return "\n".join(lines)


def _costs(costs: dict[str, Any]) -> list[str]:
    if not costs:
        return []
    kinds = [*dict.fromkeys(kind for spent in costs.values() for kind in spent)]
    rows = [f"| {name} | {' | '.join(_cost(spent.get(kind)) for kind in kinds)} |" for name, spent in costs.items()]
    return [f"| | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|", *rows, ""]


def _cost(figure: dict[str, Any] | None) -> str:
    return "" if figure is None else number(figure["median"]) + _spread(figure)


def _spread(figure: dict[str, Any]) -> str:
    return f" ({number(figure['min'])}–{number(figure['max'])})" if len(figure["samples"]) > 1 else ""


def _value(figure: dict[str, Any]) -> str:
    return f"{number(figure['median'])} {figure['unit']}{_spread(figure)}"


def _machine(here: dict[str, Any]) -> str:
    return f"{here['cores']} cores, {here['memory_gib']} GiB, {here['kernel']}, Python {here['python']}"


def _verdict(check: dict[str, Any]) -> str:
    """By the median; said too where a repeat was on the other side."""
    below, above = check["min"] < check["goal"], check["max"] > check["goal"]
    is_one_sided = not (below and above)
    if check["met"]:
        return "yes" if is_one_sided else "yes, not in every repeat"
    return "**no**" if is_one_sided else "**no**, though in some repeats"


def merge(path: Path, sections: dict[str, Any]) -> Results:
    """The results so far with these sections in place of their predecessors, written to `path`."""
    results: Results = {"sections": {}}
    if path.exists():
        results = json.loads(path.read_text())
    if before := results.pop("machine", None):  # once described for the whole file
        for section in results["sections"].values():
            section.setdefault("machine", before)
    results["sections"].update(sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def write_document(path: Path, results: Results, order: list[str]) -> None:
    """path: of the Markdown file; the charts go into a folder of its name beside it."""
    charts = path.with_suffix("")
    charts.mkdir(parents=True, exist_ok=True)
    sections = {key: results["sections"][key] for key in order if key in results["sections"]}
    lines = [
        "# Benchmarks", "",
        "Written by `make bench`; the samples are in `benchmarks/results.json`. Compare the ratios: each is taken "
        "within one run, beside its reference, while absolute rates depend on the machine. Values are medians, with "
        "the lowest and the highest of the repeats; a goal is met or not by the median.", "",
        "Measured over loopback; server and client share the machine, which each section names. What is compared takes "
        "turns, and each repeat begins with another one. " + TOUCHED, "",
        "| figure | measured | goal | met |", "|---|---|---|---|",
    ]
    for section in sections.values():
        for check in section["checks"]:
            if check["goal"] is not None:
                goal = f"{check['sense']} {number(check['goal'])} {check['unit']}"
                lines.append(f"| {check['name']} | {_value(check)} | {goal} | {_verdict(check)} |")
            elif check["unit"] == "×":  # a comparison is told whether it was a goal or not
                lines.append(f"| {check['name']} | {_value(check)} | | |")
    for key, section in sections.items():
        (charts / f"{key}.svg").write_text(bars(section))
        lines += [
            "", f"## {section['title']}", "", f"`{section['command']}` · {section['repeats']} repeats, "
            f"{section['measured']} · {_machine(section['machine'])}{touched(section)}", "",
            f"![{section['title']}, {section['unit']}]({charts.name}/{key}.svg)", "",
            "| | measured |", "|---|---|", *(f"| {row['name']} | {_value(row)} |" for row in section["rows"]),
            *(f"| {check['name']} | {_value(check)} |" for check in section["checks"] if check["goal"] is None), "",
            *_costs(section.get("costs", {})),
            *("- " + note for note in section["notes"]),
        ]
    lines += ["", *EXPLAINED.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")

