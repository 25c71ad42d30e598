# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("music-captioning")`: audio of any length in, captions with their times out.

This file travels to the Hub as remote code: it imports torch, numpy and transformers. To read audio *files* it uses
soundfile, and soxr where a file has another sampling rate; both are optional.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline

try:
    import soundfile
except (ImportError, OSError):  # not installed, or installed without its C library
    soundfile = None
try:
    import soxr
except ImportError:
    soxr = None


class MusicCaptioningPipeline(ChunkPipeline):
    """Captions of audio, one for each window of ten seconds: [{"start": 0.0, "end": 10.0, "text": "..."}, ...].

    An input is a path; the bytes of a file; a dict {"array" or "raw", "sampling_rate"} or {"bytes"} or {"path"}, as
    `datasets` gives them; or a bare array at the model's own rate (another one is named by `sampling_rate=`). Arrays
    are 1-D, or 2-D with channels. A list of inputs gives a list of results. `batch_size=` is the number of windows that
    are captioned at once, which bounds the memory however long a track is. `generate_kwargs={"num_beams": 1}` changes
    how captions are written.
    """

    model: Any
    feature_extractor: Any
    tokenizer: Any

    _load_feature_extractor: Any = True
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def _sanitize_parameters(  # type: ignore[override]
        self, sampling_rate: int | None = None, generate_kwargs: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        before = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
        during = {} if generate_kwargs is None else {"generate_kwargs": generate_kwargs}
        return before, during, {}

    def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """One window at a time, so that windows of many tracks fill one batch."""
        model_rate = self.feature_extractor.sampling_rate
        array, rate = read_audio(inputs, sampling_rate or model_rate)
        wave = to_mono_at(array, rate, model_rate)
        bounds = self.feature_extractor.chunk_bounds(len(wave))
        if not bounds:
            raise ValueError("the audio is empty; there is nothing to caption")
        for number, (start, end) in enumerate(bounds):
            features = self.feature_extractor(wave[start:end], sampling_rate=model_rate, return_tensors="pt")
            yield {
                "is_last": number == len(bounds) - 1,
                "input_features": features["input_features"],
                "start": start / model_rate,
                "end": end / model_rate,
            }

    def _forward(self, model_inputs: Any, generate_kwargs: dict[str, Any] | None = None) -> Any:  # type: ignore[override]
        tokens = self.model.generate(input_features=model_inputs["input_features"], **(generate_kwargs or {}))
        kept = {name: model_inputs[name] for name in ("is_last", "start", "end")}
        return {**kept, "tokens": tokens}

    def postprocess(self, model_outputs: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        """The windows of one track, in order."""
        return [
            {
                "start": float(window["start"]),
                "end": float(window["end"]),
                "text": self.tokenizer.decode(window["tokens"].reshape(-1), skip_special_tokens=True).strip(),
            }
            for window in model_outputs
        ]


def read_audio(source: Any, default_rate: int) -> tuple[np.ndarray, int]:
    """Samples, (n,) or with channels, and their rate in Hz, of any input that the pipeline takes.

    Raises `ValueError` for an input of another kind, and `ImportError` if a file is given and soundfile is missing.
    """
    if isinstance(source, dict):
        for name in ("array", "raw"):
            if source.get(name) is not None:
                if "sampling_rate" not in source:
                    raise ValueError(f"a dict with {name!r} needs 'sampling_rate' beside it")
                return _as_array(source[name]), int(source["sampling_rate"])
        source = source.get("bytes") or source.get("path")
    if isinstance(source, (str, os.PathLike, bytes)):
        if soundfile is None:
            raise ImportError("reading audio files needs soundfile: pip install soundfile soxr")
        file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        return soundfile.read(file, dtype="float32")
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _as_array(source), default_rate
    raise ValueError(f"audio of type {type(source).__name__} is unknown; give a path, bytes, a dict or an array")


def to_mono_at(array: np.ndarray, rate: int, wanted_rate: int) -> np.ndarray:
    """Mean of the channels (the shorter axis) at `wanted_rate`: float (samples,). Raises `ImportError` without soxr."""
    if array.ndim == 2:
        array = array.mean(axis=0 if array.shape[0] < array.shape[1] else 1)
    if rate == wanted_rate or not len(array):
        return array
    if soxr is None:
        raise ImportError(f"audio at {rate} Hz must be resampled to {wanted_rate} Hz: pip install soxr")
    return soxr.resample(array, rate, wanted_rate)


def _as_array(samples: Any) -> np.ndarray:
    return samples.detach().cpu().numpy() if isinstance(samples, torch.Tensor) else np.asarray(samples)


__all__ = ["MusicCaptioningPipeline"]
