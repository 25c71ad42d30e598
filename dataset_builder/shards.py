"""Parquet shards of one split, laid out for the Hub: small row groups, a page index, chunks that deduplicate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

MAX_SHARD_BYTES = 500_000_000  # the size at which `datasets` begins a new shard
AUDIO_ROWS_PER_GROUP = 100  # what the Hub's page on audio data sets recommends
TEXT_ROWS_PER_GROUP = 5_000  # about 10 MB of captions and provenance
MAX_GROUP_BYTES = 100_000_000  # `datasets`' own bound of a row group; whole songs reach it before 100 rows

# As `datasets` writes them: an upload then sends only the chunks that changed.
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}


def _column_options(schema: pa.Schema) -> dict[str, Any]:
    """Audio bytes as they are (compressing MP3 again costs time and gains nothing), everything else as usual."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    leaves = pq.ParquetFile(buffer.getvalue()).schema
    names = [leaves.column(index).path for index in range(len(leaves))]
    raw = {name for name in names if name == "audio.bytes"}
    return {
        "compression": {name: "none" if name in raw else "snappy" for name in names},
        "use_dictionary": [name for name in names if name not in raw],
        "column_encoding": dict.fromkeys(raw, "PLAIN"),
    }


class SplitWriter:
    """Writes the rows of one split as `<split>-00000-of-0000N.parquet` under `directory`.

    Holds one row group in memory. The same rows give the same bytes: nothing of the clock or the machine is written.
    """

    def __init__(
        self, directory: Path, split: str, features: datasets.Features, max_bytes: int = MAX_SHARD_BYTES
    ) -> None:
        self.directory = directory
        self.split = split
        self.max_bytes = max_bytes
        self.rows_per_group = AUDIO_ROWS_PER_GROUP if "audio" in features else TEXT_ROWS_PER_GROUP
        self._features = features
        self._schema = features.arrow_schema
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._shards: list[Path] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: dict[str, Any]) -> None:
        """Add a row. Raises `pyarrow.ArrowInvalid` or `ArrowTypeError` when a value does not fit its column."""
        audio = row.get("audio")
        size = len(audio["bytes"]) if audio else 0
        if self._rows and (len(self._rows) == self.rows_per_group or self._row_bytes + size > MAX_GROUP_BYTES):
            self._flush()
        self._rows.append(row)
        self._row_bytes += size

    def _flush(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        self._rows, self._row_bytes = [], 0
        if self._writer is None:
            path = self.directory / f"{self.split}-{len(self._shards):05d}.parquet"
            self._shards.append(path)
            self._writer = pq.ParquetWriter(
                path,
                self._schema,
                write_page_index=True,
                use_content_defined_chunking=_CHUNKING,
                **_column_options(self._schema),
            )
        self._writer.write_table(table, row_group_size=len(table))
        if self._shards[-1].stat().st_size >= self.max_bytes:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.add_key_value_metadata({"content_defined_chunking": json.dumps(_CHUNKING)})
            self._writer.close()
            self._writer = None

    def close(self) -> list[Path]:
        """Write what is left and give the shards their names, now that their number is known."""
        if self._rows:
            self._flush()
        self._close_shard()
        named = []
        for index, path in enumerate(self._shards):
            final = path.with_name(f"{self.split}-{index:05d}-of-{len(self._shards):05d}.parquet")
            named.append(path.rename(final))
        return named
