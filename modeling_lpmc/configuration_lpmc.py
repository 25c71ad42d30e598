# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Configuration of the LP-MusicCaps captioner: bart-base sizes, six convolutions, and the mel contract.

This file travels to the Hub as remote code: it imports transformers and nothing of this project.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from transformers import BartConfig
from transformers.utils import is_torchaudio_available, logging

logger = logging.get_logger(__name__)

# What the extractor and the model inside must agree on: fields of the config and of the extractor.
MEL_CONTRACT = ("sampling_rate", "n_fft", "hop_length", "num_mel_bins", "spectrum", "chunk_seconds")
SPECTRA = ("real", "power")  # what is squared before the mel filters: Re(STFT), as released, or |STFT|


def leave_out_a_broken_torchaudio() -> None:
    """Make transformers importable beside a torchaudio that cannot be loaded, such as one built for another torch.

    Nothing here uses torchaudio, but newer releases of transformers import it with every model where it is installed
    and fail as it fails. Then this process goes on as if torchaudio were not installed, and says so in a warning.
    """
    if importlib.util.find_spec("torchaudio") is None:
        return
    try:
        importlib.import_module("transformers.audio_utils")
    except Exception as error:  # a missing library or symbol, another CUDA: torchaudio fails in many ways
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # Python's own way to say: not importable
        getattr(is_torchaudio_available, "cache_clear", lambda: None)()  # it has just said yes
        importlib.import_module("transformers.audio_utils")  # raises what else may be wrong
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning(
            f"torchaudio: installed but broken ({reason}), so it is left out here; uninstall it, or install the build "
            "that belongs to this torch"
        )


# This file is the first that is loaded, and all others need what torchaudio would keep from loading.
leave_out_a_broken_torchaudio()


class LpmcConfig(BartConfig):
    """Sizes of the encoder-decoder and how audio becomes its input.

    Defaults are those of the released model (facebook/bart-base sizes; paper section 5.1). The dropouts are bart-base's
    0.1, where the library's BartConfig says 0.0 for two of them. Everything else is passed on to `BartConfig`.

    Args:
        num_mel_bins: mel bands of `input_features`.
        num_conv_layers: convolutions of width 3 in front of the encoder; all but the first halve the time axis.
        max_source_frames: rows of the sinusoidal table, the most positions the encoder takes (10 s give 32).
        label_smoothing: smoothing of the training loss; as released it also holds when evaluating.
        sampling_rate: Hz. n_fft, hop_length: samples.
        spectrum: "real" squares the real part of the STFT (the released weights need it), "power" its magnitude
            (only for weights trained that way).
        chunk_seconds: length of one window of audio, in seconds.

    Raises:
        ValueError: for an unknown `spectrum` or a size that cannot be.
    """

    model_type = "lpmc"

    if TYPE_CHECKING:  # BartConfig lets these be None; here they never are
        d_model: int
        bos_token_id: int
        pad_token_id: int
        eos_token_id: int
        decoder_start_token_id: int

    def __init__(
        self,
        vocab_size: int = 50265,
        max_position_embeddings: int = 1024,
        d_model: int = 768,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        encoder_attention_heads: int = 12,
        decoder_attention_heads: int = 12,
        encoder_ffn_dim: int = 3072,
        decoder_ffn_dim: int = 3072,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        num_mel_bins: int = 128,
        num_conv_layers: int = 6,
        max_source_frames: int = 32,
        label_smoothing: float = 0.1,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 160,
        spectrum: str = "real",
        chunk_seconds: float = 10.0,
        **kwargs: Any,
    ) -> None:
        if spectrum not in SPECTRA:
            raise ValueError(f"spectrum {spectrum!r} is unknown; use one of {', '.join(SPECTRA)}")
        if num_conv_layers < 1:
            raise ValueError(f"num_conv_layers is {num_conv_layers}; at least 1 is needed")
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; the sinusoidal positions need an even number")
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1)")
        self.num_mel_bins = num_mel_bins
        self.num_conv_layers = num_conv_layers
        self.max_source_frames = max_source_frames
        self.label_smoothing = label_smoothing
        self.sampling_rate = sampling_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.spectrum = spectrum
        self.chunk_seconds = chunk_seconds
        kwargs.setdefault("tie_word_embeddings", True)  # without the field transformers v5 unties the head silently
        super().__init__(
            vocab_size=vocab_size,
            max_position_embeddings=max_position_embeddings,
            d_model=d_model,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            encoder_attention_heads=encoder_attention_heads,
            decoder_attention_heads=decoder_attention_heads,
            encoder_ffn_dim=encoder_ffn_dim,
            decoder_ffn_dim=decoder_ffn_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            **kwargs,
        )

    def __eq__(self, other: object) -> bool:
        # Version 5 compares the fields of dataclasses alone, and those above are none.
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = BartConfig.__hash__


__all__ = ["LpmcConfig"]
