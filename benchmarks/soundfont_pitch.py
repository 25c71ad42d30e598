"""Does a SoundFont, as it is played here, sound what the score says? Pitch of all instruments, loudness of two strokes.

    python benchmarks/soundfont_pitch.py                   # every font that is installed
    python benchmarks/soundfont_pitch.py FONT.sf2 ...
    pip install symusic==0.5.9 && python benchmarks/soundfont_pitch.py --symusic      # ours beside symusic's

For each pitched instrument of the corpus three notes of its register are rendered; the error is how far the strongest
harmonic comb lies from the written pitch, in semitones, as the median of the three. More than a third of a semitone is
named. Organs, bells and chords in one key (some pads) carry combs of their own: an octave or a fifth beside the written
pitch is a matter of the sound, and marked so. A corpus with known keys needs the others near 0, and louder strokes
louder.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataset_builder.sources.rendered_fonts import KNOWN, find_soundfont
from dataset_builder.sources.rendered_instruments import INSTRUMENTS
from dataset_builder.sources.rendered_soundfont import SoundFont
from lpmc_errors import LpmcError

RATE = 32_000  # Hz
SECONDS = 1.0
SOFT, LOUD = 30, 120  # MIDI velocities
IN_TUNE = 0.34  # semitones
REGISTER_BY_SOUND = (12.0, -12.0, 7.0, -5.0, 19.0, -7.0)  # semitones: octave, fifth, twelfth
SYMUSIC_NOTES = [
    (0, "piano", 57),
    (24, "nylon guitar", 57),
    (32, "double bass", 40),
    (33, "bass guitar", 40),
    (40, "violin", 69),
    (42, "cello", 50),
    (56, "trumpet", 67),
    (66, "tenor saxophone", 58),
    (73, "flute", 72),
    (89, "synth pad", 60),
]


def pitch_error(wave: np.ndarray, key: int) -> float:
    """Semitones between the written key and the comb of eight harmonics that holds most of the spectrum."""
    part = wave[int(0.15 * RATE) : int(0.75 * RATE)]
    if part.size < 0.1 * RATE:
        part = wave
    size = 8 * len(part)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    written = 440.0 * 2 ** ((key - 69) / 12)
    offsets = np.arange(-14.0, 14.01, 0.05)
    comb = written * 2 ** (offsets[:, None] / 12) * np.arange(0.5, 8.6, 0.5) * size / RATE
    heights = np.where(
        comb < len(spectrum) - 1, spectrum[np.minimum(np.rint(comb).astype(int), len(spectrum) - 1)], 0.0
    )
    # What lies between the teeth speaks against the comb: an octave too low would else fit as well.
    scores = heights[:, 1::2].sum(axis=1) - heights[:, ::2].sum(axis=1)
    return float(offsets[int(np.argmax(scores))])


def survey(path: Path) -> None:
    """Print one line for the font, and one for each instrument that is not in tune or not there."""
    font = SoundFont(path)
    pitched = [item for item in INSTRUMENTS.items() if not item[1].drum]
    in_tune, softer, named = 0, 0, []
    for name, instrument in pitched:
        keys = [round(instrument.low + share * (instrument.high - instrument.low)) for share in (0.2, 0.5, 0.8)]
        if not font.covers(0, instrument.program, keys):
            named.append(f"    {name} (program {instrument.program}): not in all of its register")
            continue
        notes = [font.note(0, instrument.program, key, LOUD, SECONDS, RATE) for key in keys]
        error = statistics.median(pitch_error(note, key) for note, key in zip(notes, keys, strict=True))
        soft = font.note(0, instrument.program, keys[1], SOFT, SECONDS, RATE)
        softer += bool(np.abs(soft).max() < 0.5 * np.abs(notes[1]).max())
        if abs(error) <= IN_TUNE:
            in_tune += 1
            continue
        by_sound = any(abs(error - interval) <= IN_TUNE for interval in REGISTER_BY_SOUND)
        named.append(
            f"    {name} (program {instrument.program}): {error:+.2f}" + (" (octave or fifth)" if by_sound else "")
        )
    print(f"{path.name}: {in_tune} of {len(pitched)} in tune, {softer} softer when struck softly")
    print("\n".join(named), flush=True)


def by_symusic() -> Callable[[int, int, int], np.ndarray]:
    """A player of single notes through symusic's synthesizer, mono."""
    from symusic import Note, Score, Synthesizer, Tempo, Track

    synthesizer = Synthesizer(sf_path=str(find_soundfont("default")), sample_rate=RATE, quality=4)

    def render(program: int, key: int, velocity: int) -> np.ndarray:
        score = Score(480)
        score.tempos.append(Tempo(0, qpm=60))
        track = Track(program=program)
        track.notes.append(Note(0, int(480 * SECONDS), key, velocity))
        score.tracks.append(track)
        return np.asarray(synthesizer.render(score, stereo=False)).ravel()

    return render


def compare_with_symusic() -> None:
    """Print errors and levels of both, for the package's font."""
    font, theirs = SoundFont(find_soundfont("default")), by_symusic()
    print(f"{'instrument':16}{'symusic: error, level':>26}{'ours: error, level':>26}")
    for program, name, key in SYMUSIC_NOTES:
        cells = []
        for render in (theirs, lambda *note: font.note(0, *note, SECONDS, RATE)):
            soft, loud = (np.asarray(render(program, key, velocity), dtype=np.float64) for velocity in (SOFT, LOUD))
            if not soft.any() or not loud.any():
                cells.append("no sound")
                continue
            level = 20 * np.log10(np.abs(loud).max() / np.abs(soft).max())
            cells.append(f"{pitch_error(loud, key):+8.2f} semitones {level:+5.1f} dB")
        print(f"{name:16}{cells[0]:>26}{cells[1]:>26}")


def main() -> int:
    """Print what was asked for."""
    if "--symusic" in sys.argv:
        compare_with_symusic()
        return 0
    for wanted in sys.argv[1:] or [font.name for font in KNOWN]:
        try:
            survey(find_soundfont(wanted))
        except LpmcError as error:
            print(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
