"""Profiles, seeds, sizes, folders and disk of a session."""

import random
import sys

import numpy as np
import pytest
import torch

from course_utils import env, progress


@pytest.fixture()
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_follows_the_variable_then_the_machine(no_gpu, monkeypatch):
    assert env.start("98").profile == "cpu"
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    assert env.start("98").profile == "smoke"
    assert env.start("98", profile="cpu").profile == "cpu"


def test_unknown_profiles_are_named_with_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match="'huge'.*smoke, cpu, gpu"):
        env.start("98", profile="huge")
    monkeypatch.setenv("COURSE_PROFILE", "tiny")
    with pytest.raises(ValueError, match="'tiny'"):
        env.start("98")


def test_gpu_without_cuda_says_what_to_do(no_gpu):
    with pytest.raises(RuntimeError, match="cpu"):
        env.start("98", profile="gpu")


def test_a_session_knows_where_the_programs_lie():
    session = env.start("98")
    assert "argparse" in session.script("export_scenes.py").read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="'export_stamps.py'.*export_scenes.py"):
        session.script("export_stamps.py")


def test_a_session_seeds_all_three_generators():
    draws = []
    for seed in (7, 7, 8):
        env.start("98", profile="smoke", seed=seed)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2]))


def test_sizes_choose_the_profiles_column_and_show_all_three():
    sizes = env.start("98", profile="smoke").choose(steps=(20, 400, 2_000), rate=(0.1, 0.2, 0.3))
    assert (sizes.steps, sizes.rate) == (20, 0.1)
    for text in (repr(sizes), sizes._repr_html_()):
        assert all(shown in text for shown in ("steps", "20", "400", "2,000", "smoke (chosen)", "cpu", "gpu"))
    assert "<strong>20</strong>" in sizes._repr_html_()
    with pytest.raises(AttributeError, match="read-only"):
        sizes.steps = 3
    with pytest.raises(AttributeError, match="steps, rate"):
        _ = sizes.stepps


@pytest.mark.parametrize("values", [(1, 2), 3, (1, 2, 3, 4)])
def test_a_size_needs_three_values(values):
    with pytest.raises(ValueError, match="'steps' needs three values"):
        env.start("98", profile="smoke").choose(steps=values)


def test_number_type_follows_the_hardware(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert env._dtype(torch.device("cuda")) is torch.float16  # a T4 has no bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert env._dtype(torch.device("cuda")) is torch.bfloat16
    for flags, dtype in (("avx2 avx512f", torch.float32), ("avx512_bf16", torch.bfloat16)):
        monkeypatch.setattr(env.Path, "read_text", lambda *_, flags=flags, **__: flags)
        assert env._dtype(torch.device("cpu")) is dtype


def test_the_session_is_two_lines_that_fit_a_page():
    text = repr(env.start("98", profile="smoke", seed=3))
    assert max(map(len, text.splitlines())) < 100 and text.count("\n") == 1
    assert torch.__version__.partition("+")[0] in text
    assert "seed 3" in text


def test_artifacts_follow_the_variable(own_artifacts):
    paths = env.start("98", profile="smoke").paths
    assert paths.artifacts == own_artifacts
    assert own_artifacts.is_dir()


@pytest.fixture()
def drive(no_gpu, monkeypatch, tmp_path):
    """A kernel on Colab, and where its Drive would be mounted; nothing is there yet."""
    monkeypatch.delenv("COURSE_ARTIFACTS")
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(env, "DRIVE", tmp_path / "content" / "drive" / "MyDrive")
    monkeypatch.setattr(env, "_CHECKOUT", tmp_path / "installed")  # Colab has no checkout
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    return env.DRIVE


def test_on_colab_results_go_to_drive_once_it_is_mounted(drive, capsys):
    """Mounting Drive and running the set-up cell again moves the folders, progress included, and nothing else."""
    assert env.start("98").paths.artifacts == drive.parent.parent / "artifacts"
    said = capsys.readouterr().out
    assert "Runtime, Change runtime type, T4 GPU" in said and "counted to fit it and not yet run" in said
    assert "mount Drive" in said
    drive.mkdir(parents=True)
    paths = env.start("98").paths
    assert paths.artifacts == drive / "multimodal-course" / "artifacts" and paths.artifacts.is_dir()
    assert paths.data == drive.parent.parent / "data"  # thousands of small files: on the machine's own disk
    said = capsys.readouterr().out
    assert "mount Drive" not in said and "kept on Drive, in multimodal-course/artifacts" in said
    progress.note("98", "98.1")
    assert [file.name for file in drive.rglob("*.txt")] == ["98-98.1.txt"]
    assert list(progress.table()["exercise"]) == ["98.1"]


def test_on_a_colab_with_a_gpu_nothing_is_said_of_getting_one(drive, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    env.start("98", profile="smoke")  # another profile than gpu, and a GPU all the same
    assert "No GPU" not in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_ARTIFACTS", str(tmp_path / "file" / "artifacts"))
    with pytest.raises(OSError, match="Set COURSE_ARTIFACTS"):
        env.start("98", profile="smoke")


def test_a_folder_without_rights_is_named_before_the_work(own_artifacts, monkeypatch):
    own_artifacts.mkdir()
    monkeypatch.setattr(env.os, "access", lambda path, mode: path != own_artifacts)
    with pytest.raises(OSError, match=r"artifacts \(you may not write to it\). Set COURSE_ARTIFACTS, and COURSE_DATA"):
        env.start("98", profile="smoke")


def test_the_home_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_ARTIFACTS", "~nobody_is_called_so/artifacts")
    with pytest.raises(OSError, match="folder ~nobody_is_called_so/artifacts .*Set COURSE_ARTIFACTS"):
        env.start("98", profile="smoke")


def test_another_edition_is_said(capsys):
    env.start("98", profile="smoke", edition="1999.01")
    assert "edition 1999.01" in capsys.readouterr().out
    env.start("98", profile="smoke", edition=env._version("course_utils"))
    assert capsys.readouterr().out == ""
