"""Counts and the report from them: scikit-learn's numbers, also where a quotient is nothing by nothing."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from course_utils import classification

RNG = np.random.default_rng(0)
CASES = {
    "random": (RNG.integers(0, 4, 200), RNG.integers(0, 4, 200), 4),
    "skewed": (RNG.choice(3, 150, p=[0.9, 0.08, 0.02]), RNG.choice(3, 150, p=[0.7, 0.2, 0.1]), 3),
    "perfect": (np.arange(5), np.arange(5), 5),
    "all wrong": (np.array([0, 1, 2]), np.array([1, 2, 0]), 3),
    "a class never answered": (np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), 3),
    "a class without cases": (np.array([0, 1, 1, 0]), np.array([0, 1, 2, 2]), 3),
    "a class in neither": (np.array([0, 1, 1]), np.array([0, 0, 1]), 4),
    "everybody is well": (np.array([0] * 95 + [1] * 5), np.zeros(100, int), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_confusion_is_scikit_learns(case):
    truth, predicted, classes = CASES[case]
    counts = classification.confusion(truth, predicted, classes)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, predicted, labels=range(classes)))
    assert counts.sum() == len(truth)


@pytest.mark.parametrize("case", CASES)
def test_report_is_scikit_learns(case):
    truth, predicted, classes = CASES[case]
    report = classification.report(classification.confusion(truth, predicted, classes))
    settings = {"labels": range(classes), "zero_division": 0}
    each = precision_recall_fscore_support(truth, predicted, **settings)
    macro = precision_recall_fscore_support(truth, predicted, average="macro", **settings)
    for mine, theirs in zip((report.precision, report.recall, report.f1, report.support), each):
        np.testing.assert_allclose(mine, theirs)
    np.testing.assert_allclose(report.macro, macro[:3])
    weighted = precision_recall_fscore_support(truth, predicted, average="weighted", **settings)
    np.testing.assert_allclose(report.weighted, weighted[:3])
    assert report.accuracy == pytest.approx(accuracy_score(truth, predicted))


def test_micro_averages_are_accuracy_three_times():
    truth, predicted, classes = CASES["random"]
    report = classification.report(classification.confusion(truth, predicted, classes))
    micro = precision_recall_fscore_support(truth, predicted, average="micro")
    np.testing.assert_allclose(micro[:3], report.accuracy)
    np.testing.assert_allclose(micro[:3], report.micro)


def test_nobody_is_ill_is_accurate_and_useless():
    truth, predicted, classes = CASES["everybody is well"]
    report = classification.report(classification.confusion(truth, predicted, classes))
    assert report.accuracy == 0.95
    assert report.recall.tolist() == [1.0, 0.0]
    assert report.precision.tolist() == [0.95, 0.0]


def test_table_has_a_row_a_class_and_the_averages():
    truth, predicted, classes = CASES["skewed"]
    report = classification.report(classification.confusion(truth, predicted, classes))
    table = report.table(["home", "ward", "urgent"])
    assert table.index.tolist() == ["home", "ward", "urgent", "macro average"]
    np.testing.assert_array_equal(table.recall[:3], report.recall)
    np.testing.assert_array_equal(table.loc["macro average", ["precision", "recall", "f1"]], report.macro)
    assert table.support.tolist() == [*np.bincount(truth, minlength=3), len(truth)]
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        report.table(["home", "ward"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classification.confusion([0, 1], [0], 2), "must be the same"),
        (lambda: classification.confusion([0, 2], [0, 1], 2), r"whole numbers in 0\.\.1"),
        (lambda: classification.confusion([0, -1], [0, 1], 2), "whole numbers"),
        (lambda: classification.confusion([0.0, 1.0], [0, 1], 2), "whole numbers"),
        (lambda: classification.report([[1, 2, 3]]), r"must be \(C,C\)"),
        (lambda: classification.report([[0, 0], [0, 0]]), "at least one case"),
        (lambda: classification.report([[1, -1], [0, 2]]), "none negative"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
