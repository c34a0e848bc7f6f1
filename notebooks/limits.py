"""What a lesson must keep to: the dialect of its master, the limits of style, and clean stored outputs.

Each function returns one line a problem, beginning with the cell; build.py adds the lesson's name.
"""

import ast
import re
import statistics

import nbformat

TAGS = {"parameters", "exercise", "check", "solution", "nbval-check-output"}  # variants have `hidden` too
REGION = re.compile(r"^([ \t]*)# BEGIN SOLUTION\n(.*?)^[ \t]*# END SOLUTION\n?", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ Exercise (\d+\.\d+)", re.MULTILINE)
EFFORT = re.compile(r"Difficulty ([123]) of 3, about \d+ minutes?\.")
BARE_IMAGE = re.compile(r"!\[\s*\][\[(]|<img(?![^>]*\balt=([\"'])\s*[^\"'\s])[^>]*>")
ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # what papermill adds to a notebook that it runs
MAX_BYTES = 500_000


def place(position, cell):
    """Where a problem is: the cell's number and its first words."""
    return f"cell {position} ({cell.source.strip().partition(chr(10))[0][:40]})"


def master_problems(cells):
    """Breaches of the dialect: what must hold before a notebook can be made."""
    found, numbers, exercises, checks = [], [], [], []
    if len(cells) < 2 or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        found.append("cell 1: starts with a markdown cell whose first line is the title, `# ...`")
    if len(cells) < 2 or not re.fullmatch(r'PROFILE = "auto"\nSEED = 0', cells[1].source.strip()):
        found.append('cell 2: is the parameters cell, `PROFILE = "auto"` and `SEED = 0`')
    elif cells[1].metadata.get("tags") != ["parameters"]:
        found.append('cell 2: needs tags=["parameters"]')
    for position, cell in enumerate(cells, 1):
        tags, text = set(cell.metadata.get("tags", [])), cell.source
        if tags - TAGS:
            found.append(f"{place(position, cell)}: unknown tag {', '.join(sorted(tags - TAGS))}")
        if cell.cell_type == "markdown":
            numbers += HEADING.findall(text)
            if HEADING.search(text) and not EFFORT.search(text):
                found.append(f'{place(position, cell)}: an exercise says "Difficulty 1 of 3, about 5 minutes."')
            continue
        regions = REGION.findall(text + "\n")
        if "SOLUTION" in REGION.sub("", text + "\n"):
            found.append(
                f"{place(position, cell)}: unclosed or misspelt SOLUTION region (one hash, on a line of its own)"
            )
        elif bool(regions) != ("exercise" in tags):
            found.append(f"{place(position, cell)}: a SOLUTION region and the tag exercise belong together")
        if any(not indent for indent, _ in regions) and not re.search(r"^\w+ = \.\.\.\s*(#.*)?$", text, re.MULTILINE):
            found.append(f"{place(position, cell)}: a region at the left margin needs a line `answer = ...` above it")
        if "check" in tags and len(text.partition("### BEGIN HIDDEN")[0].strip().splitlines()) != 1:
            found.append(f"{place(position, cell)}: a check is one line, `lesson.check_something(answer)`")
        if tags & {"exercise", "check"} and not numbers:
            found.append(f"{place(position, cell)}: has no heading `### Exercise N.M: title` above it")
        exercises += numbers[-1:] if "exercise" in tags else []
        checks += numbers[-1:] if "check" in tags else []
    for number in numbers:
        if number not in exercises or number not in checks or numbers.count(number) > 1:
            found.append(f"exercise {number}: needs one heading, a cell tagged exercise and a cell tagged check")
    return found


def notebook_problems(notebook, kind):
    """Breaches of the limits of style: long cells, pictures without alt text, forbidden lines, sizes nobody reads."""
    found, lengths = [], []
    for position, cell in enumerate(notebook.cells, 1):
        lines = cell.source.splitlines()
        if len(lines) > 40:
            found.append(f"{place(position, cell)}: {len(lines)} lines, at most 40")
        if cell.cell_type == "markdown":
            if BARE_IMAGE.search(cell.source):
                found.append(f"{place(position, cell)}: a picture without alt text")
            continue
        lengths.append(len(lines))
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            found.append(f"{place(position, cell)}: line {error.lineno} is not Python: {error.msg}")
        if re.search(r"^\s*(!|%%capture|%pip|from \S+ import \*)", cell.source, re.MULTILINE):
            found.append(f"{place(position, cell)}: no star import, no `!` or `%pip` line, no %%capture")
        if re.search(r"(filterwarnings|simplefilter)\(\s*[\"']ignore[\"']\s*\)", cell.source):
            found.append(f"{place(position, cell)}: a blanket warning filter; name the warning")
        if kind == "learner" and "SOLUTION" in cell.source:
            found.append(f"{place(position, cell)}: the word SOLUTION in a learner's notebook")
    if kind == "nbgrader":
        return found  # variants bring their checks along; how long a lesson's cells are is measured in the lesson
    if statistics.median(lengths) > 8:
        found.append(f"all cells: median of {statistics.median(lengths):g} lines of code, at most 8")
    if sum(length > 25 for length in lengths) > len(lengths) / 10:
        found.append(f"all cells: {sum(n > 25 for n in lengths)} of {len(lengths)} over 25 lines, at most one in ten")
    return found + (unread_sizes(notebook) if kind == "solved" and not found else [])


def unread_sizes(notebook):
    """Keys of `sizes = session.choose(...)` that no cell reads as `sizes.key`."""
    found, read = [], set()
    trees = [ast.parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            read.add((node.value.id, node.attr))
    for node in nodes:
        call = node.value if isinstance(node, ast.Assign) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "session.choose":
            name = ast.unparse(node.targets[0])
            unread = [word.arg for word in call.keywords if (name, word.arg) not in read]
            found += [f"size {key!r} is chosen but no cell reads {name}.{key}" for key in unread]
    return found


def failure(notebook, error=None):
    """Where and why a run stopped, in one line: the cell as the lesson counts it, and the error; None if it did not.

    `error` is what the program that ran it raised: all there is to say when the kernel died or took too long.
    """
    own = [cell for cell in notebook.cells if not ADDED & set(cell.metadata.get("tags", []))]
    for position, cell in enumerate(own, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{place(position, cell)}{_line(output, cell)}: {_short(output.ename, output.evalue)}"
    if error is None:
        return None
    begun = [(position, cell) for position, cell in enumerate(own, 1) if _begun(cell)]
    return f"{place(*begun[-1]) if begun else 'before its first cell'}: {_short(type(error).__name__, str(error))}"


def _begun(cell):
    """Whether a cell was reached: a kernel that dies at once numbers it no more, but papermill noted when it began."""
    return cell.get("execution_count") or cell.metadata.get("papermill", {}).get("start_time")


def _line(output, cell):
    """The line of the cell that an error output points at: `, line 3 (assert ...)`; nothing where it points at none."""
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
    found = re.search(rf"Cell In\[{cell.get('execution_count')}\], line (\d+)", trace)
    lines = cell.source.splitlines()
    if not found or int(found[1]) > len(lines):
        return ""
    return f", line {found[1]} ({lines[int(found[1]) - 1].strip()[:80]})"


def _short(name, message):
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return f"{name}: {first}" if first else name


def output_problems(notebook):
    """Defects of stored outputs: errors, pictures without alt text, a notebook over the size that the web shows."""
    found = []
    for position, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            data, about = output.get("data", {}), output.get("metadata", {})
            if output.output_type == "error":
                found.append(f"{place(position, cell)}: an error output")
            for mime in (mime for mime in data if mime.startswith("image/")):
                if not (about.get(mime, {}).get("alt") or about.get("alt")):
                    found.append(
                        f"{place(position, cell)}: a picture without alt text; use plotting.show(figure, alt=...)"
                    )
            if BARE_IMAGE.search(str(data.get("text/html", ""))):
                found.append(f"{place(position, cell)}: an <img> without alt text")
    size = len(nbformat.writes(notebook).encode())
    return found + ([f"{size / 1000:.0f} kB, at most {MAX_BYTES // 1000}"] if size > MAX_BYTES else [])
