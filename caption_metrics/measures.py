"""A score as a function of sums over captions.

Corpus BLEU is made of summed n-gram counts, METEOR is a sum divided by a number, the precision of facts is one sum
divided by another. What is kept of a caption is therefore one row of numbers, and the same row serves the score, its
interval (rows drawn again), a slice (some of the rows), the comparison of two systems (rows exchanged) and a stream of
any length (rows added up and forgotten).

Scores that are no function of sums (the size of a vocabulary) are computed beside this and have no interval.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Columns = Mapping[str, Numbers]
Better = Literal["higher", "lower", "neither"]

COUNT = "captions"  # the column that holds 1 for every caption
KEPT_ROWS = 2**17  # rows in memory; those beyond go to a temporary file (2**17 rows of 60 columns: 63 MB)
FLOAT64_BYTES = 8


@dataclass(frozen=True)
class Measure:
    """A score: its name, the columns whose sums it is made of, and how.

    `from_sums` takes the sums in the order of `columns`, each an array of any one shape (one resample an element), and
    gives the score in that shape, NaN where it is not defined (nothing claimed, say). `better` tells which of two
    values is the better one; `neither` is for descriptions such as lengths.
    """

    name: str
    columns: tuple[str, ...]
    from_sums: Callable[..., Numbers]
    signature: str
    better: Better = "higher"

    def value(self, sums: Columns | Mapping[str, float]) -> Numbers:
        """The score for `sums` by column name; the shape of the sums."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.from_sums(*(np.asarray(sums[name], float) for name in self.columns)), float)


def ratio(numerator: Numbers, denominator: Numbers) -> Numbers:
    """One sum divided by another; NaN where the second is 0."""
    return np.where(denominator != 0, numerator / np.where(denominator != 0, denominator, 1), np.nan)


class CaptionTable:
    """What is kept of each caption of one system: one row of float64 a caption, in the order of the captions.

    Rows are appended in blocks and read back in blocks. Beyond `KEPT_ROWS` they lie in a temporary file, which goes
    with the table, so that a million captions take no more memory than a hundred thousand.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = (COUNT, *(name for name in columns if name != COUNT))
        self._blocks: list[Numbers] = []  # each (columns, rows), still in memory
        self._file: Any = None
        self._stored: list[int] = []  # rows of the blocks in the file
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, block: Columns) -> None:
        """Add captions: an array (rows,) for each column but `COUNT`. Raises `ValueError` when lengths differ."""
        rows = len(next(iter(block.values())))
        values = np.ones((len(self.columns), rows))
        for place, name in enumerate(self.columns[1:], start=1):
            if len(block[name]) != rows:
                raise ValueError(f"column {name} has {len(block[name])} rows beside {rows}")
            values[place] = block[name]
        self._blocks.append(values)
        self._rows += rows
        if sum(values.shape[1] for values in self._blocks) > KEPT_ROWS:
            self._store()

    def _store(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="caption-table-")  # noqa: SIM115 - lives as long as the table
        self._file.seek(0, 2)
        for values in self._blocks:
            np.ascontiguousarray(values).tofile(self._file)
            self._stored.append(values.shape[1])
        self._blocks = []

    def blocks(self) -> Iterator[Columns]:
        """The rows in order, block by block: arrays (rows,) by column name."""
        position = 0
        for rows in self._stored:
            self._file.seek(position)
            values = np.fromfile(self._file, count=len(self.columns) * rows).reshape(len(self.columns), rows)
            position += values.nbytes
            yield dict(zip(self.columns, values, strict=True))
        for values in self._blocks:
            yield dict(zip(self.columns, values, strict=True))

    def column(self, name: str) -> Numbers:
        """One column of all captions (n,), in memory."""
        place = self.columns.index(name)
        parts, position = [], 0
        for rows in self._stored:  # a block is stored column after column: the others are passed over
            self._file.seek(position + place * rows * FLOAT64_BYTES)
            parts.append(np.fromfile(self._file, count=rows))
            position += len(self.columns) * rows * FLOAT64_BYTES
        return np.concatenate([*parts, *(values[place] for values in self._blocks)] or [np.zeros(0)])

    def sums(self) -> dict[str, float]:
        """The sum of every column; numpy's pairwise sum over the whole column, whatever the blocks."""
        return {name: float(np.add.reduce(self.column(name))) for name in self.columns}

    def matrix(self) -> Numbers:
        """All rows (n, columns), in memory; for tables of a usual size."""
        return np.stack([self.column(name) for name in self.columns], axis=1)

    def part(self, rows: NDArray[np.bool_]) -> CaptionTable:
        """The table of the captions where `rows` (n,) is true."""
        table, start = CaptionTable(self.columns), 0
        for block in self.blocks():
            count = len(block[COUNT])
            chosen = rows[start : start + count]
            start += count
            if chosen.any():
                table.append({name: block[name][chosen] for name in self.columns[1:]})
        return table
