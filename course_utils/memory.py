"""How much memory will a training step take? Counted on a few pairs, before it is spent; and what to do without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

_RESERVE = 0.1  # share of a card that stays free: workspaces, fragments, what others hold
# Its name before torch 2.5.
_OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


@dataclass(frozen=True)
class Estimate:
    """Bytes of a training step with AdamW. `total(B)` for B rows, `largest_batch(bytes)` the other way round.

    parameters: weights and buffers. gradients, moments: of the parameters that learn. fixed: what the forward pass
    keeps whatever the batch (weights in half precision). inputs: a row of the batch itself. activations: what a row
    keeps for the backward pass. chunk: rows whose activations are held at once with GradCache, 0 for all.
    """

    parameters: int
    gradients: int
    moments: int
    fixed: int
    inputs: int
    activations: int
    chunk: int = 0

    def total(self, batch: int) -> int:
        """Bytes at the peak of a step with `batch` rows: the end of its forward pass."""
        held = min(batch, self.chunk) if self.chunk else batch
        still = self.parameters + self.gradients + self.moments + self.fixed
        return still + batch * self.inputs + held * self.activations

    def largest_batch(self, memory: int | None = None) -> int:
        """The most rows whose step fits into `memory` bytes, a tenth left free; 0 where not one does.

        memory: None asks the GPU what it has in all; without a GPU, what the machine has free.
        """
        room = (1 - _RESERVE) * (_memory() if memory is None else memory)
        if self.total(1) > room:
            return 0
        each = self.inputs if self.chunk and self.total(self.chunk) <= room else self.inputs + self.activations
        start = self.chunk if self.chunk and self.total(self.chunk) <= room else 1
        return start + int((room - self.total(start)) // max(each, 1))

    def table(self, batch: int) -> str:
        """What a step with `batch` rows is made of, as text."""
        held = min(batch, self.chunk) if self.chunk else batch
        rows = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "optimiser": self.moments,
            "kept whatever the batch": self.fixed,
            f"inputs of {batch:,} rows": batch * self.inputs,
            f"activations of {held:,} rows": held * self.activations,
            "at the peak": self.total(batch),
        }
        return "\n".join(f"{name:<28}{value / 1e6:>12,.0f} MB" for name, value in rows.items())


def estimate(model, batch: dict, loss: Callable, dtype: torch.dtype = torch.float32, chunk: int = 0) -> Estimate:
    """Count a step's bytes on a small batch: once with all its rows, once with the first half, a line through both.

    A row is a row of batch["images"]; with "owners" in the batch it brings its captions along. What the forward pass
    keeps is counted by hooks on saved tensors, each storage once, weights and inputs apart. loss: (model(batch), batch)
    -> scalar, as in `training.fit`. dtype: the config's. chunk: GradCache's. Two forward passes, nothing is learnt;
    batch and model must be on the device that will train. ValueError for fewer than two rows.

    Left out: cuDNN's workspaces, and tables of B x B scores that grow faster than a line (at B = 256 about 2 MB).
    """
    rows = len(batch["images"])
    if rows < 2:
        raise ValueError(f"memory.estimate: {rows} row; it draws a line through two batches, so pass 2 rows or more.")
    learning = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    every = sum(one.nbytes for one in [*model.parameters(), *model.buffers()])
    half = rows // 2
    few, many = _kept(model, _first(batch, half), loss, dtype), _kept(model, batch, loss, dtype)
    activations = max(0, round((many - few) / (rows - half)))
    inputs = round(sum(value.nbytes for value in batch.values()) / rows)
    return Estimate(every, learning, 2 * learning, max(0, round(many - rows * activations)), inputs, activations, chunk)


@contextlib.contextmanager
def explained(rows: int) -> Iterator[None]:
    """Inside, running out of memory with a batch of `rows` becomes a MemoryError that says what to lower."""
    try:
        yield
    except (_OUT_OF_MEMORY, MemoryError, RuntimeError) as error:
        # A CPU's allocator says "can't allocate memory", on Windows "not enough memory".
        if not isinstance(error, (_OUT_OF_MEMORY, MemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        first = str(error).strip().partition("\n")[0]
        raise MemoryError(
            f"A step with {rows} rows does not fit into memory. Lower the batch; or keep it and set TrainConfig.chunk, "
            f"for instance to {max(1, rows // 4)} (GradCache: the same gradient, one more forward pass); or compute in "
            f"bfloat16 or float16 (TrainConfig.dtype). memory.estimate says beforehand what fits. ({first})"
        ) from None


def _first(batch: dict, rows: int) -> dict:
    if "owners" not in batch:
        return {name: value[:rows] for name, value in batch.items()}
    captions = int((batch["owners"] < rows).sum())
    return {name: value[: rows if name == "images" else captions] for name, value in batch.items()}


def _kept(model, batch: dict, loss: Callable, dtype: torch.dtype) -> int:
    """Bytes that the graph of one forward pass holds, without parameters, buffers and the batch."""
    known = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers(), *batch.values()]}
    kept: dict[int, int] = {}
    alive = []  # a storage that was freed could come again at the same address

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor.detach()  # an operation's own output would hold its graph, and the graph it: never freed

    device = next(model.parameters()).device.type
    modes = {module: module.training for module in model.modules()}
    for module in modes:  # as in training, dropout with its masks; but BatchNorm must not learn from this
        module.training = not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    try:
        with (
            torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast(device, dtype, enabled=dtype != torch.float32),
        ):
            value = loss(model(batch), batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
    del value
    return sum(kept.values())


def _memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = {line.partition(":")[0]: line.split()[1] for line in lines}
        return int(found["MemAvailable"]) * 1024
    except (OSError, KeyError):
        raise ValueError("How much memory is free is not known on this machine: pass it in bytes.") from None
