"""Ratings on the disk: JSON lines that many raters and several servers append to, and that survive a kill.

One file a kind of record (`ratings`, `raters`, `claims`), one lock for all three, so that "is it free?" and "it is
mine" are one step. A line is written with one call and reaches the disk before the lock is given back. What a killed
writer leaves half written is found by the next one, kept in `torn.jsonl` and cut off.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lpmc_errors import DiskError, disk_faults_named

LOCK_SECONDS = 30.0  # a write takes milliseconds; who waits this long waits for a hung process or a dead file server
KINDS = ("ratings", "raters", "claims")
TORN = "torn.jsonl"

Record = dict[str, Any]


@dataclass
class _Log:
    """One file, read as far as whole lines go. Other processes append to it; nobody changes what stands there."""

    path: Path
    offset: int = 0  # bytes read; always behind a line break
    records: list[Record] = field(default_factory=list)
    unreadable: int = 0  # whole lines that are no JSON object: a disk fault or an edit by hand

    def refresh(self) -> list[Record]:
        """Read what was appended since; the last line counts once its line break is there."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except FileNotFoundError:
            return self.records
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = _object(line)
            if record is not None:
                self.records.append(record)
            elif line.strip():
                self.unreadable += 1
        self.offset += len(whole)
        return self.records


def _object(line: bytes) -> Record | None:
    try:
        value = json.loads(line)
    except ValueError:  # JSON and UTF-8 faults are both ValueErrors
        return None
    return value if isinstance(value, dict) else None


class RatingStore:
    """The ratings, raters and claims of one study in `folder`, which is made where it is missing.

    Safe for any number of threads and processes on one machine, and for a file system whose locks work.
    Raises `DiskError` when the disk is full or forbidden, or when the lock is not to be had in `LOCK_SECONDS`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with disk_faults_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._logs = {kind: _Log(folder / f"{kind}.jsonl") for kind in KINDS}
        self._lock = FileLock(folder / ".lock", timeout=LOCK_SECONDS, thread_local=False)  # between processes
        self._threads = threading.RLock()  # between threads of this one

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer out, of this process and of others. May be entered again by who holds it."""
        with self._threads:
            try:
                with disk_faults_named(self.folder):
                    self._lock.acquire()
            except Timeout as error:
                raise DiskError(
                    self.folder,
                    f"its lock was not free for {LOCK_SECONDS:.0f} s",
                    "end the process that hangs, or use a folder on a local disk",
                ) from error
            try:
                yield
            finally:
                self._lock.release()

    def read(self, kind: str) -> list[Record]:
        """All whole records of one kind, in the order in which they were written. The list is not to be changed."""
        with self._threads:
            return self._logs[kind].refresh()

    def unreadable(self) -> int:
        """Whole lines read so far that are no JSON objects. They stay where they are and count for nothing."""
        return sum(log.unreadable for log in self._logs.values())

    def append(self, kind: str, record: Record) -> None:
        """Add one record and return when it lies on the disk."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        path = self._logs[kind].path
        with self.locked(), disk_faults_named(path):
            fresh = not path.exists()
            self._set_torn_line_aside(path)
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                _write_whole(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
            if fresh:
                _sync_folder(self.folder)

    def _set_torn_line_aside(self, path: Path) -> None:
        """Move what stands behind the last line break to `torn.jsonl`: a writer was killed there."""
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            return
        with file:
            end = _end_of_last_line(file)
            file.seek(end)
            torn = file.read()
            if not torn:
                return
            note = {"file": path.name, "offset": end, "text": torn.decode("utf-8", "replace")}
            with (self.folder / TORN).open("ab") as aside:
                aside.write(json.dumps(note, ensure_ascii=False).encode() + b"\n")
                aside.flush()
                os.fsync(aside.fileno())
            file.truncate(end)


def _write_whole(handle: int, line: bytes) -> None:
    while line:  # the system may write less than it was given, on a disk that fills up
        line = line[os.write(handle, line) :]


def _sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_STEP = 65_536  # bytes; far longer than a record, so one step nearly always does


def _end_of_last_line(file: Any) -> int:
    """Position behind the last line break of `file`; 0 when it has none."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _STEP)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
