"""A model whose captions are worth comparing, and the two ways to write them."""

from __future__ import annotations

from typing import Any

import torch
from small_captioner import features, small_model
from transformers import GenerationMixin

from modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.search_plan_lpmc import plan_search

LONGEST = 24


def lively_model(ends: float = 1.0, seed: int = 0, **sizes: Any) -> LpmcForConditionalGeneration:
    """A model whose clips differ, whose beams cross, and whose captions end sooner the larger `ends` is."""
    model = small_model(seed=seed, **({"max_position_embeddings": 64} | sizes))
    with torch.no_grad():
        for weight in (p for p in model.model.decoder.parameters() if p.ndim == 2):
            weight.mul_(5)
        model.final_logits_bias[0, model.config.eos_token_id] = ends
    return model


def by_library(model: LpmcForConditionalGeneration, **settings: Any) -> torch.Tensor:
    return GenerationMixin.generate(model, **settings)


def is_ours(model: LpmcForConditionalGeneration, **settings: Any) -> bool:
    return plan_search(model, None, None, {"input_features": features(1), **settings}) is not None
