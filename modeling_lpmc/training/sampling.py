"""Which clip, which of its captions and which ten seconds of it come next.

A draw is a function of seed, epoch and position alone, so that a run that was killed continues with the same draws.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from lpmc_errors import UsageError


@dataclass(frozen=True)
class Draw:
    """One training example: clip `clip`, its caption number `caption`, and where its window begins.

    `crop` in [0, 1) goes from the first possible window to the last; clips of one window's length ignore it.
    """

    clip: int
    caption: int
    crop: float


class ClipSampler(Sampler[Draw]):
    """Every clip once an epoch, shuffled or in order, each with one of its captions and a window drawn uniformly.

    Args:
        captions: number of captions of each clip, all at least 1.
        shuffle: False keeps the order of the data set (the released transfer run does; hparams `shuffle`).
        multiple: the epoch is cut to a multiple of this many clips; 1 keeps all.
    """

    def __init__(
        self, captions: Sequence[int] | np.ndarray, seed: int, *, shuffle: bool = True, multiple: int = 1
    ) -> None:
        self.captions = np.asarray(captions)
        self.seed = seed
        self.shuffle = shuffle
        self.length = len(self.captions) // multiple * multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.captions)) if self.shuffle else np.arange(len(self.captions))
        for clip in order[: self.length]:
            yield Draw(int(clip), int(random.integers(self.captions[clip])), float(random.random()))


class BalancedTagSampler(Sampler[Draw]):
    """A tag uniformly, then a clip that has it uniformly, then a caption and a window uniformly (released MSD loader).

    A rare tag is thus heard as often as a frequent one; an epoch is simply `draws` such draws, with repetition.

    Args:
        tags: tags of each clip. captions: number of captions of each clip, all at least 1.
        draws: length of an epoch (released code: 8,192).

    Raises `UsageError` when no clip has a tag.
    """

    def __init__(
        self, tags: Sequence[Sequence[str]], captions: Sequence[int] | np.ndarray, seed: int, *, draws: int
    ) -> None:
        members: dict[str, array[int]] = {}  # 8 bytes a clip: MSD has five million pairs of tag and clip
        for clip, own in enumerate(tags):
            for tag in dict.fromkeys(own):
                members.setdefault(tag, array("q")).append(clip)
        if not members:
            raise UsageError(
                "data.sampling", "balanced_tags finds no clip with tags", "set data.tags or use data.sampling=shuffled"
            )
        self.names = sorted(members)  # not in order of appearance: the draws then survive a reordered table
        self.members = [np.frombuffer(members[name], np.int64) for name in self.names]
        self.captions = np.asarray(captions)
        self.seed = seed
        self.draws = draws
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        for _ in range(self.draws):
            clips = self.members[random.integers(len(self.members))]
            clip = int(clips[random.integers(len(clips))])
            yield Draw(clip, int(random.integers(self.captions[clip])), float(random.random()))
