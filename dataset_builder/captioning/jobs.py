"""What is to be asked for one (track, instruction), given what the store already holds: pure functions.

The same rule drives the engine (what to ask next) and the table (what became of it), so a finished store yields its
table without a request, and a killed run asks only for what is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any

import numpy as np

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.parsing import PARSER_VERSION, Parsed, ParseFailure, parse_answer
from dataset_builder.captioning.requests import KEY_VERSION, Answer, CaptionRequest, Fault, Sampling, canonical_text
from dataset_builder.captioning.store import AnswerStore, StoredAnswer, Verdict
from dataset_builder.faithfulness import CHECKS_VERSION, check_caption, has_loop
from dataset_builder.instructions import Prompt, Wording, k2c_prompt, tag_concat_caption, template_caption
from dataset_builder.tracks import TaggedTrack

MAX_ASKS = 3  # the first question and two more after an answer that failed its parse or its checks
REASK_TEMPERATURE = 0.7  # a greedy model would repeat its answer word for word
PLAN_FORMAT = 1  # version of the signature of a plan
BASELINES = {"tag-concat": ("tag_concat", tag_concat_caption), "template": ("template", template_caption)}
FAILED_OUTCOMES = ("parse_failed", "rejected", "api_failed")


K2C = "k2c"  # the name of the keyword-to-text baseline, as backend, instruction and wording
K2C_MAX_TOKENS = 64  # of one sentence; the paper's K2C captions have 14.7 words on average


@dataclass(frozen=True)
class KeywordWording:
    """What a keyword-to-text model reads: the keywords alone, no instruction."""

    name: str = K2C
    version: str = k2c_prompt(("tag",)).wording_version

    def render(self, instruction: str, tags: Sequence[str]) -> Prompt:
        """The keywords as the model was trained to read them."""
        return k2c_prompt(tags)

    def max_tokens(self, instruction: str) -> int:
        """The longest answer."""
        return K2C_MAX_TOKENS


@dataclass(frozen=True)
class AskPlan:
    """Who is asked and how; equal for all rows of a run.

    `temperature` None leaves it to the server. `candidates` answers are drawn for every row and the most faithful is
    kept. With `share_identical` tracks whose prompts are equal share one answer. A `baseline` (K2C) is taken as it
    comes: its scores are recorded, nothing is asked again or rejected.
    """

    backend: str
    provider: str
    model: str
    wording: Wording | KeywordWording
    temperature: float | None
    instructions: tuple[str, ...]
    fallback: bool = True  # put the template caption in the place of a rejected answer
    token_limit: int | None = None  # None: by instruction
    top_p: float | None = None
    candidates: int = 1
    share_identical: bool = False
    baseline: bool = False

    def max_tokens(self, instruction: str) -> int:
        """The longest answer that is paid for."""
        return self.token_limit if self.token_limit is not None else self.wording.max_tokens(instruction)

    def sampling(self, instruction: str, ask: int, max_tokens: int) -> Sampling:
        """How answer number `ask` (from 0) is drawn: the first as planned, the others with a seed and some warmth."""
        temperature = self.temperature
        if ask and temperature == 0:
            temperature = REASK_TEMPERATURE
        return Sampling(max_tokens, temperature, self.top_p, seed=ask)

    @cached_property
    def frames(self) -> dict[tuple[str, bool], tuple[str, str] | tuple[()]]:
        """What `first_key` keeps between calls."""
        return {}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything that decides which captions come out, for the signature and for readers."""
        return {
            "plan_format": PLAN_FORMAT,
            "backend": self.backend,
            "provider": self.provider,
            "model": self.model,
            "wording": self.wording.name,
            "wording_version": self.wording.version,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "candidates": self.candidates,
            "share_identical": self.share_identical,
            "key_version": KEY_VERSION,
            "parser_version": PARSER_VERSION,
            "checks_version": CHECKS_VERSION,
            "max_asks": MAX_ASKS,
        }

    @cached_property
    def signature(self) -> str:
        """sha256 of `facts` as canonical JSON: equal for runs that would make the same captions of the same tracks.

        The instructions are no part of it: a run with one more instruction continues the plan.
        """
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class CaptionJob:
    """One instruction for one track."""

    track: TaggedTrack
    instruction: str


Lookup = Callable[[CaptionRequest], "StoredAnswer | None"]

_JUDGE = f"{PARSER_VERSION}/{CHECKS_VERSION}/{MAX_ASKS}"


def first_request(job: CaptionJob, plan: AskPlan) -> CaptionRequest:
    """The request that every other one of a job follows from. The track needs at least one tag."""
    return _request(
        job, plan, plan.wording.render(job.instruction, job.track.tags), 0, plan.max_tokens(job.instruction)
    )


def _request(job: CaptionJob, plan: AskPlan, prompt: Prompt, ask: int, max_tokens: int) -> CaptionRequest:
    return CaptionRequest(
        plan.provider,
        plan.model,
        prompt,
        plan.sampling(job.instruction, ask, max_tokens),
        "" if plan.share_identical else job.track.track_id,
    )


def first_key(job: CaptionJob, plan: AskPlan) -> str:
    """The key of `first_request`, by the parts that all tracks share: ten times as fast, for looking over millions."""
    tags = job.track.tags
    ends = plan.frames.get((job.instruction, len(tags) == 1))
    if ends is None:
        ends = plan.frames[job.instruction, len(tags) == 1] = _frame(job, plan)
    if not ends:
        return first_request(job, plan).key
    variant = "" if plan.share_identical else job.track.track_id
    text = f"{ends[0]}{_escaped(', '.join(tags))}{ends[1]}{encode_basestring(variant)}}}"
    return hashlib.sha256(text.encode()).hexdigest()


def _escaped(text: str) -> str:
    return encode_basestring(text)[1:-1]


def _frame(job: CaptionJob, plan: AskPlan) -> tuple[str, str] | tuple[()]:
    """The canonical text before the tags, and from them to the variant; empty for a wording that does more than join.

    JSON escapes letter by letter, so the escaped parts put together are the escaped whole.
    """
    if not isinstance(plan.wording, Wording):
        return ()
    request = first_request(job, plan)
    joined = ", ".join(job.track.tags)
    marked = replace(job, track=TaggedTrack("", tuple(f"\ue000{number}" for number, _ in enumerate(job.track.tags))))
    before, found, after = first_request(marked, plan).content.partition(", ".join(marked.track.tags))
    if not found or f"{before}{joined}{after}" != request.content:
        return ()
    whole = canonical_text(request.form, "\ue000", request.sampling.seed, "\ue001")
    if whole.count("\ue000") != 1 or whole.count("\ue001") != 1:
        return ()  # the wording itself holds one of the marks
    start, end = whole.split("\ue000")
    return start + _escaped(before), _escaped(after) + end.removesuffix('"\ue001"}')


def verdict_key(job: CaptionJob, plan: AskPlan, first: str) -> bytes:
    """16 bytes that name the verdict on a job: question, judge, and the names that may not leak into the caption.

    `first` is the key of its first request.
    """
    track = job.track
    parts = f"{first}\n{_JUDGE}\n{plan.candidates}\n{plan.baseline}\n{track.track_id!r}\n"
    names = f"{track.title!r}\n{track.artist!r}\n{track.album!r}\n"
    tags = "\x1f".join(track.tags)  # the prompt joins them and does not tell "a, b" from "a", "b"
    return hashlib.blake2b((parts + names + tags).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shard_of(job: CaptionJob, plan: AskPlan, shards: int) -> int:
    """Which of `shards` parts a job belongs to: by the hash of its question, so that no part needs to know another."""
    if job.track.tags:
        number = int(first_key(job, plan)[:16], 16)
    else:
        number = int.from_bytes(hashlib.sha256(f"{job.instruction}\n{job.track.track_id}".encode()).digest()[:8], "big")
    return number % shards


SCAN_SLICE = 500  # jobs that are looked over at once, before anything else gets its turn


def scan_jobs(
    jobs: Iterable[CaptionJob], plan: AskPlan, store: AnswerStore
) -> Iterator[list[tuple[CaptionJob, bytes, bool]]]:
    """(job, verdict key, settled) of all jobs, in slices. A job without tags is settled: nothing is asked for it.

    The verdicts are looked up in a sorted copy of their keys, 16 bytes each, as they were when the scan began: two
    million jobs are looked over in well under a minute.
    """
    known = store.verdict_keys()
    stream = iter(jobs)
    while part := list(itertools.islice(stream, SCAN_SLICE)):
        keys = [verdict_key(job, plan, first_key(job, plan)) if job.track.tags else b"" for job in part]
        settled = _contains(known, keys)
        yield [(job, key, found or not key) for job, key, found in zip(part, keys, settled, strict=True)]


def _contains(known: np.ndarray, keys: Sequence[bytes]) -> list[bool]:
    if not len(known):
        return [False] * len(keys)
    wanted = np.array(keys, dtype="S16")
    places = np.searchsorted(known, wanted)
    places[places == len(known)] = 0
    return (known[places] == wanted).tolist()


def next_step(job: CaptionJob, plan: AskPlan, answer_of: Lookup) -> CaptionRequest | CaptionRow:
    """The request to send next for `job`, or the finished row when no further answer is needed.

    An answer that can't be kept is asked again, at most `MAX_ASKS` times in all; `plan.candidates` answers are drawn
    in any case. Of several, the row comes from the one with the fewest claims that no tag supports, then the highest
    coverage, then the earliest.
    """
    if not job.track.tags:
        return skipped_row(job, plan)
    first = first_request(job, plan)
    prompt, max_tokens = first.prompt, first.sampling.max_tokens
    most_tokens = 2 * max_tokens  # an answer that was cut off is asked once more with twice the room
    rows: list[CaptionRow] = []
    said: set[str] = set()
    repeats = 0
    for ask in range(1 if plan.baseline else max(MAX_ASKS, plan.candidates)):
        if len(rows) >= plan.candidates and any(row.outcome == "ok" for row in rows):
            break
        request = _request(job, plan, prompt, ask, max_tokens) if ask else first
        found = answer_of(request)
        if found is None:
            return request
        answer = found.answer
        row, cut_off = _read(job, plan, request, found)
        rows.append(row)
        if cut_off and max_tokens == most_tokens:
            break  # the model does not stop
        repeats += answer.text in said
        if repeats > (plan.candidates > 1):
            break  # the server ignores the seed: a further answer is money for nothing
        said.add(answer.text)
        if cut_off:
            max_tokens = most_tokens
    best = min(rows, key=_unfaithfulness)
    return best if len(rows) == 1 else replace(best, attempts=len(rows))


def _unfaithfulness(row: CaptionRow) -> tuple[bool, bool, int, float, int]:
    """Sorts rows of one job, best first; `min` keeps the earliest of equals, and of failures the last one tried."""
    failed = row.outcome != "ok"
    return (
        failed,
        row.outcome == "parse_failed",
        len(row.unsupported),
        -(row.tag_coverage or 0.0),
        -(row.seed or 0) if failed else len(row.soft),
    )


def skipped_row(job: CaptionJob, plan: AskPlan) -> CaptionRow:
    """The row of a track without tags: no request is sent for it."""
    return CaptionRow(
        job.track.track_id,
        job.instruction,
        None,
        "skipped_no_tags",
        "the track has no tags",
        backend=plan.backend,
        provider=plan.provider,
    )


def failed_row(job: CaptionJob, plan: AskPlan, request: CaptionRequest, faults: Sequence[Fault]) -> CaptionRow:
    """The row of a job whose request got no answer."""
    reason = faults[-1].message if faults else "not asked"
    return _row(job, plan, request, "api_failed", request_key=request.key, reason=reason, attempts=len(faults))


def _row(job: CaptionJob, plan: AskPlan, request: CaptionRequest, outcome: str, **values: Any) -> CaptionRow:
    return CaptionRow(
        job.track.track_id,
        job.instruction,
        values.pop("caption", None),
        outcome,
        backend=plan.backend,
        provider=plan.provider,
        model_asked=plan.model,
        wording=request.prompt.wording,
        wording_version=request.prompt.wording_version,
        seed=request.sampling.seed,
        **values,
    )


def _read(job: CaptionJob, plan: AskPlan, request: CaptionRequest, found: StoredAnswer) -> tuple[CaptionRow, bool]:
    """The row that an answer makes, and whether it was cut off at its token limit while still saying something."""
    answer = found.answer
    values: dict[str, Any] = {
        "request_key": found.key,
        "attempts": 1,
        "model_answered": answer.model,
        "parser_version": PARSER_VERSION,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    cut_off = answer.finish_reason == "length" and not has_loop(answer.text.lower().split())
    if cut_off and not plan.baseline:
        values["reason"] = f"cut off after {request.sampling.max_tokens} tokens"
        return _row(job, plan, request, "rejected", **values), True
    parsed = parse_answer(job.instruction, answer.text)
    if isinstance(parsed, ParseFailure):
        return _row(job, plan, request, "parse_failed", reason=parsed.reason, **values), False
    # Attribute prediction asks for additions. Where the model says which (a dictionary), the caption is held to them;
    # in prose it can't, and what no tag supports is a column for readers to filter by.
    may_add = job.instruction == "attribute_prediction" and not parsed.new_attributes
    check = check_caption(parsed.caption, job.track, parsed.new_attributes, may_add=may_add)
    values |= {
        "new_attributes": parsed.new_attributes,
        "new_attributes_used": parsed.new_attributes_used,
        "tag_coverage": check.tag_coverage,
        "unsupported": check.unsupported,
        "facts": check.facts,
        "soft": check.soft,
    }
    if check.problems and not plan.baseline:
        return _row(job, plan, request, "rejected", reason="; ".join(check.problems), **values), False
    origin = "baseline" if plan.baseline else "model"
    return _row(job, plan, request, "ok", caption=parsed.caption, caption_origin=origin, **values), False


def with_fallback(row: CaptionRow, track: TaggedTrack, plan: AskPlan) -> CaptionRow:
    """The template caption in the place of a missing one, marked so; outcome and reason stay as they are."""
    if not plan.fallback or plan.baseline or row.outcome not in FAILED_OUTCOMES:
        return row
    return replace(
        row,
        caption=template_caption(track.tags),
        caption_origin="template",
        new_attributes=(),
        new_attributes_used=(),
        tag_coverage=1.0,
        unsupported=(),
        facts=(),
        soft=(),
    )


# --- verdicts: a row without what the store already knows ---------------------------------------------------------

_JUDGED = (
    "reason",
    "caption_origin",
    "new_attributes",
    "new_attributes_used",
    "attempts",
    "seed",
    "tag_coverage",
    "unsupported",
    "facts",
    "soft",
)


def verdict_of(row: CaptionRow) -> Verdict:
    """The part of a judged row that the store keeps."""
    assert row.request_key is not None
    record = {name: getattr(row, name) for name in _JUDGED if getattr(row, name) not in (None, ())}
    return Verdict(row.outcome, row.request_key, record)


def row_of(verdict: Verdict, job: CaptionJob, plan: AskPlan, answer: Answer) -> CaptionRow:
    """The row that a verdict and its answer make: the inverse of `verdict_of`."""
    record: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in verdict.record.items()
    }
    caption = None
    if verdict.outcome == "ok":
        parsed = parse_answer(job.instruction, answer.text)
        assert isinstance(parsed, Parsed)  # the verdict's key covers the parser's version
        caption = parsed.caption
    return CaptionRow(
        job.track.track_id,
        job.instruction,
        caption,
        verdict.outcome,
        request_key=verdict.request_key,
        backend=plan.backend,
        provider=plan.provider,
        model_asked=plan.model,
        model_answered=answer.model,
        wording=plan.wording.name,
        wording_version=plan.wording.version,
        parser_version=PARSER_VERSION,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        **record,
    )


def baseline_row(track: TaggedTrack, backend: str) -> CaptionRow:
    """The row of a baseline (`tag-concat`, `template`): no model, no request."""
    instruction, write = BASELINES[backend]
    if not track.tags:
        return CaptionRow(
            track.track_id, instruction, None, "skipped_no_tags", "the track has no tags", backend=backend
        )
    return CaptionRow(
        track.track_id,
        instruction,
        write(track.tags),
        "ok",
        caption_origin="baseline",
        backend=backend,
        wording=backend,
        tag_coverage=1.0,
    )
