"""`lpmc train prepare`: a data set decoded once into mono 16 kHz int16 shards that training maps into memory.

A shard is whole or absent, and the rows it covers are recorded beside it; so a run that was killed goes on after the
last whole one and writes the same bytes as an undisturbed one. Clips that are of no use are recorded and left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lpmc_errors import TableError, UsageError
from lpmc_files import atomic_path, claimed, write_json
from modeling_lpmc.audio import RESAMPLER_QUALITY, SAMPLING_RATE
from modeling_lpmc.training.arguments import CAPTION_COLUMNS
from modeling_lpmc.training.audio_cache import FORMAT as AUDIO_FORMAT
from modeling_lpmc.training.audio_cache import FULL_SCALE, Report, decoded
from modeling_lpmc.training.data import AUDIO_COLUMN
from modeling_lpmc.training.prepare_source import SourceRow, SourceSplit, config_name, open_source, split_names
from modeling_lpmc.training.shards import (
    BEGUN,
    CLIP_SCHEMA,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    SAMPLE_BYTES,
    Shard,
    read_left_out,
    read_manifest,
    sha256_of,
)

SHARD_BYTES = 256 * 2**20  # of sound: 800 clips of ten seconds; what a kill costs at most
DECODED_AHEAD = 2  # clips a thread; bounds the memory

_LOCK = ".preparing.lock"


@dataclass(frozen=True)
class Preparation:
    """What was prepared. `clips`, `left_out` are by split; `left_out` holds (row, track id, reason)."""

    output: Path
    config: str | None
    clips: dict[str, int]
    hours: dict[str, float]
    shards: int
    bytes: int
    left_out: dict[str, list[tuple[int, str, str]]]
    was_finished: bool


def prepare(
    dataset: str,
    output: Path,
    *,
    config: str | None = None,
    splits: Sequence[str] = (),
    captions: Sequence[str] = (),
    tags: str = "tag",
    workers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    report: Report,
) -> Preparation:
    """Decode `dataset` (a built directory or a Hub id) into `output`; the same call goes on after a kill.

    `splits` and `captions` default to all there are. `workers` threads decode; None is one a processor.

    Where files of a finished preparation are gone or cut short, their shards alone are made anew.

    Raises `UsageError` for an unknown configuration, split or column, for a folder that holds something else, and while
    another process prepares into it; `TableError` for data without audio, or with no usable clip; `DiskError`.
    """
    names = list(splits) or split_names(dataset, config)
    sources = [open_source(dataset, config, split) for split in names]
    columns, tag_column = _columns(sources, tuple(captions), tags)
    begun = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "audio_format": AUDIO_FORMAT,
        "sampling_rate": SAMPLING_RATE,
        "encoding": f"mono, little-endian int16, {FULL_SCALE} is full scale",
        "resampler": f"soxr {RESAMPLER_QUALITY}",
        "dataset": Path(dataset).resolve().name if Path(dataset).exists() else dataset,
        "config": config or config_name(dataset),  # recipes name one, also where there is only one
        "captions": list(columns),
        "tags": tag_column,
        "shard_bytes": shard_bytes,
        "signatures": {source.split: source.signature for source in sources},
    }
    with claimed(output, _LOCK, "prepares"):
        was_finished = _same_preparation(output, begun)
        if not was_finished:
            write_json(output / BEGUN, begun)
            rows_done, rows = 0, sum(source.rows for source in sources)
            found = {}
            for source in sources:
                found[source.split] = _prepare_split(
                    source,
                    output,
                    columns,
                    tag_column,
                    workers or os.cpu_count() or 1,
                    shard_bytes,
                    lambda done, before=rows_done: report("decoding", before + done, rows),
                )
                rows_done += source.rows
            write_json(output / MANIFEST, begun | {"splits": found})
            (output / BEGUN).unlink(missing_ok=True)
    return _result(output, was_finished)


def _columns(sources: list[SourceSplit], captions: tuple[str, ...], tags: str) -> tuple[tuple[str, ...], str | None]:
    present = {name for source in sources for name in source.columns}
    for source in sources:
        if AUDIO_COLUMN not in source.columns:
            raise TableError(source.name, "has no audio", "build it with `lpmc build ... --audio-root DIR`")
    wanted = captions or CAPTION_COLUMNS
    found = tuple(name for name in wanted if name in present)
    if not found or (captions and found != captions):
        missing = ", ".join(name for name in wanted if name not in present)
        raise UsageError(
            f"--captions {missing}", f"{sources[0].name} has no such column", f"it has {', '.join(sorted(present))}"
        )
    return found, tags if tags in present else None


def _same_preparation(output: Path, begun: dict[str, Any]) -> bool:
    """Is it finished already? Raises `UsageError` when the folder holds anything else than this preparation."""
    for name in (MANIFEST, BEGUN):
        try:
            values = json.loads((output / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError:
            values = {}
        for key, value in begun.items():
            if values.get(key) != value:
                what = "the data set has changed since" if key == "signatures" else f"other {key}"
                raise UsageError(output, f"holds a preparation of other data ({what})", "choose another --output")
        return name == MANIFEST and _is_whole(output)
    if any(path.name != _LOCK for path in output.iterdir()):
        raise UsageError(output, "holds files that are no preparation", "choose an empty --output")
    return False


def _is_whole(output: Path) -> bool:
    """Has every shard of the manifest its files, in their size? `verify` reads what is in them."""
    manifest = read_manifest(output)
    return all(
        _finished(output / split / f"{shard.name}.json", shard.start) is not None
        for split in manifest.splits
        for shard in manifest.shards(split)
    )


def _prepare_split(
    source: SourceSplit,
    output: Path,
    columns: tuple[str, ...],
    tags: str | None,
    workers: int,
    shard_bytes: int,
    report: Any,
) -> dict[str, Any]:
    folder = output / source.split
    folder.mkdir(exist_ok=True)
    for half_written in folder.glob(".shard-*"):
        half_written.unlink()
    shards: list[Shard] = []
    heard: set[str] = set()
    position = 0
    with _Decoders(source, columns, tags, workers) as decoders:
        while position < source.rows:
            name = f"shard-{len(shards):05d}"
            finished = _finished(folder / f"{name}.json", position)
            if finished is None:
                finished = _write_shard(
                    folder, name, decoders.from_row(position), position, columns, shard_bytes, report
                )
            shards.append(Shard(**finished["shard"]))
            heard.update(finished["sources"])
            position = shards[-1].stop
            report(position)
    if not any(shard.clips for shard in shards):
        first = next((_tally(folder / f"{shard.name}.json")["left_out"] for shard in shards), [[0, "", "no rows"]])[0]
        raise TableError(
            source.name,
            f"none of its {source.rows} rows has usable audio and a caption (row {first[0]}: {first[2]})",
            "build it with `lpmc build ... --audio-root DIR`",
        )
    return {"rows": source.rows, "sources": sorted(heard), "shards": [asdict(shard) for shard in shards]}


def _tally(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _finished(path: Path, start: int) -> dict[str, Any] | None:
    """The tally of a shard that an earlier run wrote, if it is whole and begins at row `start`."""
    try:
        tally = _tally(path)
        shard = Shard(**tally["shard"])
        read_left_out(path, shard)
    except (OSError, ValueError, KeyError, TypeError, TableError):
        return None
    sound, text = path.with_suffix(".int16"), path.with_suffix(".arrow")
    if shard.start != start or not sound.is_file() or sound.stat().st_size != shard.bytes or not text.is_file():
        return None
    return tally if sha256_of(text) == shard.text_sha256 else None


def _write_shard(
    folder: Path,
    name: str,
    clips: Iterator[tuple[SourceRow, np.ndarray | str]],
    start: int,
    columns: tuple[str, ...],
    shard_bytes: int,
    report: Any,
) -> dict[str, Any]:
    sound, text = folder / f"{name}.int16", folder / f"{name}.arrow"
    rows: list[dict[str, Any]] = []
    left_out: list[tuple[int, str, str]] = []
    heard: set[str] = set()
    digest, written, stop = hashlib.sha256(), 0, start
    with atomic_path(sound) as temporary, temporary.open("wb") as file:
        for row, samples in clips:
            stop = row.row + 1
            if isinstance(samples, str):
                left_out.append((row.row, row.track_id, samples))
            else:
                data = samples.astype("<i2", copy=False).tobytes()
                file.write(data)
                digest.update(data)
                rows.append(
                    {
                        "row": row.row,
                        "track_id": row.track_id,
                        "start": written // SAMPLE_BYTES,
                        "samples": len(samples),
                        "captions": [caption for _, caption in row.captions],
                        "columns": [columns.index(column) for column, _ in row.captions],
                        "tags": row.tags,
                    }
                )
                written += len(data)
                heard.update([row.source] if row.source else [])
            report(stop)
            if written >= shard_bytes:
                break
    table = pa.Table.from_pylist(rows, schema=CLIP_SCHEMA).combine_chunks()
    with atomic_path(text) as temporary, pa.ipc.new_file(str(temporary), CLIP_SCHEMA) as writer:
        writer.write_table(table)
    modified = sound.stat().st_mtime_ns
    shard = Shard(name, start, stop, len(rows), written, digest.hexdigest(), sha256_of(text), modified)
    tally = {"shard": asdict(shard), "sources": sorted(heard), "left_out": left_out}
    write_json(folder / f"{name}.json", tally)  # last: where it is, the shard is finished
    return tally


class _Decoders:
    """Decodes rows in order, a few ahead of the writer, on threads: libsndfile and soxr release the interpreter."""

    def __init__(self, source: SourceSplit, columns: tuple[str, ...], tags: str | None, workers: int) -> None:
        self.source, self.columns, self.tags, self.workers = source, columns, tags, workers
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self.clips: Iterator[tuple[SourceRow, np.ndarray | str]] | None = None
        self.position = -1

    def __enter__(self) -> _Decoders:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def from_row(self, position: int) -> Iterator[tuple[SourceRow, np.ndarray | str]]:
        """Rows from `position` on with their samples or the reason why there are none; one stream, taken up again."""
        if self.clips is None or self.position != position:
            self.clips, self.position = self._decoded(position), position
        for row, samples in self.clips:
            self.position = row.row + 1
            yield row, samples

    def _decoded(self, position: int) -> Iterator[tuple[SourceRow, np.ndarray | str]]:
        waiting: deque[tuple[SourceRow, Future[np.ndarray | str]]] = deque()
        for row in self.source.read(position, self.columns, self.tags):
            waiting.append((row, self.pool.submit(_samples, row)))
            if len(waiting) > self.workers * DECODED_AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _samples(row: SourceRow) -> np.ndarray | str:
    return decoded(row.audio, SAMPLING_RATE) if row.captions else "no caption"


def _result(output: Path, was_finished: bool) -> Preparation:
    manifest = read_manifest(output)
    shards = {split: manifest.shards(split) for split in manifest.splits}
    every = [shard for own in shards.values() for shard in own]
    seconds = {split: sum(shard.bytes for shard in own) / SAMPLE_BYTES / SAMPLING_RATE for split, own in shards.items()}
    return Preparation(
        output,
        manifest.config,
        {split: sum(shard.clips for shard in own) for split, own in shards.items()},
        {split: round(value / 3600, 3) for split, value in seconds.items()},
        len(every),
        sum(shard.bytes for shard in every),
        {split: manifest.left_out(split) for split in manifest.splits},
        was_finished,
    )


__all__ = ["SHARD_BYTES", "Preparation", "prepare"]
