"""Every measure against enumeration of all tie breakings, scikit-learn, torchmetrics and (if installed) trec_eval."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

from course_utils import counting, metrics

RNG = np.random.default_rng(0)


def by_hand(order, right):
    """All measures of one query from a finished order, straight from their definitions."""
    hits = [bool(right[item]) for item in order]
    relevant, places = sum(hits), [place for place, hit in enumerate(hits, 1) if hit]
    found = {"first_rank": places[0], "reciprocal_rank": 1 / places[0]}
    precision = {place: sum(hits[:place]) / place for place in places}
    found["average_precision"] = sum(precision.values()) / relevant
    found["average_precision_at_r"] = sum(v for place, v in precision.items() if place <= relevant) / relevant
    best = sum(1 / math.log2(place + 1) for place in range(1, relevant + 1))
    found["ndcg"] = sum(1 / math.log2(place + 1) for place in places) / best
    for k in range(1, len(order) + 1):
        found[f"hit_rate_at_{k}"] = float(places[0] <= k)
        found[f"true_recall_at_{k}"] = sum(hits[:k]) / relevant
    return found


def over_all_tie_breakings(scores, right):
    """The mean of `by_hand` over every order in which ties may fall, each as likely as the others."""
    n, every = len(scores), []
    for lots in itertools.permutations(range(n)):
        every.append(by_hand(sorted(range(n), key=lambda item: (-scores[item], lots[item])), right))
    return {name: np.mean([one[name] for one in every]) for name in every[0]}


def some_right(queries, items, share):
    right = RNG.random((queries, items)) < share
    right[np.arange(queries), RNG.integers(0, items, queries)] = True
    return right


@pytest.mark.parametrize("levels", [1, 2, 3, 6], ids=["constant", "two levels", "three levels", "few ties"])
def test_equal_to_enumerating_every_tie_breaking(levels):
    scores, right = RNG.integers(0, levels, (10, 6)).astype(float), some_right(10, 6, 0.4)
    found = counting.rank(scores, right).measures(range(1, 7))
    for query in range(10):
        expected = over_all_tie_breakings(scores[query], right[query])
        assert {name: values[query] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def test_precision_and_ndcg_at_k_equal_enumeration():
    scores, right = RNG.integers(0, 3, (8, 6)).astype(float), some_right(8, 6, 0.4)
    ranking = counting.rank(scores, right)
    lots = list(itertools.permutations(range(6)))
    for query, k in itertools.product(range(8), (1, 2, 4)):
        orders = [sorted(range(6), key=lambda item: (-scores[query, item], lot[item])) for lot in lots]
        hits = np.array([[right[query, item] for item in order] for order in orders])
        gain = 1 / np.log2(np.arange(2, 8))
        best = gain[: min(k, right[query].sum())].sum()
        assert ranking.precision(k)[query] == pytest.approx(hits[:, :k].mean())
        assert ranking.ndcg(k)[query] == pytest.approx((hits[:, :k] @ gain[:k]).mean() / best)


def test_equal_to_scikit_learn():
    scores, right = RNG.normal(size=(60, 40)), some_right(60, 40, 0.1)
    ranking = counting.rank(scores, right)
    theirs = [average_precision_score(*query) for query in zip(right, scores)]
    np.testing.assert_allclose(ranking.average_precision(), theirs)
    assert ranking.average_precision().mean() == pytest.approx(label_ranking_average_precision_score(right, scores))
    tied = RNG.integers(0, 5, scores.shape).astype(float)  # scikit-learn's nDCG averages over ties, as ours does
    for some in (scores, tied):
        assert counting.rank(some, right).ndcg().mean() == pytest.approx(ndcg_score(right, some))


def test_equal_to_the_measures_of_earlier_lessons():
    scores, right = RNG.integers(0, 7, (50, 30)).astype(float), some_right(50, 30, 0.1)
    ranking = counting.rank(scores, right)
    np.testing.assert_allclose(ranking.first_rank(), metrics.ranks(scores, right), atol=1e-12)
    for k in (1, 5, 10, 30):
        np.testing.assert_allclose(ranking.hit_rate(k), metrics.recall_at_k(scores, right, k), atol=1e-12)


def test_equal_to_torchmetrics_where_scores_are_positive():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    torch = pytest.importorskip("torch")
    scores, right = RNG.random((20, 25)), some_right(20, 25, 0.15)
    ranking = counting.rank(scores, right)
    names = {"average_precision": ranking.average_precision(), "reciprocal_rank": ranking.reciprocal_rank()}
    names |= {"normalized_dcg": ranking.ndcg()}
    for name, ours in names.items():
        measure = getattr(retrieval, f"retrieval_{name}")
        theirs = [measure(torch.tensor(s), torch.tensor(r)).item() for s, r in zip(scores, right)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for k in (1, 5):
        theirs = [
            retrieval.retrieval_recall(torch.tensor(s), torch.tensor(r), top_k=k).item() for s, r in zip(scores, right)
        ]
        np.testing.assert_allclose(ranking.true_recall(k), theirs, rtol=1e-5)


def test_scores_at_or_below_zero_are_scores_like_any_others():
    scores, right = RNG.normal(size=(20, 25)), some_right(20, 25, 0.15)
    ours, lower = counting.rank(scores, right).measures((1, 5)), counting.rank(scores - 10, right).measures((1, 5))
    for name, values in ours.items():
        np.testing.assert_array_equal(values, lower[name])


def test_equal_to_trec_eval_without_ties():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores, right = RNG.normal(size=(30, 50)), some_right(30, 50, 0.1)
    wanted = {"map", "recip_rank", "ndcg", "recall_1,5,10", "success_1,5,10", "P_5", "ndcg_cut_10"}
    qrel = {f"q{q}": {f"d{d}": int(r) for d, r in enumerate(row)} for q, row in enumerate(right)}
    run = {f"q{q}": {f"d{d}": float(s) for d, s in enumerate(row)} for q, row in enumerate(scores)}
    theirs = pytrec_eval.RelevanceEvaluator(qrel, wanted).evaluate(run)
    ranking = counting.rank(scores, right)
    found = {
        "map": ranking.average_precision(),
        "recip_rank": ranking.reciprocal_rank(),
        "ndcg": ranking.ndcg(),
        "ndcg_cut_10": ranking.ndcg(10),
        "P_5": ranking.precision(5),
    }
    found |= {f"recall_{k}": ranking.true_recall(k) for k in (1, 5, 10)}
    found |= {f"success_{k}": ranking.hit_rate(k) for k in (1, 5, 10)}
    for name, ours in found.items():
        np.testing.assert_allclose(ours, [theirs[f"q{q}"][name] for q in range(30)], atol=1e-6)


@pytest.mark.parametrize(("n", "k", "right"), [(1000, 10, 1), (1000, 1, 5), (300, 20, 40), (7, 7, 2)])
def test_a_constant_scorer_gets_exactly_chance(n, k, right):
    positives = np.zeros((2, n), dtype=bool)
    positives[:, :right] = True
    ranking = counting.rank(np.full((2, n), -0.5), positives)
    np.testing.assert_allclose(ranking.hit_rate(k), 1 - math.comb(n - right, k) / math.comb(n, k), rtol=1e-9)
    np.testing.assert_allclose(ranking.true_recall(k), k / n, rtol=1e-12)
    np.testing.assert_allclose(ranking.precision(k), right / n, rtol=1e-12)
    np.testing.assert_allclose(ranking.first_rank(), (n + 1) / (right + 1), rtol=1e-12)
    shuffled = counting.rank(RNG.normal(size=(4000, n)), np.repeat(positives[:1], 4000, axis=0))
    for name in ("reciprocal_rank", "average_precision", "average_precision_at_r", "ndcg"):
        drawn, expected = getattr(shuffled, name)(), getattr(ranking, name)()[0]
        assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(4000) + 1e-12, name


def test_best_and_worst_orders():
    right = np.tile(np.arange(12) < 3, (2, 1))
    best, worst = counting.rank(right * 1.0, right), counting.rank(right * -1.0, right)
    for name in ("average_precision", "average_precision_at_r", "ndcg", "reciprocal_rank", "first_rank"):
        np.testing.assert_allclose(getattr(best, name)(), 1, rtol=1e-12)
    assert best.true_recall(1).tolist() == [1 / 3] * 2  # one place for three right answers
    assert best.hit_rate(1).tolist() == [1] * 2
    assert worst.first_rank().tolist() == [10] * 2
    assert worst.average_precision_at_r().tolist() == [0] * 2


def test_map_at_r_sees_what_recall_at_1_cannot():
    """Two scorers with the right answer first; one of them leaves the other right answers last."""
    right = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    good, poor = counting.rank([[6.0, 5, 4, 3, 2, 1]], right), counting.rank([[6.0, 1, 2, 3, 4, 5]], right)
    assert good.hit_rate(1) == poor.hit_rate(1) == 1
    assert (good.average_precision_at_r(), poor.average_precision_at_r()) == (1, pytest.approx(1 / 3))


def test_summary_holds_the_means_and_the_median():
    ranking = counting.rank(RNG.normal(size=(31, 20)), RNG.integers(0, 20, 31))
    found, measures = ranking.summary((1, 5)), ranking.measures((1, 5))
    assert set(found) == set(measures) | {"median_rank"}
    assert found["ndcg"] == pytest.approx(measures["ndcg"].mean())
    assert found["median_rank"] == np.median(measures["first_rank"])
    assert len(ranking) == 31
    assert ranking.relevant.tolist() == [1] * 31


@pytest.mark.parametrize("k", [0, 21])
def test_k_beyond_the_pool_is_refused(k):
    ranking = counting.rank(RNG.normal(size=(3, 20)), [0, 1, 2])
    for measure in (ranking.hit_rate, ranking.true_recall, ranking.precision, ranking.ndcg):
        with pytest.raises(ValueError, match=f"k={k} is outside the pool of 20"):
            measure(k)
    with pytest.raises(ValueError, match="outside the pool"):
        ranking.measures((1, k))
