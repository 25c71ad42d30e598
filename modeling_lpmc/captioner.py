"""Captions of audio files: ten-second windows, batched across files, and one caption for the whole track.

    captioner = Captioner.from_pretrained("runs/model")
    for result in captioner.caption_files(find_audio([Path("tracks")])):
        print(result)

A window without sound is not given to the model, which would invent music; its text is `SILENCE_TEXT`. A file may be
of any length: what is held of it does not grow with it (see `open_track`).
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from lpmc_errors import AudioError, ModelError, UsageError
from modeling_lpmc.audio import (
    AudioClip,
    check_has_sound,
    errors_of_the_project,
    has_sound,
    open_track,
    track_windows,
    without_offset,
)
from modeling_lpmc.audio_track_lpmc import SILENCE_TEXT
from modeling_lpmc.configuration_lpmc import MEL_CONTRACT, LpmcConfig
from modeling_lpmc.descriptors import Descriptors, describe_track
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.selection import find_audio
from modeling_lpmc.shipped import model_source
from modeling_lpmc.track_captions import HOUSE, STYLES, Hypothesis, TrackTag, Window, describe_windows

BATCH_SIZE = 8  # windows; on 2 cores 0.89 s a window against 2.95 s one by one (the released sizes, 5 beams)
TIME_DIGITS = 3  # times are seconds, kept to the millisecond; one sample at 16 kHz is 0.06 ms
TOKENIZER_FILE = "tokenizer.json"
MODEL_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", TOKENIZER_FILE)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}  # int8: the decoder alone
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")

__all__ = [
    "BATCH_SIZE",
    "SILENCE_TEXT",
    "TIME_DIGITS",
    "CaptionSegment",
    "Captioner",
    "FailedFile",
    "TrackCaption",
    "TrackTag",
    "caption_of_windows",
    "find_audio",
    "track_caption",
]

_HUB_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class CaptionSegment:
    """What is heard from `start` to `end`, in seconds of the track."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class TrackCaption:
    """The captions of one file: of each window, and one for the whole. `duration` is in seconds.

    `facts` is what was measured of the sound, if that was asked for; `tags` what the captions claim, the surest first;
    `notes` are sentences for the reader about what the segments do not agree on.
    """

    path: str
    duration: float
    segments: tuple[CaptionSegment, ...]
    caption: str
    facts: Descriptors | None = None
    tags: tuple[TrackTag, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `lpmc caption --json` prints; `facts` as in `Descriptors.to_dict`, or left out."""
        segments = [{"start": part.start, "end": part.end, "text": part.text} for part in self.segments]
        told: dict[str, Any] = {
            "path": self.path,
            "duration": self.duration,
            "segments": segments,
            "caption": self.caption,
            "tags": [
                {"name": tag.name, "category": tag.category, "confidence": round(tag.confidence, 2)}
                for tag in self.tags
            ],
            "notes": list(self.notes),
        }
        return told if self.facts is None else told | {"facts": self.facts.to_dict()}


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be captioned, and why, in one line."""

    path: str
    error: str


def track_caption(segments: Sequence[CaptionSegment]) -> str:
    """One caption for the track: the segment caption that agrees best with the track as a whole.

    It is the medoid under unigram F1, each segment weighing as many seconds as it adds to those before it (the last
    window overlaps its neighbour): the caption with the smallest expected disagreement with a second of the track drawn
    at random, that is, minimum Bayes risk (Kumar and Byrne, 2004) over the segments. A description of one odd passage
    cannot win, and every word was said about this track. Of equals the earliest wins. Silent segments have no vote; a
    track with no other is `SILENCE_TEXT`.
    """
    voices: list[tuple[CaptionSegment, float, Counter[str]]] = []
    covered = 0.0
    for segment in segments:
        weight = max(0.0, segment.end - max(segment.start, covered))
        covered = max(covered, segment.end)
        if segment.text != SILENCE_TEXT:
            voices.append((segment, weight, Counter(_WORD.findall(segment.text.lower()))))
    if not voices:
        return SILENCE_TEXT

    def agreement(words: Counter[str]) -> float:
        return sum(weight * _unigram_f1(words, others) for _, weight, others in voices)

    return max(voices, key=lambda voice: agreement(voice[2]))[0].text


def _unigram_f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


@dataclass
class _OpenTrack:
    """A track whose windows are being captioned."""

    path: Path
    duration: float
    bounds: list[tuple[float, float]]
    facts: Descriptors | None
    style: str
    heard: list[tuple[Hypothesis, ...]] = field(default_factory=list)  # by window

    def result(self) -> TrackCaption:
        windows = [Window(*bounds, heard) for bounds, heard in zip(self.bounds, self.heard, strict=True)]
        return caption_of_windows(str(self.path), self.duration, windows, facts=self.facts, style=self.style)


def caption_of_windows(
    path: str, duration: float, windows: Sequence[Window], *, facts: Descriptors | None = None, style: str = HOUSE
) -> TrackCaption:
    """The result for a file of `duration` seconds, from what was heard in its windows; see `describe_windows`."""
    whole = describe_windows(windows, style=style)
    segments = tuple(CaptionSegment(window.start, window.end, window.text) for window in windows)
    return TrackCaption(path, round(duration, TIME_DIGITS), segments, whole.caption, facts, whole.tags, whole.notes)


class Captioner:
    """A captioning model with its processor on one device. Make one with `Captioner.from_pretrained`."""

    def __init__(
        self, model: LpmcForConditionalGeneration, processor: LpmcProcessor, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        network: Any = model  # the library's annotations of `to` and `generate` do not fit their own callers
        self.model = network.to(self.device).eval()
        self.processor = processor

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        device: str | None = None,
        *,
        revision: str | None = None,
        precision: str = "float32",
    ) -> Captioner:
        """Load a model directory, a model of the Hub by its id, or `lpmc_mini`, which ships with the package.

        `device` is CUDA by default if there is any.

        Only the weights, the tokenizer and the configuration are taken from there. The code is this package's own, so
        that naming a model never runs code that came with it; weights are read from safetensors only.

        `precision` is float32, bfloat16 (for GPUs), or int8: the decoder on a CPU in a fraction of the time, with the
        encoder in float32. Captions may differ from those in float32.

        Raises `ModelError` when it is missing, incomplete, damaged or of another kind, `UsageError` for a device or a
        precision that is not to be had.
        """
        where = _device(device)
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r}", "is unknown", f"use {', '.join(PRECISIONS)}")
        if not str(model):
            raise ModelError("model", "no name was given", "name a model directory or a Hub id")
        name = model_source(str(model))
        if name != str(model):
            model, revision = name, None
        if Path(model).exists():
            _check_directory(Path(model))
        elif not _HUB_ID.fullmatch(name):
            raise ModelError(name, "no such model directory", "name a folder that holds config.json, or a Hub id")
        try:
            kind = LpmcConfig.get_config_dict(name, revision=revision)[0].get("model_type")
        except (OSError, ValueError) as error:
            raise _unloadable(name, error) from error
        if kind != LpmcConfig.model_type:
            raise ModelError(
                name,
                f"is a model of type {kind!r}, expected {LpmcConfig.model_type!r}",
                "train one with `lpmc train` or convert a released checkpoint with `lpmc convert`",
            )
        loaded: Any = LpmcForConditionalGeneration
        options: dict[str, Any] = {"revision": revision}
        try:
            network, report = loaded.from_pretrained(
                name, dtype=PRECISIONS[precision], use_safetensors=True, output_loading_info=True, **options
            )
            processor = LpmcProcessor(
                LpmcFeatureExtractor.from_pretrained(name, **options),
                PreTrainedTokenizerFast.from_pretrained(name, **options),
            )
        except Exception as error:  # each of four file formats fails in its own ways
            raise _unloadable(name, error) from error
        lost = sorted(report["missing_keys"])
        if lost:  # transformers would fill them with random numbers and go on
            raise ModelError(name, f"lacks {len(lost)} of its weights, such as {lost[0]}", "copy or train it again")
        for key in MEL_CONTRACT:
            trained, extracted = getattr(network.config, key), getattr(processor.feature_extractor, key)
            if trained != extracted:  # it would run, and hear everything wrong
                raise ModelError(
                    name,
                    f"config.json says {key} {trained}, its feature extractor {extracted}",
                    "copy, train or convert it again",
                )
        captioner = cls(network, processor, where)
        if precision == "int8":
            try:
                captioner.model.set_decoding("int8")
            except RuntimeError as error:
                raise UsageError("precision int8", f"is not to be had ({error})", "use float32") from error
        return captioner

    @property
    def sampling_rate(self) -> int:
        """Of the audio that the model hears, in Hz."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def demonstration(self) -> bool:
        """Whether the model says of itself that it only demonstrates the software."""
        return bool(getattr(self.model.config, "demonstration", False))

    def iter_windows(
        self, clip: AudioClip, *, batch_size: int = BATCH_SIZE, num_beams: int | None = None
    ) -> Iterator[Window]:
        """Caption `clip` window by window, `batch_size` at a time, as they are done; see `caption_of_windows`.

        `num_beams` defaults to the model's generation config. Raises `AudioError` if the clip is silent.
        """
        check_has_sound(clip, "audio")
        bounds = self._bounds(clip)
        for first in range(0, len(bounds), batch_size):
            part = bounds[first : first + batch_size]
            heard = self._caption_windows([clip.samples[start:end] for start, end in part], num_beams)
            for (start, end), found in zip(part, heard, strict=True):
                yield Window(*self._seconds(start, end), found)

    def iter_segments(
        self, clip: AudioClip, *, batch_size: int = BATCH_SIZE, num_beams: int | None = None
    ) -> Iterator[CaptionSegment]:
        """The best caption of each window; see `iter_windows`."""
        for window in self.iter_windows(clip, batch_size=batch_size, num_beams=num_beams):
            yield CaptionSegment(window.start, window.end, window.text)

    def caption_clip(
        self, clip: AudioClip, *, batch_size: int = BATCH_SIZE, num_beams: int | None = None
    ) -> list[CaptionSegment]:
        """All segments of `clip`; see `iter_segments`."""
        return list(self.iter_segments(clip, batch_size=batch_size, num_beams=num_beams))

    def caption_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        batch_size: int = BATCH_SIZE,
        num_beams: int | None = None,
        facts: bool = False,
        style: str = HOUSE,
        progress: Callable[[Path, int, int], None] | None = None,
    ) -> Iterator[TrackCaption | FailedFile]:
        """Caption files one after the other, in their order; a file that cannot be read gives a `FailedFile`.

        Windows of several files fill a batch together. One batch and at most ten minutes of a file are held at a time.
        With `facts` tempo, key and loudness are measured too. `style`: see `describe_windows`.
        `progress(path, done, total)` is told after each batch how many windows of a file are done.

        A file is decoded to its end before its first window is captioned, so that one that breaks off fails as a whole;
        and so does one that changes meanwhile, whatever of it was captioned by then.
        """
        if batch_size < 1:
            raise UsageError("batch size", f"is {batch_size}", "give at least 1")
        if style not in STYLES:
            raise UsageError(f"style {style!r}", "is unknown", f"use {' or '.join(STYLES)}")
        waiting: deque[_OpenTrack | FailedFile] = deque()
        batch: list[tuple[_OpenTrack, np.ndarray]] = []

        def run() -> None:
            texts = self._caption_windows([window for _, window in batch], num_beams)
            touched: dict[int, _OpenTrack] = {}
            for (track, _), text in zip(batch, texts, strict=True):
                track.heard.append(text)
                touched[id(track)] = track
            batch.clear()
            if progress:
                for track in touched.values():
                    progress(track.path, len(track.heard), len(track.bounds))

        def finished() -> Iterator[TrackCaption | FailedFile]:
            while waiting:
                first = waiting[0]
                if isinstance(first, FailedFile):
                    yield first
                elif len(first.heard) == len(first.bounds):
                    yield first.result()
                else:
                    return
                waiting.popleft()

        for path in map(Path, paths):
            track = None
            try:
                track, windows = self._open(path, facts, style)
                waiting.append(track)
                for window in windows:
                    batch.append((track, window))
                    if len(batch) == batch_size:
                        run()
                        yield from finished()
            except AudioError as error:
                if track is not None:  # then it is the last one waiting, and not complete
                    waiting.pop()
                    batch[:] = [(other, window) for other, window in batch if other is not track]
                waiting.append(FailedFile(str(path), str(error)))
                yield from finished()
        if batch:
            run()
        yield from finished()

    def _open(self, path: Path, facts: bool, style: str) -> tuple[_OpenTrack, Iterator[np.ndarray]]:
        """A record of the file and its windows. Raises `AudioError`, as taking a window may."""
        sound = open_track(path, self.sampling_rate)
        check_has_sound(sound, path)
        bounds = self.processor.feature_extractor.chunk_bounds(sound.num_samples)
        with errors_of_the_project():
            measured = describe_track(sound) if facts else None
        track = _OpenTrack(path, sound.duration, [self._seconds(*bound) for bound in bounds], measured, style)
        return track, track_windows(sound, bounds)

    def _bounds(self, clip: AudioClip) -> list[tuple[int, int]]:
        if clip.sampling_rate != self.sampling_rate:
            raise ValueError(f"the clip is at {clip.sampling_rate} Hz, the model hears {self.sampling_rate} Hz")
        return self.processor.feature_extractor.chunk_bounds(len(clip.samples))

    def _seconds(self, start: int, end: int) -> tuple[float, float]:
        return round(start / self.sampling_rate, TIME_DIGITS), round(end / self.sampling_rate, TIME_DIGITS)

    def _caption_windows(self, windows: Sequence[np.ndarray], num_beams: int | None) -> list[tuple[Hypothesis, ...]]:
        """The captions of each window, best first, each once.

        Windows (samples,) are padded by the extractor, which the model expects as silence.

        An offset of the recorder is taken out here, before the padding: the extractor hears what it is given.
        """
        if num_beams is not None and num_beams < 1:
            raise UsageError("number of beams", f"is {num_beams}", "give at least 1")
        windows = [without_offset(window, self.sampling_rate) for window in windows]
        found: list[tuple[Hypothesis, ...]] = [(Hypothesis(SILENCE_TEXT, 1.0),)] * len(windows)
        heard = [number for number, window in enumerate(windows) if has_sound(window)]
        if not heard:
            return found
        try:
            inputs = self.processor.feature_extractor(
                [windows[number] for number in heard],
                sampling_rate=self.sampling_rate,
                return_tensors="pt",
                device=self.device,
            )
            with torch.inference_mode():
                ids, shares = self.model.candidates(inputs["input_features"], num_beams)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                self.device, f"has not enough memory for {len(heard)} windows at once", "use a smaller --batch-size"
            ) from error
        texts = [" ".join(text.split()) for text in self.processor.batch_decode(ids.flatten(0, 1))]
        beams = ids.shape[1]
        for place, number in enumerate(heard):
            belief: dict[str, float] = {}
            for text, share in zip(texts[place * beams :][:beams], shares[place].tolist(), strict=True):
                belief[text] = belief.get(text, 0.0) + share
            # To a thousandth, as the company of other windows in a batch changes the last digits of float32.
            found[number] = tuple(Hypothesis(text, round(share, 3)) for text, share in belief.items())
        return found


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # a device may have a name and yet not compute
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise UsageError(f"device {name!r}", "is not available on this machine", "use cpu, cuda or cuda:N") from error


def _check_directory(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(
            folder, "is a file, expected a model directory", "convert a released .pth checkpoint with `lpmc convert`"
        )
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        missing.append(WEIGHT_FILES[0])
    if missing == [TOKENIZER_FILE]:  # what a conversion leaves that found none
        raise ModelError(
            folder,
            f"is a model without a tokenizer, which writes numbers and no words: it lacks {TOKENIZER_FILE}",
            "run `lpmc convert` again with --tokenizer and the folder or Hub id of its tokenizer",
        )
    if missing:
        raise ModelError(
            folder,
            f"is no complete model directory: it lacks {', '.join(missing)}",
            "train, convert or copy it again",
        )


def _unloadable(name: str, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        return ModelError(name, f"cannot be loaded ({first_line})", "copy, train or convert it again")
    return ModelError(
        name,
        f"is no folder here, and the Hub did not give it ({first_line})",
        "check the name, your connection and, for a private model, your token",
    )
