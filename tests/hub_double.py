"""A Hugging Face Hub on 127.0.0.1 for tests, in memory: what huggingface_hub, datasets and transformers ask of one.

Serves create, preupload, LFS upload, commit, list, tree, paths-info, resolve (what LFS keeps by a redirection, with
Range), branches, tags, pull requests, settings, private and gated repositories and Spaces. Faults and rate limits are
made on purpose. It has no Xet, no quotas, no plain discussions, and knows only a few rules of a card.

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

from hub_http import HubRequest
from hub_routes import ROUTES
from hub_state import TOKEN, Fault, HubState, Limit, Repository


class HubDouble:
    """The server as a context manager. `url` is its address; user `tester` (token `hf_test`) owns organisation `org`.

    User `guest` (token `hf_guest`) owns nothing.
    """

    def __init__(self, port: int = 0) -> None:
        self.state = HubState()
        handler = type("BoundRequest", (HubRequest,), {"state": self.state, "routes": ROUTES})
        # Content lies on a host of its own, as on the Hub: clients must not carry their token there.
        self._servers = [ThreadingHTTPServer(("127.0.0.1", number), handler) for number in (port, 0)]
        for server in self._servers:
            server.daemon_threads = True
        self.url, self.state.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> HubDouble:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def serve_forever(self) -> None:
        """Serve until interrupted."""
        with self:
            threading.Event().wait()

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

    def fail(
        self,
        pattern: str,
        *numbers: int,
        status: int = 0,
        headers: dict[str, str] | None = None,
        delay: float = 0.0,
        cut_after: int | None = None,
        lose_answer: bool = False,
    ) -> Fault:
        """Let requests fail whose `METHOD /path` matches: those with these numbers (from 1), or all.

        `status` is answered instead; `cut_after` drops the connection after so many bytes of the request's body;
        `lose_answer` carries the request out and drops the connection; `delay` waits (seconds). The fault counts the
        requests it `met`.
        """
        fault = Fault(pattern, numbers or None, status, headers or {}, delay, cut_after, lose_answer)
        self.state.faults.append(fault)
        return fault

    def limit(self, pattern: str, quota: int, window: float) -> None:
        """Answer 429 with the Hub's RateLimit headers to more than `quota` matching requests in `window` seconds."""
        self.state.limits.append(Limit(pattern, quota, window))


if __name__ == "__main__":
    hub = HubDouble(int(sys.argv[1]) if len(sys.argv) > 1 else 8377)
    print(hub.url, flush=True)
    hub.serve_forever()
