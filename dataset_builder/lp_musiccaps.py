"""LP-MusicCaps as a `datasets` builder: a tracks table, a captions table and the user's own audio, joined by track.

This one file is a class for datasets 4 and 5 (`LPMusicCaps(config_name="mtt", data_dir=..., audio_root=...)`) and a
loading script for datasets 3. That is why it imports nothing of this project, names one package an import line (the
import finder of datasets 3 reads `import json, os` as one package named `json,`), and yields Arrow tables: a builder
that yields examples needs torchcodec for an audio column, an Arrow one does not.

`dataset_builder.build` writes the published Parquet with the same columns and the same join.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PUBLISHED_INSTRUCTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")  # the columns of LP-MusicCaps
SAMPLING_RATE = 16_000  # Hz; what the model hears (paper 5.1). The bytes stay the original ones; decoding resamples.
TRACKS_PER_SCAN = (
    20_000  # tracks that are held at once with their captions, about 150 MB; one scan of the captions each
)
CAPTIONS_PER_BATCH = 65_536  # rows read at once while scanning
ROWS_PER_TABLE = 1_000  # rows that the builder hands to datasets at once
MAX_SHARDS = 16  # parts of a split that processes share out; each part scans the captions table again
TEMPLATE_ORIGIN = "template"  # marks a caption that stands in for a rejected answer

_MAY_NAME_FILES = ("reason", "backend", "model_asked", "model_answered")
_FOLDERS = re.compile(
    r"(?:file://|(?<![\w/.:]))(?:/(?:[^\s/'\"]+/)+|[A-Za-z]:\\(?:[^\s\\'\"]+\\)*)"
)  # of an absolute path
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")  # what datasets accepts as the name of a split
_SPLIT_ORDER = ("train", "valid", "validation", "test")
_INSTRUCTION_NAME = re.compile(r"[a-z][a-z0-9_]*")  # becomes a column name


class JoinError(ValueError):
    """Tables that cannot be joined: which file, what is wrong, what to do."""

    def __init__(self, item: object, problem: str, remedy: str = "") -> None:
        self.item = str(item)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self.item}: {problem}" + (f"; {remedy}" if remedy else ""))


# ---- The columns ----------------------------------------------------------------------------------------------------

STRING = datasets.Value("string")
INTEGER = datasets.Value("int64")
FLOAT = datasets.Value("float64")
FLAG = datasets.Value("bool")
STRINGS = [STRING]  # a list, not `Sequence`: datasets 3 would turn a Sequence of structs inside out

# What is kept of the making of each caption, under the names of the captions table.
PROVENANCE_FIELDS = {
    "instruction": STRING,
    "outcome": STRING,
    "reason": STRING,
    "caption_origin": STRING,
    "request_key": STRING,
    "backend": STRING,
    "model_asked": STRING,
    "model_answered": STRING,
    "wording": STRING,
    "wording_version": STRING,
    "parser_version": STRING,
    "prompt_tokens": INTEGER,
    "completion_tokens": INTEGER,
    "attempts": INTEGER,
}
SCORE_FIELDS = {"instruction": STRING, "tag_coverage": FLOAT, "unsupported": STRINGS}
CAPTION_COLUMNS = ("track_id", "caption", "new_attributes", *PROVENANCE_FIELDS, "tag_coverage", "unsupported")

Track = Mapping[str, Any]  # a row of the tracks table with `extra` parsed
Captions = Mapping[str, Mapping[str, Any]]  # rows of the captions table of one track, by instruction


@dataclass(frozen=True)
class Column:
    """A published column: its type and how it is taken from a row of the tracks table."""

    feature: Any
    take: Callable[[Track], Any]


def _field(name: str, feature: Any = STRING) -> Column:
    return Column(feature, lambda track: track.get(name))


def _extra(name: str, feature: Any, kind: type) -> Column:
    """A column of the corpus's own, from `extra`. Numbers may have come as text; nothing else is made to fit."""

    def take(track: Track) -> Any:
        value = track["extra"].get(name)
        if value is None or isinstance(value, kind):
            return value
        try:
            if kind in (int, str):
                return kind(value)
        except (TypeError, ValueError):
            pass
        raise JoinError(track["track_id"], f"{name} is {value!r}, expected {kind.__name__}", "correct the tracks table")

    return Column(feature, take)


def _extra_json(track: Track) -> str | None:
    return json.dumps(track["extra"], ensure_ascii=False, sort_keys=True) if track["extra"] else None


def _first_reference(track: Track) -> str | None:
    return next(iter(track.get("reference_captions") or ()), None)


_TAGS = Column(STRINGS, lambda track: list(track["tags"] or ()))
_ID_TITLE_ARTIST_ALBUM = {
    "track_id": _field("track_id"),
    "title": _field("title"),
    "artist_name": _field("artist"),
    "release": _field("album"),
}
_GROUND_TRUTH = {"caption_ground_truth": Column(STRING, _first_reference)}
_REFERENCES = {"reference_captions": Column(STRINGS, lambda track: list(track.get("reference_captions") or ()))}

# Columns before and after the captions. mc, mtt and msd carry the names of the published data sets
# (seungheondoh/LP-MusicCaps-MC, -MTT, -MSD on the Hub); audio, provenance and scores are ours and come last.
LAYOUTS: dict[str, tuple[dict[str, Column], dict[str, Column]]] = {
    "generic": (
        {**_ID_TITLE_ARTIST_ALBUM, "year": _field("year", INTEGER), "tag": _TAGS},
        {**_GROUND_TRUTH, **_REFERENCES},
    ),
    "rendered": (
        {**_ID_TITLE_ARTIST_ALBUM, "year": _field("year", INTEGER), "tag": _TAGS},
        {**_GROUND_TRUTH, **_REFERENCES, "facts": Column(STRING, _extra_json)},
    ),
    "mc": (
        {
            "fname": _field("track_id"),
            "ytid": _extra("ytid", STRING, str),
            "aspect_list": _TAGS,
            **_GROUND_TRUTH,
        },
        {
            "is_crawled": _extra("is_crawled", FLAG, bool),
            "author_id": _extra("author_id", INTEGER, int),
            "start_s": _extra("start_s", INTEGER, int),
            "end_s": _extra("end_s", INTEGER, int),
            "audioset_positive_labels": _extra("audioset_positive_labels", STRING, str),
            "is_balanced_subset": _extra("is_balanced_subset", FLAG, bool),
            "is_audioset_eval": _extra("is_audioset_eval", FLAG, bool),
        },
    ),
    "mtt": (
        {
            **_ID_TITLE_ARTIST_ALBUM,
            "tag_top50": _extra("tag_top50", STRINGS, list),
            "tag_top188": Column(STRINGS, lambda track: list(track["extra"].get("tag_top188") or track["tags"] or ())),
        },
        dict(_GROUND_TRUTH),
    ),
    "msd": (
        {**_ID_TITLE_ARTIST_ALBUM, "year": _field("year", INTEGER), "tag": _TAGS},
        dict(_GROUND_TRUTH),
    ),
}
LAYOUT_OF_SOURCE = {"musiccaps": "mc", "magnatagatune": "mtt", "msd_ecals": "msd", "rendered": "rendered"}


def layout_of(sources: Sequence[str]) -> str:
    """The layout for tracks of these sources: the corpus's own published one, or `generic` for a mixture."""
    return LAYOUT_OF_SOURCE.get(sources[0], "generic") if len(sources) == 1 else "generic"


def features_of(layout: str, instructions: Sequence[str], *, audio: bool) -> datasets.Features:
    """The features of a layout: always the four published caption columns, and one for each further instruction."""
    head, tail = LAYOUTS[layout]
    features: dict[str, Any] = {name: column.feature for name, column in head.items()}
    features.update({f"caption_{name}": STRING for name in _caption_order(instructions)})
    features["pseudo_attribute"] = STRINGS
    features.update({name: column.feature for name, column in tail.items()})
    features["path"] = STRING
    if audio:
        features["audio"] = datasets.Audio(sampling_rate=SAMPLING_RATE)
    features["provenance"] = {"source": STRING, "licence": STRING, "captions": [PROVENANCE_FIELDS]}
    features["scores"] = [SCORE_FIELDS]
    return datasets.Features(features)


def _caption_order(instructions: Sequence[str]) -> list[str]:
    return [*PUBLISHED_INSTRUCTIONS, *sorted(set(instructions) - set(PUBLISHED_INSTRUCTIONS))]


def published_row(layout: str, instructions: Sequence[str], track: Track, captions: Captions) -> dict[str, Any]:
    """One row of the data set, without its audio.

    `path` is left as the tracks table has it (see `published_path`). A caption that failed is null, never empty text;
    a template caption that stands in for a rejected answer is kept, and `provenance` says so.
    """
    head, tail = LAYOUTS[layout]
    row: dict[str, Any] = {name: column.take(track) for name, column in head.items()}
    for name in _caption_order(instructions):
        row[f"caption_{name}"] = kept_caption(captions[name]) if name in captions else None
    predicted = captions.get("attribute_prediction")
    row["pseudo_attribute"] = list(predicted["new_attributes"] or ()) if predicted and kept_model(predicted) else None
    row.update({name: column.take(track) for name, column in tail.items()})
    row["path"] = track.get("audio_path")
    made = [captions[name] for name in sorted(captions)]
    row["provenance"] = {
        "source": track.get("source") or None,
        "licence": track.get("licence") or None,
        "captions": [
            {
                name: without_folders(caption.get(name)) if name in _MAY_NAME_FILES else caption.get(name)
                for name in PROVENANCE_FIELDS
            }
            for caption in made
        ],
    }
    row["scores"] = [
        {**{name: caption.get(name) for name in SCORE_FIELDS}, "unsupported": list(caption.get("unsupported") or ())}
        for caption in made
        if kept_caption(caption) is not None
    ]
    return row


def without_folders(text: str | None) -> str | None:
    """`text` with every absolute path cut down to its last part: a local model's file, or a path in an error."""
    return None if text is None else _FOLDERS.sub("", text)


def kept_model(caption: Mapping[str, Any]) -> bool:
    """Whether the answer itself is kept (and not a template caption in its place)."""
    return caption["outcome"] == "ok" and caption.get("caption_origin") != TEMPLATE_ORIGIN


def kept_caption(caption: Mapping[str, Any]) -> str | None:
    """The caption to publish: that of a good answer or the template standing in for a rejected one, else None."""
    if caption["outcome"] == "ok" or caption.get("caption_origin") == TEMPLATE_ORIGIN:
        return (caption["caption"] or "").strip() or None
    return None


def published_path(audio_path: str | None, audio_root: str | None) -> str | None:
    """`audio_path` as it may be published: relative to the audio root, or the base name; never an absolute path."""
    if not audio_path:
        return None
    if PureWindowsPath(audio_path).is_absolute() and not PurePosixPath(audio_path).is_absolute():
        return PureWindowsPath(audio_path).name
    if not os.path.isabs(audio_path):
        relative = posixpath.normpath(audio_path.replace(os.sep, "/"))
    elif audio_root is not None:
        relative = os.path.relpath(audio_path, os.path.abspath(audio_root)).replace(os.sep, "/")
    else:
        relative = ".."
    return posixpath.basename(audio_path.replace(os.sep, "/")) if relative.startswith("..") else relative


# ---- The join -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What two tables that fit together hold: rows a split and a source, and the instructions that were asked."""

    splits: dict[str, int]
    sources: dict[str, int]
    instructions: tuple[str, ...]
    tracks_without_captions: int


def survey(tracks: str, captions: str) -> Survey:
    """Check that the two tables fit together, reading only ids and names.

    Raises `JoinError` when a table is empty, a track occurs twice or in two splits, the captions name an unknown
    track or the same (track, instruction) twice, or no track has a caption.
    """
    splits, sources, ids = _survey_tracks(tracks)
    order = {name: place for place, name in enumerate(_SPLIT_ORDER)}
    splits = dict(sorted(splits.items(), key=lambda item: order.get(item[0], len(order))))
    instructions, captioned = _survey_captions(captions, ids, tracks)
    return Survey(splits, sources, instructions, len(ids) - captioned)


def _survey_tracks(tracks: str) -> tuple[dict[str, int], dict[str, int], pa.Array]:
    splits: dict[str, int] = {}
    sources: dict[str, int] = {}
    parts: list[pa.Array] = []
    with pq.ParquetFile(tracks) as table:
        present = [name for name in ("track_id", "split", "source") if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=present):
            parts.append(_ids(batch))
            for row in batch.to_pylist():
                name = split_of(row)
                splits[name] = splits.get(name, 0) + 1
                source = row.get("source") or ""
                sources[source] = sources.get(source, 0) + 1
    if not splits:
        raise JoinError(tracks, "the tracks table has no rows", "make one with `lpmc tracks SOURCE`")
    ids = pa.concat_arrays(parts)
    if pc.any(pc.equal(pc.utf8_length(pc.fill_null(ids, "")), 0)).as_py():
        raise JoinError(tracks, "a row has no track_id", "give every track an id")
    for name in splits:
        if not _SPLIT_NAME.fullmatch(name) or name == "all":
            raise JoinError(tracks, f"{name!r} cannot name a split", "use letters, digits and _ (and not `all`)")
    counts = pc.value_counts(ids)
    if len(counts) < len(ids):
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0].as_py()
        found = _splits_of_track(tracks, repeated)
        where = f"in the splits {' and '.join(found)}" if len(found) > 1 else f"twice in the split {found[0]}"
        raise JoinError(tracks, f"track_id {repeated!r} is {where}", "give every track one row")
    return splits, sources, ids


def _splits_of_track(tracks: str, track_id: str) -> list[str]:
    names = [split_of(row) for row in track_rows(tracks) if row["track_id"] == track_id]
    return list(dict.fromkeys(names))


def _survey_captions(captions: str, ids: pa.Array, tracks: str) -> tuple[tuple[str, ...], int]:
    instructions: dict[str, int] = {}
    base = 1_000  # more than there are instructions
    keys: list[pa.Array] = []  # position of the track and number of the instruction in one integer
    unknown: dict[str, None] = {}
    any_text = False
    with pq.ParquetFile(captions) as table:
        columns = ["track_id", "instruction", "outcome", "caption_origin", "caption"]
        for batch in table.iter_batches(batch_size=CAPTIONS_PER_BATCH, columns=columns):
            position = pc.index_in(_ids(batch), value_set=ids)
            if position.null_count:
                missing = batch.column("track_id").filter(pc.is_null(position))
                unknown.update(dict.fromkeys(missing.to_pylist()))
                continue
            for name in pc.unique(batch.column("instruction")).to_pylist():
                if name is None or not _INSTRUCTION_NAME.fullmatch(name):
                    raise JoinError(
                        captions, f"{name!r} is no instruction", "make the table with `lpmc pseudo-caption`"
                    )
                instructions.setdefault(name, len(instructions))
            number = pc.index_in(batch.column("instruction"), value_set=pa.array(list(instructions), pa.string()))
            keys.append(pc.add(pc.multiply(position.cast(pa.int64()), base), number.cast(pa.int64())))
            any_text = any_text or any(kept_caption(row) for row in batch.select(columns[2:]).to_pylist())
    if unknown:
        shown = ", ".join(repr(name) for name in list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise JoinError(
            captions,
            f"{len(unknown)} track(s) are not in the tracks table {os.path.basename(tracks)}: {shown}",
            "give the tracks table that these captions were made from",
        )
    if not keys:
        raise JoinError(captions, "the captions table has no rows", "make one with `lpmc pseudo-caption`")
    all_keys = pa.concat_arrays(keys)
    counts = pc.value_counts(all_keys)
    if len(counts) < len(all_keys):
        position, number = divmod(counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0].as_py(), base)
        raise JoinError(
            captions,
            f"track {ids[position].as_py()!r} has two rows for the instruction {list(instructions)[number]!r}",
            "keep one of them",
        )
    if not any_text:
        raise JoinError(captions, "no track has a caption: every answer failed", "see `lpmc report` for the reasons")
    return tuple(instructions), len(pc.unique(pc.divide(all_keys, base)))


def instructions_of(captions: str) -> tuple[str, ...]:
    """The instructions that a captions table holds rows for."""
    with pq.ParquetFile(captions) as table:
        names = {
            name for batch in table.iter_batches(columns=["instruction"]) for name in pc.unique(batch[0]).to_pylist()
        }
    return tuple(sorted(name for name in names if name))


def _ids(rows: pa.RecordBatch | pa.Table) -> pa.Array | pa.ChunkedArray:
    return rows.column("track_id").cast(pa.string())  # another writer may have made them large or dictionary strings


def split_of(track: Mapping[str, Any]) -> str:
    """The split of a track under the corpus's own name; tracks without one go to `train`."""
    return track.get("split") or "train"


def track_rows(tracks: str, row_groups: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """Stream the rows of a tracks table (or of some of its row groups) with `extra` parsed. Raises `JoinError`."""
    with pq.ParquetFile(tracks) as table:
        for batch in table.iter_batches(batch_size=ROWS_PER_TABLE, row_groups=row_groups):
            for row in batch.to_pylist():
                try:
                    row["extra"] = json.loads(row.get("extra") or "{}")
                except ValueError as error:
                    raise JoinError(tracks, f"track {row['track_id']!r}: `extra` is no JSON ({error})") from error
                yield row


def joined(
    tracks: str, captions: str, split: str, row_groups: Sequence[int] | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """Stream (track, captions by instruction) of one split, in the order of the tracks table.

    The captions may come in any order. They are scanned once for every `TRACKS_PER_SCAN` tracks, so that memory stays
    flat however long the tables are.
    """
    waiting: list[dict[str, Any]] = []
    for track in track_rows(tracks, row_groups):
        if split_of(track) != split:
            continue
        waiting.append(track)
        if len(waiting) == TRACKS_PER_SCAN:
            yield from _with_captions(waiting, captions)
            waiting.clear()
    if waiting:
        yield from _with_captions(waiting, captions)


def _with_captions(
    tracks: list[dict[str, Any]], captions: str
) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    rows = _sorted_captions(pa.array([track["track_id"] for track in tracks], pa.string()), captions)
    row = next(rows, None)
    for position, track in enumerate(tracks):
        found: dict[str, dict[str, Any]] = {}
        while row is not None and row["position"] == position:
            found[row["instruction"]] = row
            row = next(rows, None)
        yield track, found


def _sorted_captions(ids: pa.Array, captions: str) -> Iterator[dict[str, Any]]:
    parts: list[pa.Table] = []
    with pq.ParquetFile(captions) as table:
        for group in range(table.num_row_groups):
            # The texts of a row group without any of these tracks are not even decoded: in a table that keeps the
            # order of the tracks, as ours do, that leaves few groups a scan.
            if not pc.any(pc.is_in(_ids(table.read_row_group(group, ["track_id"])), value_set=ids)).as_py():
                continue
            for batch in table.iter_batches(CAPTIONS_PER_BATCH, [group], list(CAPTION_COLUMNS)):
                position = pc.index_in(_ids(batch), value_set=ids)
                part = pa.Table.from_batches([batch]).append_column("position", position)
                parts.append(part.filter(pc.is_valid(position)))
    if parts:
        table = pa.concat_tables(parts).sort_by([("position", "ascending"), ("instruction", "ascending")])
        for batch in table.to_batches(max_chunksize=ROWS_PER_TABLE):
            yield from batch.to_pylist()


# ---- The builder ----------------------------------------------------------------------------------------------------


@dataclass
class LPMusicCapsConfig(datasets.BuilderConfig):
    """`data_dir` holds tracks.parquet and captions.parquet; `audio_root` holds the user's audio (None: text only)."""

    audio_root: str | None = None

    def tables(self) -> tuple[str, str]:
        """The paths of the two tables. Raises `JoinError` when one is missing."""
        if not self.data_dir:
            raise JoinError("data_dir", "is not given", "pass the folder of tracks.parquet and captions.parquet")
        paths = [os.path.join(self.data_dir, name) for name in ("tracks.parquet", "captions.parquet")]
        for path in paths:
            if not os.path.isfile(path):
                raise JoinError(path, "no such file", "data_dir must hold tracks.parquet and captions.parquet")
        return paths[0], paths[1]

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """The name of the cache entry. It changes with the tables, where datasets would look at their folder only."""
        states = [os.stat(path) for path in self.tables()] if self.data_dir else []
        if states:
            config_kwargs = {**config_kwargs, "tables": "-".join(f"{s.st_size}.{s.st_mtime_ns}" for s in states)}
        return str(super().create_config_id(config_kwargs, custom_features))


class LPMusicCaps(datasets.ArrowBasedBuilder):
    """One row a track: tags, captions, provenance, and the user's audio as paths (decode it, or read it yourself)."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = LPMusicCapsConfig
    BUILDER_CONFIGS = [
        LPMusicCapsConfig(name=name, version="1.0.0", description=f"LP-MusicCaps, {name} columns") for name in LAYOUTS
    ]
    DEFAULT_CONFIG_NAME = "generic"

    def _info(self) -> datasets.DatasetInfo:
        instructions: tuple[str, ...] = ()
        if self.config.data_dir:
            instructions = instructions_of(self.config.tables()[1])
        features = features_of(self.config.name, instructions, audio=self.config.audio_root is not None)
        return datasets.DatasetInfo(description="Captions of music, written from tags", features=features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        tracks, captions = self.config.tables()
        root = self.config.audio_root
        if root is not None and not os.path.isdir(root):
            raise JoinError(root, "no such audio folder", "give audio_root the folder that audio_path is relative to")
        found = survey(tracks, captions)
        with pq.ParquetFile(tracks) as table:
            groups = list(range(table.num_row_groups))
        size = -(-len(groups) // MAX_SHARDS)
        shards = [groups[start : start + size] for start in range(0, len(groups), size)]
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "tracks": tracks,
                    "captions": captions,
                    "split": split,
                    "shards": shards,  # a list: datasets gives each process a part of it
                    "instructions": found.instructions,  # a tuple: datasets would cut a list up as well
                },
            )
            for split in found.splits
        ]

    def _generate_tables(
        self, tracks: str, captions: str, split: str, shards: list[list[int]], instructions: tuple[str, ...]
    ) -> Iterator[tuple[Any, pa.Table]]:
        for shard, row_groups in enumerate(shards):
            rows: list[dict[str, Any]] = []
            batch = 0
            for track, found in joined(tracks, captions, split, row_groups):
                rows.append(self._row(track, found, instructions))
                if len(rows) == ROWS_PER_TABLE:
                    yield _key(shard, batch), self._table(rows)
                    rows, batch = [], batch + 1
            if rows:
                yield _key(shard, batch), self._table(rows)

    def _row(self, track: Track, captions: Captions, instructions: tuple[str, ...]) -> dict[str, Any]:
        row = published_row(self.config.name, instructions, track, captions)
        root = self.config.audio_root
        if root is not None:
            path = os.path.join(root, row["path"]) if row["path"] else ""
            row["audio"] = {"bytes": None, "path": path} if os.path.isfile(path) else None
        row["path"] = published_path(row["path"], root)
        return row

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=self.info.features.arrow_schema)


def _key(shard: int, batch: int) -> Any:
    """datasets 5 wants a `Key`, earlier ones any string."""
    key = getattr(datasets.builder, "Key", None)
    return key(shard, batch) if key else f"{shard}_{batch}"
