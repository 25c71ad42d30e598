"""A release of MSD-ECALS in its owners' format, and captions for it: the sizes of the real ones, invented words.

    python benchmarks/msd_corpus.py release DIR [--rows 513977]
    python benchmarks/msd_corpus.py captions TRACKS.parquet CAPTIONS.parquet [--shuffled]

`release` writes `DIR/ecals_annotation/` with `annotation.json`, `ecals_track_split.json` and `ecals_tags.json`. What is
published of the real one is kept: rows a split, tags, tags a track, distinct tag sets, and that no artist stands in two
splits. What is not published is assumed, and marked so below. The same seed gives the same bytes.
"""

# ruff: noqa: SIM905 (lists of words read better as text)
from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builder.captioning.captions_table import (
    CAPTIONS_SCHEMA,
    PIPELINE_KEY,
    ROWS_PER_GROUP,
    CaptionRow,
    write_captions,
)
from dataset_builder.instructions import template_caption
from dataset_builder.tracks import TaggedTrack, read_tracks
from lpmc_files import atomic_path

# The release (LP-MusicCaps, tables 2 and 3; Zenodo 7107130).
SPLIT_ROWS = {"train": 444_865, "valid": 34_481, "test": 34_631}
ROWS = sum(SPLIT_ROWS.values())
TAG_COUNT = 1_054
MEAN_TAGS = 10.2  # a track
DISTINCT_TAG_SETS = 139_541  # of all tracks; the rest share theirs with another track
KNOWN_YEARS = 515_576 / 1_000_000  # share of the tracks of the Million Song Dataset that have a year; the rest say 0

# Assumed, as nothing is published about it.
EXTRA_SHARE = 0.2  # of the training tracks that stand under `extra_track`
MEDIAN_TAGS = 8  # a track; with the mean it gives a log-normal distribution its width
MOST_TAGS = 60  # a track
TRACKS_PER_ARTIST = 12
TRACKS_PER_RELEASE = 5
ZIPF_SHIFT = 5  # the tag of rank r has weight 1 / (r + shift), so that the first is on one track in three

# Captions: words of each instruction on MusicCaps (table 2), brought to the mean and spread on MSD (table 3).
MSD_WORDS, MSD_WORDS_SPREAD = 37.3, 26.8
WORDS = {"writing": 44.4, "summary": 28.6, "paraphrase": 47.9, "attribute_prediction": 66.2}
FAILED = {"parse_failed": 0.01, "rejected": 0.02, "api_failed": 0.005}  # share of the captions; assumed
TEMPLATE_SHARE = 0.5  # of the rejected answers that a template caption stands in for; assumed

_GENRES = (
    "rock pop jazz blues folk metal punk soul funk disco techno house trance ambient reggae ska dub country gospel "
    "latin salsa samba tango flamenco swing bebop opera baroque romantic minimal industrial gothic grunge emo hardcore "
    "rap garage electro shoegaze lounge"
).split()
_QUALITIES = (
    "acoustic acerbic aggressive alternative bright calm classic cold dark deep distorted dreamy energetic epic "
    "ethereal experimental fast gentle groovy happy heavy hypnotic instrumental intense melodic mellow modern "
    "psychedelic raw slow smooth spacey vocal warm"
).split()
_WORDS = (
    "the a and of with in is that to it this by its an for as from on song track music piece features melody rhythm "
    "sound guitar drums bass vocals piano synth voice beat percussion strings harmony chorus verse lead electric "
    "acoustic steady driving soft loud bright warm dark catchy simple layered emotional energetic mellow uplifting "
    "groovy raw smooth lush sparse playful haunting dreamy intense gentle while over under through creating giving "
    "making evoking suggesting blending carrying atmosphere mood feeling energy texture tempo groove background "
    "foreground arrangement tone style listener evening crowd night road summer dance floor story love loss hope "
    "memory heart fire river city light shadow"
).split()
_SYLLABLES = (
    "ba bel bo bra ca cho cor da del do dra fa fen fi flo ga gel go ha hel jo ka ken ki kor la len li lo lu ma mel mi "
    "mo na nel ni no pa pel po ra ren ri ro sa sel shi so sta ta tel ti to tra va vel vi wo ya yu za zé zo"
).split()
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SCATTER = 81_007  # odd: its multiples modulo a power of two come back only after all others


@dataclass(frozen=True)
class Song:
    """A track of the release, under the names of `annotation.json`."""

    tag: list[str]
    release: str
    artist_name: str
    year: int
    title: str
    track_id: str


def tag_names() -> list[str]:
    """The 1,054 tags, the most frequent first: decades, genres, qualities and pairs of them."""
    single = [*_GENRES, *_QUALITIES, *(f"{decade}0s" for decade in (0, 1, 5, 6, 7, 8, 9))]
    pairs = (f"{quality} {genre}" for genre in _GENRES for quality in _QUALITIES)
    return list(itertools.islice(itertools.chain(single, pairs), TAG_COUNT))


def split_sizes(rows: int) -> dict[str, int]:
    """Rows of each split of a release of `rows` tracks, in the proportions of the real one. Raises `ValueError`."""
    if rows < len(SPLIT_ROWS):
        raise ValueError(f"{rows} rows are too few for {len(SPLIT_ROWS)} splits")
    held_out = {name: max(1, round(rows * SPLIT_ROWS[name] / ROWS)) for name in ("valid", "test")}
    return {"train": rows - sum(held_out.values()), **held_out}


def songs(rows: int, seed: int = 0) -> Iterator[tuple[str, Song]]:
    """(split, track) of a release of `rows` tracks, split by split, each artist in one split alone."""
    draw = random.Random(seed)
    tags, weights = tag_names(), list(itertools.accumulate(1 / (rank + ZIPF_SHIFT) for rank in range(TAG_COUNT)))
    new_set = (DISTINCT_TAG_SETS / ROWS - 1 / TRACKS_PER_ARTIST) / (1 - 1 / TRACKS_PER_ARTIST)
    number, artist = 0, 0
    for split, size in split_sizes(rows).items():
        left = size
        while left:
            count = min(left, 1 + int(draw.expovariate(1 / (TRACKS_PER_ARTIST - 0.5))))
            left -= count
            name, release = _name(artist), _phrase(draw)
            artist += 1
            sets: list[list[str]] = []
            for _ in range(count):
                if not sets or draw.random() < new_set:
                    chosen = _tag_set(draw, tags, weights)
                    sets.append(chosen)
                else:
                    chosen = draw.choice(sets)
                if draw.random() < 1 / TRACKS_PER_RELEASE:
                    release = _phrase(draw)
                year = draw.randint(1955, 2010) if draw.random() < KNOWN_YEARS else 0
                yield split, Song(chosen, release, name, year, _phrase(draw), _track_id(draw, number))
                number += 1


def _tag_set(draw: random.Random, tags: Sequence[str], weights: Sequence[float]) -> list[str]:
    width = math.sqrt(2 * math.log(MEAN_TAGS / MEDIAN_TAGS))
    count = min(MOST_TAGS, max(1, round(draw.lognormvariate(math.log(MEDIAN_TAGS), width))))
    found: dict[str, None] = {}
    while len(found) < count:
        found.update(dict.fromkeys(draw.choices(tags, cum_weights=weights, k=count - len(found))))
    return list(found)


def _name(number: int) -> str:
    """Four syllables that no other number has."""
    base = len(_SYLLABLES)  # 64, a power of two
    scattered = number * _SCATTER % base**4
    parts = [_SYLLABLES[scattered // base**place % base] for place in range(4)]
    return f"{''.join(parts[:2]).title()} {''.join(parts[2:]).title()}"


def _phrase(draw: random.Random) -> str:
    return " ".join(draw.choices(_WORDS, k=1 + int(draw.expovariate(1 / 2.5)))).title()[:80]


def _track_id(draw: random.Random, number: int) -> str:
    """As the Million Song Dataset writes them: `TR`, five letters, eleven hexadecimal digits."""
    return f"TR{''.join(draw.choices(_LETTERS, k=5))}12{number * _SCATTER % 16**9:09X}"


def write_release(folder: Path, rows: int = ROWS, seed: int = 0) -> dict[str, int]:
    """Write the release into `folder/ecals_annotation/` and return the rows of each split."""
    found = list(songs(rows, seed))
    draw = random.Random(seed + 1)
    draw.shuffle(found)  # the order of the real file is not published; one without any is the hardest to read
    lists: dict[str, list[str]] = {f"{name}_track": [] for name in ("train", "extra", "valid", "test")}
    place = folder / "ecals_annotation"
    place.mkdir(parents=True, exist_ok=True)
    with atomic_path(place / "annotation.json") as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for number, (split, song) in enumerate(found):
            extra = split == "train" and draw.random() < EXTRA_SHARE
            lists["extra_track" if extra else f"{split}_track"].append(song.track_id)
            file.write(f'{", " if number else ""}"{song.track_id}": {json.dumps(vars(song))}')
        file.write("}")
    for name, value in (("ecals_track_split.json", lists), ("ecals_tags.json", sorted(tag_names()))):
        with atomic_path(place / name) as temporary:
            temporary.write_text(json.dumps(value), encoding="utf-8")
    return split_sizes(rows)


# --- captions ---------------------------------------------------------------------------------------------------------


def mean_words() -> dict[str, float]:
    """Words of a caption by instruction, so that all four together have the mean of the real data set."""
    scale = MSD_WORDS / (sum(WORDS.values()) / len(WORDS))
    return {name: words * scale for name, words in WORDS.items()}


def _width(means: Sequence[float]) -> float:
    """The log-normal width of every instruction's lengths that gives all of them the spread of the real ones."""
    squares = sum(mean**2 for mean in means) / len(means)
    between = squares - MSD_WORDS**2
    return math.sqrt(math.log(1 + (MSD_WORDS_SPREAD**2 - between) / squares))


def caption_rows(tracks: Path, seed: int = 0) -> Iterator[CaptionRow]:
    """A row for every track and instruction, in the order of the tracks table."""
    draw = random.Random(seed + 2)
    means = mean_words()
    width = _width(list(means.values()))
    stock = draw.choices(_WORDS, weights=[1 / (rank + 3) for rank in range(len(_WORDS))], k=50_000)
    for track in read_tracks(tracks):
        for instruction, mean in means.items():
            words = max(4, round(draw.lognormvariate(math.log(mean) - width**2 / 2, width)))
            yield _caption_row(draw, track, instruction, words, stock)


def _caption_row(
    draw: random.Random, track: TaggedTrack, instruction: str, words: int, stock: Sequence[str]
) -> CaptionRow:
    outcome = draw.choices(("ok", *FAILED), weights=(1 - sum(FAILED.values()), *FAILED.values()))[0]
    answered = outcome != "api_failed"
    named = track.tags[: max(1, words // 3)]
    further = max(1, words - 1 - sum(len(tag.split()) for tag in named))
    start = draw.randrange(len(stock) - further)
    text = f"This {', '.join(named)} {' '.join(stock[start : start + further])}."
    caption, origin = (text, "model") if outcome == "ok" else (None, None)
    if outcome == "rejected" and draw.random() < TEMPLATE_SHARE:
        caption, origin = template_caption(track.tags), "template"
    made: dict[str, Any] = {
        "reason": None if outcome == "ok" else f"{outcome.replace('_', ' ')}: the answer cannot be used",
        "model_answered": "gpt-3.5-turbo-0613" if answered else None,
        "parser_version": "2" if answered else None,
        "prompt_tokens": 60 + 3 * len(track.tags) if answered else None,
        "completion_tokens": round(words * 1.35) if answered else None,
        "tag_coverage": len(named) / max(1, len(track.tags)) if caption else None,
    }
    if outcome == "ok":
        made["facts"] = tuple(f"genre: {tag}" for tag in named[:3])
        made["unsupported"] = ("tempo: slow",) if draw.random() < 0.1 else ()
        if instruction == "attribute_prediction":
            made["new_attributes"] = tuple(draw.sample(_QUALITIES, 3))
    return CaptionRow(
        track.track_id,
        instruction,
        caption,
        outcome,
        caption_origin=origin,
        request_key=f"{draw.getrandbits(256):064x}",
        backend="openai",
        provider="api.openai.com",
        model_asked="gpt-3.5-turbo",
        wording="released",
        wording_version="1",
        attempts=1,
        seed=0,
        **made,
    )


def write_synthetic_captions(tracks: Path, output: Path, *, shuffled: bool = False, seed: int = 0) -> int:
    """Write the captions table of `tracks`, in their order or in none; return its rows."""
    pipeline = {"instructions": list(WORDS), "model": "gpt-3.5-turbo", "note": "synthetic texts of a benchmark"}
    rows = write_captions(caption_rows(tracks, seed), output, pipeline)
    if shuffled:
        import numpy as np
        import pyarrow.parquet as pq

        # Held in memory as a whole, in a process that nobody measures.
        made = pq.read_metadata(output).metadata
        table = pq.read_table(output)
        order = np.random.default_rng(seed).permutation(len(table))
        with atomic_path(output) as temporary, pq.ParquetWriter(temporary, CAPTIONS_SCHEMA) as writer:
            for start in range(0, len(order), ROWS_PER_GROUP):
                part = table.take(order[start : start + ROWS_PER_GROUP])
                writer.write_table(part.cast(CAPTIONS_SCHEMA), row_group_size=ROWS_PER_GROUP)
            writer.add_key_value_metadata({PIPELINE_KEY: made[PIPELINE_KEY]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    release = commands.add_parser("release")
    release.add_argument("folder", type=Path)
    release.add_argument("--rows", type=int, default=ROWS)
    captions = commands.add_parser("captions")
    captions.add_argument("tracks", type=Path)
    captions.add_argument("output", type=Path)
    captions.add_argument("--shuffled", action="store_true")
    given = parser.parse_args()
    if given.command == "release":
        print(json.dumps(write_release(given.folder, given.rows)))
    else:
        print(write_synthetic_captions(given.tracks, given.output, shuffled=given.shuffled))


if __name__ == "__main__":
    main()
