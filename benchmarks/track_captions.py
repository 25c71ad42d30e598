"""Does the caption of a whole track say more that is true than its segments do? Rendered songs, whose facts are known.

    python benchmarks/track_captions.py --folder DIR [--songs 160] [--seconds 150] [--model DIR_OR_ID]

DIR/songs holds the songs: whole forms (introduction, verses, breakdowns), composed with a seed of their own, played by
the SoundFont that lpmc_mini did not learn from. Rows: `track` is what `lpmc caption` writes; `medoid` the one segment
that agrees best with the others, `first` the first; `mean segment` all segments, each by itself; `joined` all segments
one after the other; `best segment, known` the one whose facts are best, which only the truth tells.
Facts F1 over all songs (micro), with 95 % intervals over songs; differences are paired.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from caption_metrics.facts import fact_counts  # noqa: E402
from lpmc_console import progress_bar  # noqa: E402
from lpmc_errors import LpmcError  # noqa: E402
from lpmc_files import write_json  # noqa: E402
from modeling_lpmc.track_captions import HOUSE, Window, describe_windows  # noqa: E402

SEED = 11  # of the songs; that of lpmc_mini's corpus is 1
SAMPLES = 2_000  # of the bootstrap
Counts = np.ndarray  # (claimed, supported, stated, found)


def counts(caption: str, tags: tuple[str, ...]) -> Counts:
    """What a caption claims and what of it is true, against the exact tags, of which the first is the genre."""
    genre, *others = tags
    found = fact_counts(caption, (". ".join((f"{genre} music", *others)) + ".",))
    return np.array([list(each) for each in found.values()]).sum(axis=0)


def f1(sums: Counts) -> np.ndarray:
    """Facts F1 in percent of sums (..., 4)."""
    claimed, supported, stated, found = np.moveaxis(sums.astype(float), -1, 0)
    precision, recall = supported / np.maximum(claimed, 1), found / np.maximum(stated, 1)
    return 200 * precision * recall / np.maximum(precision + recall, 1e-9)


def rows_of_song(windows: list[Window], tags: tuple[str, ...]) -> dict[str, Counts]:
    """The counts of each row for one song."""
    from modeling_lpmc.captioner import CaptionSegment, track_caption

    each = [counts(window.text, tags) for window in windows]
    medoid = track_caption([CaptionSegment(window.start, window.end, window.text) for window in windows])
    return {
        "track": counts(describe_windows(windows, style=HOUSE).caption, tags),
        "medoid": counts(medoid, tags),
        "first": each[0],
        "mean segment": np.sum(each, axis=0) / len(each),
        "joined": counts(" ".join(window.text for window in windows), tags),
        "best segment, known": max(each, key=lambda sums: float(f1(sums))),
    }


def measure(folder: Path, songs: int, seconds: float, model: str, soundfont: str) -> dict[str, Any]:
    """Render, caption and score. Raises the `LpmcError`s of the steps."""
    from dataset_builder.sources.options import read_source
    from modeling_lpmc.audio import load_audio
    from modeling_lpmc.captioner import Captioner

    root = folder / "songs"
    options = [f"clips={songs}", f"seed={SEED}", f"duration_s={seconds}", f"soundfonts={soundfont}"]
    with progress_bar("render") as update:
        tracks = list(read_source("rendered", root, options, progress=lambda done, total: update(done, total, "")))
    captioner = Captioner.from_pretrained(model)
    rows: list[dict[str, Counts]] = []
    words: list[int] = []
    with progress_bar("caption") as update:
        for number, track in enumerate(tracks, 1):
            clip = load_audio(root / str(track.audio_path), captioner.sampling_rate)
            windows = list(captioner.iter_windows(clip))
            rows.append(rows_of_song(windows, track.tags))
            words.append(len(describe_windows(windows).caption.split()))
            update(number, len(tracks), "")
    draws = np.random.default_rng(SEED).integers(len(rows), size=(SAMPLES, len(rows)))
    resampled: Callable[[str], np.ndarray] = lambda name: f1(np.stack([row[name] for row in rows])[draws].sum(axis=1))  # noqa: E731
    drawn = {name: resampled(name) for name in rows[0]}
    found: dict[str, Any] = {"songs": len(rows), "seconds": seconds, "words_of_a_track_caption": float(np.mean(words))}
    for name, samples in drawn.items():
        sums = np.sum([row[name] for row in rows], axis=0)
        ahead = drawn["track"] - samples
        found[name] = {
            "facts_f1": round(float(f1(sums)), 1),
            "interval": [round(float(end), 1) for end in np.percentile(samples, [2.5, 97.5])],
            "precision": round(100 * float(sums[1] / max(sums[0], 1)), 1),
            "recall": round(100 * float(sums[3] / max(sums[2], 1)), 1),
            "track_ahead_by": [round(float(end), 1) for end in np.percentile(ahead, [2.5, 97.5])],
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--songs", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--model", default="lpmc_mini")
    parser.add_argument("--soundfont", default="default")
    wanted = parser.parse_args()
    try:
        found = measure(wanted.folder, wanted.songs, wanted.seconds, wanted.model, wanted.soundfont)
    except LpmcError as error:
        print(f"track_captions: {error}", file=sys.stderr)
        return error.exit_code
    write_json(wanted.folder / "track_captions.json", found)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
