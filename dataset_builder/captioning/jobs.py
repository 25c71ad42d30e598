"""What is to be asked for one (track, instruction), given what the store already holds: a pure function.

The same rule drives the engine (what to ask next) and the table (what became of it), so a finished store yields its
table without a request, and a killed run asks only for what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.parsing import PARSER_VERSION, ParseFailure, parse_answer
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.faithfulness import check_caption, has_loop
from dataset_builder.instructions import render_prompt, tag_concat_caption, template_caption
from dataset_builder.tracks import TaggedTrack

MAX_ASKS = 3  # the first question and two more after an answer that failed its parse or its checks
REASK_TEMPERATURE = 0.7  # a greedy model would repeat its answer word for word
MAX_TOKENS = {"writing": 256, "summary": 256, "paraphrase": 256, "attribute_prediction": 512}
SMALL_MAX_TOKENS = {"writing": 96, "summary": 96, "paraphrase": 96, "attribute_prediction": 128}
BASELINES = {"tag-concat": ("tag_concat", tag_concat_caption), "template": ("template", template_caption)}


@dataclass(frozen=True)
class AskPlan:
    """Who is asked and how; equal for all rows of a run. `temperature` None leaves it to the server."""

    backend: str
    provider: str
    model: str
    wording: str
    temperature: float | None
    instructions: tuple[str, ...]
    fallback: bool = True  # put the template caption in the place of a rejected answer
    token_limit: int | None = None  # None: by instruction

    def max_tokens(self, instruction: str) -> int:
        """The longest answer that is paid for; the few-shot wording asks for one short sentence."""
        if self.token_limit is not None:
            return self.token_limit
        return (SMALL_MAX_TOKENS if self.wording == "small" else MAX_TOKENS)[instruction]


@dataclass(frozen=True)
class CaptionJob:
    """One instruction for one track."""

    track: TaggedTrack
    instruction: str


Lookup = Callable[[str], "Answer | None"]


def next_step(job: CaptionJob, plan: AskPlan, answer_of: Lookup) -> CaptionRequest | CaptionRow:
    """The request to send next for `job`, or the finished row when no further answer is needed."""
    if not job.track.tags:
        return CaptionRow(
            job.track.track_id, job.instruction, None, "skipped_no_tags", "the track has no tags", backend=plan.backend
        )
    prompt = render_prompt(job.instruction, job.track.tags, plan.wording)
    sampling = Sampling(plan.max_tokens(job.instruction), plan.temperature)
    most_tokens = 2 * sampling.max_tokens  # an answer that was cut off is asked once more with twice the room
    last: CaptionRow | None = None
    said: set[str] = set()
    for ask in range(MAX_ASKS):
        request = CaptionRequest(plan.provider, plan.model, prompt, sampling, job.track.track_id)
        answer = answer_of(request.key)
        if answer is None:
            return request
        row, cut_off = _read(job, plan, request, answer, ask + 1)
        if row.outcome == "ok":
            return row
        last = row
        if answer.text in said or (cut_off and sampling.max_tokens == most_tokens):
            break  # the server ignores the seed, or the model does not stop: a further answer is money for nothing
        said.add(answer.text)
        sampling = Sampling(
            most_tokens if cut_off else sampling.max_tokens,
            plan.temperature or (None if plan.temperature is None else REASK_TEMPERATURE),
            seed=ask + 1,
        )
    assert last is not None
    return _with_fallback(last, job, plan)


def failed_row(job: CaptionJob, plan: AskPlan, request: CaptionRequest, faults: Sequence[Fault]) -> CaptionRow:
    """The row of a job whose request got no answer."""
    reason = faults[-1].message if faults else "not asked"
    row = _base_row(job, plan, request, "api_failed", reason, attempts=len(faults))
    return _with_fallback(row, job, plan)


def _base_row(
    job: CaptionJob, plan: AskPlan, request: CaptionRequest, outcome: str, reason: str | None, *, attempts: int
) -> CaptionRow:
    return CaptionRow(
        job.track.track_id,
        job.instruction,
        None,
        outcome,
        reason,
        request_key=request.key,
        backend=plan.backend,
        model_asked=plan.model,
        wording=request.prompt.wording,
        wording_version=request.prompt.wording_version,
        attempts=attempts,
    )


def _read(
    job: CaptionJob, plan: AskPlan, request: CaptionRequest, answer: Answer, attempts: int
) -> tuple[CaptionRow, bool]:
    """The row that `answer` makes, and whether it was cut off at its token limit while still saying something."""
    base = _base_row(job, plan, request, "ok", None, attempts=attempts)
    values = {
        **base.__dict__,
        "model_answered": answer.model,
        "parser_version": PARSER_VERSION,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    if answer.finish_reason == "length" and not has_loop(answer.text.lower().split()):
        values |= {"outcome": "rejected", "reason": f"cut off after {request.sampling.max_tokens} tokens"}
        return CaptionRow(**values), True
    parsed = parse_answer(job.instruction, answer.text)
    if isinstance(parsed, ParseFailure):
        return CaptionRow(**(values | {"outcome": "parse_failed", "reason": parsed.reason})), False
    check = check_caption(parsed.caption, job.track, parsed.new_attributes)
    values |= {
        "new_attributes": parsed.new_attributes,
        "tag_coverage": check.tag_coverage,
        "unsupported": check.unsupported,
    }
    if check.problems:
        values |= {"outcome": "rejected", "reason": "; ".join(check.problems)}
    else:
        values |= {"caption": parsed.caption, "caption_origin": "model"}
    return CaptionRow(**values), False


def _with_fallback(row: CaptionRow, job: CaptionJob, plan: AskPlan) -> CaptionRow:
    """The template caption in the place of the missing one, marked so; outcome and reason stay as they are."""
    if not plan.fallback:
        return row
    return CaptionRow(
        **{
            **row.__dict__,
            "caption": template_caption(job.track.tags),
            "caption_origin": "template",
            "new_attributes": (),
            "tag_coverage": 1.0,
            "unsupported": (),
        }
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
