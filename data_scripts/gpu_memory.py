"""Count what the `gpu` sizes of each lesson take of a T4's memory, on a machine without one.

    python data_scripts/gpu_memory.py            a table of all lessons
    python data_scripts/gpu_memory.py 03 06      of some

The numbers are read from the lessons' masters, and so are the models: their own definitions are executed, so a changed
size or layer changes the count. A whole training step (forward, backward, clipping, AdamW) runs on torch's fake
tensors, which have shapes and no contents, and every tensor that is alive is added up. Counted: weights, gradients,
AdamW's moments and its temporary copies, the batch, activations in half precision, other models that lie on the card.
Not counted: the CUDA context (some hundred MB), workspaces of cuDNN and cuBLAS, fragmentation; therefore the limit is
12 GB of the 15 that a T4 can give. Attention is counted written out, with its table of weights, which a GPU may spare.
Counted, not yet run on a GPU.
"""

import argparse
import ast
import copy
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course_utils import batches, recipes, records, scenes, text, training

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "src"
USABLE = 15e9  # bytes that a T4 of 16 GB can give to one program
ALLOWED = records.MEMORY["gpu"]  # what a lesson may take of them
STEPS = 2  # of the second one the optimiser's moments are there from the beginning
CUT = 40  # word pieces of the longest caption: where the tokenizer of BERT cuts


class Living(TorchDispatchMode):
    """Adds up the bytes of every storage made inside that is still alive; `peak` is the most at any time."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self.sizes = 0, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:  # a question about contents: no fault was found
            return False if args[0].dtype == torch.bool else 1
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage):
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.now += self.sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key):
        self.now -= self.sizes.pop(key, 0)


@dataclass(frozen=True)
class Count:
    """Bytes of one step. `activations` is all that is alive at the peak beside the parts named before it."""

    what: str
    parameters: int
    gradients: int
    moments: int
    batch: int
    others: int
    peak: int

    @property
    def activations(self) -> int:
        """What the forward pass keeps and the backward pass and AdamW take for a moment."""
        return self.peak - self.parameters - self.gradients - self.moments - self.batch - self.others


def count(what, model, batch, loss=None, others=0, half=True) -> Count:
    """Run a training step of `model` on `batch` with fake tensors, as often as STEPS says.

    loss: (model(batch), batch) -> scalar; without one, a forward pass without gradients. others: bytes of what else
    lies on the card. half: under autocast, as `training.fit` does on a T4. `model` and `batch` are not changed.
    """
    with FakeTensorMode(), Living() as living:
        pupil, batch = _faked(model, {}), {name: _like(value) for name, value in batch.items()}
        sizes = [sum(one.nbytes for one in group) for group in (
            [*pupil.parameters(), *pupil.buffers()],
            [one for one in pupil.parameters() if one.requires_grad and loss is not None],
            batch.values(),
        )]  # fmt: skip
        pupil.train()
        for module in pupil.modules():  # the course trains with still norms, or with none of that kind
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        optimizer = torch.optim.AdamW(pupil.parameters(), foreach=True) if loss else None  # foreach: as on a GPU
        for _ in range(STEPS):
            with torch.set_grad_enabled(loss is not None), torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = pupil(batch)
            if loss is not None:
                loss(out, batch).backward()
                torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad()
            out = None
    return Count(what, sizes[0], sizes[1], 2 * sizes[1], sizes[2], others, living.peak + others)


def _like(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _faked(module, known):
    """The same modules over fake parameters and buffers; what is shared stays shared. known: what was made so far."""
    twin = copy.copy(module)
    for group in ("_parameters", "_buffers"):
        for value in getattr(module, group).values():
            if value is not None and id(value) not in known:
                empty = _like(value)
                known[id(value)] = torch.nn.Parameter(empty, value.requires_grad) if group == "_parameters" else empty
        named = getattr(module, group).items()
        twin.__dict__[group] = {name: None if value is None else known[id(value)] for name, value in named}
    inside = module._modules.items()
    twin.__dict__["_modules"] = {name: None if one is None else _faked(one, known) for name, one in inside}
    return twin


class Lesson:
    """A lesson's master: its `gpu` sizes, and what it defines, executed on demand."""

    def __init__(self, number):
        self.path = next(SOURCES.glob(f"{number}_*.py"))
        self.source = self.path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.sizes = SimpleNamespace(**self._column())
        session = SimpleNamespace(profile="gpu", dtype=torch.float16, device=torch.device("cuda"))
        self.names = {"SEED": 0, "sizes": self.sizes, "session": session}

    def _column(self):
        """The last of the three values of every size in `session.choose(...)`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "session.choose":
                return {one.arg: ast.literal_eval(one.value)[-1] for one in node.keywords}
        raise ValueError(f"{self.path.name} has no session.choose(...): where are its sizes?")

    def uses_the_card(self):
        """True where something of it reaches a GPU: `training.fit` goes there by itself, the rest by session.device."""
        return "training.fit(" in self.source or "session.device" in self.source

    def define(self, *names):
        """Run the master's own lines that define these names, in its order, and the imports; returns all names."""
        wanted = set(names)
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                if not _needed(node):
                    continue
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                if node.name not in wanted:
                    continue
                wanted.discard(node.name)
            elif isinstance(node, ast.Assign):
                made = {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
                if not made & wanted:
                    continue
                wanted -= made
            else:
                continue
            code = compile(ast.Module([node], []), str(self.path), "exec", dont_inherit=True)
            exec(code, self.names)
        if wanted:
            raise ValueError(f"{self.path.name} no longer defines {', '.join(sorted(wanted))}: mend gpu_memory.py.")
        return SimpleNamespace(**self.names)


def _needed(node):
    """Imports of what models are made from; pictures, checks and libraries of single sections stay out."""
    whole = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        whole = [f"{node.module}.{name}" for name in whole]
    known = ("torch", "numpy", "math", "copy", "functools", "course_utils")
    return all(name.partition(".")[0] in known for name in whole) and not any(
        name.startswith(("course_utils.checks", "course_utils.plotting")) for name in whole
    )


def lesson_02(lesson):
    """Both towers on scenes, with and without twins: a batch is as large either way."""
    lesson.sizes.train_scenes = 2 * lesson.sizes.batch_size  # enough for one batch; more stay in the host's memory
    its = lesson.define("names", "config", "train_scenes", "vocabulary", "train", "length", "new_model", "contrast")
    batch = next(batches.shuffled(its.train, its.sizes.batch_size, steps=1, seed=0))
    return [count(f"a step with {len(batch['images'])} scenes", its.new_model(0), batch, its.contrast)]


def lesson_03(lesson):
    """The patch tower, and every reader of the family."""
    its = lesson.define("names", "config", "vocabulary", "PatchTower", "named")
    sizes, rows = its.sizes, max(its.sizes.tower_batch, its.sizes.batch_size)
    train = batches.SceneQuestions(scenes.Scenes(0, "train", its.config), rows, its.vocabulary)
    chosen = {
        "images": train.images[: sizes.tower_batch].float(),
        "present": train.present[: sizes.tower_batch].float(),
    }
    tower = its.PatchTower(len(its.names), sizes.channels)
    found = [count(f"a step of the tower, {sizes.tower_batch} scenes", tower, chosen, its.named)]
    lesson.names["train"] = train = train.with_patches(torch.zeros(rows, 64, sizes.channels).half())
    its = lesson.define("Reader", "new_reader", "answered", "family", "GatedReader")
    batch = next(batches.shuffled(train, sizes.batch_size, steps=1, seed=0))
    readers = {name: its.new_reader(door_type=kind) for name, kind in its.family.items()}
    readers["gates"] = its.GatedReader(its.new_reader("nothing"))
    for name, reader in readers.items():
        found.append(count(f"a step of {name}, {sizes.batch_size} questions", reader, batch, its.answered))
    return found


def lesson_05(lesson):
    """The two small trainings: the leak and the mirror."""
    lesson.sizes.flip_scenes = lesson.sizes.leak_pictures = 200
    caught = []
    its = lesson.define("some_objects", "small_world", "flip_train", "vocabulary", "train_pairs", "left_id")
    told = [caption for k in range(5) for caption in its.flip_train.captions(range(200), k)]
    given = {"few_texts": told, "few_owners": np.repeat(np.arange(200), 5), "few_images": torch.zeros(200, 3, 32, 32)}
    given["words"] = text.word_tokenizer(word for caption in told for word in caption.split())
    given["longest"] = text.encode(given["words"], told)[0].shape[1]
    lesson.names |= given
    lesson.define("SideBySide", "mirrored", "naive_batches", "contrast", "trained_on", "trained_with")
    stub = SimpleNamespace(TrainConfig=training.TrainConfig, fit=lambda *given, label: caught.append((label, *given)))
    lesson.names["training"] = stub
    lesson.names["trained_on"](np.arange(len(told)), "the leak")
    lesson.names["trained_with"]("as a pair")
    return [count(f"a step, {label}", model, next(iter(series)), loss) for label, model, series, loss, _ in caught]


def lesson_06(lesson):
    """The classic retriever on photographs: its fine-tuning is the largest step of the course."""
    sizes = lesson.sizes
    with torch.device("meta"):  # shapes alone: nobody downloads weights to count them
        made, clip = (recipes.build(recipes.RECIPES[name], pretrained=False).model for name in (sizes.recipe, _CLIP))
    own = sum(one.nbytes for one in [*made.parameters(), *made.buffers()])
    # Beside the one that is trained: the projections' model, the copy to start from, and the fine-tuned one, which is
    # there when the copy with one rate for all is trained.
    others = 3 * own
    batch = _captioned(sizes.batch_size, sizes.captions, sizes.pixels, CUT)
    step = f"a step with {sizes.batch_size} pictures, {sizes.captions} captions each of up to {CUT} pieces"
    return [
        count(step, made, batch, recipes.contrast, others),
        count("encoding 64 pictures and captions", made, _captioned(64, 1, sizes.pixels, CUT), None, others),
        count("CLIP encodes 64 pictures and captions", clip, _captioned(64, 1, 224, 77), None, others, half=False),
    ]


_CLIP = "clip-vit-b16"
CASES = {"02": lesson_02, "03": lesson_03, "05": lesson_05, "06": lesson_06}


def _captioned(pictures, captions, pixels, length):
    """A batch as `captioned.Feed` makes it: every caption as long as the longest."""
    rows = pictures * captions
    return {
        "images": torch.empty(pictures, 3, pixels, pixels, device="meta"),
        "tokens": torch.empty(rows, length, dtype=torch.long, device="meta"),
        "token_mask": torch.empty(rows, length, dtype=torch.bool, device="meta"),
        "image_ids": torch.empty(rows, dtype=torch.long, device="meta"),
        "owners": torch.empty(rows, dtype=torch.long, device="meta"),
    }


def counts(number):
    """All counts of a lesson; none where nothing of it reaches the card."""
    lesson = Lesson(number)
    if not lesson.uses_the_card():
        return []
    if number not in CASES:
        raise ValueError(f"{lesson.path.name} puts something on the GPU, and gpu_memory.py does not know what: add it.")
    return CASES[number](lesson)


def table(found):
    """Markdown: the largest of each lesson, its parts in GB, and its share of what a T4 can give."""
    lines = [
        "| lesson | the most at once | weights | gradients | AdamW | activations | other models | in all | of 15 GB |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for number, rows in found.items():
        if not rows:
            continue
        top = max(rows, key=lambda one: one.peak)
        parts = [top.parameters, top.gradients, top.moments, top.batch + top.activations, top.others, top.peak]
        cells = " | ".join(f"{part / 1e9:.2f}" for part in parts)
        lines.append(f"| {number} | {top.what} | {cells} | {top.peak / USABLE:.0%} |".replace("%", " %"))
    idle = ", ".join(number for number, rows in found.items() if not rows)
    return "\n".join(lines) + (f"\n\nNothing of {idle} reaches the card: their models stay on the CPU." if idle else "")


def main(arguments=None):
    """The command line; returns 1 where a lesson takes more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers, such as 03; all lessons if none is given")
    options = parser.parse_args(arguments)
    known = sorted(path.name[:2] for path in SOURCES.glob("[0-9][0-9]_*.py"))
    unknown = set(options.lessons) - set(known)
    if unknown:
        parser.error(f"no lesson {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = {number: counts(number) for number in options.lessons or known}
    print(f"GB (10^9 bytes) of GPU memory at the `gpu` sizes; counted, not yet run on a GPU.\n\n{table(found)}")
    above = [f"{number}: {one.what} takes {one.peak / 1e9:.1f} GB; a lesson may take {ALLOWED / 1e9:.1f} GB"
             for number, rows in found.items() for one in rows if one.peak > ALLOWED]  # fmt: skip
    print("\n".join(above), file=sys.stderr, end="\n" if above else "")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
