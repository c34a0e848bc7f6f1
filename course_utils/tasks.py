"""Tasks with two modalities whose best possible accuracy is known, because their joint table is.

A modality of an example is a *cue*, one of a few. A cue becomes a row of features that anybody can read without error,
so all that remains uncertain stands in the table P(first cue, second cue, label), and the best possible accuracy is a
sum over its cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

JITTER = 0.4  # below one half: the largest of a cue's columns is always its own


@dataclass(frozen=True)
class Task:
    """A task: its joint table (A,B,C), P(first cue = a, second cue = b, label = c), and names for all three.

    widths: columns (D1,D2) of the two modalities' features, at least as many as there are cues. Raises ValueError for a
    table that is no distribution or does not fit the names.
    """

    name: str
    joint: np.ndarray
    first_cues: tuple[str, ...]
    second_cues: tuple[str, ...]
    labels: tuple[str, ...]
    widths: tuple[int, int] = (8, 8)

    def __post_init__(self):
        sizes = (len(self.first_cues), len(self.second_cues), len(self.labels))
        if self.joint.shape != sizes or self.joint.min() < 0 or not np.isclose(self.joint.sum(), 1):
            raise ValueError(f"Task {self.name!r}: joint must be a distribution {sizes}; got {self.joint.shape}.")
        if self.widths[0] < sizes[0] or self.widths[1] < sizes[1]:
            raise ValueError(f"Task {self.name!r}: widths {self.widths} are smaller than the cues {sizes[:2]}.")

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`count` independent examples: first (N,D1) and second (N,D2) float32, label (N,) int64.

        A row holds a one in its cue's column and zeros elsewhere, then everything is moved by up to 0.4 either way.
        Columns beyond the cues say nothing. Example i depends on (seed, i) alone.
        """
        draws = np.random.default_rng(seed).random((count, 1 + sum(self.widths)))
        cell = np.searchsorted(self.joint.cumsum()[:-1], draws[:, 0], side="right")  # (N,)
        first, second, label = np.unravel_index(cell, self.joint.shape)
        jitter = JITTER * (2 * draws[:, 1:] - 1)
        jitter[np.arange(count), first] += 1
        jitter[np.arange(count), self.widths[0] + second] += 1
        features = jitter.astype(np.float32)
        return features[:, : self.widths[0]], features[:, self.widths[0] :], label.astype(np.int64)

    def optimum(self, use: str = "both") -> float:
        """The best possible accuracy of a guess from "both" modalities, the "first", the "second" or "none" of them.

        Whoever sees a cell of the table guesses its likeliest label: the sum of the cells' largest entries.
        """
        hidden = {"both": (), "first": (1,), "second": (0,), "none": (0, 1)}
        if use not in hidden:
            raise ValueError(f"Task.optimum: use={use!r} is not one of {', '.join(hidden)}.")
        return float(self.joint.sum(axis=hidden[use], keepdims=True).max(axis=2).sum())


def _reads(accuracy: float, shift: int = 0) -> np.ndarray:
    """P(cue | label) (C,C), label in rows: the cue names label + shift with `accuracy`, else any other alike."""
    rows = np.full((_LABELS, _LABELS), (1 - accuracy) / (_LABELS - 1))
    rows[np.arange(_LABELS), (np.arange(_LABELS) + shift) % _LABELS] = accuracy
    return rows


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(A,B,C) of two cues that know nothing of each other but the label; labels equally likely."""
    return np.einsum("ca,cb->abc", first, second) / _LABELS


def _complementary(accuracy: float) -> np.ndarray:
    """Cues at random, the label their sum modulo C, right with `accuracy`."""
    a, b = np.indices((_LABELS, _LABELS))
    return _reads(accuracy)[(a + b) % _LABELS] / _LABELS**2  # (A,B,C)


def _redundant(accuracy: float) -> np.ndarray:
    """The second cue is the first one again."""
    return np.einsum("ca,ab->abc", _reads(accuracy), np.eye(_LABELS)) / _LABELS


def _labelled(cues: list, labels: list) -> np.ndarray:
    """(A,B,C) from P(cues) (A,B) and P(label | cues) (A,B,C)."""
    return np.array(cues)[:, :, None] * np.array(labels)


_LABELS = 4
_NAMES = ("north", "east", "south", "west")
_SENTIMENT = _labelled(
    # cold, warm, mocking tone
    cues=[
        [0.25, 0.10, 0.10],  # negative words
        [0.10, 0.25, 0.20],  # positive words
    ],
    labels=[  # negative, positive
        [(0.95, 0.05), (0.30, 0.70), (0.10, 0.90)],
        [(0.70, 0.30), (0.05, 0.95), (0.95, 0.05)],
    ],
)
_TRIAGE = _labelled(
    # healthy, fever, blood thinner in the record
    cues=[
        [0.42, 0.13, 0.05],  # clear scan
        [0.16, 0.08, 0.06],  # shadow
        [0.05, 0.02, 0.03],  # bleed
    ],
    labels=[  # home, ward, urgent
        [(0.97, 0.02, 0.01), (0.30, 0.68, 0.02), (0.85, 0.10, 0.05)],
        [(0.70, 0.26, 0.04), (0.05, 0.90, 0.05), (0.04, 0.16, 0.80)],
        [(0.10, 0.55, 0.35), (0.02, 0.38, 0.60), (0.01, 0.04, 0.95)],
    ],
)

TASKS = {
    task.name: task
    for task in (
        Task("complementary", _complementary(0.95), _NAMES, _NAMES, _NAMES),
        Task("redundant", _redundant(0.85), _NAMES, _NAMES, _NAMES),
        Task("noisy", _apart(_reads(0.85), _reads(0.40)), _NAMES, _NAMES, _NAMES, (8, 60)),
        # The second cue names the next label: who believes it is wrong, who knows it is not.
        Task("misleading", _apart(_reads(0.80), _reads(0.70, shift=1)), _NAMES, _NAMES, _NAMES),
        # The same two senses before the second one turned: to train on.
        Task("trusted", _apart(_reads(0.80), _reads(0.90)), _NAMES, _NAMES, _NAMES),
        Task(
            "sentiment",
            _SENTIMENT,
            ("negative words", "positive words"),
            ("cold tone", "warm tone", "mocking tone"),
            ("negative", "positive"),
        ),
        # The numbers are invented: an exercise in counting, no medicine.
        Task(
            "triage",
            _TRIAGE,
            ("clear scan", "shadow", "bleed"),
            ("healthy", "fever", "blood thinner"),
            ("home", "ward", "urgent"),
        ),
    )
}
