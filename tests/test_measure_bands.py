"""Bands from measurements: wide enough for the seeds, never over what they must exclude."""

import pytest

from course_utils import records

SEEDS = [0, 1, 2, 3, 4]


@pytest.fixture()
def measure(script):
    return script("data_scripts/measure_bands.py")


@pytest.mark.parametrize(
    ("values", "excludes"),
    [
        ([0.90, 0.91, 0.92, 0.89, 0.90], [0.001]),
        ([0.90, 0.91, 0.92, 0.89, 0.90], [0.001, 0.88, 0.95]),  # rivals close by on both sides
        ([0.5, 0.5, 0.5, 0.5, 0.5], [0.95]),  # no spread at all
        ([1e-7, 2e-7, 1e-7, 3e-7, 0.0], [1e-3]),
        ([40.0, 45.0, 38.0, 41.0, 44.0], [1.0]),
        ([-0.4, -0.5, -0.45, -0.42, -0.41], [0.0]),
    ],
)
def test_a_band_is_sound_and_wider_than_its_seeds(measure, values, excludes):
    band = measure.band(values, excludes, SEEDS)
    assert band.problems() == []
    assert band.low < min(values)
    assert band.high > max(values)


def test_a_fact_that_is_not_told_from_chance_has_no_band(measure):
    with pytest.raises(ValueError, match="contain 0.5"):
        measure.band([0.45, 0.55, 0.5, 0.5, 0.5], [0.5], SEEDS)


def fact(name, value, excludes=(0.001,)):
    return {"name": name, "value": value, "excludes": list(excludes)}


def test_facts_missing_in_a_run_or_excluding_nothing_are_named(measure):
    runs = [[fact("a", 0.9), fact("b", 0.5, ())] for _ in SEEDS]
    runs[2] = [fact("b", 0.5, ()), fact("c", 1.0)]
    with pytest.raises(ValueError, match=r"(?s)a: recorded 4 times in 5 runs.*b: it excludes nothing.*c: recorded 1"):
        measure.bands_of(runs, SEEDS)


def test_too_few_seeds_write_nothing(measure):
    with pytest.raises(ValueError, match="five are needed"):
        measure.bands_of([[fact("a", 0.9)], [fact("a", 0.8)]], [0, 1])


def test_written_bands_are_read_back_and_others_stay(measure, tmp_path):
    path = tmp_path / "bands.toml"
    measured = measure.bands_of([[fact("plain/recall_at_1", 0.9 + seed / 100)] for seed in SEEDS], SEEDS)
    measure.write(measured, "02", "smoke", path)
    measure.write(measured, "00", "cpu", path)
    measure.write({}, "00", "cpu", path)
    read = records.bands(path)
    assert list(read) == ["02"]
    band = read["02"]["smoke"]["plain/recall_at_1"]
    assert band.problems() == []
    assert band.values == (0.9, 0.91, 0.92, 0.93, 0.94)
    assert band.low == pytest.approx(measured["plain/recall_at_1"].low, rel=1e-3)


@pytest.mark.slow
def test_a_real_run_is_seeded_and_kept(measure, mini, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    (master,) = mini.masters(["98"])
    facts = measure.run(master, "smoke", 3, reuse=False)
    assert [(fact["name"], fact["value"], fact["seed"], fact["profile"]) for fact in facts] == [
        ("plain/recall_at_1", 0.903, 3, "smoke")
    ]
    assert measure.run(master, "smoke", 3, reuse=True) == facts
