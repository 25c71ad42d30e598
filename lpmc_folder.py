"""`lpmc caption --format`: the caption files of a folder, for a trainer to read; what is done stays done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpmc_console import emit, one_line, progress_bar, say
from lpmc_errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, Interrupted, UsageError
from lpmc_files import claimed

if TYPE_CHECKING:
    from modeling_lpmc.captioner import Captioner, FailedFile, TrackCaption
    from modeling_lpmc.selection import Selection
    from modeling_lpmc.sidecars import Layout

TABLE_SECONDS = 10.0  # a table is written this often, so that a killed run loses no more
TABLE_SHARE = 0.05  # of the time at most goes into writing the table, which is written whole
WRITE_LOCK = ".writing.lock"  # of tables; held for as long as one is replaced


@dataclass
class FolderReport:
    """What became of each file: `written`, `kept` from before, and `failed` with its error. The three add up."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `--json` prints."""
        return {"written": self.written, "kept": self.kept, "failed": self.failed}


class SharedTable:
    """The table of a folder, which several shards may write: what others wrote meanwhile is kept at every write."""

    def __init__(self, layout: Layout, *, replace: bool) -> None:
        from modeling_lpmc.sidecars import read_table, row_path

        self.layout, self.spent, self.written = layout, 0.0, time.monotonic()
        try:
            self.before = {row_path(row) for row in read_table(layout)}
            self.replace = False
        except UsageError:
            if not replace:
                raise
            self.before, self.replace = set(), True  # somebody else's table, up to the first write
        self.new: dict[str, dict[str, Any]] = {}

    def gone(self) -> int:
        """How many of the rows stand for files that are not there any more."""
        return sum(not (self.layout.root / path).is_file() for path in self.before)

    def add(self, result: TrackCaption) -> None:
        """Take a row, and write the table if it is time."""
        from modeling_lpmc.sidecars import row_path, table_row

        row = table_row(self.layout, result)
        self.new[row_path(row)] = row
        if time.monotonic() - self.written > max(TABLE_SECONDS, self.spent / TABLE_SHARE):
            self.write()

    def write(self) -> None:
        """Put the new rows into the table that stands there now, without those of files that are gone."""
        from filelock import FileLock

        from modeling_lpmc.sidecars import TABLES, read_table, row_path, rows_of_files, write_table

        begun = time.monotonic()
        self.layout.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.layout.folder / f".{TABLES[self.layout.format]}{WRITE_LOCK}"):
            found = [] if self.replace else read_table(self.layout)
            rows = {row_path(row): row for row in rows_of_files(self.layout, found)} | self.new
            write_table(self.layout, list(rows.values()))
        self.replace, self.written = False, time.monotonic()
        self.spent = self.written - begun


def caption_folder(
    paths: Sequence[Path],
    format_name: str,
    output: Path | None,
    *,
    overwrite: bool,
    dry_run: bool,
    load: Callable[[], Captioner],
    batch_size: int,
    num_beams: int | None,
    as_json: bool,
    selection: Selection | None = None,
    facts: bool = False,
    style: str = "house",
) -> int:
    """Caption what is not done yet, write it file by file, report; return the exit code.

    `selection` says which files of a folder (default: all), `facts` whether tempo, key and loudness are measured.
    `style` is that of the track's caption, `house` or `raw`.

    The model is loaded by `load` once it is known that there is work. Raises `UsageError` for what `plan_layout` and
    `read_table` refuse and for a table that another process writes, `Interrupted`, and what the captioner raises.
    """
    from modeling_lpmc.selection import EVERYTHING, find_audio
    from modeling_lpmc.sidecars import TABLES, check_prompt_module, plan_layout

    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(path, "there is no such file or folder", "check the name")
    selection = EVERYTHING if selection is None else selection
    tracks = [Path(os.path.abspath(path)) for path in find_audio(paths, selection)]
    layout = plan_layout(format_name, _root(paths), output, tracks)
    if format_name == "stable-audio" and not overwrite:
        check_prompt_module(layout)
    lock: AbstractContextManager[None] = nullcontext()
    if format_name in TABLES and not dry_run:
        share = f".{selection.shard}" if selection.shard else ""
        lock = claimed(layout.folder, f".{TABLES[format_name]}{share}.lock", "writes the captions")
    with lock:
        table = SharedTable(layout, replace=overwrite) if format_name in TABLES else None
        report, missing = _work(layout, table, tracks, overwrite)
        _tell(layout, table, report, missing, len(tracks))
        if missing and not dry_run:
            options: dict[str, Any] = {"batch_size": batch_size, "num_beams": num_beams, "facts": facts, "style": style}
            _caption(layout, table, missing, report, load(), options)
        elif table is not None and table.gone() and not dry_run:
            table.write()
    result = report.to_dict() | ({"missing": [str(path) for path in missing]} if dry_run else {})
    emit(result, as_json, lambda: print(_summary(report, layout, missing if dry_run else [])))
    if report.failed:
        return EXIT_PARTIAL if report.written or report.kept else EXIT_FAILED
    return EXIT_DONE


def _root(paths: Sequence[Path]) -> Path:
    """The folder that holds all that was named."""
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    return Path(os.path.commonpath(folders))


def _work(
    layout: Layout, table: SharedTable | None, tracks: Sequence[Path], overwrite: bool
) -> tuple[FolderReport, list[Path]]:
    """What is done, and the tracks that are to be captioned."""
    from modeling_lpmc.sidecars import read_sidecar

    report, missing = FolderReport(), []
    for track in tracks:
        if table is not None:
            done = track.relative_to(layout.root).as_posix() in table.before
        else:
            done = layout.sidecar(track).exists()
        if overwrite or not done:
            missing.append(track)
            continue
        try:
            if table is None:
                read_sidecar(layout.format, layout.sidecar(track))
            report.kept.append(str(track))
        except (OSError, ValueError) as error:  # perhaps somebody's own file: it is not ours to replace
            report.failed[str(track)] = (
                f"{layout.sidecar(track)}: is there and is no caption of format {layout.format} ({error}); "
                "move it away, or --overwrite it"
            )
    return report, missing


def _caption(
    layout: Layout,
    table: SharedTable | None,
    missing: Sequence[Path],
    report: FolderReport,
    captioner: Captioner,
    options: dict[str, Any],
) -> None:
    """Caption `missing` and write each track as it is done, a table now and then and at the end."""
    from modeling_lpmc.captioner import TrackCaption
    from modeling_lpmc.sidecars import write_prompt_module, write_sidecar

    if layout.format == "stable-audio":
        write_prompt_module(layout)

    def keep(result: TrackCaption | FailedFile) -> None:
        if not isinstance(result, TrackCaption):
            report.failed[result.path] = result.error
            say(f"lpmc: {one_line(result.error)}")
            return
        if table is not None:
            table.add(result)
        else:
            write_sidecar(layout, result)
        report.written.append(result.path)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it keep what is done
    try:
        with progress_bar("caption") as update:
            pace = Pace(len(missing))
            for result in captioner.caption_files(missing, **options):
                keep(result)
                update(pace.step(result), len(missing), str(pace))
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cost the table
        told = f"interrupted with {len(report.written)} of {len(missing)} files captioned"
        raise Interrupted("caption", told, "run the same command again to go on") from error
    finally:
        try:
            if table is not None and (table.new or table.gone()):
                table.write()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Pace:
    """How far a run has come: hours of audio, how many times faster than they play, and what may remain."""

    def __init__(self, files: int) -> None:
        self.files, self.done, self.seconds, self.begun = files, 0, 0.0, time.monotonic()

    def step(self, result: TrackCaption | FailedFile) -> int:
        """Count a file; return how many are done."""
        self.done += 1
        self.seconds += getattr(result, "duration", 0.0)
        return self.done

    def __str__(self) -> str:
        spent = max(time.monotonic() - self.begun, 1e-6)
        left = spent / max(self.done, 1) * (self.files - self.done)
        told = f"{self.seconds / 3600:.2f} h of audio, {self.seconds / spent:.1f} times real time"
        return f"{told}, {duration_in_words(left)} left" if self.done < self.files else told


def duration_in_words(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _tell(layout: Layout, table: SharedTable | None, report: FolderReport, missing: Sequence[Path], total: int) -> None:
    kept = f", {len(report.kept)} have theirs" if report.kept else ""
    say(f"lpmc: {total} files{kept}, {len(missing)} to caption; format {layout.format}, in {layout.folder}")
    gone = table.gone() if table is not None else 0
    if gone:
        say(f"lpmc: {layout.table}: {gone} lines of files that are gone are left out")
    for error in report.failed.values():
        say(f"lpmc: {one_line(error)}")


def _summary(report: FolderReport, layout: Layout, missing: Sequence[Path]) -> str:
    counts = f"{len(report.written)} captioned, {len(report.kept)} kept, {len(report.failed)} failed"
    lines = [f"{layout.folder}: {counts}"]
    return "\n".join([*lines, *(f"to caption: {path}" for path in missing)])
