"""Tempo, key and loudness of a recording by signal processing, as facts to stand beside a caption's prose.

    found = describe(samples, 16_000)
    found.bpm, found.key, found.loudness_lufs     # such as 92.3, "A minor", -14.2; None where nothing can be said

A tempo or key is given only where the sound shows one: the thresholds lie above what noise and silence reach. Tempo
and key come from the middle of a long recording, loudness from all of it, block by block; so memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from modeling_lpmc.audio_track_lpmc import AudioTrack

Floats = NDArray[np.float64]

LOWEST_RATE_HZ = 4_000  # the shelf of the K-weighting lies at 1,682 Hz, which must be below half the rate
LONGEST_ANALYSED_S = 120.0  # tempo and key: what holds for a piece shows in two minutes; the middle avoids its ends
PIECE_S = 600.0  # of a track held at a time: 38 MB at 16 kHz
FRAMES_AT_ONCE = 64  # frames in one FFT call: 64 key frames at 48 kHz are 12 MB of samples and as much of spectrum

# Loudness. ITU-R BS.1770-4, annex 1: 400 ms blocks every 100 ms, gates at -70 LUFS and 10 LU below the mean.
STEP_S = 0.1
STEPS_PER_BLOCK = 4
STEPS_AT_ONCE = 50
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OFFSET_LUFS = -0.691  # makes a full-scale sine of 997 Hz on one channel -3.01 LUFS
RESPONSE_S = 0.25  # the high-pass at 38 Hz has died down by more than 200 dB: longer changes nothing

# Tempo.
SHORTEST_FOR_TEMPO_S = 5.0  # eight beats at the usual tempi; fewer repeat by chance
ONSET_FRAME_S = 0.064
ONSET_RATE_HZ = 100.0  # frames a second
BANDS = 40
LOWEST_BAND_HZ, HIGHEST_BAND_HZ = 30.0, 8_000.0
DYNAMICS_DB = 60.0  # below the loudest band of the recording a change is not heard as an onset
LOCAL_MEAN_S = 0.5  # subtracted from the onset strength: a swell is no beat
STEADY_DB = 0.21  # standard deviation, below it there are no beats: noise has 0.13 to 0.18, music 0.22 and more
SLOWEST_BPM, FASTEST_BPM = 40.0, 220.0
TEMPO_STEP = 1.0025  # ratio of neighbouring candidates; a quarter of a percent is far inside any tolerance
USUAL_BPM = (
    120.0  # centre of the prior: the preferred tempo (van Noorden & Moelants 1999, doi 10.1076/jnmr.28.1.43.3122)
)
PRIOR_OCTAVES = 1.0  # its standard deviation; of 0.6, 0.8 and 1.0 the best on 120 rendered clips
COMB_TEETH = 8  # beats over which a tempo has to hold: two bars of four (bars of four alone: 4 points less)
LEAST_TEMPO_CONFIDENCE = 0.1  # onsets at random times stay below in 10 s and more, 95 % of rendered clips reach 0.23

# Key.
SHORTEST_FOR_KEY_S = 3.0  # two chords or so
KEY_FRAME_S = 0.5  # resolves semitones from 65 Hz, where they are 4 Hz apart
KEY_HOP_S = 0.25
LOWEST_PITCH, HIGHEST_PITCH = 36, 84  # MIDI numbers, C2 to C6: above lie overtones, which blur the chroma
FAINTEST_PARTIAL = 0.01  # of the strongest one in the frame: -40 dB, just above the side lobes of the window
TUNING_STEPS = 20  # bins a semitone: the tuning is found to 5 cents
COMPRESSION = 0.5  # a chroma's square root: a loud melody note does not outvote the chords
TONAL = 0.06  # how far partials agree on a tuning (0 to 1): music has 0.04 and more, white and pink noise 0.03 at most
AUDIBLE_CLASS, FEWEST_CLASSES = 0.1, 3  # of the strongest pitch class; one or two notes are no key
LEAST_KEY_CONFIDENCE = 0.6  # white and pink noise reach 0.29 (3 s) and less, 98 % of 120 rendered clips more
# Krumhansl & Kessler 1982, "Tracing the dynamic changes in perceived tonal organization in a spatial representation of
# musical keys", Psychological Review 89: how well each degree fits a key, from the tonic up.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
TONICS = {  # as keys are usually spelt
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"),
}


@dataclass(frozen=True)
class Descriptors:
    """What can be measured of a recording. Confidences are in [0, 1]; a value is None where the sound shows none."""

    duration_s: float
    bpm: float | None
    bpm_confidence: float
    key: str | None
    key_confidence: float
    loudness_lufs: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: beats a minute and LUFS to a tenth, confidences to a hundredth."""

        def rounded(value: float | None, digits: int) -> float | None:
            return None if value is None else round(value, digits)

        return {
            "bpm": rounded(self.bpm, 1),
            "bpm_confidence": round(self.bpm_confidence, 2),
            "key": self.key,
            "key_confidence": round(self.key_confidence, 2),
            "loudness_lufs": rounded(self.loudness_lufs, 1),
        }

    def __str__(self) -> str:
        tempo = None if self.bpm is None else f"{self.bpm:.0f} BPM"
        loudness = None if self.loudness_lufs is None else f"{self.loudness_lufs:.1f} LUFS"
        return ", ".join(part for part in (tempo, self.key, loudness) if part)


def describe(samples: NDArray[np.generic], sampling_rate: int) -> Descriptors:
    """Tempo, key and loudness of a mono recording.

    `samples` have shape (samples,): floats with full scale 1, or signed integers. What is not a number counts as 0.
    Memory: some 50 MB beside the samples, however long they are. Raises `ValueError` for another shape or type and
    for a sampling rate below 4 kHz.
    """
    if samples.ndim != 1 or samples.dtype.kind not in "fi":
        raise ValueError(f"samples of shape {samples.shape}, {samples.dtype}: give one channel of floats or integers")
    if sampling_rate < LOWEST_RATE_HZ:
        raise ValueError(f"a sampling rate of {sampling_rate} Hz: at least {LOWEST_RATE_HZ} Hz are needed")
    begin, end = _middle(len(samples), sampling_rate)
    loudness = integrated_loudness(samples, sampling_rate)
    return _found(len(samples) / sampling_rate, loudness, samples[begin:end], sampling_rate)


def describe_track(track: AudioTrack) -> Descriptors:
    """Tempo, key and loudness of an open track, as the captioner hears it: mono, at its rate, scaled to full scale.

    The loudness is that of the mix to one channel: of a recording with the same sound in both channels a meter for
    stereo shows 3.01 LU more. At most `PIECE_S` of the track are held. Raises `UnreadableAudioError` if the file was
    changed since it was opened.
    """
    rate = track.sampling_rate
    begin, end = _middle(track.num_samples, rate)
    piece = round(PIECE_S * rate)
    bounds = [(at, min(at + piece, track.num_samples)) for at in range(0, track.num_samples, piece)]
    powers: list[Floats] = []
    middle: list[NDArray[np.generic]] = []
    for (first, last), samples in zip(bounds, track.windows(bounds), strict=True):
        powers.append(_step_powers(samples, rate))
        if max(begin, first) < min(end, last):
            middle.append(samples[max(begin - first, 0) : end - first])
    loudness = _gated_loudness(np.concatenate(powers)) if powers else None
    return _found(track.duration, loudness, np.concatenate(middle) if middle else np.zeros(0, np.float32), rate)


def _middle(count: int, sampling_rate: int) -> tuple[int, int]:
    """First sample and end of what tempo and key are taken from."""
    excess = max(0, count - round(LONGEST_ANALYSED_S * sampling_rate))
    return excess // 2, count - (excess - excess // 2)


def _found(duration: float, loudness: float | None, middle: NDArray[np.generic], sampling_rate: int) -> Descriptors:
    if loudness is None:
        return Descriptors(duration, None, 0.0, None, 0.0, None)
    return Descriptors(duration, *_tempo(middle, sampling_rate), *_key(middle, sampling_rate), loudness)


def _floats(samples: NDArray[np.generic]) -> Floats:
    """A stretch of samples with full scale 1."""
    if samples.dtype.kind == "i":
        return samples.astype(np.float64) / -float(np.iinfo(samples.dtype.str).min)
    return np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _power_spectra(samples: NDArray[np.generic], frame: int, starts: NDArray[np.int64]) -> Iterator[Floats]:
    """Power spectra of Hann-windowed frames, a few at a time: shape = (frames, frame // 2 + 1)."""
    window = np.hanning(frame + 1)[:-1]
    for first in range(0, len(starts), FRAMES_AT_ONCE):
        some = starts[first : first + FRAMES_AT_ONCE]
        stretch = _floats(samples[some[0] : some[-1] + frame])
        frames = stretch[(some - some[0])[:, None] + np.arange(frame)] * window
        spectra = np.fft.rfft(frames)
        yield spectra.real**2 + spectra.imag**2


def _starts(samples: NDArray[np.generic], frame: int, hop: float) -> NDArray[np.int64]:
    """First samples of the frames; `hop` need not be whole, so that the frame rate is exact at every sampling rate."""
    return np.rint(np.arange(int((len(samples) - frame) / hop) + 1) * hop).astype(np.int64)


# Loudness


def integrated_loudness(samples: NDArray[np.generic], sampling_rate: int) -> float | None:
    """Loudness of one channel in LUFS after ITU-R BS.1770-4, None when shorter than 0.4 s or all below -70 LUFS."""
    return _gated_loudness(_step_powers(samples, sampling_rate))


def _step_powers(samples: NDArray[np.generic], sampling_rate: int) -> Floats:
    """Mean square of the K-weighted samples in each whole step of `STEP_S`: shape = (steps,)."""
    steps = int(len(samples) / (STEP_S * sampling_rate))
    if not steps:
        return np.empty(0)
    edges = np.rint(np.arange(steps + 1) * (STEP_S * sampling_rate)).astype(np.int64)
    tail = round(RESPONSE_S * sampling_rate)
    size = 1 << int(np.ceil(np.log2(tail + (STEPS_AT_ONCE * STEP_S * sampling_rate) + 2)))
    weighting = _k_weighting(np.fft.rfftfreq(size).astype(np.float64), sampling_rate)
    powers = np.empty(steps)
    for first in range(0, steps, STEPS_AT_ONCE):
        bounds = edges[first : first + STEPS_AT_ONCE + 1]
        begin = max(0, int(bounds[0]) - tail)  # what sounds before the block still rings in it
        spectrum = np.fft.rfft(_floats(samples[begin : bounds[-1]]), size)
        weighted = np.fft.irfft(spectrum * weighting, size)[bounds[0] - begin : bounds[-1] - begin]
        sums = np.add.reduceat(weighted**2, bounds[:-1] - bounds[0])
        powers[first : first + len(sums)] = sums / np.diff(bounds)
    return powers


def _gated_loudness(powers: Floats) -> float | None:
    if len(powers) < STEPS_PER_BLOCK:
        return None
    blocks = np.convolve(powers, np.ones(STEPS_PER_BLOCK) / STEPS_PER_BLOCK, "valid")
    blocks = blocks[blocks > _power(ABSOLUTE_GATE_LUFS)]
    if not len(blocks):
        return None
    blocks = blocks[blocks > blocks.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return float(OFFSET_LUFS + 10 * np.log10(blocks.mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_LUFS) / 10))


def _k_weighting(cycles_per_sample: Floats, sampling_rate: int) -> NDArray[np.complex128]:
    """Frequency response of the two filters of BS.1770 at any sampling rate.

    The standard lists coefficients for 48 kHz. These are the analogue filters behind them (De Man 2014, "Evaluation of
    implementations of the EBU R128 loudness measurement"; the same in libebur128), bilinear-transformed: they give the
    listed ones at 48 kHz.
    """
    z = np.exp(-2j * np.pi * cycles_per_sample)
    k, quality, gain = np.tan(np.pi * 1681.974450955533 / sampling_rate), 0.7071752369554196, 3.999843853973347
    high, band = 10 ** (gain / 20), (10 ** (gain / 20)) ** 0.4996667741545416
    shelf = (high + band * k / quality + k * k) + 2 * (k * k - high) * z + (high - band * k / quality + k * k) * z**2
    shelf /= (1 + k / quality + k * k) + 2 * (k * k - 1) * z + (1 - k / quality + k * k) * z**2
    k, quality = np.tan(np.pi * 38.13547087602444 / sampling_rate), 0.5003270373238773
    below = (1 + k / quality + k * k) + 2 * (k * k - 1) * z + (1 - k / quality + k * k) * z**2
    return shelf * (1 - z) ** 2 * (1 + k / quality + k * k) / below


# Tempo


def _tempo(samples: NDArray[np.generic], sampling_rate: int) -> tuple[float | None, float]:
    """Beats a minute, None under the threshold, and how sure they are: the mean correlation of the onsets with
    themselves a beat and more later."""
    if len(samples) < SHORTEST_FOR_TEMPO_S * sampling_rate:
        return None, 0.0
    onsets = _onset_strength(samples, sampling_rate)
    if onsets.std() < STEADY_DB:
        return None, 0.0
    onsets = onsets - onsets.mean()
    spectrum = np.fft.rfft(onsets, 2 * len(onsets))
    similar = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[: len(onsets)]
    lags = np.arange(len(onsets))
    similar = similar / similar[0] * (len(onsets) / (len(onsets) - lags))  # no decline by shorter overlap
    tempi = SLOWEST_BPM * TEMPO_STEP ** np.arange(np.log(FASTEST_BPM / SLOWEST_BPM) / np.log(TEMPO_STEP))
    beats = ONSET_RATE_HZ * 60 / tempi
    last = int(0.75 * len(onsets))  # the rest of the lags rest on too few onsets
    teeth = np.arange(1, COMB_TEETH + 1)[:, None] * beats
    heights = np.where(teeth <= last, np.interp(teeth, lags, similar), 0.0)
    comb = heights.sum(0) / np.maximum(1, (teeth <= last).sum(0))
    prior = np.exp(-0.5 * (np.log2(tempi / USUAL_BPM) / PRIOR_OCTAVES) ** 2)
    best = int(np.argmax(np.maximum(comb, 0) * prior))
    confidence = float(np.clip(comb[best], 0, 1))
    return (round(float(tempi[best]), 1) if confidence >= LEAST_TEMPO_CONFIDENCE else None), confidence


def _onset_strength(samples: NDArray[np.generic], sampling_rate: int) -> Floats:
    """How much louder the bands get, in dB (mean over the bands), at `ONSET_RATE_HZ` frames a second."""
    frame = round(ONSET_FRAME_S * sampling_rate)
    bank = _mel_bank(frame, sampling_rate)
    starts = _starts(samples, frame, sampling_rate / ONSET_RATE_HZ)
    bands = np.concatenate([spectra @ bank for spectra in _power_spectra(samples, frame, starts)])
    levels = 10 * np.log10(np.maximum(bands / bands.max(), 10 ** (-DYNAMICS_DB / 10)))
    rises = np.maximum(0.0, levels[2:] - levels[:-2]).mean(1)  # over two frames: a frame is longer than its hop
    width = round(LOCAL_MEAN_S * ONSET_RATE_HZ) | 1
    local = np.convolve(np.pad(rises, width // 2, "edge"), np.ones(width) / width, "valid")
    return np.maximum(0.0, rises - local)


def _mel_bank(frame: int, sampling_rate: int) -> Floats:
    """Triangles evenly spaced on the mel scale: shape = (frame // 2 + 1, bands)."""
    top = min(HIGHEST_BAND_HZ, sampling_rate / 2)
    mels = np.linspace(np.log1p(LOWEST_BAND_HZ / 700), np.log1p(top / 700), BANDS + 2)
    edges = 700 * np.expm1(mels)
    bins = np.fft.rfftfreq(frame, 1 / sampling_rate)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    return bank[:, bank.any(0)]  # the lowest triangles may be narrower than a bin


# Key


def _key(samples: NDArray[np.generic], sampling_rate: int) -> tuple[str | None, float]:
    """The key whose profile the pitch classes follow best, None under the threshold, and how sure it is: their
    correlation with it, less where the sound has no clear pitches."""
    if len(samples) < SHORTEST_FOR_KEY_S * sampling_rate:
        return None, 0.0
    chroma, agreement = _pitch_classes(samples, sampling_rate)
    if (chroma > AUDIBLE_CLASS * chroma.max()).sum() < FEWEST_CLASSES:
        return None, 0.0
    chroma = chroma**COMPRESSION
    names, fits = [], []
    for mode, profile in PROFILES.items():
        for tonic in range(12):
            names.append(f"{TONICS[mode][tonic]} {mode}")
            fits.append(float(np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]))
    best = int(np.argmax(fits))
    confidence = float(np.clip(fits[best] * min(1.0, agreement / TONAL), 0, 1))
    return (names[best] if confidence >= LEAST_KEY_CONFIDENCE else None), confidence


def _pitch_classes(samples: NDArray[np.generic], sampling_rate: int) -> tuple[Floats, float]:
    """How much of the sound lies on each pitch class, from C up, and how far its partials agree on a tuning.

    Partials are the peaks of the spectrum; they lie on a logarithmic axis of 5 cents, whose zero is then moved to where
    most of them are. In noise they are anywhere in a semitone, so their mean direction there is near nothing.
    """
    frame = round(KEY_FRAME_S * sampling_rate)
    lowest, highest = (440 * 2 ** ((pitch - 69) / 12) for pitch in (LOWEST_PITCH - 1, HIGHEST_PITCH + 1))
    first, last = int(lowest * KEY_FRAME_S), min(frame // 2, int(highest * KEY_FRAME_S) + 2)
    fine = np.zeros(12 * TUNING_STEPS)
    for spectra in _power_spectra(samples, frame, _starts(samples, frame, KEY_HOP_S * sampling_rate)):
        some = np.sqrt(spectra[:, first - 1 : last + 1])
        below, at, above = some[:, :-2], some[:, 1:-1], some[:, 2:]
        faintest = FAINTEST_PARTIAL * np.sqrt(spectra.max(1, keepdims=True))
        rows, columns = np.nonzero((at > below) & (at >= above) & (at > faintest))
        height = at[rows, columns]
        left, top, right = np.log(np.maximum([below[rows, columns], height, above[rows, columns]], 1e-12))
        offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-9)  # peak of the parabola through three
        frequency = (first + columns + np.clip(offset, -0.5, 0.5)) * sampling_rate / frame
        pitch = 69 + 12 * np.log2(frequency / 440)
        height = height * ((pitch >= LOWEST_PITCH - 0.5) & (pitch < HIGHEST_PITCH + 0.5))
        fine += np.bincount(np.rint(pitch * TUNING_STEPS).astype(np.int64) % len(fine), height, len(fine))
    total = fine.sum()
    if total == 0:
        return np.zeros(12), 0.0
    turn = np.exp(2j * np.pi * np.arange(len(fine)) / TUNING_STEPS)  # one a semitone
    mean = complex((fine * turn).sum() / total)
    tuning = round(float(np.angle(mean)) / (2 * np.pi) * TUNING_STEPS)
    semitones = np.roll(fine, TUNING_STEPS // 2 - tuning).reshape(12, TUNING_STEPS)
    return (semitones * np.hanning(TUNING_STEPS + 1)[:-1]).sum(1), abs(mean)
