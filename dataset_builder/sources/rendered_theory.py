"""Keys, chords and voicings of the rendered corpus: enough harmony for twelve genres, in semitones and MIDI pitches."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAJOR = "major"
MINOR = "minor"

# Spelling by mode follows the circle of fifths: at most six accidentals in the signature.
_NAMES = {
    MAJOR: ("c", "db", "d", "eb", "e", "f", "f#", "g", "ab", "a", "bb", "b"),
    MINOR: ("c", "c#", "d", "eb", "e", "f", "f#", "g", "g#", "a", "bb", "b"),
}
_SCALES = {MAJOR: (0, 2, 4, 5, 7, 9, 11), MINOR: (0, 2, 3, 5, 7, 8, 10)}  # semitones above the tonic
_PENTATONICS = {MAJOR: (0, 2, 4, 7, 9), MINOR: (0, 3, 5, 7, 10)}
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII")
_TONES = {  # semitones above the chord's root, by the suffix of the numeral and whether the numeral is upper case
    ("", True): (0, 4, 7),
    ("", False): (0, 3, 7),
    ("7", True): (0, 4, 7, 10),
    ("7", False): (0, 3, 7, 10),
    ("maj7", True): (0, 4, 7, 11),
    ("maj9", True): (0, 4, 7, 11, 14),
    ("add9", True): (0, 4, 7, 14),
    ("add9", False): (0, 3, 7, 14),
    ("sus4", True): (0, 5, 7),
    ("m7b5", False): (0, 3, 6, 10),
    ("5", True): (0, 7),
    ("5", False): (0, 7),
}
_NUMERAL = re.compile(r"^(b?)([IViv]+)(.*)$")


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
        return tuple((self.tonic + step) % 12 for step in _SCALES[self.mode])

    @property
    def pentatonic(self) -> tuple[int, ...]:
        """Pitch classes of the pentatonic scale of the mode."""
        return tuple((self.tonic + step) % 12 for step in _PENTATONICS[self.mode])


@dataclass(frozen=True)
class Chord:
    """A root (pitch class) and its tones in semitones above the root."""

    root: int
    tones: tuple[int, ...]

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        return tuple((self.root + tone) % 12 for tone in self.tones)

    @property
    def fifth(self) -> int:
        """The fifth above the root in semitones: 7, or 6 where the chord has a diminished one."""
        return 6 if 6 in self.tones and 7 not in self.tones else 7


def chord(numeral: str, key: Key) -> Chord:
    """The chord that a Roman numeral such as `ii7`, `bVII` or `Imaj9` names in `key`.

    Upper case has a major third, lower case a minor one; degrees count along the key's own scale.
    """
    match = _NUMERAL.match(numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is no Roman numeral")
    flat, roman, suffix = match.groups()
    degree = _SCALES[key.mode][_NUMERALS.index(roman.upper())]
    return Chord((key.tonic + degree - len(flat)) % 12, _TONES[suffix, roman.isupper()])


def progression(numerals: str, key: Key) -> tuple[Chord, ...]:
    """The chords of a line of numerals such as `I V vi IV`."""
    return tuple(chord(numeral, key) for numeral in numerals.split())


def melody_classes(key: Key, harmony: Chord, pentatonic: bool) -> tuple[int, ...]:
    """Pitch classes a melody may use over `harmony`.

    A chord tone outside the scale replaces the scale note a semitone below it (the raised seventh over V in minor),
    or else the one above, so that melody and chord never rub against each other.
    """
    classes = set(key.pentatonic if pentatonic else key.scale)
    inside = set(harmony.pitch_classes)
    for tone in inside - set(key.scale):
        below, above = (tone - 1) % 12, (tone + 1) % 12
        classes.discard(below if below in classes and below not in inside else above)
    return tuple(sorted(classes | inside))


def nearest(pitch: float, classes: tuple[int, ...], low: int, high: int) -> int:
    """The MIDI pitch in [low, high] that belongs to `classes` and lies nearest `pitch` (the lower one of two)."""
    candidates = [candidate for candidate in range(low, high + 1) if candidate % 12 in classes]
    return min(candidates, key=lambda candidate: (abs(candidate - pitch), candidate))


def voicing(harmony: Chord, low: int, count: int, previous: tuple[int, ...]) -> tuple[int, ...]:
    """`count` ascending chord tones starting within an octave above `low`.

    The inversion nearest the previous voicing wins, so that the voices lead smoothly; power chords keep root position.
    """
    classes = harmony.pitch_classes
    starts = [low + step for step in range(12) if (low + step) % 12 in classes]
    if len(harmony.tones) == 2:
        starts = [start for start in starts if start % 12 == harmony.root]
    shapes = []
    for start in starts:
        shape = [start]
        while len(shape) < count:
            shape.append(next(pitch for pitch in range(shape[-1] + 1, shape[-1] + 13) if pitch % 12 in classes))
        shapes.append(tuple(shape))
    target = sum(previous) / len(previous) if previous else low + 9
    return min(shapes, key=lambda shape: (abs(sum(shape) / count - target), shape))
