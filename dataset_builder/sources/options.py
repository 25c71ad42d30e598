"""A source by name with options as text, the way the command line gives them (`clips=100`)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from dataset_builder.sources import load_source
from dataset_builder.tracks import TaggedTrack
from lpmc_errors import TableError, UsageError

_CALLBACKS = ("on_skip", "progress")  # what the caller provides, no option of the user
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")
_MAKES_ITS_ROOT = frozenset({"rendered"})  # sources whose root need not be there yet


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
    source has such. Raises `UsageError` for an unknown source, an option that is unknown or given twice, or a value
    of the wrong kind; `TableError` where there is no `root`.
    """
    arguments = parse_options(name, options)
    reader = load_source(name)
    parameters = inspect.signature(reader).parameters
    for key, callback in zip(_CALLBACKS, (on_skip, progress), strict=True):
        if key in parameters and callback is not None:
            arguments[key] = callback
    if name in _MAKES_ITS_ROOT:
        return reader(root, **arguments)
    if not os.path.exists(root):  # unlike pathlib's, no error for a name that is too long
        raise TableError(root, "no such file or folder", f"give the {name} corpus with --root")
    return _read_faults_named(reader(root, **arguments), root)


def _read_faults_named(tracks: Iterator[TaggedTrack], root: Path) -> Iterator[TaggedTrack]:
    """Hand the tracks on; a file that the system does not let us read becomes a `TableError`."""
    try:
        yield from tracks
    except OSError as error:
        raise TableError(
            error.filename or root, f"cannot be read ({error.strerror or error})", "look at its permissions and disk"
        ) from error


def source_options(name: str) -> Mapping[str, Any]:
    """The options of the source `name`: what may be given, and of which type. Raises `UsageError` for no source."""
    parameters = inspect.signature(load_source(name), eval_str=True).parameters
    return {key: item.annotation for key, item in parameters.items() if key not in ("root", *_CALLBACKS)}


def parse_options(name: str, options: Sequence[str]) -> dict[str, Any]:
    """The values of `KEY=VALUE` options of the source `name`. Raises `UsageError` as `read_source` does."""
    known = source_options(name)
    arguments: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals and key in known:
            raise UsageError(f"--set {option}", "has no value", f"write --set {key}=VALUE")
        if key not in known:
            choice = ", ".join(sorted(known)) or "none"
            raise UsageError(f"--set {option}", f"is no option of the source {name}", f"its options are: {choice}")
        if key in arguments:
            raise UsageError(f"--set {option}", f"{key} is given twice", "leave one of them out")
        arguments[key] = _value(option, text, known[key])
    return arguments


def _value(option: str, text: str, annotation: Any) -> Any:
    """`text` as what `annotation` (`int`, `Path | None`, `Literal["a", "b"]`, ...) asks for."""
    kinds = [annotation] if get_origin(annotation) is Literal else list(get_args(annotation) or (annotation,))
    choices = {str(choice): choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)}
    if choices:
        if text not in choices:
            raise UsageError(f"--set {option}", "is no such choice", f"choose from {', '.join(choices)}")
        return choices[text]
    try:
        if bool in kinds:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
        if Path in kinds:
            if not text or "\0" in text:
                raise ValueError
            return Path(text)
    except ValueError as error:
        names = " or ".join(getattr(item, "__name__", str(item)) for item in kinds if item is not type(None))
        raise UsageError(f"--set {option}", f"the value is no {names}", "correct it") from error
    return text
