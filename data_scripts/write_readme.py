"""Write README.md's picture and tables from the executed notebooks: the lessons, the ladder, what the course proves.

    python data_scripts/write_readme.py            write them
    python data_scripts/write_readme.py --check    fail when they are not what the notebooks say

Nothing in them is typed by hand: figures are the records stored in notebooks/solutions, ranges those of bands.toml.
"""

import argparse
import base64
import re
import sys
from pathlib import Path

import nbformat

from course_utils import records

ROOT = Path(__file__).resolve().parent.parent
# README's picture is a lesson's own figure: the one whose alternative text begins so.
PICTURE = ("07", "Absolute integrated gradients of a trained and of a shuffled model", "notebooks/figures/readme.png")
# What a newcomer reads first, a fact or two a lesson: (lesson, record, claim that ends in the record's value).
CLAIMS = (
    ("00", "search/recall_at_1", "Straight-line maps on pretrained features find a caption's picture first, share"),
    ("01", "coordinated/recall_at_1_over_chance", "Canonical correlation alone finds an unseen picture, times chance"),
    ("02", "plain/relation_accuracy", "A retriever trained on random batches tells *left of* from *right of*, share"),
    ("02", "foils/relation_accuracy", "The same towers, loss and steps, with twins in the batch, share"),
    ("03", "relation/cross_attention_minus_pooled", "Cross-attention beats pooled vectors on relation questions by"),
    ("03", "pointing/word_attention_over_area", "A word's attention on its own object, times an even spread"),
    ("04", "complementary/late_over_optimum", "Averaging two experts where only both senses tell, share of the best"),
    ("04", "modality_dropout/recovered", "Modality dropout wins back what a missing sense costs, share"),
    ("05", "leak/recall_at_1_flattered_by", "Splitting captions instead of pictures flatters recall@1 by"),
    ("06", "finetuned_minus_raw/recall_at_10", "Training adds to recall@10 among 1,000 unseen scenes"),
    ("06", "resume/max_difference", "Killed and resumed, a training's losses and weights differ at most by"),
    ("07", "pointing/best", "The best map's strongest place lies on the named object, share"),
    ("07", "surprise/shuffled_hits_an_object", "A fine-looking map of *shuffled weights* lies on an object, share"),
    ("08", "relation_credit/plain", "Credit of *left* against *right*, by Shapley values, after random batches"),
    ("08", "relation_credit/foils", "The same credit after twins"),
    ("09", "coverage/by_caption", "95 % intervals that take captions for independent hold the truth, share"),
)


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
        label, _, question = title.partition(": ")
        if not question:  # a title without a name: the file has one
            label, question = name.replace("_", " ").capitalize(), title
        minutes = re.search(r"(\d+) ?min", cells[0].source)
        exercises = sum("exercise" in cell.metadata.get("tags", []) for cell in cells)
        seconds = max((fact["seconds"] for fact in facts), default=0)
        memory = max((fact["peak_memory"] for fact in facts), default=0)
        rows.append(
            f"| [{number} {label}](notebooks/{path.name}) | {question[:1].upper()}{question[1:]} "
            f"| {minutes.group(1) + ' min' if minutes else ''} | {exercises} | {seconds:.0f} s, {memory / 1e9:.1f} GB "
            f"| [solved](notebooks/solutions/{path.name}) |"
        )
    return "\n".join(rows)


def claims(root: Path) -> str:
    """One row a claim of CLAIMS: measured value with its interval, and what would have made it empty.

    Raises ValueError for a claim whose lesson is stored without its fact.
    """
    rows = ["| lesson | claim | measured (95 % interval) | would be empty at |", "|---|---|---|---|"]
    stored = {path.stem[:2]: {fact["name"]: fact for fact in records.read_notebook(path)} for path in solved(root)}
    for lesson, name, claim in CLAIMS:
        if lesson not in stored:
            continue
        if name not in stored[lesson]:
            raise ValueError(f"lesson {lesson} records no {name}, which CLAIMS in data_scripts/write_readme.py names")
        fact = stored[lesson][name]
        interval = f" ({' to '.join(map(short, fact['interval']))})" if fact["interval"] else ""
        empty = ", ".join(map(short, fact["excludes"]))
        rows.append(f"| {lesson} | {claim} | {short(fact['value'])}{interval} | {empty} |")
    return "\n".join(rows)


def picture(root: Path) -> bytes | None:
    """README's picture as its lesson stored it; None where that lesson is not there. Raises ValueError without it."""
    lesson, alt, _ = PICTURE
    paths = [path for path in solved(root) if path.stem.startswith(lesson)]
    for path in paths:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                about = output.get("metadata", {}).get("image/png", {})
                if about.get("alt", "").startswith(alt):
                    return base64.b64decode(output["data"]["image/png"])
        raise ValueError(f"{path.name} stores no figure whose alternative text begins {alt!r}")
    return None


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
    tables = {"lessons": lessons, "claims": claims, "ladder": ladder, "proofs": proofs}
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
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    fresh, drawn, shown = filled(text, root), picture(root), root / PICTURE[2]
    same = fresh == text and (drawn is None or (shown.is_file() and shown.read_bytes() == drawn))
    if options.check and not same:
        print("README.md is not what the notebooks say: run data_scripts/write_readme.py", file=sys.stderr)
        return 1
    if not options.check:
        if drawn is not None:
            shown.parent.mkdir(parents=True, exist_ok=True)
            whole(shown, drawn)
        whole(readme, fresh.encode("utf-8"))
    return 0


def whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # of a full disk


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"write_readme: {error}. README.md is as it was.")
