"""A lesson's records over time: what each committed run of its notebook measured, in one table.

    python data_scripts/history.py               all lessons, only rows where a value moved
    python data_scripts/history.py 02 --every    one lesson, every commit that stored it
    python data_scripts/history.py --csv > records.csv

Records are read from the executed notebooks in git's history. The band beside a value is today's, and a value has moved
by so many widths of that band since the commit before. Commits that touched prose alone hold the same values.
"""

import argparse
import csv
import io
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from course_utils import records

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """One fact in one commit. band, inside and moved are empty where there is no band today, or nothing before."""

    lesson: str
    fact: str
    date: str
    commit: str
    value: float | None  # None in the commit that no longer records it
    band: tuple[float, float] | None
    inside: bool | None
    moved: float | None


def git(root: Path, *arguments: str) -> str:
    """What a git command writes. Raises ValueError with git's own words where it fails, or where git is missing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError("git is not installed: the history cannot be read") from error
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def refuse(root: Path) -> None:
    """Raise ValueError where `root` is no git checkout of its own, or one whose history was cut off."""
    try:
        shallow = git(root, "rev-parse", "--is-shallow-repository").strip()
    except ValueError as error:
        if "not a git repository" not in str(error):
            raise
        raise ValueError(f"{root} is no git checkout, so it has no history: clone the course with git") from error
    if shallow == "true":
        raise ValueError(f"{root} is a shallow clone, its history is cut off: git fetch --unshallow, then again")


def commits(root: Path, pattern: str) -> list[tuple[str, str, list[str]]]:
    """(date, commit, files) of every commit that changed a file of this pattern, oldest first; the committer's day."""
    listed = git(root, "log", "--reverse", "--format=%x00%cs %h", "--name-only", "--", pattern)
    entries = [entry.split() for entry in listed.split("\0") if entry.strip()]
    return [(date, commit, paths) for date, commit, *paths in entries]


def recorded(root: Path, commit: str, path: str) -> dict[str, dict]:
    """fact -> record in a commit's version of a notebook; empty where it was deleted or not executed."""
    if not git(root, "ls-tree", commit, "--", path):
        return {}
    return {fact["name"]: fact for fact in records.of_text(git(root, "show", f"{commit}:{path}"))}


def history(root: Path, lesson: str, every: bool = False) -> list[Row]:
    """The rows of a lesson, fact by fact, oldest first. every=False leaves out commits in which a value stayed."""
    versions = []
    for date, commit, paths in commits(root, f"notebooks/solutions/{lesson}_*.ipynb"):
        own = {name: fact for path in paths for name, fact in recorded(root, commit, path).items()}
        versions.append((date, commit, own))
    facts = dict.fromkeys(name for _, _, own in versions for name in own)
    return [row for name in facts for row in _of_fact(name, lesson, versions, every)]


def _of_fact(name, lesson, versions, every):
    before, today = None, records.bands().get(lesson, {})
    for date, commit, own in versions:
        fact = own.get(name)
        if fact is None:
            if before is not None and own:  # executed, and the fact is gone
                yield Row(lesson, name, date, commit, None, None, None, None)
                before = None
            continue
        value, band = fact["value"], today.get(fact["profile"], {}).get(name)
        moved = None if band is None or before is None else (value - before) / (band.high - band.low)
        if every or before is None or value != before:
            ends = None if band is None else (band.low, band.high)
            yield Row(lesson, name, date, commit, value, ends, band and band.low <= value <= band.high, moved)
        before = value


def as_markdown(rows: list[Row]) -> str:
    """The rows as one table."""
    lines = ["| lesson | fact | date | commit | value | today's band | inside | moved by band widths |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        value = "no longer recorded" if row.value is None else f"{row.value:.4g}"
        band = "" if row.band is None else f"{row.band[0]:.4g} to {row.band[1]:.4g}"
        inside = "" if row.inside is None else ("yes" if row.inside else "NO")
        moved = "" if row.moved is None else f"{row.moved:+.2f}"
        cells = [row.lesson, row.fact, row.date, row.commit, value, band, inside, moved]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_csv(rows: list[Row]) -> str:
    """The rows for a program: full precision, the band in two columns."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["lesson", "fact", "date", "commit", "value", "low", "high", "inside", "moved"])
    for row in rows:
        cells = asdict(row) | {"band": None}
        ends = row.band or (None, None)
        table.writerow([*list(cells.values())[:5], *ends, row.inside, row.moved])
    return stream.getvalue()


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers, such as 02; all lessons if none is given")
    parser.add_argument("--every", action="store_true", help="also the commits in which a value stayed as it was")
    parser.add_argument("--csv", action="store_true", help="comma-separated, with full precision")
    options = parser.parse_args(arguments)
    known = sorted(path.stem[:2] for path in (root / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb"))
    try:
        refuse(root)
        rows = [row for lesson in options.lessons or known for row in history(root, lesson, options.every)]
        unknown = [lesson for lesson in options.lessons if lesson not in known]
        if unknown and not rows:
            raise ValueError(f"lesson {' '.join(unknown)} was never committed; there are {' '.join(known)}")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(as_csv(rows) if options.csv else as_markdown(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
