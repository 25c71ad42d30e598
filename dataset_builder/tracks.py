"""One row a track: what a corpus says about it, and the Parquet table that the rest of the pipeline reads.

Only `tags` ever reach a prompt. Title, artist, album and year describe the row and are kept away from the language
model on purpose (paper section 2.2: they invite it to recite what it knows about the artist).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lpmc_errors import TableError
from lpmc_files import atomic_path


@dataclass(frozen=True)
class TaggedTrack:
    """A track or clip with the tags its corpus gives it.

    `split` carries the corpus's own name (`train`, `valid`, `test`, ...; empty when it has none).
    `audio_path` is absolute or relative to the audio root, None when the corpus ships no audio.
    `extra` holds further published columns under the corpus's own names (for MusicCaps `ytid`, `start_s`, ...;
    for rendered clips the exact facts); its values must be JSON. Keys that other rooms look for: `artist_id` and
    `recording_id` (the corpus's own ids; clips of one recording share the latter), `is_audioset_eval`,
    `evaluation_pool` (the name of an evaluation set that the track belongs to), and `facts` (a JSON object that is
    published as it is).
    """

    track_id: str
    tags: tuple[str, ...]
    split: str = ""
    source: str = ""
    licence: str = ""
    audio_path: str | None = None
    reference_captions: tuple[str, ...] = ()
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    year: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    # Both are for the report and not in the table: empty and repeated tags as they stood, and whether the audio lies in
    # the corpus's own table, where `audio_path` only names it.
    dropped_tags: tuple[str, ...] = ()
    has_embedded_audio: bool = False


TRACKS_SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("split", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("audio_path", pa.string()),
        ("reference_captions", pa.list_(pa.string())),
        ("title", pa.string()),
        ("artist", pa.string()),
        ("album", pa.string()),
        ("year", pa.int64()),
        ("extra", pa.string()),  # JSON object
    ]
)

ROWS_PER_GROUP = 10_000  # bounds the memory of reading and writing; a row is about 0.3 kB


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags with surrounding white space and exact repetitions removed; order and spelling stay the corpus's own."""
    return sort_out_tags(tags)[0]


def sort_out_tags(tags: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`clean_tags(tags)`, and what it left out: empty tags (as empty text) and exact repetitions, in their order."""
    kept: dict[str, None] = {}
    dropped: list[str] = []
    for tag in tags:
        text = tag.strip()
        if not text or text in kept:
            dropped.append(text)
        else:
            kept[text] = None
    return tuple(kept), tuple(dropped)


def check_ids(tracks: Iterable[TaggedTrack], item: object) -> Iterator[TaggedTrack]:
    """Hand the tracks on as they come; raises `TableError` naming `item` for an empty or repeated `track_id`."""
    seen: set[str] = set()
    for track in tracks:
        if not track.track_id:
            raise TableError(item, f"row {len(seen) + 1} has an empty track_id", "give every track an id")
        if track.track_id in seen:
            raise TableError(item, f"track_id {track.track_id!r} occurs twice", "make the ids unique")
        seen.add(track.track_id)
        yield track


def _batch(tracks: Sequence[TaggedTrack], item: object) -> pa.RecordBatch:
    # Column by column: dictionaries of rows take three times as long.
    try:
        columns = [
            pa.array([_extra(track.extra) for track in tracks], field.type)
            if field.name == "extra"
            else pa.array(list(map(attrgetter(field.name), tracks)), field.type)
            for field in TRACKS_SCHEMA
        ]
    except (UnicodeEncodeError, OverflowError) as error:
        if len(tracks) > 1:
            for track in tracks:
                _batch([track], item)
        raise TableError(
            f"{item}, track {tracks[0].track_id!a}",
            f"cannot be written ({error})",
            "correct its text (half a surrogate pair is no character) or year in the corpus",
        ) from error
    return pa.record_batch(columns, schema=TRACKS_SCHEMA)


def _extra(extra: Mapping[str, Any]) -> str:
    return json.dumps(dict(extra), ensure_ascii=False, sort_keys=True) if extra else "{}"


def write_tracks(tracks: Iterable[TaggedTrack], output: Path) -> int:
    """Write the tracks table to `output` atomically and return the number of rows.

    Raises `TableError` for an empty or repeated `track_id` and for what no table can hold, `DiskError` when the disk
    refuses.
    """
    rows = 0
    checked = check_ids(tracks, output)
    with atomic_path(output) as temporary, pq.ParquetWriter(temporary, TRACKS_SCHEMA) as writer:
        while group := list(itertools.islice(checked, ROWS_PER_GROUP)):
            writer.write_batch(_batch(group, output))
            rows += len(group)
        if not rows:
            writer.write_batch(_batch([], output))
    return rows


def open_tracks(path: Path) -> pq.ParquetFile:
    """Open a tracks table after checking that it is one.

    Raises `TableError` when the file is missing, is not Parquet, or lacks the columns `track_id` and `tags`.
    """
    if not path.is_file():
        raise TableError(path, "no such tracks table", "make one with `lpmc tracks SOURCE --root DIR --output FILE`")
    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(
            path, "is not a Parquet file", "make a tracks table with `lpmc tracks table --root FILE --output FILE`"
        ) from error
    names = table.schema_arrow.names
    missing = [name for name in ("track_id", "tags") if name not in names]
    if missing:
        raise TableError(
            path,
            f"has no column {' and '.join(missing)} (it has {', '.join(names) or 'none'})",
            "turn your own table into a tracks table with `lpmc tracks table --root FILE --output FILE`",
        )
    for name in ("track_id", "tags"):
        kind = table.schema_arrow.field(name).type
        fits = pa.types.is_list(kind) or pa.types.is_large_list(kind) if name == "tags" else _is_string(kind)
        if not fits:
            expected = "a list of strings" if name == "tags" else "strings"
            raise TableError(
                path,
                f"column {name} holds {kind}, expected {expected}",
                "turn your own table into a tracks table with `lpmc tracks table --root FILE --output FILE`",
            )
    return table


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def count_tracks(path: Path) -> int:
    """Number of rows of a tracks table, from its footer. Raises `TableError`."""
    with open_tracks(path) as table:
        return int(table.metadata.num_rows)


def read_tracks(path: Path, columns: Collection[str] = TRACKS_SCHEMA.names) -> Iterator[TaggedTrack]:
    """Stream the rows of a tracks table in file order, with the named columns alone (`track_id` and `tags` always).

    Raises `TableError` (see `open_tracks`).
    """
    wanted = {"track_id", "tags", *columns}
    with open_tracks(path) as table:
        present = [name for name in TRACKS_SCHEMA.names if name in wanted and name in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=ROWS_PER_GROUP, columns=present):
            # Column by column: a dictionary a row would take half of the time of a run that only looks tracks over.
            columns_of = {name: batch.column(name).to_pylist() for name in present}
            values = (columns_of.get(name) or itertools.repeat(None, batch.num_rows) for name in TRACKS_SCHEMA.names)
            for row in zip(*values, strict=True):
                yield _track(*row)


def _track(
    track_id: str,
    tags: list[str] | None,
    split: str | None,
    source: str | None,
    licence: str | None,
    audio_path: str | None,
    reference_captions: list[str] | None,
    title: str | None,
    artist: str | None,
    album: str | None,
    year: int | None,
    extra: str | None,
) -> TaggedTrack:
    return TaggedTrack(
        track_id,
        clean_tags(tag for tag in tags or () if tag),
        split or "",
        source or "",
        licence or "",
        audio_path,
        tuple(reference_captions or ()),
        title,
        artist,
        album,
        year,
        json.loads(extra) if extra else {},
    )
