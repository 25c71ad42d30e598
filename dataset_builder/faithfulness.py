"""Does a caption say what the tags say, and nothing else?

Hard problems make an answer unusable: it is asked again and in the end rejected. Soft findings (a style, a claim in
other words) become columns of the captions table. The rules read English and compare a caption with its tags, never
with the audio; how often each fires on published captions stands in `benchmarks/published_faithfulness.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from caption_metrics.facts import extract_facts, tag_coverage, unsupported_facts
from caption_metrics.lexicon import LEXICON, load_lexicon
from dataset_builder.tracks import TaggedTrack

RULES_VERSION = 3  # raise it when the result for any caption could change; a test holds results against it

MAX_WORDS = 160  # the longest of 11,356 published captions has about 150 words
SHORT_WORDS = 8  # words; every published `writing` and human caption has at least 12, 2 % of the K2C ones fewer than 8
MIN_NAME_LETTERS = 5  # shorter titles ("Home", "Run") are ordinary words of a caption
# Published captions cover 90 to 96 % of their tags, human ones 77 %; below this it is another piece.
MIN_COVERAGE = 1 / 3
LOOP_WORDS = 4  # a run of this many words ("The song is" begins sentence after sentence of human captions) ...
LOOP_TIMES = 3  # ... said this often is a loop, not a description
BACK_TO_BACK = {1: 4, 2: 3, 3: 3}  # words of a shorter run -> how often in a row it is one
MIN_ASCII_LETTERS = 0.8  # share of the letters; French reaches 0.95, names in a caption cost little
FOREIGN_WORDS = 3  # function words of other languages in a sentence, and more of them than English ones
LISTED_WORDS = 12  # from here on a text without a tenth of English function words is a list of musical terms ...
ENGLISH_SHARE = 0.1  # (published `writing` captions have 0.11 to 0.5)
KNOWN_SHARE = 1 / 4  # ... of which the lexicon knows this share, or it is another language

# Claims of these categories must be supported by a tag. Moods and production words may be paraphrased: soft only.
HARD_CATEGORIES = frozenset({"instrument", "vocals", "tempo", "key", "metre", "genre", "era"})
# Facts of these categories that captions also say as everyday words ("a rock anthem", "a modern touch", "a crowd
# pleaser"): soft as well. `anthem` alone stands unsupported in 4 % of the published `writing` captions.
EVERYDAY_CLAIMS = frozenset(
    {"genre: anthem", "genre: ballad", "genre: dance", "era: modern", "era: vintage"}
    | {"vocals: crowd", "vocals: humming", "vocals: laughter"}
)

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def _phrases(*phrases: str) -> tuple[str, ...]:
    """Phrases as they stand in a text whose words are separated by single spaces."""
    return tuple(f" {phrase} " for phrase in phrases)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- what must not stand in a caption --------------------------------------------------------------------------------

# An answer about the request instead of the music (deny-lists of LLark and the faults reported for Auto-ACD). Words in
# lower case between single spaces.
_REFUSALS = _phrases(
    *("as an ai", "language model", "provided list", "above list", "listed above", "list above"),
    *("metadata", "is not provided", "are not provided", "not specified", "unspecified"),
    *("cannot determine", "can't determine", "unable to determine", "cannot be determined", "i cannot", "i can't"),
    *("i am unable", "i'm unable", "i apologize", "i apologise", "i'm sorry", "following attribute"),
    *("following attributes", "following tags", "provided tags", "provided attributes", "given tags"),
    *("given attributes", "listed attributes", "listed tags", "the tags", "here is a caption", "here is the caption"),
    *("here is a description", "the user", "this prompt", "insufficient information", "not enough information"),
)
_REFUSAL_ENDS = frozenset(phrase.split()[-1] for phrase in _REFUSALS)  # no phrase without its last word
_LABELS = frozenset({"label", "labels", "labeled", "labelled"})
_LABEL_OWNERS = frozenset(
    {"record", "major", "indie", "independent", "music", "recording", "netlabel", "own", "private"}
)
_PLACEHOLDER = re.compile(
    r"\[(?:song|artist|title|album|band|name|insert|genre)[^\]]*\]|\battributes?\s*:", re.IGNORECASE
)
# Left over from a dictionary, a chat template, mark-up or a labelled answer.
_STRUCTURE = re.compile(
    r"[{}]|new_attribute|```|\*\*|<\||</?[a-z]+>|\[['\"]|['\"]\s*\]"
    r"|\b(?:description|caption|summary|answer|output|assistant|instruction)[\"']?\s*[:=]",
    re.IGNORECASE,
)
_STRUCTURE_SIGNS = re.compile(r"[{}`<\[\]:=_*]")
# 0.83, .5, 1.0, 73 %: a tagger's score. "100 %" is a way of speaking, and a number with a unit is a measurement.
_PROBABILITY = re.compile(
    r"(?<![\w.,/:#$€£])(?:(?:0?\.\d+|1\.0+)(?![\w.]|\s*(?:s|sec|seconds?|ms|k?hz|db|beats?|bars?|semitones?|x)\b)"
    r"|(?!1[01]0\s?[%p])\d{1,3}(?:\.\d+)?\s?(?:%|per\s?cent\b))",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")


_ENGLISH = _set(
    "the of and a an in to is are was with that this these it its for on as by from at be has have while which or but "
    "into through over their there can make makes making throughout all more you your his her he she they we i not no "
    "up out like also some being throughout between against amidst alongside where who will if than them so such one"
)
# Words of other languages in Latin letters that are no English words: es, pt, fr, it, ca, ro; de, nl, sv, da, no; pl,
# cs, hu, tr, fi; id/ms, tl, vi, sw.
_FOREIGN = (
    _set(
        "el los las una unos que con por para del y es su sus muy como pero está más este esta esto son sobre desde "
        "o os um uma com não ao da dos das pelo pela é à são mas ou muito "
        "le les des et est une avec dans pour sur qui ce cette au aux du en par très sont ses sa plus "
        "il lo gli di che e un uno della dello delle dei degli nel nella è sono molto questo questa alla "
        "amb els și cu este din pe "
        "der das und ist ein eine einen einem einer mit von für auf dem den zu im sich nicht auch wird durch "
        "dieser dieses het een van met voor dit zijn de wordt niet "
        "och det som är av ett på för med og er af til ikke den "
        "jest się na z w nie oraz przez ten který se je je ve s že és egy az hogy ez bir bu ile için ve olan "
        "ja ovat tämä yang dan dengan ini itu adalah oleh untuk dari di ke pada sebuah seorang dalam ang ng mga sa ay "
        "của và một với là những na ya wa kwa"
    )
    - _ENGLISH
    - {"son", "plus", "par", "e", "o", "s", "z", "w"}
)

# --- how captions should not talk (soft) -----------------------------------------------------------------------------

_HYPE = _set(
    "unforgettable mesmerizing mesmerising captivating captivate captivates breathtaking irresistible irresistibly "
    "stunning masterpiece masterfully electrifying unparalleled incredible incredibly amazing extraordinary undeniable "
    "undeniably magnificent phenomenal sensational spectacular unbeatable ultimate awesome "
    "outstanding exceptional astounding unmatched legendary"
)
_HYPE_PHRASES = _phrases(
    *("jaw dropping", "mind blowing", "must listen", "must hear", "sure to", "guaranteed to", "like never before"),
    *("like no other", "blow you away", "blow your mind", "one of a kind", "off your feet", "truly"),
)
_LISTENER = _set("you your yours yourself you'll you're you've listener listeners listener's")
_LYRICS = _set("lyric lyrics lyrical lyrically lyricism")
# The first word of a caption that calls on the listener: 638 of 2,839 published `writing` captions, no human one.
_STOCK_OPENERS = _set(
    "get experience transport listen immerse picture feel prepare escape unwind enter enjoy introducing indulge "
    "embark embrace step dive take discover let join unleash imagine welcome lose witness watch sink"
)
_QUALITY_TALK = frozenset(
    f"production: {value}" for value in ("low quality", "high quality", "amateur recording", "noisy", "mono")
)


def _version() -> str:
    """The rules' number and a hash of the lexicon's lines without comments, so that only its content counts."""
    lines = (line.strip() for line in LEXICON.read_text(encoding="utf-8").splitlines())
    content = "\n".join(line for line in lines if line and not line.startswith("#"))
    return f"{RULES_VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


CHECKS_VERSION: str = _version()

# --- the check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CaptionCheck:
    """What was found in one caption. `problems` is empty when the caption may be kept.

    `tag_coverage` is in [0, 1]. `facts` are all that the caption claims and `unsupported` those that no tag supports,
    both sorted, as "category: value". `soft` are findings of style under stable names: `hype`, `listener` (addresses or
    mentions who listens), `lyrics`, `stock_opener` ("Get ready to"), `quality_talk` (of the recording, untold by the
    tags), `short`.
    """

    problems: tuple[str, ...]
    tag_coverage: float
    unsupported: tuple[str, ...]
    facts: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()


def check_caption(
    caption: str, track: TaggedTrack, added: Sequence[str] = (), *, may_add: bool = False
) -> CaptionCheck:
    """Check `caption` against the tags of `track`.

    `added` are attributes that the model declared to have added (attribute_prediction); claims they support are fine.
    With `may_add` a claim that nothing supports is listed in `unsupported` and is no problem: the instruction asked
    for it. A track without tags has coverage 0.0. About 0.2 ms a caption; `CHECKS_VERSION` names the rules.
    """
    lower = caption.lower().replace("’", "'")
    words = _WORD.findall(lower)
    plain = f" {' '.join(words)} "
    tags = _tag_words(track.tags)
    unsupported = sorted(unsupported_facts(caption, (*track.tags, *added)))
    named = tuple(map(str, unsupported))
    problems = [*_text_problems(caption, lower, words, plain, tags)]
    claims = [
        fact.value for fact in unsupported if fact.category in HARD_CATEGORIES and str(fact) not in EVERYDAY_CLAIMS
    ]
    if claims and not may_add:
        problems.append(f"claims {', '.join(claims)}, which no tag supports")
    problems += _leaks(caption, lower, plain, tags, track)
    coverage = tag_coverage(caption, track.tags) or 0.0
    if coverage < MIN_COVERAGE:
        problems.append(f"covers {coverage:.0%} of the tags (at least {MIN_COVERAGE:.0%})")
    return CaptionCheck(
        tuple(problems),
        coverage,
        named,
        facts=tuple(map(str, sorted(extract_facts(caption)))),
        soft=tuple(_soft_findings(words, plain, tags, named)),
    )


@lru_cache(maxsize=2_000)  # the captions of one track follow each other
def _tag_words(tags: tuple[str, ...]) -> str:
    """The words of all tags in lower case, between single spaces."""
    return f" {' '.join(_WORD.findall(' '.join(tags).lower().replace('’', chr(39))))} "


def _text_problems(caption: str, lower: str, words: Sequence[str], plain: str, tags: str) -> Iterator[str]:
    if not words:
        yield "has no words"
    if len(words) > MAX_WORDS:
        yield f"has {len(words)} words (at most {MAX_WORDS})"
    if _STRUCTURE_SIGNS.search(caption) and (_STRUCTURE.search(caption) or _PLACEHOLDER.search(caption)):
        yield "holds structure that should have been parsed"
    refuses = not _REFUSAL_ENDS.isdisjoint(words) and any(phrase in plain for phrase in _REFUSALS)
    if refuses or _speaks_of_labels(words, plain, tags):
        yield "speaks of the request instead of the music"
    numbers = _PROBABILITY.findall(lower) if _DIGIT.search(lower) else ()
    if any(f" {' '.join(_WORD.findall(number))} " not in tags for number in numbers):
        yield "holds a raw probability"
    if has_loop(words):
        yield "repeats itself"
    if not caption.isascii():
        letters = [letter for letter in caption if letter.isalpha()]
        if sum(letter.isascii() for letter in letters) < MIN_ASCII_LETTERS * len(letters):
            yield "is not written in English letters"
    if is_foreign(words, lower):
        yield "is not written in English"


def _speaks_of_labels(words: Sequence[str], plain: str, tags: str) -> bool:
    """Whether a label is one of the data ("the labels guitar and sad"), not of the music trade ("a record label")."""
    if " label" not in plain or " label" in tags:
        return False
    return any(word in _LABELS and (not at or words[at - 1] not in _LABEL_OWNERS) for at, word in enumerate(words))


def is_foreign(words: Sequence[str], text: str) -> bool:
    """Whether a text in Latin letters, or one of its sentences, is in another language than English.

    `words` and `text` in lower case. Told by function words, which every sentence has; a list of terms ("soft rock,
    piano, sad") has none and passes.
    """
    if len(words) >= LISTED_WORDS and _count(words, _ENGLISH) < ENGLISH_SHARE * len(words):
        known = load_lexicon().words
        if _count(words, known) < KNOWN_SHARE * len(words):
            return True
    if _FOREIGN.isdisjoint(words) or _count(words, _FOREIGN) < FOREIGN_WORDS:
        return False
    for sentence in _SENTENCE_END.split(text):
        said = _WORD.findall(sentence)
        foreign = _count(said, _FOREIGN)
        if foreign >= FOREIGN_WORDS and foreign > _count(said, _ENGLISH):
            return True
    return False


def _count(words: Sequence[str], listed: frozenset[str]) -> int:
    return sum(map(listed.__contains__, words))


_SENTENCE_END = re.compile(r"[.!?;\n]")


def has_loop(words: Sequence[str]) -> bool:
    """Whether a run of `LOOP_WORDS` words occurs `LOOP_TIMES` times, or a shorter one that often back to back."""
    threes = list(zip(words, words[1:], words[2:], strict=False))
    if len(set(threes)) == len(threes):  # the usual case; every loop says three words twice
        return False
    runs = Counter(zip(*(words[start:] for start in range(LOOP_WORDS)), strict=False))
    if any(times >= LOOP_TIMES for times in runs.values()):
        return True
    for length, times in BACK_TO_BACK.items():
        same = 0
        for word, later in zip(words, words[length:], strict=False):
            same = same + 1 if word == later else 0
            if same == length * (times - 1):
                return True
    return False


def _soft_findings(words: Sequence[str], plain: str, tags: str, unsupported: Sequence[str]) -> Iterator[str]:
    if not _HYPE.isdisjoint(words) or any(phrase in plain for phrase in _HYPE_PHRASES):
        yield "hype"
    if not _LISTENER.isdisjoint(words):
        yield "listener"
    if not _LYRICS.isdisjoint(words) and " lyric" not in tags:
        yield "lyrics"
    if words and words[0] in _STOCK_OPENERS:
        yield "stock_opener"
    if not _QUALITY_TALK.isdisjoint(unsupported):
        yield "quality_talk"
    if len(words) < SHORT_WORDS:
        yield "short"


# --- names -----------------------------------------------------------------------------------------------------------

_NAME_PARTS = re.compile(r"\s*(?:[;/|]|,\s|\s&\s|\s(?:feat\.?|ft\.?|featuring|vs\.?)\s|\s[-–—]\s)\s*", re.IGNORECASE)
_BRACKETS = re.compile(r"\s*[(\[][^)\]]*[)\]]")  # "(Remastered 2009)", "[Live]"
_QUOTES = "\"'“”‘’«»"


@dataclass(frozen=True)
class _Name:
    """A name as it is looked for: its words, and what else it takes to be a name."""

    words: str  # lower case, between single spaces
    text: str  # lower case, as written
    capital: bool  # a single or short word counts only with a capital inside a sentence, or in quotes
    quoted: bool  # made of musical words ("Slow Dance"): counts only in quotes


@lru_cache(maxsize=20_000)  # artists and albums repeat
def _names(name: str) -> tuple[_Name, ...]:
    """The whole name and, for several artists or a title with a suffix, its parts."""
    bare = _BRACKETS.sub("", name.replace("’", "'")).strip()
    found: dict[str, _Name] = {}
    for part in (bare, *_NAME_PARTS.split(bare)):
        text = part.strip().lower()
        words = _WORD.findall(text)
        letters = sum(map(str.isalpha, text))
        if letters < 2:
            continue
        musical = all(word in load_lexicon().words or word in _ENGLISH for word in words)
        few = len(words) == 1 or letters < MIN_NAME_LETTERS
        found[text] = _Name(f" {' '.join(words)} ", text, capital=few and not musical, quoted=musical)
    return tuple(found.values())


def _leaks(caption: str, lower: str, plain: str, tags: str, track: TaggedTrack) -> Iterator[str]:
    """Title, artist or album in the caption: the model recited what it knows instead of describing the tags."""
    for kind, name in (("title", track.title), ("artist", track.artist), ("album", track.album)):
        if name and any(_names_it(each, caption, lower, plain, tags) for each in _names(name)):
            yield f"names the {kind}"


def _names_it(name: _Name, caption: str, lower: str, plain: str, tags: str) -> bool:
    if name.words not in plain or name.words in tags:
        return False
    if not (name.capital or name.quoted):
        return True
    start = lower.find(name.text) if len(lower) == len(caption) else -1
    while start >= 0:
        end = start + len(name.text)
        before, after = lower[start - 1 : start], lower[end : end + 1]
        if before and before in _QUOTES and after and after in _QUOTES + ",.!?":
            return True
        sentence = lower[:start].rstrip()
        inside = bool(sentence) and sentence[-1] not in ".!?:" and not before.isalnum() and not after.isalnum()
        if name.capital and inside and caption[start].isupper():
            return True
        start = lower.find(name.text, end)
    return False
