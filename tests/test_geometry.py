"""Alignment, uniformity and the gap against loops, the authors' own lines in torch, and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.special import hyp0f1

from course_utils import geometry


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def sphere(seed, count, width):
    return unit(np.random.default_rng(seed).normal(size=(count, width)))


@pytest.mark.parametrize(("count", "width"), [(2, 2), (7, 3), (40, 16)])
def test_equal_to_loops_and_to_the_authors_lines(count, width):
    a, b = sphere(count, count, width), sphere(count + 1, count, width)
    by_loop = sum(sum((x - y) ** 2 for x, y in zip(p, q)) for p, q in zip(a, b)) / count
    assert geometry.alignment(a, b) == pytest.approx(by_loop)
    assert geometry.alignment(a, b) == pytest.approx((torch.tensor(a - b).norm(p=2, dim=1) ** 2).mean().item())
    for t in (2.0, 0.5):
        pairs = [math.exp(-t * math.dist(a[i], a[j]) ** 2) for i in range(count) for j in range(count) if i != j]
        theirs = torch.pdist(torch.tensor(a), p=2).pow(2).mul(-t).exp().mean().log().item()
        assert geometry.uniformity(a, t) == pytest.approx(math.log(sum(pairs) / len(pairs))) == pytest.approx(theirs)
    gap = math.dist([sum(column) / count for column in a.T], [sum(column) / count for column in b.T])
    assert geometry.modality_gap(a, b) == pytest.approx(gap)


def test_one_point_is_aligned_and_as_little_spread_as_can_be():
    point = np.tile(sphere(0, 1, 5), (6, 1))
    assert geometry.alignment(point, point) == geometry.uniformity(point) == geometry.modality_gap(point, point) == 0
    assert geometry.alignment(point, -point) == pytest.approx(4) and geometry.modality_gap(point, -point) == 2


@pytest.mark.parametrize("width", [2, 3, 64])
def test_an_evenly_filled_sphere_has_the_uniformity_of_the_closed_form(width):
    """E exp(-t (2 - 2 cos)) over a sphere of `width` dimensions is exp(-2t) 0F1(; width / 2; t^2)."""
    for t in (2.0, 1.0):
        wanted = math.log(math.exp(-2 * t) * hyp0f1(width / 2, t**2))
        assert geometry.uniformity(sphere(1, 3_000, width), t) == pytest.approx(wanted, abs=0.02)


def test_unrelated_rows_are_two_apart_and_have_no_gap():
    a, b = sphere(2, 4_000, 50), sphere(3, 4_000, 50)
    assert geometry.alignment(a, b) == pytest.approx(2, abs=0.02)
    assert geometry.modality_gap(a, b) == pytest.approx(0, abs=0.04)


def test_two_sides_shifted_apart_have_the_gap_of_the_shift():
    """Halves of a circle of latitude each: means lie on the axis, at plus and minus the height."""
    angle = np.linspace(0, 2 * math.pi, 8, endpoint=False)
    ring = np.stack([0.6 * np.cos(angle), 0.6 * np.sin(angle), np.full(8, 0.8)], axis=1)
    below = ring * [1, 1, -1]
    assert geometry.modality_gap(ring, below) == pytest.approx(1.6)
    assert geometry.modality_gap(ring, below[:4].repeat(3, axis=0)) > 1.6  # other counts are fine
    assert geometry.alignment(ring, below) == pytest.approx(1.6**2)


def test_turning_the_whole_space_changes_nothing():
    a, b = sphere(4, 20, 6), sphere(5, 20, 6)
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(6, 6)))[0]
    for measure in (geometry.alignment, geometry.modality_gap, lambda a, b: geometry.uniformity(a)):
        assert measure(a @ turn, b @ turn) == pytest.approx(measure(a, b))
    assert geometry.alignment(a.astype(np.float32), torch.tensor(b)) == pytest.approx(geometry.alignment(a, b))


ROWS = sphere(7, 4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.alignment(ROWS, 2 * ROWS), "alignment: rows must have length 1; yours reach from 2 to 2"),
        (lambda: geometry.uniformity(ROWS * np.nan), "uniformity: rows must have length 1; yours reach from nan"),
        (lambda: geometry.modality_gap(ROWS, np.zeros((4, 3))), "from 0 to 0"),
        (lambda: geometry.alignment(ROWS, ROWS[:3]), r"one pair, but the shapes are \(4, 3\) and \(3, 3\)"),
        (lambda: geometry.modality_gap(ROWS, sphere(0, 4, 5)), "one width E; got 3 and 5"),
        (lambda: geometry.uniformity(ROWS[:1]), "two rows at least"),
        (lambda: geometry.uniformity(ROWS[0]), r"\(N,E\), N > 0; got shape \(3,\)"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
