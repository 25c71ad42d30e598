"""Under the search: laid out weights, the tree of tokens, blocks of scores, int8, compiled steps, threads."""

from __future__ import annotations

import copy
import functools
import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from lively import LONGEST, by_library, lively_model
from small_captioner import ending_model, features, small_model
from torch import nn

from modeling_lpmc import beam_search_lpmc, decoding_lpmc
from modeling_lpmc.decoding_lpmc import TokenTree, decoder_weights
from modeling_lpmc.head_scores_lpmc import Head
from modeling_lpmc.memory_lpmc import FastMemory
from modeling_lpmc.products_lpmc import product_with


def test_new_weights_write_new_captions_however_they_were_written() -> None:
    model, inputs = lively_model(), {"input_features": features(3), "max_length": 12}
    before = model.generate(**inputs)
    other = lively_model(seed=1)

    def copy_through_data() -> None:
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.data.copy_(theirs.data)  # torch does not count this as a change

    def update() -> None:
        with torch.no_grad():
            model.model.decoder.layers[1].fc2.weight.mul_(-1)

    def resize() -> None:
        model.resize_token_embeddings(311, mean_resizing=False)

    def write_one_row() -> None:
        model.model.shared.weight.data[2] *= -3

    def write_one_number() -> None:
        model.final_logits_bias.data[0, 2] = 25.0

    for change in (
        copy_through_data,
        write_one_row,
        write_one_number,
        update,
        lambda: model.load_state_dict(lively_model(seed=2).state_dict()),
        resize,
    ):
        change()
        after = model.generate(**inputs)
        assert torch.equal(after, by_library(model, **inputs)), change
        if change is not resize:
            assert after.shape != before.shape or not torch.equal(after, before), change
        before = after


def test_a_copy_of_a_model_that_has_written_is_a_model_of_its_own() -> None:
    model, inputs = lively_model(), {"input_features": features(2), "max_length": 12}
    first = model.generate(**inputs)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.model.decoder.layers[0].fc1.weight.mul_(-1)
    assert torch.equal(twin.generate(**inputs), by_library(twin, **inputs))
    assert torch.equal(model.generate(**inputs), first)


def test_laid_out_weights_go_with_the_model_and_when_training_begins() -> None:
    model = lively_model()
    kept = weakref.ref(decoder_weights(model).head)
    assert decoder_weights(model).head is kept(), "they are made once"
    model.eval()
    assert kept() is not None
    model.train()
    gc.collect()
    assert kept() is None
    kept = weakref.ref(decoder_weights(model.eval()).head)
    del model
    gc.collect()
    assert kept() is None


def test_the_encoder_runs_once_and_its_keys_exist_once_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model()
    calls: list[torch.Size] = []
    model.model.encoder.register_forward_hook(
        lambda module, args, kwargs, out: calls.append(out[0].shape), with_kwargs=True
    )
    trees: list[TokenTree] = []
    begin = TokenTree.__init__
    monkeypatch.setattr(TokenTree, "__init__", lambda self, *a, **k: (trees.append(self), begin(self, *a, **k))[1])
    reads: list[tuple[int, int, int]] = []
    read = TokenTree.read

    def recorded(self: TokenTree, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        reads.append((*tokens.shape, self.nodes))
        return read(self, tokens, *rest)

    monkeypatch.setattr(TokenTree, "read", recorded)
    tokens = model.generate(input_features=features(3), max_length=40)
    assert calls == [torch.Size([3, 32, 32])]
    assert trees[0].cross[0][0].shape[0] <= 3
    assert reads[0] == (3, 2, 0), "both known tokens in one pass, without beams"
    assert all(count == 5 for _, count, _ in reads[1:])
    assert len(reads) == tokens.shape[1] - 3, "no pass for the forced first and last tokens"
    assert max(nodes for _, _, nodes in reads) < 2 + 5 * (len(reads) - 2), "beams that died take no memory"


def test_clips_that_are_done_take_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ending_model()
    lengths = (by_library(model, input_features=features(6), max_length=60) != 1).sum(1)
    assert lengths.max() - lengths.min() > 9, "some must end much sooner than others for this test to mean anything"
    rows: list[int] = []
    read = TokenTree.read
    monkeypatch.setattr(
        TokenTree, "read", lambda self, tokens, *rest: (rows.append(len(tokens)), read(self, tokens, *rest))[1]
    )
    for beams in (1, 5):
        rows.clear()
        wanted = {"input_features": features(6), "max_length": 60, "num_beams": beams, "early_stopping": beams > 1}
        assert torch.equal(model.generate(**wanted), by_library(model, **wanted))
        assert rows[0] == 6
        assert rows[-1] < 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("biased", [False, True])
def test_scores_in_blocks_are_the_scores(dtype: torch.dtype, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1000, 16, generator=generator).to(dtype)
    bias = torch.randn(1, 1000, generator=generator) * biased
    hidden = torch.randn(7, 16, generator=generator).to(dtype)
    plain = nn.functional.linear(hidden, weight) + bias.to(dtype)
    scores = Head(weight, bias, "native", FastMemory()).token_scores()
    for rows in (7, 3):
        scores.compute(hidden[:rows])
        close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
        torch.testing.assert_close(sum(scores.log_total()), plain[:rows].float().logsumexp(1, keepdim=True), **close)
        values, tokens = scores.best(12)
        torch.testing.assert_close(values, plain[:rows].float().topk(12).values, **close)
        torch.testing.assert_close(plain[:rows].gather(1, tokens).float(), values, **close)
        scores.forbid(torch.cat([tokens[:, :2], torch.full((rows, 1), 1000)], dim=1))
        assert torch.equal(scores.best(10)[0], values[:, 2:])


def test_large_matrices_lie_whole_beside_each_other() -> None:
    memory = FastMemory()
    made = [torch.randn(n, 7) for n in (1, 50_000, 3, 3_000_000, 40_000, 2_000_000)]
    copies = [memory.copy(each.t()) for each in made]
    for copied in copies:
        assert copied.is_contiguous()
        assert copied.data_ptr() % 4 == 0
    for each, copied in zip(made, copies, strict=True):
        assert torch.equal(copied, each.t()), "none was written over by a later one"


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 64), (768, 400), (33, 1000), (50, 384), (768, 2304)])
def test_products_in_blocks_are_the_products(inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, rows = (
        torch.randn(*size, generator=generator) for size in ((outputs, inputs), (outputs,), (6, inputs))
    )
    product = product_with(weight, bias, "native", FastMemory())
    torch.testing.assert_close(product(rows), nn.functional.linear(rows, weight, bias), rtol=1e-5, atol=1e-4)


def test_int8_decoding_is_close_chosen_and_refused_where_it_cannot_be() -> None:
    model = small_model()
    inputs = {"input_features": features(6), "max_length": 12}
    plain = model.generate(**inputs)
    model.set_decoding("int8")
    close = model.generate(**inputs)
    assert (plain[:, :4] == close[:, :4]).float().mean() > 0.8
    weights = decoder_weights(model, "int8")
    rows = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.01], [1], [3], [100], [0]])
    layer = model.model.decoder.layers[0]
    error = (weights.layers[0].widen(rows) - layer.fc1(rows)).abs().amax(1)
    assert (error <= 0.03 * layer.fc1(rows).abs().amax(1)).all(), "rows of every size keep their digits"
    assert error.max() > 0, "or it was not int8"
    with pytest.raises(ValueError, match="not one that runs in int8"):
        model.generate(**inputs, do_sample=True)
    with pytest.raises(ValueError, match="can't be compiled"):
        model.set_decoding("int8", compiled=True)
    with pytest.raises(ValueError, match="'int4' is unknown"):
        model.set_decoding("int4")
    with pytest.raises(RuntimeError, match="float32 model on a CPU"):
        small_model().to(torch.bfloat16).set_decoding("int8")
    model.set_decoding()
    assert torch.equal(model.generate(**inputs), plain)


def test_two_threads_may_use_one_model() -> None:
    model = lively_model(20.0)
    clips = features(8)
    expected = [model.generate(input_features=clips[i : i + 2], max_length=LONGEST) for i in (0, 2, 4, 6)]
    found: dict[int, torch.Tensor] = {}

    def write(number: int) -> None:
        for _ in range(3):
            found[number] = model.generate(input_features=clips[2 * number : 2 * number + 2], max_length=LONGEST)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[number], expected[number]) for number in range(4))


def test_compiled_steps_write_the_same_captions() -> None:
    model = lively_model(20.0)
    model.set_decoding(compiled=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    inputs = {"input_features": features(2), "max_length": LONGEST}
    assert torch.equal(model.generate(**inputs), by_library(model, **inputs))
    assert not torch._dynamo.utils.counters["graph_break"]


def test_compiling_for_many_numbers_of_clips_never_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch compiles one function eight times at most; here it may once, without the compiler's minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    decoding_lpmc._compiled_decode.cache_clear()
    models = [lively_model(20.0), lively_model(20.0, seed=1).to(torch.bfloat16)]
    try:
        with torch._dynamo.config.patch(recompile_limit=1):
            for clips, length in ((1, 12), (2, LONGEST), (3, 12), (2, 12), (1, LONGEST)):
                inputs = {"input_features": features(clips), "max_length": length}
                for model in models:  # the second one finds the limit reached
                    model.set_decoding()
                    expected = model.generate(**inputs)
                    model.set_decoding(compiled=True)
                    assert torch.equal(model.generate(**inputs), expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 4
    finally:
        decoding_lpmc._compiled_decode.cache_clear()
        torch._dynamo.reset()


@pytest.mark.parametrize("beams", [1, 5])
def test_compiled_steps_are_not_compiled_anew_when_a_clip_is_done(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model, sizes = ending_model(), set()
    read = TokenTree.read
    monkeypatch.setattr(
        TokenTree, "read", lambda self, tokens, *rest: (sizes.add(len(tokens)), read(self, tokens, *rest))[1]
    )
    inputs = {"input_features": features(6), "max_length": 60, "num_beams": beams, "early_stopping": beams > 1}
    expected = model.generate(**inputs)
    assert len(sizes) > 1, "some end sooner than others"
    sizes.clear()
    model.set_decoding(compiled=True)
    try:
        assert torch.equal(model.generate(**inputs), expected)
    finally:
        decoding_lpmc._compiled_decode.cache_clear()
        torch._dynamo.reset()
    assert sizes == {6}


@pytest.mark.parametrize("look", [3, 8])
def test_looking_seldom_for_captions_that_are_done_changes_none(look: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU greedy search looks every few steps; here it does on the CPU."""
    monkeypatch.setattr(beam_search_lpmc, "LOOK_STEPS", {"cpu": look})
    monkeypatch.setattr(beam_search_lpmc, "PRUNE_STEPS", look)
    for model in (ending_model(), lively_model(20.0), lively_model(25.0)):
        for settings in ({}, {"pad_token_id": 2}, {"forced_eos_token_id": None}, {"max_length": LONGEST}):
            for beams in (1, 5):
                wanted = {"max_length": 60, "num_beams": beams, "early_stopping": beams > 1} | settings
                wanted["input_features"] = features(6)
                assert torch.equal(model.generate(**wanted), by_library(model, **wanted)), wanted
