"""torch.compile and torch.export take the model as one graph, in training, evaluation and decoding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_captioner import ending_model, features, small_model
from torch._dynamo.testing import CompileCounterWithBackend
from transformers.cache_utils import EncoderDecoderCache, StaticCache

LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])
ONE_LAYER = {"encoder_layers": 1, "decoder_layers": 1}  # compiled code grows with the layers, the claim does not


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Start each test without compiled code."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_the_whole_call_is_one_graph_without_a_break(kernel: str, training: bool) -> None:
    model = small_model(attn_implementation=kernel, **ONE_LAYER).train(training)
    graphs = CompileCounterWithBackend("eager")
    found = torch.compile(model, fullgraph=True, backend=graphs)(input_features=features(3), labels=LABELS)
    expected = model(input_features=features(3), labels=LABELS)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.logits, expected.logits)
    assert graphs.frame_count == 1


def test_without_the_demand_for_one_graph_there_is_one_all_the_same() -> None:
    explained = torch._dynamo.explain(small_model())(input_features=features(3), labels=LABELS)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


def test_compiled_training_gives_the_same_loss_and_gradients() -> None:
    plain, model = small_model(**ONE_LAYER).train(), small_model(**ONE_LAYER).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")  # Inductor takes 14 to 40 s for the same
    counted = torch.tensor(30)
    results = [
        each(input_features=features(3), labels=LABELS, num_items_in_batch=counted) for each in (plain, compiled)
    ]
    torch.testing.assert_close(results[1].loss, results[0].loss)
    for result in results:
        result.loss.backward()
    expected = dict(plain.named_parameters())
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, expected[name].grad, rtol=1e-3, atol=1e-5, msg=name)


def test_waveforms_compile_into_the_same_graph() -> None:
    model = small_model(**ONE_LAYER)
    waves = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        found = compiled(input_values=waves, labels=LABELS[:2])
        torch.testing.assert_close(found.loss, model(input_values=waves, labels=LABELS[:2]).loss)


def test_batches_and_captions_of_other_lengths_compile_at_most_once_more() -> None:
    model = small_model(**ONE_LAYER)
    graphs = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=graphs)
    with torch.no_grad():
        for batch, tokens in ((2, 5), (3, 7), (5, 9), (4, 30)):
            labels = torch.randint(5, 200, (batch, tokens))
            compiled(input_features=features(batch), labels=labels)
    assert graphs.frame_count <= 3


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "fullgraph"])
@pytest.mark.parametrize("beams", [1, 5])
def test_a_static_cache_decodes_the_same_tokens(beams: int, compiled: bool) -> None:
    model = ending_model()
    expected = model.generate(features(3), max_length=12, num_beams=beams)
    graphs = CompileCounterWithBackend("eager")
    if compiled:
        model.forward = torch.compile(model.forward, fullgraph=True, backend=graphs)
    found = model.generate(features(3), max_length=12, num_beams=beams, cache_implementation="static")
    assert torch.equal(found, expected)
    if compiled:
        assert 0 < graphs.frame_count <= 4, "one graph for the first step and one for all others, give or take shapes"
        again = graphs.frame_count
        assert torch.equal(
            model.generate(features(3), max_length=12, num_beams=beams, cache_implementation="static"), expected
        )
        assert graphs.frame_count == again, "a second call must not compile anew"


def test_one_step_compiled_for_all_lengths_of_a_static_cache_gives_the_logits_of_the_whole() -> None:
    model = small_model(**ONE_LAYER)
    tokens = torch.tensor([[2, 0, 11, 12, 13, 14, 15], [2, 0, 21, 22, 23, 24, 25]])
    graphs = CompileCounterWithBackend("eager")
    cache = EncoderDecoderCache(StaticCache(model.config, 16), StaticCache(model.config, 32))
    with torch.no_grad():
        encoded = model.get_encoder()(features(2))
        expected = model(encoder_outputs=encoded, decoder_input_ids=tokens).logits
        first = model(encoder_outputs=encoded, decoder_input_ids=tokens[:, :1], past_key_values=cache)
        step = torch.compile(model, fullgraph=True, backend=graphs)
        logits = [first.logits]
        for place in range(1, tokens.shape[1]):
            logits.append(
                step(
                    encoder_outputs=encoded, decoder_input_ids=tokens[:, place : place + 1], past_key_values=cache
                ).logits
            )
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-4, atol=1e-4)
    assert graphs.frame_count <= 2


def test_export_keeps_the_numbers() -> None:
    model = small_model(**ONE_LAYER)
    inputs = {"input_features": features(2), "decoder_input_ids": torch.tensor([[2, 0, 11], [2, 0, 12]])}
    exported = torch.export.export(model, (), inputs | {"use_cache": False}, strict=False)
    with torch.no_grad():
        found = exported.module()(**inputs, use_cache=False)
        torch.testing.assert_close(found.logits, model(**inputs).logits)


def test_the_library_s_exporter_takes_the_model_with_its_cache() -> None:
    exporters = pytest.importorskip("transformers.exporters", reason="transformers before 5.13 has no exporters")
    configs = pytest.importorskip("transformers.exporters.configs")
    model = small_model(**ONE_LAYER)
    inputs = {"input_features": features(2), "decoder_input_ids": torch.tensor([[2, 0, 11], [2, 0, 12]])}
    program, _ = exporters.DynamoExporter().export_program(model, dict(inputs), configs.DynamoConfig())
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**inputs).logits, model(**inputs).logits)
