"""Reference captions of rendered clips: a seeded grammar that says what is true of a clip, and nothing else.

They stand where other corpora have a person's sentence: short notes of two to four sentences in changing order, which
leave out a fact here and there, as people do. They are no person's, and `extra["reference_style"]` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from dataset_builder.english import article, capitalised, is_plural, listed, names_another, proper, with_article

from . import rendered_captions_frames as frames
from .rendered_facts import ClipFacts

REFERENCE_STYLE = "grammar"

# Shares of the notes that tell a fact, where a clip has it. The one who has the tune is always named.
TOLD = {"genre": 0.96, "mood": 0.88, "tempo": 0.82, "key": 0.5, "metre": 0.5, "texture": 0.75, "effect": 0.92}
TOLD_INSTRUMENT = 0.93
TOLD_VOICELESS = 0.5
_IN_OPENING = {"mood": 0.6, "tempo": 0.55, "key": 0.5, "metre": 0.35}  # of the told ones, those in the first sentence
_TWO_FOR_THE_BAND = 0.25  # notes that spend two sentences on who plays
_BAND_FIRST = 0.3
_IN_ONE_BREATH = 0.3  # notes that join two sentences with a semicolon
MOST_SENTENCES = 4

_PIECES = frozenset({"ballad", "waltz", "tango", "polka", "lullaby", "samba", "rumba", "bolero", "ragtime"})
_CHOICE = re.compile(r"\[([mo]):(\w+)\|(\w+)\]")


@dataclass(frozen=True)
class ToldCaption:
    """A reference caption with the tags of the clip that it tells."""

    text: str
    told: tuple[str, ...]


def reference_caption(facts: ClipFacts, rng: Random) -> str:
    """Two to four sentences about a clip."""
    return told_caption(facts, rng).text


def told_caption(facts: ClipFacts, rng: Random) -> ToldCaption:
    """The reference caption of a clip, and which of its tags it tells. Everything else about it is left open."""
    told = {name for name, share in TOLD.items() if name != "effect" and rng.random() < share}
    told -= {"texture"} if facts.texture in (None, "solo") else set()
    effects = [effect for effect in facts.effects if rng.random() < TOLD["effect"]]
    first = {name for name in _IN_OPENING if name in told and rng.random() < _IN_OPENING[name]}
    if names_another(facts.mood, facts.genre):
        first.discard("mood")
    band, instruments = _band(facts, rng)
    opening = _opening(facts, told, first, rng)
    clauses = [_clause(facts, name, rng) for name in ("tempo", "key", "metre", "mood") if name in told - first]
    extras = [_effect(effect, rng) for effect in effects]
    if "texture" in told:
        extras.append(_clause(facts, "texture", rng))
    sentences = [*band, opening] if rng.random() < _BAND_FIRST else [opening, *band]
    if len(sentences) == 2 and (clauses or extras) and rng.random() < _IN_ONE_BREATH:
        sentences = ["; ".join(sentences)]
    rng.shuffle(clauses)
    rng.shuffle(extras)
    voiceless = rng.random() < TOLD_VOICELESS
    if voiceless and (extras or clauses) and rng.random() < 0.6:
        (extras or clauses).append(rng.choice(frames.VOICELESS))
    elif voiceless:
        sentences.append(rng.choice(frames.VOICELESS))
    room = MOST_SENTENCES - len(sentences)
    apart = room > 1 and rng.random() > _IN_ONE_BREATH
    further = [clauses, extras] if apart else [[*clauses, *extras]]
    if not room and further[0]:
        sentences[0], further = f"{sentences[0]}; {_joined(further[0], rng)}", []
    sentences += [_joined(each, rng) for each in further if each]
    return ToldCaption(" ".join(map(_sentence, sentences)), _told_tags(facts, told, instruments, effects, voiceless))


def _told_tags(
    facts: ClipFacts, told: set[str], instruments: Sequence[str], effects: Sequence[str], voiceless: bool
) -> tuple[str, ...]:
    tags = {"genre": facts.genre, "mood": facts.mood, "tempo": facts.tempo, "key": facts.key}
    tags |= {"metre": f"{facts.metre} time", "texture": facts.texture or ""}
    named = {tags[name] for name in told} | {*instruments, *effects} | ({"instrumental"} if voiceless else set())
    return tuple(tag for tag in facts.tags if tag in named)


def _opening(facts: ClipFacts, told: set[str], first: set[str], rng: Random) -> str:
    """The name of the music with the facts that are told at once."""
    genre = proper(facts.genre) if "genre" in told else ""
    noun = rng.choice([noun for noun in frames.NOUNS if not genre.endswith(noun)])  # no "soundtrack track"
    if genre.endswith(" music"):
        genre, noun = "", f"piece of {genre}"
    if genre.split(" ")[-1] in _PIECES:
        genre, noun = "", genre
    words = []
    if "tempo" in first:
        options = frames.TEMPO_WORDS[facts.tempo]
        # "slow ballad" is one word for a ballad: it would say nothing of the tempo.
        words.append(rng.choice(options[1:] if noun.endswith("ballad") else options))
    if "mood" in first:
        words.insert(rng.randrange(len(words) + 1), facts.mood)
    name = " ".join(filter(None, (", ".join(words), genre, noun)))
    where = [_key(facts)] if "key" in first else []
    if "metre" in first:
        where.append(_metre(facts, rng))
    rng.shuffle(where)
    name = f"{name} in {' and '.join(where)}" if where else name
    return rng.choice(frames.OPENINGS).format(n=name, a_n=f"{article(name)} {name}")


def _band(facts: ClipFacts, rng: Random) -> tuple[list[str], list[str]]:
    """One or two sentences on who plays, and the instruments that they name."""
    melody = facts.melody
    if len(facts.instruments) == 1:
        return [_played(rng.choice(frames.ALONE), facts.instruments[:1], (), rng)], list(facts.instruments)
    all_others = [name for name in facts.instruments if name != melody]
    others = [name for name in all_others if rng.random() < TOLD_INSTRUMENT]
    fewest = 2 if melody is None else 1  # nobody shares the work with himself
    others = others if len(others) >= fewest else all_others[:fewest]
    if rng.random() < 0.5:
        rng.shuffle(others)
    if melody is None:
        return [_played(rng.choice(frames.TOGETHER), (), others, rng)], others
    lead = (melody,)
    if rng.random() < _TWO_FOR_THE_BAND:
        sentences = [rng.choice(frames.LEAD_ALONE), rng.choice(frames.OTHERS_ALONE)]
    else:
        sentences = [rng.choice(frames.LEADS)]
    return [_played(frame, lead, others, rng) for frame in sentences], [melody, *others]


def _played(frame: str, lead: Sequence[str], others: Sequence[str], rng: Random) -> str:
    several = {"m": _is_several(lead), "o": _is_several(others)}
    text = _CHOICE.sub(lambda match: match[3] if several[match[1]] else match[2], frame)
    slots = {"m": list(map(proper, lead)), "o": list(map(proper, others))}
    return text.format(
        **{name: listed(names) if names else "" for name, names in slots.items()},
        **{name.upper(): listed(list(map(with_article, names))) if names else "" for name, names in slots.items()},
    )


def _is_several(names: Sequence[str]) -> bool:
    return len(names) > 1 or (bool(names) and is_plural(names[0]))


def _clause(facts: ClipFacts, name: str, rng: Random) -> str:
    if name == "tempo":
        return rng.choice(frames.TEMPO_CLAUSES[facts.tempo])
    if name == "key":
        return rng.choice(frames.KEY_CLAUSES).format(key=_key(facts))
    if name == "metre":
        return rng.choice(frames.METRE_CLAUSES).format(metre=_metre(facts, rng))
    if name == "mood":
        return rng.choice(frames.MOOD_CLAUSES).format(mood=facts.mood, a_mood=f"{article(facts.mood)} {facts.mood}")
    texture = (facts.texture or "").removesuffix(" texture")
    return rng.choice(frames.TEXTURE_CLAUSES).format(texture=texture, a_texture=f"{article(texture)} {texture}")


def _effect(effect: str, rng: Random) -> str:
    return rng.choice(frames.EFFECT_CLAUSES.get(effect, (frames.OTHER_EFFECT.format(effect=effect),)))


def _key(facts: ClipFacts) -> str:
    return f"{facts.key[:1].upper()}{facts.key[1:]}"


def _metre(facts: ClipFacts, rng: Random) -> str:
    return rng.choice(frames.METRE_WORDS.get(facts.metre, (facts.metre,)))


def _joined(clauses: Sequence[str], rng: Random) -> str:
    """Clauses as one sentence, in their order."""
    if len(clauses) == 2 and rng.random() < 0.3:
        return "; ".join(clauses)
    return ", ".join(clauses) if rng.random() < 0.4 else listed(clauses)


def _sentence(text: str) -> str:
    return f"{capitalised(text)}."
