"""Keys, scales, chords and voicings of the rendered corpus, in semitones and MIDI pitches."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

MAJOR = "major"
MINOR = "minor"

# Spelling by mode follows the circle of fifths: at most six accidentals in the signature.
_NAMES = {
    MAJOR: ("c", "db", "d", "eb", "e", "f", "f#", "g", "ab", "a", "bb", "b"),
    MINOR: ("c", "c#", "d", "eb", "e", "f", "f#", "g", "g#", "a", "bb", "b"),
}
_MODES = {MAJOR: (0, 2, 4, 5, 7, 9, 11), MINOR: (0, 2, 3, 5, 7, 8, 10)}  # semitones above the tonic
# Scales a melody may colour the key with. All but the blues notes keep the key's own third and fifth, so that the
# key which the tags name stays the key that is heard.
_SCALES = {
    ("pentatonic", MAJOR): (0, 2, 4, 7, 9),
    ("pentatonic", MINOR): (0, 3, 5, 7, 10),
    ("blues", MAJOR): (0, 2, 3, 4, 7, 9),
    ("blues", MINOR): (0, 3, 5, 6, 7, 10),
    ("modal", MAJOR): (0, 2, 4, 5, 7, 9, 10),  # mixolydian
    ("modal", MINOR): (0, 2, 3, 5, 7, 9, 10),  # dorian
    ("lydian", MAJOR): (0, 2, 4, 6, 7, 9, 11),
    ("phrygian", MINOR): (0, 1, 3, 5, 7, 8, 10),
    ("harmonic", MINOR): (0, 2, 3, 5, 7, 8, 11),
    ("hirajoshi", MINOR): (0, 2, 3, 7, 8),  # a koto's tuning
    ("ukrainian", MINOR): (0, 2, 3, 6, 7, 9, 10),  # dorian with a raised fourth, as klezmer has it
}
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII")
_TONES = {  # semitones above the chord's root, by the suffix of the numeral and whether the numeral is upper case
    ("", True): (0, 4, 7),
    ("", False): (0, 3, 7),
    ("6", True): (0, 4, 7, 9),
    ("6", False): (0, 3, 7, 9),
    ("7", True): (0, 4, 7, 10),
    ("7", False): (0, 3, 7, 10),
    ("9", True): (0, 4, 7, 10, 14),
    ("9", False): (0, 3, 7, 10, 14),
    ("13", True): (0, 4, 10, 14, 21),
    ("7b9", True): (0, 4, 7, 10, 13),
    ("maj7", True): (0, 4, 7, 11),
    ("maj9", True): (0, 4, 7, 11, 14),
    ("add9", True): (0, 4, 7, 14),
    ("add9", False): (0, 3, 7, 14),
    ("sus2", True): (0, 2, 7),
    ("sus2", False): (0, 2, 7),
    ("sus4", True): (0, 5, 7),
    ("7sus4", True): (0, 5, 7, 10),
    ("aug", True): (0, 4, 8),
    ("dim", False): (0, 3, 6),
    ("dim7", False): (0, 3, 6, 9),
    ("m7b5", False): (0, 3, 6, 10),
    ("5", True): (0, 7),
    ("5", False): (0, 7),
}
_NUMERAL = re.compile(r"^([b#]?)([IViv]+)([^/]*)(?:/(.+))?$")


@dataclass(frozen=True)
class Key:
    """A tonic (pitch class, 0 = C) and a mode (`major` or `minor`)."""

    tonic: int
    mode: str

    @property
    def name(self) -> str:
        """The key as a tag says it, such as `a minor`."""
        return f"{_NAMES[self.mode][self.tonic]} {self.mode}"

    @property
    def scale(self) -> tuple[int, ...]:
        """Pitch classes of the major or natural minor scale."""
        return tuple((self.tonic + step) % 12 for step in _MODES[self.mode])

    def coloured(self, name: str) -> tuple[int, ...]:
        """Pitch classes of a scale over this tonic, such as `pentatonic`; the key's own scale where the mode has none
        of that name, and for an empty name."""
        return tuple((self.tonic + step) % 12 for step in _SCALES.get((name, self.mode), _MODES[self.mode]))


@dataclass(frozen=True)
class Chord:
    """A root (pitch class) and its tones in semitones above the root."""

    root: int
    tones: tuple[int, ...]

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        return tuple((self.root + tone) % 12 for tone in self.tones)

    @property
    def third(self) -> int:
        """The third above the root in semitones, or what stands for it (a fourth, a second, a fifth)."""
        return self.tones[1]

    @property
    def fifth(self) -> int:
        """The fifth above the root in semitones: 7, or 6 or 8 where the chord has an altered one."""
        if 7 in self.tones:
            return 7
        return 6 if 6 in self.tones else 8 if 8 in self.tones else 7

    @property
    def seventh(self) -> int:
        """The seventh above the root in semitones; the octave where the chord has none."""
        return next((tone for tone in self.tones if tone in (9, 10, 11)), 12)


@lru_cache(maxsize=4096)  # 24 keys times the numerals of all genres
def chord(numeral: str, key: Key) -> Chord:
    """The chord that a Roman numeral such as `ii7`, `bVII`, `Imaj9` or `V7/ii` names in `key`.

    Upper case has a major third, lower case a minor one; degrees count along the key's own scale. `V7/ii` is the
    dominant of the second degree. Raises `ValueError` for text that is no numeral.
    """
    match = _NUMERAL.match(numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is no Roman numeral")
    sign, roman, suffix, target = match.groups()
    tonic, degrees = key.tonic, _MODES[key.mode]
    if target is not None:  # counted in the major scale of the chord it leads to
        tonic, degrees = chord(target, key).root, _MODES[MAJOR]
    degree = degrees[_NUMERALS.index(roman.upper())] + {"": 0, "b": -1, "#": 1}[sign]
    return Chord((tonic + degree) % 12, _TONES[suffix, roman.isupper()])


def progression(numerals: str, key: Key) -> tuple[tuple[Chord, ...], ...]:
    """The chords of a line of numerals such as `I vi ii_V7 I`: a tuple for each place, of which `_` makes two."""
    return tuple(tuple(chord(numeral, key) for numeral in place.split("_")) for place in numerals.split())


@lru_cache(maxsize=8192)
def melody_classes(key: Key, harmony: Chord, scale: str) -> tuple[int, ...]:
    """Pitch classes a melody may use over `harmony`, with the key's scale or the one named `scale`.

    A chord tone outside the scale replaces the scale note a semitone below it (the raised seventh over V in minor),
    or else the one above, so that melody and chord never rub against each other.
    """
    classes = set(key.coloured(scale))
    inside = set(harmony.pitch_classes)
    for tone in inside - set(key.scale):
        below, above = (tone - 1) % 12, (tone + 1) % 12
        classes.discard(below if below in classes and below not in inside else above)
    return tuple(sorted(classes | inside))


@lru_cache(maxsize=16384)
def ladder(classes: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    """The MIDI pitches in [low, high] that belong to `classes`, ascending."""
    return tuple(pitch for pitch in range(low, high + 1) if pitch % 12 in classes)


def rung(pitch: float, rungs: tuple[int, ...]) -> int:
    """The place on a ladder of pitches that is nearest `pitch` (the lower one of two)."""
    above = bisect_left(rungs, pitch)
    if above == 0:
        return 0
    if above == len(rungs) or pitch - rungs[above - 1] <= rungs[above] - pitch:
        return above - 1
    return above


def nearest(pitch: float, classes: tuple[int, ...], low: int, high: int) -> int:
    """The MIDI pitch in [low, high] that belongs to `classes` and lies nearest `pitch` (the lower one of two)."""
    rungs = ladder(classes, low, high)
    return rungs[rung(pitch, rungs)]


@lru_cache(maxsize=16384)
def _shapes(harmony: Chord, low: int, count: int) -> tuple[tuple[int, ...], ...]:
    """All stacks of `count` ascending chord tones that start within an octave above `low`.

    Power chords keep root position.
    """
    rungs = ladder(harmony.pitch_classes, low, low + 12 * (count + 2))
    starts = [place for place, pitch in enumerate(rungs) if pitch < low + 12]
    if len(harmony.tones) == 2:
        starts = [place for place in starts if rungs[place] % 12 == harmony.root]
    return tuple(rungs[place : place + count] for place in starts)


def voicing(harmony: Chord, low: int, count: int, previous: tuple[int, ...]) -> tuple[int, ...]:
    """`count` ascending chord tones starting within an octave above `low`.

    The inversion nearest the previous voicing wins, so that the voices lead smoothly.
    """
    target = sum(previous) / len(previous) if previous else low + 9
    return min(_shapes(harmony, low, count), key=lambda shape: (abs(sum(shape) / count - target), shape))
