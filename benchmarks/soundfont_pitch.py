"""Does a synthesizer play what the score says? Pitch and loudness of single notes: ours beside symusic's.

    pip install symusic==0.5.9 && python benchmarks/soundfont_pitch.py

For each General-MIDI program one note is rendered twice, soft and loud, through the SoundFont that lies in the package
pretty_midi. The error is how far the strongest harmonic comb lies from the written pitch, in semitones; the rest is the
level of the loud note above the soft one. A corpus with known keys needs errors near 0 and levels above 0.
"""

from __future__ import annotations

import sys

import numpy as np
from symusic import Note, Score, Synthesizer, Tempo, Track

from dataset_builder.sources.rendered_player import soundfont_path
from dataset_builder.sources.rendered_soundfont import SoundFont

RATE = 32_000  # Hz
SECONDS = 1.0
SOFT, LOUD = 30, 120  # MIDI velocities
# (program, name, MIDI key in the middle of its range)
NOTES = [
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
    size = 8 * len(part)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    written = 440.0 * 2 ** ((key - 69) / 12)
    offsets = np.arange(-14.0, 14.01, 0.05)
    harmonics = np.arange(1, 9)
    scores = []
    for offset in offsets:
        bins = np.rint(written * 2 ** (offset / 12) * harmonics * size / RATE).astype(int)
        between = np.rint(written * 2 ** (offset / 12) * (harmonics - 0.5) * size / RATE).astype(int)
        # What lies between the teeth speaks against the comb: an octave too low would else fit as well.
        inside = bins < len(spectrum)
        scores.append(spectrum[bins[inside]].sum() - spectrum[between[between < len(spectrum)]].sum())
    return float(offsets[int(np.argmax(scores))])


def by_symusic(program: int, key: int, velocity: int) -> np.ndarray:
    """One note through symusic's synthesizer, mono."""
    score = Score(480)
    score.tempos.append(Tempo(0, qpm=60))
    track = Track(program=program)
    track.notes.append(Note(0, int(480 * SECONDS), key, velocity))
    score.tracks.append(track)
    synthesizer = Synthesizer(sf_path=str(soundfont_path()), sample_rate=RATE, quality=4)
    return np.asarray(synthesizer.render(score, stereo=False)).ravel()


def main() -> int:
    """Print the table."""
    font = SoundFont(soundfont_path())
    print(f"{'instrument':16}{'symusic: error, level':>26}{'ours: error, level':>26}")
    for program, name, key in NOTES:
        cells = []
        for render in (by_symusic, lambda *note: font.note(0, *note, SECONDS, RATE)):
            soft, loud = (np.asarray(render(program, key, velocity), dtype=np.float64) for velocity in (SOFT, LOUD))
            if not soft.any() or not loud.any():
                cells.append("no sound")
                continue
            level = 20 * np.log10(np.abs(loud).max() / np.abs(soft).max())
            cells.append(f"{pitch_error(loud, key):+8.2f} semitones {level:+5.1f} dB")
        print(f"{name:16}{cells[0]:>26}{cells[1]:>26}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
