"""Players that sound the harmony: chords and strums, arpeggios, drones; and the tremolo of any of them."""

from __future__ import annotations

from random import Random

from .rendered_instruments import Instrument
from .rendered_parts import Event, Player, Song, held, needed_line
from .rendered_theory import Chord, ladder, nearest, voicing

ORDERS = ("up", "down", "up and down", "broken")


def chords(
    *lines: str, low: int = 52, voices: int = 4, strum: float = 0.0, detached: float = 0.95, velocity: int = 84
) -> Player:
    """Chords from lines of `x` the whole chord (`X` louder, `u` from the top string, softer), digits single voices.

    `b` is its root below, `f` its fifth below, `h` the chord without its lowest voice, `?` one of the voices 1 to 4.
    The voicing takes `voices` notes from about MIDI pitch `low`; `strum` is the seconds between strings.
    Raises `ValueError` where no line fits the metre.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = needed_line(song, lines, rng)
        floor = max(instrument.low, min(low + song.register, instrument.high - 14))
        events: list[Event] = []
        shape: tuple[int, ...] = ()
        sounding: Chord | None = None
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                harmony = song.chord_at(bar, step)
                if harmony != sounding:
                    shape, sounding = voicing(harmony, floor, voices, shape), harmony
                at, length = bar * len(line) + step, held(line, step) * detached
                if mark in "bf":
                    pitch_class = harmony.root if mark == "b" else (harmony.root + harmony.fifth) % 12
                    pitch = nearest(floor - 8, (pitch_class,), instrument.low, instrument.high)
                    events.append(Event(at, length, pitch, velocity + 6))
                    continue
                pitches = {"x": shape, "X": shape, "u": shape[::-1], "h": shape[1:]}.get(mark)
                if pitches is None:
                    pitches = (shape[(int(mark) - 1) % len(shape)],)
                loudness = velocity + {"X": 16, "u": -10}.get(mark, 0)
                for string, pitch in enumerate(pitches):
                    events.append(Event(at, length, folded(pitch, instrument), loudness, string * strum))
        return events

    return play


def folded(pitch: int, instrument: Instrument) -> int:
    """The pitch moved by octaves into the instrument's register."""
    while pitch < instrument.low:
        pitch += 12
    while pitch > instrument.high:
        pitch -= 12
    return pitch


def arpeggio(
    *every: int,
    low: int = 60,
    octaves: int = 1,
    orders: tuple[str, ...] = ORDERS,
    detached: float = 0.9,
    velocity: int = 82,
) -> Player:
    """The tones of the chord one after another, a note every so many steps; the rates are listed from calm to busy.

    `orders` are the ways through the tones that the player may take, of `ORDERS`.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        place = round(song.energy * (len(every) - 1) + rng.gauss(0, 0.4))
        rate = every[max(0, min(len(every) - 1, place))]
        order, turn = rng.choice(orders), rng.randrange(4)
        floor = max(instrument.low, min(low + song.register, instrument.high - 14))
        events = []
        for bar in range(len(song.bars)):
            for count, step in enumerate(range(0, song.steps_per_bar, rate)):
                tones = ladder(
                    song.chord_at(bar, step).pitch_classes, floor, min(floor + 12 * octaves, instrument.high)
                )
                tone = tones[_place(order, count, len(tones), turn)]
                loudness = velocity + (10 if step % song.steps_per_beat == 0 else 0)
                events.append(Event(bar * song.steps_per_bar + step, rate * detached, tone, loudness))
        return events

    return play


def _place(order: str, count: int, size: int, turn: int) -> int:
    """Which of `size` tones is the `count`-th of an arpeggio; `turn` makes broken figures differ from clip to clip."""
    if order == "up":
        return count % size
    if order == "down":
        return size - 1 - count % size
    if order == "up and down":
        round_trip = count % max(1, 2 * size - 2)
        return min(round_trip, 2 * size - 2 - round_trip) if size > 1 else 0
    return (0, size - 1, size // 2, size - 1)[(count + (turn if count % 4 else 0)) % 4] if turn else count * 2 % size


def drone(*lines: str, low: int = 48, tones: tuple[int, ...] = (0, 7), velocity: int = 80) -> Player:
    """The tonic and what else lies in `tones` (semitones above it) under all chords: `x` all of them, digits one.

    Raises `ValueError` where no line fits the metre.
    """

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        line = needed_line(song, lines, rng, "12"[: len(tones)])
        root = nearest(low + 5, (song.key.tonic,), instrument.low, instrument.high)
        pitches = [folded(root + tone, instrument) for tone in tones]
        events = []
        for bar in range(len(song.bars)):
            for step, mark in enumerate(line):
                if mark in ".-":
                    continue
                sounding = pitches if mark == "x" else [pitches[(int(mark) - 1) % len(pitches)]]
                at, length = bar * len(line) + step, held(line, step)
                events += [Event(at, length, pitch, velocity) for pitch in sounding]
        return events

    return play


def tremolo(player: Player, every: float = 1.0) -> Player:
    """The same part with every longer note beaten, bowed or picked again each `every` steps."""

    def play(song: Song, instrument: Instrument, rng: Random) -> list[Event]:
        events = []
        for event in player(song, instrument, rng):
            strokes = max(1, round(event.steps / every))
            length = event.steps / strokes
            for stroke in range(strokes):
                velocity = event.velocity - (0 if stroke == 0 else 14)
                events.append(event._replace(step=event.step + stroke * length, steps=length, velocity=velocity))
        return events

    return play
