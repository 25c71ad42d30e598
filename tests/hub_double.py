"""A Hugging Face Hub on 127.0.0.1 for tests, in memory: what huggingface_hub, datasets and transformers ask of one.

Serves create, preupload, LFS upload, commit (with pull requests), list, tree, paths-info, resolve with Range, branches,
tags, settings, private repositories and Spaces. It has no Xet, no gating, no quotas and no rate limits.

In a test, run the client in a subprocess, because the clients read their environment when they are imported:

    with HubDouble() as hub:
        subprocess.run([sys.executable, "-c", code], env=hub.environment(home=tmp_path), check=True)
    assert "README.md" in hub.files("dataset", "org/name")

As a script: `python tests/hub_double.py 8377` serves until it is interrupted.
"""

from __future__ import annotations

import os
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

from hub_routes import HubHandler
from hub_state import TOKEN, HubState, Repository


class HubDouble:
    """The server as a context manager. `url` is its address; user `tester`, organisation `org`, token `hf_test`."""

    def __init__(self, port: int = 0) -> None:
        self.state = HubState()
        handler = type("BoundHandler", (HubHandler,), {"state": self.state})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubDouble:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted."""
        self._server.serve_forever()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The environment of a client process: this Hub, its own cache under `home`, and `token` (None: signed out)."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        return environment | ({"HF_TOKEN": token} if token else {})

    def repository(self, kind: str, repo_id: str) -> Repository:
        """The repository of `kind` (`model`, `dataset`, `space`). Raises `KeyError`."""
        return self.state.repositories[kind, repo_id]

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Path -> content of a repository at a revision. Raises `KeyError`."""
        repository = self.repository(kind, repo_id)
        commit = repository.commits[repository.resolve(revision) or revision]
        return {path: self.state.blobs[stored.sha256] for path, stored in commit.files.items()}


if __name__ == "__main__":
    hub = HubDouble(int(sys.argv[1]) if len(sys.argv) > 1 else 8377)
    print(hub.url, flush=True)
    hub.serve_forever()
