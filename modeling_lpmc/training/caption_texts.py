"""Captions and tags of a split without a Python object for each: Arrow in memory or mapped, tokens as plain numbers.

Half a million clips with four captions are two million strings; as Python lists every loader thread would touch their
reference counts and every process hold a gigabyte of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa

from lpmc_files import atomic_path

TOKENISER_BATCH = 2_000  # captions handed to the tokenizer at a time
FORMAT = 1  # of the token files; raise it when the same captions give other numbers

Report = Callable[[str, int, int], None]  # what is being done, done, of
Item = TypeVar("Item")


class ArrowSequence(Sequence[Item]):
    """A column as a sequence of Python values that are made when they are asked for: texts, or lists of texts."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.column[index].as_py()

    def __iter__(self) -> Iterator[Item]:
        for chunk in self.column.chunks:
            for start in range(0, len(chunk), TOKENISER_BATCH):
                yield from chunk.slice(start, TOKENISER_BATCH).to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def lengths_of(lists: Sequence[Sequence[Any]]) -> np.ndarray:
    """How many items each list has: int64 (lists,)."""
    if isinstance(lists, ArrowSequence):
        pieces = [np.diff(chunk.offsets.to_numpy()) for chunk in lists.column.chunks]
        return np.concatenate([np.zeros(0, np.int64), *pieces]).astype(np.int64)
    return np.fromiter((len(items) for items in lists), np.int64, len(lists))


def digest_of(*values: Any) -> str:
    """A name for plain values, sequences of texts and arrays of numbers; it changes when any of them does."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, ArrowSequence):
            for item in value:
                digest.update(json.dumps(item).encode())
        else:
            digest.update(json.dumps(value).encode())
        digest.update(b"\0")
    return digest.hexdigest()


@dataclass(frozen=True)
class CaptionTokens:
    """Every caption of a split as token ids, end to end and memory-mapped.

    `ids[offsets[first[clip] + caption]:offsets[first[clip] + caption + 1]]` are those of one caption, `<s>` and `</s>`
    included.
    """

    ids: np.ndarray
    offsets: np.ndarray
    first: np.ndarray

    def labels(self, clip: int, caption: int) -> np.ndarray:
        """Token ids (tokens,) of one caption."""
        number = self.first[clip] + caption
        return self.ids[self.offsets[number] : self.offsets[number + 1]]


def tokenised(
    captions: Sequence[Sequence[str]], tokenizer: Any, max_tokens: int, folder: Path, report: Report
) -> CaptionTokens:
    """The captions' tokens out of `folder`, written there first if it does not hold them for this tokenizer.

    Raises `DiskError`.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["truncation"] = settings["padding"] = None  # what the last call asked for
    key = digest_of(FORMAT, settings, max_tokens, captions)
    ids, offsets = folder / f"tokens-{key}.ids", folder / f"tokens-{key}.npy"
    counts = lengths_of(captions)
    if not offsets.is_file():
        kind = np.uint16 if len(tokenizer) <= 2**16 else np.int32
        lengths = [np.zeros(1, np.int64)]
        with atomic_path(ids) as temporary, temporary.open("wb") as file:
            for done, batch in _batches(captions):
                tokens = tokenizer(batch, truncation=True, max_length=max_tokens, return_attention_mask=False)
                file.write(np.concatenate([np.asarray(own, kind) for own in tokens["input_ids"]]).tobytes())
                lengths.append(np.fromiter(map(len, tokens["input_ids"]), np.int64))
                report("tokenising captions", done, int(counts.sum()))
        # Written last: without it the other file does not count.
        with atomic_path(offsets) as temporary, temporary.open("wb") as file:
            np.save(file, np.cumsum(np.concatenate(lengths)))
    bounds = np.load(offsets, mmap_mode="r")
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    flat = np.memmap(ids, kind, "r") if bounds[-1] else np.zeros(0, kind)
    return CaptionTokens(flat, bounds, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))


def _batches(captions: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[str]]]:
    batch: list[str] = []
    done = 0
    for own in captions:
        batch.extend(own)
        if len(batch) >= TOKENISER_BATCH:
            done += len(batch)
            yield done, batch
            batch = []
    if batch:
        yield done + len(batch), batch


__all__ = ["ArrowSequence", "CaptionTokens", "digest_of", "lengths_of", "tokenised"]
