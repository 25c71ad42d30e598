"""The words of a caption as BLEU, ROUGE-L and the vocabulary see them, each piece between white space split once.

Captions share their words: of 270,573 pieces in 5,678 published captions 11,479 differ. What a tokenizer makes of a
piece does not depend on its neighbours, for these tokenizers, so it is looked up, and a look-up costs a tenth of the
regular expressions. `tests/caption_metrics/test_paper_block.py` holds the tokens against the libraries' on whole texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import chain
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

import sacrebleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

KEPT_PIECES = 2**16  # pieces remembered (about 30 MB); when there are more, all are forgotten and learnt again
SACREBLEU_VERSION = sacrebleu.__version__

_WORD = re.compile("[a-z0-9]+")  # rouge_score's tokens: everything else separates, and nothing is stemmed
_thirteen_a = Tokenizer13a()
Value = TypeVar("Value")


class Remembered(dict[str, Value], Generic[Value]):
    """`remembered[text]`: what `make(text)` gives, made once as long as there are at most `KEPT_PIECES` of them.

    A `functools.lru_cache` does the same at three times the cost of a hit.
    """

    def __init__(self, make: Callable[[str], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> Value:
        if len(self) >= KEPT_PIECES:
            self.clear()
        value = self[text] = self._make(text)
        return value


class Piece(NamedTuple):
    """What the three tokenizers make of the text between two white spaces."""

    bleu: tuple[str, ...]
    rouge: tuple[str, ...]
    vocabulary: tuple[str, ...]  # one word, or none


class Caption:
    """One caption in pieces, and the tokens of each tokenizer."""

    __slots__ = ("_bleu", "pieces")

    def __init__(self, pieces: list[Piece], bleu: list[str] | None) -> None:
        self.pieces = pieces  # as many as there are words between white space
        self._bleu = bleu  # where BLEU's tokens are not those of the pieces

    @property
    def bleu(self) -> list[str]:
        """sacrebleu's 13a tokens."""
        return list(chain.from_iterable(map(_BLEU, self.pieces))) if self._bleu is None else self._bleu

    @property
    def rouge(self) -> list[str]:
        """rouge_score's tokens, without stemming."""
        return list(chain.from_iterable(map(_ROUGE, self.pieces)))

    @property
    def vocabulary(self) -> Iterable[str]:
        """The words of the released code's vocabulary."""
        return chain.from_iterable(map(_VOCABULARY, self.pieces))


_BLEU, _ROUGE, _VOCABULARY = map(itemgetter, range(3))


def vocabulary_word(piece: str) -> str:
    """The word as the released code counts it: lower case, without commas and full stops; may be empty."""
    return piece.lower().replace(",", "").replace(".", "")


def _piece(text: str) -> Piece:
    word = text[:-1] if text[-1] in ",." else text
    if word.isascii() and word.isalpha():  # four pieces of five; nothing in the tokenizers' rules concerns the others
        lower = (word.lower(),)
        return Piece((word,) if word is text else (word, text[-1]), lower, lower)
    known = vocabulary_word(text)
    return Piece(_bleu_tokens(text), tuple(_WORD.findall(text.lower())), (known,) if known else ())


def _bleu_tokens(text: str) -> tuple[str, ...]:
    # Past sacrebleu's own cache of 65,536 lines, which would hold every piece a second time.
    return tuple(Tokenizer13a.__call__.__wrapped__(_thirteen_a, text).split())


class Pieces:
    """Splits captions, and remembers their pieces."""

    def __init__(self) -> None:
        self._known = Remembered(_piece)

    def split(self, text: str) -> Caption:
        """The tokens of `text` for each of the three scores."""
        known = self._known
        pieces = [known[piece] for piece in text.split()]
        # 13a deletes these before it splits, which can join neighbours.
        joined = "-\n" in text or "<skipped>" in text
        return Caption(pieces, list(_bleu_tokens(text.rstrip())) if joined else None)
