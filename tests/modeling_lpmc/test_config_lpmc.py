"""The config: the released sizes by default, and everything kept through a file."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_captioner import small_config

from modeling_lpmc import LpmcConfig, LpmcForConditionalGeneration

RELEASED_PARAMETERS = 148_570_000  # paper 5.1: BART-base 139.42M and 9.15M of convolutions


def test_the_default_is_the_released_model_with_the_dropouts_of_bart_base() -> None:
    config = LpmcConfig()
    assert (config.dropout, config.attention_dropout, config.activation_dropout) == (0.1, 0.1, 0.1)
    with torch.device("meta"):
        model = LpmcForConditionalGeneration(config)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(RELEASED_PARAMETERS, abs=5_000)


def test_a_saved_config_comes_back_with_every_field_that_was_changed(tmp_path: Path) -> None:
    changed = {"d_model": 128, "num_mel_bins": 64, "num_conv_layers": 4, "max_source_frames": 126, "hop_length": 320}
    changed |= {"label_smoothing": 0.0, "spectrum": "power", "chunk_seconds": 5.0, "n_fft": 512, "dropout": 0.2}
    LpmcConfig(**changed).save_pretrained(tmp_path)
    loaded = LpmcConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in changed} == changed
    assert loaded.model_type == "lpmc"
    assert loaded.tie_word_embeddings is True


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"spectrum": "loud"}, "real, power"), ({"d_model": 33}, "33"), ({"label_smoothing": 1.0}, "label_smoothing")],
)
def test_a_value_that_cannot_be_is_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LpmcConfig(**wrong)


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    program = "import sys, modeling_lpmc; dir(modeling_lpmc); print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_exported_name_exists() -> None:
    import modeling_lpmc

    for name in modeling_lpmc.__all__:
        assert getattr(modeling_lpmc, name).__name__ == name


def test_a_config_survives_every_way_of_copying_it(tmp_path: Path) -> None:
    config = LpmcConfig(d_model=96, spectrum="power", encoder_layers=2, num_mel_bins=40, max_source_frames=64)
    config.save_pretrained(tmp_path)
    as_read = LpmcConfig.from_pretrained(tmp_path)
    ways = {
        "dict": LpmcConfig.from_dict(config.to_dict()),
        "changes alone": LpmcConfig.from_dict(config.to_diff_dict()),
        "keywords": LpmcConfig(**config.to_dict()),
        "json": LpmcConfig.from_json_file(tmp_path / "config.json"),
        "deep copy": copy.deepcopy(config),
        "pickle": pickle.loads(pickle.dumps(config)),
    }
    expected = as_read.to_dict() | {"_name_or_path": ""}
    for way, made in ways.items():
        assert type(made) is LpmcConfig, way
        assert made.to_dict() | {"_name_or_path": ""} | ({"architectures": None}) == expected | {
            "architectures": None
        }, way


def test_what_is_written_are_the_changes_and_they_say_the_tie(tmp_path: Path) -> None:
    LpmcConfig(num_mel_bins=40).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["num_mel_bins"] == 40
    assert written["tie_word_embeddings"] is True
    assert written["model_type"] == "lpmc"
    assert (written["dropout"], written["attention_dropout"], written["activation_dropout"]) == (0.1, 0.1, 0.1)


def test_names_of_other_models_for_a_size_are_understood() -> None:
    config = LpmcConfig(d_model=96, encoder_layers=3, encoder_attention_heads=6)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (96, 3, 6)
    config.hidden_size = 48
    assert config.d_model == 48
    assert config.is_encoder_decoder


def test_tokens_have_the_numbers_that_bart_gives_them() -> None:
    config = LpmcConfig()
    numbers = (config.bos_token_id, config.pad_token_id, config.eos_token_id, config.decoder_start_token_id)
    assert numbers == (0, 1, 2, 2)
    assert config.forced_eos_token_id == 2
    assert LpmcConfig(decoder_start_token_id=7, pad_token_id=9).decoder_start_token_id == 7


def test_a_field_of_one_s_own_and_keywords_on_loading_are_kept(tmp_path: Path) -> None:
    LpmcConfig(trained_on="tones").save_pretrained(tmp_path)
    loaded, unused = LpmcConfig.from_pretrained(tmp_path, dropout=0.3, no_such_field=1, return_unused_kwargs=True)
    assert (loaded.trained_on, loaded.dropout, unused) == ("tones", 0.3, {"no_such_field": 1})


def test_labels_of_a_classifier_may_be_counted_and_named_as_in_any_config() -> None:
    assert LpmcConfig(num_labels=3).num_labels == 3
    assert LpmcConfig(id2label={0: "a", 1: "b", 2: "c"}).num_labels == 3


def test_the_attention_kernel_is_no_field_of_the_file(tmp_path: Path) -> None:
    config = LpmcConfig(attn_implementation="eager")
    assert config._attn_implementation == "eager"
    config.save_pretrained(tmp_path)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()
    assert LpmcConfig.from_pretrained(tmp_path, attn_implementation="sdpa")._attn_implementation == "sdpa"


def test_settings_of_generation_live_in_their_own_file(tmp_path: Path) -> None:
    model = LpmcForConditionalGeneration(small_config())
    model.generation_config.num_beams = 3
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert not set(written) & {"num_beams", "max_length", "min_length", "no_repeat_ngram_size", "early_stopping"}
    assert json.loads((tmp_path / "generation_config.json").read_text())["num_beams"] == 3


def test_settings_of_generation_in_an_old_config_file_do_not_stop_saving(tmp_path: Path) -> None:
    LpmcConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 4, "max_length": 20}))
    LpmcConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert "num_beams" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_configs_are_equal_when_all_their_fields_are() -> None:
    assert LpmcConfig() == LpmcConfig()
    assert LpmcConfig() != LpmcConfig(hop_length=320)
    assert "hop_length" in repr(LpmcConfig(hop_length=320))
