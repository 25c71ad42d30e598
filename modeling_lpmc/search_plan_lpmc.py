# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Which calls of `generate` this model's own search takes on, and what they ask for.

`plan_search` knows greedy and beam search under settings of the kind that the released model decodes with, of a model
that is as this project builds it. Everything else (sampling, processors, wrapped layers, autocast, ...) stays with the
library; a setting that a later version adds does so too, unless it has its neutral value.

This file travels to the Hub as remote code: it imports torch and transformers, nothing else.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

_MODEL_INPUTS = frozenset({"input_features", "input_values", "encoder_outputs"})
WINDOW_BOOK_KEEPING = ("audio_chunk_index", "chunk_start_seconds", "chunk_end_seconds")  # the extractor's, for people
# Labels are what Seq2SeqTrainer hands on while it evaluates; the library makes nothing of them either.
_NO_INPUTS = frozenset({*WINDOW_BOOK_KEEPING, "labels"})
_PLAIN_ATTENTION = frozenset({"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"})
_KNOWN_SETTINGS = frozenset(
    {
        "num_beams",
        "max_length",
        "max_new_tokens",
        "min_length",
        "no_repeat_ngram_size",
        "early_stopping",
        "length_penalty",
        "num_return_sequences",
        "decoder_start_token_id",
        "bos_token_id",
        "pad_token_id",
        "eos_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "use_cache",  # checked below
        "do_sample",
    }
)
# Of no effect without sampling, or without an assistant (which is not one of the arguments known here).
_IDLE_SETTINGS = frozenset(
    {
        *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
        *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
        *("assistant_lookbehind", "target_lookbehind", "is_assistant"),
    }
)
# What means the same as nothing. Versions 4 start with these, and 5 writes them out on generating and on saving.
_NEUTRAL = {
    "num_beams": 1,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "early_stopping": False,
    "length_penalty": 1.0,
    "num_return_sequences": 1,
    "use_cache": True,
    "do_sample": False,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "diversity_penalty": 0.0,
    "num_beam_groups": 1,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict_in_generate": False,
    "low_memory": False,
    "return_legacy_cache": False,
    "disable_compile": False,
    "token_healing": False,
}
_NOT_SETTINGS = frozenset({"transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash"})


@dataclass(frozen=True)
class SearchPlan:
    """A search that this file knows, with tokens as ids and lengths in tokens, the decoder's start token included."""

    num_beams: int
    num_return_sequences: int
    max_length: int
    min_length: int
    no_repeat_ngram_size: int
    early_stopping: bool
    length_penalty: float
    start: int
    end: int
    pad: int
    forced_first: int | None
    forced_last: int | None

    @property
    def prompt(self) -> list[int]:
        """The tokens that are known beforehand."""
        return [self.start] if self.forced_first is None else [self.start, self.forced_first]


def plan_search(
    captioner: Any, inputs: Any, generation_config: GenerationConfig | None, arguments: dict[str, Any]
) -> tuple[SearchPlan, dict[str, Any]] | None:
    """The search that `captioner.generate(inputs, generation_config, **arguments)` asks for, and the model's inputs.

    None if it is one that the library has to do.
    """
    own = captioner.generation_config
    try:
        settings = copy.deepcopy(own if generation_config is None else generation_config)
        model_inputs = {name: value for name, value in settings.update(**arguments).items() if value is not None}
        if model_inputs.get("synced_gpus") is False:  # Seq2SeqTrainer's; it means the same as nothing
            del model_inputs["synced_gpus"]
        asked, usual = _set(settings), _set(GenerationConfig())
        if generation_config is not None:
            # The library may fill up what the given one leaves open; how differs between versions.
            for name, value in _set(own).items():
                if asked.get(name) == usual.get(name) != value:
                    return None
    except Exception:  # a setting that the library does not accept: it says so best
        return None
    if any(asked.get(name) != usual.get(name) for name in asked.keys() | usual.keys() if name not in _KNOWN_SETTINGS):
        return None
    plan = _plan(captioner, settings)
    if plan is None or not _is_plain(captioner) or not _tokens_suffice(captioner, plan):
        return None
    model_inputs = {name: value for name, value in model_inputs.items() if name not in _NO_INPUTS}
    if inputs is not None:
        if "input_features" in model_inputs:
            return None
        model_inputs["input_features"] = inputs
    if len(model_inputs) != 1 or not model_inputs.keys() <= _MODEL_INPUTS:
        return None
    return plan, model_inputs


def _set(settings: GenerationConfig) -> dict[str, Any]:
    """The settings that have an effect on greedy or beam search."""
    found = {name: value for name, value in settings.to_dict().items() if name not in _NOT_SETTINGS | _IDLE_SETTINGS}
    return {name: value for name, value in found.items() if value is not None and value != _NEUTRAL.get(name)}


def _plan(captioner: Any, settings: GenerationConfig) -> SearchPlan | None:
    """`settings` as a plan, or None where one of them is beyond this file."""

    def value(name: str, default: Any) -> Any:
        found = getattr(settings, name, None)
        return default if found is None else found

    max_length = settings.max_length if settings.max_new_tokens is None else settings.max_new_tokens + 1
    start = value("decoder_start_token_id", captioner.config.decoder_start_token_id)
    ids = (start, settings.eos_token_id, settings.pad_token_id)
    first, last = settings.forced_bos_token_id, settings.forced_eos_token_id
    vocabulary = captioner.config.vocab_size
    if not all(_is_token(token, vocabulary) for token in ids):
        return None
    if any(token is not None and not _is_token(token, vocabulary) for token in (first, last)):
        return None
    plan = SearchPlan(
        num_beams=value("num_beams", 1),
        num_return_sequences=value("num_return_sequences", 1),
        max_length=max_length,
        min_length=value("min_length", 0),
        no_repeat_ngram_size=value("no_repeat_ngram_size", 0),
        early_stopping=value("early_stopping", False),
        length_penalty=value("length_penalty", 1.0),
        start=start,
        end=settings.eos_token_id,
        pad=settings.pad_token_id,
        forced_first=first,
        forced_last=last,
    )
    counts = (plan.num_beams, plan.num_return_sequences, plan.max_length, plan.min_length, plan.no_repeat_ngram_size)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    known = (
        value("use_cache", True) is True
        and not value("do_sample", False)
        and isinstance(plan.early_stopping, bool)
        and isinstance(plan.length_penalty, (int, float))
        and 1 <= plan.num_return_sequences <= plan.num_beams
        and 4 <= plan.max_length <= captioner.config.max_position_embeddings
        and plan.forced_first != plan.end
        and plan.forced_last in (None, plan.end)
        and plan.pad != 0  # the library fills with another token then
        and plan.no_repeat_ngram_size != 1  # a vocabulary may run out
    )
    return plan if known else None


def _is_token(token: Any, vocabulary: int) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < vocabulary


def _tokens_suffice(captioner: Any, plan: SearchPlan) -> bool:
    """Whether every beam has its candidates even where all that it has written is forbidden.

    Where only forbidden tokens are left, which of them comes first is a matter of the library's arrays.
    """
    usable = int(captioner.final_logits_bias.isfinite().sum())  # users ban tokens for good there
    forbidden = plan.max_length if plan.no_repeat_ngram_size else plan.min_length > 0
    return usable >= max(4 * plan.num_beams, 2 * plan.num_beams + forbidden)


def _is_plain(captioner: Any) -> bool:
    """Whether the decoder is as this project builds it: on one device, nothing wrapped, hooked, sharded or training."""
    decoder, head = captioner.model.decoder, captioner.lm_head
    device, dtype = head.weight.device, head.weight.dtype
    if device.type == "meta" or not dtype.is_floating_point or head.bias is not None:
        return False
    if torch.is_autocast_enabled(device.type):  # which product is rounded, and to what, is the library's affair then
        return False
    if captioner.config._attn_implementation not in _PLAIN_ATTENTION:  # one that the user has registered
        return False
    for module in (captioner, captioner.model, decoder, *decoder.modules(), head):
        if module.training or "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return False
        if isinstance(module, nn.Linear) and type(module) is not (type(head) if module is head else nn.Linear):
            return False
        if not all(f"{home}.".startswith(_PLAIN_HOMES) for home in (type(module).__module__, _home_of_forward(module))):
            return False
    weights = (*decoder.parameters(), head.weight)
    return all(type(w) is nn.Parameter and w.device == device and w.dtype == dtype and w.numel() for w in weights)


def _home_of_forward(module: nn.Module) -> str:
    """Where the class of `module` has its `forward` from: elsewhere than itself where somebody has put in another."""
    return getattr(type(module).forward, "__module__", None) or ""


# Where the classes of an unchanged decoder live; the last is modeling_lpmc, or transformers_modules as remote code.
_PLAIN_HOMES = ("torch.nn.modules.", "transformers.", __name__.split(".")[0] + ".")


__all__ = ["WINDOW_BOOK_KEEPING", "SearchPlan", "plan_search"]
