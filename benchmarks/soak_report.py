"""What a soak came to: docs/reliability/soak.md with its lines as SVG, and its records as soak.json beside them.

    .venv/bin/python -m benchmarks.soak_report RECORDS.jsonl [--to docs/reliability]
    .venv/bin/python -m benchmarks.soak_report docs/reliability/soak.json      # writes the report again

Growth is the slope of a straight line, an hour: the median slope between all pairs of records (Theil and Sen), so that
a single peak does not count. It is given for everything after the warm-up, and for the second half of the run, by which
the goal is judged: until then the caches, which have limits, fill up. It may be called while the soak goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

WARM_UP_S = 600
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 150, 60, 22
LINES = {
    "rss_mib": ("memory (RSS)", "MiB"), "pss_mib": ("memory (PSS)", "MiB"), "open_files": ("open files", ""),
    "web_rss_mib": ("memory of the web app's screens (RSS)", "MiB"),
    "sockets": ("WebSockets", ""), "threads": ("threads", ""), "log_mib": ("database log", "MiB"),
    "message_p50_ms": ("message p50", "ms"), "message_p99_ms": ("message p99", "ms"),
    "download_p50_ms": ("small download p50", "ms"), "download_p99_ms": ("small download p99", "ms"),
}
DRAWN = ("rss_mib", "open_files", "threads", "log_mib", "message_p50_ms", "message_p99_ms", "download_p50_ms")
# None for latencies: the same machine does other work beside, which is not the same all the time.
GOALS = {"rss_mib": 5.0, "pss_mib": 5.0, "open_files": 1.0, "sockets": 0.0, "threads": 1.0, "log_mib": 1.0}


def points(records: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(record["seconds"], float(record[key])) for record in records if key in record]


def slope_an_hour(found: list[tuple[float, float]]) -> float:
    """Of at least two points with different times."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(found) for b in found[n + 1 :] if b[0] > a[0]]
    return statistics.median(slopes) * 3600


def line_chart(found: list[tuple[float, float]], title: str, unit: str) -> str:
    last, most = found[-1][0], max(value for _, value in found) * 1.1 or 1
    width, height = WIDTH - LEFT - 10, HEIGHT - BOTTOM - 20
    path = "M" + "L".join(f"{LEFT + x / last * width:.1f} {20 + height - y / most * height:.1f}" for x, y in found)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<style>text{fill:#57606a}path{stroke:#2f6bed;fill:none}.axis{stroke:#9aa4b2}"
        "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}</style>",
        f'<text x="{LEFT}" y="14">{title}{", " + unit if unit else ""}</text>',
        f'<path class="axis" d="M{LEFT} 20v{height}h{width}"/>', f'<path d="{path}"/>',
        f'<text x="{LEFT - 6}" y="28" text-anchor="end">{most:.0f}</text>',
        f'<text x="{LEFT - 6}" y="{20 + height}" text-anchor="end">0</text>',
        f'<text x="{LEFT + width}" y="{HEIGHT - 6}" text-anchor="end">{last / 60:.0f} min</text>', "</svg>", ""])


def compact(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What a report needs, each figure's name once: two hours of records in some 40 KB."""
    keys = [*dict.fromkeys(key for record in records for key in record if key != "done")]
    return {"records": {key: [record.get(key) for record in records] for key in keys}, "done": records[-1]["done"]}


def expanded(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """The records again; what had been done is with the last."""
    columns = kept["records"]
    records: list[dict[str, Any]] = [
        {key: value for key, value in zip(columns, values, strict=True) if value is not None}
        for values in zip(*columns.values(), strict=True)]
    records[-1]["done"] = kept["done"]
    return records


def read(path: Path) -> list[dict[str, Any]]:
    """path: of a soak's own records, a line each, or of those that a report keeps."""
    if path.suffix == ".json":
        return expanded(json.loads(path.read_text()))
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(records: list[dict[str, Any]], folder: Path) -> str:
    """Raises: ValueError for no records."""
    if not records:
        raise ValueError("no records")
    folder.mkdir(parents=True, exist_ok=True)
    busy = [record for record in records if not record.get("is_idle")]
    after = [record for record in busy if record["seconds"] >= WARM_UP_S] or busy
    last = records[-1]
    done = ", ".join(f"{count:,} {name}" for name, count in sorted(last["done"].items(), key=lambda item: -item[1]))
    cores = f" of the {last['cores']} cores" if "cores" in last else ""
    lines = [
        "# Soak", "", f"`.venv/bin/python -m benchmarks.soak DIR --minutes {busy[-1]['seconds'] / 60:.0f}`, then "
        f"`.venv/bin/python -m benchmarks.soak_report DIR/records.jsonl`. {last['seconds'] / 60:.0f} minutes: {done}; "
        f"{last['done'].get('failures', 0)} calls failed. "
        f"The server took {last['cpu_s']:.0f} s of CPU; the load average{cores} was "
        f"{statistics.median(record['load'] for record in busy):.1f}, other work included, which the latencies show.",
        "",
        f"| after {after[0]['seconds'] / 60:.0f} minutes of warm-up | first tenth | last tenth | growth an hour | "
        "in the second half | goal, of the second half |",
        "|---|---|---|---|---|---|",
    ]
    for key, (title, unit) in LINES.items():
        found = points(after, key)
        if len(found) < 4:
            continue
        late = [point for point in found if point[0] >= busy[-1]["seconds"] / 2]
        tenth = max(1, len(found) // 10)
        ends = [statistics.median(value for _, value in part) for part in (found[:tenth], found[-tenth:])]
        lines.append(f"| {title}{', ' + unit if unit else ''} | {ends[0]:.1f} | {ends[1]:.1f} | "
                     f"{slope_an_hour(found):+.2f} | {slope_an_hour(late):+.2f} | "
                     f"{_judged(slope_an_hour(late), GOALS.get(key))} |")
    if last.get("is_idle"):
        lines += ["", f"Five seconds after everybody has left: {last['rss_mib']:.1f} MiB, "
                  f"{last['open_files']} open files, {last['threads']} threads."]
    if "killed" in last:
        lines += ["", f"Processes that ended for want of memory: {last['killed']}."]
    if "browser" in last:
        seen = last["browser"]
        lines += ["", f"In the browser {seen['messages']} messages were written; each was on its screen after "
                  f"{seen['p50_s']} s (median), {seen['longest_s']} s at the longest; Enter was needed again "
                  f"{seen['enter_again']} times."]
    for key in DRAWN:
        (folder / f"{key}.svg").write_text(line_chart(points(busy, key), *LINES[key]))
        lines += ["", f"![{LINES[key][0]}]({key}.svg)"]
    return "\n".join([*lines, ""])


def _judged(growth: float, goal: float | None) -> str:
    return "" if goal is None else f"at most {goal:g}: {'met' if growth <= goal else '**missed**'}"


def write(records: list[dict[str, Any]], folder: Path) -> str:
    """All files of the report into `folder`; what soak.md says."""
    text = report(records, folder)
    (folder / "soak.md").write_text(text)
    (folder / "soak.json").write_text(json.dumps(compact(records), separators=(",", ":")) + "\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/reliability"))
    options = parser.parse_args()
    print(write(read(options.records), options.to))


if __name__ == "__main__":
    main()
