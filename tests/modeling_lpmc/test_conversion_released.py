"""The converter: a released checkpoint becomes a model, and every way it can be wrong is one line to the user."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_captioner import CAPTIONS

from lpmc_errors import ModelError
from modeling_lpmc import (
    LpmcFeatureExtractor,
    LpmcForConditionalGeneration,
    LpmcProcessor,
    convert_checkpoint,
    train_tokenizer,
)

State = dict[str, torch.Tensor]


@pytest.fixture
def stored(oracle_model: Path) -> dict[str, Any]:
    return torch.load(oracle_model / "small_checkpoint.pth", weights_only=True)


@pytest.fixture
def sizes(oracle_model: Path) -> Path:
    return oracle_model / "small_config.json"


def test_the_oracle_is_converted_and_everything_is_accounted_for(
    oracle_model: Path, sizes: Path, stored: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "model"
    report = convert_checkpoint(oracle_model / "small_checkpoint.pth", output, sizes=sizes)
    assert report.mapped + len(report.dropped) == len(stored["state_dict"])
    assert set(report.dropped.values()) == {0.0}
    assert (report.parameters, report.epoch, report.tokenizer) == (972_480, 3, "none")
    parity = report.parity
    assert (parity.greedy_equal, parity.beams_equal, parity.beams) == (True, True, 5)
    assert (parity.greedy_tokens, parity.beam_tokens) == (48, 48)  # their full length
    assert max(parity.embeddings_max_abs, parity.encoder_max_abs, parity.loss_abs, parity.logits_max_abs) < 1e-5
    assert parity.log_mel_relative < 1e-5
    record = json.loads((output / "conversion.json").read_text())
    assert record["parity"] == asdict(parity)
    assert record["checkpoint"] == "small_checkpoint.pth"
    assert str(oracle_model) not in (output / "conversion.json").read_text()
    assert sorted(path.name for path in output.iterdir()) == report.files
    model = LpmcForConditionalGeneration.from_pretrained(output)
    assert (model.generation_config.max_length, model.generation_config.num_beams) == (48, 5)
    assert LpmcFeatureExtractor.from_pretrained(output).chunk_samples == 160_000


def test_weights_of_distributed_training_are_the_same_weights(
    sizes: Path, stored: dict[str, Any], tmp_path: Path
) -> None:
    stored["state_dict"] = {f"module.{key}": value for key, value in stored["state_dict"].items()}
    torch.save(stored, tmp_path / "wrapped.pth")
    convert_checkpoint(tmp_path / "wrapped.pth", tmp_path / "model", sizes=sizes)
    model = LpmcForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert torch.equal(model.lm_head.weight, stored["state_dict"]["module.bart.lm_head.weight"])


def test_a_given_tokenizer_makes_the_model_complete(oracle_model: Path, sizes: Path, tmp_path: Path) -> None:
    train_tokenizer(CAPTIONS, vocab_size=300).save_pretrained(tmp_path / "tokenizer")
    checkpoint = oracle_model / "small_checkpoint.pth"
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=sizes, tokenizer=str(tmp_path / "tokenizer"))
    assert report.tokenizer == str(tmp_path / "tokenizer")
    processor = LpmcProcessor.from_pretrained(tmp_path / "model")
    assert processor.decode(processor(text=CAPTIONS[0])["labels"][0]) == CAPTIONS[0]


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(oracle_model: Path, sizes: Path, tmp_path: Path) -> None:
    many = train_tokenizer(["".join(chr(97 + (i * j) % 26) for j in range(9)) for i in range(400)], vocab_size=450)
    assert len(many) > 400
    many.save_pretrained(tmp_path / "large")
    other = train_tokenizer(CAPTIONS, vocab_size=300)
    other.pad_token = "!"
    other.save_pretrained(tmp_path / "other")
    for name, problem in (
        ("large", "450 tokens"),
        ("other", "pad_token_id"),
        ("absent", "no tokenizer could be loaded"),
    ):
        with pytest.raises(ModelError, match=problem):
            convert_checkpoint(
                oracle_model / "small_checkpoint.pth",
                tmp_path / "model",
                sizes=sizes,
                tokenizer=str(tmp_path / name),
            )
    assert not (tmp_path / "model").exists()


class Bomb:
    """What a malicious pickle holds: a call to be made on loading."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (eval, ("1/0",))


def _cut(path: Path, oracle: Path) -> None:
    path.write_bytes((oracle / "small_checkpoint.pth").read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path, _: None, "no such file"),
        (lambda path, _: path.mkdir(), "it is no file"),
        (lambda path, _: path.write_bytes(b""), "not a PyTorch checkpoint"),
        (lambda path, _: path.write_text("hello"), "not a PyTorch checkpoint"),
        (_cut, "not a PyTorch checkpoint"),
        (lambda path, _: torch.save({"state_dict": Bomb()}, path), "would run code"),
        (lambda path, _: path.write_bytes(pickle.dumps({"state_dict": Bomb()}, 2)), "would run code"),
        (lambda path, _: path.write_bytes(pickle.dumps({"state_dict": Bomb()}, 3)), "not a PyTorch|would run code"),
        (lambda path, _: torch.save({"epoch": 1}, path), "no state_dict"),
        (lambda path, _: torch.save([1, 2], path), "no state_dict"),
        (lambda path, _: torch.save({"state_dict": {"a": 1}}, path), "a is no tensor"),
        (lambda path, _: torch.save({"state_dict": {}}, path), "is missing"),
    ],
)
def test_what_is_no_checkpoint_is_refused_without_running_it(
    write: Callable[[Path, Path], Any], problem: str, oracle_model: Path, sizes: Path, tmp_path: Path
) -> None:
    write(tmp_path / "checkpoint.pth", oracle_model)
    with pytest.raises(ModelError, match=problem) as raised:
        convert_checkpoint(tmp_path / "checkpoint.pth", tmp_path / "model", sizes=sizes)
    assert "\n" not in str(raised.value)
    assert "checkpoint.pth" in str(raised.value)
    assert not (tmp_path / "model").exists()


def _change(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], None]:
    def apply(state: State) -> None:
        state[key] = change(state[key])

    return apply


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda s: s.pop("bart.model.decoder.layers.1.fc1.bias"), "layers.1.fc1.bias is missing"),
        (lambda s: s.pop("audio_encoder.conv_stack.2.weight"), "is missing"),
        (lambda s: s.pop("bart.model.shared.weight"), "shared.weight is missing"),
        (lambda s: s.pop("audio_encoder.mel_encoder.spec_fn.window"), "window is missing"),
        (lambda s: s.update({"bart.extra": torch.zeros(1)}), "extra is unknown"),
        (lambda s: s.update({"optimiser.extra": torch.zeros(1)}), "optimiser.extra is unknown"),
        (_change("bart.model.decoder.layers.1.fc1.weight", lambda w: w[:-1]), "has shape"),
        (_change("audio_encoder.conv1.weight", lambda w: w[..., 0]), "2 axes instead of 3"),
        (_change("bart.lm_head.weight", lambda w: w + 1e-3), "untied"),
        (_change("bart.model.encoder.embed_tokens.weight", lambda w: w * 2), "untied"),
        (_change("audio_encoder.positional_embedding", lambda w: w + 1e-4), "another front end"),
        (_change("audio_encoder.mel_encoder.spec_fn.window", lambda w: w.flip(0)), "another front end"),
        (_change("audio_encoder.mel_encoder.mel_scale.fb", lambda w: w * 1.01), "another front end"),
        (_change("audio_encoder.conv1.bias", lambda w: w * float("nan")), "conv1.bias holds NaN"),
    ],
)
def test_a_tensor_that_is_lost_foreign_or_changed_stops_the_conversion(
    spoil: Callable[[State], Any], problem: str, stored: dict[str, Any], sizes: Path, tmp_path: Path
) -> None:
    spoil(stored["state_dict"])
    torch.save(stored, tmp_path / "spoilt.pth")
    with pytest.raises(ModelError, match=problem) as raised:
        convert_checkpoint(tmp_path / "spoilt.pth", tmp_path / "model", sizes=sizes)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"heads": 4}', "'heads' is unknown"),
        ('{"attention_heads": "4"}', "give a number"),
        ('{"attention_heads": 4, "d_model": 128}', "d_model is 128, but the weights have 96"),
        ('{"attention_heads": 5}', "make no model"),
        ("{}", "number of attention heads does not show"),
    ],
)
def test_sizes_that_are_wrong_are_named(oracle_model: Path, text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(ModelError, match=problem):
        convert_checkpoint(oracle_model / "small_checkpoint.pth", tmp_path / "model", sizes=tmp_path / "sizes.json")


def test_a_conversion_that_changes_the_model_is_noticed(
    oracle_model: Path, sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeling_lpmc.layers_lpmc import LpmcConvStem

    forward = LpmcConvStem.forward
    monkeypatch.setattr(LpmcConvStem, "forward", lambda self, x: forward(self, x) * 1.01)
    with pytest.raises(ModelError, match="differs from the checkpoint: embeddings"):
        convert_checkpoint(oracle_model / "small_checkpoint.pth", tmp_path / "model", sizes=sizes)
    assert list(tmp_path.iterdir()) == []
