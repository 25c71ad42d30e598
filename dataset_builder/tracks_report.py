"""What a person should know of a corpus before money is spent on its captions: counts, doubts, leaks.

Every finding is a warning: nothing is corrected or left out here. A report is made while the tracks pass by, so that
half a million of them need no second look.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataset_builder.leaks import LeakFinder, LeakReport
from dataset_builder.tag_contradictions import TagContradictions
from dataset_builder.tag_spelling import Misspelling, Spelling, misspelled_tags, spelling_variants
from dataset_builder.tracks import TaggedTrack
from hub_cards.licences import audio_publishable

EXAMPLES = 20  # names kept where there may be as many as tracks


@dataclass(frozen=True)
class TagNumbers:
    """How many tags there are in all, different ones, and for a track."""

    total: int
    distinct: int
    median_per_track: float
    most_per_track: int
    without_tags: int  # tracks


@dataclass(frozen=True)
class DroppedTags:
    """Tags that the corpus has and the table has not: empty ones, and repetitions within a track."""

    empty: int
    repeated: int
    tracks: int  # that lost a tag so
    examples: tuple[tuple[str, str], ...]  # track id and tag


@dataclass(frozen=True)
class ContradictoryTags:
    """Two tags that cannot both be true, and on how many tracks they stand side by side."""

    tags: tuple[str, str]
    tracks: int
    example: str  # a track id


@dataclass(frozen=True)
class AudioFiles:
    """Which of the audio files that the corpus names are there. `missing_files` are the first that are not.

    `embedded` are tracks whose audio lies in the corpus's own table and in no file; they are neither named nor missing.
    """

    root: str
    named: int
    embedded: int
    missing: int
    missing_files: tuple[str, ...]


@dataclass(frozen=True)
class LicenceTracks:
    """The tracks of a source under one licence, and whether a public data set may carry their audio."""

    source: str
    licence: str
    tracks: int
    audio_publishable: bool


@dataclass(frozen=True)
class TracksReport:
    """What `TracksSurvey` saw. `splits` has the corpus's own names, empty for none."""

    tracks: int
    sources: dict[str, int]
    splits: dict[str, int]
    tags: TagNumbers
    dropped_tags: DroppedTags
    contradictory_tracks: int
    contradictory_tags: tuple[ContradictoryTags, ...]
    misspelled_tags: tuple[Misspelling, ...]
    spelling_variants: tuple[tuple[Spelling, ...], ...]
    audio: AudioFiles
    licences: tuple[LicenceTracks, ...]
    leaks: LeakReport

    def as_json(self) -> dict[str, Any]:
        """A JSON object; of the training tracks that leak it has the number, not the ids."""
        report = asdict(self)
        report["leaks"]["training_tracks"] = len(report["leaks"].pop("training_ids"))
        return dict(printable(report))


def printable(value: Any) -> Any:
    """A JSON value in which text that no terminal or file can take (names that are not UTF-8) is written as escapes."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


class TracksSurvey:
    """Looks at tracks as they pass. `audio_root` is where relative audio paths start from."""

    def __init__(self, audio_root: Path) -> None:
        self._audio = _AudioLooker(audio_root)
        self._contradictions = TagContradictions()
        self._leaks = LeakFinder()
        self._tags: Counter[str] = Counter()
        self._per_track: Counter[int] = Counter()
        self._splits: Counter[str] = Counter()
        self._terms: Counter[tuple[str, str]] = Counter()  # source and licence
        self._dropped: Counter[str] = Counter()
        self._dropped_examples: list[tuple[str, str]] = []
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._pair_examples: dict[tuple[str, str], str] = {}
        self._contradictory = 0

    def watch(self, tracks: Iterable[TaggedTrack]) -> Iterator[TaggedTrack]:
        """Hand the tracks on as they come, each after a look at it."""
        for track in tracks:
            self._look_at(track)
            yield track

    def _look_at(self, track: TaggedTrack) -> None:
        self._splits[track.split] += 1
        self._terms[track.source, track.licence] += 1
        self._tags.update(track.tags)
        self._per_track[len(track.tags)] += 1
        if track.dropped_tags:
            empty = sum(not tag for tag in track.dropped_tags)
            self._dropped.update(tracks=1, empty=empty, repeated=len(track.dropped_tags) - empty)
            if len(self._dropped_examples) < EXAMPLES:
                self._dropped_examples.append((track.track_id, track.dropped_tags[0]))
        pairs = self._contradictions.pairs(track.tags)
        if pairs:
            self._contradictory += 1
            for first, second in pairs:
                pair = (first, second) if first < second else (second, first)
                self._pairs[pair] += 1
                self._pair_examples.setdefault(pair, track.track_id)
        if track.audio_path is not None or track.has_embedded_audio:
            self._audio.look_for(track.audio_path, track.has_embedded_audio)
        self._leaks.add(track.track_id, track.split, track.source, track.artist, track.extra)

    def finish(self) -> TracksReport:
        """The report on all tracks so far."""
        pairs = sorted(self._pairs.items(), key=lambda item: (-item[1], item[0]))
        sources: Counter[str] = Counter()
        for (source, _), count in self._terms.items():
            sources[source] += count
        return TracksReport(
            tracks=self._per_track.total(),
            sources=dict(sources),
            splits=dict(self._splits),
            tags=TagNumbers(
                total=self._tags.total(),
                distinct=len(self._tags),
                median_per_track=_median(self._per_track),
                most_per_track=max(self._per_track, default=0),
                without_tags=self._per_track[0],
            ),
            dropped_tags=DroppedTags(
                self._dropped["empty"],
                self._dropped["repeated"],
                self._dropped["tracks"],
                tuple(self._dropped_examples),
            ),
            contradictory_tracks=self._contradictory,
            contradictory_tags=tuple(ContradictoryTags(pair, n, self._pair_examples[pair]) for pair, n in pairs),
            misspelled_tags=misspelled_tags(self._tags),
            spelling_variants=spelling_variants(self._tags),
            audio=self._audio.found(),
            licences=tuple(
                LicenceTracks(source, licence, count, audio_publishable(source, licence))
                for (source, licence), count in self._terms.most_common()
            ),
            leaks=self._leaks.finish(),
        )


def _median(counts: Counter[int]) -> float:
    """The median of numbers of which each occurs `counts` times; 0.0 of none."""
    total = counts.total()
    wanted = {(total - 1) // 2, total // 2}
    passed, middle = 0, []
    for number, times in sorted(counts.items()):
        middle += [number for place in wanted if passed <= place < passed + times]
        passed += times
    return sum(middle) / len(middle) if middle else 0.0


class _AudioLooker:
    """Looks for files under a root. Each folder is listed once: a question a file takes minutes on a network disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, frozenset[str]] = {}
        self._named = 0
        self._embedded = 0
        self._missing = 0
        self._missing_files: list[str] = []

    def look_for(self, path: str | None, embedded: bool) -> None:
        """Take the next track: its file, and whether the corpus itself holds its audio."""
        folder, name = posixpath.split(path or "")
        if folder not in self._folders:
            self._folders[folder] = _file_names(os.path.join(self._root, folder))
        if name in self._folders[folder]:
            self._named += 1
        elif embedded:
            self._embedded += 1
        elif path is not None:
            self._named += 1
            self._missing += 1
            if len(self._missing_files) < EXAMPLES:
                self._missing_files.append(path)

    def found(self) -> AudioFiles:
        return AudioFiles(str(self._root), self._named, self._embedded, self._missing, tuple(self._missing_files))


def _file_names(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # absent, forbidden, or no path at all (a NUL in it)
        return frozenset()
