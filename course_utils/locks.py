"""One at a time: a folder into which a training writes is refused to the next one, in this process or another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class Busy(ValueError):
    """Somebody else is at work in a folder."""


@contextlib.contextmanager
def alone(folder: Path | str) -> Iterator[None]:
    """One training at a time keeps its checkpoints in `folder`: Busy where another is at work there.

    The system lifts the lock of a process that was killed. It lies beside the folder, so that who deletes the folder
    does not delete the lock. Where there are no locks (Windows, some network folders), nothing is refused.
    """
    folder = Path(folder).resolve()
    lock = _locked(folder, folder.parent / f".{folder.name}.lock")
    try:
        yield
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                os.unlink(lock.name)  # while it is locked still
            lock.close()


def _locked(folder: Path, path: Path):
    """The open and locked file `path`, or None where there are no locks."""
    with contextlib.suppress(ImportError, OSError):  # OSError: a folder that cannot be written is told elsewhere
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(100):  # not for ever: some network folders number their files anew each time
            lock = path.open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise Busy(
                    f"Another training is at work in {folder}: another notebook of this lesson, or a program? Nothing "
                    "was changed. Wait until it ends, end it (Jupyter: shut down its kernel), or take another folder."
                ) from error
            except OSError:
                lock.close()
                return None
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
            lock.close()  # the training that was here has just ended and taken its file away
    return None
