"""Preparing a miniature of Flickr30k from every kind of source, and being interrupted at every step of it."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from course_utils.flickr30k import Flickr30k, verify

ENOUGH = {"train": 100, "val": 30, "test": 20}  # pictures of the set that is killed while it is prepared


@pytest.fixture()
def mini(script):
    return script("tests/miniature.py")


@pytest.fixture()
def web(script):
    return script("tests/web_server.py")


@pytest.fixture()
def server(web):
    with web.WebServer() as server:
        yield server


@pytest.fixture()
def program(script, monkeypatch):
    module = script("data_scripts/prepare_flickr30k.py")
    downloads = script("data_scripts/downloads.py")
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=lambda pause: None, time=time.time))
    monkeypatch.setattr(os, "fsync", lambda number: None)  # it guards against a power cut, which no test makes
    for name in ("HF_ENDPOINT", "HF_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture()
def prepare(program, mini, tmp_path):
    """Prepare a source into tmp_path/out; keywords go to Job."""

    def prepare(source, out="out", **about):
        about = {"workers": 2, "accept": True, "counts": mini.COUNTS} | about
        return program.prepare(program.Job(str(source), tmp_path / out, **about))

    return prepare


@pytest.fixture()
def raw(mini, tmp_path):
    return mini.folder(tmp_path / "raw")


def state(folder):
    """Relative path -> content of the files that a prepared folder must have."""
    files = [path for path in folder.rglob("*") if path.is_file() and "downloads" not in path.parts]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    manifest = json.loads(found.pop("manifest.json"))
    manifest.pop("source")
    return found | {"manifest": manifest}


# What comes out ------------------------------------------------------------------------------------------------------


def test_the_prepared_folder(prepare, raw, mini, tmp_path):
    manifest = prepare(raw)
    out = tmp_path / "out"
    names = ["captions.json", "images", "manifest.json", "pictures.sha256", "pixels.npy", "plan.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert manifest["splits"] == {"train": [0, 8], "val": [8, 10], "test": [10, 13]} and manifest["captions"] == 65
    assert manifest["source"] == "raw"  # not where it lies
    pixels = np.load(out / "pixels.npy")
    assert pixels.shape == (13, 256, 256, 3) and verify(out) == 16
    rows = [name for split in mini.COUNTS for name, one in zip(mini.NAMES, mini.ORDER) if one == split]
    for row, name in zip(pixels, rows):
        with Image.open(out / "images" / name) as picture:
            assert (picture.format, picture.mode, min(picture.size)) == ("JPEG", "RGB", 256)
            middle = [(length - 256) // 2 for length in picture.size]
            square = picture.crop((*middle, middle[0] + 256, middle[1] + 256))
        assert np.array_equal(row, np.asarray(square))
    sums = dict(line.split("  ")[::-1] for line in (out / "pictures.sha256").read_text().splitlines())
    assert sums == {f"images/{n}": hashlib.sha256((out / "images" / n).read_bytes()).hexdigest() for n in mini.NAMES}


def test_pictures_are_what_an_independent_resize_makes(prepare, raw, mini, tmp_path):
    prepare(raw)
    for name, content in mini.pictures().items():
        with Image.open(io.BytesIO(content)) as picture:
            whole = picture.convert("RGB")
        scale = 256 / min(whole.size)
        if max(whole.size) / min(whole.size) > 8:
            continue
        wanted = whole.resize([round(length * scale) for length in whole.size], Image.Resampling.BICUBIC)
        with Image.open(tmp_path / "out/images" / name) as made:
            assert made.size == wanted.size
            difference = np.abs(np.asarray(made, np.float32) - np.asarray(wanted, np.float32))
        assert difference.mean() < 5, name  # grain, and JPEG's loss
    with Image.open(tmp_path / "out/images" / mini.NAMES[4]) as panorama:  # 500 x 40
        assert panorama.size == (8 * 256, 256)
    name = mini.NAMES[10]  # 341 x 256 already: not encoded a second time
    assert (tmp_path / "out/images" / name).read_bytes() == mini.pictures()[name]


def test_a_second_run_does_nothing(prepare, raw, tmp_path, monkeypatch, script):
    prepare(raw)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    shutil.rmtree(raw)
    prepare(raw)
    prepare("hf:nobody/nothing")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} | before == before


def test_all_sources_and_all_caption_files_make_the_same(prepare, raw, mini, server, tmp_path, monkeypatch):
    prepare(raw)
    wanted = state(tmp_path / "out")
    pictures = {f"flickr30k-images/{name}": content for name, content in mini.pictures().items()}
    rest = {"readme.txt": b"", "flickr30k-images/8888888888.jpg": b"not of the split, not even a picture"}
    for name, content in {"dataset_flickr30k.json": mini.karpathy(), **mini.token()}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "whole.zip").write_bytes(mini.zipped({**rest, **pictures, "a/dataset_flickr30k.json": mini.karpathy()}))
    (tmp_path / "whole.tar").write_bytes(
        mini.tarred({**rest, **pictures, "flickr_annotations_30k.csv": mini.hub_csv()})
    )
    (tmp_path / "pictures.tgz").write_bytes(mini.tarred({**pictures, **rest}, "w:gz"))
    (tmp_path / "mixed").mkdir()
    shutil.copy(tmp_path / "pictures.tgz", tmp_path / "mixed/flickr30k-images.tar.gz")
    for name, content in mini.token().items():
        (tmp_path / "mixed" / name).write_bytes(content)
    archive = mini.zipped({**pictures, **rest})
    server.files |= {"/m/flickr30k-images.zip": archive, "/m/dataset_flickr30k.json": mini.karpathy()}
    listed = {"pictures of flickr.zip": archive, **mini.token()}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in listed.items())
    server.files |= {"/sums/" + name.replace(" ", "%20"): content for name, content in listed.items()}
    server.files["/sums/SHA256SUMS"] = sums.encode()
    server.hub("some/flickr30k", {"flickr30k-images.zip": archive, "flickr_annotations_30k.csv": mini.hub_csv()})
    server.kaggle("some/flickr30k", archive)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "word")
    json_file = str(tmp_path / "dataset_flickr30k.json")
    for k, (source, captions) in enumerate(
        [
            (tmp_path / "whole.zip", None),
            (tmp_path / "whole.tar", None),
            (tmp_path / "pictures.tgz", json_file),
            (tmp_path / "pictures.tgz", server.url + "/m/dataset_flickr30k.json"),
            (tmp_path / "mixed", None),
            (server.url + "/m/", None),
            (server.url + "/sums", None),
            (server.url + "/m/flickr30k-images.zip", "hf:some/flickr30k"),
            ("hf:some/flickr30k", None),
            ("kaggle:some/flickr30k", json_file),
            (tmp_path / "out", None),  # a prepared folder is a source like any other
        ]
    ):
        prepare(source, f"out{k}", captions=captions)
        assert state(tmp_path / f"out{k}") == wanted, source


def test_scenes_of_another_name_are_taken_by_that_name_only(program, mini, tmp_path, capsys):
    mini.folder(tmp_path / "raw", {"dataset_x.json": mini.karpathy("mini")})
    common = ["--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--accept"]
    assert program.main(common) == 2
    assert "declare the set 'mini', but 'flickr30k' was asked for" in capsys.readouterr().err
    assert program.main([*common, "--set", "mini", "--side", "64"]) == 0
    assert "13 pictures (train 8, val 2, test 3), 65 captions, 64 px" in capsys.readouterr().out
    assert Flickr30k(tmp_path / "out", "val", "mini").pixels.shape == (2, 64, 64, 3)
    assert program.main([*common, "--set", "mini"]) == 2  # another size
    assert "holds mini at 64 px already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["json", "csv", "token"])
def test_a_set_that_is_not_karpathys_is_refused_before_its_pictures_are_fetched(
    program, mini, server, tmp_path, capsys, kind
):
    files = {"json": {"dataset_flickr30k.json": mini.karpathy()}, "token": mini.token()}
    files["csv"] = {"flickr_annotations_30k.csv": mini.hub_csv()}
    server.files |= {f"/{name}": content for name, content in files[kind].items()}
    server.files["/flickr30k-images.zip"] = mini.zipped(mini.pictures())
    out = ["--source", server.url, "--out", str(tmp_path / "out"), "--accept"]
    assert program.main(out) == 2
    assert "This is not the set flickr30k: it has train 8, val 2, test 3, Karpathy's" in capsys.readouterr().err
    assert program.main([*out, "--set", "scenes"]) == 2  # a file of flickr30k cannot be passed off as something else
    assert "declare the set 'flickr30k', but 'scenes' was asked for" in capsys.readouterr().err
    assert server.gets("/flickr30k-images.zip") == []


# Terms, disk, and other refusals -------------------------------------------------------------------------------------


def test_terms_are_shown_and_must_be_accepted(program, mini, server, tmp_path, capsys, monkeypatch):
    server.hub("some/flickr30k", {"images.zip": mini.zipped(mini.pictures()), "captions.json": mini.karpathy()}, "cc0")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    command = ["--source", "hf:some/flickr30k", "--out", str(tmp_path / "out")]
    assert program.main(command) == 2
    said = capsys.readouterr()
    for words in (
        "non-commercial research and education",
        "belong to the people",
        "Karpathy",
        "licence: cc0",
        "To fetch: 0.00 GB",
    ):
        assert words in said.out
    assert re.search(r"To keep on disk: 7\.\d GB", said.out) and "add --accept" in said.err
    for answer, code in (("no", 2), ("", 2), ("yes", 2)):
        monkeypatch.setattr(program.sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert program.main(command) == code
        said = capsys.readouterr().err
        assert ("Not accepted" in said) == (answer != "yes") and ("not the set flickr30k" in said) == (answer == "yes")
        if answer != "yes":
            assert not (tmp_path / "out").exists()
    assert not any("resolve" in path and path.endswith("zip") for _, path, _ in server.log)


def test_a_full_disk_is_noticed_before_the_download(program, mini, server, tmp_path, monkeypatch, capsys, script):
    server.files |= {"/flickr30k.zip": mini.zipped(mini.pictures()), "/captions.json": mini.karpathy("mini")}
    free = SimpleNamespace(free=80_000_000)
    monkeypatch.setattr(script("data_scripts/packing.py").shutil, "disk_usage", lambda place: free)
    assert program.main(["--source", server.url, "--set", "mini", "--out", str(tmp_path / "out"), "--accept"]) == 2
    assert "has 80 MB free, but this step needs 10" in capsys.readouterr().err
    assert server.gets("/flickr30k.zip") == []


def test_a_disk_that_fills_up_is_said_and_the_run_goes_on_later(program, mini, tmp_path, monkeypatch, capsys, script):
    mini.folder(tmp_path / "raw", {"dataset_x.json": mini.karpathy("mini")})
    resizing, calls = script("data_scripts/resizing.py"), []
    put = resizing.Plan._put

    def full(*arguments):
        calls.append(1)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        put(*arguments)

    command = ["--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--set", "mini", "--accept"]
    monkeypatch.setattr(resizing.Plan, "_put", full)
    assert program.main(command) == 2
    assert "No space left on device. Mend this, then run the same command" in capsys.readouterr().err
    monkeypatch.setattr(resizing.Plan, "_put", put)
    assert program.main(command) == 0 and verify(tmp_path / "out") == 16


def test_sources_that_cannot_be(prepare, program, raw, mini, server, tmp_path, monkeypatch):
    def refused(source, says, **about):
        with pytest.raises(program.BuildError, match=says):
            prepare(source, **about)

    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    refused(tmp_path / "gone", "There is no folder or file .*gone. A source is hf:OWNER/NAME")
    refused("hf:flickr30k", "names no set: write hf:OWNER/NAME")
    refused("hf:nobody/nothing", "hf:nobody/nothing: there is no such data set|the hub answers 404")
    refused("kaggle:a/b", "Kaggle wants to know who you are.*kaggle.json, or set KAGGLE_USERNAME")
    (tmp_path / "kaggle.json").write_text('{"username": "me"}')
    refused("kaggle:a/b", "is no Kaggle key")
    (tmp_path / "kaggle.json").write_text('{"username": "me", "key": "word"}')
    refused("kaggle:a/b", "/api/v1/datasets/view/a/b answers 404 .*there is no such file")
    refused(server.url + "/nothing", "has no file that a mirror should have")
    refused(server.url + "/x.zip", "There is no file .*x.zip. Check the address")
    refused(raw / "dataset_flickr30k.json", "has captions but no pictures")
    refused(raw / "images" / mini.NAMES[0], "is neither an archive")
    refused(raw, "lie inside each other", out="raw")
    refused(raw, "lie inside each other", out="raw/deeper")
    (tmp_path / "foreign/images").mkdir(parents=True)
    (tmp_path / "foreign/images/mine.jpg").write_bytes(b"mine")
    refused(raw, "holds pictures already, from elsewhere", out="foreign")
    server.hub("some/parquet", {"data/test.parquet": b"PAR1", "captions.json": mini.karpathy()})
    refused("hf:some/parquet", "has captions but no pictures")
    server.hub("some/parquet", {"data/test.parquet": b"PAR1", "readme.md": b""})
    refused(
        "hf:some/parquet", "nor captions. It has: data/test.parquet, readme.md. Copies in other forms, such as parquet"
    )
    (raw / "dataset_flickr30k.json").unlink()
    refused(raw, "holds no caption file. .* Or name one with --captions")
    refused(raw, "is not there|There is no folder or file", captions=str(tmp_path / "gone.json"))


def test_two_runs_keep_out_of_each_others_way(program, prepare, raw, mini, tmp_path, capsys):
    pytest.importorskip("fcntl")
    with program.alone(tmp_path / "out"):
        second = threading.Thread(target=prepare, args=(raw,))
        second.start()
        second.join(0.5)
        assert second.is_alive() and "Another run is at work in" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    second.join(60)
    assert Flickr30k(tmp_path / "out", counts=mini.COUNTS).manifest and not (tmp_path / "out/.lock").exists()


# Pictures ------------------------------------------------------------------------------------------------------------


def broken(content):
    return content[: len(content) // 2]


def page(content):
    return b"<html>not found</html>"


def huge(content):
    head = content.index(b"\xff\xc0") + 5
    return content[:head] + (9000).to_bytes(2, "big") * 2 + content[head + 4 :]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(broken, "is not a whole picture"), (page, "no kind that is read here"), (huge, "9000 x 9000 pixels; more than")],
)
def test_a_broken_picture_is_named_and_the_rest_is_kept(prepare, program, raw, mini, tmp_path, spoil, says):
    bad = raw / "images" / mini.NAMES[0]
    good = bad.read_bytes()
    bad.write_bytes(spoil(good))
    with pytest.raises(program.BuildError, match=f"{bad.name}.*{says}"):
        prepare(raw)
    assert not (tmp_path / "out/manifest.json").exists() and not (tmp_path / "out/images" / bad.name).exists()
    bad.write_bytes(good)
    prepare(raw)
    assert verify(tmp_path / "out") == 16


def test_missing_pictures_are_counted_and_another_source_fills_the_gap(prepare, program, raw, mini, tmp_path):
    parts = [dict(list(mini.pictures().items())[:7]), dict(list(mini.pictures().items())[7:])]
    for k, part in enumerate(parts):
        (tmp_path / f"{k}.zip").write_bytes(mini.zipped(part))
    captions = str(raw / "dataset_flickr30k.json")
    with pytest.raises(program.BuildError, match="6 of 13 pictures are not in .*0.zip: .* What was found is kept"):
        prepare(tmp_path / "0.zip", captions=captions)
    prepare(tmp_path / "1.zip", captions=captions)
    assert verify(tmp_path / "out") == 16


def test_big_pictures_wait_for_each_other(script):
    resizing = script("data_scripts/resizing.py")
    budget, mini = resizing._Budget(1000), script("tests/miniature.py")
    content, inside, most = mini.jpeg(0, (30, 20)), [0], []

    def work():
        with budget.of(content):
            inside[0] += 1
            most.append(inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1, 1, 1, 1]


# Bad connections -----------------------------------------------------------------------------------------------------


def test_a_bad_day_on_the_hub(prepare, mini, web, server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    archive = mini.zipped(mini.pictures())
    base = server.hub("some/flickr30k", {"a/images.zip": archive, "flickr_annotations_30k.csv": mini.hub_csv()})
    server.plans["/api/datasets/some/flickr30k"] = [web.status(429, Retry_After="1"), web.status(503)]
    server.plans[base + "flickr_annotations_30k.csv"] = [web.lie(100), web.status(503), web.cut(50)]
    server.plans[base + "a/images.zip"] = [web.status(429), web.cut(1000), web.NO_RANGE | web.cut(2000), web.cut(9)]
    prepare("hf:some/flickr30k")
    assert verify(tmp_path / "out") == 16
    gets = server.gets(base + "a/images.zip")
    assert [one.get("Range") for one in gets] == [None, None, "bytes=1000-", "bytes=2000-", "bytes=2009-"]
    assert {one["Authorization"] for one in gets} == {"Bearer hf_secret"}
    about = json.loads((tmp_path / "out/manifest.json").read_text())
    assert about["source"] == "hf:some/flickr30k" and "secret" not in json.dumps(about)


@pytest.mark.parametrize(
    ("code", "says"), [(401, "no such data set, or it is not yours"), (403, "the hub answers 403|conditions")]
)
def test_a_hub_that_refuses(prepare, program, web, server, monkeypatch, code, says):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.plans["/api/datasets/some/private"] = [
        web.status(code, X_Error_Code="RepoNotFound" if code == 401 else "")
    ] * 9
    with pytest.raises(program.BuildError, match=says):
        prepare("hf:some/private")


def test_kaggle_sends_its_key_to_kaggle_alone(prepare, mini, server, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    bucket = server.kaggle("some/flickr30k", mini.zipped(mini.pictures() | {"dataset_flickr30k.json": mini.karpathy()}))
    server.headers[bucket] = {"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    with pytest.raises(Exception, match="its md5 begins .* It came twice"):
        prepare("kaggle:some/flickr30k")
    server.headers.clear()
    prepare("kaggle:some/flickr30k")
    assert server.gets("/api/v1/datasets/download/some/flickr30k")[0]["Authorization"] == "Bearer KGAT_secret"
    assert all("Authorization" not in one for one in server.gets(bucket))


def test_a_mirror_with_a_password(prepare, mini, server, tmp_path):
    server.files |= {"/m/flickr30k.zip": mini.zipped(mini.pictures()), "/m/dataset_flickr30k.json": mini.karpathy()}
    manifest = prepare(server.url.replace("http://", "http://class:p%40ss@") + "/m/")
    assert {headers.get("Authorization") for _, _, headers in server.log} == {"Basic Y2xhc3M6cEBzcw=="}  # class:p@ss
    assert manifest["source"] == server.url + "/m/"


def test_an_archive_that_a_lying_server_cut_is_fetched_again(prepare, program, mini, web, server, tmp_path):
    server.files |= {"/flickr30k.zip": mini.zipped(mini.pictures()), "/dataset_flickr30k.json": mini.karpathy()}
    whole = server.files["/flickr30k.zip"]
    server.plans["/flickr30k.zip"] = [web.NAMELESS | web.cut(len(whole) // 2)]  # ends early, and nobody said how long
    prepare(server.url)
    assert verify(tmp_path / "out") == 16 and len(server.gets("/flickr30k.zip")) == 2


def test_an_archive_that_is_broken_inside_is_deleted_and_fetched_anew(prepare, program, mini, server, tmp_path):
    content = bytearray(mini.zipped(mini.pictures()))
    content[len(content) // 2] ^= 255
    server.files |= {"/flickr30k.zip": bytes(content), "/dataset_flickr30k.json": mini.karpathy()}
    with pytest.raises(program.BuildError, match="damaged .* It was deleted: run the same command again"):
        prepare(server.url)
    assert not list((tmp_path / "out").rglob("*.zip"))
    server.files["/flickr30k.zip"] = mini.zipped(mini.pictures())
    prepare(server.url)
    assert verify(tmp_path / "out") == 16


def test_captions_that_came_broken_are_fetched_anew(prepare, program, mini, web, server, tmp_path):
    server.files |= {"/flickr30k.zip": mini.zipped(mini.pictures()), "/dataset_flickr30k.json": mini.karpathy()[:-7]}
    with pytest.raises(program.BuildError, match="is not whole JSON .* It was deleted, and is fetched anew"):
        prepare(server.url)
    server.files["/dataset_flickr30k.json"] = mini.karpathy()
    prepare(server.url)


# Interruptions -------------------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process ends here."""


def dying(replace, step, after):
    """os.replace that ends the process at its call number `step`, before or after it has done its work."""
    calls = []

    def dies(source, target):
        calls.append(target)
        if len(calls) == step + 1 and not after:
            raise Death
        replace(source, target)
        if len(calls) == step + 1:
            raise Death

    return dies


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ended_at_every_step_and_started_again(prepare, program, mini, server, script, tmp_path, monkeypatch, after):
    """Every change that lasts is a rename. Die before or after each of them, once; the next run must finish the job."""
    resizing, real, done = script("data_scripts/resizing.py"), os.replace, []
    make = resizing.resized
    monkeypatch.setattr(resizing, "resized", lambda *one: done.append(one[2]) or make(*one))
    small = mini.zipped({name: mini.jpeg(k, (60, 45)) for k, name in enumerate(mini.NAMES)})
    server.files |= {"/flickr30k.zip": small, "/dataset_flickr30k.json": mini.karpathy()}
    prepare(server.url, workers=1, side=48, shard=4)
    wanted = state(tmp_path / "out")
    deaths = 0
    for step in range(100):
        shutil.rmtree(tmp_path / "out")
        done.clear()
        server.log.clear()
        monkeypatch.setattr(os, "replace", dying(real, step, after))
        try:
            prepare(server.url, workers=1, side=48, shard=4)
            died = False
        except Death:
            died, deaths = True, deaths + 1
        monkeypatch.setattr(os, "replace", real)
        prepare(server.url, workers=1, side=48, shard=4)
        assert state(tmp_path / "out") == wanted, step
        gets = [len(server.gets(path)) for path in ("/dataset_flickr30k.json", "/flickr30k.zip")]
        assert gets == [2 if step == 0 else 1, 2 if step == 2 else 1], (
            step
        )  # died between the answer and its first byte
        assert len(done) <= 13 + 3, step  # what was in work, at most three ahead, is done again; nothing else
        if not died:
            break
    assert deaths >= 13 + 12


def killed_when(ready, command, folder):
    """Start a run, kill it as soon as `ready()`; True if it was still at work."""
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while run.poll() is None and not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    return alive


@pytest.fixture()
def many(mini, tmp_path):
    """A zip of 150 pictures, its captions, and the command that prepares it as the set "mini"."""
    images, files, some = [], {}, list(mini.pictures().values())
    for split, count in ENOUGH.items():
        for k in range(count):
            name, number = f"{split}{k}.jpg", len(images)
            files[name] = some[number % 4]
            sentences = [{"raw": f"Caption {j} of {name}.", "sentid": 5 * number + j} for j in range(5)]
            images.append({"filename": name, "imgid": number, "split": split, "sentences": sentences})
    captions = json.dumps({"dataset": "mini", "images": images}).encode()
    return mini.zipped(files), captions


def command(root, source, out):
    program = root / "data_scripts/prepare_flickr30k.py"
    return [
        sys.executable,
        str(program),
        "--source",
        source,
        "--out",
        str(out),
        "--set",
        "mini",
        "--accept",
        "--workers",
        "2",
    ]


def test_killed_while_downloading_and_while_resizing(root, many, web, server, tmp_path, monkeypatch):
    """Real kills of a real process, at five places; each run goes on from what the one before had finished."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    archive, captions = many
    server.files |= {"/images.zip": archive, "/captions.json": captions}
    out = tmp_path / "out"
    run = command(root, server.url, out)
    reached, go_on = threading.Event(), threading.Event()
    server.plans["/images.zip"] = [web.hold(len(archive) // 3, reached, go_on)]
    assert killed_when(reached.is_set, run, tmp_path)
    go_on.set()
    part = next(out.rglob("images.zip.part"))
    had = part.stat().st_size
    done = lambda: len(list((out / "images").glob("*.jpg")))  # noqa: E731
    kept = {}
    for number in (5, 50, 100, 140):
        assert killed_when(lambda number=number: done() >= number, run, tmp_path)
        now = {path.name: path.stat().st_mtime_ns for path in (out / "images").glob("*.jpg")}
        assert now | kept == now and len(now) > len(kept)  # nothing finished was touched again
        kept = now
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    now = {path.name: path.stat().st_mtime_ns for path in (out / "images").glob("*.jpg")}
    assert now | kept == now and len(now) == 150
    gets = server.gets("/images.zip")
    assert (
        len(gets) == 2 and 0 <= had <= len(archive) // 3 and gets[1].get("Range") == (f"bytes={had}-" if had else None)
    )
    assert verify(out) == 153 and not (out / ".unfinished").exists()


def test_ctrl_c_is_no_traceback(program, raw, tmp_path, monkeypatch, capsys):
    def stops(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "prepare", stops)
    assert program.main(["--source", str(raw), "--out", str(tmp_path / "out")]) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_a_damaged_folder_is_mended_as_the_message_says(prepare, program, raw, mini, tmp_path):
    prepare(raw)
    out, name = tmp_path / "out", mini.NAMES[3]
    wanted = state(out)
    before = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir() if path.name != name}
    (out / "images" / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Delete it and .*manifest.json, and prepare again"):
        verify(out)
    (out / "images" / name).unlink()
    (out / "manifest.json").unlink()
    prepare(raw)
    assert (
        state(out) == wanted and before.items() <= {p: p.stat().st_mtime_ns for p in (out / "images").iterdir()}.items()
    )
    (out / "pixels.npy").unlink()
    with pytest.raises(program.BuildError, match=r"pixels.npy is missing. Delete .*manifest.json and prepare again"):
        prepare(raw)
    (out / "manifest.json").unlink()
    prepare(raw)
    assert state(out) == wanted


def test_another_set_does_not_go_on_in_the_same_folder(prepare, program, raw, mini, tmp_path):
    prepare(raw)
    (tmp_path / "out/manifest.json").unlink()
    with pytest.raises(program.BuildError, match="was begun with other captions or another size"):
        prepare(raw, side=64)


# Shards --------------------------------------------------------------------------------------------------------------


def test_shards(prepare, program, raw, mini, tmp_path):
    prepare(raw)
    prepare(raw, shard=3)
    prepare(raw, "other", shard=3)
    out = tmp_path / "out/shards"
    shards = sorted(path.name for path in out.glob("*.tar"))
    assert shards == ["test-000000.tar", *(f"train-00000{k}.tar" for k in (0, 1, 2)), "val-000000.tar"]
    assert all((tmp_path / "other/shards" / name).read_bytes() == (out / name).read_bytes() for name in shards)
    seen = {}
    for name in shards:
        with tarfile.open(out / name) as archive:
            files = {one.name: archive.extractfile(one).read() for one in archive}
        for key in sorted({name.partition(".")[0] for name in files}):
            about = json.loads(files[f"{key}.json"])
            assert name.startswith(about["split"]) and about["captions"] == mini.CAPTIONS[about["filename"]]
            assert files[f"{key}.jpg"] == (tmp_path / "out/images" / about["filename"]).read_bytes()
            seen[int(key)] = about["image_id"]
    rows = [i for split in mini.COUNTS for i in Flickr30k(tmp_path / "out", split, counts=mini.COUNTS).image_ids]
    assert [seen[row] for row in range(13)] == rows
    with pytest.raises(program.BuildError, match="holds shards of another size"):
        prepare(raw, shard=5)


def test_shards_are_read_by_webdataset(prepare, raw, mini, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    prepare(raw, shard=3)
    urls = [str(path) for path in sorted((tmp_path / "out/shards").glob("train-*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg", "json"))
    assert len(samples) == 8 and samples[0][0].shape[2] == 3 and len(samples[0][1]["captions"]) == 5


# Memory --------------------------------------------------------------------------------------------------------------

MEASURE = """
import sys
import prepare_flickr30k
code = prepare_flickr30k.main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("PEAK", int(status["VmHWM"].split()[0]) // 1024)  # not ru_maxrss: it keeps what the parent had when it forked
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of one process is read from /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(root, mini, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{root / 'data_scripts'}")
    content, peaks = mini.jpeg(0), []
    for count in (200, 1000):
        images = [
            {
                "filename": f"{k}.jpg",
                "imgid": k,
                "split": "train",
                "sentences": [{"raw": f"Caption {j}."} for j in range(5)],
            }
            for k in range(count)
        ]
        files = {f"{k}.jpg": content for k in range(count)}
        files["dataset_mini.json"] = json.dumps({"dataset": "mini", "images": images}).encode()
        (tmp_path / f"{count}.zip").write_bytes(mini.zipped(files))
        run = [
            sys.executable,
            "-c",
            MEASURE,
            "--source",
            f"{count}.zip",
            "--out",
            str(count),
            "--set",
            "mini",
            "--accept",
        ]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.rpartition("PEAK ")[2]))
    assert peaks[1] < 300 and peaks[1] - peaks[0] < 40, peaks  # megabytes; 800 rows of the cache alone are 157
