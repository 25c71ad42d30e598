"""What only shows when many captions are seen together: stock openers, near-duplicates, poor wording, contradictions.

Made for millions of captions in one pass: each class takes captions one by one, per instruction, and its memory is
bounded (`Openers`, `DistinctN`) or 53 bytes a caption (`NearDuplicates`).

MinHash libraries were measured first, with as many hashes and bands: rensa 0.5.0 takes 1.3 kB a caption and
datasketch 2.0.0 5.1 kB (and scipy), because each signature is an object beside twelve hash tables: 3 to 11 GB for the
full corpus. Sorting a plain array of signatures band by band gives the same pairs.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from caption_metrics.lexicon import Fact, plain_text, with_kinds

_WORD = re.compile(r"[^\W_]+")


def normal_words(caption: str) -> list[str]:
    """The words of a caption without case, accents and punctuation; hyphens part words."""
    return _WORD.findall(plain_text(caption))


# --- openers ---------------------------------------------------------------------------------------------------------

OPENER_WORDS = 3
OPENER_ALARM = 0.05  # share; 7.6 % of the published `writing` captions begin with "Get ready to"
MIN_CAPTIONS = 200  # below this a share says little
KEPT_OPENERS = 20_000  # different openers kept an instruction; about 130 bytes each


@dataclass(frozen=True)
class Opener:
    """How often the captions of an instruction begin with `words`."""

    words: str
    count: int
    share: float  # of all captions of the instruction, [0, 1]
    alarm: bool  # more than `OPENER_ALARM`, of at least `MIN_CAPTIONS`


class Openers:
    """Counts the first three words of captions by instruction.

    When more than `KEPT_OPENERS` differ, the rarer half is forgotten: a count can be too low, never too high, and an
    opener that is frequent throughout is not touched.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._captions: Counter[str] = Counter()

    def add(self, instruction: str, caption: str) -> None:
        counts = self._counts.setdefault(instruction, Counter())
        counts[" ".join(normal_words(caption[:_OPENER_LETTERS])[:OPENER_WORDS])] += 1
        self._captions[instruction] += 1
        if len(counts) > KEPT_OPENERS:
            self._counts[instruction] = Counter(dict(counts.most_common(KEPT_OPENERS // 2)))

    def top(self, n: int = 5) -> dict[str, tuple[Opener, ...]]:
        """The `n` most frequent openers of every instruction, the most frequent first."""
        tops: dict[str, tuple[Opener, ...]] = {}
        for instruction, counts in self._counts.items():
            total = self._captions[instruction]
            tops[instruction] = tuple(
                Opener(words, count, count / total, total >= MIN_CAPTIONS and count > OPENER_ALARM * total)
                for words, count in counts.most_common(n)
            )
        return tops


_OPENER_LETTERS = 120  # the first three words lie within

# --- near-duplicates -------------------------------------------------------------------------------------------------

SHINGLE_WORDS = 3
BANDS, ROWS = 12, 4  # a pair of similarity 0.7 shares a band with probability 0.96, one of 0.85 with 0.9999
HASHES = BANDS * ROWS  # one byte each: four make a band's 32 bits
NEAR = 0.7  # similarity; of 40 words, two changed ones leave 0.73, three 0.62
BATCH = 2_048  # captions hashed together
MOST_COMPARED = 256  # captions of the same band that each one is compared with; see `NearDuplicates.counts`

_CHANCE = 1 / 256  # that two bytes are equal without reason
_NEAR_BYTES = int(np.ceil(HASHES * (NEAR + (1 - NEAR) * _CHANCE)))
_RANDOM = np.random.default_rng(20230731)
_FACTORS = _RANDOM.integers(1 << 62, size=HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_PLACE = _RANDOM.integers(1 << 62, size=SHINGLE_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


class NearDuplicates:
    """Counts for each caption the others of its instruction that say nearly the same words.

    Similarity is the share of word triples that two captions have in common (Jaccard, words as `normal_words` gives
    them), estimated from 48 minimal hashes of one byte: standard error 0.07 at `NEAR`. A pair counts from an estimate
    of `NEAR` on. The same captions in the same order give the same counts.
    """

    def __init__(self) -> None:
        self._instructions: dict[str, int] = {}
        self._codes = array("B")  # of the instruction, one a caption
        self._hashes = array("Q")  # of the words that wait
        self._lengths: list[int] = []  # words of each caption that waits
        self._signatures: list[NDArray[np.uint8]] = []  # blocks of (captions, HASHES)

    def add(self, instruction: str, caption: str) -> None:
        """Take the next caption. At most 255 instructions."""
        hashes = list(map(_word_hash, normal_words(caption)))
        hashes += [0] * (SHINGLE_WORDS - len(hashes))
        self._codes.append(self._instructions.setdefault(instruction, len(self._instructions)))
        self._hashes.extend(hashes)
        self._lengths.append(len(hashes))
        if len(self._lengths) == BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._lengths:
            self._signatures.append(_signatures(np.frombuffer(self._hashes, np.uint64), np.array(self._lengths)))
            self._hashes, self._lengths = array("Q"), []

    def counts(self) -> NDArray[np.int32]:
        """For every added caption, in order, how many others of its instruction are near-duplicates.

        Exact repetitions are all counted. Of more than `MOST_COMPARED` different captions that share a band, each is
        compared with so many of its neighbours: among thousands of near-duplicates the count is a lower bound.
        """
        self._flush()
        counts = np.zeros(len(self._codes), np.int32)
        codes = np.frombuffer(self._codes, np.uint8) if self._codes else np.zeros(0, np.uint8)
        for code in self._instructions.values():
            mine = codes == code
            counts[mine] = _count_near(*_distinct_rows(self._signatures, mine))
        return counts


def _distinct_rows(
    blocks: Sequence[NDArray[np.uint8]], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Of the chosen rows of all blocks: the different ones, how often each occurs, and which one each chosen row is."""
    rows = np.empty((int(chosen.sum()), HASHES), np.uint8)
    read = written = 0
    for block in blocks:
        taken = block[chosen[read : read + len(block)]]
        rows[written : written + len(taken)] = taken
        read, written = read + len(block), written + len(taken)
    digests = np.zeros(len(rows), np.uint64)  # 64 bits: two of a million rows share one by chance once in 10^7 runs
    for band in rows.view(np.uint32).T:
        digests = _mixed(digests ^ band)
    _, first, which, times = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    return rows[first], times, which


@lru_cache(maxsize=1 << 16)  # words repeat
def _word_hash(word: str) -> int:
    data = word.encode()
    return (zlib.crc32(data) << 32 | zlib.crc32(data, 0x9E3779B9)) + 1  # the same in every process, unlike hash()


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: spreads every bit over all 64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signatures(words: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(captions, HASHES): for every hash function the low byte of its smallest value over a caption's word triples.

    `words` holds the word hashes of all captions end to end, `lengths` how many each has (at least three).
    """
    places = len(words) - SHINGLE_WORDS + 1
    shingles = np.zeros(places, np.uint64)
    for place, factor in enumerate(_PLACE):
        shingles += words[place : place + places] * factor
    ends = np.cumsum(lengths)
    across = (ends[:-1, None] - np.arange(1, SHINGLE_WORDS)).ravel()  # triples that reach into the next caption
    shingles = _mixed(np.delete(shingles, across))
    numbers = lengths - SHINGLE_WORDS + 1
    starts = np.cumsum(numbers) - numbers
    signatures = np.empty((len(lengths), HASHES), np.uint8)
    for column, factor in enumerate(_FACTORS):
        signatures[:, column] = (np.minimum.reduceat(shingles * factor, starts) & np.uint64(0xFF)).astype(np.uint8)
    return signatures


def _count_near(rows: NDArray[np.uint8], times: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int32]:
    """For every caption (`which` of the different rows it is) how many others are near; `times` each row occurs."""
    bands = rows.view(np.uint32)
    near = np.zeros(len(rows), np.int64)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        value = bands[order, band]
        at = np.arange(len(rows))
        for step in range(1, MOST_COMPARED + 1):
            at = at[at < len(rows) - step]
            at = at[value[at] == value[at + step]]
            if not len(at):
                break
            _add_near(rows, bands[:, :band], order[at], order[at + step], times, near)
    return (near + times - 1)[which].astype(np.int32)


_PAIRS = 1 << 15  # compared at once; bounds the memory


def _add_near(
    rows: NDArray[np.uint8],
    earlier_bands: NDArray[np.uint32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    times: NDArray[np.int64],
    near: NDArray[np.int64],
) -> None:
    """Add to `near` the pairs that are near and were not met in an earlier band."""
    for start in range(0, len(left), _PAIRS):
        one, two = left[start : start + _PAIRS], right[start : start + _PAIRS]
        good = (rows[one] == rows[two]).sum(axis=1) >= _NEAR_BYTES
        one, two = one[good], two[good]
        new = ~(earlier_bands[one] == earlier_bands[two]).any(axis=1)
        np.add.at(near, one[new], times[two[new]])
        np.add.at(near, two[new], times[one[new]])


# --- wording ---------------------------------------------------------------------------------------------------------

DISTINCT_SAMPLE = 20_000  # captions; the share falls with their number, so every instruction is measured on as many


@dataclass(frozen=True)
class DistinctShares:
    """Different words, and pairs of neighbouring words, as a share of all in the first `captions` captions."""

    words: float
    pairs: float
    captions: int


class DistinctN:
    """Distinct-1 and distinct-2 by instruction, of its first `DISTINCT_SAMPLE` captions; later ones are ignored."""

    def __init__(self) -> None:
        self._captions: Counter[str] = Counter()
        self._words: dict[str, array[int]] = {}  # hashes of 32 bits: of 300,000 different pairs about 10 are taken for
        self._pairs: dict[str, array[int]] = {}  # another one

    def add(self, instruction: str, caption: str) -> None:
        if self._captions[instruction] == DISTINCT_SAMPLE:
            return
        self._captions[instruction] += 1
        words = np.fromiter(map(_word_hash, normal_words(caption)), np.uint64)
        pairs = _mixed(words[:-1] * _PLACE[0] + words[1:] * _PLACE[1])
        for hashes, kept in ((words, self._words), (pairs, self._pairs)):
            kept.setdefault(instruction, array("I")).frombytes((hashes & _LOW).astype(np.uint32).tobytes())

    def shares(self) -> dict[str, DistinctShares]:
        """By instruction, in [0, 1]; 0.0 where no caption has so many words."""
        return {
            instruction: DistinctShares(_distinct(self._words[instruction]), _distinct(self._pairs[instruction]), count)
            for instruction, count in self._captions.items()
        }


_LOW = np.uint64(0xFFFFFFFF)


def _distinct(hashes: array[int]) -> float:
    return len(np.unique(np.frombuffer(hashes, np.uint32))) / len(hashes) if hashes else 0.0


# --- contradictions --------------------------------------------------------------------------------------------------

BPM_TOLERANCE = 3  # BPM; numbers this close are one tempo
_DECADE = re.compile(r"\d{4}s")
_METRES_OF = {"odd metre": {"5/4", "7/8"}, "compound metre": {"6/8", "9/8", "12/8"}}
_BOTH_SEXES = frozenset({"duet", "choir", "backing vocals"})  # may hold men and women, whoever is named beside them
_NOT_SUNG = frozenset({"vocal samples", "vocal ad libs", "beatboxing"})  # an instrumental piece may have them
_EXCLUSIVE = {"quality": {"low quality", "high quality"}, "channels": {"mono", "stereo"}}


@dataclass(frozen=True)
class _Statement:
    """What one caption says on a topic, and what another may say without contradicting it."""

    said: frozenset[str]
    allows: frozenset[str]


def contradictions(facts_by_caption: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Statements about ONE track of which at most one can hold, made by different captions of it.

    `facts_by_caption` holds the facts of each caption as `CaptionCheck.facts` gives them ("tempo: slow"). Returned as
    "tempo: fast / slow", sorted. Compared are slow and fast, BPM, keys, modes, metres, decades, male and female
    singing, singing and none, recording quality, mono and stereo. Different instruments, genres and moods never
    contradict, and what one caption says together ("male and female vocals", "slow, then fast") agrees with each of
    its parts.
    """
    captions = [_statements(facts) for facts in facts_by_caption]
    found: set[str] = set()
    for one, two in combinations(captions, 2):
        for topic in one.keys() & two.keys():
            if one[topic].allows.isdisjoint(two[topic].allows):
                sides = sorted(", ".join(sorted(side.said)) for side in (one[topic], two[topic]))
                found.add(f"{topic.split()[0]}: {' / '.join(sides)}")
    return tuple(sorted(found))


def _statements(texts: Sequence[str]) -> dict[str, _Statement]:
    """By topic what one caption says; topics on which it is silent, or says all there is, are left out."""
    facts = [Fact(*text.split(": ", 1)) for text in texts]
    said: dict[str, set[str]] = {
        category: set() for category in ("tempo", "key", "metre", "era", "vocals", "production")
    }
    for fact in facts:
        said.setdefault(fact.category, set()).add(fact.value)
    implied = {category: {fact.value for fact in with_kinds(facts) if fact.category == category} for category in said}
    topics: dict[str, _Statement] = {}

    def state(topic: str, values: Iterable[str], allows: Iterable[str] | None = None) -> None:
        stated = frozenset(values)
        if stated:
            topics[topic] = _Statement(stated, stated if allows is None else frozenset(allows))

    if "changing tempo" not in said["tempo"]:
        if "medium" not in implied["tempo"]:  # "medium to fast", and 85 BPM, leave room on both sides
            speeds = implied["tempo"] & {"slow", "fast"}
            state("tempo", {value for value in said["tempo"] if value != "steady tempo"} if speeds else (), speeds)
        numbers = {value for value in said["tempo"] if value.endswith(" bpm")}
        state("tempo number", numbers, (str(bpm) for value in numbers for bpm in _bpm_near(value)))
    modes = implied["key"] & {"major", "minor"}
    state("key mode", modes)
    tonics = {value.split()[0] for value in said["key"] if re.match(r"[a-g][b#]?(?: |$)", value)}
    state("key", tonics)
    state("metre", said["metre"], {each for value in said["metre"] for each in (value, *_METRES_OF.get(value, ()))})
    state("era", filter(_DECADE.fullmatch, said["era"]))
    if not said["vocals"] & _BOTH_SEXES:
        state("vocals", said["vocals"] & {"male vocals", "female vocals"})
    singing = {
        fact.value
        for fact in facts
        if fact.category == "vocals" and fact.value not in _NOT_SUNG and Fact("vocals", "vocals") in with_kinds([fact])
    }
    none = said["vocals"] & {"instrumental"}
    state("vocals at all", singing | none, {*(["sung"] if singing else []), *none})
    for topic, values in _EXCLUSIVE.items():
        state(f"production {topic}", said["production"] & values)
    return topics


def _bpm_near(value: str) -> range:
    """Half the tolerance on both sides: two numbers share one of these when they differ by at most the tolerance."""
    return range(2 * int(value.split()[0]) - BPM_TOLERANCE, 2 * int(value.split()[0]) + BPM_TOLERANCE + 1)
