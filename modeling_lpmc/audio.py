"""Audio files in, float32 mono at the model's rate out; and one clear line for every file that is of no use.

This is the project's own side of `audio_track_lpmc` and `audio_files_lpmc`, which travel with the models: the same
reading, with the errors that the command line prints. No torch here: the data-set rooms may import this file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from lpmc_errors import AudioError, MissingExtraError
from modeling_lpmc.audio_files_lpmc import BrokenLibraryError, UnreadableAudioError
from modeling_lpmc.audio_track_lpmc import (
    HELD_SECONDS,
    MIN_SECONDS,
    RESAMPLER_QUALITY,
    SILENCE_DBFS,
    AudioTrack,
    has_sound,
    read_track,
    without_offset,
)

SAMPLING_RATE = 16_000  # Hz; what the model hears (paper 5.1)

_READ_BY_LIBSNDFILE = {
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".mp3", ".ogg", ".oga", ".opus"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
}
_READ_BY_FFMPEG = {".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"}  # through PyAV or torchcodec
AUDIO_SUFFIXES = frozenset(_READ_BY_LIBSNDFILE | _READ_BY_FFMPEG)
"""File name endings that are taken for audio when a folder is searched (lower case)."""


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Decoded audio: `samples` (n,) float32 mono in [-1, 1] at `sampling_rate` Hz, and what the file was before.

    `duration` is that of the original in seconds, counted in its own frames at `source_sampling_rate`.
    """

    samples: np.ndarray
    sampling_rate: int
    duration: float
    source_sampling_rate: int
    channels: int


def load_audio(
    path: str | os.PathLike[str], sampling_rate: int = SAMPLING_RATE, *, max_seconds: float | None = None
) -> AudioClip:
    """Decode an audio file to float32 mono at `sampling_rate` Hz, all of it at once; see `open_track` for long files.

    Channels are averaged. A float file that exceeds [-1, 1], and the overshoot of a lossy decoder or of the
    resampler, is scaled down as a whole rather than clipped. Silence is loaded like anything else
    (see `check_has_sound`).

    Raises `AudioError` in one line for a file that is missing, empty, a folder, forbidden, not audio, shorter than
    `MIN_SECONDS`, longer than `max_seconds`, damaged (NaN, infinity), or cut short: when more than `MIN_SECONDS` of
    what the header promises is missing, the file is refused, since a caption of the rest would pass for one of the
    whole. An Ogg file declares no length, so a cut one is only shorter. Raises `MissingExtraError` where soundfile or
    soxr can't be loaded.
    """
    with errors_of_the_project():
        track = read_track(path, sampling_rate, max_seconds=max_seconds, held_seconds=math.inf)
        return AudioClip(track.samples(), sampling_rate, track.duration, track.source_sampling_rate, track.channels)


def open_track(
    path: str | os.PathLike[str], sampling_rate: int = SAMPLING_RATE, *, max_seconds: float | None = None
) -> AudioTrack:
    """Read an audio file of any length to its end and check it, keeping no more than `HELD_SECONDS` of it.

    Its windows (`track_windows`) hold the samples that `load_audio` gives. Raises as `load_audio` does.
    """
    with errors_of_the_project():
        return read_track(path, sampling_rate, max_seconds=max_seconds)


def track_windows(track: AudioTrack, bounds: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The samples (n,) of each window in turn. Raises `AudioError` if the file was changed since it was opened."""
    with errors_of_the_project():
        yield from track.windows(bounds)


def check_has_sound(audio: AudioClip | AudioTrack, item: object) -> None:
    """Raise `AudioError` naming `item` when the whole of it is silent: a captioner would invent music."""
    sounding = audio.sounding if isinstance(audio, AudioTrack) else has_sound(audio.samples)
    if not sounding:
        raise AudioError(
            item,
            f"silence: nothing to caption (its peak lies below {SILENCE_DBFS:.0f} dBFS)",
            "choose a file with sound",
        )


@contextmanager
def errors_of_the_project() -> Iterator[None]:
    """Raise the faults of the files that travel with the models as `AudioError` and `MissingExtraError`."""
    try:
        yield
    except UnreadableAudioError as error:
        raise AudioError(error.item, error.problem, error.remedy) from error
    except BrokenLibraryError as error:
        raise MissingExtraError(error.library, error.problem, error.remedy) from error


__all__ = [
    "AUDIO_SUFFIXES",
    "HELD_SECONDS",
    "MIN_SECONDS",
    "RESAMPLER_QUALITY",
    "SAMPLING_RATE",
    "SILENCE_DBFS",
    "AudioClip",
    "AudioTrack",
    "check_has_sound",
    "errors_of_the_project",
    "has_sound",
    "load_audio",
    "open_track",
    "track_windows",
    "without_offset",
]
