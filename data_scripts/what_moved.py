"""What moved since the notebooks were stored: facts, versions, seconds, memory; and failures sorted by their cause.

    COURSE_RUNS=artifacts/runs make test PYTEST_OPTIONS=--junitxml=artifacts/junit.xml
    python data_scripts/what_moved.py --junit artifacts/junit.xml --runs artifacts/runs --out artifacts/moved.md

`--runs` is a folder of executed notebooks in any profile, `--log` what an installation wrote that failed: for that, the
standard library is enough. The weekly job calls it on the newest and the oldest supported releases. It ends with 1
where anything failed.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import platform
import re
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The first rule that fits names the kind. An error's name stands before its message, so names are sought at a line's
# beginning or behind a colon: a message that merely speaks of a timeout is not one.
NAMED = r"(?:^|[:\s.])(?:{})(?=$|[:\s(])"
RULES = [
    ("fact out of band", r"is outside its band|expected but not recorded|recorded more than once|has no band|no bands"),
    ("time", r"\btook \d+ s, the profile"),
    ("memory", r"\btook [\d.]+ GB, the profile"),
    ("network", NAMED.format(r"URLError|HTTPError|gaierror|ConnectionError|ConnectionResetError|ConnectionRefusedError|"
                             r"ConnectTimeout|ConnectTimeoutError|ReadTimeout|ReadTimeoutError|RemoteDisconnected|"
                             r"SSLError|SSLCertVerificationError|MaxRetryError|ProxyError|NewConnectionError|"
                             r"BrokenPipeError|IncompleteRead|ProtocolError|Transient")),
    ("network", r"name resolution|Name or service not known|Network is unreachable|Connection refused|"
                r"Failed to establish a new connection|error sending request|Could not connect|Connection broken"),
    ("memory", NAMED.format(r"MemoryError|_ArrayMemoryError|OutOfMemoryError|DeadKernelError")),
    ("memory", r"out of memory|[Cc]an(?:no|')t allocate memory|Unable to allocate|SIGKILL|returned non-zero exit status"
               r" (?:-9|137)\b|died with <Signals.SIGKILL|worker '\w+' crashed"),
    ("time", NAMED.format(r"CellTimeoutError|TimeoutExpired|TimeoutError")),
    ("time", r"Timeout of \d+ seconds exceeded"),
    ("dependency", NAMED.format(r"ImportError|ModuleNotFoundError|PackageNotFoundError|DistributionNotFound|"
                                r"VersionConflict|ResolutionImpossible|DeprecationWarning|FutureWarning")),
    ("dependency", r"module '[\w.]+' has no attribute|got an unexpected keyword argument|undefined symbol|"
                   r"missing \d+ required (?:positional|keyword-only) argument|No matching distribution|"
                   r"conflicting dependencies|No solution found|may indicate binary incompatibility|"
                   r"Failed to build|failed to build|requires Python|requires a different Python"),
]  # fmt: skip
KINDS = tuple(dict.fromkeys([kind for kind, _ in RULES])) + ("other",)
ADVICE = {
    "fact out of band": "a claim changed: find what moved it before a band is measured again",
    "network": "run it again; nothing of the course needs a network but its installation",
    "memory": "a kernel or worker that is killed without a word was nearly always out of memory",
    "time": "compare the seconds below: one lesson, or a slow machine",
    "dependency": "a release changed: raise or cap the floor in pyproject.toml, or mend the call",
    "other": "read it",
}


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong: where it was seen, what it says, and its kind."""

    where: str
    line: str
    kind: str


def kind_of(line: str, trace: str = "") -> str:
    """The kind of a failure, from its line; where that tells nothing, from the place where it was raised.

    trace: pytest's text. What was raised inside somebody else's package counts as that package's doing.
    """
    for kind, pattern in RULES:
        if re.search(pattern, line):
            return kind
    places = re.findall(r"^(\S+\.py):\d+: ", trace, re.MULTILINE)
    if places and "site-packages" in places[-1]:
        return "dependency"
    return "other"


def of_junit(path: Path) -> list[Failure]:
    """The failures that a pytest report in JUnit's format holds. Raises ValueError where it is not whole."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is no JUnit report ({error}): did pytest come to its end?") from error
    found = []
    for case in root.iter("testcase"):
        where = f"{case.get('classname')}::{case.get('name')}"
        for trouble in [*case.findall("failure"), *case.findall("error")]:
            message, trace = trouble.get("message") or "", trouble.text or ""
            lines = re.findall(r"^(?:AssertionError: )?\s*(lesson \d\d, .*)$", message, re.MULTILINE)
            lines = lines or [_first(message) or _first(trace) or "no message"]
            found += [Failure(where, line.strip(), kind_of(line, trace)) for line in lines]
    return found


def of_log(path: Path) -> list[Failure]:
    """Why an installation failed, from what pip or uv wrote: its lines of error, all of them one failure."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"ERROR|error:|cause:", line)] or lines[-3:]
    if not told:
        return []
    return [Failure(path.name, " ".join(told)[:400], kind_of("\n".join(lines)))]


def of_runs(folder: Path) -> tuple[list[dict], list[Failure]]:
    """The records of all executed notebooks in a folder, and what is wrong with those runs."""
    import nbformat

    from course_utils import records

    sys.path.insert(0, str(ROOT / "notebooks"))
    import limits

    facts, failures = [], []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        notebook, own = nbformat.read(path, as_version=4), records.read_notebook(path)
        profile = own[0]["profile"] if own else path.stem.rpartition("-")[2]
        lesson, stopped = path.stem[:2], limits.failure(notebook)
        lines = records.check(own, lesson, profile) if profile in records.SECONDS else []
        if stopped:
            lines = [f"lesson {lesson}, {stopped}", *(line for line in lines if not line.endswith(records.MISSING))]
        failures += [Failure(path.stem, line, kind_of(line)) for line in lines]
        facts += own
    return facts, failures


def moves(facts: list[dict], stored: list[dict]) -> list[dict]:
    """One row a fact, farthest first: lesson, profile, name, then, now, band, inside, and moved in band widths.

    `then` is the stored notebook's value in the same profile and with the same seed, else the one that the band was
    measured with; None where there is neither, or no band.
    """
    from course_utils import records

    bands, known = records.bands(), {_key(fact): fact["value"] for fact in stored}
    rows = []
    for fact in facts:
        band = bands.get(fact["lesson"], {}).get(fact["profile"], {}).get(fact["name"])
        then = known.get(_key(fact))
        if then is None and band and fact["seed"] in band.seeds:
            then = band.values[band.seeds.index(fact["seed"])]
        moved = (fact["value"] - then) / (band.high - band.low) if band and then is not None else None
        inside = bool(band and band.low <= fact["value"] <= band.high)
        row = {key: fact[key] for key in ("lesson", "profile", "name")}
        rows.append(row | {"then": then, "now": fact["value"], "band": band, "inside": inside, "moved": moved})
    return sorted(rows, key=lambda row: (row["inside"], -abs(row["moved"] or 0), row["lesson"]))


def report(facts: list[dict], stored: list[dict], failures: list[Failure], root: Path = ROOT) -> str:
    """The report as Markdown: failures by kind, facts that moved, seconds and memory, versions."""
    rows, today = moves(facts, stored) if facts else [], datetime.date.today().isoformat()
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    lines = [f"# What moved, {today}", "", f"{python}; {len(facts)} facts; failures: {len(failures)}.", ""]
    for kind in KINDS:
        of_kind = [failure for failure in failures if failure.kind == kind]
        if of_kind:
            lines += [f"## {len(of_kind)} x {kind}: {ADVICE[kind]}", ""]
            alike = {failure.line: [one.where for one in of_kind if one.line == failure.line] for failure in of_kind}
            for line, (first, *others) in alike.items():
                lines.append(f"- `{first}`{f' and {len(others)} more' if others else ''}: {line}")
            lines.append("")
    far = [row for row in rows if not row["inside"] or abs(row["moved"] or 0) >= 0.1]
    lines += ["## Facts", "", "| lesson | profile | fact | stored | now | band | inside | moved by band widths |"]
    lines += ["|---|---|---|---|---|---|---|---|", *map(_fact_row, far), ""]
    lines += [f"{len(rows) - len(far)} of {len(rows)} facts moved by less than a tenth of their band.", ""]
    lines += ["## Seconds and memory", "", "| lesson | profile | s stored | s now | GB stored | GB now |"]
    lines += ["|---|---|---|---|---|---|", *_costs(facts, stored), ""]
    return "\n".join(lines + _versions(root)) + "\n"


def _fact_row(row: dict) -> str:
    band = f"{row['band'].low:.4g} to {row['band'].high:.4g}" if row["band"] else "none"
    then = "" if row["then"] is None else f"{row['then']:.4g}"
    moved = "" if row["moved"] is None else f"{row['moved']:+.2f}"
    cells = [row["lesson"], row["profile"], row["name"], then, f"{row['now']:.4g}", band]
    return f"| {' | '.join(cells)} | {'yes' if row['inside'] else 'NO'} | {moved} |"


def _costs(facts: list[dict], stored: list[dict]) -> list[str]:
    def most(some, key, place):
        return max((fact[key] for fact in some if (fact["lesson"], fact["profile"]) == place), default=None)

    rows = []
    for place in sorted({(fact["lesson"], fact["profile"]) for fact in facts}):
        cells = [*place]
        for key, unit in (("seconds", 1), ("peak_memory", 1e9)):
            values = [most(some, key, place) for some in (stored, facts)]
            cells += ["" if value is None else f"{value / unit:.{0 if unit == 1 else 1}f}" for value in values]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _versions(root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    lines = ["## Versions", ""]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        told = importlib.metadata.metadata("torch").get_all("Classifier") or []
        newest = max((int(one[1]) for one in map(re.compile(r".* :: 3\.(\d+)$").match, told) if one), default=None)
        lines += [f"The newest Python that this torch names is 3.{newest}.", ""]
    lines += ["| package | floor | installed |", "|---|---|---|"]
    for one in sorted(dict.fromkeys(wanted)):
        name, _, floor = one.partition(">=")
        if "[" in name:  # the course's own extras
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        lines.append(f"| {name} | {floor} | {installed} |")
    return lines


def _key(fact: dict) -> tuple:
    return tuple(fact[key] for key in ("lesson", "profile", "name", "seed"))


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith("Error:") else 1])[:400]  # a bare name says too little


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junit", type=Path, action="append", default=[], help="pytest's report; may be given again")
    parser.add_argument("--log", type=Path, action="append", default=[], help="of an installation that failed")
    parser.add_argument("--runs", type=Path, help="folder of executed notebooks, NN_name-profile.ipynb")
    parser.add_argument("--stored", type=Path, default=ROOT / "notebooks" / "solutions")
    parser.add_argument("--out", type=Path, help="where to write; without, it is printed")
    options = parser.parse_args(arguments)
    failures, facts, stored = [], [], []
    for path in [*options.junit, *options.log]:
        if not path.is_file():
            failures.append(Failure(path.name, "was not written: nothing came that far", "other"))
        else:
            try:
                failures += of_junit(path) if path in options.junit else of_log(path)
            except ValueError as error:
                failures.append(Failure(path.name, str(error), "other"))
    if options.runs:
        from course_utils import records

        facts, wrong = of_runs(options.runs)
        # With the suite's report at hand, its own runs in smoke were judged there, by seconds of computing.
        failures += [one for one in wrong if not (options.junit and one.where.endswith("-smoke"))]
        stored = [fact for path in sorted(options.stored.glob("*.ipynb")) for fact in records.read_notebook(path)]
    text = report(facts, stored, failures)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
