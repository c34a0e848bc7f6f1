"""One training loop for every lesson, on accelerate; and GradCache, which makes a large batch fit a small memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm.auto import tqdm


@dataclass(frozen=True)
class TrainConfig:
    """How to train: AdamW, the learning rate warmed up and annealed in one cycle, gradients clipped.

    steps: optimiser steps. learning_rate: the cycle's peak. clip: largest gradient norm. dtype: what the towers compute
    in; torch.bfloat16 and torch.float16 mean mixed precision, scores and weights stay fp32.
    """

    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if not (self.steps >= 1 and self.learning_rate > 0 and self.clip > 0):  # so that NaN fails too
            raise ValueError(f"TrainConfig: steps, learning_rate and clip must be positive; got {self}.")
        if self.dtype not in _PRECISION:
            raise ValueError(f"TrainConfig: dtype {self.dtype} is not one of {', '.join(map(str, _PRECISION))}.")


_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


def fit(model, batches: Iterable[dict], loss: Callable, config: TrainConfig, label: str = "training") -> list[float]:
    """Train `model` in place and return the loss of every step, in nats.

    batches: batch dictionaries, config.steps of them or more. loss: (model(batch), batch) -> scalar. label: what the
    progress bar says. The device is accelerate's: CUDA where there is one, else the CPU; under `accelerate launch` each
    process passes its own batches. Raises ValueError when the batches run out, FloatingPointError when the loss is no
    longer a number.
    """
    AcceleratorState._reset_state()  # accelerate knows one precision a process; a notebook may train in several
    accelerator = Accelerator(mixed_precision=_PRECISION[config.dtype], cpu=not torch.cuda.is_available())
    model = model.to(memory_format=torch.channels_last)  # half the time of a convolution on a CPU
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    prepared.train()
    history, batches = [], iter(batches)
    bar = tqdm(range(config.steps), desc=label, leave=False, mininterval=1.0)
    try:
        for step in bar:
            batch = next(batches, None)
            if batch is None:
                raise ValueError(
                    f"fit: batches ran out after {step} of {config.steps} steps; pass more, or lower steps."
                )
            batch = {name: value.to(accelerator.device) for name, value in batch.items()}
            value = loss(prepared(batch), batch)
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"fit: the loss is {value.item()} at step {step}; lower learning_rate or use fp32."
                )
            optimizer.zero_grad()
            accelerator.backward(value)
            accelerator.clip_grad_norm_(prepared.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            history.append(value.item())
            bar.set_postfix(loss=f"{history[-1]:.3f}")
    finally:
        bar.close()
        accelerator.unwrap_model(prepared, keep_fp32_wrapper=False).eval()  # takes autocast off `model.forward` again
    return history


def grad_cache(model, batch: dict, loss: Callable, chunk: int):
    """Leave in `.grad` the gradient of the whole batch's loss, holding the activations of only `chunk` pairs.

    First every chunk is encoded without a graph; then the loss of all B pairs gives the gradient of each embedding;
    then each chunk is encoded again and handed its part. Costs one more forward pass. model(batch) must return a named
    tuple with z_img and z_txt (B,E), and model.pairs(z_img, z_txt) such a tuple again, as `models.DualEncoder` does;
    loss: (model(batch), batch) -> scalar. Towers must give the same output twice (no dropout). Adds to gradients that
    are there, as backward() does. Returns the loss, detached. Source: Gao et al. 2021.
    """
    if chunk < 1:
        raise ValueError(f"grad_cache: chunk={chunk}; it must be at least 1.")
    size = len(batch["images"])
    parts = [{name: value[i : i + chunk] for name, value in batch.items()} for i in range(0, size, chunk)]
    with torch.no_grad():
        encoded = [model(part) for part in parts]
    z_img = torch.cat([out.z_img for out in encoded]).requires_grad_()  # (B,E), leaves of a small graph
    z_txt = torch.cat([out.z_txt for out in encoded]).requires_grad_()  # (B,E)
    value = loss(model.pairs(z_img, z_txt), batch)
    value.backward()  # fills z_img.grad, z_txt.grad, and the temperature's gradient
    for part, grad_img, grad_txt in zip(parts, z_img.grad.split(chunk), z_txt.grad.split(chunk)):
        out = model(part)
        torch.autograd.backward([out.z_img, out.z_txt], [grad_img, grad_txt])
    return value.detach()
