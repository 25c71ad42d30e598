"""A captioner with random weights, small enough to build in every test."""

from __future__ import annotations

from typing import Any

import torch

from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.tokenizer import train_tokenizer

CAPTIONS = [
    "A calm piano piece with soft strings, slow and sad.",
    "Fast punk rock: loud guitars, shouted vocals.",
    "An ambient synth pad drifts over a slow beat.",
]


def small_config(**changes: Any) -> LpmcConfig:
    """Width 32, two layers a side, no dropout."""
    sizes: dict[str, Any] = {
        "vocab_size": 300,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
    return LpmcConfig(**(sizes | changes))


def small_model(seed: int = 0, **changes: Any) -> LpmcForConditionalGeneration:
    """Random weights from `seed`, spread widely, so that captions differ from clip to clip."""
    torch.manual_seed(seed)
    model = LpmcForConditionalGeneration(small_config(init_std=0.3, **changes)).eval()
    torch.nn.init.normal_(model.final_logits_bias, std=0.5)  # so that losing it would show
    return model


def ending_model() -> LpmcForConditionalGeneration:
    """Random weights whose captions of `features(6)` differ and end at different lengths: 20, 20, 20, 3, 20 and 15."""
    model = small_model(seed=3)
    with torch.no_grad():
        model.model.shared.weight[model.config.eos_token_id] *= 3  # so that the end depends on what was heard
        for layer in model.model.decoder.layers:
            layer.encoder_attn.v_proj.weight *= 4
        model.final_logits_bias[0, model.config.eos_token_id] = 0.0
    return model


def small_processor() -> LpmcProcessor:
    """The usual extractor with a tokenizer trained on `CAPTIONS`; its vocabulary has at most 300 tokens."""
    return LpmcProcessor(LpmcFeatureExtractor(), train_tokenizer(CAPTIONS, vocab_size=300))


def features(batch: int, seed: int = 0) -> torch.Tensor:
    """What looks like log-mel features, each clip with a spectrum of its own: (batch, 128, 1001)."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.randn(batch, 128, 1, generator=generator) * 30
    return spectrum + torch.randn(batch, 128, 1001, generator=generator) * 10 - 30
