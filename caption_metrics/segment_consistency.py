"""Whether the captions of one track's segments fit together: flips of the singer's sex, contradictions, repetition.

Reads what `lpmc caption --json` prints. Music changes, so some disagreement is true (a slow introduction, a duet that
enters late); the same rates on captions that people wrote for segments of a track are what a system compares with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from caption_metrics.caption_survey import caption_words
from caption_metrics.facts import extract_facts
from caption_metrics.lexicon import Fact, with_kinds

NOT_A_CAPTION = frozenset({"[silence]"})  # what stands for a window without sound
MOST_SEGMENTS = (
    360  # of a track that are compared, an hour of ten-second windows: 64,620 pairs; longer ones are thinned
)

# Sides of which a segment may take one: (topic, values that belong to each side).
_SIDES: Sequence[tuple[str, str, tuple[frozenset[str], frozenset[str]]]] = (
    ("tempo", "tempo", (frozenset({"slow"}), frozenset({"fast"}))),
    ("mode", "key", (frozenset({"major"}), frozenset({"minor"}))),
    ("metre", "metre", (frozenset({"4/4", "2/4", "2/2"}), frozenset({"3/4", "6/8", "9/8"}))),
    ("recording quality", "production", (frozenset({"low quality"}), frozenset({"high quality"}))),
    ("channels", "production", (frozenset({"mono"}), frozenset({"stereo"}))),
)
_SEX, _SINGING = "sex of the singer", "singing"
_MALE, _FEMALE = "male vocals", "female vocals"
_NOT_SUNG = frozenset({"spoken word", "crowd", "laughter", "whistling", "vocal samples", "humming", "beatboxing"})


@dataclass(frozen=True)
class TrackConsistency:
    """One track: of `pairs` pairs of its segments, how many contradict each other on each topic, and repetition."""

    path: str
    segments: int
    pairs: int
    contradictions: Mapping[str, int]  # pairs by topic; only topics with any
    identical: int  # segments that say the same words as an earlier one
    examples: tuple[str, ...]  # "sex of the singer: 0-10 s male vocals / 10-20 s female vocals"

    @property
    def flips(self) -> int:
        """Pairs in which one segment hears only men and the other only women."""
        return self.contradictions.get(_SEX, 0)


@dataclass(frozen=True)
class ConsistencyReport:
    """Rates over the tracks that have at least two captioned segments, in [0, 1]; None without such tracks."""

    tracks: int
    skipped: int  # tracks with fewer than two captioned segments
    tracks_with_flip: float | None
    tracks_with_contradiction: float | None
    contradicting_pairs: float | None
    identical_segments: float | None  # of the segments after a track's first
    by_topic: Mapping[str, float]  # share of tracks with a contradiction on the topic
    worst: tuple[TrackConsistency, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


def track_consistency(track: Mapping[str, Any]) -> TrackConsistency:
    """Compare all segments of one record of `lpmc caption --json` (`path`, `segments` with `start`, `end`, `text`).

    Silent windows say nothing and are left out.
    """
    spoken = [part for part in track.get("segments", ()) if part["text"].strip() not in (NOT_A_CAPTION | {""})]
    step = -(-len(spoken) // MOST_SEGMENTS)
    compared = spoken[:: max(1, step)]
    stances = [_stances(part["text"]) for part in compared]
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for (one, first), (other, second) in combinations(zip(compared, stances, strict=True), 2):
        for topic in first.keys() & second.keys():
            if first[topic] != second[topic]:
                counts[topic] = counts.get(topic, 0) + 1
                examples.setdefault(topic, f"{topic}: {_when(one)} {first[topic]} / {_when(other)} {second[topic]}")
    words = [tuple(caption_words(part["text"])) for part in spoken]
    return TrackConsistency(
        path=str(track.get("path", "")),
        segments=len(spoken),
        pairs=len(compared) * (len(compared) - 1) // 2,
        contradictions=dict(sorted(counts.items())),
        identical=len(words) - len(set(words)),
        examples=tuple(examples[topic] for topic in sorted(examples)),
    )


def consistency_report(tracks: Iterable[Mapping[str, Any]], *, worst: int = 5) -> ConsistencyReport:
    """Rates over the records of `lpmc caption --json`, with the `worst` tracks; one track in memory at a time."""
    total = skipped = flips = contradicted = pairs = wrong_pairs = identical = following = 0
    topics: dict[str, int] = {}
    worst_tracks: list[TrackConsistency] = []
    for record in tracks:
        track = track_consistency(record)
        if track.segments < 2:
            skipped += 1
            continue
        total += 1
        flips += track.flips > 0
        contradicted += bool(track.contradictions)
        pairs += track.pairs
        wrong_pairs += min(track.pairs, sum(track.contradictions.values()))
        identical += track.identical
        following += track.segments - 1
        for topic in track.contradictions:
            topics[topic] = topics.get(topic, 0) + 1
        if track.contradictions:
            worst_tracks = sorted([*worst_tracks, track], key=_badness)[:worst]
    return ConsistencyReport(
        tracks=total,
        skipped=skipped,
        tracks_with_flip=flips / total if total else None,
        tracks_with_contradiction=contradicted / total if total else None,
        contradicting_pairs=wrong_pairs / pairs if pairs else None,
        identical_segments=identical / following if following else None,
        by_topic={topic: count / total for topic, count in sorted(topics.items())},
        worst=tuple(worst_tracks),
    )


def _badness(track: TrackConsistency) -> tuple[float, str]:
    return -sum(track.contradictions.values()) / max(1, track.pairs), track.path


def _stances(text: str) -> dict[str, str]:
    """By topic the one side that a caption takes; a caption that says both, or neither, takes none."""
    facts = extract_facts(text)
    implied = with_kinds(facts)
    stances: dict[str, str] = {}
    for topic, category, sides in _SIDES:
        values = {fact.value for fact in implied if fact.category == category}
        taken = [min(values & side) for side in sides if values & side]
        if len(taken) == 1 and not {"medium", "changing tempo"} & values:
            stances[topic] = taken[0]
    voices = {fact.value for fact in implied if fact.category == "vocals"}
    if len(voices & {_MALE, _FEMALE}) == 1 and "duet" not in voices:
        stances[_SEX] = _MALE if _MALE in voices else _FEMALE
    sung = any(Fact("vocals", "vocals") in with_kinds([fact]) and fact.value not in _NOT_SUNG for fact in facts)
    if sung != ("instrumental" in voices):
        stances[_SINGING] = "sung" if sung else "instrumental"
    return stances


def _when(part: Mapping[str, Any]) -> str:
    return f"{part['start']:g}-{part['end']:g} s"
