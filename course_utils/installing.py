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
    where something that this kernel has loaded had to be replaced.
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
    before = _loaded()
    print(f"Installing {', '.join(sorted(lacking))} (once; up to some minutes) ...")
    failure = _pip([lacking[name] for name in sorted(lacking)])
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
        raise SetupError(f"Everything is installed, but {', '.join(replaced)} had been loaded before. {_RESTART}")
    return sorted(lacking)


def _lacking(package: str, extras: str) -> dict[str, str]:
    """Distribution -> requirement, for all that is missing or below its floor; {} for a mere folder on the path."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # a bare environment: pip brings its own copy
        from pip._vendor.packaging.requirements import Requirement
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    chosen = ["", *(name for name in extras.split(",") if name)]
    found = {}
    for one in map(Requirement, lines):
        if one.marker and not any(one.marker.evaluate({"extra": name}) for name in chosen):
            continue
        version = _version(one.name)
        if version is None or not one.specifier.contains(version, prereleases=True):
            found[one.name] = f"{one.name}{one.specifier}"
    return found


def _pip(requirements: list[str]) -> str:
    """Install; returns what pip itself says was wrong, "" where nothing was."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept.txt")
        kept.write_text("".join(f"{name}=={_version(name)}\n" for name in KEPT if _version(name)), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-c", str(kept), *requirements], capture_output=True, text=True)
    if not done.returncode:
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    conflict = [line for line in lines if " depends on " in line or "(constraint)" in line]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return ("; ".join(conflict) or (errors or [f"status {done.returncode}"])[-1]).rstrip(".")


def _loaded() -> dict[str, str]:
    """Distribution -> version, of everything that this kernel has imported so far."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in list(sys.modules) if "." not in module for owner in owners.get(module, ())}
    return {name: version for name in names if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
