"""The score card through Hugging Face `evaluate`: from its folder, its file, and by import, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evaluate
import pytest

from caption_metrics.caption_metrics import CaptionMetrics
from caption_metrics.pairs import Pair
from caption_metrics.score import evaluate_captions

FOLDER = Path(__file__).resolve().parents[2] / "caption_metrics"
PREDICTIONS = ["A sad piano plays.", "Fast drums."]
REFERENCES = ["A sad piano is playing.", "Fast drums and a guitar."]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load with a private module cache, so that no earlier copy of the file is used."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")

    def load(path: Path) -> Any:
        return evaluate.load(str(path), cache_dir=str(tmp_path / "metrics"))

    return load


def expected(**options: Any) -> dict[str, Any]:
    pairs = [Pair(prediction, (text,)) for prediction, text in zip(PREDICTIONS, REFERENCES, strict=True)]
    return evaluate_captions(pairs, **options).to_dict()


@pytest.mark.parametrize("path", [FOLDER, FOLDER / "caption_metrics.py"], ids=["folder", "file"])
def test_the_loaded_module_gives_the_card(loaded: Any, path: Path) -> None:
    assert loaded(path).compute(predictions=PREDICTIONS, references=REFERENCES) == expected()


def test_by_import_with_lists_of_references_and_options() -> None:
    metric = CaptionMetrics()
    card = metric.compute(
        predictions=PREDICTIONS,
        references=[[text] for text in REFERENCES],
        training_captions=["Fast drums."],
        blind=False,
    )
    assert card == expected(training_captions=["Fast drums."], blind=False)
    assert card["caption_novelty"] == 0.5


def test_batches_add_up() -> None:
    metric = CaptionMetrics()
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add_batch(predictions=[prediction], references=[[reference]])
    assert metric.compute(blind=False) == expected(blind=False)
