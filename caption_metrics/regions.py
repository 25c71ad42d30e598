"""Regions of music by what tags and captions name: a closed list (`regions.yaml`) with its sources and limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from caption_metrics.facts import extract_facts
from caption_metrics.lexicon import Fact, plain_text, with_kinds

REGIONS_FILE = Path(__file__).with_name("regions.yaml")
NO_REGION = "no listed region"
_WORD = re.compile(r"[^\W_]+")


def plain_tag(tag: str) -> str:
    """The words of a tag without its category: `genre---bossanova` is "bossanova", "Reggae - Dub" "reggae dub"."""
    return _words(tag.rpartition("---")[2])


def _words(text: str) -> str:
    return " ".join(_WORD.findall(plain_text(text)))


@dataclass(frozen=True)
class Regions:
    """`regions.yaml`: which facts, tags and corpora point to a region, and which facts are the Western default."""

    facts: Mapping[Fact, frozenset[str]]
    tags: Mapping[str, frozenset[str]]
    sources: Mapping[str, frozenset[str]]
    western: frozenset[Fact]
    names: tuple[str, ...]


@cache
def load_regions() -> Regions:
    """Read `regions.yaml` once."""
    content: dict[str, Any] = yaml.safe_load(REGIONS_FILE.read_text(encoding="utf-8"))
    facts: dict[Fact, set[str]] = {}
    tags: dict[str, set[str]] = {}
    sources: dict[str, set[str]] = {}
    for region, lists in content["regions"].items():
        for fact in _facts(lists):
            facts.setdefault(fact, set()).add(region)
        for tag in lists.get("tags", ()):
            tags.setdefault(plain_tag(str(tag)), set()).add(region)
        for source in lists.get("sources", ()):
            sources.setdefault(plain_tag(str(source)), set()).add(region)
    return Regions(
        {fact: frozenset(found) for fact, found in facts.items()},
        {tag: frozenset(found) for tag, found in tags.items()},
        {source: frozenset(found) for source, found in sources.items()},
        frozenset(_facts(content["western_defaults"])),
        tuple(content["regions"]),
    )


_LISTS = {"genres": "genre", "instruments": "instrument", "vocals": "vocals"}


def _facts(lists: Mapping[str, Sequence[str]]) -> list[Fact]:
    return [Fact(category, str(value)) for name, category in _LISTS.items() for value in lists.get(name, ())]


def regions_of(texts: Iterable[str]) -> frozenset[str]:
    """The regions that tags or captions name: by a genre or instrument of theirs, or by a whole tag of the list."""
    return frozenset().union(*map(_regions_of_text, texts))


@lru_cache(maxsize=20_000)  # tags repeat, and a caption is asked about by several dimensions
def _regions_of_text(text: str) -> frozenset[str]:
    return _regions_of_facts(extract_facts(text)) | load_regions().tags.get(plain_tag(text), frozenset())


def _regions_of_facts(facts: Iterable[Fact]) -> frozenset[str]:
    known = load_regions().facts
    return frozenset().union(*(known.get(fact, frozenset()) for fact in with_kinds(facts)))


def regions_of_source(source: str) -> frozenset[str]:
    """The regions of a corpus by its name, such as "saraga_carnatic"; none for one that is not listed."""
    return load_regions().sources.get(plain_tag(source), frozenset())


@dataclass(frozen=True)
class RegionCoverage:
    """What a sampler that draws a tag uniformly, then a track that has it, gives a region."""

    region: str
    tags: int
    share_of_draws: float  # tags of the region / all tags: how often a draw starts from such a tag
    share_of_assignments: float  # of all pairs of a track and a tag


def sampler_coverage(tag_counts: Mapping[str, int]) -> tuple[RegionCoverage, ...]:
    """For every listed region, and for the tags of none, what tag-balanced sampling draws from it.

    `tag_counts` holds the tracks of each tag of the sampler. A region of which no tag is in the vocabulary is only met
    by chance, through other tags of its tracks. Tags of two regions count for both.
    """
    tags: Counter[str] = Counter()
    tracks: Counter[str] = Counter()
    for tag, count in tag_counts.items():
        for region in regions_of([tag]) or {NO_REGION}:
            tags[region] += 1
            tracks[region] += count
    all_tags, all_tracks = len(tag_counts) or 1, sum(tag_counts.values()) or 1
    return tuple(
        RegionCoverage(region, tags[region], tags[region] / all_tags, tracks[region] / all_tracks)
        for region in (*load_regions().names, NO_REGION)
    )


def says_region(caption: str, regions: frozenset[str]) -> bool:
    """Whether a caption names one of `regions`: by a fact, by its name, by a tag of its list ("Thai", "Javanese")."""
    if regions & _regions_of_facts(extract_facts(caption)):
        return True
    words = f" {_words(caption)} "
    listed = load_regions().tags
    return any(f" {_words(region)} " in words for region in regions) or any(
        f" {tag} " in words for tag, where in listed.items() if where & regions
    )


def is_western(fact: Fact) -> bool:
    """Whether a claim is, or implies, one of the Western defaults and points to no listed region."""
    kinds = with_kinds([fact])
    return not kinds.isdisjoint(load_regions().western) and not _regions_of_facts([fact])
