"""Raw answers in SQLite, written the moment they arrive and before anything reads them.

An answer is found again by the key of its request alone, so a run that was killed, extended by rows or given a new
parser asks only for what is missing. Write-ahead logging with `synchronous=NORMAL` survives the end of the process at
any moment (a power cut may cost the last answers, never the file).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from lpmc_errors import DiskError, TableError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0  # another process may hold the write lock for the length of one commit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS request (key TEXT PRIMARY KEY, canonical TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, model TEXT, finish_reason TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, answered_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, failed_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS fault_by_key ON fault (key);
"""


@dataclass(frozen=True)
class StoreTotals:
    """What a store holds: answers with their tokens, and the requests that failed at least once."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    faults: int


class AnswerStore:
    """Answers and faults by request key. One process writes (`sole_writer`); readers may look on. A context manager.

    Raises `TableError` when the file is no store of ours, `DiskError` when it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if version not in (0, SCHEMA_VERSION) or (version == 0 and tables):
                raise TableError(path, "is a SQLite file but no answer store of this version", "choose another --store")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error
        except OSError as error:
            raise DiskError(path, f"cannot be opened ({error.strerror})", "choose another --store") from error

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Keep other runs from this store: two at once would each buy the answers that the other is waiting for.

        The lock is the operating system's, on a file beside the store, and ends with the process however it ends.
        Raises `DiskError` when another run holds it.
        """
        lock = FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DiskError(
                self.path, "another run is asking into this store", "wait for it to end or choose another --store"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _named(self, error: sqlite3.DatabaseError) -> TableError | DiskError:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            return TableError(self.path, "is not an answer store (SQLite cannot read it)", "choose another --store")
        if "full" in text:
            return DiskError(
                self.path, "no space is left on the disk", "free some space and run the same command again"
            )
        if "locked" in text:
            return DiskError(self.path, "another run is writing to it", "wait for that run or choose another --store")
        return DiskError(self.path, f"cannot be written ({text})", "choose another --store")

    def answer(self, key: str) -> Answer | None:
        """The stored answer of a request, or None."""
        row = self._db.execute(
            "SELECT text, model, finish_reason, prompt_tokens, completion_tokens FROM answer WHERE key = ?", (key,)
        ).fetchone()
        return Answer(*row) if row else None

    def faults(self, key: str) -> list[Fault]:
        """Every failure recorded for a request, oldest first."""
        rows = self._db.execute("SELECT kind, message FROM fault WHERE key = ? ORDER BY id", (key,))
        return [Fault(kind, message) for kind, message in rows]

    def record(self, request: CaptionRequest, result: Answer | Fault) -> None:
        """Keep what came back for `request`, at once. Raises `DiskError`."""
        now = time.time()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("INSERT OR IGNORE INTO request VALUES (?, ?)", (request.key, request.canonical))
                if isinstance(result, Answer):
                    self._db.execute(
                        "INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            request.key,
                            result.text,
                            result.model,
                            result.finish_reason,
                            result.prompt_tokens,
                            result.completion_tokens,
                            now,
                        ),
                    )
                else:
                    self._db.execute(
                        "INSERT INTO fault (key, kind, message, failed_at) VALUES (?, ?, ?, ?)",
                        (request.key, result.kind, result.message, now),
                    )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error

    def totals(self) -> StoreTotals:
        """Counts over the whole store."""
        answers, prompt, completion = self._db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM answer"
        ).fetchone()
        (faults,) = self._db.execute("SELECT count(*) FROM fault").fetchone()
        return StoreTotals(answers, prompt, completion, faults)
