"""Captions from a grammar, in the manner of each instruction: no model, a few thousand a second, the same every time.

They stand beside captions of a language model where there are more tracks than it can answer for. A caption says its
tags and nothing else; only attribute prediction adds attributes, which may be untrue of the track, and declares them.
Every row says `grammar` as backend, model and origin. Lengths follow the published captions (10 tags: writing 44
words, summary 29, paraphrase 48, attribute prediction 66).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from random import Random

from caption_metrics.facts import extract_facts
from caption_metrics.lexicon import Fact, with_kinds
from dataset_builder.captioning.backends import grammar_frames, grammar_words
from dataset_builder.captioning.backends.grammar_frames import ADVERBIALS, BARE_OPENERS, CLOSERS, NOUNS, OPENERS
from dataset_builder.captioning.backends.grammar_tags import TagParts, sort_tags
from dataset_builder.english import article, capitalised, is_plural, listed, names_another, with_article
from dataset_builder.wordings.prompts import INSTRUCTIONS, texts_version

GRAMMAR = "grammar"  # the name of the backend, the model, the wording and the origin of its captions
ENGINE_VERSION = 1  # part of the wording's version: raise it when this file writes other captions of the same frames
MOST_IN_A_NAME = 2  # adjectives before a noun; further ones are said apart
MOST_ADDED = 3  # attributes that attribute prediction adds, at least one fewer

# Shares of captions; set so that 10 tags give the published lengths (a test holds them).
_TAIL_SHARE = {"writing": 0.35, "summary": 1.0, "paraphrase": 0.35, "attribute_prediction": 0.2}
_ADVERBIAL_SHARE = {"writing": 0.7, "summary": 0.0, "paraphrase": 0.35, "attribute_prediction": 0.85}
_CLOSER_SHARE = {"writing": 0.0, "summary": 0.0, "paraphrase": 0.45, "attribute_prediction": 0.8}
_SYNONYM_SHARE = 0.75  # of the tags that have one, in a paraphrase
_MOOD_LATER_SHARE = 0.35  # captions that say the mood at their end instead of before the noun

_CHOICE = re.compile(r"\[(\w+)\|(\w+)\]")
_Group = tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]  # tails, predicates, what their slots hold


def _grammar_version() -> str:
    texts = {name: value for name, value in vars(grammar_frames).items() if name.isupper()}
    words = {name: value for name, value in vars(grammar_words).items() if name.isupper()}
    return texts_version([ENGINE_VERSION, texts, words])


GRAMMAR_VERSION: str = _grammar_version()


@dataclass(frozen=True)
class GrammarCaption:
    """A caption, and the attributes that it adds to the tags (attribute prediction alone)."""

    text: str
    new_attributes: tuple[str, ...] = ()


def grammar_caption(
    tags: Sequence[str], instruction: str, *, seed: int = 0, variant: str = "", attempt: int = 0
) -> GrammarCaption:
    """The caption of a track with `tags` (one or more) in the manner of `instruction`.

    The same arguments always give the same caption, on every machine. `variant` (a track id) tells tracks of equal
    tags apart, `attempt` gives another caption of the same track. Raises `ValueError` without tags or for an unknown
    instruction.
    """
    if instruction not in INSTRUCTIONS:
        raise ValueError(f"unknown instruction {instruction!r}")
    if not any(tag.strip() for tag in tags):
        raise ValueError("a caption needs at least one tag")
    rng = Random(f"{seed}\x1f{variant}\x1f{instruction}\x1f{attempt}\x1f" + "\x1f".join(tags))
    added: tuple[str, ...] = ()
    said = list(tags)
    if instruction == "paraphrase":
        said = [_other_words(tag, rng) for tag in tags]
    elif instruction == "attribute_prediction":
        added = _companions(tuple(tags), rng)
        said = [*tags, *added]
    return GrammarCaption(_write(sort_tags(said), instruction, rng), added)


# --- words ----------------------------------------------------------------------------------------------------------


def _other_words(tag: str, rng: Random) -> str:
    others = grammar_words.SYNONYMS.get(tag.lower())
    return rng.choice(others) if others and rng.random() < _SYNONYM_SHARE else tag


def _candidates(tags: tuple[str, ...]) -> tuple[str, ...]:
    """What may be added to `tags`: what goes with its genres and moods, without what they say already."""
    lower = [tag.lower() for tag in tags]
    found = dict.fromkeys(chain.from_iterable(map(_goes_with, lower)))
    said = frozenset().union(*map(_facts, lower))
    new = tuple(word for word in found if word not in lower and _facts(word).isdisjoint(said))
    return new or tuple(word for word in grammar_words.ANY_COMPANIONS if word not in lower)


@lru_cache(maxsize=20_000)
def _goes_with(tag: str) -> tuple[str, ...]:
    return grammar_words.GENRE_COMPANIONS.get(tag, ()) + grammar_words.MOOD_COMPANIONS.get(tag, ())


@lru_cache(maxsize=20_000)
def _facts(tag: str) -> frozenset[Fact]:
    return with_kinds(extract_facts(tag))


def _companions(tags: tuple[str, ...], rng: Random) -> tuple[str, ...]:
    candidates = _candidates(tags)
    return tuple(rng.sample(candidates, min(len(candidates), rng.randint(MOST_ADDED - 1, MOST_ADDED))))


# --- sentences ------------------------------------------------------------------------------------------------------


def _write(parts: TagParts, instruction: str, rng: Random) -> str:
    noun = rng.choice(NOUNS)
    said_moods = parts.moods[:MOST_IN_A_NAME]
    later = len(said_moods) == len(parts.moods) and instruction != "summary" and rng.random() < _MOOD_LATER_SHARE
    first_genre = next(iter([*parts.genres, *parts.genre_nouns]), noun)
    if later or (said_moods and names_another(said_moods[-1], first_genre)):
        said_moods = []
    name_instrumental = bool(parts.instrumental) and rng.random() < 0.25
    name, unsaid = _name(parts, said_moods, noun, name_instrumental)
    groups = list(_groups(parts, [mood for mood in parts.moods if mood not in said_moods], unsaid, name_instrumental))
    rng.shuffle(groups)
    tails = [group for group in groups if not group[1] or rng.random() < _TAIL_SHARE[instruction]]
    first = _first_sentence(parts, instruction, name, rng)
    for options, _, slots in tails:
        first += f", {rng.choice(options).format(**slots)}"
    sentences = [f"{capitalised(first)}.", *_further(groups, tails, instruction, rng)]
    if parts.denials:
        sentences.append(rng.choice(grammar_frames.DENIALS).format(denials=listed(parts.denials)))
    if rng.random() < _CLOSER_SHARE[instruction]:
        sentences.append(rng.choice(CLOSERS[instruction]).format(noun=noun))
    return " ".join(sentences)


def _name(parts: TagParts, moods: Sequence[str], noun: str, instrumental: bool) -> tuple[str, list[str]]:
    """The noun phrase that names the music, and the genres that did not fit into it."""
    genres = parts.genres[:MOST_IN_A_NAME]
    unsaid = [*parts.genres[MOST_IN_A_NAME:], *parts.genre_nouns[1:]]
    words = [*parts.eras[:1], ", ".join(moods), "instrumental" if instrumental else "", " and ".join(genres)]
    words.append(parts.genre_nouns[0] if parts.genre_nouns and not genres else noun)
    if parts.genre_nouns and genres:
        words[-1] = parts.genre_nouns[0] if len(genres) == 1 else noun
        unsaid += parts.genre_nouns[:1] if len(genres) > 1 else []
    return " ".join(word for word in words if word), unsaid


def _first_sentence(parts: TagParts, instruction: str, name: str, rng: Random) -> str:
    band = [*map(with_article, parts.instruments), *parts.vocals]
    slots = {"np": name, "a_np": f"{article(name)} {name}"}
    slots["A_np"] = slots["a_np"]  # the sentence gets its capital as a whole
    if not band:
        return rng.choice(BARE_OPENERS).format(**slots)
    if len(band) > 2 and rng.random() < 0.3:
        rng.shuffle(band)
    slots["band"] = slots["Band"] = listed(band)
    several = len(band) > 1 or is_plural(band[0])
    frame = _CHOICE.sub(lambda match: match[2] if several else match[1], rng.choice(OPENERS[instruction]))
    return frame.format(**slots)


def _groups(parts: TagParts, moods: Sequence[str], genres: Sequence[str], instrumental: bool) -> Iterator[_Group]:
    """What the first sentence's name and band leave to be said, each as tails or predicates with their slots."""
    frames = grammar_frames
    if parts.tempos:
        yield frames.TEMPO_TAILS, frames.TEMPO_PREDICATES, {"tempo": listed(parts.tempos)}
    if parts.paces:
        yield frames.PACE_TAILS, frames.PACE_PREDICATES, {"paces": listed(parts.paces)}
    if parts.keys or parts.metres:
        yield frames.TONE_TAILS, frames.TONE_PREDICATES, {"tone": listed([*parts.keys, *parts.metres])}
    if parts.instrumental and not instrumental:
        yield frames.VOCAL_TAILS, frames.VOCAL_PREDICATES, {}
    if parts.sounds:
        yield frames.SOUND_TAILS, frames.SOUND_PREDICATES, {"sound": listed(parts.sounds)}
    if parts.sound_words:
        words = listed(parts.sound_words)
        slots = {"sounds": words, "a_sounds": f"{article(words)} {words}"}
        yield frames.SOUND_WORD_TAILS, frames.SOUND_WORD_PREDICATES, slots
    if moods:
        words = listed(moods)
        yield frames.MOOD_TAILS, frames.MOOD_PREDICATES, {"moods": words, "a_moods": f"{article(words)} {words}"}
    if parts.mood_nouns:
        yield frames.MOOD_NOUN_TAILS, frames.MOOD_NOUN_PREDICATES, {"mood_nouns": listed(parts.mood_nouns)}
    rest = [
        *(f"{genre.removeprefix('piece of ')} influences" for genre in genres),
        *(f"{era} touches" for era in parts.eras[1:]),
        *parts.rest,
    ]
    if rest:
        yield frames.REST_TAILS, frames.REST_PREDICATES, {"rest": listed(rest)}
    if parts.rest_words:
        yield frames.REST_WORD_TAILS, frames.REST_WORD_PREDICATES, {"rest_words": listed(parts.rest_words)}


def _further(groups: Sequence[_Group], tails: Sequence[_Group], instruction: str, rng: Random) -> Iterator[str]:
    """The sentences after the first: predicates of what was no tail, at most three in one sentence."""
    predicates = [
        rng.choice(options).format(**slots) for _, options, slots in groups if (_, options, slots) not in tails
    ]
    pronouns = rng.sample(grammar_frames.PRONOUNS, len(grammar_frames.PRONOUNS))
    adverbials = rng.sample(ADVERBIALS, len(ADVERBIALS))  # one said twice would soon be a loop
    while predicates:
        now, predicates = predicates[:3], predicates[3:]
        sentence = f"{pronouns.pop()} {listed(now, rng.choice(('and', 'and', 'and it')))}"
        if rng.random() < _ADVERBIAL_SHARE[instruction]:
            sentence += f" {adverbials.pop()}"
        yield f"{capitalised(sentence)}."
