"""Files to a data set repository on the Hub, resumable, without a moment at which a reader sees half of them.

`HfApi.upload_folder` deletes in its first commit, sends the card in any of them, and shows readers each part as it
arrives: a card that says `train-*.parquet` would then load old and new shards together. So large files go to a branch
of their own, some at a time, and one commit on `main` takes them over from there, together with the card and the
deletions. Small pushes need that last commit only. Whatever interrupts, the next run looks what is there and goes on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RevisionNotFoundError

from lpmc_errors import Interrupted
from lpmc_hub import HubError, without_secrets

STAGING_BRANCH = "lpmc-push"  # holds large files until `main` takes them over; deleted then
COMMIT_BYTES = 2_000_000_000  # sent between two commits of the branch; 90 GB make 45 of them
MAX_COMMITS = 60  # of the branch: the Hub lets about 128 an hour through, and a second attempt needs some as well
COMMIT_FILES = 100  # the Hub asks for 50 to 100 files a commit
GROUP_BYTES = 64_000_000  # sent between two steps of the progress bar, or one file where that is larger
MAX_TRIES = 5  # in a row without any progress
LONGEST_WAIT = 600  # seconds that the Hub may ask to wait before the run ends and says so
_PASSING = frozenset({408, 429, 500, 502, 503, 504})  # answers that another attempt may change

Progress = Callable[[int, int, str], None]  # bytes that are there, bytes in all, a word about the present step
_Result = TypeVar("_Result")


class HubAwayError(Interrupted, HubError):
    """The Hub stayed away, asks for patience, or was changed by somebody else; the same command goes on later."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it. `sha256` is None for what git keeps itself; `git_id` is the id of git's blob."""

    size: int
    sha256: str | None
    git_id: str


@dataclass(frozen=True)
class RemoteState:
    """A revision of a repository on the Hub."""

    sha: str
    private: bool
    gated: str  # "auto", "manual" or "" for a repository that is not gated
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class Difference:
    """What a push has to do: `new` and `changed` are sent, `same` is there already. Paths in the repository."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    deleted: tuple[str, ...]


@dataclass
class LocalFiles:
    """The files to publish, with their sizes in bytes and, when one is asked for, their SHA-256 (kept)."""

    directory: Path
    names: Sequence[str]
    sizes: dict[str, int] = field(init=False)
    _written: dict[str, int] = field(init=False)  # when, in nanoseconds
    _sha256: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {name: (self.directory / name).stat() for name in self.names}
        self.sizes = {name: status.st_size for name, status in found.items()}
        self._written = {name: status.st_mtime_ns for name, status in found.items()}

    def check_untouched(self) -> None:
        """Raise `HubAwayError` when a file is not any more what was checked before the push, as in a new build."""
        for name in self.names:
            path = self.directory / name
            status = path.stat() if path.is_file() else None
            if status is None or (status.st_size, status.st_mtime_ns) != (self.sizes[name], self._written[name]):
                raise HubAwayError(path, "changed while the push ran", "run the same command again")

    def is_same(self, name: str, remote: RemoteFile | None) -> bool:
        """Whether the Hub has exactly this file. Reads it only when its size is right."""
        if remote is None or remote.size != self.sizes[name]:
            return False
        if remote.sha256 is not None:
            return self.sha256(name) == remote.sha256
        content = (self.directory / name).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return blob.hexdigest() == remote.git_id

    def sha256(self, name: str) -> str:
        """The hash of a file, read once."""
        if name not in self._sha256:
            digest = hashlib.sha256()
            with (self.directory / name).open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            self._sha256[name] = digest.hexdigest()
        return self._sha256[name]

    def know_sha256(self, name: str, sha256: str) -> None:
        """Keep the hash that the client has computed while it sent the file: 90 GB are not read again for it."""
        self._sha256[name] = sha256

    def operation(self, name: str) -> CommitOperationAdd:
        """What the client is handed. Raises `HubError` when the file is gone."""
        try:
            return CommitOperationAdd(path_in_repo=name, path_or_fileobj=self.directory / name)
        except ValueError as error:
            raise HubError(self.directory / name, "went away while the push ran", "push again") from error

    def difference(self, remote: Mapping[str, RemoteFile], obsolete: Callable[[str], bool]) -> Difference:
        """Compare with the files of a revision; those that are not published any more and `obsolete` get deleted."""
        names = set(self.names)
        same = tuple(name for name in self.names if self.is_same(name, remote.get(name)))
        return Difference(
            new=tuple(name for name in self.names if name not in remote),
            changed=tuple(name for name in self.names if name in remote and name not in set(same)),
            same=same,
            deleted=tuple(sorted(name for name in remote if name not in names and obsolete(name))),
        )


@dataclass(frozen=True)
class Uploaded:
    """What an upload did. `sent` are the files that this run handed over, in bytes and by number."""

    revision: str
    commits: int
    sent_files: int
    sent_bytes: int
    deleted: tuple[str, ...]


def remote_state(api: HfApi, repo_id: str, revision: str | None = None) -> RemoteState:
    """Look a data set repository up, with the ids of all its files. Raises what huggingface_hub raises."""
    info = api.dataset_info(repo_id, revision=revision, files_metadata=True)
    files = {
        file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id or "")
        for file in info.siblings or ()
    }
    return RemoteState(str(info.sha), bool(info.private), str(info.gated or ""), files)


class HubUpload:
    """One push: brings a repository's `main` to the state of the local files, in as many attempts as it takes."""

    def __init__(
        self,
        api: HfApi,
        repo_id: str,
        files: LocalFiles,
        *,
        message: str,
        obsolete: Callable[[str], bool],
        guard: Callable[[RemoteState], None],
        progress: Progress,
    ) -> None:
        """`guard` looks at what is there before anything is sent, and raises to stop the push."""
        self._api = api
        self._repo_id = repo_id
        self._files = files
        self._message = message
        self._obsolete = obsolete
        self._guard = guard
        self._progress = progress
        self._total = sum(files.sizes.values())
        self._there = 0  # bytes known to be on the Hub; grows within an attempt
        self._sent: set[str] = set()
        self._commits = 0

    def run(self) -> Uploaded:
        """Send what is missing and publish it in one commit.

        Raises `HubAwayError` after `MAX_TRIES` attempts in a row that moved nothing, when the Hub asks for more than
        `LONGEST_WAIT` seconds, or when `main` changed under way; and what huggingface_hub raises for a refusal.
        """
        return patiently(self._attempt, self._say, moved=lambda: (len(self._sent), self._commits))

    def _attempt(self) -> Uploaded:
        state = remote_state(self._api, self._repo_id)
        self._guard(state)
        self._there = 0
        self._progress(0, self._total, "comparing")
        todo = self._files.difference(state.files, self._obsolete)
        self._arrived(todo.same)
        missing = [*todo.new, *todo.changed]
        revision = state.sha
        if missing or todo.deleted:
            revision = self._publish(state, missing, todo.deleted)
        self._drop_branch()
        sent = sum(self._files.sizes[name] for name in self._sent)
        return Uploaded(revision, self._commits, len(self._sent), sent, todo.deleted)

    def _publish(self, state: RemoteState, missing: list[str], deleted: Sequence[str]) -> str:
        large = [name for name in missing if name.endswith(".parquet")]
        staged = ""
        if sum(self._files.sizes[name] for name in large) > COMMIT_BYTES or len(large) > COMMIT_FILES:
            staged = self._stage(large)
            additions = [self._files.operation(name) for name in missing if name not in set(large)]
        else:
            additions = self._send(large, None)
            additions += [self._files.operation(name) for name in missing if name not in set(large)]
        copies = [CommitOperationCopy(name, name, src_revision=staged) for name in large] if staged else []
        deletions = [CommitOperationDelete(name) for name in deleted]
        self._say("publishing")
        self._files.check_untouched()
        info = self._commit([*deletions, *copies, *additions], self._message, None, state.sha)
        self._sent.update(operation.path_in_repo for operation in additions)
        self._arrived([name for name in missing if name not in set(large)])
        return info

    def _stage(self, large: list[str]) -> str:
        """Put the files on the branch, in commits of some gigabytes, and return the sha of the last one."""
        self._api.create_branch(self._repo_id, branch=STAGING_BRANCH, repo_type="dataset", exist_ok=True)
        there = remote_state(self._api, self._repo_id, STAGING_BRANCH).files
        waiting = [name for name in large if name in there and self._files.is_same(name, there[name])]
        self._arrived(waiting)
        rest = [name for name in large if name not in set(waiting)]
        limit = max(COMMIT_BYTES, sum(self._files.sizes[name] for name in large) // MAX_COMMITS)
        for part in _parts(rest, self._files.sizes, limit, COMMIT_FILES):
            operations = self._send(part, STAGING_BRANCH)
            self._commit(operations, f"Hold {part[0]} to {part[-1]}", STAGING_BRANCH, None)
        state = remote_state(self._api, self._repo_id, STAGING_BRANCH)
        for name in large:
            if not self._files.is_same(name, state.files.get(name)):
                raise HubAwayError(
                    self._files.directory / name, "changed while it was sent", "run the same command again"
                )
        return state.sha

    def _send(self, names: Sequence[str], revision: str | None) -> list[CommitOperationAdd]:
        """Upload the content of large files, some at a time; no reader sees it before a commit names it."""
        operations = []
        for part in _parts(names, self._files.sizes, GROUP_BYTES, COMMIT_FILES):
            size = sum(self._files.sizes[name] for name in part)
            self._say(f"sending {part[0]}" + (f" and {len(part) - 1} more" if len(part) > 1 else "") + f", {size:,} B")
            group = [self._files.operation(name) for name in part]
            try:
                self._api.preupload_lfs_files(
                    self._repo_id, group, repo_type="dataset", revision=revision, free_memory=False
                )
            except (ValueError, PermissionError) as error:  # the client's words for what the storage refused
                said = without_secrets(str(error))
                raise HubError(part[0], f"the Hub's storage does not take it: {said}") from error
            for operation in group:
                self._files.know_sha256(operation.path_in_repo, operation.upload_info.sha256.hex())
            operations += group
            self._sent.update(part)
            self._arrived(part)
        return operations

    def _commit(
        self,
        operations: Sequence[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete],
        message: str,
        revision: str | None,
        parent: str | None,
    ) -> str:
        info = self._api.create_commit(
            self._repo_id,
            operations,
            commit_message=message,
            repo_type="dataset",
            revision=revision,
            parent_commit=parent,
        )
        self._commits += 1
        return str(info.oid)

    def _drop_branch(self) -> None:
        refs = self._api.list_repo_refs(self._repo_id, repo_type="dataset")
        if any(branch.name == STAGING_BRANCH for branch in refs.branches):
            self._api.delete_branch(self._repo_id, branch=STAGING_BRANCH, repo_type="dataset")

    def _arrived(self, names: Sequence[str]) -> None:
        self._there += sum(self._files.sizes[name] for name in names)
        self._progress(self._there, self._total, "")

    def _say(self, note: str) -> None:
        self._progress(self._there, self._total, note)


def patiently(
    call: Callable[[], _Result], say: Callable[[str], None], moved: Callable[[], object] | None = None
) -> _Result:
    """Call again after a passing fault of Hub or line, waiting as long as the Hub asks or 1, 2, 4, ... seconds.

    `moved` returns what shows progress: while it changes, the tries are not counted. Without it, as before anything
    was sent, a Hub that cannot be reached at all is a fault at once. Raises `HubAwayError` at the end of the patience;
    any other fault passes through.
    """
    tries, before = 0, moved and moved()
    while True:
        try:
            return call()
        except (HfHubHTTPError, HTTPError, OSError, RuntimeError) as error:
            fault = _cause(error)
            status = fault.response.status_code if isinstance(fault, HfHubHTTPError) else None
            if status == 412 or isinstance(fault, RevisionNotFoundError):  # the branch, when another push drops it
                raise HubAwayError(
                    "the repository",
                    "was changed by somebody else while this was sent",
                    "run the same command again: what was sent is kept",
                ) from error
            # The storage's addresses are signed for some hours; a slow line outlives them (403) and gets new ones.
            passing = _PASSING | {403} if isinstance(error, RuntimeError) else _PASSING
            if fault is None:
                raise
            if moved is None if status is None else status not in passing:
                raise fault from error
            now = moved and moved()
            tries, before = (1, now) if now != before else (tries + 1, before)
            asked = _retry_after(fault)
            what = f"answers {status}" if status else f"cannot be reached ({without_secrets(str(fault))})"
            if tries >= MAX_TRIES or asked > LONGEST_WAIT:
                wish = f" and asks to wait {asked:.0f} s" if asked else ""
                raise HubAwayError(
                    "the Hub", f"{what}{wish}", "run the same command again later: what was sent is kept"
                ) from error
            wait = asked or float(2 ** (tries - 1))
            say(f"the Hub {what}; again in {wait:.0f} s")
            time.sleep(wait)


def _cause(error: BaseException) -> HfHubHTTPError | HTTPError | OSError | None:
    """The fault of Hub or line behind an exception: the client wraps those of its threads. None for any other."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HfHubHTTPError | HTTPError | ConnectionError | TimeoutError):
            return seen
        seen = seen.__cause__
    # The part of the client that is written in Rust raises bare ones.
    return OSError(str(error)) if isinstance(error, RuntimeError) else None


def _retry_after(fault: HfHubHTTPError | HTTPError | OSError) -> float:
    """Seconds that the Hub asks for, 0 where it names none."""
    if not isinstance(fault, HfHubHTTPError):
        return 0.0
    try:
        return max(0.0, float(fault.response.headers.get("Retry-After") or 0))
    except ValueError:  # the form with a date, which the Hub does not use
        return 0.0


def _parts(names: Sequence[str], sizes: Mapping[str, int], size: int, count: int) -> Iterator[list[str]]:
    """Cut a list of files into parts of at most `size` bytes (or one file) and `count` files, in order."""
    part: list[str] = []
    held = 0
    for name in names:
        if part and (held + sizes[name] > size or len(part) == count):
            yield part
            part, held = [], 0
        part.append(name)
        held += sizes[name]
    if part:
        yield part
