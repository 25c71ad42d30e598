"""What one pass over many captions shows of their style: openers, repetition, house style, copies, languages.

Everything is a count, so a million captions take one pass; what grows with their number is 8 bytes of hash a caption
(in a set) and the openers. Patterns read English only.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from caption_metrics.claims import read_claims
from caption_metrics.lexicon import plain_text

OPENER_WORDS = 3
RUN_WORDS = 20  # of 1,419 human MusicCaps captions 2 share so long a run with 1,420 others; of 15 words, 60 do
VARIETY_BIGRAMS = 40_000  # the share of different pairs falls with their number, so every system is measured on as many
TEMPLATE_CAPTIONS = 20_000  # captions whose templates are counted; bounds time and memory
KEPT_EXAMPLES = 3
EXAMPLE_LETTERS = 160

_WORD = re.compile(r"[^\W_]+")


def caption_words(caption: str) -> list[str]:
    """The words of a caption without case, accents and punctuation."""
    return _WORD.findall(plain_text(caption))


# --- ticks ----------------------------------------------------------------------------------------------------------

_QUALITY = re.compile(
    r"\b(?:(?:low|poor|bad|high|good|mediocre|average|inferior|amateur|lo-?fi)[\w\s-]{0,12}?(?:quality|fidelity)"
    r"|(?:audio|sound|recording) quality|quality of the (?:recording|audio|sound)"
    r"|(?:recording|audio|sound|song|clip|track) is (?:[\w ,-]{0,30})?(?:noisy|muffled|in mono)"
    r"|noisy recording|(?:poorly|badly) recorded|amateur recording|home recording)\b",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(?:(?:could|would|might|may|should) (?:also |easily |definitely )?be (?:\w+ )?"
    r"(?:used|played|playing|heard|suitable|perfect|ideal|great|good|nice|fitting|part of|featured|utili[sz]ed)"
    r"|can (?:also |easily )?be (?:used|utili[sz]ed|played (?:in|at|during|on|for))"
    r"|(?:suitable|perfect|ideal|appropriate|well suited|best suited) (?:for|as|in|at|to)"
    r"|would (?:fit|suit|work)|fits? (?:well )?(?:for|as|in|into)"
    r"|(?:something|music|song|piece|track|one) (?:that )?(?:you|one) (?:would|could|might|may)"
    r" (?:hear|listen|dance|find)|you (?:would|might) (?:hear|listen|dance|find))\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"\b(?:song|track|piece|tune|album|single|film)s? (?:is )?(?:titled|entitled|called|named)\b"
    r"|\b(?:by|artists?|singers?|rappers?|bands?|composers?|style of|reminiscent of|similar to|cover of)"
    r"\s+((?:[A-Z][a-zà-ÿ'’]+\s+){1,2}[A-Z][a-zà-ÿ'’]+)",
)
_PLACES = re.compile(  # capitals that name no person: "South Indian", "Latin America", "New Year"
    r"(?:North|South|East|West|Middle|New|Latin|Central|Old|Wild|Great|Big|Christmas|Red|Folk|Rock|Music)\b"
    r"|\w+(?:an|ese|ish|ic|ern)\b"
)
_UNPARSED = re.compile(r"^\s*(?:```|[{\[]\s*['\"]|new_attributes?\s*:)|['\"](?:new_attributes?|description)['\"]\s*:")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FOREIGN_WORDS = (  # small words, and "music" and "song"
    _set("der die das und ist mit ein eine einen nicht auf für von dem den klingt")  # German
    | _set("le la les des est une avec dans et qui pour sur musique chanson")  # French
    | _set("el los las una con que es por para y música canción del")  # Spanish
    | _set("il che di e gli della nel canzone sono")  # Italian
    | _set("o os as um uma com não é da do em")  # Portuguese
    | _set("het een van de met voor niet")  # Dutch
)
_ENGLISH_WORDS = _set(
    "the a an is are and of with in to this that it its by for on at as from there features playing song music while "
    "which over has be can could"
)
_FEWEST_FOR_LANGUAGE = 4  # words; "La Bamba" says nothing about the language of a caption
_OTHER_SCRIPT = 0.3  # share of letters that are not Latin


def has_quality_remark(caption: str) -> bool:
    """Whether a caption comments on the quality of the recording ("The low quality recording features ...")."""
    return bool(_QUALITY.search(caption))


def has_use_advice(caption: str) -> bool:
    """Whether a caption says what the music could be used for or where it would be heard."""
    return bool(_ADVICE.search(caption))


def names_somebody(caption: str) -> bool:
    """Whether a caption seems to give a title or to name an artist, which no audio tells.

    A guess by capitals and words such as "by" or "titled": it misses names written otherwise.
    """
    found = _NAMED.search(caption)
    return bool(found) and not (found and found[1] and _PLACES.match(found[1]))


def is_unparsed(caption: str) -> bool:
    """Whether a caption is the text of a dictionary or list that nobody parsed: `{'new_attribute': [...], ...}`."""
    return bool(_UNPARSED.search(caption))


def is_foreign(caption: str) -> bool:
    """Whether a caption is written in another language than English: by its script, or by its small words.

    Without any small word ("piano, sad, slow") it counts as English.
    """
    if not caption.isascii():
        letters = [sign for sign in caption if sign.isalpha()]
        if sum(sign > "\u024f" for sign in letters) > _OTHER_SCRIPT * len(letters):
            return True
    words = re.findall(r"[^\W\d_]+", caption.lower())
    if len(words) < _FEWEST_FOR_LANGUAGE:
        return False
    foreign, english = ({word for word in words if word in known} for known in (_FOREIGN_WORDS, _ENGLISH_WORDS))
    return len(foreign - english) >= 2 and len(foreign - english) > len(english)


def template_of(caption: str) -> str:
    """A caption with its facts taken out: "a * song with * and *"; captions from one template have the same."""
    claimed = {word for claim in read_claims(caption) for word in claim.words}
    kept = ("*" if word in claimed or word.isdigit() else word for word in caption_words(caption))
    return re.sub(r"\*(?: (?:and |or |a |an |the )*\*)+", "*", " ".join(kept))


# --- the survey -----------------------------------------------------------------------------------------------------

SIGNS = {
    "empty": lambda caption: not caption.strip(),
    "unparsed": is_unparsed,
    "foreign": is_foreign,
    "named": names_somebody,
    "quality": has_quality_remark,
    "advice": has_use_advice,
}


@dataclass
class CaptionSurvey:
    """Counts over `n` captions; shares are in [0, 1]."""

    n: int = 0
    signs: Counter[str] = field(default_factory=Counter)  # captions with each of `SIGNS`
    repeated: int = 0  # captions that say the same words as an earlier one
    openers: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    templated: int = 0  # captions whose template was counted
    examples: dict[str, list[str]] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _pairs: set[tuple[str, str]] = field(default_factory=set)
    _pairs_read: int = 0

    def share(self, sign: str) -> float:
        """The share of captions with a sign of `SIGNS`."""
        return self.signs[sign] / self.n if self.n else 0.0

    @property
    def repeated_share(self) -> float:
        return self.repeated / self.n if self.n else 0.0

    @property
    def variety(self) -> float:
        """Different pairs of neighbouring words as a share of the first `VARIETY_BIGRAMS` pairs."""
        return len(self._pairs) / self._pairs_read if self._pairs_read else 0.0

    @property
    def pairs_read(self) -> int:
        return self._pairs_read

    def top_opener(self) -> tuple[str, float]:
        """The most frequent first `OPENER_WORDS` words and their share of the captions."""
        words, count = max(self.openers.items(), key=lambda item: item[1], default=("", 0))
        return words, count / self.n if self.n else 0.0

    def top_template(self) -> tuple[str, float]:
        """The most frequent template and its share of those counted."""
        text, count = max(self.templates.items(), key=lambda item: item[1], default=("", 0))
        return text, count / self.templated if self.templated else 0.0

    def example(self, name: str, caption: str) -> None:
        """Keep `caption` as an example of `name`, if there is room."""
        kept = self.examples.setdefault(name, [])
        if len(kept) < KEPT_EXAMPLES:
            kept.append(shortened(caption))

    def _add(self, caption: str, most_pairs: int) -> None:
        self.n += 1
        for sign, shown_by in SIGNS.items():
            if shown_by(caption):
                self.signs[sign] += 1
                self.example(sign, caption)
        words = caption_words(caption)
        self.openers[" ".join(words[:OPENER_WORDS])] += 1
        digest = _digest(words)
        if digest in self._seen:
            self.repeated += 1
            self.example("repeated", caption)
        self._seen.add(digest)
        if self.templated < TEMPLATE_CAPTIONS:
            self.templates[template_of(caption)] += 1
            self.templated += 1
        for pair in pairwise(words):
            if self._pairs_read >= most_pairs:
                break
            self._pairs.add(pair)
            self._pairs_read += 1


def survey_captions(captions: Iterable[str], *, most_pairs: int = VARIETY_BIGRAMS) -> CaptionSurvey:
    """Count the signs of `captions` in one pass. `most_pairs` bounds the word pairs that `variety` is taken over."""
    survey = CaptionSurvey()
    for caption in captions:
        survey._add(caption, most_pairs)
    return survey


def shortened(caption: str) -> str:
    """One line of at most `EXAMPLE_LETTERS` characters."""
    line = " ".join(caption.split())
    return line if len(line) <= EXAMPLE_LETTERS else line[: EXAMPLE_LETTERS - 1] + "…"


def _digest(words: Sequence[str]) -> int:
    data = " ".join(words).encode()
    return zlib.crc32(data) << 32 | zlib.crc32(data, 0x9E3779B9)  # two of a million agree by chance once in 10^7 runs


# --- copies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copies:
    """Shares of captions that say a training caption's words exactly, or share a run of `RUN_WORDS` words with one."""

    n: int
    training: int
    exact: float
    near: float  # exact ones included
    examples: tuple[str, ...]


def training_copies(captions: Sequence[str], training_captions: Iterable[str]) -> Copies:
    """Find copies of training captions, which are read once and not kept: what is held is the runs of `captions`."""
    owners: dict[int, list[int]] = {}  # run of words -> captions that have it
    whole: dict[int, list[int]] = {}
    for number, caption in enumerate(captions):
        words = caption_words(caption)
        if words:
            whole.setdefault(_digest(words), []).append(number)
        for run in set(_runs(words)):
            owners.setdefault(run, []).append(number)
    exact: set[int] = set()
    near: set[int] = set()
    training = 0
    for caption in training_captions:
        training += 1
        words = caption_words(caption)
        exact.update(whole.get(_digest(words), ()))
        for run in _runs(words):
            near.update(owners.get(run, ()))
    near |= exact
    n = len(captions) or 1
    examples = tuple(shortened(captions[number]) for number in sorted(exact or near)[:KEPT_EXAMPLES])
    return Copies(len(captions), training, len(exact) / n, len(near) / n, examples)


def _runs(words: Sequence[str]) -> Iterator[int]:
    """A hash of each run of `RUN_WORDS` words, rolled along the caption."""
    hashes = [_word_hash(word) for word in words]
    if len(hashes) < RUN_WORDS:
        return
    value = 0
    for position, hashed in enumerate(hashes):
        value = (value * _BASE + hashed) % _MODULUS
        if position >= RUN_WORDS:
            value = (value - hashes[position - RUN_WORDS] * _LEAVING) % _MODULUS
        if position >= RUN_WORDS - 1:
            yield value


_MODULUS = (1 << 61) - 1  # a prime: two different runs agree with a chance of 1 in 2 * 10^18
_BASE = 1_000_003
_LEAVING = pow(_BASE, RUN_WORDS, _MODULUS)


def _word_hash(word: str) -> int:
    data = word.encode()
    return (zlib.crc32(data) << 29 ^ zlib.crc32(data, 0x9E3779B9)) % _MODULUS  # the same in every process
