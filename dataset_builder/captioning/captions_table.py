"""The captions table: one row per (track, instruction), with what became of it and where every word came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lpmc_errors import TableError
from lpmc_files import atomic_path

OUTCOMES = ("ok", "parse_failed", "rejected", "api_failed", "skipped_no_tags")
PIPELINE_KEY = b"lpmc.pipeline"  # Parquet key-value metadata: how the table was made, as JSON
ROWS_PER_GROUP = 10_000


@dataclass(frozen=True)
class CaptionRow:
    """What became of one instruction for one track.

    `outcome` is one of `OUTCOMES`; `reason` says why when it is not `ok`. `caption_origin` is `model` (the answer of
    the language model), `baseline` (tag-concat or template, asked for as such) or `template` (a template caption that
    stands in for an answer that was rejected). `caption` is None when there is none. `tag_coverage` is in [0, 1].
    `unsupported` and `facts` are `category: value` (what no tag supports; everything the caption claims), `soft` names
    what is no reason to reject (`hype`, `listener`, ...), `seed` is that of the answer that was kept and `attempts` the
    number of answers it was chosen from. `near_duplicates` counts other captions of the table that say almost the same
    in the same words; `contradictions` is what this caption states against another one of the same track.
    """

    track_id: str
    instruction: str
    caption: str | None
    outcome: str
    reason: str | None = None
    caption_origin: str | None = None
    new_attributes: tuple[str, ...] = ()
    request_key: str | None = None
    backend: str = ""
    model_asked: str | None = None
    model_answered: str | None = None
    wording: str = ""
    wording_version: str = ""
    parser_version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 0
    tag_coverage: float | None = None
    unsupported: tuple[str, ...] = ()
    provider: str = ""
    new_attributes_used: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()
    seed: int | None = None
    near_duplicates: int | None = None
    contradictions: tuple[str, ...] = ()


CAPTIONS_SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("instruction", pa.string()),
        ("caption", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("caption_origin", pa.string()),
        ("new_attributes", pa.list_(pa.string())),
        ("request_key", pa.string()),
        ("backend", pa.string()),
        ("model_asked", pa.string()),
        ("model_answered", pa.string()),
        ("wording", pa.string()),
        ("wording_version", pa.string()),
        ("parser_version", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("attempts", pa.int64()),
        ("tag_coverage", pa.float64()),
        ("unsupported", pa.list_(pa.string())),
        ("provider", pa.string()),
        ("new_attributes_used", pa.list_(pa.string())),
        ("facts", pa.list_(pa.string())),
        ("soft", pa.list_(pa.string())),
        ("seed", pa.int64()),
        ("near_duplicates", pa.int64()),
        ("contradictions", pa.list_(pa.string())),
    ]
)

_LISTS = tuple(field.name for field in CAPTIONS_SCHEMA if pa.types.is_list(field.type))


def _record(row: CaptionRow) -> dict[str, Any]:
    # Not dataclasses.asdict: it copies deeply and takes ten times as long on two million rows.
    return {field.name: getattr(row, field.name) for field in fields(row)}


def write_captions(rows: Iterable[CaptionRow], output: Path, pipeline: Mapping[str, Any]) -> int:
    """Write the captions table atomically, with `pipeline` (how it was made) in its metadata; return the row count.

    `pipeline` is read after the last row was taken, so a generator of rows may fill its counts while it runs.
    """
    count = 0
    pending: list[dict[str, Any]] = []
    with atomic_path(output) as temporary, pq.ParquetWriter(temporary, CAPTIONS_SCHEMA) as writer:
        for row in rows:
            pending.append(_record(row))
            count += 1
            if len(pending) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(pending, schema=CAPTIONS_SCHEMA))
                pending.clear()
        if pending or not count:
            writer.write_table(pa.Table.from_pylist(pending, schema=CAPTIONS_SCHEMA))
        writer.add_key_value_metadata({PIPELINE_KEY: json.dumps(pipeline, ensure_ascii=False, sort_keys=True).encode()})
    return count


def open_captions(path: Path) -> pq.ParquetFile:
    """Open a captions table. Raises `TableError` when it is missing, no Parquet, or lacks a column."""
    remedy = "make one with `lpmc pseudo-caption tracks.parquet --output FILE`"
    if not path.is_file():
        raise TableError(path, "no such captions table", remedy)
    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(path, "is not a Parquet file", remedy) from error
    missing = sorted(set(CAPTIONS_SCHEMA.names) - set(table.schema_arrow.names))
    if missing:
        raise TableError(path, f"is no captions table: it lacks the column(s) {', '.join(missing)}", remedy)
    return table


def read_captions(path: Path) -> Iterator[CaptionRow]:
    """Stream the rows of a captions table in file order. Raises `TableError` (see `open_captions`)."""
    with open_captions(path) as table:
        for batch in table.iter_batches(batch_size=ROWS_PER_GROUP, columns=CAPTIONS_SCHEMA.names):
            for row in batch.to_pylist():
                yield CaptionRow(**(row | {name: tuple(row[name] or ()) for name in _LISTS}))


def read_pipeline(path: Path) -> dict[str, Any]:
    """How the captions table was made (empty when it does not say). Raises `TableError`."""
    with open_captions(path) as table:
        return json.loads((table.metadata.metadata or {}).get(PIPELINE_KEY, b"{}"))
