"""Scores for music captions: the paper's metrics to the digit, musical facts, and blind baselines beside each.

Importing this package loads none of its metrics; a name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caption_metrics.compare import compare_systems
    from caption_metrics.facts import Fact, extract_facts, fact_scores, tag_coverage, unsupported_facts
    from caption_metrics.pair_join import join_pairs
    from caption_metrics.pairs import Pair, iterate_pairs, read_pairs
    from caption_metrics.report import render_table
    from caption_metrics.score import ScoreCard, evaluate_captions

__all__ = [
    "Fact",
    "Pair",
    "ScoreCard",
    "compare_systems",
    "evaluate_captions",
    "extract_facts",
    "fact_scores",
    "iterate_pairs",
    "join_pairs",
    "read_pairs",
    "render_table",
    "tag_coverage",
    "unsupported_facts",
]

_MODULES = {
    "Fact": "facts",
    "extract_facts": "facts",
    "fact_scores": "facts",
    "tag_coverage": "facts",
    "unsupported_facts": "facts",
    "Pair": "pairs",
    "iterate_pairs": "pairs",
    "read_pairs": "pairs",
    "join_pairs": "pair_join",
    "compare_systems": "compare",
    "render_table": "report",
    "ScoreCard": "score",
    "evaluate_captions": "score",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
