"""A corpus without downloads: General-MIDI arrangements, composed and rendered here, of which every fact is known.

Clip `index` of `seed` is always the same file, whatever else is rendered and wherever: composer, fonts and effects
draw from streams seeded with the two. Genres take turns, so any run of as many clips as there are genres has each once.
The tempo word follows the beat: slow below 90 BPM, fast above 120 BPM, medium between.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from dataset_builder.tracks import TaggedTrack
from dataset_builder.worker_processes import Report, run_tasks
from lpmc_errors import LpmcError, TableError, UsageError
from lpmc_files import claimed, write_json

from .rendered_captions import REFERENCE_STYLE, reference_caption
from .rendered_composer import Arrangement, compose
from .rendered_facts import ClipFacts
from .rendered_files import (
    CLIPS_PER_PART,
    CORPUS_FILE,
    LOCK,
    clear_unfinished,
    comment_of_whole_clip,
    read_corpus_file,
    read_part,
    standing_part,
    write_clip,
    write_part,
)
from .rendered_fonts import DEFAULT, check_held_out, file_name, find_soundfont, licence_of
from .rendered_genres import GENRES
from .rendered_player import open_soundfont, perform

SOURCE = "rendered"
COMPOSER_VERSION = (
    3  # raised with every change of the clips' sound or reference captions: older clips are rendered anew
)
SPLIT_CYCLE = ("train", "valid", "test") + ("train",) * 7  # 80/10/10
OUT_OF_DISTRIBUTION = "ood"  # the split of the test clips as the held-out SoundFont plays them
SHORTEST_S, LONGEST_S = 1.0, 600.0
LOWEST_HZ, HIGHEST_HZ = 8_000, 48_000
MOST_WORKERS = 256
MOST_CLIPS = 10_000_000  # about 2 TB at 10 s; a number with a zero too many would be planned for hours

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """What a corpus is made with. Fonts are short names or paths; `held_out` plays the split `ood`."""

    clips: int = 240
    seed: int = 0
    sampling_rate: int = 16_000
    duration_s: float = 10.0
    soundfonts: tuple[str, ...] = (DEFAULT,)
    held_out: str | None = None
    effects: bool = True

    @property
    def fonts(self) -> tuple[str, ...]:
        """All fonts, the held-out one last."""
        return self.soundfonts if self.held_out is None else (*self.soundfonts, self.held_out)

    @property
    def parameters(self) -> dict[str, Any]:
        """What must agree for a clip to be the same. The fonts stand with file names."""
        return {
            "source": SOURCE,
            "composer_version": COMPOSER_VERSION,
            "seed": self.seed,
            "sampling_rate": self.sampling_rate,
            "duration_s": float(self.duration_s),
            "soundfonts": [file_name(font) for font in self.soundfonts],
            "held_out_soundfont": None if self.held_out is None else file_name(self.held_out),
            "effects": self.effects,
        }


def split_of(index: int) -> str:
    """The split of a clip. Each genre passes through all ten places of the cycle once in ten turns."""
    turn, genre = divmod(index, len(GENRES))
    return SPLIT_CYCLE[(turn + genre) % len(SPLIT_CYCLE)]


def arrange(index: int, seed: int, duration_s: float) -> Arrangement:
    """The arrangement of clip `index` of the corpus `seed`."""
    return compose(GENRES[index % len(GENRES)], Random(f"{seed}:{index}"), duration_s)


def describe(
    arrangement: Arrangement,
    index: int,
    seed: int,
    *,
    effects: tuple[str, ...] = (),
    fonts: dict[str, str] | None = None,
    substitutions: tuple[str, ...] = (),
    held_out: bool = False,
) -> TaggedTrack:
    """What is known of a clip: its tags, a reference caption and the exact facts.

    `effects`, `fonts` (file name by instrument) and `substitutions` are what `perform` says of its sound.
    """
    facts = ClipFacts(
        genre=arrangement.genre,
        mood=arrangement.mood,
        instruments=tuple(arrangement.instruments),
        melody=arrangement.melody,
        bpm=arrangement.bpm,
        key=arrangement.key.name,
        metre=arrangement.metre,
        texture=arrangement.texture,
        effects=effects,
    )
    played_by = fonts or dict.fromkeys(facts.instruments, file_name(DEFAULT))
    files = sorted(set(played_by.values()))
    extra: dict[str, Any] = {
        "genre": facts.genre,
        "mood": facts.mood,
        "instruments": list(facts.instruments),
        "melody": facts.melody,
        "bpm": facts.bpm,
        "key": facts.key,
        "metre": facts.metre,
        "texture": facts.texture,
        "effects": list(effects),
        "seed": seed,
        "index": index,
        "soundfonts": files,
        "reference_style": REFERENCE_STYLE,
    }
    if len(arrangement.sections) > 1:
        extra["sections"] = [asdict(section) for section in arrangement.sections]
    if len(files) > 1:
        extra["played_by"] = played_by
    if substitutions:
        extra["substitutions"] = list(substitutions)
    track_id = f"rendered-{seed}-{index:05d}" + (f"-{OUT_OF_DISTRIBUTION}" if held_out else "")
    return TaggedTrack(
        track_id=track_id,
        tags=facts.tags,
        split=OUT_OF_DISTRIBUTION if held_out else split_of(index),
        source=SOURCE,
        licence=_licence(files),
        audio_path=f"audio/{track_id}.flac",
        reference_captions=(reference_caption(facts, Random(f"{seed}:{index}:caption")),),
        extra=extra,
    )


def render_corpus(
    root: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    sampling_rate: int = 16_000,
    duration_s: float = 10.0,
    soundfonts: str = DEFAULT,
    held_out_soundfont: str | None = None,
    effects: bool = True,
    workers: int = 1,
    verify: bool = False,
    progress: Progress | None = None,
) -> list[TaggedTrack]:
    """`read_rendered` as a list."""
    return list(
        read_rendered(
            root,
            clips=clips,
            seed=seed,
            sampling_rate=sampling_rate,
            duration_s=duration_s,
            soundfonts=soundfonts,
            held_out_soundfont=held_out_soundfont,
            effects=effects,
            workers=workers,
            verify=verify,
            progress=progress,
        )
    )


def read_rendered(
    root: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    sampling_rate: int = 16_000,
    duration_s: float = 10.0,
    soundfonts: str = DEFAULT,
    held_out_soundfont: str | None = None,
    effects: bool = True,
    workers: int = 1,
    verify: bool = False,
    progress: Progress | None = None,
) -> Iterator[TaggedTrack]:
    """The tracks of the rendered corpus in `root`; what of it is missing or of other parameters is rendered first.

    Clips are 16-bit mono FLAC; `audio_path` is relative to `root`. Those that are there already, whole and of the same
    parameters, are kept, so an interrupted run is continued by the same call. `progress(done, clips)` is called after
    every clip.

    Args:
        soundfonts: fonts that play, separated by commas: short names (`default`, `fluid`, `musescore`,
            `musescore-lite`, `opl3`, `csound`) or paths of SF2 and SF3 files. Each clip draws one, some one a part.
        held_out_soundfont: a font that plays every test clip once more, as the split `ood`.
        effects: half of the clips get reverb, echo, noise and the like, and all small differences of level and tone.
        workers: processes that render; the files are the same.
        verify: decode every standing clip and compare its sound, instead of looking at its size and checksum.

    Raises `UsageError` for parameters out of range, a font that is not there, a held-out one that shares recordings
    with another, or another run that renders into `root`; `AudioError` for a damaged font, `TableError` when `root` is
    a file, `MissingExtraError` without the extra `render`, `DiskError` when the disk refuses.
    """
    names = tuple(dict.fromkeys(name.strip() for name in soundfonts.split(",") if name.strip()))
    settings = Settings(clips, seed, sampling_rate, duration_s, names, held_out_soundfont or None, effects)
    _check(root, settings, workers)
    identities = _identities(root, settings)
    signature = json.dumps(settings.parameters | {"files": identities}, sort_keys=True)
    parts = range(-(-clips // CLIPS_PER_PART))
    missing = [
        number
        for number in parts
        if not standing_part(root, number, signature, _track_ids(settings, number), verify=verify)
    ]
    if missing:
        fonts = [find_soundfont(font) for font in settings.fonts]  # also where the files' identities were known
        if settings.held_out is not None:
            check_held_out(fonts[:-1], fonts[-1])
        standing = clips - sum(len(_indices(settings, number)) for number in missing)
        if progress is not None and standing:
            progress(standing, clips)
        with claimed(root, LOCK, "renders"):
            clear_unfinished(root)
            run_tasks(
                partial(_render_part, root, settings, signature),
                missing,
                workers,
                lambda done: progress(standing + done, clips) if progress is not None else None,
                stopped="fewer workers",
            )
    known = read_corpus_file(root)
    stated = settings.parameters | {"clips": clips, "files": identities}
    if missing or any(known.get(name) != value for name, value in stated.items()):
        write_json(root / CORPUS_FILE, stated | _contents(root, parts))
    for number in parts:
        yield from read_part(root, number)


def _check(root: Path, settings: Settings, workers: int) -> None:
    rate, duration_s = settings.sampling_rate, settings.duration_s
    if settings.clips < 1:
        raise UsageError("clips", f"must be at least 1, not {settings.clips}", f"{len(GENRES)} give one of each genre")
    if settings.clips > MOST_CLIPS:
        raise UsageError("clips", f"must be at most {MOST_CLIPS}, not {settings.clips}", "use several seeds for more")
    if settings.seed < 0:
        raise UsageError("seed", f"must not be negative, but is {settings.seed}", "0 is the default")
    if not LOWEST_HZ <= rate <= HIGHEST_HZ:
        raise UsageError("sampling_rate", f"must be {LOWEST_HZ} to {HIGHEST_HZ} Hz, not {rate}", "use 16000")
    if not SHORTEST_S <= duration_s <= LONGEST_S:
        raise UsageError("duration_s", f"must be {SHORTEST_S:g} to {LONGEST_S:g} s, not {duration_s:g}", "use 10")
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError("workers", f"must be 1 to {MOST_WORKERS}, not {workers}", "use as many as there are cores")
    if not settings.soundfonts:
        raise UsageError("soundfonts", "names no font", f"use {DEFAULT}")
    if len({file_name(font) for font in settings.fonts}) < len(settings.fonts):
        raise UsageError("soundfonts", "name a file twice, or the held-out one", "name each font once")
    for folder in (root, root / "audio", root / "parts"):
        if folder.exists() and not folder.is_dir():
            raise TableError(folder, "is a file, expected a folder to render into", "name another folder with --root")


def _identities(root: Path, settings: Settings) -> dict[str, str]:
    """Which release each font is, by file name: of the file, or where it is gone what the corpus was made with."""
    known = read_corpus_file(root).get("files")
    identities = {}
    for font in settings.fonts:
        try:
            path = find_soundfont(font)
        except LpmcError:
            if not isinstance(known, dict) or file_name(font) not in known:
                raise
            identities[file_name(font)] = str(known[file_name(font)])
        else:
            identities[file_name(font)] = open_soundfont(path).identity
    return identities


def _indices(settings: Settings, part: int) -> range:
    return range(part * CLIPS_PER_PART, min((part + 1) * CLIPS_PER_PART, settings.clips))


def _versions(settings: Settings, index: int) -> tuple[bool, ...]:
    """For each rendering of a clip, whether the held-out font plays it."""
    return (False, True) if settings.held_out is not None and split_of(index) == "test" else (False,)


def _track_ids(settings: Settings, part: int) -> list[str]:
    return [
        f"rendered-{settings.seed}-{index:05d}" + (f"-{OUT_OF_DISTRIBUTION}" if held_out else "")
        for index in _indices(settings, part)
        for held_out in _versions(settings, index)
    ]


def _render_part(root: Path, settings: Settings, signature: str, number: int, report: Report) -> None:
    """Render what of a part is missing, then write its rows."""
    fonts = [find_soundfont(font) for font in settings.soundfonts]
    reserved = [] if settings.held_out is None else [find_soundfont(settings.held_out)]
    tracks = []
    for index in _indices(settings, number):
        arrangement = arrange(index, settings.seed, settings.duration_s)
        for held_out in _versions(settings, index):
            chosen = reserved if held_out else fonts
            tracks.append(_clip(root, settings, signature, arrangement, index, chosen, held_out))
        report(1)
    write_part(root, number, signature, tracks)


def _clip(
    root: Path,
    settings: Settings,
    signature: str,
    arrangement: Arrangement,
    index: int,
    fonts: list[Path],
    held_out: bool,
) -> TaggedTrack:
    """The track of one clip, rendered where its file is not there, whole and of this corpus."""
    bare = describe(arrangement, index, settings.seed, held_out=held_out)
    path, rate = root / str(bare.audio_path), settings.sampling_rate
    mark = f"lp-musiccaps rendered clip {bare.track_id} of {signature}"
    comment = comment_of_whole_clip(path, rate, round(settings.duration_s * rate)) or ""
    if comment.startswith(f"{mark}\n"):
        measured = json.loads(comment.removeprefix(f"{mark}\n"))
    else:
        performance = perform(
            arrangement,
            rate,
            settings.duration_s,
            fonts=fonts,
            key=f"{settings.seed}:{index}",
            effects=settings.effects,
        )
        measured = {
            "effects": performance.effects,
            "fonts": performance.fonts,
            "substitutions": performance.substitutions,
        }
        write_clip(path, performance.wave, rate, f"{mark}\n{json.dumps(measured)}")
    return describe(
        arrangement,
        index,
        settings.seed,
        effects=tuple(measured["effects"]),
        fonts=measured["fonts"],
        substitutions=tuple(measured["substitutions"]),
        held_out=held_out,
    )


def _licence(files: list[str]) -> str:
    fonts = [f"{file}, itself {licence_of(file)}" for file in files]
    plural = "SoundFonts" if len(fonts) > 1 else "SoundFont"
    return f"synthetic: composed and rendered by lp-musiccaps (Apache-2.0) with the {plural} {'; '.join(fonts)}"


def _contents(root: Path, parts: range) -> dict[str, Any]:
    """How many clips there are of each kind."""
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("splits", "genres", "moods", "instruments", "effects", "fonts", "licences")
    }
    tracks = 0
    for number in parts:
        for track in read_part(root, number):
            tracks += 1
            counts["splits"][track.split] += 1
            counts["genres"][track.extra["genre"]] += 1
            counts["moods"][track.extra["mood"]] += 1
            counts["instruments"].update(track.extra["instruments"])
            counts["effects"].update(track.extra["effects"] or ["none"])
            counts["fonts"].update(track.extra["soundfonts"])
            counts["licences"][track.licence] += 1
    return {"tracks": tracks, "contents": {name: dict(sorted(count.items())) for name, count in counts.items()}}
