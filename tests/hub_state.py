"""What the Hub double remembers: users, repositories with their commits, the bytes of their files, faults to come."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

USER = "tester"
ORGANISATIONS = ("org",)  # of which `tester` alone is a member
TOKEN = "hf_test"  # long enough for the clients, too short to look like a real one
GUEST = "guest"
GUEST_TOKEN = "hf_guest"  # a user who owns nothing


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
class PullRequest:
    """A proposal: its branch is `refs/pr/<number>`."""

    number: int
    title: str
    author: str
    status: str = "open"  # draft, open, merged
    merge_commit: str | None = None


@dataclass
class Repository:
    """A model, data set or Space with its whole history. `access` is user -> accepted, rejected or pending."""

    kind: str
    id: str
    private: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs_objects: set[str] = field(default_factory=set)  # that were uploaded, whether a commit names them or not
    access: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def gated(self) -> str | bool:
        return self.settings.get("gated") or False

    def commit(self, branch: str, files: dict[str, StoredFile], title: str) -> str:
        """Add a commit to `branch` and return its sha."""
        parent = self.branches.get(branch)
        content = sorted((path, stored.git_oid) for path, stored in files.items())
        sha = hashlib.sha1(json.dumps([content, parent, title, len(self.commits)]).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, now(), dict(files))
        self.branches[branch] = sha
        self.lfs_objects |= {stored.sha256 for stored in files.values() if stored.lfs}
        return sha

    def resolve(self, revision: str) -> str | None:
        """The sha of a branch, tag, sha or the beginning of one (seven characters or more); None when there is none."""
        name = unquote(revision)
        found = self.branches.get(name) or self.tags.get(name)
        if found or len(name) < 7:
            return found
        matching = [sha for sha in self.commits if sha.startswith(name)]
        return matching[0] if len(matching) == 1 else None

    def history(self, sha: str | None) -> list[Commit]:
        """The commits from `sha` back to the first."""
        found = []
        while sha is not None:
            found.append(self.commits[sha])
            sha = self.commits[sha].parent
        return found


@dataclass
class Fault:
    """What goes wrong with some requests: those whose `METHOD /path` matches, by number (from 1), or all of them."""

    pattern: str
    numbers: tuple[int, ...] | None = None
    status: int = 0  # answered instead; 0 leaves the request alone
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before anything is read
    cut_after: int | None = None  # bytes of the request's body that are read before the connection is dropped
    lose_answer: bool = False  # the request is carried out, and the connection dropped before the answer
    met: int = 0  # requests that matched so far


@dataclass
class Limit:
    """At most `quota` requests in `window` seconds, as the Hub's RateLimit headers tell; more get a 429."""

    pattern: str
    quota: int
    window: float
    answered: deque[float] = field(default_factory=deque)

    def seconds_to_wait(self) -> float:
        """0 when one more request is free, which is counted then."""
        at = time.monotonic()
        while self.answered and self.answered[0] <= at - self.window:
            self.answered.popleft()
        if len(self.answered) < self.quota:
            self.answered.append(at)
            return 0.0
        return self.window - (at - self.answered[0])


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubState:
    """Everything the double remembers.

    `log` lists (method, path, status) in the order of the answers; `uploads` lists (sha256, bytes) of LFS content that
    clients sent, and `received` counts all bytes of it, those of uploads that were cut off included.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.users = {TOKEN: USER, GUEST_TOKEN: GUEST}
        self.read_only_tokens: set[str] = set()
        self.log: list[tuple[str, str, int]] = []
        self.uploads: list[tuple[str, int]] = []
        self.received = 0
        self.faults: list[Fault] = []
        self.limits: list[Limit] = []
        self.storage_url = ""  # where content is put and fetched
        self.lock = threading.RLock()

    def forget(self) -> None:
        """Begin anew, as a Hub that nobody has used yet."""
        for things in (self.repositories, self.blobs, self.read_only_tokens, self.log, self.uploads):
            things.clear()
        self.faults.clear()
        self.limits.clear()
        self.received = 0

    def user_of(self, token: str) -> str | None:
        """Who a token belongs to; read-only tokens are the tester's. None for an unknown one."""
        return USER if token in self.read_only_tokens else self.users.get(token)

    def is_owner(self, user: str | None, repository: Repository) -> bool:
        """Whether the repository is the user's own or that of an organisation of theirs."""
        return user is not None and (user == repository.owner or (user == USER and repository.owner in ORGANISATIONS))

    def fault_of(self, request: str) -> Fault | None:
        """The fault that this request (`METHOD /path`) meets; every fault that matches counts it."""
        with self.lock:
            hit = None
            for fault in self.faults:
                if re.search(fault.pattern, request):
                    fault.met += 1
                    if hit is None and (fault.numbers is None or fault.met in fault.numbers):
                        hit = fault
            return hit

    def store(self, content: bytes, *, lfs: bool = False) -> StoredFile:
        """Keep `content` and return how a commit refers to it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        return StoredFile(sha256, len(content), _git_oid(pointer if lfs else content), lfs)
