# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Audio to the log-mel spectrogram of the released captioner, and long audio to ten-second windows.

Two things differ from every other extractor, and the released weights need both: the spectrum is the *real part* of the
STFT, squared (not its magnitude), and padding is silence in the waveform, so that a silent frame is exactly -100 dB.

This file travels to the Hub as remote code: it imports torch, numpy, transformers and its neighbour, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

# First: beside a broken torchaudio the import of transformers below needs what this one does.
from .configuration_lpmc import MEL_CONTRACT, SPECTRA

# isort: split
from transformers import BatchFeature, SequenceFeatureExtractor

POWER_FLOOR = 1e-10  # 10 * log10 of it is -100 dB: the value of silence (torchaudio's AmplitudeToDB, as released)
MAX_CHANNELS = 8  # a 2-D clip whose short axis is longer than this is not multi-channel audio

Audio = Any  # 1-D floats as numpy array, torch tensor or list; 2-D for several channels; or a list of such clips


def mel_filter_table(n_fft: int, num_mel_bins: int, sampling_rate: int) -> torch.Tensor:
    """HTK mel filters without normalisation, from 0 Hz to half the rate; float32 (n_fft // 2 + 1, num_mel_bins).

    The arithmetic is float32 in the order of torchaudio's `melscale_fbanks`, so that the table equals the one inside
    the released checkpoints bit for bit; `transformers.audio_utils.mel_filter_bank` differs from it by up to 1.3e-5.
    """
    top_mel = 2595.0 * np.log10(1.0 + (sampling_rate // 2) / 700.0)
    bin_hz = torch.linspace(0, sampling_rate // 2, n_fft // 2 + 1, dtype=torch.float32)
    edge_mel = torch.linspace(0.0, float(top_mel), num_mel_bins + 2, dtype=torch.float32)
    edge_hz = 700.0 * (10.0 ** (edge_mel / 2595.0) - 1.0)
    width = edge_hz[1:] - edge_hz[:-1]
    distance = edge_hz.unsqueeze(0) - bin_hz.unsqueeze(1)  # (bins, mel edges)
    falling = (-1.0 * distance[:, :-2]) / width[:-1]
    rising = distance[:, 2:] / width[1:]
    return torch.min(falling, rising).clamp(min=0.0)


def log_mel(
    waveforms: torch.Tensor, window: torch.Tensor, mel_filters: torch.Tensor, hop_length: int, spectrum: str = "real"
) -> torch.Tensor:
    """Log-mel spectrogram in dB of `waveforms` (batch, samples): float32 (batch, mel, samples // hop + 1).

    `window` (n_fft,) and `mel_filters` (n_fft // 2 + 1, mel) are float32 on the device of `waveforms`. Autocast is
    switched off inside: bfloat16 would round by up to 0.12 dB. `spectrum` is "real" (as released) or "power".
    """
    with torch.autocast(device_type=waveforms.device.type, enabled=False):
        stft = torch.stft(
            waveforms.float(),
            n_fft=window.shape[0],
            hop_length=hop_length,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        energy = stft.real.pow(2) if spectrum == "real" else stft.real.pow(2) + stft.imag.pow(2)
        mel = torch.matmul(energy.transpose(-1, -2), mel_filters).transpose(-1, -2)
        return 10.0 * torch.log10(torch.clamp(mel, min=POWER_FLOOR))


class LpmcFeatureExtractor(SequenceFeatureExtractor):
    """Turns waveforms into `input_features` of shape (batch, mel bins, frames); 10 s give (batch, 128, 1001) in dB.

    A *clip* is mono float audio in [-1, 1] at `sampling_rate`: a 1-D numpy array, torch tensor or list of floats. A
    clip may have channels, (channels, samples) or (samples, channels): its shorter axis, at most 8 long, is averaged.
    A *batch* is a list or tuple of clips, or a 2-D array (clips, samples). As a bare 2-D array means a batch, pass
    stereo inside a list; only (samples, channels), as soundfile reads files, is recognised bare.

    Args:
        num_mel_bins, sampling_rate (Hz), n_fft and hop_length (samples), chunk_seconds, spectrum: see `LpmcConfig`.
        min_tail_seconds: a remainder shorter than this after the last full window is dropped: a sliver of a song makes
            the model invent, and its sound is not lost to the ear.
    """

    model_input_names = ["input_features"]

    def __init__(
        self,
        num_mel_bins: int = 128,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 160,
        chunk_seconds: float = 10.0,
        min_tail_seconds: float = 0.5,
        spectrum: str = "real",
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("return_attention_mask", False)  # padding is silence, which the model hears
        kwargs.pop("feature_size", None)  # saved by the base class; the same number as num_mel_bins
        if spectrum not in SPECTRA:
            raise ValueError(f"spectrum {spectrum!r} is unknown; use one of {', '.join(SPECTRA)}")
        if padding_value != 0.0:
            raise ValueError(f"padding_value is {padding_value}; this model pads the waveform with silence, 0.0")
        super().__init__(feature_size=num_mel_bins, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.num_mel_bins = num_mel_bins
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.chunk_seconds = chunk_seconds
        self.min_tail_seconds = min_tail_seconds
        self.spectrum = spectrum
        # transformers leaves exactly these two names out of the saved JSON
        self.window = torch.hann_window(n_fft, dtype=torch.float32)
        self.mel_filters = mel_filter_table(n_fft, num_mel_bins, sampling_rate)

    @classmethod
    def for_config(cls, config: Any) -> LpmcFeatureExtractor:
        """The extractor whose features a model of this `LpmcConfig` was made for."""
        return cls(**{name: getattr(config, name) for name in MEL_CONTRACT})

    @property
    def chunk_samples(self) -> int:
        """Samples of one window (160,000 for 10 s)."""
        return round(self.chunk_seconds * self.sampling_rate)

    def chunk_bounds(self, num_samples: int) -> list[tuple[int, int]]:
        """Where the windows of a track of `num_samples` lie: (start, end) in samples, in order.

        Windows stand end to end; the last one is shifted back so that it ends with the track, and thus overlaps its
        neighbour. A remainder below `min_tail_seconds` is dropped. A track shorter than one window is one window
        (0, num_samples), which the extractor fills up with silence. An empty track has none.
        """
        chunk = self.chunk_samples
        if num_samples <= 0:
            return []
        if num_samples <= chunk:
            return [(0, num_samples)]
        full, tail = divmod(num_samples, chunk)
        bounds = [(index * chunk, (index + 1) * chunk) for index in range(full)]
        if tail >= self.min_tail_seconds * self.sampling_rate:
            bounds.append((num_samples - chunk, num_samples))
        return bounds

    def waveforms(
        self, audio: Audio, sampling_rate: int | None = None, device: str | torch.device = "cpu"
    ) -> torch.Tensor:
        """Checked clips, mono, each padded with silence to one window: float32 (batch, chunk_samples).

        This is the `input_values` route of the model, which then computes the spectrogram itself.
        Raises `ValueError` as calling the extractor does.
        """
        self._check_rate(sampling_rate)
        return torch.stack([self._fit(clip) for clip in self._clips(audio)]).to(device)

    def __call__(
        self,
        audio: Audio,
        sampling_rate: int | None = None,
        chunk: bool = False,
        return_tensors: str | None = None,
        device: str | torch.device = "cpu",
    ) -> BatchFeature:
        """Compute `input_features` for a clip or a batch of clips (see the class for what a clip is).

        Args:
            sampling_rate: of the audio, in Hz. Required, so that audio at another rate cannot pass unnoticed.
            chunk: split every clip into windows as `chunk_bounds` says. The result then also holds
                `audio_chunk_index` [(clip, window)], `chunk_start_seconds` and `chunk_end_seconds`, one entry a row of
                `input_features`. Without it a clip may be at most one window (and a tail that would be dropped) long.
            return_tensors: "pt" or "np"; by default a list of numpy arrays.
            device: where the spectrogram is computed.

        Raises:
            ValueError: the rate is missing or another one; audio is empty, integer, not finite or of a wrong shape; a
                clip is too long and `chunk` is false.
        """
        self._check_rate(sampling_rate)
        clips = self._clips(audio)
        index: list[tuple[int, int]] = []
        bounds: list[tuple[int, int]] = []
        if chunk:
            for number, clip in enumerate(clips):
                windows = self.chunk_bounds(clip.shape[0])
                index += [(number, position) for position in range(len(windows))]
                bounds += windows
            rows = [
                self._fit(clips[number][start:end]) for (number, _), (start, end) in zip(index, bounds, strict=True)
            ]
        else:
            rows = [self._fit(clip) for clip in clips]
        features = log_mel(
            torch.stack(rows).to(device),
            self.window.to(device),
            self.mel_filters.to(device),
            self.hop_length,
            self.spectrum,
        )
        if return_tensors is None:
            result = BatchFeature({"input_features": list(features.cpu().numpy())})
        elif return_tensors == "pt":
            result = BatchFeature({"input_features": features})
        else:
            result = BatchFeature({"input_features": features.cpu().numpy()}, tensor_type=return_tensors)
        if chunk:  # plain lists: they are book-keeping, never input of the network
            result["audio_chunk_index"] = index
            result["chunk_start_seconds"] = [start / self.sampling_rate for start, _ in bounds]
            result["chunk_end_seconds"] = [end / self.sampling_rate for _, end in bounds]
        return result

    def _check_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            raise ValueError(
                f"sampling_rate is missing; pass the rate of the audio, which must be {self.sampling_rate}"
            )
        if sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate is {sampling_rate} Hz; resample the audio to {self.sampling_rate} Hz first"
            )

    def _fit(self, clip: torch.Tensor) -> torch.Tensor:
        """One clip cut or padded to exactly one window; a clip that is too long to be cut silently raises."""
        excess = clip.shape[0] - self.chunk_samples
        if excess >= self.min_tail_seconds * self.sampling_rate:
            raise ValueError(
                f"a clip of {clip.shape[0] / self.sampling_rate:g} s is longer than the window of "
                f"{self.chunk_seconds:g} s; pass chunk=True to split it"
            )
        if excess >= 0:
            return clip[: self.chunk_samples]
        return torch.nn.functional.pad(clip, (0, -excess))

    def _clips(self, audio: Audio) -> list[torch.Tensor]:
        if isinstance(audio, (list, tuple)) and audio and not isinstance(audio[0], (int, float, np.number)):
            clips: Sequence[Any] = audio
        elif isinstance(audio, (np.ndarray, torch.Tensor)) and audio.ndim == 2 and not _is_interleaved(audio.shape):
            clips = list(audio)
        else:
            clips = [audio]
        if not len(clips):
            raise ValueError("the batch is empty; pass at least one clip")
        return [_mono(clip, number) for number, clip in enumerate(clips)]


def _is_interleaved(shape: Sequence[int]) -> bool:
    """Whether a 2-D shape reads as (samples, channels): few columns, many rows."""
    return shape[1] <= MAX_CHANNELS < shape[0]


def _mono(clip: Any, number: int) -> torch.Tensor:
    """One clip as finite mono float32 (samples,). Raises `ValueError` naming the clip by its `number` in the batch."""
    if isinstance(clip, (str, bytes, os.PathLike, Mapping)):
        raise ValueError(
            f"clip {number} is a {type(clip).__name__}; give its samples as floats, or the file or dict to "
            'pipeline("music-captioning")'
        )
    tensor = clip.detach() if isinstance(clip, torch.Tensor) else torch.from_numpy(np.array(clip))
    if not tensor.is_floating_point():
        raise ValueError(
            f"clip {number} has {tensor.dtype} samples; convert them to floats in [-1, 1] (int16: divide by 32768)"
        )
    tensor = tensor.float()
    if tensor.ndim == 2:
        channel_axis = 0 if tensor.shape[0] < tensor.shape[1] else 1
        if tensor.shape[channel_axis] > MAX_CHANNELS:
            raise ValueError(f"clip {number} has shape {tuple(tensor.shape)}; expected samples, or at most 8 channels")
        tensor = tensor.mean(dim=channel_axis)
    if tensor.ndim != 1:
        raise ValueError(f"clip {number} has {tensor.ndim} dimensions; expected samples, or channels and samples")
    if not tensor.shape[0]:
        raise ValueError(f"clip {number} is empty; leave it out of the batch")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"clip {number} holds NaN or infinite samples; the file is damaged or was scaled wrongly")
    return tensor


__all__ = ["LpmcFeatureExtractor", "log_mel", "mel_filter_table"]
