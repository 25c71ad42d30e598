"""What the players of the rendered corpus share, and its rhythm section: drums and basses.

A player turns a song (key, chords, metre) into the events of one instrument, on the grid; the composer makes them
human afterwards. A rhythm is a line of steps: sixteenths, so 16 in a 4/4 bar, 12 in 3/4 and 6/8, 24 in 12/8, 14 in
7/8. A line fits the metres of its length; one that begins with a metre ("6/8 x--x--x--x--") fits that one alone.
Which line a player takes follows the song's energy: lines are listed from calm to busy. A `~` in a line becomes a hit
or a rest, a `?` one of several notes, drawn once for the section: so no two clips share a riff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple

from .rendered_instruments import DRUM_KEYS, Instrument
from .rendered_theory import Chord, Key, nearest


class Metre(NamedTuple):
    """Steps in a bar and in a beat; the beat of a compound metre is the dotted quarter."""

    steps_per_bar: int
    steps_per_beat: int


STEPS_PER_QUARTER = 4
METRES = {
    "4/4": Metre(16, 4),
    "3/4": Metre(12, 4),
    "2/4": Metre(8, 4),
    "5/4": Metre(20, 4),
    "7/8": Metre(14, 4),
    "6/8": Metre(12, 6),
    "12/8": Metre(24, 6),
}
_MARKED = ("6/8",)  # a line of 12 steps is one in 3/4 unless it says otherwise
TRIPLET_SWING = 1 / 6  # beats by which the second eighth of a pair comes late in full triplet swing


@dataclass(frozen=True)
class Note:
    """Start and length in seconds, MIDI pitch (or drum key) and velocity (1 to 127)."""

    start: float
    seconds: float
    pitch: int
    velocity: int


class Event(NamedTuple):
    """A note on the grid: step and length in steps from the section's start, pitch, velocity, lateness in seconds.

    The lateness is meant (the strings of a strummed chord), not a person's unevenness.
    """

    step: float
    steps: float
    pitch: int
    velocity: int
    late_s: float = 0.0


@dataclass(frozen=True)
class Song:
    """What all players of a section share. `bars` holds the chords of each bar, which divide it evenly.

    `energy` runs from 0 (calm) to 1 (busy), `register` moves melodies and chords by semitones, `lead` is what the
    melody plays in this section, empty for who plays before it.
    """

    key: Key
    metre: str
    bars: tuple[tuple[Chord, ...], ...]
    energy: float
    register: int = 0
    lead: tuple[Event, ...] = ()

    @cached_property
    def steps_per_bar(self) -> int:
        return METRES[self.metre].steps_per_bar

    @cached_property
    def steps_per_beat(self) -> int:
        return METRES[self.metre].steps_per_beat

    def chord_at(self, bar: int, step: float) -> Chord:
        chords = self.bars[bar % len(self.bars)]
        return chords[min(int(step * len(chords) / self.steps_per_bar), len(chords) - 1)]

    def strong(self, step: float) -> bool:
        """Whether a step of a bar falls on its first beat, or on its middle one where there is one."""
        return step == 0 or (2 * step == self.steps_per_bar and step % self.steps_per_beat == 0)


Player = Callable[[Song, Instrument, Random], list[Event]]


def fitting_lines(metre: str, lines: tuple[str, ...]) -> list[str]:
    """Those of the lines that are for the metre, bare."""
    fitting = []
    for line in lines:
        marked, _, steps = line.rpartition(" ")
        wanted = marked == metre if marked or metre in _MARKED else len(steps) == METRES[metre].steps_per_bar
        if wanted:
            fitting.append(steps)
    return fitting


def pick_line(song: Song, lines: tuple[str, ...], rng: Random, drawn: str = "1234") -> str:
    """One of the lines that fit the bar, near the place in the list that the song's energy points to.

    `?` becomes one of the marks of `drawn`. Empty where no line fits.
    """
    fitting = fitting_lines(song.metre, lines)
    if not fitting:
        return ""
    place = song.energy * (len(fitting) - 1) + rng.gauss(0, 0.5)
    line = fitting[max(0, min(len(fitting) - 1, round(place)))]
    choices = {"~": "x.", "?": drawn}
    return "".join(rng.choice(choices[mark]) if mark in choices else mark for mark in line)


def held(line: str, step: int) -> int:
    """Steps from `step` to the end of its `-` tail."""
    end = step + 1
    while end < len(line) and line[end] == "-":
        end += 1
    return end - step


_DRUM_VELOCITY = {"X": 118, "x": 96, "o": 58}
_GHOST_CHANCE = 0.85
_FILLS = ("xxxx", "x.xx", "xx.x", "x.x.", "X.xx", "..xx")  # a beat of sixteenths
_LONG_FILL_CHANCE = 0.3  # a fill of two beats instead of one


def drums(fill: tuple[str, ...] = (), crash: bool = False, **lines: tuple[str, ...]) -> Player:
    """A drum part: for each piece of the kit (`DRUM_KEYS`, `_` for a space) its lines. `X` accent, `x` hit, `o` ghost.

    A piece without a line for the metre is silent. Every fourth bar ends with a run over the pieces named in `fill`;
    `crash` marks the first beat of every fourth bar.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        chosen = {DRUM_KEYS[piece.replace("_", " ")]: pick_line(song, options, rng) for piece, options in lines.items()}
        per_bar, beat = song.steps_per_bar, song.steps_per_beat
        every = rng.choice((4, 4, 8)) if len(song.bars) >= 8 else 4
        events = []
        for bar in range(len(song.bars)):
            first, fill_from = bar * per_bar, per_bar
            if fill and bar % every == every - 1:
                fill_from -= 2 * beat if rng.random() < _LONG_FILL_CHANCE else beat
            for key, line in chosen.items():
                for step, mark in enumerate(line[:fill_from]):
                    if mark in _DRUM_VELOCITY and (mark != "o" or rng.random() < _GHOST_CHANCE):
                        events.append(Event(first + step, 1, key, _DRUM_VELOCITY[mark]))
            if fill_from < per_bar:
                events += _fill(first + fill_from, per_bar - fill_from, fill, rng)
            if crash and bar % 4 == 0:
                events.append(Event(first, 4, DRUM_KEYS["crash"], 105))
        return events

    return play


def _fill(start: int, steps: int, pieces: tuple[str, ...], rng: Random) -> list[Event]:
    rhythm = "".join(rng.choice(_FILLS) for _ in range(steps // 4 + 1))[:steps]
    events = []
    for step, mark in enumerate(rhythm):
        if mark != ".":
            key = DRUM_KEYS[pieces[step * len(pieces) // steps].replace("_", " ")]
            events.append(Event(start + step, 1, key, 88 + 6 * (step % 4) + (8 if mark == "X" else 0)))
    return events


def bass(*lines: str, detached: float = 0.9) -> Player:
    """A bass part from lines of `r` or `x` root, `3` third, `5` fifth, `6` sixth, `7` seventh, `8` octave.

    `a` is the semitone below the next bar's root, `?` one of root, fifth, third and octave, `-` holds the note;
    `detached` is the share of a note that sounds. Raises `ValueError` where no line fits the metre.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = needed_line(song, lines, rng, "r583")
        events = []
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                if mark == "a":
                    pitch = _bass_root(song.chord_at(bar + 1, 0), instrument) - 1
                else:
                    harmony = song.chord_at(bar, step)
                    pitch = _bass_root(harmony, instrument) + _above_root(harmony, mark)
                if pitch > instrument.high:
                    pitch -= 12
                velocity = 104 if step == 0 else 90
                events.append(Event(bar * len(line) + step, held(line, step) * detached, pitch, velocity))
        return events

    return play


def needed_line(song: Song, lines: tuple[str, ...], rng: Random, drawn: str = "1234") -> str:
    """`pick_line` for a player who cannot do without; raises `ValueError` where no line fits the metre."""
    line = pick_line(song, lines, rng, drawn)
    if not line:
        raise ValueError(f"no line for {song.metre} among {lines}")
    return line


def _above_root(harmony: Chord, mark: str) -> int:
    return {
        "r": 0,
        "x": 0,
        "3": harmony.third,
        "5": harmony.fifth,
        "6": 9 if harmony.third == 4 else 8,
        "7": min(harmony.seventh, 12),
        "8": 12,
    }[mark]


def _bass_root(harmony: Chord, instrument: Instrument) -> int:
    """The root in the lowest octave of the instrument, a semitone of room left below it."""
    return instrument.low + 1 + (harmony.root - instrument.low - 1) % 12


def walking_bass(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
    """A note on every beat: the root on a new chord, chord tones between, a semitone step into the next chord."""
    events: list[Event] = []
    pitch = _bass_root(song.chord_at(0, 0), instrument)
    beat = song.steps_per_beat
    places = [(bar, step) for bar in range(len(song.bars)) for step in range(0, song.steps_per_bar, beat)]
    harmonies = [song.chord_at(bar, step) for bar, step in places]
    for place, (bar, step) in enumerate(places):
        harmony, upcoming = harmonies[place], harmonies[(place + 1) % len(places)]
        if place == 0 or harmonies[place - 1] != harmony:
            pitch = nearest(pitch, (harmony.root,), instrument.low, instrument.high - 5)
        elif upcoming != harmony:
            target = nearest(pitch, (upcoming.root,), instrument.low + 1, instrument.high - 5)
            pitch = target + rng.choice((-1, 1))
        else:
            pitch = nearest(pitch + rng.choice((-4, 3, 5)), harmony.pitch_classes, instrument.low, instrument.high)
        velocity = 98 if step // beat % 2 else 90
        events.append(Event(bar * song.steps_per_bar + step, 0.92 * beat, pitch, velocity))
        if rng.random() < 0.08 and place + 1 < len(places):  # a skipped note, as the style has it
            events.append(Event(bar * song.steps_per_bar + step + beat // 2, 0.3 * beat, pitch, 70))
    return events
