# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("music-captioning")`: audio of any length in, captions with their times out.

This file travels to the Hub as remote code: it imports torch, numpy, transformers and its neighbours. Arrays need
nothing else at the model's rate, and soxr at another; files need soundfile, and M4A, AAC or WebM files PyAV or
torchcodec.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import types
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast
from transformers.pipelines.base import ChunkPipeline

from .audio_files_lpmc import UnreadableAudioError
from .audio_track_lpmc import SILENCE_TEXT, AudioTrack, has_sound, read_track, track_of_array, without_offset
from .feature_extraction_lpmc import LpmcFeatureExtractor

if TYPE_CHECKING:  # never run: transformers takes along only what an entry names itself
    from .configuration_lpmc import LpmcConfig  # noqa: F401

BATCH_SIZE = 8  # windows; on 2 cores 0.89 s a window against 2.95 s one by one (the released sizes, 5 beams)
DOWNLOAD_TIMEOUT = 60.0  # s without a byte from the server


class MusicCaptioningPipeline(ChunkPipeline):
    """Captions of audio, one for each window of ten seconds: [{"start": 0.0, "end": 10.0, "text": "..."}, ...].

    An input is a path or an http(s) address; the bytes of a file; a dict {"array" or "raw", "sampling_rate"} or
    {"bytes"} or {"path"}, as `datasets` gives them; a torchcodec `AudioDecoder`, as its version 4 does; or a bare array
    at the model's own rate (another one is named by `sampling_rate=`). Arrays hold floats and are 1-D, or 2-D with
    channels. A list or tuple of inputs gives a list of results; a generator, a dataset (`KeyDataset`) and any other
    iterable give their results one after the other, as they are asked for.

    Windows of several inputs fill a batch together; `batch_size=` says how many (default 8) and changes no caption. The
    memory needed does not grow with the length of a file. What `generate` takes may be passed to the call, or as
    `generate_kwargs={"num_beams": 1}`.

    A window without sound is not given to the model, which would invent music: its text is "[silence]". Audio is
    heard as `Captioner` hears it: a track that exceeds [-1, 1] is scaled down as a whole, a constant offset is removed.

    An input that cannot be read raises a `ValueError` that names it, and a library that is lacking an `ImportError`,
    when its turn comes; the results of a list are lost by that, those that a generator gave before are not.
    """

    model: Any
    feature_extractor: Any
    tokenizer: Any

    _load_feature_extractor: Any = True
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def __init__(self, *args: Any, batch_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, batch_size=BATCH_SIZE if batch_size is None else batch_size, **kwargs)
        # Before 4.57, `pipeline()` loads them only for models of its own.
        origin = dict(getattr(self.model, "_origin", None) or {})
        if origin and (self.feature_extractor is None or self.tokenizer is None):
            name = origin.pop("path_or_repo_id")
            self.feature_extractor = self.feature_extractor or LpmcFeatureExtractor.from_pretrained(name, **origin)
            self.tokenizer = self.tokenizer or PreTrainedTokenizerFast.from_pretrained(name, **origin)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Caption one input, or each of many; see the class."""
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []  # the library looks at the first one
        if _is_stream(inputs):
            inputs = (one for one in inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, sampling_rate: int | None = None, generate_kwargs: dict[str, Any] | None = None, **generation: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        before = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
        return before, {**(generate_kwargs or {}), **generation}, {}

    def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Any:  # type: ignore[override]
        """Yield one window at a time, so that windows of many tracks fill one batch."""
        rate = self.feature_extractor.sampling_rate
        with opened_track(inputs, sampling_rate or rate, rate) as track:
            bounds = self.feature_extractor.chunk_bounds(track.num_samples)
            if not bounds:  # the library would end there, and drop the inputs that follow
                raise UnreadableAudioError(track.name, "is empty: nothing is left of it at the rate of the model")
            for number, ((start, end), samples) in enumerate(zip(bounds, track.windows(bounds), strict=True)):
                window = without_offset(samples, rate)
                yield {
                    "is_last": number == len(bounds) - 1,
                    "waveform": self.feature_extractor.waveforms(window, sampling_rate=rate),
                    "sounding": has_sound(window),
                    "start": start / rate,
                    "end": end / rate,
                }

    def _forward(self, model_inputs: Any, **generation: Any) -> Any:  # type: ignore[override]
        waveforms = model_inputs["waveform"]  # (windows, samples)
        sounding = torch.as_tensor(model_inputs["sounding"]).reshape(-1)
        heard = sounding.nonzero().flatten().to(waveforms.device)
        kept = {name: model_inputs[name] for name in ("is_last", "start", "end")}
        tokens = torch.full((len(waveforms), 1), self.tokenizer.pad_token_id, device=waveforms.device)
        if len(heard):
            if generation.get("num_beams") == 1:
                generation.setdefault("early_stopping", False)  # a rule for beams; the library warns about it otherwise
            features = self.feature_extractor(
                waveforms[heard],
                sampling_rate=self.feature_extractor.sampling_rate,
                return_tensors="pt",
                device=waveforms.device,
            )
            written = self.model.generate(input_features=features["input_features"], **generation)
            written = getattr(written, "sequences", written)  # return_dict_in_generate
            if len(written) != len(heard):
                raise ValueError("a window has one caption here; leave out num_return_sequences")
            tokens = tokens.expand(-1, written.shape[1]).clone()
            tokens[heard] = written.to(tokens.device)
        return {**kept, "sounding": sounding.tolist(), "tokens": tokens}

    def postprocess(self, model_outputs: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        """The windows of one track, in order."""
        return [
            {"start": float(window["start"]), "end": float(window["end"]), "text": self._text(window)}
            for window in model_outputs
        ]

    def _text(self, window: dict[str, Any]) -> str:
        if not np.all(window["sounding"]):
            return SILENCE_TEXT
        return " ".join(self.tokenizer.decode(window["tokens"].reshape(-1), skip_special_tokens=True).split())


@contextmanager
def opened_track(source: Any, array_rate: int, sampling_rate: int) -> Iterator[AudioTrack]:
    """A checked track at `sampling_rate` Hz of any input that the pipeline takes; bare arrays are at `array_rate`.

    Raises `ValueError` naming the input if it is of another kind or cannot be read, and `ImportError` naming the
    library that is lacking (for a file that needs PyAV or torchcodec an error that is both).
    """
    name = "audio"
    if isinstance(source, dict):
        name = str(source.get("path") or name)
        array = source.get("array") if source.get("array") is not None else source.get("raw")
        if array is not None:
            if source.get("sampling_rate") is None:
                raise ValueError(f"{name}: a dict with 'array' or 'raw' needs 'sampling_rate' beside it")
            source, array_rate = _as_array(array), int(source["sampling_rate"])
        elif source.get("bytes") is None and source.get("path") is None:
            given = ", ".join(map(repr, source)) or "nothing"
            raise ValueError(f"a dict needs 'array' and 'sampling_rate', or 'bytes', or 'path'; this one holds {given}")
        else:
            source = source["path"] if source.get("bytes") is None else source["bytes"]
    elif _is_decoder(source):
        decoded = source.get_all_samples()
        source, array_rate = _as_array(decoded.data), int(decoded.sample_rate)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        yield track_of_array(_as_array(source), array_rate, sampling_rate, name=name)
    elif isinstance(source, bytes):
        with _file_of(name) as file:
            file.write_bytes(source)
            yield read_track(file, sampling_rate)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        with _file_of(source) as file:
            _download(source, file)
            yield read_track(file, sampling_rate)
    elif isinstance(source, (str, os.PathLike)):
        yield read_track(source, sampling_rate)
    else:
        raise ValueError(f"audio of type {type(source).__name__} is unknown; give a path, bytes, a dict or an array")


@contextmanager
def _file_of(name: str) -> Iterator[Path]:
    """A place for a file, gone afterwards; errors about it name where it came from."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder, "audio")
        except UnreadableAudioError as error:
            raise type(error)(name, error.problem, error.remedy) from error


def _download(address: str, file: Path) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "music-captioning"})  # noqa: S310 - http(s) only
    try:
        answer = urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT)  # noqa: S310
        with answer, file.open("wb") as copy:
            shutil.copyfileobj(answer, copy)
    except (OSError, ValueError) as error:  # HTTP errors, no connection, no such host, no address
        raise UnreadableAudioError(address, f"cannot be fetched ({error})", "check the address") from error


def _is_decoder(source: Any) -> bool:
    return hasattr(source, "get_all_samples")


def _is_stream(inputs: Any) -> bool:
    """Whether `inputs` yields inputs one by one and the library would take it for a single one."""
    one = (str, bytes, os.PathLike, dict, np.ndarray, torch.Tensor)
    known = (list, Dataset, types.GeneratorType)
    return isinstance(inputs, Iterable) and not isinstance(inputs, (*one, *known)) and not _is_decoder(inputs)


def _as_array(samples: Any) -> np.ndarray:
    return samples.detach().cpu().numpy() if isinstance(samples, torch.Tensor) else np.asarray(samples)


__all__ = ["MusicCaptioningPipeline"]
