"""The network: numbers of the released model, loss, generation, and what survives saving and loading."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captioner import features, small_config, small_model
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from modeling_lpmc import LpmcForConditionalGeneration, LpmcModel
from modeling_lpmc.layers_lpmc import channels_last_convolution, filled_up_product, sinusoids

LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])

# The whole path from the wave file against the released numbers, in a process of its own, since the FFT of MKL rounds
# differently from CPU to CPU unless it is told not to before it starts.
PARITY = """
import sys
from pathlib import Path
import numpy as np, soundfile, torch
from modeling_lpmc import LpmcFeatureExtractor, LpmcForConditionalGeneration, convert_checkpoint
oracle, output = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
convert_checkpoint(oracle / "small_checkpoint.pth", output, sizes=oracle / "small_config.json")
expected = np.load(oracle / "small_expected.npz")
clips = [soundfile.read(oracle / f"small_clip{i}.wav", dtype="float32")[0] for i in range(3)]
extractor = LpmcFeatureExtractor.from_pretrained(output)
inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")["input_features"]
for attention in ("sdpa", "eager"):
    model = LpmcForConditionalGeneration.from_pretrained(output, attn_implementation=attention).eval()
    with torch.no_grad():
        out = model(input_features=inputs, labels=torch.from_numpy(expected["labels"]))
        got = {
            "log_mel": inputs[:, :, :: int(expected["log_mel_stride"])],
            "audio_embeddings": model.model.encoder.conv_stem(inputs),
            "encoder_last_hidden_state": out.encoder_last_hidden_state,
            "loss": out.loss,
            "greedy_tokens": model.generate(input_features=inputs, num_beams=1),
            "beam5_tokens": model.generate(input_features=inputs),
        }
    for name, value in got.items():
        worst = np.abs(value.numpy() - expected[name]).max()
        print(attention, name, worst)
        assert worst <= (0 if name.endswith("tokens") else 1e-5), (attention, name, worst)
"""


def test_the_released_model_is_reproduced_from_wave_to_caption(oracle_model: Path, tmp_path: Path) -> None:
    environment = os.environ | {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PARITY, str(oracle_model), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_positions_are_sines_then_cosines() -> None:
    table = sinusoids(32, 768)
    position, channel = 7, 100
    rate = 10_000 ** (-channel / 383)
    assert table[position, channel].item() == pytest.approx(np.sin(position * rate), abs=1e-5)
    assert table[position, 384 + channel].item() == pytest.approx(np.cos(position * rate), abs=1e-5)


def test_ten_seconds_become_32_positions_and_more_is_refused() -> None:
    model = small_model()
    assert model.model.encoder(input_features=features(1)).last_hidden_state.shape == (1, 32, 32)
    with pytest.raises(ValueError, match="1100 frames give 35 encoder positions, and this model has 32"):
        model.model.encoder(input_features=torch.zeros(1, 128, 1100))


def test_inputs_of_another_shape_are_named_with_the_one_expected() -> None:
    model = small_model()
    for shape in ((128, 1001), (1, 64, 1001), (1, 1001, 128)):
        with pytest.raises(ValueError, match=r"input_features have shape .*; expected \(clips, 128, frames\)"):
            model.generate(input_features=torch.zeros(shape))
    with pytest.raises(ValueError, match=r"input_values have shape \(160000,\); expected \(clips, samples\)"):
        model.generate(input_values=torch.zeros(160_000))


def test_the_loss_is_smoothed_cross_entropy_of_labels_that_keep_their_first_token() -> None:
    model = small_model()
    out = model(input_features=features(3), labels=LABELS)
    shifted = torch.tensor([[2, 0, 11, 12, 13, 14], [2, 0, 21, 22, 2, 1], [2, 0, 31, 2, 1, 1]])
    logits = model(input_features=features(3), decoder_input_ids=shifted).logits
    torch.testing.assert_close(out.logits, logits)
    log_probabilities = logits.log_softmax(-1)
    losses = []
    for row, column in (LABELS != -100).nonzero().tolist():
        at = log_probabilities[row, column]
        losses.append(-(0.9 * at[LABELS[row, column]] + 0.1 * at.mean()))
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(LABELS), shifted)


def test_the_share_of_a_larger_update_is_summed_and_divided_by_all_its_labels() -> None:
    model = small_model()
    alone = model(input_features=features(3), labels=LABELS).loss
    count = int((LABELS != -100).sum())
    for number in (4 * count, torch.tensor(4 * count)):
        part = model(input_features=features(3), labels=LABELS, num_items_in_batch=number).loss
        torch.testing.assert_close(part, alone / 4)


def test_smoothing_comes_from_the_config() -> None:
    model = small_model(label_smoothing=0.0)
    out = model(input_features=features(3), labels=LABELS)
    expected = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), LABELS.flatten())
    torch.testing.assert_close(out.loss, expected)


def test_waveforms_and_features_lead_to_the_same_captions() -> None:
    model = small_model()
    waves = torch.randn(2, 160_000, generator=torch.Generator().manual_seed(1)) * 0.1
    inputs = model.model.encoder.log_mel(waves)
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_values=waves, labels=LABELS[:2]).loss, model(input_features=inputs, labels=LABELS[:2]).loss
        )
    from_features = model.generate(input_features=inputs, max_length=12)
    assert torch.equal(model.generate(input_values=waves, max_length=12), from_features)
    with pytest.raises(ValueError, match="not both"):
        model.generate(input_values=waves, input_features=inputs)
    with pytest.raises(ValueError, match="exactly one"):
        model(decoder_input_ids=LABELS[:2])


def test_captions_do_not_depend_on_their_neighbours_in_the_batch() -> None:
    model = small_model()
    together = model.generate(input_features=features(4), max_length=12)
    assert len({tuple(row) for row in together.tolist()}) > 1, "clips must differ for this test to mean anything"
    for number in range(4):
        alone = model.generate(input_features=features(4)[number : number + 1], max_length=12)[0]
        assert together[number, : len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 5}, {"num_beams": 3, "num_return_sequences": 2}])
def test_the_cache_changes_the_time_and_not_the_caption(settings: dict[str, int]) -> None:
    model = small_model()
    cached = model.generate(input_features=features(2), max_length=12, **settings)
    plain = model.generate(input_features=features(2), max_length=12, use_cache=False, **settings)
    assert torch.equal(cached, plain)


def test_beams_leave_the_cross_attention_cache_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("both caches were reordered")

    reordered = []
    plain = DynamicCache.reorder_cache
    monkeypatch.setattr(EncoderDecoderCache, "reorder_cache", refuse)
    monkeypatch.setattr(DynamicCache, "reorder_cache", lambda *said: reordered.append(plain(*said)))
    model = small_model()
    model.own_search = False  # the library's search, which has caches to reorder
    model.generate(input_features=features(2), max_length=8)
    assert reordered, "that of the decoder's own tokens was"


@pytest.mark.parametrize("tokens", [16, 21])
def test_the_product_for_gpus_is_the_product(tokens: int) -> None:
    head = torch.nn.Linear(6, tokens, bias=False)
    hidden = torch.randn(2, 3, 6)
    found = filled_up_product(hidden, head.weight)
    torch.testing.assert_close(found, head(hidden))
    weights = torch.randn(2, 3, tokens)
    (gradient,) = torch.autograd.grad((found * weights).sum(), head.weight)
    torch.testing.assert_close(gradient, torch.autograd.grad((head(hidden) * weights).sum(), head.weight)[0])
    assert found.stride(1) % 8 == 0, "rows must begin where tensor cores want them"


@pytest.mark.parametrize("stride", [1, 2])
def test_the_convolution_for_gpus_is_the_convolution_and_keeps_channels_innermost(stride: int) -> None:
    conv = torch.nn.Conv1d(4, 6, 3, stride=stride, padding=1)
    hidden = torch.randn(2, 11, 4).transpose(1, 2)  # channels innermost, as the spectrogram comes
    found = channels_last_convolution(conv, hidden)
    torch.testing.assert_close(found, conv(hidden))
    assert found.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "num_beams": 1},
        {"cache_implementation": "static", "num_beams": 1},
        {"cache_implementation": "static"},
        {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    ],
    ids=["sampling", "static", "static-beams", "dict"],
)
def test_generation_runs_in_its_other_forms(settings: dict[str, object]) -> None:
    model = small_model()
    result = model.generate(input_features=features(2), max_length=8, **settings)
    tokens = result.sequences if "return_dict_in_generate" in settings else result
    assert tokens[:, 0].tolist() == [2, 2]
    assert tokens[:, 1].tolist() == [0, 0]
    if "cache_implementation" in settings:
        beams = int(settings.get("num_beams", 5))
        assert torch.equal(tokens, model.generate(input_features=features(2), max_length=8, num_beams=beams))


def test_a_new_model_decodes_as_the_released_one() -> None:
    ours: GenerationConfig = small_model(max_position_embeddings=1024).generation_config
    expected = {"num_beams": 5, "max_length": 128, "min_length": 2, "no_repeat_ngram_size": 3, "early_stopping": True}
    expected |= {"forced_bos_token_id": 0, "forced_eos_token_id": 2, "decoder_start_token_id": 2}
    expected |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    assert {name: getattr(ours, name) for name in expected} == expected


def test_the_extractor_s_book_keeping_may_be_passed_to_generate() -> None:
    model = small_model()
    tokens = model.generate(
        input_features=features(2),
        max_length=6,
        audio_chunk_index=[(0, 0), (0, 1)],
        chunk_start_seconds=[0.0, 10.0],
        chunk_end_seconds=[10.0, 20.0],
    )
    assert torch.equal(tokens, model.generate(input_features=features(2), max_length=6))


def test_saving_and_loading_keeps_every_tensor_and_setting(tmp_path: Path) -> None:
    model = small_model()
    model.generation_config.max_length = 17
    model.save_pretrained(tmp_path)
    loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path)
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    after = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert loaded.lm_head.weight is loaded.model.shared.weight
    assert loaded.model.encoder.embed_tokens.weight is loaded.model.shared.weight
    assert loaded.generation_config.max_length == 17
    assert loaded.generation_config.no_repeat_ngram_size == 3
    assert torch.equal(
        loaded.generate(input_features=features(2), max_length=9),
        model.generate(input_features=features(2), max_length=9),
    )


def test_a_file_without_the_tables_fills_them_on_loading(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = small_model()
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert not [name for name in stored if "positional_embedding" in name or "log_mel" in name]
    encoder = LpmcForConditionalGeneration.from_pretrained(tmp_path).model.encoder
    assert torch.equal(encoder.conv_stem.positional_embedding, sinusoids(32, 32))
    assert torch.equal(encoder.log_mel.window, torch.hann_window(1024))
    assert (encoder.log_mel(torch.zeros(1, 16000)) == -100.0).all()


def test_a_bfloat16_model_hears_float32_features_and_keeps_its_mel_tables(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    half = LpmcForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    later = small_model().to(torch.bfloat16)
    waves = torch.randn(1, 160_000) * 0.1
    for each in (half, later):
        assert each.model.encoder.log_mel.mel_filters.dtype == torch.float32
        assert torch.equal(each.model.encoder.log_mel(waves), model.model.encoder.log_mel(waves))
        out = each(input_features=features(1), labels=LABELS[:1])
        assert (out.logits.dtype, out.loss.dtype) == (torch.bfloat16, torch.float32)


def test_tables_are_the_same_when_torch_computes_in_bfloat16_by_default() -> None:
    plain = dict(small_model().named_buffers())
    torch.set_default_dtype(torch.bfloat16)  # as transformers 4 does while it loads a bfloat16 model
    try:
        under = dict(small_model().named_buffers())
    finally:
        torch.set_default_dtype(torch.float32)
    tables = [name for name in plain if name != "final_logits_bias"]
    assert len(tables) == 3
    for name in tables:
        assert torch.equal(plain[name], under[name]), name


def test_convolutions_start_as_in_pytorch_so_that_sound_reaches_the_encoder() -> None:
    torch.manual_seed(0)
    stem = LpmcForConditionalGeneration(small_config(d_model=256)).model.encoder.conv_stem
    bound = 1 / (256 * 3) ** 0.5
    for conv in stem.conv_stack:
        assert conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_resizing_the_vocabulary_takes_the_bias_of_the_head_along() -> None:
    model = small_model()
    old_bias = model.final_logits_bias.clone()
    for size in (311, 280):
        model.resize_token_embeddings(size, mean_resizing=False)
        assert model(input_features=features(3), labels=LABELS).logits.shape[-1] == size
        assert model.lm_head.weight is model.model.shared.weight is model.model.decoder.embed_tokens.weight
    assert torch.equal(model.final_logits_bias, old_bias[:, :280])


def test_gradients_reach_every_parameter_with_and_without_checkpointing() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = small_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(input_features=features(3), labels=LABELS).loss.backward()
        missing = [name for name, value in model.named_parameters() if value.grad is None]
        assert missing == []
        gradients.append(model.model.encoder.conv_stem.conv1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_tuples_and_inner_states_are_given_when_asked_for() -> None:
    model = small_model(attn_implementation="eager")
    out = model(input_features=features(1), labels=LABELS[:1], output_hidden_states=True, output_attentions=True)
    assert (len(out.encoder_hidden_states), len(out.decoder_hidden_states), len(out.cross_attentions)) == (3, 3, 2)
    assert out.encoder_attentions[0].shape == (1, 4, 32, 32)
    as_tuple = model(input_features=features(1), labels=LABELS[:1], return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], out.loss)


def test_the_base_model_holds_the_same_weights(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    base = LpmcModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[2, 0, 11]])
    with torch.no_grad():
        ours = base(input_features=features(1), decoder_input_ids=ids).last_hidden_state
        whole = model.model(input_features=features(1), decoder_input_ids=ids).last_hidden_state
    assert torch.equal(ours, whole)
