"""The stated optimum of every task, proved twice: over the table's cells, and by Bayes on many examples."""

import itertools

import numpy as np
import pytest
import torch
from scipy import optimize

from course_utils.tasks import TASKS, Task

STATED = {  # both, first, second, none: what the lesson says
    "complementary": (0.95, 0.25, 0.25, 0.25),
    "redundant": (0.85, 0.85, 0.85, 0.25),
    "noisy": (0.85, 0.85, 0.40, 0.25),
    "misleading": (0.80, 0.80, 0.70, 0.25),
    "trusted": (0.90, 0.80, 0.90, 0.25),
    "sentiment": (0.895, 0.555, 0.815, 0.55),
    "triage": (0.8383, 0.6701, 0.7714, 0.613),
}
USES = ("both", "first", "second", "none")


def seen(use, a, b):
    return {"both": (a, b), "first": a, "second": b, "none": ()}[use]


def every_guesser(task, use):
    """Accuracies of all functions from what is seen to a label: nobody can do better than the best of them."""
    places = sorted({seen(use, a, b) for a, b, _ in np.ndindex(task.joint.shape)})
    worth = {place: np.zeros(len(task.labels)) for place in places}
    for a, b, label in np.ndindex(task.joint.shape):
        worth[seen(use, a, b)][label] += task.joint[a, b, label]
    for guesses in itertools.product(range(len(task.labels)), repeat=len(places)):
        yield sum(worth[place][guess] for place, guess in zip(places, guesses))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", STATED)
def test_optimum_is_the_best_of_all_guessers_by_enumeration(name, use):
    task, stated = TASKS[name], STATED[name][USES.index(use)]
    assert task.optimum(use) == pytest.approx(stated)
    cells = len(task.first_cues) * len(task.second_cues) if use == "both" else 4
    if len(task.labels) ** cells <= 70_000:  # all functions, where there are few enough to try
        assert max(every_guesser(task, use)) == pytest.approx(stated)
    total = 0.0  # cell by cell, where each cell's guess is free
    for place in {seen(use, a, b) for a, b, _ in np.ndindex(task.joint.shape)}:
        worth = [0.0] * len(task.labels)
        for a, b, label in np.ndindex(task.joint.shape):
            worth[label] += task.joint[a, b, label] * (seen(use, a, b) == place)
        total += max(worth)
    assert total == pytest.approx(stated)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", STATED)
def test_bayes_reaches_the_optimum_on_many_examples(name, use):
    """Within four standard errors; the same for a classifier that learns the table from another sample by counting."""
    task, count = TASKS[name], 40_000
    first, second, label = task.sample(count, seed=1)
    a, b = first.argmax(axis=1), second.argmax(axis=1)
    known = task.joint.sum(axis={"both": (), "first": (1,), "second": (0,), "none": (0, 1)}[use], keepdims=True)
    bayes = np.broadcast_to(known, task.joint.shape)[a, b].argmax(axis=1)
    other = [x.argmax(axis=1) if x.ndim == 2 else x for x in task.sample(count, seed=2)]
    counted = np.zeros_like(task.joint)
    np.add.at(counted, tuple(other), 1)
    learned = counted.sum(axis={"both": (), "first": (1,), "second": (0,), "none": (0, 1)}[use], keepdims=True)
    learned = np.broadcast_to(learned, task.joint.shape)[a, b].argmax(axis=1)
    optimum = task.optimum(use)
    error = 4 * np.sqrt(optimum * (1 - optimum) / count)
    assert (bayes == label).mean() == pytest.approx(optimum, abs=error)
    assert (learned == label).mean() == pytest.approx(optimum, abs=2 * error)


@pytest.mark.parametrize("seen_axis", [0, 1])
def test_each_half_of_the_complementary_task_says_nothing(seen_axis):
    """By enumeration: in every row of the single modality's table all labels are equally likely."""
    task = TASKS["complementary"]
    alone = task.joint.sum(axis=1 - seen_axis)  # (cues,C)
    np.testing.assert_allclose(alone, 1 / 16)
    assert task.optimum("both") > 3.5 * task.optimum(("first", "second")[seen_axis])


def test_each_task_is_what_its_name_says():
    for (a, b), label in np.ndenumerate(TASKS["complementary"].joint.argmax(axis=2)):
        assert label == (a + b) % 4
    redundant, noisy, misleading, trusted = (TASKS[n].joint for n in ("redundant", "noisy", "misleading", "trusted"))
    assert (redundant.sum(axis=2) > 0).sum() == 4  # four pairs of cues occur: one is a copy of the other
    assert TASKS["noisy"].optimum() == pytest.approx(TASKS["noisy"].optimum("first"))
    np.testing.assert_allclose(misleading.sum(axis=1), trusted.sum(axis=1))  # the first sense did not change
    assert trusted.sum(axis=0).trace() == pytest.approx(0.9)
    assert misleading.sum(axis=0).trace() == pytest.approx(0.1)  # who believes the second is below chance
    habit = trusted.argmax(axis=2)  # (A,B) what is best while the second can be trusted
    lives_on = np.take_along_axis(misleading, habit[:, :, None], axis=2).sum()
    assert lives_on < 0.25 < TASKS["misleading"].optimum("first")
    for joint in (noisy, misleading, trusted):  # given the label, the two know nothing of each other
        for label in range(4):
            assert np.linalg.matrix_rank(joint[:, :, label]) == 1


def test_conflict_and_rarity_are_in_the_generated_cases():
    sentiment, triage = TASKS["sentiment"], TASKS["triage"]
    mocking = sentiment.joint[:, sentiment.second_cues.index("mocking tone")]  # (words,C)
    assert mocking.argmax(axis=1).tolist() == [1, 0]  # a mocking tone turns the words round
    for task in (sentiment, triage):
        assert task.optimum() > max(task.optimum("first"), task.optimum("second")) + 0.05
    urgent = triage.joint[:, :, triage.labels.index("urgent")].sum()
    assert 0.05 < urgent < 0.15


def test_samples_follow_the_table_and_can_be_read_without_error():
    for task in TASKS.values():
        first, second, label = task.sample(40_000, seed=0)
        assert first.shape == (40_000, task.widths[0])
        assert second.shape == (40_000, task.widths[1])
        assert first.dtype == second.dtype == np.float32
        assert label.dtype == np.int64
        a, b = first.argmax(axis=1), second.argmax(axis=1)
        counted = np.zeros_like(task.joint)
        np.add.at(counted, (a, b, label), 1 / 40_000)
        np.testing.assert_allclose(counted, task.joint, atol=0.01)
        assert (counted[task.joint == 0] == 0).all()
        for features, cue in ((first, a), (second, b)):
            moved = features - np.eye(features.shape[1])[cue]
            assert np.abs(moved).max() <= 0.4 + 1e-6
            np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.01)
            assert np.abs(np.corrcoef(moved.T) - np.eye(features.shape[1])).max() < 0.03


def test_example_i_depends_on_seed_and_i_alone():
    task = TASKS["triage"]
    for short, long in zip(task.sample(10, seed=5), task.sample(1000, seed=5)):
        np.testing.assert_array_equal(short, long[:10])
    assert not np.array_equal(task.sample(10, seed=5)[0], task.sample(10, seed=6)[0])


def test_bad_input_gets_one_clear_error():
    table = np.full((2, 2, 2), 1 / 8)
    names = ("a", "b")
    assert Task("fair", table, names, names, names).optimum() == 0.5
    for joint in (table * 2, -table, table[0]):
        with pytest.raises(ValueError, match=r"Task 'mine': joint must be a distribution \(2, 2, 2\)"):
            Task("mine", joint, names, names, names)
    with pytest.raises(ValueError, match="smaller than the cues"):
        Task("mine", table, names, names, names, widths=(1, 2))
    with pytest.raises(ValueError, match="use='third' is not one of both, first, second, none"):
        TASKS["noisy"].optimum("third")


def best_sum_by_cross_entropy(joint):
    """The logits (A,B,C) = f(a) + g(b) of smallest cross-entropy under the table: what late fusion tends to."""
    joint = torch.from_numpy(joint)
    f, g = (torch.zeros(size, joint.shape[2], dtype=torch.double, requires_grad=True) for size in joint.shape[:2])
    search = torch.optim.LBFGS([f, g], max_iter=500, tolerance_grad=1e-10)

    def loss():
        search.zero_grad()
        value = -(joint * (f[:, None] + g[None]).log_softmax(dim=2)).sum()
        value.backward()
        return value

    search.step(loss)
    return (f[:, None] + g[None]).detach().numpy()


def best_sum_for_accuracy(joint):
    """The best accuracy of all rules argmax over c of f(a,c) + g(b,c): a mixed-integer programme, solved exactly."""
    a, b, c = joint.shape
    scores = (a + b) * c  # f, then g; then one yes or no for each cell and answer
    rows, least = [], []
    for i, j, k in np.ndindex(joint.shape):
        for other in set(range(c)) - {k}:
            row = np.zeros(scores + a * b * c)
            row[i * c + k], row[i * c + other] = 1, -1
            row[a * c + j * c + k], row[a * c + j * c + other] = 1, -1
            row[scores + (i * b + j) * c + k] = -60  # if the answer is k, its score leads by 1; else by -59
            rows.append(row)
            least.append(-59)
    one = np.kron(np.eye(a * b), np.ones(c))
    constraints = [
        optimize.LinearConstraint(np.array(rows), least, np.inf),
        optimize.LinearConstraint(np.hstack([np.zeros((a * b, scores)), one]), 1, 1),
    ]
    whole = np.r_[np.zeros(scores), np.ones(a * b * c)]
    bounds = optimize.Bounds(np.where(whole, 0, -15), np.where(whole, 1, 15))
    cost = np.r_[np.zeros(scores), -joint.ravel()]
    return -optimize.milp(cost, integrality=whole, bounds=bounds, constraints=constraints).fun


def test_what_a_sum_of_opinions_can_reach():
    """Late fusion's ceilings as the lesson states them: it is silent under cross-entropy, where a sum could speak."""
    fitted = best_sum_by_cross_entropy(TASKS["complementary"].joint)
    np.testing.assert_allclose(fitted, 0, atol=1e-6)
    assert best_sum_for_accuracy(TASKS["complementary"].joint) == pytest.approx((12 * 0.95 + 4 * 0.05 / 3) / 16)
    sentiment = TASKS["sentiment"]
    guess = best_sum_by_cross_entropy(sentiment.joint).argmax(axis=2)
    assert np.take_along_axis(sentiment.joint, guess[:, :, None], axis=2).sum() == pytest.approx(0.815)
    assert best_sum_for_accuracy(sentiment.joint) == pytest.approx(sentiment.optimum())
