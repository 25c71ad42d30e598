"""Loading, placing, copying and resizing: the same numbers whatever way a model comes into memory."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_captioner import ending_model, features, small_config, small_model
from transformers import AutoConfig, AutoModel, AutoModelForSpeechSeq2Seq
from transformers.cache_utils import EncoderDecoderCache

from modeling_lpmc import LpmcConfig, LpmcForConditionalGeneration, LpmcModel
from modeling_lpmc.layers_lpmc import sinusoids

LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])
TABLES = {"model.encoder.log_mel.window", "model.encoder.log_mel.mel_filters"} | {
    "model.encoder.conv_stem.positional_embedding"
}
FLOAT32_BYTES = 4
HEADER_BYTES = 20_000  # room for the names in a weights file of this size


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    ending_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def captions() -> torch.Tensor:
    return ending_model().generate(features(3), max_length=20)


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def assert_equal_tensors(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = tensors(found), tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


# --- the weights file ---


def test_the_file_holds_each_parameter_once_and_no_table(saved: Path) -> None:
    model = ending_model()
    stored = load_file(saved / "model.safetensors")
    assert stored.keys() == {name for name, _ in model.named_parameters()} | {"final_logits_bias"}
    numbers = sum(value.numel() for value in model.parameters()) + model.final_logits_bias.numel()
    size = (saved / "model.safetensors").stat().st_size
    assert numbers * FLOAT32_BYTES < size < numbers * FLOAT32_BYTES + HEADER_BYTES
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_at_full_size_the_head_is_counted_once_and_the_file_would_take_594_megabytes() -> None:
    with torch.device("meta"):
        model = LpmcForConditionalGeneration(LpmcConfig())
    assert model.num_parameters() == 148_567_296
    assert model.num_parameters() - model.num_parameters(exclude_embeddings=True) >= 50_265 * 768
    stored = {name: value for name, value in model.state_dict().items() if name not in model.all_tied_weights_keys}
    megabytes = sum(value.numel() for value in stored.values()) * FLOAT32_BYTES / 1e6
    assert megabytes == pytest.approx(594.5, abs=0.1)


def test_every_tensor_is_a_parameter_or_a_buffer_so_that_a_model_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        model = LpmcForConditionalGeneration(small_config())
    assert {value.device.type for value in tensors(model).values()} == {"meta"}
    for module in model.modules():
        loose = [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert loose == [], f"{type(module).__name__} keeps tensors outside its parameters and buffers"


def test_memory_given_afterwards_can_be_filled_with_weights_and_tables() -> None:
    with torch.device("meta"):
        model = LpmcForConditionalGeneration(small_config())
    model.to_empty(device="cpu")
    model.load_state_dict(ending_model().state_dict(), strict=True)
    for module in model.modules():
        if hasattr(module, "fill_tables"):
            module.fill_tables()
    model.tie_weights()
    assert_equal_tensors(model.eval(), ending_model())


def test_every_table_missing_in_a_file_is_computed_and_every_weight_missing_is_started_afresh(
    saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    lost = ("model.encoder.conv_stem.conv1.weight", "model.decoder.layers.0.fc1.bias", "final_logits_bias")
    lost += ("model.decoder.layernorm_embedding.weight",)
    stored = {name: value for name, value in load_file(saved / "model.safetensors").items() if name not in lost}
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, report = LpmcForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == set(lost)
    assert not report["unexpected_keys"]
    assert torch.equal(model.model.encoder.conv_stem.positional_embedding, sinusoids(32, 32))
    assert torch.equal(model.model.encoder.log_mel.window, torch.hann_window(1024))
    assert not model.final_logits_bias.any()
    assert not model.model.decoder.layers[0].fc1.bias.any()
    assert (model.model.decoder.layernorm_embedding.weight == 1).all()
    bound = (128 * 3) ** -0.5
    assert 0.95 * bound < model.model.encoder.conv_stem.conv1.weight.abs().max() <= bound
    kept = ending_model().model.encoder.conv_stem.conv1.bias
    assert torch.equal(model.model.encoder.conv_stem.conv1.bias, kept), "what was loaded must not be drawn anew"


def test_weights_that_fit_nowhere_are_named(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    stored = load_file(saved / "model.safetensors") | {"stranger.weight": torch.zeros(2)}
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, report = LpmcForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["unexpected_keys"]) == {"stranger.weight"}


# --- head and body ---


def test_the_body_loads_from_the_captioner_s_file_and_the_captioner_from_the_body_s(
    saved: Path, tmp_path: Path
) -> None:
    whole = ending_model()
    body, report = LpmcModel.from_pretrained(saved, output_loading_info=True)
    assert not report["missing_keys"]
    assert_equal_tensors(body, whole.model)
    assert body.decoder.embed_tokens.weight is body.encoder.embed_tokens.weight is body.shared.weight
    body.save_pretrained(tmp_path)
    again, report = LpmcForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) <= {"final_logits_bias", "lm_head.weight"}
    assert_equal_tensors(again.model, whole.model)
    assert again.lm_head.weight is again.model.shared.weight
    assert not again.final_logits_bias.any()
    assert whole.base_model is whole.model
    assert not body.can_generate()
    assert whole.can_generate()


def test_an_untied_head_is_a_weight_of_its_own_and_survives_saving(tmp_path: Path) -> None:
    model = small_model(tie_word_embeddings=False)
    assert model.lm_head.weight.data_ptr() != model.model.shared.weight.data_ptr()
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(loaded.lm_head.weight, loaded.model.shared.weight)


def test_a_config_file_without_the_field_still_ties_the_head(saved: Path, tmp_path: Path) -> None:
    fields = json.loads((saved / "config.json").read_text())
    fields.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.shared.weight


@pytest.mark.parametrize("size", [311, 280])
def test_a_resized_model_survives_saving_and_still_writes(tmp_path: Path, size: int) -> None:
    model = ending_model()
    model.resize_token_embeddings(size, mean_resizing=False)
    assert model.config.vocab_size == size
    model.save_pretrained(tmp_path)
    loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path)
    assert_equal_tensors(loaded, model)
    tokens = loaded.generate(features(2), max_length=9)
    assert torch.equal(tokens, model.generate(features(2), max_length=9))
    assert int(tokens.max()) < size


def test_resizing_to_a_multiple_fills_up_with_tokens_of_the_mean() -> None:
    model = ending_model()
    before = model.model.shared.weight.detach().clone()
    model.resize_token_embeddings(301, pad_to_multiple_of=64)
    assert model.config.vocab_size == model.lm_head.out_features == model.final_logits_bias.shape[1] == 320
    assert torch.equal(model.model.shared.weight[:300], before)
    torch.testing.assert_close(model.model.shared.weight[300:].mean(0), before.mean(0), rtol=0, atol=0.05)


# --- number formats ---


@pytest.mark.parametrize("number", [torch.bfloat16, torch.float16])
def test_half_precision_is_loaded_computed_generated_and_saved(
    saved: Path, tmp_path: Path, number: torch.dtype
) -> None:
    half = LpmcForConditionalGeneration.from_pretrained(saved, dtype=number)
    assert {value.dtype for name, value in tensors(half).items() if name not in TABLES} == {number}
    assert {value.dtype for name, value in tensors(half).items() if name in TABLES} == {torch.float32}
    exact = ending_model()
    with torch.no_grad():
        ours = half(input_features=features(3), labels=LABELS)
        theirs = exact(input_features=features(3), labels=LABELS)
    assert ours.logits.dtype == number
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=0.02)
    for given in ({"input_features": features(2)}, {"input_values": torch.randn(2, 160_000) * 0.1}):
        tokens = half.generate(**given, max_length=12)
        assert tokens.shape[0] == 2
        assert tokens[:, :2].tolist() == [[2, 0], [2, 0]]
    half.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(number).removeprefix("torch.")
    for again in (
        LpmcForConditionalGeneration.from_pretrained(tmp_path),
        LpmcForConditionalGeneration.from_pretrained(tmp_path, dtype="auto"),
    ):
        assert again.dtype == number
        assert_equal_tensors(again, half)
    assert LpmcForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_a_float32_file_is_loaded_as_float32_when_no_format_is_named(saved: Path) -> None:
    assert LpmcForConditionalGeneration.from_pretrained(saved).dtype == torch.float32


# --- places ---

OFFLOADED: dict[str, Any] = {"model.shared": "cpu", "final_logits_bias": "cpu", "lm_head": "cpu"}
OFFLOADED |= {"model.encoder": "cpu", "model.decoder.embed_tokens": "cpu", "model.decoder.embed_positions": "disk"}
OFFLOADED |= {"model.decoder.layernorm_embedding": "cpu"}
OFFLOADED |= {"model.decoder.layers.0": "cpu", "model.decoder.layers.1": "disk"}
PLACES: dict[str, dict[str, Any]] = {
    "auto": {"device_map": "auto"},
    "named": {"device_map": "cpu"},
    "dictionary": {"device_map": {"": "cpu"}},
    "all-on-disk": {"device_map": "auto", "max_memory": {"cpu": 60_000}},
    "most-on-disk": {"device_map": "auto", "max_memory": {"cpu": 0.9}},
    "one-layer-on-disk": {"device_map": OFFLOADED},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_weights_spread_over_places_give_the_same_captions(
    saved: Path, tmp_path: Path, captions: torch.Tensor, place: dict[str, Any]
) -> None:
    pytest.importorskip("accelerate")
    settings = dict(place)
    if "max_memory" in settings:
        share = settings["max_memory"]["cpu"]
        size = (saved / "model.safetensors").stat().st_size
        settings["max_memory"] = {"cpu": int(size * share) if share < 1 else share}
    model = LpmcForConditionalGeneration.from_pretrained(saved, offload_folder=str(tmp_path), **settings)
    on_disk = "disk" in getattr(model, "hf_device_map", {}).values()
    assert on_disk == ("max_memory" in settings or settings["device_map"] is OFFLOADED)
    assert on_disk == any(value.is_meta for value in model.parameters())
    assert torch.equal(model.generate(features(3), max_length=20), captions)
    with torch.no_grad():
        found = model(input_features=features(3), labels=LABELS)
        expected = ending_model()(input_features=features(3), labels=LABELS)
        torch.testing.assert_close(found.logits, expected.logits)
        waves = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            model.get_encoder()(input_values=waves).last_hidden_state,
            ending_model().get_encoder()(input_values=waves).last_hidden_state,
        )
    if on_disk:
        model.save_pretrained(tmp_path / "again")
        assert_equal_tensors(LpmcForConditionalGeneration.from_pretrained(tmp_path / "again"), ending_model())


# --- copies ---


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_whole_tied_and_apart_from_its_origin(copied: Any, captions: torch.Tensor) -> None:
    model = ending_model()
    twin = copied(model)
    assert_equal_tensors(twin, model)
    assert twin.lm_head.weight is twin.model.shared.weight is twin.model.decoder.embed_tokens.weight
    assert torch.equal(twin.generate(features(3), max_length=20), captions)
    with torch.no_grad():
        twin.model.shared.weight.zero_()
    assert torch.equal(model.generate(features(3), max_length=20), captions)


def test_a_state_dict_written_by_torch_alone_loads_strictly(tmp_path: Path, captions: torch.Tensor) -> None:
    torch.save(ending_model().state_dict(), tmp_path / "weights.pt")
    other = small_model(seed=8)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other.generate(features(3), max_length=20), captions)


def test_shards_hold_the_same_model(tmp_path: Path) -> None:
    ending_model().save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_tensors(LpmcForConditionalGeneration.from_pretrained(tmp_path), ending_model())


# --- names under which the library finds the parts ---


def test_the_auto_classes_find_the_classes_once_they_are_registered(saved: Path, captions: torch.Tensor) -> None:
    AutoConfig.register("lpmc", LpmcConfig, exist_ok=True)
    AutoModel.register(LpmcConfig, LpmcModel, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(LpmcConfig, LpmcForConditionalGeneration, exist_ok=True)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(saved, trust_remote_code=False)
    assert type(model) is LpmcForConditionalGeneration
    assert torch.equal(model.generate(features(3), max_length=20), captions)
    assert type(AutoModelForSpeechSeq2Seq.from_config(model.config)) is LpmcForConditionalGeneration
    assert type(AutoModel.from_pretrained(saved, trust_remote_code=False)) is LpmcModel


def test_the_forward_s_cache_is_the_library_s_pair_of_caches() -> None:
    model = small_model()
    out = model(input_features=features(1), decoder_input_ids=torch.tensor([[2, 0, 11]]), use_cache=True)
    assert isinstance(out.past_key_values, EncoderDecoderCache)
    assert out.past_key_values.get_seq_length() == 3
    assert out.past_key_values.cross_attention_cache.get_seq_length() == 32
