"""LP-MusicCaps as a `datasets` builder: a tracks table, a captions table and the user's own audio, joined by track.

This one file is a class for datasets 4 and 5 (`LPMusicCaps(config_name="mtt", data_dir=..., audio_root=...)`) and a
loading script for datasets 3. That is why it imports nothing of this project, names one package an import line (the
import finder of datasets 3 reads `import json, os` as one package named `json,`), and yields Arrow tables: a builder
that yields examples needs torchcodec for an audio column, an Arrow one does not.

`data_dir` is the folder of the two tables, or a configuration of a published data set (`lp-musiccaps/msd`): its
captions are then joined with the audio of the reader's own. `join_audio` does the same for a data set that is loaded
already. `dataset_builder.build` writes the published Parquet with the same columns and the same join.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeGuard

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PUBLISHED_INSTRUCTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")  # the columns of LP-MusicCaps
SAMPLING_RATE = 16_000  # Hz; what the model hears (paper 5.1). The bytes stay the original ones; decoding resamples.
TRACKS_PER_CHUNK = 5_000  # tracks that are joined with their captions at once, about 40 MB
ROWS_PER_BATCH = 65_536  # rows of names and ids read at once while looking the tables over
MAX_SHARDS = 16  # parts of a split that processes share out
EVALUATION_ONLY = ("song_describer",)  # sources whose authors ask that nobody trains on them
TEMPLATE_ORIGIN = "template"  # marks a caption that stands in for a rejected answer
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"),
    *(".m4a", ".mp4", ".aac", ".wma", ".webm"),
)

_MAY_NAME_FILES = ("reason", "backend", "model_asked", "model_answered")
# The folders of an absolute path; they may hold spaces where the path begins the text or a quotation.
_FOLDERS = re.compile(
    r"(?:^|(?<=['\"]))(?:/|~|[A-Za-z]:\\|\\\\)(?:[^/\\'\"\n]*[/\\])+"
    r"|(?:file://|(?<![\w/.:]))(?:[/~](?:[^\s/'\"]+/)+|(?:[A-Za-z]:\\|\\\\)(?:[^\s\\'\"]+\\)*)"
)
_NAMES_FOLDERS = re.compile(r"[A-Za-z]:[\\/]|\\\\|file:|~", re.IGNORECASE)  # a drive, a share, a URL, a user's home
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")  # what datasets accepts as the name of a split
_SPLIT_ORDER = ("train", "valid", "validation", "test")
_INSTRUCTION_NAME = re.compile(r"[a-z][a-z0-9_]*")  # becomes a column name
_SHARD_NAME = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}\.parquet")

logger = logging.getLogger(__name__)


class JoinError(ValueError):
    """Tables that cannot be joined: which file, what is wrong, what to do."""

    def __init__(self, item: object, problem: str, remedy: str = "") -> None:
        self.item = str(item)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self.item}: {problem}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[JoinError], tuple[str, str, str]]:
        return type(self), (self.item, self.problem, self.remedy)  # so that worker processes can raise it


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
# What the checks found in each caption that is kept (README of dataset_builder: faithfulness).
SCORE_FIELDS = {
    "instruction": STRING,
    "tag_coverage": FLOAT,
    "unsupported": STRINGS,
    "soft": STRINGS,
    "contradictions": STRINGS,
    "near_duplicates": INTEGER,
}
_SCORE_LISTS = ("unsupported", "soft", "contradictions")
# What is read of the captions table, and as what: another writer may have made large strings or dictionaries of it.
CAPTION_SCHEMA = datasets.Features(
    {"track_id": STRING, "caption": STRING, "new_attributes": STRINGS, **PROVENANCE_FIELDS, **SCORE_FIELDS}
).arrow_schema.remove_metadata()
CAPTION_COLUMNS = tuple(CAPTION_SCHEMA.names)


@dataclass(frozen=True)
class Chunk:
    """Some rows of the tracks table, in its order. `positions` are their places in the whole table, ascending."""

    tracks: pa.Table
    positions: np.ndarray
    source: str  # the file, for errors

    def __len__(self) -> int:
        return int(self.tracks.num_rows)

    def column(self, name: str, kind: pa.DataType | None = None) -> pa.Array:
        """A column as one array; all null where the table lacks it."""
        kind = kind or pa.string()
        if name not in self.tracks.schema.names:
            return pa.nulls(len(self), kind)
        return _cast(self.tracks.column(name), kind, f"{self.source}, column {name}")

    @cached_property
    def extra(self) -> list[dict[str, Any]]:
        """The column `extra`, parsed. Raises `JoinError`."""
        values = []
        for track_id, text in zip(self.column("track_id").to_pylist(), self.column("extra").to_pylist(), strict=True):
            try:
                value = json.loads(text) if text else {}
            except ValueError as error:
                raise JoinError(self.source, f"track {track_id!r}: `extra` is no JSON ({error})") from error
            if not isinstance(value, dict):
                raise JoinError(self.source, f"track {track_id!r}: `extra` is no JSON object")
            values.append(value)
        return values


@dataclass(frozen=True)
class Column:
    """A published column: its type and how it is taken from rows of the tracks table."""

    feature: Any
    take: Callable[[Chunk], pa.Array]


def _field(name: str, feature: Any = STRING) -> Column:
    kind = pa.int64() if feature is INTEGER else pa.string()
    return Column(feature, lambda chunk: chunk.column(name, kind))


def _list_field(name: str) -> Column:
    def take(chunk: Chunk) -> pa.Array:
        values = chunk.column(name, pa.list_(pa.string()))
        if values.null_count:  # no list is an empty list
            values = pa.array([value or [] for value in values.to_pylist()], pa.list_(pa.string()))
        return values

    return Column(STRINGS, take)


_EXTRA_TYPES = {bool: pa.bool_(), int: pa.int64(), str: pa.string(), list: pa.list_(pa.string())}


def _extra(name: str, feature: Any, kind: type, otherwise: Column | None = None) -> Column:
    """A column of the corpus's own, from `extra`. Numbers may have come as text; nothing else is made to fit.

    `otherwise` gives the value of rows where `extra` has none.
    """

    def fitting(track_id: str, value: Any) -> Any:
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        try:
            if kind in (int, str) and not isinstance(value, (dict, list)):
                return kind(value)
        except (TypeError, ValueError):
            pass
        raise JoinError(track_id, f"{name} is {value!r}, expected {kind.__name__}", "correct the tracks table")

    def take(chunk: Chunk) -> pa.Array:
        ids = chunk.column("track_id").to_pylist()
        values = [fitting(track_id, extra.get(name)) for track_id, extra in zip(ids, chunk.extra, strict=True)]
        if otherwise is not None and not all(values):
            spare = otherwise.take(chunk).to_pylist()
            values = [value or other for value, other in zip(values, spare, strict=True)]
        return pa.array(values, _EXTRA_TYPES[kind])

    return Column(feature, take)


def _as_json(values: Iterable[Any]) -> pa.Array:
    texts = [json.dumps(value, ensure_ascii=False, sort_keys=True) if value else None for value in values]
    return pa.array(texts, pa.string())


def _first_reference(chunk: Chunk) -> pa.Array:
    references = chunk.column("reference_captions", pa.list_(pa.string()))
    return pa.array([next(iter(captions or ()), None) for captions in references.to_pylist()], pa.string())


_TAGS = _list_field("tags")
_ID_TITLE_ARTIST_ALBUM = {
    "track_id": _field("track_id"),
    "title": _field("title"),
    "artist_name": _field("artist"),
    "release": _field("album"),
}
_GROUND_TRUTH = {"caption_ground_truth": Column(STRING, _first_reference)}
_REFERENCES = {"reference_captions": _list_field("reference_captions")}

# Columns before and after the captions. mc, mtt and msd carry the names of the published data sets
# (seungheondoh/LP-MusicCaps-MC, -MTT, -MSD on the Hub); audio, provenance and scores are ours and come last.
LAYOUTS: dict[str, tuple[dict[str, Column], dict[str, Column]]] = {
    "generic": (
        {**_ID_TITLE_ARTIST_ALBUM, "year": _field("year", INTEGER), "tag": _TAGS},
        {
            **_GROUND_TRUTH,
            **_REFERENCES,
            "facts": Column(STRING, lambda chunk: _as_json(extra.get("facts") for extra in chunk.extra)),
        },
    ),
    "rendered": (
        {**_ID_TITLE_ARTIST_ALBUM, "year": _field("year", INTEGER), "tag": _TAGS},
        {**_GROUND_TRUTH, **_REFERENCES, "facts": Column(STRING, lambda chunk: _as_json(chunk.extra))},
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
            "tag_top188": _extra("tag_top188", STRINGS, list, otherwise=_TAGS),
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


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array; another writer may have made it of dictionaries."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _cast(column: pa.Array | pa.ChunkedArray, kind: pa.DataType, item: str) -> pa.Array:
    """A column of any writer as one array of `kind`. Raises `JoinError`."""
    try:
        return _one(column).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        problem = f"a value does not fit its column: {' '.join(str(error).split())}"
        raise JoinError(item, problem, "correct the table") from error


def published_columns(
    layout: str, instructions: Sequence[str], chunk: Chunk, captions: pa.Table, audio_root: str | None
) -> dict[str, pa.Array]:
    """The columns of the data set for a chunk of tracks, without the audio, under their published names.

    `captions` are the rows of these tracks (see `captions_of`). A caption that failed is null, never empty text; a
    template caption that stands in for a rejected answer is kept, and `provenance` says so. Raises `JoinError`.
    """
    head, tail = LAYOUTS[layout]
    columns = {name: column.take(chunk) for name, column in head.items()}
    rows = _Captions(captions)
    for name in _caption_order(instructions):
        columns[f"caption_{name}"] = _place(rows.text, rows.position, rows.of(name), len(chunk))
    columns["pseudo_attribute"] = _place(
        _filled(rows.table("new_attributes")),
        rows.position,
        rows.of("attribute_prediction") & rows.by_model,
        len(chunk),
    )
    columns.update({name: column.take(chunk) for name, column in tail.items()})
    paths = chunk.column("audio_path").to_pylist()
    columns["path"] = pa.array([published_path(path, audio_root) for path in paths], pa.string())
    made = [
        _without_folders(rows.table(name)) if name in _MAY_NAME_FILES else rows.table(name)
        for name in PROVENANCE_FIELDS
    ]
    columns["provenance"] = pa.StructArray.from_arrays(
        [
            _no_empty(chunk.column("source")),
            _no_empty(chunk.column("licence")),
            _lists(made, PROVENANCE_FIELDS, rows.position, len(chunk)),
        ],
        ["source", "licence", "captions"],
    )
    kept = np.flatnonzero(rows.kept)
    found = [rows.table(name).take(pa.array(kept)) for name in SCORE_FIELDS]
    found = [
        _filled(values) if name in _SCORE_LISTS else values for name, values in zip(SCORE_FIELDS, found, strict=True)
    ]
    columns["scores"] = _lists(found, SCORE_FIELDS, rows.position[kept], len(chunk))
    return columns


class _Captions:
    """The caption rows of a chunk, sorted by track and instruction, with what of them is published."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self.position = _one(rows.column("position")).to_numpy(zero_copy_only=False)  # in the chunk
        ok = pc.equal(self.table("outcome"), "ok")
        template = pc.fill_null(pc.equal(self.table("caption_origin"), TEMPLATE_ORIGIN), False)
        text = pc.utf8_trim_whitespace(self.table("caption"))
        kept = pc.and_(pc.or_(ok, template), pc.fill_null(pc.greater(pc.utf8_length(text), 0), False))
        self.text = pc.if_else(kept, text, pa.scalar(None, pa.string()))
        self.kept = _numpy(kept)
        self.by_model = _numpy(pc.and_not(ok, template))
        self.instruction = self.table("instruction")

    def table(self, name: str) -> pa.Array:
        return _one(self.rows.column(name))

    def of(self, instruction: str) -> np.ndarray:
        """Which rows are of this instruction."""
        return _numpy(pc.equal(self.instruction, instruction))


def _numpy(mask: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)


def _place(values: pa.Array, position: np.ndarray, mask: np.ndarray, length: int) -> pa.Array:
    """An array of `length` with the values that `mask` selects at their positions, null elsewhere."""
    index = np.full(length, -1, dtype=np.int64)
    index[position[mask]] = np.flatnonzero(mask)
    return values.take(pa.array(index, mask=index < 0))


def _lists(fields: Sequence[pa.Array], names: Iterable[str], position: np.ndarray, length: int) -> pa.Array:
    """One list of structs a track, from rows that are sorted by their track."""
    offsets = np.zeros(length + 1, dtype=np.int32)
    np.cumsum(np.bincount(position, minlength=length), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(list(fields), list(names)))


def _filled(lists: pa.Array) -> pa.Array:
    """No list as an empty list."""
    if lists.null_count == 0:
        return lists
    return pa.array([value or [] for value in lists.to_pylist()], lists.type)


def _no_empty(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _without_folders(texts: pa.Array) -> pa.Array:
    encoded = texts.dictionary_encode()
    clean = pa.array([without_folders(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return clean.take(encoded.indices)


def without_folders(text: str | None) -> str | None:
    """`text` with every absolute path cut down to its last part: a local model's file, or a path in an error."""
    return None if text is None else _FOLDERS.sub("", text)


def published_path(audio_path: str | None, audio_root: str | None) -> str | None:
    """`audio_path` as it may be published: relative to the audio root, or the base name; never an absolute path."""
    if not audio_path:
        return None
    audio_path = os.fsencode(audio_path).decode(errors="replace")  # a folder's name need not be UTF-8
    if _NAMES_FOLDERS.match(audio_path):
        return re.split(r"[\\/]", audio_path)[-1]
    if not os.path.isabs(audio_path):
        relative = posixpath.normpath(audio_path.replace(os.sep, "/"))
    elif audio_root is not None:
        relative = os.path.relpath(audio_path, os.path.abspath(audio_root)).replace(os.sep, "/")
    else:
        relative = ".."
    return posixpath.basename(audio_path.replace(os.sep, "/")) if relative.startswith("..") else relative


def as_table(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, in its order and types. Raises `pyarrow.ArrowInvalid` where one does not fit."""
    return pa.Table.from_arrays([columns[field.name].cast(field.type) for field in schema], schema=schema)


# ---- The join -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What two tables that fit together hold, and where in them.

    `rows` is split -> tracks in each row group of the tracks table; `spans` is for each row group of the captions
    table the first and last position (in the tracks table) of its tracks.
    """

    splits: dict[str, int]
    sources: dict[str, int]
    instructions: tuple[str, ...]
    tracks_without_captions: int
    rows: dict[str, tuple[int, ...]]
    spans: tuple[tuple[int, int], ...]


def survey(tracks: str, captions: str) -> Survey:
    """Check that the two tables fit together, reading only ids and names.

    Raises `JoinError` when a table is empty, a track occurs twice or in two splits, the captions name an unknown
    track or the same (track, instruction) twice, or no track has a caption.
    """
    rows, sources, ids = _survey_tracks(tracks)
    order = {name: place for place, name in enumerate(_SPLIT_ORDER)}
    rows = dict(sorted(rows.items(), key=lambda item: order.get(item[0], len(order))))
    instructions, captioned, spans = _survey_captions(captions, ids, tracks)
    splits = {name: sum(counts) for name, counts in rows.items()}
    return Survey(splits, sources, instructions, len(ids) - captioned, rows, spans)


def _survey_tracks(tracks: str) -> tuple[dict[str, tuple[int, ...]], dict[str, int], pa.Array]:
    rows: dict[str, list[int]] = {}
    sources: dict[str, int] = {}
    parts: list[pa.Array] = []
    with pq.ParquetFile(tracks) as table:
        present = [name for name in ("track_id", "split", "source") if name in table.schema_arrow.names]
        for group in range(table.num_row_groups):
            for batch in table.iter_batches(ROWS_PER_BATCH, [group], present):
                parts.append(_ids(batch))
                for name, count in _counts(_splits(batch)).items():
                    rows.setdefault(name, [0] * table.num_row_groups)[group] += count
                for name, count in _counts(_texts(batch, "source")).items():
                    sources[name] = sources.get(name, 0) + count
    if not rows:
        raise JoinError(tracks, "the tracks table has no rows", "make one with `lpmc tracks SOURCE`")
    ids = pa.concat_arrays(parts)
    if pc.any(pc.equal(pc.utf8_length(pc.fill_null(ids, "")), 0)).as_py():
        raise JoinError(tracks, "a row has no track_id", "give every track an id")
    for name in rows:
        if not _SPLIT_NAME.fullmatch(name) or name == "all":
            raise JoinError(tracks, f"{name!r} cannot name a split", "use letters, digits and _ (and not `all`)")
    counts = pc.value_counts(ids)
    if len(counts) < len(ids):
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0].as_py()
        found = _splits_of_track(tracks, repeated)
        where = f"in the splits {' and '.join(found)}" if len(found) > 1 else f"twice in the split {found[0]}"
        raise JoinError(tracks, f"track_id {repeated!r} is {where}", "give every track one row")
    return {name: tuple(counts) for name, counts in rows.items()}, sources, ids


def _splits_of_track(tracks: str, track_id: str) -> list[str]:
    names: list[str] = []
    with pq.ParquetFile(tracks) as table:
        present = [name for name in ("track_id", "split") if name in table.schema_arrow.names]
        for batch in table.iter_batches(ROWS_PER_BATCH, columns=present):
            names += _splits(batch).filter(pc.equal(_ids(batch), track_id)).to_pylist()
    return list(dict.fromkeys(names))


def _survey_captions(
    captions: str, ids: pa.Array, tracks: str
) -> tuple[tuple[str, ...], int, tuple[tuple[int, int], ...]]:
    instructions: dict[str, int] = {}
    base = 1_000  # more than there are instructions
    keys: list[np.ndarray] = []  # position of the track and number of the instruction in one integer
    spans: list[tuple[int, int]] = []
    unknown: dict[str, None] = {}
    any_text = False
    columns = ["track_id", "instruction", "outcome", "caption_origin"]
    with pq.ParquetFile(captions) as table:
        for group in range(table.num_row_groups):
            first, last = len(ids), -1
            for batch in table.iter_batches(ROWS_PER_BATCH, [group], columns):
                position = pc.index_in(_ids(batch), value_set=ids)
                if position.null_count:
                    missing = _ids(batch).filter(pc.is_null(position))
                    unknown.update(dict.fromkeys(missing.to_pylist()))
                    continue
                names = _cast(batch.column("instruction"), pa.string(), "column instruction")
                for name in pc.unique(names).to_pylist():
                    if name is None or not _INSTRUCTION_NAME.fullmatch(name):
                        raise JoinError(
                            captions, f"{name!r} is no instruction", "make the table with `lpmc pseudo-caption`"
                        )
                    instructions.setdefault(name, len(instructions))
                number = pc.index_in(names, value_set=pa.array(list(instructions), pa.string()))
                places = position.to_numpy().astype(np.int64)
                keys.append(places * base + number.to_numpy())
                if len(places):
                    first, last = min(first, int(places.min())), max(last, int(places.max()))
                any_text = any_text or _any_kept(batch)
            spans.append((first, last))
    if unknown:
        shown = ", ".join(repr(name) for name in list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise JoinError(
            captions,
            f"{len(unknown)} track(s) are not in the tracks table {os.path.basename(tracks)}: {shown}",
            "give the tracks table that these captions were made from",
        )
    if not keys:
        raise JoinError(captions, "the captions table has no rows", "make one with `lpmc pseudo-caption`")
    all_keys = np.sort(np.concatenate(keys))
    repeated = all_keys[1:][all_keys[1:] == all_keys[:-1]]
    if len(repeated):
        position, number = divmod(int(repeated[0]), base)
        raise JoinError(
            captions,
            f"track {ids[position].as_py()!r} has two rows for the instruction {list(instructions)[number]!r}",
            "keep one of them",
        )
    if not any_text:
        raise JoinError(captions, "no track has a caption: every answer failed", "see `lpmc report` for the reasons")
    captioned = 1 + int(np.count_nonzero(np.diff(all_keys // base)))
    return tuple(sorted(instructions)), captioned, tuple(spans)


def _any_kept(batch: pa.RecordBatch) -> bool:
    ok = pc.equal(_texts(batch, "outcome"), "ok")
    template = pc.equal(_texts(batch, "caption_origin"), TEMPLATE_ORIGIN)
    return bool(pc.any(pc.or_(ok, template)).as_py())


def instructions_of(captions: str) -> tuple[str, ...]:
    """The instructions that a captions table holds rows for."""
    with pq.ParquetFile(captions) as table:
        names = {
            name for batch in table.iter_batches(columns=["instruction"]) for name in pc.unique(batch[0]).to_pylist()
        }
    return tuple(sorted(name for name in names if name))


def track_ids(tracks: str) -> pa.Array:
    """The ids of a tracks table, in its order."""
    with pq.ParquetFile(tracks) as table:
        return pa.concat_arrays([_ids(batch) for batch in table.iter_batches(ROWS_PER_BATCH, columns=["track_id"])])


def _ids(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    return _cast(rows.column("track_id"), pa.string(), "column track_id")


def _texts(rows: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        return pa.array([""] * rows.num_rows, pa.string())
    return pc.fill_null(_cast(rows.column(name), pa.string(), f"column {name}"), "")


def _splits(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """The split of each track under the corpus's own name; tracks without one go to `train`."""
    names = _texts(rows, "split")
    return pc.if_else(pc.equal(names, ""), "train", names)


def _counts(texts: pa.Array) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(texts).to_pylist()}


def chunks_of_split(
    tracks: str,
    split: str,
    rows: Sequence[int],
    start: int = 0,
    stop: int | None = None,
    left_out: pa.Array | None = None,
    size: int | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[Chunk]:
    """Stream the tracks `start` to `stop` of one split, in the order of the tracks table, at most `size` at a time.

    `rows` is how many tracks of the split each row group of the table holds (`Survey.rows`). Tracks whose id is in
    `left_out` are passed over, after counting. `columns` names what is read of
    each track (default: everything).
    """
    size = size or TRACKS_PER_CHUNK
    stop = sum(rows) if stop is None else stop
    waiting: list[tuple[pa.Table, np.ndarray]] = []
    held = 0
    with pq.ParquetFile(tracks) as table:
        read = [name for name in table.schema_arrow.names if columns is None or name in (*columns, "track_id", "split")]
        group_start = seen = 0  # rows of the table, and of the split, before this row group
        for group in range(table.num_row_groups):
            length = table.metadata.row_group(group).num_rows
            if rows[group] and seen + rows[group] > start and seen < stop:
                offset, counted = group_start, seen
                for batch in table.iter_batches(size, [group], read):
                    part = pa.Table.from_batches([batch])
                    places = np.flatnonzero(_numpy(pc.equal(_splits(part), split)))
                    of_split = counted + np.arange(len(places))
                    places = places[(of_split >= start) & (of_split < stop)]
                    counted += len(of_split)
                    found = part.take(pa.array(places)) if len(places) else part.slice(0, 0)
                    positions = offset + places
                    offset += batch.num_rows
                    if left_out is not None and len(places):
                        stays = _numpy(pc.invert(pc.is_in(_ids(found), value_set=left_out)))
                        found, positions = found.filter(pa.array(stays)), positions[stays]
                    while found.num_rows:
                        room = size - held
                        waiting.append((found.slice(0, room), positions[:room]))
                        held += waiting[-1][0].num_rows
                        found, positions = found.slice(room), positions[room:]
                        if held == size:
                            yield _chunk(waiting, tracks)
                            waiting, held = [], 0
            seen += rows[group]
            group_start += length
    if held:
        yield _chunk(waiting, tracks)


def _chunk(parts: list[tuple[pa.Table, np.ndarray]], source: str) -> Chunk:
    return Chunk(pa.concat_tables([part for part, _ in parts]), np.concatenate([places for _, places in parts]), source)


def captions_of(chunk: Chunk, captions: pq.ParquetFile, spans: Sequence[tuple[int, int]]) -> pa.Table:
    """The caption rows of the tracks of a chunk, sorted by track and instruction, with `position` in the chunk.

    Row groups that cannot hold any of these tracks (`Survey.spans`) are not read: captions in the order of the tracks
    are read once in all, and memory stays flat in either case.
    """
    ids = _ids(chunk.tracks)
    first, last = int(chunk.positions[0]), int(chunk.positions[-1])
    parts: list[pa.Table] = []
    for group, (lowest, highest) in enumerate(spans):
        if highest < first or lowest > last:
            continue
        names = _ids(captions.read_row_group(group, ["track_id"]))
        position = pc.index_in(names, value_set=ids)
        if position.null_count == len(position):
            continue
        rows = captions.read_row_group(group, list(CAPTION_COLUMNS)).append_column("position", position)
        parts.append(caption_rows(rows.filter(pc.is_valid(position))))
    if not parts:
        return CAPTION_SCHEMA.empty_table().append_column("position", pa.array([], pa.int32()))
    return pa.concat_tables(parts).sort_by([("position", "ascending"), ("instruction", "ascending")])


def caption_rows(rows: pa.Table) -> pa.Table:
    """Rows of the captions table in its own types, with `position`. Raises `JoinError`."""
    columns = [_cast(rows.column(field.name), field.type, f"captions, column {field.name}") for field in CAPTION_SCHEMA]
    return pa.Table.from_arrays(columns, schema=CAPTION_SCHEMA).append_column("position", rows.column("position"))


# ---- The user's audio -----------------------------------------------------------------------------------------------


class AudioFiles:
    """Finds the audio of a track under the user's own folder: by the path of the tracks table, else by its id.

    A file is found by an id when it is the only one in the whole folder that is called so (`TRAISBD128F9343A9B.mp3`,
    `[ytid]-[30-40].wav`, a bare YouTube id). A path that leads out of the folder finds nothing: a published table
    must not be able to name any file of its reader.
    """

    SHORTEST_ID = 8  # characters; a shorter one (`7`, `t12`) may be the name of any file

    def __init__(self, root: str) -> None:
        self.root = root
        self._inside = os.path.join(os.path.normpath(root), "")

    def find(self, audio_path: str | None, *ids: str | None) -> str | None:
        """The path of the file, or None."""
        if audio_path:
            path = os.path.normpath(os.path.join(self.root, audio_path))
            if path.startswith(self._inside) and os.path.isfile(path):
                return path
        found = (self._by_name.get(name) for name in ids if self._tells(name))
        return next((path for path in found if path and os.path.isfile(path)), None)  # no pipe, no broken link

    def _tells(self, name: str | None) -> TypeGuard[str]:
        return name is not None and len(name) >= self.SHORTEST_ID

    @cached_property
    def _by_name(self) -> dict[str, str | None]:
        files: dict[str, str | None] = {}
        for folder, subfolders, names in os.walk(self.root):
            subfolders.sort()
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in AUDIO_SUFFIXES:
                    files[stem] = None if stem in files else os.path.join(folder, name)
        return files


def join_audio(rows: datasets.Dataset, audio_root: str) -> tuple[datasets.Dataset, list[str]]:
    """A loaded data set with a column `audio` of the user's own files, and the ids of the rows that have none.

    `rows` is one split of a text-only configuration; its `path` and ids are looked up under `audio_root`. Needs no
    torchcodec: `cast_column("audio", Audio(decode=False))` gives the paths. Raises `JoinError` for a missing folder.
    """
    _check_audio_root(audio_root)
    if not isinstance(rows, datasets.Dataset):
        raise JoinError(type(rows).__name__, "cannot be joined", "load one split, without streaming")
    files = AudioFiles(audio_root)
    names = [name for name in ("track_id", "fname", "ytid", "path") if name in rows.column_names]
    found: list[str | None] = []
    missing: list[str] = []
    for row in rows.select_columns(names):
        path = files.find(row.get("path"), row.get("track_id"), row.get("fname"), row.get("ytid"))
        found.append(path)
        if path is None:
            missing.append(row.get("track_id") or row.get("fname") or row.get("path") or "?")
    if "audio" in rows.column_names:
        rows = rows.remove_columns("audio")
    joined = rows.add_column("audio", pa.array(found, pa.string()))
    return joined.cast_column("audio", datasets.Audio(sampling_rate=SAMPLING_RATE)), missing


def _check_audio_root(root: str) -> None:
    if not os.path.isdir(root):
        raise JoinError(root, "no such audio folder", "give audio_root the folder that holds your audio")


# ---- The builder ----------------------------------------------------------------------------------------------------


@dataclass
class LPMusicCapsConfig(datasets.BuilderConfig):
    """`data_dir` holds the two tables or published Parquet; `audio_root` holds the user's audio (None: text only)."""

    audio_root: str | None = None

    def tables(self) -> tuple[str, str] | None:
        """tracks.parquet and captions.parquet, or None when `data_dir` holds published Parquet instead.

        Raises `JoinError` when it holds neither.
        """
        if not self.data_dir:
            raise JoinError("data_dir", "is not given", "pass the folder of tracks.parquet and captions.parquet")
        paths = [os.path.join(self.data_dir, name) for name in ("tracks.parquet", "captions.parquet")]
        if not any(map(os.path.isfile, paths)) and self.published():
            return None
        for path in paths:
            if not os.path.isfile(path):
                raise JoinError(path, "no such file", "data_dir must hold tracks.parquet and captions.parquet")
        return paths[0], paths[1]

    def published(self) -> dict[str, list[str]]:
        """The Parquet files of a published configuration in `data_dir`, by split."""
        files: dict[str, list[str]] = {}
        for name in sorted(os.listdir(self.data_dir)) if self.data_dir and os.path.isdir(self.data_dir) else ():
            match = _SHARD_NAME.fullmatch(name)
            if match:
                files.setdefault(match.group(1), []).append(os.path.join(self.data_dir, name))
        order = {name: place for place, name in enumerate(_SPLIT_ORDER)}
        return dict(sorted(files.items(), key=lambda item: order.get(item[0], len(order))))

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """The name of the cache entry. It changes with the tables and with the names of the audio files."""
        if self.data_dir:
            files = self.tables() or [path for paths in self.published().values() for path in paths]
            states = [os.stat(path) for path in files]
            config_kwargs = {**config_kwargs, "tables": "-".join(f"{s.st_size}.{s.st_mtime_ns}" for s in states)}
        if self.audio_root is not None and os.path.isdir(self.audio_root):
            config_kwargs = {**config_kwargs, "audio_root": f"{self.audio_root} {_listing(self.audio_root)}"}
        return str(super().create_config_id(config_kwargs, custom_features))


class LPMusicCaps(datasets.ArrowBasedBuilder):
    """One row a track: tags, captions, provenance, and the user's audio as paths (decode it, or read it yourself).

    Tracks whose audio is not under `audio_root` keep their row, with None for audio; they are counted in a warning
    and listed, by split, in `ids_without_audio`. A corpus that is for evaluation alone is refused as training data.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = LPMusicCapsConfig
    BUILDER_CONFIGS = [
        LPMusicCapsConfig(name=name, version="1.0.0", description=f"LP-MusicCaps, {name} columns") for name in LAYOUTS
    ]
    DEFAULT_CONFIG_NAME = "generic"

    def _info(self) -> datasets.DatasetInfo:
        description = "Captions of music, written from tags"
        audio = self.config.audio_root is not None
        if not self.config.data_dir:
            return datasets.DatasetInfo(
                description=description, features=features_of(self.config.name, (), audio=audio)
            )
        tables = self.config.tables()
        if tables is not None:
            features = features_of(self.config.name, instructions_of(tables[1]), audio=audio)
        else:
            features = _published_features(next(iter(self.config.published().values()))[0], audio=audio)
        return datasets.DatasetInfo(description=description, features=features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.audio_root is not None:
            _check_audio_root(self.config.audio_root)
        tables = self.config.tables()
        instructions: tuple[str, ...] = ()
        spans: tuple[tuple[int, int], ...] = ()
        if tables is not None:
            instructions, spans = self._survey.instructions, self._survey.spans
            _refuse_evaluation_sets(tables[0])
        for split, missing in self.ids_without_audio.items():
            if missing:
                named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
                logger.warning(
                    "%s: %d tracks have no audio under %s: %s (all in the builder's ids_without_audio)",
                    *(split, len(missing), self.config.audio_root, named),
                )
        generators = []
        for split, parts in self._shards.items():
            arguments = {
                "split": split,
                "shards": parts,  # a list: datasets gives each process a part of it
                "captions": tables[1] if tables else "",
                "instructions": instructions,  # tuples: datasets would cut lists up as well
                "spans": spans,
            }
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs=arguments))
        return generators

    @cached_property
    def ids_without_audio(self) -> dict[str, list[str]]:
        """By split, the ids of the tracks that have no file under `audio_root`; empty without one."""
        if self.config.audio_root is None:
            return {}
        find = self._files.find
        return {
            split: [
                track_id
                for kind, path, rows in parts
                for track_id, audio in _ids_and_paths(kind, path, split, rows)
                if find(audio, track_id, youtube_id(track_id)) is None
            ]
            for split, parts in self._shards.items()
        }

    @cached_property
    def _shards(self) -> dict[str, list[_Share]]:
        tables = self.config.tables()
        if tables is None:
            return {split: [_Share("", path, ()) for path in paths] for split, paths in self.config.published().items()}
        return {split: _shares(tables[0], rows) for split, rows in self._survey.rows.items()}

    @cached_property
    def _survey(self) -> Survey:
        return survey(*self.config.tables())

    @cached_property
    def _files(self) -> AudioFiles:
        return AudioFiles(self.config.audio_root)

    def _generate_tables(
        self,
        split: str,
        shards: list[_Share],
        captions: str,
        instructions: tuple[str, ...],
        spans: tuple[tuple[int, int], ...],
    ) -> Iterator[tuple[Any, pa.Table]]:
        for shard, (kind, path, rows) in enumerate(shards):
            parts = self._joined(path, split, rows, captions, instructions, spans) if kind else _published_columns(path)
            for batch, columns in enumerate(parts):
                if self.config.audio_root is not None:
                    columns["audio"] = self._audio(columns)
                yield _key(shard, batch), as_table(columns, self.info.features.arrow_schema)

    def _joined(
        self,
        tracks: str,
        split: str,
        rows: tuple[int, ...],
        captions: str,
        instructions: tuple[str, ...],
        spans: tuple[tuple[int, int], ...],
    ) -> Iterator[dict[str, pa.Array]]:
        with pq.ParquetFile(captions) as table:
            for chunk in chunks_of_split(tracks, split, rows):
                texts = captions_of(chunk, table, spans)
                columns = published_columns(self.config.name, instructions, chunk, texts, self.config.audio_root)
                columns["path"] = chunk.column("audio_path")
                yield columns

    def _audio(self, columns: dict[str, pa.Array]) -> pa.Array:
        """The files of the user's own, as paths; `path` becomes what may be published of it."""
        ids = (columns["track_id"] if "track_id" in columns else columns["fname"]).to_pylist()
        paths = columns["path"].to_pylist()
        found = [
            self._files.find(path, track_id, youtube_id(track_id)) for path, track_id in zip(paths, ids, strict=True)
        ]
        columns["path"] = pa.array([published_path(path, self.config.audio_root) for path in paths], pa.string())
        rows = [None if path is None else {"bytes": None, "path": path} for path in found]
        return pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def _refuse_evaluation_sets(tracks: str) -> None:
    """Raise `JoinError` for training tracks of a corpus that is kept for evaluation (`lpmc build` knows more leaks)."""
    with pq.ParquetFile(tracks) as table:
        present = [name for name in ("split", "source") if name in table.schema_arrow.names]
        for batch in table.iter_batches(ROWS_PER_BATCH, columns=present):
            barred = pc.is_in(_texts(batch, "source"), value_set=pa.array(EVALUATION_ONLY))
            trained = pc.equal(_splits(batch), "train")
            if pc.any(pc.and_(barred, trained)).as_py():
                raise JoinError(
                    tracks, f"has tracks of {EVALUATION_ONLY[0]} in `train`", "that corpus is for evaluation only"
                )


def _listing(folder: str) -> str:
    """A digest of the names under `folder`."""
    digest = hashlib.sha256()
    for place, subfolders, names in os.walk(folder):
        subfolders.sort()
        digest.update("\0".join([place, *sorted(names)]).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


class _Share(NamedTuple):
    """A part of a split: tracks of the tables (with the rows a row group), or a published file (`kind` empty)."""

    kind: str
    path: str
    rows: tuple[int, ...]


def _shares(tracks: str, rows: tuple[int, ...]) -> list[_Share]:
    """A split in parts for processes: the rows a row group, with those of the other parts set to none."""
    filled = [group for group, count in enumerate(rows) if count]
    size = -(-len(filled) // MAX_SHARDS)
    parts = [set(filled[start : start + size]) for start in range(0, len(filled), size)]
    return [
        _Share("tables", tracks, tuple(n if group in part else 0 for group, n in enumerate(rows))) for part in parts
    ]


def _ids_and_paths(kind: str, path: str, split: str, rows: tuple[int, ...]) -> Iterator[tuple[str, str | None]]:
    if kind:
        for chunk in chunks_of_split(path, split, rows):
            yield from zip(chunk.column("track_id").to_pylist(), chunk.column("audio_path").to_pylist(), strict=True)
        return
    with pq.ParquetFile(path) as table:
        name = "track_id" if "track_id" in table.schema_arrow.names else "fname"
        for batch in table.iter_batches(columns=[name, "path"]):
            yield from zip(batch.column(name).to_pylist(), batch.column("path").to_pylist(), strict=True)


def youtube_id(track_id: str) -> str | None:
    """The YouTube id in the name of a MusicCaps clip, `[ytid]-[start-end]`."""
    match = re.fullmatch(r"\[(.{11})\]-\[\d+-\d+\]", track_id)
    return match.group(1) if match else None


def _published_features(path: str, *, audio: bool) -> datasets.Features:
    """The features of a published file, from its Arrow types: its own notes are in the dialect of one release."""
    schema = pq.read_schema(path).remove_metadata()
    names = [field.name for field in schema if field.name != "audio"]
    features = datasets.Features.from_arrow_schema(pa.schema([schema.field(name) for name in names]))
    ordered: dict[str, Any] = {}
    for name in names:
        ordered[name] = features[name]
        if name == "path" and audio:
            ordered["audio"] = datasets.Audio(sampling_rate=SAMPLING_RATE)
    return datasets.Features(ordered)


def _published_columns(path: str) -> Iterator[dict[str, pa.Array]]:
    with pq.ParquetFile(path) as table:
        names = [name for name in table.schema_arrow.names if name != "audio"]
        for batch in table.iter_batches(TRACKS_PER_CHUNK, columns=names):
            yield dict(zip(batch.schema.names, batch.columns, strict=True))


def _key(shard: int, batch: int) -> Any:
    """datasets 5 wants a `Key`, earlier ones any string."""
    key = getattr(datasets.builder, "Key", None)
    return key(shard, batch) if key else f"{shard}_{batch}"
