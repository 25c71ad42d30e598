"""The model's own search: the library's captions under every setting it takes on, and the library for all others."""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from small_captioner import ending_model, features, small_model
from torch import nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import BartDecoderLayer

from modeling_lpmc import LpmcForConditionalGeneration, beam_search_lpmc, decoding_lpmc
from modeling_lpmc.decoding_lpmc import Head, TokenScores, TokenTree, _product, decoder_weights
from modeling_lpmc.memory_lpmc import FastMemory
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


@pytest.mark.parametrize("vocab_size", [40, 63, 64, 65, 383, 384, 385, 1000])
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
    scores = TokenScores(Head(weight, bias, "native", FastMemory()))
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
    product = _product(weight, bias, "native", FastMemory())
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


def test_the_library_can_be_asked_for() -> None:
    model = lively_model()
    model.own_search = False
    inputs = {"encoder_outputs": BaseModelOutput(torch.randn(2, 32, 32)), "max_length": 9}
    calls: list[int] = []
    model.model.decoder.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**inputs)
    assert calls
