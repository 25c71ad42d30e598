"""Tags in, captions out: plans the run, lets the engine ask what is missing, and writes the captions table."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dataset_builder.captioning.captions_table import CaptionRow, write_captions
from dataset_builder.captioning.engine import AskProgress, Backend, Engine
from dataset_builder.captioning.jobs import BASELINES, AskPlan, CaptionJob, baseline_row, failed_row, next_step
from dataset_builder.captioning.parsing import PARSER_VERSION
from dataset_builder.captioning.requests import KEY_VERSION
from dataset_builder.captioning.store import AnswerStore
from dataset_builder.instructions import INSTRUCTIONS, WORDINGS
from dataset_builder.tracks import count_tracks, read_tracks
from lpmc_errors import TableError, UsageError


@dataclass(frozen=True)
class CaptioningSummary:
    """What a run did. `outcomes` counts rows by outcome and sums to `rows` = tracks x instructions."""

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

    @property
    def failed(self) -> int:
        """Rows without an accepted caption (tracks without tags are no failure: they are skipped as announced)."""
        return sum(self.outcomes.get(name, 0) for name in ("parse_failed", "rejected", "api_failed"))


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


def make_plan(
    backend: Backend,
    instructions: Sequence[str],
    *,
    wording: str | None = None,
    temperature: float | None = None,
    fallback: bool = True,
    token_limit: int | None = None,
) -> AskPlan:
    """The plan of a run; the local backend defaults to the few-shot wording and greedy answers.

    Raises `UsageError` for an unknown wording.
    """
    local = backend.name == "local"
    wording = wording or ("small" if local else "released")
    if wording not in WORDINGS:
        raise UsageError(f"--wording {wording}", "is unknown", f"choose from {', '.join(WORDINGS)}")
    if temperature is None and local:
        temperature = 0.0
    return AskPlan(
        backend.name, backend.provider, backend.model, wording, temperature, tuple(instructions), fallback, token_limit
    )


def _jobs(tracks: Path, instructions: Sequence[str]) -> Iterator[CaptionJob]:
    # One instruction after another: a batch then shares its instruction, and a local model its cached examples.
    for instruction in instructions:
        for track in read_tracks(tracks):
            yield CaptionJob(track, instruction)


def _check_tracks(tracks: Path) -> int:
    count = count_tracks(tracks)
    if not count:
        raise TableError(tracks, "has no rows", "give a tracks table with at least one track")
    if not any(track.tags for track in read_tracks(tracks)):
        raise TableError(
            tracks, f"none of its {count} tracks has a tag", "captions are made from tags: add them and run again"
        )
    return count


def _pipeline(plan: AskPlan | None, backend: str, tracks: int, started: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "format": 1,
        "lp_musiccaps": version("lp-musiccaps"),
        "python": platform.python_version(),
        "backend": backend,
        "started": started,
        "tracks": tracks,
    }
    if plan is not None:
        facts |= {
            "provider": plan.provider,
            "model": plan.model,
            "wording": plan.wording,
            "wording_version": WORDINGS[plan.wording],
            "temperature": plan.temperature,
            "max_tokens": {name: plan.max_tokens(name) for name in plan.instructions},
            "instructions": list(plan.instructions),
            "parser_version": PARSER_VERSION,
            "key_version": KEY_VERSION,
            "template_fallback": plan.fallback,
        }
    return facts


def caption_tracks(
    tracks: Path,
    output: Path,
    store: Path,
    backend: Backend,
    plan: AskPlan,
    on_progress: Callable[[AskProgress, int], None] = lambda progress, total: None,
    *,
    retry_refused: bool = False,
) -> CaptioningSummary:
    """Ask `backend` for every caption that `store` does not hold yet, then write the captions table to `output`.

    `on_progress` gets the counts and the number of (track, instruction) pairs. `retry_refused` sends requests again
    that the endpoint refused in an earlier run. Raises `TableError` for an unusable
    tracks table, `EndpointError` and `Interrupted` as the engine does; answers stored until then are kept.
    """
    count = _check_tracks(tracks)
    total = count * len(plan.instructions)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with AnswerStore(store) as answers, answers.sole_writer():
        engine = Engine(backend, answers, plan, lambda progress: on_progress(progress, total), retry_refused)
        done = engine.run(_jobs(tracks, plan.instructions))
        pipeline = _pipeline(plan, backend.name, count, started)
        outcomes, fallbacks = _write(_settled_rows(tracks, plan, answers), output, pipeline)
    return CaptioningSummary(
        str(output),
        count,
        sum(outcomes.values()),
        dict(outcomes),
        fallbacks,
        done.sent,
        done.answers,
        done.reused,
        done.prompt_tokens,
        done.completion_tokens,
    )


def caption_with_baseline(tracks: Path, output: Path, backend: str) -> CaptioningSummary:
    """Write the captions of a baseline (`tag-concat` or `template`). Raises `TableError`, `UsageError`."""
    if backend not in BASELINES:
        raise UsageError(f"--backend {backend}", "is no baseline", f"choose from {', '.join(BASELINES)}")
    count = _check_tracks(tracks)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    rows = (baseline_row(track, backend) for track in read_tracks(tracks))
    outcomes, _ = _write(rows, output, _pipeline(None, backend, count, started))
    return CaptioningSummary(str(output), count, count, dict(outcomes), 0, 0, 0, 0, 0, 0)


def _settled_rows(tracks: Path, plan: AskPlan, answers: AnswerStore) -> Iterator[CaptionRow]:
    for track in read_tracks(tracks):
        for instruction in plan.instructions:
            job = CaptionJob(track, instruction)
            step = next_step(job, plan, answers.answer)
            yield step if isinstance(step, CaptionRow) else failed_row(job, plan, step, answers.faults(step.key))


def _write(rows: Iterator[CaptionRow], output: Path, pipeline: dict[str, Any]) -> tuple[Counter[str], int]:
    outcomes: Counter[str] = Counter()
    fallbacks = 0

    def counted() -> Iterator[CaptionRow]:
        nonlocal fallbacks
        for row in rows:
            outcomes[row.outcome] += 1
            fallbacks += row.caption_origin == "template"
            yield row
        pipeline["outcomes"] = dict(outcomes)
        pipeline["template_fallbacks"] = fallbacks

    write_captions(counted(), output, pipeline)
    return outcomes, fallbacks
