"""A split of the data set as the trainer needs it: windows of audio, captions, and examples of both.

It is read from what `lpmc build` wrote, decoded once into a cache, or from shards that `lpmc train prepare` made. Audio
is read with `Audio(decode=False)` and decoded here, so that neither torchcodec nor FFmpeg is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset as TorchDataset

from lpmc_errors import LpmcError, TableError, UsageError
from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.audio_cache import (
    ClipAudio,
    EncodedAudio,
    Report,
    cached_audio,
    cached_features,
    float_window,
    int16_window,
)
from modeling_lpmc.training.caption_texts import ArrowSequence, digest_of, lengths_of, tokenised
from modeling_lpmc.training.feed import IGNORED_LABEL, CaptionCollator
from modeling_lpmc.training.sampling import Draw
from modeling_lpmc.training.shards import Manifest, is_prepared, open_split, read_manifest

AUDIO_COLUMN = "audio"
ID_COLUMNS = ("track_id", "fname", "ytid", "path")  # the first that the data set has names a row in messages
EVALUATION_ONLY = frozenset({"song_describer"})  # sources; the data set's builder has the same rule for its splits
TEXT_ROWS_AT_ONCE = 10_000  # captions of so many rows are Python strings at a time
MIDDLE = 0.5  # crop of evaluation


@dataclass(frozen=True)
class SkippedRow:
    """A row of the data set that training leaves out, and why."""

    split: str
    row: int
    track_id: str
    reason: str


@dataclass(frozen=True)
class CaptionedClips:
    """The usable rows of one split; the four sequences run in step.

    `audio_numbers[i]` is where clip i lies in `audio`. `captions[i]` holds at least one caption.
    """

    split: str
    rows: int
    track_ids: Sequence[str]
    captions: Sequence[Sequence[str]]
    tags: Sequence[Sequence[str]]
    audio_numbers: Sequence[int] | np.ndarray
    audio: ClipAudio
    skipped: list[SkippedRow]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def caption_counts(self) -> np.ndarray:
        """Captions of each clip: int64 (clips,)."""
        return lengths_of(self.captions)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any caption, tag or sound of the split."""
        return digest_of(self.audio.folder.name, np.asarray(self.audio_numbers, np.int64), self.captions, self.tags)

    def middles(self, number: int, length: int) -> list[np.ndarray]:
        """The middle windows, float32 (length,), of at most `number` clips spread evenly over the split."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(number, len(self))).round().astype(int))
        return [float_window(self.audio, int(self.audio_numbers[clip]), length, MIDDLE) for clip in chosen]


def read_split(
    arguments: DataArguments, split: str, max_rows: int | None, sampling_rate: int, cache: Path, report: Report
) -> CaptionedClips:
    """Read one split: its captions and tags into memory, its audio into the cache.

    A row without a caption, without audio, or whose audio is of no use is recorded in `skipped`.

    Raises `UsageError` for an unknown configuration, split or column; `TableError` for a data set that cannot be read,
    has no audio column, or of which no row is left.
    """
    if is_prepared(Path(arguments.dataset)):
        return _read_prepared(arguments, split, max_rows, sampling_rate, cache, report)
    config = chosen_config(arguments.dataset, arguments.config, split)
    table = load_split(arguments.dataset, config, split)
    if split == arguments.split and "provenance" in table.column_names:
        _refuse_evaluation_sets(
            pc.unique(pc.struct_field(table.data.column("provenance"), "source")).to_pylist(), _named(arguments, split)
        )
    if max_rows is not None:
        table = table.select(range(min(max_rows, len(table))))
    if not len(table):
        raise TableError(_named(arguments, split), "has no rows", "choose another split or build the data set again")
    columns = _caption_columns(arguments, split, table.column_names)
    if AUDIO_COLUMN not in table.column_names:
        raise TableError(
            _named(arguments, split), "has no audio", "build it with `lpmc build ... --audio-root DIR`, or name another"
        )
    balanced = _balanced(arguments, split)
    if balanced and arguments.tags not in table.column_names:
        raise UsageError(
            f"data.tags={arguments.tags}", "no such column", f"the split has {', '.join(table.column_names)}"
        )
    ids = id_column(table.column_names)
    texts = table.select_columns([*columns, *([arguments.tags] if balanced else []), *([ids] if ids else [])])
    skipped: list[SkippedRow] = []
    rows: list[int] = []
    pieces: list[pa.Table] = []
    for start in range(0, len(texts), TEXT_ROWS_AT_ONCE):
        kept = []
        for row, values in enumerate(texts.select(range(start, min(start + TEXT_ROWS_AT_ONCE, len(texts)))), start):
            track_id = str(values[ids]) if ids else str(row)
            captions = [caption for name in columns for caption in texts_of(values[name])]
            if captions:
                rows.append(row)
                tags = texts_of(values[arguments.tags]) if balanced else []
                kept.append({"track_id": track_id, "captions": captions, "tags": tags})
            else:
                skipped.append(SkippedRow(split, row, track_id, NO_CAPTION))
        pieces.append(pa.Table.from_pylist(kept, schema=_TEXT_SCHEMA))
    kept_texts = pa.concat_tables(pieces)
    if not rows:
        raise _no_captions(arguments, split, len(table), columns)
    sound = table.select_columns([AUDIO_COLUMN]).cast_column(AUDIO_COLUMN, datasets.Audio(decode=False))
    audio = cached_audio(rows, lambda row: _encoded(sound[row][AUDIO_COLUMN]), cache, sampling_rate, report)
    for number, reason in sorted(audio.faults.items()):
        skipped.append(SkippedRow(split, rows[number], kept_texts["track_id"][number].as_py(), reason))
    usable = np.asarray([number for number in range(len(rows)) if number not in audio.faults], np.int64)
    if not len(usable):
        first = skipped[-len(audio.faults)]
        raise TableError(
            _named(arguments, split),
            f"none of its {len(rows)} captioned rows has usable audio (row {first.row}: {first.reason})",
            "build it with `lpmc build ... --audio-root DIR`",
        )
    return _clips(split, len(table), kept_texts.take(usable), usable, audio, skipped)


NO_CAPTION = "no caption"
_TEXT_SCHEMA = pa.schema(
    [("track_id", pa.string()), ("captions", pa.list_(pa.string())), ("tags", pa.list_(pa.string()))]
)


def _clips(
    split: str, rows: int, texts: pa.Table, numbers: np.ndarray, audio: ClipAudio, skipped: list[SkippedRow]
) -> CaptionedClips:
    return CaptionedClips(
        split,
        rows,
        ArrowSequence[str](texts["track_id"]),
        ArrowSequence[list[str]](texts["captions"]),
        ArrowSequence[list[str]](texts["tags"]),
        numbers,
        audio,
        sorted(skipped, key=lambda skip: skip.row),
    )


def _read_prepared(
    arguments: DataArguments, split: str, max_rows: int | None, sampling_rate: int, cache: Path, report: Report
) -> CaptionedClips:
    manifest = read_manifest(Path(arguments.dataset))
    name = _named(arguments, split)
    if arguments.config is not None and arguments.config != manifest.config:
        raise UsageError(
            f"data.config={arguments.config}",
            f"{arguments.dataset} was prepared from {manifest.config}",
            f"give data.config={'null' if manifest.config is None else manifest.config}",
        )
    if split not in manifest.splits:
        raise UsageError(
            f"split {split}", f"{arguments.dataset} has no such one", f"it has {', '.join(manifest.splits)}"
        )
    if manifest.sampling_rate != sampling_rate:
        raise TableError(name, f"was prepared at {manifest.sampling_rate} Hz, not {sampling_rate}", "prepare it again")
    if split == arguments.split:
        _refuse_evaluation_sets(manifest.splits[split]["sources"], name)
    columns = _caption_columns(arguments, split, manifest.captions)
    balanced = _balanced(arguments, split)
    if balanced and arguments.tags != manifest.tags:
        raise UsageError(
            f"data.tags={arguments.tags}", f"{name} was prepared with {manifest.tags or 'no tags'}", "prepare it again"
        )
    audio, table = open_split(manifest, split, cache, report)
    rows = manifest.splits[split]["rows"] if max_rows is None else min(max_rows, manifest.splits[split]["rows"])
    skipped = [SkippedRow(split, *row) for row in manifest.left_out(split) if row[0] < rows]
    numbers = np.flatnonzero(table["row"].to_numpy() < rows)
    if len(numbers) < len(table):
        table = table.take(numbers)
    if tuple(columns) != tuple(manifest.captions):
        table = _only_captions(table, manifest, columns)
        empty = lengths_of(ArrowSequence(table["captions"])) == 0
        for row, track_id in zip(table["row"].filter(empty), table["track_id"].filter(empty), strict=True):
            skipped.append(SkippedRow(split, row.as_py(), track_id.as_py(), NO_CAPTION))
        table, numbers = table.filter(~empty), numbers[~empty]
    if not len(table):
        raise _no_captions(arguments, split, rows, columns)
    if not balanced:
        table = table.set_column(table.column_names.index("tags"), "tags", _no_tags(len(table)))
    return _clips(split, rows, table, numbers, audio, skipped)


def _only_captions(table: pa.Table, manifest: Manifest, columns: Sequence[str]) -> pa.Table:
    """`table` with the captions of `columns` alone, in their order: the first one is what evaluation compares with."""
    place = np.asarray([columns.index(name) if name in columns else -1 for name in manifest.captions])
    chunks = []
    for captions, numbers in zip(table["captions"].chunks, table["columns"].chunks, strict=True):
        places = place[numbers.flatten().to_numpy()]
        bounds = captions.offsets.to_numpy() - captions.offsets[0].as_py()
        clips = np.repeat(np.arange(len(captions)), np.diff(bounds))
        kept = np.flatnonzero(places >= 0)
        kept = kept[np.lexsort((places[kept], clips[kept]))]  # stable: several texts of one column stay in order
        offsets = pa.array(np.searchsorted(clips[kept], np.arange(len(captions) + 1)), pa.int32())
        chunks.append(pa.ListArray.from_arrays(offsets, captions.flatten().take(pa.array(kept))))
    column = pa.chunked_array(chunks, pa.list_(pa.string()))
    return table.set_column(table.column_names.index("captions"), "captions", column)


def _no_tags(clips: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.zeros(clips + 1, np.int32)), pa.array([], pa.string()))


def _balanced(arguments: DataArguments, split: str) -> bool:
    return arguments.sampling == "balanced_tags" and split == arguments.split


def _no_captions(arguments: DataArguments, split: str, rows: int, columns: Sequence[str]) -> TableError:
    return TableError(
        _named(arguments, split),
        f"none of its {rows} rows has a caption in {', '.join(columns)}",
        "choose other columns with data.captions=[...]",
    )


def _refuse_evaluation_sets(sources: Iterable[str | None], name: str) -> None:
    """Raise `UsageError` when the data to train on comes from a corpus that is kept for evaluation."""
    barred = sorted(EVALUATION_ONLY.intersection(source for source in sources if source))
    if barred:
        raise UsageError(
            name, f"holds {', '.join(barred)}, whose authors ask that nobody trains on it", "train on another data set"
        )


def chosen_config(dataset: str, config: str | None, split: str | None) -> str | None:
    """`config` if the data set has it, or None for its default; the `split` must be there too.

    Raises `UsageError` naming what there is, `TableError` when the data set cannot be read.
    """
    try:
        configs = datasets.get_dataset_config_names(dataset)
        if config is not None and config not in configs:
            raise UsageError(f"data.config={config}", f"{dataset} has no such one", f"it has {', '.join(configs)}")
        default = datasets.get_dataset_default_config_name(dataset)
        if config is None and default is None and len(configs) > 1:
            raise UsageError("data.config", f"{dataset} has several", f"choose one of {', '.join(configs)}")
        splits = datasets.get_dataset_split_names(dataset, config)
        if split is not None and split not in splits:
            raise UsageError(f"split {split}", f"{dataset} has no such one", f"it has {', '.join(splits)}")
    except LpmcError:
        raise
    except Exception as error:
        raise _cannot_be_loaded(dataset, error) from error
    return config


def load_split(dataset: str, config: str | None, split: str) -> datasets.Dataset:
    """The table of a split. Raises `TableError`.

    A local folder is opened by the names of its files: datasets 5.2 keeps what it has read of a folder under the last
    part of the folder's name and its card, and gives the rows of another, or older ones, where those two are equal.
    """
    try:
        files = parquet_files(dataset, config, split) if Path(dataset).is_dir() else ()
        if files:
            table = datasets.load_dataset("parquet", data_files={split: list(files)}, split=split)
        else:
            table = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:
        raise _cannot_be_loaded(dataset, error) from error
    assert isinstance(table, datasets.Dataset)
    return table


def parquet_files(dataset: str, config: str | None, split: str) -> tuple[str, ...]:
    """The files of a split when all of them are Parquet, else none. Raises what the `datasets` library raises."""
    files = datasets.load_dataset_builder(dataset, config).config.data_files[split]
    return tuple(str(file) for file in files) if all(str(file).endswith(".parquet") for file in files) else ()


def _cannot_be_loaded(dataset: str, error: Exception) -> TableError:
    """For whatever the library raises: a dozen kinds, from its own to fsspec's and pyarrow's."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TableError(
        f"data.dataset={dataset}", f"cannot be loaded ({reason})", "name a directory made by `lpmc build` or a Hub id"
    )


def id_column(present: Sequence[str]) -> str | None:
    """The column that names a row in messages."""
    return next((name for name in ID_COLUMNS if name in present), None)


def _caption_columns(arguments: DataArguments, split: str, present: Sequence[str]) -> list[str]:
    found = [name for name in arguments.captions if name in present]
    if not found:
        raise UsageError(
            f"data.captions={list(arguments.captions)}",
            f"{_named(arguments, split)} has none of these columns",
            f"it has {', '.join(present)}",
        )
    return found


def _named(arguments: DataArguments, split: str) -> str:
    return "/".join(part for part in (arguments.dataset, arguments.config, split) if part)


def texts_of(value: Any) -> list[str]:
    """The non-empty texts of a column that holds one text, a list of them, or nothing."""
    values = [value] if isinstance(value, str) else value or []
    return [text.strip() for text in values if text and text.strip()]


def _encoded(value: dict[str, Any] | None) -> EncodedAudio:
    value = value or {}
    return EncodedAudio(value.get("bytes"), value.get("path"))


class ClipDataset(TorchDataset[dict[str, Any]]):
    """Examples by `Draw` (training) or by number (evaluation: first caption, middle window).

    An example holds `input_features` float32 (mel, frames) when the spectrograms are cached, otherwise `input_values`
    int16 (samples,), which `CaptionTrainer` scales and the model turns into spectrograms; and `labels`, the token ids
    with `<s>` and `</s>`. The arrays are parts of mapped files: copy before writing to them. The captions are tokenised
    once; `clips.audio.folder` keeps the tokens.
    """

    def __init__(self, clips: CaptionedClips, processor: Any, arguments: DataArguments, report: Report) -> None:
        self.clips = clips
        self.crop = arguments.crop
        self.samples = processor.feature_extractor.chunk_samples
        self.features = cached_features(clips.audio, clips.audio_numbers, processor.feature_extractor, report)
        self.tokens = tokenised(
            clips.captions, processor.tokenizer, arguments.max_caption_tokens, clips.audio.folder, report
        )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        if not isinstance(draw, Draw):
            draw = Draw(draw, 0, MIDDLE)
        elif self.crop == "first":
            draw = Draw(draw.clip, draw.caption, 0.0)
        labels = self.tokens.labels(draw.clip, draw.caption)
        if self.features is not None:
            return {"input_features": self.features[draw.clip], "labels": labels}
        number = int(self.clips.audio_numbers[draw.clip])
        return {"input_values": int16_window(self.clips.audio, number, self.samples, draw.crop), "labels": labels}


__all__ = [
    "IGNORED_LABEL",
    "CaptionCollator",
    "CaptionedClips",
    "ClipDataset",
    "SkippedRow",
    "chosen_config",
    "id_column",
    "load_split",
    "read_split",
    "texts_of",
]
