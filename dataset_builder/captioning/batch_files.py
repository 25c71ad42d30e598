"""Batch files: one JSON line a request, as OpenAI's Batch API takes them and `vllm run-batch` reads them.

Beside each `NAME.jsonl` lies a `NAME.requests.jsonl` with the requests as the store keeps them: the line of a batch
file does not tell the track that it was asked for, and the answers may come back to another process, days later.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from dataset_builder.captioning.requests import CaptionRequest, Sampling
from dataset_builder.instructions import Message, Prompt
from lpmc_errors import TableError, UsageError, disk_faults_named
from lpmc_files import atomic_path

CHAT_URL: Final = "/v1/chat/completions"
MAX_REQUESTS = 50_000  # per file; OpenAI's Batch API takes no more
MAX_BYTES = 190_000_000  # per file; the API takes 200 MB and does not say which MB
REQUESTS_SUFFIX = ".requests.jsonl"
OUTPUT_SUFFIX = ".output.jsonl"
_READ_BYTES = 1 << 20
_SEEN_CACHE_KIB = 16_384  # pages of the list of keys that stay in memory


@dataclass(frozen=True)
class BatchFile:
    """A batch file on disk: its model, number of requests, size in bytes and the sha256 of its content."""

    path: Path
    model: str
    requests: int
    bytes: int
    sha256: str

    @property
    def requests_path(self) -> Path:
        """The file beside it that holds its requests as the store keeps them."""
        return self.path.with_suffix(REQUESTS_SUFFIX)

    @property
    def output_path(self) -> Path:
        """Where `command` writes the answers."""
        return self.path.with_suffix(OUTPUT_SUFFIX)

    @property
    def command(self) -> str:
        """The shell command that answers the file on a GPU of one's own, without a server."""
        words = ["vllm", "run-batch", "-i", str(self.path), "-o", str(self.output_path), "--model", self.model]
        return shlex.join(words)


def remove_batch_file(path: Path) -> None:
    """Delete a batch file and its requests, if they are there; for when the store holds what came back."""
    with disk_faults_named(path):
        path.unlink(missing_ok=True)
        path.with_suffix(REQUESTS_SUFFIX).unlink(missing_ok=True)


def write_batch_files(
    requests: Iterable[CaptionRequest],
    folder: Path,
    *,
    body: Callable[[CaptionRequest], dict[str, Any]],
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BYTES,
) -> list[BatchFile]:
    """Write `requests` to batch files in `folder`, one model a file, and say which files they are.

    Requests are streamed: memory does not grow with their number. A request that occurs twice (tracks that share a
    prompt) is written once. A file is whole or absent, and after an error none of this call remains. `body` makes the
    JSON body of a request. Raises `UsageError` when one request exceeds `max_bytes`, `DiskError`.
    """
    written: list[BatchFile] = []
    open_files: dict[str, _OpenFile] = {}
    try:
        with ExitStack() as stack, closing(_Keys()) as keys:
            for request in requests:
                if not keys.add(request.key):
                    continue
                line = _line(request, body(request))
                if len(line) > max_bytes:
                    raise UsageError(
                        f"request {request.key[:16]}",
                        f"takes {len(line)} bytes in a batch file that may have {max_bytes}",
                        "shorten the wording or ask online",
                    )
                file = open_files.get(request.model)
                if file is not None and (file.requests >= max_requests or file.bytes + len(line) > max_bytes):
                    written.append(file.close())
                    file = None
                if file is None:
                    file = open_files[request.model] = _OpenFile(folder, request, stack.enter_context(ExitStack()))
                file.write(line, request)
            written.extend(file.close() for file in open_files.values())
    except BaseException:
        for done in written:
            remove_batch_file(done.path)
        raise
    return written


def read_batch_file(path: Path) -> BatchFile:
    """The batch file at `path`, as `write_batch_files` described it. Raises `TableError` when it is none of ours."""
    count, size, digest = 0, 0, hashlib.sha256()
    try:
        with path.open("rb") as lines:
            model = str(json.loads(lines.readline())["body"]["model"])
            lines.seek(0)
            while block := lines.read(_READ_BYTES):
                digest.update(block)
                size += len(block)
                count += block.count(b"\n")
    except OSError as error:
        raise TableError(
            path, f"cannot be read ({error.strerror})", "name a batch file that this program wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(path, "is no batch file of chat requests", "name one that this program wrote") from error
    return BatchFile(path, model, count, size, digest.hexdigest())


def requests_of(file: BatchFile) -> Iterator[CaptionRequest]:
    """The requests of a batch file, streamed; the name of their wording is not among what a key covers and is lost.

    Raises `TableError` when the file beside it is missing, damaged or of another version of the program.
    """
    try:
        with file.requests_path.open("rb") as lines:
            for line in lines:
                text = line.rstrip(b"\n").decode()
                request = _request(text)
                if request.canonical != text:
                    raise ValueError("the key would be another one")
                yield request
    except OSError as error:
        raise TableError(
            file.requests_path, f"cannot be read ({error.strerror})", f"keep it beside {file.path.name}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(
            file.requests_path,
            "is damaged or was written by another version of this program",
            "delete it and its batch file and run the same command again",
        ) from error


class _OpenFile:
    """A batch file that is being written. It appears, after its requests, when it is closed."""

    def __init__(self, folder: Path, first: CaptionRequest, stack: ExitStack) -> None:
        # A request lies in one file of a pass, so its key names the file, and a pass that is done again overwrites.
        self._path = folder / f"lpmc-{first.key[:16]}.jsonl"
        self._stack = stack
        self._lines = self._open(self._path)
        self._requests = self._open(self._path.with_suffix(REQUESTS_SUFFIX))  # entered last: in its place first
        self._model = first.model
        self._digest = hashlib.sha256()
        self.requests = 0
        self.bytes = 0

    def _open(self, path: Path) -> BinaryIO:
        temporary = self._stack.enter_context(atomic_path(path))
        return self._stack.enter_context(temporary.open("wb"))

    def write(self, line: bytes, request: CaptionRequest) -> None:
        self._lines.write(line)
        self._requests.write(request.canonical.encode() + b"\n")
        self._digest.update(line)
        self.requests += 1
        self.bytes += len(line)

    def close(self) -> BatchFile:
        self._stack.close()
        return BatchFile(self._path, self._model, self.requests, self.bytes, self._digest.hexdigest())


class _Keys:
    """The keys of a pass, in a temporary database that SQLite spills to disk: as a set, two million fill 250 MB."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size=-{_SEEN_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, key: str) -> bool:
        """Whether the key is new."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (bytes.fromhex(key),)).rowcount == 1

    def close(self) -> None:
        self._db.close()


def _line(request: CaptionRequest, body: dict[str, Any]) -> bytes:
    # ASCII only: some readers split lines at the Unicode line separators that a tag may hold.
    value = {"custom_id": request.key, "method": "POST", "url": CHAT_URL, "body": body}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _request(canonical: str) -> CaptionRequest:
    parts = json.loads(canonical)
    form = parts["form"]
    head, sampling = _form_parts(json.dumps(form["messages_before"])), form["sampling"]
    prompt = Prompt((*head, Message(form["role"], parts["content"])), "", "", schema=form["schema"])
    return CaptionRequest(
        form["provider"],
        form["model"],
        prompt,
        Sampling(sampling["max_tokens"], sampling["temperature"], sampling["top_p"], parts["seed"]),
        parts["variant"],
    )


@lru_cache(maxsize=1024)
def _form_parts(messages_before: str) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in json.loads(messages_before))
