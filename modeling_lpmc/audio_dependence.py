"""Does a captioner listen? The same captioner on the real clip, on noise, on silence and on another clip's sound.

A captioner that has learnt what captions look like scores well without hearing anything. So each clip is captioned
again with its sound exchanged, every caption is held against the *same* references, and what counts is the difference:
score(real) - score(substituted), clip by clip. A captioner depends on the audio when the real sound is better than each
of the three substitutes with the whole 95 % interval. (All three must hold, so no correction for several tests is due.)

    report = audio_dependence(captions_of, clips, references)     # any function from sounds to captions
    print(report.markdown())
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from caption_metrics.caption_scorer import CaptionScorer
from caption_metrics.fact_columns import FACT_MEASURES
from caption_metrics.measures import CaptionTable, Measure, Numbers
from caption_metrics.significance import LEVEL, SAMPLES, bootstrap, interval, paired_bootstrap
from lpmc_errors import UsageError
from modeling_lpmc.audio_substitutes import CORRUPTIONS, Samples, derangement, silence, white_noise

CaptionFunction = Callable[[Sequence[Samples]], Sequence[str]]

REAL = "real"
SUBSTITUTES = ("noise", "silence", "other clip")  # each without anything of the clip
MEASURES = ("facts_f1", "facts_precision", "facts_recall", "bleu1", "bleu4", "meteor", "rougeL")
JUDGED_BY = ("facts_f1",)  # what no caption wins by its style: blind captions reach 5 to 22 of the 72 of `writing`
FEWEST = 20  # clips; below this an interval of differences is too wide, and too rough, for a verdict
BATCH = 8  # clips captioned together

# What a captioner says that admits to hear no music.
_ABSTAINS = re.compile(
    r"^\s*\[?(?:silence|silent|no (?:music|sound|audio)|noise)\]?\s*\.?\s*$"
    r"|\b(?:no|without any) (?:music|sound|audio) (?:(?:is|was|can be|could be) )?(?:detected|heard|present|found)\b"
    r"|\b(?:nothing (?:is|can be) heard|there is (?:only )?(?:silence|noise))\b|\bonly (?:silence|(?:white )?noise)\b",
    re.IGNORECASE,
)

Verdict = Literal["depends on the audio", "not shown to depend on the audio", "ignores the audio", "too few clips"]


@dataclass(frozen=True)
class Loss:
    """score(real) - score(condition) on one measure, with a paired bootstrap interval and two-sided p."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class ConditionResult:
    """What the captioner said under one condition. Shares are in [0, 1]."""

    name: str
    kind: Literal["real", "substitute", "corruption"]
    scores: Mapping[str, tuple[float | None, float | None, float | None]]  # value, low, high by measure
    losses: Mapping[str, Loss]  # by measure; empty for `real`
    identical: float  # captions equal to the one for the real sound
    different_captions: int
    abstained: float  # captions that say there is no music

    def is_worse(self, measure: str) -> bool:
        """Whether the real sound is better on `measure` with the whole interval."""
        low = self.losses[measure].low
        return low is not None and low > 0


@dataclass(frozen=True)
class AudioDependence:
    """The verdict, what it rests on, and every condition; `n` clips."""

    n: int
    verdict: Verdict
    judged_by: tuple[str, ...]
    failed: tuple[str, ...]  # "noise on facts_f1": substitutes that the real sound does not clearly beat
    conditions: tuple[ConditionResult, ...]
    signatures: Mapping[str, str]
    notes: Mapping[str, str]

    @property
    def depends(self) -> bool:
        return self.verdict == "depends on the audio"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)

    def markdown(self) -> str:
        """A table of scores and one of losses, the verdict, and how the numbers were made."""
        measures = list(self.conditions[0].scores)
        lines = [
            f"**{self.verdict[0].upper()}{self.verdict[1:]}** ({self.n} clips, judged by {', '.join(self.judged_by)}"
            + (f"; not clearly better than {', '.join(self.failed)}" if self.failed else "")
            + ").",
            "",
            "| heard | " + " | ".join(measures) + " | different captions | as for the real sound | abstains |",
            "|" + "---|" * (len(measures) + 4),
        ]
        for one in self.conditions:
            cells = [_cell(*one.scores[name]) for name in measures]
            shares = [f"{one.different_captions}", f"{one.identical:.1%}", f"{one.abstained:.1%}"]
            lines.append("| " + " | ".join([one.name, *cells, *shares]) + " |")
        lines += ["", "| real less | " + " | ".join(measures) + " |", "|" + "---|" * (len(measures) + 1)]
        for one in self.conditions[1:]:
            cells = [_cell(loss.value, loss.low, loss.high) for loss in (one.losses[name] for name in measures)]
            lines.append("| " + " | ".join([one.name, *cells]) + " |")
        lines += ["", "Fractions x100 with 95 % intervals of the bootstrap over clips, paired for differences."]
        lines += [f"- {name}: {text}" for name, text in {**self.signatures, **self.notes}.items()]
        return "\n".join(lines) + "\n"


def audio_dependence(
    caption: CaptionFunction,
    clips: Sequence[Samples],
    references: Sequence[Sequence[str]],
    *,
    sampling_rate: int = 16_000,
    corruptions: Sequence[str] = (),
    judged_by: Sequence[str] = JUDGED_BY,
    samples: int = SAMPLES,
    seed: int = 0,
    batch: int = BATCH,
    known: MutableMapping[tuple[str, int], str] | None = None,
    said: Callable[[str, int, str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AudioDependence:
    """Caption `clips` as they are and under every condition, and compare the captions' scores clip by clip.

    `clips` holds float32 mono sounds (n,) at `sampling_rate` Hz; it may load each when it is asked for. `caption` takes
    a few of them and gives a caption each. `corruptions` are names of `CORRUPTIONS`, which are reported and not judged.
    `known` holds captions of an earlier run by (condition, clip number); `said` is told of every new one, so that a run
    can be resumed. Random, by `seed`: the noise, which clip's sound a clip gets (never its own), the bootstrap.

    Raises `UsageError` for fewer than two clips, references of another number, an unknown corruption or measure, and
    a caption function that does not give one caption a sound; `MissingExtraError` without the extra `metrics`.
    """
    if len(clips) != len(references):
        raise UsageError(
            "references", f"are for {len(references)} clips, there are {len(clips)}", "give one list a clip"
        )
    if len(clips) < 2:
        raise UsageError("clips", f"there are {len(clips)}", "give at least 2, so that one can stand in for the other")
    for name in corruptions:
        if name not in CORRUPTIONS:
            raise UsageError(f"condition {name!r}", "is unknown", f"choose from {', '.join(CORRUPTIONS)}")
    _check_measures(_scored([""], references[:1])[1], judged_by)  # before anything is captioned
    conditions = (REAL, *SUBSTITUTES, *dict.fromkeys(corruptions))
    others = derangement(len(clips), seed)
    captions = {name: [""] * len(clips) for name in conditions}
    done = 0
    for name in conditions:
        for numbers in _batches(len(clips), batch):
            missing = [number for number in numbers if known is None or (name, number) not in known]
            sounds = [_heard(name, clips, number, others, sampling_rate, seed) for number in missing]
            answers = list(caption(sounds)) if sounds else []
            if len(answers) != len(missing):
                raise UsageError(
                    "captioner", f"gave {len(answers)} captions for {len(missing)} sounds", "give one each"
                )
            for number, text in zip(missing, answers, strict=True):
                captions[name][number] = text
                if said:
                    said(name, number, text)
            for number in set(numbers) - set(missing):
                assert known is not None
                captions[name][number] = known[name, number]
            done += len(numbers)
            if progress:
                progress(done, len(conditions) * len(clips))
    same = sum(tuple(references[number]) == tuple(references[others[number]]) for number in range(len(clips)))
    return judge(captions, references, judged_by=judged_by, samples=samples, seed=seed, same_references=same)


def judge(
    captions: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    judged_by: Sequence[str] = JUDGED_BY,
    samples: int = SAMPLES,
    seed: int = 0,
    same_references: int = 0,
) -> AudioDependence:
    """The report on captions that were made elsewhere: by condition, `real` and all of `SUBSTITUTES` among them.

    Raises `UsageError` for a missing condition or an unknown measure, `MissingExtraError` without the extra `metrics`.
    """
    absent = [name for name in (REAL, *SUBSTITUTES) if name not in captions]
    if absent:
        raise UsageError("captions", f"lack those for {', '.join(absent)}", f"give {', '.join((REAL, *SUBSTITUTES))}")
    scored = {name: _scored(texts, references) for name, texts in captions.items()}
    real, measures, signatures, notes = scored[REAL]
    wanted = [measure for measure in measures if measure.name in dict.fromkeys((*MEASURES, *judged_by))]
    _check_measures(measures, judged_by)
    results = [
        _result(name, table, captions[name], captions[REAL], real, wanted, samples, seed)
        for name, (table, _, _, _) in scored.items()
    ]
    substitutes = [one for one in results if one.kind == "substitute"]
    failed = tuple(
        f"{one.name} on {measure}" for one in substitutes for measure in judged_by if not one.is_worse(measure)
    )
    verdict: Verdict
    if len(references) < FEWEST:
        verdict = "too few clips"
    elif not failed:
        verdict = "depends on the audio"
    else:
        verdict = "ignores the audio" if all(one.identical == 1 for one in substitutes) else _NOT_SHOWN
    if same_references:
        notes = {**notes, "other clip": f"{same_references} clips got a sound with the same references"}
    made = f"bootstrap:percentile|paired|level:{LEVEL:g}|samples:{samples}|seed:{seed}|n:{len(references)}"
    return AudioDependence(
        n=len(references),
        verdict=verdict,
        judged_by=tuple(judged_by),
        failed=failed,
        conditions=tuple(results),
        signatures={measure.name: signatures[measure.name] for measure in wanted} | {"intervals": made},
        notes=notes,
    )


_NOT_SHOWN: Verdict = "not shown to depend on the audio"


def _check_measures(measures: Sequence[Measure], judged_by: Sequence[str]) -> None:
    # Not the hallucination rate, which is best where nothing is claimed: `facts_precision`, 1 minus it, is 0 there.
    known = [measure.name for measure in measures if measure.better == "higher"]
    for name in judged_by:
        if name not in known:
            raise UsageError(
                f"measure {name!r}",
                "is not computed here, or better when lower",
                f"choose from {', '.join(known)}",
            )


def abstains(caption: str) -> bool:
    """Whether a caption says that there is no music: "[silence]", "No music detected", "only noise"."""
    return bool(_ABSTAINS.search(caption))


def _batches(n: int, size: int) -> Iterator[range]:
    for first in range(0, n, max(1, size)):
        yield range(first, min(first + max(1, size), n))


def _heard(
    condition: str, clips: Sequence[Samples], number: int, others: Sequence[int] | np.ndarray, rate: int, seed: int
) -> Samples:
    if condition == "other clip":
        return clips[int(others[number])]
    clip = clips[number]
    if condition == "noise":
        return white_noise(clip, number, seed)
    if condition == "silence":
        return silence(clip)
    return CORRUPTIONS[condition](clip, rate) if condition in CORRUPTIONS else clip


Scored = tuple[CaptionTable, tuple[Measure, ...], Mapping[str, str], Mapping[str, str]]


def _scored(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Scored:
    scorer = CaptionScorer()
    scorer.add(list(captions), [list(texts) for texts in references])
    result = scorer.result()
    measures = tuple(_abstention_scores_zero(measure) for measure in result.measures if measure.better != "neither")
    return result.table, measures, {measure.name: measure.signature for measure in measures}, result.notes


_OPEN = {measure.name: measure for measure in FACT_MEASURES if measure.name in ("facts_f1", "facts_precision")}


def _abstention_scores_zero(measure: Measure) -> Measure:
    """Facts of a captioner that claims nothing at all: 0 here, not undefined, as it is compared with one that does."""
    if measure.name not in _OPEN:
        return measure

    def value(*sums: Numbers) -> Numbers:
        return np.nan_to_num(measure.from_sums(*sums), nan=0.0)

    return replace(measure, from_sums=value, signature=f"{measure.signature}|nothing-claimed:0")


def _result(
    name: str,
    table: CaptionTable,
    captions: Sequence[str],
    real_captions: Sequence[str],
    real: CaptionTable,
    measures: Sequence[Measure],
    samples: int,
    seed: int,
) -> ConditionResult:
    sums = table.sums()
    drawn = bootstrap(table, measures, samples=samples, seed=seed)
    scores = {}
    for measure in measures:
        low, high = interval(drawn[measure.name])
        scores[measure.name] = _known(float(measure.value(sums))), _known(low), _known(high)
    losses: dict[str, Loss] = {}
    if name != REAL:
        differences = paired_bootstrap(real, table, measures, samples=samples, seed=seed)
        losses = {
            key: Loss(*(_known(part) for part in (found.value, found.low, found.high, found.p)))
            for key, found in differences.items()
        }
    return ConditionResult(
        name=name,
        kind="real" if name == REAL else "substitute" if name in SUBSTITUTES else "corruption",
        scores=scores,
        losses=losses,
        identical=float(np.mean([one == other for one, other in zip(captions, real_captions, strict=True)])),
        different_captions=len(set(captions)),
        abstained=float(np.mean([abstains(text) for text in captions])),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]")
