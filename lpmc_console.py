"""What every command shares: a line for the person, a result for the program, a bar, a word about a missing extra."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lpmc_errors import MissingExtraError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output, nothing else.")]
OWN_MODULES = {
    "caption_metrics",
    "dataset_builder",
    "hub_cards",
    "lpmc_dataset",
    "lpmc_evaluate",
    "lpmc_hub",
    "lpmc_listening",
    "lpmc_pseudo_caption",
    "lpmc_quickstart",
    "lpmc_ratings",
    "lpmc_train",
    "modeling_lpmc",
    "space",
}


def say(text: str) -> None:
    """A line for the person, on standard error, so that standard output stays the program's result."""
    print(text, file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """`text` with line breaks and other control characters, which a file may have in its name, written out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def interrupt_is_answered() -> None:
    """Let the program end with its own exit code after Ctrl-C.

    Where Ctrl-C falls into `exec` of a string, as while a dataclass is made, CPython marks the process as one that died
    of it: under `python -m` it then kills itself by SIGINT, whatever exit code it was given. The mark is taken off when
    the next string is evaluated, which making a named tuple does.
    """
    from collections import namedtuple

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not spoil the exit code either
    namedtuple("Nothing", "")  # not for its fields


def quiet_libraries() -> None:
    """Switch off the bars that datasets and transformers draw of their own: one bar a command is enough."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def emit(value: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Print `value` as JSON, or call `text` to print it for a person."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        text()


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """Give `update(done, total, note)`: a live bar on a terminal, now and then a plain line elsewhere."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(title, total=None, note="")

            def draw(done: int, total: int, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield draw
        return
    spoken = time.monotonic()

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= 10 or (total and done == total and time.monotonic() - spoken >= 1):
            spoken = time.monotonic()
            say(f"{title}: {done}" + (f"/{total}" if total else "") + (f" ({note})" if note else ""))

    yield update


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Name the extra to install when an import inside the block fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OWN_MODULES:
            raise  # a broken installation, which no extra repairs
        raise MissingExtraError(error.name or "a package", extra=extra) from error
    except (ImportError, OSError) as error:
        library = _broken_library(error)
        if library is None:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise MissingExtraError(
            library, f"cannot be loaded ({reason})", f"pip install --force-reinstall {library}, or remove it"
        ) from error


def _broken_library(error: BaseException) -> str | None:
    """The installed package that failed with `error` while it was imported; None for an error of the work itself."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        folder = next((name for name in ("site-packages", "dist-packages") if name in parts[:-1]), None)
        if folder and frame.name == "<module>":
            return Path(parts[parts.index(folder) + 1]).stem
    return None
