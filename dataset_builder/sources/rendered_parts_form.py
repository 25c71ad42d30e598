"""The form of a clip: its passages, what each is made of and who plays in it; and the hand that makes a part human."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from .rendered_parts import METRES, Event, Note

LONG_FORM_S = 30.0  # shorter clips are excerpts: one passage, at most two
LONG_FORM_BARS = 12
EXCERPT_BARS = 4  # an excerpt of fewer bars is not divided
DIVIDED_SHARE = 0.3  # of the excerpts, those in which somebody enters late or drops out
FEWEST, MOST = 0.34, 0.67  # share of the band that plays where only some do
LATEST_CHANGE = 0.75  # the second passage of an excerpt has at least a quarter of it


@dataclass(frozen=True)
class Passage:
    """Bars `first` to `first + bars` of a clip. Passages of one `material` have the same chords and riffs.

    `cast` says who plays: `all`, `few`, `most`, `no drums`, `rhythm` (drums, percussion and bass) or `no melody`.
    """

    name: str
    material: str
    cast: str
    energy: float
    first: int
    bars: int


_Step = tuple[str, str, str, float]  # name, material, cast, energy above or below the mood's
# intro, body (repeated until the time is filled), end
FORMS: dict[str, tuple[_Step, tuple[_Step, ...], _Step]] = {
    "song": (
        ("intro", "verse", "few", -0.2),
        (
            ("verse", "verse", "most", 0.0),
            ("chorus", "chorus", "all", 0.25),
            ("verse", "verse", "all", 0.0),
            ("chorus", "chorus", "all", 0.25),
            ("bridge", "bridge", "no drums", -0.1),
            ("chorus", "chorus", "all", 0.3),
        ),
        ("outro", "verse", "few", -0.2),
    ),
    "dance": (
        ("intro", "drop", "few", -0.2),
        (
            ("build-up", "drop", "no melody", 0.0),
            ("drop", "drop", "all", 0.2),
            ("breakdown", "breakdown", "no drums", -0.3),
            ("build-up", "drop", "most", 0.0),
            ("drop", "drop", "all", 0.3),
        ),
        ("outro", "drop", "rhythm", -0.1),
    ),
    "jazz": (
        ("intro", "head", "no melody", -0.1),
        (
            ("head", "head", "all", 0.0),
            ("solo", "first solo", "all", 0.2),
            ("solo", "second solo", "all", 0.3),
            ("break", "head", "rhythm", 0.0),
            ("head", "head", "all", 0.0),
        ),
        ("outro", "head", "most", -0.2),
    ),
    "classical": (
        ("introduction", "theme", "few", -0.1),
        (
            ("theme", "theme", "all", 0.0),
            ("variation", "first variation", "most", 0.2),
            ("theme", "theme", "all", 0.0),
            ("episode", "episode", "few", -0.2),
            ("variation", "second variation", "all", 0.3),
        ),
        ("coda", "theme", "all", 0.1),
    ),
    "drift": (
        ("opening", "first part", "few", -0.2),
        (
            ("first part", "first part", "most", 0.0),
            ("second part", "second part", "all", 0.1),
            ("third part", "third part", "few", -0.2),
            ("second part", "second part", "all", 0.1),
        ),
        ("ending", "first part", "few", -0.2),
    ),
}
_EXCERPTS: tuple[tuple[_Step, _Step], ...] = (
    (("intro", "main", "few", -0.1), ("main", "main", "all", 0.1)),
    (("main", "main", "all", 0.0), ("break", "main", "no drums", -0.1)),
    (("break", "main", "no drums", -0.1), ("main", "main", "all", 0.1)),
    (("main", "main", "no melody", 0.0), ("main", "main", "all", 0.0)),
    (("main", "main", "all", 0.0), ("break", "main", "rhythm", 0.0)),
    (("main", "main", "most", 0.0), ("main", "main", "all", 0.1)),
)


def passages(form: str, bars: int, duration_s: float, rng: Random) -> tuple[Passage, ...]:
    """Divide `bars` bars into passages: a whole form where there is time for one, else an excerpt of one or two."""
    if duration_s >= LONG_FORM_S and bars >= LONG_FORM_BARS:
        return _whole(form, bars)
    if bars < EXCERPT_BARS or rng.random() >= DIVIDED_SHARE:
        return (Passage("main", "main", "all", 0.0, 0, bars),)
    first, second = rng.choice(_EXCERPTS)
    latest = min(int(bars * LATEST_CHANGE), bars - 2)  # the last bar may be cut off: the one before it is whole
    change = rng.randint(min(math.ceil(bars * (1 - LATEST_CHANGE)), latest), latest)
    return Passage(*first, 0, change), Passage(*second, change, bars - change)


def _whole(form: str, bars: int) -> tuple[Passage, ...]:
    intro, body, end = FORMS[form]
    unit = 8 if bars >= 5 * 8 else 4  # phrases are four bars long, and so are the shortest passages
    plan, first = [Passage(*intro, 0, unit // 2)], unit // 2
    for place in range(bars):
        if first + 2 * unit > bars:  # what is left makes the end, of one to two units
            break
        plan.append(Passage(*body[place % len(body)], first, unit))
        first += unit
    plan.append(Passage(*end, first, bars - first))
    return tuple(plan)


def cast(kind: str, roles: Sequence[str], rng: Random) -> frozenset[int]:
    """Which of the players (by place) play where the cast is `kind`; everybody where nobody would be left."""
    everybody = range(len(roles))
    beat = {place for place in everybody if roles[place] in ("drums", "percussion")}
    if kind in ("few", "most"):
        melodies_last = sorted(everybody, key=lambda place: (roles[place] == "melody", rng.random()))
        share = rng.uniform(FEWEST, MOST) if kind == "few" else 1 - 1 / max(2, len(roles)) * rng.choice((0, 1))
        chosen = set(melodies_last[: max(1, round(share * len(roles)))])
        if chosen <= beat:  # a tune needs somebody to play it
            chosen |= {place for place in melodies_last if place not in beat and len(chosen - beat) == 0}
    else:
        dropped = {
            "all": set(),
            "no drums": beat,
            "rhythm": {place for place in everybody if place not in beat and roles[place] != "bass"},
            "no melody": {place for place in everybody if roles[place] == "melody"},
        }[kind]
        chosen = set(everybody) - dropped
    return frozenset(chosen) if chosen else frozenset(everybody)


@dataclass(frozen=True)
class Clock:
    """When a step falls: beats a minute, the metre, and the swing in beats (0 = straight)."""

    bpm: int
    metre: str
    swing: float = 0.0

    def seconds(self, step: float) -> float:
        """When a step counted from the beginning falls."""
        per_beat = METRES[self.metre].steps_per_beat
        if not self.swing:
            return step * 60 / (self.bpm * per_beat)
        beat, within = divmod(step / per_beat, 1.0)
        middle = 0.5 + self.swing  # the first half of the beat stretches, the second shrinks
        within = within / 0.5 * middle if within < 0.5 else middle + (within - 0.5) / 0.5 * (1 - middle)
        return (beat + within) * 60 / self.bpm


@dataclass(frozen=True)
class Hand:
    """How a person plays: looseness in seconds (standard deviation of the timing), length factor, loudness.

    `ahead_s` is by how much the player tends to come early, `louder` is added to every velocity.
    """

    looseness: float
    ahead_s: float = 0.0
    length: float = 1.0
    louder: float = 0.0

    def play(
        self, events: Iterable[Event], first_step: int, clock: Clock, end_s: float, beat: int, rng: Random
    ) -> list[Note]:
        """Events as a person would play them, a little early or late, a little louder or softer.

        `first_step` is where their section starts, `beat` the steps of a beat. The very first beat stays at 0 s: that
        is where the clip begins to sound. Notes after `end_s` are left out.
        """
        notes = []
        for step, steps, pitch, velocity, late_s in events:
            on_grid = clock.seconds(first_step + step)
            start = on_grid + late_s
            if on_grid > 0:
                start = max(0.0, start - self.ahead_s + rng.gauss(0, self.looseness))
            if start >= end_s:
                continue
            length = max(0.05, (clock.seconds(first_step + step + steps) - on_grid) * self.length)
            loudness = velocity + self.louder + rng.gauss(0, 4) - (3 if step % beat else 0)
            notes.append(Note(start, length, pitch, max(1, min(127, round(loudness)))))
        return notes
