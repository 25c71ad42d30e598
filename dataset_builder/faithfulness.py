"""Does a caption say what the tags say, and nothing else?

Hard problems make an answer unusable: it is asked again and in the end rejected. Soft scores (tag coverage, the list
of unsupported claims) become columns of the captions table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from caption_metrics.facts import tag_coverage, unsupported_facts
from dataset_builder.tracks import TaggedTrack

MAX_WORDS = 160  # the longest of 11,356 published captions has about 150 words
MIN_TITLE_LETTERS = 5  # shorter titles ("Home", "Run") are ordinary words of a caption
MIN_COVERAGE = (
    1 / 3
)  # published captions cover 90 to 96 % of their tags, human ones 77 %; below this it is another piece
LOOP_WORDS = 3  # a run of this many words ...
LOOP_TIMES = 3  # ... said this often is a loop, not a description

# Claims of these categories must be supported by a tag. Moods and production words may be paraphrased: soft only.
HARD_CATEGORIES = frozenset({"instrument", "vocals", "tempo", "key", "metre", "genre", "era"})

# An answer about the request instead of the music (deny-lists of LLark and the faults reported for Auto-ACD).
_REFUSALS = re.compile(
    r"\bas an ai\b|\blanguage model\b|\bmetadata\b|\bis not provided\b|\bnot specified\b|\bcannot determine\b"
    r"|\bi (?:cannot|can't|am unable|apologi[sz]e)\b|\bi'm sorry\b|\battributes?\s*:|\bfollowing attributes?\b"
    r"|\[(?:song|artist|title|album|band)[^\]]*\]",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class CaptionCheck:
    """What was found in one caption. `problems` is empty when the caption may be kept."""

    problems: tuple[str, ...]
    tag_coverage: float
    unsupported: tuple[str, ...]


def check_caption(caption: str, track: TaggedTrack, added: Sequence[str] = ()) -> CaptionCheck:
    """Check `caption` against the tags of `track`.

    `added` are attributes that the model declared to have added (attribute_prediction); claims they support are fine.
    A track without tags has coverage 0.0.
    """
    unsupported = sorted(
        unsupported_facts(caption, [*track.tags, *added]), key=lambda fact: (fact.category, fact.value)
    )
    problems = list(_text_problems(caption))
    claims = [fact.value for fact in unsupported if fact.category in HARD_CATEGORIES]
    if claims:
        problems.append(f"claims {', '.join(claims)}, which no tag supports")
    problems += _leaks(caption, track)
    coverage = tag_coverage(caption, track.tags) or 0.0
    if coverage < MIN_COVERAGE:
        problems.append(f"covers {coverage:.0%} of the tags (at least {MIN_COVERAGE:.0%})")
    return CaptionCheck(
        tuple(problems),
        coverage,
        tuple(f"{fact.category}: {fact.value}" for fact in unsupported),
    )


def _text_problems(caption: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(caption)]
    problems = []
    if not words:
        problems.append("has no words")
    if len(words) > MAX_WORDS:
        problems.append(f"has {len(words)} words (at most {MAX_WORDS})")
    if _REFUSALS.search(caption):
        problems.append("speaks of the request instead of the music")
    if has_loop(words):
        problems.append("repeats itself")
    letters = [letter for letter in caption if letter.isalpha()]
    if letters and sum(letter.isascii() for letter in letters) < 0.8 * len(letters):
        problems.append("is not written in English letters")
    return problems


def has_loop(words: Sequence[str]) -> bool:
    """Whether a run of `LOOP_WORDS` words occurs `LOOP_TIMES` times, or one word four times in a row."""
    runs: dict[tuple[str, ...], int] = {}
    for start in range(len(words) - LOOP_WORDS + 1):
        run = tuple(words[start : start + LOOP_WORDS])
        runs[run] = runs.get(run, 0) + 1
        if runs[run] == LOOP_TIMES:
            return True
    return any(len(set(words[start : start + 4])) == 1 for start in range(len(words) - 3))


def _leaks(caption: str, track: TaggedTrack) -> list[str]:
    """Title, artist or album in the caption: the model recited what it knows instead of describing the tags."""
    text = caption.lower()
    tags = " ".join(track.tags).lower()
    problems = []
    for kind, name in (("title", track.title), ("artist", track.artist), ("album", track.album)):
        if not name or len(name) < MIN_TITLE_LETTERS or name.lower() in tags:
            continue
        if re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text):
            problems.append(f"names the {kind}")
    return problems
