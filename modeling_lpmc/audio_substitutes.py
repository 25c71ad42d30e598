"""What a captioner is given in place of a clip: noise, silence, another clip's sound, or the clip itself, damaged.

Every function takes float32 mono samples (n,) in [-1, 1] and gives samples in the same range; what is random depends on
the seed and the clip's number alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

GAIN_DB = -20.0  # quieter, still far above the noise of 16 bits
CLIPPED_SHARE = 0.2  # of the samples that exceed the level at which the clip is cut off
BAND_HZ = 4_000  # what is left of music over a telephone, sampled at 8 kHz
OFFSET = 0.2  # of full scale; a recorder with a bad converter
SHORT_SECONDS = 3.0
FASTER = 1.04  # tempo and pitch together, two thirds of a semitone; a record player that runs fast
MP3_KBIT = 32  # a second; the lowest rate of web radio
MP3_DELAY = 1_105  # samples by which encoder (576) and decoder (529) delay the sound; measured on tones


def white_noise(samples: Samples, number: int, seed: int = 0) -> Samples:
    """Gaussian white noise as long and as loud (root mean square) as the clip, clipped to [-1, 1]."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    noise = np.random.default_rng((seed, number)).normal(0.0, level, len(samples))
    return np.clip(noise, -1.0, 1.0).astype(np.float32)


def silence(samples: Samples) -> Samples:
    """As many zeros."""
    return np.zeros_like(samples)


def derangement(n: int, seed: int = 0) -> NDArray[np.int64]:
    """A random order of `n` clips in which none keeps its place: one cycle through all (Sattolo 1986).

    Raises `ValueError` for fewer than two.
    """
    if n < 2:
        raise ValueError(f"{n} clips, expected at least 2")
    order = np.arange(n)
    random = np.random.default_rng(seed)
    for last in range(n - 1, 0, -1):
        other = int(random.integers(0, last))
        order[[last, other]] = order[[other, last]]
    return order


def quieter(samples: Samples, rate: int) -> Samples:
    """`GAIN_DB` of gain."""
    return (samples * np.float32(10 ** (GAIN_DB / 20))).astype(np.float32)


def clipped(samples: Samples, rate: int) -> Samples:
    """Cut off at the level that `CLIPPED_SHARE` of the samples exceed, and turned up to full scale."""
    level = float(np.quantile(np.abs(samples), 1 - CLIPPED_SHARE)) if len(samples) else 0.0
    return np.clip(samples / level, -1, 1).astype(np.float32) if level > 0 else samples


def band_limited(samples: Samples, rate: int) -> Samples:
    """Without anything above `BAND_HZ`: resampled to twice that and back."""
    import soxr

    narrow = soxr.resample(samples, rate, 2 * BAND_HZ)
    return _fitted(soxr.resample(narrow, 2 * BAND_HZ, rate), len(samples))


def offset(samples: Samples, rate: int) -> Samples:
    """On a constant offset of `OFFSET`, turned down where it would exceed full scale."""
    moved = samples + np.float32(OFFSET)
    return (moved / max(1.0, float(np.abs(moved).max(initial=0.0)))).astype(np.float32)


def short(samples: Samples, rate: int) -> Samples:
    """The first `SHORT_SECONDS`."""
    return samples[: round(SHORT_SECONDS * rate)]


def faster(samples: Samples, rate: int) -> Samples:
    """Played `FASTER` times as fast: higher, and shorter by as much."""
    import soxr

    return np.clip(soxr.resample(samples, rate * FASTER, rate), -1, 1).astype(np.float32)


def mp3(samples: Samples, rate: int) -> Samples:
    """Through an MP3 file of `MP3_KBIT` a second, by libsndfile's encoder and decoder."""
    import soundfile

    # libsndfile maps the level linearly to the rates of the MPEG version, the highest at 0, and refuses 1.
    highest, lowest = (320, 32) if rate >= 32_000 else (160, 8)
    level = min(0.99, (highest - MP3_KBIT) / (highest - lowest))
    settings: dict[str, Any] = {"bitrate_mode": "CONSTANT", "compression_level": level}
    file = io.BytesIO()
    padded = np.append(samples, np.zeros(MP3_DELAY, np.float32))
    soundfile.write(file, padded, rate, format="MP3", subtype="MPEG_LAYER_III", **settings)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return _fitted(decoded[MP3_DELAY:], len(samples))


def _fitted(samples: Any, length: int) -> Samples:
    fitted = np.zeros(length, np.float32)
    fitted[: min(length, len(samples))] = np.clip(samples[:length], -1, 1)
    return fitted


CORRUPTIONS: Mapping[str, Callable[[Samples, int], Samples]] = {
    "quieter": quieter,
    "clipped": clipped,
    "band-limited": band_limited,
    "mp3": mp3,
    "offset": offset,
    "short": short,
    "faster": faster,
}
"""Damage by name; each takes samples (n,) and their rate in Hz."""
