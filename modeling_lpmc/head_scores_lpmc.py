# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""The scores of the whole vocabulary at one step: their best ones and their sum, in as few passes as there can be.

Scores stay as the product leaves them, in blocks. They fall into *groups*, of which the highest score is known, so that
the best tokens are found by looking into the best groups alone.

This file travels to the Hub as remote code: it imports torch and its neighbours, nothing else.
"""

from __future__ import annotations

import torch
from torch import nn

from .memory_lpmc import FastMemory
from .products_lpmc import BLOCK, in_blocks, packs, product_with

UNSHIFTED = 60.0  # scores below it, by absolute value: exp of 60 times 50,000 tokens is far from float32's limits
GROUP = 32  # blocks; of 8 to 131 the fastest for 40 rows and 50,265 tokens
SUM_ELEMENTS = {"cpu": 2**18}  # scores gone over at once; 1 MB of float32 is half of that cache
SUM_ELEMENTS_ELSEWHERE = 2**24  # 64 MB of float32
OTHER_BLOCK = 256  # tokens, where the head is one product; a multiple of 8, so that rows suit tensor cores


class Head:
    """Weights that give hidden states the scores of all tokens, in blocks.

    Token t is in block t // width, at place t % width. There is always a place that is no token: `num_tokens`.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, precision: str, memory: FastMemory) -> None:
        self.num_tokens = weight.shape[0]
        blocked = precision == "native" and packs(weight)
        self.width = min(BLOCK if blocked else OTHER_BLOCK, (self.num_tokens // 8 + 1) * 8)
        self.num_blocks = self.num_tokens // self.width + 1
        missing = self.num_blocks * self.width - self.num_tokens
        self.first_no_token = self.width - missing
        filled = nn.functional.pad(weight.detach(), (0, 0, 0, missing))
        self.blocks = in_blocks(filled, self.width, memory) if blocked else None
        self.product = None if blocked else product_with(filled, None, precision, memory)
        self.bias = None
        if bool(bias.any()):  # it is zero in every known model, and adding it is one more pass over all scores
            padded = nn.functional.pad(bias.detach().flatten(), (0, missing))
            self.bias = padded.view(self.num_blocks, 1, self.width).to(weight.dtype)

    def token_scores(self) -> TokenScores:
        """Memory for the scores of one search."""
        return BlockedScores(self) if self.blocks is not None else TokenScores(self)


class TokenScores:
    """The scores of all tokens in one search, step after step, where the head is one product. A group is a block."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.scores = torch.empty(0)  # (blocks, rows, width)
        self._highest = torch.empty(0)  # of each block and row
        self._scratch = torch.empty(0)

    def compute(self, hidden: torch.Tensor) -> None:
        """Score all tokens after `hidden` (rows, hidden size)."""
        head = self.head
        assert head.product is not None
        self.scores = head.product(hidden).view(hidden.shape[0], head.num_blocks, head.width).transpose(0, 1)
        if head.bias is not None:
            self.scores += head.bias
        self.scores[-1, :, head.first_no_token :] = -torch.inf
        self._highest = self.scores.amax(2)

    def log_total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The highest score of each row and log(sum(exp(scores - highest))): float32 (rows, 1) twice.

        Apart, since a log-probability is `(score - highest) - log_total` to the last digit of the library's. It is
        summed up a few blocks at a time: no float32 copy of all scores is made.
        """
        highest = self._highest.amax(0).float()
        # On a CPU looking costs nothing, and float32 scores of a usual size need no shift: one pass over them less.
        usual = packs(self.scores) and bool((highest.abs() < UNSHIFTED).all())
        log_sum = self._sum(None).log_() - highest if usual else self._sum(highest).log_()
        return highest[:, None], log_sum.float()[:, None]

    def _sum(self, shift: torch.Tensor | None) -> torch.Tensor:
        """sum(exp(scores - shift)) of each row, float64 (rows,)."""
        total = torch.zeros(self.scores.shape[1], dtype=torch.float64, device=self.scores.device)
        limit = SUM_ELEMENTS.get(self.scores.device.type, SUM_ELEMENTS_ELSEWHERE)
        for part in self.scores.split(max(1, limit // self.scores[0].numel())):
            if self._scratch.shape != part.shape:
                self._scratch = torch.empty(part.shape, dtype=torch.float32, device=part.device)
            if shift is None:
                torch.exp(part, out=self._scratch)
            else:
                torch.sub(part, shift[:, None], out=self._scratch).exp_()
            total += self._scratch.sum(2).double().sum(0)
        return total

    def forbid(self, tokens: torch.Tensor) -> None:
        """Set the scores of `tokens` (rows, n) to -inf; `num_tokens` stands for none."""
        width = self.head.width
        if tokens.device.type == "cpu":  # most stand for none, and a group or two of a row have a new highest
            rows, places = (tokens != self.head.num_tokens).nonzero(as_tuple=True)
            forbidden = tokens[rows, places]
            self.scores[forbidden // width, rows, forbidden % width] = -torch.inf
            self._look_again(forbidden, rows)
        else:  # without asking the device how many there are
            rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
            self.scores[tokens // width, rows, tokens % width] = -torch.inf
            self._highest = self.scores.amax(2)

    def _look_again(self, tokens: torch.Tensor, rows: torch.Tensor) -> None:
        """Find the highest scores of the groups of `tokens` in `rows` anew."""
        blocks = tokens // self.head.width
        self._highest[blocks, rows] = self.scores[blocks, rows].amax(1)

    def best(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` highest scores of each row, float32, and their tokens: (rows, count) twice, best first."""
        head = self.head
        blocks = self._highest.topk(min(count, head.num_blocks), dim=0).indices.t()  # (rows, blocks)
        rows = torch.arange(blocks.shape[0], device=blocks.device)[:, None]
        values, at = self.scores[blocks, rows].flatten(1).float().topk(count)
        return values, blocks.gather(1, at // head.width) * head.width + at % head.width


class BlockedScores(TokenScores):
    """The same where weights lie in blocks: float32 on a CPU, in memory that is reused.

    Fresh memory of this size is taken from the system and given back at every step, which costs more than the sums.
    A group is one place in `GROUP` blocks: its highest score is a maximum of whole rows of numbers, which takes a fifth
    of the time of one across them. Maxima and sums are taken from a part of the scores while a cache holds it.
    """

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._memory = torch.empty(0)  # (groups of blocks, GROUP, rows, width); -inf behind the last block
        self._exponentials = torch.empty(0)
        self._unshifted = torch.empty(0)  # sums of exponentials by row and place

    def compute(self, hidden: torch.Tensor) -> None:
        """Score all tokens after `hidden` (rows, hidden size)."""
        head, rows = self.head, hidden.shape[0]
        assert head.blocks is not None
        if self.scores.shape[1:2] != (rows,):
            groups = -(-head.num_blocks // GROUP)
            self._memory = FastMemory().empty((groups, GROUP, rows, head.width)).fill_(-torch.inf)
            self.scores = self._memory.flatten(0, 1)[: head.num_blocks]
            self._highest = hidden.new_empty(groups, rows, head.width)
        torch.bmm(hidden.expand(head.num_blocks, -1, -1), head.blocks, out=self.scores)
        if head.bias is not None:
            self.scores += head.bias
        self.scores[-1, :, head.first_no_token :] = -torch.inf
        self._unshifted = torch.zeros(rows, head.width, dtype=torch.float64)
        together = max(1, SUM_ELEMENTS["cpu"] // self._memory[0].numel())
        if self._exponentials.shape[1:] != self._memory.shape[1:]:
            self._exponentials = torch.empty_like(self._memory[:together])
        for part, highest in zip(self._memory.split(together), self._highest.split(together), strict=True):
            torch.amax(part, 1, out=highest)
            self._unshifted += torch.exp(part, out=self._exponentials[: part.shape[0]]).sum((0, 1))

    def log_total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TokenScores`; scores of a usual size need no shift, and their sum is there already."""
        highest = self._highest.amax((0, 2))
        if bool((highest.abs() < UNSHIFTED).all()):
            log_sum = self._unshifted.sum(1).log_() - highest
        else:
            log_sum = self._sum(highest).log_()
        return highest[:, None], log_sum.float()[:, None]

    def _look_again(self, tokens: torch.Tensor, rows: torch.Tensor) -> None:
        width = self.head.width
        groups, places = tokens // width // GROUP, tokens % width
        self._highest[groups, rows, places] = self._memory[groups, :, rows, places].amax(1)

    def best(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` highest scores of each row and their tokens: (rows, count) twice, best first."""
        width = self.head.width
        highest = self._highest.transpose(0, 1).flatten(1)  # (rows, groups)
        found = highest.topk(min(count, highest.shape[1])).indices
        groups, places = found // width, found % width
        rows = torch.arange(found.shape[0])[:, None]
        values, at = self._memory[groups, :, rows, places].flatten(1).topk(count)
        which = at // GROUP
        tokens = (groups.gather(1, which) * GROUP + at % GROUP) * width + places.gather(1, which)
        return values, tokens


__all__ = ["Head", "TokenScores"]
