"""The players of the rendered corpus: each turns a song (key, chords, metre) into the notes of one instrument.

A rhythm is a line of steps, four to a quarter note, so 16 in a 4/4 bar and 12 in a 3/4 bar; `|` marks are for the eye.
Which line a player takes follows the song's energy: lines are listed from calm to busy. A `~` in a line becomes a hit
or a rest, a `?` one voice of the chord, drawn once for the clip: so no two clips share a riff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .rendered_instruments import DRUM_KEYS, Instrument
from .rendered_theory import Chord, Key, melody_classes, nearest, voicing

STEPS_PER_BEAT = 4
TRIPLET_SWING = 1 / 6  # beats by which the second eighth of a pair comes late in full triplet swing


@dataclass(frozen=True)
class Song:
    """What all players of a clip share. `bars` holds the chords of each bar, which divide it evenly.

    `swing` is in beats (0 = straight), `looseness` the standard deviation of a player's timing in seconds,
    `energy` runs from 0 (calm) to 1 (busy).
    """

    key: Key
    bpm: int
    beats_per_bar: int
    bars: tuple[tuple[Chord, ...], ...]
    energy: float
    swing: float = 0.0
    looseness: float = 0.008

    @property
    def steps_per_bar(self) -> int:
        return self.beats_per_bar * STEPS_PER_BEAT

    def chord_at(self, bar: int, step: int) -> Chord:
        chords = self.bars[bar % len(self.bars)]
        return chords[step * len(chords) // self.steps_per_bar]

    def seconds(self, bar: int, step: float) -> float:
        """When a step of a bar falls, swing included."""
        beat, within = divmod(step / STEPS_PER_BEAT, 1.0)
        if self.swing:  # the first half of the beat stretches, the second shrinks
            middle = 0.5 + self.swing
            within = within / 0.5 * middle if within < 0.5 else middle + (within - 0.5) / 0.5 * (1 - middle)
        return (bar * self.beats_per_bar + beat + within) * 60 / self.bpm


@dataclass(frozen=True)
class Note:
    """Start and length in seconds, MIDI pitch (or drum key) and velocity (1 to 127)."""

    start: float
    seconds: float
    pitch: int
    velocity: int


Player = Callable[[Song, Instrument, Random], list[Note]]


def _line(song: Song, lines: tuple[str, ...], rng: Random) -> str:
    """One of the lines that fit the bar, near the place in the list that the song's energy points to."""
    fitting = [line for line in (text.replace("|", "") for text in lines) if len(line) == song.steps_per_bar]
    place = song.energy * (len(fitting) - 1) + rng.gauss(0, 0.5)
    line = fitting[max(0, min(len(fitting) - 1, round(place)))]
    drawn = {"~": "x.", "?": "1234"}
    return "".join(rng.choice(drawn[mark]) if mark in drawn else mark for mark in line)


def _note(song: Song, rng: Random, bar: int, step: float, steps: float, pitch: int, velocity: float) -> Note:
    """A note as a person would play it: a little early or late, a little louder or softer."""
    start = song.seconds(bar, step)
    length = max(0.05, song.seconds(bar, step + steps) - start)
    if start > 0:  # the first beat stays at 0 s: that is where the clip begins to sound
        start = max(0.0, start + rng.gauss(0, song.looseness))
    return Note(start, length, pitch, max(1, min(127, round(velocity + rng.gauss(0, 4)))))


def _length(line: str, step: int) -> int:
    """Steps from `step` to the end of its `-` tail."""
    end = step + 1
    while end < len(line) and line[end] == "-":
        end += 1
    return end - step


_DRUM_VELOCITY = {"X": 118, "x": 96, "o": 58}


def drums(fill: tuple[str, ...] = (), crash: bool = False, **lines: tuple[str, ...]) -> Player:
    """A drum part: for each piece of the kit (`DRUM_KEYS`, `_` for a space) its lines. `X` accent, `x` hit, `o` ghost.

    Every fourth bar ends with a run over the pieces named in `fill`; `crash` marks the first beat of every fourth bar.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Note]:
        chosen = {piece: _line(song, options, rng) for piece, options in lines.items()}
        notes = []
        for bar in range(len(song.bars)):
            fill_from = song.steps_per_bar - 4 if fill and bar % 4 == 3 else song.steps_per_bar
            for piece, line in chosen.items():
                key = DRUM_KEYS[piece.replace("_", " ")]
                for step, mark in enumerate(line[:fill_from]):
                    if mark in _DRUM_VELOCITY and (mark != "o" or rng.random() < 0.85):
                        notes.append(_note(song, rng, bar, step, 1, key, _DRUM_VELOCITY[mark]))
            for step in range(fill_from, song.steps_per_bar):
                piece = fill[(step - fill_from) * len(fill) // 4]
                notes.append(_note(song, rng, bar, step, 1, DRUM_KEYS[piece.replace("_", " ")], 90 + 5 * (step % 4)))
            if crash and bar % 4 == 0:
                notes.append(_note(song, rng, bar, 0, 4, DRUM_KEYS["crash"], 105))
        return notes

    return play


def bass(*lines: str, detached: float = 0.9) -> Player:
    """A bass part from lines of `r` or `x` root, `5` fifth, `8` octave, `3` third.

    `a` is the semitone below the next bar's root, `-` holds the note; `detached` is the share of a note that sounds.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Note]:
        line = _line(song, lines, rng)
        notes = []
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                harmony = song.chord_at(bar, step)
                root = _bass_root(harmony, instrument)
                if mark == "a":
                    pitch = _bass_root(song.chord_at(bar + 1, 0), instrument) - 1
                else:
                    pitch = root + {"r": 0, "x": 0, "5": harmony.fifth, "8": 12, "3": harmony.tones[1]}[mark]
                if pitch > instrument.high:
                    pitch -= 12
                velocity = 104 if step == 0 else 90
                notes.append(_note(song, rng, bar, step, _length(line, step) * detached, pitch, velocity))
        return notes

    return play


def _bass_root(harmony: Chord, instrument: Instrument) -> int:
    """The root in the lowest octave of the instrument, a semitone of room left below it."""
    return instrument.low + 1 + (harmony.root - instrument.low - 1) % 12


def walking_bass(song: Song, instrument: Instrument, rng: Random) -> list[Note]:
    """Quarter notes: the root on a new chord, chord tones between, a semitone step into the next chord."""
    notes: list[Note] = []
    pitch = _bass_root(song.chord_at(0, 0), instrument)
    beats = [(bar, beat) for bar in range(len(song.bars)) for beat in range(song.beats_per_bar)]
    for place, (bar, beat) in enumerate(beats):
        harmony = song.chord_at(bar, beat * STEPS_PER_BEAT)
        following = beats[place + 1] if place + 1 < len(beats) else (bar + 1, 0)
        upcoming = song.chord_at(following[0], following[1] * STEPS_PER_BEAT)
        changed = place == 0 or song.chord_at(beats[place - 1][0], beats[place - 1][1] * STEPS_PER_BEAT) != harmony
        if changed:
            pitch = nearest(pitch, (harmony.root,), instrument.low, instrument.high - 5)
        elif upcoming != harmony:
            target = nearest(pitch, (upcoming.root,), instrument.low + 1, instrument.high - 5)
            pitch = target + rng.choice((-1, 1))
        else:
            pitch = nearest(pitch + rng.choice((-4, 3, 5)), harmony.pitch_classes, instrument.low, instrument.high)
        notes.append(_note(song, rng, bar, beat * STEPS_PER_BEAT, 3.7, pitch, 98 if beat % 2 else 90))
    return notes


def chords(
    *lines: str, low: int = 52, voices: int = 4, strum: float = 0.0, detached: float = 0.95, velocity: int = 84
) -> Player:
    """Chords from lines of `x` the whole chord (`X` louder), `b` its root below, digits single voices (an arpeggio).

    The voicing takes `voices` notes from about MIDI pitch `low`; `strum` is the seconds between strings.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Note]:
        line = _line(song, lines, rng)
        notes: list[Note] = []
        shape: tuple[int, ...] = ()
        sounding: Chord | None = None
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                harmony = song.chord_at(bar, step)
                if harmony != sounding:
                    shape, sounding = voicing(harmony, low, voices, shape), harmony
                length = _length(line, step) * detached
                if mark == "b":
                    root = nearest(low - 8, (harmony.root,), instrument.low, instrument.high)
                    notes.append(_note(song, rng, bar, step, length, root, velocity + 6))
                    continue
                pitches = shape if mark in "xX" else (shape[(int(mark) - 1) % len(shape)],)
                stroke = _note(song, rng, bar, step, length, 0, velocity + (16 if mark == "X" else 0))
                for string, pitch in enumerate(pitches):
                    start = stroke.start + string * strum
                    notes.append(Note(start, stroke.seconds, _folded(pitch, instrument), stroke.velocity))
        return notes

    return play


def _folded(pitch: int, instrument: Instrument) -> int:
    """The pitch moved by octaves into the instrument's register."""
    while pitch < instrument.low:
        pitch += 12
    while pitch > instrument.high:
        pitch -= 12
    return pitch


def melody(
    *lines: str, low: int, high: int, pentatonic: bool = False, detached: float = 0.9, rest: float = 0.0
) -> Player:
    """A melody over two motifs, repeated and varied in the forms songs have (AABA, ABAC ...).

    Strong beats land on chord tones, the rest moves by step. `rest` is the share of bars that pause for breath;
    the first bar never does.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Note]:
        motifs = {name: _motif(song, lines, rng) for name in "ABC"}
        form = rng.choice(("AABA", "ABAC", "ABAB", "ABCA"))
        floor, ceiling = max(low, instrument.low), min(high, instrument.high)
        pitch = nearest((floor + ceiling) / 2 + rng.randint(-3, 3), (song.key.tonic,), floor, ceiling)
        notes = []
        for bar in range(len(song.bars)):
            line, moves = motifs[form[bar % len(form)]]
            if bar and rng.random() < rest:
                continue
            if bar % len(form) == 0:  # a period begins again near the middle of the register
                pitch = nearest((pitch + floor + ceiling) / 3, song.bars[bar][0].pitch_classes, floor, ceiling)
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                harmony = song.chord_at(bar, step)
                move = moves[step] if rng.random() < 0.85 else rng.choice((-2, -1, 1, 2))
                if step % 8 == 0 or mark == "X":
                    pitch = nearest(pitch + 2 * move, harmony.pitch_classes, floor, ceiling)
                else:
                    pitch = _scale_step(pitch, move, melody_classes(song.key, harmony, pentatonic), floor, ceiling)
                length = _length(line, step) * detached
                notes.append(_note(song, rng, bar, step, length, pitch, 100 if step % 4 == 0 else 90))
        return notes

    return play


def _motif(song: Song, lines: tuple[str, ...], rng: Random) -> tuple[str, list[int]]:
    """A rhythm and, for each of its steps, by how many scale notes the melody moves there."""
    line = _line(song, lines, rng)
    direction = rng.choice((-1, 1))
    return line, [direction * rng.choice((1, 1, 1, 2, -1, -2, 3, 0)) for _ in line]


def _scale_step(pitch: int, move: int, classes: tuple[int, ...], low: int, high: int) -> int:
    """The pitch `move` scale notes away, turned back at the ends of the register."""
    ladder = [candidate for candidate in range(low, high + 1) if candidate % 12 in classes]
    here = ladder.index(nearest(pitch, classes, low, high))
    there = here + move
    if not 0 <= there < len(ladder):
        there = here - move
    return ladder[max(0, min(len(ladder) - 1, there))]
