"""Raw answers in SQLite, written the moment they arrive and before anything reads them.

An answer is found again by the key of its request alone, so a run that was killed, extended by rows or given a new
parser asks only for what is missing. Write-ahead logging with `synchronous=NORMAL` survives the end of the process at
any moment (a power cut may cost the last answers, never the file). Every answer is committed by itself: 22,000 commits
a second were measured, far more than any server answers, and nothing that was paid for waits in memory.

SQLite's log does not work on network file systems. There the store is a folder of append-only files, one a process,
read into a private SQLite file when it is opened (see `answer_log.py`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from dataset_builder.captioning.answer_log import AnswerLog, on_network_file_system
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, canonical_text
from dataset_builder.captioning.store_tables import SCHEMA, SCHEMA_VERSION, TABLES, StoreTables
from lpmc_errors import DiskError, TableError

BUSY_TIMEOUT_S = 30.0  # another process may hold the write lock for the length of one commit
CACHE_KIB = 65_536  # pages that SQLite keeps in memory, so that memory stays flat while the file grows


@dataclass(frozen=True)
class Reservation:
    """The most that a request may cost: tokens, and 1e-12 dollars (None: the price is unknown)."""

    tokens: int = 0
    cost: int | None = None


@dataclass(frozen=True)
class Spend:
    """Everything that was ever sent from a store. What is under way or was lost counts as reserved.

    `cost` is in 1e-12 dollars over the attempts whose price is known; `unpriced` and `unpriced_tokens` are the others.
    """

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    unpriced: int = 0
    unpriced_tokens: int = 0


@dataclass(frozen=True)
class StoreTotals:
    """What a store holds: answers with their tokens, and attempts that ended without an answer, by kind."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    sent: int
    open: int
    faults_by_kind: Mapping[str, int]

    @property
    def faults(self) -> int:
        """Attempts that ended without an answer."""
        return sum(self.faults_by_kind.values())


@dataclass(frozen=True)
class StoredAnswer:
    """An answer with the key that it is stored under."""

    key: str
    answer: Answer


MOST_TOKENS = 10**9  # of one answer; a server that reports more reports nonsense


def _count(tokens: int | None) -> int | None:
    return tokens if tokens is not None and 0 <= tokens <= MOST_TOKENS else None


def _text(text: str | None) -> str | None:
    """Text as a file can hold it: half of a surrogate pair (a cut answer) becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _without_limit(form: str) -> tuple[str, int]:
    parts = json.loads(form)
    limit = parts["sampling"].pop("max_tokens")
    return json.dumps(parts, sort_keys=True), limit


@dataclass(frozen=True)
class Verdict:
    """What became of a (track, instruction): `outcome`, the key of the answer it rests on, and the judged columns."""

    outcome: str
    request_key: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class BatchRecord:
    """A batch that was handed to a provider; `status` is the provider's word at the last look."""

    id: str
    provider: str
    input_file: str
    status: str
    output_file: str | None = None
    error_file: str | None = None


class AnswerStore:
    """Answers, attempts and verdicts by request key. One process writes (`sole_writer`); readers may look on.

    A context manager. Raises `TableError` when the file is no store of ours, `DiskError` when it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log: AnswerLog | None = None
        self._commit_soon: Callable[[], None] | None = None
        self._limits_of: tuple[int, dict[str, list[tuple[str, int]]]] = (-1, {})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if AnswerLog.exists(path) or (not path.exists() and on_network_file_system(path.parent)):
                self._log = AnswerLog(path)
                self._open(self._log.index_path)
                self._replay()
            else:
                self._open(path)
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error
        except OSError as error:
            raise DiskError(path, f"cannot be opened ({error.strerror})", "choose another --store") from error

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        # A process that was killed while it made the store leaves our tables, empty and without the version.
        if version not in (0, SCHEMA_VERSION) or (version == 0 and not tables <= TABLES):
            self._db.close()
            raise TableError(
                self.path, "is a SQLite file but no answer store of this version", "choose another --store"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        if version == 0:
            self._db.executescript(SCHEMA)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._tables = StoreTables(self._db)

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if self._log is not None:
            self._log.close()

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Keep other runs from this store: two at once would each buy the answers that the other is waiting for.

        The lock is the operating system's, on a file beside the store, and ends with the process however it ends.
        Attempts that an earlier process left open are closed as `lost`: their reservation counts as spent.
        Raises `DiskError` when another run holds the lock.
        """
        lock = FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError) as error:
            if not isinstance(error, Timeout):
                raise DiskError(
                    self.path,
                    f"cannot be locked against a second run ({getattr(error, 'strerror', None) or error})",
                    "put --store on a file system that has locks",
                ) from error
            raise DiskError(
                self.path,
                "another run is asking into this store",
                "wait for it to end or choose another --store (each --shard needs its own)",
            ) from error
        try:
            if self._log is not None:
                self._replay()  # what another run wrote between the opening and the lock
            with self._transaction():
                self._apply("lose", time.time())
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

    # --- writing: every change is one operation, so that a log of operations can be read back ----------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One change, whole or not at all. In a group it is a part of the group's transaction."""
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
                if self._commit_soon is not None:
                    self._commit_soon()
            self._db.execute("SAVEPOINT change")
            try:
                yield
                self._db.execute("RELEASE change")
                if self._commit_soon is None:
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself ends it when the disk is full
                    self._db.execute("ROLLBACK TO change")
                    self._db.execute("RELEASE change" if self._commit_soon is not None else "ROLLBACK")
                self._tables.forget()
                raise
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error

    @contextmanager
    def grouped(self, commit_soon: Callable[[], None]) -> Iterator[None]:
        """Let the changes of one turn of an event loop share a commit, which costs more than the change itself.

        `commit_soon` is called at the first change and must have `commit` called before anything that the change
        announces happens (a request is sent), and within milliseconds. What is open at the end is committed.
        """
        self._commit_soon = commit_soon
        try:
            yield
        finally:
            self._commit_soon = None
            self.commit()

    def commit(self) -> None:
        """Make everything changed so far last. Raises `DiskError`."""
        if self._db.in_transaction:
            try:
                self._db.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                raise self._named(error) from error

    def _apply(self, name: str, *values: Any) -> None:
        if self._log is not None:
            self._log.append(name, values)
        self._tables.apply(name, values)

    def _replay(self) -> None:
        assert self._log is not None
        with self._transaction():
            for name, values in self._log.read():
                try:
                    self._tables.apply(name, values)
                except (KeyError, TypeError, ValueError) as error:
                    raise TableError(
                        self.path, f"holds an operation {name!r} of another version of this program", "update lpmc"
                    ) from error

    # --- requests and answers --------------------------------------------------------------------------------------

    def begin(
        self,
        requests: Iterable[CaptionRequest],
        reservation: Callable[[CaptionRequest], Reservation] = lambda request: Reservation(),
        *,
        batch: str | None = None,
    ) -> None:
        """Note that `requests` are about to be sent (in the batch of that id), before they are. Raises `DiskError`."""
        now = time.time()
        with self._transaction():
            for request in requests:
                self._apply(
                    "request", request.key, request.form, request.content, request.sampling.seed, request.variant
                )
                reserved = reservation(request)
                self._apply("begin", request.key, batch, now, reserved.tokens, reserved.cost)

    def settle(self, key: str, result: Answer | Fault, cost: int | None = None) -> None:
        """Keep what came back for a request that was begun, at once. `cost` in 1e-12 dollars, None: unknown.

        What has no token counts (an answer without usage, a time-out that may be billed) costs what was reserved.
        Raises `DiskError`.
        """
        now = time.time()
        with self._transaction():
            if isinstance(result, Answer):
                used = (_count(result.prompt_tokens), _count(result.completion_tokens))
                tokens = None if None in used else sum(count or 0 for count in used)
                words = (_text(result.text) or "", _text(result.model), _text(result.finish_reason))
                self._apply("answer", key, now, *words, *used)
                self._apply("settle", key, now, "answer", None, tokens, cost if tokens is not None else None)
            else:
                tokens = None if result.billed or result.kind == "lost" else 0
                self._apply("settle", key, now, result.kind, _text(result.message), tokens, cost)

    def record(self, request: CaptionRequest, result: Answer | Fault) -> None:
        """`begin` and `settle` in one: for what was answered elsewhere and for tests. Raises `DiskError`."""
        self.begin([request])
        self.settle(request.key, result)

    def answer(self, key: str) -> Answer | None:
        """The stored answer of a request, or None."""
        row = self._db.execute(
            "SELECT text, model, finish_reason, prompt_tokens, completion_tokens FROM answer"
            " WHERE request = (SELECT id FROM request WHERE key = ?)",
            (bytes.fromhex(key),),
        ).fetchone()
        return Answer(*row) if row else None

    def find(self, request: CaptionRequest) -> StoredAnswer | None:
        """The answer to `request`, also one that was given under another token limit and ended before this one.

        So a run with a larger limit asks again only what the smaller one had cut off.
        """
        answer = self.answer(request.key)
        if answer is not None:
            return StoredAnswer(request.key, answer)
        for form, limit in self._other_limits(request.form):
            text = canonical_text(form, request.content, request.sampling.seed, request.variant)
            key = hashlib.sha256(text.encode()).hexdigest()
            answer = self.answer(key)
            if answer is None or answer.finish_reason == "length":
                continue
            used = limit if answer.completion_tokens is None else answer.completion_tokens
            if used <= request.sampling.max_tokens:
                return StoredAnswer(key, answer)
        return None

    def _other_limits(self, form: str) -> list[tuple[str, int]]:
        """(form, token limit) of the stored forms that differ from `form` in the token limit alone."""
        forms = self._tables.forms
        if self._limits_of[0] != len(forms):
            self._limits_of = (len(forms), {})
        known = self._limits_of[1]
        if form not in known:
            wanted = _without_limit(form)[0]
            parts = ((other, *_without_limit(other)) for other in forms if other != form)
            known[form] = [(other, limit) for other, rest, limit in parts if rest == wanted]
        return known[form]

    def knows(self, key: str) -> bool:
        """Whether the request was ever announced: one that was not has no answer, no fault and nothing under way."""
        return self._db.execute("SELECT 1 FROM request WHERE key = ?", (bytes.fromhex(key),)).fetchone() is not None

    def was_refused(self, key: str) -> bool:
        """Whether the endpoint refused the request for good (400, 422, a content filter)."""
        found = self._db.execute(
            "SELECT 1 FROM attempt WHERE kind IS NOT NULL AND kind <> 'answer' AND kind = 'refused'"
            " AND request = (SELECT id FROM request WHERE key = ?)",
            (bytes.fromhex(key),),
        ).fetchone()
        return found is not None

    def faults(self, key: str) -> list[Fault]:
        """Every failure recorded for a request, oldest first."""
        rows = self._db.execute(
            "SELECT kind, message FROM attempt WHERE kind IS NOT NULL AND kind <> 'answer'"
            " AND request = (SELECT id FROM request WHERE key = ?) ORDER BY id",
            (bytes.fromhex(key),),
        )
        return [Fault(kind, message) for kind, message in rows]

    def is_open(self, key: str) -> bool:
        """Whether the request is under way: sent, and not settled yet (in a batch, as a rule)."""
        found = self._db.execute(
            "SELECT 1 FROM attempt WHERE kind IS NULL AND request = (SELECT id FROM request WHERE key = ?)",
            (bytes.fromhex(key),),
        ).fetchone()
        return found is not None

    def canonical(self, key: str) -> str | None:
        """The canonical JSON of a stored request, from which everything that was asked can be read; None if unknown."""
        row = self._db.execute(
            "SELECT form.text, content, seed, variant FROM request JOIN form ON form.id = request.form WHERE key = ?",
            (bytes.fromhex(key),),
        ).fetchone()
        return canonical_text(*row) if row else None

    # --- verdicts --------------------------------------------------------------------------------------------------

    def keep_verdict(self, key: bytes, plan: str, track: str, instruction: str, verdict: Verdict) -> None:
        """Keep what became of a (track, instruction) under `key`, which covers question, judge and metadata."""
        record = json.dumps(verdict.record, ensure_ascii=False, separators=(",", ":"))
        with self._transaction():
            self._apply("verdict", key.hex(), plan, track, instruction, verdict.outcome, verdict.request_key, record)

    def verdict(self, key: bytes) -> Verdict | None:
        """The verdict under `key`, or None."""
        row = self._db.execute(
            "SELECT outcome, request.key, record FROM verdict JOIN request ON request.id = verdict.request"
            " WHERE verdict.key = ?",
            (key,),
        ).fetchone()
        return Verdict(row[0], row[1].hex(), json.loads(row[2])) if row else None

    def verdict_keys(self) -> np.ndarray:
        """The keys of all verdicts, sorted: an array of `S16`, which takes 16 bytes a verdict."""
        keys = bytearray()
        rows = self._db.execute("SELECT key FROM verdict ORDER BY key")
        while part := rows.fetchmany(10_000):
            keys += b"".join(key for (key,) in part)
        return np.frombuffer(bytes(keys), dtype="S16")

    # --- plans, runs, settings -------------------------------------------------------------------------------------

    def start_run(self, plan: str, plan_facts: Mapping[str, Any], jobs: int, facts: Mapping[str, Any]) -> float:
        """Note a run over `jobs` (track, instruction) pairs; returns its start, which names it."""
        started = time.time()
        with self._transaction():
            self._apply("plan", plan, json.dumps(plan_facts, ensure_ascii=False, sort_keys=True))
            self._apply("run", plan, started, jobs, json.dumps(facts, ensure_ascii=False, sort_keys=True))
        return started

    def end_run(self, started: float, ledger: Mapping[str, Any]) -> None:
        """Keep the ledger of a finished run."""
        with self._transaction():
            self._apply("ledger", started, time.time(), json.dumps(ledger, ensure_ascii=False, sort_keys=True))

    def runs(self) -> list[dict[str, Any]]:
        """Every run, oldest first: plan, plan_facts, started_at, ended_at, jobs, facts, ledger (None: not finished)."""
        rows = self._db.execute(
            "SELECT signature, plan.facts, started_at, ended_at, jobs, run.facts, ledger"
            " FROM run JOIN plan ON plan.id = run.plan ORDER BY run.id"
        )
        names = ("plan", "plan_facts", "started_at", "ended_at", "jobs", "facts", "ledger")
        runs = [dict(zip(names, row, strict=True)) for row in rows]
        for run in runs:
            for name in ("plan_facts", "facts", "ledger"):
                run[name] = json.loads(run[name]) if run[name] else None
        return runs

    def settled(self, plan: str) -> dict[str, dict[str, int]]:
        """instruction -> outcome -> number of (track, instruction) pairs that are settled under a plan."""
        counts: dict[str, dict[str, int]] = {}
        rows = self._db.execute(
            "SELECT instruction, outcome, count(DISTINCT track) FROM verdict"
            " WHERE plan = (SELECT id FROM plan WHERE signature = ?) GROUP BY instruction, outcome",
            (plan,),
        )
        for instruction, outcome, count in rows:
            counts.setdefault(instruction, {})[outcome] = count
        return counts

    def setting(self, name: str) -> str | None:
        """A remembered setting (what an endpoint understands), or None."""
        row = self._db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set(self, name: str, value: str) -> None:
        """Remember a setting."""
        with self._transaction():
            self._apply("setting", name, value)

    # --- batches ---------------------------------------------------------------------------------------------------

    def add_batch(
        self,
        batch: BatchRecord,
        requests: Iterable[CaptionRequest],
        reservation: Callable[[CaptionRequest], Reservation] = lambda request: Reservation(),
    ) -> None:
        """Keep the id of a batch that was handed in, before it is looked at for the first time."""
        with self._transaction():
            self._apply("batch", batch.id, batch.provider, batch.input_file, batch.status, time.time())
        self.begin(requests, reservation, batch=batch.id)

    def update_batch(
        self, identity: str, status: str, output_file: str | None = None, error_file: str | None = None
    ) -> None:
        """Keep the state of a batch at this look."""
        with self._transaction():
            self._apply("batch_seen", identity, status, output_file, error_file, time.time())

    def batches(self) -> list[BatchRecord]:
        """Every batch, oldest first."""
        rows = self._db.execute(
            "SELECT id, provider, input_file, status, output_file, error_file FROM batch ORDER BY created_at, id"
        )
        return [BatchRecord(*row) for row in rows]

    def open_keys(self, batch: str) -> frozenset[str]:
        """The keys of the requests of a batch that are not settled yet."""
        rows = self._db.execute(
            "SELECT request.key FROM attempt JOIN request ON request.id = attempt.request"
            " WHERE attempt.kind IS NULL AND attempt.batch = ?",
            (batch,),
        )
        return frozenset(key.hex() for (key,) in rows)

    # --- totals ----------------------------------------------------------------------------------------------------

    def totals(self) -> StoreTotals:
        """Counts over the whole store."""
        answers, prompt, completion = self._db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM answer"
        ).fetchone()
        kinds = dict(self._db.execute("SELECT coalesce(kind, 'open'), count(*) FROM attempt GROUP BY kind"))
        sent, waiting = sum(kinds.values()), kinds.pop("open", 0)
        kinds.pop("answer", None)
        return StoreTotals(answers, prompt, completion, sent, waiting, kinds)

    def spend(self) -> Spend:
        """What was spent so far; attempts that are open count with their reservation."""
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(used), 0), coalesce(sum(charged), 0), coalesce(sum(charged IS NULL), 0),"
            " coalesce(sum(CASE WHEN charged IS NULL THEN used END), 0) FROM ("
            "  SELECT coalesce(tokens, reserved_tokens) AS used,"
            "  CASE WHEN kind IS NULL THEN reserved_cost ELSE cost END AS charged FROM attempt)"
        ).fetchone()
        return Spend(*row)
