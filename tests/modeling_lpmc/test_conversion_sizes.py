"""Conversion of many sizes of checkpoints, on many kinds of signals, beside a second description of released code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_reference import (
    FULL_SIZE,
    HOP,
    RATE,
    RELEASED_DECODING,
    SIGNALS,
    ReleasedModel,
    Sizes,
    clips,
    expected_arrays,
    make_state,
    random_labels,
    save_checkpoint,
)

from lpmc_errors import ModelError
from modeling_lpmc import LpmcFeatureExtractor, LpmcForConditionalGeneration, convert_checkpoint

SMALL = Sizes()
FIVE_SECONDS = Sizes(d_model=64, encoder_layers=1, decoder_layers=3, encoder_heads=8, decoder_heads=2, seconds=5)
OTHERS = {
    "odd vocabulary, unequal sides": replace(FIVE_SECONDS, vocab=333, encoder_ffn=80, decoder_ffn=144, seconds=10),
    "fewer convolutions, fewer bands": replace(SMALL, convs=4, mels=80, positions=200, decoder_layers=1),
    "more convolutions, a longer window of the STFT": replace(SMALL, convs=7, n_fft=2048, vocab=511),
    "half the window of sound": FIVE_SECONDS,
    "short STFT, few bands, narrow": replace(SMALL, d_model=16, n_fft=512, mels=40, encoder_layers=4, vocab=77),
    "one head, wide": replace(SMALL, d_model=96, encoder_heads=1, decoder_heads=1, encoder_ffn=32, positions=64),
}


def write_sizes(sizes: Sizes, path: Path, **more: Any) -> Path:
    path.write_text(json.dumps(sizes.told() | more))
    return path


def measure(model: LpmcForConditionalGeneration, features: torch.Tensor, expected: dict[str, Any]) -> dict[str, float]:
    """Differences of a model from the arrays of the reference."""
    with torch.no_grad():
        outputs = model(input_features=features, labels=torch.tensor(expected["labels"]))
        embeddings = model.model.encoder.conv_stem(features)
    power = 10 ** (features[:, :, :: int(expected["log_mel_stride"])].numpy().astype(np.float64) / 10)
    wanted = 10 ** (expected["log_mel"].astype(np.float64) / 10)
    return {
        "log_mel": float((np.abs(power - wanted) / wanted).max()),
        "embeddings": float(np.abs(embeddings.numpy() - expected["audio_embeddings"]).max()),
        "encoder": float(
            np.abs(outputs.encoder_last_hidden_state.numpy() - expected["encoder_last_hidden_state"]).max()
        ),
        "loss": abs(float(outputs.loss) - float(expected["loss"])),
    }


def check(directory: Path, waves: torch.Tensor, expected: dict[str, Any], max_length: int) -> None:
    """All that is demanded of a converted model."""
    model = LpmcForConditionalGeneration.from_pretrained(directory).eval()
    extractor = LpmcFeatureExtractor.from_pretrained(directory)
    features = extractor(list(waves), sampling_rate=RATE, return_tensors="pt")["input_features"]
    differences = measure(model, features, expected)
    assert differences["log_mel"] < 1e-4, differences
    assert differences["embeddings"] < 1e-4, differences
    assert differences["encoder"] < 1e-4, differences
    assert differences["loss"] < 1e-5, differences
    beams = model.generate(input_features=features, max_length=max_length)
    greedy = model.generate(input_features=features, max_length=max_length, num_beams=1)
    assert beams.tolist() == expected["beam5_tokens"].tolist()
    assert greedy.tolist() == expected["greedy_tokens"].tolist()


@pytest.mark.parametrize(("seed", "name"), list(enumerate(OTHERS)))
def test_a_checkpoint_of_other_sizes_gives_the_released_numbers(seed: int, name: str, tmp_path: Path) -> None:
    sizes, kinds = OTHERS[name], list(SIGNALS)
    state = make_state(sizes, seed, eos_bias=1.0, bias_noise=0.5)
    checkpoint = save_checkpoint(state, tmp_path / "last.pth")
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=write_sizes(sizes, tmp_path / "sizes.json"))
    assert report.mapped + len(report.dropped) == len(state)
    waves = clips(*(kinds[(2 * seed + step) % len(kinds)] for step in range(4)), seconds=sizes.seconds, seed=seed)
    labels = random_labels(sizes, (22, 9, 2, 13), seed)
    check(tmp_path / "model", waves, expected_arrays(ReleasedModel(sizes, state), waves, labels, 40), 40)


def test_every_kind_of_signal_gives_the_released_numbers(tmp_path: Path) -> None:
    state = make_state(SMALL, 11, eos_bias=1.0)
    checkpoint = save_checkpoint(state, tmp_path / "last.pth")
    convert_checkpoint(checkpoint, tmp_path / "model", sizes=write_sizes(SMALL, tmp_path / "sizes.json"))
    waves = clips(*SIGNALS, seed=3)
    labels = random_labels(SMALL, tuple(5 + number for number in range(len(waves))), 3)
    check(tmp_path / "model", waves, expected_arrays(ReleasedModel(SMALL, state), waves, labels, 24), 24)


def test_the_spectrum_is_that_of_an_explicit_transform_in_double_precision() -> None:
    waves = clips("speech-like", "noise", "chord", "clicks")
    padded = torch.nn.functional.pad(waves.double()[:, None], (512, 512), mode="reflect")[:, 0]
    frames = padded.unfold(1, 1024, HOP)[:, ::50] * torch.hann_window(1024, dtype=torch.float64)
    turns = torch.outer(torch.arange(1024), torch.arange(513)).double() / 1024
    real, imaginary = frames @ torch.cos(2 * torch.pi * turns), frames @ torch.sin(2 * torch.pi * turns)
    table = make_state(SMALL, 0)["audio_encoder.mel_encoder.mel_scale.fb"].double()
    wanted = (real.square() @ table).mT  # (clips, mels, frames)
    ours = LpmcFeatureExtractor()(list(waves), sampling_rate=RATE, return_tensors="pt")["input_features"][:, :, ::50]
    difference = (10 ** (ours.double() / 10) - wanted.clamp(min=1e-10)).abs()
    # Beside the loudest band of the frame, its imaginary part included: where the real part vanishes, float32 has no
    # digit right in any program.
    loudest = ((real.square() + imaginary.square()) @ table).amax(dim=2)[:, None]
    assert float((difference / loudest.clamp(min=1e-10)).max()) < 1e-6


def test_the_released_size_is_converted_and_gives_the_same_tokens(tmp_path: Path) -> None:
    state = make_state(FULL_SIZE, 5)
    checkpoint = save_checkpoint(state, tmp_path / "transfer.pth")
    # The heads of the released width are known. A short length is told, since the conversion compares captions of it.
    (tmp_path / "sizes.json").write_text('{"max_length": 4}')
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    assert report.parameters == 148_567_296
    waves = clips("speech-like", "chord")
    labels = random_labels(FULL_SIZE, (12, 7), 0)
    check(tmp_path / "model", waves, expected_arrays(ReleasedModel(FULL_SIZE, state), waves, labels, 12), 12)


# -- generation_config.json ---------------------------------------------------


@pytest.fixture(scope="module")
def small_state() -> dict[str, torch.Tensor]:
    return make_state(SMALL, 21, eos_bias=1.0)


@pytest.fixture(scope="module")
def small_checkpoint(small_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(small_state, tmp_path_factory.mktemp("small") / "last.pth")


def test_a_converted_model_decodes_as_the_released_one_did(tmp_path: Path) -> None:
    sizes = replace(SMALL, positions=1024)
    checkpoint = save_checkpoint(make_state(sizes, 1, eos_bias=4.0), tmp_path / "last.pth")
    convert_checkpoint(checkpoint, tmp_path / "model", sizes=write_sizes(sizes, tmp_path / "sizes.json"))
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    neutral = {"length_penalty": 1.0, "repetition_penalty": 1.0}  # the library's own, which it does not write
    assert {name: written.get(name, neutral.get(name)) for name in RELEASED_DECODING} == RELEASED_DECODING
    assert set(written) <= {*RELEASED_DECODING, "transformers_version", "_from_model_config"}


def test_settings_of_decoding_in_the_file_replace_the_released_ones(small_checkpoint: Path, tmp_path: Path) -> None:
    told = {"max_length": 20, "num_beams": 3, "min_length": 4, "no_repeat_ngram_size": 2, "length_penalty": 0.6}
    told |= {"early_stopping": False, "forced_bos_token_id": None}
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", **told)
    report = convert_checkpoint(small_checkpoint, tmp_path / "model", sizes=sizes)
    assert report.changed_decoding == told
    settings = LpmcForConditionalGeneration.from_pretrained(tmp_path / "model").generation_config
    assert {name: getattr(settings, name) for name in told} == told
    assert settings.forced_eos_token_id == 2
    assert (report.parity.beams, report.parity.beams_equal) == (3, True)


def test_a_model_that_is_told_to_search_greedily_can_be_saved(small_checkpoint: Path, tmp_path: Path) -> None:
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", num_beams=1)
    convert_checkpoint(small_checkpoint, tmp_path / "model", sizes=sizes)
    assert LpmcForConditionalGeneration.from_pretrained(tmp_path / "model").generation_config.num_beams == 1


# -- what sizes.json may say --------------------------------------------------

SPELLINGS: dict[str, dict[str, Any]] = {
    "short": {
        "d_model": 48,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "attention_heads": 4,
        "ffn_dim": 96,
        "vocab_size": 300,
    }
    | {"label_smoothing": 0.2, "bos": 0, "pad": 1, "eos": 2, "decoder_start": 2},
    "of the library": {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 96}
    | {
        "num_hidden_layers": 2,
        "hidden_size": 48,
        "dropout": 0.3,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
    | {
        "label_smoothing": 0.2,
        "num_mel_bins": 128,
        "hop_length": 160,
        "sampling_rate": 16000,
        "n_fft": 1024,
        "eos_token_id": 2,
    }
    | {"tie_word_embeddings": True},
    "of the released code": {"num_attention_heads": 4, "n_mels": 128, "num_of_conv": 6, "sr": 16000, "duration": 10}
    | {"audio_dim": 48, "text_dim": 48, "n_ctx": 32, "label_smoothing": 0.2},
    "grouped": {"config": {"attention_heads": 4, "label_smoothing": 0.2}, "generation": {"max_length": 30}},
    "whole numbers written as fractions": {"attention_heads": 4.0, "d_model": 48.0, "label_smoothing": 0.2},
    "with what only informs": {
        "attention_heads": 4,
        "label_smoothing": 0.2,
        "comment": "small",
        "seed": 21,
        "parameters": 12345,
    }
    | {"clips": ["a.wav"], "_made": "today", "architectures": ["X"], "versions": {"torch": "2"}},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_sizes_may_be_told_in_many_words(
    name: str, small_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps(SPELLINGS[name]))
    report = convert_checkpoint(small_checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    config = LpmcForConditionalGeneration.from_pretrained(tmp_path / "model").config
    assert (config.encoder_attention_heads, config.decoder_attention_heads, config.label_smoothing) == (4, 4, 0.2)
    assert config.dropout == (0.3 if name == "of the library" else 0.1)
    informs = name == "with what only informs"
    assert ("comment" in report.ignored_sizes) == ("comment" in caplog.text) == informs


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"atention_heads": 4}, "'atention_heads' is unknown; did you mean attention_heads"),
        ({"Attention_Heads": 4}, "did you mean attention_heads"),
        ({"heads": 4}, "did you mean attention_heads or"),
        ({"max_lenght": 20}, "did you mean max_length"),
        ({"encoder_layer": 2}, "did you mean encoder_layers"),
        ({"label_smooting": 0.1}, "did you mean label_smoothing"),
        ({"vocab_size": 301}, "vocab_size is 301, but the weights have 300"),
        ({"max_position_embeddings": 128}, "but the weights have 96"),
        ({"n_mels": 64}, "n_mels is 64, but the weights have 128"),
        ({"num_of_conv": 5}, "num_of_conv is 5, but the weights have 6"),
        ({"ffn_dim": 100}, "but the weights have 96"),
        ({"n_fft": 512}, "but the weights have 1024"),
        ({"encoder_attention_heads": 8}, "encoder_attention_heads is 8, but attention_heads says 4"),
        ({"config": {"dropout": 0.2}, "dropout": 0.1}, "dropout is there as 0.2 and as 0.1"),
        ({"duration": 5}, "windows of 5 s do not make the 32 positions"),
        ({"hop_length": 7}, "does not show in 32 positions"),
        ({"sr": 8000}, "another front end|do not make the 32|does not show"),
        ({"max_length": 200}, "max_length is 200, but the weights have 96 positions"),
        ({"max_length": 20.5}, "give a whole number, 1 or more"),
        ({"early_stopping": "sometimes"}, "cannot be decoded with"),
        ({"num_beams": 0}, "num_beams is 0; give a whole number, 1 or more"),
        ({"num_beams": "5"}, "give a whole number"),
        ({"dropout": "much"}, "dropout is 'much'; give a number"),
        ({"scale_embedding": 1}, "give true or false"),
        ({"activation_function": "gleu"}, "no activation 'gleu'"),
        ({"forced_bos_token_id": 300}, "there are 300 tokens"),
        ({"tie_word_embeddings": False}, "one matrix of tokens"),
        ({"eos": 300}, "there are 300 tokens"),
        ({"d_model": 48.5}, "give a whole number"),
        ({"d_model": None}, "give a number"),
        ({"label_smoothing": 2.0}, "make no model"),
        ({"spectrum": "phase"}, "make no model"),
    ],
)
def test_what_is_told_wrong_is_one_line_and_nothing_is_written(
    told: dict[str, Any], problem: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({"attention_heads": 4} | told))
    with pytest.raises(ModelError, match=problem) as raised:
        convert_checkpoint(small_checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["sizes.json"]


def test_a_window_that_the_positions_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    sizes = replace(SMALL, convs=9, positions=64)
    state = make_state(sizes, 3)
    state["audio_encoder.positional_embedding"] = make_state(replace(sizes, seconds=21), 3)[
        "audio_encoder.positional_embedding"
    ]
    checkpoint = save_checkpoint(state, tmp_path / "last.pth")
    (tmp_path / "sizes.json").write_text('{"attention_heads": 4}')
    with pytest.raises(ModelError, match=r"length of its windows does not show in 9 positions.*chunk_seconds"):
        convert_checkpoint(checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    (tmp_path / "sizes.json").write_text('{"attention_heads": 4, "duration": 21, "max_length": 6}')
    convert_checkpoint(checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    assert LpmcFeatureExtractor.from_pretrained(tmp_path / "model").chunk_seconds == 21


# -- files of other shapes ----------------------------------------------------


def _without(state: dict[str, torch.Tensor], *parts: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not any(part in key for part in parts)}


FILES: dict[str, Any] = {
    "the state dict alone": lambda state, path: torch.save(state, path),
    "under model": lambda state, path: torch.save({"model": state, "args": {"lr": 1e-4}}, path),
    "wrapped for several GPUs": lambda state, path: save_checkpoint({f"module.{k}": v for k, v in state.items()}, path),
    "compiled and wrapped": lambda state, path: save_checkpoint(
        {f"module._orig_mod.{k}": v for k, v in state.items()}, path
    ),
    "with the state of an optimiser": lambda state, path: save_checkpoint(
        state,
        path,
        optimizer={
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(5)}},
            "param_groups": [{"lr": 1e-4}],
        },
    ),
    "in the old format": lambda state, path: torch.save(
        {"epoch": 7, "state_dict": state}, path, _use_new_zipfile_serialization=False
    ),
    "without copies of the tokens": lambda state, path: save_checkpoint(
        _without(state, "embed_tokens", "lm_head"), path
    ),
    "in double precision": lambda state, path: save_checkpoint({k: v.double() for k, v in state.items()}, path),
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_weights_in_another_file_are_the_same_model(
    name: str, small_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    FILES[name](small_state, tmp_path / "odd.pth")
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", max_length=8)
    report = convert_checkpoint(tmp_path / "odd.pth", tmp_path / "model", sizes=sizes)
    assert report.mapped + len(report.dropped) == len(small_state)
    assert len(report.filled_in) == (3 if name == "without copies of the tokens" else 0)
    assert report.stored_types == (["float64"] if name == "in double precision" else ["float32"])
    assert report.epoch == (None if name in ("the state dict alone", "under model") else 7)
    waves, model = clips("chord", "clicks"), ReleasedModel(SMALL, small_state)
    check(tmp_path / "model", waves, expected_arrays(model, waves, random_labels(SMALL, (6, 9), 1), 30), 30)


def test_a_bias_of_the_head_that_is_not_there_is_zero_as_released(tmp_path: Path) -> None:
    state = make_state(SMALL, 4)
    checkpoint = save_checkpoint(_without(state, "final_logits_bias"), tmp_path / "last.pth")
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", max_length=8)
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=sizes)
    assert report.filled_in == ["bart.final_logits_bias"]
    assert not LpmcForConditionalGeneration.from_pretrained(tmp_path / "model").final_logits_bias.any()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_taken_as_they_are_beside_exact_tables(kind: torch.dtype, tmp_path: Path) -> None:
    state = make_state(SMALL, 8, eos_bias=1.0)
    checkpoint = save_checkpoint({key: value.to(kind) for key, value in state.items()}, tmp_path / "half.pth")
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=write_sizes(SMALL, tmp_path / "sizes.json"))
    assert report.stored_types == [str(kind).removeprefix("torch.")]
    tables = ("mel_encoder", "positional_embedding")
    rounded = {k: v if any(name in k for name in tables) else v.to(kind).float() for k, v in state.items()}
    waves, model = clips("chord", "noise"), ReleasedModel(SMALL, rounded)
    check(tmp_path / "model", waves, expected_arrays(model, waves, random_labels(SMALL, (6, 9), 1), 30), 30)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda s: s.update({"module.bart.lm_head.weight": s["bart.lm_head.weight"]}), "lm_head.weight is there twice"),
        (lambda s: s.update({"bart.final_logits_bias": torch.zeros(1, 301)}), "final_logits_bias has shape"),
        (
            lambda s: s.update({"audio_encoder.conv1.bias": torch.zeros(48, dtype=torch.int64)}),
            "int64 and no fractions",
        ),
        (lambda s: s.update({"audio_encoder.mel_encoder.mel_scale.fb": torch.zeros(257, 128)}), "has shape"),
        (lambda s: s.update({"audio_encoder.proj.weight": torch.zeros(48, 48)}), "proj.weight is unknown"),
    ],
)
def test_a_tensor_that_does_not_belong_stops_the_conversion(
    spoil: Any, problem: str, small_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state = dict(small_state)
    spoil(state)
    checkpoint = save_checkpoint(state, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=problem):
        convert_checkpoint(checkpoint, tmp_path / "model", sizes=write_sizes(SMALL, tmp_path / "sizes.json"))
    assert not (tmp_path / "model").exists()


# -- the directory that is written --------------------------------------------


def test_a_second_conversion_replaces_the_first_and_leaves_what_is_not_its_own(
    small_state: dict[str, torch.Tensor], small_checkpoint: Path, tmp_path: Path
) -> None:
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", max_length=8)
    output = tmp_path / "model"
    convert_checkpoint(small_checkpoint, output, sizes=sizes)
    (output / "notes.txt").write_text("mine")
    (output / "conversion.json").write_text(
        json.dumps({"files": ["old_lpmc.py", "../sizes.json", "config.json", "absent"]})
    )
    (output / "old_lpmc.py").write_text("")
    other = save_checkpoint(make_state(SMALL, 22), tmp_path / "other.pth")
    report = convert_checkpoint(other, output, sizes=sizes)
    assert {path.name for path in output.iterdir()} == {*report.files, "notes.txt"}
    assert json.loads((output / "conversion.json").read_text())["checkpoint"] == "other.pth"
    assert sizes.exists()
    weights = LpmcForConditionalGeneration.from_pretrained(output).model.shared.weight
    assert not torch.equal(weights, small_state["bart.model.shared.weight"])


def test_a_conversion_that_fails_leaves_the_earlier_one_as_it_was(small_checkpoint: Path, tmp_path: Path) -> None:
    sizes = write_sizes(SMALL, tmp_path / "sizes.json", max_length=8)
    output = tmp_path / "model"
    convert_checkpoint(small_checkpoint, output, sizes=sizes)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    state = make_state(SMALL, 23)
    state["audio_encoder.conv1.bias"][3] = 1e38  # finite, and no spectrum survives it
    spoilt = save_checkpoint(state, tmp_path / "spoilt.pth")
    with pytest.raises(ModelError, match=r"differs from the checkpoint.*nan"):
        convert_checkpoint(spoilt, output, sizes=sizes)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sizes.json", "spoilt.pth"]


def test_a_model_from_elsewhere_is_never_overwritten(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds a model that was not converted"):
        convert_checkpoint(small_checkpoint, tmp_path / "model", sizes=write_sizes(SMALL, tmp_path / "sizes.json"))
    assert (tmp_path / "model" / "config.json").read_text() == "{}"


def test_the_settings_beside_a_checkpoint_are_read(small_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    checkpoint = save_checkpoint(small_state, tmp_path / "pretrain.pth")
    (tmp_path / "pretrain.yaml").write_text("epochs: 4096\nlabel_smoothing: 0.05\nmax_length: 40\nseed: null\n")
    sizes = write_sizes(SMALL, tmp_path / "sizes.json")
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=sizes)
    assert report.trained_max_length == 40
    model = LpmcForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert model.config.label_smoothing == 0.05
    assert model.generation_config.max_length == 96  # inference never took the training's
    (tmp_path / "pretrain.yaml").write_text("max_length: 400\n")
    with pytest.raises(ModelError, match="captions of 400 tokens, and it has 96 positions"):
        convert_checkpoint(checkpoint, tmp_path / "other", sizes=sizes)
