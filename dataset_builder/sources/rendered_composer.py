"""What a genre is, and the seeded composer that makes an arrangement of one.

A genre is what a listener tells it by: tempo, metre, harmony, the instruments and how each of them plays. A mood is no
label put on afterwards: it chooses mode, tempo, register and touch, and how busy the players are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from .rendered_instruments import INSTRUMENTS, Instrument
from .rendered_parts import METRES, STEPS_PER_QUARTER, Event, Note, Player, Song
from .rendered_parts_form import Clock, Hand, Passage, cast, passages
from .rendered_theory import Chord, Key, progression

HEARD_BEFORE_END = 0.9  # a part that enters later than this share of the clip is left out: nobody would name it
BALANCE_DB = 1.5  # by how much a part's level may differ from clip to clip
SOLO_SHARE = 0.1  # of the clips of a genre that has solo pieces
SMALL_SHARE = 0.15  # of the clips in which only those play who always do
MODULATING_SHARE = 0.15  # of the whole songs, those whose last chorus is a whole tone higher
SPARSE_ONSETS = 3.0  # strokes a second; at most so many are a sparse texture, if few play
SPARSE_PARTS = 3
DENSE_ONSETS = 10.0  # strokes a second; at least so many are a dense texture, if a band plays
DENSE_PARTS = 4
STROKE_S = 0.05  # what sounds within this time is one stroke: a strummed chord, a band a little apart


@dataclass(frozen=True)
class Mood:
    """A mood word with the mode, the range of tempi (BPM) and the energy (0 calm to 1 busy) that make it heard."""

    word: str
    mode: str
    slowest: int
    fastest: int
    energy: float


@dataclass(frozen=True)
class Touch:
    """What a mood does to the players: length of notes (factor), loudness (velocity), register (semitones)."""

    length: float = 1.0
    louder: float = 0.0
    register: int = 0


_SOFT = Touch(1.05, -12, 0)
_BRIGHT = Touch(0.85, 4, 3)
_LOW = Touch(1.0, 2, -4)
_STRONG = Touch(1.0, 10, 0)
_SHORT = Touch(0.75, 6, 0)
# By the mood's word; a word that is not here leaves the players as they are.
TOUCHES = {
    **dict.fromkeys(("calm", "peaceful", "gentle", "relaxed", "relaxing", "mellow", "meditative", "sleepy"), _SOFT),
    **dict.fromkeys(("dreamy", "ethereal", "magical", "innocent"), Touch(1.1, -10, 4)),
    **dict.fromkeys(("happy", "joyful", "cheerful", "carefree", "bright", "summery"), _BRIGHT),
    **dict.fromkeys(("playful", "bouncy", "funny"), Touch(0.65, 2, 3)),
    **dict.fromkeys(("dark", "mysterious", "eerie", "serious", "solemn"), _LOW),
    **dict.fromkeys(("sad", "melancholic", "longing", "nostalgic", "sentimental"), Touch(1.05, -8, -2)),
    **dict.fromkeys(("epic", "majestic", "triumphant", "powerful", "uplifting"), _STRONG),
    **dict.fromkeys(("energetic", "aggressive", "intense", "lively", "festive", "wild"), _SHORT),
    **dict.fromkeys(("groovy", "hypnotic", "tense"), Touch(0.8, 0, -1)),
}


@dataclass(frozen=True)
class Chair:
    """A place in the band: its role, who may sit there (names of `INSTRUMENTS`), how it plays, its level in dB.

    `chance` is how often the chair is taken at all. Who has the role `melody` is named so in the reference captions.
    """

    role: str
    instruments: tuple[str, ...]
    play: Player
    level_db: float = 0.0
    chance: float = 1.0


@dataclass(frozen=True)
class Genre:
    """A style of music. `harmony` gives lines of Roman numerals by mode; each numeral lasts `bars_per_chord` bars.

    `form` is one of `FORMS`, for clips that are long enough; `solos` are bands of one player that stand in at times.
    """

    name: str
    moods: tuple[Mood, ...]
    harmony: dict[str, tuple[str, ...]]
    band: tuple[Chair, ...]
    metres: tuple[str, ...] = ("4/4",)
    bars_per_chord: float = 1.0
    swing: float = 0.0
    looseness: float = 0.008
    room_s: float = 0.5
    room_level: float = 0.12
    form: str = "song"
    solos: tuple[tuple[Chair, ...], ...] = ()


@dataclass(frozen=True)
class Part:
    """What one player plays: the instrument, the role, the notes and the level in the mix."""

    role: str
    instrument: Instrument
    level_db: float
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Section:
    """A passage of a clip: its name, its limits in seconds and the tags of the instruments that play in it."""

    name: str
    start_s: float
    end_s: float
    instruments: tuple[str, ...]


@dataclass(frozen=True)
class Arrangement:
    """A composed clip with the facts that are true of it by construction.

    `bpm` counts the beats of the metre: quarters, but dotted quarters in 6/8 and 12/8. `texture` is `solo`,
    `sparse texture`, `dense texture` or None (`texture_of`). The sections cover the clip.
    """

    genre: str
    mood: str
    key: Key
    bpm: int
    metre: str
    parts: tuple[Part, ...]
    room_s: float
    room_level: float
    texture: str | None
    sections: tuple[Section, ...]

    @property
    def instruments(self) -> tuple[str, ...]:
        """The tags of the instruments that sound, each once, the most prominent first."""
        return _tags(self.parts)

    @property
    def melody(self) -> str | None:
        """The tag of the instrument that plays the melody, None where there is none."""
        return next((part.instrument.tag for part in self.parts if part.role == "melody"), None)


def _tags(parts: Sequence[Part]) -> tuple[str, ...]:
    loudest_first = sorted(parts, key=lambda part: -part.level_db)
    return tuple(dict.fromkeys(part.instrument.tag for part in loudest_first))


@dataclass(frozen=True)
class _Seat:
    """A chair that is taken: who sits there, the seed of the player's ideas, the level in this clip."""

    chair: Chair
    instrument: Instrument
    seed: int
    level_db: float


def compose(genre: Genre, rng: Random, duration_s: float) -> Arrangement:
    """Make an arrangement that fills `duration_s` seconds. The same state of `rng` gives the same arrangement."""
    mood = rng.choice(genre.moods)
    key = Key(rng.randrange(12), mood.mode)
    clock = Clock(rng.randint(mood.slowest, mood.fastest), rng.choice(genre.metres), genre.swing)
    metre = METRES[clock.metre]
    if metre.steps_per_beat != STEPS_PER_QUARTER:  # a compound metre is its own triplet feel
        clock = replace(clock, swing=0.0)
    bar_s = 60 / clock.bpm * metre.steps_per_bar / metre.steps_per_beat
    plan = passages(genre.form, max(1, math.ceil(duration_s / bar_s)), duration_s, rng)
    seats = _seats(genre, rng)
    energy = mood.energy + rng.gauss(0, 0.12)
    harmony = Random(rng.getrandbits(64))
    modulates = len(plan) > 4 and rng.random() < MODULATING_SHARE
    raised = max((place for place, passage in enumerate(plan) if passage.name == "chorus"), default=None)

    lines: dict[str, str] = {}  # of numerals, by material
    played: dict[tuple[int, str, int, int], list[Event]] = {}
    parts: list[list[Note]] = [[] for _ in seats]
    heard: list[set[int]] = [set() for _ in plan]
    # Each player draws from a stream of its own, so that a change to one leaves the others' notes alone.
    humans = [Random(seat.seed + 1) for seat in seats]
    touch = TOUCHES.get(mood.word, Touch())
    hands = [
        Hand(genre.looseness, human.gauss(0, 0.7) * genre.looseness, touch.length, touch.louder) for human in humans
    ]
    for place, passage in enumerate(plan):
        here = Key((key.tonic + 2) % 12, key.mode) if modulates and place == raised else key
        line = lines.setdefault(passage.material, harmony.choice(genre.harmony[key.mode]))
        song = Song(
            key=here,
            metre=clock.metre,
            bars=_bars(line, here, passage.bars, genre.bars_per_chord),
            energy=max(0.0, min(1.0, energy + passage.energy)),
            register=touch.register,
        )
        events = _ensemble(song, passage, seats, played)
        playing = cast(passage.cast, [seat.chair.role for seat in seats], harmony)
        # The clip begins on its first beat, and no later passage with silence.
        playing = _opened(playing, events, 0 if place == 0 else metre.steps_per_beat)
        first_step = passage.first * metre.steps_per_bar
        for seat in sorted(playing):
            notes = hands[seat].play(events[seat], first_step, clock, duration_s, metre.steps_per_beat, humans[seat])
            parts[seat] += notes
            if notes:
                heard[place].add(seat)
    taken = {
        place: Part(seat.chair.role, seat.instrument, seat.level_db, tuple(parts[place]))
        for place, seat in enumerate(seats)
        if parts[place] and min(note.start for note in parts[place]) < HEARD_BEFORE_END * duration_s
    }
    band = tuple(taken.values())
    return Arrangement(
        *(genre.name, mood.word, key, clock.bpm, clock.metre, band, genre.room_s, genre.room_level),
        texture=texture_of(band, duration_s),
        sections=tuple(
            Section(
                name=passage.name,
                start_s=passage.first * bar_s,
                end_s=min(duration_s, (passage.first + passage.bars) * bar_s),
                instruments=_tags([part for place, part in taken.items() if place in playing]),
            )
            for passage, playing in zip(plan, heard, strict=True)
        ),
    )


def _seats(genre: Genre, rng: Random) -> list[_Seat]:
    """Who plays in a clip: the band, the part of it that always plays, or a soloist."""
    draw = rng.random()
    chairs, least = genre.band, 0.0
    if genre.solos and draw < SOLO_SHARE:
        chairs = rng.choice(genre.solos)
    elif draw > 1 - SMALL_SHARE:
        least = 1.0
    seats = []
    soloist: dict[tuple[str, ...], str] = {}  # a solo piece is played by one instrument, whatever its parts
    for chair in chairs:
        own = Random(rng.getrandbits(64))
        if own.random() >= chair.chance or chair.chance < least:
            continue
        name = own.choice(chair.instruments)
        if chairs is not genre.band:
            name = soloist.setdefault(chair.instruments, name)
        level = chair.level_db + own.uniform(-BALANCE_DB, BALANCE_DB)
        seats.append(_Seat(chair, INSTRUMENTS[name], own.getrandbits(64), level))
    return seats


def _bars(line: str, key: Key, bars: int, bars_per_chord: float) -> tuple[tuple[Chord, ...], ...]:
    """The chords of each bar of a passage that goes round the line of numerals."""
    cycle = progression(line, key)
    return tuple(cycle[int(bar / bars_per_chord) % len(cycle)] for bar in range(bars))


def _ensemble(
    song: Song, passage: Passage, seats: Sequence[_Seat], played: dict[tuple[int, str, int, int], list[Event]]
) -> list[list[Event]]:
    """What every seat has to play in a passage; the melody is made first, so that others can go with it.

    `played` remembers it: what returns is the same again.
    """
    events: list[list[Event]] = [[] for _ in seats]
    # The melody belongs to the passage also where its player rests, or second voices would have nothing to go with.
    for place in sorted(range(len(seats)), key=lambda place: seats[place].chair.role != "melody"):
        seat = seats[place]
        which = (place, f"{passage.material}:{passage.energy}", passage.bars, song.key.tonic)
        if which not in played:
            ideas = Random(f"{seat.seed}:{passage.material}")
            played[which] = seat.chair.play(song, seat.instrument, ideas)
        events[place] = played[which]
        if seat.chair.role == "melody" and not song.lead:
            song = replace(song, lead=tuple(events[place]))
    return events


def _opened(playing: frozenset[int], events: Sequence[Sequence[Event]], latest: int) -> frozenset[int]:
    """Who plays, with the first of the others who sounds by the step `latest` where none of them does."""
    ready = [seat for seat, notes in enumerate(events) if any(event.step <= latest for event in notes)]
    if not ready:
        return frozenset(range(len(events)))
    return playing if playing.intersection(ready) else playing | {ready[0]}


def texture_of(parts: Sequence[Part], duration_s: float) -> str | None:
    """`solo` for one instrument, `sparse texture` for few parts and strokes, `dense texture` for many; else None.

    A stroke is what sounds within `STROKE_S`; the limits are `SPARSE_ONSETS` and `DENSE_ONSETS` strokes a second.
    """
    if len({part.instrument.tag for part in parts}) == 1:
        return "solo"
    strokes, last = 0, -1.0
    for start in sorted(note.start for part in parts for note in part.notes):
        if start - last >= STROKE_S:
            strokes, last = strokes + 1, start
    if strokes <= SPARSE_ONSETS * duration_s and len(parts) <= SPARSE_PARTS:
        return "sparse texture"
    return "dense texture" if strokes >= DENSE_ONSETS * duration_s and len(parts) >= DENSE_PARTS else None
