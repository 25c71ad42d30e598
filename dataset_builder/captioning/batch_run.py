"""A run by batch files: what is missing is handed in, read back and judged; leftovers are asked for online.

Each round hands in every request that is still missing (also the second questions after an answer that was rejected),
so that what remains for the online run, at the full price, is little.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai

from dataset_builder.captioning.batch import POLL_INTERVAL_S, BatchOutcome, BatchProgress, BatchRunner
from dataset_builder.captioning.batch_files import (
    OUTPUT_SUFFIX,
    REQUESTS_SUFFIX,
    BatchFile,
    read_batch_file,
    write_batch_files,
)
from dataset_builder.captioning.batch_results import ResultReport, keep_offline_results
from dataset_builder.captioning.budget import Budget, BudgetLimits, worst_case
from dataset_builder.captioning.jobs import AskPlan, CaptionJob, next_step, scan_jobs
from dataset_builder.captioning.prices import Price
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.run_state import BudgetReachedError
from dataset_builder.captioning.store import AnswerStore, Reservation
from lpmc_errors import TableError

ROUNDS = 3  # as many as a job may be asked; what is missing then is asked for online


def missing_requests(
    jobs: Iterator[CaptionJob], plan: AskPlan, store: AnswerStore, *, retry_refused: bool = False
) -> Iterator[CaptionRequest]:
    """The next request of every job that needs one, without those that are under way or were refused for good."""
    for part in scan_jobs(jobs, plan, store):
        for job, _, settled in part:
            step = None if settled else next_step(job, plan, store.find)
            if not isinstance(step, CaptionRequest) or store.is_open(step.key):
                continue
            if retry_refused or not store.was_refused(step.key):
                yield step


def run_batches(
    jobs: Callable[[], Iterator[CaptionJob]],
    store: AnswerStore,
    client: openai.AsyncOpenAI,
    plan: AskPlan,
    limits: BudgetLimits,
    price: Price | None,
    body: Callable[[CaptionRequest], dict[str, Any]],
    *,
    submit: bool,
    give_up: bool = False,
    retry_refused: bool = False,
    interval: float = POLL_INTERVAL_S,
    on_progress: Callable[[BatchProgress], None] = lambda progress: None,
) -> list[BatchOutcome]:
    """Read the batches that are under way and, with `submit`, hand in what is missing, up to `ROUNDS` times.

    `give_up` closes the requests of batches that the endpoint does not know any more, so that they are bought again.
    Use inside the store's `sole_writer`. Raises `EndpointError`, `BudgetReachedError`, `Interrupted`; batches under
    way go on at the provider and the same call takes them up.
    """

    def cost(result: Answer | Fault) -> int | None:
        return _cost(result, price, batch=True)

    def reservation(request: CaptionRequest) -> Reservation:
        return worst_case(request, price, batch=True)

    def admit(file: BatchFile, needed: Reservation) -> None:
        spent = store.spend()
        budget = Budget(limits, price, spent, model=plan.model)
        reason = None
        if limits.max_requests is not None and spent.requests + file.requests > limits.max_requests:
            reason = (
                f"--max-requests {limits.max_requests}: {spent.requests} sent, {file.requests} more in the next file"
            )
        elif not budget.reserve(needed):
            reason = budget.exhausted(0)
        if reason is not None:
            raise BudgetReachedError(
                "the budget", reason, "raise it and run the same command again; every answer is stored"
            )

    runner = BatchRunner(
        client,
        store,
        plan.provider,
        reservation=reservation,
        price=cost,
        admit=admit,
        on_progress=on_progress,
        interval=interval,
    )

    async def run() -> list[BatchOutcome]:
        ways = {"submit": submit, "give_up": give_up, "retry_refused": retry_refused}
        async with client:  # its connections belong to this event loop
            return await _run(runner, jobs, store, plan, body, **ways)

    return asyncio.run(run())


async def _run(
    runner: BatchRunner,
    jobs: Callable[[], Iterator[CaptionJob]],
    store: AnswerStore,
    plan: AskPlan,
    body: Callable[[CaptionRequest], dict[str, Any]],
    *,
    submit: bool,
    give_up: bool,
    retry_refused: bool,
) -> list[BatchOutcome]:
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, runner.stop)
            handled.append(number)
        except (NotImplementedError, RuntimeError, ValueError):
            break  # Windows, or not the main thread
    try:
        await runner.probe()
        outcomes: list[BatchOutcome] = []
        await runner.resume()
        outcomes += await runner.poll()
        if give_up:
            for outcome in outcomes:
                if outcome.status == "missing":
                    runner.abandon(outcome.id)
        for turn in range(ROUNDS if submit else 0):
            again = retry_refused and turn == 0  # once: what is refused now stays refused
            requests = missing_requests(jobs(), plan, store, retry_refused=again)
            folder = store.path.with_name(f"{store.path.name}.batches")
            files = write_batch_files(requests, folder, body=body)
            if not files:
                break
            try:
                await runner.submit(files)
            except BudgetReachedError:
                await runner.poll()  # what was handed in before is read first: it is paid for
                raise
            found = await runner.poll()
            outcomes += found
            if any(outcome.status in ("held", "failed") for outcome in found):
                break  # another round would meet the same; what is missing is asked for online
        return outcomes
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def read_offline_batches(folder: Path, store: AnswerStore, price: Price | None) -> ResultReport:
    """Put the answers of `vllm run-batch` into the store: of every `NAME.jsonl` in `folder` its `NAME.output.jsonl`.

    Raises `TableError` when there is none.
    """
    total = ResultReport()
    files = [
        path
        for path in sorted(folder.glob("*.jsonl"))
        if not path.name.endswith((OUTPUT_SUFFIX, REQUESTS_SUFFIX)) and path.with_suffix(OUTPUT_SUFFIX).exists()
    ]
    if not files:
        raise TableError(
            folder, f"holds no batch file with its answers (NAME.jsonl, NAME{OUTPUT_SUFFIX})", "run the files first"
        )
    for path in files:
        file = read_batch_file(path)
        report = keep_offline_results(
            store,
            file,
            [file.output_path],
            reservation=lambda request: worst_case(request, price),
            price=lambda result: _cost(result, price, batch=False),
        )
        total.answers += report.answers
        total.faults.update(report.faults)
        total.problems.update(report.problems)
        for reason, example in report.examples.items():
            total.examples.setdefault(reason, f"{path.name}: {example}")
    return total


def _cost(result: Answer | Fault, price: Price | None, *, batch: bool) -> int | None:
    """What a result costs; the store counts the reservation of one without token counts."""
    if not isinstance(result, Answer):
        return 0
    if price is None or result.prompt_tokens is None or result.completion_tokens is None:
        return None
    return price.cost(result.prompt_tokens, result.completion_tokens, batch)
