"""To which slices a clip belongs: by genre, region, tempo, vocals and source.

Labels come from columns of the file, else from tags, else from the facts of the references; never from the predictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from caption_metrics.claims import read_claims
from caption_metrics.lexicon import Fact, load_lexicon, with_kinds
from caption_metrics.regions import regions_of

# Columns that are taken as labels, the first that the file has.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "genre": ("genre", "genres", "genre_top"),
    "region": ("region", "country", "culture"),
    "tempo": ("tempo", "bpm"),
    "vocals": ("vocals", "vocal", "voice"),
    "source": ("source", "dataset", "corpus"),
}


class Described(Protocol):
    """A clip with its references and, where the file has them, tags and further columns (`pairs.Pair`)."""

    @property
    def references(self) -> Sequence[str]: ...

    @property
    def tags(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class SliceLabels:
    """For every dimension the labels of each caption (none, one or several) and where they were taken from."""

    labels: Mapping[str, tuple[frozenset[str], ...]]
    origins: Mapping[str, str]  # "column genre", "tags", "references", ...


def slice_labels(pairs: Sequence[Described], dimensions: Iterable[str] = tuple(COLUMNS)) -> SliceLabels:
    """Label every clip by genre, region, tempo, vocals and source; a clip may have several labels or none.

    Each dimension takes its labels from a column of the file where there is one (`COLUMNS`), else from the facts of a
    clip's tags, else (a clip without tags) of its references. A dimension of which nothing is known is left out.
    Genres are the general ones of the lexicon ("punk rock" counts for rock and for punk), a column's as they stand.
    """
    labels: dict[str, tuple[frozenset[str], ...]] = {}
    origins: dict[str, str] = {}
    for dimension in dimensions:
        column = next(
            (name for name in COLUMNS.get(dimension, (dimension,)) if any(_filled(p, name) for p in pairs)), None
        )
        if column is not None:
            found = tuple(_column_labels(dimension, _extra(pair).get(column)) for pair in pairs)
            origin = f"column {column}"
        elif dimension in ("genre", "region", "tempo", "vocals"):
            found = tuple(_text_labels(dimension, pair.tags or pair.references) for pair in pairs)
            origin = _origin(pairs)
        else:
            continue
        if any(found):
            labels[dimension], origins[dimension] = found, origin
    return SliceLabels(labels, origins)


def _origin(pairs: Sequence[Described]) -> str:
    tagged = sum(bool(pair.tags) for pair in pairs)
    return "tags" if tagged == len(pairs) else "tags, else references" if tagged else "references"


def _extra(pair: Described) -> Mapping[str, Any]:
    return getattr(pair, "extra", None) or {}


def _filled(pair: Described, name: str) -> bool:
    return _extra(pair).get(name) not in (None, "", [], ())


def _column_labels(dimension: str, value: Any) -> frozenset[str]:
    if value is None or (isinstance(value, float) and value != value):
        return frozenset()
    if isinstance(value, list | tuple | set | frozenset):
        return frozenset().union(*(_column_labels(dimension, each) for each in value))
    text = str(value).strip()
    if dimension == "vocals" and text.casefold() in _TRUTH:
        return frozenset({_TRUTH[text.casefold()]})
    if text.casefold() in _UNKNOWN:
        return frozenset()
    if dimension == "tempo":
        number = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(?:bpm)?", text, re.IGNORECASE)
        if number and float(number[1]) <= 0:  # what a beat tracker writes that found no beat
            return frozenset()
        if number:
            return _of_category(with_kinds([Fact("tempo", f"{round(float(number[1]))} bpm")]), "tempo", _TEMPOS)
    parts = [part.strip().casefold() for part in re.split(r"[,;|]", text) if part.strip()]
    if dimension in ("tempo", "vocals"):
        known = _text_labels(dimension, parts)
        return known or frozenset(parts)
    return frozenset(parts)


_TRUTH = {  # a column that says whether anyone sings
    **dict.fromkeys(("true", "yes", "1", "1.0"), "vocals, sex not stated"),
    **dict.fromkeys(("false", "no", "0", "0.0", "none"), "instrumental"),
}
_UNKNOWN = frozenset({"nan", "n/a", "none", "null", "unknown", "?", "<na>"})  # as tables write that a value is missing
_TEMPOS = frozenset({"slow", "medium", "fast"})


def _text_labels(dimension: str, texts: Sequence[str]) -> frozenset[str]:
    claims = [claim for text in texts for claim in read_claims(text)]
    facts = with_kinds(claim.fact for claim in claims if not claim.denied)
    if dimension == "genre":
        return frozenset(
            fact.value for fact in facts if fact.category == "genre" and not load_lexicon().kinds.get(fact)
        )
    if dimension == "tempo":
        return _of_category(facts, "tempo", _TEMPOS)
    if dimension == "region":
        return regions_of(texts)
    sung = Fact("vocals", "vocals") in facts
    sexes = _of_category(facts, "vocals", frozenset({"male vocals", "female vocals"}))
    if sexes or sung:
        return sexes or frozenset({"vocals, sex not stated"})
    denied = any(claim.denied and claim.fact == Fact("vocals", "vocals") for claim in claims)
    return frozenset({"instrumental"} if denied or Fact("vocals", "instrumental") in facts else ())


def _of_category(facts: Iterable[Fact], category: str, values: frozenset[str]) -> frozenset[str]:
    return frozenset(fact.value for fact in facts if fact.category == category and fact.value in values)
