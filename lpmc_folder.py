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
    from modeling_lpmc.sidecars import Layout

TABLE_SECONDS = 10.0  # a table is written this often, so that a killed run loses no more


@dataclass
class FolderReport:
    """What became of each file: `written`, `kept` from before, and `failed` with its error. The three add up."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `--json` prints."""
        return {"written": self.written, "kept": self.kept, "failed": self.failed}


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
) -> int:
    """Caption what is not done yet, write it file by file, report; return the exit code.

    The model is loaded by `load` once it is known that there is work. Raises `UsageError` for what `plan_layout` and
    `read_table` refuse and for a table that another process writes, `Interrupted`, and what the captioner raises.
    """
    from modeling_lpmc.captioner import find_audio
    from modeling_lpmc.sidecars import TABLES, plan_layout

    tracks = [Path(os.path.abspath(path)) for path in find_audio(paths)]
    layout = plan_layout(format_name, _root(paths), output, tracks)
    lock: AbstractContextManager[None] = nullcontext()
    if format_name in TABLES and not dry_run:
        lock = claimed(layout.folder, f".{TABLES[format_name]}.lock", "writes the captions")
    with lock:
        report, rows, missing = _work(layout, tracks, overwrite)
        _tell(layout, report, missing, len(tracks))
        if missing and not dry_run:
            _caption(layout, missing, rows, report, load(), batch_size=batch_size, num_beams=num_beams)
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
    layout: Layout, tracks: Sequence[Path], overwrite: bool
) -> tuple[FolderReport, dict[str, dict[str, Any]], list[Path]]:
    """What is done, the rows of the table so far, and the tracks that are to be captioned."""
    from modeling_lpmc.sidecars import TABLES, read_sidecar, read_table, row_path

    report, missing = FolderReport(), []
    if layout.format in TABLES:
        try:
            rows = {row_path(row): row for row in read_table(layout)}
        except UsageError:
            if not overwrite:
                raise
            rows = {}
        for track in tracks:
            if not overwrite and track.relative_to(layout.root).as_posix() in rows:
                report.kept.append(str(track))
            else:
                missing.append(track)
        return report, rows, missing
    for track in tracks:
        sidecar = layout.sidecar(track)
        if overwrite or not sidecar.exists():
            missing.append(track)
            continue
        try:
            read_sidecar(layout.format, sidecar)
            report.kept.append(str(track))
        except (OSError, ValueError) as error:  # perhaps somebody's own file: it is not ours to replace
            report.failed[str(track)] = (
                f"{sidecar}: is there and is no caption of format {layout.format} ({error}); "
                "move it away, or --overwrite it"
            )
    return report, {}, missing


def _caption(
    layout: Layout,
    missing: Sequence[Path],
    rows: dict[str, dict[str, Any]],
    report: FolderReport,
    captioner: Captioner,
    *,
    batch_size: int,
    num_beams: int | None,
) -> None:
    """Caption `missing` and write each track as it is done, a table every `TABLE_SECONDS` and at the end."""
    from modeling_lpmc.captioner import TrackCaption
    from modeling_lpmc.sidecars import (
        TABLES,
        row_path,
        table_row,
        write_prompt_module,
        write_sidecar,
        write_table,
    )

    in_table = layout.format in TABLES
    if layout.format == "stable-audio":
        write_prompt_module(layout)
    table_written = time.monotonic()

    def keep(result: TrackCaption | FailedFile) -> None:
        nonlocal table_written
        if not isinstance(result, TrackCaption):
            report.failed[result.path] = result.error
            say(f"lpmc: {one_line(result.error)}")
            return
        if in_table:
            row = table_row(layout, result)
            rows[row_path(row)] = row
            if time.monotonic() - table_written > TABLE_SECONDS:
                write_table(layout, list(rows.values()))
                table_written = time.monotonic()
        else:
            write_sidecar(layout, result)
        report.written.append(result.path)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it keep what is done
    try:
        with progress_bar("caption") as update:
            results = captioner.caption_files(missing, batch_size=batch_size, num_beams=num_beams)
            for done, result in enumerate(results, 1):
                keep(result)
                update(done, len(missing), "")
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cost the table
        told = f"interrupted with {len(report.written)} of {len(missing)} files captioned"
        raise Interrupted("caption", told, "run the same command again to go on") from error
    finally:
        if in_table and report.written:
            write_table(layout, list(rows.values()))
        signal.signal(signal.SIGTERM, before)


def _tell(layout: Layout, report: FolderReport, missing: Sequence[Path], total: int) -> None:
    kept = f", {len(report.kept)} have theirs" if report.kept else ""
    say(f"lpmc: {total} files{kept}, {len(missing)} to caption; format {layout.format}, in {layout.folder}")
    for error in report.failed.values():
        say(f"lpmc: {one_line(error)}")


def _summary(report: FolderReport, layout: Layout, missing: Sequence[Path]) -> str:
    counts = f"{len(report.written)} captioned, {len(report.kept)} kept, {len(report.failed)} failed"
    lines = [f"{layout.folder}: {counts}"]
    return "\n".join([*lines, *(f"to caption: {path}" for path in missing)])
