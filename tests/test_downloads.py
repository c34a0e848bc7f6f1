"""Fetching big files from servers that fail: resumed, checked, patient, and complete or absent."""

import base64
import email.utils
import gzip
import hashlib
import os
import threading
import time
from types import SimpleNamespace

import pytest

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes: more than one block on the way


@pytest.fixture()
def web(script):
    return script("tests/web_server.py")


@pytest.fixture()
def server(web):
    with web.WebServer() as server:
        server.files["/big.bin"] = CONTENT
        yield server


@pytest.fixture()
def downloads(script, monkeypatch):
    """The module, with pauses noted instead of slept."""
    module = script("data_scripts/downloads.py")
    pauses = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pauses.append, time=time.time))
    monkeypatch.setattr(module, "BLOCK", 1 << 16)
    module.pauses = pauses
    return module


@pytest.fixture()
def get(downloads, server, tmp_path):
    """Fetch /big.bin; keywords go to Remote."""

    def fetch(check=None, path="/big.bin", **about):
        return downloads.fetch(downloads.Remote(server.url + path, "big.bin", **about), tmp_path / "got", check)

    return fetch


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "got").iterdir())


def test_a_file_comes_once_and_whole(get, server, tmp_path):
    assert get().read_bytes() == CONTENT and names(tmp_path) == ["big.bin"]
    get()
    assert len(server.log) == 1


def test_a_broken_connection_is_resumed_where_it_broke(get, server, web, downloads, tmp_path):
    server.plans["/big.bin"] = [web.cut(300_000), web.cut(200_000), web.cut(1)]
    assert get().read_bytes() == CONTENT and names(tmp_path) == ["big.bin"]
    starts = [headers.get("Range") for headers in server.gets("/big.bin")]
    assert starts == [None, "bytes=300000-", "bytes=500000-", "bytes=500001-"]
    assert len(downloads.pauses) == 3 and max(downloads.pauses) < 2  # each attempt brought something


def test_a_later_run_goes_on_from_the_part(get, server, web, downloads, tmp_path):
    server.plans["/big.bin"] = [web.cut(300_000)] + [web.status(503)] * 50
    with pytest.raises(downloads.BuildError, match="answers 503 .*6 times. Run the same command later: it goes on"):
        get()
    assert downloads.pauses[1:] == sorted(downloads.pauses[1:]) and downloads.pauses[-1] > 8 * 0.75  # it doubles
    assert names(tmp_path) == ["big.bin.part", "big.bin.part.json"]
    server.plans.clear()
    assert get().read_bytes() == CONTENT
    assert server.gets("/big.bin")[-1]["Range"] == "bytes=300000-"


def test_a_file_that_changed_in_between_is_fetched_anew(get, server, web, downloads):
    server.plans["/big.bin"] = [web.cut(300_000)] + [web.status(503)] * 50
    with pytest.raises(downloads.BuildError):
        get()
    server.plans.clear()
    server.files["/big.bin"] = CONTENT[::-1]
    assert get().read_bytes() == CONTENT[::-1]


def test_a_server_that_ignores_ranges_starts_over(get, server, web):
    server.plans["/big.bin"] = [web.cut(300_000), web.NO_RANGE]
    assert get().read_bytes() == CONTENT


def test_a_server_that_sends_another_part_is_not_believed(get, server, web):
    server.plans["/big.bin"] = [web.cut(300_000), web.WRONG_RANGE]
    assert get().read_bytes() == CONTENT
    assert "Range" not in server.gets("/big.bin")[-1]


def test_a_server_that_neither_resumes_nor_finishes_is_given_up(get, server, web, downloads):
    server.plans["/big.bin"] = [web.cut(300_000) | web.NO_RANGE] * 50
    with pytest.raises(downloads.BuildError, match="ends after 300,000 of 1,024,000 bytes, 6 times"):
        get()


def test_a_length_that_promises_too_much(get, server, web, downloads, tmp_path):
    server.plans["/big.bin"] = [web.lie(len(CONTENT) + 5)] * 50
    with pytest.raises(downloads.BuildError, match="6 times"):
        get()
    assert "big.bin" not in names(tmp_path)


def test_a_length_that_promises_too_little_is_seen_where_the_source_lists_it(get, server, web, downloads, tmp_path):
    server.plans["/big.bin"] = [web.lie(1000)] * 50
    with pytest.raises(downloads.BuildError, match="has 1,000 bytes, not 1,024,000, 6 times"):
        get(size=len(CONTENT))
    server.plans["/big.bin"] = [web.lie(1000)]
    assert get(size=len(CONTENT)).read_bytes() == CONTENT


def test_a_length_that_promises_too_little_is_seen_by_the_content(get, server, web, downloads, tmp_path):
    def check(path):
        if not path.read_bytes().endswith(CONTENT[-10:]):
            raise downloads.Damaged("cut short.")

    server.plans["/big.bin"] = [web.lie(1000)]
    assert get(check).read_bytes() == CONTENT
    (tmp_path / "got/big.bin").unlink()
    server.plans["/big.bin"] = [web.lie(1000)] * 9
    with pytest.raises(downloads.BuildError, match="cut short. It came twice that way"):
        get(check)
    assert names(tmp_path) == []


def test_a_server_that_falls_silent_is_left(get, server, web, downloads, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    go_on = threading.Event()
    server.plans["/big.bin"] = [web.hold(300_000, threading.Event(), go_on)]
    assert get().read_bytes() == CONTENT
    go_on.set()
    assert server.gets("/big.bin")[1]["Range"] == "bytes=262144-"  # whole blocks of 64 KiB


def test_no_length_at_all(get, server, web):
    server.plans["/big.bin"] = [web.NAMELESS]
    assert get().read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "md5", "git"])
def test_hashes_of_the_source_are_compared(get, downloads, server, tmp_path, kind):
    sums = {
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT).hexdigest(),
        "git": hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest(),
    }
    get(hashes={kind: sums[kind]}).unlink()
    server.files["/big.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(downloads.BuildError, match=f"its {kind} begins .* It came twice"):
        get(hashes={kind: sums[kind]})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "header",
    [
        {"ETag": '"' + hashlib.sha256(CONTENT).hexdigest() + '"'},
        {"x-goog-hash": "crc32c=AAAAAA==,md5=" + base64.b64encode(hashlib.md5(CONTENT).digest()).decode()},
        {"Content-MD5": base64.b64encode(hashlib.md5(CONTENT).digest()).decode()},
        {"Repr-Digest": "sha-256=:" + base64.b64encode(hashlib.sha256(CONTENT).digest()).decode() + ":"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_hashes_in_headers_are_compared(get, downloads, server, web, header):
    server.headers["/big.bin"] = header
    server.plans["/big.bin"] = [web.cut(300_000)]
    get().unlink()
    server.files["/big.bin"] = CONTENT[:-1] + b"x"
    server.plans["/big.bin"] = [web.cut(300_000)]
    with pytest.raises(downloads.BuildError, match="is not the file that the source promises"):
        get()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (404, "there is no such file"),
        (410, "no such file"),
        (401, "who you are"),
        (403, "you may not"),
        (418, "another"),
    ],
)
def test_refusals_are_said_at_once(get, server, web, downloads, code, says):
    server.plans["/big.bin"] = [web.status(code)] * 9
    with pytest.raises(downloads.BuildError, match=f"/big.bin answers {code} .*{says}"):
        get()
    assert len(server.log) == 1 and downloads.pauses == []


def test_retry_after_is_kept_in_seconds_and_as_a_date(get, server, web, downloads):
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    server.plans["/big.bin"] = [web.status(429, Retry_After="7"), web.status(503, Retry_After=date), web.status(429)]
    assert get().read_bytes() == CONTENT
    assert downloads.pauses[0] == 7 and 35 < downloads.pauses[1] <= 40 and downloads.pauses[2] < 10


def test_too_long_a_wait_is_handed_to_the_user(get, server, web, downloads):
    server.plans["/big.bin"] = [web.status(429, Retry_After="7200")]
    with pytest.raises(downloads.BuildError, match="asks to wait 120 minutes. Run the same command then"):
        get()


def test_nobody_there(downloads, tmp_path):
    with pytest.raises(downloads.BuildError, match="cannot be reached .*, 6 times"):
        downloads.fetch(downloads.Remote("http://127.0.0.1:9/x", "x.bin"), tmp_path)
    for url in ("ftp://example.org/x", "file:///etc/passwd"):
        with pytest.raises(downloads.BuildError, match="no http or https address"):
            downloads.fetch(downloads.Remote(url, "x.bin"), tmp_path)


def test_secrets_stay_with_their_host(get, server, web):
    server.plans["/secret"] = [web.status(302, Location=server.url + "/big.bin")]
    get(path="/secret", headers={"Authorization": "Bearer mine"}).unlink()
    assert server.gets("/big.bin")[0]["Authorization"] == "Bearer mine"
    server.plans["/secret"] = [web.status(302, Location=server.other_url + "/big.bin"), web.cut(9)]
    get(path="/secret", headers={"Authorization": "Bearer mine"})
    assert "Authorization" not in server.gets("/big.bin")[1]


def test_redirects_to_other_protocols_are_refused(get, server, web, downloads):
    server.plans["/secret"] = [web.status(302, Location="ftp://127.0.0.1/x")]
    with pytest.raises(downloads.BuildError, match="redirects to ftp"):
        get(path="/secret")


def test_secrets_are_not_shown(downloads):
    remote = downloads.Remote("http://me:word@127.0.0.1:9/x?key=k", "x", headers={"Authorization": "Basic s"})
    assert "Basic" not in repr(remote)
    with pytest.raises(downloads.BuildError) as caught:
        downloads.read_text("http://me:word@127.0.0.1:9/x?key=k")
    assert "word" not in str(caught.value) and "key" not in str(caught.value)


def test_compressed_answers_are_refused(get, server, downloads):
    server.files["/big.bin"], server.headers["/big.bin"] = gzip.compress(CONTENT), {"Content-Encoding": "gzip"}
    with pytest.raises(downloads.BuildError, match="sends gzip where plain bytes were asked for"):
        get()


def test_names_with_folders_are_refused(downloads):
    for name in ("../x", "a/b", "", ".hidden", "a\\b"):
        with pytest.raises(downloads.BuildError, match="no plain file name"):
            downloads.Remote("http://127.0.0.1/x", name)


def test_a_full_disk_is_noticed_before_the_body(get, server, downloads, script, monkeypatch, tmp_path):
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr(script("data_scripts/packing.py").shutil, "disk_usage", lambda place: free)
    with pytest.raises(downloads.BuildError, match="has 0 MB free, but this step needs 1 MB"):
        get()


def test_ended_between_the_last_byte_and_the_name(get, server, monkeypatch, tmp_path):
    """Killed after all bytes have come: the next run compares, names, and asks for nothing."""
    real = os.replace

    def dies(source, target):
        if str(target).endswith("big.bin"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        get()
    monkeypatch.setattr(os, "replace", real)
    assert get().read_bytes() == CONTENT and len(server.log) == 1


def test_probe(downloads, server, web):
    assert downloads.probe(server.url + "/big.bin") == len(CONTENT)
    assert downloads.probe(server.url + "/none") is None


def test_a_listing_that_breaks_is_read_again(downloads, server, web):
    server.files["/list"] = b"a list"
    server.plans["/list"] = [web.cut(3), web.status(503)]
    assert downloads.read_text(server.url + "/list") == "a list"
