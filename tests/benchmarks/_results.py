"""Writes what a benchmark measured into results.json, and the readable table RESULTS.md beside it.

    absolute = entry("scenes_per_second", samples, unit="scenes a CPU-second")
    compared = entry("rank_counting", ratios, unit="times faster", peer="torchmetrics")  # ours and the peer interleaved
    write([absolute, compared])

An entry of the same name is replaced, all others stay. A ratio or figure is the median of at least five samples; `low`
and `high` are the smallest and the largest.
"""

import json
import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHOWN = ("numpy", "pillow")


def seconds(call, *arguments) -> tuple[float, object]:
    """CPU seconds of this process that a call took, and its result."""
    before = time.process_time()
    result = call(*arguments)
    return time.process_time() - before, result


def machine() -> str:
    """Processor and number of cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}"


def entry(name: str, samples: list[float], unit: str, peer: str | None = None, packages=SHOWN) -> dict:
    """One benchmark's result. ValueError for fewer than five samples."""
    if len(samples) < 5:
        raise ValueError(f"{name}: {len(samples)} samples; measure at least five, so that the spread means something")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError as error:
            raise ValueError(f"{name}: package {package} is not installed, so its version cannot be written") from error
    return {
        "name": name,
        "peer": peer,
        "ratio": _rounded(statistics.median(samples)),
        "low": _rounded(min(samples)),
        "high": _rounded(max(samples)),
        "unit": unit,
        "machine": machine(),
        "versions": versions,
    }


def write(entries: list[dict], folder: Path = FOLDER) -> None:
    """Puts the entries into folder/results.json, sorted by name, and draws folder/RESULTS.md anew. Prints them."""
    path = folder / "results.json"
    known = {one["name"]: one for one in json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}
    known.update({one["name"]: one for one in entries})
    every = [known[name] for name in sorted(known)]
    _replace(path, json.dumps(every, indent=1, ensure_ascii=False) + "\n")
    _replace(folder / "RESULTS.md", table(every))
    for one in entries:
        beside = f" against {one['peer']}" if one["peer"] else ""
        print(f"{one['name']}{beside}: {one['ratio']:,} ({one['low']:,} to {one['high']:,}) {one['unit']}")


def table(entries: list[dict]) -> str:
    """RESULTS.md's text."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `tests/benchmarks/bench_*.py`; do not edit. Medians of at least five repetitions, and their range.",
        "",
        "| what | compared with | median | spread | unit | machine | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in entries:
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        cells = (
            one["name"],
            one["peer"] or "-",
            f"{one['ratio']:,}",
            f"{one['low']:,} to {one['high']:,}",
            one["unit"],
        )
        lines.append("| " + " | ".join((*cells, one["machine"], versions)) + " |")
    return "\n".join(lines) + "\n"


def _rounded(value: float) -> float | int:
    """Three significant digits, whole numbers from 100 on."""
    value = float(f"{value:.3g}")
    return int(value) if abs(value) >= 100 else value


def _replace(path: Path, text: str) -> None:
    """All or nothing: a reader never sees half a file."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
