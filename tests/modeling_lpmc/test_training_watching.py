"""Watching a run: it changes no loss, survives interruptions, keeps the best weights and ends early when told to."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_corpus import KINDS, row, write_dataset

from lpmc_errors import Interrupted, MissingExtraError, UsageError
from modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.training import watching
from modeling_lpmc.training.arguments import EvaluationArguments, load_recipe
from modeling_lpmc.training.sample_captions import fixed_clips, nothing_disturbed, rows_until
from modeling_lpmc.training.train import Progress, run_training
from modeling_lpmc.training.watching import check_watching, stopped_early

PROJECT = Path(__file__).resolve().parents[2]
RECIPE = """
model: {tokenizer: train, vocabulary_size: 300, d_model: 32, encoder_layers: 1, decoder_layers: 1, attention_heads: 2,
  feed_forward: 64, max_caption_positions: 32, num_mel_bins: 32, initial_deviation: 0.1, calibrate: true,
  dropout: 0.1, label_smoothing: 0.0, weights_licence: cc-by-4.0}
data: {config: clips}
optimisation: {updates: 9, warmup_updates: 2, batch_size: 4, learning_rate: 0.005, log_every: 1, save_every: 100,
  precision: float32}
evaluation: {split: test}
"""
WATCHED = [
    *("evaluation.every_updates=3", "evaluation.sample_captions=2", "evaluation.scored_captions=3"),
    "evaluation.best_by=loss",
]
# Learning so fast that the held-out loss rises again: the best evaluation is not the last one.
UNSTABLE = [
    *("optimisation.learning_rate=1.0", "optimisation.warmup_updates=null", "optimisation.updates=30"),
    *("evaluation.every_updates=1", "evaluation.best_by=loss", "evaluation.patience=3", "model.dropout=0.0"),
    "optimisation.keep_checkpoints=1",
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watching")
    splits = {"train": [row(kind, seed) for seed in (1, 2) for kind in KINDS], "test": [row(kind, 3) for kind in KINDS]}
    write_dataset(folder / "watched-clips", {"clips": splits})
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def train(folder: Path, name: str, overrides: list[str], **options: Any) -> dict[str, Any]:
    """The record of a run into `name`."""
    asked = [f"data.dataset={folder / 'watched-clips'}", f"data.cache={folder / 'cache'}", *overrides]
    run_training(folder / "recipe.yaml", folder / name, asked, **options)
    return record(folder, name)


def record(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name / "training.json").read_text())


def rows(folder: Path, name: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / file).read_text().splitlines()]


@pytest.fixture(scope="module")
def watched(folder: Path) -> Path:
    train(folder, "watched", WATCHED)
    return folder / "watched"


@pytest.fixture(scope="module")
def unstable(folder: Path) -> dict[str, Any]:
    return train(folder, "unstable", UNSTABLE)


def test_the_losses_of_a_watched_run_are_those_of_one_that_nobody_watches(folder: Path, watched: Path) -> None:
    alone = train(folder, "alone", ["evaluation.split=null"])
    assert [point["loss"] for point in record(folder, "watched")["loss_curve"]] == [
        point["loss"] for point in alone["loss_curve"]
    ]


def test_captioning_leaves_mode_and_random_states_as_they_were() -> None:
    model = torch.nn.Dropout()
    before = torch.get_rng_state()
    with nothing_disturbed(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_every_evaluation_captions_the_same_clips_and_both_files_grow(folder: Path, watched: Path) -> None:
    samples = rows(folder, "watched", "samples.jsonl")
    clips = [[sample["clip"] for sample in samples if sample["update"] == update] for update in (3, 6, 9, "final")]
    assert clips == [["low-3", "beat-3"]] * 4
    assert all(sample["reference"] in KINDS.values() for sample in samples)
    page = (watched / "samples.md").read_text()
    assert page.index("After update 3") < page.index("After update 9") < page.index("The saved weights")
    assert samples[-1]["reference"] in page


def test_scores_stand_beside_those_of_blind_captions(folder: Path, watched: Path) -> None:
    metrics = rows(folder, "watched", "metrics.jsonl")
    assert [(found["update"], found["clips"]) for found in metrics] == [(3, 3), (6, 3), (9, 3)]
    assert {"constant", "constant_best", "shuffled", "own_shuffled"} <= metrics[-1]["blind"].keys()
    assert metrics[-1]["blind"]["constant"]["bleu1"] > metrics[0]["scores"]["bleu1"], "an untrained model is no better"
    assert metrics[-1]["loss"] == record(folder, "watched")["evaluation_curve"][-1]["loss"]


def test_a_continued_run_leaves_the_files_of_an_undisturbed_one(folder: Path, watched: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="5 updates are kept"):
        train(folder, "stopped", WATCHED, progress=stop)
    for file in ("samples.jsonl", "metrics.jsonl"):  # what a killed process had written after its checkpoint
        with (folder / "stopped" / file).open("a") as opened:
            opened.write('{"update": 6, "clip": "low-3", "reference": "", "caption": "stale"}\n{"update": 9, "cl')
    train(folder, "stopped", WATCHED)
    for file in ("samples.jsonl", "samples.md", "metrics.jsonl"):
        assert (folder / "stopped" / file).read_text() == (watched / file).read_text(), file


def test_the_best_weights_are_saved_and_patience_ends_the_run(folder: Path, unstable: dict[str, Any]) -> None:
    losses = {point["update"]: point["loss"] for point in unstable["evaluation_curve"]}
    best = min(losses, key=lambda update: losses[update])
    assert unstable["best_update"] == best < unstable["updates"] == max(losses) == best + 3 < 30
    assert unstable["stopped_early"] is True
    assert unstable["evaluation_loss"] == pytest.approx(losses[best], abs=1e-6)
    assert losses[max(losses)] > losses[best] + 1e-3, "else this test could not fail"
    assert len(unstable["evaluation_curve"]) == len(losses), "the closing evaluation is no point of its own"
    LpmcForConditionalGeneration.from_pretrained(folder / "unstable")


def test_a_continued_run_remembers_the_best_and_how_long_ago_it_was(folder: Path, unstable: dict[str, Any]) -> None:
    at = unstable["best_update"] + 1

    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(folder, "remembers", UNSTABLE, progress=stop)
    kept = {path.name for path in (folder / "remembers" / "checkpoints").glob("checkpoint-*")}
    assert kept == {f"checkpoint-{at - 1}", f"checkpoint-{at}"}, "the best one and the last one"
    again = train(folder, "remembers", UNSTABLE)
    assert again["resumed_from"] == at
    for key in ("best_update", "updates", "stopped_early"):
        assert again[key] == unstable[key], key
    assert again["evaluation_loss"] == pytest.approx(unstable["evaluation_loss"], abs=1e-6)


def test_a_run_that_ended_early_and_was_stopped_in_its_ending_does_not_train_on(folder: Path) -> None:
    asked = [*UNSTABLE, "evaluation.generated_captions=2"]

    def stop(progress: Progress) -> None:
        if progress.stage.startswith("captioning") and progress.done == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(folder, "ending", asked, progress=stop)
    seen: list[str] = []
    found = train(folder, "ending", asked, progress=lambda progress: seen.append(progress.stage))
    assert "training" not in seen
    assert found["stopped_early"]
    assert found["evaluation_loss"] == pytest.approx(
        min(point["loss"] for point in found["evaluation_curve"]), abs=1e-6
    ), "the weights of the best update, not those of the last checkpoint"


def test_a_run_that_ends_before_its_first_log_has_a_loss(folder: Path) -> None:
    found = train(folder, "brief", [*UNSTABLE, "optimisation.log_every=50", "evaluation.patience=1"])
    assert found["stopped_early"]
    assert math.isfinite(found["loss"])


def test_two_processes_write_what_one_writes(folder: Path, watched: Path) -> None:
    asked = [
        f"data.dataset={folder / 'watched-clips'}",
        f"data.cache={folder / 'cache'}",
        "model.dropout=0.0",
        *WATCHED,
    ]
    asked += ["evaluation.best_by=rougeL", "evaluation.patience=2", "optimisation.updates=6"]
    train(folder, "one", asked[2:])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, "-m", "modeling_lpmc.training", str(folder / "recipe.yaml"), "--output", str(folder / "two"), *asked],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(folder, "two")["processes"] == 2
    for file in ("samples.jsonl", "samples.md"):
        assert (folder / "two" / file).read_text() == (folder / "one" / file).read_text(), file
    scores = [[found["scores"] for found in rows(folder, name, "metrics.jsonl")] for name in ("one", "two")]
    assert scores[0] == scores[1]
    assert record(folder, "two")["best_update"] == record(folder, "one")["best_update"]


def test_patience_counts_from_the_best_evaluation_and_not_before_there_is_one() -> None:
    asked = EvaluationArguments(best_by="facts_f1", patience=2)

    def ends(*values: float) -> bool:
        return stopped_early([{"eval_facts_f1": value} for value in values], asked)

    assert not ends(math.nan, math.nan, math.nan)
    assert not ends(math.nan, 0.2, 0.1)
    assert ends(math.nan, 0.2, 0.1, 0.2), "as good is no better"
    assert ends(0.3, math.nan, math.nan)
    assert not ends(0.3, 0.1, 0.4)
    by_loss = EvaluationArguments(best_by="loss", patience=1)
    assert stopped_early([{"eval_loss": 2.0}, {"loss": 9.0}, {"eval_loss": 2.5}], by_loss)
    assert not stopped_early([{"eval_loss": 2.0}, {"eval_loss": 1.5}], by_loss)


def test_the_clips_looked_at_are_spread_over_the_split() -> None:
    assert fixed_clips(3, 101) == [0, 50, 100]
    assert fixed_clips(9, 2) == [0, 1]
    assert fixed_clips(0, 5) == []


def test_rows_after_an_update_and_after_a_torn_line_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert rows_until(file, 9) == []
    file.write_text('{"update": 3}\n{"update": 6}\n{"update": "final"}\n{"upd\n{"update": 2}\n')
    assert rows_until(file, 5) == [{"update": 3}]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.split=null", "evaluation.sample_captions=1"], "without evaluation.every_updates"),
        (["evaluation.patience=2"], "patience: has no effect without evaluation.best_by"),
        (["evaluation.every_updates=3", "evaluation.best_by=facts_f1"], "without evaluation.scored_captions"),
        (["evaluation.every_updates=3", "evaluation.best_by=clap"], "choose one of loss"),
        (["evaluation.loggers=[wandb]"], "knows no wandb; choose of tensorboard, trackio"),
    ],
)
def test_settings_that_cannot_act_are_refused(folder: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(folder / "recipe.yaml", overrides)


def test_what_is_missing_is_said_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("nltk", "tensorboard", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    asked = [*WATCHED, "evaluation.scored_captions=2"]
    with pytest.raises(
        MissingExtraError, match=r"tensorboard: is not installed; pip install 'lp-musiccaps\[loggers\]'"
    ):
        train(folder, "lacking", [*asked, "evaluation.loggers=[tensorboard]"])
    with pytest.raises(MissingExtraError, match=r"nltk: is not installed; .*lp-musiccaps\[metrics\]"):
        train(folder, "lacking", [*asked, "evaluation.best_by=facts_f1"])
    said: list[str] = []
    check_watching(load_recipe(folder / "recipe.yaml", asked), said.append)
    assert said == [
        "captions are not scored and no loss.png is drawn: the extra is not installed "
        "(pip install 'lp-musiccaps[metrics]')"
    ]


def test_a_run_goes_on_without_scores_and_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (watching, sys.modules["modeling_lpmc.training.results"]):
        monkeypatch.setattr(module, "check_scores", lambda needed=False: False)
        monkeypatch.setattr(module, "check_plot", lambda: False)
    said: list[str] = []
    asked = [*WATCHED, "evaluation.generated_captions=2", "optimisation.updates=3"]
    found = train(folder, "plain", asked, say=said.append)
    assert len([sentence for sentence in said if "is not installed" in sentence]) == 1
    assert "results" not in found
    assert {"samples.md", "inference.json"} <= {path.name for path in (folder / "plain").iterdir()}
    assert not [name for name in ("metrics.jsonl", "loss.png") if (folder / "plain" / name).exists()]
