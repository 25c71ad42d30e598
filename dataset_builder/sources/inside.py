"""Paths that a corpus's files name: taken only where they stay inside the folder that they start from."""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def inside(text: str) -> str:
    """A path from a file's content as a relative POSIX path; backslashes of Windows become slashes.

    Raises `ValueError`, with what is wrong, for an absolute path and for one that leads out with `..`.
    """
    path = text.replace("\\", "/")
    if _ABSOLUTE.match(path):
        raise ValueError(f"names the absolute path {text[:80]!r}, expected one relative to the folder of the audio")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or not parts:
        raise ValueError(f"names the path {text[:80]!r}, which leads out of the folder of the audio")
    return "/".join(parts)
