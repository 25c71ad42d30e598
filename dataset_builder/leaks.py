"""What of an evaluation set stands in the training data: artists, recordings, clips and whole evaluation sets.

A model that is trained on a clip it is later tested on looks better than it is; the same artist, or another clip of
the same recording, is nearly as bad. Splits are the corpora's own (see `is_training`), so that a corpus that parts its
clips without looking at the artist (MagnaTagATune does) shows up here.
"""

from __future__ import annotations

import json
import unicodedata
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builder.tracks import ROWS_PER_GROUP, open_tracks
from hub_cards.licences import SOURCES
from lpmc_errors import TableError

KINDS = {
    "evaluation_only": "of a corpus that is for evaluation only",
    "evaluation_pool": "of the clips an evaluation set was drawn from",
    "audioset_eval": "of AudioSet's evaluation set",
    "track": "also in an evaluation split, through another corpus",
    "recording": "of a recording that an evaluation split has too",
    "artist": "by an artist that an evaluation split has too",
}
"""Every kind of leak, the gravest first, and what is the matter with its training tracks."""

ALLOWABLE_LEAKS = frozenset({"artist", "recording"})
"""What corpora's own splits may share, if somebody says so; the other kinds are evaluation sets."""

EVALUATION_SPLITS = ("valid", "val", "dev", "test", "eval", "holdout", "held_out")  # and what begins so: `validation`
UNUSED_SPLITS = frozenset({"omitted"})  # of Slakh's redux: doublets that its authors took out of all three splits
EVALUATION_ONLY = frozenset(source for source, known in SOURCES.items() if known.evaluation_only)
"""Corpora whose authors ask that nobody trains on them."""

# Song Describer took its clips, and their track and artist ids, out of MTG-Jamendo (its data card says so).
# JamendoMaxCaps numbers its tracks as Jamendo does as well, as far as anybody can tell; if not, a few are left out.
_ID_SPACES = dict.fromkeys(("mtg_jamendo", "song_describer", "jamendo_max_caps"), "jamendo")
_YOUTUBE = "youtube"  # a `ytid` names the same recording in every corpus
_NOBODY = frozenset(
    {"", "-", "?", "various", "various artists", "various artist", "va", "v.a.", "v/a", "unknown", "unknown artist"}
    | {"[unknown]", "<unknown>", "n/a", "na", "nan", "none", "null", "no artist", "untitled", "artist", "unidentified"}
    | {"anonymous", "anon", "anon.", "trad", "trad.", "traditional", "[traditional]", "folk", "public domain"}
)
_TRUE = frozenset({"true", "1", "1.0", "yes"})
_EXTRA_KEYS = ("artist_id", "recording_id", "ytid", "is_audioset_eval", "evaluation_pool")


@dataclass(frozen=True)
class Leak:
    """One thing that training and evaluation share, or one set that should not be trained on.

    `item` is the artist, recording or track, or the name of the evaluation set; `splits` are those concerned, training
    first; `example` is the id of a training track.
    """

    kind: str
    item: str
    training_tracks: int
    evaluation_tracks: int
    splits: tuple[str, ...]
    example: str


@dataclass(frozen=True)
class LeakReport:
    """All leaks, the gravest kind and the largest first.

    `training_ids` are the training tracks that leak, `by_kind` counts them by kind (a track may have several). What
    two evaluation splits share, `valid` and `test` say, is no reason to refuse a data set: `between_evaluations` counts
    those artists and recordings.
    """

    leaks: tuple[Leak, ...] = ()
    training_ids: frozenset[str] = frozenset()
    by_kind: dict[str, int] = field(default_factory=dict)
    between_evaluations: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.leaks)


def is_training(split: str) -> bool:
    """Whether a split of this name is trained on.

    So are `train`, `training`, `extra`, no name at all, and every name that is not known for something else: a guard
    that takes `fold_3` for a test split would let it pass. Not trained on are names that begin as one of
    `EVALUATION_SPLITS`, and `UNUSED_SPLITS`.
    """
    return _role(split) == "training"


def _role(split: str) -> str:
    name = split.strip().lower().replace("-", "_")
    if name in UNUSED_SPLITS:
        return "unused"
    return "evaluation" if name.startswith(EVALUATION_SPLITS) else "training"


class LeakFinder:
    """Takes tracks one by one and finds what their splits share; 500,000 tracks take 4 s and 270 MB at most."""

    def __init__(self) -> None:
        self._training_ids: list[str] = []
        self._splits = _Numbers()
        self._roles: dict[str, str] = {}
        self._spaces = _Numbers()
        self._shared = {
            ("artist", "id"): _Shared(),
            ("artist", "name"): _Shared(),
            ("recording", "id"): _Shared(),
            ("track", "id"): _Shared(),
        }
        self._marked: dict[tuple[str, str], _Marked] = {}

    def add(self, track_id: str, split: str, source: str, artist: str | None, extra: Mapping[str, Any]) -> None:
        """Take the next track. Of `extra` the keys `artist_id`, `recording_id`, `ytid`, `is_audioset_eval` and
        `evaluation_pool` count."""
        role = self._roles.get(split) or self._roles.setdefault(split, _role(split))
        if role == "unused":
            return
        row = -1
        if role == "training":
            row = len(self._training_ids)
            self._training_ids.append(track_id)
            self._mark(row, split, source, extra)
        space = _ID_SPACES.get(source, source)
        place = self._spaces[space]
        where = (self._splits[split], row)
        artist_id = _id(extra.get("artist_id"), space)
        if artist_id:
            self._shared["artist", "id"].add(f"{space}\0{artist_id}", place, *where)
        name = _artist_name(artist) if artist else ""
        if name:
            # Two artists of one corpus with ids of their own are two, whatever they are called.
            self._shared["artist", "name"].add(name, 2 * place + bool(artist_id), *where)
        youtube = extra.get("ytid")
        recording = f"{_YOUTUBE}\0{youtube}" if youtube else _id(extra.get("recording_id"), space)
        if recording:
            key = recording if youtube else f"{space}\0{recording}"
            self._shared["recording", "id"].add(key, place, *where)
        if space != source:
            self._shared["track", "id"].add(f"{space}\0{_id(track_id, space)}", place, *where)

    def _mark(self, row: int, split: str, source: str, extra: Mapping[str, Any]) -> None:
        """Note a training track that belongs to evaluation by what is known about itself."""
        if source in EVALUATION_ONLY:
            self._marked.setdefault(("evaluation_only", source), _Marked()).add(row, split)
        if extra.get("evaluation_pool"):
            self._marked.setdefault(("evaluation_pool", str(extra["evaluation_pool"])), _Marked()).add(row, split)
        if str(extra.get("is_audioset_eval")).lower() in _TRUE:
            self._marked.setdefault(("audioset_eval", source or "AudioSet"), _Marked()).add(row, split)

    def finish(self) -> LeakReport:
        """What the tracks taken so far share."""
        leaks: list[Leak] = []
        rows: dict[str, list[NDArray[np.int64]]] = {}
        between: dict[str, int] = {}
        splits = self._splits.names()
        for (kind, item), marked in self._marked.items():
            leaks.append(
                Leak(kind, item, len(marked.rows), 0, tuple(sorted(marked.splits)), self._training_ids[marked.rows[0]])
            )
            rows.setdefault(kind, []).append(np.array(marked.rows))
        for (kind, way), keys in self._shared.items():
            shared = keys.leaks(by_name=way == "name")
            rows.setdefault(kind, []).append(shared.training_rows)
            for each in shared.items:
                names = sorted(map(splits.__getitem__, each.splits), key=lambda name: (not is_training(name), name))
                example = self._training_ids[each.example]
                leaks.append(Leak(kind, each.item, each.training, each.evaluation, tuple(names), example))
            if shared.between:
                between[kind] = between.get(kind, 0) + shared.between
        order = {kind: place for place, kind in enumerate(KINDS)}
        leaks.sort(key=lambda leak: (order[leak.kind], -leak.training_tracks, leak.item))
        by_kind = {kind: np.unique(np.concatenate(rows[kind])) for kind in KINDS if kind in rows}
        return LeakReport(
            leaks=tuple(leaks),
            training_ids=frozenset(self._training_ids[row] for found in by_kind.values() for row in found.tolist()),
            by_kind={kind: len(found) for kind, found in by_kind.items() if len(found)},
            between_evaluations=between,
        )


def find_leaks(tracks: Path) -> LeakReport:
    """What training and evaluation splits of a tracks table share. Streams it; raises `TableError` for no table."""
    finder = LeakFinder()
    with open_tracks(tracks) as table:
        wanted = ("track_id", "split", "source", "artist", "extra")
        present = [name for name in wanted if name in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=ROWS_PER_GROUP, columns=present):
            nothing = [None] * batch.num_rows
            columns = [batch.column(name).to_pylist() if name in present else nothing for name in wanted]
            for track_id, split, source, artist, extra in zip(*columns, strict=True):
                finder.add(track_id, split or "", source or "", artist, _extra(tracks, track_id, extra))
    return finder.finish()


def _extra(tracks: Path, track_id: str, text: str | None) -> Mapping[str, Any]:
    if not text or not any(key in text for key in _EXTRA_KEYS):  # a fifth of the time of parsing them all
        return {}
    try:
        extra = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(
            f"{tracks}, track {track_id!r}",
            "has no JSON object in `extra`",
            "make the table again with `lpmc tracks SOURCE --root DIR --output FILE`",
        ) from error
    return extra if isinstance(extra, dict) else {}


def _id(value: Any, space: str) -> str:
    """An id as text, empty for none. In the common id space of two corpora `track_0000948` and `948` are one."""
    text = "" if value is None else str(value).strip()
    if space not in _ID_SPACES.values():
        return text
    digits = text.lstrip("abcdefghijklmnopqrstuvwxyz_")
    return (digits.lstrip("0") or "0") if digits.isdecimal() else text


def _artist_name(name: str) -> str:
    """A name without case, odd widths and spacing; empty for those that name nobody (`Various Artists`)."""
    plain = " ".join((name if name.isascii() else unicodedata.normalize("NFKC", name)).casefold().split())
    return "" if plain in _NOBODY else plain


class _Numbers:
    """Names as small numbers, in the order of their first use."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._number.setdefault(name, len(self._number))

    def names(self) -> list[str]:
        return list(self._number)


@dataclass
class _Marked:
    rows: list[int] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)

    def add(self, row: int, split: str) -> None:
        self.rows.append(row)
        self.splits.add(split)


@dataclass(frozen=True)
class _Item:
    item: str
    training: int
    evaluation: int
    splits: tuple[int, ...]
    example: int  # row of a training track


@dataclass(frozen=True)
class _Found:
    items: tuple[_Item, ...]
    training_rows: NDArray[np.int64]
    between: int  # keys that several evaluation splits have


class _Shared:
    """Which rows have which key (an artist, a recording): flat arrays, for there may be half a million of either."""

    def __init__(self) -> None:
        self._keys = _Numbers()
        self._key = array("l")
        self._place = array("l")  # the corpus, and for a name whether the corpus gives its artist an id
        self._split = array("l")
        self._row = array("l")  # of the training track, -1 for one of an evaluation split

    def add(self, key: str, place: int, split: int, row: int) -> None:
        self._key.append(self._keys[key])
        self._place.append(place)
        self._split.append(split)
        self._row.append(row)

    def leaks(self, by_name: bool) -> _Found:
        """The keys that training and evaluation rows share, with the rows.

        With `by_name` two rows of the same place with ids (an odd `place`) do not match: their ids say more.
        """
        if not self._key:
            return _Found((), np.zeros(0, np.int64), 0)
        key, place, split, row = (np.asarray(column) for column in (self._key, self._place, self._split, self._row))
        training = row >= 0
        matches = np.where(training, _count(key, ~training), _count(key, training))
        if by_name:
            _, here = np.unique(key * (int(place.max()) + 1) + place, return_inverse=True)
            same = np.where(training, _count(here, ~training), _count(here, training))
            matches = matches - np.where(place % 2 == 1, same, 0)
        leaking = matches > 0
        between = _between(key, split, ~training & (place % 2 == 0 if by_name else True))
        names = self._keys.names()
        items = []
        chosen = np.flatnonzero(leaking)
        chosen = chosen[np.argsort(key[chosen], kind="stable")]
        for group in np.split(chosen, np.flatnonzero(np.diff(key[chosen])) + 1) if len(chosen) else ():
            mine = group[training[group]]
            items.append(
                _Item(
                    item=names[key[group[0]]].rpartition("\0")[2],
                    training=len(mine),
                    evaluation=len(group) - len(mine),
                    splits=tuple(int(number) for number in np.unique(split[group])),
                    example=int(row[mine[0]]),
                )
            )
        return _Found(tuple(items), row[leaking & training], between)


def _count(key: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every row how many of the `counted` rows have its key."""
    return np.bincount(key[counted], minlength=int(key.max()) + 1)[key]


def _between(key: NDArray[np.int64], split: NDArray[np.int64], counted: NDArray[np.bool_]) -> int:
    pairs = np.unique(np.stack([key[counted], split[counted]]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum()) if pairs.size else 0
