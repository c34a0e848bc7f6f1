"""Write README.md's tables from the executed notebooks: the lessons, the retriever's ladder, what the course proves.

    python data_scripts/write_readme.py            write them
    python data_scripts/write_readme.py --check    fail when they are not what the notebooks say

Nothing in them is typed by hand: figures are the records stored in notebooks/solutions, ranges those of bands.toml.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat

from course_utils import records

ROOT = Path(__file__).resolve().parent.parent


def solved(root: Path) -> list[Path]:
    """The executed notebooks, in order. Raises ValueError where there is none: empty tables would say nothing."""
    found = sorted((root / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise ValueError(f"{root / 'notebooks' / 'solutions'} has no notebook: run notebooks/build.py --execute")
    return found


def lessons(root: Path) -> str:
    """One row a lesson: question, minutes, exercises, run time and memory of the stored run."""
    rows = [
        "| lesson | the question | for you | exercises | it runs in | read it solved |",
        "|---|---|---|---|---|---|",
    ]
    for path in solved(root):
        facts = records.read_notebook(path)  # names the file where it is no notebook
        if not facts:
            raise ValueError(f"{path} holds no records: run notebooks/build.py --execute {path.stem[:2]}")
        cells = nbformat.read(path, as_version=4).cells
        number, _, name = path.stem.partition("_")
        title = cells[0].source.partition("\n")[0].removeprefix(f"# {number} ")
        question = title.partition(": ")[2] or title
        minutes = re.search(r"(\d+) ?min", cells[0].source)
        label = name.replace("_", " ").capitalize()
        exercises = sum("exercise" in cell.metadata.get("tags", []) for cell in cells)
        seconds = max((fact["seconds"] for fact in facts), default=0)
        memory = max((fact["peak_memory"] for fact in facts), default=0)
        rows.append(
            f"| [{number} {label}](notebooks/{path.name}) | {question[:1].upper()}{question[1:]} "
            f"| {minutes.group(1) + ' min' if minutes else ''} | {exercises} | {seconds:.0f} s, {memory / 1e9:.1f} GB "
            f"| [solved](notebooks/solutions/{path.name}) |"
        )
    return "\n".join(rows)


def proofs(root: Path) -> str:
    """One row a fact: the stored value with its interval, chance, and the range over the seeds of its band."""
    rows = [
        "| lesson | measured fact | value | 95 % interval | chance | over five seeds |",
        "|---|---|---|---|---|---|",
    ]
    bands = records.bands()
    for path in solved(root):
        for fact in records.read_notebook(path):
            interval = " to ".join(map(short, fact["interval"])) if fact["interval"] else ""
            band = bands.get(fact["lesson"], {}).get(fact["profile"], {}).get(fact["name"])
            ends = dict.fromkeys([short(min(band.values)), short(max(band.values))]) if band else ["not measured"]
            chance = "" if fact["chance"] is None else short(fact["chance"])
            part, _, what = fact["name"].rpartition("/")
            label = f"{part.replace('/', ', ')}: {what}" if part else what
            row = [fact["lesson"], label.replace("_", " "), short(fact["value"]), interval, chance, " to ".join(ends)]
            rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def ladder(root: Path) -> str:
    """One row a rung of lesson 06, from its records ladder/RUNG_recall_at_K for K = 1 and 10; chance is the lowest."""
    rows = ["| rung | recall@1 (95 % interval) | recall@10 (95 % interval) |", "|---|---|---|"]
    name = re.compile(r"ladder/(\w+)_recall_at_(1|10)")
    facts = [(name.fullmatch(fact["name"]), fact) for path in solved(root) for fact in records.read_notebook(path)]
    rungs: dict[str, dict[str, dict]] = {}
    for match, fact in facts:
        if match:
            rungs.setdefault(match.group(1), {})[match.group(2)] = fact
    for rung, both in rungs.items():
        if set(both) != {"1", "10"} or not all(fact["interval"] for fact in both.values()):
            raise ValueError(f"ladder/{rung}: recall at 1 and at 10 are needed, each with an interval.")
    for both in list(rungs.values())[:1]:
        rows.append(f"| chance | {short(both['1']['chance'])} | {short(both['10']['chance'])} |")
    for rung, both in rungs.items():
        cells = [f"{short(both[k]['value'])} ({' to '.join(map(short, both[k]['interval']))})" for k in ("1", "10")]
        rows.append(f"| {rung.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(rows)


def short(value: float) -> str:
    """A number as the tables show it."""
    return f"{value:.3f}" if 0.001 <= abs(value) < 100 or value == 0 else f"{value:.2g}"


def filled(text: str, root: Path) -> str:
    """README's text with its tables replaced. Raises ValueError when a marker is missing."""
    tables = {"lessons": lessons, "ladder": ladder, "proofs": proofs}
    for name in tables:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README.md needs one line {begin} and one line {end}")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{table(root)}\n{end}{rest.split(end)[1]}"
    return text


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    readme, part = root / "README.md", root / ".README.md.part"
    text = readme.read_text(encoding="utf-8")
    fresh = filled(text, root)
    if options.check and fresh != text:
        print("README.md's tables are not what the notebooks say: run data_scripts/write_readme.py", file=sys.stderr)
        return 1
    if not options.check:
        try:
            part.write_text(fresh, encoding="utf-8")
            part.replace(readme)  # whole or not at all: what is around the tables was written by hand
        finally:
            part.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"write_readme: {error}. README.md is as it was.")
