"""Records: what is stored, what is refused, and bands that cannot be empty."""

import dataclasses
import json
import math

import pytest

from course_utils import env, records

BAND = records.Band(0.8, 0.99, (0.001, 0.5), (0.9, 0.91, 0.92, 0.89, 0.9), (0, 1, 2, 3, 4))


@pytest.fixture()
def session():
    return env.start("98", profile="smoke", seed=4)


@pytest.fixture()
def shown(monkeypatch):
    """Records as a notebook would show them: the list of displayed MIME bundles."""
    bundles = []
    monkeypatch.setattr(records, "get_ipython", lambda: object())
    monkeypatch.setattr(records, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def with_bands(monkeypatch, **facts):
    monkeypatch.setattr(records, "bands", lambda: {"98": {"smoke": facts}})


def test_a_record_holds_all_that_a_tool_needs(session, shown):
    records.Recorder(session)("plain/recall_at_1", 0.9, interval=(0.85, 0.95), chance=0.001)
    fact = shown[0][records.MIME]
    assert json.loads(json.dumps(fact)) == fact
    wanted = {"name": "plain/recall_at_1", "value": 0.9, "interval": [0.85, 0.95], "chance": 0.001, "excludes": [0.001]}
    assert wanted.items() <= fact.items()
    assert (fact["profile"], fact["lesson"], fact["seed"]) == ("smoke", "98", 4)
    assert fact["seconds"] >= 0
    assert fact["peak_memory"] > 50e6


def test_the_sentence_has_interval_chance_and_band(session, shown, monkeypatch):
    with_bands(monkeypatch, **{"plain/recall_at_1": BAND})
    record = records.Recorder(session)
    record("plain/recall_at_1", 0.9, interval=(0.85, 0.95), chance=0.001)
    record("plain/recall_at_1", 0.7)
    assert shown[0]["text/plain"] == (
        "plain/recall_at_1 = 0.900 (95 % interval 0.850 to 0.950; chance 0.001; expected 0.800 to 0.990)"
    )
    assert shown[1]["text/plain"].endswith("OUTSIDE)")


def test_outside_a_notebook_the_sentence_is_printed(session, capsys):
    records.Recorder(session)("fact", 2)
    assert capsys.readouterr().out == "fact = 2.000\n"


@pytest.mark.parametrize(
    ("name", "value", "interval", "message"),
    [
        ("Recall at 1", 0.5, None, "lower-case"),
        ("plain//recall", 0.5, None, "slashes"),
        ("fact", math.nan, None, "finite"),
        ("fact", math.inf, None, "finite"),
        ("fact", 0.5, (0.6, 0.7), "does not contain"),
    ],
)
def test_senseless_records_are_refused(session, name, value, interval, message):
    with pytest.raises(ValueError, match=message):
        records.Recorder(session)(name, value, interval=interval)


def fact(name="plain/recall_at_1", value=0.9, seconds=10, memory=1e9, lesson="98"):
    return {"name": name, "value": value, "seconds": seconds, "peak_memory": memory, "lesson": lesson,
            "profile": "smoke"}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ([], "expected but not recorded"),
        ([fact(), fact()], "more than once"),
        ([fact(value=0.79)], "outside its band"),
        ([fact(value=1.0)], "outside its band"),
        ([fact(), fact("other")], "other: has no band"),
        ([fact(seconds=61)], "took 61 s"),
        ([fact(memory=9e9)], "took 9.0 GB"),
        ([fact(lesson="97")], "under lesson 97"),
    ],
)
def test_a_run_is_held_to_its_bands_and_budget(monkeypatch, facts, problem):
    with_bands(monkeypatch, **{"plain/recall_at_1": BAND})
    assert records.check([fact()], "98", "smoke") == []
    lines = records.check(facts, "98", "smoke")
    assert any(problem in line for line in lines)
    assert all(line.startswith("lesson 98, ") for line in lines)


def test_a_measured_time_counts_instead_of_the_records(monkeypatch):
    with_bands(monkeypatch, **{"plain/recall_at_1": BAND})
    assert records.check([fact(seconds=61)], "98", "smoke", seconds=59) == []
    assert any("took 70 s" in line for line in records.check([fact(seconds=10)], "98", "smoke", seconds=70))


def test_a_lesson_without_bands_does_not_pass(monkeypatch):
    monkeypatch.setattr(records, "bands", dict)
    assert any("no bands" in line for line in records.check([], "98", "smoke"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"low": 0.99, "high": 0.8}, "not below"),
        ({"high": 0.905}, "lies outside"),
        ({"low": 0.4}, "admits 0.5"),
        ({"excludes": ()}, "excludes nothing"),
        ({"seeds": (0, 1, 2, 2, 2)}, "3 seeds"),
        ({"values": (0.9,), "seeds": (0,)}, "five are needed"),
    ],
)
def test_an_empty_band_is_found(change, problem):
    assert BAND.problems() == []
    assert any(problem in line for line in dataclasses.replace(BAND, **change).problems())


def test_every_band_of_the_course_is_sound():
    problems = [
        f"{lesson}, {profile}, {name}: {problem}"
        for lesson, profiles in records.bands().items()
        for profile, facts in profiles.items()
        for name, band in facts.items()
        for problem in band.problems()
    ]
    assert problems == []


def test_bands_are_read_from_toml_and_a_bad_entry_is_named(tmp_path):
    path = tmp_path / "bands.toml"
    path.write_text(
        '["02".smoke."plain/recall_at_1"]\nlow = 0.8\nhigh = 0.99\nexcludes = [0.001, 0.5]\n'
        "values = [0.9, 0.91, 0.92, 0.89, 0.9]\nseeds = [0, 1, 2, 3, 4]\n"
    )
    assert records.bands(path) == {"02": {"smoke": {"plain/recall_at_1": BAND}}}
    path.write_text('["02".smoke."plain/recall_at_1"]\nlow = 0.8\n')
    with pytest.raises(ValueError, match="02, smoke, plain/recall_at_1"):
        records.bands(path)


def test_records_are_read_back_from_a_notebook(tmp_path):
    outputs = [{"data": {"text/plain": "x"}}, {"data": {records.MIME: fact(), "text/plain": "y"}}, {"name": "stdout"}]
    path = tmp_path / "run.ipynb"
    path.write_text(json.dumps({"cells": [{"source": "prose"}, {"outputs": outputs}]}))
    assert records.read_notebook(path) == [fact()]


def test_peak_memory_grows_with_what_is_held():
    before = records.peak_memory()
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert records.peak_memory() >= before
    assert records.peak_memory() > 200_000_000


def test_a_lesson_that_trains_for_longer_has_a_budget_of_its_own():
    took = lambda lesson, seconds: [line for line in records.check([], lesson, "cpu", seconds) if "took" in line]  # noqa: E731
    assert took("06", 479) == [] and took("06", 481) != [] and took("05", 301) != []
