"""A store on a network file system: append-only files of operations, one a process, read back when it is opened.

SQLite's write-ahead log needs shared memory, which NFS, SMB, Lustre and their like do not give. Appending lines to a
file of one's own is safe on all of them. A line that was cut off when its process died is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "beegfs_nodev"),
        *("glusterfs", "9p", "ocfs2", "gfs2", "pvfs2", "orangefs", "panfs", "davfs", "wekafs", "virtiofs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.juicefs", "fuse.s3fs", "fuse.goofys"),
        *("fuse.gcsfuse", "fuse.rclone", "fuse.blobfuse", "fuse.weka"),
    )
)


def on_network_file_system(folder: Path) -> bool:
    """Whether SQLite's write-ahead log can't be trusted in `folder`: a network mount, or a probe that fails.

    LPMC_STORE=log or LPMC_STORE=sqlite decides it by hand, for file systems that hide what they are.
    """
    forced = os.environ.get("LPMC_STORE")
    if forced in ("log", "sqlite"):
        return forced == "log"
    return _mount_kind(folder) in NETWORK_FILE_SYSTEMS or not _wal_works(folder)


def _mount_kind(folder: Path) -> str:
    """The file system type of the longest mount point above `folder`; empty when the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    target, best, kind = folder.resolve(), -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, after = left.split(), right.split()
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after[0]
    return kind


def _wal_works(folder: Path) -> bool:
    """Whether a temporary database in `folder` can be switched to write-ahead logging and written from two sides."""
    name = folder / f".wal-probe-{uuid.uuid4().hex}.sqlite"
    try:
        first = sqlite3.connect(name, timeout=1)
        second = sqlite3.connect(name, timeout=1)
        try:
            mode = first.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            first.execute("CREATE TABLE probe (value)")
            first.commit()
            second.execute("INSERT INTO probe VALUES (1)")
            second.commit()
            seen = first.execute("SELECT count(*) FROM probe").fetchone()[0]
            return bool(mode == "wal" and seen == 1)
        finally:
            second.close()
            first.close()
    except sqlite3.OperationalError:
        return not os.access(folder, os.W_OK)  # a folder that can't be written is another fault, named elsewhere
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{name}{suffix}").unlink(missing_ok=True)


class AnswerLog:
    """The files `PATH.log/*.jsonl`: every process appends to one of its own and reads all of them when it starts.

    `index_path` is a private SQLite file on the local disk; it is made anew each time and removed by `close`.
    """

    def __init__(self, path: Path) -> None:
        self._folder = self._folder_of(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix="lpmc-store-"))
        self.index_path = self._scratch / "index.sqlite"
        self._file: Any = None
        self._own: Path | None = None
        self._read_to: dict[Path, int] = {}

    @staticmethod
    def _folder_of(path: Path) -> Path:
        return path.with_name(f"{path.name}.log")

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether the store at `path` is kept in this form."""
        return cls._folder_of(path).is_dir()

    def append(self, name: str, values: Sequence[Any]) -> None:
        """Write one operation, at once."""
        if self._file is None:
            # The name begins with the time, so that sorted names are the order in which processes began to write.
            name_of_file = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.jsonl"
            self._own = self._folder / name_of_file
            self._file = self._own.open("a", encoding="utf-8")
        self._file.write(json.dumps([name, *values], ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def read(self) -> Iterator[tuple[str, list[Any]]]:
        """The operations of all other processes that were not read yet, file by file in the order of their start."""
        for file in sorted(self._folder.glob("*.jsonl")):
            if file == self._own:
                continue
            with file.open("rb") as lines:
                lines.seek(self._read_to.get(file, 0))
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # cut off when its process died, or still being written
                    self._read_to[file] = self._read_to.get(file, 0) + len(line)
                    try:
                        name, *values = json.loads(line)
                    except ValueError:
                        continue
                    yield name, values

    def close(self) -> None:
        """Close the file and remove the private index."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
