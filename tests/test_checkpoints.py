"""Checkpoints: whole or absent, exact, never unpickled; damaged and foreign ones say so and change nothing."""

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import checkpoints
from course_utils.checkpoints import CheckpointError


def trained(seed=0, width=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, width))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 2, 3, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def stored(folder, step=10, best=False, seed=0):
    checkpoints.write(folder, checkpoints.snapshot(*trained(seed)), {"step": step, "note": [1, 0.1]}, best)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


def test_a_checkpoint_gives_back_every_bit(tmp_path):
    model, optimizer = trained(0)
    checkpoints.write(tmp_path, checkpoints.snapshot(model, optimizer), {"step": 7, "loss": [0.1, 1 / 3]})
    other, theirs = trained(1)
    found = checkpoints.read(tmp_path)
    checkpoints.restore(found, other, theirs)
    assert same(model, other) and found.about["loss"] == [0.1, 1 / 3]
    for p, q in zip(model.parameters(), other.parameters()):
        assert q.is_contiguous(memory_format=torch.channels_last) or q.ndim != 4
        for key, value in optimizer.state[p].items():
            assert torch.equal(theirs.state[q][key], value) and theirs.state[q][key].stride() == value.stride()
    model_only, _ = trained(2)
    checkpoints.restore(found, model_only)
    assert same(model, model_only)
    assert {path.suffix for path in found.where.iterdir()} == {".safetensors", ".json", ".sha256"}


def test_tied_weights_are_stored_and_stay_tied(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    optimizer = torch.optim.SGD(model.parameters())
    checkpoints.write(tmp_path, checkpoints.snapshot(model, optimizer), {"step": 1})
    kept = model["a"].weight.detach().clone()
    nn.init.zeros_(model["a"].weight)
    checkpoints.restore(checkpoints.read(tmp_path), model)
    assert torch.equal(model["b"].weight, kept) and model["b"].weight is model["a"].weight


def test_the_last_and_the_best_are_kept(tmp_path):
    assert not checkpoints.exists(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        checkpoints.read(tmp_path)
    stored(tmp_path, 1)
    stored(tmp_path, 2, best=True)
    stored(tmp_path, 3)
    stored(tmp_path, 4)
    assert names(tmp_path) == ["checkpoints.json", "step-00000002", "step-00000004"]
    assert [checkpoints.read(tmp_path, which).about["step"] for which in ("last", "best")] == [4, 2]


@pytest.mark.parametrize("broken", ["checkpoints.save_file", "os.rename", "os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch, broken):
    stored(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"course_utils.{broken}" if "save" in broken else broken, full)
        with pytest.raises(CheckpointError, match="of step 2 cannot be written.*No space left.*still whole"):
            stored(tmp_path, 2)
    assert checkpoints.read(tmp_path).about["step"] == 1
    assert not list(tmp_path.glob("step-*.part"))
    stored(tmp_path, 2)
    assert names(tmp_path) == ["checkpoints.json", "step-00000001", "step-00000002"]  # 1 was the best so far


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    stored(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002")  # renamed, but never pointed to
    (tmp_path / "step-00000003.part").mkdir()
    stored(tmp_path, 2, best=True)
    assert names(tmp_path) == ["checkpoints.json", "step-00000002"]
    assert checkpoints.read(tmp_path).about["step"] == 2


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "state.sha256"])
@pytest.mark.parametrize("damage", [flip, cut, os.remove])
def test_damage_is_named_and_the_way_out_too(tmp_path, name, damage):
    stored(tmp_path, 1, best=True)
    stored(tmp_path, 2)
    damage(tmp_path / "step-00000002" / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="step-00000002.* is damaged.*go on from step-00000001"):
        checkpoints.read(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    pointer = json.loads((tmp_path / "checkpoints.json").read_text())
    (tmp_path / "checkpoints.json").write_text(json.dumps(pointer | {"last": "step-00000001"}))  # as the message says
    assert checkpoints.read(tmp_path).about["step"] == 1


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 9, "last": "a", "best": "a"}', "\x00\xff"])
def test_a_damaged_pointer_says_which_checkpoints_are_there(tmp_path, content):
    stored(tmp_path, 1)
    (tmp_path / "checkpoints.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="is damaged.*folders that are here: step-00000001"):
        checkpoints.read(tmp_path)
    with pytest.raises(CheckpointError, match="is damaged"):
        stored(tmp_path, 2)
    assert names(tmp_path)[:2] == ["checkpoints.json", "step-00000001"]


def test_a_pickle_in_the_place_of_tensors_is_not_opened(tmp_path):
    stored(tmp_path, 1)
    where = tmp_path / "step-00000001"
    torch.save({"a": torch.ones(1)}, where / "model.safetensors")
    about = json.loads((where / "state.json").read_text())
    about["files"]["model.safetensors"] = checkpoints._digest(where / "model.safetensors")
    (where / "state.json").write_text(json.dumps(about))
    (where / "state.sha256").write_text(checkpoints._digest(where / "state.json"))
    with pytest.raises(CheckpointError, match="is damaged.*no other checkpoint"):
        checkpoints.read(tmp_path)


def test_another_models_checkpoint_is_refused_before_anything_changes(tmp_path):
    stored(tmp_path)
    model, optimizer = trained(5, width=4)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match="another model: 0 tensors are missing, 0 unknown, 2 of another shape.*3.bias"
    ):
        checkpoints.restore(checkpoints.read(tmp_path), model, optimizer)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    with pytest.raises(CheckpointError, match="2 tensors are missing, 9 unknown"):
        checkpoints.restore(checkpoints.read(tmp_path), nn.Linear(2, 2))


def test_moments_of_parameters_that_do_not_learn_are_refused(tmp_path):
    stored(tmp_path)
    model, _ = trained(5)
    with pytest.raises(CheckpointError, match="moments of '0.bias', which this training has not"):
        checkpoints.restore(checkpoints.read(tmp_path), model, torch.optim.AdamW(model[3].parameters()))


def test_all_generators_come_back(tmp_path):
    random.seed(3)
    np.random.seed(4)
    torch.manual_seed(5)
    np.random.randn()  # a normal number is kept back

    def draw():
        return torch.rand(3).tolist(), np.random.randn(3).tolist(), [random.random(), random.gauss(0, 1)]

    state = json.loads(json.dumps(checkpoints.random_state()))
    first = draw()
    assert draw() != first
    checkpoints.set_random_state(state)
    assert draw() == first
