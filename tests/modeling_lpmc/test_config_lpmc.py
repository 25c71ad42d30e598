"""The config: the released sizes by default, and everything kept through a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
