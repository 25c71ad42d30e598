"""Asks a backend for every missing answer: bounded, retried by one owner, never losing what came back.

One dispatcher draws jobs from an iterator and sends a request when every limit allows it: concurrency (adaptive), rate
limits, the circuit breaker and the budget. At most `ALIVE_PER_REQUEST` times the concurrency are alive at any moment,
whatever the size of the corpus. Every request is noted before it is sent; every answer and every failure goes to the
store before anything else happens to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import math
import random
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dataset_builder.captioning.budget import Budget
from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.jobs import (
    AskPlan,
    CaptionJob,
    next_step,
    scan_jobs,
    verdict_of,
)
from dataset_builder.captioning.limits import AdaptiveLimit, CircuitBreaker, RateBuckets
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.run_state import Active, AskProgress, Backend, BudgetReachedError, OpenJob
from dataset_builder.captioning.store import AnswerStore
from lpmc_errors import EndpointError, Interrupted, LpmcError

MAX_TRIES = 6  # per request and run; a rate limit is no try
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 60.0
RATE_LIMIT_COOL_S = 2.0  # pause of all requests after a 429 that names no time (Data Designer's constant)
HEALTH_WINDOW = 50  # finished rows ...
HEALTH_FAULT_SHARE = 0.5  # ... of which more than this share failed: the run stops before it wastes the rest
RATE_LIMIT_FLOOR_S = 0.1  # least pause after a 429, doubled with every further one until an answer comes
ALIVE_PER_REQUEST = 2  # jobs held in memory for each request that may be under way: the rest waits for its back-off
DRAIN_S = 30.0  # how long answers that are under way are waited for when a run is stopped
LETTERS_PER_TOKEN = 4  # of English text; an estimate for the rate limits, the budget uses an upper bound


@dataclass
class Engine:
    """One run over `jobs`. `on_progress` is called after every change of the counts."""

    backend: Backend
    store: AnswerStore
    plan: AskPlan
    budget: Budget
    on_progress: Callable[[AskProgress], None] = lambda progress: None
    retry_refused: bool = False  # send requests again that an earlier run recorded as refused (400, 422, filtered)
    buckets: RateBuckets = field(default_factory=RateBuckets)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    progress: AskProgress = field(default_factory=AskProgress)

    def run(self, jobs: Iterator[CaptionJob]) -> AskProgress:
        """Ask until every job is settled or has failed for good.

        Raises `EndpointError` when the endpoint can't serve the run (unreachable, wrong key, no quota, mostly
        failing), `BudgetReachedError` at the end of the budget, `Interrupted` after Ctrl-C or SIGTERM; what was
        answered until then is stored.
        """
        # What is loaded by now stays: without it in their way, collections take a fifth of the time of a fast run less.
        gc.freeze()
        try:
            asyncio.run(self._run(jobs))
        finally:
            gc.unfreeze()
        return self.progress

    async def _run(self, jobs: Iterator[CaptionJob]) -> None:
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._slices = scan_jobs(jobs, self.plan, self.store)
        self._opened: Iterator[OpenJob] = iter(())
        self._exhausted = False
        self._room = ALIVE_PER_REQUEST * self.backend.concurrency * self.backend.batch_size
        self._limit = AdaptiveLimit(self.backend.concurrency)
        self._waiting: list[tuple[float, int, Active]] = []  # a heap by the time from which an item may be sent
        self._order = itertools.count()
        self._by_key: dict[str, Active] = {}  # everything alive
        self._calls: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stop_reason: LpmcError | None = None
        self._failure: BaseException | None = None
        self._checked = False
        self._pause_until = 0.0
        self._recent: deque[bool] = deque(
            maxlen=HEALTH_WINDOW
        )  # of the last finished rows: whether they have an answer
        self._rate_limits_in_a_row = 0
        self._rows_in_vain = 0  # rows that failed since the last answer
        self._parked = 0
        self._given_up: set[str] = set()  # questions that several tracks share and that failed in this run
        self.progress.cost = self.budget.snapshot().cost
        self.progress.cost_before = self.progress.cost or 0
        handled = self._listen(loop)

        def commit_soon() -> None:
            # Runs before the tasks that are started in the same turn: no request leaves unannounced.
            loop.call_soon(self._commit)

        try:
            with self.store.grouped(commit_soon):
                try:
                    while not self._ended():
                        await self._dispatch_once()
                finally:
                    await self._drain()
        finally:
            await self.backend.close()
            for number in handled:
                loop.remove_signal_handler(number)
            if self.progress.sent or self.progress.jobs:
                self.on_progress(self.progress)
        if self._failure is not None:
            raise self._failure
        if self._stop_reason is not None:
            raise self._stop_reason

    # --- stopping ---------------------------------------------------------------------------------------------------

    def _listen(self, loop: asyncio.AbstractEventLoop) -> list[signal.Signals]:
        handled = []
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._interrupt)
                handled.append(number)
            except (NotImplementedError, RuntimeError, ValueError):
                break  # Windows, or not the main thread: KeyboardInterrupt ends the run instead
        return handled

    def _interrupt(self) -> None:
        """The first signal stops sending and waits for what is under way; the second one waits for nothing."""
        if self._stop_reason is not None:
            for call in self._calls:
                call.cancel()
        self._stop_reason = Interrupted(
            "pseudo-caption",
            "interrupted; every answer that arrived is stored",
            "run the same command again to go on",
        )
        self._changed.set()

    def _commit(self) -> None:
        try:
            self.store.commit()
        except LpmcError as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._changed.set()

    def _stopped(self) -> bool:
        return self._stop_reason is not None or self._failure is not None

    def _ended(self) -> bool:
        return self._stopped() or (self._exhausted and not self._by_key)

    async def _drain(self) -> None:
        """Wait for what is under way: it is paid for. A thread can't be left behind, so its batch is waited for."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=DRAIN_S if self.backend.batch_size == 1 else None)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    # --- what to send next ------------------------------------------------------------------------------------------

    async def _dispatch_once(self) -> None:
        now = self._now()
        batch = await self._ready_items(now)
        if not batch:
            if not self._ended():
                await self._wait(self._waiting[0][0] - now if self._waiting else None)
            return
        allowed = await self._permission(batch) if await self._first_check() else 0
        if allowed:
            self._send(batch[:allowed])
        for item in batch[allowed:]:
            self._put_back(item, 0.0)

    async def _first_check(self) -> bool:
        """Ask the server, once and before anything is paid, whether it is there; False when the run ends meanwhile."""
        if self._checked:
            return True
        check = asyncio.create_task(self.backend.check())
        check.add_done_callback(lambda _: self._changed.set())
        while not check.done() and not self._stopped():
            await self._wait(None)
        if not check.done():
            check.cancel()
            await asyncio.gather(check, return_exceptions=True)
            return False
        await check
        self._checked = True
        return not self._stopped()

    async def _wait(self, seconds: float | None) -> None:
        """Until something changes, at most `seconds`."""
        self._changed.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _ready_items(self, now: float) -> list[Active]:
        batch: list[Active] = []
        if self.breaker.open and (fresh := await self._next_active(beyond=True)) is not None:
            return [fresh]  # the best probe: a row that has not failed yet
        while self._waiting and self._waiting[0][0] <= now and len(batch) < self.backend.batch_size:
            batch.append(heapq.heappop(self._waiting)[2])
        while len(batch) < self.backend.batch_size:
            item = await self._next_active()
            if item is None:
                break
            batch.append(item)
        return batch

    async def _next_active(self, *, beyond: bool = False) -> Active | None:
        """The next job that needs a request; jobs that the store settles are counted on the way.

        None when all are drawn, or when as many as there is room for are alive (unless one `beyond` that is wanted).
        """
        while not self._exhausted and (beyond or len(self._by_key) + self._parked < self._room):
            for still_open in self._opened:
                request = self._needs(still_open)
                if request is None:
                    self.progress.jobs += 1
                    self.progress.reused += 1
                elif request.key in self._given_up:
                    self.progress.jobs += 1
                    self.progress.failed += 1
                elif (same := self._by_key.get(request.key)) is not None:
                    self._park(still_open, same)
                    break
                else:
                    item = self._by_key[request.key] = Active(still_open, request)
                    return item
            else:
                part = next(self._slices, None)
                if part is None:
                    self._exhausted = True
                    return None
                self.progress.jobs += sum(settled for _, _, settled in part)
                self.progress.reused += sum(settled and bool(verdict) for _, verdict, settled in part)
                self._opened = iter([OpenJob(job, verdict) for job, verdict, settled in part if not settled])
                if self.progress.jobs:
                    self.on_progress(self.progress)
                await asyncio.sleep(0)
                if self._stopped():
                    return None
        return None

    def _park(self, still_open: OpenJob, same: Active) -> None:
        """Let a job wait for the answer to a question that is under way already."""
        same.parked.append(still_open)
        self._parked += 1

    def _needs(self, still_open: OpenJob) -> CaptionRequest | None:
        """The request that a job without a verdict still needs, or None when what the store holds settles it."""
        step = next_step(still_open.job, self.plan, self.store.find)
        if isinstance(step, CaptionRow):
            self._keep(still_open, step)
            return None
        if self.store.knows(step.key) and (
            self.store.is_open(step.key) or (not self.retry_refused and self.store.was_refused(step.key))
        ):
            # In flight here it is parked; what is open beside that lies in a batch.
            return step if step.key in self._by_key else None
        return step

    def _keep(self, settled: OpenJob, row: CaptionRow) -> None:
        self.store.keep_verdict(settled.verdict, self.plan.signature, row.track_id, row.instruction, verdict_of(row))
        self.progress.rejected += row.outcome != "ok"

    def _put_back(self, item: Active, not_before: float) -> None:
        heapq.heappush(self._waiting, (not_before, next(self._order), item))

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _permission(self, batch: Sequence[Active]) -> int:
        """Wait until every limit allows `batch` to be sent, and take its share of them.

        Returns how many of its items may go: fewer where the budget ends among them, 0 when the run ends.
        """
        for item in batch:
            item.reserved = self.budget.worst_case(item.request)
            item.expected = self._expected_tokens(item.request)
        tokens = sum(item.expected for item in batch)
        while not self._stopped():
            now = self._now()
            if len(self._calls) >= self._limit.limit:
                await self._wait(None)
                continue
            pause = max(self._pause_until - now, self.breaker.wait(now), self.buckets.wait(now, tokens))
            if pause > 0:
                await self._wait(None if math.isinf(pause) else pause)
                continue
            allowed = len(list(itertools.takewhile(lambda item: self.budget.reserve(item.reserved), batch)))
            if allowed:
                self.buckets.take(now, sum(item.expected for item in batch[:allowed]))
                return allowed
            if self._calls:
                await self._wait(None)
                continue
            reason = self.budget.exhausted(0) or "the budget does not allow another request"
            self._stop_reason = BudgetReachedError(
                "the budget", reason, "raise it and run the same command again; every answer is stored"
            )
        return 0

    def _expected_tokens(self, request: CaptionRequest) -> float:
        """Prompt by its letters, answer by the mean of this run: what the rate limits are charged in advance."""
        letters = sum(len(message.content) for message in request.prompt.messages)
        answers = self.progress.answers
        mean = self.progress.completion_tokens / answers if answers else request.sampling.max_tokens
        return letters / LETTERS_PER_TOKEN + mean

    def _send(self, batch: list[Active]) -> None:
        reserved = {item.request.key: item.reserved for item in batch}
        self.store.begin([item.request for item in batch], lambda request: reserved[request.key])
        self.progress.sent += len(batch)
        call = asyncio.create_task(self._ask(batch, self.breaker.on_send()))
        self._calls.add(call)
        call.add_done_callback(self._call_ended)
        self.progress.in_flight, self.progress.limit = len(self._calls), self._limit.limit

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self.progress.in_flight, self.progress.limit = len(self._calls), self._limit.limit
        if not call.cancelled() and (error := call.exception()) is not None:
            self._fail(error)
        self._changed.set()

    async def _ask(self, batch: Sequence[Active], probe: bool) -> None:
        if self._failure is not None:
            return  # among them a disk that did not take the announcement of this very request
        sent_at = self._now()
        results = await self.backend.answer([item.request for item in batch])
        now = self._now()
        for item, result in zip(batch, results, strict=True):
            cost = self.budget.settle(item.reserved, result)
            self.store.settle(item.request.key, result, cost)
        for item, result in zip(batch, results, strict=True):
            self.buckets.learn(result.hint)
            if isinstance(result, Answer):
                used = (result.prompt_tokens or 0) + (result.completion_tokens or 0)
                self.buckets.settle(item.expected, used or item.expected)
                self._settle_answer(item, result, now, sent_at)
            else:
                self.buckets.settle(item.expected, 0)
                await self._settle_fault(item, result, now, sent_at, probe)
        self.progress.cost = self.budget.snapshot().cost
        self.progress.note = self.budget.warning() or self.progress.note
        self.on_progress(self.progress)

    # --- what came back ---------------------------------------------------------------------------------------------

    def _settle_answer(self, item: Active, answer: Answer, now: float, sent_at: float) -> None:
        self._limit.on_success(now, now - sent_at, sent_at, answer.completion_tokens)
        self.breaker.on_success()
        self._rate_limits_in_a_row = self._rows_in_vain = 0
        self.progress.answers += 1
        self.progress.prompt_tokens += answer.prompt_tokens or 0
        self.progress.completion_tokens += answer.completion_tokens or 0
        del self._by_key[item.request.key]
        self._parked -= len(item.parked)
        for still_open in (item.open, *item.parked):
            self._advance(still_open)

    def _advance(self, still_open: OpenJob) -> None:
        """Judge what is stored for a job: it is settled, or its next request waits to be sent."""
        step = next_step(still_open.job, self.plan, self.store.find)
        if isinstance(step, CaptionRow):
            self._keep(still_open, step)
            self.progress.jobs += 1
            self._recent.append(True)
        elif step.key in self._given_up:
            self.progress.jobs += 1
            self.progress.failed += 1
        elif (same := self._by_key.get(step.key)) is not None:
            self._park(still_open, same)
        else:
            self._by_key[step.key] = item = Active(still_open, step)
            self._put_back(item, 0.0)

    async def _settle_fault(self, item: Active, fault: Fault, now: float, sent_at: float, probe: bool) -> None:
        self.progress.faults += 1
        self.breaker.on_fault(now, fault.kind, probe)
        if fault.kind == "fatal":
            self._fail(
                EndpointError(
                    self.backend.provider,
                    fault.message,
                    "correct the key, the model name or the account and run the same command again; answers are kept",
                )
            )
            return
        if self.breaker.expired(now):
            self._fail(
                EndpointError(
                    self.backend.provider,
                    f"no answer for {self.breaker.patience_s / 60:.0f} minutes ({fault.message})",
                    "look after the server and run the same command again later; answers are kept",
                )
            )
            return
        if fault.kind == "rate_limited":
            self.progress.rate_limited += 1
            self._rate_limits_in_a_row += 1
            self._limit.on_rate_limit(now, sent_at)
            wanted = fault.retry_after if fault.retry_after is not None else RATE_LIMIT_COOL_S
            least = min(RATE_LIMIT_COOL_S, RATE_LIMIT_FLOOR_S * 2.0 ** min(self._rate_limits_in_a_row - 1, 10))
            pause = max(wanted, least)
            self._pause_until = max(self._pause_until, now + pause)
            self._put_back(item, now + pause)
            return
        if fault.kind == "refused":
            self._note_failing_row(True, fault)
            self._give_up(item, fault)
            return
        if fault.timed_out:
            self._limit.on_rate_limit(now, sent_at)
        # While fresh rows can be drawn, a failed probe says nothing of the row that it happened to carry.
        if probe and self._exhausted and await self._lives():
            self.breaker.on_success()
            probe = False
        if not probe:
            item.tries += 1
            self._note_failing_row(item.tries == 1, fault)
        if item.tries >= MAX_TRIES:
            self._give_up(item, fault)
        else:
            self._put_back(item, now + (fault.retry_after or self._backoff(item.tries)))

    async def _lives(self) -> bool:
        """Whether the server answers its check, when there is nothing but failing rows to try it with.

        Some rows break every connection; a server that answers its check shows that they are at fault, not it.
        """
        try:
            await self.backend.check()
        except LpmcError:
            return False
        return True

    def _note_failing_row(self, first: bool, fault: Fault) -> None:
        """Stop when as many different rows failed one after another, without one answer in between.

        The last rows of a run that had answers are finished all the same.
        """
        self._rows_in_vain += first
        if self._rows_in_vain >= HEALTH_WINDOW and not (self._exhausted and self.progress.answers):
            self._unhealthy(f"{HEALTH_WINDOW} requests failed without one answer in between ({fault.message})")

    def _give_up(self, item: Active, fault: Fault) -> None:
        del self._by_key[item.request.key]
        if self.plan.share_identical:
            self._given_up.add(item.request.key)
        rows = 1 + len(item.parked)
        self._parked -= len(item.parked)
        self.progress.jobs += rows
        self.progress.failed += rows
        self._recent.append(False)
        failed = self._recent.count(False)
        if len(self._recent) == HEALTH_WINDOW and failed > HEALTH_FAULT_SHARE * HEALTH_WINDOW:
            self._stop_if_unhealthy(f"{failed} of the last {HEALTH_WINDOW} requests failed ({fault.message})")

    def _stop_if_unhealthy(self, problem: str) -> None:
        """Stop while there is fresh work to protect; the last rows of a run are finished, whatever becomes of them."""
        if not self._exhausted:
            self._unhealthy(problem)

    def _unhealthy(self, problem: str) -> None:
        self._fail(
            EndpointError(
                self.backend.provider,
                problem,
                "look after the server and run the same command again (answers are kept), or write the table from what"
                " is there with --from-store",
            )
        )

    @staticmethod
    def _backoff(tries: int) -> float:
        """Full jitter: anywhere between nothing and the exponential ceiling."""
        return random.uniform(0, min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**tries))
