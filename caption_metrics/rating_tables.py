"""The sections of a listening study's report: lines and tables, which the terminal and Markdown print alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from caption_metrics.agreement import Agreement
from caption_metrics.preference import ALPHA, PRIOR_SD
from caption_metrics.rating_analysis import QuestionResult, RatingAnalysis, Results
from caption_metrics.rating_counts import Share
from caption_metrics.ratings import NAMED, QUESTIONS

SANITY = {
    "passed": "Sanity check passed: raters prefer people's captions, or some system's, to the blind one.",
    "broken": "Sanity check FAILED: the study is broken, whatever stands below.",
    "not checked": "Sanity check not possible: the blind caption was not rated.",
}
HOW = (
    "Shares have Wilson's interval, which takes ratings as independent, as the sign test does. 'raters, clips' is the "
    "interval of the win rate without ties for as many independent ratings as these are worth: the variance over "
    "raters, plus that over clips, minus that over both, from resamples. Strengths are log-odds of being preferred "
    "(Davidson's model with ties and sides), with the same variance (a score bootstrap) and Student's t. Holm corrects "
    "over the pairs of a question. Ranks left open are those that no corrected test excludes at "
    f"{ALPHA:g}."
)


@dataclass(frozen=True)
class Section:
    """A heading, lines of text and a table; any may be empty. A `detail` is for files, not for the terminal."""

    heading: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    detail: bool = False


def signature(analysis: RatingAnalysis) -> str:
    """How the numbers were computed, in the way of sacrebleu."""
    try:
        release = version("lp-musiccaps")
    except PackageNotFoundError:
        release = "source"
    return (
        f"davidson:ties+side|prior_sd:{PRIOR_SD:g}|variance:raters+clips-both,score|bootstrap:{analysis.samples}"
        f"|seed:{analysis.seed}|level:95|alpha:krippendorff|shares:wilson|tests:holm|version:{release}"
    )


def sections(analysis: RatingAnalysis) -> list[Section]:
    """The report in order: what was read and warnings, each question, the raters, how it was computed."""
    lines = analysis.lines
    read = (
        f"{lines['real']:,} real ratings"
        + (f" of {analysis.planned:,} planned" if analysis.planned is not None else "")
        + f", {lines['gold']:,} gold and {lines['duplicate']:,} duplicates (which enter no count below), "
        f"{lines['unusable']:,} unusable; {analysis.everyone.raters:,} raters, {analysis.everyone.items:,} clips."
    )
    warnings = (f"Warning: {warning}." for warning in analysis.warnings)
    told = [Section("", (read, SANITY[analysis.sanity.verdict], *warnings))]
    if analysis.problems:
        named = [f"{where}: {problem}" for where, problem in analysis.problems[:NAMED]]
        more = len(analysis.problems) - len(named)
        told.append(Section("Left out", (*named, *([f"... and {more:,} more, in the JSON"] if more else []))))
    mark = " (SIMULATED)" if analysis.simulated else ""
    excluded = len(analysis.quality.excluded)
    if analysis.kept is not None and excluded:
        told += _result_sections(analysis.kept, f", {excluded} raters excluded{mark}")
        told.append(_with_and_without(analysis.kept, analysis.everyone, mark))
        told += (replace(part, detail=True) for part in _result_sections(analysis.everyone, f", all raters{mark}"))
    else:
        told += _result_sections(analysis.everyone, mark)
    told += _quality_sections(analysis)
    told.append(Section("How it was computed", (HOW, f"Signature: {signature(analysis)}")))
    return told


def _result_sections(results: Results, who: str) -> Iterator[Section]:
    for result in results.questions:
        yield from _question_sections(result, f"{QUESTIONS[result.question].capitalize()}{who}")
    if results.claims:
        yield Section(
            f"Claims that raters left unticked{who}: human precision",
            ("Intervals count claims as what they are worth over raters and clips.",),
            ("system", "category", "claims shown", "right %"),
            tuple((row.system, row.category, f"{row.right.of:,}", _share(row.right)) for row in results.claims),
        )


def _question_sections(result: QuestionResult, name: str) -> Iterator[Section]:
    yield Section(
        f"{name}: win, tie, lose",
        (),
        ("system", "against", "ratings", "win %", "tie %", "lose %"),
        tuple(
            (row.system, row.opponent, f"{row.ratings:,}", *map(_share, (row.win, row.tie, row.lose)))
            for row in result.pairs
        ),
    )
    yield Section(
        f"{name}: win rate",
        (),
        ("system", "against", "win or tie %", "win % without ties", "raters, clips", "sign test p", "Holm"),
        tuple(
            (
                *(row.system, row.opponent, _share(row.win_or_tie), _share(row.win_rate)),
                *(_interval(row.clustered), _p(row.sign_test), _p(row.sign_test_holm)),
            )
            for row in result.pairs
        ),
    )
    told = result.preference
    equals = f"{100 * told.ties_between_equals:.0f} % are ties, of the others the left one is preferred in "
    equals += f"{100 * told.left_between_equals:.1f} %"
    if told.left_low is not None and told.left_high is not None:
        equals += f" ({100 * told.left_low:.1f}–{100 * told.left_high:.1f})"
    yield Section(
        f"{name}: strength above {told.reference} (log-odds)",
        (
            f"Agreement between raters, Krippendorff's alpha: nominal {_alpha(result.nominal)}; ordinal "
            f"{_alpha(result.ordinal)}. {result.nominal.units:,} units with two or more raters.",
            f"Sides: the left one is preferred in {_share(result.left)} % of answers without ties, p "
            f"{_p(result.left_p)}. Between captions of equal strength {equals}.",
        ),
        ("system", "strength", "95 % interval", "rank", "ranks left open"),
        tuple(
            (
                *(row.system, f"{row.value:+.2f}"),
                "" if row.system == told.reference else _signed(row.low, row.high),
                *(str(row.rank), f"{row.rank_best} to {row.rank_worst}"),
            )
            for row in told.strengths
        ),
    )
    if len(told.differences) > 1:
        yield Section(
            f"{name}: every two systems",
            (),
            ("first", "second", "difference", "95 % interval", "p", "Holm"),
            tuple(
                (
                    *(row.first, row.second, f"{row.value:+.2f}", _signed(row.low, row.high)),
                    *(_p(row.p), _p(row.p_holm)),
                )
                for row in told.differences
            ),
            detail=True,
        )


def _with_and_without(kept: Results, everyone: Results, mark: str) -> Section:
    """The win rates and strengths of both, side by side."""
    rows = []
    own = {result.question: result for result in kept.questions}
    for other in everyone.questions:
        found = own.get(other.question)
        rates = {(row.system, row.opponent): row.win_rate for row in found.pairs} if found else {}
        theirs = {row.system: row.value for row in found.preference.strengths} if found else {}
        everyones = {row.system: row.value for row in other.preference.strengths}
        for row in other.pairs:
            without = rates.get((row.system, row.opponent))
            rows.append(
                (
                    *(row.system, row.opponent, other.question),
                    *(_number(part.value if part else None, 100) for part in (without, row.win_rate)),
                    *(_number(told.get(row.system)) for told in (theirs, everyones)),
                )
            )
    return Section(
        f"With and without the excluded raters{mark}",
        ("Win % without ties, and strength.",),
        ("system", "against", "question", "win % without them", "with them", "strength without", "with"),
        tuple(rows),
    )


def _quality_sections(analysis: RatingAnalysis) -> Iterator[Section]:
    quality = analysis.quality
    excluded = [rater for rater in quality.raters if rater.excluded_for]
    own = [f"{QUESTIONS[question]}: {_alpha(told)}" for question, told in quality.intra_rater.items()]
    yield Section(
        "Raters",
        (
            f"Rules, fixed beforehand. A rater is excluded for: {'; '.join(quality.rules.describe())}.",
            f"Excluded: {len(excluded)} of {len(quality.raters)}."
            + "".join(f" {rater.rater}: {', '.join(rater.excluded_for)}." for rater in excluded[:NAMED])
            + (f" And {len(excluded) - NAMED} more." if len(excluded) > NAMED else ""),
            f"Gold answers right: {_share(quality.gold)} %.",
            f"Answers to duplicates: the same again {_share(quality.repeated)} %, the other caption preferred "
            f"{_share(quality.reversed)} %. Alpha of raters with themselves: {'; '.join(own)}.",
        ),
    )
    yield Section(
        "Each rater",
        (),
        (
            *("rater", "real", "gold right", "same again", "reversed", "median s"),
            *("left %", "ties %", "familiarity", "excluded for"),
        ),
        tuple(
            (
                *(rater.rater, f"{rater.real:,}"),
                *(f"{part.count}/{part.of}" for part in (rater.gold, rater.repeated, rater.reversed)),
                "-" if rater.median_seconds is None else f"{rater.median_seconds:.0f}",
                *("-" if part.value is None else f"{100 * part.value:.0f}" for part in (rater.left, rater.ties)),
                "-" if rater.familiarity is None else str(rater.familiarity),
                "; ".join(rater.excluded_for),
            )
            for rater in quality.raters
        ),
        detail=True,
    )


def _number(value: float | None, times: int = 1) -> str:
    return "-" if value is None else f"{times * value:.1f}" if times > 1 else f"{value:+.2f}"


def _share(part: Share) -> str:
    return "-" if part.value is None else f"{100 * part.value:.1f} ({_interval(part)})"


def _interval(part: Share) -> str:
    return "-" if part.low is None or part.high is None else f"{100 * part.low:.1f}–{100 * part.high:.1f}"


def _signed(low: float | None, high: float | None) -> str:
    return "not bounded" if low is None or high is None else f"{low:+.2f} to {high:+.2f}"


def _alpha(told: Agreement) -> str:
    if told.alpha is None:
        return f"none ({told.note})"
    if told.low is None or told.high is None:
        return f"{told.alpha:.2f} ({told.note})"
    return f"{told.alpha:.2f} ({told.low:.2f} to {told.high:.2f})"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"
