"""A second description of the released captioner, for tests: what its code computes, from its checkpoint alone.

It shares nothing with the project. Real part of the STFT, HTK filters, convolutions and sinusoids are a few lines of
torch each; encoder and decoder are transformers' stock BART. Checkpoints of any size and seed are made here in the
released format, and signals of many kinds to run them on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

RATE, HOP = 16_000, 160  # Hz and samples, fixed in the released code

# How the released code decodes; four of these come from facebook/bart-base without being asked for.
RELEASED_DECODING: dict[str, Any] = {
    "num_beams": 5,
    "max_length": 128,
    "min_length": 2,
    "no_repeat_ngram_size": 3,
    "early_stopping": True,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "decoder_start_token_id": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a checkpoint; all but `seconds` and the heads show in its weights."""

    d_model: int = 48
    encoder_layers: int = 2
    decoder_layers: int = 2
    encoder_heads: int = 4
    decoder_heads: int = 4
    encoder_ffn: int = 96
    decoder_ffn: int = 96
    vocab: int = 300
    positions: int = 96
    mels: int = 128
    convs: int = 6
    n_fft: int = 1024
    seconds: int = 10

    @property
    def frames(self) -> int:
        """Rows of the table of sinusoids: the frames that are left after the convolutions."""
        return self.seconds * RATE // HOP // 2 ** (self.convs - 1) + 1

    def told(self) -> dict[str, Any]:
        """What a sizes.json must say of it."""
        return {
            "encoder_attention_heads": self.encoder_heads,
            "decoder_attention_heads": self.decoder_heads,
            "duration": self.seconds,
        }


FULL_SIZE = Sizes(
    d_model=768,
    encoder_layers=6,
    decoder_layers=6,
    encoder_heads=12,
    decoder_heads=12,
    encoder_ffn=3072,
    decoder_ffn=3072,
    vocab=50265,
    positions=1024,
)


def mel_table(n_fft: int, mels: int) -> torch.Tensor:
    """Triangles between equidistant points of the HTK mel scale, 0 to 8,000 Hz, of height 1: (n_fft // 2 + 1, mels)."""
    hertz = torch.linspace(0, RATE // 2, n_fft // 2 + 1)
    top = 2595.0 * math.log10(1.0 + RATE / 2 / 700.0)
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, top, mels + 2) / 2595.0) - 1.0)
    slopes = corners[None, :] - hertz[:, None]
    down = -slopes[:, :-2] / (corners[1:-1] - corners[:-2])
    up = slopes[:, 2:] / (corners[2:] - corners[1:-1])
    return torch.minimum(down, up).clamp(min=0)


def sinusoid_table(positions: int, channels: int) -> torch.Tensor:
    """Sines, then cosines, with timescales from 1 to 10,000: (positions, channels)."""
    timescales = torch.exp(-math.log(10_000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(positions)[:, None] * timescales
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def make_state(sizes: Sizes, seed: int, *, eos_bias: float = 0.0, bias_noise: float = 0.0) -> dict[str, torch.Tensor]:
    """Random weights under released names. Matrices of BART are widened, so that clips and beams differ.

    `eos_bias` is added to the logit of `</s>`, so that captions end before they must; `bias_noise` is the spread of the
    other biases.
    """
    torch.manual_seed(seed)
    bart = BartForConditionalGeneration(_bart_config(sizes))
    state: dict[str, torch.Tensor] = {}
    gain = 6.0 * math.sqrt(96 / sizes.d_model)  # 6 at a width of 96
    for key, value in bart.state_dict().items():
        state[f"bart.{key}"] = value * (gain if value.ndim == 2 and "bias" not in key else 1.0)
    for copy in ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):  # one tensor, as in the files
        state[f"bart.{copy}.weight"] = state["bart.model.shared.weight"]
    bias = torch.randn(1, sizes.vocab) * bias_noise
    bias[0, 2] = eos_bias
    state["bart.final_logits_bias"] = bias
    state["audio_encoder.positional_embedding"] = sinusoid_table(sizes.frames, sizes.d_model)
    state["audio_encoder.mel_encoder.spec_fn.window"] = torch.hann_window(sizes.n_fft)
    state["audio_encoder.mel_encoder.mel_scale.fb"] = mel_table(sizes.n_fft, sizes.mels)
    for number in range(sizes.convs):
        name = "conv1" if number == 0 else f"conv_stack.{number - 1}"
        conv = torch.nn.Conv1d(sizes.mels if number == 0 else sizes.d_model, sizes.d_model, 3)
        state[f"audio_encoder.{name}.weight"] = conv.weight.detach()
        state[f"audio_encoder.{name}.bias"] = conv.bias.detach()
    return state


def save_checkpoint(state: dict[str, torch.Tensor], path: Path, **extra: Any) -> Path:
    """The file that the released training writes."""
    torch.save({"epoch": 7, "state_dict": state, "optimizer": {}} | extra, path)
    return path


def _bart_config(sizes: Sizes) -> BartConfig:
    return BartConfig(
        vocab_size=sizes.vocab,
        d_model=sizes.d_model,
        encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers,
        encoder_attention_heads=sizes.encoder_heads,
        decoder_attention_heads=sizes.decoder_heads,
        encoder_ffn_dim=sizes.encoder_ffn,
        decoder_ffn_dim=sizes.decoder_ffn,
        max_position_embeddings=sizes.positions,
    )


@dataclass
class ReleasedModel:
    """A checkpoint as the released code runs it, in evaluation mode."""

    sizes: Sizes
    state: dict[str, torch.Tensor]
    bart: BartForConditionalGeneration = field(init=False)

    def __post_init__(self) -> None:
        self.bart = BartForConditionalGeneration(_bart_config(self.sizes)).eval()
        self.bart.load_state_dict(
            {key.removeprefix("bart."): value.float() for key, value in self.state.items() if key.startswith("bart.")}
        )

    def log_mel(self, waves: torch.Tensor) -> torch.Tensor:
        """dB of the mel bands of the squared real part: (clips, mels, frames)."""
        table = self.state["audio_encoder.mel_encoder.mel_scale.fb"]
        window = self.state["audio_encoder.mel_encoder.spec_fn.window"]
        spectrum = torch.stft(
            waves, self.sizes.n_fft, HOP, self.sizes.n_fft, window, center=True, pad_mode="reflect", return_complex=True
        )
        bands = torch.einsum("cft,fm->cmt", spectrum.real**2, table)
        return 10 * bands.clamp(min=1e-10).log10()

    def embeddings(self, mel: torch.Tensor) -> torch.Tensor:
        """What the convolutions and the sinusoids make of it: (clips, positions, d_model)."""
        hidden = mel
        for number in range(self.sizes.convs):
            name = "audio_encoder." + ("conv1" if number == 0 else f"conv_stack.{number - 1}")
            weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
            hidden = functional.gelu(functional.conv1d(hidden, weight, bias, stride=2 if number else 1, padding=1))
        return hidden.mT + self.state["audio_encoder.positional_embedding"]

    @torch.no_grad()
    def encode(self, waves: torch.Tensor) -> torch.Tensor:
        return self.bart.model.encoder(inputs_embeds=self.embeddings(self.log_mel(waves))).last_hidden_state

    @torch.no_grad()
    def loss(self, waves: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.1) -> torch.Tensor:
        """Mean cross-entropy of the tokens that are not -100, smoothed, with the mask that the released code passes."""
        started = torch.cat([torch.full_like(labels[:, :1], 2), labels[:, :-1]], dim=1)
        logits = self.bart(
            encoder_outputs=BaseModelOutput(self.encode(waves)),
            decoder_input_ids=started.masked_fill(started == -100, 1),
            decoder_attention_mask=(labels != -100).long(),
        ).logits
        counted = labels != -100
        logs = functional.log_softmax(logits[counted], dim=-1)
        right = logs.gather(1, labels[counted][:, None])[:, 0]
        return -((1 - smoothing) * right + smoothing * logs.mean(dim=1)).mean()

    @torch.no_grad()
    def generate(self, waves: torch.Tensor, **changes: Any) -> torch.Tensor:
        """Tokens by the library's own search, with the released settings and `changes`."""
        settings = RELEASED_DECODING | {"max_length": min(128, self.sizes.positions)} | changes
        if settings["num_beams"] == 1:
            settings["early_stopping"] = False  # which the library would only warn of
        self.bart.generation_config = GenerationConfig(**settings)
        return self.bart.generate(encoder_outputs=BaseModelOutput(self.encode(waves)))


def expected_arrays(model: ReleasedModel, waves: torch.Tensor, labels: torch.Tensor, max_length: int) -> dict[str, Any]:
    """What the released code computes for clips and captions, named as in the material that came with the project."""
    mel = model.log_mel(waves)
    return {
        "log_mel": mel[:, :, ::8].numpy(),
        "log_mel_stride": np.int64(8),
        "audio_embeddings": model.embeddings(mel).numpy(),
        "encoder_last_hidden_state": model.encode(waves).numpy(),
        "labels": labels.numpy(),
        "loss": np.float64(model.loss(waves, labels)),
        "beam5_tokens": model.generate(waves, max_length=max_length).numpy(),
        "greedy_tokens": model.generate(waves, max_length=max_length, num_beams=1).numpy(),
    }


def random_labels(sizes: Sizes, lengths: tuple[int, ...], seed: int) -> torch.Tensor:
    """Captions `<s> ... </s>` of random tokens, filled up with -100: (captions, longest)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), -100)
    for row, length in zip(rows, lengths, strict=True):
        row[0], row[length - 1] = 0, 2
        row[1 : length - 1] = torch.randint(4, sizes.vocab, (length - 2,), generator=generator)
    return rows


def _clicks(time: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    wave = torch.zeros_like(time)
    wave[:: RATE // 3] = 0.9
    return wave


def _speech_like(time: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A buzzing voice whose pitch wanders, opening and closing four times a second."""
    pitch = 120 + 20 * torch.sin(2 * math.pi * 0.7 * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / RATE
    buzz = sum(torch.sin(n * phase) / n for n in range(1, 12))
    return 0.15 * buzz * torch.sin(2 * math.pi * 4 * time).clamp(min=0) + 0.002 * noise


Signal = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SIGNALS: dict[str, Signal] = {  # of the time in seconds and of white noise of deviation 1
    "tone": lambda time, noise: 0.5 * torch.sin(2 * math.pi * 440 * time),
    "chord": lambda time, noise: sum(0.2 * torch.sin(2 * math.pi * f * time) for f in (196.0, 246.9, 293.7)),
    "noise": lambda time, noise: 0.2 * noise,
    "chirp": lambda time, noise: 0.4 * torch.sin(2 * math.pi * (50 * time + 350 * time**2)),
    "silence": lambda time, noise: torch.zeros_like(time),
    "half silence": lambda time, noise: torch.where(time < time[-1] / 2, 0.1 * noise, 0.0),
    "clicks": _clicks,
    "speech-like": _speech_like,
    "full scale": lambda time, noise: torch.sign(torch.sin(2 * math.pi * 110 * time)),
    "very quiet": lambda time, noise: 1e-5 * noise,
    "DC": lambda time, noise: 0.3 + 0.01 * noise,
    "above full scale": lambda time, noise: 3.0 * torch.sin(2 * math.pi * 90 * time) + noise,
}


def signal(kind: str, seconds: int = 10, seed: int = 0) -> torch.Tensor:
    """One clip of a kind of `SIGNALS`: (samples,), float32."""
    time = torch.arange(seconds * RATE) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    return SIGNALS[kind](time, noise).float()


def clips(*kinds: str, seconds: int = 10, seed: int = 0) -> torch.Tensor:
    """Clips of these kinds, each with noise of its own: (clips, samples)."""
    return torch.stack([signal(kind, seconds, seed + number) for number, kind in enumerate(kinds)])
