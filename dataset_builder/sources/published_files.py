"""Where a corpus's files lie in the folder that the user got."""

from __future__ import annotations

from pathlib import Path

from lpmc_errors import TableError


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
