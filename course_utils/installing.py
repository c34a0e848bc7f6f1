"""What a lesson's set-up cell asks first: is everything here that this lesson needs? Needs nothing but Python itself.

On Colab a kernel runs in which torch and NumPy may be loaded already. Replacing them under its feet breaks it, so they
are never replaced: pip is told their versions as constraints, and where they are too old, one line says what to do.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = ("torch", "torchvision", "numpy")  # never replaced, loaded or not: they belong to the machine's GPU driver
_NEWER = "On Colab take the latest version (Runtime, Change runtime type, Runtime version)"
_RESTART = "Restart the kernel (on Colab: Runtime, Restart session) and run this cell again."


class SetupError(RuntimeError):
    """The lesson cannot start here; its one line says why and what to do. Notebooks show that line and no traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's word for exceptions that show themselves
        return [f"{type(self).__name__}: {self}"]


def complete(extras: str = "", package: str = "course_utils") -> list[str]:
    """Install what `package`, with its comma-separated `extras`, lacks here, and return the names; mostly none.

    Raises SetupError with one line where torch or NumPy is too old (nothing is changed then), where pip fails, and
    where something had to be replaced that this kernel has loaded or the course already uses.
    """
    lacking = _lacking(package, extras)
    if not lacking:
        return []
    old = [name for name in KEPT if name in lacking and _version(name)]
    if old:
        has, wanted = " and ".join(f"{name} {_version(name)}" for name in old), [lacking[name] for name in old]
        raise SetupError(
            f"Here is {has}; the course needs {' and '.join(wanted)}, and this cell never replaces them. {_NEWER}; "
            f"elsewhere run pip install {' '.join(map(repr, wanted))} and restart the kernel. Nothing was changed."
        )
    print(f"Installing {', '.join(sorted(lacking))} (once; up to some minutes) ...")
    in_use = _loaded() | _in_use(package, lacking)
    before = {name: _version(name) for name in in_use}
    wanted = [lacking[name] for name in sorted(lacking)]
    # Rather an older gradio than another hub library under transformers; where there is none, the newest.
    failure = _pip(wanted, in_use - lacking.keys() | {*KEPT})
    if "constraint" in failure:
        failure = _pip(wanted, {*KEPT})
    importlib.invalidate_caches()
    left = sorted(_lacking(package, extras))
    if failure or left:
        lost = f"pip could not install {', '.join(left or sorted(lacking))}: {failure or 'it does not say why'}."
        kept = ", ".join(f"{name} {_version(name)}" for name in KEPT if _version(name))
        if "constraint" in failure:
            raise SetupError(f"{lost} This cell replaces none of {kept}. {_NEWER}, elsewhere a new environment.")
        raise SetupError(
            f"{lost} Is there a network? Run this cell again: it goes on with what is missing. As they were: {kept}."
        )
    replaced = sorted(name for name, version in before.items() if _version(name) != version)
    if replaced:
        raise SetupError(
            f"Everything is installed, but {', '.join(replaced)} had to be replaced while in use. {_RESTART}"
        )
    return sorted(lacking)


def _lacking(package: str, extras: str) -> dict[str, str]:
    """Distribution -> requirement, for all that is missing or below its floor; {} for a mere folder on the path."""
    found = {}
    for one in _requirements(package, extras):
        version = _version(one.name)
        if version is None or not one.specifier.contains(version, prereleases=True):
            found[one.name] = f"{one.name}{one.specifier}"
    return found


def _requirements(package: str, extras: str = "") -> list:
    """What an installed distribution says that it needs, here and with these extras; [] where it is not installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # a bare environment: pip brings its own copy
        from pip._vendor.packaging.requirements import Requirement
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    chosen = ["", *(name for name in extras.split(",") if name)]
    every = map(Requirement, lines)
    return [one for one in every if not one.marker or any(one.marker.evaluate({"extra": name}) for name in chosen)]


def _in_use(package: str, lacking: dict[str, str]) -> set[str]:
    """What is installed and stands behind `package`, however far, without what is lacking and stands behind that."""
    found, ahead = set(), [package]
    while ahead:
        for one in _requirements(ahead.pop()):
            if one.name not in found and one.name not in lacking and _version(one.name):
                found.add(one.name)
                ahead.append(one.name)
    return found


def _pip(requirements: list[str], kept: set[str]) -> str:
    """Install without replacing any of `kept`; returns what pip itself says was wrong, "" where nothing was."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "kept.txt")
        versions = {name: _version(name) for name in sorted(kept)}
        pins.write_text("".join(f"{name}=={one}\n" for name, one in versions.items() if one), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-c", str(pins), *requirements], capture_output=True, text=True)
    if not done.returncode:
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    conflict = [line for line in lines if " depends on " in line or "(constraint)" in line]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return ("; ".join(conflict) or (errors or [f"status {done.returncode}"])[-1]).rstrip(".")


def _loaded() -> set[str]:
    """The distributions of everything that this kernel has imported so far."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in list(sys.modules) if "." not in module for owner in owners.get(module, ())}
    return {name for name in names if _version(name)}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
