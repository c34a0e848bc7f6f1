"""A lesson's measured facts, and the bands they must lie in.

`record = Recorder(session)`, then `record("plain/recall_at_1", 0.91, interval=(0.89, 0.93), chance=0.001)`. A record
is a display output of MIME type `application/vnd.course.record+json`, so any tool can read an executed notebook. Bands
stand in bands.toml beside this module, measured over at least five seeds by data_scripts/measure_bands.py.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

MIME = "application/vnd.course.record+json"
BANDS = Path(__file__).with_name("bands.toml")
SECONDS = {"smoke": 60, "cpu": 300, "gpu": 900}  # a lesson's time, from its set-up cell to its last record
LONGER = {"06": {"cpu": 480, "gpu": 3_600}}  # lessons that train for longer, and say so
MISSING = "expected but not recorded"
MEMORY = {"smoke": 4e9, "cpu": 6e9, "gpu": 12e9}  # a lesson's peak memory in bytes
_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*")


@dataclass(frozen=True)
class Band:
    """Where a fact must lie: `low <= value <= high`; it contains none of `excludes` (chance, a baseline, a rival)."""

    low: float
    high: float
    excludes: tuple[float, ...]
    values: tuple[float, ...]
    seeds: tuple[int, ...]

    def problems(self) -> list[str]:
        """What makes this band empty talk; an empty list when it is sound."""
        found = []
        if not self.low < self.high:
            found.append(f"low {self.low} is not below high {self.high}")
        if len(set(self.seeds)) < 5 or len(self.values) != len(self.seeds):
            found.append(f"measured over {len(set(self.seeds))} seeds with {len(self.values)} values; five are needed")
        found += [f"the measured value {v} lies outside" for v in self.values if not self.low <= v <= self.high]
        found += [f"it admits {e}, which it must exclude" for e in self.excludes if self.low <= e <= self.high]
        if not self.excludes:
            found.append("it excludes nothing: name chance or a baseline")
        return found


class Recorder:
    """Called once a fact. `session` is env.start's; only its lesson, profile, seed, device and start are read."""

    def __init__(self, session: object):
        self.session = session
        self.bands = bands().get(session.lesson, {}).get(session.profile, {})

    def __call__(
        self,
        name: str,
        value: float,
        interval: tuple[float, float] | None = None,
        chance: float | None = None,
        excludes: tuple[float, ...] = (),
    ) -> None:
        """Show and store the fact `name` (a slash path such as `foils/recall_at_1`; fractions, not percent).

        `interval` holds the value's 95 % interval. `excludes` are values that would make the claim empty, such as a
        baseline; without any, it is chance. Raises ValueError for a bad name, anything that is not a finite number, or
        an interval that does not contain the value.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"Record {name!r}: use lower-case words, digits and underscores, parted by slashes.")
        value = _finite(name, "its value", value)
        if interval is not None:
            interval = _row(name, "interval", interval)
            if len(interval) != 2 or not interval[0] <= value <= interval[1]:
                raise ValueError(f"Record {name!r}: the interval {interval} does not contain its value {value}.")
        chance = None if chance is None else _finite(name, "chance", chance)
        excluded = _row(name, "excludes", excludes) or ([chance] if chance is not None else [])
        fact = {
            "name": name,
            "value": value,
            "interval": interval,
            "chance": chance,
            "excludes": excluded,
            "profile": self.session.profile,
            "lesson": self.session.lesson,
            "seed": self.session.seed,
            "seconds": round(time.perf_counter() - self.session.started, 1),
            "peak_memory": peak_memory(self.session.device),
        }
        text = _sentence(fact, self.bands.get(name))
        if get_ipython() is None:
            print(text)
        else:
            display({MIME: fact, "text/plain": text}, raw=True)


def bands(path: Path = BANDS) -> dict[str, dict[str, dict[str, Band]]]:
    """lesson -> profile -> fact -> Band, read from a TOML file. Raises ValueError naming file and malformed entry."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # TOML's and UTF-8's errors are ValueErrors
        raise ValueError(f"{path} is damaged ({error}). Take the last whole one from git, or measure anew.") from error
    result = {}
    for lesson, profiles in tables.items():
        if not isinstance(profiles, dict) or not all(isinstance(facts, dict) for facts in profiles.values()):
            raise ValueError(f"{path.name}: {lesson} is no table of profiles and facts.")
        for profile, facts in profiles.items():
            for fact, row in facts.items():
                try:
                    band = Band(row["low"], row["high"], *(tuple(row[key]) for key in ("excludes", "values", "seeds")))
                    _ = [float(number) for number in (band.low, band.high, *band.excludes, *band.values)]
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{path.name}: lesson {lesson}, {profile}, {fact}: {error!r}.") from error
                result.setdefault(lesson, {}).setdefault(profile, {})[fact] = band
    return result


def read_notebook(path: Path | str) -> list[dict]:
    """All records stored in an executed notebook, in order. Raises ValueError, naming the file, where it is none."""
    try:
        return of_text(Path(path).read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # JSON's and UTF-8's errors are ValueErrors
        raise ValueError(f"{path} is no whole notebook ({error!r}). Build or execute it again.") from error


def of_text(text: str) -> list[dict]:
    """The same from a notebook's JSON, such as a version of it in git's history."""
    outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", [])]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def check(facts: list[dict], lesson: str, profile: str, seconds: float | None = None) -> list[str]:
    """What is wrong with a run: facts missing, unknown, doubled or outside a band; too much time or memory.

    Each line begins with the lesson, and with the fact if it is about one. `seconds` is the time of the whole run where
    the caller measured it; without, it is the last record's.
    """
    expected = bands().get(lesson, {}).get(profile, {})
    names = [fact["name"] for fact in facts]
    found = [f"{fact['name']}: recorded under lesson {fact['lesson']}, {fact['profile']}" for fact in facts
             if (fact["lesson"], fact["profile"]) != (lesson, profile)]  # fmt: skip
    if not expected:
        found.append(f"no bands for lesson {lesson} in profile {profile}: run data_scripts/measure_bands.py")
    found += [f"{name}: {MISSING}" for name in expected if name not in names]
    found += [f"{name}: recorded more than once" for name in sorted(set(names)) if names.count(name) > 1]
    for fact in facts:
        band = expected.get(fact["name"])
        if band is None:
            found.append(f"{fact['name']}: has no band: run data_scripts/measure_bands.py")
        elif not band.low <= fact["value"] <= band.high:
            found.append(f"{fact['name']}: {fact['value']:.4g} is outside its band {band.low:.4g} to {band.high:.4g}")
    if seconds is None:
        seconds = max((fact["seconds"] for fact in facts), default=0)
    memory = max((fact["peak_memory"] for fact in facts), default=0)
    allowed = LONGER.get(lesson, {}).get(profile, SECONDS[profile])
    if seconds > allowed:
        found.append(f"took {seconds:.0f} s, the profile {profile} allows {allowed} s")
    if memory > MEMORY[profile]:
        found.append(f"took {memory / 1e9:.1f} GB, the profile {profile} allows {MEMORY[profile] / 1e9:.0f} GB")
    return [f"lesson {lesson}, {problem}" for problem in found]


def peak_memory(device: object = None) -> int:
    """The process's peak resident memory in bytes, or CUDA's where that is more; 0 where it is unknown."""
    try:
        import resource  # not on Windows
    except ImportError:
        peak = 0
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if getattr(device, "type", "") == "cuda":
        import torch

        peak = max(peak, torch.cuda.max_memory_allocated(device))
    return int(peak)


def _finite(name: str, what: str, value: object) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of several numbers
        raise ValueError(f"Record {name!r}: {what} is {value!r}, which is not one number ({error}).") from error
    if not math.isfinite(number):
        raise ValueError(f"Record {name!r}: {what} is {number}, and only a finite number can be recorded.")
    return number


def _row(name: str, what: str, values: object) -> list[float]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError(f"Record {name!r}: {what} is {values!r}; give numbers in brackets, such as (0.1, 0.2).")
    return [_finite(name, what, value) for value in values]


def _sentence(fact: dict, band: Band | None) -> str:
    parts = []
    if fact["interval"]:
        parts.append("95 % interval {} to {}".format(*map(_short, fact["interval"])))
    if fact["chance"] is not None:
        parts.append(f"chance {_short(fact['chance'])}")
    if band is not None:
        inside = "" if band.low <= fact["value"] <= band.high else ": OUTSIDE"
        parts.append(f"expected {_short(band.low)} to {_short(band.high)}{inside}")
    return f"{fact['name']} = {_short(fact['value'])}" + (f" ({'; '.join(parts)})" if parts else "")


def _short(value: float) -> str:
    """Three decimals for ordinary numbers, three digits for the rest; never -0."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.3g}"
