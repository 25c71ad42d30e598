"""One built directory for all tests here: a text configuration and one with clips in four formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import small_corpus
import soundfile

from dataset_builder.build import build_dataset
from dataset_builder.tracks import write_tracks

FORMATS = ("wav", "flac", "mp3", "ogg")
SECONDS = 10  # FFmpeg 5.1 gives a Vorbis file of one or two pages (up to about 4 s) a few hundred samples too many
WITHOUT_FILE = "t4"


@dataclass(frozen=True)
class Built:
    """`folder` holds the directory `lp-musiccaps`; `corpus` is what it was built from."""

    folder: Path
    corpus: small_corpus.Corpus

    @property
    def directory(self) -> Path:
        return self.folder / "lp-musiccaps"


def _clip(number: int) -> tuple[np.ndarray, int]:
    """Ten seconds, mono at 22,050 Hz or stereo at 44,100 Hz. Quiet at both ends: there resamplers differ."""
    rate, channels = ((22_050, 1), (44_100, 2))[number // len(FORMATS) % 2]
    moment = np.arange(SECONDS * rate) / rate
    tones = [0.4 * np.sin(2 * np.pi * (220 + 110 * number) * (1 + channel) * moment) for channel in range(channels)]
    return (np.stack(tones, axis=1) * np.hanning(len(moment))[:, None]).astype(np.float32), rate


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Eight tracks in three splits: a title in another script, captions that failed, and one clip that is missing."""
    folder = tmp_path_factory.mktemp("built")
    tracks = [
        replace(track, audio_path=f"clips/{track.track_id}.{FORMATS[number % len(FORMATS)]}", artist=f"Artist {number}")
        for number, track in enumerate(small_corpus.tracks(8))
    ]
    tracks[0] = replace(tracks[0], title="夜曲 – “Nº 1” 🎹\nin two lines", year=None)
    rows = small_corpus.with_failures(small_corpus.captions(tracks))
    silent = [replace(track, audio_path=None) for track in tracks]
    corpus = replace(small_corpus.write_corpus(folder / "in", silent, rows), tagged=tracks)
    write_tracks(tracks, corpus.tracks)
    for number, track in enumerate(tracks):
        path = corpus.audio / str(track.audio_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if track.track_id != WITHOUT_FILE:
            soundfile.write(path, *_clip(number))
    build(Built(folder, corpus), folder / "lp-musiccaps")
    return Built(folder, corpus)


def build(made: Built, output: Path) -> None:
    """Build the two configurations of `made` into `output`."""
    corpus = made.corpus
    build_dataset(corpus.captions, corpus.tracks, config="text", output=output)
    build_dataset(corpus.captions, corpus.tracks, config="with-audio", output=output, audio_root=corpus.audio)
