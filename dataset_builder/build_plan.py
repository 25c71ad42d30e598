"""What a build is going to write, decided before it writes: the shards, and by what a later run knows them again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from dataset_builder import lp_musiccaps, shards
from dataset_builder.lp_musiccaps import AudioFiles, Survey
from dataset_builder.shards import MAX_SHARDS, ShardTask
from hub_cards.licences import audio_publishable
from lpmc_files import write_json

PLAN_FILE = "plan.json"  # in the staging folder: what its finished shards were made from
LEFT_OUT_FILE = "left-out.json"  # beside it: ids of training tracks that leak
FORMAT = 1  # of the shards; raised when the same inputs give other bytes
FOOTER_BYTES = 65_536  # of a table: changes with every row, and is read in no time


@dataclass(frozen=True)
class BuildPlan:
    """The shards in the order of splits and rows, and a digest of everything that their bytes depend on."""

    tasks: tuple[ShardTask, ...]
    signature: str


def make_plan(
    staging: Path,
    tracks: Path,
    captions: Path,
    found: Survey,
    *,
    layout: str,
    audio_root: Path | None,
    audio: str,
    left_out: tuple[str, ...],
    shard_bytes: int,
    run: str,
) -> BuildPlan:
    """Cut every split into shards of about `shard_bytes`, of audio where it is embedded, else of text.

    Looks at the size of every audio file, not at what is in it.
    """
    state = hashlib.sha256()
    for path in (tracks, captions):
        state.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        with path.open("rb") as table:
            table.seek(-min(FOOTER_BYTES, path.stat().st_size), os.SEEK_END)
            state.update(table.read())
    versions = f"{FORMAT} {datasets.__version__} {pa.__version__} {soundfile.__libsndfile_version__}"
    options = [layout, found.instructions, str(audio_root), audio, left_out, shard_bytes, versions]
    state.update(json.dumps(options).encode())
    text_bytes = _uncompressed(tracks) + _uncompressed(captions)
    text_a_row = max(1, text_bytes // sum(found.splits.values()))
    tasks: list[ShardTask] = []
    for split, rows in found.rows.items():
        if audio == "none":
            sizes = np.full(sum(rows), text_a_row, dtype=np.int64)
        else:
            sizes = _audio_sizes(tracks, split, rows, audio_root, audio, state)
        limit = max(shard_bytes, int(sizes.sum()) // MAX_SHARDS)
        bounds = _bounds(sizes, limit)
        for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
            task = ShardTask(
                directory=str(staging),
                split=split,
                index=index,
                start=start,
                stop=stop,
                tracks=str(tracks),
                captions=str(captions),
                layout=layout,
                instructions=found.instructions,
                rows=rows,
                spans=found.spans,
                rows_per_chunk=max(1, min(shards.TEXT_ROWS_PER_GROUP, shards.TEXT_BYTES_PER_GROUP // text_a_row)),
                left_out=str(staging / LEFT_OUT_FILE) if left_out else None,
                audio_root=str(audio_root) if audio_root is not None else None,
                audio=audio,
                run=run,
            )
            tasks.append(task)
            state.update(f"{split} {start} {stop}".encode())
    return BuildPlan(tuple(tasks), state.hexdigest())


def _uncompressed(table: Path) -> int:
    footer = pq.read_metadata(table)
    return sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))


def _audio_sizes(
    tracks: Path, split: str, rows: tuple[int, ...], audio_root: Path | None, audio: str, state: Any
) -> np.ndarray:
    """The bytes of the audio of each track, 0 where there is none; `state` learns of every file."""
    files = AudioFiles(str(audio_root))
    sizes = np.zeros(sum(rows), dtype=np.int64)
    row = 0
    names = ("track_id", "audio_path", "source", "licence")
    for chunk in lp_musiccaps.chunks_of_split(str(tracks), split, rows, columns=names):
        for track_id, path, source, licence in zip(*(chunk.column(name).to_pylist() for name in names), strict=True):
            if audio == "all" or audio_publishable(source or "", licence):
                found = files.find(path, track_id, lp_musiccaps.youtube_id(track_id))
                if found is not None:
                    status = os.stat(found)
                    sizes[row] = status.st_size
                    state.update(f"{found} {status.st_size} {status.st_mtime_ns}".encode("utf-8", "surrogateescape"))
            row += 1
    return sizes


def _bounds(sizes: np.ndarray, limit: int) -> list[int]:
    """Where shards begin and end so that each holds at most `limit` bytes, or one row."""
    bounds = [0]
    ends = np.cumsum(sizes)
    while bounds[-1] < len(sizes):
        before = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
        fits = int(np.searchsorted(ends, before + limit, side="right"))
        bounds.append(max(fits, bounds[-1] + 1))
    return bounds


def resume_or_clear(staging: Path, plan: BuildPlan, left_out: tuple[str, ...]) -> list[ShardTask]:
    """Prepare the staging folder and return the tasks that are still to do.

    Shards of an interrupted build of the same plan are kept; anything else in the folder is removed.
    """
    try:
        known = json.loads((staging / PLAN_FILE).read_text(encoding="utf-8")).get("signature")
    except (OSError, ValueError, AttributeError):
        known = None
    finished = {task.parquet.name for task in plan.tasks if task.parquet.is_file() and task.tally.is_file()}
    if known != plan.signature:
        finished = set()
    keep = finished | {Path(name).with_suffix(".json").name for name in finished}
    for path in staging.iterdir():
        if path.name not in keep and not path.name.endswith(".lock"):
            path.unlink()
    write_json(staging / LEFT_OUT_FILE, list(left_out))
    write_json(staging / PLAN_FILE, {"signature": plan.signature})
    return [task for task in plan.tasks if task.parquet.name not in finished]
