"""Weights that change between two calls of `generate`: nothing prepared for the first may serve the second."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from generation_twin import both, same
from small_captioner import ending_model, features, small_model
from torch import nn

from modeling_lpmc import LpmcForConditionalGeneration


def train_a_step(model: LpmcForConditionalGeneration) -> None:
    labels = torch.randint(5, 250, (2, 7), generator=torch.Generator().manual_seed(1))
    model(input_features=features(2), labels=labels).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    model.zero_grad()


def load_another_state(model: LpmcForConditionalGeneration) -> None:
    model.load_state_dict(small_model(seed=5).state_dict())


def overwrite_under_no_grad(model: LpmcForConditionalGeneration) -> None:
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight.mul_(-1.5)


def overwrite_the_data(model: LpmcForConditionalGeneration) -> None:
    weight = model.model.decoder.layers[1].self_attn.q_proj.weight
    weight.data = weight.data.flip(0).contiguous()


def change_the_data_in_place(model: LpmcForConditionalGeneration) -> None:
    model.model.decoder.layers[1].self_attn.v_proj.weight.data.mul_(-2.0)


def change_the_bias_of_the_head(model: LpmcForConditionalGeneration) -> None:
    model.final_logits_bias[0, 70:90] += 9.0


def put_another_parameter(model: LpmcForConditionalGeneration) -> None:
    weight = model.model.decoder.layers[0].encoder_attn.v_proj.weight
    model.model.decoder.layers[0].encoder_attn.v_proj.weight = nn.Parameter(-2 * weight.detach())


class Adapted(nn.Module):
    """A linear layer with a low-rank addition, as adapters have it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        generator = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(2, base.in_features, generator=generator))
        self.up = nn.Parameter(torch.randn(base.out_features, 2, generator=generator))

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor:
        return self.base.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.base(hidden) + hidden @ self.down.T @ self.up.T


def wrap_layers_with_adapters(model: LpmcForConditionalGeneration) -> None:
    for layer in model.model.decoder.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj)
        layer.encoder_attn.v_proj = Adapted(layer.encoder_attn.v_proj)


def add_a_hook(model: LpmcForConditionalGeneration) -> None:
    model.model.decoder.layers[0].fc2.register_forward_hook(lambda module, given, result: result * -2)


def replace_the_head(model: LpmcForConditionalGeneration) -> None:
    model.set_output_embeddings(nn.Linear(32, 300, bias=False))


def resize(model: LpmcForConditionalGeneration) -> None:
    model.resize_token_embeddings(180, mean_resizing=False)


def parametrise(model: LpmcForConditionalGeneration) -> None:
    nn.utils.parametrizations.weight_norm(model.model.decoder.layers[0].fc1)
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.parametrizations.weight.original0.mul_(-3)


def round_to_eight_bits(model: LpmcForConditionalGeneration) -> None:
    torch.ao.quantization.quantize_dynamic(model.model.decoder, {nn.Linear}, dtype=torch.qint8, inplace=True)


def another_activation(model: LpmcForConditionalGeneration) -> None:
    for layer in model.model.decoder.layers:
        layer.activation_fn = nn.Tanh()


CHANGES = [
    train_a_step,
    load_another_state,
    overwrite_under_no_grad,
    overwrite_the_data,
    change_the_data_in_place,
    change_the_bias_of_the_head,
    put_another_parameter,
    wrap_layers_with_adapters,
    add_a_hook,
    replace_the_head,
    resize,
    parametrise,
    round_to_eight_bits,
    another_activation,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("beams", [1, 5])
def test_a_change_of_the_model_is_heard_in_the_next_caption(change: Any, beams: int) -> None:
    model = ending_model()
    settings = {"max_length": 20, "num_beams": beams, "return_dict_in_generate": True, "output_logits": True}
    plain = {name: setting for name, setting in settings.items() if not name.endswith(("generate", "logits"))}
    model.generate(features(3), **plain)  # prepares whatever the model's own search prepares
    before = model.generate(features(3), **settings)
    change(model)
    ours, theirs = both(model, features(3), **settings)
    same(ours.sequences, theirs.sequences)
    same(ours.logits, theirs.logits)
    assert not torch.equal(before.logits[-1][:, :100], theirs.logits[-1][:, :100]), "the change must show"
    assert torch.equal(model.generate(features(3), **plain), theirs.sequences)


def test_generating_leaves_nothing_behind_in_the_weights_file_or_in_copies() -> None:
    model = ending_model()
    names, shared = list(model.state_dict()), model.lm_head.weight.data_ptr()
    tokens = model.generate(features(2), max_length=20)
    assert list(model.state_dict()) == names
    assert model.lm_head.weight.data_ptr() == model.model.shared.weight.data_ptr() == shared
    for made in (copy.deepcopy(model), through_pickle(model)):
        assert torch.equal(made.generate(features(2), max_length=20), tokens)
        assert made.lm_head.weight is made.model.shared.weight
        overwrite_under_no_grad(made)
        same(*both(made, features(2), max_length=20))
    assert torch.equal(model.generate(features(2), max_length=20), tokens)


def through_pickle(model: LpmcForConditionalGeneration) -> LpmcForConditionalGeneration:
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=False)


def test_training_goes_on_after_generating() -> None:
    model = ending_model()
    train_a_step(model)
    expected = copy.deepcopy(model.state_dict())
    other = ending_model()
    other.generate(features(2), max_length=20)
    train_a_step(other)
    for name, value in other.state_dict().items():
        assert torch.equal(value, expected[name]), name
