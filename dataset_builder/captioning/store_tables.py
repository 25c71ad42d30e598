"""The tables of an answer store and the operations that change them; `store.py` says when.

Every change is an operation with a name and plain values, so that a log of operations can be read back.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

SCHEMA_VERSION = 2

# A request is kept in parts: what a whole run has in common is one row of `form`, so two million requests with a
# few-shot prompt don't repeat it two million times. `canonical_text` puts the parts together again.
# `attempt` is the ledger of everything that was sent: it exists before the request leaves, so a process that is killed
# leaves a trace of what it may have paid for. Costs are in 1e-12 dollars (integers add up exactly); NULL is unknown.
SCHEMA = """
CREATE TABLE IF NOT EXISTS form (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS request (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, form INTEGER NOT NULL,
    content TEXT NOT NULL, seed INTEGER NOT NULL, variant TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answer (
    request INTEGER PRIMARY KEY, text TEXT NOT NULL, model TEXT, finish_reason TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, answered_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY, request INTEGER NOT NULL, batch TEXT, sent_at REAL NOT NULL,
    reserved_tokens INTEGER NOT NULL, reserved_cost INTEGER,
    ended_at REAL, kind TEXT, message TEXT, tokens INTEGER, cost INTEGER
);
CREATE INDEX IF NOT EXISTS attempt_fault ON attempt (request) WHERE kind IS NOT NULL AND kind <> 'answer';
CREATE INDEX IF NOT EXISTS attempt_open ON attempt (request) WHERE kind IS NULL;
CREATE TABLE IF NOT EXISTS verdict (
    key BLOB NOT NULL UNIQUE, plan INTEGER NOT NULL, track TEXT NOT NULL, instruction TEXT NOT NULL,
    outcome TEXT NOT NULL, request INTEGER NOT NULL, record TEXT NOT NULL
);  -- not WITHOUT ROWID: all keys are read at the start of a run, and the index holds nothing else
CREATE TABLE IF NOT EXISTS plan (id INTEGER PRIMARY KEY, signature TEXT NOT NULL UNIQUE, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY, plan INTEGER NOT NULL, started_at REAL NOT NULL, ended_at REAL,
    jobs INTEGER NOT NULL, facts TEXT NOT NULL, ledger TEXT
);
CREATE TABLE IF NOT EXISTS batch (
    id TEXT PRIMARY KEY, provider TEXT NOT NULL, input_file TEXT NOT NULL, status TEXT NOT NULL,
    output_file TEXT, error_file TEXT, created_at REAL NOT NULL, checked_at REAL
);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


TABLES = frozenset(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SCHEMA))


class StoreTables:
    """The operations on an open database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self.forget()

    def forget(self) -> None:
        """Read anew what is kept in memory, after a change that was taken back."""
        self.forms: dict[str, int] = dict(self._db.execute("SELECT text, id FROM form"))

    def apply(self, name: str, values: Sequence[Any]) -> None:
        """Do the operation `name`."""
        self._OPERATIONS[name](self, *values)

    def _form_id(self, text: str) -> int:
        if text not in self.forms:
            self._db.execute("INSERT INTO form (text) VALUES (?)", (text,))
            self.forms[text] = self._db.execute("SELECT id FROM form WHERE text = ?", (text,)).fetchone()[0]
        return self.forms[text]

    def _op_request(self, key: str, form: str, content: str, seed: int, variant: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO request (key, form, content, seed, variant) VALUES (?, ?, ?, ?, ?)",
            (bytes.fromhex(key), self._form_id(form), content, seed, variant),
        )

    def _op_begin(self, key: str, batch: str | None, sent_at: float, tokens: int, cost: int | None) -> None:
        self._db.execute(
            "INSERT INTO attempt (request, batch, sent_at, reserved_tokens, reserved_cost)"
            " SELECT id, ?, ?, ?, ? FROM request WHERE key = ?",
            (batch, sent_at, tokens, cost, bytes.fromhex(key)),
        )

    def _op_settle(
        self, key: str, ended_at: float, kind: str, message: str | None, tokens: int | None, cost: int | None
    ) -> None:
        # A request is under way once at a time, so it has one open attempt. Where nobody knows what was used (NULL
        # tokens), what was reserved counts as spent.
        self._db.execute(
            "UPDATE attempt SET ended_at = ?1, kind = ?2, message = ?3, tokens = ?4,"
            " cost = CASE WHEN ?4 IS NULL THEN reserved_cost ELSE ?5 END"
            " WHERE kind IS NULL AND request = (SELECT id FROM request WHERE key = ?6)",
            (ended_at, kind, message, tokens, cost, bytes.fromhex(key)),
        )

    def _op_answer(
        self,
        key: str,
        answered_at: float,
        text: str,
        model: str | None,
        finish_reason: str | None,
        prompt_tokens: int | None,
        completion_tokens: int | None,
    ) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO answer SELECT id, ?, ?, ?, ?, ?, ? FROM request WHERE key = ?",
            (text, model, finish_reason, prompt_tokens, completion_tokens, answered_at, bytes.fromhex(key)),
        )

    def _op_lose(self, ended_at: float) -> None:
        self._db.execute(
            "UPDATE attempt SET ended_at = ?, kind = 'lost', message = 'the run ended while it was under way',"
            " tokens = reserved_tokens, cost = reserved_cost WHERE kind IS NULL AND batch IS NULL",
            (ended_at,),
        )

    def _op_verdict(
        self, key: str, plan: str, track: str, instruction: str, outcome: str, request: str, record: str
    ) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO verdict SELECT ?, plan.id, ?, ?, ?, request.id, ? FROM plan, request"
            " WHERE plan.signature = ? AND request.key = ?",
            (bytes.fromhex(key), track, instruction, outcome, record, plan, bytes.fromhex(request)),
        )

    def _op_plan(self, signature: str, facts: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO plan (signature, facts) VALUES (?, ?)", (signature, facts))

    def _op_run(self, plan: str, started_at: float, jobs: int, facts: str) -> None:
        self._db.execute(
            "INSERT INTO run (plan, started_at, jobs, facts) SELECT id, ?, ?, ? FROM plan WHERE signature = ?",
            (started_at, jobs, facts, plan),
        )

    def _op_ledger(self, started_at: float, ended_at: float, ledger: str) -> None:
        self._db.execute("UPDATE run SET ended_at = ?, ledger = ? WHERE started_at = ?", (ended_at, ledger, started_at))

    def _op_batch(self, identity: str, provider: str, input_file: str, status: str, created_at: float) -> None:
        self._db.execute(
            "INSERT INTO batch (id, provider, input_file, status, created_at) VALUES (?, ?, ?, ?, ?)",
            (identity, provider, input_file, status, created_at),
        )

    def _op_batch_seen(
        self, identity: str, status: str, output_file: str | None, error_file: str | None, checked_at: float
    ) -> None:
        self._db.execute(
            "UPDATE batch SET status = ?, output_file = ?, error_file = ?, checked_at = ? WHERE id = ?",
            (status, output_file, error_file, checked_at, identity),
        )

    def _op_setting(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    _OPERATIONS: dict[str, Callable[..., None]] = {
        "request": _op_request,
        "begin": _op_begin,
        "settle": _op_settle,
        "answer": _op_answer,
        "lose": _op_lose,
        "verdict": _op_verdict,
        "plan": _op_plan,
        "run": _op_run,
        "ledger": _op_ledger,
        "batch": _op_batch,
        "batch_seen": _op_batch_seen,
        "setting": _op_setting,
    }
