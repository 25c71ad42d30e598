"""A captioner beside its twin that generates with nothing but the library's own code."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import GenerationMixin
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import ModelOutput

from modeling_lpmc import LpmcForConditionalGeneration

# The audio's way in; all else that the model adds to the library's generation is there for speed alone.
_WAY_IN = ("prepare_inputs_for_generation", "_prepare_model_inputs")


def with_library_generation(model: LpmcForConditionalGeneration) -> LpmcForConditionalGeneration:
    """The same weights with every step of `generate` as transformers has it, and both caches reordered for beams."""

    def reorder_both(past_key_values: Any, beam_idx: torch.Tensor) -> Any:
        past_key_values.reorder_cache(beam_idx)
        return past_key_values

    ours = {name for kind in type(model).__mro__ for name in vars(kind) if not issubclass(GenerationMixin, kind)}
    steps = {name: step for name, step in vars(GenerationMixin).items() if not name.startswith("__")}
    replaced = {name: step for name, step in steps.items() if name in ours and name not in _WAY_IN}
    twin = copy.copy(model)  # shares modules and tensors
    twin.__class__ = type(
        type(model).__name__, (type(model),), replaced | {"_reorder_cache": staticmethod(reorder_both)}
    )
    return twin


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Assert that two results of `generate` hold equal tokens and, to rounding, equal numbers."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=lambda text: f"{where}: {text}")
    elif isinstance(theirs, ModelOutput):
        assert list(ours) == list(theirs), where
        for name, value in theirs.items():
            same(ours[name], value, f"{where}.{name}")
    elif isinstance(theirs, tuple):
        assert len(ours) == len(theirs), where
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{where}[{place}]")
    elif isinstance(theirs, EncoderDecoderCache):
        assert ours.get_seq_length() == theirs.get_seq_length(), where
    else:
        assert ours == theirs, where


def both(model: LpmcForConditionalGeneration, *positional: Any, **settings: Any) -> tuple[Any, Any]:
    """What the model and the library's own `generate` make of the same call, from the same random state."""
    results = []
    for each in (model, with_library_generation(model)):
        torch.manual_seed(11)
        results.append(each.generate(*positional, **copy.copy(settings)))
    return results[0], results[1]
