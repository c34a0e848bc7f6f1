"""A web server on this machine that serves a miniature of Flickr30k's sources and misbehaves as told.

with WebServer() as server:
    server.files["/flickr/images.zip"] = content
    server.plans["/flickr/images.zip"] = [status(503), cut(1000)]   # first request, second request, then as it should
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def status(code, **headers):
    """Answer with a state and no file."""
    return {"status": code, "headers": {name.replace("_", "-"): value for name, value in headers.items()}}


def cut(after):
    """Promise everything, send `after` bytes, hang up."""
    return {"cut": after}


def lie(length):
    """Promise `length` bytes, whatever there is."""
    return {"length": length}


def hold(after, reached, go_on):
    """Send `after` bytes, set the event `reached`, and wait for `go_on` before hanging up."""
    return {"cut": after, "reached": reached, "go_on": go_on}


NO_RANGE = {"no_range": True}  # send the whole file, whatever part was asked for
WRONG_RANGE = {"wrong_range": True}  # send another part than was asked for
NAMELESS = {"nameless": True}  # neither ETag nor length


class WebServer:
    """files: path -> content. headers: path -> extra headers. plans: path -> what the next GETs get instead.

    log: (method, path, headers) of every request.
    """

    def __init__(self):
        self.files, self.headers, self.plans, self.log = {}, {}, {}, []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.other_url = f"http://localhost:{self._server.server_address[1]}"  # the same, but another host by name

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def gets(self, path):
        """Headers of the GETs of a path, in order."""
        return [headers for method, where, headers in self.log if method == "GET" and where == path]

    def hub(self, repository, files, licence="other"):
        """Serve a data set of a hub: its listing as the hub's API gives it, and its files."""
        commit, siblings = "c" * 40, []
        for name, content in files.items():
            entry = {"rfilename": name, "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name.endswith((".zip", ".tar", ".csv")):  # big files stand in LFS
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
            self.files[f"/datasets/{repository}/resolve/{commit}/{name}"] = content
        about = {"id": repository, "sha": commit, "siblings": siblings, "cardData": {"license": licence}}
        about |= {"private": False, "downloads": 1, "likes": 0, "tags": []}
        self.files[f"/api/datasets/{repository}"] = json.dumps(about).encode()
        return f"/datasets/{repository}/resolve/{commit}/"

    def kaggle(self, dataset, archive, total=None):
        """Serve a data set of Kaggle's API: its description, and the archive behind a redirect to another host."""
        about = {"ref": dataset, "totalBytes": total or len(archive), "licenseName": "CC0: Public Domain"}
        self.files[f"/api/v1/datasets/view/{dataset}"] = json.dumps(about).encode()
        self.plans[f"/api/v1/datasets/download/{dataset}"] = [status(302, Location=f"{self.other_url}/bucket.zip")] * 99
        self.files["/bucket.zip"] = archive
        return "/bucket.zip"

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(False)

            def do_GET(self):
                self.answer(True)

            def log_message(self, *text):
                pass

            def answer(self, with_body):
                path = self.path.partition("?")[0]
                server.log.append((self.command, path, dict(self.headers)))
                plan = server.plans.get(path, []) if with_body else []
                step = plan.pop(0) if plan else {}
                if "status" in step:
                    return self.head(step["status"], step["headers"] | {"Content-Length": "0"})
                content = server.files.get(path)
                if content is None:
                    return self.head(404, {"Content-Length": "0"})
                headers = {"ETag": f'"{hashlib.md5(content).hexdigest()[:8]}"'} | server.headers.get(path, {})
                code, start = 200, self.start(content, headers, step)
                if start is not None and start >= len(content):
                    return self.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                if start is not None:
                    code, body = 206, content[start:]
                    claimed = 0 if step.get("wrong_range") else start
                    headers["Content-Range"] = f"bytes {claimed}-{len(content) - 1}/{len(content)}"
                else:
                    body = content
                headers["Content-Length"] = str(step.get("length", len(body)))
                if step.get("nameless"):
                    del headers["Content-Length"], headers["ETag"]
                self.head(code, headers)
                if with_body:
                    self.wfile.write(
                        body[: min(step.get("cut", len(body)), int(headers.get("Content-Length", 1 << 40)))]
                    )
                    self.wfile.flush()
                    if "reached" in step:
                        step["reached"].set()
                        step["go_on"].wait(20)
                return None

            def start(self, content, headers, step):
                match = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
                unchanged = self.headers.get("If-Range") in (None, headers.get("ETag"))
                return int(match[1]) if match and unchanged and not step.get("no_range") else None

            def head(self, code, headers):
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

        return Handler
