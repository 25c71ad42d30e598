"""What embedding models say of each caption, as columns: BERTScore, sentence similarity, FENSE, CLAP, retrieval.

Models are loaded before the first caption is scored, once for a system, its blind rows and its rivals; recordings are
heard once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caption_metrics.measures import COUNT, Measure, Numbers, ratio
from caption_metrics.pairs import Pair
from lpmc_errors import AudioError, UsageError

if TYPE_CHECKING:
    from caption_metrics.clap import AudioEmbeddings, Clap
    from caption_metrics.embedding import BertscoreModel
    from caption_metrics.sentence import ErrorDetector, SentenceModel

AUDIO_COLUMNS = ("audio", "audio_path", "path", "file_name", "filename")  # looked for when no column is named
RETRIEVED = (1, 5, 10)  # ranks up to which a clip counts as found, as is usual
HEARD = "clap_heard"  # 1 for a caption whose recording could be read
HEARD_COLUMNS = ("clap", HEARD, *(f"retrieval_r{rank}" for rank in RETRIEVED))


def load_models(
    bertscore: str | None = None,
    similarity: str | None = None,
    fluency: str | None = None,
    clap: str | None = None,
    audio_column: str | None = None,
    audio_root: str | Path | None = None,
) -> ModelColumns | None:
    """Load the models that are named, folders or names on the Hub; None where none is.

    Raises `UsageError` for settings that need another one, `ModelError`, `MissingExtraError`.
    """
    if fluency and not similarity:
        raise UsageError("--fluency-model", "penalises a similarity", "name a --similarity-model as well")
    if (audio_column or audio_root) and not clap:
        raise UsageError("--audio-column, --audio-root", "are for a CLAP model", "name one with --clap-model")
    if not (bertscore or similarity or clap):
        return None
    bert = sentence = detector = listener = None
    if bertscore:
        from caption_metrics.embedding import load_bertscore_model

        bert = load_bertscore_model(bertscore)
    if similarity:
        from caption_metrics.sentence import load_error_detector, load_sentence_model

        sentence = load_sentence_model(similarity)
        detector = load_error_detector(fluency) if fluency else None
    if clap:
        from caption_metrics.clap import load_clap

        listener = load_clap(clap)
    return ModelColumns(bert, sentence, detector, listener, audio_column, audio_root)


class ModelColumns:
    """The columns and measures of the models that were loaded; serves any number of systems on the same clips."""

    def __init__(
        self,
        bertscore: BertscoreModel | None = None,
        similarity: SentenceModel | None = None,
        detector: ErrorDetector | None = None,
        clap: Clap | None = None,
        audio_column: str | None = None,
        audio_root: str | Path | None = None,
    ) -> None:
        self._bertscore, self._similarity, self._detector, self._clap = bertscore, similarity, detector, clap
        self._column, self._root = audio_column, Path(audio_root or "")
        self._embedded: AudioEmbeddings | None = None
        self._recordings: list[str] = []
        self.notes: dict[str, str] = {}
        named = {"bertscore": bertscore, "similarity": similarity, "fluency_errors": detector, "clap": clap}
        self._readers: dict[str, Any] = {name: model for name, model in named.items() if model}
        self.measures: tuple[Measure, ...] = tuple(self._measures())
        self.columns: tuple[str, ...] = tuple(
            name for measure in self.measures for name in measure.columns if name not in (COUNT, *HEARD_COLUMNS)
        ) + tuple(f"{name}_cut" for name in self._readers)

    @property
    def hears(self) -> bool:
        """Whether the recordings are needed: then `heard` gives more columns, when all captions are known."""
        return self._clap is not None

    def _measures(self) -> list[Measure]:
        measures = []
        if self._bertscore:
            measures.append(Measure("bertscore", ("bertscore", COUNT), ratio, self._bertscore.signature))
        if self._similarity:
            measures.append(Measure("similarity", ("similarity", COUNT), ratio, self._similarity.signature))
        if self._similarity and self._detector:
            from caption_metrics.sentence import ERROR_THRESHOLD, fense_signature

            judged = f"{self._detector.signature}|threshold:{ERROR_THRESHOLD}"
            measures.append(
                Measure("fense", ("fense", COUNT), ratio, fense_signature(self._similarity, self._detector))
            )
            measures.append(Measure("fluency_errors", ("fluency_errors", COUNT), ratio, judged, better="lower"))
        if self._clap:
            measures.append(Measure("clap", ("clap", HEARD), ratio, self._clap.signature))
            for rank in RETRIEVED:
                name, ranked = f"retrieval_r{rank}", f"{self._clap.signature}|caption-to-audio|ties:worst"
                measures.append(Measure(name, (name, HEARD), ratio, ranked))
        return measures

    def add(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Numbers]:
        """The columns of a block of captions that need no recording."""
        columns: dict[str, Numbers] = {}
        if self._bertscore:
            from caption_metrics.embedding import bertscore_values

            columns["bertscore"] = bertscore_values(predictions, references, self._bertscore)[2]
        if self._similarity:
            from caption_metrics.sentence import ERROR_THRESHOLD, error_probabilities, penalised, similarity_values

            columns["similarity"] = similarity_values(predictions, references, self._similarity)
            if self._detector:
                errors = error_probabilities(predictions, self._detector)
                columns["fense"] = penalised(columns["similarity"], errors)
                columns["fluency_errors"] = (errors > ERROR_THRESHOLD).astype(float)
        for name, model in self._readers.items():
            columns[f"{name}_cut"] = np.array([model.truncated([text]) for text in predictions], dtype=float)
        return columns

    def cut_notes(self, sums: Mapping[str, float]) -> dict[str, str]:
        """By score how many captions its model read only the beginning of, where there are any."""
        return {
            f"{name}_cut": f"{int(sums[f'{name}_cut']):,} captions are longer than the {model.limit} tokens that its "
            "model reads; the rest of them was not judged"
            for name, model in self._readers.items()
            if sums[f"{name}_cut"]
        }

    def retrieval_signatures(self) -> dict[str, str]:
        """The signatures of the retrieval scores with the number of recordings that a caption could find."""
        count = len(self._embedded.vectors) if self._embedded else 0
        return {
            measure.name: f"{measure.signature}|among:{count}"
            for measure in self.measures
            if measure.name.startswith("retrieval_")
        }

    def recordings(self, pairs: Sequence[Pair]) -> list[str]:
        """The paths of the clips' recordings. Raises `UsageError` without such a column, `AudioError` for no file."""
        paths = [str(self._root / self._recording(pair)) for pair in pairs]
        if paths and not any(Path(path).is_file() for path in paths):
            raise AudioError(paths[0], "no such file, nor any other of the first recordings", "name their --audio-root")
        return paths

    def _recording(self, pair: Pair) -> str:
        names = (self._column,) if self._column else AUDIO_COLUMNS
        found = next((pair.extra[name] for name in names if name in pair.extra), None)
        if found is None and pair.id is not None and (self._root / pair.id).is_file():
            return pair.id  # the recordings name the clips
        if found is None:
            known = ", ".join(pair.extra) or "none"
            raise UsageError(
                self._column or "--clap-model",
                f"found no column of recordings among {known}",
                "name it: --audio-column",
            )
        return found

    def heard(self, captions: Sequence[str], recordings: Sequence[str]) -> Mapping[str, Numbers]:
        """The columns that need the recordings (paths), of all captions of a system at once: (n,) each."""
        from caption_metrics.clap import clap_values, embed_audio, hits_at, retrieval_ranks

        assert self._clap is not None
        if self._embedded is None or self._recordings != list(recordings):
            self._recordings, self._embedded = list(recordings), embed_audio(recordings, self._clap)
        faults = self._embedded.faults
        if faults:
            path, reason = next(iter(faults.items()))
            self.notes["clap"] = f"{len(faults):,} recordings left out, the first {path}: {reason}"
        values = clap_values(captions, self._embedded, self._clap)
        ranks = retrieval_ranks(captions, self._embedded, self._clap)
        columns = {"clap": np.nan_to_num(values), HEARD: (~np.isnan(values)).astype(float)}
        return columns | {f"retrieval_r{rank}": np.nan_to_num(hits_at(ranks, rank)) for rank in RETRIEVED}
