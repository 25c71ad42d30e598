"""One shard of a split: rows joined, audio checked and embedded, one Parquet file laid out for the Hub.

A shard depends on nothing but its task, so that shards can be written by several processes, in any order, and again
after a kill: the same task gives the same bytes. What was counted on the way lies beside the file as JSON; where that
file is, the shard is finished.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builder import lp_musiccaps
from dataset_builder.audio_check import check_audio
from dataset_builder.lp_musiccaps import AudioFiles, Chunk
from hub_cards.licences import audio_publishable
from lpmc_files import write_json

MAX_SHARD_BYTES = 128_000_000  # of audio, or of text before compression; small enough for processes to share out
MAX_SHARDS = 1_000  # of one split: beyond it shards grow (the Hub wants fewer than 10,000 files a folder)
AUDIO_ROWS_PER_GROUP = 100  # what the Hub's page on audio data sets recommends
TEXT_ROWS_PER_GROUP = 5_000  # about 10 MB of captions and provenance
TEXT_BYTES_PER_GROUP = 32_000_000  # for texts far longer than captions are; uncompressed
MAX_AUDIO_BYTES = 2**31 - 1  # of one file: Arrow's offsets have 32 bits
MAX_GROUP_BYTES = 100_000_000  # `datasets`' own bound of a row group; whole songs reach it before 100 rows

_AUDIO_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
# As `datasets` writes them: an upload then sends only the chunks that changed.
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}

Report = Callable[[int], None]
"""Told how many more rows are written; raises to stop the shard."""


@dataclass(frozen=True)
class ShardTask:
    """What a shard is made of. `start` and `stop` count the tracks of the split in the tracks table.

    `rows` and `spans` are those of `lp_musiccaps.Survey`. `left_out` names a JSON list of ids that are passed over.
    `audio_root` is where audio is looked for; `audio` is `all`, `publishable` (embedded only where the licence of the
    row lets it be published) or `none`.
    """

    directory: str
    split: str
    index: int
    start: int
    stop: int
    tracks: str
    captions: str
    layout: str
    instructions: tuple[str, ...]
    rows: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    rows_per_chunk: int
    left_out: str | None
    audio_root: str | None
    audio: str
    run: str  # names the build, so that a process looks the audio folder over once a build

    @property
    def parquet(self) -> Path:
        return Path(self.directory, f"{self.split}-{self.index:05d}.parquet")

    @property
    def tally(self) -> Path:
        return self.parquet.with_suffix(".json")


_COUNTERS = ("sources", "licences", "template_captions", "models", "wordings", "withheld", "rendered")
_RENDERED_FACTS = ("genre", "mood", "key", "metre", "instruments", "effects", "soundfonts")  # counted for the card


@dataclass
class Tally:
    """Counts of what went into rows, gathered while they are written; those of shards add up."""

    rows: int = 0
    without_captions: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    template_captions: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    wordings: Counter[str] = field(default_factory=Counter)
    embedded: int = 0
    withheld: Counter[str] = field(default_factory=Counter)  # licence -> tracks
    rendered: Counter[str] = field(default_factory=Counter)  # kind of fact and its value, joined by NUL -> tracks
    failed_audio: list[tuple[str, str]] = field(default_factory=list)
    doubtful_audio: list[tuple[str, str]] = field(default_factory=list)

    def add_rows(self, provenance: pa.StructArray) -> None:
        """Count rows by their column `provenance`."""
        self.rows += len(provenance)
        self.sources.update(_counts(provenance.field("source")))
        self.licences.update(_counts(provenance.field("licence")))
        asked = pc.list_value_length(provenance.field("captions"))
        self.without_captions += pc.sum(pc.equal(asked, 0).cast("int64")).as_py() or 0
        captions = provenance.field("captions").flatten()
        instruction, outcome = captions.field("instruction"), captions.field("outcome")
        for key, count in _counts(pc.binary_join_element_wise(instruction, outcome, "\0")).items():
            name, _, found = key.partition("\0")
            self.outcomes.setdefault(name, Counter())[found] += count
        template = pc.equal(captions.field("caption_origin"), lp_musiccaps.TEMPLATE_ORIGIN)
        self.template_captions.update(_counts(instruction.filter(template)))
        self.models.update(_counts(captions.field("model_answered")))
        wording = captions.field("wording")
        version = _or_else(captions.field("wording_version"), "no version")
        named = pc.binary_join_element_wise(wording, pa.scalar(" ("), version, pa.scalar(")"), "")
        self.wordings.update(_counts(named.filter(pc.not_equal(_or_else(wording, ""), ""))))
        self.models.pop("", None)  # a failed request has no model that answered

    def add_facts(self, facts: Iterable[str | None]) -> None:
        """Count the facts of rendered clips by their JSON column."""
        for text in facts:
            known = json.loads(text) if text else {}
            for kind in _RENDERED_FACTS:
                values = known.get(kind) or ([] if kind != "effects" else ["none"])
                self.rendered.update(f"{kind}\0{value}" for value in ([values] if isinstance(values, str) else values))

    def add(self, other: Tally) -> None:
        """Add the counts of another shard."""
        self.rows += other.rows
        self.without_captions += other.without_captions
        self.embedded += other.embedded
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for instruction, counts in other.outcomes.items():
            self.outcomes.setdefault(instruction, Counter()).update(counts)
        self.failed_audio += other.failed_audio
        self.doubtful_audio += other.doubtful_audio

    def as_json(self) -> dict[str, Any]:
        """What `read` reads back. (`dataclasses.asdict` would count the items of each Counter instead.)"""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def read(cls, path: Path) -> Tally:
        """The counts that lie beside a finished shard."""
        value = json.loads(path.read_text(encoding="utf-8"))
        for name in _COUNTERS:
            value[name] = Counter(value[name])
        value["outcomes"] = {name: Counter(counts) for name, counts in value["outcomes"].items()}
        for name in ("failed_audio", "doubtful_audio"):
            value[name] = [(track_id, reason) for track_id, reason in value[name]]
        return cls(**value)


def _counts(texts: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(_or_else(texts, ""))
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _or_else(texts: pa.Array, other: str) -> pa.Array:
    return pc.if_else(pc.equal(pc.fill_null(texts, ""), ""), other, texts)


def write_shard(task: ShardTask, report: Report) -> None:
    """Write the Parquet file of `task` and, when it is whole, its counts beside it.

    Raises `JoinError` or `pyarrow.ArrowInvalid` when a value does not fit its column, and what `report` raises.
    """
    features = lp_musiccaps.features_of(task.layout, task.instructions, audio=task.audio != "none")
    schema = readable_by_all(features.arrow_schema)
    left_out = pa.array(json.loads(Path(task.left_out).read_text()), pa.string()) if task.left_out else None
    # Not the final name, and not that of another process: a killed build's workers may still be writing.
    temporary = task.parquet.with_name(f".{task.parquet.name}.{os.getpid()}")
    tally = Tally()
    try:
        with _writer(temporary, schema) as writer, pq.ParquetFile(task.captions) as captions:
            chunks = lp_musiccaps.chunks_of_split(
                task.tracks, task.split, task.rows, task.start, task.stop, left_out, task.rows_per_chunk
            )
            for chunk in chunks:
                texts = lp_musiccaps.captions_of(chunk, captions, task.spans)
                columns = lp_musiccaps.published_columns(task.layout, task.instructions, chunk, texts, task.audio_root)
                tally.add_rows(columns["provenance"])
                if task.layout == "rendered":
                    tally.add_facts(columns["facts"].to_pylist())
                for start, audio in _audio_groups(task, chunk, tally):
                    part = {name: values.slice(start, len(audio)) for name, values in columns.items()}
                    table = lp_musiccaps.as_table({**part, "audio": audio}, schema)
                    writer.write_table(table, row_group_size=max(1, len(table)))
                    report(len(table))
            writer.add_key_value_metadata({"content_defined_chunking": json.dumps(_CHUNKING)})
        os.replace(temporary, task.parquet)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(task.tally, tally.as_json())


def readable_by_all(schema: pa.Schema) -> pa.Schema:
    """`schema` with its note on the features in words that datasets 3, 4 and 5 know: `List` is new in 4."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("_type") == "List":
                return [plain(value["feature"])]
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, list) else value

    note = json.loads(schema.metadata[b"huggingface"])
    return schema.with_metadata({"huggingface": json.dumps(plain(note))})


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Audio bytes are stored as they are: compressing MP3 again costs time and gains nothing."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    leaves = pq.ParquetFile(buffer.getvalue()).schema
    names = [leaves.column(index).path for index in range(len(leaves))]
    raw = {name for name in names if name == "audio.bytes"}
    return pq.ParquetWriter(
        path,
        schema,
        write_page_index=True,
        use_content_defined_chunking=_CHUNKING,
        compression={name: "none" if name in raw else "snappy" for name in names},
        use_dictionary=[name for name in names if name not in raw],
        column_encoding=dict.fromkeys(raw, "PLAIN"),
    )


def _audio_groups(task: ShardTask, chunk: Chunk, tally: Tally) -> Iterator[tuple[int, pa.Array]]:
    """The audio column of a chunk in parts of one row group each, with the row that each begins at."""
    if task.audio == "none":
        yield 0, pa.nulls(len(chunk), _AUDIO_TYPE)
        return
    start = size = 0
    group: list[dict[str, Any] | None] = []
    for audio in _audio(task, chunk, tally):
        grown = size + (len(audio["bytes"]) if audio else 0)
        if group and (len(group) == AUDIO_ROWS_PER_GROUP or grown > MAX_GROUP_BYTES):
            yield start, pa.array(group, _AUDIO_TYPE)
            start, group, grown = start + len(group), [], grown - size
        group.append(audio)
        size = grown
    if group:
        yield start, pa.array(group, _AUDIO_TYPE)


def _audio(task: ShardTask, chunk: Chunk, tally: Tally) -> Iterator[dict[str, Any] | None]:
    """The original bytes of each track's file under its base name; None, and a line in the tally, when unusable."""
    files = _files(task.audio_root or "", task.run)
    names = ("track_id", "audio_path", "source", "licence")
    for track_id, path, source, licence in zip(*(chunk.column(name).to_pylist() for name in names), strict=True):
        if task.audio == "publishable" and not audio_publishable(source or "", licence):
            tally.withheld[licence or ""] += 1
            yield None
            continue
        found = files.find(path, track_id, lp_musiccaps.youtube_id(track_id))
        if found is None:
            problem = f"{lp_musiccaps.published_path(path, files.root)}: no such file" if path else _NO_NAME
            tally.failed_audio.append((track_id, problem))
            yield None
            continue
        shown = lp_musiccaps.published_path(found, files.root)
        try:
            if os.path.getsize(found) > MAX_AUDIO_BYTES:
                tally.failed_audio.append((track_id, f"{shown}: is larger than 2 GiB, which no Parquet value can be"))
                yield None
                continue
            content = Path(found).read_bytes()
        except OSError as error:
            tally.failed_audio.append((track_id, f"{shown}: cannot be opened ({error.strerror or error})"))
            yield None
            continue
        verdict = check_audio(content, found)
        if verdict.problem:
            tally.failed_audio.append((track_id, f"{shown}: {verdict.problem}"))
            yield None
            continue
        if verdict.doubt:
            tally.doubtful_audio.append((track_id, f"{shown}: {verdict.doubt}"))
        tally.embedded += 1
        yield {"bytes": content, "path": os.path.basename(found)}


_NO_NAME = "the tracks table names no audio file, and no file is called like the track"


@lru_cache(maxsize=1)
def _files(root: str, run: str) -> AudioFiles:
    return AudioFiles(root)
