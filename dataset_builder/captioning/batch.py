"""Hands batch files to a Batch API and reads the answers into the store, over days and however often it is ended.

What the store knows at each step decides what a later process does:

1. an intent before the upload, with the file's id before the batch is created: a batch that was created unheard is
   found again by it and adopted, so it is neither lost nor bought twice;
2. the batch's id with its open attempts, before the first look at it: open requests are not asked for elsewhere;
3. every answer by itself, the batch's last status after them: a process that ends in between reads the files again.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import openai

from dataset_builder.captioning.batch_endpoint import MISSING, BatchEndpoint
from dataset_builder.captioning.batch_files import BatchFile, read_batch_file, remove_batch_file
from dataset_builder.captioning.batch_ledger import ENDED, BatchLedger, Intent
from dataset_builder.captioning.batch_results import FATAL_CODES, ResultReport, read_batch_results
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import AnswerStore, Reservation
from lpmc_errors import EndpointError, Interrupted, disk_faults_named

POLL_INTERVAL_S = 30.0  # the pace that providers recommend
POLL_MOST_S = 600.0  # the longest pause when looks fail or the queue is full
PATIENCE_S = 3600.0  # without one successful look the run stops; the batches go on
FULL_TRIES = 8  # of a file that finds the queue full though no batch of ours is in it: an hour at the default interval
DOWNLOAD_TRIES = 3  # of results with fewer lines than the provider counts
YIELD_EVERY = 200  # results between two chances for signals to be heard

# The first is what OpenAI says of its queue of prompt tokens; the others are what gateways and other hosts say.
_FULL_CODES = frozenset(
    ("token_limit_exceeded", "request_limit_exceeded", "batch_limit_exceeded", "rate_limit_exceeded")
)


@dataclass(frozen=True)
class BatchOutcome:
    """How a batch ended. `faults` and `problems` count by kind and by reason; `message` is for the user.

    `status` is the provider's last word, or one of ours. `missing`: the endpoint does not know the batch or its
    answers any more; its requests stay reserved and are not sent again before `BatchRunner.abandon`. `orphaned`: a
    batch was created but the file that tells its requests is gone, so they will be bought again. `held`: files that
    the provider had no room for (no `id`); nothing was bought.
    """

    id: str
    status: str
    answers: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, int] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class BatchState:
    """A batch under way at the last look; the counts are the provider's."""

    id: str
    status: str
    completed: int = 0
    total: int = 0


@dataclass(frozen=True)
class BatchProgress:
    """For the progress display: batches under way, files that wait for room, and what came back so far."""

    under_way: tuple[BatchState, ...]
    waiting_files: int
    answers: int
    faults: int


@dataclass
class _Active:
    state: BatchState
    input_file: Path
    file: BatchFile | None = None  # None: of an earlier process
    downloads: int = 0


class BatchRunner:
    """The batches of one store at one provider. Use inside the store's `sole_writer`.

    `reservation` is the most that a request may cost; `price` what a result did cost (1e-12 dollars, None: unknown).
    `admit` gets a file and its whole reservation before it is uploaded and raises to keep it, and the files after it,
    back: they are dropped unbought, and another `poll` reads what is under way.
    Calls raise `EndpointError` when the endpoint refuses the run or stays away for an hour, and `Interrupted` after
    `stop`; what is under way goes on at the provider, and the same calls in a later process take it up.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        store: AnswerStore,
        provider: str,
        *,
        reservation: Callable[[CaptionRequest], Reservation] = lambda request: Reservation(),
        price: Callable[[Answer | Fault], int | None] = lambda result: None if isinstance(result, Answer) else 0,
        admit: Callable[[BatchFile, Reservation], None] | None = None,
        on_progress: Callable[[BatchProgress], None] = lambda progress: None,
        interval: float = POLL_INTERVAL_S,
    ) -> None:
        self._endpoint = BatchEndpoint(client, provider, self._pause)
        self._ledger = BatchLedger(store, provider, reservation, price)
        self._folder = store.path.parent
        self._provider = provider
        self._admit = admit
        self._on_progress = on_progress
        self._interval = interval
        self._stopping = asyncio.Event()
        self._active: dict[str, _Active] = {}
        self._waiting: deque[BatchFile] = deque()
        self._uploaded: dict[Path, str] = {}
        self._outcomes: list[BatchOutcome] = []
        self._room: int | None = None  # batches at once for which the provider's queue has room; None: not met yet
        self._not_before = 0.0
        self._refused_alone = 0
        self._answers = self._faults = 0

    def stop(self) -> None:
        """End the run at the next pause (for signal handlers)."""
        self._stopping.set()

    async def probe(self) -> None:
        """Raise `EndpointError` when the endpoint has no Batch API, can't be reached or refuses the key."""
        await self._endpoint.probe()

    async def resume(self) -> list[str]:
        """Take up what an earlier process left, and say which batches `poll` will look at. Call it before `submit`."""
        for intent in self._ledger.intents():
            await self._adopt(intent)
        for record in self._ledger.unfinished():
            if record.id not in self._active:
                self._active[record.id] = _Active(BatchState(record.id, record.status), Path(record.input_file))
        return list(self._active)

    async def submit(self, files: Iterable[BatchFile]) -> list[str]:
        """Upload `files` and create their batches, as many as the provider takes; `poll` hands in the rest.

        Returns the ids of the batches created now.
        """
        self._waiting.extend(files)
        return await self._fill()

    async def poll(self) -> list[BatchOutcome]:
        """Look at the batches every `interval` seconds until all have ended and their answers are in the store.

        What got no answer is settled as a fault that may be sent again, unless the provider refused it for good.
        """
        loop = asyncio.get_running_loop()
        heard, failed_rounds = loop.time(), 0
        while self._active or self._waiting:
            await self._fill()
            trouble = None
            for active in list(self._active.values()):
                fault = await self._look(active)
                trouble = fault or trouble
                heard = heard if fault else loop.time()
                self._report()
            if trouble is not None and loop.time() - heard > PATIENCE_S:
                raise EndpointError(
                    self._provider,
                    f"no look at a batch succeeded for {PATIENCE_S / 60:.0f} minutes ({trouble.message})",
                    "run the same command again later; the batches go on",
                )
            failed_rounds = 0 if trouble is None else failed_rounds + 1
            if self._active or self._waiting:
                await self._pause(self._growing(failed_rounds))
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def abandon(self, batch: str) -> int:
        """Close the open requests of a batch as lost, so that they may be bought again; their number.

        For a batch that ended as `missing`, when the user gives it up. What it may have cost stays on the books.
        """
        self._active.pop(batch, None)
        return self._ledger.abandon(batch)

    # --- handing in ------------------------------------------------------------------------------------------------

    async def _fill(self) -> list[str]:
        loop, created = asyncio.get_running_loop(), []
        while self._waiting and loop.time() >= self._not_before:
            if self._room is not None and len(self._active) >= max(1, self._room):
                break
            batch = await self._hand_in(self._waiting[0])
            file = self._waiting.popleft()
            if isinstance(batch, Fault):
                self._hold(file, batch.message)
                break
            self._active[batch] = _Active(BatchState(batch, "validating"), file.path, file)
            created.append(batch)
            self._report()
        return created

    async def _hand_in(self, file: BatchFile) -> str | Fault:
        if self._admit is not None:
            try:
                self._admit(file, self._ledger.reserved(file))
            except BaseException:
                self._drop_waiting()
                raise
        if file.path not in self._uploaded:
            self._ledger.intend(Intent(file.sha256, file.path))
            self._uploaded[file.path] = await self._endpoint.upload(file.path)
        file_id = self._uploaded[file.path]
        self._ledger.intend(Intent(file.sha256, file.path, file_id))
        batch = await self._endpoint.create(file_id, file.sha256, self._ledger.known())
        if not isinstance(batch, Fault):
            self._ledger.register(batch, file)
        self._ledger.forget(file.sha256)
        return batch

    def _hold(self, file: BatchFile, message: str) -> None:
        """Keep a file for which the provider's queue has no room until a batch of ours has ended."""
        self._room = len(self._active)
        self._waiting.appendleft(file)
        if self._active:
            return
        self._refused_alone += 1
        self._not_before = asyncio.get_running_loop().time() + self._growing(self._refused_alone)
        if self._refused_alone >= FULL_TRIES:
            remedy = "make the batch files smaller, ask online, or run the same command again later"
            said = f"{len(self._waiting)} batch files were not taken: {message}; {remedy}"
            self._outcomes.append(BatchOutcome("", "held", message=said))
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Forget the files that were not handed in: their requests are missing and will be written anew."""
        while self._waiting:
            remove_batch_file(self._waiting.popleft().path)

    async def _adopt(self, intent: Intent) -> None:
        """Find the batch that an earlier process created, or was about to create, when it ended."""
        batch = None
        if intent.file_id:
            registered = (record.id for record in self._ledger.unfinished() if record.input_file == str(intent.path))
            batch = next(registered, None) or await self._endpoint.find(
                intent.file_id, intent.sha256, self._ledger.known()
            )
        if batch is not None:
            file = read_batch_file(intent.path) if intent.path.exists() else None
            if file is not None and file.sha256 == intent.sha256:
                self._ledger.register(batch, file)
            else:
                said = f"{intent.path} is gone or changed: the answers of batch {batch} can't be told apart"
                self._outcomes.append(BatchOutcome(batch, "orphaned", message=f"{said} and will be bought again"))
        else:
            remove_batch_file(intent.path)  # nothing was bought; its requests are missing and will be written anew
        self._ledger.forget(intent.sha256)

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _look(self, active: _Active) -> Fault | None:
        """One look at a batch; the fault of a look that told nothing."""
        batch = await self._endpoint.look(active.state.id)
        if isinstance(batch, Fault):
            if batch.kind != MISSING:
                return batch
            self._end_missing(active, batch.message, ResultReport())
            return None
        status = str(getattr(batch, "status", "") or "").lower()
        counts = getattr(batch, "request_counts", None)
        completed, total = getattr(counts, "completed", 0) or 0, getattr(counts, "total", 0) or 0
        if not status:
            return Fault("transient", "the answer is no batch")
        active.state = BatchState(active.state.id, status, completed, total)
        if status in ENDED:
            return await self._end(active, batch)
        self._ledger.see(active.state.id, status)
        if status != "validating":
            self._refused_alone = 0
        return None

    async def _end(self, active: _Active, batch: Any) -> Fault | None:
        identity, said = active.state.id, _errors(batch)
        message = "; ".join(words for _, words in said)
        if active.state.status == "failed" and _FULL_CODES & {code for code, _ in said}:
            # Nothing was run. Without the file, of an earlier process, the requests are missing as if never sent.
            self._ledger.settle_rest(identity, Fault("rate_limited", f"the provider's queue is full: {message}"))
            self._close(active, None, None)
            if active.file is not None:
                self._hold(active.file, message)
            return None
        output, error = (getattr(batch, name, None) or None for name in ("output_file_id", "error_file_id"))
        report = ResultReport()
        with disk_faults_named(self._folder), tempfile.TemporaryFile(dir=self._folder) as content:
            fault = await self._read(active, (output, error), content, report)
        if fault is not None and fault.kind != MISSING:
            return fault
        if fault is not None:
            self._end_missing(active, f"its results are gone: {fault.message}", report)
            return None
        rest = Fault("transient", f"batch {identity} ended as {active.state.status} without a line for it; {message}")
        for key in self._ledger.settle_rest(identity, rest):
            report.add(key, rest)
            self._faults += 1
        self._close(active, output, error)
        remove_batch_file(active.input_file)
        self._outcomes.append(_outcome(active, report, message))
        fatal = report.fatal or next((Fault("fatal", words) for code, words in said if code in FATAL_CODES), None)
        if fatal is not None:
            raise EndpointError(
                self._provider,
                f"batch {identity}: {fatal.message}",
                "correct the key, the model name or the account and run the same command again; answers are kept",
            )
        return None

    async def _read(
        self, active: _Active, files: tuple[str | None, str | None], content: BinaryIO, report: ResultReport
    ) -> Fault | None:
        """Settle every line of the output and the error file; the fault when they did not come whole."""
        unsettled = self._ledger.open_keys(active.state.id)

        def wanted(key: str) -> bool:  # a process that ended while it read these files has settled a part of them
            return key in unsettled or self._ledger.was_asked(key)

        for file_id in files:
            if file_id is not None:
                content.seek(0)
                content.truncate()
                fault = await self._endpoint.download(file_id, content)
                if fault is not None:
                    return fault
                content.seek(0)
                for count, (key, result) in enumerate(read_batch_results(content, wanted=wanted, report=report)):
                    if key in unsettled:
                        self._ledger.settle(key, result)
                        self._answers += isinstance(result, Answer)
                        self._faults += isinstance(result, Fault)
                    if count % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
        came = len(report.answered)
        if came < active.state.completed and active.downloads < DOWNLOAD_TRIES:
            active.downloads += 1
            return Fault("transient", f"{came} of {active.state.completed} answers came")
        return None

    def _close(self, active: _Active, output: str | None, error: str | None) -> None:
        self._ledger.see(active.state.id, active.state.status, output, error)
        del self._active[active.state.id]

    def _end_missing(self, active: _Active, message: str, report: ResultReport) -> None:
        """Leave a batch that this key does not see: its requests stay open until the user decides."""
        identity = active.state.id
        count = len(self._ledger.open_keys(identity))
        active.state = BatchState(identity, MISSING)
        self._close(active, None, None)
        remedy = "use the key and the project that it was made with, or give it up to have them sent, and paid, again"
        self._outcomes.append(_outcome(active, report, f"{message}; {count} requests wait for it: {remedy}"))

    def _report(self) -> None:
        states = tuple(active.state for active in self._active.values())
        self._on_progress(BatchProgress(states, len(self._waiting), self._answers, self._faults))

    def _growing(self, failures: int) -> float:
        return min(max(self._interval, POLL_MOST_S), self._interval * 2.0 ** min(failures, 20))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except asyncio.TimeoutError:
            return
        raise Interrupted(
            "pseudo-caption",
            f"interrupted while {len(self._active)} batches are under way; they go on at {self._provider}",
            "run the same command again to read their answers",
        )


def _outcome(active: _Active, report: ResultReport, message: str) -> BatchOutcome:
    shown = [f"{reason}, e.g. {example}" for reason, example in report.examples.items()]
    return BatchOutcome(
        active.state.id,
        active.state.status,
        report.answers,
        dict(report.faults),
        dict(report.problems),
        "; ".join(part for part in (message, *shown) if part),
    )


def _errors(batch: Any) -> list[tuple[str, str]]:
    """(code, words) of what the provider says against the whole batch."""
    data = getattr(getattr(batch, "errors", None), "data", None) or []
    return [(error.code or "", " ".join(filter(None, (error.code, error.message)))) for error in data[:3]]
