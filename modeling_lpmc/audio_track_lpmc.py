# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""A track of any length as mono windows at the model's rate, in memory that does not grow with its length.

A track is decoded to its end before a window is given out. Only then is it known to be whole and sane, how many windows
it has and how loud its peak is: a file that breaks off after two hours is refused before anything was captioned. A
track of up to `HELD_SECONDS` is kept meanwhile and thus decoded once; a longer one is decoded again for its windows,
which costs seconds where captioning costs minutes.

This file travels to the Hub as remote code and imports numpy and its neighbour; libsoxr (soxr) resamples, and is
imported when a track has another rate than the model.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from .audio_files_lpmc import (
    BLOCK_VALUES,
    AudioSource,
    HiddenSoundError,
    UnreadableAudioError,
    needed_library,
    open_audio,
)

MIN_SECONDS = 0.5  # a 0.24 s tail made a captioner invent vocals (SonicVerse#2); the extractor drops such tails too
SILENCE_DBFS = -80.0  # peak; 16-bit silence with TPDF dither reaches -84 dBFS, music never stays this low
SILENCE_TEXT = "[silence]"  # what stands for the caption of a window without sound
RESAMPLER_QUALITY = "HQ"  # soxr; 100 dB of rejection, twice as fast as VHQ
HELD_SECONDS = 300.0  # of a track that are kept while it is read: a song, 19 MB at 16 kHz
LOWEST_HERTZ = 20.0  # below this nothing is heard, and what a window holds of it is an offset
OFFSET_MARGIN = 5.0  # times what a tone can have; an orchestra's recording at hand has 1.3 times, and is left as it is

_MIN_RATE, _MAX_RATE = 1_000, 768_000  # Hz; outside of these the header is damaged
_MAX_SAMPLE = 2.0**31  # floats that hold 32-bit integers; anything larger is a damaged file
_SILENCE_PEAK = 10 ** (SILENCE_DBFS / 20)
_MAX_CHANNELS = 8  # of an array; a longer short axis is no channel axis

_Opener = Callable[[], AbstractContextManager[AudioSource]]


@dataclass(frozen=True, eq=False)
class AudioTrack:
    """Audio that was read to its end: `num_samples` at `sampling_rate` Hz mono, and what it was before.

    `duration` is in seconds of the original, counted in its own frames. `peak` is that of the mono samples; where it
    exceeds 1 all windows are divided by it. `sounding` is false for silence, at whatever offset.
    """

    name: str
    sampling_rate: int
    num_samples: int
    duration: float
    source_sampling_rate: int
    channels: int
    peak: float
    sounding: bool
    opener: _Opener
    held: tuple[np.ndarray, ...] | None

    def windows(self, bounds: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """The samples (n,) float32 in [-1, 1] of each (start, end) of `bounds`, whose starts and ends ascend.

        Raises `UnreadableAudioError` if the file is not any more what it was when it was first read.
        """
        kept: deque[tuple[int, np.ndarray]] = deque()  # the place of a block's first sample, and the block
        position = 0
        with closing(self._blocks()) as blocks:
            for start, end in bounds:
                while position < end:
                    block = next(blocks, None)
                    if block is None:
                        raise UnreadableAudioError(self.name, "changed while it was read", "try again")
                    kept.append((position, block))
                    position += len(block)
                while kept and kept[0][0] + len(kept[0][1]) <= start:
                    kept.popleft()
                yield _scaled(
                    np.concatenate([block[max(0, start - at) : end - at] for at, block in kept if at < end]), self.peak
                )

    def samples(self) -> np.ndarray:
        """The whole track: float32 (num_samples,) in [-1, 1]."""
        return next(self.windows([(0, self.num_samples)]), np.zeros(0, np.float32))

    def _blocks(self) -> Generator[np.ndarray, None, None]:
        if self.held is not None:
            yield from self.held
            return
        with self.opener() as source:
            for _, block in _mono_blocks(self.name, source, self.sampling_rate):
                yield block


def read_track(
    path: str | os.PathLike[str],
    sampling_rate: int,
    *,
    max_seconds: float | None = None,
    held_seconds: float = HELD_SECONDS,
) -> AudioTrack:
    """Read a file to its end and check it; its windows come mono at `sampling_rate` Hz.

    Raises `UnreadableAudioError` in one line for a file that is missing, empty, a folder, forbidden, not audio, shorter
    than `MIN_SECONDS`, longer than `max_seconds`, damaged (NaN, infinity), or cut short: when more than `MIN_SECONDS`
    of what the header promises is missing, the file is refused, since a caption of the rest would pass for one of the
    whole. An Ogg file declares no length, so a cut one is only shorter. A library that is lacking is a
    `MissingDecoderError` or a `BrokenLibraryError`.
    """
    limits = {
        "longest": math.inf if max_seconds is None else max_seconds,
        "shortest": MIN_SECONDS,
        "held_seconds": held_seconds,
    }
    try:
        return _read(str(path), partial(open_audio, path), sampling_rate, **limits)
    except HiddenSoundError:
        return _read(str(path), partial(open_audio, path, hidden_sound=True), sampling_rate, **limits)


def track_of_array(array: np.ndarray, array_rate: int, sampling_rate: int, *, name: str = "audio") -> AudioTrack:
    """A track of float samples (n,), or with channels on the shorter axis, that are at `array_rate` Hz.

    It may be of any length: whoever cuts out a tenth of a second means it. Raises `UnreadableAudioError` for integers,
    other shapes, NaN and an array without samples, and `BrokenLibraryError` if soxr is lacking where it is needed.
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise UnreadableAudioError(
            name, f"has {array.dtype} samples", "convert them to floats in [-1, 1] (int16: divide by 32768)"
        )
    columns = array[:, None] if array.ndim == 1 else array.T if array.ndim == 2 and _rows_are_channels(array) else array
    if columns.ndim != 2 or columns.shape[1] > _MAX_CHANNELS:
        raise UnreadableAudioError(name, f"has shape {array.shape}", "expected samples, or at most 8 channels of them")

    def opener() -> AbstractContextManager[AudioSource]:
        step = BLOCK_VALUES // max(1, columns.shape[1])
        blocks = (columns[at : at + step].astype(np.float32) for at in range(0, len(columns), step))
        return nullcontext(AudioSource(array_rate, columns.shape[1], None, blocks))

    return _read(name, opener, sampling_rate)


def has_sound(samples: np.ndarray) -> bool:
    """Whether `samples` (n,) in [-1, 1] move by more than `SILENCE_DBFS` about their mean: an offset is no sound."""
    if not len(samples):
        return False
    mean = float(samples.mean(dtype=np.float64))
    return max(float(samples.max()) - mean, mean - float(samples.min())) > _SILENCE_PEAK  # no copy, unlike abs()


def without_offset(window: np.ndarray, sampling_rate: int) -> np.ndarray:
    """`window` (n,) without its mean, if that is more than sound can have; else `window` itself, bit for bit.

    A tone of amplitude A and frequency f has a mean of at most A / (pi f T) in a window of T seconds, that of the half
    period that may be left over: 0.16 % of its amplitude at 20 Hz in ten seconds. More than five times that is an
    offset of the recorder. The released spectrogram would hear it, as its window spreads it into the two lowest mel
    bands: in an orchestra at half of full scale an offset of 0.01 raises them by 19 and 12 dB, one of 0.1 by 40 and 32.
    """
    if not len(window):
        return window
    mean = float(window.mean(dtype=np.float64))
    amplitude = (float(window.max()) - float(window.min())) / 2
    most = OFFSET_MARGIN * amplitude / (math.pi * LOWEST_HERTZ * len(window) / sampling_rate)
    return window if abs(mean) <= most else window - np.float32(mean)


def _rows_are_channels(array: np.ndarray) -> bool:
    return array.shape[0] < array.shape[1]


def _scaled(samples: np.ndarray, peak: float) -> np.ndarray:
    """`samples` (n,), scaled in place by the peak of their track if that exceeds full scale."""
    if peak > 1.0:
        samples /= np.float32(peak)
        np.clip(samples, -1.0, 1.0, out=samples)  # the division may leave the peak one rounding step above 1
    return samples


def _read(
    name: str,
    opener: _Opener,
    sampling_rate: int,
    *,
    longest: float = math.inf,
    shortest: float = 0.0,
    held_seconds: float = HELD_SECONDS,
) -> AudioTrack:
    """Decode all of it once; `longest` and `shortest` are seconds."""
    held: list[np.ndarray] | None = []
    frames = count = 0
    highest, lowest, total = -math.inf, math.inf, 0.0
    with opener() as source:
        rate = source.sampling_rate
        if not _MIN_RATE <= rate <= _MAX_RATE:
            raise UnreadableAudioError(name, f"claims a sampling rate of {rate} Hz", "export the file again")
        promised = source.promised_frames or 0
        if promised > longest * rate:
            raise _too_long(name, longest)
        for read, block in _mono_blocks(name, source, sampling_rate):
            frames += read
            if frames > longest * rate:
                raise _too_long(name, longest)
            if not len(block):
                continue
            count += len(block)
            highest, lowest = max(highest, float(block.max())), min(lowest, float(block.min()))
            total += float(block.sum(dtype=np.float64))
            if held is not None:
                held.append(block)
                if count > held_seconds * sampling_rate:
                    held = None
    if not frames:
        raise UnreadableAudioError(name, "is empty: it holds no sound", "choose another file")
    if promised - frames > MIN_SECONDS * rate:
        raise UnreadableAudioError(
            name,
            f"is cut short: its header promises {promised / rate:.1f} s, {frames / rate:.1f} s could be read",
            "copy or download it again",
        )
    if frames < shortest * rate:
        raise UnreadableAudioError(
            name, f"lasts {frames / rate:.2f} s", f"a caption needs at least {shortest} s of sound"
        )
    mean = total / max(1, count)
    return AudioTrack(
        name=name,
        sampling_rate=sampling_rate,
        num_samples=count,
        duration=frames / rate,
        source_sampling_rate=rate,
        channels=source.channels,
        peak=max(highest, -lowest, 0.0),
        sounding=max(highest - mean, mean - lowest) > _SILENCE_PEAK,
        opener=opener,
        held=None if held is None else tuple(held),
    )


def _too_long(name: str, longest: float) -> UnreadableAudioError:
    return UnreadableAudioError(name, f"is longer than {longest:g} s", "cut it into shorter pieces")


def _mono_blocks(name: str, source: AudioSource, sampling_rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """Frames read of the source, and the mono samples (n,) at `sampling_rate` that came out for them, which lag."""
    resampler = None
    if source.sampling_rate != sampling_rate:
        soxr = needed_library("soxr", f"pip install soxr, which resamples audio at {source.sampling_rate} Hz")
        resampler = soxr.ResampleStream(source.sampling_rate, sampling_rate, 1, "float32", RESAMPLER_QUALITY)
    frames = 0
    for block in source.blocks:
        if len(block) and not (block.max() <= _MAX_SAMPLE and block.min() >= -_MAX_SAMPLE):  # NaN spreads to both
            sane = (np.abs(block) <= _MAX_SAMPLE).all(axis=1)
            second = (frames + int(sane.argmin())) / source.sampling_rate
            raise UnreadableAudioError(
                name, f"holds samples that are no sound (NaN, infinity) at {second:.2f} s", "export the file again"
            )
        frames += len(block)
        mono = _mean_of_channels(block)
        yield len(block), resampler.resample_chunk(np.ascontiguousarray(mono)) if resampler else mono
    if resampler and frames:
        yield 0, resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _mean_of_channels(block: np.ndarray) -> np.ndarray:
    """(frames, channels) to (frames,). For stereo the same numbers as numpy's mean, which takes 24 times as long."""
    if block.shape[1] == 1:
        return block[:, 0]
    return (block[:, 0] + block[:, 1]) / 2 if block.shape[1] == 2 else block.mean(axis=1)


__all__ = [
    "AudioTrack",
    "has_sound",
    "read_track",
    "track_of_array",
    "without_offset",
]
