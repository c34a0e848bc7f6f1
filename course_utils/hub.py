"""Weights from a hub: from its cache on this machine, from the hub where it answers, or one clear error at once."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request

_PATIENCE = 8.0  # seconds to wait for a hub's first answer
_NO = ("", "0", "false", "no", "off")


class MissingWeights(RuntimeError):
    """The weights of a tower are neither on this machine nor to be had from where they are published."""


def load(kind, name: str, instead: str, settings: dict | None = None):
    """`kind.from_pretrained(name)` from the hub's cache on this machine or, where the hub answers, from the hub.

    instead: the tower to take where neither has it. settings: further arguments. Raises MissingWeights.
    """
    from huggingface_hub import constants, snapshot_download

    try:  # by folder: given a name, transformers asks the hub even when told to read local files only
        return kind.from_pretrained(snapshot_download(name, local_files_only=True), **settings or {})
    except (OSError, ValueError):  # not in the cache, or only half of it is
        require(f"{constants.ENDPOINT}/{name}/resolve/main/config.json", name, instead)
        return kind.from_pretrained(name, **settings or {})


def require(address: str, name: str, instead: str) -> None:
    """Return when `address` answers within a few seconds; otherwise raise MissingWeights. Never waits longer."""
    refused = [key for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(key, "0").lower() not in _NO]
    reason = f"{refused[0]}={os.environ[refused[0]]} forbids the network" if refused else _silence(address)
    if reason:
        raise MissingWeights(
            f"the weights of tower {name!r} are not on this machine, and cannot be fetched from {address}: {reason}. "
            f"Use {instead!r}, whose weights are installed with the course; or run this line once where there is a "
            f"network, which keeps the weights; or pass pretrained=False for the same shapes with random weights."
        )


def _silence(address: str) -> str:
    """Why `address` does not answer, or "" when it does. In a thread, because looking up a name has no time-out."""
    answer = [f"no answer within {_PATIENCE:.0f} seconds"]

    def ask():
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
            answer[0] = ""
        except urllib.error.HTTPError as error:  # it answered; 401 and 404 are told better by the hub's own error
            answer[0] = "" if error.code < 500 else str(error)
        except OSError as error:
            answer[0] = str(getattr(error, "reason", error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answer[0]
