"""A source by name with options as text, the way the command line gives them (`clips=100`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dataset_builder.sources import load_source
from dataset_builder.tracks import TaggedTrack
from lpmc_errors import TableError, UsageError

_CALLBACKS = ("on_skip", "progress")  # what the caller provides, no option of the user
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def read_source(
    name: str,
    root: Path,
    options: Sequence[str] = (),
    *,
    on_skip: Callable[[Any, str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[TaggedTrack]:
    """Read the source `name` under `root` with `KEY=VALUE` options.

    `on_skip(item, reason)` is told of every item that was left out, `progress(done, total)` of the advance, where the
    source has such. Raises `UsageError` for an unknown source, an unknown option or a value of the wrong kind.
    """
    reader = load_source(name)
    parameters = inspect.signature(reader, eval_str=True).parameters
    known = {key: item for key, item in parameters.items() if key not in ("root", *_CALLBACKS)}
    arguments: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key not in known:
            choice = ", ".join(sorted(known)) or "none"
            raise UsageError(f"--set {option}", f"is no option of the source {name}", f"its options are: {choice}")
        arguments[key] = _value(option, text, known[key].annotation)
    for key, callback in zip(_CALLBACKS, (on_skip, progress), strict=True):
        if key in parameters and callback is not None:
            arguments[key] = callback
    if not root.exists() and name != "rendered":
        raise TableError(root, "no such file or folder", f"give the {name} corpus with --root")
    return reader(root, **arguments)


def _value(option: str, text: str, kind: Any) -> Any:
    kinds = getattr(kind, "__args__", (kind,))
    try:
        if bool in kinds:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except ValueError as error:
        names = " or ".join(getattr(item, "__name__", str(item)) for item in kinds if item is not type(None))
        raise UsageError(f"--set {option}", f"the value is no {names}", "correct it") from error
    return Path(text) if Path in kinds else text
