"""Distances of feature sets against SciPy's matrix root, torchmetrics, closed forms, and their known bias."""

import math

import numpy as np
import pytest
from scipy import linalg, special

from course_utils import distances

RNG = np.random.default_rng(0)


def features(n, width, shift=0.0, decay=0.5):
    """Rows whose directions have different sizes, mixed."""
    scales = np.arange(1, width + 1) ** -decay
    turn = np.linalg.qr(np.random.default_rng(width).normal(size=(width, width)))[0]
    return (RNG.normal(size=(n, width)) * scales) @ turn + shift


def by_root(x, y):
    """The formula as it is printed, with a matrix root."""
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(cx @ cy)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * np.real(root))


@pytest.mark.parametrize(
    ("n", "m", "width"), [(400, 300, 20), (300, 300, 64), (30, 400, 64), (400, 30, 64), (50, 40, 64), (2, 2, 5)]
)
def test_frechet_is_the_formula_with_a_matrix_root(n, m, width):
    x, y = features(n, width), 1.3 * features(m, width, shift=0.1)
    few = min(n, m) <= width  # then the product is singular and SciPy's root itself is good to few digits
    assert distances.frechet(x, y) == pytest.approx(by_root(x, y), rel=1e-4 if few else 1e-9)


@pytest.mark.parametrize(("n", "width"), [(300, 64), (60, 128)])
def test_frechet_is_torchmetrics(n, width):
    fid = pytest.importorskip("torchmetrics.image.fid")
    torch = pytest.importorskip("torch")

    class Given(torch.nn.Module):
        num_features = width

        def forward(self, rows):
            return rows

    x, y = features(n, width), features(n + 10, width, shift=0.05)
    theirs = fid.FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(x), real=True)
    theirs.update(torch.from_numpy(y), real=False)
    assert distances.frechet(x, y) == pytest.approx(theirs.compute().item(), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.5, 10.0])
def test_the_fast_ways_agree_with_singular_values_or_are_not_taken(monkeypatch, decay, shift):
    """Strongly decaying features hide their small singular values when squared; float32 hides still more."""
    for n, m, width in ((80, 70, 120), (300, 200, 20)):
        x, y = features(n, width, decay=decay), 1.1 * features(m, width, shift, decay)
        x, y = x.astype(np.float32), y.astype(np.float32)
        with monkeypatch.context() as patch:
            patch.setattr(distances, "_singular_sum", lambda matrix, noise: (0.0, np.inf))
            exact = distances.frechet(x.astype(float), y.astype(float))
        assert distances.frechet(x.astype(float), y.astype(float)) == pytest.approx(exact, rel=1e-7)
        assert distances.frechet(x, y) == pytest.approx(exact, rel=2e-7)


def test_float32_is_taken_where_it_is_enough_and_only_there(monkeypatch):
    kinds, real = [], distances._singular_sum
    monkeypatch.setattr(distances, "_singular_sum", lambda matrix, noise: kinds.append(noise) or real(matrix, noise))
    x, y = (features(60, 90, shift).astype(np.float32) for shift in (0, 1))
    distances.frechet(x, y)
    assert len(kinds) == 1
    assert distances.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert len(kinds) == 3  # float32, then float64, then singular values
    assert kinds[1] > 1e8 * kinds[2]
    distances.frechet(*(features(60, 20, shift).astype(np.float32) for shift in (0, 1)))
    assert len(kinds) == 4  # more rows than columns: float64 at once


def test_the_doubt_covers_what_squaring_hides():
    some = RNG.normal(size=(60, 5))
    shared = some @ some.T  # 55 singular values of 0
    total, doubt = distances._singular_sum(shared, 0.0)
    assert 0 < abs(total - np.linalg.svd(shared, compute_uv=False).sum()) <= doubt


def test_frechet_of_gaussians_whose_distance_is_known():
    """Covariances s^2 I and t^2 I, means 1 apart: |difference|^2 + D (s - t)^2."""
    x, y = 2 * RNG.normal(size=(100_000, 4)), RNG.normal(size=(100_000, 4))
    y[:, 0] += 1
    assert distances.frechet(x, y) == pytest.approx(1 + 4 * (2 - 1) ** 2, rel=0.02)
    assert distances.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert distances.frechet(x[:50], y) == pytest.approx(distances.frechet(y, x[:50]))


def test_few_samples_look_far_apart_and_the_line_finds_the_truth():
    """Two halves of one source, whose distance is 0: small sets say otherwise, the line in 1 / size does not."""
    x, y = features(4000, 32), features(4000, 32)
    found = distances.extrapolated(lambda rows: distances.frechet(x[rows], y), 4000, [200, 400, 800, 1600])
    assert (np.diff(found.values) < 0).all()
    assert found.values[0] > 5 * abs(found.limit)
    assert abs(found.limit) < 0.2 * found.values[-1] + 0.01
    assert found.sizes.tolist() == [200, 400, 800, 1600]


def test_kernel_distance_is_torchmetrics_and_unbiased():
    kid = pytest.importorskip("torchmetrics.image.kid")
    torch = pytest.importorskip("torch")
    x, y = features(50, 16), features(50, 16, shift=0.2)
    theirs = kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert distances.kernel_distance(x, y) == pytest.approx(theirs, rel=1e-9)
    same = [distances.kernel_distance(features(20, 16), features(30, 16)) for _ in range(400)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(400)
    assert min(same) < 0


def test_inception_score_is_torchmetrics():
    inception = pytest.importorskip("torchmetrics.image.inception")
    torch = pytest.importorskip("torch")
    logits = 3 * RNG.normal(size=(200, 7))
    theirs = inception.InceptionScore(feature=torch.nn.Identity(), splits=1)
    theirs.update(torch.from_numpy(logits))
    mean, _ = theirs.compute()
    assert distances.inception_score(special.softmax(logits, axis=1)) == pytest.approx(mean.item(), rel=1e-5)


def test_inception_score_has_known_ends():
    assert distances.inception_score(np.eye(10).repeat(3, axis=0)) == pytest.approx(10)
    assert distances.inception_score(np.full((30, 10), 0.1)) == pytest.approx(1)
    assert distances.inception_score(np.eye(10)[[4] * 30]) == pytest.approx(1)  # sure, but always the same
    few = [distances.inception_score(special.softmax(3 * RNG.normal(size=(n, 10)), axis=1)) for n in (10, 10_000)]
    assert few[0] < few[1]  # few pictures cannot show all classes


BAD = np.array([[1.0, np.nan], [0, 0]])


@pytest.mark.parametrize("measure", [distances.frechet, distances.kernel_distance])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "x must be.*two rows or more"),
        (np.ones((5, 3)), np.ones(5), "y must be"),
        (np.ones((5, 3)), np.ones((5, 4)), "same width"),
        (BAD, np.ones((5, 2)), "x holds NaN or infinity"),
        (np.ones((5, 2)), np.array([[np.inf, 1], [1, 1]], dtype=np.float16), "y holds.*float16 overflow"),
    ],
)
def test_bad_features_are_refused(measure, x, y, message):
    with pytest.raises(ValueError, match=message):
        measure(x, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distances.inception_score([[0.5, 0.9]]), "adding up to 1"),
        (lambda: distances.inception_score([[np.nan, 1.0]]), "adding up to 1"),
        (lambda: distances.inception_score([]), r"\(N,C\)"),
        (lambda: distances.extrapolated(len, 10, [5]), "two different"),
        (lambda: distances.extrapolated(len, 10, [5, 20]), r"in 2\.\.10"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
