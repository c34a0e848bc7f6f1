"""Fetch big files over HTTP: resumed, checked, patient with servers that fail, and complete or absent.

A file that is on its way is called NAME.part, beside it NAME.part.json says what it is part of. It gets its name only
after its length and every hash that the source gives have been compared.
"""

import base64
import contextlib
import email.utils
import hashlib
import http.client
import json
import os
import random
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packing import BuildError, require_disk
from tqdm import tqdm

TRIES = 6  # attempts in a row that bring nothing new
FIRST_WAIT = 1.0  # seconds before the second attempt; doubles each time, up to
LONGEST_WAIT = 60.0
PATIENCE = 600.0  # longest Retry-After that is waited for, seconds
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20
SMALL = 64 << 20  # bytes: more than this is no listing
PASSING = {408, 425, 429, 500, 502, 503, 504}  # states that may be gone at the next attempt


class Transient(Exception):
    """An attempt failed and another may not. `wait`: seconds that the server asks for, or None."""

    def __init__(self, message: str, wait: float | None = None):
        super().__init__(message)
        self.wait = wait


class Damaged(BuildError):
    """A file is not what it should be: cut short, changed, or of another kind. `path`: which, where it has a name."""

    def __init__(self, message: str, path: Path | None = None):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Remote:
    """A file to fetch. name: what it is called here, a plain file name. size: in bytes, None where nobody says.

    hashes: "sha256", "md5" or "git" (git's SHA-1 of a blob) -> hexadecimal digest. headers: may hold a password or a
    token; they are sent to the url's own host only.
    """

    url: str
    name: str
    size: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if not re.fullmatch(r"[\w][\w.+ -]*", self.name):
            raise BuildError(f"{self.name!r} is no plain file name; the source names a file that is not taken.")


def patiently(step: Callable, progress: Callable[[], int] = lambda: 0):
    """Run `step` until it does not raise Transient, with growing pauses; returns what it returns.

    progress: how far the work has come. Attempts that bring it further start the count anew. Raises BuildError after
    `TRIES` attempts in a row without progress, or where the server wants a longer wait than `PATIENCE`.
    """
    failed, best = 0, progress()
    while True:
        try:
            return step()
        except Transient as error:
            failed, best = (1, progress()) if progress() > best else (failed + 1, best)
            if failed >= TRIES:
                raise BuildError(
                    f"{error}, {failed} times. Run the same command later: it goes on from here."
                ) from error
            pause = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failed - 1)) * random.uniform(0.75, 1.25)
            if error.wait is not None:
                if error.wait > PATIENCE:
                    raise BuildError(
                        f"{error}, and asks to wait {error.wait / 60:.0f} minutes. Run the same command then."
                    ) from error
                pause = max(error.wait, min(pause, FIRST_WAIT))
            tqdm.write(f"{error}; next attempt in {pause:.0f} s")
            time.sleep(pause)


def read_text(url: str, headers: dict[str, str] | None = None) -> str:
    """A small text file, such as a listing, patiently. Raises BuildError."""

    def step():
        content = b""
        with _open(url, headers or {}) as response:
            for block in _blocks(url, response):
                content += block
                if len(content) > SMALL:
                    raise BuildError(f"{_shown(url)} is larger than a listing can be.")
            total = _length(response, 0)[1]
        if total is not None and len(content) < total:
            raise Transient(f"{_shown(url)} ends after {len(content):,} of {total:,} bytes")
        return content.decode("utf-8", "replace")

    return patiently(step)


def probe(url: str, headers: dict[str, str] | None = None) -> int | None:
    """Size in bytes of the file at `url` (-1 where the server does not say), None where there is none (404, 410)."""

    def step():
        try:
            with _open(url, headers or {}, method="HEAD") as response:
                return int(response.headers.get("Content-Length", -1))
        except Missing:
            return None
        except BuildError:  # some servers do not answer HEAD
            try:
                with _open(url, {**(headers or {}), "Range": "bytes=0-0"}) as response:
                    return _length(response, 0)[1] or -1
            except Missing:
                return None

    return patiently(step)


def fetch(remote: Remote, folder: Path, check: Callable[[Path], None] | None = None) -> Path:
    """The file in `folder`, fetched unless it is there already. Goes on where an earlier attempt stopped.

    check: raises Damaged for a file whose content cannot be what is wanted. Raises BuildError with what to do.
    """
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    spoilt = 0
    while True:
        with tqdm(total=remote.size, unit="B", unit_scale=True, desc=remote.name, leave=False) as bar:
            patiently(lambda: _attempt(remote, part, bar), lambda: _size(part))
        try:
            _compare(remote, part)
            if check is not None:
                check(part)
            break
        except Damaged as error:
            spoilt += 1
            _forget(part)
            if spoilt == 2:
                raise BuildError(
                    f"{error} It came twice that way, so the source itself is damaged or changed on its way."
                ) from error
            tqdm.write(f"{error} It is fetched again.")
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, target)
    _forget(part)
    return target


class Missing(BuildError):
    """The server has no such file (404 or 410)."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes passwords to no other host and never from https to http."""

    def redirect_request(self, request, stream, code, message, headers, url):
        new = super().redirect_request(request, stream, code, message, headers, url)
        if new is not None:
            old, there = urllib.parse.urlsplit(request.full_url), urllib.parse.urlsplit(new.full_url)
            if there.scheme not in ("http", "https") or (old.scheme, there.scheme) == ("https", "http"):
                raise BuildError(f"{_shown(request.full_url)} redirects to {there.scheme}, which is not followed.")
            if old.netloc != there.netloc:
                new.headers = {key: value for key, value in new.headers.items() if key.lower() not in _SECRET}
        return new


_SECRET = {"authorization", "cookie", "proxy-authorization"}


def _open(url: str, headers: dict[str, str], method: str = "GET"):
    """An open response of state 200 or 206. Raises Transient, Missing or BuildError."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise BuildError(f"{_shown(url)} is no http or https address.")
    sent = {"User-Agent": "course-data/1", "Accept-Encoding": "identity", **headers}
    request = urllib.request.Request(url, headers=sent, method=method)
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(url, error) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise BuildError(f"{_shown(url)} cannot prove who it is: {error.reason}") from error
        raise Transient(f"{_shown(url)} cannot be reached ({error.reason})") from error
    except (http.client.InvalidURL, ValueError) as error:
        raise BuildError(f"{_shown(url)} is no address ({error}).") from error
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"{_shown(url)} dropped the connection ({error or type(error).__name__})") from error
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        response.close()
        raise BuildError(f"{_shown(url)} sends {coding} where plain bytes were asked for; take another mirror.")
    return response


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    state = f"{_shown(url)} answers {error.code} {error.reason}"
    if error.code in (404, 410):
        return Missing(f"{state}: there is no such file. Check the address, and whether the owner has moved it.")
    if error.code == 401:
        return BuildError(
            f"{state}: it wants to know who you are. Log in (a token or key of your own), then run again."
        )
    if error.code == 403:
        return BuildError(
            f"{state}: you may not have this file. Accept the set's conditions on its page, then run again."
        )
    if error.code == 416:
        return _OutOfRange(state)
    if error.code in PASSING:
        return Transient(state, retry_after(error.headers.get("Retry-After")))
    return BuildError(f"{state}. Try another source.")


class _OutOfRange(BuildError):
    """416: we have as many bytes as the server, or more."""


def retry_after(text: str | None) -> float | None:
    """Seconds from a Retry-After header: a number, or a date."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _blocks(url: str, response) -> Iterator[bytes]:
    """The body in blocks; what goes wrong on the way becomes Transient."""
    while True:
        try:
            block = response.read(BLOCK)
        except (http.client.HTTPException, OSError) as error:
            raise Transient(f"{_shown(url)} broke off ({type(error).__name__})") from error
        if not block:
            return
        yield block


def _length(response, start: int) -> tuple[int, int | None]:
    """(first byte that comes, size of the whole file or None) as the headers say."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None:
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None and length.isdigit() else None


def _attempt(remote: Remote, part: Path, bar: tqdm) -> None:
    """Bring the missing bytes of `part`; returns when it is as long as it should be."""
    state = _state(part, remote)
    have = _size(part)
    if have and state.get("total") == have:
        return  # stopped between the last byte and the name
    headers = dict(remote.headers)
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("validator") and not remote.hashes:
            headers["If-Range"] = state["validator"]  # a changed file is sent whole; a known hash finds it out anyway
    try:
        response = _open(remote.url, headers)
    except _OutOfRange as error:
        _forget(part)
        raise Transient(f"{error}: the file there is shorter than what was fetched of it") from error
    with response:
        start, total = _length(response, have)
        known = remote.size if remote.size is not None else state.get("total") if start else None
        if response.status == 206 and start != have:
            _forget(part)
            raise Transient(f"{_shown(remote.url)} sends another part than was asked for")
        if known is not None and total is not None and total != known:
            _forget(part)
            raise Transient(f"{_shown(remote.url)} has {total:,} bytes, not {known:,}")
        total = total if total is not None else known
        require_disk(part.parent, (total or 0) - start)
        known_hashes = state.get("hashes", {}) if response.status == 206 else {}
        _note(part, remote, response, total, known_hashes)
        bar.total, bar.n = total, start
        bar.refresh()
        with part.open("r+b" if part.exists() else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            received = start
            for block in _blocks(remote.url, response):
                stream.write(block)
                stream.flush()
                received += len(block)
                bar.update(len(block))
                if total is not None and received > total:
                    break
    if total is not None and received != total:
        if received > total:
            _forget(part)
        raise Transient(f"{_shown(remote.url)} ends after {received:,} of {total:,} bytes")


def _state(part: Path, remote: Remote) -> dict:
    """What the part belongs to; a part of something else, or of nobody knows what, is removed."""
    try:
        state = json.loads(part.with_name(part.name + ".json").read_text(encoding="utf-8"))
        if state["file"] == _identity(remote) and part.is_file():
            return state
    except (OSError, ValueError, KeyError, TypeError):
        pass
    _forget(part)
    return {}


def _identity(remote: Remote) -> list:
    address = urllib.parse.urlsplit(remote.url)
    return [f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}", remote.size, remote.hashes]


def _note(part: Path, remote: Remote, response, total: int | None, hashes: dict[str, str]) -> None:
    """Write beside the part what it belongs to, before its first byte. hashes: what earlier answers promised."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    state = {"file": _identity(remote), "total": total, "validator": validator, "hashes": hashes | _promised(response)}
    note = part.with_name(part.name + ".json")
    draft = note.with_name(note.name + ".draft")
    draft.write_text(json.dumps(state), encoding="utf-8")
    os.replace(draft, note)


def _promised(response) -> dict[str, str]:
    """Hashes of the whole file that the headers give. An ETag is one only where it has SHA-256's 64 digits."""
    hashes = {}
    if match := re.fullmatch(r'"([0-9a-f]{64})"', response.headers.get("ETag", "")):
        hashes["sha256"] = match[1]
    given = ",".join([*response.headers.get_all("x-goog-hash", []), *response.headers.get_all("Digest", [])])
    given += "," + ",".join(response.headers.get_all("Repr-Digest", []))
    for name, text in re.findall(r"(?i)\b(md5|sha-256)=:?([A-Za-z0-9+/]+=*)", given):
        with contextlib.suppress(ValueError):
            hashes[name.lower().replace("-", "")] = base64.b64decode(text).hex()
    if response.status == 200 and response.headers.get("Content-MD5"):
        with contextlib.suppress(ValueError):
            hashes["md5"] = base64.b64decode(response.headers["Content-MD5"]).hex()
    return hashes


def _compare(remote: Remote, part: Path) -> None:
    """Raise Damaged unless `part` has every hash that the source or the server's headers gave."""
    expected = _state(part, remote).get("hashes", {}) | remote.hashes
    size, known = _size(part), {"sha256": hashlib.sha256, "md5": hashlib.md5, "git": hashlib.sha1}
    sums = {name: known[name]() for name in expected}
    if "git" in sums:
        sums["git"].update(b"blob %d\0" % size)
    with part.open("rb") as stream:
        while sums and (block := stream.read(BLOCK)):
            for one in sums.values():
                one.update(block)
    for name, one in sums.items():
        if one.hexdigest() != expected[name].lower():
            raise Damaged(
                f"{remote.name} is not the file that the source promises: its {name} begins {one.hexdigest()[:12]}, "
                f"not {expected[name][:12]}."
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(part: Path) -> None:
    for path in (part, part.with_name(part.name + ".json"), part.with_name(part.name + ".json.draft")):
        path.unlink(missing_ok=True)


def _shown(url: str) -> str:
    """An address without password and query, which may hold keys."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
