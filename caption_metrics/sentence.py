"""Similarity of whole captions by a sentence encoder, and the same with FENSE's penalty for captions with errors.

FENSE (arXiv:2110.04684, github.com/blmoistawinde/fense): the mean cosine of a caption with its references, multiplied
by 0.1 where a detector gives an error a probability above 0.9. Its detector reads 64 tokens, and was trained on audio
captions of one sentence without punctuation; what it says of a music caption of several sentences has not been
examined. Similarity alone is blind to fluency, and rewards naming many things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caption_metrics.model_source import (
    HASH_SHOWN,
    ModelSource,
    Progress,
    check_tokenizer,
    count_truncated,
    file_digest,
    find_model,
    load_tokenizer,
    load_weights,
    loading,
    model_library,
    pick_device,
    token_limit,
)
from lpmc_errors import MissingExtraError, ModelError

Numbers = NDArray[np.float64]

SIMILARITY_MODEL = "sentence-transformers/paraphrase-TinyBERT-L6-v2"  # FENSE's; it reads 128 tokens
ERROR_THRESHOLD = 0.9  # probability of an error above which a caption is penalised (FENSE)
ERROR_PENALTY = 0.9  # share of the similarity that the penalty takes away (FENSE)
FENSE_TOKENS = 64  # tokens that FENSE's own detectors read
BATCH_TEXTS = 32  # texts in one pass through a model
CHUNK_CAPTIONS = 4096  # captions whose embeddings are held at once; with one reference and 768 numbers 25 MB
ERROR_LABELS = ("error", "has_error", "incorrect", "not_acceptable", "unacceptable", "ungrammatical", "disfluent")


@dataclass(frozen=True)
class SentenceModel:
    """A sentence encoder made ready by `load_sentence_model`; `signature` names it, its revision and settings."""

    source: ModelSource
    limit: int | None  # tokens; longer texts are cut; None where there is no limit
    pooling: str
    encoder: Any

    @property
    def signature(self) -> str:
        """`model`, `revision` and the settings of the values that this model gives."""
        return (
            f"model:{self.source.name}|revision:{self.source.revision}|pooling:{self.pooling}"
            f"|tokens:{self.limit or 'all'}|cosine|refs:mean"
        )

    def truncated(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model reads."""
        return count_truncated(texts, self.encoder.tokenizer, self.limit) if self.limit else 0


@dataclass(frozen=True)
class ErrorDetector:
    """A classifier of errors made ready by `load_error_detector`; `signature` names it, its revision and settings."""

    source: ModelSource
    limit: int  # tokens; longer texts are cut
    output: int  # index of the output that stands for an error
    label: str
    independent: bool  # outputs are judged one by one (sigmoid), else they exclude each other (softmax)
    plain_words: bool  # captions are given to it without punctuation, in lower case
    tokenizer: Any
    model: Any  # from token ids and mask to logits (texts, outputs)
    device: str

    @property
    def signature(self) -> str:
        """`detector`, `revision`, the output taken for an error and the settings."""
        text = "lower-no-punctuation" if self.plain_words else "raw"
        return (
            f"detector:{self.source.name}|detector_revision:{self.source.revision}|error:{self.label}"
            f"|detector_tokens:{self.limit}|text:{text}"
        )

    def truncated(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the detector reads."""
        return count_truncated([self._prepared(text) for text in texts], self.tokenizer, self.limit)

    def _prepared(self, text: str) -> str:
        return re.sub(r"[^\w\s]", "", text).lower() if self.plain_words else text


def load_sentence_model(model: str = SIMILARITY_MODEL, *, device: str | None = None) -> SentenceModel:
    """Load a sentence encoder from a folder or the Hub, once for many calls of `similarity_values`.

    Without a modules.json the tokens of the last layer are averaged. Runs no code of the repository. Raises
    `ModelError`, and `MissingExtraError` without sentence-transformers.
    """
    model_library()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(error.name or "sentence-transformers", extra="meaning") from error
    import torch

    source = find_model(model)
    with loading(source.name, "sentence similarity"):
        encoder = SentenceTransformer(
            source.location,
            revision=source.commit,
            device=pick_device(device),
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32},  # else the type of the file, half precision in some
        ).eval()
        limit = encoder.max_seq_length
        pooling = next((str(module.pooling_mode) for module in encoder if hasattr(module, "pooling_mode")), "own")
    if hasattr(encoder.tokenizer, "all_special_ids"):
        check_tokenizer(encoder.tokenizer, source)
    return SentenceModel(source, int(limit) if limit and np.isfinite(limit) else None, pooling, encoder)


def similarity_values(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    model: str | SentenceModel = SIMILARITY_MODEL,
    *,
    progress: Progress | None = None,
) -> Numbers:
    """The mean cosine of every caption with its references (n,), in [-1, 1].

    An empty caption counts 0, as does one whose references are all empty; an empty reference beside others is passed
    over. Longer texts than the model reads are cut (`SentenceModel.truncated`). Nothing is random. Raises `ModelError`.
    """
    ready = model if isinstance(model, SentenceModel) else load_sentence_model(model)
    pairs = [
        (prediction, [stated] if isinstance(stated, str) else stated)  # one text, whose letters are no references
        for prediction, stated in zip(predictions, references, strict=True)
    ]
    values = np.zeros(len(pairs))
    for start in range(0, len(pairs), CHUNK_CAPTIONS):
        chunk = pairs[start : start + CHUNK_CAPTIONS]
        texts = {text for prediction, stated in chunk for text in (prediction, *stated) if text.strip()}
        places = {text: place for place, text in enumerate(sorted(texts))}
        vectors = ready.encoder.encode(
            list(places), batch_size=BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False
        )
        for row, (prediction, stated) in enumerate(chunk, start=start):
            heard = [places[text] for text in stated if text.strip()]
            if prediction.strip() and heard:
                values[row] = np.mean(vectors[heard].astype(float) @ vectors[places[prediction]].astype(float))
        if progress is not None:
            progress(start + len(chunk), len(pairs))
    return values


def load_error_detector(detector: str, *, device: str | None = None) -> ErrorDetector:
    """Load a classifier that finds errors in a text: a folder, a model of the Hub, or FENSE's own checkpoint (.ckpt).

    Where none of the model's labels is one of `ERROR_LABELS`, the one that stands for an error must be named after a
    `#`: models trained on CoLA often have LABEL_0 for it, `org/name#LABEL_0`. Of FENSE's checkpoint it is the last.
    Raises `ModelError`.
    """
    transformers = model_library()
    if Path(detector).suffix == ".ckpt" and Path(detector).expanduser().is_file():
        return _fense_checkpoint(Path(detector).expanduser(), pick_device(device))
    purpose = "error detection"
    named, _, error_label = (detector, "", "") if Path(detector).expanduser().is_dir() else detector.partition("#")
    source = find_model(named)
    tokenizer = load_tokenizer(source, purpose)
    model = load_weights(transformers.AutoModelForSequenceClassification, source, purpose)
    output, label = _error_output(model.config.id2label, error_label, source.name)
    independent = model.config.problem_type == "multi_label_classification" or model.config.num_labels == 1
    chosen = pick_device(device)
    limit = token_limit(tokenizer, model)
    return ErrorDetector(source, limit, output, label, independent, False, tokenizer, model.to(chosen), chosen)


def _error_output(labels: dict[int, str], error_label: str, name: str) -> tuple[int, str]:
    wanted = (error_label.lower(),) if error_label else ERROR_LABELS
    found = [(int(index), label) for index, label in labels.items() if str(label).lower() in wanted]
    if len(found) != 1:
        known = ", ".join(str(label) for label in labels.values())
        raise ModelError(
            name, f"does not say which output is an error (its labels: {known})", "name it after a #: MODEL#LABEL"
        )
    return found[0]


def _fense_checkpoint(file: Path, device: str) -> ErrorDetector:
    """A FENSE detector as its authors publish it: `model_type`, `num_classes`, `state_dict` in one pickle.

    The pickle is read without running anything in it. The last of its outputs stands for any error.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with loading(file, "error detection"):
        saved = torch.load(file, map_location="cpu", weights_only=True)
        states = dict(saved["state_dict"])
        states.pop("encoder.embeddings.position_ids", None)  # was kept with the weights before transformers 4.31
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(saved["model_type"], trust_remote_code=False))
        classifier = torch.nn.Linear(encoder.config.hidden_size, int(saved["num_classes"]))
        torch.nn.ModuleDict({"encoder": encoder, "clf": classifier}).load_state_dict(states)
        tokenizer = AutoTokenizer.from_pretrained(saved["model_type"], trust_remote_code=False)
    source = ModelSource(file.name, str(file), None, f"sha256:{file_digest(file)[:HASH_SHOWN]}")
    check_tokenizer(tokenizer, source)
    encoder.float().eval().to(device)
    classifier.float().to(device)

    def logits(**inputs: Any) -> Any:
        return classifier(encoder(**inputs).last_hidden_state[:, 0])

    return ErrorDetector(source, FENSE_TOKENS, -1, "last", True, True, tokenizer, logits, device)


def error_probabilities(
    predictions: Sequence[str], detector: str | ErrorDetector, *, progress: Progress | None = None
) -> Numbers:
    """The probability of an error in every caption (n,), as the detector sees it; 1 for an empty caption.

    Longer captions than the detector reads are cut (`ErrorDetector.truncated`). Nothing is random. Raises `ModelError`.
    """
    import torch

    ready = detector if isinstance(detector, ErrorDetector) else load_error_detector(detector)
    texts = sorted({text for text in predictions if text.strip()}, key=len)  # of like length together: less padding
    known: dict[str, float] = {}
    for batch in _slices(texts, BATCH_TEXTS):
        inputs = ready.tokenizer(
            [ready._prepared(text) for text in batch],
            padding=True,
            truncation=True,
            max_length=ready.limit,
            return_tensors="pt",
        ).to(ready.device)
        with torch.inference_mode():
            output = ready.model(**inputs)
            logits = getattr(output, "logits", output).double()
            shares = logits.sigmoid() if ready.independent else logits.softmax(dim=-1)
        known |= dict(zip(batch, shares[:, ready.output].cpu().tolist(), strict=True))
        if progress is not None:
            progress(len(known), len(texts))
    return np.array([known.get(text, 1.0) for text in predictions], dtype=float)


def _slices(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (texts[start : start + size] for start in range(0, len(texts), size))


def penalised(
    similarity: ArrayLike, errors: ArrayLike, *, threshold: float = ERROR_THRESHOLD, penalty: float = ERROR_PENALTY
) -> Numbers:
    """FENSE from its two parts (n,): the similarity, less `penalty` of it where the error is above `threshold`.

    As published, this brings a negative cosine nearer to 0 as well.
    """
    flagged = np.asarray(errors, dtype=float) > threshold
    return np.asarray(similarity, dtype=float) * (1 - penalty * flagged)


def fense_values(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    model: str | SentenceModel,
    detector: str | ErrorDetector,
) -> Numbers:
    """FENSE of every caption (n,): `penalised` of `similarity_values` and `error_probabilities`.

    FENSE as published takes the default model and FENSE's own detector. Raises `ModelError`.
    """
    encoder = model if isinstance(model, SentenceModel) else load_sentence_model(model)
    judge = detector if isinstance(detector, ErrorDetector) else load_error_detector(detector)  # both before any work
    return penalised(similarity_values(predictions, references, encoder), error_probabilities(predictions, judge))


def fense_signature(model: SentenceModel, detector: ErrorDetector) -> str:
    """Both models with their revisions, and FENSE's two numbers."""
    return f"{model.signature}|{detector.signature}|threshold:{ERROR_THRESHOLD}|penalty:{ERROR_PENALTY}"
