"""What the Hub double remembers: repositories with their commits, and the bytes of their files."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

USER = "tester"
ORGANISATIONS = ("org",)
TOKEN = "hf_test"  # long enough for the clients, too short to look like a real one


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit: where its bytes are, and the ids that git and LFS give it."""

    sha256: str
    size: int
    git_oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    sha: str
    parent: str | None
    title: str
    date: str
    files: dict[str, StoredFile]


@dataclass
class Repository:
    """A model, data set or Space with its whole history."""

    kind: str
    id: str
    private: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, StoredFile], title: str) -> str:
        """Add a commit to `branch` and return its sha."""
        parent = self.branches.get(branch)
        content = sorted((path, stored.git_oid) for path, stored in files.items())
        sha = hashlib.sha1(json.dumps([content, parent, title, len(self.commits)]).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, now(), dict(files))
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The sha of a branch, tag or sha; None when there is none."""
        name = unquote(revision)
        return self.branches.get(name) or self.tags.get(name) or (name if name in self.commits else None)


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubState:
    """Everything the double remembers. `log` lists (method, path, status) in the order of the answers."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens = {TOKEN}
        self.read_only_tokens: set[str] = set()
        self.log: list[tuple[str, str, int]] = []
        self.lock = threading.RLock()

    def store(self, content: bytes, *, lfs: bool = False) -> StoredFile:
        """Keep `content` and return how a commit refers to it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        return StoredFile(sha256, len(content), _git_oid(pointer if lfs else content), lfs)
