"""What a run knows at any moment: who answers, its counts, and the jobs that are alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dataset_builder.captioning.jobs import CaptionJob
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import Reservation
from lpmc_errors import Interrupted


class Backend(Protocol):
    """What the engine needs of a language model."""

    name: str
    provider: str
    model: str
    concurrency: int
    batch_size: int

    async def check(self) -> None: ...

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]: ...

    async def close(self) -> None: ...


@dataclass
class AskProgress:
    """Counts of the run so far, for the progress display and the summary. Costs are in 1e-12 dollars."""

    jobs: int = 0  # (track, instruction) pairs that need no further request
    reused: int = 0  # of these, pairs that were settled by answers of an earlier run
    rejected: int = 0  # of these, pairs whose answers were all rejected or unreadable
    failed: int = 0  # of these, pairs whose request got no answer
    sent: int = 0
    answers: int = 0
    faults: int = 0
    rate_limited: int = 0
    in_flight: int = 0
    limit: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int | None = None  # of everything that the store ever sent; None: the price is unknown
    cost_before: int = 0  # of it what earlier runs spent
    note: str = ""  # a word on what deserves attention


@dataclass(frozen=True)
class OpenJob:
    """A job without a verdict, and what its verdict will be kept under."""

    job: CaptionJob
    verdict: bytes


@dataclass(eq=False)
class Active:
    """A question that is asked for the job it was drawn for, and for those that wait for the same answer."""

    open: OpenJob
    request: CaptionRequest
    tries: int = 0
    reserved: Reservation = field(default_factory=Reservation)
    expected: float = 0.0  # tokens of prompt and answer, for the rate limits
    parked: list[OpenJob] = field(default_factory=list)  # jobs that wait for the answer to the same question


class BudgetReachedError(Interrupted):
    """The budget is spent; the same command with a larger one goes on."""
