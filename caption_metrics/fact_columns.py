"""Facts and tags as columns of numbers: what each caption claimed and got right, to be summed or drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caption_metrics.facts import (
    CATEGORIES,
    CaptionMeans,
    FactCounts,
    FactScore,
    FactScores,
    fact_counts,
    tag_coverage,
    unsupported_facts,
)
from caption_metrics.lexicon import LEXICON
from caption_metrics.measures import COUNT, Measure, Numbers, ratio

LEXICON_VERSION = hashlib.sha256(LEXICON.read_bytes()).hexdigest()[:8]
FACTS_SIGNATURE = f"lexicon:sha256-{LEXICON_VERSION}|match:hierarchical|agg:micro"
CAPTION_SIGNATURE = f"lexicon:sha256-{LEXICON_VERSION}|match:hierarchical|agg:mean-over-captions"
TAGS_SIGNATURE = "covered:substring-or-half-of-5-letter-stems-or-facts|agg:mean-over-captions"

PARTS = FactCounts._fields
UNSUPPORTED = "facts_unsupported_caption"  # 1 for a caption that claims anything its references do not support
CLAIMING, STATED, EITHER = "facts_captions_claiming", "facts_captions_stated", "facts_captions_either"
SHARES = {"precision": CLAIMING, "recall": STATED, "f1": EITHER}  # of one caption, and the captions that have one
FACT_COLUMNS = (
    *(f"facts_{category}_{part}" for category in CATEGORIES for part in PARTS),
    *(UNSUPPORTED, CLAIMING, STATED, EITHER),
    *(f"facts_caption_{share}" for share in SHARES),
)
TAGGED, JUDGED, COVERED, WRONG_INSTRUMENT = "tags_given", "tags_judged", "tags_covered", "tags_wrong_instrument"
TAG_COLUMNS = (TAGGED, JUDGED, COVERED, WRONG_INSTRUMENT)


def fact_columns(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Numbers]:
    """The counts of `FACT_COLUMNS`, an array (captions,) each."""
    columns = {name: np.zeros(len(predictions)) for name in FACT_COLUMNS}
    for row, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
        for category, counts in fact_counts(prediction, texts).items():
            for part, count in zip(PARTS, counts, strict=True):
                columns[f"facts_{category}_{part}"][row] = count
    claimed, supported, stated, found = (
        np.sum([columns[f"facts_{category}_{part}"] for category in CATEGORIES], axis=0) for part in PARTS
    )
    columns[UNSUPPORTED] = (supported < claimed).astype(float)
    # As `facts.CaptionMeans` says: 0 for a caption that claims nothing of what is stated, or invents all.
    columns[CLAIMING], columns[STATED] = (claimed > 0).astype(float), (stated > 0).astype(float)
    columns[EITHER] = np.maximum(columns[CLAIMING], columns[STATED])
    for share, value in zip(SHARES, (_precision, _recall, _f1), strict=True):
        columns[f"facts_caption_{share}"] = np.nan_to_num(value(claimed, supported, stated, found))
    return columns


def tag_columns(predictions: Sequence[str], tags: Sequence[Sequence[str]]) -> dict[str, Numbers]:
    """The values of `TAG_COLUMNS`, an array (captions,) each; 0 for a clip without tags."""
    columns = {name: np.zeros(len(predictions)) for name in TAG_COLUMNS}
    for row, (prediction, names) in enumerate(zip(predictions, tags, strict=True)):
        if not names:
            continue
        columns[TAGGED][row] = 1
        covered = tag_coverage(prediction, names)
        if covered is not None:
            columns[JUDGED][row], columns[COVERED][row] = 1, covered
        wrong = (fact.category == "instrument" for fact in unsupported_facts(prediction, names))
        columns[WRONG_INSTRUMENT][row] = any(wrong)
    return columns


def _parts(counts: Sequence[Numbers], part: str) -> Numbers:
    """One part summed over categories; `counts` are the four of one category after another's."""
    return np.add.reduce(counts[PARTS.index(part) :: len(PARTS)])


def _precision(*counts: Numbers) -> Numbers:
    return ratio(_parts(counts, "supported"), _parts(counts, "claimed"))


def _recall(*counts: Numbers) -> Numbers:
    return ratio(_parts(counts, "found"), _parts(counts, "stated"))


def _f1(*counts: Numbers) -> Numbers:
    precision, recall = _precision(*counts), _recall(*counts)
    return np.where(precision + recall == 0, 0.0, ratio(2 * precision * recall, precision + recall))


def _hallucination(*counts: Numbers) -> Numbers:
    return 1 - _precision(*counts)


def _measures(prefix: str, categories: Sequence[str]) -> tuple[Measure, ...]:
    columns = tuple(f"facts_{category}_{part}" for category in categories for part in PARTS)
    return (
        Measure(f"{prefix}_precision", columns, _precision, FACTS_SIGNATURE),
        Measure(f"{prefix}_recall", columns, _recall, FACTS_SIGNATURE),
        Measure(f"{prefix}_f1", columns, _f1, FACTS_SIGNATURE),
        Measure(f"{prefix}_hallucination_rate", columns, _hallucination, FACTS_SIGNATURE, better="lower"),
    )


FACT_MEASURES = _measures("facts", CATEGORIES)
CATEGORY_MEASURES: Mapping[str, tuple[Measure, ...]] = {
    category: _measures(f"facts_{category}", (category,)) for category in CATEGORIES
}
CAPTION_MEASURES = tuple(  # a mean over captions each
    Measure(f"facts_caption_{share}", (f"facts_caption_{share}", having), ratio, CAPTION_SIGNATURE)
    for share, having in SHARES.items()
)
TAG_MEASURES = (
    Measure("tag_coverage", (COVERED, JUDGED), ratio, TAGS_SIGNATURE),
    Measure("unsupported_instrument_rate", (WRONG_INSTRUMENT, TAGGED), ratio, TAGS_SIGNATURE, better="lower"),
)


def fact_scores_of(sums: Mapping[str, Any]) -> FactScores:
    """The `FactScores` of summed columns: what `facts.fact_scores` gives for the same captions."""
    by_category = {
        category: FactScore(*(int(sums[f"facts_{category}_{part}"]) for part in PARTS)) for category in CATEGORIES
    }
    micro = FactScore(*(sum(getattr(score, part) for score in by_category.values()) for part in PARTS))
    shares = (float(measure.value(sums)) for measure in CAPTION_MEASURES)
    means = CaptionMeans(*(None if np.isnan(share) else share for share in shares))
    return FactScores(by_category, micro, int(sums[UNSUPPORTED]), int(sums[COUNT]), means)
