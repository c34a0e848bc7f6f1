"""Where a lesson runs: profile, device, number type, seeds, folders. Only notebooks and scripts call this module."""

from __future__ import annotations

import importlib.metadata
import numbers
import os
import platform
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

# Waiting threads sleep instead of spinning: beside one other busy process, spinning made MiniLM 12 times slower here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is first imported

import numpy as np  # noqa: E402
import torch  # noqa: E402

PROFILES = ("smoke", "cpu", "gpu")
_CHECKOUT = Path(__file__).resolve().parent.parent  # where the package lies, if it was not installed elsewhere
DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts the learner's Google Drive


@dataclass(frozen=True)
class Paths:
    """Folders of a run: `artifacts` is what lessons write, `data` what scripts download."""

    artifacts: Path
    data: Path


@dataclass(frozen=True)
class Session:
    """One run of one lesson. Made by `start`; show it as a cell's last line for a line of versions."""

    lesson: str
    profile: str
    device: torch.device
    dtype: torch.dtype
    seed: int
    paths: Paths
    started: float  # time.perf_counter() at the start, in seconds

    def choose(self, **sizes: tuple) -> Sizes:
        """Pick this profile's column: `choose(steps=(20, 400, 2_000))` gives smoke, cpu and gpu values in this order.

        Returns a read-only object with one attribute a size; as a cell's last line it shows all three columns.
        Raises ValueError for a size that does not have exactly three values.
        """
        for name, values in sizes.items():
            if not isinstance(values, (tuple, list)) or len(values) != len(PROFILES):
                raise ValueError(f"Size {name!r} needs three values ({', '.join(PROFILES)}), not {values!r}.")
        return Sizes(self.profile, sizes)

    def script(self, name: str) -> Path:
        """Where one of the course's programs lies, such as "export_scenes.py", in a checkout and installed alike.

        Raises FileNotFoundError naming those that are there.
        """
        folder = Path(__file__).resolve().parent.parent / "data_scripts"
        if not (folder / name).is_file():
            there = ", ".join(sorted(path.name for path in folder.glob("*.py"))) or "none"
            raise FileNotFoundError(f"No program {name!r} in {folder}; there are: {there}.")
        return folder / name

    def __repr__(self) -> str:
        number = str(self.dtype).removeprefix("torch.")
        versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "numpy"))
        return (
            f"Lesson {self.lesson}, profile {self.profile}, {_device_name(self.device)}, {number}, seed {self.seed}.\n"
            f"Python {platform.python_version()}, {versions}, course {_version('course_utils')}."
        )


class Sizes:
    """The sizes that a profile chose: `sizes.steps`. Read-only; shows itself as a table of all profiles."""

    def __init__(self, profile: str, table: Mapping[str, tuple]):
        object.__setattr__(self, "_profile", profile)
        object.__setattr__(self, "_table", dict(table))

    def __getattr__(self, name: str) -> object:
        table = object.__getattribute__(self, "_table")
        if name not in table:
            raise AttributeError(f"No size {name!r}; this lesson chose {', '.join(table) or 'none'}.")
        return table[name][PROFILES.index(self._profile)]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Sizes are read-only: change {name!r} in the call of session.choose(...).")

    def __repr__(self) -> str:
        head = ["size"] + [f"{p} (chosen)" if p == self._profile else p for p in PROFILES]
        rows = [head] + [[name, *map(_number, values)] for name, values in self._table.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{row[0]:<{widths[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:]))
            for row in rows
        )

    def _repr_html_(self) -> str:
        def cells(values: list[str], tag: str, scope: str = "") -> str:
            parts = [f'<{tag}{scope} style="text-align:left">{escape(values[0])}</{tag}>']
            for profile, value in zip(PROFILES, values[1:]):
                strong = f"<strong>{escape(value)}</strong>" if profile == self._profile else escape(value)
                parts.append(f'<{tag} style="text-align:right">{strong}</{tag}>')
            return "<tr>" + "".join(parts) + "</tr>"

        head = ["size"] + [f"{p} (chosen)" if p == self._profile else p for p in PROFILES]
        body = "".join(cells([name, *map(_number, values)], "td") for name, values in self._table.items())
        return f"<table><thead>{cells(head, 'th')}</thead><tbody>{body}</tbody></table>"


def start(lesson: str, profile: str = "auto", seed: int = 0, edition: str | None = None) -> Session:
    """Start a lesson: choose profile, device and number type, seed torch, NumPy and random, make the folders.

    `auto` follows $COURSE_PROFILE where it is set, else `gpu` where CUDA is there, else `cpu`. `edition` is the one the
    notebook was built for; another installed edition is said. $COURSE_ARTIFACTS and $COURSE_DATA move the folders.
    Raises ValueError for an unknown profile or a seed that is none, RuntimeError for `gpu` without CUDA and where the
    package was replaced after this kernel had imported it, and OSError for a folder that cannot be made or, where
    results go, not be written to.
    """
    profile = _profile(profile)
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"The seed is {seed!r}: SEED, or --seed, must be a whole number from 0 to {2**32 - 1:,}.")
    device = torch.device("cuda" if profile == "gpu" else "cpu")
    paths = Paths(_folder("COURSE_ARTIFACTS", "artifacts"), _folder("COURSE_DATA", "data"))
    os.environ["COURSE_SESSION_ARTIFACTS"] = str(paths.artifacts)  # where progress is noted, also by child processes
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    installed = _version("course_utils")
    if installed != _LOADED:
        raise RuntimeError(
            f"Edition {installed} of the course is installed, but this kernel still runs edition {_LOADED}, which it "
            "had imported before. Restart it (on Colab: Runtime, Restart session) and run this cell again."
        )
    if edition and edition != installed:
        print(f"This notebook is of edition {edition}, the installed package of {installed}: update one of them.")
        if _on_colab():
            print("On Colab: Runtime, Disconnect and delete runtime; the set-up cell then installs this edition.")
    if _on_colab():
        _greet_colab(paths)
    return Session(lesson, profile, device, _dtype(device), seed, paths, time.perf_counter())


def _profile(wanted: str) -> str:
    if wanted == "auto":
        wanted = os.environ.get("COURSE_PROFILE", "").strip() or "auto"
    if wanted == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if wanted not in PROFILES:
        raise ValueError(f"Unknown profile {wanted!r}: PROFILE and COURSE_PROFILE may be auto, {', '.join(PROFILES)}.")
    if wanted == "gpu" and not torch.cuda.is_available():
        raise RuntimeError(
            "Profile 'gpu' needs CUDA, and torch sees none. Set PROFILE = \"cpu\", or pick a GPU runtime."
        )
    return wanted


def _dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes it natively; else float16 on CUDA (a T4) and float32 on a CPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="ignore")
    except OSError:  # macOS and Windows: no safe way to ask
        return torch.float32
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def _folder(variable: str, name: str) -> Path:
    """$VARIABLE, else the mounted Drive on Colab, else the checkout's own folder, else one beside the notebook.

    Only artifacts go to Drive: it is slow with many small files, and pictures are read again and again.
    """
    if os.environ.get(variable):
        folder = Path(os.environ[variable])
    elif _on_colab() and DRIVE.is_dir() and name == "artifacts":
        folder = DRIVE / "multimodal-course" / name
    elif (_CHECKOUT / "pyproject.toml").exists():
        folder = _CHECKOUT / name
    else:
        folder = Path.cwd() / name
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if name == "artifacts" and folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("you may not write to it")  # data may be a class's, and read-only
    except (OSError, RuntimeError) as error:  # RuntimeError: ~NAME of somebody who is not known here
        raise OSError(
            f"Cannot work in the folder {folder} ({getattr(error, 'strerror', None) or error}). Set COURSE_ARTIFACTS, "
            "and COURSE_DATA for what is downloaded, to folders that you may write to, then start again."
        ) from error
    return folder


def _greet_colab(paths: Paths) -> None:
    if not torch.cuda.is_available():
        print(
            "No GPU: this is the cpu profile, and it is enough. A free T4 (Runtime, Change runtime type, T4 GPU) brings"
        )
        print("the larger sizes of the gpu profile, which were counted to fit it and not yet run on one.")
    if DRIVE not in paths.artifacts.parents:
        print("Results and progress stay on this machine, which Colab takes back. To keep them, and to go on after a")
        print("dropped session: mount Drive (Files panel, the folder with Drive's sign), then run this cell again.")
    else:
        print(f"Results and progress are kept on Drive, in {paths.artifacts.relative_to(DRIVE)}.")


def _on_colab() -> bool:
    return "google.colab" in sys.modules


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread" + ("s" if threads > 1 else "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


_LOADED = _version("course_utils")  # when this module was imported: another edition may be installed later


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
