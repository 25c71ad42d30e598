"""One caption for a track, from what was heard in its windows: what they agree on, said in their own sentences.

    whole = describe_windows(windows)
    whole.caption, whole.tags, whole.notes

A window is heard as several captions, each with its share of the model's belief. A claim of the track ("piano",
"fast") is believed as far as its seconds claim it. Of claims that exclude each other the one with more seconds stays,
and a note says so. The caption is chosen by minimum Bayes risk (Kumar and Byrne, 2004): the sentences whose claims have
the highest expected F1 with what is true of the track, if claims are true as often as they are believed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from caption_metrics.facts import Fact, extract_facts, with_kinds
from modeling_lpmc.audio_track_lpmc import SILENCE_TEXT

HOUSE, RAW = "house", "raw"
STYLES = (HOUSE, RAW)

WORDING = 0.25  # weight of the agreement in words beside that in claims
ENOUGH = 0.3  # belief from which an instrument that no chosen sentence names is added
GAIN = 0.01  # of expected F1, below which another sentence says too little
MOST_SENTENCES = 3  # of a caption, beside the list of what is also heard
MOST_ADDED = 4  # instruments in that list
TOLD = 0.2  # share of the seconds from which the losing side of a contradiction is told
LEAST_TAG = 0.1  # share of the seconds below which a claim is no tag

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'“‘])")
# Remarks on the recording, which people who label YouTube clips write and nobody asks for.
_QUALITY = frozenset(
    Fact("production", value)
    for value in ("low quality", "average quality", "high quality", "amateur recording", "mono")
)
_ADVICE = re.compile(
    r"\b(?:(?:can|could|might|may|would) (?:be|fit|suit|work|accompany|go)\b.{0,40}\b(?:used?|playing|play|perfect|"
    r"suitable|soundtrack|background|heard|fit|well|in)\b|(?:is|be|are) (?:suitable|perfect|ideal|great) for\b|"
    r"\bsuitable for\b|\byou(?:'d| would| might| could| can)? (?:hear|find|listen)\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")
_NAMES_WITH_NUMBERS = re.compile(r"\b(?:(?:19|20)?\d0['’]?s|[78]08|8[ -]bit|16[ -]bit|12[ -]string)\b", re.IGNORECASE)

# Topics of which a track has one side, and the claims that take a side.
_SIDES: Mapping[str, Mapping[str, frozenset[Fact]]] = {
    "tempo": {side: frozenset({Fact("tempo", side)}) for side in ("slow", "medium", "fast")},
    "singing": {
        "instrumental": frozenset({Fact("vocals", "instrumental")}),
        "sung": frozenset({Fact("vocals", "vocals")}),
    },
    "singer": {
        "male vocals": frozenset({Fact("vocals", "male vocals")}),
        "female vocals": frozenset({Fact("vocals", "female vocals")}),
    },
    "mode": {side: frozenset({Fact("key", side)}) for side in ("major", "minor")},
}


@dataclass(frozen=True)
class Hypothesis:
    """One caption of a window, and its share of what the model believes; the shares of a window sum to 1."""

    text: str
    share: float


@dataclass(frozen=True)
class Window:
    """What was heard from `start` to `end`, in seconds of the track; the best caption first."""

    start: float
    end: float
    heard: tuple[Hypothesis, ...]

    @property
    def text(self) -> str:
        """The best caption."""
        return self.heard[0].text


@dataclass(frozen=True)
class TrackTag:
    """A claim about the whole track, such as ("piano", "instrument").

    `confidence`, in [0, 1], is the share of its seconds whose captions say so.
    """

    name: str
    category: str
    confidence: float


@dataclass(frozen=True)
class TrackDescription:
    """A caption, tags (the surest first), and sentences about what the windows do not agree on."""

    caption: str
    tags: tuple[TrackTag, ...]
    notes: tuple[str, ...]


def describe_windows(windows: Sequence[Window], *, style: str = HOUSE) -> TrackDescription:
    """Caption, tags and notes of a track.

    Each window weighs as many seconds as it adds to those before it (the last one overlaps its neighbour). Silent ones
    have no vote; a track with no others is `SILENCE_TEXT`. In the style `house` sentences are left out that speak of
    the quality of the recording, give advice on its use, or hold a number; `raw` leaves nothing out.
    """
    voices = _voices(windows)
    if not voices:
        return TrackDescription(SILENCE_TEXT, (), ())
    beliefs = _Beliefs.of(voices)
    notes = beliefs.resolve()
    caption = _caption(voices, beliefs, style)
    tags = sorted(
        (
            TrackTag(fact.value, fact.category, min(1.0, share))
            for fact, share in beliefs.said.items()
            if share >= LEAST_TAG and fact not in beliefs.lost and not (style == HOUSE and fact in _QUALITY)
        ),
        key=lambda tag: (-tag.confidence, tag.category, tag.name),
    )
    return TrackDescription(caption, tuple(tags), notes)


@dataclass(frozen=True)
class _Voice:
    weight: float  # share of the seconds that sound
    heard: tuple[Hypothesis, ...]


def _voices(windows: Sequence[Window]) -> list[_Voice]:
    weights: list[tuple[float, tuple[Hypothesis, ...]]] = []
    covered = 0.0
    for window in windows:
        seconds = max(0.0, window.end - max(window.start, covered))
        covered = max(covered, window.end)
        if window.text != SILENCE_TEXT and seconds > 0:
            weights.append((seconds, window.heard))
    total = sum(seconds for seconds, _ in weights)
    return [_Voice(seconds / total, heard) for seconds, heard in weights]


@dataclass
class _Beliefs:
    """How far each fact is believed of the track, in [0, 1].

    `implied` counts what claims imply too ("electric guitar" is a guitar), `said` claims as they stand. `lost` are the
    facts that a contradiction was decided against.
    """

    implied: dict[Fact, float]
    said: dict[Fact, float]
    lost: set[Fact]

    @classmethod
    def of(cls, voices: Sequence[_Voice]) -> _Beliefs:
        implied: dict[Fact, float] = defaultdict(float)
        said: dict[Fact, float] = defaultdict(float)
        for voice in voices:
            for hypothesis in voice.heard:
                for fact in _facts(hypothesis.text):
                    said[fact] += voice.weight * hypothesis.share
                for fact in with_kinds(_facts(hypothesis.text)):
                    implied[fact] += voice.weight * hypothesis.share
        return cls(dict(implied), dict(said), set())

    def resolve(self) -> tuple[str, ...]:
        """Decide the contradictions for the side with more seconds; a note for each that was close."""
        notes = []
        for topic, sides in _SIDES.items():
            shares = {side: max(self.implied.get(fact, 0.0) for fact in facts) for side, facts in sides.items()}
            winner, *rest = sorted(shares, key=lambda side: -shares[side])
            losers = [side for side in rest if shares[side]]
            self.lost |= {fact for side in losers for fact in self._implying(sides[side])}
            told = [f"{side} in {shares[side]:.0%}" for side in losers if shares[side] >= TOLD]
            if told:
                notes.append(f"{topic}: {winner} in {shares[winner]:.0%} of the track, {', '.join(told)}")
        genres = [fact for fact, share in self.said.items() if fact.category == "genre" and share >= TOLD]
        if len(genres) > 1:
            first, *others = sorted(genres, key=lambda fact: (-self.said[fact], fact))
            told = [f"{fact.value} in {self.said[fact]:.0%}" for fact in others]
            notes.append(f"genre: {first.value} in {self.said[first]:.0%} of the track, {', '.join(told)}")
        return tuple(notes)

    def _implying(self, facts: frozenset[Fact]) -> set[Fact]:
        return {fact for fact in self.implied if with_kinds([fact]) & facts}

    def belief(self, fact: Fact) -> float:
        """In [0, 1]."""
        return 0.0 if fact in self.lost else self.implied.get(fact, 0.0)

    def expected_f1(self, claims: Iterable[Fact]) -> float:
        """Of a caption with these claims against what is true of the track, if beliefs are chances."""
        claims = set(claims)
        stated = sum(share for fact, share in self.said.items() if fact not in self.lost)
        total = len(claims) + stated
        return 2 * sum(map(self.belief, claims)) / total if total else 0.0


def _caption(voices: Sequence[_Voice], beliefs: _Beliefs, style: str) -> str:
    texts = dict.fromkeys(hypothesis.text for voice in voices for hypothesis in voice.heard)
    wanted = {text: kept for text in texts if (kept := _in_style(text, style))} or {text: text for text in texts}
    words = {text: _words(text) for text in {*texts, *wanted.values()}}

    def agreement(text: str) -> float:
        return sum(
            voice.weight * hypothesis.share * _unigram_f1(words[text], words[hypothesis.text])
            for voice in voices
            for hypothesis in voice.heard
        )

    def worth(text: str) -> float:
        return beliefs.expected_f1(_facts(text)) + WORDING * agreement(text)

    if len(voices) == 1:  # nothing to agree with
        return next((wanted[one.text] for one in voices[0].heard if one.text in wanted), voices[0].heard[0].text)
    chosen = [max(dict.fromkeys(wanted.values()), key=worth)]
    claims = set(_facts(chosen[0]))
    pool = dict.fromkeys(sentence for text in wanted.values() for sentence in _sentences(text))
    while len(chosen) < MOST_SENTENCES:
        best = max(
            (sentence for sentence in pool if sentence not in chosen and _fits(sentence, claims, beliefs)),
            key=lambda sentence: beliefs.expected_f1(claims | _facts(sentence)),
            default=None,
        )
        now = beliefs.expected_f1(claims)
        if best is None or beliefs.expected_f1(claims | _facts(best)) < now + GAIN:
            break
        chosen.append(best)
        claims |= _facts(best)
    added = _also_heard(claims, beliefs)
    return " ".join([*chosen, *([f"Also heard: {_listed(added)}."] if added else [])])


def _fits(sentence: str, claims: set[Fact], beliefs: _Beliefs) -> bool:
    """Whether a sentence may stand beside those that made `claims`: it is believed and calls the music nothing else."""
    new = _facts(sentence) - with_kinds(claims)
    return not any(fact.category == "genre" or beliefs.belief(fact) < ENOUGH for fact in new)


def _also_heard(claims: set[Fact], beliefs: _Beliefs) -> list[str]:
    """Instruments that much of the track has and no chosen sentence names, the surest first."""
    known = with_kinds(claims)
    found = sorted(
        (fact for fact, share in beliefs.said.items() if fact.category == "instrument" and share >= ENOUGH),
        key=lambda fact: (-beliefs.said[fact], fact),
    )
    added: list[Fact] = []
    for fact in found:
        relatives = {*known, *with_kinds(added)} if added else known
        if fact not in relatives and not with_kinds([fact]) & {*claims, *added} and fact not in beliefs.lost:
            added.append(fact)
    return [fact.value for fact in added[:MOST_ADDED]]


@lru_cache(maxsize=4096)  # captions of a track repeat
def _facts(text: str) -> frozenset[Fact]:
    return extract_facts(text)


@lru_cache(maxsize=4096)
def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def _unigram_f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def _in_style(text: str, style: str) -> str:
    """The text without the sentences that the style leaves out; "" if none remain."""
    if style == RAW:
        return text
    return " ".join(sentence for sentence in _sentences(text) if not _out_of_style(sentence))


def _out_of_style(sentence: str) -> bool:
    if _ADVICE.search(sentence) or _NUMBER.search(_NAMES_WITH_NUMBERS.sub("", sentence)):
        return True
    return bool(_facts(sentence) & _QUALITY)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
