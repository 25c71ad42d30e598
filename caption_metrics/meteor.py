"""METEOR as published: NLTK's (not the Java METEOR 1.5, whose values are lower by a third), on NLTK 3.8.1's words.

NLTK's scorer gives equal values from 3.6.5 to 3.10. Its alignment is repeated here without its work: a word is
stemmed and looked up in WordNet once, and words are matched by their positions. The score is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from nltk.stem import PorterStemmer

from caption_metrics.language_data import WORDNET_VERSION, load_synonyms
from caption_metrics.meteor_words import TOKENIZER_VERSION, WordTokenizer, word_tokenizer
from caption_metrics.pieces import Remembered

__all__ = ["SIGNATURE", "Meteor", "meteor_scores", "word_tokenizer"]

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5  # METEOR 1.0, and the defaults of Hugging Face's `meteor`
SIGNATURE = (
    f"nltk|tok:nltk-{TOKENIZER_VERSION}|case:lower|wordnet:{WORDNET_VERSION}"
    f"|alpha:{ALPHA}|beta:{BETA:g}|gamma:{GAMMA}|refs:best|agg:mean"
)

Places = list[int]


class Meteor:
    """Scores captions; remembers words, stems and synonyms, within bounds.

    Raises `MissingExtraError` when WordNet or Punkt's data is not installed.
    """

    def __init__(self) -> None:
        self.words = WordTokenizer(str.lower)
        self._stems = Remembered(PorterStemmer().stem)
        self._synonyms = Remembered(load_synonyms())

    def best(self, prediction: str, references: Sequence[str]) -> float:
        """METEOR of a caption with the reference that gives the most, in [0, 1]."""
        said = self.words(prediction)
        return max(self.score(said, self.words(text)) for text in references)

    def score(self, said: Sequence[str], written: Sequence[str]) -> float:
        """METEOR of two lists of lower-case words."""
        places = self.align(said, written)
        matches = len(said) - places.count(-1)
        if not matches:
            return 0.0
        # A chunk ends where the next word is not matched, or not with the word that follows.
        chunks = matches - sum(here >= 0 and after == here + 1 for here, after in pairwise(places))
        precision, recall = matches / len(said), matches / len(written)
        mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall)
        return (1 - GAMMA * (chunks / matches) ** BETA) * mean

    def align(self, said: Sequence[str], written: Sequence[str]) -> Places:
        """For each word of `said` the place of its match in `written`, or -1.

        Three stages, each with the words that the ones before left over, each from the last word to the first, which
        takes the last match that is free: the same word, the same stem, and a synonym of the stem that is a stem.
        """
        places = [-1] * len(said)
        left_said, left_written = _match(places, said, written, list(range(len(said))), list(range(len(written))))
        if left_said and left_written:
            stems = self._stems
            said = [stems[word] for word in said]
            written = [stems[word] for word in written]
            left_said, left_written = _match(places, said, written, left_said, left_written)
        if left_said and left_written:
            self._match_synonyms(places, said, written, left_said, left_written)
        return places

    def _match_synonyms(
        self, places: Places, said: Sequence[str], written: Sequence[str], left_said: Places, left_written: Places
    ) -> None:
        free: dict[str, Places] = {}
        for place in left_written:
            free.setdefault(written[place], []).append(place)
        known = set(free)
        for index in reversed(left_said):
            candidates = self._synonyms[said[index]] & known
            if candidates:
                word = max(candidates, key=lambda word: free[word][-1])
                places[index] = free[word].pop()
                if not free[word]:
                    known.remove(word)


def _match(
    places: Places, said: Sequence[str], written: Sequence[str], left_said: Places, left_written: Places
) -> tuple[Places, Places]:
    """Match equal words among the places left, and return those that are left then, in order."""
    common = {said[index] for index in left_said}.intersection([written[place] for place in left_written])
    if not common:
        return left_said, left_written
    free: dict[str, Places] = {word: [] for word in common}
    for place in left_written:
        if written[place] in common:
            free[written[place]].append(place)
    for index in reversed(left_said):
        found = free.get(said[index])
        if found:
            places[index] = found.pop()
    taken = set(places)
    return [index for index in left_said if places[index] < 0], [place for place in left_written if place not in taken]


def meteor_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], progress: Callable[[], None] | None = None
) -> list[float]:
    """METEOR of each prediction, the best of its references, in [0, 1]; the corpus value is their mean.

    `progress` is called after each pair. Raises `MissingExtraError` when WordNet or Punkt's data is not installed.
    """
    meteor = Meteor()
    scores: list[float] = []
    for prediction, texts in zip(predictions, references, strict=True):
        scores.append(meteor.best(prediction, texts))
        if progress is not None:
            progress()
    return scores
