"""The one exception family of the project, and the exit codes of the command line.

An error is written for the person who reads it, in one line: which item, what was wrong or expected, what to do.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_DONE = 0
EXIT_FAILED = 1  # the run failed
EXIT_USAGE = 2  # wrong usage: an option, an unknown name
EXIT_PARTIAL = 3  # done, but some items were recorded as failed
EXIT_INTERRUPTED = 75  # interrupted; run the same command again to resume (BSD's EX_TEMPFAIL)


class LpmcError(Exception):
    """A fault that the user can act on: `item: problem; remedy`, in one line."""

    exit_code = EXIT_FAILED

    def __init__(self, item: object, problem: str, remedy: str = "") -> None:
        self.item = str(item)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self.item}: {problem}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[LpmcError], tuple[str, str, str]]:
        return type(self), (self.item, self.problem, self.remedy)  # so that worker processes can raise it


class UsageError(LpmcError):
    """An option or name that the program does not know."""

    exit_code = EXIT_USAGE


class TableError(LpmcError):
    """A tracks, captions or prediction table that cannot be used."""


class AudioError(LpmcError):
    """An audio file that cannot be read or is of no use (empty, silent where sound is needed, too short)."""


class EndpointError(LpmcError):
    """A language-model endpoint that cannot be reached or refuses the run (wrong key, unknown model, no quota)."""


class ModelError(LpmcError):
    """A model directory or checkpoint that cannot be loaded."""


class MissingExtraError(LpmcError):
    """A command needs a package of an extra that is not installed."""

    def __init__(self, item: object, problem: str = "", remedy: str = "", *, extra: str = "") -> None:
        if extra:
            problem = problem or "is not installed"
            remedy = remedy or f"pip install 'lp-musiccaps[{extra}]'"
        super().__init__(item, problem, remedy)


class DiskError(LpmcError):
    """Writing failed: full disk, no permission, read-only file system."""


class Interrupted(LpmcError):
    """The run was interrupted and left a state that the same command resumes from."""

    exit_code = EXIT_INTERRUPTED


_DISK_REMEDIES = {
    errno.ENOSPC: ("no space is left on the disk", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EACCES: ("no permission to write there", "choose another --output or change the permissions"),
    errno.EPERM: ("no permission to write there", "choose another --output or change the permissions"),
    errno.EROFS: ("the file system is read-only", "choose another --output"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter one"),
    errno.EFBIG: ("the file would exceed the allowed size", "raise the limit (ulimit -f) or write elsewhere"),
}


def disk_fault(error: OSError, path: Path | str) -> DiskError | None:
    """The `DiskError` that a full, read-only or forbidden disk deserves; None for any other error."""
    known = _DISK_REMEDIES.get(error.errno or 0)
    return DiskError(path, *known) if known else None


_RUST_FAULT = re.compile(r"\(os error (\d+)\)$")


@contextmanager
def disk_faults_named(path: Path | str) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk under `path` into a `DiskError`; other errors pass through."""
    try:
        yield
    except Exception as error:
        # safetensors and other libraries in Rust raise errors of their own, which end with the number of the fault.
        told = error if isinstance(error, OSError) else _RUST_FAULT.search(str(error))
        fault = disk_fault(OSError(int(told[1]), "") if isinstance(told, re.Match) else told, path) if told else None
        if fault is None:
            raise
        raise fault from error
