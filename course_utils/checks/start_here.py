"""Checks of lesson 00: shapes, cosine, top-k, recall by hand, chance, a test for a planted mistake; the self-test."""

from __future__ import annotations

from collections.abc import Callable

import torch
from IPython import get_ipython
from IPython.display import Markdown, display

from course_utils.checks._outcome import WrongAnswer, close, exercise, expect, run

# Question -> right letter, and the lesson that treats it.
_KEY = {1: ("c", "00"), 2: ("a", "01"), 3: ("b", "02"), 4: ("a", "02"), 5: ("b", "03")}
_KEY |= {6: ("a", "04"), 7: ("b", "05"), 8: ("a", "06"), 9: ("b", "07"), 10: ("b", "08")}
_LESSONS = {
    "00": "Start here, sections 5 to 7",
    "01": "Representation learning",
    "02": "Contrastive loss",
    "03": "Cross-modal attention",
    "04": "Fusion",
    "05": "Flickr30k",
    "06": "Train the retriever",
    "07": "Grad-CAM",
    "08": "SHAP",
}


@exercise("00", "0.1")
def check_shapes(answer: object) -> None:
    """Four tuples: images, features, z_img, scores."""
    try:
        shapes = [tuple(int(size) for size in shape) for shape in answer]
    except (TypeError, ValueError):
        raise WrongAnswer("Give a list of four tuples of whole numbers, such as [(16, 3), ...].") from None
    expect(len(shapes) == 4, f"Four shapes are wanted (images, features, z_img, scores), you gave {len(shapes)}.")
    images, features, z_img, scores = shapes
    expect(images != (16, 224, 224, 3), "images: colour stands last here. In PyTorch it comes before height and width.")
    expect(len(images) == 4, "images: four numbers are needed, the batch, the colours, the height and the width.")
    expect(images == (16, 3, 224, 224), f"images: (B,3,H,W) with 16 pictures of 224 by 224, not {images}.")
    expect(features != (1280, 16), "features: rows are pictures. One row a picture, one column a feature.")
    expect(features == (16, 1280), f"features: one row a picture, 1,280 columns, not {features}.")
    expect(z_img != (7, 384), "z_img: these are the sentences' points, z_txt. z_img has one row a picture.")
    expect(z_img == (16, 384), f"z_img: one row a picture, in the shared space of 384 numbers, not {z_img}.")
    expect(scores != (16, 7), "scores: this is the transpose. One row a sentence, one column a picture.")
    expect(scores == (7, 16), f"scores: one row a sentence, one column a picture, not {scores}.")


@exercise("00", "0.2")
def check_cosine(answer: Callable) -> None:
    """cosine(a (Q,E), b (N,E)) -> (Q,N)."""
    a = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])  # (3,2)
    b = torch.tensor([[4.0, 3.0], [10.0, 0.0]])  # (2,2)
    kept = a.clone(), b.clone()
    value = run(answer, a, b)
    expect(torch.equal(a, kept[0]) and torch.equal(b, kept[1]), "Your function changes its inputs; work on copies.")
    expect(torch.is_tensor(value), f"Return one tensor (Q,N), not {type(value).__name__}.")
    wanted = torch.tensor([[0.96, 0.6], [0.6, 0.0], [-0.8, -1.0]])
    half = a / a.norm(dim=-1, keepdim=True) @ b.T
    other_half = a @ (b / b.norm(dim=-1, keepdim=True)).T
    whole = (a / a.norm()) @ (b / b.norm()).T
    columns = (a / a.norm(dim=0)) @ (b / b.norm(dim=0)).T
    expect(tuple(value.shape) != (2, 3), "This is the transpose: rows should be the rows of a.")
    expect(not close(value, a @ b.T), "This is the plain product. Divide by both lengths.")
    expect(not close(value, half) and not close(value, other_half), "Only one side was divided by its length.")
    expect(not close(value, whole), "You divided by the norm of the whole matrix. Each row has a length of its own.")
    expect(not close(value, columns), "You divided columns by their length. Rows are the vectors: dim=-1.")
    expect(not close(value, 1 - wanted), "This is the cosine distance, 1 - cosine. The cosine itself is asked.")
    expect(not close(value, wanted.abs()), "The sign is lost: opposite directions have the cosine -1.")
    expect(tuple(value.shape) == (3, 2), f"For a (3,2) and b (2,2) the answer is (3,2), yours is {tuple(value.shape)}.")
    expect(close(value, wanted), f"For (3,4) and (4,3) the cosine is 0.96, yours says {float(value[0, 0]):.3f}.")


@exercise("00", "0.3")
def check_top_k(answer: Callable) -> None:
    """top_k(scores (Q,N), k) -> columns (Q,k), best first."""
    scores = torch.tensor([[0.1, 0.9, 0.5, -0.2], [-0.7, -0.3, -0.9, -0.8]])  # (2,4)
    value = run(answer, scores.clone(), 2)
    if isinstance(value, tuple) and hasattr(value, "indices"):
        raise WrongAnswer("topk gives values and indices together. Return its .indices.")
    columns = torch.as_tensor(value)
    expect(not close(columns, scores.topk(2).values), "These are the scores. Return the columns where they stand.")
    expect(not close(columns, scores.argsort(dim=-1)[:, :2]), "These are the k smallest: argsort sorts upwards.")
    expect(not close(columns, scores.argsort(dim=-1)[:, -2:]), "The right columns, worst first. Turn the order round.")
    for wrong in (scores.T.topk(2, dim=-1), scores.topk(2, dim=0)):
        expect(not close(columns, wrong.indices), "You ranked down the columns. Each row is one question: dim=-1.")
    expect(
        not close(columns, scores.abs().topk(2).indices), "You ranked by absolute value. A score of -0.9 is a bad one."
    )
    expect(
        tuple(columns.shape) == (2, 2),
        f"For scores (2,4) and k=2 the answer is (2,2), yours is {tuple(columns.shape)}.",
    )
    expect(
        close(columns, [[1, 2], [1, 0]]),
        f"For the row [0.1, 0.9, 0.5, -0.2] and k=2: [1, 2], not {columns[0].tolist()}.",
    )
    one = torch.as_tensor(run(answer, scores.clone(), 1))
    expect(close(one, [[1], [1]]), f"It fails for k=1: the answer is (2,1), yours is {tuple(one.shape)}.")


@exercise("00", "0.4")
def check_recall(answer: object) -> None:
    """{"ranks": [...], "recall@1": ..., "recall@2": ...} of the table of section 7."""
    expect(
        isinstance(answer, dict) and set(answer) == {"ranks", "recall@1", "recall@2"},
        'Give a dictionary with the keys "ranks", "recall@1" and "recall@2".',
    )
    ranks = answer["ranks"]
    expect(not any(value is ... for value in (ranks, *answer.values())), "Some of the values are still open.")
    expect(hasattr(ranks, "__len__") and len(ranks) == 4, "There are four captions, so four ranks.")
    expect(not close(ranks, [0, 1, 0, 1]), "You count from 0. A rank counts from 1: the best picture has rank 1.")
    expect(not close(ranks, [1, 4, 2, 1]), "You went down the columns. A row is one caption; read along it.")
    expect(not close(ranks, [1, 3, 1, 2]), "Row 'boat': only one picture scores higher than 0.3.")
    expect(not close(ranks, [1, 2, 1, 3]), "Row 'star': 0.7 is smaller than 0.75, so only one picture scores higher.")
    expect(
        close(ranks, [1, 2, 1, 2]), f"For each row, one plus how many numbers exceed the diagonal's; not {list(ranks)}."
    )
    expect(not close(answer["recall@1"], 2), "recall@1 is a share between 0 and 1, not a count.")
    expect(not close(answer["recall@1"], 50), "A fraction is wanted, not percent: between 0 and 1.")
    expect(close(answer["recall@1"], 0.5), f"Two of four rows have rank 1: that is not {answer['recall@1']}.")
    expect(
        not close(answer["recall@2"], 0.5),
        "recall@2 counts ranks 1 *and* 2: whatever counts for recall@1 counts here too.",
    )
    expect(close(answer["recall@2"], 1.0), f"All four rows have rank 1 or 2: that is not {answer['recall@2']}.")


@exercise("00", "0.5")
def check_chance(answer: Callable) -> None:
    """chance(n, right, k): at least one of `right` among the first k of n."""
    value = run(answer, 150, 1, 1)
    expect(not close(value, 150), "A probability lies between 0 and 1: one in 150, not 150.")
    expect(close(value, 1 / 150), f"One right picture of 150, first place: 1/150, yours says {value}.")
    value = run(answer, 150, 1, 10)
    expect(not close(value, 1 / 150), "`k` is not used: with ten places the chance is ten times as large.")
    expect(not close(value, 1 - (1 - 1 / 150) ** 10), "You draw with replacement. No picture stands on the list twice.")
    expect(close(value, 10 / 150), f"One right picture, the first 10 of 150: 10/150, yours says {value}.")
    value = run(answer, 10, 2, 5)
    expect(not close(value, 1.0), "right * k / n counts lists with both right pictures twice: here it would say 1.")
    expect(not close(value, 2 / 9), "This is the chance that *all* right pictures are there. One is enough.")
    expect(not close(value, 0.5), "`right` is not used: with two right pictures of 10 it must be more than 5/10.")
    expect(not close(value, 1 - 7 / 9), "This is the chance that none is there, or its rest: count once more.")
    expect(not close(value, 1 - 0.8**5), "You draw with replacement. No picture stands on the list twice.")
    expect(close(value, 7 / 9), f"Two right of 10, the first 5: 1 - C(8,5)/C(10,5) = 7/9, yours says {value}.")
    expect(close(run(answer, 6, 3, 4), 1.0), "With 3 right of 6, a list of 4 must hold one: the chance is 1.")


@exercise("00", "0.6")
def check_test_rank(answer: Callable) -> None:
    """test_rank(rank): passes for cosine rankings, raises AssertionError for a ranking by plain product."""

    def right(question: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cosine_similarity(points, question[None]).argsort(descending=True)

    def also_right(question: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        angles = torch.acos((points @ question / points.norm(dim=1) / question.norm()).clamp(-1, 1))
        return angles.argsort()

    def planted(question: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return (points @ question).argsort(descending=True)

    for good in (right, also_right):
        try:
            answer(good)
        except AssertionError as error:
            raise WrongAnswer(
                f"Your test fails for a right ranking by cosine: {error or 'its assert is False'}."
            ) from None
    seen = []

    def watched(question: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        seen.append(points)
        return planted(question, points)

    try:
        answer(watched)
    except AssertionError:
        return
    expect(seen, "Your test never calls the function that it is given. Use its argument, not fast_rank by name.")
    lengths = torch.cat([points.float().norm(dim=-1) for points in seen])
    expect(
        lengths.max() > lengths.min() * 1.001,
        "All your points have the same length, and there the mistake hides. Make one longer.",
    )
    raise WrongAnswer(
        "Your test passes for fast_rank too. Choose points where the longer one lies further aside, "
        "and assert which must come first (a comparison without assert tests nothing)."
    )


def route(answers: dict[int, str | None]) -> None:
    """Show which self-test answers are right, and with which lesson to go on.

    `answers` maps 1..10 to "a", "b", "c" or None (not answered). Raises ValueError for other keys or letters.
    """
    if not isinstance(answers, dict) or set(answers) != set(_KEY):
        raise ValueError("answers is a dictionary with the keys 1 to 10; leave None where you do not know.")
    given = {
        number: letter.strip().lower() if isinstance(letter, str) else letter for number, letter in answers.items()
    }
    for number, letter in given.items():
        if letter not in ("a", "b", "c", None):
            raise ValueError(f'Question {number}: write "a", "b", "c" or None, not {letter!r}.')
    if all(letter is None for letter in given.values()):
        _say("Not answered yet: nothing to route by. Read on, and come back when you like.")
        return
    lines = ["| question | your answer | | treated in |", "|---|---|---|---|"]
    weak = []
    for number, (letter, lesson) in _KEY.items():
        verdict = "open" if given[number] is None else "right" if given[number] == letter else "not right"
        lines.append(f"| {number} | {given[number] or ''} | {verdict} | {_title(lesson)} |")
        weak += [lesson] if verdict != "right" and lesson not in weak else []
    count = sum(given[number] == letter for number, (letter, _) in _KEY.items())
    if weak:
        advice = f"Begin with {_title(weak[0])}." + (f" Then {', '.join(map(_title, weak[1:]))}." if weak[1:] else "")
    else:
        advice = "You know the ground. Take any lesson for its surprise and its bug hunt."
    _say("\n".join(lines) + f"\n\n**{count} of {len(_KEY)} right.** {advice}")


def _title(lesson: str) -> str:
    return f"lesson {lesson}, {_LESSONS[lesson]}"


def _say(text: str) -> None:
    """Markdown in a notebook, plain text elsewhere."""
    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))
