"""A made-up test set in one house style, captioned by a system that listens and by one that only writes well."""

from __future__ import annotations

import random
from collections.abc import Sequence

from caption_metrics.pairs import Pair

INSTRUMENTS = ("piano", "violin", "trumpet", "flute", "banjo", "accordion", "cello", "harp")
MOODS = ("sad", "happy", "calm", "aggressive", "romantic", "mysterious")
TEMPOS = ("slow", "fast")

Facts = tuple[str, str, str]


def facts_of(clips: int, seed: int = 0) -> list[Facts]:
    chance = random.Random(seed)
    return [(chance.choice(INSTRUMENTS), chance.choice(MOODS), chance.choice(TEMPOS)) for _ in range(clips)]


def reference(facts: Facts) -> str:
    instrument, mood, tempo = facts
    return f"The low quality recording features a {mood} {instrument} melody. It is a {tempo} song, good for a movie."


def listening(facts: Sequence[Facts], right: float = 0.8, seed: int = 1) -> list[str]:
    """Plain words, most of them true: little of the house style."""
    chance = random.Random(seed)
    wrong = facts_of(len(facts), seed + 1)
    heard = [[a if chance.random() < right else b for a, b in zip(*both, strict=True)] for both in zip(facts, wrong)]
    return [f"A {mood} {instrument}, {tempo}." for instrument, mood, tempo in heard]


def deaf(facts: Sequence[Facts], seed: int = 5) -> list[str]:
    """The house style to the letter, of music that was never heard."""
    return [reference(other) for other in facts_of(len(facts), seed)]


def pairs_of(captions: Sequence[str], facts: Sequence[Facts], *, named: bool = True) -> list[Pair]:
    return [
        Pair(caption, (reference(true),), tags=true, id=f"clip{row}" if named else None)
        for row, (caption, true) in enumerate(zip(captions, facts, strict=True))
    ]
