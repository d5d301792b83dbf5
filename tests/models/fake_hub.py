"""A hub on loopback: folders in, what huggingface_hub asks of the real one out, over HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Serves repositories of one branch, `main`, each with some commits.

    Attributes:
        repositories: `owner/name` to commits, oldest first: the commit's hash and its folder.
        gated: names whose files no token is good enough for.
        closed: whether any token is refused, whatever is asked for.
        fetched: names of the files that were downloaded.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, Path]]) -> None:
        self.repositories = repositories
        self.gated: set[str] = set()
        self.closed = False
        self.fetched: list[str] = []
        self.address = ""

    def environment(self, cache: Path) -> dict[str, str]:
        """What a process needs to take this hub for the real one, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if self.closed:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commits = dict(self.repositories[name])
        commits["main"] = list(commits.values())[-1]
        what, revision, *rest = parts[4:] if api else parts[2:]
        if revision not in commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        folder = commits[revision]
        commit = next(hash for hash, path in commits.items() if path == folder)
        if what == "resolve":
            return self._file(name, folder, commit, "/".join(rest))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in files]
        found = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in names]}
        tree = [
            {"type": "file", "path": file, "size": path.stat().st_size, "oid": _etag(path)}
            for file, path in zip(names, files, strict=True)
        ]
        body = json.dumps(tree if what == "tree" else found).encode()
        return 200, {"Content-Type": "application/json"}, body

    def _file(
        self, name: str, folder: Path, commit: str, file: str
    ) -> tuple[int, dict[str, str], bytes]:
        if name in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        path = folder / file
        return 200, {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": commit}, path.read_bytes()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def fake_hub(repositories: Mapping[str, Mapping[str, Path]]) -> Iterator[FakeHub]:
    """The hub while it serves."""
    hub = FakeHub(repositories)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._send(*hub.answer(self.path), body_too=False)

        def do_GET(self) -> None:
            if "/resolve/" in self.path:
                hub.fetched.append(self.path.rpartition("/")[2])
            self._send(*hub.answer(self.path))

        def _send(
            self, status: int, headers: dict[str, str], body: bytes, body_too: bool = True
        ) -> None:
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(header, value)
            self.end_headers()
            if body_too:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
