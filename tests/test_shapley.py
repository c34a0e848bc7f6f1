"""Shapley values: against their definition over all orders, against shap, and each other; and what is refused."""

import itertools
import math

import numpy as np
import pytest

from course_utils import shapley


def by_definition(table, n):
    """What each player adds when it comes, over every order in which n players may come."""
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        there = 0
        for player in order:
            values[player] += table[there + 2**player] - table[there]
            there += 2**player
    return values / math.factorial(n)


def interactions_by_definition(table, n):
    """Mean over all orders of the others, with two players that come together, of what the two gain by each other."""
    found = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        others, total = [k for k in range(n) if k not in (i, j)], 0.0
        for order in itertools.permutations([*others, "both"]):
            there = sum(2**k for k in order[: order.index("both")])
            total += table[there + 2**i + 2**j] - table[there + 2**i] - table[there + 2**j] + table[there]
        found[i, j] = total / math.factorial(n - 1)
    return found


def table_game(table):
    """The game that looks its scores up."""
    return lambda present: table[present @ (1 << np.arange(present.shape[1]))]


def random_table(n, seed=0):
    return np.random.default_rng(seed).normal(size=2**n)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_values_and_interactions_equal_their_definitions(n):
    table = random_table(n)
    np.testing.assert_allclose(shapley.values_of(table), by_definition(table, n), atol=1e-12)
    np.testing.assert_allclose(shapley.exact(table_game(table), n, batch=5), by_definition(table, n), atol=1e-12)
    np.testing.assert_allclose(shapley.interactions_of(table), interactions_by_definition(table, n), atol=1e-12)


def test_many_games_at_once():
    tables = np.stack([random_table(4, seed) for seed in range(6)]).reshape(2, 3, 16)
    assert shapley.values_of(tables).shape == (2, 3, 4)
    assert shapley.interactions_of(tables).shape == (2, 3, 4, 4)
    np.testing.assert_allclose(shapley.values_of(tables)[1, 2], shapley.values_of(tables[1, 2]))
    np.testing.assert_allclose(shapley.interactions_of(tables)[1, 2], shapley.interactions_of(tables[1, 2]))


def test_coalitions_are_numbered_by_their_bits():
    assert shapley.coalitions(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    sets = shapley.coalitions(6)
    assert (sets @ (1 << np.arange(6)) == np.arange(64)).all()


def test_the_axioms():
    n = 6
    table = random_table(n)
    sets, values = shapley.coalitions(n), shapley.values_of(table)
    assert values.sum() == pytest.approx(table[-1] - table[0])  # all is shared out
    without = np.where(sets[:, 2], np.arange(2**n) - 4, np.arange(2**n))
    assert shapley.values_of(table[without])[2] == pytest.approx(0)  # who changes nothing gets nothing
    alike = (sets[:, 0] + sets[:, 1]).astype(float) ** 2 + sets[:, 3]
    assert shapley.values_of(alike)[0] == pytest.approx(shapley.values_of(alike)[1])  # equals get the same
    np.testing.assert_allclose(shapley.values_of(table + 3 * alike), values + 3 * shapley.values_of(alike))
    weights = np.arange(1.0, n + 1)
    np.testing.assert_allclose(shapley.values_of(sets @ weights), weights)
    np.testing.assert_allclose(shapley.interactions_of(sets @ weights), 0, atol=1e-12)


@pytest.mark.slow  # shap compiles its loops at the first call
def test_exact_equals_shap():
    shap = pytest.importorskip("shap")
    n = 6
    table = random_table(n, 3)
    game = table_game(table)

    def model(x):
        return game(x > 0.5)

    theirs = shap.ExactExplainer(model, shap.maskers.Independent(np.zeros((1, n))))(np.ones((1, n)))
    np.testing.assert_allclose(shapley.exact(game, n), theirs.values[0], atol=1e-7)
    explainer = shap.KernelExplainer(model, np.zeros((1, n)))
    np.testing.assert_allclose(shapley.exact(game, n), explainer.shap_values(np.ones(n), nsamples=2**n), atol=1e-6)


def test_sampled_orders_come_near_and_say_how_near():
    n, table = 8, random_table(8, 4)
    exact, within = shapley.values_of(table), []
    for seed in range(40):
        found = shapley.by_permutations(table_game(table), n, pairs=60, seed=seed)
        assert found.values.sum() == pytest.approx(table[-1] - table[0])
        within.append(np.abs(found.values - exact) < 2 * found.error)
    assert 0.90 < np.mean(within) < 0.99  # two standard errors hold about 95 %
    few, many = (shapley.by_permutations(table_game(table), n, pairs, seed=1) for pairs in (50, 5000))
    assert many.error.mean() == pytest.approx(few.error.mean() / 10, rel=0.2)
    np.testing.assert_allclose(many.values, exact, atol=5 * many.error.max())
    again = shapley.by_permutations(table_game(table), n, 50, seed=1, batch=7)
    np.testing.assert_array_equal(few.values, again.values)


def test_all_orders_of_few_players_sampled_often_are_exact():
    """A game of pairs has no noise left when each order is used forwards and backwards."""
    sets = shapley.coalitions(5)
    table = (sets @ np.arange(5.0)) ** 2
    found = shapley.by_permutations(table_game(table), 5, pairs=3)
    np.testing.assert_allclose(found.values, shapley.values_of(table))
    np.testing.assert_allclose(found.error, 0, atol=1e-12)


def test_what_a_sample_costs():
    asked = []

    def game(present):
        asked.append(len(present))
        return present.sum(axis=1) * 1.0

    shapley.by_permutations(game, 7, pairs=10)
    assert sum(asked) == 2 + 10 * 2 * 6 + 3  # both ends, the rest of each order, and three to see whether it is steady


def test_leaving_one_out_sees_no_shared_credit():
    sets = shapley.coalitions(3)
    table = (sets[:, 0] | sets[:, 1]) * 1.0 + 2.0 * sets[:, 2]  # either of two is enough
    np.testing.assert_allclose(shapley.leave_one_out(table_game(table), 3), [0, 0, 2])
    np.testing.assert_allclose(shapley.exact(table_game(table), 3), [0.5, 0.5, 2])


def embeddings(n, seed, cases=()):
    z = np.random.default_rng(seed).normal(size=(*cases, 2**n, 5))
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


@pytest.mark.parametrize(("n_img", "n_txt"), [(3, 4), (4, 3), (1, 5), (5, 1), (1, 1), (4, 4)])
def test_joint_values_equal_the_table_of_all_coalitions(n_img, n_txt):
    z_img, z_txt = embeddings(n_img, 1), embeddings(n_txt, 2)
    table = (z_txt @ z_img.T).ravel()  # regions are the low bits, words the high ones
    found, values = shapley.joint(z_img, z_txt), shapley.values_of(table)
    np.testing.assert_allclose(found.picture, values[:n_img], atol=1e-12)
    np.testing.assert_allclose(found.words, values[n_img:], atol=1e-12)
    np.testing.assert_allclose(found.interactions, shapley.interactions_of(table)[:n_img, n_img:], atol=1e-12)
    assert found.empty == pytest.approx(table[0])
    assert found.full == pytest.approx(table[-1])
    assert found.gap < 1e-12
    words, regions = np.abs(values[n_img:]).sum(), np.abs(values[:n_img]).sum()
    assert found.share_of_words == pytest.approx(words / (words + regions))


def test_joint_takes_many_cases_and_float32():
    z_img, z_txt = embeddings(4, 3, (6,)), embeddings(3, 4, (6,))
    found = shapley.joint(z_img.astype(np.float32), z_txt.astype(np.float32))
    assert (found.picture.shape, found.words.shape, found.interactions.shape) == ((6, 4), (6, 3), (6, 4, 3))
    assert found.gap.shape == found.share_of_words.shape == (6,)
    one = shapley.joint(z_img[5], z_txt[5])
    np.testing.assert_allclose(found.picture[5], one.picture, atol=1e-6)
    np.testing.assert_allclose(found.interactions[5], one.interactions, atol=1e-6)
    shared = shapley.joint(z_img[0], z_txt)  # one picture, six sentences
    np.testing.assert_allclose(shared.words[0], shapley.joint(z_img[0], z_txt[0]).words)
    assert shared.picture.shape == (6, 4)


def test_seventeen_players_and_more():
    z_img, z_txt = embeddings(9, 5), embeddings(8, 6)
    found, values = shapley.joint(z_img, z_txt), shapley.values_of((z_txt @ z_img.T).ravel())
    np.testing.assert_allclose(np.concatenate([found.picture, found.words]), values, atol=1e-10)
    many = shapley.joint(embeddings(12, 7), embeddings(12, 8))  # 16 million coalitions, none of them made
    assert many.gap < 1e-10


def test_a_word_that_changes_nothing_gets_nothing():
    z_img, z_txt = embeddings(3, 9), embeddings(3, 10)
    z_txt = z_txt[np.arange(8) & 0b101]  # word 1 is never read
    found = shapley.joint(z_img, z_txt)
    assert found.words[1] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.interactions[:, 1], 0, atol=1e-12)


def noisy(present):
    return np.random.default_rng().random(len(present))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapley.coalitions(0), "n=0; 1 to 20 players"),
        (lambda: shapley.exact(table_game(None), 21), "n=21.*Sample orders instead"),
        (lambda: shapley.values_of(np.ones(7)), r"are \(...,2\*\*n\); got \(7,\)"),
        (lambda: shapley.values_of(np.ones(8) * np.nan), "NaN or infinity: a sentence of padding only"),
        (lambda: shapley.interactions_of(np.float64(3)), r"got \(\)"),
        (lambda: shapley.exact(lambda present: present * np.nan, 3), r"must give \(S,\) scores.*got \(8, 3\)"),
        (lambda: shapley.exact(lambda present: present.sum(1) * np.nan, 3), "NaN or infinity"),
        (lambda: shapley.exact(noisy, 3), "of the same players; is a model in training mode"),
        (lambda: shapley.by_permutations(noisy, 3, pairs=5), "is a model in training mode"),
        (lambda: shapley.leave_one_out(noisy, 3), "is a model in training mode"),
        (lambda: shapley.by_permutations(noisy, 3, pairs=1), "pairs=1, n=3; at least two pairs"),
        (lambda: shapley.joint(np.ones((6, 5)), embeddings(2, 0)), r"z_img must be \(...,2\*\*n,E\).*got \(6, 5\)"),
        (lambda: shapley.joint(embeddings(2, 0), np.ones((1, 5))), r"z_txt must be.*got \(1, 5\)"),
        (lambda: shapley.joint(embeddings(2, 0), embeddings(2, 0)[:, :4]), "do not share a space"),
        (lambda: shapley.joint(embeddings(2, 0), embeddings(2, 0) * np.nan), "z_txt holds NaN or infinity"),
    ],
)
def test_what_has_no_shapley_value_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
