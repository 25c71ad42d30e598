# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Greedy and beam search with the captions of `transformers`, token by token, in a fraction of its time.

The rules of the search are the library's (version 5.23): twice as many candidates as beams, a hypothesis counts when it
ends among the best `num_beams`, and a clip is done when it has `num_beams` of them (early stopping) or when its best
open beam can't beat the worst of them. What is left out is work that can't change the result: the forced first and last
token, clips that are done, tokens of beams that died, and passes over scores of the whole vocabulary. Two hypotheses
whose scores agree to the last digits of float32 may change places, as they may between two versions of PyTorch.

This file travels to the Hub as remote code: it imports torch and its neighbours, nothing else.
"""

from __future__ import annotations

import torch

from .decoding_lpmc import DecoderWeights, TokenTree
from .head_scores_lpmc import TokenScores
from .search_plan_lpmc import SearchPlan

NEVER = -1.0e9  # the score of what does not count (the library's)
PRUNE_STEPS = 8  # steps between two looks at what has died and who is done; each costs a copy of what lives
LOOK_STEPS = {"cpu": 1}  # the same for greedy search, where looking costs nothing; elsewhere it waits for the device


@torch.no_grad()
def search(
    weights: DecoderWeights, encoder_states: torch.Tensor, plan: SearchPlan, *, compiled: bool = False
) -> torch.Tensor:
    """Write captions for `encoder_states` (clips, positions, width): ids (clips * num_return_sequences, tokens).

    The decoder's start token comes first; what follows a caption's end is `plan.pad`. `compiled`: see `TokenTree`.
    """
    tree = TokenTree(weights, encoder_states, compiled=compiled)
    if plan.num_beams == 1:
        return _greedy_search(tree, plan)
    return _BeamSearch(tree, plan).run()


@torch.no_grad()
def search_scored(
    weights: DecoderWeights, encoder_states: torch.Tensor, plan: SearchPlan, *, compiled: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `search` with beams, and the score of each caption: (clips, num_return_sequences), float32.

    A score is the sum of the log-probabilities of a caption's tokens over its length to the power `length_penalty`,
    as the library's `sequences_scores`. A place that no hypothesis took has `NEVER`.
    """
    beams = _BeamSearch(TokenTree(weights, encoder_states, compiled=compiled), plan)
    return beams.run(), beams.result_scores


def _forbid(scores: TokenScores, written: torch.Tensor, plan: SearchPlan) -> None:
    """Take out what may not follow `written` (rows, length): a repeated n-gram, and an end that comes too early."""
    length, size = written.shape[1], plan.no_repeat_ngram_size
    if size and length >= size:
        ngrams = written.unfold(1, size, 1)  # (rows, places, size)
        recent = written[:, None, length - size + 1 :]
        repeated = (ngrams[..., :-1] == recent).all(-1)
        scores.forbid(ngrams[..., -1].masked_fill(~repeated, scores.head.num_tokens))
    if length < plan.min_length:
        scores.forbid(torch.full_like(written[:, :1], plan.end))


class _BeamSearch:
    """One batch under way. Shapes: c clips that are still open, n beams, t tokens at most."""

    def __init__(self, tree: TokenTree, plan: SearchPlan) -> None:
        self.tree, self.plan = tree, plan
        clips, n, t = tree.num_clips, plan.num_beams, plan.max_length
        device = tree.device
        self.token_scores = tree.weights.head.token_scores()
        self.length = len(plan.prompt)
        self.clips = torch.arange(clips, device=device)  # where the open ones stand in the result
        self.tokens = torch.full((clips, n, t), plan.pad, device=device)  # of the open beams
        self.tokens[:, :, : self.length] = torch.tensor(plan.prompt, device=device)
        self.scores = torch.zeros(clips, n, device=device)
        self.ended_tokens = self.tokens.clone()  # the best hypotheses that have ended, best first
        self.ended_scores = torch.full((clips, n), NEVER, device=device)
        self.ended = torch.zeros(clips, n, dtype=torch.bool, device=device)
        self.ended_lengths = torch.zeros(clips, n, dtype=torch.long, device=device)
        self.improvable = torch.ones(clips, 1, dtype=torch.bool, device=device)
        self.ancestors = torch.zeros(clips, n, 0, dtype=torch.bool, device=device)
        self.result = self.ended_tokens[:, : plan.num_return_sequences].clone()
        self.result_lengths = self.ended_lengths[:, : plan.num_return_sequences].clone()
        self.result_scores = torch.full((clips, plan.num_return_sequences), NEVER, dtype=torch.float32, device=device)

    def run(self) -> torch.Tensor:
        """Search to the end; ids (clips * num_return_sequences, tokens)."""
        self._count_candidates(*self._first_candidates())
        while self.length < self.plan.max_length:
            if self.length % PRUNE_STEPS == 0 and not self._prune():
                break
            if self.plan.forced_last is not None and self.length == self.plan.max_length - 1:
                self._count_candidates(*self._forced_ends())
            else:
                self._count_candidates(*self._candidates())
        self._hand_over(torch.arange(self.clips.shape[0], device=self.clips.device))
        length = len(self.plan.prompt[:1]) + int(self.result_lengths.max())
        return self.result.flatten(0, 1)[:, :length]

    def _first_candidates(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All beams are one at first: (scores, parents, tokens), each (c, 2n)."""
        written = self.tokens[:, 0, : self.length]
        count = self.length
        order = torch.ones(count, count, dtype=torch.bool, device=written.device).tril_()
        hidden = self.tree.read(written, 0, order.expand(written.shape[0], -1, -1), self._spare())
        self.ancestors = torch.ones(*self.tokens.shape[:2], count, dtype=torch.bool, device=written.device)
        values, tokens = self._log_probabilities(hidden[:, -1], written)
        return values, torch.zeros_like(tokens), tokens

    def _candidates(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best continuations of all beams of a clip: (scores, parents, tokens), each (c, 2n)."""
        clips, n = self.scores.shape
        own = torch.eye(n, dtype=torch.bool, device=self.scores.device).expand(clips, -1, -1)
        self.ancestors = torch.cat([self.ancestors, own], dim=2)
        last = self.tokens[:, :, self.length - 1]
        hidden = self.tree.read(last, self.length - 1, self.ancestors, self._spare()).flatten(0, 1)
        values, tokens = self._log_probabilities(hidden, self.tokens[:, :, : self.length].flatten(0, 1))
        values = values.view(clips, n, -1) + self.scores[:, :, None]
        best, at = values.flatten(1).topk(2 * n)
        return best, at // (2 * n), tokens.view(clips, -1).gather(1, at)

    def _log_probabilities(self, hidden: torch.Tensor, written: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The 2n likeliest tokens after each row of `written`: (log-probabilities, tokens), each (rows, 2n)."""
        scores = self.token_scores
        scores.compute(hidden)
        highest, total = scores.log_total()  # of all tokens, the forbidden ones too
        _forbid(scores, written, self.plan)
        values, tokens = scores.best(2 * self.plan.num_beams)
        return (values - highest) - total, tokens

    def _forced_ends(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The last token is the end whatever the decoder says: (scores, parents, tokens), each (c, n)."""
        parents = torch.arange(self.plan.num_beams, device=self.scores.device).expand(self.scores.shape)
        return self.scores, parents, torch.full_like(parents, self.plan.end)

    def _count_candidates(self, scores: torch.Tensor, parents: torch.Tensor, tokens: torch.Tensor) -> None:
        """Let candidates (c, m), best first, become hypotheses that have ended, or the beams of the next step."""
        plan, n = self.plan, self.plan.num_beams
        written = _pick(self.tokens, parents)
        written[:, :, self.length] = tokens
        self.length += 1
        ends = tokens == plan.end if self.length < plan.max_length else torch.ones_like(tokens, dtype=torch.bool)

        counts = ends & self.improvable
        counts[:, n:] = False  # a hypothesis counts only if it ends among the best n
        if plan.early_stopping:
            counts &= ~self.ended.all(1, keepdim=True)
        normalised = scores / ((self.length - 1) ** plan.length_penalty)
        normalised = torch.where(counts, normalised, NEVER)
        self.ended_scores, best = torch.cat([self.ended_scores, normalised], dim=1).topk(n)
        self.ended_tokens = _pick(torch.cat([self.ended_tokens, written], dim=1), best)
        self.ended = torch.cat([self.ended, counts], dim=1).gather(1, best)
        lengths = torch.full_like(tokens, self.length - 1)
        self.ended_lengths = torch.cat([self.ended_lengths, lengths], dim=1).gather(1, best)

        self.scores, best = (scores + ends * NEVER).topk(n)
        self.tokens = _pick(written, best)
        self.ancestors = _pick(self.ancestors, parents.gather(1, best))
        worst = torch.where(self.ended, self.ended_scores.amin(1, keepdim=True), NEVER)
        best_possible = self.scores[:, :1] / ((self.length - 1) ** plan.length_penalty)
        self.improvable &= (best_possible > worst).any(1, keepdim=True)

    def _prune(self) -> bool:
        """Take out clips that are done and tokens without living descendants; whether any clip is left."""
        done = ~self.improvable[:, 0]
        if self.plan.early_stopping:
            done |= self.ended.all(1)
        clips = None
        if bool(done.all() if self.tree.compiled else done.any()):  # another batch size would be compiled anew
            self._hand_over(done.nonzero()[:, 0])
            clips = (~done).nonzero()[:, 0]
            if not len(clips):
                self.clips = clips
                return False
        alive = self.ancestors.any(1)  # (c, nodes)
        living = alive if clips is None else alive[clips]
        nodes = alive.byte().argsort(dim=1, descending=True, stable=True)[:, : int(living.sum(1).max())]
        self.tree.keep(nodes, clips, self.plan.num_beams * PRUNE_STEPS)
        self.ancestors = self.ancestors.gather(2, nodes[:, None].expand(-1, self.plan.num_beams, -1))
        if clips is not None:
            for name in ("clips", "tokens", "scores", "ancestors", "improvable", *_ENDED):
                setattr(self, name, getattr(self, name)[clips])
        return True

    def _hand_over(self, rows: torch.Tensor) -> None:
        """Write the hypotheses of the open clips `rows` into the result."""
        wanted = self.plan.num_return_sequences
        self.result[self.clips[rows]] = self.ended_tokens[rows, :wanted]
        self.result_lengths[self.clips[rows]] = self.ended_lengths[rows, :wanted]
        self.result_scores[self.clips[rows]] = self.ended_scores[rows, :wanted].float()

    def _spare(self) -> int:
        """Nodes to make room for beyond this step's: those of the steps before the next look."""
        return self.plan.num_beams * (PRUNE_STEPS - 1)


_ENDED = ("ended", "ended_tokens", "ended_scores", "ended_lengths")


def _pick(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`values` (c, m, ...) at `index` (c, k) of its second axis: (c, k, ...)."""
    shape = (*index.shape, *values.shape[2:])
    return values.gather(1, index.view(*index.shape, *[1] * (values.ndim - 2)).expand(shape))


def _greedy_search(tree: TokenTree, plan: SearchPlan) -> torch.Tensor:
    """The most likely token at every step: ids (clips, tokens)."""
    clips, device = tree.num_clips, tree.device
    scores = tree.weights.head.token_scores()
    result = torch.full((clips, plan.max_length), plan.pad, device=device)
    length = len(plan.prompt)
    result[:, :length] = torch.tensor(plan.prompt, device=device)
    unread = result[:, :length]
    order = torch.ones(length, length, dtype=torch.bool, device=device).tril_()
    clip = torch.arange(clips, device=device)  # those that are still read
    done = torch.zeros(clips, dtype=torch.bool, device=device)  # of these
    lengths = torch.full_like(clip, length)  # of all captions
    look_every = LOOK_STEPS.get(device.type, PRUNE_STEPS)
    while length < plan.max_length:
        written = result[clip, :length]
        if plan.forced_last is not None and length == plan.max_length - 1:
            token = torch.full_like(clip, plan.end)
        else:
            ancestors = order.expand(len(clip), -1, -1)
            hidden = tree.read(unread, length - unread.shape[1], ancestors, PRUNE_STEPS)[:, -1]
            scores.compute(hidden)
            _forbid(scores, written, plan)
            token = scores.best(1)[1][:, 0]
        result[clip, length] = token.masked_fill(done, plan.pad)
        length += 1
        lengths[clip] = lengths[clip].masked_fill(~done, length)
        done = done | (token == plan.end)
        unread = token[:, None]
        order = torch.ones(1, length, dtype=torch.bool, device=device)
        if length % look_every:
            continue
        if bool(done.all()):
            break
        if not tree.compiled and bool(done.any()):  # another batch size would be compiled anew
            still = (~done).nonzero()[:, 0]
            tree.keep(None, still)
            clip, unread, done = clip[still], unread[still], done[still]
    return result[:, : int(lengths.max())]


__all__ = ["search", "search_scored"]
