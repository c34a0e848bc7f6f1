"""One training loop for every lesson, on accelerate; and GradCache, which makes a large batch fit a small memory."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from tqdm.auto import tqdm

from course_utils import memory
from course_utils.runs import Keeper, Run

_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
_TOWERS = ("image_tower", "text_tower")  # what `frozen` and `tower_rate` speak of, as in models.DualEncoder


@dataclass(frozen=True)
class TrainConfig:
    """How to train: AdamW, a learning rate that rises and falls, gradients clipped.

    steps: optimiser steps. learning_rate: its peak. clip: largest gradient norm. dtype: what the towers compute in;
    torch.bfloat16 and torch.float16 (GPU, with a scaler) mean mixed precision, scores and weights stay fp32.
    schedule: "cycle", one cycle; or "cosine", after `warmup` steps of linear rise. frozen: so many first steps leave
    the towers as they are (image_tower and text_tower of the model, in evaluation mode) and train the rest.
    tower_rate: peak for the towers, where it is another; with "cosine" their warm-up begins when they thaw.
    chunk: GradCache, at most so many pictures' activations at once; 0 is all. channels_last: memory order of weights.
    still_norms: BatchNorm keeps its statistics, so that a chunk or a process's share computes what the batch does.
    """

    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    dtype: torch.dtype = torch.float32
    schedule: str = "cycle"
    warmup: int = 0
    frozen: int = 0
    tower_rate: float | None = None
    chunk: int = 0
    channels_last: bool = True
    still_norms: bool = False

    def __post_init__(self):
        counts = (self.steps, self.warmup, self.frozen, self.chunk)
        if not all(isinstance(one, numbers.Integral) for one in counts):
            raise ValueError(f"TrainConfig: steps, warmup, frozen and chunk must be whole numbers; got {self}.")
        if not (self.steps >= 1 and self.learning_rate > 0 and self.clip > 0 and self.weight_decay >= 0):  # nor NaN
            raise ValueError(
                f"TrainConfig: steps, learning_rate and clip must be positive, weight_decay 0 or more; got {self}."
            )
        if self.dtype not in _PRECISION:
            raise ValueError(f"TrainConfig: dtype {self.dtype} is not one of {', '.join(map(str, _PRECISION))}.")
        if self.schedule not in ("cycle", "cosine"):
            raise ValueError(f"TrainConfig: schedule {self.schedule!r} is neither 'cycle' nor 'cosine'.")
        if self.warmup and self.schedule == "cycle":
            raise ValueError("TrainConfig: a cycle has its own warm-up; leave warmup=0, or use schedule='cosine'.")
        if not (0 <= self.warmup < self.steps - self.frozen and self.frozen >= 0 and self.chunk >= 0):
            raise ValueError(
                f"TrainConfig: warmup, frozen and chunk must be 0 or more, warmup + frozen below steps; got {self}."
            )
        if self.tower_rate is not None and not self.tower_rate > 0:
            raise ValueError(f"TrainConfig: tower_rate={self.tower_rate} must be positive; to hold towers, use frozen.")


def fit(
    model,
    batches: Iterable[dict],
    loss: Callable,
    config: TrainConfig,
    label: str = "training",
    run: Run | None = None,
) -> list[float]:
    """Train `model` in place and return the loss of every step, in nats.

    batches: batch dictionaries, config.steps of them or more. loss: (model(batch), batch) -> scalar. label: what the
    progress bar says. The device is accelerate's: CUDA where there is one, else the CPU; afterwards the model is where
    it was, so that what fed it before feeds it again. Under `accelerate launch` each process passes its own batches.
    run: checkpoints, evaluation, TensorBoard. To resume, `batches` must begin as they began the first time: those that
    were used are drawn and dropped, or skipped by batches.skip(n) where there is one.

    Raises ValueError when the batches run out, FloatingPointError when the loss is no longer a number, MemoryError, and
    checkpoints.CheckpointError where a checkpoint is damaged or of another training.
    """
    AcceleratorState._reset_state()  # accelerate knows one precision a process; a notebook may train in several
    if config.dtype == torch.float16 and not torch.cuda.is_available():
        raise ValueError("fit: torch.float16 needs a GPU; use torch.bfloat16 or torch.float32 on a CPU.")
    accelerator = Accelerator(mixed_precision=_PRECISION[config.dtype], cpu=not torch.cuda.is_available())
    home = next((parameter.device for parameter in model.parameters()), accelerator.device)
    model = model.to(accelerator.device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # half the time of a convolution on a CPU
    towers = _towers(model, config)
    learns = {parameter: parameter.requires_grad for tower in towers for parameter in tower.parameters()}
    optimizer = torch.optim.AdamW(_groups(model, config), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = _schedule(optimizer, config)
    optimizer = accelerator.prepare(optimizer)
    keeper = Keeper(run, config, accelerator, getattr(batches, "about", None))
    try:
        batches = keeper.resume(model, optimizer.optimizer, schedule, batches)
    except BaseException:
        keeper.close()
        raise
    history, prepared, stage = keeper.history, model, None
    bar = tqdm(total=config.steps, initial=len(history), desc=label, leave=False, mininterval=1.0)
    try:
        for step in range(len(history), config.steps):
            if stage != (step < config.frozen):
                stage = step < config.frozen
                _thaw(learns, not stage)
                prepared = _wrapped(accelerator, prepared, config)
                _set_modes(prepared, towers if stage else [], config)
            batch = next(batches, None)
            if batch is None:
                raise ValueError(
                    f"fit: batches ran out after {step} of {config.steps} steps; pass more, or lower steps."
                )
            batch = {name: value.to(accelerator.device) for name, value in batch.items()}
            with memory.explained(len(next(iter(batch.values())))):
                optimizer.zero_grad()
                value = _gradients(accelerator, prepared, batch, loss, config.chunk)
                if not torch.isfinite(value):
                    raise FloatingPointError(
                        f"fit: the loss is {value.item()} at step {step}; lower learning_rate or use fp32."
                    )
                accelerator.clip_grad_norm_(prepared.parameters(), config.clip)
                optimizer.step()
            schedule.step()
            history.append(value.item())
            bar.update()
            bar.set_postfix(loss=f"{history[-1]:.3f}")
            if keeper.after(model, optimizer.optimizer, schedule):
                _set_modes(prepared, towers if stage else [], config)
    finally:
        bar.close()
        keeper.close()
        _thaw(learns, True)
        _unwrapped(accelerator, prepared).eval()
        model.to(home)
    return history


def grad_cache(model, batch: dict, loss: Callable, chunk: int, backward: Callable = torch.Tensor.backward):
    """Leave in `.grad` the gradient of the whole batch's loss, holding the activations of only `chunk` pictures.

    First every chunk is encoded without a graph; then the loss of all B pairs gives the gradient of each embedding;
    then each chunk is encoded again, with the same dropout, and handed its part. Costs one more forward pass.
    model(batch) must return a named tuple with z_img and z_txt (B,E), and model.pairs(z_img, z_txt) such a tuple again,
    as `models.DualEncoder` does; loss: (model(batch), batch) -> scalar. With "owners" (see `captioned`), a
    picture keeps its captions. BatchNorm must not compute statistics: ValueError. Adds to gradients that are there, as
    backward() does. backward: how the loss starts it (a scaler's). Returns the loss, detached. Source: Gao et al. 2021.
    """
    if chunk < 1:
        raise ValueError(f"grad_cache: chunk={chunk}; it must be at least 1.")
    if any(isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training for one in model.modules()):
        raise ValueError("grad_cache: BatchNorm would see chunks, not the batch; set TrainConfig.still_norms=True.")
    parts = _chunks(batch, chunk)
    encoded, drawn = [], []
    with torch.no_grad():
        for part in parts:
            drawn.append(_generators())
            encoded.append(model(part))
    z_img = torch.cat([out.z_img for out in encoded]).requires_grad_()  # (B,E), leaves of a small graph
    z_txt = torch.cat([out.z_txt for out in encoded]).requires_grad_()  # (B,E)
    value = loss(model.pairs(z_img, z_txt), batch)
    backward(value)  # fills z_img.grad, z_txt.grad, and the temperature's gradient
    sizes, after = [len(out.z_img) for out in encoded], _generators()
    for part, state, grad_img, grad_txt in zip(parts, drawn, z_img.grad.split(sizes), z_txt.grad.split(sizes)):
        _set_generators(state)
        out = model(part)
        torch.autograd.backward([out.z_img, out.z_txt], [grad_img, grad_txt])
    _set_generators(after)
    return value.detach()


def _towers(model, config) -> list[nn.Module]:
    """The towers, where the config treats them differently from the rest."""
    if not config.frozen and config.tower_rate is None:
        return []
    missing = [name for name in _TOWERS if not isinstance(getattr(model, name, None), nn.Module)]
    if missing:
        raise ValueError(
            f"fit: frozen and tower_rate need a model with {' and '.join(_TOWERS)}; it has no {missing[0]}."
        )
    return [getattr(model, name) for name in _TOWERS]


def _groups(model, config):
    """Parameters for AdamW: all together, or heads and towers apart where the towers have a rate of their own."""
    if config.tower_rate is None and not config.frozen:
        return model.parameters()
    inside = {id(parameter) for tower in _towers(model, config) for parameter in tower.parameters()}
    heads = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    towers = [parameter for parameter in model.parameters() if id(parameter) in inside]
    return [{"params": heads}, {"params": towers, "lr": config.tower_rate or config.learning_rate}]


def _schedule(optimizer, config):
    """Learning rates as a function of the step alone, so that a resumed training has the same."""
    if config.schedule == "cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=config.steps)

    def share(step, begin=0):
        done, whole = step - begin, config.steps - begin
        if done < config.warmup:
            return max(0.0, (done + 1) / (config.warmup + 1))
        return (1 + math.cos(math.pi * (done - config.warmup) / (whole - config.warmup))) / 2

    shares = [share, functools.partial(share, begin=config.frozen)][: len(optimizer.param_groups)]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, shares)


def _thaw(learns: dict, yes: bool) -> None:
    """Let the towers' parameters learn again as they were given, or not."""
    for parameter, given in learns.items():
        parameter.requires_grad_(given and yes)


def _wrapped(accelerator, prepared, config):
    """The model under mixed precision and, with several processes, in agreement with its copies."""
    if accelerator.num_processes > 1:  # DistributedDataParallel counts the parameters that learn: wrap it anew
        prepared = _unwrapped(accelerator, prepared)
    elif hasattr(prepared, "_original_forward"):
        return prepared
    prepared = accelerator.prepare_model(prepared, evaluation_mode=config.chunk > 0)  # then without that wrapper:
    if config.chunk and accelerator.num_processes > 1:  # it cannot average gradients that come in chunks
        for value in [*prepared.parameters(), *prepared.buffers()]:
            own = value.detach().contiguous()
            dist.broadcast(own, 0)
            value.detach().copy_(own)
    return prepared


def _unwrapped(accelerator, prepared):
    """The model as it was given: without autocast on its `forward`, and free to be wrapped again."""
    model = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    model.__dict__.pop("_is_accelerate_prepared", None)  # or a second training would run in fp32, whatever its config
    return model


def _set_modes(prepared, frozen: list, config) -> None:
    prepared.train()
    for tower in frozen:
        tower.eval()
    if config.still_norms:
        for module in prepared.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _gradients(accelerator, prepared, batch, loss, chunk):
    """Fill `.grad` with the gradient of the batch, and return its loss."""
    if not chunk:
        value = loss(prepared(batch), batch)
        accelerator.backward(value)
        return value
    value = grad_cache(prepared, batch, loss, chunk, accelerator.backward)
    if accelerator.num_processes > 1:
        for parameter in prepared.parameters():
            if parameter.grad is not None:
                mean = parameter.grad.contiguous()
                dist.all_reduce(mean)
                parameter.grad.copy_(mean / accelerator.num_processes)
    return value


def _chunks(batch: dict, chunk: int) -> list[dict]:
    """The batch in pieces of `chunk` pictures; where it names owners, each with its own captions."""
    size, owners = len(batch["images"]), batch.get("owners")
    if owners is None:
        return [{name: value[i : i + chunk] for name, value in batch.items()} for i in range(0, size, chunk)]
    if (owners.diff() < 0).any():
        raise ValueError("grad_cache: owners must not fall, so that captions stand in the order of their pictures.")
    parts = []
    for i in range(0, size, chunk):
        first, last = (int((owners < one).sum()) for one in (i, i + chunk))
        part = {name: value[first:last] for name, value in batch.items()}
        parts.append(part | {"images": batch["images"][i : i + chunk], "owners": part["owners"] - i})
    return parts


def _generators():
    """What dropout draws from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


def _set_generators(state) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
