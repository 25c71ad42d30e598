"""Rows of a data set with their encoded audio, in order and from any row on, without a second copy of the corpus.

Parquet with the audio in it, local or on the Hub, is read row group by row group: `load_dataset` would first write it
all out again as Arrow. Whatever else the `datasets` library can load comes from its table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lpmc_errors import TableError
from modeling_lpmc.training.audio_cache import EncodedAudio
from modeling_lpmc.training.caption_texts import digest_of
from modeling_lpmc.training.data import AUDIO_COLUMN, chosen_config, id_column, load_split, parquet_files, texts_of

ROWS_AT_ONCE = 32  # audio of so many rows is held; 15 MB of 30 s MP3


@dataclass(frozen=True)
class SourceRow:
    """One row: `captions` are (column, text) pairs, empty when it has none."""

    row: int
    track_id: str
    audio: EncodedAudio
    captions: list[tuple[str, str]]
    tags: list[str]
    source: str | None


@dataclass(frozen=True)
class SourceSplit:
    """A split that can be read from any row on. `signature` changes with its files."""

    name: str
    split: str
    rows: int
    columns: tuple[str, ...]
    signature: str
    files: tuple[str, ...]  # Parquet; empty when `table` is read
    table: datasets.Dataset | None

    def read(self, first: int, captions: tuple[str, ...], tags: str | None) -> Iterator[SourceRow]:
        """The rows from number `first` on. Raises `TableError` for a damaged file."""
        ids = id_column(self.columns)
        wanted = [AUDIO_COLUMN, *captions, *[name for name in (tags, ids, "provenance") if name in self.columns]]
        wanted = [name for name in dict.fromkeys(wanted) if name in self.columns]
        row = first
        for batch in self._batches(first, wanted):
            for values in batch.to_pylist():
                audio = values[AUDIO_COLUMN] or {}
                yield SourceRow(
                    row,
                    str(values[ids]) if ids else str(row),
                    EncodedAudio(audio.get("bytes"), audio.get("path")),
                    [(name, text) for name in captions if name in values for text in texts_of(values[name])],
                    texts_of(values.get(tags)) if tags else [],
                    (values.get("provenance") or {}).get("source"),
                )
                row += 1

    def _batches(self, first: int, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        if self.table is not None:
            rows = self.table.select_columns(wanted).with_format("arrow")
            for start in range(first, self.rows, ROWS_AT_ONCE):
                yield from rows[start : min(start + ROWS_AT_ONCE, self.rows)].to_batches()
            return
        passed = 0
        for name in self.files:
            try:
                with fsspec.open(name, "rb") as opened:
                    file = pq.ParquetFile(opened)
                    for group in range(file.metadata.num_row_groups):
                        size = file.metadata.row_group(group).num_rows
                        skip = max(0, first - passed)
                        passed += size
                        if skip >= size:
                            continue
                        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=wanted):
                            if skip < len(batch):
                                yield batch.slice(skip)
                            skip = max(0, skip - len(batch))
            except (pa.ArrowInvalid, OSError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise TableError(name, f"cannot be read ({reason})", "build or download it again") from error


def open_source(dataset: str, config: str | None, split: str) -> SourceSplit:
    """Find a split of a built directory or Hub data set. Raises `UsageError` or `TableError` as `read_split` does."""
    config = chosen_config(dataset, config, split)
    name = "/".join(part for part in (dataset, config, split) if part)
    try:
        files = parquet_files(dataset, config, split)
    except Exception:  # what the library makes of folders it has no reader for; loading it says why
        files = ()
    if not files:
        table = load_split(dataset, config, split)
        if AUDIO_COLUMN in table.column_names:
            table = table.cast_column(AUDIO_COLUMN, datasets.Audio(decode=False))
        return SourceSplit(name, split, len(table), tuple(table.column_names), str(table._fingerprint), (), table)
    rows, marks, columns = 0, [], []
    for file in files:
        try:
            with fsspec.open(file, "rb") as opened:
                metadata = pq.ParquetFile(opened).metadata
                opened.seek(0, 2)
                size = opened.tell()
        except (pa.ArrowInvalid, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TableError(file, f"cannot be read ({reason})", "build or download it again") from error
        rows += metadata.num_rows
        columns.append(metadata.schema.to_arrow_schema().names)
        # Every column chunk's place and size: a changed clip changes them, and reading all audio would take an hour.
        marks.append([Path(file).name, size, json.dumps(metadata.to_dict(), default=str)])
    return SourceSplit(name, split, rows, tuple(columns[0]), digest_of(marks), files, None)


def config_name(dataset: str) -> str | None:
    """The configuration that is read when none is named; None where the `datasets` library knows no name for it."""
    name = datasets.get_dataset_default_config_name(dataset)
    return str(name) if name is not None else None


def split_names(dataset: str, config: str | None) -> list[str]:
    """The splits of a data set. Raises `UsageError` for an unknown configuration, `TableError`."""
    config = chosen_config(dataset, config, None)
    return list(datasets.get_dataset_split_names(dataset, config))
