"""Where a corpus's files lie in the folder that the user got, and whether the paths that they name stay inside."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from lpmc_errors import TableError

# What nearly all paths look like; taking a path apart takes ten times as long.
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)


def published_file(root: Path, name: str) -> Path | None:
    """The file `name` in the folder `root` or in one of its folders; `root` itself where it is a file.

    None where there is none. Raises `TableError` where several folders of `root` have one.
    """
    if root.is_file():
        return root
    if (root / name).is_file():
        return root / name
    found = sorted(path for path in root.glob(f"*/{name}") if path.is_file() and not path.parent.name.startswith("."))
    if len(found) > 1:
        folders = ", ".join(path.parent.name for path in found)
        raise TableError(root, f"has {name} in several folders ({folders})", "name one of them with --root")
    return found[0] if found else None


def inner_path(text: str) -> str:
    """A path from a corpus's file as POSIX text that leads to a file inside the folder it starts from.

    Raises `ValueError`, saying what is wrong, for a path that is empty, absolute or leads out, and for one that no
    system or table takes (NUL, text that is no Unicode).
    """
    if _PLAIN.fullmatch(text):
        return text
    path = PurePosixPath(text)
    if "\0" in text or not encodable(text):
        raise ValueError(f"the path {text!r} holds characters that no path has")
    if "\\" in text or PureWindowsPath(text).drive or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the path {text!r} leads out of the folder or is not written with `/`")
    if not path.name:
        raise ValueError("the path is empty")
    return str(path)


def encodable(text: str) -> bool:
    """Whether `text` can be written to a table: JSON may hold halves of surrogate pairs, which UTF-8 has not."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
