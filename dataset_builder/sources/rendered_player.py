"""Plays an arrangement: every part on its own through the SoundFont, balanced, in a room, as a mono wave.

Parts are balanced by what is heard of them, not by their notes' velocities, so that an instrument which is named in
the tags can be heard in the mix.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import MissingExtraError

from .rendered_composer import Arrangement, Part
from .rendered_soundfont import DRUM_BANK, SoundFont

FAINTEST = 1e-9  # guards a division where there is no sound at all
PEAK = 10 ** (-3 / 20)  # -3 dBFS leaves room for lossy encoders
FRAME_S = 0.02  # loudness is measured over frames of this length
SILENCE_BELOW_PEAK = 0.03  # a frame this far below the part's loudest one (30 dB) is a rest
ENDING_S = 0.03  # the cut at the end of the clip is faded, or it would click
MEZZOFORTE = 90  # the velocity notes are sampled at; louder and softer ones are scaled as MIDI has it, by its square
FFT_BLOCK = 8192  # transforms whose length is a multiple of a power of two are fast
ROOM_SEED = 20230731  # every clip of a genre stands in the same room; any number will do

SOUNDFONT = "TimGM6mb.sf2"


def soundfont_path() -> Path:
    """Where the General-MIDI SoundFont of the package pretty_midi lies.

    Raises `MissingExtraError` when that package is not installed.
    """
    package = importlib.util.find_spec("pretty_midi")  # found, not imported: only its data file is of use
    if package is None or package.origin is None:
        raise MissingExtraError("pretty_midi", extra="render")
    return Path(package.origin).with_name(SOUNDFONT)


@lru_cache(maxsize=1)
def _soundfont(path: Path) -> SoundFont:
    return SoundFont(path)


def play(arrangement: Arrangement, sampling_rate: int, duration_s: float) -> NDArray[np.int16]:
    """Render an arrangement as a 16-bit mono wave, shape = (round(duration_s * sampling_rate),), peak at -3 dBFS."""
    samples = round(duration_s * sampling_rate)
    font = _soundfont(soundfont_path())
    mix = np.zeros(samples, np.float64)
    for part in arrangement.parts:
        stem = _stem(font, part, sampling_rate, samples)
        mix += stem * (10 ** (part.level_db / 20) / max(_loudness(stem, sampling_rate), FAINTEST))
    mix = _in_room(mix, arrangement.room_s, arrangement.room_level, sampling_rate)
    ending = min(samples, round(ENDING_S * sampling_rate))
    mix[samples - ending :] *= np.linspace(1.0, 0.0, ending)
    mix *= PEAK / max(float(np.abs(mix).max()), FAINTEST)
    return np.rint(mix * 32_767).astype(np.int16)


def _stem(font: SoundFont, part: Part, sampling_rate: int, samples: int) -> NDArray[np.float32]:
    stem = np.zeros(samples, np.float32)
    bank = DRUM_BANK if part.instrument.drum else 0
    waves: dict[tuple[int, int], NDArray[np.float32]] = {}  # drums and ostinatos repeat the same few notes
    for note in part.notes:
        start = round(note.start * sampling_rate)
        if start >= samples:
            continue
        length = round(min(note.seconds, (samples - start) / sampling_rate) * 100)  # in 10 ms, to meet again
        key = (note.pitch, length)
        if key not in waves:
            waves[key] = font.note(bank, part.instrument.program, note.pitch, MEZZOFORTE, length / 100, sampling_rate)
        wave = waves[key][: samples - start]
        stem[start : start + wave.size] += wave * np.float32((note.velocity / MEZZOFORTE) ** 2)
    return stem


def _loudness(stem: NDArray[np.float32], sampling_rate: int) -> float:
    """Root mean square over the frames in which the part plays."""
    frame = max(1, int(FRAME_S * sampling_rate))
    padded = np.pad(stem, (0, -stem.size % frame)).reshape(-1, frame)
    power = np.mean(np.square(padded, dtype=np.float64), axis=1)
    peak = power.max()
    return float(np.sqrt(power[power >= peak * SILENCE_BELOW_PEAK**2].mean()))


def _in_room(dry: NDArray[np.float64], seconds: float, level: float, sampling_rate: int) -> NDArray[np.float64]:
    """Add the reverberation of a room: noise that falls by 60 dB in `seconds`, at `level` times the dry sound."""
    length = round(seconds * sampling_rate)
    if length == 0 or level == 0.0:
        return dry
    size = -(-(dry.size + length) // FFT_BLOCK) * FFT_BLOCK
    wet = np.fft.irfft(np.fft.rfft(dry, size) * _room(length, size), size)[: dry.size]
    return dry + level * wet


@lru_cache(maxsize=16)
def _room(length: int, size: int) -> NDArray[np.complex128]:
    """The spectrum of the room's response, of unit energy."""
    time = np.arange(length) / length
    response = np.random.default_rng(ROOM_SEED).standard_normal(length) * 10.0 ** (-3.0 * time)
    response = np.convolve(response, (0.25, 0.5, 0.25), mode="same")  # walls swallow the highest tones first
    return np.fft.rfft(response / np.sqrt(np.sum(response**2)), size)
