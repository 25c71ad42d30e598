"""The score card of a captioning system: the paper's metrics, facts, and the same for captions made blind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from caption_metrics import blind as blind_rows
from caption_metrics import diversity
from caption_metrics.facts import FactScores, fact_scores, tag_coverage, unsupported_facts
from caption_metrics.pairs import Pair, read_captions_file, read_pairs
from lpmc_errors import MissingExtraError, TableError

__all__ = ["Pair", "ScoreCard", "evaluate_captions", "read_captions_file", "read_pairs"]

Score = float | int | None
Progress = Callable[[int, int], None]  # steps done, steps in all

FACTS_SIGNATURE = "lexicon:closed|match:hierarchical|agg:micro"
TAGS_SIGNATURE = "covered:substring-or-half-of-5-letter-stems-or-facts|agg:mean-over-captions"
FEWEST_FOR_BLIND = 2  # pairs: with one there is no other caption to give away


@dataclass(frozen=True)
class ScoreCard:
    """Scores of `n` captions, each with the signature of how it was made; fractions in [0, 1], lengths in words.

    A score is None when it could not be computed; `notes` then says why. `blind` holds the same scores of captions
    that were made without the music: `constant`, `shuffled` and, where the pairs have tags, `majority_template`.
    """

    n: int
    scores: Mapping[str, Score]
    signatures: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: FactScores | None = None
    blind: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON: the scores by name, `n`, `signature`, `notes`, `facts_by_category` and `blind`."""
        result: dict[str, Any] = {**self.scores, "n": self.n, "signature": dict(self.signatures)}
        if self.facts is not None:
            result["facts_by_category"] = {
                name: score.to_dict() for name, score in self.facts.by_category.items() if score.claimed or score.stated
            }
        if self.notes:
            result["notes"] = dict(self.notes)
        result["blind"] = {name: dict(scores) for name, scores in self.blind.items()}
        return result


def evaluate_captions(
    pairs: Sequence[Pair],
    *,
    training_captions: Sequence[str] | None = None,
    bertscore_model: str | None = None,
    blind: bool = True,
    progress: Progress | None = None,
) -> ScoreCard:
    """Score captions against their references.

    `training_captions` adds the two novelty scores and supplies the blind constant. `bertscore_model` is a local path
    (or the name of a model in the local cache) and adds BERTScore. METEOR is None, with a note, where WordNet is not
    installed. Takes about 5 s for 2,839 pairs, three times that with the blind rows.
    Raises `TableError` without pairs, `MissingExtraError` without the packages of the extra `metrics` (or `bertscore`).
    """
    if not pairs:
        raise TableError("captions", "there are no pairs to score", "give at least one prediction with a reference")
    references = [pair.references for pair in pairs]
    tags = [pair.tags for pair in pairs] if all(pair.tags for pair in pairs) else None
    rivals: dict[str, list[str]] = {}
    if blind and len(pairs) >= FEWEST_FOR_BLIND:
        rivals["constant"] = blind_rows.constant(references, training_captions)
        rivals["shuffled"] = blind_rows.shuffled(references)
        if tags is not None:
            rivals["majority_template"] = blind_rows.majority_template(tags)
    counter = _Counter(progress, total=(1 + len(rivals)) * _Scorer.STEPS + bool(bertscore_model))

    predictions = [pair.prediction for pair in pairs]
    scorer = _Scorer(references, tags, training_captions, counter)
    scores, facts = scorer.score(predictions)
    signatures, notes = dict(scorer.signatures), dict(scorer.notes)
    if bertscore_model:
        from caption_metrics.embedding import bertscore, bertscore_signature

        scores["bertscore"] = bertscore(predictions, references, bertscore_model)
        counter.step()
        signatures["bertscore"] = bertscore_signature(bertscore_model)
    if blind and not rivals:
        notes["blind"] = f"blind rows need at least {FEWEST_FOR_BLIND} pairs"
    rows = {name: scorer.score(captions)[0] for name, captions in rivals.items()}
    return ScoreCard(len(pairs), scores, signatures, notes, facts, rows)


class _Counter:
    """Counts steps for a progress bar."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def step(self) -> None:
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._total)


class _Scorer:
    """Scores any captions against the same references; collects signatures and reasons for what is missing."""

    STEPS = 4  # BLEU, METEOR, ROUGE-L, words and facts

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        tags: Sequence[Sequence[str]] | None,
        training_captions: Sequence[str] | None,
        counter: _Counter,
    ) -> None:
        self._references, self._tags, self._training, self._counter = references, tags, training_captions, counter
        self.signatures: dict[str, str] = {}
        self.notes: dict[str, str] = {}

    def score(self, captions: Sequence[str]) -> tuple[dict[str, Score], FactScores]:
        try:
            from caption_metrics import ngram
        except ImportError as error:
            raise MissingExtraError(error.name or "sacrebleu", extra="metrics") from error

        scores: dict[str, Score] = {}
        for order, value in zip(ngram.BLEU_ORDERS, ngram.bleu_scores(captions, self._references), strict=True):
            scores[f"bleu{order}"] = value
            self.signatures[f"bleu{order}"] = f"order:{order}|{ngram.bleu_signature(self._references)}"
        self._counter.step()
        scores["meteor"] = self._meteor(captions)
        self._counter.step()
        scores["rougeL"] = ngram.rouge_l(captions, self._references)
        self.signatures["rougeL"] = ngram.ROUGE_L_SIGNATURE
        self._counter.step()
        scores |= self._words(captions)
        facts = fact_scores(captions, self._references)
        scores |= self._facts(captions, facts)
        self._counter.step()
        return scores, facts

    def _meteor(self, captions: Sequence[str]) -> float | None:
        import numpy as np

        try:
            from caption_metrics import meteor

            values = meteor.meteor_scores(captions, self._references)
        except (ImportError, MissingExtraError) as error:
            self.notes["meteor"] = f"not computed: {error}"
            return None
        self.signatures["meteor"] = meteor.SIGNATURE
        return float(np.mean(values))  # numpy's pairwise sum, as in the published values

    def _words(self, captions: Sequence[str]) -> dict[str, Score]:
        average, deviation = diversity.lengths(captions)
        self.signatures["length_avg"] = self.signatures["length_std"] = diversity.LENGTH_SIGNATURE
        self.signatures["vocab_size"] = diversity.VOCABULARY_SIGNATURE
        self.signatures["vocab_size_released"] = diversity.VOCABULARY_RELEASED_SIGNATURE
        scores: dict[str, Score] = {
            "length_avg": average,
            "length_std": deviation,
            "vocab_size": len(diversity.vocabulary(captions)),
            "vocab_size_released": len(diversity.vocabulary(captions[: diversity.RELEASED_ROWS])),
        }
        if self._training is not None:
            scores["vocab_novelty"] = diversity.vocabulary_novelty(captions, self._training)
            scores["caption_novelty"] = diversity.caption_novelty(captions, self._training)
            novelty = f"training:{len(self._training)}|{diversity.VOCABULARY_SIGNATURE}"
            self.signatures["vocab_novelty"] = self.signatures["caption_novelty"] = novelty
        return scores

    def _facts(self, captions: Sequence[str], facts: FactScores) -> dict[str, Score]:
        scores: dict[str, Score] = {
            "facts_precision": facts.micro.precision,
            "facts_recall": facts.micro.recall,
            "facts_f1": facts.micro.f1,
            "facts_hallucination_rate": facts.hallucination_rate,
        }
        self.signatures |= dict.fromkeys(scores, FACTS_SIGNATURE)
        if self._tags is not None:
            coverage = [tag_coverage(caption, tags) for caption, tags in zip(captions, self._tags, strict=True)]
            unsupported = [
                any(fact.category == "instrument" for fact in unsupported_facts(caption, tags))
                for caption, tags in zip(captions, self._tags, strict=True)
            ]
            known = [value for value in coverage if value is not None]
            scores["tag_coverage"] = sum(known) / len(known) if known else None
            scores["unsupported_instrument_rate"] = sum(unsupported) / len(unsupported)
            self.signatures["tag_coverage"] = self.signatures["unsupported_instrument_rate"] = TAGS_SIGNATURE
        return scores
