"""Measure the bands of a lesson: run its solved notebook with several seeds and write course_utils/bands.toml.

    python data_scripts/measure_bands.py 02 --profile smoke --seeds 0 1 2 3 4

Each run is kept under artifacts/bands; `--reuse` takes a run that is already there instead of repeating it. A band is
the mean plus and minus four standard deviations (at least 0.02 or 5 %), cut half-way to a value that it must exclude.
"""

import argparse
import statistics
import sys
from pathlib import Path

import nbformat
import papermill

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import build  # noqa: E402
from packing import alone  # noqa: E402

from course_utils import records  # noqa: E402

HEADER = "# Written by data_scripts/measure_bands.py; records.py says what a band is. Not edited by hand.\n"


def run(master: Path, profile: str, seed: int, reuse: bool) -> list[dict]:
    """Run a lesson's solved notebook in a profile with a seed and return its records."""
    folder = ROOT / "artifacts" / "bands"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{master.stem}-{profile}-{seed}.ipynb"
    if not (reuse and target.exists()):
        source, part = target.with_suffix(".source.ipynb"), target.with_suffix(".part.ipynb")
        nbformat.write(build.build(master, "solved"), source)
        papermill.execute_notebook(
            source, part, {"PROFILE": profile, "SEED": seed}, kernel_name="python3", cwd=build.HERE, progress_bar=False
        )
        source.unlink()
        part.replace(target)  # only a run that came to its end is kept
    return records.read_notebook(target)


def band(values: list[float], excludes: list[float], seeds: list[int]) -> records.Band:
    """The band of a fact measured once a seed. Raises ValueError when the values lie on both sides of an exclusion."""
    low, high = min(values), max(values)
    mean = statistics.fmean(values)
    for rival in excludes:
        if low <= rival <= high:
            raise ValueError(
                f"the measured values {low:.4g} to {high:.4g} contain {rival:.4g}, which they must exclude"
            )
    gap = min((abs(mean - rival) for rival in excludes), default=abs(mean))
    margin = max(4 * statistics.stdev(values), min(max(0.02, 0.05 * abs(mean)), gap / 4))
    below = max((rival for rival in excludes if rival < low), default=None)
    above = min((rival for rival in excludes if rival > high), default=None)
    floor = mean - margin if below is None else max(mean - margin, (below + low) / 2)
    ceiling = mean + margin if above is None else min(mean + margin, (above + high) / 2)
    return records.Band(floor, ceiling, tuple(excludes), tuple(values), tuple(seeds))


def bands_of(runs: list[list[dict]], seeds: list[int]) -> dict[str, records.Band]:
    """fact -> Band from the records of one run a seed. Raises ValueError naming facts missing in a run, or empty."""
    names = [fact["name"] for fact in runs[0]]
    measured, problems = {}, []
    for name in sorted({fact["name"] for facts in runs for fact in facts}):
        rows = [fact for facts in runs for fact in facts if fact["name"] == name]
        if len(rows) != len(runs) or name not in names:
            problems.append(f"{name}: recorded {len(rows)} times in {len(runs)} runs")
            continue
        excludes = sorted({round(rival, 6) for fact in rows for rival in fact["excludes"]})
        try:
            measured[name] = band([fact["value"] for fact in rows], excludes, seeds)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        problems += [f"{name}: {problem}" for problem in measured[name].problems()]
    if problems:
        raise ValueError("No band was written.\n" + "\n".join(problems))
    return measured


def write(measured: dict[str, records.Band], lesson: str, profile: str, path: Path = records.BANDS) -> None:
    """Replace the bands of a lesson's profile in the band file; the others stay as they are.

    One process at a time reads and writes it: two that measure two lessons lose nothing of each other's.
    """
    with alone(path.parent):
        _write(measured, lesson, profile, path)


def _write(measured: dict[str, records.Band], lesson: str, profile: str, path: Path) -> None:
    table = records.bands(path) if path.exists() else {}
    table.setdefault(lesson, {})[profile] = measured
    lines = [HEADER]
    for number, profiles in sorted(table.items()):
        for size in sorted(profiles, key=("smoke", "cpu", "gpu").index):
            for name, row in sorted(profiles[size].items()):
                lines.append(f'["{number}".{size}."{name}"]')
                lines.append(f"low = {row.low:.6g}\nhigh = {row.high:.6g}")
                for key in ("excludes", "values", "seeds"):
                    lines.append(f"{key} = [{', '.join(f'{value:.6g}' for value in getattr(row, key))}]")
                lines.append("")
    part = path.with_suffix(".part")
    try:
        part.write_text("\n".join(lines), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # of a full disk


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lesson", help="its number, such as 02")
    parser.add_argument("--profile", choices=("smoke", "cpu", "gpu"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--reuse", action="store_true", help="take the runs that are there already")
    options = parser.parse_args()
    try:
        chosen = build.masters([options.lesson])
    except build.LessonError as error:
        parser.error(str(error))
    if len(chosen) > 1:
        parser.error(f"{options.lesson!r} is {len(chosen)} lessons; name one: {', '.join(one.stem for one in chosen)}")
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds) < 0:
        parser.error(f"seeds must differ and be 0 or more; --seeds has {' '.join(map(str, options.seeds))}")
    if len(options.seeds) < 5:
        print("Fewer than five seeds make no band: the runs are kept for --reuse, and that is all.", file=sys.stderr)
    master, runs = chosen[0], []
    for seed in options.seeds:
        runs.append(run(master, options.profile, seed, options.reuse))
        last = max((fact["seconds"] for fact in runs[-1]), default=0)
        print(f"seed {seed}: {len(runs[-1])} facts in {last:.0f} s", flush=True)
    try:
        measured = bands_of(runs, options.seeds)
    except ValueError as error:
        sys.exit(str(error))
    write(measured, master.stem[:2], options.profile)
    for name, row in measured.items():
        values = " ".join(f"{value:.4g}" for value in row.values)
        print(f"{name:40} {row.low:.4g} to {row.high:.4g}, without {list(row.excludes)}; measured {values}")


if __name__ == "__main__":
    main()
