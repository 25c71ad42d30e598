"""Plays single notes of a SoundFont 2 file with numpy: the voice of the rendered corpus.

Why not a ready synthesizer: the facts of a rendered clip (key, instruments, dynamics) must be true of what is heard.
symusic 0.5.9 takes the wrong sample zones of this SoundFont (its double bass sounds three semitones flat, its bass
guitar an octave low) and ignores velocity and envelopes; tinysoundfont 0.3.7 is right but has no wheel for Python
3.13; FluidSynth is no Python package. A reader of the format is short: samples, zones, tuning, loops, the volume
envelope and a low-pass filter that the modulation envelope closes, as laid down in the SoundFont Technical
Specification 2.04. Left out: low-frequency oscillators (vibrato), effect sends and custom modulators.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import AudioError

# Generator numbers of the specification, section 8.1.2.
_START, _END, _LOOP_START, _LOOP_END = 0, 1, 2, 3
_START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE = 4, 12, 45, 50
_ENVELOPE_TO_PITCH, _FILTER_CUTOFF, _ENVELOPE_TO_CUTOFF, _PAN = 7, 8, 11, 17
_MOD_HOLD, _MOD_DECAY, _MOD_SUSTAIN = 27, 28, 29
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 33, 34, 35, 36, 37, 38
_KEY_TO_DECAY = 40
_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE, _ATTENUATION = 41, 43, 44, 48
_COARSE_TUNE, _FINE_TUNE, _SAMPLE, _SAMPLE_MODES, _SCALE_TUNING, _ROOT_KEY = 51, 52, 53, 54, 56, 58

# Values a generator has where no zone sets it (section 8.1.3); all others start at 0.
_DEFAULTS = {_FILTER_CUTOFF: 13_500, _SCALE_TUNING: 100, _ROOT_KEY: -1} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE, _MOD_HOLD, _MOD_DECAY), -12_000
)
# These describe one sample, so a preset zone cannot add to them (section 8.5).
_INSTRUMENT_ONLY = frozenset(
    {
        _START,
        _END,
        _LOOP_START,
        _LOOP_END,
        _START_COARSE,
        _END_COARSE,
        _LOOP_START_COARSE,
        _LOOP_END_COARSE,
        _SAMPLE_MODES,
        _ROOT_KEY,
    }
)

DRUM_BANK = 128
COARSE_STEP = 32_768  # samples a coarse address offset counts
FULL_DECAY_DB = 100.0  # decay and release times are those of a fall by 100 dB (section 8.1.3)
FFT_BLOCK = 1024  # samples
AUDIBLE_DB = 60.0  # a released note is cut once it has fallen this far
EMU_ATTENUATION = 0.4  # what the EMU hardware, and every player since, makes of a centibel of initial attenuation
SHORTEST_FADE_S = 0.008  # below that a note's end clicks
CUTOFF_STEPS_PER_OCTAVE = 6  # filtered samples are kept by whole tones of the cutoff
LOWEST_HZ = 8.176  # absolute cents count from here (MIDI key 0)

Generators = dict[int, int]


@dataclass(frozen=True)
class Sample:
    """A recorded wave: positions in the pool of 16-bit samples, its rate in Hz and the key it was recorded at."""

    start: int
    end: int
    loop_start: int
    loop_end: int
    rate: int
    key: int
    correction: int  # cents


@dataclass(frozen=True)
class Zone:
    """A sample and how it sounds for a range of keys and velocities. Levels are factors, times seconds, pitch cents."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    sample: Sample
    looped: bool
    root: int
    cents_per_key: int
    tuning: int
    level: float
    bright_cents: int  # the filter's cutoff as the note begins ...
    dark_cents: float  # ... and where the modulation envelope leaves it
    bend_cents: float  # how much sharper the note begins than it ends
    mod_hold: float
    mod_decay: float
    delay: float
    attack: float
    hold: float
    decay: float
    key_to_decay: int
    sustain_db: float
    release: float


class SoundFont:
    """The presets of an SF2 file. Raises `AudioError` where the file is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            chunks = _chunks(path.read_bytes())
            self._pool: NDArray[np.int16] = np.frombuffer(chunks[b"smpl"], "<i2")
            self._samples = [
                Sample(row[1], row[2], row[3], row[4], row[5], row[6], row[7])
                for row in struct.iter_unpack("<20s5IBb2H", chunks[b"shdr"])
            ]
            self._instruments = _zones(chunks[b"inst"], "<20sH", 1, chunks[b"ibag"], chunks[b"igen"])
            headers = list(struct.iter_unpack("<20s3H3I", chunks[b"phdr"]))
            bodies = _zones(chunks[b"phdr"], "<20s3H3I", 3, chunks[b"pbag"], chunks[b"pgen"])
        except (KeyError, struct.error, OSError, ValueError) as error:
            raise AudioError(
                path, f"cannot be read as a SoundFont 2 file ({error})", "install pretty_midi again"
            ) from error
        self._presets = {(row[2], row[1]): body for row, body in zip(headers[:-1], bodies, strict=True)}
        self._zones: dict[tuple[int, int], list[Zone]] = {}
        self._filtered = lru_cache(maxsize=1024)(self._filter)

    def zones(self, bank: int, program: int) -> list[Zone]:
        """All zones of a preset, generators of preset and instrument added up. Raises `AudioError` if it has none."""
        if (bank, program) not in self._zones:
            if (bank, program) not in self._presets:
                raise AudioError(self.path, f"has no preset {program} in bank {bank}", "install pretty_midi again")
            self._zones[bank, program] = list(self._resolve(self._presets[bank, program]))
        return self._zones[bank, program]

    def _resolve(self, preset: list[Generators]) -> list[Zone]:
        zones = []
        for outer in _with_global(preset, _INSTRUMENT):
            for inner in _with_global(self._instruments[outer[_INSTRUMENT]], _SAMPLE):
                total = dict(_DEFAULTS) | inner
                for number, amount in outer.items():
                    if number not in _INSTRUMENT_ONLY:
                        total[number] = total.get(number, 0) + amount
                keys, velocities = _overlap(outer, inner, _KEY_RANGE), _overlap(outer, inner, _VELOCITY_RANGE)
                if keys[0] <= keys[1] and velocities[0] <= velocities[1]:
                    zones.append(_zone(total, self._samples[inner[_SAMPLE]], keys, velocities))
        return zones

    def _filter(self, sample: Sample, tone: int, alias: int) -> NDArray[np.float32]:
        """The sample's wave as float32 in [-1, 1], filtered.

        `tone` and `alias` are cutoffs in steps of an octave's sixth below the sample's own Nyquist frequency: a gentle
        low-pass (12 dB an octave, as section 3.1.4 asks) and a wall that keeps out what the output rate would fold.
        """
        wave = self._pool[sample.start : sample.end].astype(np.float32) / np.float32(32_768)
        if (tone >= 0 and alias >= 0) or wave.size < 2:
            return wave
        size = (
            -(-wave.size // FFT_BLOCK) * FFT_BLOCK
        )  # a length with small factors: some samples are as long as a prime
        spectrum = np.fft.rfft(wave, size)
        position = np.linspace(0.0, 1.0, spectrum.size)
        spectrum /= np.sqrt(1.0 + (position / 2.0 ** (tone / CUTOFF_STEPS_PER_OCTAVE)) ** 4)
        spectrum[position > 2.0 ** (alias / CUTOFF_STEPS_PER_OCTAVE)] = 0.0
        return np.fft.irfft(spectrum, size)[: wave.size].astype(np.float32)

    def note(
        self, bank: int, program: int, key: int, velocity: int, seconds: float, sampling_rate: int
    ) -> NDArray[np.float32]:
        """One note, held for `seconds` and then released. Returns a mono wave, shape = (samples,).

        Drums (bank 128) ring out whole, as General MIDI has it. Raises `AudioError` for an unknown preset.
        """
        voices = [
            self._voice(zone, key, None if bank == DRUM_BANK else seconds, sampling_rate)
            for zone in self.zones(bank, program)
            if zone.keys[0] <= key <= zone.keys[1] and zone.velocities[0] <= velocity <= zone.velocities[1]
        ]
        wave = np.zeros(max((voice.size for voice in voices), default=0), np.float32)
        for voice in voices:
            wave[: voice.size] += voice
        return wave * np.float32((velocity / 127) ** 2)  # default modulator 8.4.1

    def _voice(self, zone: Zone, key: int, seconds: float | None, sampling_rate: int) -> NDArray[np.float32]:
        sample = zone.sample
        cents = (key - zone.root) * zone.cents_per_key + zone.tuning
        step = sample.rate / sampling_rate * 2.0 ** (cents / 1200)  # source samples per output sample
        nyquist = step * sampling_rate / 2  # Hz at which the sample's own Nyquist frequency comes out
        alias = _steps_below(sampling_rate / 2, nyquist)
        bright = self._filtered(sample, _steps_below(_hertz(zone.bright_cents), nyquist), alias)
        dark = self._filtered(sample, _steps_below(_hertz(zone.dark_cents), nyquist), alias)

        longest = (bright.size - 2) / step / sampling_rate
        held = longest if seconds is None else seconds
        total = held + zone.release * AUDIBLE_DB / FULL_DECAY_DB
        if not zone.looped:
            total = min(longest, total)
        time = np.arange(max(1, int(total * sampling_rate)), dtype=np.float32) / np.float32(sampling_rate)
        # How far the modulation envelope has fallen: 0 as the note begins, 1 where it rests.
        closed = np.clip((time - np.float32(zone.mod_hold)) / np.float32(zone.mod_decay), 0.0, 1.0)
        if zone.bend_cents:
            bend = 2.0 ** (zone.bend_cents * (1.0 - closed.astype(np.float64)) / 1200)
            position = step * (np.cumsum(bend) - bend[0])
            if not zone.looped:
                position = np.minimum(position, bright.size - 2)
        else:
            position = np.arange(time.size) * step
        index = position.astype(np.int32)
        fraction = (position - index).astype(np.float32)
        voice = _between(_unrolled(bright, zone, int(index[-1]) + 2), index, fraction)
        if dark is not bright:
            voice += closed * (_between(_unrolled(dark, zone, int(index[-1]) + 2), index, fraction) - voice)
        return voice * self._envelope(zone, key, time, held, sampling_rate)

    @staticmethod
    def _envelope(
        zone: Zone, key: int, time: NDArray[np.float32], held: float, sampling_rate: int
    ) -> NDArray[np.float32]:
        """The volume envelope times the zone's level; shape as `time`, which is in seconds."""
        decay = zone.decay * 2.0 ** (zone.key_to_decay * (60 - key) / 1200)
        begin = zone.delay + zone.attack + zone.hold
        loss = np.clip((time - np.float32(begin)) * np.float32(FULL_DECAY_DB / decay), 0.0, zone.sustain_db)
        released = min(time.size, int(held * sampling_rate))
        loss[released:] += (time[released:] - np.float32(held)) * np.float32(FULL_DECAY_DB / zone.release)
        envelope = np.exp(loss * np.float32(-np.log(10) / 20)) * np.float32(zone.level)
        rising = min(time.size, int((zone.delay + zone.attack) * sampling_rate) + 1)
        envelope[:rising] *= np.clip((time[:rising] - np.float32(zone.delay)) / np.float32(zone.attack), 0.0, 1.0)
        fade = min(time.size, int(SHORTEST_FADE_S * sampling_rate))
        envelope[time.size - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        return envelope


def _unrolled(wave: NDArray[np.float32], zone: Zone, length: int) -> NDArray[np.float32]:
    """The first `length` samples that a note passes through, the loop repeated as often as it takes."""
    end = zone.sample.loop_end - zone.sample.start
    if not zone.looped or length <= end:
        return wave
    loop = wave[zone.sample.loop_start - zone.sample.start : end]
    return np.concatenate((wave[:end], np.resize(loop, length - end)))


def _between(wave: NDArray[np.float32], index: NDArray[np.int32], fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear interpolation between the samples at `index` and those that follow."""
    here = wave[index]
    return here + fraction * (wave[index + 1] - here)


def _hertz(cents: float) -> float:
    return LOWEST_HZ * 2.0 ** (cents / 1200)


def _steps_below(hertz: float, nyquist: float) -> int:
    """How far a cutoff lies below `nyquist`, in steps of `CUTOFF_STEPS_PER_OCTAVE`; 0 where it is not below."""
    return min(0, round(np.log2(hertz / nyquist) * CUTOFF_STEPS_PER_OCTAVE))


def _chunks(data: bytes) -> dict[bytes, memoryview]:
    """The innermost RIFF chunks by name."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise ValueError("no RIFF sfbk header")
    found: dict[bytes, memoryview] = {}
    view, position = memoryview(data), 12
    while position + 8 <= len(data):
        name, size = bytes(view[position : position + 4]), struct.unpack_from("<I", view, position + 4)[0]
        if name == b"LIST":
            position += 12  # step into it: its chunks follow its type
            continue
        found[name] = view[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    return found


def _zones(headers: memoryview, layout: str, column: int, bags: memoryview, gens: memoryview) -> list[list[Generators]]:
    """For each preset or instrument (the last header is a terminator) the generators of each of its zones."""
    first_bag = [row[column] for row in struct.iter_unpack(layout, headers)]
    first_gen = [row[0] for row in struct.iter_unpack("<HH", bags)]
    amounts = list(struct.iter_unpack("<Hh", gens))
    return [
        [dict(amounts[first_gen[bag] : first_gen[bag + 1]]) for bag in range(first_bag[row], first_bag[row + 1])]
        for row in range(len(first_bag) - 1)
    ]


def _with_global(zones: list[Generators], link: int) -> list[Generators]:
    """Zones that link to something, each on top of the global zone (a first zone without a link)."""
    shared = zones[0] if zones and link not in zones[0] else {}
    return [shared | zone for zone in zones if link in zone]


def _overlap(outer: Generators, inner: Generators, number: int) -> tuple[int, int]:
    low, high = 0, 127
    for zone in (outer, inner):
        if number in zone:
            low, high = max(low, zone[number] & 0xFF), min(high, (zone[number] >> 8) & 0xFF)
    return low, high


def _zone(total: Generators, sample: Sample, keys: tuple[int, int], velocities: tuple[int, int]) -> Zone:
    def seconds(number: int, shortest: float) -> float:
        return max(shortest, 2.0 ** (total[number] / 1200)) if total[number] > -12_000 else shortest

    def offset(fine: int, coarse: int) -> int:
        return total.get(fine, 0) + COARSE_STEP * total.get(coarse, 0)

    shifted = replace(
        sample,
        start=sample.start + offset(_START, _START_COARSE),
        end=sample.end + offset(_END, _END_COARSE),
        loop_start=sample.loop_start + offset(_LOOP_START, _LOOP_START_COARSE),
        loop_end=sample.loop_end + offset(_LOOP_END, _LOOP_END_COARSE),
    )
    side = np.clip(total.get(_PAN, 0) / 500, -1, 1) * np.pi / 4  # equal-power panning, folded down to mono
    left = 1.0 - min(1000, max(0, total.get(_MOD_SUSTAIN, 0))) / 1000  # of the modulation envelope, when it rests
    return Zone(
        keys=keys,
        velocities=velocities,
        sample=shifted,
        looped=bool(total.get(_SAMPLE_MODES, 0) & 1) and shifted.loop_end > shifted.loop_start,
        root=total[_ROOT_KEY] if total[_ROOT_KEY] >= 0 else sample.key,
        cents_per_key=total[_SCALE_TUNING],
        tuning=100 * total.get(_COARSE_TUNE, 0)
        + total.get(_FINE_TUNE, 0)
        + sample.correction
        + round(total.get(_ENVELOPE_TO_PITCH, 0) * left),
        level=float(10 ** (-EMU_ATTENUATION * total.get(_ATTENUATION, 0) / 200) * np.cos(side) / np.sqrt(2)),
        bright_cents=total[_FILTER_CUTOFF] + total.get(_ENVELOPE_TO_CUTOFF, 0),
        dark_cents=total[_FILTER_CUTOFF] + total.get(_ENVELOPE_TO_CUTOFF, 0) * left,
        bend_cents=total.get(_ENVELOPE_TO_PITCH, 0) * (1.0 - left),
        mod_hold=seconds(_MOD_HOLD, 0.0),
        mod_decay=max(0.001, seconds(_MOD_DECAY, 0.001) * (1.0 - left)),
        delay=seconds(_DELAY, 0.0),
        attack=seconds(_ATTACK, 0.001),
        hold=seconds(_HOLD, 0.0),
        decay=seconds(_DECAY, 0.001),
        key_to_decay=total.get(_KEY_TO_DECAY, 0),
        sustain_db=min(FULL_DECAY_DB, max(0.0, total.get(_SUSTAIN, 0) / 10)),
        release=seconds(_RELEASE, 0.03),
    )
