"""What the checks of lesson 06 try answers on: trainings that spoil a tower or do not, a folder that is watched, data.

Nothing here judges; `retriever` does.
"""

from __future__ import annotations

import contextlib
import copy
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from course_utils import models
from course_utils.checks._outcome import WrongAnswer, expect, numbers, shown, verdict


def number(value: object) -> float:
    """A number of any kind as a float; anything else is a WrongAnswer."""
    plain = np.ndim(value) == 0 and not isinstance(value, (str, bytes, dict, set)) and hasattr(value, "__float__")
    many = " Is a mean still to be taken?" * (hasattr(value, "shape") and np.ndim(value) > 0)
    expect(plain, f"A number is wanted, not {shown(value)}.{many}")
    return float(value)


def several(value: object, count: int, message: str) -> list:
    """`numbers` as floats; `message` where there are not `count` of them."""
    return [number(one) for one in numbers(value, count, message)]


def either(trial: Callable, answer: Callable, *arguments: object) -> None:
    """trial(answer, ...) with arguments as they are; where it stumbles, tensors as arrays or the other way round.

    An answer may be written for one kind. Where it is right for none, the first error stands.
    """
    try:
        trial(answer, *arguments)
    except WrongAnswer:
        raise
    except Exception as error:
        turned = [one.numpy() if torch.is_tensor(one) else one for one in arguments]
        pairs = zip(turned, arguments)
        turned = [torch.from_numpy(one) if isinstance(given, np.ndarray) else one for one, given in pairs]
        try:
            trial(answer, *turned)
        except WrongAnswer:
            raise
        except Exception:
            raise error from None


def retriever(extra: nn.Parameter | None) -> models.DualEncoder:
    """A dual encoder with a layer called head in each tower, and perhaps a parameter outside of all parts."""
    with torch.random.fork_rng(devices=[]):
        towers = [nn.ModuleDict({"body": nn.Linear(5, width), "head": nn.Linear(width, 3)}) for width in (4, 6)]
        for tower in towers:
            tower.width = 3
        model = models.DualEncoder(*towers, shared=4)
    model.bias = extra
    return model


def listed(groups: object, model: nn.Module) -> dict[str, list[float]]:
    """Each parameter's name -> the rates with which groups list it."""
    shape = "A list of dictionaries is wanted, each {'params': ..., 'lr': ...}"
    expect(not isinstance(groups, torch.optim.Optimizer), f"{shape}. The optimiser is made of it afterwards.")
    expect(hasattr(groups, "__iter__"), f"{shape}, not {shown(groups)}.")
    groups = [groups] if isinstance(groups, dict) else list(groups)
    expect(all(isinstance(group, dict) for group in groups), f"{shape}, not bare parameters.")
    names = {id(value): name for name, value in model.named_parameters()}
    rates = {name: [] for name in names.values()}
    for group in groups:
        lacks = [key for key in ("params", "lr") if key not in group]
        expect(not lacks, f"A group has the keys {sorted(group)}, but {lacks} is missing: no rate, or the default one.")
        for one in [group["params"]] if torch.is_tensor(group["params"]) else group["params"]:
            one = one[1] if isinstance(one, tuple) else one  # of named_parameters(), which AdamW takes too
            expect(id(one) in names, f"'params' holds a {type(one).__name__}, not the model's own parameters.")
            rates[names[id(one)]].append(number(group["lr"]))
    return rates


def trainings() -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Trainings that leave their tower alone, and such that do not, by what they do."""
    still, frozen = nn.Module.eval, (lambda tower: tower.requires_grad_(False).train())
    sound = {
        "frozen, in evaluation mode": _training(lambda tower: tower.requires_grad_(False).eval()),
        "in evaluation mode, with an optimiser of the head alone": _training(still),
        "on a copy of it": _training(lambda tower: copy.deepcopy(tower).train()),
        "in evaluation mode, with training mode set at the end": _training(still, nn.Module.train),
    }
    moves = "freezes parameters in training mode: running_mean and running_var move. They are buffers, in state_dict()."
    broken = {
        moves: _training(frozen),
        f"{moves} ": _training(frozen, still),
        "resets BatchNorm's buffers at the end.": _training(still, lambda tower: tower[1].reset_running_stats()),
        "resets num_batches_tracked, a buffer that no output shows.": _training(still, _recount),
        "gives the tower's weights to the optimiser, too.": _training(still, learns=True),
        "moves a bias by a millionth. Compare exactly: torch.equal.": _training(still, _nudge),
        "takes weights through half precision and back.": _training(still, _halve),
    }
    return sound, broken


def _training(prepare: Callable, after: Callable = id, learns: bool = False) -> Callable:
    """train(tower, batches): a head learns on `prepare(tower)`; `after(tower)` ends it."""

    def train(tower, batches):
        body, head = prepare(tower), nn.Linear(3, 2)
        optimizer = torch.optim.SGD([*head.parameters(), *(body.parameters() if learns else ())], 0.1)
        for images in batches:
            loss = (head(body(images)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after(tower)

    return train


def _recount(tower: nn.Module) -> None:
    """Forget how many batches BatchNorm has seen."""
    tower[1].num_batches_tracked.zero_()


def _nudge(tower: nn.Module) -> None:
    """Move a bias by a millionth of its size."""
    tower[-1].bias.data *= 1 + 1e-6


def _halve(tower: nn.Module) -> None:
    """Take everything through half precision and back."""
    for value in tower.state_dict().values():
        value.copy_(value.half())


def said(answer: Callable, train: Callable) -> tuple[bool, list]:
    """What the learner's test says of a training, and what it called."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        batches = list(torch.rand(3, 5, 3, 8, 8) + 1)  # three of (B,3,H,W)
        for images in batches:  # statistics of data
            tower(images)
        tower.width = 3
    calls = []
    watched = lambda tower, batches: calls.append(0) or train(tower, batches)  # noqa: E731
    return verdict(lambda subject: answer(subject, tower, batches), watched), calls


def fail(answer: Callable, path: Path) -> None:
    """Let an answer write pieces that end too early; their error must come out."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("the rest never came")

    try:
        answer(path, pieces())
    except ConnectionError:
        return
    except RuntimeError as error:
        expect(False, f"The pieces' own error should come out, yours is {error!r}. A bare raise passes it on.")
    expect(False, "The pieces failed and your function kept silent: tidy up, then let the error through.")


def write(answer: Callable, path: Path, pieces: object, moves: list) -> None:
    """Let an answer write, noting what it renames and deletes by its path."""
    with contextlib.ExitStack() as stack:
        names = ("replace", "rename", "unlink", "remove")
        spies = [stack.enter_context(mock.patch.object(os, name, wraps=getattr(os, name))) for name in names]
        try:
            answer(path, pieces)
        except TypeError as error:
            expect("not bytes" not in str(error), "The pieces are bytes: open the draft in mode 'wb', not 'w'.")
            raise
    for call in (call for spy in spies for call in spy.call_args_list):
        if not call.kwargs.get("dir_fd"):  # else a folder that tidies up after itself
            moves.append(Path((call.args or tuple(call.kwargs.values()))[0]))


def clusters() -> tuple[np.ndarray, ...]:
    """Hits a, b (Q,) of two models and pictures (Q,): 60 pictures with 1 to 9 captions, alike within a picture."""
    rng = np.random.default_rng(0)
    counts = np.tile([1, 1, 2, 3, 9], 12)  # (P,)
    first = rng.random(60) < 0.6  # (P,)
    gain = rng.random(60) < np.where(counts > 2, 0.55, 0.15)
    a, b = np.repeat(first, counts).astype(float), np.repeat(first | gain, counts).astype(float)  # (Q,)
    b[rng.random(len(b)) < 0.05] = 0.0
    order = rng.permutation(len(a))
    return a[order], b[order], np.repeat(np.arange(60), counts)[order]


def ends(a: np.ndarray, b: np.ndarray, pictures: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(low, high) of b - a drawn by pictures, and message -> (low, high) of what people draw in its place."""
    counts, mine, yours = (np.bincount(pictures, hit) for hit in (None, b, a))  # (P,) queries, hits of each picture
    gain, size, rng = mine - yours, len(counts), np.random.default_rng(0)
    drawn, other = rng.multinomial(size, np.full(size, 1 / size), (2, 6_000))  # (draws,P) how often each is drawn
    heavy, once = rng.multinomial(size, counts / counts.sum(), 6_000), drawn.clip(max=1)
    paired = drawn @ gain / (drawn @ counts)
    right, spread = np.percentile(paired, (2.5, 97.5)), paired.std()
    mistakes = {  # draws, or ends
        "You drew queries. A picture's captions rise and fall together: draw whole pictures.": (
            rng.choice(b - a, (3_000, len(a))).mean(axis=1)),
        "a and b are drawn apart in yours. They met the same pictures: draw once, and take b - a of what was drawn.": (
            drawn @ mine / (drawn @ counts) - other @ yours / (other @ counts)),
        "This is a 90 % interval: 95 % leaves out 2.5 % at each end.": np.percentile(paired, (5, 95)),
        "This is one standard deviation to each side. Take percentiles 2.5 and 97.5 of the draws.": (
            (b - a).mean() + np.array([-spread, spread])),
        "These are the draws of b alone. Draw the difference, b - a.": drawn @ mine / (drawn @ counts),
        "A picture that was drawn twice counts twice; np.isin, or a set, counts it once.": (
            once @ gain / (once @ counts)),
        "Drawn from `pictures`, one with nine captions comes nine times as often: draw from np.unique(pictures).": (
            heavy @ gain / (heavy @ counts)),
        "Your draws are means of pictures' means. Every query counts once: put the drawn pictures' queries together.": (
            drawn @ (gain / counts) / size),
    }  # fmt: skip
    return right, {text: x if x.size == 2 else np.percentile(x, (2.5, 97.5)) for text, x in mistakes.items()}


def encode(sentences: list[str]) -> torch.Tensor:
    """Sentences -> (n,E) unit rows that depend on every word and its place."""
    expect(not isinstance(sentences, str), "encode takes a list of sentences: encode([sentence]).")
    lists = "encode takes sentences, not lists of words: ' '.join(words)."
    expect(all(isinstance(one, str) for one in sentences), lists)
    told = [[zlib.crc32(f"{i} {word}".encode()) for i, word in enumerate(one.split())] for one in sentences]
    return normalize(torch.stack([sum(rows_of(seed, 16) for seed in seeds) for seeds in told]), dim=1)  # (n,E)


def rows_of(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
