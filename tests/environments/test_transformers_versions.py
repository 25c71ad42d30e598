"""A saved captioner in the hands of strangers: torch and one release of transformers, and nothing of this project."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interpreters
import numpy as np
import pytest
import soundfile
import torch
from captioner_client import WAYS, captions_of, greedy, inputs_beside, unlike
from interpreters import client
from small_captioner import CAPTIONS, ending_model, features, small_processor

from modeling_lpmc import (
    LpmcFeatureExtractor,
    LpmcForConditionalGeneration,
    LpmcProcessor,
    MusicCaptioningPipeline,
    convert_checkpoint,
    save_for_hub,
)

CLIENT = (Path(__file__).parent / "captioner_client.py").read_text()
SUMS_DIFFER = 1e-5  # relative; of a loss, whose sums may be taken in another order


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the clients, so that sums are taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=interpreters.TRANSFORMERS_NEEDS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def environment(version: str) -> interpreters.Environment:
    return interpreters.transformers(version)


def _with_inputs(directory: Path, **arrays: Any) -> Path:
    np.savez(f"{directory}-inputs.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer; its captions differ in length."""
    directory = tmp_path_factory.mktemp("saved") / "small"
    processor = small_processor()
    save_for_hub(ending_model(), processor, directory)
    loudness = torch.tensor([[0.5], [0.1], [0.01]])
    noise = torch.randn(3, 160_000, generator=torch.Generator().manual_seed(1)) * loudness
    labels = processor(text=CAPTIONS * 2, return_tensors="np")["labels"]
    return _with_inputs(directory, features=features(6), waveforms=noise, labels=labels)


@pytest.fixture(scope="module")
def oracle(oracle_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted checkpoint in the released format, without a tokenizer."""
    directory = tmp_path_factory.mktemp("saved") / "oracle"
    convert_checkpoint(oracle_model / "small_checkpoint.pth", directory, sizes=oracle_model / "small_config.json")
    waves = np.stack([soundfile.read(path, dtype="float32")[0] for path in sorted(oracle_model.glob("*.wav"))])
    heard = LpmcFeatureExtractor.from_pretrained(directory)(waves, 16_000, return_tensors="np")["input_features"]
    labels = np.load(oracle_model / "small_expected.npz")["labels"].astype(np.int64)
    return _with_inputs(directory, features=heard, waveforms=waves, labels=labels)


def _opened(directory: Path, folder: Path, environment: interpreters.Environment) -> tuple[Path, dict[str, Any]]:
    """A copy of `directory` in `folder` that the client has opened, and what it found."""
    copy = folder / directory.name
    shutil.copytree(directory, copy)
    shutil.copy(f"{directory}-inputs.npz", folder)
    return copy, client(CLIENT, folder, directory.name, environment=environment)


@pytest.fixture(scope="module")
def small_there(small: Path, environment: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return _opened(small, tmp_path_factory.mktemp("there"), environment)


@pytest.fixture(scope="module")
def oracle_there(oracle: Path, environment: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _opened(oracle, tmp_path_factory.mktemp("there"), environment)[1]


@pytest.fixture(scope="module")
def small_here(small: Path) -> dict[str, Any]:
    """What this project's own classes make of the same directory."""
    model = LpmcForConditionalGeneration.from_pretrained(small).eval()
    half = LpmcForConditionalGeneration.from_pretrained(small, dtype=torch.bfloat16).eval()
    given = inputs_beside(small)
    return {
        "model": model,
        "from features": captions_of(model, {"input_features": given["features"]}),
        "from waveforms": captions_of(model, {"input_values": given["waveforms"]}),
        "bfloat16": greedy(half, given["features"]),
        "loss": model(input_features=given["features"], labels=given["labels"]).loss.item(),
        "extracted": LpmcFeatureExtractor.from_pretrained(small)(given["waveforms"], 16_000, return_tensors="np"),
    }


def test_the_environment_is_bare_and_runs_the_code_of_the_directory(small_there, version):
    found = small_there[1]
    assert found["transformers"] == version
    assert (found["importable"], found["imported"]) == ([], [])
    assert found["modules"] == ["transformers_modules"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ["from features", "from waveforms"])
def test_generate_writes_the_tokens_that_it_writes_here(small_there, small_here, route, way):
    assert small_there[1][route][way] == small_here[route][way]


def test_the_captions_compared_differ_and_end(small_here):
    """So that equal tokens mean something."""
    for way, rows in small_here["from features"].items():
        assert len({tuple(row) for row in rows}) >= 5, way
    lengths = {sum(token != 1 for token in row) for row in small_here["from features"]["as the model says"]}
    assert len(lengths) >= 4
    assert len({json.dumps(rows) for rows in small_here["from features"].values()}) == len(WAYS)


def test_all_auto_classes_give_the_same_captioner(small_there, small_here):
    found = small_there[1]
    assert found["speech seq2seq, greedy"] == small_here["from features"]["greedy"]
    assert found["config"]["model_type"] == "lpmc"
    assert found["config"]["num_conv_layers"] == small_here["model"].config.num_conv_layers
    assert np.array_equal(np.load(f"{small_there[0]}-extracted.npy"), small_here["extracted"]["input_features"])
    assert set(found["decoded"]) == {"Fast punk rock: loud guitars, shouted vocals."}
    assert found["labels"] == small_processor()(text="Fast punk rock: loud guitars, shouted vocals.")["labels"]


def test_the_loss_is_the_same(small_there, small_here):
    assert small_there[1]["loss"] == pytest.approx(small_here["loss"], rel=SUMS_DIFFER)


def test_it_loads_as_bfloat16(small_there, small_here):
    assert small_there[1]["bfloat16"] == [["torch.bfloat16"], small_here["bfloat16"]]


def test_the_pipeline_captions_there_too(small_there, small_here, small):
    processor = LpmcProcessor.from_pretrained(small)
    here = MusicCaptioningPipeline(
        model=small_here["model"], feature_extractor=processor.feature_extractor, tokenizer=processor.tokenizer
    )
    expected = here([wave.numpy() for wave in inputs_beside(small)["waveforms"]], batch_size=2)
    assert [(part["start"], part["end"]) for track in expected for part in track] == [(0.0, 10.0)] * 3
    assert len({track[0]["text"] for track in expected}) == 3
    assert small_there[1]["pipeline of the directory"] == small_there[1]["pipeline of the copy"] == expected


def test_no_version_saves_a_pickle(small_there):
    assert small_there[1]["weights"] == ["model.safetensors"]


def test_saved_there_and_loaded_there_it_is_the_same(small_there, small_here):
    assert small_there[1]["saved and loaded"] == {
        "unlike": [],
        "buffers unlike": [],
        "tied": True,
        "greedy": small_here["from features"]["greedy"],
        "extractor": True,
    }


def test_saved_there_and_loaded_here_it_is_the_same(small_there, small_here, small):
    directory, _ = small_there
    copy = Path(f"{directory}-again")
    loaded, report = LpmcForConditionalGeneration.from_pretrained(copy, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    here = small_here["model"]
    assert unlike(loaded.state_dict(), here.state_dict()) == []
    for buffers in (dict(loaded.named_buffers()), torch.load(f"{directory}-buffers.pt", weights_only=True)):
        assert unlike(buffers, dict(here.named_buffers())) == []
    assert loaded.lm_head.weight is loaded.model.shared.weight is loaded.model.decoder.embed_tokens.weight
    assert loaded.generation_config.to_diff_dict() == here.generation_config.to_diff_dict()
    assert greedy(loaded.eval(), inputs_beside(small)["features"]) == small_here["from features"]["greedy"]
    processor, original = LpmcProcessor.from_pretrained(copy), LpmcProcessor.from_pretrained(small)
    assert processor.feature_extractor.to_dict() == original.feature_extractor.to_dict()
    assert processor(text=CAPTIONS)["labels"] == original(text=CAPTIONS)["labels"]


def test_a_released_checkpoint_captions_there_as_the_released_code_did(oracle_there, oracle_model, version):
    expected = np.load(oracle_model / "small_expected.npz")
    for route in ("from features", "from waveforms"):
        assert oracle_there[route]["as the model says"] == expected["beam5_tokens"].tolist(), route
        assert oracle_there[route]["greedy"] == expected["greedy_tokens"].tolist(), route
    assert oracle_there["loss"] == pytest.approx(float(expected["loss"]), rel=SUMS_DIFFER)
    assert oracle_there["saved and loaded"]["greedy"] == expected["greedy_tokens"].tolist()
    assert oracle_there["saved and loaded"]["unlike"] == []


# What transformers takes for an import of a neighbour, in code that never runs, too (dynamic_module_utils).
NEIGHBOUR = re.compile(r"^\s*(?:import\s+\.(\S+)\s*$|from\s+\.(\S+)\s+import)", re.MULTILINE)


@pytest.fixture(scope="module")
def neighbours(small: Path) -> dict[str, set[str]]:
    """Each code file of a saved directory, and the files that it names."""
    return {
        path.stem: {one or other for one, other in NEIGHBOUR.findall(path.read_text(encoding="utf-8"))}
        for path in small.glob("*.py")
    }


def _reached(neighbours: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = set(), set(neighbours[start])
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= neighbours[name] - found
    return found


def test_no_code_file_names_itself_in_a_circle(neighbours):
    """transformers 4.53 follows such a circle for ever, and never loads the model."""
    assert {"modeling_lpmc", "configuration_lpmc"} <= neighbours.keys()
    assert [name for name in sorted(neighbours) if name in _reached(neighbours, name)] == []


def test_a_file_that_transformers_asks_for_names_all_that_it_reaches(neighbours, small):
    """Up to 5.16, files that are only named by a neighbour are not copied from a local directory."""
    config = json.loads((small / "config.json").read_text())
    processor = json.loads((small / "preprocessor_config.json").read_text())
    asked = {*config["auto_map"].values(), *processor["auto_map"].values()}
    asked |= {pipeline["impl"] for pipeline in config["custom_pipelines"].values()}
    entries = {name.split(".")[0] for name in asked}
    assert {"modeling_lpmc", "configuration_lpmc", "feature_extraction_lpmc", "pipeline_lpmc"} <= entries
    lacking = {entry: sorted(_reached(neighbours, entry) - neighbours[entry]) for entry in entries}
    assert {entry: names for entry, names in lacking.items() if names} == {}
