"""What a reader does with a row or file that it cannot use: tell the caller and go on, or stop where nobody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpmc_errors import TableError

OnSkip = Callable[[Any, str], None]
"""`on_skip(item, reason)`: `item` names the file, row or clip that was left out."""


class ByChoice(str):
    """The reason why items were left out that are not bad: an option or the corpus itself leaves them out."""


def leave_out(on_skip: OnSkip | None, item: object, problem: str, remedy: str = "") -> None:
    """Record a bad item with `on_skip`; without one, raise `TableError`: nothing is lost unseen."""
    if on_skip is None:
        raise TableError(item, problem, remedy)
    on_skip(item, problem)
