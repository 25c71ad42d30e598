"""The account of a captions table: what became of every row, and what the kept captions are like, with intervals.

Fed row by row; memory grows with the number of different values, not of rows. What it keeps is counts, so the accounts
of several shards add up to the account of the whole.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dataset_builder.caption_collection import MIN_CAPTIONS, OPENER_ALARM, Openers
from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.faithfulness import HARD_CATEGORIES

LEDGER_FORMAT = 1  # version of what `to_dict` gives
TOP_REASONS = 10
TOP_OPENERS = 20  # of each instruction; whatever begins more than 5 % of all captions is among those of some shard
MOST_VALUES = 10_000  # different reasons or model names that are told apart; the rest is `OTHERS`
OTHERS = "(others)"
REASON_LETTERS = 100
Z_95 = 1.959964  # standard deviations either side of the mean in a 95 % interval
UNSUPPORTED_ALARM = 0.01  # in published writing, summary and paraphrase captions 0.2 to 0.4 % claim another instrument
UNSUPPORTED_INSTRUCTIONS = ("writing", "summary", "paraphrase")  # attribute_prediction is asked to add attributes

_CLAIMS = re.compile(r"^claims .*, which no tag supports$")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_ADDRESS = re.compile(r"https?://\S+")
_HEXADECIMAL = re.compile(r"\b(?=\w*\d)[0-9a-f]{8,}\b|\b(?:req|chatcmpl|msg|batch)[-_]\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score, within [0, 1]; (0, 1) when nothing was looked at."""
    if not of:
        return 0.0, 1.0
    share, scale = count / of, 1 + Z_95**2 / of
    middle = (share + Z_95**2 / (2 * of)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / of + Z_95**2 / (4 * of**2)) / scale
    # At the ends the formula gives the end itself, but for rounding.
    return (max(0.0, middle - half) if count else 0.0), (min(1.0, middle + half) if count < of else 1.0)


def share_of(count: int, of: int) -> dict[str, Any]:
    """A share with what it was counted from and its 95 % interval; share None when nothing was looked at."""
    low, high = wilson(count, of)
    return {"count": count, "of": of, "share": count / of if of else None, "low": low, "high": high}


def normalised_reason(reason: str) -> str:
    """A reason without what is particular to one row, so that equal causes count together."""
    text = " ".join(reason.split())
    if _CLAIMS.match(text):
        return "claims something that no tag supports"
    for pattern, replacement in ((_ADDRESS, "URL"), (_QUOTED, "'...'"), (_HEXADECIMAL, "ID"), (_NUMBER, "N")):
        text = pattern.sub(replacement, text)
    return text if len(text) <= REASON_LETTERS else text[: REASON_LETTERS - 3] + "..."


@dataclass
class _Tally:
    """The counts of one instruction. Captions are those of rows that came out `ok`."""

    outcomes: Counter[str] = field(default_factory=Counter)
    template_fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 0
    coverage: Counter[int] = field(default_factory=Counter)  # in percent
    coverage_sum: float = 0.0
    words: Counter[int] = field(default_factory=Counter)
    unsupported: Counter[str] = field(default_factory=Counter)  # captions by category of claim
    any_unsupported: int = 0
    soft: Counter[str] = field(default_factory=Counter)
    compared: int = 0  # captions that were held against the others: near-duplicates and contradictions are known
    near_duplicates: int = 0
    contradictions: int = 0
    attributes: int = 0
    attributes_used: int = 0
    openers: Counter[str] = field(default_factory=Counter)  # those that other accounts brought


class Ledger:
    """Counts over rows in any order; the rows of one track one after another for `tracks_with_contradictions`."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._reasons: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._openers = Openers()
        self._contradictions: Counter[str] = Counter()
        self._contradicting_tracks = 0
        self._last_contradicting: str | None = None

    def add(self, row: CaptionRow) -> None:
        """Count one row."""
        tally = self._tallies.get(row.instruction)
        if tally is None:
            tally = self._tallies[row.instruction] = _Tally()
        tally.outcomes[row.outcome] += 1
        tally.template_fallbacks += row.caption_origin == "template"
        tally.prompt_tokens += row.prompt_tokens or 0
        tally.completion_tokens += row.completion_tokens or 0
        tally.attempts += row.attempts
        if row.model_answered:
            _count(self._models, row.model_answered)
        if row.outcome != "ok":
            for reason in (row.reason or "no reason given").split("; "):
                _count(self._reasons, f"{row.outcome}: {normalised_reason(reason)}")
            return
        if row.caption is not None:
            tally.words[len(row.caption.split())] += 1
            self._openers.add(row.instruction, row.caption)
        if row.tag_coverage is not None:
            tally.coverage[round(100 * row.tag_coverage)] += 1
            tally.coverage_sum += row.tag_coverage
        if row.unsupported:
            tally.any_unsupported += 1
            tally.unsupported.update({claim.partition(":")[0] for claim in row.unsupported})
        tally.soft.update(row.soft)
        tally.attributes += len(row.new_attributes)
        tally.attributes_used += len(row.new_attributes_used)
        if row.near_duplicates is not None:
            tally.compared += 1
            tally.near_duplicates += row.near_duplicates > 0
        if row.contradictions:
            tally.contradictions += 1
            if row.track_id != self._last_contradicting:  # every caption of the track carries the same ones
                self._last_contradicting = row.track_id
                self._contradicting_tracks += 1
                for found in {text.partition(":")[0] for text in row.contradictions}:
                    _count(self._contradictions, found)

    def add_near_duplicates(self, counts: Iterable[tuple[str, int]]) -> None:
        """Count what only the whole table shows, for rows that were added without it: (instruction, others like it)."""
        for instruction, count in counts:
            tally = self._tallies[instruction]
            tally.compared += 1
            tally.near_duplicates += count > 0

    @property
    def rows(self) -> int:
        """Rows counted so far: the sum of `outcomes`."""
        return self.outcomes.total()

    @property
    def outcomes(self) -> Counter[str]:
        """outcome -> rows, over all instructions."""
        return sum((tally.outcomes for tally in self._tallies.values()), Counter())

    @property
    def template_fallbacks(self) -> int:
        """Rows that carry a template caption in the place of a missing one."""
        return sum(tally.template_fallbacks for tally in self._tallies.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for `pipeline.json` and the store. `absorb` reads it back."""
        openers = self._openers.top(TOP_OPENERS)
        by_instruction = {
            name: _tally_dict(tally, Counter({opener.words: opener.count for opener in openers.get(name, ())}))
            for name, tally in self._tallies.items()
        }
        return {
            "format": LEDGER_FORMAT,
            "rows": self.rows,
            "outcomes": dict(self.outcomes),
            "template_fallbacks": self.template_fallbacks,
            "prompt_tokens": sum(tally.prompt_tokens for tally in self._tallies.values()),
            "completion_tokens": sum(tally.completion_tokens for tally in self._tallies.values()),
            "models_answered": dict(self._models.most_common()),
            "reasons": dict(self._reasons.most_common(TOP_REASONS)),
            "tracks_with_contradictions": self._contradicting_tracks,
            "contradictions": dict(self._contradictions.most_common()),
            "alarms": _alarms(by_instruction),
            "by_instruction": by_instruction,
        }

    def absorb(self, account: Mapping[str, Any]) -> None:
        """Add the account of other rows, as `to_dict` gave it. Of its reasons and openers it has the most frequent."""
        self._models.update(account["models_answered"])
        self._reasons.update(account["reasons"])
        self._contradicting_tracks += account["tracks_with_contradictions"]
        self._contradictions.update(account["contradictions"])
        for name, part in account["by_instruction"].items():
            _add_part(self._tallies.setdefault(name, _Tally()), part)


def _count(counter: Counter[str], value: str) -> None:
    counter[value if value in counter or len(counter) < MOST_VALUES else OTHERS] += 1


def _tally_dict(tally: _Tally, openers: Counter[str]) -> dict[str, Any]:
    captions = tally.outcomes["ok"]
    worded = tally.words.total()
    covered = tally.coverage.total()
    return {
        "rows": tally.outcomes.total(),
        "outcomes": dict(tally.outcomes),
        "template_fallbacks": tally.template_fallbacks,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "attempts": tally.attempts,
        "tag_coverage": {
            "mean": tally.coverage_sum / covered if covered else None,
            "median": None if not covered else quantile(tally.coverage, 0.5) / 100,
            "percent_histogram": _histogram(tally.coverage),
        },
        "words": {
            "mean": _mean(tally.words),
            "median": quantile(tally.words, 0.5) if tally.words else None,
            "p10": quantile(tally.words, 0.1) if tally.words else None,
            "p90": quantile(tally.words, 0.9) if tally.words else None,
            "histogram": _histogram(tally.words),
        },
        "unsupported": {
            "any": share_of(tally.any_unsupported, captions),
            "by_category": _shares(tally.unsupported, captions),
        },
        "soft": _shares(tally.soft, captions),
        "near_duplicates": share_of(tally.near_duplicates, tally.compared) if tally.compared else None,
        "contradictions": share_of(tally.contradictions, tally.compared) if tally.compared else None,
        "new_attributes": {"declared": tally.attributes, "used": tally.attributes_used},
        "openers": [
            {"opener": opener, **share_of(count, worded)}
            for opener, count in (openers + tally.openers).most_common(TOP_OPENERS)
        ],
    }


def _alarms(by_instruction: Mapping[str, Any]) -> list[str]:
    """What deserves a look: an opener that too many captions share, claims that no tag supports."""
    found = []
    for name, part in by_instruction.items():
        captions = part["outcomes"].get("ok", 0)
        if captions < MIN_CAPTIONS:
            continue
        for opener in part["openers"]:
            if opener["share"] > OPENER_ALARM:
                found.append(f"{name}: {opener['share']:.1%} of the captions begin with '{opener['opener']}'")
        if name not in UNSUPPORTED_INSTRUCTIONS:
            continue
        for category, share in part["unsupported"]["by_category"].items():
            if category in HARD_CATEGORIES and share["share"] > UNSUPPORTED_ALARM:
                found.append(f"{name}: {share['share']:.1%} of the captions claim {category} that no tag supports")
    return found


def _add_part(tally: _Tally, part: Mapping[str, Any]) -> None:
    tally.outcomes.update(part["outcomes"])
    tally.template_fallbacks += part["template_fallbacks"]
    tally.prompt_tokens += part["prompt_tokens"]
    tally.completion_tokens += part["completion_tokens"]
    tally.attempts += part["attempts"]
    coverage = {int(percent): count for percent, count in part["tag_coverage"]["percent_histogram"].items()}
    tally.coverage.update(coverage)
    tally.coverage_sum += (part["tag_coverage"]["mean"] or 0.0) * sum(coverage.values())
    tally.words.update({int(words): count for words, count in part["words"]["histogram"].items()})
    tally.any_unsupported += part["unsupported"]["any"]["count"]
    tally.unsupported.update({name: share["count"] for name, share in part["unsupported"]["by_category"].items()})
    tally.soft.update({name: share["count"] for name, share in part["soft"].items()})
    if part["near_duplicates"] is not None:
        tally.compared += part["near_duplicates"]["of"]
        tally.near_duplicates += part["near_duplicates"]["count"]
        tally.contradictions += part["contradictions"]["count"]
    tally.attributes += part["new_attributes"]["declared"]
    tally.attributes_used += part["new_attributes"]["used"]
    tally.openers.update({opener["opener"]: opener["count"] for opener in part["openers"]})


def _shares(counts: Counter[str], of: int) -> dict[str, dict[str, Any]]:
    return {name: share_of(count, of) for name, count in counts.most_common()}


def _histogram(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _mean(counts: Counter[int]) -> float | None:
    total = counts.total()
    return sum(value * count for value, count in counts.items()) / total if total else None


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least `share` of the counted values do not exceed."""
    needed, seen = share * counts.total(), 0
    values: Iterable[int] = sorted(counts)
    for value in values:
        seen += counts[value]
        if seen >= needed:
            return value
    raise ValueError("nothing was counted")
