"""Paths that a corpus's files name: taken only where they stay inside the folder that they start from."""

from __future__ import annotations

import re

from .table_rows import encodable

# What nearly all paths look like; taking a path apart takes ten times as long.
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def inside(text: str) -> str:
    """A path from a file's content as a relative POSIX path; backslashes of Windows become slashes.

    Raises `ValueError`, with what is wrong, for a path that is absolute, leads out with `..`, names nothing, or that no
    system or table takes (NUL, text that is no Unicode).
    """
    if _PLAIN.fullmatch(text):
        return text
    if "\0" in text or not encodable(text):
        raise ValueError(f"names the path {text[:80]!r}, which has characters that no path has")
    path = text.replace("\\", "/")
    if _ABSOLUTE.match(path):
        raise ValueError(f"names the absolute path {text[:80]!r}, expected one relative to the folder of the audio")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"names the path {text[:80]!r}, which leads out of the folder of the audio")
    if not parts or path.endswith("/"):
        raise ValueError(f"names the path {text[:80]!r}, which is no file's")
    return "/".join(parts)
