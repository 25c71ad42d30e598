"""Training through transformers' Seq2SeqTrainer: accumulation is exact, and a small model learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_captioner import CAPTIONS, features, small_model, small_processor
from torch.utils.data import Dataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_callback import PrinterCallback

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


def trainer(folder: Path, model: torch.nn.Module, **settings: Any) -> Seq2SeqTrainer:
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        **settings,
    )
    made = Seq2SeqTrainer(
        model=model, args=arguments, train_dataset=Clips(), eval_dataset=Clips(), data_collator=collate
    )
    made.remove_callback(PrinterCallback)
    return made


def test_four_accumulated_steps_equal_one_large_one(tmp_path: Path) -> None:
    start = small_model().state_dict()
    runs = []
    for batch, accumulated in ((8, 1), (2, 4)):
        model = small_model()
        made = trainer(
            tmp_path,
            model,
            optim="sgd",
            learning_rate=1.0,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulated,
            train_sampling_strategy="sequential",
        )
        made.train()
        logged = next(entry["loss"] for entry in made.state.log_history if "loss" in entry)
        runs.append((logged, model.state_dict()))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-4)
    for name, value in runs[0][1].items():
        step = value - start[name]
        torch.testing.assert_close(
            runs[1][1][name] - start[name], step, rtol=1e-3, atol=1e-5 * float(step.abs().max() + 1)
        )
    moved = (runs[0][1]["model.shared.weight"] - start["model.shared.weight"]).abs().max()
    assert moved > 1e-3, "the step must be large enough for the comparison to mean anything"


def test_the_trainer_generates_captions_when_it_evaluates(tmp_path: Path) -> None:
    model = small_model()
    made = trainer(tmp_path, model, predict_with_generate=True, generation_max_length=9, per_device_eval_batch_size=3)
    result = made.predict(Clips())
    assert result.predictions.shape[0] == len(LENGTHS)
    assert result.metrics["test_loss"] > 0
    alone = model.generate(input_features=features(1, seed=4), max_length=9)[0].numpy()
    np.testing.assert_array_equal(result.predictions[4][: len(alone)], alone)


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
