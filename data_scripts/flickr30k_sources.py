"""Where Flickr30k can come from: a hub repository, a Kaggle archive, a mirror, or files that somebody already has.

`locate` only asks what there is and how big; `bring` fetches it. Accounts and keys are the user's own.
"""

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import archives
import downloads
from downloads import Remote, Transient
from packing import BuildError
from resizing import write_bytes

from course_utils.caption_files import caption_rank, find_captions

KAGGLE = "https://www.kaggle.com"  # $KAGGLE_API_ENDPOINT puts another in its place
# A mirror has a file SHA256SUMS, or else files of these names.
MIRRORED = tuple(
    f"{stem}{ending}" for stem in ("flickr30k-images", "flickr30k", "images") for ending in archives.ENDINGS
)
MIRRORED_CAPTIONS = (
    "dataset_flickr30k.json",
    "dataset_scenes.json",
    "captions.json",
    "flickr_annotations_30k.csv",
    "results_20130124.token",
)
LISTS = ("train.txt", "val.txt", "test.txt")  # beside a token file


@dataclass(frozen=True)
class Offer:
    """What a source has. Remote files are still to be fetched; paths are files or folders on this machine.

    captions may be empty: then they lie inside one of `pictures`. licence: what the source itself says, or None.
    """

    name: str
    captions: tuple[Remote | Path, ...]
    pictures: tuple[Remote | Path, ...]
    licence: str | None = None
    size: int | None = None  # bytes, where the source knows only the sum

    @property
    def bytes(self) -> int | None:
        """Bytes to fetch, None where the source does not say."""
        sizes = [one.size for one in (*self.captions, *self.pictures) if isinstance(one, Remote)]
        return self.size if None in sizes else sum(sizes)


def locate(source: str) -> Offer:
    """Ask a source what it has: "hf:OWNER/NAME", "kaggle:OWNER/NAME", an http(s) address, a folder or an archive.

    Raises BuildError where there is no such thing, or nothing usable in it.
    """
    if match := re.fullmatch(r"(hf|kaggle):([\w.-]+/[\w.-]+)", source):
        return _hub(match[2]) if match[1] == "hf" else _kaggle(match[2])
    if re.match(r"(hf|kaggle):", source):
        raise BuildError(f"{source!r} names no set: write {source.partition(':')[0]}:OWNER/NAME.")
    if re.match(r"(?i)https?://", source):
        return _mirror(source)
    return _local(Path(source).expanduser())


def bring(files: tuple[Remote | Path, ...], folder: Path, check: Callable[[Path], None] | None = None) -> list[Path]:
    """Fetch what is remote into `folder`; returns where everything lies, in the same order."""
    return [downloads.fetch(one, folder, check) if isinstance(one, Remote) else one for one in files]


def captions_of(offer: Offer, folder: Path, pictures: list[Path]) -> Path | None:
    """The caption file of an offer: fetched into `folder`, or taken out of the archives `pictures` into it.

    None where it lies in an archive that is not there yet. Raises BuildError where nothing holds one.
    """
    found = bring(offer.captions, folder)
    ranked = [(99 if caption_rank(path.name) is None else caption_rank(path.name), path) for path in found]
    if ranked:
        return min(ranked)[1]
    if not pictures and any(isinstance(one, Remote) for one in offer.pictures):
        return None
    for place in pictures:
        if place.is_file():
            _take_captions(place, folder)
    for where in (folder, *(place for place in pictures if place.is_dir())):
        try:
            return find_captions(where)
        except FileNotFoundError as error:
            last = error
    raise BuildError(f"{offer.name}: {last} Or name one with --captions.")


def _take_captions(place: Path, folder: Path) -> None:
    """Put the caption files of an archive into `folder`, once: a compressed tar is read from end to end for it."""
    folder.mkdir(parents=True, exist_ok=True)
    note, is_now = folder / ".taken", f"{place.resolve()}\t{place.stat().st_size}\t{place.stat().st_mtime_ns}\n"
    taken = note.read_text(encoding="utf-8") if note.is_file() else ""
    if is_now in taken:
        return
    for name, content in archives.members(place, lambda name: caption_rank(name) is not None, archives.TEXT_LIMIT):
        write_bytes(folder / name, content)
    write_bytes(note, (taken + is_now).encode())


def _offer(name: str, remotes: list[Remote], licence: str | None, there: Iterable[str] = ()) -> Offer:
    """The best caption file among remote files, what belongs beside it, and the archives. there: names of all files."""
    ranked = sorted((caption_rank(one.name), one.name, one) for one in remotes if caption_rank(one.name) is not None)
    lists = [one for _, file, one in ranked if file.endswith(".txt")]
    captions = [one for _, file, one in ranked if not file.endswith(".txt")][:1]
    pictures = [one for one in remotes if archives.is_archive(one.name)]
    if not pictures and not captions:
        few = ", ".join(sorted(there)[:6]) or "nothing"
        raise BuildError(
            f"{name} has neither an archive of pictures ({', '.join(archives.ENDINGS)}) nor captions. It has: {few}. "
            "Copies in other forms, such as parquet, are not read."
        )
    if captions and captions[0].name.endswith(".token"):
        captions += lists
    return Offer(name, tuple(captions), tuple(pictures), licence)


def _hub(repository: str) -> Offer:
    """Files of a data set on a hub, at its newest commit. huggingface_hub knows the hub's address ($HF_ENDPOINT), its
    listing and the user's token; the bytes come through `downloads`, because the library compares lengths only."""
    try:
        from huggingface_hub import HfApi, constants, hf_hub_url
        from huggingface_hub.utils import (
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            build_hf_headers,
        )
    except ImportError as error:
        raise BuildError("A hub needs the package huggingface_hub: pip install huggingface_hub") from error
    name = f"hf:{repository}"
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")

    def step():
        try:
            return HfApi(endpoint=endpoint).dataset_info(repository, files_metadata=True, timeout=downloads.TIMEOUT)
        except GatedRepoError as error:
            raise BuildError(
                f"{name} wants its conditions accepted: do so on its page, then run `hf auth login`."
            ) from error
        except RepositoryNotFoundError as error:
            raise BuildError(
                f"{name}: there is no such data set, or it is not yours to see (`hf auth login`)."
            ) from error
        except HfHubHTTPError as error:
            state = getattr(error.response, "status_code", 0)
            if state in downloads.PASSING:
                wait = downloads.retry_after(error.response.headers.get("Retry-After"))
                raise Transient(f"{name}: the hub answers {state}", wait) from error
            raise BuildError(f"{name}: the hub answers {state or error}.") from error
        except OfflineModeIsEnabled as error:
            raise BuildError(f"{name}: HF_HUB_OFFLINE is set, so no hub is asked. Unset it.") from error
        except Exception as error:  # the HTTP library under it has changed twice, and its errors with it
            family = type(error).__module__.partition(".")[0]
            if isinstance(error, OSError) or family in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
                raise Transient(f"{name}: the hub cannot be reached ({type(error).__name__})") from error
            raise

    info = downloads.patiently(step)
    headers = {key: value for key, value in build_hf_headers().items() if key.lower() == "authorization"}
    remotes = []
    for one in info.siblings or []:
        short = one.rfilename.rpartition("/")[2]
        taken = any(short == other.name for other in remotes)  # a second one in another folder
        if taken or (caption_rank(short) is None and not archives.is_archive(short)):
            continue
        hashes = {"sha256": one.lfs["sha256"]} if one.lfs else {"git": one.blob_id} if one.blob_id else {}
        url = hf_hub_url(repository, one.rfilename, repo_type="dataset", revision=info.sha, endpoint=endpoint)
        remotes.append(Remote(url, short, one.size, hashes, headers))
    licence = (info.card_data or {}).get("license") if info.card_data else None
    return _offer(name, remotes, str(licence) if licence else None, [one.rfilename for one in info.siblings or []])


def _kaggle(dataset: str) -> Offer:
    """The whole set as one zip, as Kaggle's public API gives it, with the user's own key."""
    headers = {"Authorization": _kaggle_key()}
    endpoint = os.environ.get("KAGGLE_API_ENDPOINT", KAGGLE).rstrip("/")
    text = downloads.read_text(f"{endpoint}/api/v1/datasets/view/{dataset}", headers)
    try:
        about = json.loads(text)
        size, licence = about.get("totalBytes"), about.get("licenseName")
    except (json.JSONDecodeError, AttributeError) as error:
        raise BuildError(f"kaggle:{dataset}: the answer is no description of a data set ({error}).") from error
    name = dataset.replace("/", "-") + ".zip"
    archive = Remote(f"{endpoint}/api/v1/datasets/download/{dataset}", name, None, {}, headers)
    return Offer(f"kaggle:{dataset}", (), (archive,), licence, size)


def _kaggle_key() -> str:
    """The Authorization header: $KAGGLE_API_TOKEN, or $KAGGLE_USERNAME and $KAGGLE_KEY, or kaggle.json."""
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return f"Bearer {token}"
    name, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    path = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle") / "kaggle.json"
    if not (name and key):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            name, key = content["username"], content["key"]
        except FileNotFoundError as error:
            raise BuildError(
                f"Kaggle wants to know who you are. Make a key on your account's settings page and save it as {path}, "
                "or set KAGGLE_USERNAME and KAGGLE_KEY."
            ) from error
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BuildError(f'{path} is no Kaggle key: it should be {{"username": ..., "key": ...}}.') from error
    return _basic(name, key)


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _mirror(address: str) -> Offer:
    """A folder on a web server, or one archive or caption file there. A name and password may stand in the address."""
    parts = urllib.parse.urlsplit(address)
    headers = {}
    if parts.username:
        headers["Authorization"] = _basic(
            urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        )
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    url = parts.geturl()
    short = urllib.parse.unquote(parts.path.rpartition("/")[2])
    if archives.is_archive(short) or caption_rank(short) is not None:
        size = downloads.probe(url, headers)
        if size is None:
            raise BuildError(f"There is no file {url}. Check the address.")
        return _offer(url, [Remote(url, short, size if size >= 0 else None, {}, headers)], None)
    base = url.rstrip("/") + "/"
    try:
        sums = _sums(downloads.read_text(base + "SHA256SUMS", headers))
    except downloads.Missing:
        sums = dict.fromkeys((*MIRRORED, *MIRRORED_CAPTIONS, *LISTS), "")
    remotes = []
    for name, digest in sums.items():
        if caption_rank(name) is None and not archives.is_archive(name):
            continue
        size = downloads.probe(base + urllib.parse.quote(name), headers)
        if size is None and digest:
            raise BuildError(f"{base}SHA256SUMS lists {name}, but it is not there. Tell whoever keeps the mirror.")
        if size is not None:
            known = {"sha256": digest} if digest else {}
            remotes.append(Remote(base + urllib.parse.quote(name), name, size if size >= 0 else None, known, headers))
    if not remotes:
        raise BuildError(
            f"{base} has no file that a mirror should have: an archive ({', '.join(MIRRORED[:3])} ...) and captions "
            f"({', '.join(MIRRORED_CAPTIONS)}). With a file SHA256SUMS there the archive may have any name."
        )
    return _offer(base, remotes, None)


def _sums(text: str) -> dict[str, str]:
    """File name -> SHA-256 from lines as sha256sum writes them; names with a folder are passed over."""
    found = re.findall(r"(?m)^([0-9a-fA-F]{64}) [ *]([^/\r\n]+)\r?$", text)
    return {name: digest.lower() for digest, name in found}


def _local(path: Path) -> Offer:
    if path.is_file():
        if archives.is_archive(path.name):
            return Offer(str(path), (), (path,))
        if caption_rank(path.name) is not None or path.suffix.lower() in (".json", ".csv", ".token"):
            return Offer(str(path), (path,), ())
        raise BuildError(f"{path} is neither an archive ({', '.join(archives.ENDINGS)}) nor a caption file.")
    if not path.is_dir():
        raise BuildError(
            f"There is no folder or file {path}. A source is hf:OWNER/NAME, kaggle:OWNER/NAME, an address with "
            "http:// or https://, a folder, or an archive."
        )
    inside = sorted(one for one in path.iterdir() if one.is_file() and archives.is_archive(one.name))
    try:
        captions = (find_captions(path),)
    except FileNotFoundError:
        captions = ()
    return Offer(str(path), captions, (path, *inside))
