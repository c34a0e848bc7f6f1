"""The training program on exported scenes: alone, stopped and resumed, on two processes; its card; its refusals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from course_utils import checkpoints, env, flickr30k, recipes, retrieval
from course_utils.scenes import SceneConfig

ROOT = Path(__file__).resolve().parent.parent
COUNTS = {"train": 40, "val": 12, "test": 4}
STEPS = ["--steps", "7", "--batch-size", "12", "--every", "3", "--dtype", "fp32", "--no-tensorboard"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty scenes of 64 px, exported and prepared by the course's own programs."""
    folder = tmp_path_factory.mktemp("scenes")
    sys.path.insert(0, str(ROOT / "data_scripts"))
    import export_scenes
    import prepare_flickr30k

    export_scenes.export(folder / "raw", COUNTS, SceneConfig(size=64, counts=(1, 2)))
    job = prepare_flickr30k.Job(str(folder / "raw"), folder / "ready", "scenes", side=64, workers=1, accept=True)
    prepare_flickr30k.prepare(job)
    return folder / "ready"


@pytest.fixture()
def program(script, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return script("data_scripts/train_retriever.py")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a training that nobody stopped."""
    import train_retriever

    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_DATA", str(out / "data"))
        assert train_retriever.main(["--config", "tiny", "--data", str(data), "--out", str(out), *STEPS]) == 0
    return out


def history(folder):
    return checkpoints.read(folder).about["history"]


def test_it_trains_evaluates_and_writes_a_card(program, whole, data):
    card = json.loads((whole / "card.json").read_text())
    assert {"config": "tiny", "seed": 0, "steps": 7, "processes": 1, "weights": "from scratch"}.items() <= card.items()
    assert card["seconds"] == checkpoints.read(whole).about["seconds"] > 0
    assert card["data"]["dataset"] == "scenes" and card["data"]["pictures"] == 56
    assert card["recipe"]["train"]["steps"] == 7 and card["recipe"]["batch_size"] == 12
    assert len(card["commit"] or "0" * 40) in (40, 41)
    names = {one["name"] for one in card["records"]}
    assert names == {f"{d}/recall_at_{k}" for d in retrieval.DIRECTIONS for k in (1, 5, 10)}
    measures = checkpoints.read(whole).about["measures"]
    assert [one["step"] for one in measures] == [3, 6, 7]
    best = max(measures, key=lambda one: one["mean_recall"])
    assert card["best_step"] == best["step"]
    for one in card["records"]:  # measured again from the stored weights
        assert one["value"] == pytest.approx(best[one["name"]])
    retriever = recipes.load(whole)
    tokens, token_mask = retriever.tokenize(["a big pig"])
    assert retriever.model.encode_text(tokens, token_mask).shape == (1, 128)
    assert len(flickr30k.Flickr30k(data, "val", "scenes", COUNTS)) == 12


def test_the_test_split_is_measured_where_it_is_asked_for(program, whole, data, capsys):
    """Also afterwards: a training that has ended is not run again."""
    assert json.loads((whole / "card.json").read_text())["test"] is None
    before = checkpoints.read(whole).about["history"]
    options = ["--config", "tiny", "--data", str(data), "--out", str(whole), *STEPS, "--resume", "--test"]
    assert program.main(options) == 0
    assert "test text_to_image/recall_at_1" in capsys.readouterr().out
    assert history(whole) == before
    card, retriever = json.loads((whole / "card.json").read_text()), recipes.load(whole)
    test = flickr30k.Flickr30k(data, "test", "scenes", COUNTS)
    feed = program.Feed(test, retriever.tokenize, 64)
    wanted = retrieval.recalls(*retrieval.encode(retriever.model, feed), feed.owners)
    assert len(card["test"]) == 6
    for one in card["test"]:
        assert one["value"] == pytest.approx(wanted[one["name"]])


def test_stopped_and_resumed_it_ends_where_it_would_have(program, whole, data, tmp_path, monkeypatch, capsys):
    command = ["--config", "tiny", "--data", str(data), "--out", str(tmp_path / "out"), *STEPS]
    asked, contrast = [], recipes.contrast

    def stops(pairs, batch, gather=None):
        asked.append(0)
        if len(asked) > 6:
            raise KeyboardInterrupt
        return contrast(pairs, batch)

    with monkeypatch.context() as patch:
        patch.setattr(recipes, "contrast", stops)
        assert program.main(command) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert program.main(command) == 2
    assert "holds a training already: pass --resume" in capsys.readouterr().err
    assert program.main([*command, "--resume", "--seed", "1"]) == 2
    assert "of another training: seed was 0, now it is 1" in capsys.readouterr().err
    before = checkpoints.read(tmp_path / "out").about["seconds"]
    assert program.main([*command, "--resume"]) == 0
    assert checkpoints.read(tmp_path / "out").about["seconds"] > before > 0  # of both starts
    assert history(tmp_path / "out") == history(whole)
    for one, other in zip(
        checkpoints.read(tmp_path / "out").tensors.values(), checkpoints.read(whole).tensors.values()
    ):
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a session that is dropped is a process of its own")
def test_a_dropped_colab_session_goes_on_from_drive(program, whole, data, tmp_path, monkeypatch):
    """A first session trains onto Drive and is killed; a second one, elsewhere, goes on there and ends the same."""
    monkeypatch.delenv("COURSE_ARTIFACTS")
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(env, "DRIVE", tmp_path / "drive" / "MyDrive")
    env.DRIVE.mkdir(parents=True)

    def session(machine):
        """The set-up cell and the training of lesson 06, on a machine of its own; only Drive is the same."""
        machine.mkdir()
        os.chdir(machine)
        out = env.start("06", "smoke").paths.artifacts / "lesson_06" / "retriever"
        assert out.is_relative_to(env.DRIVE)
        return out, program.main(["--config", "tiny", "--data", str(data), "--out", str(out), *STEPS, "--resume"])

    monkeypatch.chdir(tmp_path)
    first = os.fork()
    if first == 0:
        steps, contrast = [], recipes.contrast

        def dropped(pairs, batch, gather=None):
            steps.append(0)
            if len(steps) > 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return contrast(pairs, batch)

        recipes.contrast = dropped
        session(tmp_path / "first machine")
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(first, 0)[1]) == signal.SIGKILL
    out = next(env.DRIVE.rglob("retriever"))
    assert checkpoints.read(out).about["step"] == 3  # of 7: the last whole one
    assert session(tmp_path / "second machine") == (out, 0)
    assert history(out) == history(whole)
    ours, theirs = checkpoints.read(out).tensors["model"], checkpoints.read(whole).tensors["model"]
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_what_cannot_be_is_said(program, data, tmp_path, monkeypatch, capsys):
    command = ["--data", str(data), "--out", str(tmp_path / "out"), *STEPS]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert program.main(["--config", "resnet50+bert", *command]) == 2
    said = capsys.readouterr().err
    assert "the weights of tower" in said and "--random-weights" in said
    assert program.main(["--config", "tiny", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "is not prepared: it has no manifest.json. Make it" in capsys.readouterr().err
    assert program.main(["--config", "tiny", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert "is no folder. Make it: python data_scripts/prepare_flickr30k.py" in capsys.readouterr().err
    monkeypatch.setattr("course_utils.memory._memory", lambda: 10_000_000)
    assert program.main(["--config", "tiny", *command]) == 2
    assert "Not even one fits" in capsys.readouterr().err
    monkeypatch.setattr("course_utils.memory._memory", lambda: 24_000_000)
    assert program.main(["--config", "tiny", *command]) == 2
    said = capsys.readouterr().err
    assert "a step with 12 pictures would take about 0.0" in said and "--chunk" in said
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_told_in_a_sentence(program, data, tmp_path, capsys):
    (tmp_path / "out").write_text("notes")
    assert program.main(["--config", "tiny", "--data", str(data), "--out", str(tmp_path / "out"), *STEPS]) == 2
    said = capsys.readouterr().err
    assert said.startswith("train_retriever: ") and "out" in said
    assert (tmp_path / "out").read_text() == "notes"


def launched(data, out, more):
    """The command and environment of two processes: torchrun, since `accelerate launch` starts several on GPUs only."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo",
             "COURSE_DATA": str(out / "data"), "COURSE_ARTIFACTS": str(out / "artifacts")}  # fmt: skip
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    program = [str(ROOT / "data_scripts" / "train_retriever.py"), "--config", "tiny", "--data", str(data)]
    return [*launch, *program, "--out", str(out), *STEPS, *more], quiet


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--chunk", "4"]], ids=["plain", "chunks"])
def test_two_processes_train_like_one(program, whole, data, tmp_path, more, capsys):
    """Half of each batch for either; the plain ones are killed after their first checkpoint and go on from there."""
    command, quiet = launched(data, tmp_path, more)
    if not more:
        process = subprocess.Popen(command, env=quiet, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while not checkpoints.exists(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert checkpoints.read(tmp_path).about["step"] in (3, 6)
        command, quiet = launched(data, tmp_path, ["--resume"])
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("card.json") == 1
    assert history(tmp_path) == pytest.approx(history(whole), abs=1e-5)
    assert json.loads((tmp_path / "card.json").read_text())["processes"] == 2
    alone = ["--config", "tiny", "--data", str(data), "--out", str(tmp_path), *STEPS, *more, "--resume"]
    assert program.main(alone) == 2  # another number of processes rounds otherwise
    assert "processes was 2, now it is 1" in capsys.readouterr().err
