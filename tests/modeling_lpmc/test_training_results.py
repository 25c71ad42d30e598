"""The end of a run: a card whose numbers are the record's, a picture, a push that may be repeated, loggers."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_clients import Client, check_output, command
from hub_double import HubDouble
from hub_state import GUEST_TOKEN
from huggingface_hub import ModelCard
from training_corpus import KINDS, row, write_dataset

from hub_cards import lint_model
from modeling_lpmc.training.data_licence import data_licence
from modeling_lpmc.training.loss_plot import plot_training
from modeling_lpmc.training.train import run_training

RECIPE = """
model: {tokenizer: train, vocabulary_size: 300, d_model: 32, encoder_layers: 1, decoder_layers: 1, attention_heads: 2,
  feed_forward: 64, max_caption_positions: 32, num_mel_bins: 32, initial_deviation: 0.1, calibrate: true,
  dropout: 0.0, label_smoothing: 0.0, weights_licence: cc-by-4.0}
data: {config: clips}
optimisation: {updates: 60, warmup_updates: 2, batch_size: 8, learning_rate: 0.005, log_every: 5, save_every: 100}
evaluation: {split: test, every_updates: 30, sample_captions: 1, scored_captions: 8, generated_captions: 8,
  loggers: [tensorboard]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a licence, and a recipe."""
    folder = tmp_path_factory.mktemp("results")
    train = [row(kind, seed) for seed in (1, 2) for kind in KINDS]
    test = [row(kind, seed) for seed in (3, 4) for kind in KINDS]
    write_dataset(folder / "ending-clips", {"clips": {"train": train, "test": test}})
    card = folder / "ending-clips" / "README.md"
    card.write_text(card.read_text().replace("---\n", "---\nlicense: cc0-1.0\n", 1))
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A trained model directory."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_training(folder / "recipe.yaml", folder / "model", arguments(folder))
    torch.set_num_threads(before)
    return folder / "model"


def arguments(folder: Path) -> list[str]:
    return [f"data.dataset={folder / 'ending-clips'}", f"data.cache={folder / 'cache'}"]


def record(model: Path) -> dict[str, Any]:
    return json.loads((model / "training.json").read_text())


def test_the_card_s_model_index_holds_the_record_s_scores_intervals_and_blind_rows(model: Path) -> None:
    results = record(model)["results"]
    indexed = {found.metric_type: found for found in ModelCard.load(model / "README.md").data.eval_results}
    for name in ("bleu1", "bleu4", "meteor", "rougeL", "facts_f1"):
        assert indexed[name].metric_value == results[name]
        assert indexed[name].metric_args == {"interval": results["intervals"][name]}
        for blind in ("constant", "constant_best", "shuffled", "own_shuffled"):
            assert indexed[f"{name}_blind_{blind}"].metric_value == results["blind"][blind][name]
    assert (indexed["bleu1"].dataset_name, indexed["bleu1"].dataset_split) == ("ending-clips", "test")
    assert results["n"] == 8
    card = (model / "README.md").read_text()
    assert "| metric | value | interval | blind: constant |" in card
    assert results["signature"]["intervals"] in card
    assert "](loss.png)" in card
    assert lint_model(model) == []


def test_the_record_s_scores_are_those_of_the_captions_beside_it(model: Path) -> None:
    from caption_metrics import evaluate_captions, read_pairs

    card = evaluate_captions(read_pairs(model / "inference.json"), intervals=False)
    results = record(model)["results"]
    assert {name: results[name] for name in ("bleu4", "meteor", "facts_f1")} == {
        name: card.scores[name] for name in ("bleu4", "meteor", "facts_f1")
    }
    assert results["facts_f1"] > 0.8, "else every score is zero and this says nothing"


def test_the_card_names_the_licences_of_weights_and_of_data(model: Path, tmp_path: Path) -> None:
    card = (model / "README.md").read_text()
    assert "license: cc-by-4.0\n" in card
    assert "The licence of the data it was trained on: cc0-1.0." in card
    assert data_licence(str(tmp_path)) == "not stated"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: per-source\n---\n")
    assert data_licence(str(tmp_path)) == "per-source"
    (tmp_path / "README.md").write_text("---\nlicense: [mit, cc-by-4.0]\n---\n")
    assert data_licence(str(tmp_path)) == "mit, cc-by-4.0"


@pytest.mark.parametrize("what", ["blind cell", "interval cell", "indexed blind row", "indexed interval", "signature"])
def test_the_lint_sees_a_changed_number_of_the_results(model: Path, tmp_path: Path, what: str) -> None:
    for name in ("README.md", "training.json", "config.json", "LICENSE-WEIGHTS.md", "loss.png"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    assert lint_model(tmp_path) == []
    results = record(model)["results"]
    blind, low = results["blind"]["constant"]["bleu1"], results["intervals"]["bleu1"][0]
    changes = {
        "blind cell": (f"| {blind:.6g} |", "| 0.123456 |"),
        "interval cell": (f"| {low:.6g} to", "| 0.0123456 to"),
        "indexed blind row": (f"- type: bleu1_blind_constant\n      value: {blind}", "- type: bleu1_blind_constant\n"),
        "indexed interval": (f"interval:\n        - {low}", "interval:\n        - 0.0123456"),
        "signature": ("samples:1000", "samples:9000"),
    }
    old, new = changes[what]
    new = new if what != "indexed blind row" else f"{new}      value: 0.0123456"
    text = (tmp_path / "README.md").read_text()
    assert old in text
    (tmp_path / "README.md").write_text(text.replace(old, new, 1))
    assert lint_model(tmp_path), what


def test_the_course_of_a_run_is_drawn(model: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    assert imread(model / "loss.png").shape[0] > 700, "three panels"
    history: list[Mapping[str, Any]] = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}]
    assert plot_training(history, tmp_path / "loss.png")
    assert imread(tmp_path / "loss.png").shape[0] < 400, "one panel"
    assert not plot_training([{"step": 2, "loss": float("nan")}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_tensorboard_shows_losses_scores_and_samples(model: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(model / "tensorboard"))
    events.Reload()
    assert {"train/loss", "eval/loss", "eval/facts_f1", "eval/facts_f1_blind"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("eval/rougeL")] == [30, 60]
    text = next(tag for tag in events.Tags()["tensors"] if "sample" in tag)
    assert b"| clip | reference | caption |" in events.Tensors(text)[0].tensor_proto.string_val[0]


def lpmc(environment: Mapping[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*words), env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    check_output(done.stdout + done.stderr)
    return done


def test_a_failed_push_loses_nothing_and_the_same_command_pushes_without_training(
    hub: HubDouble, folder: Path, tmp_path: Path
) -> None:
    environment = hub.environment(tmp_path / "home") | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    words: list[str | Path] = ["train", folder / "recipe.yaml", "--output", folder / "pushed", *arguments(folder)]
    words += ["optimisation.updates=4", "evaluation.every_updates=2", "evaluation.loggers=[trackio]"]
    words += ["--push-to", "org/pushed", "--private", "--json"]

    hub.fail("POST /api/models/org/pushed/commit", status=503)
    failed = lpmc(environment, *words)
    assert failed.returncode == 1, failed.stderr
    assert "lpmc: org/pushed: the Hub answered 503" in failed.stderr
    weights = folder / "pushed" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert lint_model(folder / "pushed") == []

    hub.state.faults.clear()
    done = lpmc(environment, *words)
    assert done.returncode == 0, done.stderr
    assert weights.stat().st_mtime_ns == written
    told = json.loads(done.stdout)  # nothing but the result, whatever a logger prints
    assert told["was_finished"]
    assert told["pushed"]["url"].endswith("/org/pushed")
    files = hub.files("model", "org/pushed")
    assert hub.repository("model", "org/pushed").private
    assert {"model.safetensors", "config.json", "training.json", "samples.md", "loss.png"} <= files.keys()
    assert files["model.safetensors"] == weights.read_bytes()
    card = files["README.md"].decode()
    assert 'model="org/pushed"' in card
    assert "--model org/pushed`" in card
    assert "./pushed" in (folder / "pushed" / "README.md").read_text(), "the file here still names this folder"
    assert not [name for name in files if "/" in name], "no checkpoints and nothing of a logger"
    logged = list((tmp_path / "trackio").rglob("*.db"))
    assert logged, "trackio wrote on this machine"
    with sqlite3.connect(logged[0]) as database:
        assert any("eval/rougeL" in str(found) for found in database.execute("select metrics from metrics"))
    assert not [entry for entry in hub.state.log if "/spaces/" in str(entry)], "and opened no Space"


def test_what_would_stop_a_push_is_found_before_the_training(hub: HubDouble, folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from lpmc_errors import LpmcError\n"
        "from modeling_lpmc.publish_model import check_push\n"
        "def asked(name, **options):\n"
        "    try:\n"
        "        return check_push(name, **options)\n"
        "    except LpmcError as error:\n"
        "        return str(error)\n"
    )
    with Client(hub.environment(tmp_path / "home"), code) as owner:
        assert owner.run("answer = asked('org/new')") is None
        assert "is no name of a repository" in owner.run("answer = asked('model')")
        owner.run("from huggingface_hub import HfApi; HfApi().create_repo('org/open')")
        assert "is public, but --private was asked" in owner.run("answer = asked('org/open', private=True)")
        assert "org/new" not in str(hub.state.repositories), "asking makes nothing"
    signed_out = hub.environment(tmp_path / "home", token=None)
    words = ["train", str(folder / "recipe.yaml"), "--output", str(tmp_path / "out"), *arguments(folder)]
    refused = lpmc(signed_out, *words, "--push-to", "org/new")
    assert refused.returncode == 1
    assert "no token was found" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert GUEST_TOKEN not in refused.stderr


def test_private_without_a_repository_is_wrong_usage(folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from lpmc import app

    words = ["train", str(folder / "recipe.yaml"), "--output", str(tmp_path / "out"), "--private"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
