"""A captions table in the order of its tracks, so that one pass over it joins both, however large they are.

`lpmc pseudo-caption` writes its table in that order and nothing is done here. A table of another writer, or one that
was shuffled, would be read again for every few thousand tracks; it is sorted first, on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TRACKS_PER_BUCKET = 20_000  # sorted in memory at once, with their captions about 60 MB
READS_ALLOWED = 4  # times that each row may be read in the join before sorting is the shorter way


def is_ordered(spans: Sequence[tuple[int, int]], tracks: int) -> bool:
    """Whether the row groups of a captions table (`Survey.spans`) follow the tracks closely enough."""
    return sum(max(0, last - first + 1) for first, last in spans) <= READS_ALLOWED * max(tracks, 1) or len(spans) == 1


def write_ordered(captions: Path, columns: Sequence[str], ids: pa.Array, output: Path) -> tuple[tuple[int, int], ...]:
    """Write the rows of `captions` to `output` in the order of the tracks `ids`; return its spans.

    Needs the size of the table on the disk a second and a third time for a while, and the memory of one bucket.
    """
    count = -(-len(ids) // TRACKS_PER_BUCKET)
    buckets = [output.with_name(f"{output.name}.bucket{number}") for number in range(count)]
    spans: list[tuple[int, int]] = []
    try:
        _fill_buckets(captions, columns, ids, buckets)
        with pq.ParquetFile(captions) as table:
            schema = pa.schema([table.schema_arrow.field(name) for name in columns])
        with pq.ParquetWriter(output, schema) as writer:
            for bucket in buckets:
                rows = pa.ipc.open_file(pa.memory_map(str(bucket))).read_all()
                if rows.num_rows:
                    rows = rows.sort_by([("position", "ascending"), ("instruction", "ascending")])
                    positions = rows.column("position")
                    spans.append((positions[0].as_py(), positions[-1].as_py()))
                    writer.write_table(rows.drop_columns("position"), row_group_size=rows.num_rows)
                bucket.unlink()
    finally:
        for bucket in buckets:
            bucket.unlink(missing_ok=True)
    return tuple(spans)


def _fill_buckets(captions: Path, columns: Sequence[str], ids: pa.Array, buckets: Sequence[Path]) -> None:
    with pq.ParquetFile(captions) as table:
        fields = [table.schema_arrow.field(name) for name in columns]
        schema = pa.schema([*fields, pa.field("position", pa.int32())])
        writers = [pa.ipc.new_file(str(bucket), schema) for bucket in buckets]
        try:
            for batch in table.iter_batches(columns=list(columns)):
                position = pc.index_in(batch.column("track_id").cast(pa.string()), value_set=ids)
                rows = pa.Table.from_batches([batch]).append_column("position", position)
                bucket = position.to_numpy() // TRACKS_PER_BUCKET
                for number in np.unique(bucket):
                    writers[number].write_table(rows.filter(pa.array(bucket == number)).select(schema.names))
        finally:
            for writer in writers:
                writer.close()
