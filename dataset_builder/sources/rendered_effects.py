"""What is done to the sound of a rendered clip, in the words of its tags: reverb, echo, noise and others.

A tag is only given for what is heard: each effect is tried on the beginning of the clip and measured, and one that
leaves no audible trace there (a low-pass on a tuba) is not applied at all. All of them work in place and in blocks,
so that a track of ten minutes needs little more memory than its samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

UNTOUCHED, ONE_EFFECT = 0.45, 0.45  # shares of the clips; the rest has two. Inaudible ones make it half and half
TRIAL_S = 10.0  # seconds of the clip that decide whether an effect is heard
BLOCK = 1 << 18  # samples worked on at a time
FRAME_S = 0.05  # levels are compared over frames of this length
FAINTEST = 1e-9  # guards a division where there is no sound at all
AUDIBLE_CHANGE_DB = -14.0  # power of what is new, against the whole: noise that far below music is plainly heard
AUDIBLE_OVERTONES_DB = -20.0  # the same for distortion: a tenth of new overtones is plainly heard
AUDIBLE_TREBLE_DB = -22.0  # power above the low-pass, against the whole, that makes its absence heard
AUDIBLE_LEVELLING_DB = 4.0  # by which the spread of levels must shrink to be heard as compression
ROOM_SEED = 20230731  # every room has the same reflections, longer or shorter; any number will do
REVERB_FROM_S, REVERB_FROM_DB = 1.2, -10.0  # a room is heard as reverb from this decay and level on
SIDE_TAPS_S = 0.004  # half the length of the filters, in seconds: 250 Hz is as low as they can tell apart


def convolve(wave: Wave, response: NDArray[np.float64], ahead: int = 0) -> None:
    """Convolve in place, block by block; `ahead` samples of the response lie before time 0. The tail is cut off."""
    size = 1 << max(15, int(4 * response.size - 1).bit_length())
    hop = size - response.size + 1
    spectrum = np.fft.rfft(response.astype(np.float32), size)
    tail = np.zeros(response.size - 1, np.float32)
    out = -ahead  # where the next samples of the result belong
    for start in range(0, wave.size + ahead, hop):
        block = wave[start : start + hop].copy()
        full = np.fft.irfft(np.fft.rfft(block, size) * spectrum, size).astype(np.float32, copy=False)
        full[: tail.size] += tail
        tail = full[hop : hop + tail.size].copy()
        first, last = max(0, out), min(wave.size, out + hop)
        if last > first:
            wave[first:last] = full[first - out : last - out]
        out += hop


def room(seconds: float, sampling_rate: int) -> NDArray[np.float64]:
    """The response of a room of unit energy: noise that falls by 60 dB in `seconds`, its highest tones first."""
    length = max(3, round(seconds * sampling_rate))
    response = _noise_of_walls(sampling_rate)[:length] * 10.0 ** (-3.0 * np.arange(length) / length)
    response = np.convolve(response, (0.25, 0.5, 0.25), mode="same")
    return np.asarray(response / np.sqrt(np.sum(response**2)))


@lru_cache(maxsize=4)
def _noise_of_walls(sampling_rate: int) -> NDArray[np.float64]:
    return np.random.default_rng(ROOM_SEED).standard_normal(10 * sampling_rate)


def is_reverb(seconds: float, level: float) -> bool:
    """Whether a room of this decay and level (wet against dry amplitude) is heard as reverb."""
    return seconds >= REVERB_FROM_S and 20 * np.log10(max(level, FAINTEST)) >= REVERB_FROM_DB


def tilt(decibels: float, sampling_rate: int) -> NDArray[np.float64]:
    """A filter that lifts the treble by half of `decibels` and lowers the bass by as much, the middle at 1 kHz."""

    def gain(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        octaves = np.clip(np.log2(np.maximum(hertz, 30.0) / 1_000), -3, 3)
        return np.asarray(10 ** (decibels * octaves / 6 / 20))

    return _filter(gain, sampling_rate)


def _filter(
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]], sampling_rate: int, side_s: float = SIDE_TAPS_S
) -> NDArray[np.float64]:
    """A symmetric filter of the wanted gain by frequency; its middle tap is time 0."""
    side = round(side_s * sampling_rate)
    size = 8 * side
    taps = np.fft.irfft(gain(np.fft.rfftfreq(size, 1 / sampling_rate).astype(np.float64)), size)
    return np.asarray(np.concatenate((taps[-side:], taps[: side + 1])) * np.hanning(2 * side + 3)[1:-1])


@dataclass(frozen=True)
class Effect:
    """An effect drawn for a clip: the tag, and the seed of its strength. The same on every run."""

    tag: str
    seed: str


def draw_effects(rng: Random) -> tuple[Effect, ...]:
    """What is to be done to a clip: mostly nothing or one thing, seldom two that leave each other audible."""
    share = rng.random()
    if share < UNTOUCHED:
        return ()
    wanted = (rng.choice(tuple(_EFFECTS)),) if share < UNTOUCHED + ONE_EFFECT else rng.choice(_PAIRS)
    return tuple(Effect(tag, f"{rng.getrandbits(64)}") for tag in wanted)


def apply_effects(wave: Wave, effects: tuple[Effect, ...], sampling_rate: int) -> tuple[str, ...]:
    """Apply what can be heard of `effects` in place; return the tags of what was applied."""
    applied = []
    for effect in effects:
        change, audible = _EFFECTS[effect.tag]
        trial = wave[: round(TRIAL_S * sampling_rate)].copy()
        before = trial.copy()
        change(trial, sampling_rate, Random(effect.seed))
        if not audible(before, trial, sampling_rate):
            continue
        if trial.size == wave.size:
            wave[:] = trial
        else:
            change(wave, sampling_rate, Random(effect.seed))
        applied.append(effect.tag)
    return tuple(applied)


# --- the effects -----------------------------------------------------------------------------------------------------


def _reverb(wave: Wave, rate: int, rng: Random) -> None:
    response = room(rng.uniform(1.8, 3.5), rate) * 10 ** (rng.uniform(-4.0, 2.0) / 20)
    response[0] += 1.0
    convolve(wave, response)


def _echo(wave: Wave, rate: int, rng: Random) -> None:
    step, level = round(rng.uniform(0.25, 0.55) * rate), rng.uniform(0.45, 0.65)
    repeats = 5  # the last is 18 dB or more below the sound
    response = np.zeros(repeats * step + 1)
    response[::step] = level ** np.arange(repeats + 1)
    convolve(wave, response)


def _muffled(wave: Wave, rate: int, rng: Random) -> None:
    cutoff = rng.uniform(500.0, 1_300.0)  # Hz; a telephone, for comparison, ends at 3,400

    def gain(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1.0 / np.sqrt(1.0 + (hertz / cutoff) ** 8))  # 24 dB an octave

    taps = _filter(gain, rate)
    convolve(wave, taps, ahead=taps.size // 2)


def _noisy(wave: Wave, rate: int, rng: Random) -> None:
    _add_noise(wave, rate, 10 ** (-rng.uniform(4.0, 14.0) / 20), rng)


def _add_noise(wave: Wave, rate: int, level: float, rng: Random) -> None:
    """Add noise at `level` times the wave's root mean square: white or somewhat darker."""
    noise, steepness = np.random.default_rng(rng.getrandbits(63)), rng.random()
    taps = _filter(lambda hertz: np.asarray(1.0 / (1.0 + (hertz / 2_000) ** steepness)), rate)
    taps = np.asarray(taps / np.sqrt(np.sum(taps**2)), np.float64)
    amplitude = np.float32(level * _rms(wave))
    for start in range(0, wave.size, BLOCK):
        part = wave[start : start + BLOCK]
        fresh = noise.standard_normal(part.size, np.float32)
        convolve(fresh, taps, ahead=taps.size // 2)
        part += amplitude * fresh


def _distortion(wave: Wave, rate: int, rng: Random) -> None:
    drive, hard = 10 ** (rng.uniform(13.0, 24.0) / 20), rng.random() < 0.5
    loudness = _rms(wave)
    gain = np.float32(drive * 0.25 / max(loudness, FAINTEST))  # music peaks about 12 dB above its mean
    for start in range(0, wave.size, BLOCK):
        part = wave[start : start + BLOCK]
        part *= gain
        if hard:
            np.clip(part, -1.0, 1.0, out=part)
        else:
            np.tanh(part, out=part)
    wave *= np.float32(loudness / max(_rms(wave), FAINTEST))


def _chorus(wave: Wave, rate: int, rng: Random) -> None:
    voices = [
        (rng.uniform(0.012, 0.028), rng.uniform(0.002, 0.004), rng.uniform(0.3, 1.0), rng.random()) for _ in "123"
    ]

    def delays(time: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return [mid + depth * np.sin(2 * np.pi * (hertz * time + phase)) for mid, depth, hertz, phase in voices]

    _sum_of_delayed(wave, rate, delays, dry=0.6, wet=0.6, longest_s=0.033)


def _tremolo(wave: Wave, rate: int, rng: Random) -> None:
    hertz, depth = rng.uniform(4.0, 7.5), rng.uniform(0.6, 0.9)
    for start in range(0, wave.size, BLOCK):
        part = wave[start : start + BLOCK]
        time = np.arange(start, start + part.size) / rate
        part *= (1.0 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * hertz * time))).astype(np.float32)


def _compressed(wave: Wave, rate: int, rng: Random) -> None:
    ratio, release_s = rng.uniform(8.0, 20.0), rng.uniform(0.1, 0.25)
    frame = round(0.01 * rate)
    level = 10 * np.log10(_frame_power(wave, frame) + FAINTEST)
    threshold = np.percentile(level, 95) - rng.uniform(26.0, 34.0)
    wanted = np.minimum(0.0, (threshold - level) * (1 - 1 / ratio))
    fall = float(np.exp(-0.01 / release_s))
    gain, smooth = 0.0, np.empty(wanted.size)
    for place, target in enumerate(wanted.tolist()):  # the gain falls at once and recovers slowly
        gain = target if target < gain else target + (gain - target) * fall
        smooth[place] = gain
    loudness = _rms(wave)
    centres = (np.arange(smooth.size) + 0.5) * frame
    for start in range(0, wave.size, BLOCK):
        part = wave[start : start + BLOCK]
        part *= (10 ** (np.interp(np.arange(start, start + part.size), centres, smooth) / 20)).astype(np.float32)
    wave *= np.float32(loudness / max(_rms(wave), FAINTEST))


def _lofi(wave: Wave, rate: int, rng: Random) -> None:
    low, high = rng.uniform(180.0, 320.0), rng.uniform(2_400.0, 3_600.0)
    hertz = rng.uniform(0.5, 1.2)  # a turntable goes round 0.55 times a second
    depth = rng.uniform(0.004, 0.008) / (2 * np.pi * hertz)  # 7 to 14 cents up and down
    _sum_of_delayed(
        wave, rate, lambda time: [depth * (1.0 + np.sin(2 * np.pi * hertz * time))], dry=0.0, wet=1.0, longest_s=0.006
    )

    def gain(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            1.0 / np.sqrt((1.0 + (low / np.maximum(frequency, 1.0)) ** 6) * (1.0 + (frequency / high) ** 12))
        )

    taps = _filter(gain, rate, side_s=0.012)
    convolve(wave, taps, ahead=taps.size // 2)
    loudness = _rms(wave)
    wave *= np.float32(0.5 / max(loudness, FAINTEST))
    np.tanh(wave, out=wave)
    wave *= np.float32(loudness / 0.5)
    _add_noise(wave, rate, 10 ** (-rng.uniform(22.0, 28.0) / 20), rng)
    crackle = np.random.default_rng(rng.getrandbits(63))
    ticks = crackle.integers(0, wave.size, max(1, round(wave.size / rate * rng.uniform(6.0, 20.0))))
    heights = (crackle.standard_normal(ticks.size) * 2.5 * loudness).astype(np.float32)
    for shift, share in enumerate((1.0, -0.7, 0.3)):
        inside = ticks + shift < wave.size
        np.add.at(wave, ticks[inside] + shift, heights[inside] * np.float32(share))


def _sum_of_delayed(
    wave: Wave,
    rate: int,
    delays: Callable[[NDArray[np.float64]], list[NDArray[np.float64]]],
    *,
    dry: float,
    wet: float,
    longest_s: float,
) -> None:
    """`dry` times the wave and `wet` times its copies, delayed by `delays(time)` seconds (at most `longest_s`)."""
    history = np.zeros(int(longest_s * rate) + 2, np.float32)
    for start in range(0, wave.size, BLOCK):
        padded = np.concatenate((history, wave[start : start + BLOCK]))
        size = padded.size - history.size
        mix = padded[history.size :] * np.float32(dry)
        places = np.arange(history.size, padded.size)
        for delay in delays((start + np.arange(size)) / rate):
            position = np.maximum(places - delay * rate, 0.0)
            index = np.minimum(position.astype(np.intp), padded.size - 2)
            here = padded.take(index)
            mix += np.float32(wet) * (here + (position - index).astype(np.float32) * (padded.take(index + 1) - here))
        history = padded[-history.size :].copy()
        wave[start : start + size] = mix


# --- what is heard of them --------------------------------------------------------------------------------------------


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.dot(wave, wave) / max(1, wave.size)))


def _frame_power(wave: Wave, frame: int) -> NDArray[np.float64]:
    whole = wave[: wave.size - wave.size % frame].reshape(-1, frame)
    return np.einsum("ij,ij->i", whole, whole).astype(np.float64) / frame if whole.size else np.zeros(1)


def change_db(before: Wave, after: Wave) -> float:
    """The power of what is new in `after`, in dB of its whole power: what no louder or softer `before` explains."""
    same = float(np.dot(after, before)) / max(float(np.dot(before, before)), FAINTEST)
    new = after - np.float32(same) * before
    return 20 * float(np.log10((_rms(new) + FAINTEST) / (_rms(after) + FAINTEST)))


def treble_db(wave: Wave, from_hertz: float, sampling_rate: int) -> float:
    """The power above `from_hertz`, in dB of the whole."""
    power = np.abs(np.fft.rfft(wave, 1 << int(wave.size - 1).bit_length())) ** 2
    first = int(from_hertz / (sampling_rate / 2) * power.size)
    return 10 * float(np.log10((power[first:].sum() + FAINTEST) / (power.sum() + FAINTEST)))


def level_spread_db(wave: Wave, sampling_rate: int) -> float:
    """How far the louder frames lie above the softer ones (80th and 20th percentile), silence left out."""
    level = 10 * np.log10(_frame_power(wave, round(FRAME_S * sampling_rate)) + FAINTEST**2)
    level = level[level > level.max() - 60]
    return float(np.percentile(level, 80) - np.percentile(level, 20))


def _changes(before: Wave, after: Wave, sampling_rate: int) -> bool:
    return change_db(before, after) >= AUDIBLE_CHANGE_DB


def _distorts(before: Wave, after: Wave, sampling_rate: int) -> bool:
    return change_db(before, after) >= AUDIBLE_OVERTONES_DB


def _loses_treble(before: Wave, after: Wave, sampling_rate: int) -> bool:
    return treble_db(before, 2_000.0, sampling_rate) >= AUDIBLE_TREBLE_DB


def _levels(before: Wave, after: Wave, sampling_rate: int) -> bool:
    return level_spread_db(before, sampling_rate) - level_spread_db(after, sampling_rate) >= AUDIBLE_LEVELLING_DB


# In the order in which they are applied.
_EFFECTS: dict[str, tuple[Callable[[Wave, int, Random], None], Callable[[Wave, Wave, int], bool]]] = {
    "distortion": (_distortion, _distorts),
    "chorus effect": (_chorus, _changes),
    "echo": (_echo, _changes),
    "reverb": (_reverb, _changes),
    "tremolo": (_tremolo, _changes),
    "compressed": (_compressed, _levels),
    "muffled": (_muffled, _loses_treble),
    "lo-fi": (_lofi, _changes),
    "noisy": (_noisy, _changes),
}
EFFECT_TAGS = tuple(_EFFECTS)
# What does not hide the other: a low-pass swallows the overtones of distortion, reverb fills the gaps of a tremolo.
_PAIRS = (
    ("distortion", "echo"),
    ("distortion", "reverb"),
    ("distortion", "noisy"),
    ("chorus effect", "reverb"),
    ("chorus effect", "echo"),
    ("chorus effect", "noisy"),
    ("echo", "reverb"),
    ("echo", "muffled"),
    ("echo", "lo-fi"),
    ("echo", "noisy"),
    ("reverb", "tremolo"),
    ("reverb", "muffled"),
    ("reverb", "lo-fi"),
    ("reverb", "noisy"),
    ("tremolo", "muffled"),
    ("tremolo", "noisy"),
    ("compressed", "noisy"),
    ("muffled", "noisy"),
)
