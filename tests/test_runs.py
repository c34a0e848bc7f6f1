"""A training that is stopped, killed or damaged goes on as if nothing had happened, or says why it cannot.

Run as a program, this file is the training that the test below kills.
"""

import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import checkpoints, losses, models, training
from course_utils.checkpoints import CheckpointError

CONFIG = training.TrainConfig(14, 3e-3, 0.1, 0.5, schedule="cosine", warmup=2, frozen=5, tower_rate=1e-3)


def tiny():
    """With dropout, so that the generators matter."""
    torch.manual_seed(0)
    sentences = models.TransformerWords(20, 6, width=12, layers=1, heads=2)
    model = models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), sentences, shared=8, tau=0.5)
    model.text_head = nn.Sequential(nn.Dropout(0.3), model.text_head)
    model.image_head = nn.Sequential(nn.Dropout(0.3), model.image_head)
    return model


def batches(steps):
    """Drawn from the global generator, batch by batch: the order is part of what must come back."""
    for _ in range(steps):
        tokens = torch.randint(2, 20, (12, 5))
        yield {
            "images": torch.rand(12, 3, 16, 16) + torch.from_numpy(np.random.rand(12, 1, 1, 1)).float(),
            "tokens": tokens,
            "token_mask": torch.ones_like(tokens, dtype=torch.bool),
            "image_ids": torch.arange(12) + random.randint(0, 3),
        }


def clip(pairs, batch):
    return losses.clip_loss(pairs.z_img, pairs.z_txt, pairs.tau, batch["image_ids"])


def train(run=None, config=CONFIG, loss=clip, model=None):
    model = model or tiny()
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    return training.fit(model, batches(config.steps), loss, config, run=run), model


def stops_after(steps):
    """A loss that gives up; and how often it was asked."""
    asked = []

    def loss(pairs, batch):
        asked.append(0)
        if len(asked) > steps:
            raise KeyboardInterrupt
        return clip(pairs, batch)

    return loss


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


@pytest.fixture(scope="module")
def whole():
    """(losses, model) of a training that was never stopped and kept nothing."""
    return train()


@pytest.mark.parametrize("stop", [3, 4, 6, 11, 13])  # while frozen, before and after thawing, at the end
@pytest.mark.parametrize("every", [2, 3])
def test_stopped_and_resumed_is_never_stopped(tmp_path, whole, stop, every):
    run = training.Run(tmp_path, every, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(run, loss=stops_after(stop))
    done = checkpoints.read(tmp_path).about["step"]
    assert done == stop - stop % every
    torch.rand(7)  # whatever happened in between
    history, model = train(run, loss=stops_after(CONFIG.steps - done))  # no step is repeated before the checkpoint
    assert history == whole[0] and same(model, whole[1]) and not model.training


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": 5},
        {"dtype": torch.bfloat16},
        {"schedule": "cycle", "warmup": 0, "frozen": 0, "tower_rate": None},
        {"schedule": "cycle", "warmup": 0, "still_norms": True},
    ],
)
def test_so_it_is_in_every_kind_of_training(tmp_path, change):
    config, run = dataclasses.replace(CONFIG, **change), training.Run(tmp_path, 4, resume=True)
    expected, model = train(config=config)
    with pytest.raises(KeyboardInterrupt):
        train(run, config, stops_after(9))
    history, other = train(run, config)
    assert history == expected and same(model, other)


def test_a_finished_training_is_only_read_back(tmp_path, whole):
    run = training.Run(tmp_path, 100, resume=True)
    assert train(run)[0] == whole[0]
    history, model = train(run, loss=stops_after(0))
    assert history == whole[0] and same(model, whole[1])


def test_evaluating_and_keeping_change_nothing(tmp_path, whole):
    seen = []

    def evaluate(model):
        assert not model.training and not torch.is_grad_enabled()
        seen.append(torch.rand(1).item() + np.random.rand() + random.random())
        return {"recall": [0.2, 0.5, 0.5, 0.1][len(seen) - 1], "seen": len(seen)}

    history, model = train(training.Run(tmp_path, 4, evaluate, judge="recall"))
    assert history == whole[0] and same(model, whole[1])
    best, last = (checkpoints.read(tmp_path, which).about for which in ("best", "last"))
    assert (best["step"], last["step"]) == (8, 14)  # the earlier of two equals
    assert last["best"] == {"step": 8, "value": 0.5}
    assert [one["step"] for one in last["measures"]] == [4, 8, 12, 14] and last["history"] == history


def test_an_evaluation_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every value must be finite, and 'recall' among them"):
        train(training.Run(tmp_path, 4, lambda model: {"recall": float("nan")}, judge="recall"))
    with pytest.raises(ValueError, match="'recall' among them"):
        train(training.Run(tmp_path, 4, lambda model: {"precision": 1.0}, judge="recall"))
    with pytest.raises(ValueError, match="judge='recall' needs evaluate"):
        training.Run(tmp_path, judge="recall")
    with pytest.raises(ValueError, match="every must be at least 1"):
        training.Run(tmp_path, 0)


def test_a_folder_with_a_training_is_not_written_over(tmp_path):
    train(training.Run(tmp_path, 100))
    with pytest.raises(ValueError, match="holds a training already. Pass resume=True"):
        train(training.Run(tmp_path, 100))
    with pytest.raises(CheckpointError, match="of another training: learning_rate was 0.003, now it is 0.002"):
        train(training.Run(tmp_path, resume=True), dataclasses.replace(CONFIG, learning_rate=2e-3))
    other = models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), tiny().text_tower, shared=9)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        train(training.Run(tmp_path, resume=True), model=other)
    path = checkpoints.read(tmp_path).where / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="model.safetensors is damaged"):
        train(training.Run(tmp_path, resume=True))


class Series:
    """Batches that can skip, and say what they are."""

    def __init__(self, seed, begin=0):
        self.about, self.seed, self.begin, self.made = {"seed": seed}, seed, begin, []

    def skip(self, count):
        self.after = Series(self.seed, self.begin + count)
        return self.after

    def __iter__(self):
        for number in range(self.begin, CONFIG.steps):
            self.made.append(number)
            torch.manual_seed(number)
            yield from batches(1)


def test_batches_that_can_skip_are_asked_to_and_must_be_the_same(tmp_path):
    run, first = training.Run(tmp_path, 4, resume=True), Series(0)
    with pytest.raises(KeyboardInterrupt):
        training.fit(tiny(), first, stops_after(9), CONFIG, run=run)
    with pytest.raises(CheckpointError, match="seed was 0, now it is 1"):
        training.fit(tiny(), Series(1), clip, CONFIG, run=run)
    again = Series(0)
    training.fit(tiny(), again, clip, CONFIG, run=run)
    assert again.made == [] and again.after.made == list(range(8, CONFIG.steps))


def test_a_folder_that_cannot_be_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    seen = []

    def watched(pairs, batch):
        seen.append(0)
        return clip(pairs, batch)

    with pytest.raises(CheckpointError, match="checkpoints cannot go to .*file.*Name another folder"):
        train(training.Run(tmp_path / "file" / "run"), loss=watched)
    assert seen == []


def test_seconds_of_all_starts_are_added_up(tmp_path):
    run = training.Run(tmp_path, 4, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(run, loss=stops_after(9))
    before = json.loads((checkpoints.read(tmp_path).where / "state.json").read_text())["seconds"]
    train(run)
    assert checkpoints.read(tmp_path).about["seconds"] > before > 0


def test_a_scaler_comes_back(tmp_path):
    """fp16 needs a GPU; here its scaler, which is the same class, is put in the place where accelerate keeps it."""

    class Accelerator:
        num_processes, process_index, is_main_process = 1, 0, True

        def __init__(self, scale):
            self.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

        def wait_for_everyone(self):
            pass

    from course_utils.runs import Keeper

    run, model = training.Run(tmp_path, 1, resume=True), nn.Linear(2, 2)
    states = []
    for scale in (512.0, 4.0):
        accelerator = Accelerator(scale)
        optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        keeper = Keeper(run, CONFIG, accelerator, None)
        keeper.resume(model, optimizer, schedule, iter([]))
        if scale == 512.0:
            accelerator.scaler.scale(model(torch.ones(1, 2)).sum()).backward()
            accelerator.scaler.step(optimizer)
            accelerator.scaler.update()
            schedule.step()
            keeper.history.append(1.0)
            keeper.after(model, optimizer, schedule)
        states.append((accelerator.scaler.state_dict(), schedule.get_last_lr()))
    assert states[0] == states[1] and states[0][0]["scale"] == 512 and states[0][0]["_growth_tracker"] == 1


# TensorBoard ----------------------------------------------------------------------------------------------------------


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        training.Run(tmp_path, tensorboard=True)
    training.Run(tmp_path)


def test_curves_of_a_resumed_training_have_each_step_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = training.Run(tmp_path, 4, lambda model: {"recall": 0.5}, tensorboard=True, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(run, loss=stops_after(10))
    history, _ = train(run)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    loss = events.Scalars("loss")
    assert [one.step for one in loss] == list(range(1, CONFIG.steps + 1))
    assert [one.value for one in loss] == pytest.approx(history, rel=1e-6)
    assert set(events.Tags()["scalars"]) == {"loss", "recall", "learning_rate/heads", "learning_rate/towers"}
    assert [one.step for one in events.Scalars("recall")] == [4, 8, 12, 14]


# killed ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_is_never_stopped(tmp_path, whole):
    """SIGKILL three times, at moments nobody chose, checkpoints being written at every step."""
    kills, quiet = 0, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)], env=quiet, stdout=subprocess.PIPE, text=True
        )
        try:
            if kills < 3:
                for line in process.stdout:
                    if line.startswith("step") and random.SystemRandom().random() < 0.4:
                        time.sleep(0.02 * random.SystemRandom().random())
                        process.kill()
                        kills += 1
                        break
            process.communicate(timeout=100)
        finally:
            process.kill()
        if process.returncode == 0:
            break
        assert process.returncode == -9
    assert kills > 0
    assert json.loads((tmp_path / "history.json").read_text()) == whole[0]
    model = tiny()
    checkpoints.restore(checkpoints.read(tmp_path), model)
    assert same(model, whole[1])


def main(folder):
    def slowly(pairs, batch):
        print("step", flush=True)
        time.sleep(0.02)
        return clip(pairs, batch)

    torch.set_num_threads(1)
    history, _ = train(training.Run(folder, 1, resume=True), loss=slowly)
    (folder / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
