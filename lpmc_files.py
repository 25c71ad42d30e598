"""Files that are either whole or absent, written under a temporary name and renamed; folders that one process has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpmc_errors import UsageError, disk_faults_named


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; when the block ends well the file there replaces `target`.

    If the block raises, the temporary file is removed and `target` stays as it was.
    Raises `DiskError` when the disk is full or forbidden. The suffix of `target` is kept, as some writers look at it.
    """
    with disk_faults_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes it private; a result file is the user's to share
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically. Raises `DiskError`."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON atomically. Raises `DiskError`."""
    write_text(target, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def claimed(folder: Path, lock: str, doing: str) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made where it is missing, while the block runs.

    `lock` is the name of the lock file, which stays: one that is removed can be held twice. `doing` tells what another
    process is at there, as in "renders". The system frees the lock of a process that was killed. Raises `UsageError`
    when `folder` is a file or claimed by another process, `DiskError`.
    """
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise UsageError(folder, "is a file", "name a folder")
    with disk_faults_named(folder):
        (folder / lock).parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / lock)
        try:
            held.acquire(timeout=0)
        except Timeout:
            remedy = "wait for it, stop it, or name another folder"
            raise UsageError(folder, f"another process {doing} there", remedy) from None
    try:
        yield
    finally:
        held.release()
