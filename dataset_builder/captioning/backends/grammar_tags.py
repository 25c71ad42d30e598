"""What part of a sentence each tag can be: the tags of any corpus, sorted by what they say and how they can be said.

A tag that the fact lexicon does not know is kept word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from caption_metrics.claims import read_claims
from dataset_builder.english import proper, with_article


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FIRST_TO_LAST = ("instrument", "vocals", "genre", "mood", "tempo", "key", "metre", "era", "production")
_KEY = re.compile(r"^([a-g])(#|b|♯|♭|[ -]sharp|[ -]flat)?[ -](major|minor)$", re.IGNORECASE)
_METRE = re.compile(r"^\d{1,2}/\d{1,2}$")
_GENRE_NOUNS = _set(  # genres that are also one piece of it: "a waltz", and no "waltz piece"
    "ballad march waltz tango polka lullaby samba rumba bolero mambo sonata symphony concerto anthem hymn jingle "
    "carol mantra chant song shanty jig reel nocturne prelude fugue minuet rag"
)
_PIECE_WORDS = _set("song songs track tune piece beat beats composition theme number anthem score")
_TEMPO_NOUNS = _set("tempo pace speed beat rhythm")
_ADJECTIVE_ENDINGS = ("ive", "ful", "ous", "ic", "al", "ish", "able", "ible", "less", "ing", "ed", "ant", "ent", "y")
_NOUN_ENDINGS = ("ness", "ity", "ion", "ions", "ia", "ance", "ence", "ment", "ism", "dom", "hood", "ship", "th")
_MOOD_NOUNS = _set(
    "love joy fun energy hope peace magic mystery anger fear rage grief drama horror romance tension suspense "
    "nostalgia melancholy charm beauty grace party summer passion power cheer warmth victory triumph swagger faith "
    "chaos adventure aggression space sunshine"
)
_PRODUCTION_ADJECTIVES = _set(
    "noisy muffled lo-fi lofi low-fi hissing mono stereo compressed acoustic live distorted sampled looped "
    "reverberant glitchy filtered reverbed delayed echoing echoey fuzzy overdriven unplugged hissy crackly crackling "
    "remixed amateur homemade instructional phasing monophonic"
)
_ADJECTIVES = _set(
    "loud quiet deep hard light clean raw clear simple complex old new big rich high low tight rough crisp"
)
_COUNTED = _set(  # last words of tags that take an article
    "texture melody rhythm groove arrangement sound solo riff loop pattern progression line atmosphere tone harmony "
    "recording performance effect filter remix cover demo tutorial lesson room concert gig feel vibe bassline hook "
    "structure section ending intro drop build chord phaser riser phrase theme"
)


@dataclass(frozen=True)
class TagParts:
    """The tags of one track, in their order, by the part they can play in a sentence.

    `genre_nouns` are genres that name a piece themselves ("waltz"), `denials` tags that say what is absent, `rest`
    tags that nothing is known of.
    """

    genres: list[str] = field(default_factory=list)
    genre_nouns: list[str] = field(default_factory=list)
    moods: list[str] = field(default_factory=list)  # adjectives
    mood_nouns: list[str] = field(default_factory=list)
    instruments: list[str] = field(default_factory=list)
    vocals: list[str] = field(default_factory=list)
    instrumental: list[str] = field(default_factory=list)
    tempos: list[str] = field(default_factory=list)  # "a slow tempo", "120 BPM": what stands after "at"
    paces: list[str] = field(default_factory=list)  # "slow-paced": what stands after "is"
    keys: list[str] = field(default_factory=list)  # "A minor"
    metres: list[str] = field(default_factory=list)  # "3/4 time"
    eras: list[str] = field(default_factory=list)
    sounds: list[str] = field(default_factory=list)  # "reverb", "a live recording"
    sound_words: list[str] = field(default_factory=list)  # adjectives
    denials: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    rest_words: list[str] = field(default_factory=list)  # adjectives


def sort_tags(tags: Sequence[str]) -> TagParts:
    """The parts of a sentence that `tags` can be, each tag in one of them and once."""
    parts = TagParts()
    for tag in dict.fromkeys(" ".join(tag.split()) for tag in tags):
        if tag:
            slot, text = _part(tag)
            getattr(parts, slot).append(text)
    return parts


@lru_cache(maxsize=50_000)  # a corpus has a few thousand different tags
def _part(tag: str) -> tuple[str, str]:
    """The part that a tag plays, and how it is said there."""
    text = proper(tag)
    lower = tag.lower()
    words = lower.split()
    claims = read_claims(tag)
    if any(claim.denied for claim in claims) or words[0] in ("no", "without", "not"):
        return "denials", text
    found = {claim.fact.category: claim.fact.value for claim in claims}
    category = next((name for name in _FIRST_TO_LAST if name in found), "")
    if category == "instrument":
        return "instruments", text
    if category == "vocals":
        return ("instrumental", "instrumental") if found["vocals"] == "instrumental" else ("vocals", with_article(text))
    if category == "genre":
        if _names_a_piece(text, words):
            return "genre_nouns", text
        if words[-1] == "music" and len(words) > 1:
            return _music(text)
        return "genres", text
    if category == "mood":
        return ("mood_nouns" if _is_noun(words) else "moods"), text
    if category == "tempo":
        return _tempo(text, words)
    if category == "key":
        return "keys", _key(text, words)
    if category == "metre":
        return "metres", f"{text} time" if _METRE.match(tag) else text
    if category == "era":
        return "eras", text
    if category == "production":
        if words[-1] in _PRODUCTION_ADJECTIVES:
            return "sound_words", text
        if words[-1] == "quality":
            return "sounds", text
        return "sounds", with_article(text) if words[-1] in _COUNTED else text
    if lower == "solo":
        return "rest", "a solo setting"
    if words[-1] in _COUNTED:
        return "rest", with_article(text)
    adjective = lower.endswith(_ADJECTIVE_ENDINGS) and not _is_noun(words)
    adjective = len(words) == 1 and (adjective or lower in _ADJECTIVES)
    return ("rest_words" if adjective else "rest"), text


def _names_a_piece(text: str, words: Sequence[str]) -> bool:
    """Whether a genre can stand as a noun of its own and is still read as that genre ("march" alone is not)."""
    if words[-1] not in _GENRE_NOUNS and not (words[-1] in _PIECE_WORDS and len(words) > 1):
        return False
    facts = {claim.fact for claim in read_claims(text)}
    return facts <= {claim.fact for claim in read_claims(f"they said that this {text} is here, and it is just so")}


def _music(text: str) -> tuple[str, str]:
    """ "funk music" is said "funk piece", but "chamber music" only "piece of chamber music"."""
    short = text.removesuffix(" music")
    same = {claim.fact for claim in read_claims(f"{short} piece")} == {claim.fact for claim in read_claims(text)}
    return ("genres", short) if same else ("genre_nouns", f"piece of {text}")


def _is_noun(words: Sequence[str]) -> bool:
    last = words[-1]
    return last in _MOOD_NOUNS or last in ("mood", "feel", "feeling", "vibe", "vibes") or last.endswith(_NOUN_ENDINGS)


def _tempo(text: str, words: Sequence[str]) -> tuple[str, str]:
    if any(character.isdigit() for character in text):
        return "tempos", text
    if words[-1] in _TEMPO_NOUNS:
        return "tempos", with_article(text)
    if len(words) == 1 and not words[0].endswith(("ing", "o", "ato")):
        return "tempos", with_article(f"{text} tempo")
    return "paces", text


def _key(text: str, words: Sequence[str]) -> str:
    if match := _KEY.match(text):
        return f"{match[1].upper()}{(match[2] or '').lower()} {match[3].lower()}"
    return with_article(text) if words[-1] in ("key", "scale", "mode") else text
