"""Attention kernels, inner states and checkpointing: chosen freely, and none of them changes a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_captioner import ending_model, features, small_config, small_model
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_lpmc import LpmcForConditionalGeneration, LpmcModel

LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])  # of tokens padded on the left


def outputs(model: LpmcForConditionalGeneration, **more: Any) -> Any:
    with torch.no_grad():
        return model(input_features=features(3), labels=LABELS, **more)


@pytest.mark.parametrize("masked", [False, True], ids=["all-tokens", "masked-tokens"])
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention"])
def test_every_kernel_gives_the_numbers_of_the_plain_one(kernel: str, masked: bool) -> None:
    more = {"decoder_attention_mask": MASK} if masked else {}
    model = small_model(attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    expected = outputs(model, **more)
    model.set_attn_implementation(kernel)
    for part in (model, model.model, model.model.encoder, model.model.decoder):
        assert part.config._attn_implementation == kernel
    with torch.compiler.set_stance("force_eager"):  # flex attention compiles a kernel for every length: minutes here
        found = outputs(model, **more)
    real = MASK.bool() if masked else slice(None)
    torch.testing.assert_close(found.encoder_last_hidden_state, expected.encoder_last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.logits[real], expected.logits[real], rtol=0, atol=1e-5)
    if not masked:
        torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 5])
def test_every_kernel_writes_the_same_captions(beams: int) -> None:
    model = ending_model()
    captions = []
    for kernel in ("eager", "sdpa", "flex_attention"):
        model.set_attn_implementation(kernel)
        with torch.compiler.set_stance("force_eager"):
            captions.append(model.generate(features(6), max_length=20, num_beams=beams))
    assert torch.equal(captions[0], captions[1])
    assert torch.equal(captions[0], captions[2])


def test_a_kernel_of_the_user_s_is_called_by_every_attention() -> None:
    places: list[tuple[int, int]] = []

    def counted(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, *args: Any, **more: Any) -> Any:
        places.append((query.shape[2], key.shape[2]))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, *args, **more)

    AttentionInterface.register("counted", counted)
    AttentionMaskInterface.register("counted", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = small_model(attn_implementation="eager")
    expected = outputs(model).logits
    model.set_attn_implementation("counted")
    torch.testing.assert_close(outputs(model).logits, expected, rtol=0, atol=1e-5)
    assert places == [(32, 32)] * 2 + [(6, 6), (6, 32)] * 2


def test_the_kernel_named_on_loading_is_used(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    for kernel in ("eager", "sdpa", "flex_attention"):
        loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=kernel)
        assert {loaded.config._attn_implementation, loaded.model.decoder.config._attn_implementation} == {kernel}
    assert LpmcForConditionalGeneration.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    with pytest.raises((ValueError, ImportError)):
        LpmcForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="no_such_kernel")


def test_kernels_of_the_two_halves_may_differ() -> None:
    model = small_model(attn_implementation="eager")
    expected = outputs(model).logits
    model.model.encoder.set_attn_implementation("sdpa")
    torch.testing.assert_close(outputs(model).logits, expected, rtol=0, atol=1e-5)


def test_the_library_is_told_what_the_model_supports() -> None:
    for kind in (LpmcModel, LpmcForConditionalGeneration):
        assert issubclass(kind, PreTrainedModel)
        assert kind._supports_sdpa
        assert kind._supports_flash_attn
        assert kind._supports_flex_attn
        assert kind._can_compile_fullgraph
        assert kind.supports_gradient_checkpointing
        assert "past_key_values" in kind._skip_keys_device_placement
        assert {"BartEncoderLayer", "BartDecoderLayer"} <= set(kind._no_split_modules)


@pytest.mark.parametrize("tied", [True, False])
def test_no_layer_that_may_not_be_split_is_missing_from_the_model(tied: bool) -> None:
    model = small_model(tie_word_embeddings=tied)
    kinds = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) <= kinds


# --- inner states ---


def test_inner_states_come_from_the_call_or_from_the_config() -> None:
    model = small_model(attn_implementation="eager")
    asked = outputs(model, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in asked.encoder_hidden_states] == [(3, 32, 32)] * 3
    assert [tuple(state.shape) for state in asked.decoder_hidden_states] == [(3, 6, 32)] * 3
    assert [tuple(weights.shape) for weights in asked.encoder_attentions] == [(3, 4, 32, 32)] * 2
    assert [tuple(weights.shape) for weights in asked.decoder_attentions] == [(3, 4, 6, 6)] * 2
    assert [tuple(weights.shape) for weights in asked.cross_attentions] == [(3, 4, 6, 32)] * 2
    assert torch.equal(asked.encoder_hidden_states[-1], asked.encoder_last_hidden_state)
    for weights in (*asked.encoder_attentions, *asked.decoder_attentions, *asked.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    plain = outputs(model)
    assert plain.encoder_attentions is plain.decoder_hidden_states is plain.cross_attentions is None
    configured = small_model(attn_implementation="eager", output_attentions=True, output_hidden_states=True)
    found = outputs(configured)
    assert len(found.cross_attentions) == 2
    assert len(found.encoder_hidden_states) == len(found.decoder_hidden_states) == 3


def test_gradients_reach_the_inner_states() -> None:
    model = small_model(attn_implementation="eager")
    out = model(input_features=features(1), labels=LABELS[:1], output_hidden_states=True, output_attentions=True)
    inner = [out.encoder_hidden_states[0], out.encoder_attentions[0], out.cross_attentions[0]]
    for state in inner:
        state.retain_grad()
    out.logits.flatten()[0].backward()
    for state in inner:
        assert state.grad is not None


def test_a_tuple_holds_what_the_named_result_holds() -> None:
    model = small_model()
    named, plain = outputs(model), outputs(model, return_dict=False)
    assert isinstance(plain, tuple)
    for one, other in zip(plain, named.to_tuple(), strict=True):
        if isinstance(other, torch.Tensor):
            assert torch.equal(one, other)
    configured = small_model(return_dict=False)
    assert isinstance(outputs(configured), tuple)
    assert torch.equal(configured.generate(features(2), max_length=8), model.generate(features(2), max_length=8))


def test_embeddings_may_take_the_place_of_tokens_and_of_features() -> None:
    model = small_model()
    ids = torch.tensor([[2, 0, 11, 12]])
    with torch.no_grad():
        expected = model(input_features=features(1), decoder_input_ids=ids).logits
        embedded = model.get_decoder().embed_tokens(ids)
        found = model(input_features=features(1), decoder_inputs_embeds=embedded).logits
        encoded = model.get_encoder()(features(1))
        assert torch.equal(model(encoder_outputs=encoded, decoder_input_ids=ids).logits, expected)
        assert torch.equal(model(encoder_outputs=encoded.to_tuple(), decoder_input_ids=ids).logits, expected)
        ready = model.model.encoder.conv_stem(features(1))
        assert torch.equal(model.get_encoder()(inputs_embeds=ready).last_hidden_state, encoded.last_hidden_state)
    torch.testing.assert_close(found, expected)


# --- checkpointing ---


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not-reentrant"])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_checkpointing_recomputes_and_changes_no_gradient(reentrant: bool, kernel: str) -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = small_model(attn_implementation=kernel, dropout=0.2, attention_dropout=0.1).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            assert model.is_gradient_checkpointing
        seen: list[int] = []
        for layer in (model.model.encoder.layers[1].fc1, model.model.decoder.layers[1].fc1):
            layer.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.manual_seed(4)
        model(input_features=features(3), labels=LABELS).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
        calls.append(len(seen))
    assert calls == [2, 4], "with checkpointing each layer must be computed twice"
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_checkpointing_can_be_switched_off_and_does_nothing_outside_training() -> None:
    model = small_model()
    plain = model.generate(features(2), max_length=10)
    model.gradient_checkpointing_enable()
    assert torch.equal(model.eval().generate(features(2), max_length=10), plain)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert len(layers) == 4


def test_every_parameter_gets_a_gradient_so_that_distributed_training_waits_for_none() -> None:
    model = LpmcForConditionalGeneration(small_config()).train()
    model(input_features=features(3), labels=LABELS).loss.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
    model.zero_grad()
    model(input_values=torch.randn(3, 16_000) * 0.1, labels=LABELS).loss.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_frozen_parts_stay_without_gradients_and_the_rest_learns() -> None:
    model = small_model().train()
    for value in model.get_encoder().conv_stem.parameters():
        value.requires_grad_(False)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(input_features=features(3), labels=LABELS).loss.backward()
    for name, value in model.named_parameters():
        assert (value.grad is None) == ("conv_stem" in name), name


def test_inputs_can_be_made_to_need_gradients_as_adapters_ask() -> None:
    model = small_model().train()
    model.enable_input_require_grads()
    for value in model.parameters():
        value.requires_grad_(False)
    out = model(input_features=features(1), labels=LABELS[:1])
    assert out.loss.requires_grad
    model.disable_input_require_grads()
