"""Build the notebooks of the course from their masters, notebooks/src/NN_name.py (jupytext percent). One way only.

    python notebooks/build.py                   write the learner's and solved notebooks (outputs stay while code does)
    python notebooks/build.py --check           change nothing; fail when a notebook is stale or was edited by hand
    python notebooks/build.py --execute         build, run the solved notebooks and store them with their outputs
    python notebooks/build.py --nbgrader DIR    write a course folder for nbgrader; --variants DIR: with your exercises

Any of them takes numbers of lessons (`--execute 00 02`); without, all. CONTRIBUTING.md describes the masters' dialect;
limits.py checks it.
"""

import argparse
import copy
import filecmp
import os
import re
import shutil
import sys
import time
import tomllib
from pathlib import Path

try:
    import jupytext
    import nbformat
except ModuleNotFoundError as missing:
    sys.exit(
        f"build.py needs {missing.name}: pip install -e '.[test]' in the course's folder ('.[classroom]' to teach)"
    )
import classroom
from limits import HEADING, REGION, failure, master_problems, notebook_problems, output_problems

HERE = Path(__file__).resolve().parent
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
SETUP, STARTS = "# Set-up, the same in every lesson.", "from course_utils import env, records"  # see computing()
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class LessonError(Exception):
    """Everything that is wrong with a lesson, one line each: lesson, cell, rule."""


def masters(wanted=()):
    """The masters, or those whose numbers or names begin with one of `wanted`."""
    found = sorted((HERE / "src").glob("[0-9][0-9]_*.py"))
    lost = [name for name in wanted if not name or not any(path.stem.startswith(name) for path in found)]
    if lost or not found:
        there = ", ".join(path.stem for path in found) or f"none in {HERE / 'src'}"
        raise LessonError(f"no lesson {' '.join(map(str, lost))}; there are {there}")
    return [path for path in found if not wanted or any(path.stem.startswith(name) for name in wanted)]


def build(master, kind, variants=()):
    """A master as a notebook of one `kind`: learner, solved or nbgrader. Raises LessonError with all its problems.

    variants: more folders with exercises for nbgrader (classroom.py); src/variants is always looked into.
    """
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    try:
        cells = jupytext.read(master, fmt="py:percent").cells
    except UnicodeDecodeError as error:
        raise LessonError(f"{master.stem}: {master.name} is not UTF-8 text ({error}). Save it as that.") from error
    problems = master_problems(cells)
    if kind == "nbgrader" and not problems:
        folders = (HERE / "src" / "variants", *variants)
        cells, problems = classroom.vary(cells, [folder / f"{master.stem[:2]}.py" for folder in folders])
        problems += [f"with its variants, {problem}" for problem in master_problems(cells)]
    if problems:
        raise LessonError("\n".join(f"{master.stem}, {problem}" for problem in problems))
    try:
        cells = with_setup(cells, master)
    except (ValueError, KeyError) as error:  # TOML's and UTF-8's errors are ValueErrors
        raise LessonError(f"{master.stem}: pyproject.toml is damaged, or lacks an entry ({error})") from error
    number = None
    for position, cell in enumerate(cells):
        tags = cell.metadata.get("tags", [])
        found = HEADING.search(cell.source)
        if cell.cell_type == "markdown" and found:
            number, effort = found.group(1), cell.source
        if "solution" in tags and kind != "solved":
            continue
        if kind == "learner":
            cell.source = hide(cell.source, number)
        elif kind == "solved":
            cell.source = REGION.sub(r"\2", cell.source).rstrip()
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.id = f"{master.stem[:2]}-{position:03d}"
        if kind == "nbgrader" and set(tags) & {"exercise", "check"}:
            classroom.mark(cell, tags, effort)
        notebook.cells.append(cell)
    problems = notebook_problems(notebook, kind)
    if problems:
        raise LessonError("\n".join(f"{master.stem} ({kind}), {problem}" for problem in problems))
    return notebook


def hide(source, number):
    """A cell as the learner sees it: a region becomes a raise, or nothing at the margin (`answer = ...` is above)."""
    stub = rf'\1raise NotImplementedError("Exercise {number}")\n'
    return REGION.sub(lambda region: region.expand(stub) if region.group(1) else "", source).rstrip()


def with_setup(cells, master):
    """The master's cells with Colab's badge under the title and the set-up cell after the parameters."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    address, ref = project["project"]["urls"]["Repository"], project["tool"]["course"]["ref"]
    page = f"{address.removeprefix('https://')}/blob/{ref}/notebooks/{master.stem}.ipynb".partition("/")[2]
    badge = f"[![Open this lesson in Colab]({BADGE})](https://colab.research.google.com/github/{page})"
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = f"{title}\n\n{badge}\n\n{rest.strip()}"
    setup = (HERE / "src" / "_setup.py").read_text(encoding="utf-8").strip()
    values = {"address": address, "ref": ref, "lesson": master.stem[:2], "edition": project["project"]["version"]}
    values["extras"] = project["tool"]["course"]["extras"].get(master.stem[:2], "")
    for name, value in values.items():
        setup = setup.replace(f"{{{name}}}", value)
    return cells[:2] + [nbformat.v4.new_code_cell(setup)] + cells[2:]


def places(master):
    """Where a master's notebooks stand: (kind, path)."""
    name = f"{master.stem}.ipynb"
    return [("learner", HERE / name), ("solved", HERE / "solutions" / name)]


def sources(notebook):
    """What `--check` compares: everything but outputs."""
    cells = [(cell.cell_type, cell.get("id"), cell.source, dict(cell.metadata)) for cell in notebook.cells]
    return {"metadata": dict(notebook.metadata), "cells": cells}


def stale(master):
    """The notebooks of a master that differ from a fresh build, with the first cell that does."""
    found = []
    for kind, path in places(master):
        name = path.relative_to(HERE.parent)
        if not path.exists():
            found.append(f"{name} is missing")
            continue
        notebook = read(path)
        fresh, stored = sources(build(master, kind)), sources(notebook)
        if kind == "learner" and any(cell.get("outputs") for cell in notebook.cells):
            found.append(f"{name} holds outputs: a learner's notebook is kept without")
        elif fresh != stored:
            pairs = enumerate(zip(fresh["cells"], stored["cells"]), 1)
            first = next((f"cell {n}" for n, (a, b) in pairs if a != b), "its end or metadata")
            found.append(f"{name} differs from its master at {first}: stale, or edited by hand")
    return found


def read(path):
    """A stored notebook. Raises LessonError, with its path, for a file that is none: it is not replaced by itself."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, KeyError, AttributeError, OSError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise LessonError(
            f"{path} is no whole notebook ({reason}). Keep what you need, delete it, build again"
        ) from error


def write(notebook, path):
    """Write a notebook whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # of a full disk


def rescue(path, fresh):
    """Copy a learner's notebook that somebody has worked in to artifacts/ before a build replaces it.

    Worked in: it holds outputs, cells of somebody's own, or an exercise that is not as it was handed out.
    """
    if not path.exists():
        return
    cells, built = read(path).cells, {cell.id: cell for cell in fresh.cells}
    exercises = {key: cell.source for key, cell in built.items() if "exercise" in cell.metadata.get("tags", [])}
    own = [cell for cell in cells if not re.fullmatch(r"\d\d-\d{3}", cell.get("id", ""))]
    typed = [cell for cell in cells if exercises.get(cell.get("id"), cell.source) != cell.source]
    if not own and not typed and not any(cell.get("outputs") for cell in cells):
        return
    folder = HERE.parent / "artifacts" / "replaced"
    folder.mkdir(parents=True, exist_ok=True)
    copied, number = folder / path.name, 2
    while copied.exists() and not filecmp.cmp(path, copied, shallow=False):  # an earlier copy is somebody's work too
        copied, number = folder / f"{path.stem}-{number}.ipynb", number + 1
    part = copied.with_suffix(".part")
    try:
        shutil.copy2(path, part)
        part.replace(copied)
    finally:
        part.unlink(missing_ok=True)  # of a full disk, which ends the build before it replaces anything
    print(f"{path.stem}: somebody has worked in this notebook; a copy is in {copied.relative_to(HERE.parent)}")


def computing(source):
    """A code cell's lines, without those of the set-up cell that only install: no output comes from them.

    A fork's address or another way to install keeps outputs; what starts the session, seeds it and names the edition
    does not. The set-up cell's own output, a line of versions, stays with the run that the other outputs are of.
    """
    return source[source.index(STARTS) :] if source.startswith(SETUP) and STARTS in source else source


def keep_outputs(notebook, path):
    """Carry over a stored notebook's outputs if nothing that computes has changed since; say so if it has."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = read(path).cells if path.exists() else []
    stored = [cell for cell in stored if cell.cell_type == "code"]
    if [computing(cell.source) for cell in stored] == [computing(cell.source) for cell in code]:
        for cell, old in zip(code, stored):
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
    elif path.exists():
        print(f"{path.stem}: code has changed, outputs dropped; run --execute {path.stem[:2]}")


def execute(notebook, path):
    """Run a solved notebook, in the profile of $COURSE_PROFILE or `cpu`, and store it. Returns its problems."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    from course_utils import records

    profile = os.environ.setdefault("COURSE_PROFILE", "cpu")
    # A folder of its own: what is solved here is no learner's progress, and nobody's progress is stored in a lesson.
    own = Path(os.environ.get("COURSE_ARTIFACTS") or HERE.parent / "artifacts").absolute() / "executed" / path.stem
    shutil.rmtree(own, ignore_errors=True)
    print(f"{path.stem}: running in profile {profile} ...", flush=True)
    start, running = time.monotonic(), copy.deepcopy(notebook)
    client = NotebookClient(running, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(HERE)}})
    client.record_timing, client.store_widget_state, client.coalesce_streams = False, False, True
    try:
        client.execute(env=os.environ | {"COURSE_ARTIFACTS": str(own)})
    except (CellControlSignal, DeadKernelError) as error:  # an error in a cell, or out of time; or out of memory
        failed = HERE.parent / "artifacts" / "failed" / path.name
        write(running, failed)
        where = f"lesson {path.stem[:2]}, {failure(running, error)}"
        print(f"{path.stem}: stopped after {time.monotonic() - start:.0f} s", flush=True)
        return [f"{where}; see {failed.relative_to(HERE.parent)}\n{error}"]
    shutil.rmtree(own, ignore_errors=True)
    running.metadata = notebook.metadata
    for cell, clean in zip(running.cells, notebook.cells):
        cell.metadata = clean.metadata
        if cell.cell_type == "code":
            cell.outputs = [kept for kept in map(tidy, cell.outputs) if kept]
    write(running, path)
    found = [f"{path.stem}: {problem}" for problem in output_problems(running)]
    found += records.check(records.read_notebook(path), path.stem[:2], profile)
    print(f"{path.stem}: {len(found) or 'no'} problems after {time.monotonic() - start:.0f} s", flush=True)
    return found


def tidy(output):
    """An output without progress bars, widgets, pages of this machine and its paths; None if nothing is left."""
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        return None
    if re.search(r'<iframe src="http://(127|localhost)', output.get("data", {}).get("text/html", "")):
        return None  # a server that ran beside the notebook: on the web it would be somebody else's port
    if output.output_type == "stream":
        lines = [line.rpartition("\r")[2] for line in output.text.split("\n")]
        output.text = portable("\n".join(line for line in lines if not re.search(r"\d%\||\d(it/s|s/it)\b", line)))
        return output if output.text.strip() else None
    for mime, value in output.get("data", {}).items():
        if mime.startswith("text/"):
            output.data[mime] = portable(value)
    return output


def portable(text):
    """Text without the folders of the machine it was made on."""
    text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    return text.replace(str(HERE.parent), ".").replace(sys.prefix, "<python>").replace(str(Path.home()), "~")


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers, such as 02; all lessons if none is given")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--nbgrader", type=Path, metavar="DIR")
    parser.add_argument("--variants", type=Path, metavar="DIR", action="append", default=[])
    options = parser.parse_args(arguments)
    problems = [f"--variants {folder}: no such folder" for folder in options.variants if not folder.is_dir()]
    for master in masters(options.lessons):
        try:
            if options.check:
                problems += stale(master)
                build(master, "nbgrader")  # is written on demand alone; its limits hold all the same
            elif options.nbgrader:
                graded = build(master, "nbgrader", options.variants)
                write(graded, options.nbgrader / "source" / master.stem / f"{master.stem}.ipynb")
                classroom.configure(options.nbgrader)
            else:
                notebooks = [(path, build(master, kind)) for kind, path in places(master)]
                rescue(*notebooks[0])
                keep_outputs(notebooks[1][1], notebooks[1][0])
                for path, notebook in notebooks:
                    if notebook is notebooks[0][1] or not options.execute or not path.exists():
                        write(notebook, path)  # a stored run is replaced by the next run, not by none
                problems += execute(notebook, path) if options.execute else []
        except LessonError as error:
            problems.append(str(error))
    if options.check and not options.lessons:
        known = [path for master in masters() for _, path in places(master)]
        strays = sorted({*HERE.glob("*.ipynb"), *HERE.glob("solutions/*.ipynb")} - set(known))
        problems += [f"{path.relative_to(HERE.parent)} has no master" for path in strays]
    print("\n".join(problems) or "Every lesson is good.", file=sys.stderr if problems else sys.stdout)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LessonError, OSError) as error:
        sys.exit(f"build.py: {error}")
    except KeyboardInterrupt:
        print("\nStopped. Each notebook is whole: as it was, or new.", file=sys.stderr)
        sys.exit(130)
