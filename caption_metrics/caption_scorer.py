"""The scores of systems on one set of clips, and of the blind rows that these clips give rise to.

Captions pass through once, block by block, and their references wait in a temporary file until it is known what a
blind system would have said; so the length of a stream is no matter of memory.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from caption_metrics.blind import BlindMaterial
from caption_metrics.fact_columns import (
    FACT_COLUMNS,
    FACT_MEASURES,
    TAG_COLUMNS,
    TAG_MEASURES,
    TAGGED,
    fact_columns,
    fact_scores_of,
    tag_columns,
)
from caption_metrics.facts import FactScores
from caption_metrics.measures import COUNT, CaptionTable, Measure, Numbers
from caption_metrics.pairs import Pair
from lpmc_errors import MissingExtraError, TableError

if TYPE_CHECKING:
    from caption_metrics.model_columns import ModelColumns

Score = float | int | None
Progress = Callable[[int, int], None]  # captions scored, captions in all with the blind ones (0: not known yet)

ROWS = 1_024  # captions scored together
SPOOLED = 2**26  # bytes of references that wait in memory (64 MiB, 100,000 clips)
FEWEST_FOR_BLIND = 2  # pairs: with one there is no other caption to give away

KEPT_WITHOUT_VALUE = ("meteor",)  # scores that a card names, as None, where a note says why they are missing


@dataclass(frozen=True)
class SystemScores:
    """What was computed of the captions of one system; `scores` in the order of a report, None where undefined."""

    scores: Mapping[str, Score]
    signatures: Mapping[str, str]
    notes: Mapping[str, str]
    facts: FactScores
    table: CaptionTable
    measures: tuple[Measure, ...]  # those of `scores` that are functions of sums over captions
    passed_on: SystemScores | None = None  # the same captions, each given to another clip


class Scoring:
    """Scores systems on one set of clips: first `system` with the pairs of the first one, then the others, `rivals`.

    Random: the blind rows `shuffled` and `own_shuffled`, by a fixed seed.
    """

    def __init__(
        self,
        training_captions: Sequence[str] | None = None,
        models: ModelColumns | None = None,
        progress: Progress | None = None,
        keep: int = 0,
    ) -> None:
        """`keep` is how many pairs of a system stay in `kept`, from the first on."""
        self._training, self._models, self._progress, self._keep = training_captions, models, progress, keep
        self.kept: list[Pair] = []
        self._material: BlindMaterial | None = None
        self._waiting: Any = None
        self._done = self._total = 0
        self.notes: dict[str, str] = {}

    def system(self, pairs: Iterable[Pair], *, blind: bool = False, pass_on: bool = False) -> SystemScores:
        """The scores of one system. Raises `TableError` without pairs.

        `blind` notes its clips for `rivals`; `pass_on` scores its captions a second time, on other clips.
        """
        scorer = CaptionScorer(self._training, self._models)
        own, waiting = BlindMaterial(), _Waiting()
        if blind:
            self._material, self._waiting = BlindMaterial(), waiting
        known = len(pairs) if isinstance(pairs, Sized) else 0
        self.kept = []
        stream = iter(pairs)
        while block := list(itertools.islice(stream, ROWS)):
            clips = _Clips([list(p.references) for p in block], [list(p.tags) for p in block], self._recordings(block))
            scorer.add([pair.prediction for pair in block], clips.references, clips.tags, clips.audio)
            if self._material is not None and blind:
                self._material.add(clips.references, clips.tags)
            if pass_on:
                own.add([[pair.prediction] for pair in block])
            if blind or pass_on:
                waiting.put(clips)
            if not self._done:
                rows = pass_on + (2 + bool(self._training) + any(clips.tags) if blind else 0)
                self._total = known * (1 + rows)
            self.kept += block[: self._keep - len(self.kept)]
            self._count(len(block))
        if not len(scorer.table):
            raise TableError("captions", "there are no pairs to score", "give at least one prediction with a reference")
        passed_on = self._passed_on(own, waiting) if pass_on and own.clips >= FEWEST_FOR_BLIND else None
        if not blind:
            waiting.close()
        return replace(scorer.result(), passed_on=passed_on)

    def _passed_on(self, own: BlindMaterial, waiting: _Waiting) -> SystemScores:
        scorer, row, first = CaptionScorer(models=self._models), own.passed_on(), 0
        for clips in waiting.take():
            scorer.add(row(first, clips.references), clips.references, clips.tags, clips.audio)
            first += len(clips.references)
            self._count(len(clips.references))
        return scorer.result()

    def rivals(self) -> dict[str, SystemScores]:
        """The scores of the blind rows by name, on the clips of the system that was scored with `blind`."""
        if self._material is None:
            return {}
        if self._material.clips < FEWEST_FOR_BLIND:
            self.notes["blind"] = f"blind rows need at least {FEWEST_FOR_BLIND} pairs"
            return {}
        rows = self._material.rows(self._training)
        self._total = self._done + len(rows) * self._material.clips
        scorers = {name: CaptionScorer(models=self._models) for name in rows}  # novelty is no contest
        first = 0
        for clips in self._waiting.take():
            for name, row in rows.items():
                scorers[name].add(row(first, clips.references), clips.references, clips.tags, clips.audio)
                self._count(len(clips.references))
            first += len(clips.references)
        self._waiting.close()
        if self._material.own_dealt:
            self.notes["shuffled"] = (
                f"{self._material.own_dealt:,} clips were dealt a caption equal to their own: many share one"
            )
        return {name: scorer.result() for name, scorer in scorers.items()}

    def _recordings(self, pairs: Sequence[Pair]) -> list[str]:
        return self._models.recordings(pairs) if self._models and self._models.hears else []

    def _count(self, captions: int) -> None:
        self._done += captions
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done) if self._total else 0)


@dataclass(frozen=True)
class _Clips:
    references: list[list[str]]
    tags: list[list[str]]
    audio: list[str]


class _Waiting:
    """Clips that wait for the blind rows: in memory up to `SPOOLED` bytes, beyond that in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(SPOOLED, mode="w+", encoding="utf-8", prefix="clips-")  # noqa: SIM115

    def put(self, clips: _Clips) -> None:
        self._file.write(json.dumps([clips.references, clips.tags, clips.audio]) + "\n")

    def take(self) -> Iterator[_Clips]:
        self._file.seek(0)
        for line in self._file:
            yield _Clips(*json.loads(line))

    def close(self) -> None:
        self._file.close()


class CaptionScorer:
    """Takes the captions of one system with `add` and gives their scores with `result`.

    `models` adds the scores of embedding models and may serve several scorers. Raises `MissingExtraError` without the
    packages of the extra `metrics`.
    """

    def __init__(self, training_captions: Iterable[str] | None = None, models: ModelColumns | None = None) -> None:
        try:
            from caption_metrics.paper_block import PaperBlock
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == __package__:
                raise  # a broken installation, which no extra repairs
            raise MissingExtraError(error.name or "a package", extra="metrics") from error

        self._paper = PaperBlock(training_captions=training_captions)
        self._models = models
        self._captions: list[str] = []  # kept only where each is to find its recording among all
        self._recordings: list[str] = []
        self.table = CaptionTable(
            (*self._paper.columns, *(models.columns if models else ()), *FACT_COLUMNS, *TAG_COLUMNS)
        )

    def add(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        tags: Sequence[Sequence[str]] | None = None,
        audio: Sequence[str] | None = None,
    ) -> None:
        """Score more captions, in order; `tags` and `audio` (paths) of the same clips where they are known."""
        columns: dict[str, Any] = dict(self._paper.add(predictions, references))
        if self._models:
            columns |= self._models.add(predictions, references)
            if self._models.hears:
                self._captions += predictions
                self._recordings += audio or ()
        columns |= fact_columns(predictions, references)
        columns |= tag_columns(predictions, tags if tags is not None else [()] * len(predictions))
        self.table.append(columns)

    def result(self) -> SystemScores:
        """The scores of all captions added: those that can be better or worse first, then those that describe."""
        table, measures = self.table, [*self._paper.measures]
        notes, signatures = dict(self._paper.notes), dict(self._paper.signatures)
        if self._models:
            measures += self._models.measures
            if self._models.hears:
                table = with_columns(table, self._models.heard(self._captions, self._recordings))
                signatures |= self._models.retrieval_signatures()
            notes |= self._models.notes
        measures += FACT_MEASURES
        sums = table.sums()
        if self._models:
            notes |= self._models.cut_notes(sums)
        if sums[TAGGED]:
            measures += TAG_MEASURES
            if sums[TAGGED] < len(table):
                notes["tags"] = f"{int(sums[TAGGED]):,} of {len(table):,} clips have tags"
        measures.sort(key=lambda measure: measure.better == "neither")  # stable
        scores: dict[str, Score] = {name: None for name in notes if name in KEPT_WITHOUT_VALUE}
        scores = {measure.name: _known(float(measure.value(sums))) for measure in measures} | scores
        scores |= self._paper.totals()  # exact to the last bit where sums are not
        signatures = {measure.name: measure.signature for measure in measures} | signatures
        return SystemScores(scores, signatures, notes, fact_scores_of(sums), table, tuple(measures))


def with_columns(table: CaptionTable, columns: Mapping[str, Numbers]) -> CaptionTable:
    """`table` with more columns, an array of all captions (n,) each."""
    wider, start = CaptionTable((*table.columns, *columns)), 0
    for block in table.blocks():
        rows = slice(start, start + len(block[COUNT]))
        wider.append({**block, **{name: values[rows] for name, values in columns.items()}})
        start = rows.stop
    return wider


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
