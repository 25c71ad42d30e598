"""The model's own search: the library's captions under every setting it takes on, and the library for all others."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lively import LONGEST, by_library, is_ours, lively_model
from small_captioner import features
from torch import nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import BartDecoderLayer

from modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.search_plan_lpmc import plan_search

GRID = [
    dict(
        zip(
            ("num_beams", "no_repeat_ngram_size", "early_stopping", "length_penalty", "min_length"), values, strict=True
        )
    )
    for values in itertools.product((2, 3, 5, 8), (0, 2, 3), (True, False), (1.0, 0.6, -1.0, 2), (0, 12))
]


@pytest.mark.parametrize("ends", [0.0, 20.0, 25.0], ids=["never-ends", "some-end", "all-end"])
def test_beams_write_what_the_library_writes(ends: float) -> None:
    model = lively_model(ends).double()  # in float32 hypotheses may tie to the last digit
    inputs = features(4).double()
    for number, settings in enumerate(GRID[int(ends) // 10 :: 3]):
        wanted = {"max_length": (5, LONGEST)[number % 2], "num_return_sequences": 1 + number % 2, **settings}
        assert is_ours(model, **wanted), wanted
        ours = model.generate(input_features=inputs, **wanted)
        assert torch.equal(ours, by_library(model, input_features=inputs, **wanted)), wanted


@pytest.mark.parametrize("ends", [0.0, 20.0, 25.0], ids=["never-ends", "some-end", "all-end"])
@pytest.mark.parametrize("size", [0, 2, 3])
def test_greedy_search_writes_what_the_library_writes(ends: float, size: int) -> None:
    model = lively_model(ends)
    for length, shortest in ((4, 0), (LONGEST, 0), (LONGEST, 9)):
        wanted = {"num_beams": 1, "early_stopping": False, "no_repeat_ngram_size": size}
        wanted |= {"max_length": length, "min_length": shortest}
        assert is_ours(model, **wanted)
        ours = model.generate(input_features=features(5), **wanted)
        assert torch.equal(ours, by_library(model, input_features=features(5), **wanted)), wanted


@pytest.mark.parametrize("vocab_size", [40, 47, 48, 49, 255, 256, 257, 1000])
def test_vocabularies_of_any_size_fit_into_blocks(vocab_size: int) -> None:
    model = lively_model(20.0, vocab_size=vocab_size)
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        inputs = features(3).to(dtype)
        ours = model.generate(input_features=inputs, max_length=LONGEST)
        assert torch.equal(ours, by_library(model, input_features=inputs, max_length=LONGEST))
        assert int(ours.max()) < vocab_size


@pytest.mark.parametrize(
    "settings",
    [
        {"forced_bos_token_id": None},
        {"forced_eos_token_id": None},
        {"forced_bos_token_id": 17},
        {"decoder_start_token_id": 0},
        {"max_length": None, "max_new_tokens": 9},
        {"num_return_sequences": 5},
        {"pad_token_id": 3},
    ],
    ids=str,
)
def test_other_special_tokens_and_lengths_are_the_library_s_too(settings: dict[str, Any]) -> None:
    model = lively_model(20.0).double()
    wanted = {"max_length": LONGEST, **settings}
    assert is_ours(model, **wanted)
    inputs = features(3).double()
    assert torch.equal(
        model.generate(input_features=inputs, **wanted), by_library(model, input_features=inputs, **wanted)
    )


def test_the_ways_to_give_audio_and_settings_lead_to_one_caption() -> None:
    model = lively_model()
    waves = torch.randn(2, 160_000, generator=torch.Generator().manual_seed(1)) * 0.1
    inputs = model.model.encoder.log_mel(waves)
    model.generation_config.max_length = LONGEST
    expected = by_library(model, input_features=inputs)
    encoded = model.model.encoder(input_features=inputs)
    config = copy.deepcopy(model.generation_config)
    for given in (
        model.generate(inputs),
        model.generate(input_values=waves),
        model.generate(encoder_outputs=encoded),
        model.generate(encoder_outputs=(encoded.last_hidden_state,)),
        model.generate(inputs, config),
        model.generate(input_features=inputs, generation_config=config),
        model.generate(inputs, audio_chunk_index=[(0, 0), (0, 1)], chunk_start_seconds=[0, 10]),
    ):
        assert torch.equal(given, expected)
    assert model.generation_config.max_length == LONGEST, "a call leaves the model's settings alone"


WRITTEN_OUT = {  # what transformers writes into the generation_config.json of a model that it trained
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "typical_p": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "use_cache": True,
    "do_sample": False,
    "output_scores": False,
    "remove_invalid_values": False,
    "return_dict_in_generate": False,
}


def test_settings_that_were_saved_and_read_again_are_the_same_settings(tmp_path: Path) -> None:
    model = lively_model()
    model.generation_config.max_length = 12
    for name, value in WRITTEN_OUT.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(tmp_path)
    again = LpmcForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.generation_config.repetition_penalty == 1.0
    for config in (None, again.generation_config, GenerationConfig.from_pretrained(tmp_path), model.generation_config):
        assert plan_search(again, None, config, {"input_features": features(1)}) is not None
        assert plan_search(model, None, config, {"input_features": features(1)}) is not None
    assert torch.equal(again.generate(features(2)), by_library(model, input_features=features(2)))


class NoEvenTokens(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, 4::2] = -torch.inf
        return scores


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "top_k": 4},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"repetition_penalty": 1.3},
        {"bad_words_ids": [[11], [12, 13]]},
        {"suppress_tokens": [20, 21]},
        {"early_stopping": "never"},
        {"min_new_tokens": 4},
        {"no_repeat_ngram_size": 1},
        {"num_beams": 1, "early_stopping": False, "prompt_lookup_num_tokens": 2},
        {"return_dict_in_generate": True},
        {"output_scores": True, "return_dict_in_generate": True},
        {"decoder_input_ids": torch.tensor([[2, 0, 11]])},
        {"decoder_input_ids": torch.tensor([[2, 0, 11]]), "num_beams": 1, "early_stopping": False},
        {"logits_processor": LogitsProcessorList([NoEvenTokens()])},
        {"prefix_allowed_tokens_fn": lambda batch, ids: [5, 6, 7]},
        {"eos_token_id": [2, 7]},
        {"pad_token_id": 0},
        {"renormalize_logits": True},
        {"max_length": 2},
        {"generation_config": GenerationConfig(max_length=12)},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_the_search_does_not_know_is_done_by_the_library(settings: dict[str, Any]) -> None:
    model = lively_model(20.0)
    wanted = {"max_length": 12, "input_features": features(1)} | settings
    if "generation_config" in settings:
        del wanted["max_length"]
    arguments = {name: value for name, value in wanted.items() if name != "generation_config"}
    assert plan_search(model, None, wanted.get("generation_config"), arguments) is None
    torch.manual_seed(3)
    ours = model.generate(**wanted)
    torch.manual_seed(3)
    theirs = by_library(model, **wanted)
    as_ids = [each if isinstance(each, torch.Tensor) else each.sequences for each in (ours, theirs)]
    assert torch.equal(*as_ids)


def test_what_the_library_refuses_is_refused() -> None:
    model = lively_model()
    for settings in ({"num_beans": 3}, {"input_features": features(1), "inputs": features(1)}):
        with pytest.raises(ValueError):
            model.generate(**{"input_features": features(1), **settings})
    with pytest.raises(ValueError, match="nothing to caption"):
        model.generate(max_length=9)


class Turned(nn.Linear):
    """Stands for adapters that wrap a layer."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return -2 * super().forward(rows)


def test_a_decoder_that_was_wrapped_hooked_or_compiled_is_left_to_the_library() -> None:
    seen: list[int] = []
    wrapped, hooked, patched, training = (lively_model() for _ in range(4))
    layer = wrapped.model.decoder.layers[0]
    other = Turned(32, 64)
    other.load_state_dict(layer.fc1.state_dict())
    layer.fc1 = other
    hooked.model.decoder.layers[0].fc1.register_forward_hook(lambda *_: seen.append(1))
    patched.forward = patched.forward  # as `model.forward = torch.compile(model.forward)` does
    training.train()
    for model in (wrapped, hooked, patched, training):
        assert not is_ours(model)
    part, biased, attending = (lively_model() for _ in range(3))
    part.model.decoder.layers[1].train()
    biased.lm_head = nn.Linear(32, 300).eval()
    attending.config._attn_implementation = "somebodys_own"
    for model in (part, biased, attending):
        assert not is_ours(model)
    plain = lively_model()
    assert is_ours(plain)
    inputs = {"input_features": features(3), "max_length": 12}
    assert torch.equal(wrapped.generate(**inputs), by_library(wrapped, **inputs))
    assert not torch.equal(wrapped.generate(**inputs), plain.generate(**inputs))
    hooked.generate(**inputs)
    assert seen


def test_a_layer_s_forward_that_somebody_replaced_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = lively_model(), {"input_features": features(3), "max_length": 12}
    plain = model.generate(**inputs)
    usual = BartDecoderLayer.forward

    def turned(self: BartDecoderLayer, hidden: torch.Tensor, *rest: Any, **settings: Any) -> Any:
        return usual(self, -hidden, *rest, **settings)

    monkeypatch.setattr(BartDecoderLayer, "forward", turned)
    found = model.generate(**inputs)
    assert torch.equal(found, by_library(model, **inputs))
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("beams", [1, 5])
def test_under_autocast_the_library_decides_what_is_rounded(beams: int) -> None:
    model = lively_model(20.0)
    inputs = {"input_features": features(3), "max_length": LONGEST, "num_beams": beams, "early_stopping": beams > 1}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.generate(**inputs), by_library(model, **inputs))
        model.set_decoding("int8")
        with pytest.raises(ValueError, match="no autocast"):
            model.generate(**inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_changes_no_caption(dtype: torch.dtype) -> None:
    model = lively_model(20.0)
    inputs = {"input_features": features(3), "max_length": LONGEST}
    expected = model.generate(**inputs)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(model.generate(**inputs), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_where_a_vocabulary_may_run_out_the_library_chooses() -> None:
    greedy = {"num_beams": 1, "early_stopping": False, "no_repeat_ngram_size": 2, "max_length": 64, "min_length": 60}
    model = lively_model(0.0, vocab_size=5)
    assert torch.equal(
        model.generate(input_features=features(3), **greedy), by_library(model, input_features=features(3), **greedy)
    )
    banned = lively_model(0.0)
    assert is_ours(banned, max_length=LONGEST)
    banned.final_logits_bias[0, 30:] = -torch.inf
    assert not is_ours(banned, max_length=LONGEST)
    banned.final_logits_bias[0, :34] = 0.0
    banned.final_logits_bias[0, 2] = 20.0
    assert is_ours(banned, max_length=LONGEST), "34 tokens are enough for 10 candidates beside 24 forbidden ones"
    inputs = {"input_features": features(3), "max_length": LONGEST}
    assert torch.equal(banned.generate(**inputs), by_library(banned, **inputs))


def test_the_trainer_s_evaluation_runs_on_the_search() -> None:
    model = lively_model(20.0)
    extra = {"labels": torch.ones(3, 7, dtype=torch.long), "synced_gpus": False}  # Seq2SeqTrainer.prediction_step
    assert is_ours(model, **extra)
    assert not is_ours(model, synced_gpus=True)
    inputs = {"input_features": features(3), "max_length": LONGEST}
    assert torch.equal(model.generate(**inputs, **extra), by_library(model, **inputs))


def test_the_library_can_be_asked_for() -> None:
    model = lively_model()
    model.own_search = False
    inputs = {"encoder_outputs": BaseModelOutput(torch.randn(2, 32, 32)), "max_length": 9}
    calls: list[int] = []
    model.model.decoder.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**inputs)
    assert calls
