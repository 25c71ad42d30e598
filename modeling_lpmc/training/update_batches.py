"""The clips of an update, dealt to steps of accumulation and to processes so that nobody sees another number of either.

An update is `batch_size` draws in the order of the sampler, cut into parts of `clips_per_step`. One process takes the
parts one after the other; of several processes each takes its own, and the sum of their gradients is the same. The
library's own sharding is not: when an epoch ends inside an update it fills the last batch up with clips from the
epoch's beginning, so that two processes learn from clips, and divide by tokens, that one process has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from torch.utils.data import Dataset, Sampler

from modeling_lpmc.training.data import IGNORED_LABEL
from modeling_lpmc.training.sampling import Draw


class Draws(Sized, Iterable[Draw], Protocol):
    """A sampler of draws: `ClipSampler` and `BalancedTagSampler`."""


@dataclass(frozen=True)
class Filler:
    """Stands where a process has no clip left in an epoch's last update: `draw` is heard again, without a label.

    Every process must take part in an update, and a clip without labels adds exactly nothing to loss and gradients.
    """

    draw: Draw


class UpdateBatches(Sampler[list["Draw | Filler"]]):
    """The parts that process number `process` takes, update by update.

    Args:
        draws: one epoch of them, in an order that is the same in every process.
        batch_size: clips of an update. at_once: clips of a part; `batch_size` is a multiple of `at_once * processes`.
    """

    def __init__(self, draws: Draws, *, batch_size: int, at_once: int, processes: int = 1, process: int = 0) -> None:
        if batch_size % (at_once * processes):
            raise ValueError(f"{batch_size} clips do not divide into parts of {at_once} for {processes} processes")
        self.draws = draws
        self.batch_size = batch_size
        self.at_once = at_once
        self.processes = processes
        self.process = process

    def __len__(self) -> int:
        """Parts of an epoch that one process takes: the same number for each."""
        updates, rest = divmod(len(self.draws), self.batch_size)
        side_by_side = self.at_once * self.processes
        return updates * (self.batch_size // side_by_side) + -(-rest // side_by_side)

    def __iter__(self) -> Iterator[list[Draw | Filler]]:
        remaining = iter(self.draws)
        while update := list(islice(remaining, self.batch_size)):
            parts: list[list[Draw | Filler]] = [
                list(update[start : start + self.at_once]) for start in range(0, len(update), self.at_once)
            ]
            while len(parts) % self.processes:
                parts.append([Filler(update[0])])
            yield from parts[self.process :: self.processes]


class ClipsWithFillers(Dataset[dict[str, Any]]):
    """`clips` (a `ClipDataset`) that also understands `Filler`."""

    def __init__(self, clips: Any) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Any) -> dict[str, Any]:
        if not isinstance(draw, Filler):
            return self.clips[draw]
        example = self.clips[draw.draw]
        return {**example, "labels": [IGNORED_LABEL] * len(example["labels"])}


class EvaluationBatches(Sampler[list[int]]):
    """The clips 0 to `number` - 1 in batches of `at_once`, each in exactly one process."""

    def __init__(self, number: int, *, at_once: int, processes: int = 1, process: int = 0) -> None:
        self.starts = range(process * at_once, number, at_once * processes)
        self.number = number
        self.at_once = at_once

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[int]]:
        for start in self.starts:
            yield list(range(start, min(start + self.at_once, self.number)))
