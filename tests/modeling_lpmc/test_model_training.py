"""Training through transformers' Seq2SeqTrainer: accumulation is exact, and a small model learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_captioner import CAPTIONS, features, small_config, small_model, small_processor
from torch.utils.data import Dataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from modeling_lpmc import LpmcForConditionalGeneration

LENGTHS = [3, 12, 5, 7, 20, 4, 9, 6]  # uneven, so that a mean of means would differ from the mean


class Clips(Dataset[dict[str, torch.Tensor]]):
    """Eight clips whose captions have the lengths above."""

    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = torch.randint(5, 250, (LENGTHS[index],), generator=torch.Generator().manual_seed(index))
        labels = torch.cat([torch.tensor([0]), words, torch.tensor([2])])
        return {"input_features": features(1, seed=index)[0], "labels": labels}


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    labels = torch.nn.utils.rnn.pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100)
    return {"input_features": torch.stack([row["input_features"] for row in rows]), "labels": labels}


def collate_as_the_library(model: LpmcForConditionalGeneration) -> Any:
    """Batches as DataCollatorForSeq2Seq(model=...) makes them: with `decoder_input_ids` beside the labels."""

    def both(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return batch

    return both


def trainer(folder: Path, model: torch.nn.Module, kind: type[Trainer] = Seq2SeqTrainer, **settings: Any) -> Any:
    """A stock trainer on the eight clips; one step of plain gradient descent unless the settings say otherwise."""
    parts = {name: settings.pop(name) for name in ("data_collator", "train_dataset") if name in settings}
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "learning_rate": 1.0,
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "train_sampling_strategy": "sequential",
    }
    arguments = (Seq2SeqTrainingArguments if kind is Seq2SeqTrainer else TrainingArguments)(**(defaults | settings))
    made = kind(
        model=model,
        args=arguments,
        **({"train_dataset": Clips(), "eval_dataset": Clips(), "data_collator": collate} | parts),
    )
    made.remove_callback(PrinterCallback)
    return made


def new_model(**changes: Any) -> LpmcForConditionalGeneration:
    """Weights as training starts with them."""
    torch.manual_seed(0)
    return LpmcForConditionalGeneration(small_config(**changes))


def train(folder: Path, model: LpmcForConditionalGeneration, **settings: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss the trainer logged for its first step, and the weights after its last."""
    made = trainer(folder, model, **settings)
    made.train()
    logged = next(entry["loss"] for entry in made.state.log_history if "loss" in entry)
    return logged, {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], most: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=most, msg=lambda text, name=name: f"{name}: {text}")


SPLITS = {"two-by-four": (2, 4), "three-by-three": (3, 3)}


@pytest.mark.parametrize("kind", [Trainer, Seq2SeqTrainer], ids=["Trainer", "Seq2SeqTrainer"])
@pytest.mark.parametrize(("batch", "accumulated"), SPLITS.values(), ids=SPLITS.keys())
def test_accumulated_steps_equal_one_large_one(
    tmp_path: Path, kind: type[Trainer], batch: int, accumulated: int
) -> None:
    start = new_model().state_dict()
    loss, weights = train(tmp_path, new_model(), kind=kind)
    split = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    split_loss, split_weights = train(tmp_path, new_model(), kind=kind, **split)
    assert split_loss == pytest.approx(loss, rel=1e-6)
    assert_same_weights(split_weights, weights, 1e-6)
    moved = max(float((value - start[name]).abs().max()) for name, value in weights.items())
    assert moved > 0.05, "the step must be large enough for the comparison to mean anything"


def test_a_mean_of_means_would_be_another_step(tmp_path: Path) -> None:
    _, weights = train(tmp_path, new_model())
    model = new_model().train()
    for first in range(0, 8, 2):
        (model(**collate([Clips()[first], Clips()[first + 1]])).loss / 4).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert any((value - weights[name]).abs().max() > 1e-3 for name, value in model.state_dict().items())


def test_the_step_is_that_of_the_model_s_own_loss(tmp_path: Path) -> None:
    loss, weights = train(tmp_path, new_model())
    model = new_model().train()
    own = model(**collate([Clips()[number] for number in range(8)])).loss
    own.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert loss == pytest.approx(own.item(), rel=1e-5)
    assert_same_weights(weights, dict(model.state_dict()), 1e-6)


@pytest.mark.parametrize(
    "way",
    [
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"torch_compile": True, "torch_compile_backend": "eager"},
    ],
    ids=["checkpointing", "reentrant-checkpointing", "compiled"],
)
def test_ways_of_the_trainer_lead_to_the_same_weights(tmp_path: Path, way: dict[str, Any]) -> None:
    _, expected = train(tmp_path, new_model())
    _, found = train(tmp_path, new_model(), per_device_train_batch_size=4, gradient_accumulation_steps=2, **way)
    assert_same_weights(found, expected, 1e-5)


def test_bfloat16_arithmetic_trains_float32_weights(tmp_path: Path) -> None:
    loss, exact = train(tmp_path, new_model())
    half_loss, found = train(tmp_path, new_model(), bf16=True)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert_same_weights(found, exact, 0.05)


def test_smoothing_by_the_trainer_equals_smoothing_by_the_model(tmp_path: Path) -> None:
    loss, weights = train(tmp_path, new_model(label_smoothing=0.1))
    model = new_model(label_smoothing=0.0)
    settings = {"label_smoothing_factor": 0.1, "data_collator": collate_as_the_library(model)}
    other_loss, other_weights = train(tmp_path, model, **settings)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert_same_weights(other_weights, weights, 1e-5)


def test_decoder_inputs_of_the_collator_change_nothing(tmp_path: Path) -> None:
    model = new_model()
    _, found = train(tmp_path, model, data_collator=collate_as_the_library(model))
    assert_same_weights(found, train(tmp_path, new_model())[1], 0.0)


class Waves(Dataset[dict[str, torch.Tensor]]):
    """The eight captions with waveforms, as a model that computes its own spectrum takes them."""

    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        wave = torch.randn(16_000, generator=torch.Generator().manual_seed(index)) * 0.1
        return {"input_values": wave, "labels": Clips()[index]["labels"]}


def collate_waves(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    labels = torch.nn.utils.rnn.pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100)
    return {"input_values": torch.stack([row["input_values"] for row in rows]), "labels": labels}


def test_the_trainer_takes_waveforms_as_well(tmp_path: Path) -> None:
    settings = {"train_dataset": Waves(), "data_collator": collate_waves}
    _, weights = train(tmp_path, new_model(), **settings)
    _, split = train(tmp_path, new_model(), per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings)
    assert_same_weights(split, weights, 1e-6)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "optim": "adamw_torch",
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "train_sampling_strategy": "random",
    }
    whole = new_model(dropout=0.1)
    trainer(tmp_path / "run", whole, **settings).train()
    resumed = new_model(dropout=0.1)
    trainer(tmp_path / "run", resumed, **settings).train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-2"))
    assert_same_weights(dict(resumed.state_dict()), dict(whole.state_dict()), 0.0)
    for step, expected in ((4, whole.state_dict()), (2, None)):
        loaded = LpmcForConditionalGeneration.from_pretrained(tmp_path / f"run/checkpoint-{step}")
        assert loaded.lm_head.weight is loaded.model.shared.weight
        if expected is not None:
            assert_same_weights(dict(loaded.state_dict()), expected, 0.0)


def test_the_best_model_is_put_back_at_the_end(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        new_model(),
        learning_rate=300.0,  # the second step ruins what the first began with
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
    )
    made.train()
    losses = [entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry]
    best = LpmcForConditionalGeneration.from_pretrained(made.state.best_model_checkpoint)
    assert made.state.best_model_checkpoint.endswith(f"checkpoint-{1 + losses.index(min(losses))}")
    assert_same_weights(dict(made.model.state_dict()), dict(best.state_dict()), 0.0)
    assert made.model.lm_head.weight is made.model.model.shared.weight


@pytest.mark.parametrize("kind", [Trainer, Seq2SeqTrainer], ids=["Trainer", "Seq2SeqTrainer"])
def test_evaluation_gives_the_model_s_loss_and_logits(tmp_path: Path, kind: type[Trainer]) -> None:
    model = small_model()
    result = trainer(tmp_path, model, kind=kind, per_device_eval_batch_size=8).predict(Clips())
    with torch.no_grad():
        expected = model(**collate([Clips()[number] for number in range(8)]))
    assert result.metrics["test_loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
    logits = result.predictions[0] if isinstance(result.predictions, tuple) else result.predictions
    np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)


def test_the_collator_of_the_library_s_speech_example_works(tmp_path: Path) -> None:
    # pads features with the extractor and labels with the tokenizer, and cuts a first token that the decoder adds
    processor = small_processor()
    model = new_model(vocab_size=len(processor.tokenizer))
    waves = [np.random.default_rng(clip).standard_normal(48_000).astype("float32") for clip in range(3)]
    rows = [
        {
            "input_features": processor.feature_extractor(wave, sampling_rate=16000).input_features[0],
            "labels": processor.tokenizer(text).input_ids,
        }
        for wave, text in zip(waves, CAPTIONS, strict=True)
    ]

    def speech_collator(features: list[dict[str, Any]]) -> Any:
        heard = [{"input_features": row["input_features"]} for row in features]
        batch = processor.feature_extractor.pad(heard, return_attention_mask=False, return_tensors="pt")
        written = processor.tokenizer.pad([{"input_ids": row["labels"]} for row in features], return_tensors="pt")
        labels = written["input_ids"].masked_fill(written.attention_mask.ne(1), -100)
        if (labels[:, 0] == model.config.decoder_start_token_id).all().item():
            labels = labels[:, 1:]
        batch["labels"] = labels
        return batch

    batch = speech_collator(rows)
    together = processor(audio=waves, text=CAPTIONS, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(batch["input_features"], together["input_features"])
    assert torch.equal(batch["labels"], together["labels"])
    loss, _ = train(tmp_path, model, train_dataset=rows, data_collator=speech_collator, per_device_train_batch_size=3)
    assert loss == pytest.approx(new_model(vocab_size=len(processor.tokenizer))(**together).loss.item(), rel=1e-5)


def test_the_trainer_generates_captions_when_it_evaluates(tmp_path: Path) -> None:
    model = small_model()
    made = trainer(tmp_path, model, predict_with_generate=True, generation_max_length=9, per_device_eval_batch_size=3)
    result = made.predict(Clips())
    assert result.predictions.shape[0] == len(LENGTHS)
    assert result.metrics["test_loss"] > 0
    alone = model.generate(input_features=features(1, seed=4), max_length=9)[0].numpy()
    np.testing.assert_array_equal(result.predictions[4][: len(alone)], alone)
    inputs_too = trainer(
        tmp_path,
        model,
        predict_with_generate=True,
        data_collator=collate_as_the_library(model),
        per_device_eval_batch_size=3,
    )
    again = inputs_too.predict(Clips(), max_length=9, num_beams=2)
    alone = model.generate(input_features=features(1, seed=4), max_length=9, num_beams=2)[0].numpy()
    np.testing.assert_array_equal(again.predictions[4][: len(alone)], alone)
    assert again.metrics["test_loss"] == pytest.approx(result.metrics["test_loss"], rel=1e-5)


def test_a_new_small_model_learns_its_captions_from_the_sound() -> None:
    processor = small_processor()
    time = torch.arange(160_000) / 16000
    waves = [torch.sin(2 * torch.pi * 220 * time) * 0.3, torch.randn(160_000) * 0.1, torch.sin(2e4 * time**2) * 0.3]
    batch = processor(audio=waves, text=CAPTIONS, sampling_rate=16000, return_tensors="pt")
    torch.manual_seed(0)
    model = small_model(vocab_size=len(processor.tokenizer), label_smoothing=0.0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    tokens = model.eval().generate(input_features=batch["input_features"])
    assert processor.batch_decode(tokens) == CAPTIONS
