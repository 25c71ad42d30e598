"""A corpus without downloads: General-MIDI arrangements, composed and rendered here, of which every fact is known.

Clip `index` of `seed` is always the same file, whatever else is rendered and wherever: the composer draws from a
stream seeded with the two. Genres take turns, so any run of twelve clips holds each of them once.
The tempo word follows the beat: slow below 90 BPM, fast above 120 BPM, medium between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from dataset_builder.tracks import TaggedTrack
from lpmc_errors import TableError, UsageError
from lpmc_files import atomic_path, write_json

from .rendered_captions import REFERENCE_STYLE, reference_caption
from .rendered_composer import Arrangement, compose
from .rendered_facts import ClipFacts
from .rendered_genres import GENRES
from .rendered_player import SOUNDFONT, play, soundfont_path

SOURCE = "rendered"
COMPOSER_VERSION = 1  # raised with every change that makes the clips sound different: older clips are rendered anew
LICENCE = (
    "synthetic: composed and rendered by lp-musiccaps (Apache-2.0) with the SoundFont TimGM6mb.sf2, "
    "itself GPL-2.0 (Tim Brechbill, David Bolton)"
)
SPLIT_CYCLE = ("train", "valid", "test") + ("train",) * 7  # 80/10/10
CORPUS_FILE = "tracks.json"
SHORTEST_S, LONGEST_S = 1.0, 600.0
LOWEST_HZ, HIGHEST_HZ = 8_000, 48_000

Progress = Callable[[int, int], None]


def split_of(index: int) -> str:
    """The split of a clip. Each genre passes through all ten places of the cycle once in 120 clips."""
    turn, genre = divmod(index, len(GENRES))
    return SPLIT_CYCLE[(turn + genre) % len(SPLIT_CYCLE)]


def arrange(index: int, seed: int, duration_s: float) -> Arrangement:
    """The arrangement of clip `index` of the corpus `seed`."""
    return compose(GENRES[index % len(GENRES)], Random(f"{seed}:{index}"), duration_s)


def describe(arrangement: Arrangement, index: int, seed: int) -> TaggedTrack:
    """What is known of a clip: its tags, a reference caption and the exact facts."""
    facts = ClipFacts(
        genre=arrangement.genre,
        mood=arrangement.mood,
        instruments=tuple(arrangement.instruments),
        melody=arrangement.melody,
        bpm=arrangement.bpm,
        key=arrangement.key.name,
        metre=arrangement.metre,
    )
    caption = reference_caption(facts, Random(f"{seed}:{index}:caption"))
    track_id = f"rendered-{seed}-{index:05d}"
    return TaggedTrack(
        track_id=track_id,
        tags=facts.tags,
        split=split_of(index),
        source=SOURCE,
        licence=LICENCE,
        audio_path=f"audio/{track_id}.flac",
        reference_captions=(caption,),
        extra={
            "genre": arrangement.genre,
            "mood": arrangement.mood,
            "instruments": list(arrangement.instruments),
            "melody": arrangement.melody,
            "bpm": arrangement.bpm,
            "key": facts.key,
            "metre": arrangement.metre,
            "seed": seed,
            "index": index,
            "soundfont": SOUNDFONT,
            "reference_style": REFERENCE_STYLE,
        },
    )


def render_corpus(
    root: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    sampling_rate: int = 16_000,
    duration_s: float = 10.0,
    progress: Progress | None = None,
) -> list[TaggedTrack]:
    """Render the corpus into `root/audio/<track_id>.flac` (16-bit mono) and `root/tracks.json`; return its tracks.

    Clips that are there already, whole and of the same parameters, are kept, so an interrupted run is continued by
    the same call. `progress(done, clips)` is called after every clip. `audio_path` of a track is relative to `root`.
    Raises `UsageError` for parameters out of range, `TableError` when `root` is a file, `MissingExtraError` without
    the extra `render`, `DiskError` when the disk refuses.
    """
    parameters = _parameters(root, clips, seed, sampling_rate, duration_s)
    soundfont_path()  # before any file is written
    tracks = []
    for index in range(clips):
        arrangement = arrange(index, seed, duration_s)
        track = describe(arrangement, index, seed)
        tracks.append(track)
        path, mark = root / str(track.audio_path), _mark(index, seed, sampling_rate, duration_s)
        if not _is_whole(path, mark, sampling_rate, duration_s):
            _write_flac(path, play(arrangement, sampling_rate, duration_s), sampling_rate, mark)
        if progress is not None:
            progress(index + 1, clips)
    write_json(root / CORPUS_FILE, parameters | {"tracks": [asdict(track) for track in tracks]})
    return tracks


def read_rendered(
    root: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    sampling_rate: int = 16_000,
    duration_s: float = 10.0,
    progress: Progress | None = None,
) -> Iterator[TaggedTrack]:
    """The tracks of the rendered corpus in `root`, which is rendered first where it is missing or not of these
    parameters. Raises as `render_corpus`."""
    parameters = _parameters(root, clips, seed, sampling_rate, duration_s)
    tracks = _standing_corpus(root, parameters)
    if tracks is None:
        tracks = render_corpus(
            root, clips=clips, seed=seed, sampling_rate=sampling_rate, duration_s=duration_s, progress=progress
        )
    yield from tracks


def _parameters(root: Path, clips: int, seed: int, sampling_rate: int, duration_s: float) -> dict[str, Any]:
    if clips < 1:
        raise UsageError("clips", f"must be at least 1, not {clips}", f"{len(GENRES)} give one of each genre")
    if seed < 0:
        raise UsageError("seed", f"must not be negative, but is {seed}", "0 is the default")
    if not LOWEST_HZ <= sampling_rate <= HIGHEST_HZ:
        raise UsageError("sampling_rate", f"must be {LOWEST_HZ} to {HIGHEST_HZ} Hz, not {sampling_rate}", "use 16000")
    if not SHORTEST_S <= duration_s <= LONGEST_S:
        raise UsageError("duration_s", f"must be {SHORTEST_S:g} to {LONGEST_S:g} s, not {duration_s:g}", "use 10")
    if root.exists() and not root.is_dir():
        raise TableError(root, "is a file, expected a folder to render into", "name a folder with --root")
    return {
        "source": SOURCE,
        "composer_version": COMPOSER_VERSION,
        "clips": clips,
        "seed": seed,
        "sampling_rate": sampling_rate,
        "duration_s": float(duration_s),
        "soundfont": SOUNDFONT,
    }


def _mark(index: int, seed: int, sampling_rate: int, duration_s: float) -> str:
    """What a clip's FLAC comment says, so that a later run can tell whether it is the clip it would render."""
    return (
        f"lp-musiccaps rendered clip, composer {COMPOSER_VERSION}, seed {seed}, index {index}, "
        f"{sampling_rate} Hz, {float(duration_s):g} s, {SOUNDFONT}"
    )


def _write_flac(path: Path, wave: NDArray[np.int16], sampling_rate: int, mark: str) -> None:
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sampling_rate, 1, "PCM_16", format="FLAC") as file,
    ):
        file.comment = mark
        file.write(wave)


def _is_whole(path: Path, mark: str, sampling_rate: int, duration_s: float) -> bool:
    """Whether the file decodes to its end and is the clip that `mark` describes."""
    if not path.is_file():
        return False
    try:
        with soundfile.SoundFile(path) as file:
            if file.comment != mark or file.samplerate != sampling_rate:
                return False
            return len(file.read(dtype="int16")) == round(duration_s * sampling_rate)
    except soundfile.LibsndfileError:
        return False


def _standing_corpus(root: Path, parameters: dict[str, Any]) -> list[TaggedTrack] | None:
    """The tracks of a whole corpus of these parameters in `root`, None where there is none."""
    try:
        corpus = json.loads((root / CORPUS_FILE).read_text("utf-8"))
        if any(corpus.get(name) != value for name, value in parameters.items()):
            return None
        tracks = [_track(row) for row in corpus["tracks"]]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None  # absent or damaged: render_corpus writes it anew and keeps the clips that are whole
    rate, duration_s = parameters["sampling_rate"], parameters["duration_s"]
    marks = (_mark(index, parameters["seed"], rate, duration_s) for index in range(parameters["clips"]))
    whole = all(
        _is_whole(root / str(track.audio_path), mark, rate, duration_s)
        for track, mark in zip(tracks, marks, strict=True)
    )
    return tracks if whole else None


def _track(row: dict[str, Any]) -> TaggedTrack:
    lists: dict[str, Any] = {
        name: tuple(row[name]) for name in ("tags", "reference_captions", "dropped_tags") if name in row
    }
    return TaggedTrack(**(row | lists))
