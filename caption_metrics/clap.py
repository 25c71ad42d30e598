"""How well a caption fits its audio, by a CLAP model: their similarity, and whether the caption finds its clip.

These scores need no reference, and a caption that was made without hearing the clip cannot win the retrieval. What the
model cannot tell apart they cannot judge, and a captioner trained with the same CLAP has an advantage.

A file is heard in windows of the model's length (10 s for the published ones), spread evenly from its start to its
end, six at most; its vector is the mean of their unit vectors, made a unit again. Nothing is random: the feature
extractor, left to itself, draws a crop of longer audio and, for the models with feature fusion, marks one clip of a
batch as a longer one; it is given whole windows here, and fusion stays off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.model_source import (
    ModelSource,
    Progress,
    check_tokenizer,
    count_truncated,
    find_model,
    load_weights,
    loading,
    model_library,
    pick_device,
    token_limit,
)
from lpmc_errors import AudioError, ModelError, TableError

Numbers = NDArray[np.float64]

CLAP_MODEL = "laion/larger_clap_music"  # trained on music, Apache-2.0
MOST_WINDOWS = 6  # windows of one file; an hour of audio costs no more than a minute
BATCH_WINDOWS = 16  # windows in one pass through the model; 31 MB of samples at 48 kHz
BATCH_TEXTS = 64  # captions in one pass
ROWS_COMPARED = 1024  # captions compared with all audio at once
TIE = 1e-5  # cosine; less than this apart is no difference (float32 in other batches differs by about 1e-7)
_PURPOSE = "CLAP scores"


@dataclass(frozen=True)
class Clap:
    """A CLAP made ready by `load_clap`; `signature` names it, its revision and settings."""

    source: ModelSource
    limit: int  # tokens of a caption; longer ones are cut
    rate: int  # Hz
    seconds: float  # of a window
    processor: Any
    model: Any
    device: str

    @property
    def signature(self) -> str:
        """`model`, `revision` and the settings of the values that this model gives."""
        return (
            f"model:{self.source.name}|revision:{self.source.revision}|tokens:{self.limit}|rate:{self.rate}"
            f"|windows:{self.seconds:g}s-spread-{MOST_WINDOWS}|fusion:off|cosine"
        )

    def truncated(self, texts: Sequence[str]) -> int:
        """How many captions are longer than the model reads."""
        return count_truncated(texts, self.processor.tokenizer, self.limit)


@dataclass(frozen=True)
class AudioEmbeddings:
    """The vectors of a list of audio files, for any number of captionings of them.

    `vectors` (m, width) are unit vectors of the m files that could be read, each once; `rows` (n,) gives for every
    path of the list its place among them, -1 where it could not be read; `faults` says why, by path.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    faults: Mapping[str, str]


def load_clap(model: str = CLAP_MODEL, *, device: str | None = None) -> Clap:
    """Load a CLAP from a folder or the Hub: any model of transformers with audio and text features of one space.

    Raises `ModelError`.
    """
    transformers = model_library()
    source = find_model(model)
    with loading(source.name, _PURPOSE):
        processor = transformers.AutoProcessor.from_pretrained(
            source.location, revision=source.commit, trust_remote_code=False
        )
    network = load_weights(transformers.AutoModel, source, _PURPOSE)
    both = hasattr(network, "get_audio_features") and hasattr(network, "get_text_features")
    if not both or not hasattr(processor, "feature_extractor") or not hasattr(processor, "tokenizer"):
        raise ModelError(source.name, "gives no features of audio and text", "give a CLAP, such as " + CLAP_MODEL)
    check_tokenizer(processor.tokenizer, source)
    extractor = processor.feature_extractor
    chosen = pick_device(device)
    limit = token_limit(processor.tokenizer, network)
    rate, seconds = int(extractor.sampling_rate), float(extractor.max_length_s)
    return Clap(source, limit, rate, seconds, processor, network.to(chosen), chosen)


def embed_audio(paths: Sequence[str | Path], model: str | Clap, *, progress: Progress | None = None) -> AudioEmbeddings:
    """Listen to every file once. A file that cannot be read is recorded and passed over.

    Reads what libsndfile reads. Raises `AudioError` where no file at all can be read, and `ModelError`.
    """
    ready = model if isinstance(model, Clap) else load_clap(model)
    distinct = list(dict.fromkeys(str(path) for path in paths))
    faults: dict[str, str] = {}
    sums: dict[str, NDArray[np.float32]] = {}
    waiting: list[tuple[str, NDArray[np.float32]]] = []

    def listen() -> None:
        for (path, _), vector in zip(waiting, _audio_vectors([window for _, window in waiting], ready), strict=True):
            sums[path] = sums.get(path, np.float32(0)) + vector
        waiting.clear()

    for done, path in enumerate(distinct, start=1):
        try:
            for window in _windows(path, ready):
                waiting.append((path, window))
                if len(waiting) == BATCH_WINDOWS:
                    listen()
        except AudioError as error:
            faults[path] = f"{error.problem}; {error.remedy}" if error.remedy else error.problem
            waiting = [entry for entry in waiting if entry[0] != path]
            sums.pop(path, None)
        if progress is not None:
            progress(done, len(distinct))
    if waiting:
        listen()
    if distinct and not sums:
        raise AudioError(distinct[0], faults[distinct[0]], f"none of {len(distinct)} audio files can be read")
    places = {path: place for place, path in enumerate(sums)}
    vectors = np.array([vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in sums.values()], np.float32)
    return AudioEmbeddings(vectors, np.array([places.get(str(path), -1) for path in paths], np.int64), faults)


def _windows(path: str, ready: Clap) -> Iterator[NDArray[np.float32]]:
    """Mono windows (samples,) at the model's rate, of its length or, for a shorter file, of the file's."""
    import soundfile
    import soxr

    most = round(ready.seconds * ready.rate)
    try:
        with soundfile.SoundFile(path) as file:
            width = math.ceil(ready.seconds * file.samplerate)
            count = min(MOST_WINDOWS, max(1, math.ceil(file.frames / width)))
            for start in np.linspace(0, max(0, file.frames - width), count).astype(int):
                file.seek(int(start))
                mono = file.read(width, dtype="float32", always_2d=True).mean(axis=1)
                if not len(mono):
                    raise AudioError(path, "holds no audio where its header promises some", "check the file")
                if not np.isfinite(mono).all():
                    raise AudioError(path, "holds samples that are no numbers", "check the file")
                yield soxr.resample(mono, file.samplerate, ready.rate)[:most].astype(np.float32)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, f"cannot be read: {str(error).splitlines()[0]}", "check the file") from error


def _audio_vectors(windows: Sequence[NDArray[np.float32]], ready: Clap) -> NDArray[np.float32]:
    import torch

    inputs = ready.processor.feature_extractor(list(windows), sampling_rate=ready.rate, return_tensors="pt")
    inputs = inputs.to(ready.device)
    if "is_longer" in inputs:
        inputs["is_longer"] = torch.zeros_like(inputs["is_longer"], dtype=torch.bool)
    with torch.inference_mode():
        return _unit(ready.model.get_audio_features(**inputs))


def _text_vectors(captions: Sequence[str], ready: Clap) -> dict[str, NDArray[np.float32]]:
    import torch

    texts = sorted({caption for caption in captions if caption.strip()}, key=len)  # of like length: less padding
    vectors: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = texts[start : start + BATCH_TEXTS]
        inputs = ready.processor.tokenizer(
            batch, padding=True, truncation=True, max_length=ready.limit, return_tensors="pt"
        )
        names = [name for name in ("input_ids", "attention_mask") if name in inputs]
        with torch.inference_mode():
            features = ready.model.get_text_features(**{name: inputs[name].to(ready.device) for name in names})
        vectors |= dict(zip(batch, _unit(features), strict=True))
    return vectors


def _unit(features: Any) -> NDArray[np.float32]:
    """The features as unit vectors; transformers 5 puts them into an output, 4 gave them bare."""
    import torch

    tensor = getattr(features, "pooler_output", features)
    return torch.nn.functional.normalize(tensor.float(), dim=-1).cpu().numpy()


def clap_values(
    captions: Sequence[str], audio: Sequence[str | Path] | AudioEmbeddings, model: str | Clap = CLAP_MODEL
) -> Numbers:
    """The cosine of every caption with its own audio (n,); NaN where the audio cannot be read, 0 for an empty caption.

    `audio` are paths, or what `embed_audio` made of them with the same model. Raises `ModelError`, `AudioError` where
    nothing can be read, and `TableError` where captions and audio differ in number.
    """
    ready, heard = _ready(captions, audio, model)
    vectors = _text_vectors(captions, ready)
    values = np.full(len(captions), np.nan)
    for row, (caption, place) in enumerate(zip(captions, heard.rows, strict=True)):
        if place >= 0:
            values[row] = float(vectors[caption] @ heard.vectors[place]) if caption.strip() else 0.0
    return values


def retrieval_ranks(
    captions: Sequence[str], audio: Sequence[str | Path] | AudioEmbeddings, model: str | Clap = CLAP_MODEL
) -> Numbers:
    """The rank of its own audio for every caption (n,), among all distinct files; 1 is best, NaN for unreadable audio.

    A file that several captions share stands once among the files. The rank is the worst one of a tie: files that are
    as near as the own one (within `TIE`) count as nearer. So neither a constant caption, a copy of a clip under
    another name, nor a model that hears no difference gains by it: with m files a constant caption has R@1 = 1/m where
    each is described once. An empty caption ranks last. Arguments and errors as in `clap_values`.
    """
    ready, heard = _ready(captions, audio, model)
    texts = _text_vectors(captions, ready)
    ranks = np.full(len(captions), np.nan)
    readable = np.flatnonzero(heard.rows >= 0)
    for start in range(0, len(readable), ROWS_COMPARED):
        rows = readable[start : start + ROWS_COMPARED]
        silent = np.zeros(heard.vectors.shape[1], np.float32)  # of an empty caption: all files tie, so it ranks last
        cosines = np.stack([texts.get(captions[row], silent) for row in rows]) @ heard.vectors.T
        own = cosines[np.arange(len(rows)), heard.rows[rows]]
        ranks[rows] = (cosines >= own[:, None] - TIE).sum(axis=1)
    return ranks


def hits_at(ranks: Numbers, k: int) -> Numbers:
    """1 where the rank is `k` or better, else 0 (n,); NaN where there is no rank."""
    return np.where(np.isnan(ranks), np.nan, (ranks <= k).astype(float))


def recall_at(ranks: Numbers, k: int) -> float:
    """R@k: the share of the captions with a rank whose rank is `k` or better; NaN where none has one."""
    known = ranks[~np.isnan(ranks)]
    return float((known <= k).mean()) if len(known) else math.nan


def median_rank(ranks: Numbers) -> float:
    """The median of the ranks that there are; NaN where there is none."""
    known = ranks[~np.isnan(ranks)]
    return float(np.median(known)) if len(known) else math.nan


def _ready(
    captions: Sequence[str], audio: Sequence[str | Path] | AudioEmbeddings, model: str | Clap
) -> tuple[Clap, AudioEmbeddings]:
    count = len(audio.rows) if isinstance(audio, AudioEmbeddings) else len(audio)
    if count != len(captions):
        raise TableError("captions", f"{len(captions)} for {count} audio files", "give one audio file a caption")
    ready = model if isinstance(model, Clap) else load_clap(model)
    return ready, audio if isinstance(audio, AudioEmbeddings) else embed_audio(audio, ready)
