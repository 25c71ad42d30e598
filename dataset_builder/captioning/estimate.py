"""What a run will cost, before it is run: priced from the very prompts that it would send.

Prompts are counted as letters / 4 (no tokenizer is downloaded for a guess; English is near it). Answers are as long as
those that the store already holds; while it holds too few, as long as the published captions of the paper.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from dataset_builder.captioning.jobs import CaptionJob
from dataset_builder.captioning.prices import Price, dollars, exact_dollars, format_dollars
from dataset_builder.captioning.requests import CaptionRequest
from dataset_builder.captioning.store_reader import OutputTokens

SAMPLE = 200  # prompts that are looked at for each instruction of each corpus
MIN_ANSWERS = 20  # real answers from which on their own mean is believed
MOST_SOURCES = 50  # corpora that get a line of their own; a column with more values names something else
OTHER_SOURCES = "(others)"
LETTERS_PER_TOKEN = 4
TOKENS_PER_WORD = 1.35  # of English answers of chat models
REASK_SHARE = 0.1  # an assumption for the high end: every tenth job is asked again; measured once answers are there
CONSENT_USD = Decimal(5)  # above this somebody is asked first
EXAMPLE_RPM = (500, 5_000, 30_000)  # requests a minute: tiers of hosted endpoints

# Words of the 2,839 published captions of each instruction (MusicCaps test): mean, 10th and 90th percentile. The
# percentiles of summary and paraphrase, which were not at hand, are those of writing in proportion to their means.
PUBLISHED_WORDS = {
    "writing": (44.4, 26.0, 69.0),
    "summary": (28.6, 16.7, 44.4),
    "paraphrase": (47.9, 28.1, 74.4),
    "attribute_prediction": (66.2, 41.0, 96.0),
}
# Tokens around the caption of an attribute_prediction answer (brackets, keys, the new attributes): 87 letters, the mean
# of the 218 published answers that still have them.
PUBLISHED_EXTRA_TOKENS = {"attribute_prediction": 87 / LETTERS_PER_TOKEN}


@dataclass(frozen=True)
class Range:
    """A quantity from low (10th percentile of prompts and answers) to high (90th percentile, and jobs asked again).

    `worst` is what it would be with every answer at its token limit.
    """

    low: int
    expected: int
    high: int
    worst: int

    def plus(self, other: Range) -> Range:
        """The sum, end by end."""
        return Range(
            self.low + other.low, self.expected + other.expected, self.high + other.high, self.worst + other.worst
        )


NOTHING = Range(0, 0, 0, 0)


@dataclass(frozen=True)
class Share:
    """A part of the estimate: an instruction, a corpus, or all. Costs in 1e-12 dollars, None: unknown."""

    stored: int = 0
    missing: int = 0
    requests: Range = NOTHING
    prompt_tokens: Range = NOTHING
    completion_tokens: Range = NOTHING
    online: Range | None = NOTHING
    batch: Range | None = NOTHING

    def plus(self, other: Share) -> Share:
        """The sum; a cost that is unknown in one part is unknown in the whole."""
        return Share(
            self.stored + other.stored,
            self.missing + other.missing,
            self.requests.plus(other.requests),
            self.prompt_tokens.plus(other.prompt_tokens),
            self.completion_tokens.plus(other.completion_tokens),
            None if self.online is None or other.online is None else self.online.plus(other.online),
            None if self.batch is None or other.batch is None else self.batch.plus(other.batch),
        )


@dataclass(frozen=True)
class Estimate:
    """What a run would ask, use and cost. `basis` says for each instruction where the length of answers is from."""

    total: Share
    by_instruction: Mapping[str, Share]
    by_source: Mapping[str, Share]
    basis: Mapping[str, str]
    price: Price | None
    rpm: tuple[int, ...]  # requests a minute for which a duration is given
    rate: float | None  # answers a second that were measured

    def seconds(self) -> dict[str, float]:
        """How long the expected requests take: at each number of requests a minute, and at the measured rate."""
        count = self.total.requests.expected
        times = {f"{rpm:,} requests a minute": count * 60 / rpm for rpm in self.rpm}
        if self.rate:
            times[f"{self.rate:.1f} answers a second (measured)"] = count / self.rate
        return times

    def to_dict(self) -> dict[str, Any]:
        """As JSON: dollars as decimal strings, null where unknown."""
        return {
            "total": _share_dict(self.total),
            "by_instruction": {name: _share_dict(share) for name, share in self.by_instruction.items()},
            "by_source": {name: _share_dict(share) for name, share in self.by_source.items()},
            "output_basis": dict(self.basis),
            "prompt_basis": f"letters / {LETTERS_PER_TOKEN} of up to {SAMPLE} prompts an instruction and corpus",
            "price": None
            if self.price is None
            else {
                "model": self.price.model,
                "input_usd_per_million": str(self.price.input),
                "output_usd_per_million": str(self.price.output),
                "as_of": self.price.as_of.isoformat(),
                "source": self.price.source,
            },
            "seconds": self.seconds(),
        }

    def lines(self) -> list[str]:
        """For a person: the whole, each instruction and corpus, the time, and where the figures are from."""
        lines = [f"{self.total.missing:,} jobs to ask, {self.total.stored:,} already stored"]
        lines += [_line("all", self.total)]
        lines += [_line(name, share) for name, share in self.by_instruction.items()]
        if len(self.by_source) > 1:
            lines += [_line(f"corpus {name or '(none)'}", share) for name, share in self.by_source.items()]
        if self.total.online is not None:
            lines.append(f"at most {format_dollars(self.total.online.worst)} with every answer at its token limit")
        lines += [f"{_duration(seconds)} at {how}" for how, seconds in self.seconds().items()]
        lines.append(f"prompt tokens are letters / {LETTERS_PER_TOKEN} of up to {SAMPLE} prompts of each kind")
        lines += [f"{name}: {basis}" for name, basis in self.basis.items()]
        if self.price is None:
            lines.append("the price of the model is unknown: give it with --prices FILE")
        else:
            lines.append(
                f"price of {self.price.model}: ${self.price.input} in, ${self.price.output} out a million tokens,"
                f" as of {self.price.as_of} ({self.price.source})"
            )
        return lines


def needs_consent(estimate: Estimate) -> bool:
    """Whether the high end exceeds `CONSENT_USD` online. A price that is unknown is asked about elsewhere: False."""
    return estimate.total.online is not None and dollars(estimate.total.online.high) > CONSENT_USD


@dataclass
class _Cell:
    """Requests of one instruction and corpus: counted all, looked at a few."""

    stored: int = 0
    missing: int = 0
    limits: int = 0  # sum of the token limits of the missing requests
    sample: list[float] = field(default_factory=list)  # prompt tokens

    def add(self, request: CaptionRequest | None, draw: Callable[[], float]) -> None:
        if request is None:
            self.stored += 1
            return
        self.missing += 1
        self.limits += request.sampling.max_tokens
        if len(self.sample) < SAMPLE:
            self.sample.append(_prompt_tokens(request))
        elif (place := int(draw() * self.missing)) < SAMPLE:
            self.sample[place] = _prompt_tokens(request)


def estimate(
    jobs: Iterable[tuple[CaptionJob, CaptionRequest | None]],
    *,
    price: Price | None,
    outputs: Mapping[str, OutputTokens] | None = None,
    asks: float | None = None,
    candidates: int = 1,
    rpm: int | None = None,
    rate: float | None = None,
    seed: int = 0,
) -> Estimate:
    """Price `jobs`, each with its next request, or None when the store settles it. The same jobs, the same estimate.

    `outputs` and `asks` are what a store measured (`store_reader.output_tokens`, `asks_per_job`); `candidates` answers
    are drawn for every job. `rpm` (requests a minute) and `rate` (answers a second) give the durations. Memory does
    not grow with the number of jobs.
    """
    draw = random.Random(seed).random
    cells: dict[tuple[str, str], _Cell] = {}
    sources: set[str] = set()
    for job, request in jobs:
        source = job.track.source
        if source not in sources:
            if len(sources) < MOST_SOURCES:
                sources.add(source)
            else:
                source = OTHER_SOURCES
        cells.setdefault((job.instruction, source), _Cell()).add(request, draw)
    total = Share()
    by_instruction: dict[str, Share] = {}
    by_source: dict[str, Share] = {}
    basis: dict[str, str] = {}
    for (instruction, source), cell in cells.items():
        length, words = _answer_length(instruction, cell, outputs or {})
        if cell.missing:
            basis[instruction] = words
        share = _price_cell(cell, length, price, max(asks or 1.0, candidates), asks is not None)
        total = total.plus(share)
        by_instruction[instruction] = by_instruction.get(instruction, Share()).plus(share)
        by_source[source] = by_source.get(source, Share()).plus(share)
    return Estimate(total, by_instruction, by_source, basis, price, (rpm,) if rpm else EXAMPLE_RPM, rate)


def _answer_length(
    instruction: str, cell: _Cell, outputs: Mapping[str, OutputTokens]
) -> tuple[tuple[float, float, float], str]:
    """Completion tokens (mean, low, high) of one answer, and where they are from."""
    seen = outputs.get(instruction)
    if seen is not None and seen.answers >= MIN_ANSWERS:
        return (seen.mean, seen.low, seen.high), f"answers as long as {seen.answers:,} in the store"
    words = PUBLISHED_WORDS.get(instruction)
    if words is None:
        limit = cell.limits / cell.missing if cell.missing else 0.0
        return (limit, limit, limit), "no published captions of it: answers as long as their token limit"
    extra = PUBLISHED_EXTRA_TOKENS.get(instruction, 0.0)
    mean, low, high = (count * TOKENS_PER_WORD + extra for count in words)
    return (mean, low, high), f"answers as long as the paper's ({words[0]} words x {TOKENS_PER_WORD})"


def _price_cell(
    cell: _Cell, length: tuple[float, float, float], price: Price | None, asks: float, measured: bool
) -> Share:
    if not cell.missing:
        return Share(stored=cell.stored, online=None if price is None else NOTHING, batch=_batch_nothing(price))
    prompts = sorted(cell.sample)
    last = len(prompts) - 1
    mean = sum(prompts) / len(prompts)
    often = asks if measured else asks * (1 + REASK_SHARE)
    limit = cell.limits / cell.missing
    n = cell.missing
    requests = Range(round(n * asks), round(n * asks), round(n * often), round(n * often))
    prompt = _range(
        n * asks * prompts[round(0.1 * last)],
        n * asks * mean,
        n * often * prompts[round(0.9 * last)],
        n * often * prompts[-1],
    )
    completion = _range(
        n * asks * min(length[1], limit),
        n * asks * min(length[0], limit),
        n * often * min(length[2], limit),
        n * often * limit,
    )
    online = None if price is None else _cost(price, prompt, completion, batch=False)
    batch = None if price is None or price.batch_factor is None else _cost(price, prompt, completion, batch=True)
    return Share(cell.stored, n, requests, prompt, completion, online, batch)


def _batch_nothing(price: Price | None) -> Range | None:
    return None if price is None or price.batch_factor is None else NOTHING


def _prompt_tokens(request: CaptionRequest) -> float:
    letters = len(request.prompt.schema) + sum(len(message.content) for message in request.prompt.messages)
    return letters / LETTERS_PER_TOKEN


def _range(low: float, expected: float, high: float, worst: float) -> Range:
    # A mean can lie outside the percentiles (many short prompts, few very long ones).
    return Range(round(min(low, expected)), round(expected), round(max(high, expected)), round(max(worst, expected)))


def _cost(price: Price, prompt: Range, completion: Range, *, batch: bool) -> Range:
    return Range(
        price.cost(prompt.low, completion.low, batch),
        price.cost(prompt.expected, completion.expected, batch),
        price.cost(prompt.high, completion.high, batch),
        price.cost(prompt.worst, completion.worst, batch),
    )


def _share_dict(share: Share) -> dict[str, Any]:
    costs = {
        name: None if cost is None else {end: exact_dollars(value) for end, value in asdict(cost).items()}
        for name, cost in (("usd_online", share.online), ("usd_batch", share.batch))
    }
    return {
        "stored": share.stored,
        "missing": share.missing,
        "requests": asdict(share.requests),
        "prompt_tokens": asdict(share.prompt_tokens),
        "completion_tokens": asdict(share.completion_tokens),
        **costs,
    }


def _line(name: str, share: Share) -> str:
    if not share.missing:
        return f"{name}: nothing to ask, {share.stored:,} stored"
    return (
        f"{name}: {share.missing:,} to ask, {share.stored:,} stored,"
        f" {share.prompt_tokens.expected:,} tokens in, {share.completion_tokens.expected:,} out"
        f" ({share.completion_tokens.low:,} to {share.completion_tokens.high:,}),"
        f" {_money(share.online)} online, {_money(share.batch)} by batch"
    )


def _money(cost: Range | None) -> str:
    if cost is None:
        return "cost unknown"
    return f"{format_dollars(cost.expected)} ({format_dollars(cost.low)} to {format_dollars(cost.high)})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
