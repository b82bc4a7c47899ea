"""Shares one cache between smolt and Python's huggingface_hub, against a Hub on loopback.

What one fetches the other must find offline, both ways. Not part of the tests, which need no Python:

    cargo build --release -p smolt-store --example cat
    python crates/store/tests/python_cache.py target/release/examples/cat
"""

import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "data/large.bin": bytes(range(256)) * 20_000,
    "data/deep/er/small.jsonl": b'{"text": "hello"}\n' * 100,
    "README.md": b"# read me\n",
}


def etag(path):
    content = FILES[path]
    if path.endswith(".bin"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(None)

    def answer(self, body):
        Hub.requests += 1
        path = self.path.split("?")[0]
        for revision in ("main", COMMIT):
            start = f"/datasets/owner/name/resolve/{revision}/"
            if path.startswith(start) and path[len(start):] in FILES:
                return self.file(path[len(start):], redirect=path.endswith(".bin"))
        if path.startswith("/storage/"):
            return self.file(path[len("/storage/"):], redirect=False)
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def file(self, name, redirect):
        content = FILES[name]
        self.send_response(302 if redirect else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag(name)}"')
        if redirect:
            self.send_header("X-Linked-Etag", f'"{etag(name)}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/storage/{name}")
            content = b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def main():
    cat = sys.argv[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    base |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}

    def smolt(environment, path):
        return subprocess.run([cat, f"hf://datasets/owner/name/{path}"], env=environment, check=True, capture_output=True).stdout

    def python(environment, path):
        code = (
            "import sys, huggingface_hub as h; "
            "sys.stdout.buffer.write(open(h.hf_hub_download('owner/name', sys.argv[1], repo_type='dataset'), 'rb').read())"
        )
        return subprocess.run([sys.executable, "-c", code, path], env=environment, check=True, capture_output=True).stdout

    for first, second in ((smolt, python), (python, smolt)):
        with tempfile.TemporaryDirectory() as home:
            online = base | {"HF_HOME": home}
            for path, content in FILES.items():
                assert first(online, path) == content, (first.__name__, path)
            asked = Hub.requests
            for path, content in FILES.items():
                assert second(online | {"HF_HUB_OFFLINE": "1"}, path) == content, (second.__name__, path)
            assert Hub.requests == asked, "offline asked the network"
            # Online, the second one asks for the headers only and takes the content from the cache.
            for path, content in FILES.items():
                assert second(online, path) == content
            tree = sorted(
                os.path.relpath(os.path.join(folder, name), home)
                for folder, _, names in os.walk(os.path.join(home, "hub", "datasets--owner--name"))
                for name in names
            )
            print(f"{first.__name__} → {second.__name__}: {len(FILES)} files found offline, {Hub.requests - asked} requests online after")
            print("\n".join("  " + name for name in tree))


main()
