"""What a long training keeps beside its weights: checkpoints to go on from, evaluations, curves in TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import numbers
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object

from course_utils import checkpoints, locks


@dataclass(frozen=True)
class Run:
    """What a long training keeps, for `fit`.

    folder: where its checkpoints go (see `checkpoints`). every: steps between two of them; the last step has one too.
    evaluate: (model) -> {name: number}, called before each, in evaluation mode without gradients, on the main process.
    judge: which of these numbers says what is best, larger is better; "" counts the last as best. tensorboard: write
    loss, learning rates and evaluations into folder/tensorboard. resume: go on from the last checkpoint where there is
    one; the result is that of a training that never stopped.
    """

    folder: Path | str
    every: int = 100
    evaluate: Callable | None = None
    judge: str = ""
    tensorboard: bool = False
    resume: bool = False

    def __post_init__(self):
        if not isinstance(self.every, numbers.Integral) or self.every < 1 or (self.judge and self.evaluate is None):
            raise ValueError(f"Run: every must be at least 1, and judge={self.judge!r} needs evaluate; got {self}.")
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                "Run: tensorboard is not installed: pip install tensorboard (or '.[tensorboard]' in the course's "
                "folder), or pass tensorboard=False; the checkpoints keep every loss and evaluation anyway."
            )


class Keeper:
    """A run's checkpoints, evaluations and TensorBoard; without a run it only holds the history."""

    def __init__(self, run, config, accelerator, data):
        self.run, self.accelerator = run, accelerator
        self.history, self.measures, self.best, self.writer, self.kept = [], [], None, None, contextlib.ExitStack()
        plain = {name: str(value) if name == "dtype" else value for name, value in vars(config).items()}
        self.spent, self.started = 0.0, time.perf_counter()  # seconds before this start, in all starts together
        self.identity = {"config": plain, "processes": accelerator.num_processes, "data": data}

    def resume(self, model, optimizer, schedule, batches) -> Iterator[dict]:
        """Put model, optimiser, schedule, scaler and generators where the last checkpoint was; returns what is left."""
        run = self.run
        if run is not None and self.accelerator.is_main_process:
            self.kept.enter_context(locks.alone(run.folder))
        if run is not None and not checkpoints.exists(run.folder):
            _require_folder(Path(run.folder))
        if run is not None and checkpoints.exists(run.folder):
            if not run.resume:
                raise ValueError(
                    f"fit: {run.folder} holds a training already. Pass resume=True to go on, or another folder."
                )
            found = checkpoints.read(run.folder)
            self._compare(found)
            lacking = {"history", "measures", "best", "random", "scaler"} - found.about.keys()
            if lacking:
                raise checkpoints.CheckpointError(f"{found.where} was not written by fit: it has no {min(lacking)}.")
            checkpoints.restore(found, model, optimizer)
            self.history, self.measures, self.best = (found.about[key] for key in ("history", "measures", "best"))
            done, self.spent = len(self.history), found.about.get("seconds", 0.0)
            schedule.load_state_dict(schedule.state_dict() | {"last_epoch": done - 1, "_step_count": done + 1})
            schedule.step()
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(found.about["scaler"])
            if hasattr(batches, "skip"):
                batches = iter(batches.skip(done))
            else:
                batches = iter(batches)
                for _ in range(done):  # before the generators are set: drawing may use them
                    next(batches, None)
            checkpoints.set_random_state(found.about["random"][self.accelerator.process_index])
        if run is not None and run.tensorboard and self.accelerator.is_main_process:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(Path(run.folder, "tensorboard")), purge_step=len(self.history) + 1)
        return iter(batches)

    def after(self, model, optimizer, schedule) -> bool:
        """What is due after a step: curves, every so often an evaluation and a checkpoint. True where it evaluated."""
        run, done = self.run, len(self.history)
        if self.writer is not None:
            self.writer.add_scalar("loss", self.history[-1], done)
            for number, rate in enumerate(schedule.get_last_lr()):
                self.writer.add_scalar("learning_rate/" + ("heads", "towers")[number], rate, done)
        if run is None or (done % run.every and done != self.identity["config"]["steps"]):
            return False
        states = gather_object([checkpoints.random_state()])  # one a process
        if self.accelerator.is_main_process:
            self._evaluate(model)
            latest = self.measures[-1] if run.judge else {"step": done}
            value = latest[run.judge or "step"]
            better = self.best is None or value > self.best["value"]
            self.best = {"step": done, "value": value} if better else self.best
            scaler = self.accelerator.scaler
            about = {"step": done, "history": self.history, "measures": self.measures, "best": self.best}
            about["seconds"] = round(self.spent + time.perf_counter() - self.started, 3)
            about |= {"random": states, "scaler": scaler and scaler.state_dict(), "identity": self.identity}
            checkpoints.write(run.folder, checkpoints.snapshot(model, optimizer), about, better)
        self.accelerator.wait_for_everyone()
        return run.evaluate is not None

    def _evaluate(self, model) -> None:
        run, done, state = self.run, len(self.history), checkpoints.random_state()
        if run.evaluate is None:
            return
        model.eval()
        with torch.no_grad():
            found = {name: float(value) for name, value in run.evaluate(model).items()}
        checkpoints.set_random_state(state)  # an evaluation changes nothing of the training
        wrong = [name for name, value in found.items() if not math.isfinite(value)]
        if wrong or (run.judge and run.judge not in found):
            raise ValueError(f"fit: evaluate gave {found}; every value must be finite, and {run.judge!r} among them.")
        self.measures.append({"step": done, **found})
        if self.writer is not None:
            for name, value in found.items():
                self.writer.add_scalar(name, value, done)

    def _compare(self, found) -> None:
        theirs, ours = found.about.get("identity", {}), json.loads(json.dumps(self.identity))
        for part, mine in ours.items():
            yours = theirs.get(part)
            if yours != mine:
                both = [one if isinstance(one, dict) else {part: one} for one in (yours, mine)]
                name = next(name for name in both[1] | both[0] if both[0].get(name) != both[1].get(name))
                raise checkpoints.CheckpointError(
                    f"{found.where} is of another training: {name} was {both[0].get(name)!r}, now it is "
                    f"{both[1].get(name)!r}. Nothing was changed: train as before, or in another folder."
                )

    def close(self) -> None:
        """Finish TensorBoard's file, and let others train in the folder."""
        self.kept.close()
        if self.writer is not None:
            self.writer.close()


def _require_folder(folder: Path) -> None:
    """A folder that cannot be written is told before the first step, not after the steps to the first checkpoint."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checkpoints.CheckpointError(
            f"Run: checkpoints cannot go to {folder}: {error}. Name another folder."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise checkpoints.CheckpointError(
            f"Run: checkpoints cannot go to {folder}: it is read-only. Name another folder."
        )
