"""The score card through Hugging Face `evaluate`: from its folder, its file, and by import, without a network."""

from __future__ import annotations

import inspect
import json
import re
import threading
from pathlib import Path
from typing import Any

import evaluate
import pytest

from caption_metrics.caption_metrics import CaptionMetrics
from caption_metrics.pairs import Pair
from caption_metrics.score import evaluate_captions
from caption_metrics.significance import SAMPLES
from lpmc_errors import LpmcError, TableError

FOLDER = Path(__file__).resolve().parents[2] / "caption_metrics"
PREDICTIONS = ["A sad piano plays.", "Fast drums.", ""]
REFERENCES = ["A sad piano is playing.", ["Fast drums and a guitar.", "Drums."], ["A choir."]]
TAGS = [["piano"], ["drums", "guitar"], ["choir"]]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load with a private module cache, so that no earlier copy of the file is used."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")

    def load(path: Path) -> Any:
        return evaluate.load(str(path), cache_dir=str(tmp_path / "metrics"))

    return load


@pytest.fixture
def metric(tmp_path: Path) -> CaptionMetrics:
    return CaptionMetrics(cache_dir=str(tmp_path))


def expected(**options: Any) -> dict[str, Any]:
    tags = options.pop("tags", [()] * len(PREDICTIONS))
    pairs = [
        Pair(prediction, (texts,) if isinstance(texts, str) else tuple(texts), tuple(tags[number]))
        for number, (prediction, texts) in enumerate(zip(PREDICTIONS, REFERENCES, strict=True))
    ]
    return evaluate_captions(pairs, **options).to_dict()


@pytest.mark.parametrize("path", [FOLDER, FOLDER / "caption_metrics.py"], ids=["folder", "file"])
def test_the_loaded_module_gives_the_card(loaded: Any, path: Path) -> None:
    assert loaded(path).compute(predictions=PREDICTIONS, references=REFERENCES) == expected()


def test_options_reach_the_card(metric: CaptionMetrics) -> None:
    options = {"training_captions": ["Fast drums."], "tags": TAGS, "blind": False}
    card = metric.compute(predictions=PREDICTIONS, references=REFERENCES, **options)
    assert card == expected(**options)
    assert card["caption_novelty"] == pytest.approx(2 / 3)
    assert card["tag_coverage"] is not None
    given = {"predictions": PREDICTIONS, "references": REFERENCES}
    for wrong, message in (({"tags": [["a"]]}, "tags: 1 for 3"), ({"columns": {"genre": ["a"]}}, "genre: 1 for 3")):
        with pytest.raises(TableError, match=f"{message} captions"):
            metric.compute(**given, **wrong)


def test_what_else_is_known_of_the_clips_slices_the_card(metric: CaptionMetrics) -> None:
    texts = [f"A sad piano number {number}." for number in range(60)]
    columns = {"genre": ["jazz", "rock"] * 30}
    card = metric.compute(
        predictions=texts, references=texts, columns=columns, slice_by=["genre"], blind=False, samples=100
    )
    assert {"jazz", "rock"} <= set(re.findall("jazz|rock", json.dumps(card["slices"])))


def test_the_seed_and_the_samples_of_the_intervals_are_those_asked_for(metric: CaptionMetrics) -> None:
    texts = [f"A piano and {number} drums." for number in range(40)]
    meant = [text if number % 3 else "A tuba." for number, text in enumerate(texts)]
    given = {"predictions": texts, "references": meant, "blind": False}
    one, again, other = (metric.compute(**given, seed=seed, samples=100) for seed in (1, 1, 2))
    assert one["intervals"]["bleu2"] == again["intervals"]["bleu2"] != other["intervals"]["bleu2"]
    assert metric.compute(**given, intervals=False)["intervals"] == {}
    usual = inspect.signature(CaptionMetrics._compute).parameters["samples"].default
    assert usual == SAMPLES


@pytest.mark.parametrize("in_memory", [False, True], ids=["on the disk", "in memory"])
def test_batches_and_single_captions_add_up_whether_they_have_one_reference_or_several(
    tmp_path: Path, in_memory: bool
) -> None:
    metric = CaptionMetrics(cache_dir=str(tmp_path), keep_in_memory=in_memory)
    metric.add(prediction=PREDICTIONS[0], reference=REFERENCES[0])
    metric.add_batch(predictions=PREDICTIONS[1:2], references=REFERENCES[1:2])
    metric.add_batch(predictions=[], references=[])
    metric.add(prediction=PREDICTIONS[2], reference=REFERENCES[2])
    assert metric.compute(blind=False) == expected(blind=False)
    again = metric.compute(predictions=PREDICTIONS[:1], references=REFERENCES[:1], blind=False)
    assert again["n"] == 1, "what was computed is forgotten"


def test_hundreds_of_batches_keep_their_order(metric: CaptionMetrics) -> None:
    for number in range(400):
        metric.add_batch(predictions=[f"word{number} drums"], references=[f"word{number} drums"])
    card = metric.compute(blind=False)
    assert (card["n"], card["bleu1"], card["vocab_size"]) == (400, 1.0, 401)


def test_two_evaluations_at_once_do_not_meet(tmp_path: Path) -> None:
    one, other = (CaptionMetrics(cache_dir=str(tmp_path)) for _ in range(2))
    named = CaptionMetrics(cache_dir=str(tmp_path), experiment_id="named")
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        one.add(prediction=prediction, reference=reference)
        other.add(prediction="A tuba.", reference="A tuba.")
        named.add(prediction="A tuba.", reference="No.")
    assert one.compute(blind=False) == expected(blind=False)
    assert other.compute(blind=False)["bleu2"] == 1.0
    assert named.compute(blind=False)["bleu2"] == 0.0


def test_processes_that_share_an_evaluation_give_one_card(tmp_path: Path) -> None:
    answers: dict[int, Any] = {}

    def work(process_id: int) -> None:  # locks of files hold between threads as between processes
        metric = CaptionMetrics(cache_dir=str(tmp_path), num_process=2, process_id=process_id, experiment_id="shared")
        part = slice(0, 1) if process_id == 0 else slice(1, None)
        metric.add_batch(predictions=PREDICTIONS[part], references=REFERENCES[part])
        answers[process_id] = metric.compute(blind=False)

    threads = [threading.Thread(target=work, args=(process_id,)) for process_id in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {0: expected(blind=False), 1: None}


def test_it_combines_with_other_modules(metric: CaptionMetrics) -> None:
    together = evaluate.combine([metric])
    together.add_batch(predictions=PREDICTIONS, references=REFERENCES)
    assert together.compute()["bleu1"] == expected()["bleu1"]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a", None], ["b", "c"], "predictions, entry 2: is nothing, expected a text"),
        ([["a"]], ["b"], "predictions, entry 1: is a list of 1, expected a text"),
        (["a", "b"], ["b"], "predictions: 2 beside 1 references"),
        ("a", ["b"], "predictions: is a text, expected a list"),
        (["a"], None, "references: is nothing, expected a list"),
        (["a"], [[]], "references, entry 1: holds no text"),
        (["a"], [[" "]], "references, entry 1: holds no text"),
        (["a", "b"], ["a", ["x", 3]], "references, entry 2: holds a number"),
        (["a"], [None], "references, entry 1: holds nothing"),
        ([], [], "there are no pairs"),
        ({"x": "a"}, {"x": "b"}, "predictions: is an object, expected a list"),
        ({"a"}, ["b"], "predictions: is a set, expected a list"),
        (["a\ud800"], ["b"], "predictions, entry 1: is a text with half of a character"),
        (["a"], [["b", "\ud800"]], "references, entry 1: holds a text with half of a character"),
    ],
)
def test_wrong_input_is_named_in_one_line(
    metric: CaptionMetrics, predictions: Any, references: Any, message: str
) -> None:
    with pytest.raises(TableError, match=message) as caught:
        metric.compute(predictions=predictions, references=references)
    assert "\n" not in str(caught.value)


def test_arrays_and_columns_are_lists_too(metric: CaptionMetrics) -> None:
    import numpy as np
    import pyarrow as pa

    wanted = metric.compute(predictions=["a b", "c"], references=[["a"], ["c", "d"]])
    for predictions, references in (
        (np.array(["a b", "c"]), np.array([["a"], ["c", "d"]], dtype=object)),
        (pa.array(["a b", "c"]), pa.array([["a"], ["c", "d"]])),
        (iter(("a b", "c")), iter((("a",), ("c", "d")))),
    ):
        assert metric.compute(predictions=predictions, references=references) == wanted


def test_tags_may_be_written_as_in_a_file_and_a_clip_may_have_none(metric: CaptionMetrics) -> None:
    texts = {"predictions": PREDICTIONS, "references": REFERENCES}
    as_lists = metric.compute(**texts, tags=[["piano"], ["drums", "guitar"], []])
    assert metric.compute(**texts, tags=["piano", "drums, guitar", None]) == as_lists
    assert as_lists["notes"]["tags"] == "2 of 3 clips have tags"


def test_several_genres_of_a_clip_are_each_a_slice(metric: CaptionMetrics) -> None:
    clips = 40
    texts = ["a sad piano", "loud drums"] * (clips // 2)
    genres = [["jazz", "soul"], ["jazz"]] * (clips // 2)
    card = metric.compute(
        predictions=texts, references=texts, columns={"genre": genres}, slice_by="genre", samples=100, blind=False
    )
    assert '"jazz"' in json.dumps(card["slices"])
    assert '"soul"' in json.dumps(card["slices"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training_captions": "a text"}, "training_captions: is a text, expected a list"),
        ({"training_captions": ["a", None]}, "training_captions, entry 2: is nothing"),
        ({"tags": [["a"], 3]}, "tags, entry 2: is a number"),
        ({"samples": 0}, "samples: is 0; draw 100 or more"),
        ({"seed": -1}, "seed: is -1"),
        ({"level": 95}, "level: is 95; write 0.95 for 95 %"),
        ({"slice_by": ["nonsense"]}, "nonsense: is nothing that the clips can be divided by"),
    ],
)
def test_wrong_options_are_named_in_one_line(metric: CaptionMetrics, options: Any, message: str) -> None:
    with pytest.raises(LpmcError, match=message):
        metric.compute(predictions=["a", "b"], references=["a", "b"], **options)
