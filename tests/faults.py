"""Mistakes that people make, one a lesson at least, and what the suite must say of each; test_faults.py plants them.

A fault is a replacement in a copy of a file of the package, or of the lesson's solved notebook (`file=None`). `old`
must stand there exactly once, so that a fault that no longer applies is noticed. It shows at a `line`, a piece of
source that stands in one cell only: the lesson stops there, or records a `fact` there that is out of its band.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from lesson_runs import NOTEBOOKS, ROOT


@dataclass(frozen=True)
class Fault:
    """One mistake: what somebody did, where, and where it must be seen."""

    lesson: str
    what: str
    file: str | None
    old: str
    new: str
    line: str
    fact: str | None = None
    says: str = "AssertionError"  # how the error at that line begins, where there is no fact


def replaced(text, fault, where):
    """`text` with the fault in it. Raises ValueError unless what it replaces stands there exactly once."""
    if text.count(fault.old) != 1:
        raise ValueError(
            f"fault of lesson {fault.lesson} ({fault.what}): its old text stands {text.count(fault.old)} times in "
            f"{where}, not once; the code has changed, so change the fault in tests/faults.py"
        )
    return text.replace(fault.old, fault.new)


def solved(number):
    """The path of a lesson's solved notebook."""
    (path,) = (NOTEBOOKS / "solutions").glob(f"{number}_*.ipynb")
    return path


def last_cell(notebook, fault):
    """The number of the cell in which the fault must show: nothing behind it has to run."""
    found = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and fault.line in cell.source]
    if len(found) != 1:
        raise ValueError(f"fault of lesson {fault.lesson} ({fault.what}): {len(found)} cells hold {fault.line!r}")
    return found[0]


def plant(fault, folder, apply=True):
    """Copy package, programs and the lesson up to where the fault shows into `folder`, with the fault in the copy.

    Returns the notebook's path. Data are linked, not copied. apply=False leaves the fault out and changes nothing else.
    """
    folder = Path(folder)
    for name in ("course_utils", "data_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("data", "__pycache__"))
    os.symlink(ROOT / "course_utils" / "data", folder / "course_utils" / "data")
    notebook = nbformat.read(solved(fault.lesson), as_version=4)
    del notebook.cells[last_cell(notebook, fault) + 1 :]
    where = nbformat.v4.new_code_cell(
        f"import course_utils\n\nassert course_utils.__file__ == {str(folder / 'course_utils' / '__init__.py')!r}"
    )
    target = folder / f"{fault.lesson}.ipynb"
    if apply and fault.file:
        path = folder / fault.file
        path.write_text(replaced(path.read_text(encoding="utf-8"), fault, fault.file), encoding="utf-8")
    elif apply:
        sources = [cell.source for cell in notebook.cells]
        changed = replaced("\0".join(sources), fault, solved(fault.lesson).name).split("\0")
        for cell, source in zip(notebook.cells, changed):
            cell.source = source
    notebook.cells.append(where)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target.write_text(json.dumps(notebook), encoding="utf-8")
    return target


FAULTS = (
    Fault(
        "00",
        "a leaked split: the map that places a test set was fitted on that set too",
        None,
        "fit_and_place(stamp_rows[~torch.isin(stamp_rows, rows)], rows)",
        "fit_and_place(stamp_rows, rows)",
        line='record("search/stamp_map_recall_at_1"',
        fact="search/stamp_map_recall_at_1",
    ),
    Fault(
        "01",
        "a stale variable: every division of the data uses the map of the first",
        None,
        "fitted = linear.cca(*pairs(fold, extra), dims, strength)",
        "fitted = linear.cca(*pairs(0, extra), dims, strength)",
        line="assert np.allclose(refitted.map_x",
    ),
    Fault(
        "02",
        "a flipped sign in one direction of the loss",
        "course_utils/losses.py",
        "picks_picture = -(target.T",
        "picks_picture = (target.T",
        line="assert torch.allclose(ours, theirs.loss, atol=1e-6)",
    ),
    Fault(
        "03",
        "an inverted mask: words read the padding, and nothing else",
        "course_utils/attention.py",
        "scores.masked_fill(~mask,",
        "scores.masked_fill(mask,",
        line="assert max(differences) < 1e-5",
    ),
    Fault(
        "04",
        "a cell that silently does nothing: what is to be hidden in training is not handed on",
        None,
        "present = None if hide is None else hide(rows, generator)",
        "present = None",
        line='record("modality_dropout/recovered"',
        fact="modality_dropout/recovered",
    ),
    Fault(
        "04",
        "a sense that is not taken away: what is absent is fused all the same",
        "course_utils/fusion.py",
        "torch.where(here[:, None], x, 0) for x",
        "torch.where(here[:, None], x, x) for x",
        line="assert torch.equal(model(example, second_gone)",
    ),
    Fault(
        "05",
        "owners one off: each picture's first caption is counted with the picture before",
        "course_utils/flickr30k.py",
        "self.owners = np.repeat(np.arange(len(chosen)), [len(one.captions) for one in chosen])",
        "self.owners = np.roll(np.repeat(np.arange(len(chosen)), [len(one.captions) for one in chosen]), -1)",
        line="assert (test.owners == np.repeat(",
    ),
    Fault(
        "06",
        "a model left in training mode: BatchNorm sees the batch, and moves",
        None,
        "made.model.to(session.device, memory_format=torch.channels_last).eval()",
        "made.model.to(session.device, memory_format=torch.channels_last).train()",
        line='judge("raw"',
        fact="ladder/raw_recall_at_10",
    ),
    Fault(
        "07",
        "a control that is none: the weights that are to be shuffled stay where they are",
        "course_utils/explain.py",
        "weight.copy_(weight.flatten()[order].view_as(weight))",
        "weight.copy_(weight.flatten().view_as(weight))",
        line='record("surprise/shuffled_hits_the_right_one"',
        fact="surprise/shuffled_hits_the_right_one",
    ),
    Fault(
        "08",
        "an absence that hides nothing: absent words stay in the sentence",
        "course_utils/absence.py",
        "return torch.where(stays, tokens, token), token_mask",
        "return torch.where(stays, tokens, tokens), token_mask",
        line='record("share_of_words/foils"',
        fact="share_of_words/foils",
    ),
    Fault(
        "09",
        "a metric that returns a constant",
        "course_utils/ranking.py",
        "return (places > 0).astype(np.float64)",
        "return np.ones(len(self))",
        line='record(f"retrieval/',
        fact="retrieval/text_to_image/hit_rate_at_1",
    ),
)
