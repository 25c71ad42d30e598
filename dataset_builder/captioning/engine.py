"""Asks a backend for every missing answer: bounded, retried by one owner, never losing what came back.

Workers draw jobs from one iterator, so at most `concurrency x batch_size` are alive whatever the size of the corpus.
Every answer and every failure goes to the store before anything else happens to it.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.jobs import AskPlan, CaptionJob, next_step
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import AnswerStore
from lpmc_errors import EndpointError, Interrupted

MAX_TRIES = 6  # per request and run; a rate limit is no try
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 60.0
RATE_LIMIT_PATIENCE_S = 900.0  # after this long without one answer the run stops
HEALTH_WINDOW = 50  # finished requests ...
HEALTH_FAULT_SHARE = 0.5  # ... of which more than this share failed: the run stops before it wastes the rest


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
    """Counts of the run so far, for the progress display and the summary."""

    jobs: int = 0  # (track, instruction) pairs that need no further request
    reused: int = 0  # of these, pairs that were settled by answers of an earlier run
    sent: int = 0
    answers: int = 0
    faults: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class _Active:
    job: CaptionJob
    request: CaptionRequest
    tries: int = 0
    not_before: float = 0.0


@dataclass
class Engine:
    """One run over `jobs`. `on_progress` is called after every change of the counts."""

    backend: Backend
    store: AnswerStore
    plan: AskPlan
    on_progress: Callable[[AskProgress], None] = lambda progress: None
    retry_refused: bool = False  # send requests again that an earlier run recorded as refused (400, 422, filtered)
    progress: AskProgress = field(default_factory=AskProgress)

    def run(self, jobs: Iterator[CaptionJob]) -> AskProgress:
        """Ask until every job is settled or has failed for good.

        Raises `EndpointError` when the endpoint can't serve the run (unreachable, wrong key, no quota, mostly
        failing), `Interrupted` after Ctrl-C or SIGTERM; what was answered until then is stored.
        """
        asyncio.run(self._run(jobs))
        return self.progress

    async def _run(self, jobs: Iterator[CaptionJob]) -> None:
        loop = asyncio.get_running_loop()
        self._jobs = jobs
        self._stopping = False
        self._checked = asyncio.Lock(), [False]
        self._pause_until = 0.0
        self._last_answer = loop.time()
        self._recent: deque[bool] = deque(maxlen=HEALTH_WINDOW)
        handled = []
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._stop)
                handled.append(number)
            except (NotImplementedError, RuntimeError, ValueError):
                break  # Windows, or not the main thread: KeyboardInterrupt ends the run instead
        workers = [asyncio.create_task(self._work()) for _ in range(self.backend.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self.backend.close()
            for number in handled:
                loop.remove_signal_handler(number)
        if self._stopping:
            raise Interrupted(
                "pseudo-caption",
                f"interrupted after {self.progress.answers} new answers, all of them stored",
                "run the same command again to go on",
            )

    def _stop(self) -> None:
        self._stopping = True  # requests under way are awaited and stored; no new one is sent

    def _next_active(self) -> _Active | None:
        """The next job that needs a request; jobs that the store settles are counted on the way."""
        for job in self._jobs:
            step = next_step(job, self.plan, self.store.answer)
            if isinstance(step, CaptionRequest) and not self._was_refused(step):
                return _Active(job, step)
            self.progress.jobs += 1
            self.progress.reused += 1
            if self.progress.jobs % 100 == 0:
                self.on_progress(self.progress)
        self.on_progress(self.progress)
        return None

    def _was_refused(self, request: CaptionRequest) -> bool:
        return not self.retry_refused and any(fault.kind == "refused" for fault in self.store.faults(request.key))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        active: list[_Active] = []
        while not self._stopping:
            while len(active) < self.backend.batch_size:
                added = self._next_active()
                if added is None:
                    break
                active.append(added)
                await asyncio.sleep(0)  # lets signals and other workers in while a finished store is read
            if not active:
                return
            await self._check_once()
            now = loop.time()
            ready = [item for item in active if item.not_before <= now]
            wait = max(self._pause_until, 0.0 if ready else min(item.not_before for item in active)) - now
            if wait > 0:
                await asyncio.sleep(min(wait, 0.5))  # short, so that Ctrl-C is heard
                continue
            self.progress.sent += len(ready)
            results = await self.backend.answer([item.request for item in ready])
            for item, result in zip(ready, results, strict=True):
                if self._settle(item, result, loop.time()):
                    active.remove(item)
            self.on_progress(self.progress)

    async def _check_once(self) -> None:
        lock, done = self._checked
        async with lock:
            if not done[0]:
                await self.backend.check()
                done[0] = True

    def _settle(self, item: _Active, result: Answer | Fault, now: float) -> bool:
        """Store `result` and decide what follows; True when the job needs nothing more of this run."""
        self.store.record(item.request, result)
        if isinstance(result, Answer):
            self._last_answer = now
            self._recent.append(True)
            self.progress.answers += 1
            self.progress.prompt_tokens += result.prompt_tokens or 0
            self.progress.completion_tokens += result.completion_tokens or 0
            step = next_step(item.job, self.plan, self.store.answer)
            if isinstance(step, CaptionRow):
                self.progress.jobs += 1
                return True
            item.request, item.tries, item.not_before = step, 0, now
            return False
        return self._settle_fault(item, result, now)

    def _settle_fault(self, item: _Active, fault: Fault, now: float) -> bool:
        self.progress.faults += 1
        if fault.kind == "fatal":
            raise EndpointError(
                self.backend.provider,
                fault.message,
                "correct the key, the model name or the account and run the same command again; answers are kept",
            )
        if fault.kind == "rate_limited":
            pause = fault.retry_after if fault.retry_after is not None else self._backoff(item.tries + 1)
            self._pause_until = max(self._pause_until, now + pause)
            if now - self._last_answer > RATE_LIMIT_PATIENCE_S:
                raise EndpointError(
                    self.backend.provider,
                    f"no answer for {RATE_LIMIT_PATIENCE_S / 60:.0f} minutes ({fault.message})",
                    "run the same command again later; answers are kept",
                )
            return False
        if fault.kind == "transient":
            item.tries += 1
            if item.tries < MAX_TRIES:
                item.not_before = now + (fault.retry_after or self._backoff(item.tries))
                self._note_failure(fault)
                return False
        self._note_failure(fault)
        self.progress.jobs += 1
        return True

    def _note_failure(self, fault: Fault) -> None:
        self._recent.append(False)
        failed = self._recent.count(False)
        if len(self._recent) == HEALTH_WINDOW and failed > HEALTH_FAULT_SHARE * HEALTH_WINDOW:
            raise EndpointError(
                self.backend.provider,
                f"{failed} of the last {HEALTH_WINDOW} requests failed ({fault.message})",
                "look after the server and run the same command again; answers are kept",
            )

    @staticmethod
    def _backoff(tries: int) -> float:
        """Full jitter: anywhere between nothing and the exponential ceiling."""
        return random.uniform(0, min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**tries))
