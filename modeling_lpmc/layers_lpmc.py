# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""What the captioner has beside BART: the log-mel front end, the convolutions in front of the encoder, and the head.

This file travels to the Hub as remote code: it imports torch and its neighbours, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .configuration_lpmc import LpmcConfig
from .feature_extraction_lpmc import log_mel, mel_filter_table

MAX_TIMESCALE = 10_000  # of the sinusoidal positions (released code)
CONV_WIDTH = 3  # frames a convolution sees (paper 5.1)
HEAD_MULTIPLE = 8  # tensor cores take 16-byte rows: 8 numbers of bfloat16


def sinusoids(positions: int, channels: int) -> torch.Tensor:
    """Sinusoidal positions, sines then cosines side by side: float32 (positions, channels); `channels` is even."""
    step = math.log(MAX_TIMESCALE) / (channels // 2 - 1) if channels > 2 else 0.0
    inverse_timescales = torch.exp(-step * torch.arange(channels // 2, dtype=torch.float32))
    angles = torch.arange(positions)[:, None] * inverse_timescales[None, :]
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class LpmcLogMel(nn.Module):
    """Waveforms (batch, samples) to log-mel features (batch, mel, frames) inside the model, always in float32."""

    window: torch.Tensor
    mel_filters: torch.Tensor

    def __init__(self, config: LpmcConfig) -> None:
        super().__init__()
        self.n_fft = config.n_fft
        self.num_mel_bins = config.num_mel_bins
        self.sampling_rate = config.sampling_rate
        self.hop_length = config.hop_length
        self.spectrum = config.spectrum
        bins = self.n_fft // 2 + 1
        self.register_buffer("window", torch.empty(self.n_fft, dtype=torch.float32), persistent=False)
        self.register_buffer("mel_filters", torch.empty(bins, self.num_mel_bins, dtype=torch.float32), persistent=False)
        self.fill_tables()

    @torch.no_grad()
    def fill_tables(self) -> None:
        """Compute both tables anew; `from_pretrained` leaves unsaved buffers as raw memory."""
        self.window.copy_(torch.hann_window(self.n_fft, dtype=torch.float32, device="cpu"))
        with torch.device("cpu"):
            table = mel_filter_table(self.n_fft, self.num_mel_bins, self.sampling_rate)
        self.mel_filters.copy_(table)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> LpmcLogMel:
        def move_only(tensor: torch.Tensor) -> torch.Tensor:  # .half() and .to(bfloat16) must not round the tables
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move_only, recurse)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        if input_values.ndim != 2:
            raise ValueError(f"input_values have shape {tuple(input_values.shape)}; expected (clips, samples)")
        return log_mel(input_values, self.window, self.mel_filters, self.hop_length, self.spectrum)


def channels_last_convolution(conv: nn.Conv1d, hidden: torch.Tensor) -> torch.Tensor:
    """`conv` of `hidden` (batch, channels, frames) with channels innermost in memory, in and out.

    cuDNN computes so in any case, and would turn every activation around on its way in and out.
    """
    image = hidden.unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (batch, channels, 1, frames)
    stride, padding = (1, conv.stride[0]), (0, int(conv.padding[0]))
    return nn.functional.conv2d(image, conv.weight.unsqueeze(2), conv.bias, stride, padding).squeeze(2)


def filled_up_product(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`hidden` (..., width) times `weight` (tokens, width), the tokens filled up to a multiple of 8 on the way.

    bart-base has 50,265 tokens. With rows of odd length the matrix product leaves the fast kernels: on an H100 that
    made 30 of the 111 ms of a training update of 256 clips, and 62 of the 614 ms of captioning as many.
    """
    tokens = weight.shape[0]
    filled = nn.functional.pad(weight, (0, 0, 0, -tokens % HEAD_MULTIPLE))
    return nn.functional.linear(hidden, filled)[..., :tokens]


class LpmcConv1d(nn.Conv1d):
    """A convolution along time that suits the device; on a CPU exactly PyTorch's own."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return channels_last_convolution(self, hidden) if hidden.is_cuda else super().forward(hidden)


class LpmcHead(nn.Linear):
    """Hidden states to logits in a way that suits the device; on a CPU exactly PyTorch's own."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        fills = hidden.is_cuda and self.weight.shape[0] % HEAD_MULTIPLE
        return filled_up_product(hidden, self.weight) if fills else super().forward(hidden)


class LpmcConvStem(nn.Module):
    """Log-mel features (batch, mel, frames) to encoder inputs (batch, positions, d_model): 1001 frames to 32."""

    positional_embedding: torch.Tensor

    def __init__(self, config: LpmcConfig) -> None:
        super().__init__()
        width, padding = CONV_WIDTH, CONV_WIDTH // 2
        self.conv1 = LpmcConv1d(config.num_mel_bins, config.d_model, width, stride=1, padding=padding)
        self.conv_stack = nn.ModuleList(
            LpmcConv1d(config.d_model, config.d_model, width, stride=2, padding=padding)
            for _ in range(config.num_conv_layers - 1)
        )
        shape = (config.max_source_frames, config.d_model)
        self.register_buffer("positional_embedding", torch.empty(shape, dtype=torch.float32), persistent=False)
        self.most_positions = min(config.max_source_frames, config.max_position_embeddings)
        self.fill_tables()

    @torch.no_grad()
    def fill_tables(self) -> None:
        """Compute the positions anew; `from_pretrained` leaves unsaved buffers as raw memory."""
        with torch.device("cpu"):
            table = sinusoids(*self.positional_embedding.shape)
        self.positional_embedding.copy_(table)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        if input_features.ndim != 3 or input_features.shape[1] != self.conv1.in_channels:
            raise ValueError(
                f"input_features have shape {tuple(input_features.shape)}; expected (clips, {self.conv1.in_channels}, "
                "frames), as the feature extractor makes them"
            )
        hidden = input_features.to(self.conv1.weight.dtype)  # float32 features meet bfloat16 weights here
        hidden = nn.functional.gelu(self.conv1(hidden))
        for conv in self.conv_stack:
            hidden = nn.functional.gelu(conv(hidden))
        hidden = hidden.transpose(1, 2)  # (batch, positions, d_model)
        positions, limit = hidden.shape[1], self.most_positions
        if positions > limit:
            raise ValueError(
                f"{input_features.shape[-1]} frames give {positions} encoder positions, and this model has {limit}; "
                "split the audio into windows"
            )
        return hidden + self.positional_embedding[:positions].to(hidden.dtype)


__all__ = ["LpmcConv1d", "LpmcConvStem", "LpmcHead", "LpmcLogMel", "sinusoids"]
