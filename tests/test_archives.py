"""Archives of unknown origin: what is asked for comes out, nothing else does, and damage is said."""

import io
import random
import stat
import tarfile
import zipfile

import pytest


@pytest.fixture()
def archives(script):
    return script("data_scripts/archives.py")


@pytest.fixture()
def mini(script):
    return script("tests/miniature.py")


@pytest.fixture()
def take(archives, tmp_path):
    """All files called *.jpg in an archive of these bytes, as a dictionary."""

    def take(content, limit=10_000, name="a.archive"):
        path = tmp_path / name
        path.write_bytes(content)
        return dict(archives.members(path, lambda name: name.endswith(".jpg"), limit))

    return take


FILES = {
    "flickr30k-images/1.jpg": b"one" * 99,
    "flickr30k-images/flickr30k-images/1.jpg": b"the same again",  # a Kaggle copy holds everything twice
    "./2.jpg": b"two",
    "__MACOSX/flickr30k-images/._1.jpg": b"fork",
    "flickr30k-images/.hidden.jpg": b"no",
    "readme.txt": b"text",
}


@pytest.mark.parametrize("pack", ["zip", "tar", "gz"])
def test_files_come_by_their_plain_names_once(mini, take, pack):
    content = mini.zipped(FILES) if pack == "zip" else mini.tarred(FILES, "w" if pack == "tar" else "w:gz")
    assert take(content) == {"1.jpg": b"one" * 99, "2.jpg": b"two"}


def test_a_folder_is_read_the_same_way(archives, tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = dict(archives.members(tmp_path / "in", lambda name: name.endswith(".jpg"), 10_000))
    assert found == {"2.jpg": b"two", "1.jpg": b"one" * 99}


@pytest.mark.parametrize("name", ["../1.jpg", "a/../../1.jpg", "/etc/1.jpg", "..\\1.jpg", "C:\\1.jpg"])
@pytest.mark.parametrize("pack", ["zip", "tar"])
def test_paths_that_lead_outside_are_refused(archives, mini, take, tmp_path, name, pack):
    content = (mini.zipped if pack == "zip" else mini.tarred)({"0.jpg": b"0", name: b"1"})
    with pytest.raises(archives.BuildError, match="leads outside of it. No honest archive does"):
        take(content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.archive"]


def linked(kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        header = tarfile.TarInfo("1.jpg")
        header.type, header.linkname = kind, "/etc/passwd"
        archive.addfile(header)
    return stream.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(archives, take, kind):
    with pytest.raises(archives.BuildError, match="1.jpg in .* is a link or a device"):
        take(linked(kind))


def test_links_in_a_zip_are_refused(archives, take):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = zipfile.ZipInfo("1.jpg")
        header.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(header, "/etc/passwd")
    with pytest.raises(archives.BuildError, match="is a link or a device"):
        take(stream.getvalue())


def test_locked_archives_are_refused(archives, mini, take):
    content = bytearray(mini.zipped({"1.jpg": b"one"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the mark of a password, in both headers
    with pytest.raises(archives.BuildError, match="locked with a password"):
        take(bytes(content))


@pytest.mark.parametrize("pack", ["zip", "tar", "gz"])
def test_bombs_are_refused_before_they_are_read(archives, mini, take, pack):
    files = {"1.jpg": b"\0" * 20_000_000}
    content = mini.zipped(files) if pack == "zip" else mini.tarred(files, "w" if pack == "tar" else "w:gz")
    with pytest.raises(archives.BuildError, match="1.jpg in .* has 20,000,000 bytes; more than 10,000"):
        take(content)


def test_a_zip_that_hides_its_size_is_refused(archives, mini, take):
    content = mini.zipped({"1.jpg": b"\0" * 20_000_000})
    small = content.replace((20_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    with pytest.raises(archives.Damaged):
        take(small)


def test_a_tar_without_end_is_refused(archives, mini, take, monkeypatch):
    monkeypatch.setattr(archives, "TAR_LIMIT", 50_000)
    with pytest.raises(archives.BuildError, match="holds more than 50,000 bytes; that is no set of pictures"):
        take(mini.tarred({f"{k}.txt": b"x" * 9000 for k in range(9)}, "w:gz"))


@pytest.mark.parametrize("pack", ["zip", "tar", "gz"])
def test_cut_archives_are_found_out(archives, mini, take, pack, tmp_path):
    files = {f"{k}.jpg": random.Random(k).randbytes(5000) for k in range(9)}
    content = mini.zipped(files) if pack == "zip" else mini.tarred(files, "w" if pack == "tar" else "w:gz")
    for part in (0, 3, 700, len(content) // 3, len(content) // 2, len(content) * 4 // 5):
        with pytest.raises(archives.Damaged, match="cut short") as caught:
            assert len(take(content[:part])) < 9  # a tar may also end between two files: then some are missing
            raise archives.Damaged("cut short", tmp_path / "a.archive")
        assert caught.value.path == tmp_path / "a.archive"


def test_a_changed_byte_is_found_out(archives, mini, take):
    content = bytearray(mini.zipped({"1.jpg": bytes(range(256)) * 30}))
    content[60] ^= 1
    with pytest.raises(archives.Damaged, match="is cut short or damaged"):
        take(bytes(content))


def test_check_knows_archives_and_web_pages(archives, mini, tmp_path):
    path = tmp_path / "x.zip"
    for content in (mini.zipped(FILES), mini.tarred(FILES), mini.tarred(FILES, "w:gz")):
        path.write_bytes(content)
        archives.check(path)
    path.write_bytes(mini.zipped(FILES)[:-30])
    with pytest.raises(archives.Damaged, match="is no archive, or it is cut short"):
        archives.check(path)
    path.write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(archives.Damaged, match="is a web page, perhaps one to log in"):
        archives.check(path)
