"""The three kinds of caption file say the same, and a set that is not Karpathy's is refused."""

import json

import pytest

from course_utils.caption_files import (
    COUNTS,
    CaptionSet,
    Picture,
    caption_rank,
    check_set,
    find_captions,
    read_captions,
)


@pytest.fixture()
def mini(script):
    return script("tests/miniature.py")


def put(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def test_three_kinds_say_the_same(mini, tmp_path):
    kinds = [{"dataset_flickr30k.json": mini.karpathy()}, {"flickr_annotations_30k.csv": mini.hub_csv()}, mini.token()]
    found = []
    for k, files in enumerate(kinds):
        (tmp_path / str(k)).mkdir()
        path = put(tmp_path / str(k), files)
        assert find_captions(tmp_path / str(k)) == path
        found.append(read_captions(path))
    assert found[0] == found[1] == found[2]
    assert found[0].counts == mini.COUNTS and found[0].dataset == "flickr30k"
    first = found[0].pictures[1]
    name = mini.NAMES[1]
    assert first == Picture(name, 1, "test", tuple(mini.CAPTIONS[name]), (5, 6, 7, 8, 9))


def test_rows_go_train_val_test_and_the_written_json_is_read_again(mini, tmp_path):
    captions = read_captions(put(tmp_path, {"dataset_flickr30k.json": mini.karpathy()})).sorted()
    assert [one.split for one in captions.pictures] == ["train"] * 8 + ["val"] * 2 + ["test"] * 3
    ids = [one.image_id for one in captions.pictures if one.split == "train"]
    assert ids == sorted(ids)
    (tmp_path / "captions.json").write_text(captions.to_json(), encoding="utf-8")
    assert read_captions(tmp_path / "captions.json") == captions


def test_more_than_five_captions_are_kept_where_karpathy_has_them_and_dropped_from_the_token_file(mini, tmp_path):
    content = json.loads(mini.karpathy())
    content["images"][0]["sentences"].append({"raw": "A sixth.", "sentid": 999, "imgid": 0})
    path = put(tmp_path, {"dataset_x.json": json.dumps(content).encode()})
    assert len(read_captions(path).pictures[0].captions) == 6
    files = mini.token()
    files["results_20130124.token"] += f"{mini.NAMES[0]}#5\tA sixth.\n".encode()
    assert len(read_captions(put(tmp_path, files)).pictures[0].captions) == 5


def test_a_list_as_python_writes_it_and_a_mark_at_the_start(mini, tmp_path):
    row = 'raw,sentids,split,filename,img_id\n"[\'A dog.\', ""It\'s a cat.""]","[7, 8]",test,1.jpg,3\n'
    path = put(tmp_path, {"annotations.csv": b"\xef\xbb\xbf" + row.encode()})
    assert read_captions(path).pictures[0].captions == ("A dog.", "It's a cat.")


def test_marks_at_the_start_and_odd_line_breaks_lose_no_caption(mini, tmp_path):
    files = {name: b"\xef\xbb\xbf" + content for name, content in mini.token().items()}
    first = b"\xef\xbb\xbf" + mini.karpathy()
    assert read_captions(put(tmp_path, files)) == read_captions(put(tmp_path, {"dataset_flickr30k.json": first}))
    text = files["results_20130124.token"].replace(b"\n", "\u2028after it\r\n".encode())
    pictures = read_captions(put(tmp_path, {"results_20130124.token": text})).pictures
    assert all(one.endswith("\u2028after it") for picture in pictures for one in picture.captions)


def test_only_the_whole_set_is_flickr30k(mini, tmp_path):
    captions = read_captions(put(tmp_path, {"dataset_flickr30k.json": mini.karpathy()}))
    with pytest.raises(
        ValueError, match=r"not the set flickr30k: it has train 8, val 2, test 3, .* train 29,000, val 1,014"
    ):
        check_set(captions)
    check_set(captions, counts=mini.COUNTS)
    with pytest.raises(ValueError, match="declare the set 'flickr30k', but 'scenes' was asked for"):
        check_set(captions, "scenes")
    other = CaptionSet("scenes", captions.pictures)
    check_set(other, "scenes")
    with pytest.raises(ValueError, match="declare the set 'scenes', but 'flickr30k' was asked for. .*--set scenes"):
        check_set(other)
    whole = [
        Picture(f"{split}{k}.jpg", n, split, ("a",) * 5, tuple(range(5 * n, 5 * n + 5)))
        for n, (split, k) in enumerate((split, k) for split, number in COUNTS.items() for k in range(number))
    ]
    check_set(CaptionSet("flickr30k", tuple(whole)))
    whole[7] = Picture("train7.jpg", 7, "train", ("a",) * 4, (35, 36, 37, 38))
    with pytest.raises(ValueError, match=r"train7.jpg has 4 captions, not 5 \(1 such"):
        check_set(CaptionSet("flickr30k", tuple(whole)))


def edited(change):
    """Karpathy's JSON with a change in its list of pictures."""

    def files(mini):
        content = json.loads(mini.karpathy())
        change(content["images"])
        return {"dataset_flickr30k.json": json.dumps(content).encode()}

    return files


def file(name, content):
    return lambda mini: {name: content}


def cut_json(mini):
    return {"dataset_x.json": mini.karpathy()[:-9]}


def cut_token(mini):
    return mini.token() | {"results_20130124.token": mini.token()["results_20130124.token"][:300]}


def twice_token(mini):
    text = mini.token()["results_20130124.token"]
    return mini.token() | {"results_20130124.token": text + text[: text.index(b"\n") + 1]}


def bad_token(mini):
    return mini.token() | {"results_20130124.token": b"1.jpg A dog.\n"}


BAD = [
    (cut_json, "is not whole JSON .* Fetch the file again"),
    (file("captions.json", b'{"annotations": []}'), 'has no list called "images"'),
    (file("captions.json", b"[]"), "not in Karpathy's format"),
    (file("dataset_x.json", '{"images": "é"}'.encode("latin-1")), "is not UTF-8 text"),
    (edited(lambda images: images[2].pop("split")), r"images\[2\]: 'split' is missing"),
    (edited(lambda images: images[2].update(split="restval")), r"images\[2\] \(.*unknown split 'restval'"),
    (edited(lambda images: images[3].update(sentences=[])), r"images\[3\]: the picture .* has no captions"),
    (edited(lambda images: images[3]["sentences"][0].update(raw=" ")), "has an empty caption"),
    (edited(lambda images: images[0].update(filename="../../x.jpg")), "is no plain name of a picture file"),
    (edited(lambda images: images[0].update(filename="C:\\x.jpg")), "is no plain name"),
    (edited(lambda images: images[4].update(split=["train"])), r"images\[4\] .*unknown split \['train'\]"),
    (edited(lambda images: images[4].update(imgid=None)), r"images\[4\] .*'None' is no whole number"),
    (edited(lambda images: images[4].update(imgid=1.5)), r"'1.5' is no whole number"),
    (edited(lambda images: images[4].update(imgid=1e400)), r"'inf' is no whole number"),
    (edited(lambda images: images[4].update(imgid=10**30)), r"'1000.*' is no whole number"),
    (edited(lambda images: images[4]["sentences"][0].update(sentid="x")), r"images\[4\] .*'x' is no whole number"),
    (file("captions.json", b"[" * 100_000), "is not whole JSON .*recursion"),
    (edited(lambda images: images.append(images[0])), "picture '1000092795.jpg' comes 2 times"),
    (edited(lambda images: images[1].update(imgid=0)), "picture number 0 comes 2 times"),
    (file("x_annotations.csv", b"image,caption\n1.jpg,A dog.\n"), "no column 'raw'.* has image, caption"),
    (file("x_annotations.csv", b""), "no column 'raw'.* has nothing"),
    (file("x_annotations.csv", b"raw,split,filename\nA dog.,train,1.jpg\n"), "line 2: 'A dog.' is not a list"),
    (file("x_annotations.csv", b"raw,split,filename\n" + b"a" * 200_000), "not a whole CSV file .*field limit"),
    (file("x_annotations.csv", b"raw,split,filename\n\"['a', {[]: 1}]\",train,1.jpg\n"), "line 2: .* is not a list"),
    (twice_token, r"line \d+: 1000092795.jpg#0 was there before"),
    (bad_token, r"line 1: '1.jpg A dog.' is not NAME"),
    (cut_token, "is on a split's list, but has no captions"),
]


@pytest.mark.parametrize(("files", "says"), BAD)
def test_a_bad_caption_file_is_one_clear_error(mini, tmp_path, files, says):
    with pytest.raises(ValueError, match=says):
        read_captions(put(tmp_path, files(mini)))


def test_a_token_file_alone_has_no_split(mini, tmp_path):
    path = put(tmp_path, {"results_20130124.token": mini.token()["results_20130124.token"]})
    with pytest.raises(FileNotFoundError, match="does not say which picture belongs to which split.*dataset_flickr30k"):
        read_captions(path)


def test_which_file_holds_the_captions(mini, tmp_path):
    names = ["dataset_flickr30k.json", "captions.json", "flickr_annotations_30k.csv", "results_20130124.token"]
    ranks = [caption_rank(name) for name in names]
    assert ranks == sorted(ranks)
    assert caption_rank("train.txt") is not None and caption_rank("flickr30k_val.txt") is not None
    assert [caption_rank(name) for name in ("readme.md", "manifest.json", "results.csv", "notes.txt")] == [None] * 4
    with pytest.raises(FileNotFoundError, match="holds no caption file. Put dataset_flickr30k.json"):
        find_captions(tmp_path)
    for hidden in (".hidden", "__MACOSX"):
        (tmp_path / hidden).mkdir()
        put(tmp_path / hidden, {"dataset_flickr30k.json": b""})
    (tmp_path / "deep").mkdir()
    put(tmp_path / "deep", {"captions.json": b""})
    assert find_captions(tmp_path) == tmp_path / "deep/captions.json"
    with pytest.raises(FileNotFoundError, match="is not there"):
        read_captions(tmp_path / "gone.json")
    with pytest.raises(ValueError, match=r"captions are read from \.json, \.csv, \.token, not from \.xlsx"):
        read_captions(tmp_path / "captions.xlsx")
