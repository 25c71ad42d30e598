"""Plays an arrangement: every part on its own through a SoundFont, balanced, in a room, with effects, as a mono wave.

Parts are balanced by what is heard of them, not by their notes' velocities, so that an instrument which is named in
the tags can be heard in the mix. What is returned says what was done: the fonts, the effects that are audible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import AudioError, LpmcError

from .rendered_composer import Arrangement, Part
from .rendered_effects import BLOCK, apply_effects, convolve, draw_effects, is_reverb, room, tilt
from .rendered_fonts import DEFAULT, find_soundfont
from .rendered_instruments import Instrument
from .rendered_soundfont import DRUM_BANK, SoundFont
from .rendered_soundfont_file import Waves

FAINTEST = 1e-9  # guards a division where there is no sound at all
SILENT_BELOW = 1e-4  # -80 dBFS; a preset that plays no louder does not play
OFFSET_SHARE = 0.02  # of a part's root mean square; a smaller constant is left
OFFSET_BLOCK = 1 << 19  # samples
OFFSET_S = 0.1  # 27.5 Hz passes a triangle of twice this with 0.06 dB
PEAK_DB = -3.0  # of full scale: leaves room for lossy encoders
QUIETEST_PEAK_DB = -12.0  # clips with effects differ in level as recordings do
FRAME_S = 0.02  # loudness is measured over frames of this length
SILENCE_BELOW_PEAK = 0.03  # a frame this far below the part's loudest one (30 dB) is a rest
ENDING_S = 0.03  # the cut at the end of the clip is faded, or it would click
CHOKE_FADE_S = 0.01  # an open hi-hat that is closed
MIXED_FONTS_SHARE = 0.25  # of the clips, where there are several fonts: each part draws its own
LARGEST_TILT_DB = 3.0  # between bass and treble, of a clip with effects
NOTES_KEPT_BYTES = 16 << 20  # of one part: drums and ostinatos repeat the same few notes
WAVES_KEPT_BYTES = 128 << 20  # of all fonts of a process: decoded and filtered samples
RING_S = 8.0  # after its release a note rings on at most this long
FAMILY = 8  # General MIDI numbers its programs, and Roland its kits, by families of eight


@dataclass(frozen=True)
class Performance:
    """A rendered arrangement: 16-bit mono wave, shape = (samples,), and what is true of its sound.

    `effects` are the tags of what is audible. `fonts` tells by which file each instrument's tag was played, and
    `substitutions` says in words where a font lacked an instrument and what stood in for it.
    """

    wave: NDArray[np.int16]
    effects: tuple[str, ...]
    fonts: dict[str, str]
    substitutions: tuple[str, ...]


def play(arrangement: Arrangement, sampling_rate: int, duration_s: float) -> NDArray[np.int16]:
    """Render an arrangement with the default SoundFont and nothing done to it, peak at -3 dBFS.

    Returns a 16-bit mono wave, shape = (round(duration_s * sampling_rate),). Raises `MissingExtraError` where the
    extra `render` is not installed.
    """
    return perform(arrangement, sampling_rate, duration_s, fonts=[find_soundfont(DEFAULT)]).wave


def perform(
    arrangement: Arrangement,
    sampling_rate: int,
    duration_s: float,
    *,
    fonts: Sequence[Path],
    key: str = "",
    effects: bool = False,
) -> Performance:
    """Render an arrangement as `key` has it: the same key draws the same fonts, effects and small differences.

    One of `fonts` plays all parts or, in a quarter of the clips, one each. What a font lacks another one plays, then
    the nearest preset of its own. Without `effects` the sound is left as the arrangement's room makes it.
    Memory: 8 bytes a sample of the result, and the caches above. Raises `AudioError` for an instrument that no font
    has, or a damaged font.
    """
    samples = round(duration_s * sampling_rate)
    mix, stem = np.zeros(samples, np.float32), np.zeros(samples, np.float32)
    played_by: dict[str, str] = {}
    substitutions: list[str] = []
    for part, drawn in zip(arrangement.parts, _drawn_fonts(arrangement, fonts, key), strict=True):
        loudness, font, instead = _record(stem, part, drawn, fonts, sampling_rate)
        played_by[part.instrument.tag] = font.name
        if instead:
            substitutions.append(instead)
        stem *= np.float32(10 ** (part.level_db / 20) / loudness)
        mix += stem
    del stem
    applied, peak_db = _finish(mix, arrangement, sampling_rate, key if effects else None)
    ending = min(samples, round(ENDING_S * sampling_rate))
    mix[samples - ending :] *= np.linspace(1.0, 0.0, ending, dtype=np.float32)
    loudest = max(float(mix.max(initial=0.0)), -float(mix.min(initial=0.0)), FAINTEST)
    wave = np.empty(samples, np.int16)
    for start in range(0, samples, BLOCK):
        part_of_mix = mix[start : start + BLOCK] * np.float32(10 ** (peak_db / 20) / loudest * 32_767)
        wave[start : start + BLOCK] = np.rint(part_of_mix)
    return Performance(wave, applied, played_by, tuple(dict.fromkeys(substitutions)))


def _finish(
    mix: NDArray[np.float32], arrangement: Arrangement, rate: int, key: str | None
) -> tuple[tuple[str, ...], float]:
    """Room, effects and level of the mix, in place. Returns the tags of what is heard and the peak in dBFS."""
    if key is None:
        seconds, level = arrangement.room_s, arrangement.room_level
        if seconds and level:
            convolve(mix, _direct(room(seconds, rate) * level))
        return (("reverb",) if is_reverb(seconds, level) else ()), PEAK_DB
    wanted, small = draw_effects(Random(f"{key}:effects")), Random(f"{key}:sound")
    colour = tilt(small.uniform(-LARGEST_TILT_DB, LARGEST_TILT_DB), rate)
    seconds = arrangement.room_s * small.uniform(0.75, 1.3)
    level = arrangement.room_level * 10 ** (small.uniform(-2.0, 2.0) / 20)
    peak_db = small.uniform(QUIETEST_PEAK_DB, PEAK_DB)
    if seconds == 0.0 or any(effect.tag == "reverb" for effect in wanted):
        response, in_a_hall = colour, False  # a room in a room would be neither
    else:
        response = np.convolve(_direct(room(seconds, rate) * level), colour)
        in_a_hall = is_reverb(seconds, level)
    convolve(mix, response, ahead=colour.size // 2)
    applied = apply_effects(mix, wanted, rate)
    return (*applied, *(("reverb",) if in_a_hall else ())), peak_db


def _direct(response: NDArray[np.float64]) -> NDArray[np.float64]:
    """The response with the direct sound in it."""
    response[0] += 1.0
    return response


def _drawn_fonts(arrangement: Arrangement, fonts: Sequence[Path], key: str) -> list[Path]:
    """The font of each part."""
    rng = Random(f"{key}:fonts")
    one, each_its_own = rng.choice(fonts), rng.random() < MIXED_FONTS_SHARE
    return [rng.choice(fonts) if each_its_own else one for _ in arrangement.parts]


def _record(
    stem: NDArray[np.float32], part: Part, drawn: Path, fonts: Sequence[Path], sampling_rate: int
) -> tuple[float, Path, str]:
    """Play a part into `stem`; return its loudness, the font, and a word where that is not the drawn font's preset."""
    keys = {note.pitch for note in part.notes}
    for path, bank, program in _candidates(part.instrument, drawn, fonts):
        font = open_soundfont(path)
        if not font.covers(bank, program, keys):
            continue
        stem.fill(0.0)
        _play_notes(stem, font, bank, program, part, sampling_rate)
        _remove_offset(stem, sampling_rate)
        loudness = _loudness(stem, sampling_rate)
        if loudness < SILENT_BELOW:
            continue
        instead = ""
        if path != drawn:
            instead = f"{part.instrument.tag} by {path.name}, as {drawn.name} has none"
        elif program != part.instrument.program:
            instead = (
                f"{part.instrument.tag} by preset {program} of {path.name}, which has no {part.instrument.program}"
            )
        return loudness, path, instead
    raise AudioError(drawn, f"has no sound for {part.instrument.tag}", "add another font to soundfonts, e.g. default")


def _candidates(instrument: Instrument, drawn: Path, fonts: Sequence[Path]) -> Iterator[tuple[Path, int, int]]:
    """Who may play an instrument, best first, as font, bank and program.

    The preset itself in the drawn font and in the others, then what is nearest to it in the drawn font (for drums the
    first kit of the family and the standard kit), at last the default font.
    """
    bank, program = (DRUM_BANK, instrument.program) if instrument.drum else (0, instrument.program)
    yield drawn, bank, program
    for other in fonts:
        if other != drawn:
            yield other, bank, program
    family = program - program % FAMILY
    nearest = [family, 0] if instrument.drum else sorted(range(family, family + FAMILY), key=lambda n: abs(n - program))
    yield from ((drawn, bank, near) for near in nearest)
    try:
        default = find_soundfont(DEFAULT)
    except LpmcError:
        return
    yield from ((default, bank, near) for near in (program, *nearest))


_waves = Waves(WAVES_KEPT_BYTES)


@lru_cache(maxsize=16)
def open_soundfont(path: Path) -> SoundFont:
    """The SoundFont in `path`, opened once in a process; all share one cache of waves. Raises `AudioError`."""
    return SoundFont(path, _waves)


def _play_notes(
    stem: NDArray[np.float32], font: SoundFont, bank: int, program: int, part: Part, sampling_rate: int
) -> None:
    kept = Waves(NOTES_KEPT_BYTES)
    silenced = _silenced(font, program, part) if bank == DRUM_BANK else {}
    for number, note in enumerate(part.notes):
        start = round(note.start * sampling_rate)
        if start >= stem.size:
            continue
        length = round(min(note.seconds, (stem.size - start) / sampling_rate) * 100)  # in 10 ms, to meet again
        layer = font.layer(bank, program, note.velocity)

        def sound(pitch: int = note.pitch, layer: int = layer, seconds: float = length / 100) -> NDArray[np.float32]:
            return font.note(bank, program, pitch, layer, seconds, sampling_rate, seconds + RING_S)

        wave = kept.get((note.pitch, layer, length), sound)[: stem.size - start]
        scale = np.float32((note.velocity / layer) ** 2) if layer else np.float32(0.0)
        if number in silenced:
            rings, fade = round(silenced[number] * sampling_rate), round(CHOKE_FADE_S * sampling_rate)
            wave = wave[: rings + fade].copy()
            wave[rings:] *= np.linspace(1.0, 0.0, wave[rings:].size, dtype=np.float32)
        stem[start : start + wave.size] += wave * scale


def _silenced(font: SoundFont, program: int, part: Part) -> dict[int, float]:
    """After how many seconds a stroke is silenced by the next of its group (open hi-hat by closed), by note number."""
    ends: dict[int, float] = {}
    last: dict[int, int] = {}
    for number in sorted(range(len(part.notes)), key=lambda number: part.notes[number].start):
        note = part.notes[number]
        group = font.choke(DRUM_BANK, program, note.pitch)
        if group and group in last and part.notes[last[group]].start < note.start:
            ends[last[group]] = note.start - part.notes[last[group]].start
        last[group] = number
    return ends


def _remove_offset(stem: NDArray[np.float32], sampling_rate: int) -> None:
    """Take a constant out of a part, in place: some SoundFonts have waves that are not centred, which counts as loud.

    What is subtracted is the mean over a triangle of 2 x OFFSET_S, so that the lowest A of a piano (27.5 Hz) stays.
    """
    power = float(np.vdot(stem, stem)) / max(1, stem.size)
    if abs(float(stem.mean())) <= OFFSET_SHARE * power**0.5:
        return
    width = max(1, round(OFFSET_S * sampling_rate))
    margin, before = width - 1, np.zeros(width - 1)
    for start in range(0, stem.size, OFFSET_BLOCK):  # block by block: a long part would need several times its size
        here = stem[start : start + OFFSET_BLOCK]
        after = stem[start + OFFSET_BLOCK : start + OFFSET_BLOCK + margin]
        heard = np.concatenate([before, here, after, np.zeros(margin - after.size)])
        before = heard[here.size : here.size + margin].copy()
        for _ in range(2):  # a box twice is a triangle
            sums = np.cumsum(np.concatenate([[0.0], heard]))
            heard = (sums[width:] - sums[:-width]) / width
        here -= heard.astype(np.float32)


def _loudness(stem: NDArray[np.float32], sampling_rate: int) -> float:
    """Root mean square over the frames in which the part plays."""
    frame = max(1, int(FRAME_S * sampling_rate))
    frames = stem[: stem.size - stem.size % frame].reshape(-1, frame)
    power = np.einsum("ij,ij->i", frames, frames).astype(np.float64) / frame
    return float(np.sqrt(power[power >= power.max() * SILENCE_BELOW_PEAK**2].mean()))
