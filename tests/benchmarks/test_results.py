"""What benchmarks write can be read again, and the table beside it is the one drawn from it."""

import json

import pytest


@pytest.fixture()
def results(script):
    return script("tests/benchmarks/_results.py")


def test_entries_are_replaced_by_name_and_the_table_follows(results, tmp_path):
    results.write(
        [results.entry("b", [1, 2, 3, 4, 50], "x"), results.entry("a", [1234.5] * 5, "x", peer="p")], tmp_path
    )
    results.write([results.entry("b", [2, 3, 4, 5, 6], "y")], tmp_path)
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert (first["name"], first["peer"], first["ratio"]) == ("a", "p", 1230)
    assert (second["ratio"], second["low"], second["high"], second["unit"]) == (4, 2, 6, "y")
    assert set(first) == {"name", "peer", "ratio", "low", "high", "unit", "machine", "versions"}
    assert "| b | - | 4.0 | 2.0 to 6.0 | y |" in (tmp_path / "RESULTS.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["RESULTS.md", "results.json"]


def test_too_few_samples_are_refused(results, tmp_path):
    with pytest.raises(ValueError, match="4 samples; measure at least five"):
        results.entry("a", [1, 2, 3, 4], "x")


def test_the_table_in_the_repository_is_the_one_drawn(results):
    entries = json.loads((results.FOLDER / "results.json").read_text(encoding="utf-8"))
    assert (results.FOLDER / "RESULTS.md").read_text(encoding="utf-8") == results.table(entries)
    by_name = {one["name"]: one for one in entries}
    assert by_name["scenes_per_second"]["low"] >= 1_500
    assert by_name["step_vs_tutorial"]["low"] >= 5
    assert by_name["recipe_misses_vs_tutorial"]["high"] <= 0.5
    assert by_name["recipe_misses_vs_keras"]["high"] <= 0.9
    assert by_name["gradcam_vs_captum"]["low"] >= 5
    assert by_name["gradcam_vs_pytorch_grad_cam"]["low"] >= 8
    assert by_name["shapley_vs_joint"]["low"] >= 150
    assert by_name["shapley_error"]["high"] <= 1e-6
    assert min(by_name[f"shap_{name}_error"]["low"] for name in ("permutation", "kernel")) > 5
    assert by_name["bootstrap_vs_scipy_percentile"]["low"] >= 12
    assert by_name["bootstrap_vs_scipy_bca"]["low"] >= 60
    assert by_name["metrics_vs_clip_benchmark"]["ratio"] >= 30
    assert by_name["metrics_vs_pytrec_eval"]["low"] >= 300
    assert by_name["metrics_vs_torchmetrics"]["low"] >= 700
    assert by_name["frechet_vs_torchmetrics"]["low"] >= 30
    assert by_name["ranking_flickr30k_memory"]["high"] <= 4_000
