"""An answer store seen from outside: read only, without its lock, while a run may be writing to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dataset_builder.captioning.answer_log import AnswerLog
from dataset_builder.captioning.store import BUSY_TIMEOUT_S
from dataset_builder.captioning.store_tables import SCHEMA, SCHEMA_VERSION, StoreTables
from lpmc_errors import TableError

OUTPUT_SAMPLE = 20_000  # answers of an instruction that are looked at; their mean is then known to well under 1 %


@dataclass(frozen=True)
class OutputTokens:
    """Completion tokens of the answers that a store holds for one instruction."""

    answers: int
    mean: float
    low: int  # 10th percentile
    high: int  # 90th percentile


@contextmanager
def open_store_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """The tables of the store at `path`, as they are now. Raises `TableError` when it is missing or no store."""
    if AnswerLog.exists(path):
        log = AnswerLog(path)
        try:
            with closing(sqlite3.connect(log.index_path, isolation_level=None)) as database:
                database.executescript(SCHEMA)
                tables = StoreTables(database)
                database.execute("BEGIN")
                for name, values in log.read():
                    tables.apply(name, values)
                database.execute("COMMIT")
                yield database
        finally:
            log.close()
        return
    if not path.is_file():
        raise TableError(path, "no such answer store", "give the --store of a `lpmc pseudo-caption` run")
    try:
        with closing(_connect(path)) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise TableError(path, f"cannot be read as an answer store ({error})", "choose another --store") from error


def _connect(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        version = _version(database)
    except sqlite3.OperationalError:
        # A finished store in a folder that can't be written: SQLite has no place for its shared memory and needs none.
        database.close()
        database = sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
        version = _version(database)
    if version != SCHEMA_VERSION:
        database.close()
        raise TableError(path, "is a SQLite file but no answer store of this version", "choose another --store")
    return database


def _version(database: sqlite3.Connection) -> int:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a lock or a missing file shows up here
    return int(version)


def output_tokens(database: sqlite3.Connection, plan: str | None = None) -> dict[str, OutputTokens]:
    """instruction -> how long the answers are that captions of it rest on (of the plan of that signature).

    Answers without token counts do not count; of many answers the first `OUTPUT_SAMPLE` in order of their keys, which
    are hashes, are taken.
    """
    found: dict[str, OutputTokens] = {}
    names = [row[0] for row in database.execute("SELECT DISTINCT instruction FROM verdict")]
    for name in names:
        rows = database.execute(
            "SELECT completion_tokens FROM verdict JOIN answer ON answer.request = verdict.request"
            " WHERE instruction = ? AND completion_tokens IS NOT NULL"
            " AND (? IS NULL OR plan = (SELECT id FROM plan WHERE signature = ?)) LIMIT ?",
            (name, plan, plan, OUTPUT_SAMPLE),
        )
        counts = sorted(count for (count,) in rows)
        if counts:
            last = len(counts) - 1
            found[name] = OutputTokens(
                len(counts), sum(counts) / len(counts), counts[round(0.1 * last)], counts[round(0.9 * last)]
            )
    return found


def asks_per_job(database: sqlite3.Connection) -> float | None:
    """Answers bought for each (track, instruction) that is settled, at least 1.0; None when none is."""
    answers = database.execute("SELECT count(*) FROM answer").fetchone()[0]
    settled = database.execute("SELECT count(DISTINCT request) FROM verdict").fetchone()[0]
    return max(1.0, answers / settled) if settled else None
