"""From settled rows to the captions table: what only the whole table shows, the ledger, and `pipeline.json`.

The rows are written once while near-duplicates and counts are gathered; then the column of near-duplicates, which is
known only at the end, is put in its place batch by batch. Memory does not grow with the table, except for the
fingerprints of the captions.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder.caption_collection import NearDuplicates, contradictions
from dataset_builder.captioning.captions_table import (
    CAPTIONS_SCHEMA,
    PIPELINE_KEY,
    CaptionRow,
    read_captions,
    read_pipeline,
    write_captions,
)
from dataset_builder.captioning.ledger import Ledger
from dataset_builder.tracks import read_tracks
from lpmc_errors import TableError
from lpmc_files import atomic_path, write_json

PIPELINE_FORMAT = 2  # version of what `pipeline.json` holds


def pipeline_path(output: Path) -> Path:
    """Where the provenance of a captions table is written: `captions.parquet` -> `captions.pipeline.json`."""
    return output.with_name(f"{output.stem}.pipeline.json")


def finish_table(groups: Iterable[Sequence[CaptionRow]], output: Path, pipeline: dict[str, Any]) -> Ledger:
    """Write the captions table and `pipeline.json`; return the ledger of the rows.

    `groups` gives the rows of one track after another. `pipeline` (how the table was made) gets the counts and goes
    into the table's metadata too. Both files are written atomically. Raises `DiskError`.
    """
    ledger = Ledger()
    fingerprints = NearDuplicates()
    with_caption: list[bool] = []
    compared: list[str] = []  # the instruction of every caption with a fingerprint

    def rows() -> Iterator[CaptionRow]:
        for group in groups:
            for row in _against_each_other(group):
                own = row.caption is not None and row.caption_origin != "template"
                if own:
                    fingerprints.add(row.instruction, row.caption or "")
                    compared.append(row.instruction)
                with_caption.append(own)
                ledger.add(row)
                yield row

    with atomic_path(output) as temporary, atomic_path(output) as raw:
        write_captions(rows(), raw, {})
        counts = np.full(len(with_caption), -1, dtype=np.int64)
        found = counts[np.asarray(with_caption, dtype=bool)] = fingerprints.counts()
        ledger.add_near_duplicates(zip(compared, found.tolist(), strict=True))
        pipeline |= {
            "outcomes": dict(ledger.outcomes),
            "template_fallbacks": ledger.template_fallbacks,
            "ledger": ledger.to_dict(),
        }
        _copy(raw, temporary, counts, pipeline)
    write_json(pipeline_path(output), pipeline)
    return ledger


def _against_each_other(group: Sequence[CaptionRow]) -> Iterator[CaptionRow]:
    """The rows of one track, with what its captions state against each other."""
    own = [row for row in group if row.outcome == "ok" and row.facts]
    found = contradictions([row.facts for row in own]) if len(own) > 1 else ()
    for row in group:
        yield replace(row, contradictions=found) if found and row in own else row


def _copy(source: Path, target: Path, counts: np.ndarray, pipeline: Mapping[str, Any]) -> None:
    """Copy a captions table batch by batch with the column `near_duplicates` filled in."""
    place = CAPTIONS_SCHEMA.get_field_index("near_duplicates")
    done = 0
    with pq.ParquetFile(source) as table, pq.ParquetWriter(target, CAPTIONS_SCHEMA) as writer:
        for group in range(table.num_row_groups):
            part = table.read_row_group(group)
            values = counts[done : done + part.num_rows]
            column = pa.array(values, mask=values < 0)
            writer.write_table(part.set_column(place, CAPTIONS_SCHEMA.field(place), column))
            done += part.num_rows
        writer.add_key_value_metadata({PIPELINE_KEY: json.dumps(pipeline, ensure_ascii=False, sort_keys=True).encode()})


def tracks_digest(tracks: Path) -> str:
    """sha256 over ids and tags of a tracks table in their order: whether two runs saw the same input."""
    digest = hashlib.sha256()
    for track in read_tracks(tracks, ()):
        digest.update("\x1f".join((track.track_id, *track.tags, "\x1e")).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


_SUMS = (
    *("requests_sent", "answers_bought", "prompt_tokens", "completion_tokens"),
    *("store_requests", "store_tokens"),
)
_OF_THE_TABLE = ("shard", "outcomes", "template_fallbacks", "ledger")  # in a pipeline: not equal for all shards

# --- shards ---------------------------------------------------------------------------------------------------------


def merge_shards(tables: Sequence[Path], tracks: Path, output: Path) -> Ledger:
    """Put the tables of a sharded run together, in the order of the tracks table, as one process would have written it.

    Raises `TableError` when a shard is missing or comes twice, when the tables come from different runs, or when they
    do not cover the tracks.
    """
    pipelines = [read_pipeline(path) for path in tables]
    _check_shards(tables, pipelines)
    first = pipelines[0]
    instructions = list(first["instructions"])
    merged = {name: value for name, value in first.items() if name not in _OF_THE_TABLE}
    merged |= {
        "started": min(pipeline["started"] for pipeline in pipelines),
        "finished": max(pipeline["finished"] for pipeline in pipelines),
        "shards": len(pipelines),
    }
    for name in _SUMS:
        merged[name] = sum(pipeline[name] for pipeline in pipelines)
    costs = [pipeline["store_cost_usd"] for pipeline in pipelines]
    merged["store_cost_usd"] = None if None in costs else str(sum(map(Decimal, costs)))
    return finish_table(_merged(tables, tracks, instructions), output, merged)


def _check_shards(tables: Sequence[Path], pipelines: Sequence[dict[str, Any]]) -> None:
    remedy = "give the tables of every --shard I/N of one run, each once"
    for path, pipeline in zip(tables, pipelines, strict=True):
        if "shard" not in pipeline:
            raise TableError(path, "is no shard: it was written without --shard", remedy)
        for name in ("signature", "instructions", "tracks_digest", "template_fallback", "max_tokens"):
            if pipeline[name] != pipelines[0][name]:
                raise TableError(path, f"comes from another run than {tables[0]} ({name} differs)", remedy)
    total = pipelines[0]["shard"]["of"]
    numbers = Counter(pipeline["shard"]["index"] for pipeline in pipelines)
    if any(pipeline["shard"]["of"] != total for pipeline in pipelines):
        raise TableError(tables[0], "the tables were cut into different numbers of shards", remedy)
    missing = sorted(set(range(total)) - set(numbers))
    if missing:
        raise TableError(tables[0], f"shard {missing[0]}/{total} is missing", remedy)
    twice = sorted(number for number, count in numbers.items() if count > 1)
    if twice:
        raise TableError(tables[0], f"shard {twice[0]}/{total} is there twice", remedy)


def _merged(tables: Sequence[Path], tracks: Path, instructions: Sequence[str]) -> Iterator[list[CaptionRow]]:
    streams = [read_captions(path) for path in tables]
    heads = [next(stream, None) for stream in streams]
    for track in read_tracks(tracks, ()):
        group = []
        for instruction in instructions:
            wanted = (track.track_id, instruction)
            holder = next(
                (number for number, row in enumerate(heads) if row and (row.track_id, row.instruction) == wanted), None
            )
            if holder is None:
                raise TableError(tracks, f"no shard has track {wanted[0]} for {wanted[1]}", "run the shards again")
            row = heads[holder]
            assert row is not None
            heads[holder] = next(streams[holder], None)
            group.append(replace(row, near_duplicates=None, contradictions=()))
        yield group
    for path, row in zip(tables, heads, strict=True):
        if row is not None:
            raise TableError(path, f"has track {row.track_id}, which {tracks} has not", "give the tracks of the run")
