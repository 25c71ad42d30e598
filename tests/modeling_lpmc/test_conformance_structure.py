"""What transformers reads from the classes themselves: bases, names, ties, initialisation, signatures."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from small_captioner import features, small_config, small_model
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.models.bart.modeling_bart import BartPreTrainedModel, shift_tokens_right

from modeling_lpmc import LpmcForConditionalGeneration, LpmcModel
from modeling_lpmc.modeling_lpmc import LpmcEncoder, LpmcPreTrainedModel

PAYLOAD = sorted(Path(inspect.getfile(LpmcModel)).parent.glob("*_lpmc.py"))
KINDS = (LpmcModel, LpmcForConditionalGeneration)
LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def test_generation_is_a_direct_base_behind_the_model() -> None:
    bases = LpmcForConditionalGeneration.__bases__
    assert bases[-1] is GenerationMixin
    assert LpmcPreTrainedModel in bases[:-1]
    assert LpmcForConditionalGeneration.can_generate()
    assert not LpmcModel.can_generate()
    assert issubclass(LpmcForConditionalGeneration, PreTrainedModel)


def test_beams_reorder_the_tokens_own_cache_and_leave_the_audio_s_in_place() -> None:
    assert isinstance(inspect.getattr_static(LpmcForConditionalGeneration, "_reorder_cache"), staticmethod)
    model = small_model()
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        model(input_features=features(3), decoder_input_ids=LABELS[:, :2], past_key_values=cache)
    own = cache.self_attention_cache.layers[0].keys.clone()
    audio = cache.cross_attention_cache.layers[0].keys
    kept = audio.clone()
    order = torch.tensor([2, 0, 0])
    returned = LpmcForConditionalGeneration._reorder_cache(cache, order)
    assert returned is cache
    assert torch.equal(cache.self_attention_cache.layers[0].keys, own[order])
    assert cache.cross_attention_cache.layers[0].keys is audio
    assert torch.equal(audio, kept)


def test_no_class_is_called_attention_so_that_kernels_can_be_switched() -> None:
    assert len(PAYLOAD) >= 5
    for path in PAYLOAD:
        assert [node.name for node in classes(path) if "attention" in node.name.lower()] == [], path.name
    assert LpmcForConditionalGeneration._can_set_attn_implementation()


def test_all_that_bart_supports_is_inherited() -> None:
    names = [name for name in vars(BartPreTrainedModel) if name.startswith(("_supports", "_can", "_skip"))]
    assert len(names) >= 4
    for kind in KINDS:
        assert issubclass(kind, BartPreTrainedModel)
        for name in names:
            assert getattr(kind, name) == getattr(BartPreTrainedModel, name), name


@pytest.mark.parametrize("kind", [*KINDS, LpmcEncoder], ids=lambda kind: kind.__name__)
def test_post_init_ends_every_constructor(kind: type) -> None:
    lines = [line.strip() for line in inspect.getsource(kind.__init__).splitlines() if line.strip()]
    assert lines[-1] == "self.post_init()"


def test_ties_are_named_in_the_form_of_the_installed_version() -> None:
    head, body = LpmcForConditionalGeneration._tied_weights_keys, LpmcModel._tied_weights_keys
    if transformers.__version__.startswith("4."):
        assert head == ["lm_head.weight"]
    else:
        assert head == {"lm_head.weight": "model.shared.weight"}
        assert set(body.values()) == {"shared.weight"}
    assert set(body) == {"decoder.embed_tokens.weight", "encoder.embed_tokens.weight"}
    model = small_model()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name in ("encoder", "decoder"):
        assert getattr(model.model, name).embed_tokens.weight is model.model.shared.weight


def test_new_embeddings_reach_all_who_share_them() -> None:
    model = small_model()
    model.set_input_embeddings(torch.nn.Embedding(300, 32))
    model.tie_weights()
    weight = model.get_input_embeddings().weight
    assert weight is model.lm_head.weight is model.model.decoder.embed_tokens.weight
    other = torch.nn.Linear(32, 300, bias=False)
    model.set_output_embeddings(other)
    assert model.get_output_embeddings() is other


def test_weights_start_as_the_config_says_and_tables_are_filled_again() -> None:
    torch.manual_seed(0)
    model = LpmcForConditionalGeneration(small_config(init_std=0.05))
    linear = torch.cat([module.weight.flatten() for module in model.modules() if type(module) is torch.nn.Linear])
    assert linear.std().item() == pytest.approx(0.05, rel=0.03)
    assert not model.model.shared.weight[model.config.pad_token_id].any()
    stem, mel = model.model.encoder.conv_stem, model.model.encoder.log_mel
    kept = [stem.positional_embedding.clone(), mel.window.clone(), mel.mel_filters.clone()]
    for spoilt in (stem.positional_embedding, mel.window, mel.mel_filters, model.final_logits_bias):
        spoilt.fill_(float("nan"))
    for module in (model, stem, mel):
        model._init_weights(module)
    for found, expected in zip((stem.positional_embedding, mel.window, mel.mel_filters), kept, strict=True):
        assert torch.equal(found, expected)
    assert not model.final_logits_bias.any()


def test_constructors_read_no_numbers_out_of_tensors_as_there_are_none_on_the_meta_device() -> None:
    for node in classes(Path(inspect.getfile(LpmcModel))):
        for method in (part for part in node.body if getattr(part, "name", "") == "__init__"):
            called = {call.attr for call in ast.walk(method) if isinstance(call, ast.Attribute)}
            assert not called & {"item", "tolist", "numpy"}, node.name


@pytest.mark.parametrize("kind", [*KINDS, LpmcEncoder], ids=lambda kind: kind.__name__)
def test_the_main_input_is_audio(kind: type[LpmcPreTrainedModel]) -> None:
    assert kind.main_input_name == "input_features"
    assert set(kind.input_modalities) in ({"audio"}, set("audio"))
    assert next(iter(inspect.signature(kind.forward).parameters.values())).name == "self"
    assert list(inspect.signature(kind.forward).parameters)[1] == "input_features"


def test_the_decoder_s_main_input_stays_tokens() -> None:
    assert small_model().get_decoder().embed_tokens.num_embeddings == 300
    with torch.no_grad():
        encoded = small_model().get_encoder()(features(1)).last_hidden_state
        small_model().get_decoder()(input_ids=LABELS[:1, :3], encoder_hidden_states=encoded)


def test_encoder_and_decoder_are_found_however_they_are_asked_for() -> None:
    for model in (small_model(), small_model().model):
        for ask in (
            model.get_encoder,
            lambda model=model: model.get_encoder("audio"),
            lambda model=model: model.get_encoder(modality="audio"),
        ):
            assert isinstance(ask(), LpmcEncoder)
        assert model.get_decoder() is not None


def test_dummy_inputs_run_the_whole_model() -> None:
    model = small_model()
    with torch.no_grad():
        assert model(**model.dummy_inputs).logits.shape[-1] == 300
        assert model.model(**model.model.dummy_inputs).last_hidden_state.shape[-1] == 32


def test_the_trainer_sees_that_the_loss_counts_all_labels_of_an_update() -> None:
    assert LpmcForConditionalGeneration.accepts_loss_kwargs is True
    named = inspect.signature(LpmcForConditionalGeneration.forward).parameters
    assert named["num_items_in_batch"].default is None
    assert "labels" in named
    assert "loss_function" not in inspect.getsource(LpmcForConditionalGeneration._caption_loss).replace(
        "`self.loss_function`", ""
    )


def test_the_loss_shifts_once() -> None:
    model = small_model(label_smoothing=0.0)
    with torch.no_grad():
        given = model(input_features=features(3), labels=LABELS)
        again = model(
            input_features=features(3),
            decoder_input_ids=shift_tokens_right(LABELS, model.config.pad_token_id, 2),
            labels=LABELS,
        )
    own = torch.nn.functional.cross_entropy(given.logits.flatten(0, 1), LABELS.flatten())
    torch.testing.assert_close(given.loss, own)
    torch.testing.assert_close(again.loss, own)


def test_labels_keep_their_first_token_and_are_not_changed() -> None:
    labels = LABELS.clone()
    shifted = small_model().prepare_decoder_input_ids_from_labels(labels=labels)
    assert torch.equal(labels, LABELS)
    assert shifted[:, :2].tolist() == [[2, 0]] * 3
    assert shifted.min() >= 0


def test_a_fresh_generation_config_is_written_without_the_mark_of_a_derived_one(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert "_from_model_config" not in written
    assert (written["num_beams"], written["no_repeat_ngram_size"], written["early_stopping"]) == (5, 3, True)
    assert GenerationConfig.from_pretrained(tmp_path).min_length == 2


def test_no_file_of_the_payload_asks_for_a_class_of_another_of_them() -> None:
    # config, model and extractor of one repository are imported as three module trees with classes of their own
    for path in PAYLOAD:
        own = {node.name for node in classes(path)}
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"isinstance", "issubclass"}:
                asked = {node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)}
                foreign = {name for name in asked - own if name.startswith("Lpmc")}
                assert foreign == set(), f"{path.name}:{call.lineno}"


def test_relative_imports_have_the_one_form_that_travels() -> None:
    for path in PAYLOAD:
        text = path.read_text()
        for line in re.findall(r"^\s*from\s+\..*$", text, flags=re.MULTILINE):
            found = re.match(r"\s*from \.(\w+_lpmc) import ", line)
            assert found, f"{path.name}: {line.strip()}"
            assert (path.parent / f"{found[1]}.py").is_file()


def test_every_file_of_the_payload_begins_with_the_year_of_its_copyright() -> None:
    for path in PAYLOAD:
        assert re.match(r"# Copyright 20\d\d ", path.read_text()), path.name
