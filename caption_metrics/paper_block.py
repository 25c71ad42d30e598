"""The paper's scores in one pass over any number of captions: BLEU, METEOR, ROUGE-L, lengths, vocabulary, novelty.

Each caption is split once and scored at once; what is kept of it is one row of numbers (see `measures`), four bytes
for its length and sixteen to know it again. The caches are bounded, so memory does not grow with the corpus beyond
that and its vocabulary.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from caption_metrics import diversity, ngram
from caption_metrics.measures import COUNT, Columns, Measure, ratio
from caption_metrics.pieces import Pieces
from lpmc_errors import MissingExtraError, TableError

Score = float | int | None

_MATCHES = tuple(f"bleu_matches{order}" for order in ngram.BLEU_ORDERS)
_TOTALS = tuple(f"bleu_ngrams{order}" for order in ngram.BLEU_ORDERS)
_REFERENCE_LENGTH = "bleu_reference_length"
_BLEU = (*_MATCHES, *_TOTALS, _REFERENCE_LENGTH)
_LENGTH, _LENGTH_SQUARED = "words", "words_squared"
METEOR_ABSENT = "not computed: {reason}"


def _deviation(length: NDArray[np.float64], squared: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray:
    # Sums of integers are exact, so nothing is lost in the difference.
    return np.sqrt(np.maximum(ratio(count * squared - length * length, count * count), 0))


class PaperBlock:
    """Scores captions as they come, in blocks.

    `add` gives the rows of a block, for a `CaptionTable`; `measures` turn sums of such rows into scores; `totals` are
    the scores that are no function of sums, and the standard deviation of the lengths to the last published bit,
    where the measure of that name (made of sums, so that rows can be drawn again) may differ in the last one.
    With `training_captions` the novelty of words and captions is among the totals.
    METEOR is missing, with a note, where WordNet or Punkt's data is not installed. Nothing is random.
    """

    def __init__(self, *, training_captions: Iterable[str] | None = None) -> None:
        self.notes: dict[str, str] = {}
        self._pieces = Pieces()
        self._reference_counts: set[int] = set()
        self._lengths = array("I")  # words of each caption
        self._vocabulary: set[str] = set()
        self._released_vocabulary: set[str] = set()
        self._zipped_vocabulary: set[str] = set()  # of the rows that the released code zips with training captions
        self._captions = diversity.CaptionSet()
        self._training = None if training_captions is None else diversity.TrainingCaptions(training_captions)
        try:
            from caption_metrics import meteor

            self._meteor: meteor.Meteor | None = meteor.Meteor()
            self._meteor_signature = meteor.SIGNATURE
        except (ImportError, MissingExtraError) as error:
            self._meteor = None
            self.notes["meteor"] = METEOR_ABSENT.format(reason=error)
        self.columns: tuple[str, ...] = (
            *_BLEU,
            *(("meteor",) if self._meteor else ()),
            "rougeL",
            _LENGTH,
            _LENGTH_SQUARED,
        )

    def add(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Columns:
        """Score captions, each against its references: arrays (rows,) of float64 by the names in `columns`.

        Captions may differ in the number of their references; METEOR and ROUGE-L take the best one, BLEU's n-grams
        any of them and its length the closest one. Raises `TableError` for a caption without a reference and
        `ValueError` when the two differ in length.
        """
        rows = np.empty((len(self.columns), len(predictions)))
        for row, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
            if not texts:
                raise TableError(
                    f"caption {len(self._lengths) + 1}", "has no reference", "give at least one for every caption"
                )
            rows[:, row] = self._row(prediction, texts)
        return dict(zip(self.columns, rows, strict=True))

    def _row(self, prediction: str, references: Sequence[str]) -> list[float]:
        split = self._pieces.split
        own, others = split(prediction), [split(text) for text in references]
        values: list[float] = list(ngram.bleu_row(own.bleu, [other.bleu for other in others]))
        if self._meteor is not None:
            values.append(self._meteor.best(prediction, references))
        values.append(ngram.best_rouge_l(own.rouge, [other.rouge for other in others]))
        length = len(own.pieces)
        values += (length, length**2)

        index = len(self._lengths)
        self._reference_counts.add(len(references))
        self._lengths.append(length)
        self._vocabulary.update(own.vocabulary)
        if index < diversity.RELEASED_ROWS:
            self._released_vocabulary.update(own.vocabulary)
        if self._training is not None:
            self._captions.add(prediction)
            if index < self._training.rows:
                self._zipped_vocabulary.update(own.vocabulary)
        return values

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The scores that are functions of sums over the columns, with their signatures for what was added so far."""
        signatures = self.signatures
        bleu = [
            Measure(
                f"bleu{order}",
                (*_MATCHES[:order], *_TOTALS[:order], _TOTALS[0], _REFERENCE_LENGTH),
                ngram.bleu_from_sums,
                signatures[f"bleu{order}"],
            )
            for order in ngram.BLEU_ORDERS
        ]
        meteor = [Measure("meteor", ("meteor", COUNT), ratio, signatures["meteor"])] if self._meteor else []
        return (
            *bleu,
            *meteor,
            Measure("rougeL", ("rougeL", COUNT), ratio, signatures["rougeL"]),
            Measure("length_avg", (_LENGTH, COUNT), ratio, signatures["length_avg"], "neither"),
            Measure("length_std", (_LENGTH, _LENGTH_SQUARED, COUNT), _deviation, signatures["length_std"], "neither"),
        )

    def totals(self) -> dict[str, Score]:
        """The scores that only the whole has. They replace a measure of the same name (`length_std`).

        `vocab_size_released` counts the first 2,656 captions, as the released code does, and
        `vocab_novelty_released` as many captions and training captions as the fewer of the two are.
        """
        lengths = np.array(self._lengths, np.int64)
        deviation = diversity.mean_and_deviation(lengths)[1]
        scores: dict[str, Score] = {
            "length_std": None if math.isnan(deviation) else deviation,
            "vocab_size": len(self._vocabulary),
            "vocab_size_released": len(self._released_vocabulary),
        }
        if self._training is not None:
            scores["vocab_novelty"] = self._training.novel_share(self._vocabulary)
            scores["vocab_novelty_released"] = self._training.novel_share(
                self._zipped_vocabulary, min(len(lengths), self._training.rows)
            )
            scores["caption_novelty"] = self._captions.novelty(self._training.captions)
        return scores

    @property
    def signatures(self) -> dict[str, str]:
        """How each score was made: toolkit or tokenizer with its version, case, smoothing, number of references."""
        nrefs = ngram.nrefs(self._reference_counts)
        bleu = ngram.BLEU_SIGNATURE.format(nrefs=nrefs)
        signatures = {f"bleu{order}": f"order:{order}|{bleu}" for order in ngram.BLEU_ORDERS}
        if self._meteor is not None:
            signatures["meteor"] = f"nrefs:{nrefs}|{self._meteor_signature}"
        signatures["rougeL"] = f"nrefs:{nrefs}|{ngram.ROUGE_L_SIGNATURE}"
        signatures |= dict.fromkeys(("length_avg", "length_std"), diversity.LENGTH_SIGNATURE)
        signatures["vocab_size"] = diversity.VOCABULARY_SIGNATURE
        signatures["vocab_size_released"] = diversity.VOCABULARY_RELEASED_SIGNATURE
        if self._training is not None:
            training = f"training:{self._training.rows}"
            signatures["vocab_novelty"] = f"{training}|{diversity.VOCABULARY_SIGNATURE}"
            signatures["vocab_novelty_released"] = f"{training}|{diversity.VOCABULARY_ZIPPED_SIGNATURE}"
            signatures["caption_novelty"] = f"{training}|{diversity.CAPTION_SIGNATURE}"
        return signatures
