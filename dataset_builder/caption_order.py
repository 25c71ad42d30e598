"""A captions table in the order of its tracks, so that one pass over it joins both, however large they are.

`lpmc pseudo-caption` writes its table in that order and nothing is done here. A table of another writer, or one that
was shuffled, or has all its rows in one group, would be read again for every few thousand tracks; it is sorted first,
on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builder import lp_musiccaps

ROWS_PER_GROUP = 10_000  # of the sorted table, as `lpmc pseudo-caption` writes it
TRACKS_PER_BUCKET = 20_000  # sorted in memory at once, with their captions about 60 MB
MAX_GROUP_ROWS = 200_000  # read at once in the join, about 150 MB
READS_ALLOWED = 4  # times that each row may be read in the join before sorting is the shorter way


def is_ordered(captions: Path, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether the row groups of a captions table follow the tracks (`Survey.spans`) closely enough, and are small."""
    footer = pq.read_metadata(captions)
    rows = np.array([footer.row_group(group).num_rows for group in range(footer.num_row_groups)])
    reads = np.array([-(-(last - first + 1) // lp_musiccaps.TRACKS_PER_CHUNK) for first, last in spans])
    return int(rows.max()) <= MAX_GROUP_ROWS and int((rows * reads).sum()) <= READS_ALLOWED * footer.num_rows


def write_ordered(captions: Path, ids: pa.Array, output: Path) -> tuple[tuple[int, int], ...]:
    """Write the rows of `captions` to `output` in the order of the tracks `ids`; return its spans.

    Needs the size of the table on the disk a second and a third time for a while, and the memory of one bucket.
    """
    count = -(-len(ids) // TRACKS_PER_BUCKET)
    buckets = [output.with_name(f"{output.name}.bucket{number}") for number in range(count)]
    spans: list[tuple[int, int]] = []
    try:
        _fill_buckets(captions, ids, buckets)
        with pq.ParquetWriter(output, lp_musiccaps.CAPTION_SCHEMA) as writer:
            for bucket in buckets:
                rows = pa.ipc.open_file(pa.memory_map(str(bucket))).read_all()
                if rows.num_rows:
                    rows = rows.sort_by([("position", "ascending"), ("instruction", "ascending")])
                    for start in range(0, rows.num_rows, ROWS_PER_GROUP):
                        part = rows.slice(start, ROWS_PER_GROUP)
                        positions = part.column("position")
                        spans.append((positions[0].as_py(), positions[-1].as_py()))
                        writer.write_table(part.drop_columns("position"))
                bucket.unlink()
    finally:
        for bucket in buckets:
            bucket.unlink(missing_ok=True)
    return tuple(spans)


def _fill_buckets(captions: Path, ids: pa.Array, buckets: Sequence[Path]) -> None:
    schema = lp_musiccaps.CAPTION_SCHEMA.append(pa.field("position", pa.int32()))
    with pq.ParquetFile(captions) as table:
        writers = [pa.ipc.new_file(str(bucket), schema) for bucket in buckets]
        try:
            for group in range(table.num_row_groups):  # over the whole file, Arrow would hold far more of it
                for batch in table.iter_batches(row_groups=[group], columns=list(lp_musiccaps.CAPTION_COLUMNS)):
                    position = pc.index_in(batch.column("track_id").cast(pa.string()), value_set=ids)
                    rows = lp_musiccaps.caption_rows(pa.Table.from_batches([batch]).append_column("position", position))
                    bucket = position.to_numpy() // TRACKS_PER_BUCKET
                    for number in np.unique(bucket):
                        writers[number].write_table(rows.filter(pa.array(bucket == number)))
        finally:
            for writer in writers:
                writer.close()
