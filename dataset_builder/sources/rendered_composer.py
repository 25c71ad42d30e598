"""What a genre is, and the seeded composer that makes an arrangement of one.

A genre is what a listener tells it by: tempo, metre, harmony, the instruments and how each of them plays. A mood is no
label put on afterwards: it chooses mode, tempo and how busy the players are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from .rendered_instruments import INSTRUMENTS, Instrument
from .rendered_parts import Note, Player, Song
from .rendered_theory import Key, progression

HEARD_BEFORE_END = 0.9  # a part that enters later than this share of the clip is left out: nobody would name it


@dataclass(frozen=True)
class Mood:
    """A mood word with the mode, the range of tempi (BPM) and the energy (0 calm to 1 busy) that make it heard."""

    word: str
    mode: str
    slowest: int
    fastest: int
    energy: float


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
    """A style of music. `harmony` gives lines of Roman numerals by mode; each numeral lasts `bars_per_chord` bars."""

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


@dataclass(frozen=True)
class Part:
    """What one player plays: the instrument, the role, the notes and the level in the mix."""

    role: str
    instrument: Instrument
    level_db: float
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Arrangement:
    """A composed clip with the facts that are true of it by construction."""

    genre: str
    mood: str
    key: Key
    bpm: int
    metre: str
    parts: tuple[Part, ...]
    room_s: float
    room_level: float

    @property
    def instruments(self) -> tuple[str, ...]:
        """The tags of the instruments that sound, each once, the most prominent first."""
        loudest_first = sorted(self.parts, key=lambda part: -part.level_db)
        return tuple(dict.fromkeys(part.instrument.tag for part in loudest_first))

    @property
    def melody(self) -> str | None:
        """The tag of the instrument that plays the melody, None where there is none."""
        return next((part.instrument.tag for part in self.parts if part.role == "melody"), None)


def compose(genre: Genre, rng: Random, duration_s: float) -> Arrangement:
    """Make an arrangement that fills `duration_s` seconds. The same state of `rng` gives the same arrangement."""
    mood = rng.choice(genre.moods)
    key = Key(rng.randrange(12), mood.mode)
    bpm = rng.randint(mood.slowest, mood.fastest)
    metre = rng.choice(genre.metres)
    beats = int(metre.partition("/")[0])
    bars = max(1, math.ceil(duration_s * bpm / 60 / beats))
    cycle = progression(rng.choice(genre.harmony[mood.mode]), key)
    song = Song(
        key=key,
        bpm=bpm,
        beats_per_bar=beats,
        bars=tuple((cycle[int(bar / genre.bars_per_chord) % len(cycle)],) for bar in range(bars)),
        energy=mood.energy,
        swing=genre.swing,
        looseness=genre.looseness,
    )
    parts = []
    for chair in genre.band:
        # Each chair draws from a stream of its own, so that a change to one player leaves the others' notes alone.
        own = Random(rng.getrandbits(64))
        if own.random() >= chair.chance:
            continue
        instrument = INSTRUMENTS[own.choice(chair.instruments)]
        notes = tuple(chair.play(song, instrument, own))
        if notes and min(note.start for note in notes) < HEARD_BEFORE_END * duration_s:
            parts.append(Part(chair.role, instrument, chair.level_db, notes))
    return Arrangement(genre.name, mood.word, key, bpm, metre, tuple(parts), genre.room_s, genre.room_level)
