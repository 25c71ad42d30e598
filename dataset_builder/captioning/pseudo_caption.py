"""Tags in, captions out: plans the run, lets the engine ask what is missing, and writes the captions table."""

from __future__ import annotations

import itertools
import json
import math
import platform
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.compute as pc

from dataset_builder.captioning.answer_log import AnswerLog
from dataset_builder.captioning.backends.grammar import GRAMMAR, GRAMMAR_VERSION
from dataset_builder.captioning.backends.grammar_rows import grammar_groups, model_rows
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.backends.response_format import chat_body
from dataset_builder.captioning.batch import POLL_INTERVAL_S, BatchOutcome, BatchProgress
from dataset_builder.captioning.batch_files import BatchFile, write_batch_files
from dataset_builder.captioning.batch_ledger import has_unfinished
from dataset_builder.captioning.batch_results import ResultReport
from dataset_builder.captioning.batch_run import missing_requests, read_offline_batches, run_batches
from dataset_builder.captioning.budget import Budget, BudgetLimits
from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.engine import Engine
from dataset_builder.captioning.estimate import Estimate, estimate
from dataset_builder.captioning.finish import PIPELINE_FORMAT, finish_table, tracks_digest
from dataset_builder.captioning.jobs import (
    BASELINES,
    FAILED_OUTCOMES,
    K2C,
    AskPlan,
    CaptionJob,
    KeywordWording,
    baseline_row,
    failed_row,
    first_key,
    first_request,
    next_step,
    row_of,
    scan_jobs,
    shard_of,
    skipped_row,
    verdict_key,
    with_fallback,
)
from dataset_builder.captioning.ledger import Ledger
from dataset_builder.captioning.limits import PATIENCE_S, CircuitBreaker, RateBuckets
from dataset_builder.captioning.prices import Price
from dataset_builder.captioning.requests import CaptionRequest
from dataset_builder.captioning.run_state import AskProgress, Backend
from dataset_builder.captioning.store import AnswerStore
from dataset_builder.captioning.store_reader import asks_per_job, open_store_to_read, output_tokens
from dataset_builder.faithfulness import CHECKS_VERSION
from dataset_builder.instructions import INSTRUCTIONS, find_wording
from dataset_builder.tracks import count_tracks, open_tracks, read_tracks
from lpmc_errors import TableError, UsageError

GROUPS_SHOWN = 500  # tracks between two signs of progress of the grammar
RUNGS_SETTING = "response_format"  # in the store: what each endpoint takes as a request for a structured answer
# What a job needs of a track: the tags for its prompt, the names that must not leak, the corpus for the estimate.
JOB_COLUMNS = ("title", "artist", "album", "source")


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `of`; every (track, instruction) belongs to exactly one."""

    index: int = 0
    of: int = 1


@dataclass(frozen=True)
class RunLimits:
    """What a run may use. Rates and budget are those of the whole account: a shard takes its part of them."""

    budget: BudgetLimits = field(default_factory=BudgetLimits)
    price: Price | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    patience_s: float = PATIENCE_S


@dataclass(frozen=True)
class CaptioningSummary:
    """What a run did. `outcomes` counts rows by outcome and sums to `rows` = tracks x instructions (of the shard)."""

    output: str
    tracks: int
    rows: int
    outcomes: dict[str, int]
    template_fallbacks: int
    requests_sent: int
    answers_bought: int
    jobs_reused: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str | None = None  # of everything the store ever sent; None: a price is unknown
    ledger: dict[str, Any] = field(default_factory=dict)

    @property
    def alarms(self) -> list[str]:
        """What a careful reader should look at before using the captions."""
        return list(self.ledger.get("alarms", ()))

    @property
    def failed(self) -> int:
        """Rows without an accepted caption (tracks without tags are no failure: they are skipped as announced)."""
        return sum(self.outcomes.get(name, 0) for name in FAILED_OUTCOMES)


def parse_instructions(text: str) -> tuple[str, ...]:
    """`writing,summary` -> names, in the order given. Raises `UsageError` for an unknown or missing one."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in INSTRUCTIONS]
    if unknown or not names:
        raise UsageError(
            f"--instructions {text}",
            f"unknown instruction {unknown[0]!r}" if unknown else "names no instruction",
            f"choose from {', '.join(INSTRUCTIONS)}",
        )
    return names


def parse_shard(text: str) -> Shard:
    """`2/8` -> part 2 of 0 to 7. Raises `UsageError`."""
    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise UsageError(f"--shard {text}", "is not I/N with I from 0 to N - 1", "give e.g. --shard 0/4")
    return Shard(int(index), int(of))


def make_plan(
    backend: Backend,
    instructions: Sequence[str],
    *,
    wording: str | None = None,
    temperature: float | None = None,
    fallback: bool = True,
    token_limit: int | None = None,
    top_p: float | None = None,
    candidates: int = 1,
    share_identical: bool = False,
) -> AskPlan:
    """The plan of a run; the local backend defaults to the few-shot wording and greedy answers.

    Raises `UsageError` for an unknown wording or one that lacks an instruction, `TableError` for an unusable file.
    """
    if backend.name == K2C:
        return AskPlan(backend.name, backend.provider, backend.model, KeywordWording(), None, (K2C,), baseline=True)
    local = backend.name == "local"
    chosen = find_wording(wording or ("small" if local else "released"))
    for instruction in instructions:
        chosen.max_tokens(instruction)  # names an instruction that the wording lacks
    if temperature is None and local:
        temperature = 0.0
    return AskPlan(
        backend.name,
        backend.provider,
        backend.model,
        chosen,
        temperature,
        tuple(instructions),
        fallback,
        token_limit,
        top_p,
        candidates,
        share_identical,
    )


def plan_jobs(tracks: Path, plan: AskPlan, shard: Shard = Shard()) -> Iterator[CaptionJob]:
    """Every (track, instruction) of a shard, streaming.

    Track by track; for a model in this process one instruction after another: its batches then share their instruction
    and its cached examples.
    """
    for job in _all_jobs(tracks, plan):
        if shard.of == 1 or shard_of(job, plan, shard.of) == shard.index:
            yield job


def _all_jobs(tracks: Path, plan: AskPlan) -> Iterator[CaptionJob]:
    if plan.backend == "openai":
        for track in read_tracks(tracks, JOB_COLUMNS):
            for instruction in plan.instructions:
                yield CaptionJob(track, instruction)
        return
    for instruction in plan.instructions:
        for track in read_tracks(tracks, JOB_COLUMNS):
            yield CaptionJob(track, instruction)


def _check_tracks(tracks: Path) -> int:
    """The number of tracks, after making sure that their ids name them and that there is something to ask."""
    count = count_tracks(tracks)
    if not count:
        raise TableError(tracks, "has no rows", "give a tracks table with at least one track")
    with open_tracks(tracks) as table:
        ids = table.read(columns=["track_id"]).column("track_id")
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        raise TableError(tracks, "has rows without a track_id", "give every track an id")
    if pc.count_distinct(ids).as_py() != count:
        twice = ids.value_counts().filter(pc.greater(ids.value_counts().field("counts"), 1)).field("values")[0]
        raise TableError(tracks, f"track_id {twice.as_py()!r} occurs twice", "make the ids unique")
    if not any(track.tags for track in read_tracks(tracks, ())):
        raise TableError(
            tracks, f"none of its {count} tracks has a tag", "captions are made from tags: add them and run again"
        )
    return count


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _pipeline(backend: str, count: int, started: str) -> dict[str, Any]:
    return {
        "format": PIPELINE_FORMAT,
        "lp_musiccaps": version("lp-musiccaps"),
        "python": platform.python_version(),
        "backend": backend,
        "started": started,
        "tracks": count,
    }


def _job_count(tracks: Path, count: int, plan: AskPlan, shard: Shard) -> int:
    if shard.of == 1:
        return count * len(plan.instructions)
    return sum(1 for _ in plan_jobs(tracks, plan, shard))


def _plan_facts(plan: AskPlan, shard: Shard) -> dict[str, Any]:
    part = {"shard": {"index": shard.index, "of": shard.of}} if shard.of > 1 else {}
    return {
        **part,
        **plan.facts,
        "signature": plan.signature,
        "max_tokens": {name: plan.max_tokens(name) for name in plan.instructions},
        "instructions": list(plan.instructions),
        "template_fallback": plan.fallback,
    }


def price_tracks(tracks: Path, store: Path, plan: AskPlan, limits: RunLimits, shard: Shard = Shard()) -> Estimate:
    """What the run would send, in requests, tokens and dollars, from its own prompts and what the store holds already.

    Sends nothing, and makes no store where there is none. Raises `TableError`.
    """
    _check_tracks(tracks)
    outputs, asks = {}, None
    with ExitStack() as stack:
        if store.is_file() or AnswerLog.exists(store):
            with open_store_to_read(store) as database:
                outputs, asks = output_tokens(database, plan.signature), asks_per_job(database)
            place = store
        else:
            place = Path(stack.enter_context(TemporaryDirectory()), "empty.sqlite")
        answers = stack.enter_context(AnswerStore(place))
        rpm = limits.requests_per_minute
        return estimate(
            _pending(plan_jobs(tracks, plan, shard), plan, answers),
            price=limits.price,
            outputs=outputs,
            asks=asks,
            candidates=plan.candidates,
            rpm=None if rpm is None else math.ceil(rpm),
        )


def _pending(
    jobs: Iterator[CaptionJob], plan: AskPlan, answers: AnswerStore
) -> Iterator[tuple[CaptionJob, CaptionRequest | None]]:
    for part in scan_jobs(jobs, plan, answers):
        for job, key, settled in part:
            if not key:
                continue  # without tags
            step = None if settled else next_step(job, plan, answers.find)
            yield job, step if isinstance(step, CaptionRequest) else None


def preview_tracks(
    tracks: Path, store: Path, backend: Backend, plan: AskPlan, rows: int, limits: RunLimits, shard: Shard = Shard()
) -> list[tuple[CaptionRequest, CaptionRow]]:
    """The first `rows` rows with their prompts, spread over the instructions; their answers are kept in the store."""
    _check_tracks(tracks)
    wanted = (
        CaptionJob(track, instruction)
        for track in read_tracks(tracks, JOB_COLUMNS)
        for instruction in plan.instructions
        if track.tags
    )
    own = (job for job in wanted if shard.of == 1 or shard_of(job, plan, shard.of) == shard.index)
    jobs = list(itertools.islice(own, rows))
    with AnswerStore(store) as answers, answers.sole_writer():
        answers.start_run(plan.signature, plan.facts, len(jobs), {"preview": rows})
        _ask(backend, answers, plan, limits, Shard(), iter(jobs), lambda progress: None, retry_refused=False)
        return [(first_request(job, plan), _settled_row(job, plan, answers)) for job in jobs]


def caption_tracks(
    tracks: Path,
    output: Path,
    store: Path,
    backend: Backend,
    plan: AskPlan,
    on_progress: Callable[[AskProgress, int], None] = lambda progress, total: None,
    *,
    limits: RunLimits | None = None,
    shard: Shard = Shard(),
    retry_refused: bool = False,
    ask: bool = True,
    remembered: MutableMapping[str, str] | None = None,
) -> CaptioningSummary:
    """Ask `backend` for every caption that `store` does not hold yet, then write the captions table to `output`.

    `on_progress` gets the counts and the number of (track, instruction) pairs. `retry_refused` sends requests again
    that the endpoint refused in an earlier run; without `ask` nothing is sent, and what has no answer is `api_failed`.
    `remembered` is what the backend learns of its endpoints (`rungs` of
    `ChatBackend`): it is read from the store before the run and kept there after it.
    Raises `TableError` for an unusable tracks table, `EndpointError`, `BudgetReachedError` and `Interrupted` as the
    engine does; answers stored until then are kept.
    """
    limits = limits or RunLimits()
    count = _check_tracks(tracks)
    started = _now()
    total = _job_count(tracks, count, plan, shard)
    with AnswerStore(store) as answers, answers.sole_writer():
        pipeline = _pipeline(backend.name, count, started) | _plan_facts(plan, shard)
        run = answers.start_run(plan.signature, plan.facts, total, pipeline)
        with _remembering(answers, remembered):
            done = _ask(
                backend,
                answers,
                plan,
                limits,
                shard,
                plan_jobs(tracks, plan, shard) if ask else iter(()),
                lambda progress: on_progress(progress, total),
                retry_refused=retry_refused,
            )
        spend = answers.spend()
        cost = None if spend.unpriced else f"{spend.cost / 10**12:.6f}"
        pipeline |= {
            "finished": _now(),
            "tracks_digest": tracks_digest(tracks),
            "requests_sent": done.sent,
            "answers_bought": done.answers,
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "store_requests": spend.requests,
            "store_tokens": spend.tokens,
            "store_cost_usd": cost,
        }
        ledger = finish_table(_settled_groups(tracks, plan, answers, shard), output, pipeline)
        answers.end_run(run, ledger.to_dict())
    return _summary(output, count, ledger, done, cost)


def _summary(output: Path, tracks: int, ledger: Ledger, done: AskProgress, cost: str | None) -> CaptioningSummary:
    return CaptioningSummary(
        str(output),
        tracks,
        ledger.rows,
        dict(ledger.outcomes),
        ledger.template_fallbacks,
        done.sent,
        done.answers,
        done.reused,
        done.prompt_tokens,
        done.completion_tokens,
        cost,
        ledger.to_dict(),
    )


def _ask(
    backend: Backend,
    answers: AnswerStore,
    plan: AskPlan,
    limits: RunLimits,
    shard: Shard,
    jobs: Iterator[CaptionJob],
    on_progress: Callable[[AskProgress], None],
    *,
    retry_refused: bool,
) -> AskProgress:
    share = Fraction(1, shard.of)
    engine = Engine(
        backend,
        answers,
        plan,
        Budget(limits.budget, limits.price, answers.spend(), share, model=plan.model),
        on_progress,
        retry_refused,
        RateBuckets(limits.requests_per_minute, limits.tokens_per_minute, float(share)),
        CircuitBreaker(limits.patience_s),
    )
    return engine.run(jobs)


def ask_in_batches(
    tracks: Path,
    store: Path,
    connect: Callable[[], Backend],
    plan: AskPlan,
    limits: RunLimits,
    shard: Shard = Shard(),
    *,
    submit: bool,
    give_up: bool = False,
    retry_refused: bool = False,
    remembered: MutableMapping[str, str] | None = None,
    interval: float = POLL_INTERVAL_S,
    on_progress: Callable[[BatchProgress], None] = lambda progress: None,
) -> list[BatchOutcome]:
    """Read the batches of an earlier run and, with `submit`, hand in what is missing (see `batch_run.run_batches`).

    One request of each instruction is asked online before the first batch: it tells what the endpoint takes, so that
    no batch of 50,000 fails for its form. Does nothing when there is nothing to read and nothing to hand in.
    `connect` makes the backend, anew for each event loop; batches need a `ChatBackend`.
    """
    count = _check_tracks(tracks)
    with AnswerStore(store) as answers, answers.sole_writer():
        if not submit and not has_unfinished(answers, plan.provider):
            return []
        backend = connect()
        if not isinstance(backend, ChatBackend):
            raise UsageError("--batch", f"is nothing for --backend {plan.backend}", "use --backend openai")
        facts = _pipeline(plan.backend, count, _now()) | _plan_facts(plan, shard)
        answers.start_run(plan.signature, plan.facts, _job_count(tracks, count, plan, shard), facts)
        with _remembering(answers, remembered):
            if submit:
                first = (
                    next(_of_instruction(plan_jobs(tracks, plan, shard), name), None) for name in plan.instructions
                )
                asked = iter([job for job in first if job is not None])
                _ask(connect(), answers, plan, limits, shard, asked, lambda progress: None, retry_refused=retry_refused)
            return run_batches(
                lambda: plan_jobs(tracks, plan, shard),
                answers,
                backend.client,
                plan,
                limits.budget.divided(shard.of),
                limits.price,
                backend.body,
                submit=submit,
                give_up=give_up,
                retry_refused=retry_refused,
                interval=interval,
                on_progress=on_progress,
            )


def _of_instruction(jobs: Iterator[CaptionJob], instruction: str) -> Iterator[CaptionJob]:
    return (job for job in jobs if job.instruction == instruction and job.track.tags)


@contextmanager
def _remembering(answers: AnswerStore, remembered: MutableMapping[str, str] | None) -> Iterator[None]:
    """Let a backend begin with what was learnt of its endpoints before, and keep what it learns."""
    if remembered is not None:
        remembered.update(json.loads(answers.setting(RUNGS_SETTING) or "{}"))
    try:
        yield
    finally:
        if remembered:
            answers.set(RUNGS_SETTING, json.dumps(dict(remembered), sort_keys=True))


def write_batch_requests(
    tracks: Path, store: Path, plan: AskPlan, folder: Path, shard: Shard = Shard(), rung: str = "json_schema"
) -> list[BatchFile]:
    """Write every missing request to batch files in `folder`, for `vllm run-batch`; nothing is sent or reserved."""
    _check_tracks(tracks)
    with AnswerStore(store) as answers:
        requests = missing_requests(plan_jobs(tracks, plan, shard), plan, answers)
        return write_batch_files(requests, folder, body=lambda request: chat_body(request, rung))


def take_batch_results(store: Path, folder: Path, limits: RunLimits) -> ResultReport:
    """Put what `vllm run-batch` answered to the files in `folder` into the store."""
    with AnswerStore(store) as answers, answers.sole_writer():
        return read_offline_batches(folder, answers, limits.price)


def caption_with_baseline(tracks: Path, output: Path, backend: str) -> CaptioningSummary:
    """Write the captions of a baseline (`tag-concat` or `template`). Raises `TableError`, `UsageError`."""
    if backend not in BASELINES:
        raise UsageError(f"--backend {backend}", "is no baseline", f"choose from {', '.join(BASELINES)}")
    count = _check_tracks(tracks)
    pipeline = _pipeline(backend, count, _now()) | {"tracks_digest": tracks_digest(tracks)}
    ledger = finish_table(([baseline_row(track, backend)] for track in read_tracks(tracks)), output, pipeline)
    return _summary(output, count, ledger, AskProgress(), None)


def caption_with_grammar(
    tracks: Path,
    output: Path,
    instructions: Sequence[str] = INSTRUCTIONS,
    *,
    seed: int = 0,
    share_identical: bool = False,
    fallback: bool = True,
    keep_from: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CaptioningSummary:
    """Write the captions of the grammar for every track and instruction; no model is asked and no store is made.

    Rows of the captions table `keep_from` that a model wrote and that were kept stay as they are, so that the grammar
    writes only the rest. `on_progress` gets the tracks done and their number. Raises `TableError`.
    """
    count = _check_tracks(tracks)
    keep = model_rows(keep_from) if keep_from else {}
    pipeline = _pipeline(GRAMMAR, count, _now()) | {
        "tracks_digest": tracks_digest(tracks),
        "model": GRAMMAR,
        "wording": GRAMMAR,
        "wording_version": GRAMMAR_VERSION,
        "checks_version": CHECKS_VERSION,
        "instructions": list(instructions),
        "seed": seed,
        "share_identical": share_identical,
        "template_fallback": fallback,
        "rows_of_a_model": len(keep),
    }
    groups = grammar_groups(
        read_tracks(tracks, JOB_COLUMNS),
        instructions,
        seed=seed,
        share_identical=share_identical,
        fallback=fallback,
        keep=keep,
    )
    ledger = finish_table(_counted(groups, count, on_progress), output, pipeline)
    return _summary(output, count, ledger, AskProgress(), None)


def _counted(
    groups: Iterator[list[CaptionRow]], total: int, on_progress: Callable[[int, int], None]
) -> Iterator[list[CaptionRow]]:
    for done, group in enumerate(groups, start=1):
        yield group
        if done % GROUPS_SHOWN == 0 or done == total:
            on_progress(done, total)


def _settled_row(job: CaptionJob, plan: AskPlan, answers: AnswerStore) -> CaptionRow:
    """What became of a job: from its verdict, or from what was recorded of its failures."""
    if not job.track.tags:
        return skipped_row(job, plan)
    verdict = answers.verdict(verdict_key(job, plan, first_key(job, plan)))
    if verdict is not None:
        answer = answers.answer(verdict.request_key)
        assert answer is not None  # a verdict rests on a stored answer
        return with_fallback(row_of(verdict, job, plan, answer), job.track, plan)
    step = next_step(job, plan, answers.find)
    if isinstance(step, CaptionRequest):
        step = failed_row(job, plan, step, answers.faults(step.key))
    return with_fallback(step, job.track, plan)


def _settled_groups(tracks: Path, plan: AskPlan, answers: AnswerStore, shard: Shard) -> Iterator[list[CaptionRow]]:
    for track in read_tracks(tracks, JOB_COLUMNS):
        jobs = (CaptionJob(track, instruction) for instruction in plan.instructions)
        yield [
            _settled_row(job, plan, answers)
            for job in jobs
            if shard.of == 1 or shard_of(job, plan, shard.of) == shard.index
        ]
