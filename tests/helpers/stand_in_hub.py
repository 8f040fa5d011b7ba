"""A hub of models on this machine: what huggingface_hub asks of a server to make a repository, fill it and read it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_nobody"
COMMIT = "0" * 40


class Hub:
    """What lies on it.

    Attributes:
        files: of each repository, by path.
        private: of each repository, whether it is.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.address = ""

    def create(self, wanted: dict) -> tuple[int, dict]:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.files
        self.files.setdefault(name, {})
        self.private.setdefault(name, wanted.get("visibility") == "private" or wanted.get("private") is True)
        return (409 if there else 200), {"url": f"{self.address}/{name}"}

    def commit(self, name: str, lines: list[dict]) -> dict:
        for line in lines:
            if line["key"] == "file":
                assert line["value"]["encoding"] == "base64"
                self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"{self.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""}


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """A server on loopback for as long as it is used."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, payload: bytes, **headers: str) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(payload)))
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        def say(self, code: int, values: dict) -> None:
            self.answer(code, json.dumps(values).encode(), Content_Type="application/json")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.partition("?")[0]
            if path == "/api/validate-yaml":
                self.say(200, {"warnings": [], "errors": []})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.say(401, {"error": "Invalid credentials"})
            elif path == "/api/repos/create":
                self.say(*hub.create(json.loads(body)))
            elif "/preupload/" in path:
                paths = [file["path"] for file in json.loads(body)["files"]]
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self.say(200, {"files": [{"path": file, **how} for file in paths]})
            elif "/commit/" in path:
                name = path.removeprefix("/api/models/").partition("/commit/")[0]
                self.say(200, hub.commit(name, [json.loads(line) for line in body.splitlines()]))
            else:
                self.say(404, {"error": path})

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            if path.startswith("api/models/"):
                name = path.removeprefix("api/models/").partition("/revision/")[0]
                if name in hub.files:
                    listed = [{"rfilename": file} for file in hub.files[name]]
                    self.say(200, {"id": name, "sha": COMMIT, "siblings": listed})
                else:
                    self.say(404, {"error": "Repository not found"})
                return
            name, _, file = path.partition("/resolve/main/")
            payload = hub.files.get(name, {}).get(file)
            if payload is None:
                self.answer(404, b"", X_Error_Code="EntryNotFound")
            else:
                etag = f'"{hashlib.sha1(payload).hexdigest()}"'
                self.answer(200, payload, ETag=etag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def log_message(self, *ignored: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
