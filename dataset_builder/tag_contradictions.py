"""Tags of one track that cannot all be true of it: `slow` and `fast`, `no vocals` and `singer`, `piano` and `no piano`.

The rules are those that hold captions of one track against each other (`caption_collection.contradictions`), except
that tags are opinions of several listeners on a whole track: two decades, or a man's and a woman's voice, are no
contradiction among tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

from caption_metrics.claims import read_claims
from caption_metrics.facts import extract_facts
from caption_metrics.lexicon import Fact, tokenize, with_kinds
from dataset_builder.caption_collection import contradictions

# Different tags that are read; the frequent ones of a corpus are among the first. At 50 us a tag it bounds time and
# memory for tables whose tags are sentences.
MOST_TAGS = 100_000
_TOPICS = frozenset({"tempo", "key", "metre", "vocals", "production"})
_SINGING = Fact("vocals", "vocals")
_SEXES = frozenset({Fact("vocals", "male vocals"), Fact("vocals", "female vocals")})


_DENIALS = frozenset({"no", "not"})
_NAMES_WITH_NO = frozenset({"wave", "depression"})  # genres: no wave, No Depression
_SILENT, _TOPICAL, _DENYING = range(3)  # what a tag has to do with contradictions


class TagContradictions:
    """Finds the contradictory pairs among the tags of a track; what was found for a tag or a pair is remembered."""

    def __init__(self) -> None:
        self._role: dict[str, int] = {}
        self._contradictory: dict[tuple[str, str], bool] = {}

    def pairs(self, tags: Sequence[str]) -> list[tuple[str, str]]:
        """The contradictory pairs among `tags`, in their order."""
        role = self._role
        speaking = [tag for tag in tags if (role[tag] if tag in role else self._learn(tag))]
        if not speaking or (len(speaking) == 1 and role[speaking[0]] == _TOPICAL):
            return []  # nearly all tracks
        if any(role[tag] == _DENYING for tag in speaking):  # it may deny what any other tag claims
            speaking = list(tags)
        return [
            pair for pair in combinations(speaking, 2) if role[pair[0]] | role[pair[1]] and self._is_contradictory(pair)
        ]

    def _learn(self, tag: str) -> int:
        if len(self._role) >= MOST_TAGS:
            return self._role.setdefault(tag, _SILENT)
        claimed, denied = _claims(tag)
        topical = any(fact.category in _TOPICS for fact in claimed)
        self._role[tag] = _DENYING if denied else _TOPICAL if topical else _SILENT
        return self._role[tag]

    def _is_contradictory(self, pair: tuple[str, str]) -> bool:
        if pair not in self._contradictory:
            (claims, denies), (others, denied_by_other) = map(_claims, pair)
            self._contradictory[pair] = (
                not denies.isdisjoint(with_kinds(others))
                or not denied_by_other.isdisjoint(with_kinds(claims))
                or bool(contradictions([_comparable(claims), _comparable(others)]))
            )
        return self._contradictory[pair]


@lru_cache(maxsize=10_000)
def _claims(tag: str) -> tuple[frozenset[Fact], frozenset[Fact]]:
    """What a tag claims and what it denies."""
    claims = read_claims(tag)
    claimed = frozenset(claim.fact for claim in claims if not claim.denied)
    denied = frozenset(claim.fact for claim in claims if claim.denied)
    first, *rest = tokenize(tag) or ("",)
    text = " ".join(rest)
    if first in _DENIALS and rest and not claimed and text not in _NAMES_WITH_NO:
        denied |= {_itself(text), *extract_facts(text)}  # a tag alone says more: "not opera" in a caption, nothing
    return claimed | {_itself(" ".join((first, *rest)))}, denied


def _itself(text: str) -> Fact:
    """A fact for words that the lexicon does not know, so that `no beat` denies `beat`."""
    return Fact("tag", text)


def _comparable(facts: frozenset[Fact]) -> list[str]:
    return [str(_SINGING if fact in _SEXES else fact) for fact in facts if fact.category in _TOPICS]
