"""Plays single notes of a SoundFont with numpy: the voice of the rendered corpus.

Why not a ready synthesizer: the facts of a rendered clip (key, instruments, dynamics) must be true of what is heard.
symusic 0.5.9 takes the wrong sample zones of the package's SoundFont (its double bass sounds three semitones flat, its
bass guitar an octave low) and ignores velocity and envelopes; tinysoundfont 0.3.7 is right but has no wheel for Python
3.13; FluidSynth is no Python package. A reader of the format is short: samples, zones, velocity layers, tuning, loops,
the volume envelope, a low-pass filter that the modulation envelope closes, and the modulators of velocity and key, as
laid down in the SoundFont Technical Specification 2.04. Left out: low-frequency oscillators (vibrato), effect sends
and controllers that move while a note sounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import AudioError

from .rendered_modulators import MOVABLE, moved_by
from .rendered_soundfont_file import (
    INSTRUMENT,
    KEY_RANGE,
    MOST_ZONES,
    REMEDY,
    SAMPLE,
    VELOCITY_RANGE,
    Bag,
    Sample,
    SoundFontFile,
    Waves,
    with_global,
)

# Generator numbers of the specification, section 8.1.2.
_START, _END, _LOOP_START, _LOOP_END = 0, 1, 2, 3
_START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE = 4, 12, 45, 50
_ENVELOPE_TO_PITCH, _FILTER_CUTOFF, _ENVELOPE_TO_CUTOFF, _PAN = 7, 8, 11, 17
_MOD_HOLD, _MOD_DECAY, _MOD_SUSTAIN = 27, 28, 29
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 33, 34, 35, 36, 37, 38
_KEY_TO_DECAY, _ATTENUATION = 40, 48
_COARSE_TUNE, _FINE_TUNE, _SAMPLE_MODES, _SCALE_TUNING, _EXCLUSIVE, _ROOT_KEY = 51, 52, 54, 56, 57, 58

# Values a generator has where no zone sets it (section 8.1.3); all others start at 0.
_DEFAULTS = {_FILTER_CUTOFF: 13_500, _SCALE_TUNING: 100, _ROOT_KEY: -1} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE, _MOD_HOLD, _MOD_DECAY), -12_000
)
# These describe one sample, so a preset zone cannot add to them (section 8.5).
_INSTRUMENT_ONLY = frozenset(
    (_START, _END, _LOOP_START, _LOOP_END, _START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE)
) | {_SAMPLE_MODES, _ROOT_KEY, _EXCLUSIVE}

DRUM_BANK = 128
MEZZOFORTE = 90  # the velocity that a layer is played at, where it has it
COARSE_STEP = 32_768  # samples a coarse address offset counts
FULL_DECAY_DB = 100.0  # decay and release times are those of a fall by 100 dB (section 8.1.3)
AUDIBLE_DB = 60.0  # a released note is cut once it has fallen this far
LONGEST_NOTE_S = 120.0  # held and ringing together; generators of a damaged file may ask for years
EMU_ATTENUATION = 0.4  # what the EMU hardware, and every player since, makes of a centibel of initial attenuation
SHORTEST_FADE_S = 0.008  # below that a note's end clicks
CUTOFF_STEPS_PER_OCTAVE = 6  # filtered samples are kept by whole tones of the cutoff
LOWEST_HZ = 8.176  # absolute cents count from here (MIDI key 0)
FARTHEST_CENTS = 9_600  # eight octaves from the recorded key; generators of a damaged file may ask for hundreds
LARGEST_STEP = 64.0  # source samples per output sample; beyond, all that is left of a wave is its lowest partial
FFT_BLOCK = 1024  # samples; some waves are as long as a prime
FILTER_MARGIN = 256  # samples of silence or more wave behind the part that is filtered, for the filter's tail
SHORTEST_PREFIX = 16_384  # samples; long waves are read and filtered by powers of two of this


@dataclass(frozen=True)
class Zone:
    """A sample and how it sounds for a range of keys and velocities. Levels are factors, times seconds, pitch cents.

    `moved` are the zone's own offsets of start, end, loop start and loop end in samples. `choke` numbers the group of
    drums that silence each other, 0 for none.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    sample: Sample
    moved: tuple[int, int, int, int]
    looped: bool
    choke: int
    root: int
    cents_per_key: int
    tuning: int
    level: float
    bright_cents: float  # the filter's cutoff as the note begins ...
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


@dataclass(frozen=True)
class Span:
    """What of a wave a zone uses, in samples from the wave's start."""

    start: int
    end: int
    loop_start: int
    loop_end: int
    looped: bool


class SoundFont:
    """The voices of a SoundFont. `waves` keeps what was decoded and filtered; fonts may share one.

    Raises `AudioError` where the file is none or damaged.
    """

    def __init__(self, path: Path, waves: Waves | None = None) -> None:
        self.path = path
        self._waves = Waves(64 << 20) if waves is None else waves
        self.file = SoundFontFile(path, self._waves)
        self._zones: dict[tuple[int, int, int], list[Zone]] = {}
        self._layers: dict[tuple[int, int], dict[int, int]] = {}
        self._span = lru_cache(maxsize=4096)(self._find_span)

    @property
    def identity(self) -> str:
        """Name, size and checksum: another release of the font has another one."""
        return self.file.identity

    def has(self, bank: int, program: int) -> bool:
        """Whether there is a preset of this number."""
        return (bank, program) in self.file.presets

    def covers(self, bank: int, program: int, keys: Iterable[int]) -> bool:
        """Whether the preset is there and each of `keys` has a wave in it."""
        if not self.has(bank, program):
            return False
        ranges = {zone.keys for zone in self.zones(bank, program) if zone.sample.size}
        return all(any(low <= key <= high for low, high in ranges) for key in set(keys))

    def zones(self, bank: int, program: int, velocity: int = MEZZOFORTE) -> list[Zone]:
        """All zones of a preset, generators of preset and instrument added up, modulators at `velocity`.

        Raises `AudioError` if there is no such preset.
        """
        key = (bank, program, velocity)
        if key not in self._zones:
            if not self.has(bank, program):
                raise AudioError(self.path, f"has no preset {program} in bank {bank}", REMEDY)
            self._zones[key] = self._resolve(self.file.presets[bank, program], velocity)
        return self._zones[key]

    def layer(self, bank: int, program: int, velocity: int) -> int:
        """The velocity that stands for `velocity`: the one nearest to `MEZZOFORTE` with the same waves."""
        if (bank, program) not in self._layers:
            ranges = [zone.velocities for zone in self.zones(bank, program)]
            edges = sorted({0, 128} | {low for low, _ in ranges} | {high + 1 for _, high in ranges})
            table: dict[int, int] = {}
            for low, beyond in itertools.pairwise(edges):
                table |= dict.fromkeys(range(low, beyond), min(max(MEZZOFORTE, low), beyond - 1))
            self._layers[bank, program] = table
        return self._layers[bank, program][min(127, max(0, velocity))]

    def choke(self, bank: int, program: int, key: int) -> int:
        """The group of drums that silence each other to which `key` belongs, 0 for none."""
        return max((zone.choke for zone in self.zones(bank, program) if zone.keys[0] <= key <= zone.keys[1]), default=0)

    def note(
        self,
        bank: int,
        program: int,
        key: int,
        velocity: int,
        seconds: float,
        sampling_rate: int,
        longest_s: float = LONGEST_NOTE_S,
    ) -> NDArray[np.float32]:
        """One note, held for `seconds` and then released. Returns a mono wave of at most `longest_s`, shape = (n,).

        Drums (bank 128) ring out whole, as General MIDI has it. Raises `AudioError` for an unknown preset.
        """
        longest_s = min(longest_s, LONGEST_NOTE_S)
        voices = [
            self._voice(zone, key, None if bank == DRUM_BANK else seconds, sampling_rate, longest_s)
            for zone in self.zones(bank, program, velocity)
            if zone.keys[0] <= key <= zone.keys[1] and zone.velocities[0] <= velocity <= zone.velocities[1]
        ]
        wave = np.zeros(max((voice.size for voice in voices), default=0), np.float32)
        for voice in voices:
            wave[: voice.size] += voice
        return wave * np.float32((velocity / 127) ** 2)  # default modulator 8.4.1

    def _resolve(self, preset: Sequence[Bag], velocity: int) -> list[Zone]:
        zones: list[Zone] = []
        for outer in with_global(preset, INSTRUMENT):
            number = outer.generators[INSTRUMENT] & 0xFFFF
            if number >= len(self.file.instruments):
                raise AudioError(self.path, f"a preset names instrument {number}, which is not there", REMEDY)
            for inner in with_global(self.file.instruments[number], SAMPLE):
                wanted = inner.generators[SAMPLE] & 0xFFFF
                if wanted >= len(self.file.samples):
                    raise AudioError(self.path, f"an instrument names sample {wanted}, which is not there", REMEDY)
                keys, velocities = _overlap(outer, inner, KEY_RANGE), _overlap(outer, inner, VELOCITY_RANGE)
                if keys[0] <= keys[1] and velocities[0] <= velocities[1]:
                    total = _DEFAULTS | inner.generators
                    for generator, amount in outer.generators.items():
                        if generator not in _INSTRUMENT_ONLY:
                            total[generator] = total.get(generator, 0) + amount
                    for modulator in (*inner.modulators, *outer.modulators):
                        if modulator.destination in MOVABLE and modulator.amount:
                            by = moved_by(modulator, velocity, (keys[0] + keys[1]) // 2)
                            total[modulator.destination] = total.get(modulator.destination, 0) + by
                    zones.append(_zone(total, self.file.samples[wanted], keys, velocities))
                if len(zones) > MOST_ZONES:
                    raise AudioError(self.path, f"a preset has more than {MOST_ZONES} zones", REMEDY)
        return zones

    def _find_span(self, zone: Zone) -> Span:
        sample = self.file.sized(zone.sample)
        length = sample.length or 0
        start = min(max(0, zone.moved[0]), length)
        end = min(max(start, length + zone.moved[1]), length)
        loop_start = min(max(start, sample.loop_start + zone.moved[2]), end)
        loop_end = min(max(loop_start, sample.loop_end + zone.moved[3]), end)
        return Span(start, end, loop_start, loop_end, zone.looped and loop_end - loop_start >= 2)

    def _filtered(self, sample: Sample, start: int, end: int, tone: int, alias: int) -> NDArray[np.float32]:
        """The samples `start` to `end` of a wave, filtered.

        `tone` and `alias` are cutoffs in steps of an octave's sixth below the sample's own Nyquist frequency: a gentle
        low-pass (12 dB an octave, as section 3.1.4 asks) and a wall that keeps out what the output rate would fold.
        """

        def make() -> NDArray[np.float32]:
            if tone >= 0 and alias >= 0:
                return self.file.wave(sample, start, end)
            wave = self.file.wave(sample, start, end + FILTER_MARGIN)  # what follows in the pool is as good as silence
            size = -(-(wave.size + FILTER_MARGIN) // FFT_BLOCK) * FFT_BLOCK
            spectrum = np.fft.rfft(wave, size)
            position = np.linspace(0.0, 1.0, spectrum.size, dtype=np.float32)
            spectrum /= np.sqrt(1.0 + (position / np.float32(2.0 ** (tone / CUTOFF_STEPS_PER_OCTAVE))) ** 4)
            spectrum[position > 2.0 ** (alias / CUTOFF_STEPS_PER_OCTAVE)] = 0.0
            return np.ascontiguousarray(np.fft.irfft(spectrum, size)[: end - start], np.float32)

        return self._waves.get((self.path, sample.offset, start, end, tone, alias), make)

    def _voice(
        self, zone: Zone, key: int, seconds: float | None, sampling_rate: int, longest_s: float
    ) -> NDArray[np.float32]:
        sample, span = zone.sample, self._span(zone)
        cents = min(max((key - zone.root) * zone.cents_per_key + zone.tuning, -FARTHEST_CENTS), FARTHEST_CENTS)
        step = sample.rate / sampling_rate * 2.0 ** (cents / 1200)  # source samples per output sample
        if span.end - span.start < 4 or step > LARGEST_STEP:
            return np.zeros(0, np.float32)
        lasts = (span.end - span.start - 2) / step / sampling_rate
        held = min(longest_s, lasts if seconds is None else seconds)
        total = min(held + zone.release * AUDIBLE_DB / FULL_DECAY_DB, longest_s)
        if not span.looped:
            total = min(lasts, total)
        time = np.arange(max(1, int(total * sampling_rate)), dtype=np.float32) / np.float32(sampling_rate)
        # How far the modulation envelope has fallen: 0 as the note begins, 1 where it rests.
        closed = np.clip((time - np.float32(zone.mod_hold)) / np.float32(zone.mod_decay), 0.0, 1.0)
        if zone.bend_cents:
            bend = 2.0 ** (zone.bend_cents * (1.0 - closed.astype(np.float64)) / 1200)
            position = step * (np.cumsum(bend) - bend[0])
        else:
            position = np.arange(time.size) * step
        usable = (span.loop_end if span.looped else span.end) - span.start
        if not span.looped:
            position = np.minimum(position, usable - 2)
        index = position.astype(np.intp)
        fraction = (position - index).astype(np.float32)
        # Only as much of a long wave as the note can use, in steps that depend on the note alone.
        read = SHORTEST_PREFIX
        while read < int(index[-1]) + 2:
            read *= 2
        looping = span.looped and int(index[-1]) + 1 >= usable
        if looping:
            first = int(np.searchsorted(index, usable))
            loop_start = span.loop_start - span.start
            index[first:] = loop_start + (index[first:] - loop_start) % (usable - loop_start)

        nyquist = step * sampling_rate / 2  # Hz at which the sample's own Nyquist frequency comes out
        alias = _steps_below(sampling_rate / 2, nyquist)

        def through(cutoff_cents: float) -> NDArray[np.float32]:
            tone = _steps_below(_hertz(cutoff_cents), nyquist)
            wave = self._filtered(sample, span.start, span.start + min(read, usable), tone, alias)
            if looping:  # what follows the loop's last sample is its first
                wave = np.append(wave, wave[span.loop_start - span.start])
            here = wave.take(index)
            return here + fraction * (wave.take(index + 1) - here)

        voice = through(zone.bright_cents)
        if _steps_below(_hertz(zone.bright_cents), nyquist) != _steps_below(_hertz(zone.dark_cents), nyquist):
            voice += closed * (through(zone.dark_cents) - voice)
        return voice * _envelope(zone, key, time, held, sampling_rate)


def _envelope(zone: Zone, key: int, time: NDArray[np.float32], held: float, sampling_rate: int) -> NDArray[np.float32]:
    """The volume envelope times the zone's level; shape as `time`, which is in seconds."""
    decay = zone.decay * 2.0 ** (min(max(zone.key_to_decay * (60 - key), -FARTHEST_CENTS), FARTHEST_CENTS) / 1200)
    begin = zone.delay + zone.attack + zone.hold
    loss = np.clip((time - np.float32(begin)) * np.float32(FULL_DECAY_DB / decay), 0.0, zone.sustain_db)
    released = min(time.size, int(held * sampling_rate))
    loss[released:] += (time[released:] - np.float32(held)) * np.float32(FULL_DECAY_DB / zone.release)
    envelope: NDArray[np.float32] = np.exp(loss * np.float32(-np.log(10) / 20)) * np.float32(zone.level)
    rising = min(time.size, int((zone.delay + zone.attack) * sampling_rate) + 1)
    envelope[:rising] *= np.clip((time[:rising] - np.float32(zone.delay)) / np.float32(zone.attack), 0.0, 1.0)
    fade = min(time.size, int(SHORTEST_FADE_S * sampling_rate))
    envelope[time.size - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return envelope


def _hertz(cents: float) -> float:
    return LOWEST_HZ * 2.0 ** (min(max(cents, 1_500), 13_500) / 1200)  # the range of section 8.1.3


def _steps_below(hertz: float, nyquist: float) -> int:
    """How far a cutoff lies below `nyquist`, in steps of `CUTOFF_STEPS_PER_OCTAVE`; 0 where it is not below."""
    return min(0, round(math.log2(hertz / nyquist) * CUTOFF_STEPS_PER_OCTAVE))


def _overlap(outer: Bag, inner: Bag, number: int) -> tuple[int, int]:
    low, high = 0, 127
    for generators in (outer.generators, inner.generators):
        if number in generators:
            low, high = max(low, generators[number] & 0xFF), min(high, (generators[number] >> 8) & 0xFF)
    return low, high


def _zone(total: dict[int, int], sample: Sample, keys: tuple[int, int], velocities: tuple[int, int]) -> Zone:
    def seconds(number: int, shortest: float) -> float:
        cents = min(total[number], 8_000)  # about 100 s, the longest of section 8.1.3
        return max(shortest, 2.0 ** (cents / 1200)) if cents > -12_000 else shortest

    def offset(fine: int, coarse: int) -> int:
        return total.get(fine, 0) + COARSE_STEP * total.get(coarse, 0)

    side = np.clip(total.get(_PAN, 0) / 500, -1, 1) * np.pi / 4  # equal-power panning, folded down to mono
    left = 1.0 - min(1000, max(0, total.get(_MOD_SUSTAIN, 0))) / 1000  # of the modulation envelope, when it rests
    attenuation = min(max(0, total.get(_ATTENUATION, 0)), 1440)
    return Zone(
        keys=keys,
        velocities=velocities,
        sample=sample,
        moved=(
            offset(_START, _START_COARSE),
            offset(_END, _END_COARSE),
            offset(_LOOP_START, _LOOP_START_COARSE),
            offset(_LOOP_END, _LOOP_END_COARSE),
        ),
        looped=bool(total.get(_SAMPLE_MODES, 0) & 1),
        choke=total.get(_EXCLUSIVE, 0),
        root=total[_ROOT_KEY] if 0 <= total[_ROOT_KEY] < 128 else sample.key,
        cents_per_key=total[_SCALE_TUNING],
        tuning=100 * total.get(_COARSE_TUNE, 0)
        + total.get(_FINE_TUNE, 0)
        + sample.correction
        + round(total.get(_ENVELOPE_TO_PITCH, 0) * left),
        level=float(10 ** (-EMU_ATTENUATION * attenuation / 200) * np.cos(side) / np.sqrt(2)),
        bright_cents=total[_FILTER_CUTOFF] + total.get(_ENVELOPE_TO_CUTOFF, 0),
        dark_cents=total[_FILTER_CUTOFF] + total.get(_ENVELOPE_TO_CUTOFF, 0) * left,
        bend_cents=min(max(total.get(_ENVELOPE_TO_PITCH, 0) * (1.0 - left), -FARTHEST_CENTS), FARTHEST_CENTS),
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
