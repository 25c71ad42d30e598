"""Players that sing on an instrument: melodies, riffs, and what goes with a melody: thirds, canon, counterpoint."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .rendered_instruments import Instrument
from .rendered_parts import Event, Player, Song, held, needed_line, pick_line
from .rendered_parts_harmony import folded
from .rendered_theory import ladder, melody_classes, nearest, rung

# Four bars of a tune: a motif each, `+` and `-` a step higher or lower (a sequence), `i` upside down.
PERIODS = (
    ("A", "A", "B", "A"),
    ("A", "B", "A", "C"),
    ("A", "B", "A", "B"),
    ("A", "B", "C", "A"),
    ("A", "A+", "B", "A"),
    ("A", "A-", "A-", "B"),
    ("A", "Ai", "A", "B"),
    ("A", "A+", "A+", "C"),
    ("A", "B", "A+", "B-"),
    ("A", "A", "A", "B"),
)
CONTOURS = (  # scale steps above the middle of the register, for each bar of a period
    (0, 2, 4, 1),  # an arch
    (4, 3, 1, 0),  # falling
    (-2, 0, 2, 3),  # rising
    (0, 3, -1, 0),  # a wave
    (1, 1, 2, 0),  # level
    (3, -1, 2, -2),  # high and low
)
_VARIED = 0.12  # the share of a motif's moves that a repeat takes differently
_PICKUP_CHANCE = 0.35
_GRACE_STEPS = 0.4  # the length of a grace note
_ORNAMENTS = ("grace above", "grace below", "mordent", "turn")


@dataclass(frozen=True)
class _Motif:
    """A rhythm and, for each of its steps, by how many scale notes the melody moves there."""

    line: str
    moves: tuple[int, ...]


def _motif(song: Song, lines: tuple[str, ...], rng: Random) -> _Motif:
    line = needed_line(song, lines, rng)
    direction = rng.choice((-1, 1))
    turn = rng.randrange(4, len(line))  # where the line of the melody turns back
    moves = [
        direction * rng.choice((1, 1, 1, 2, -1, -2, 3, 0)) * (1 if step < turn else -1) for step in range(len(line))
    ]
    return _Motif(line, tuple(moves))


def span(low: int, high: int, song: Song, instrument: Instrument) -> tuple[int, int]:
    """The register of a melody: as wished, moved by the song's register, and at least an octave of the instrument."""
    floor = min(max(low + song.register, instrument.low), instrument.high - 12)
    return floor, max(min(high + song.register, instrument.high), floor + 12)


def melody(
    *lines: str, low: int, high: int, scale: str = "", detached: float = 0.9, rest: float = 0.0, ornament: float = 0.0
) -> Player:
    """A melody in four-bar periods over motifs that are repeated, moved, turned over and varied.

    Strong beats land on chord tones, the rest moves by step; a period asks in its second bar and answers, on a note of
    rest, in its fourth. `rest` is the share of bars that pause for breath, which the first bar never does; `ornament`
    the share of longer notes with a grace note, a mordent or a turn.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        motifs = {name: _motif(song, lines, rng) for name in "ABC"}
        period, contour = rng.choice(PERIODS), rng.choice(CONTOURS)
        favourite = rng.choice(_ORNAMENTS)
        pickup = rng.random() < _PICKUP_CHANCE
        floor, ceiling = span(low, high, song, instrument)
        middle = (floor + ceiling) / 2 + rng.randint(-3, 3)
        events: list[Event] = []
        for bar in range(len(song.bars)):
            place = bar % 4
            if bar and place != 3 and rng.random() < rest:
                continue
            token = period[place]
            moved = 2 * (token.count("+") - token.count("-")) + 1.7 * contour[place]  # a scale step is 1.7 semitones
            notes = _bar(song, bar, motifs[token[0]], middle + moved, "i" in token, scale, (floor, ceiling), rng)
            if place == 3 or bar == len(song.bars) - 1:
                _rest_on_chord(song, bar, notes, (floor, ceiling))
            if pickup and place == 3 and bar + 1 < len(song.bars):
                _lead_in(song, bar, notes, scale, (floor, ceiling))
            for event in notes:
                sounding = event._replace(steps=event.steps * detached)
                if ornament and event.steps >= 2 and rng.random() < ornament:
                    events += _ornamented(song, sounding, favourite, scale, instrument)
                else:
                    events.append(sounding)
        return events

    return play


def _bar(
    song: Song,
    bar: int,
    motif: _Motif,
    anchor: float,
    upside_down: bool,
    scale: str,
    limits: tuple[int, int],
    rng: Random,
) -> list[Event]:
    """A motif in a bar, from the chord tone nearest `anchor` on."""
    pitch: int | None = None
    notes = []
    for step, mark in enumerate(motif.line):
        if mark in ".-":
            continue
        harmony = song.chord_at(bar, step)
        move = motif.moves[step] if rng.random() >= _VARIED else rng.choice((-2, -1, 1, 2))
        move = -move if upside_down else move
        if pitch is None:
            pitch = nearest(anchor, harmony.pitch_classes, *limits)
        elif song.strong(step) or mark == "X":
            pitch = nearest(pitch + 2 * move, harmony.pitch_classes, *limits)
        else:
            pitch = scale_step(pitch, move, melody_classes(song.key, harmony, scale), *limits)
        velocity = (100 if step % song.steps_per_beat == 0 else 90) + (8 if mark == "X" else 0)
        notes.append(Event(bar * len(motif.line) + step, held(motif.line, step), pitch, velocity))
    return notes


def _rest_on_chord(song: Song, bar: int, notes: list[Event], limits: tuple[int, int]) -> None:
    """The last note of a period is the root or third of its chord, nearest to where the melody came from."""
    if notes:
        last = notes[-1]
        harmony = song.chord_at(bar, last.step - bar * song.steps_per_bar)
        calm = (harmony.root, (harmony.root + harmony.third) % 12)
        notes[-1] = last._replace(pitch=nearest(notes[max(0, len(notes) - 2)].pitch, calm, *limits))


def _lead_in(song: Song, bar: int, notes: list[Event], scale: str, limits: tuple[int, int]) -> None:
    """Two eighths by step into the next period, in place of what the last beat held."""
    start = (bar + 1) * song.steps_per_bar - 4
    kept = [note for note in notes if note.step < start]
    if not kept:
        return
    if kept[-1].step + kept[-1].steps > start:
        kept[-1] = kept[-1]._replace(steps=start - kept[-1].step)
    classes = melody_classes(song.key, song.chord_at(bar + 1, 0), scale)
    target = scale_step(kept[-1].pitch, -3, classes, *limits)
    first = scale_step(target, 1, classes, *limits)
    notes[:] = [*kept, Event(start, 2, target, 84), Event(start + 2, 2, first, 88)]


def scale_step(pitch: int, move: int, classes: tuple[int, ...], low: int, high: int) -> int:
    """The pitch `move` scale notes away, turned back at the ends of the register."""
    rungs = ladder(classes, low, high)
    here = rung(pitch, rungs)
    there = here + move
    if not 0 <= there < len(rungs):
        there = here - move
    return rungs[max(0, min(len(rungs) - 1, there))]


def _ornamented(song: Song, event: Event, kind: str, scale: str, instrument: Instrument) -> list[Event]:
    bar, step = divmod(event.step, song.steps_per_bar)
    classes = melody_classes(song.key, song.chord_at(int(bar), step), scale)
    above = scale_step(event.pitch, 1, classes, instrument.low, instrument.high)
    below = scale_step(event.pitch, -1, classes, instrument.low, instrument.high)
    before = {
        "grace above": (above,),
        "grace below": (below,),
        "mordent": (event.pitch, above),
        "turn": (above, event.pitch, below),
    }[kind]
    small = _GRACE_STEPS
    notes = [Event(event.step + place * small, small, pitch, event.velocity - 14) for place, pitch in enumerate(before)]
    late = len(before) * small
    return [*notes, event._replace(step=event.step + late, steps=max(small, event.steps - late))]


_DEGREES = "1155343876"  # what `?` in a riff becomes: tonic and fifth are the likeliest


def riff(
    *lines: str, low: int, scale: str = "", follow: bool = True, detached: float = 0.85, velocity: int = 92
) -> Player:
    """A figure repeated in every bar: digits are notes of the scale counted from the chord's root (`8` the octave).

    `x` is the root, `?` one of the scale; without `follow` they count from the tonic and the chords move above it.
    Raises `ValueError` where no line fits the metre.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = needed_line(song, lines, rng, _DEGREES).replace("x", "1").replace("X", "1")
        floor = max(instrument.low, min(low + song.register, instrument.high - 14))
        events = []
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                harmony = song.chord_at(bar, step)
                classes = melody_classes(song.key, harmony, scale)
                home = nearest(floor + 6, (harmony.root if follow else song.key.tonic,), floor, floor + 12)
                rungs = ladder(classes, instrument.low, instrument.high)
                there = min(rung(home, rungs) + int(mark) - 1, len(rungs) - 1)
                loudness = velocity + (8 if step % song.steps_per_beat == 0 else 0)
                at = bar * len(line) + step
                events.append(Event(at, held(line, step) * detached, folded(rungs[there], instrument), loudness))
        return events

    return play


def harmonised(*moves: int, scale: str = "", velocity: int = -8) -> Player:
    """A second voice that goes with the melody, so many notes of the scale away (-2 a third below, 0 in unison, 7 an
    octave above); one of `moves` is taken for the section. Silent where there is no melody."""

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        move = rng.choice(moves)
        events = []
        for event in song.lead:
            bar, step = divmod(event.step, song.steps_per_bar)
            pitch = event.pitch
            if move:
                classes = melody_classes(song.key, song.chord_at(int(bar), step), scale)
                rungs = ladder(classes, 12, 120)
                pitch = rungs[rung(pitch, rungs) + move]
            pitch = folded(pitch, instrument)
            events.append(event._replace(pitch=pitch, velocity=event.velocity + velocity))
        return events

    return play


def canon(*bars_later: int, scale: str = "") -> Player:
    """The melody again, so many bars later and fitted to the chords it then meets. Silent where there is no melody."""

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        delay = rng.choice(bars_later) * song.steps_per_bar
        end = len(song.bars) * song.steps_per_bar
        events = []
        for event in song.lead:
            if event.step + delay >= end:
                continue
            bar, step = divmod(event.step + delay, song.steps_per_bar)
            harmony = song.chord_at(int(bar), step)
            classes = harmony.pitch_classes if song.strong(step) else melody_classes(song.key, harmony, scale)
            pitch = nearest(folded(event.pitch - 7, instrument), classes, instrument.low, instrument.high)
            events.append(event._replace(step=event.step + delay, pitch=pitch, velocity=event.velocity - 6))
        return events

    return play


def answer(*lines: str, low: int, high: int, scale: str = "", chance: float = 0.7) -> Player:
    """Short runs in the pauses of the melody: call and response. `lines` say when the answers may sound.

    Notes of a line that fall on a sounding melody are left out; `chance` is the share of bars answered.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = pick_line(song, lines, rng)
        floor, ceiling = span(low, high, song, instrument)
        busy = {int(event.step) + step for event in song.lead for step in range(max(1, round(event.steps)))}
        events = []
        for bar in range(len(song.bars)):
            if rng.random() >= chance:
                continue
            pitch = nearest(rng.uniform(floor + 3, ceiling - 3), song.chord_at(bar, 0).pitch_classes, floor, ceiling)
            for step, mark in enumerate(line):
                at = bar * len(line) + step
                if mark in ".-" or at in busy:
                    continue
                classes = melody_classes(song.key, song.chord_at(bar, step), scale)
                pitch = scale_step(pitch, rng.choice((-2, -1, 1, 1, 2)), classes, floor, ceiling)
                events.append(Event(at, held(line, step) * 0.9, pitch, 88))
        return events

    return play


def counterpoint(*lines: str, low: int, high: int, scale: str = "") -> Player:
    """A line of its own against the melody: it falls where the melody rises, and meets the chord on strong beats.

    Raises `ValueError` where no line fits the metre.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = needed_line(song, lines, rng)
        floor, ceiling = span(low, high, song, instrument)
        pitch = nearest((floor + ceiling) / 2, song.chord_at(0, 0).pitch_classes, floor, ceiling)
        tune = sorted((event.step, event.pitch) for event in song.lead)
        place, before = 0, 0
        events = []
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                at = bar * len(line) + step
                while place < len(tune) and tune[place][0] < at:
                    place += 1
                now = tune[place - 1][1] if place else before
                rising, before = now - before, now
                direction = -1 if rising > 0 else 1 if rising < 0 else rng.choice((-1, 1))
                harmony = song.chord_at(bar, step)
                if song.strong(step):
                    pitch = nearest(pitch + 3 * direction, harmony.pitch_classes, floor, ceiling)
                else:
                    move = direction * rng.choice((1, 1, 2))
                    pitch = scale_step(pitch, move, melody_classes(song.key, harmony, scale), floor, ceiling)
                events.append(Event(at, held(line, step) * 0.93, pitch, 86))
        return events

    return play
