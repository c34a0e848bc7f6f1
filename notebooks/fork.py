"""Give the course the address of your own copy on GitHub, so that badges and set-up cells lead there.

    python notebooks/fork.py https://github.com/OWNER/NAME                 Colab opens and installs what is yours
    python notebooks/fork.py https://github.com/OWNER/NAME --ref BRANCH    and from a branch or tag other than main

Changes the address in pyproject.toml, in the clone lines of README.md and wherever else it is named, and rebuilds every
notebook; stored outputs stay, since only lines that install change. Commit and push what it changed. Running it twice
changes nothing more, and the old address brings the old files back. It uses no network.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import build

ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})/([A-Za-z0-9._-]{1,100})")
REF = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?")
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".cfg", ""}


class ForkError(ValueError):
    """An address or branch that cannot be one; says what it should look like."""


def address_of(words):
    """`https://github.com/OWNER/NAME`, without a slash or `.git` at its end. Raises ForkError."""
    found = ADDRESS.fullmatch(words.strip().removesuffix("/").removesuffix(".git"))
    if not found or found.group(2).strip(".") == "":
        raise ForkError(
            f"{words!r} is not the address of a repository that Colab can open: it looks like "
            "https://github.com/OWNER/NAME (Colab opens notebooks from GitHub only). Nothing was changed."
        )
    return found.group()


def ref_of(words):
    """A branch or tag as git allows it. Raises ForkError."""
    if not REF.fullmatch(words) or ".." in words or "//" in words or words.endswith(".lock"):
        raise ForkError(f"{words!r} is not a branch or a tag, such as main or 2026.11. Nothing was changed.")
    return words


def files(root):
    """The texts of the repository that may name its address; notebooks are built from them and left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else [str(p.relative_to(root)) for p in walk(root)]
    paths = [root / name for name in names if name and Path(name).suffix in TEXT]
    return [path for path in paths if path.is_file() and "licences" not in path.parts]


def walk(root):
    """All files of an unpacked archive, but those that runs and installs have made."""
    made = {".git", ".venv", "artifacts", "data", "build"}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_file() and parts[0] not in made and "__pycache__" not in parts:
            yield path


def renamed(text, old, new):
    """A text with one (OWNER/NAME, branch) in another's place: addresses of all kinds, and the folder of a clone."""
    (slug, ref), (new_slug, new_ref) = old, new
    hosts = r"((?:github\.com|githubusercontent\.com|/github|/gh)/)"  # GitHub itself, Colab's and Binder's ways to it
    ends = r"(?:(?=\.git\b)|(?![A-Za-z0-9-]|[._][A-Za-z0-9]))"  # not the beginning of a longer name
    text = re.sub(hosts + re.escape(slug) + ends, lambda found: found.group(1) + new_slug, text)
    there = rf"({re.escape(new_slug)}(?:/(?:blob|tree|raw)/|(?:\.git)?@)){re.escape(ref)}(?![\w.-])"
    text = re.sub(there, lambda found: found.group(1) + new_ref, text)
    clone = rf"(git clone \S*{re.escape(new_slug)}(?:\.git)?\s*(?:&&|\n)\s*cd ){re.escape(name_of(slug))}(?![\w.-])"
    return re.sub(clone, lambda found: found.group(1) + name_of(new_slug), text)


def name_of(slug):
    """NAME of OWNER/NAME: the folder that git makes."""
    return slug.rpartition("/")[2]


def stamp(address, ref=None, root=build.HERE.parent):
    """Write the address, and the branch where one is given; returns the paths that changed. Raises ForkError."""
    address = address_of(address)
    path = root / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))
    old_address, old_ref = project["project"]["urls"]["Repository"], project["tool"]["course"]["ref"]
    ref = old_ref if ref is None else ref_of(ref)
    old, new = ((one.partition("github.com/")[2], at) for one, at in ((old_address, old_ref), (address, ref)))
    changed = {}
    for file in files(root):
        text = file.read_bytes().decode("utf-8", errors="surrogateescape")
        fresh = renamed(text, old, new)
        if file == path:
            fresh = re.sub(r'(?m)^(ref = )"[^"\n]*"', lambda found: f'{found.group(1)}"{ref}"', fresh)
            if tomllib.loads(fresh)["project"]["urls"]["Repository"] != address:
                raise ForkError(f"{path.name} does not hold its Repository on a line of its own. Nothing was changed.")
        if fresh != text:
            changed[file] = fresh
    for file, text in changed.items():
        draft = file.with_name(file.name + ".part")
        draft.write_bytes(text.encode("utf-8", errors="surrogateescape"))
        draft.chmod(file.stat().st_mode)
        draft.replace(file)
    return list(changed)


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="https://github.com/OWNER/NAME")
    parser.add_argument("--ref", help="branch or tag that Colab opens and installs (as before, if not given)")
    options = parser.parse_args(arguments)
    root = build.HERE.parent
    try:
        changed = stamp(options.address, options.ref, root)
    except ForkError as error:
        print(f"fork: {error}", file=sys.stderr)
        return 2
    for path in changed:
        print(f"changed {path.relative_to(root)}")
    status = build.main([])
    if status == 0:
        print(f"Badges and set-up cells lead to {address_of(options.address)}. Commit and push what changed.")
    return status


if __name__ == "__main__":
    sys.exit(main())
