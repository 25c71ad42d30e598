"""A split of the data set as the trainer needs it: windows of audio, captions, and batches of both.

Audio is read with `Audio(decode=False)` and decoded here, so that neither torchcodec nor FFmpeg is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset as TorchDataset
from transformers.models.bart.modeling_bart import shift_tokens_right

from lpmc_errors import LpmcError, TableError, UsageError
from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.audio_cache import AudioCache, EncodedAudio, Report, cached_audio, cached_features
from modeling_lpmc.training.sampling import Draw

AUDIO_COLUMN = "audio"
ID_COLUMNS = ("track_id", "fname", "ytid", "path")  # the first that the data set has names a row in messages
EVALUATION_ONLY = frozenset({"song_describer"})  # sources; the data set's builder has the same rule for its splits
IGNORED_LABEL = -100
LABEL_MULTIPLE = 8  # tokens; few shapes, and tensor cores like them
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
    """The usable rows of one split; the four lists run in step.

    `audio_numbers[i]` is where clip i lies in `audio`. `captions[i]` holds at least one caption.
    """

    split: str
    rows: int
    track_ids: list[str]
    captions: list[list[str]]
    tags: list[list[str]]
    audio_numbers: list[int]
    audio: AudioCache
    skipped: list[SkippedRow]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def fingerprint(self) -> str:
        """Changes with any caption, tag or sound of the split."""
        text = json.dumps([self.audio.folder.name, self.audio_numbers, self.captions, self.tags])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def middles(self, number: int, length: int) -> list[np.ndarray]:
        """The middle windows, float32 (length,), of at most `number` clips spread evenly over the split."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(number, len(self))).round().astype(int))
        return [self.audio.window(self.audio_numbers[clip], length, MIDDLE) for clip in chosen]


def read_split(
    arguments: DataArguments, split: str, max_rows: int | None, sampling_rate: int, cache: Path, report: Report
) -> CaptionedClips:
    """Read one split: its captions and tags into memory, its audio into the cache.

    A row without a caption, without audio, or whose audio is of no use is recorded in `skipped`.

    Raises `UsageError` for an unknown configuration, split or column; `TableError` for a data set that cannot be read,
    has no audio column, or of which no row is left.
    """
    table = _load(arguments, split)
    if split == arguments.split:
        _refuse_evaluation_sets(table, _named(arguments, split))
    if max_rows is not None:
        table = table.select(range(min(max_rows, len(table))))
    if not len(table):
        raise TableError(_named(arguments, split), "has no rows", "choose another split or build the data set again")
    columns = _caption_columns(arguments, split, table.column_names)
    if AUDIO_COLUMN not in table.column_names:
        raise TableError(
            _named(arguments, split), "has no audio", "build it with `lpmc build ... --audio-root DIR`, or name another"
        )
    balanced = arguments.sampling == "balanced_tags" and split == arguments.split
    if balanced and arguments.tags not in table.column_names:
        raise UsageError(
            f"data.tags={arguments.tags}", "no such column", f"the split has {', '.join(table.column_names)}"
        )
    ids = next((name for name in ID_COLUMNS if name in table.column_names), None)
    texts = table.select_columns([*columns, *([arguments.tags] if balanced else []), *([ids] if ids else [])])
    skipped: list[SkippedRow] = []
    kept: list[tuple[int, str, list[str], list[str]]] = []
    for row, values in enumerate(texts):
        track_id = str(values[ids]) if ids else str(row)
        captions = [caption for name in columns for caption in _texts(values[name])]
        if captions:
            kept.append((row, track_id, captions, _texts(values[arguments.tags]) if balanced else []))
        else:
            skipped.append(SkippedRow(split, row, track_id, "no caption"))
    if not kept:
        raise TableError(
            _named(arguments, split),
            f"none of its {len(table)} rows has a caption in {', '.join(columns)}",
            "choose other columns with data.captions=[...]",
        )
    sound = table.select_columns([AUDIO_COLUMN]).cast_column(AUDIO_COLUMN, datasets.Audio(decode=False))
    audio = cached_audio(
        [row for row, *_ in kept], lambda row: _encoded(sound[row][AUDIO_COLUMN]), cache, sampling_rate, report
    )
    for number, reason in sorted(audio.faults.items()):
        skipped.append(SkippedRow(split, kept[number][0], kept[number][1], reason))
    usable = [number for number in range(len(kept)) if number not in audio.faults]
    if not usable:
        first = skipped[-len(audio.faults)]
        raise TableError(
            _named(arguments, split),
            f"none of its {len(kept)} captioned rows has usable audio (row {first.row}: {first.reason})",
            "build it with `lpmc build ... --audio-root DIR`",
        )
    return CaptionedClips(
        split,
        len(table),
        [kept[number][1] for number in usable],
        [kept[number][2] for number in usable],
        [kept[number][3] for number in usable],
        usable,
        audio,
        sorted(skipped, key=lambda skip: skip.row),
    )


def _refuse_evaluation_sets(table: datasets.Dataset, name: str) -> None:
    """Raise `UsageError` when the data to train on comes from a corpus that is kept for evaluation."""
    if "provenance" not in table.column_names:
        return
    sources = pc.unique(pc.struct_field(table.data.column("provenance"), "source")).to_pylist()
    barred = sorted(EVALUATION_ONLY.intersection(sources))
    if barred:
        raise UsageError(
            name, f"holds {', '.join(barred)}, whose authors ask that nobody trains on it", "train on another data set"
        )


def _load(arguments: DataArguments, split: str) -> datasets.Dataset:
    name = arguments.dataset
    try:
        configs = datasets.get_dataset_config_names(name)
        if arguments.config is not None and arguments.config not in configs:
            raise UsageError(
                f"data.config={arguments.config}", f"{name} has no such one", f"it has {', '.join(configs)}"
            )
        default = datasets.get_dataset_default_config_name(name)
        if arguments.config is None and default is None and len(configs) > 1:
            raise UsageError("data.config", f"{name} has several", f"choose one of {', '.join(configs)}")
        splits = datasets.get_dataset_split_names(name, arguments.config)
        if split not in splits:
            raise UsageError(f"split {split}", f"{name} has no such one", f"it has {', '.join(splits)}")
        table = datasets.load_dataset(name, arguments.config, split=split)
    except LpmcError:
        raise
    except Exception as error:  # the library raises a dozen kinds, from its own to fsspec's and pyarrow's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TableError(
            f"data.dataset={name}", f"cannot be loaded ({reason})", "name a directory made by `lpmc build` or a Hub id"
        ) from error
    assert isinstance(table, datasets.Dataset)
    return table


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


def _texts(value: Any) -> list[str]:
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
    with `<s>` and `</s>`.
    """

    def __init__(self, clips: CaptionedClips, processor: Any, arguments: DataArguments, report: Report) -> None:
        self.clips = clips
        self.tokenizer = processor.tokenizer
        self.crop = arguments.crop
        self.max_tokens = arguments.max_caption_tokens
        self.samples = processor.feature_extractor.chunk_samples
        self.features = cached_features(clips.audio, clips.audio_numbers, processor.feature_extractor, report)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        if not isinstance(draw, Draw):
            draw = Draw(draw, 0, MIDDLE)
        elif self.crop == "first":
            draw = Draw(draw.clip, draw.caption, 0.0)
        caption = self.clips.captions[draw.clip][draw.caption]
        labels = self.tokenizer(caption, truncation=True, max_length=self.max_tokens)["input_ids"]
        if self.features is not None:
            return {"input_features": np.array(self.features[draw.clip]), "labels": labels}
        window = self.clips.audio.int16_window(self.clips.audio_numbers[draw.clip], self.samples, draw.crop)
        return {"input_values": window, "labels": labels}


@dataclass(frozen=True)
class CaptionCollator:
    """Examples to a batch: audio stacked, `labels` padded with -100, `decoder_input_ids` made from them.

    Labels keep `<s>`: the decoder reads `</s> <s> w1 ...` and learns `<s> w1 ... </s>`, as the released model did.
    """

    pad_token_id: int
    decoder_start_token_id: int

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(example["labels"]) for example in examples)
        width = -(-longest // LABEL_MULTIPLE) * LABEL_MULTIPLE
        labels = torch.full((len(examples), width), IGNORED_LABEL, dtype=torch.long)
        for row, example in enumerate(examples):
            labels[row, : len(example["labels"])] = torch.tensor(example["labels"])
        batch: dict[str, torch.Tensor] = {
            str(name): torch.from_numpy(np.stack([example[name] for example in examples]))
            for name in ("input_features", "input_values")
            if name in examples[0]
        }
        start = shift_tokens_right(labels, self.pad_token_id, self.decoder_start_token_id)
        return {**batch, "labels": labels, "decoder_input_ids": start}
