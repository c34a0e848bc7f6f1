"""Checkpoints of a training: tensors as safetensors, the rest as JSON, whole or absent, the last and the best kept.

A folder holds `checkpoints.json`, which names the last and the best checkpoint, and one folder a checkpoint:

    step-00000120/model.safetensors      weights and buffers, by the names of the model's state_dict
    step-00000120/optimizer.safetensors  the optimiser's moments, PARAMETER/KEY
    step-00000120/state.json             everything else, and the SHA-256 of the two files
    step-00000120/state.sha256           its own

A checkpoint is written into a folder of another name, which is renamed when every byte is on the disk; then
`checkpoints.json` is replaced. So a run that is killed at any moment leaves its last checkpoint whole. Nothing here
unpickles: a file from outside can be wrong, but it cannot run anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from course_utils import locks

FORMAT = 1
_POINTER = "checkpoints.json"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, belongs to another training, or cannot be written."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back: tensors["model"] and tensors["optimizer"], by name; about: the JSON; where: its folder."""

    tensors: dict[str, dict[str, torch.Tensor]]
    about: dict
    where: Path


def exists(folder: Path | str) -> bool:
    """Does this folder hold checkpoints?"""
    return (Path(folder) / _POINTER).is_file()


def clear(folder: Path | str) -> None:
    """Delete a folder of checkpoints, if there is one; locks.Busy where a training is at work in it."""
    with locks.alone(folder):
        shutil.rmtree(folder, ignore_errors=True)


def write(folder: Path | str, tensors: dict, about: dict, best: bool = False) -> Path:
    """Store one checkpoint as the last, and as the best if that is said; delete what is neither. Returns its folder.

    tensors: {"model": {name: tensor}, ...}, as `snapshot` makes them. about: JSON, with the number "step". Raises
    CheckpointError where it cannot be written (a full disk); the checkpoints that were there stay as they were.
    """
    folder, step = Path(folder), about.get("step")
    if not isinstance(step, int) or step < 0:
        raise ValueError(f"write: about must name the step, a whole number, 0 or more; it says {step!r}.")
    name = f"step-{step:08d}"
    draft = folder / f"{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("step-*.part"):
            shutil.rmtree(old)  # of a run that was killed
        draft.mkdir()
        hashes = {}
        for part, content in tensors.items():
            path = draft / f"{part}.safetensors"
            save_file(content, path)
            hashes[path.name] = _digest(path)
        _write(draft / "state.json", json.dumps({"format": FORMAT, "files": hashes, **about}, allow_nan=False))
        _write(draft / "state.sha256", _digest(draft / "state.json"))
        for path in draft.glob("*.safetensors"):
            _to_disk(path)
        pointer = _pointer(folder) if exists(folder) else {"format": FORMAT}
        if (folder / name).is_dir() and name not in pointer.values():
            shutil.rmtree(folder / name)  # a run was killed between the next two lines
        os.rename(draft, folder / name)
        pointer |= {"last": name} | ({"best": name} if best or "best" not in pointer else {})
        _write(folder / f"{_POINTER}.part", json.dumps(pointer))
        os.replace(folder / f"{_POINTER}.part", folder / _POINTER)
    except (OSError, SafetensorError, ValueError, TypeError) as error:  # the last two: NaN, or what is no JSON
        shutil.rmtree(draft, ignore_errors=True)
        (folder / f"{_POINTER}.part").unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint of step {about['step']} cannot be written to {folder}: {error}. What was there is still "
            "whole: mend this (free space?), then run again with resume."
        ) from error
    for old in folder.glob("step-*"):
        if old.name not in pointer.values():
            shutil.rmtree(old, ignore_errors=True)
    return folder / name


def read(folder: Path | str, which: str = "last") -> Checkpoint:
    """The last or the best checkpoint, every byte compared with its hash.

    Raises FileNotFoundError where there is none and CheckpointError, naming the file, where it is damaged. It only
    reads: nothing is changed by a failure.
    """
    folder = Path(folder)
    if which not in ("last", "best"):
        raise ValueError(f"read: which={which!r}; there are 'last' and 'best'.")
    if not exists(folder):
        raise FileNotFoundError(f"{folder} holds no checkpoints ({_POINTER} is not there).")
    pointer = _pointer(folder)
    where = folder / str(pointer.get(which))
    try:
        about = json.loads((where / "state.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise CheckpointError(f"{where} is of format {about['format']}, this edition reads {FORMAT}.")
        hashes = {"state.json": (where / "state.sha256").read_text(encoding="utf-8"), **about["files"]}
        for name, expected in hashes.items():
            if _digest(where / Path(name).name) != expected:
                raise CheckpointError(
                    f"{where / name} is damaged: its SHA-256 is another. {_other(folder, pointer, which)}"
                )
        tensors = {Path(name).stem: load_file(where / Path(name).name) for name in about["files"]}
    except (
        OSError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        IndexError,
        TypeError,
        SafetensorError,
    ) as error:
        raise CheckpointError(f"{where} is damaged ({error!r}). {_other(folder, pointer, which)}") from error
    return Checkpoint(tensors, about, where)


def snapshot(model, optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """Copies of all weights, buffers and moments, on the CPU: what `write` takes and `restore` gives back."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moments = {f"{names[id(one)]}/{key}": value for one, of in optimizer.state.items() for key, value in of.items()}
    return {"model": _copies(model.state_dict()), "optimizer": _copies(moments)}


def restore(checkpoint: Checkpoint, model, optimizer=None) -> None:
    """Put a checkpoint's weights into the model and its moments into the optimiser, in place.

    All names, shapes and types are compared first, so a checkpoint of another model raises CheckpointError and changes
    nothing.
    """
    weights, state = checkpoint.tensors.get("model", {}), model.state_dict()
    _compare(weights, state, checkpoint.where)
    if optimizer is not None:
        parameters = dict(model.named_parameters())
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        moments = {}
        for name, value in checkpoint.tensors.get("optimizer", {}).items():
            owner, _, key = name.rpartition("/")
            parameter = parameters.get(owner)
            if id(parameter) not in trained or (value.ndim and value.shape != parameter.shape):
                raise CheckpointError(f"{checkpoint.where} has moments of {owner!r}, which this training has not.")
            moments.setdefault(owner, {})[key] = value
        for owner, values in moments.items():
            parameter = parameters[owner]  # moments lie in memory like their parameter, as AdamW makes them
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim else value
                for key, value in values.items()
            }
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(weights[name])


def random_state() -> dict:
    """The state of every generator that a training may draw from, as JSON: torch, CUDA, NumPy, random."""
    kind, keys, position, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
        "cuda": [bytes(state.tolist()).hex() for state in cuda],
        "numpy": [kind, keys.tolist(), position, *rest],
        "python": random.getstate(),
    }


def set_random_state(state: dict) -> None:
    """Go back to what `random_state` returned."""
    torch.set_rng_state(_from_hex(state["torch"]))
    if state["cuda"]:
        torch.cuda.set_rng_state_all([_from_hex(one) for one in state["cuda"]])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, numbers, rest = state["python"]
    random.setstate((version, tuple(numbers), rest))


def _from_hex(text: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)


def _copies(tensors: dict) -> dict[str, torch.Tensor]:
    """Contiguous, and none sharing memory with another: safetensors stores neither views nor ties."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def _compare(found: dict, wanted: dict, where: Path) -> None:
    missing, surplus = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [name for name in wanted.keys() & found.keys() if found[name].shape != wanted[name].shape]
    other += [name for name in wanted.keys() & found.keys() if found[name].dtype != wanted[name].dtype]
    if missing or surplus or other:
        first = (missing + surplus + sorted(other))[0]
        raise CheckpointError(
            f"{where} belongs to another model: {len(missing)} tensors are missing, {len(surplus)} unknown, "
            f"{len(other)} of another shape or type, first {first!r}. The model is as it was; use another folder."
        )


def _pointer(folder: Path) -> dict:
    try:
        pointer = json.loads((folder / _POINTER).read_text(encoding="utf-8"))
        if pointer["format"] != FORMAT or not all(isinstance(pointer[key], str) for key in ("last", "best")):
            raise KeyError("format")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        whole = ", ".join(sorted(path.name for path in folder.glob("step-*"))) or "none"
        raise CheckpointError(
            f"{folder / _POINTER} is damaged ({error!r}). It should read "
            f'{{"format": {FORMAT}, "last": NAME, "best": NAME}}; folders that are here: {whole}.'
        ) from error
    return pointer


def _other(folder: Path, pointer: dict, which: str) -> str:
    """What is left to go on from."""
    left = {name for key, name in pointer.items() if key != "format" and name != pointer.get(which)}
    if not left:
        return "Nothing was changed. There is no other checkpoint: train anew in another folder."
    return f"Nothing was changed. To go on from {min(left)}, write that name into {folder / _POINTER} as {which!r}."


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _to_disk(path)


def _to_disk(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
