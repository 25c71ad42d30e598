"""What a caption claims about the music, as facts of a closed lexicon: genre, mood, instrument, vocals, tempo, key, ...

A word list, not a model: it is fast, it runs anywhere, and a reader can see in `lexicon.yaml` why a fact was found.
It tests a caption against tags or against another caption, never against the audio.

Facts form a hierarchy ("electric guitar" is a kind of "guitar"). `extract_facts` gives the claims as they stand;
`with_kinds` adds what they imply. A specific statement supports the general claim, never the other way round.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal, NamedTuple

from caption_metrics.claims import Claim, read_claims
from caption_metrics.denials import denied_words
from caption_metrics.lexicon import CATEGORIES, Fact, lexicon_values, load_lexicon, plain_text, tokenize, with_kinds

__all__ = [
    "CATEGORIES",
    "CaptionMeans",
    "Fact",
    "FactCounts",
    "FactScore",
    "FactScores",
    "extract_facts",
    "fact_counts",
    "fact_scores",
    "lexicon_values",
    "tag_coverage",
    "unsupported_facts",
    "with_kinds",
]


def extract_facts(text: str) -> frozenset[Fact]:
    """The musical facts that `text` (a caption or a tag) claims, each at the precision it is claimed with.

    Longest match first ("bass guitar" is no "bass" plus "guitar"); synonyms, inflections and frequent misspellings
    give one value; what the text denies ("no drums", "not slow", "vocals are absent") is no claim.
    `with_kinds` adds the general facts that these imply.
    """
    return _undenied(read_claims(text))


# --- support by tags ------------------------------------------------------------------------------------------------

# Words that a claim may carry without saying anything by them.
_FILLERS = frozenset(
    {"music", "song", "songs", "sound", "sounds", "tempo", "tempos", "melody", "vibe", "vibes", "feel", "feeling"}
    | {"track", "piece", "tune", "beat", "rhythm", "pace", "paced", "player", "mood", "genre", "style", "recording"}
    | {"quality", "moving", "of", "the", "a", "an", "in", "and", "is", "to"}
)
# Neither "ic" nor "al" is cut: "organic" is no organ, "classical" no "classic".
_ENDINGS = (
    *("iveness", "fulness", "ousness", "fully", "ation", "ition", "ingly", "ness", "ings", "ists", "edly", "sion"),
    *("ally", "ing", "ive", "ion", "ous", "ful", "ist", "ies", "ers", "er", "ed", "ly", "es", "s", "y", "e"),
)
_SHORTEST_STEM = 4  # letters left when an ending is cut; 3 for a plural s


@lru_cache(maxsize=50_000)  # words repeat
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= (3 if ending == "s" else _SHORTEST_STEM):
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=50_000)
def _misspells(tag_word: str, word: str) -> bool:
    """Whether a tag's word, unknown to the lexicon, is `word` with one letter wrong (two from nine letters on)."""
    if min(len(tag_word), len(word)) < 6 or abs(len(tag_word) - len(word)) > 2:
        return False
    kept = sum(block.size for block in SequenceMatcher(None, tag_word, word, autojunk=False).get_matching_blocks())
    return max(len(tag_word), len(word)) - kept <= (2 if len(word) >= 9 else 1)


@dataclass(frozen=True)
class _Support:
    """What a list of tags supports."""

    facts: frozenset[Fact]
    tag_words: tuple[tuple[frozenset[str], frozenset[str]], ...]  # see `_words_of_tags`
    denies_vocals: bool

    def covers(self, claim: Claim, families: bool) -> bool:
        if claim.fact in self.facts:
            return True
        if self.denies_vocals and claim.fact == _INSTRUMENTAL:
            return True
        if families and with_kinds([claim.fact]) & self.facts:
            return True
        wanted = [(_stem(word), word) for word in claim.words if word not in _FILLERS]
        for stems, unknown in self.tag_words if wanted else ():
            for stem, word in wanted:
                if stem not in stems and not (unknown and any(_misspells(given, word) for given in unknown)):
                    break
            else:
                return True
        return False


_INSTRUMENTAL, _VOCALS = Fact("vocals", "instrumental"), Fact("vocals", "vocals")


@lru_cache(maxsize=2_000)  # the captions of one track follow each other
def _support(tags: tuple[str, ...]) -> _Support:
    claims = [claim for tag in tags for claim in read_claims(tag)]
    return _Support(
        facts=with_kinds(_undenied(claims)),
        tag_words=_words_of_tags(tags),
        denies_vocals=_deny_vocals(claims),
    )


def _words_of_tags(tags: tuple[str, ...]) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    """For every tag the stems of what it says and, unstemmed, its words that no form of the lexicon has.

    What a tag denies is left out; one-word tags are in all of them.
    """
    said = [_said_words(tag) for tag in tags]
    single = frozenset(word for words in said if len(words) == 1 for word in words)
    known = load_lexicon().words
    return tuple(
        (frozenset(map(_stem, words)), words - known) for words in dict.fromkeys(words | single for words in said)
    )


@lru_cache(maxsize=50_000)
def _said_words(tag: str) -> frozenset[str]:
    tokens = tokenize(tag)
    return frozenset(word for word, no in zip(tokens, denied_words(tokens), strict=True) if not no)


def unsupported_facts(caption: str, tags: Iterable[str], *, families: bool = False) -> frozenset[Fact]:
    """The facts that `caption` claims and none of `tags` supports.

    A tag supports a claim that it equals or is a kind of ("e-guitar" supports "guitar", "male singer" "vocals",
    "140 bpm" "fast"), and a claim all of whose words it has in some inflection or with a slip of the pen ("percusive"
    supports "percussive"); one-word tags may join ("acoustic", "guitar" support "acoustic guitar"). A general tag
    supports no specific claim ("brass band" no "trumpet"), except with `families`, which asks only for a relative in
    the same family of the lexicon ("drums" for "snare drum", "bass" for "bass guitar"): the lenient rate to gate on.
    """
    support = _support(tuple(tags))
    return frozenset(
        claim.fact for claim in read_claims(caption) if not claim.denied and not support.covers(claim, families)
    )


STEM_LETTERS = 5  # coverage compares words by their first five letters


def tag_coverage(caption: str, tags: Iterable[str]) -> float | None:
    """The share of `tags` that `caption` carries, in [0, 1]; None when there are no tags.

    A tag is covered when the caption contains it (lower case, no punctuation, from a word's start), has at least half
    of its words by their first five letters, or claims all its facts in other words ("e-guitar": "electric guitar").
    """
    words = _WORD.findall(plain_text(caption))
    plain = f" {' '.join(words)} "
    stems = {word[:STEM_LETTERS] for word in words}
    claimed = with_kinds(extract_facts(caption))
    covered: list[bool] = []
    for tag in tags:
        words_of_tag, wanted, facts = _wanted(tag)
        if wanted:
            covered.append(
                words_of_tag in plain or 2 * len(wanted & stems) >= len(wanted) or (bool(facts) and facts <= claimed)
            )
    return sum(covered) / len(covered) if covered else None


@lru_cache(maxsize=50_000)
def _wanted(tag: str) -> tuple[str, frozenset[str], frozenset[Fact]]:
    """What a caption that carries `tag` contains: its words as they stand, or their stems, or its facts."""
    words = _WORD.findall(plain_text(tag))
    return f" {' '.join(words)}", frozenset(word[:STEM_LETTERS] for word in words), extract_facts(tag)


_WORD = re.compile(r"[a-z0-9]+")


# --- scores ---------------------------------------------------------------------------------------------------------

Against = Literal["captions", "tags"]


class FactCounts(NamedTuple):
    """What one caption claims in one category and what of it holds; the sums of many captions give the shares."""

    claimed: int  # facts in the prediction
    supported: int  # of them, those that the references state or imply
    stated: int  # facts in the references
    found: int  # of them, those that the prediction states or implies


def fact_counts(
    prediction: str, references: str | Sequence[str], *, against: Against = "captions"
) -> Mapping[str, FactCounts]:
    """Compare the facts of one caption with those of its references, for every category of `CATEGORIES`.

    `references` are one caption or several, whose facts count together; with `against="tags"` the tags of the clip,
    which support a claim as `unsupported_facts` says. A text that denies vocals ("no voices") supports and finds
    `instrumental`; a denial is no claim by itself.
    """
    texts = (references,) if isinstance(references, str) else tuple(references)
    claims, given = read_claims(prediction), [claim for text in texts for claim in read_claims(text)]
    claimed, stated = _undenied(claims), _undenied(given)
    if against == "tags":
        supported = claimed - unsupported_facts(prediction, texts)
    else:
        supported = claimed & with_kinds(stated)
        if _INSTRUMENTAL in claimed and _deny_vocals(given):
            supported |= {_INSTRUMENTAL}
    found = stated & with_kinds(claimed)
    if _INSTRUMENTAL in stated and _deny_vocals(claims):
        found |= {_INSTRUMENTAL}
    columns = [Counter(fact.category for fact in facts) for facts in (claimed, supported, stated, found)]
    return {category: FactCounts(*(column[category] for column in columns)) for category in CATEGORIES}


def _undenied(claims: Iterable[Claim]) -> frozenset[Fact]:
    return frozenset(claim.fact for claim in claims if not claim.denied)


def _deny_vocals(claims: Iterable[Claim]) -> bool:
    return any(claim.denied and claim.fact == _VOCALS for claim in claims)


@dataclass(frozen=True)
class FactScore:
    """Counts and shares of one category (or of all); a share is None when there was nothing to divide by."""

    claimed: int  # facts in the predictions
    supported: int  # of them, those that the references state or imply
    stated: int  # facts in the references
    found: int  # of them, those that the predictions state or imply

    @property
    def precision(self) -> float | None:
        return self.supported / self.claimed if self.claimed else None

    @property
    def recall(self) -> float | None:
        return self.found / self.stated if self.stated else None

    @property
    def f1(self) -> float | None:
        if self.precision is None or self.recall is None:
            return None
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def hallucination_rate(self) -> float | None:
        """The share of claimed facts that the references neither state nor imply: 1 - precision."""
        return None if self.precision is None else 1.0 - self.precision

    def to_dict(self) -> dict[str, float | int | None]:
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "hallucination_rate": self.hallucination_rate,
            "claimed": self.claimed,
            "stated": self.stated,
        }


@dataclass(frozen=True)
class CaptionMeans:
    """Means over captions (macro), each over the captions for which it is defined; None where there is none.

    Precision is defined for a caption that claims a fact, recall for one whose references state a fact, F1 for one of
    which either is true: it is 0 where a caption claims nothing of what the references state, or invents all.
    """

    precision: float | None
    recall: float | None
    f1: float | None

    def to_dict(self) -> dict[str, float | None]:
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class FactScores:
    """Precision, recall and F1 of facts by category, over all (micro) and a caption (`per_caption`); `n` pairs."""

    by_category: dict[str, FactScore]
    micro: FactScore
    captions_with_unsupported: int
    n: int
    per_caption: CaptionMeans | None = field(default=None, compare=False)  # None where only sums were kept

    @property
    def hallucination_rate(self) -> float | None:
        """The share of claimed facts that the references neither state nor imply: 1 - precision."""
        return self.micro.hallucination_rate

    def to_dict(self) -> dict[str, object]:
        return {
            "micro": self.micro.to_dict(),
            **({"per_caption": self.per_caption.to_dict()} if self.per_caption else {}),
            "hallucination_rate": self.hallucination_rate,
            "hallucinated_captions": self.captions_with_unsupported / self.n if self.n else None,
            "by_category": {name: score.to_dict() for name, score in self.by_category.items()},
        }


def fact_scores(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]], *, against: Against = "captions"
) -> FactScores:
    """Compare the facts of each prediction with those of its reference (of several references: their union).

    Precision: share of claimed facts that the reference states or implies. Recall: share of stated facts that the
    prediction states or implies. "guitar" against "electric guitar" thus costs recall, not precision. With
    `against="tags"` the references are lists of tags (`fact_counts`).
    Raises `ValueError` when the two differ in length.
    """
    sums = {category: [0, 0, 0, 0] for category in CATEGORIES}
    shares: tuple[list[float], list[float], list[float]] = ([], [], [])  # precision, recall, F1 of each caption
    unsupported = 0
    for prediction, reference in zip(predictions, references, strict=True):
        whole = [0, 0, 0, 0]
        for category, counts in fact_counts(prediction, reference, against=against).items():
            for place, count in enumerate(counts):
                sums[category][place] += count
                whole[place] += count
        claimed, supported, stated, found = whole
        unsupported += supported < claimed
        if claimed:
            shares[0].append(supported / claimed)
        if stated:
            shares[1].append(found / stated)
        if claimed or stated:
            shares[2].append((FactScore(*whole).f1 or 0.0) if claimed and stated else 0.0)
    by_category = {category: FactScore(*numbers) for category, numbers in sums.items()}
    micro = FactScore(*(sum(column) for column in zip(*sums.values(), strict=True)))
    means = CaptionMeans(*(sum(values) / len(values) if values else None for values in shares))
    return FactScores(by_category, micro, unsupported, len(predictions), means)
