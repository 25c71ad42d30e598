"""Captions against two kinds of truth: the reference captions (the paper's scores) and the exact facts of the clip.

Of every caption a row of numbers is kept; scores, intervals over clips and seeds, and tests are functions of sums of
these rows (`caption_metrics.measures`), so that a report over all runs reads numbers and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims_material import HeldOutClip
from caption_metrics.caption_scorer import CaptionScorer
from caption_metrics.fact_columns import FACT_MEASURES, fact_columns
from caption_metrics.measures import COUNT, CaptionTable, Measure, Numbers
from caption_metrics.score import Pair, evaluate_captions
from lpmc_files import atomic_path

EXACT = "exact_"  # before the name of a score against the clip's tags, all of which are true and none is missing
EXACT_F1 = f"{EXACT}facts_f1"
REPORTED = (EXACT_F1, "facts_f1", "bleu1", "bleu4", "meteor", "rougeL")
OF_A_CARD = (*REPORTED[1:], "bleu2", "bleu3", "vocab_size", "length_avg", "facts_precision", "facts_recall")


def exact_references(clip: HeldOutClip) -> tuple[str, ...]:
    """The clip's facts as one reference text; each tag a sentence, so that no two are read as one.

    The genre, which comes first, is called music: alone, "metal", "house" and "soul" are no genres to the lexicon.
    """
    genre, *others = clip.tags
    return (". ".join((f"{genre} music", *others)) + ".",)


def score_cards(captions: Sequence[str], clips: Sequence[HeldOutClip], *, samples: int) -> dict[str, Any]:
    """The scores of the captions with intervals and blind rows, against the `references` and the `exact` facts.

    Blind rows are those of `evaluate_captions`; for `exact` they are dealt out from the tag lists. METEOR is None, with
    a note, without WordNet.
    """
    said = list(zip(captions, clips, strict=True))
    card = evaluate_captions([Pair(text, clip.references) for text, clip in said], samples=samples).to_dict()
    exact = evaluate_captions([Pair(text, exact_references(clip)) for text, clip in said], samples=samples).to_dict()
    facts = [measure.name for measure in FACT_MEASURES]
    return {
        "n": card["n"],
        "references": _part(card, OF_A_CARD),
        "exact": _part(exact, facts) | {"facts_by_category": exact["facts_by_category"]},
        "warnings": card["warnings"],
        "notes": card["notes"],
        "signature": card["signature"],
    }


def _part(card: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    def scores(of: dict[str, Any]) -> dict[str, Any]:
        return {name: of.get(name) for name in names} | {
            "intervals": {name: ends for name, ends in of["intervals"].items() if name in names}
        }

    return scores(card) | {
        "blind": {row: scores(values) for row, values in card["blind"].items()},
        "beats_blind": {name: rows for name, rows in card["beats_blind"].items() if name in names},
    }


def save_rows(path: Path, captions: Sequence[str], clips: Sequence[HeldOutClip]) -> None:
    """Keep the numbers of every caption that the reported scores are made of. Raises `DiskError`."""
    scorer = CaptionScorer()
    scorer.add(list(captions), [list(clip.references) for clip in clips])
    table = scorer.result().table
    rows = {name: table.column(name) for name in table.columns}
    exact = fact_columns(list(captions), [exact_references(clip) for clip in clips])
    rows |= {f"{EXACT}{name}": values for name, values in exact.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **rows)  # type: ignore[arg-type]


def load_rows(path: Path) -> CaptionTable:
    """What `save_rows` kept."""
    with np.load(path) as rows:
        columns = {name: rows[name] for name in rows.files}
    table = CaptionTable(tuple(name for name in columns if name != COUNT))
    table.append(columns)
    return table


@lru_cache(maxsize=1)
def reported_measures() -> tuple[Measure, ...]:
    """The scores that are compared between systems, in the order of `REPORTED`; METEOR only with WordNet."""
    scorer = CaptionScorer()
    scorer.add(["a piano"], [["a piano"]])
    known = {measure.name: measure for measure in scorer.result().measures}
    for measure in FACT_MEASURES:
        known[measure.name] = zeroed = _nothing_claimed_is_zero(measure)
        known[EXACT + measure.name] = replace(
            zeroed, name=EXACT + measure.name, columns=tuple(EXACT + name for name in measure.columns)
        )
    return tuple(known[name] for name in REPORTED if name in known)


def _nothing_claimed_is_zero(measure: Measure) -> Measure:
    """The facts F1 of a captioner that claims nothing at all: 0, not undefined, since it is compared with others."""

    def value(*sums: Numbers) -> Numbers:
        return np.nan_to_num(measure.from_sums(*sums), nan=0.0)

    return replace(measure, from_sums=value, signature=f"{measure.signature}|nothing-claimed:0")
