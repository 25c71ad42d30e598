"""Whole runs on a real built data set: it learns, it resumes after SIGTERM, and its output loads."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from training_corpus import KINDS, RATE, row, sound, write_dataset

from hub_cards import lint_model
from lpmc_errors import EXIT_INTERRUPTED, Interrupted, LpmcError, ModelError, UsageError
from modeling_lpmc import LpmcFeatureExtractor, LpmcForConditionalGeneration
from modeling_lpmc.training.train import Progress, TrainingResult, run_training

RECIPE = """
model: {tokenizer: train, vocabulary_size: 300, d_model: 32, encoder_layers: 1, decoder_layers: 1, attention_heads: 2,
  feed_forward: 64, max_caption_positions: 64, num_mel_bins: 32, initial_deviation: 0.1, calibrate: true,
  dropout: DROPOUT, label_smoothing: 0.0, weights_licence: cc-by-4.0}
data: {config: clips}
optimisation: {updates: 12, warmup_updates: 2, batch_size: 4, clips_per_step: 2, learning_rate: 0.003, log_every: 1,
  save_every: 5}
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other on a busy machine
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two clips of each kind, a broken one, and held-out clips; and a recipe with dropout."""
    folder = tmp_path_factory.mktemp("training")
    train = [row(kind, seed) for seed in (1, 2) for kind in KINDS]
    train.append(row("low", 9, audio={"bytes": b"broken", "path": "broken.flac"}))
    held_out = [row(kind, 3) for kind in KINDS]
    write_dataset(folder / "data", {"clips": {"train": train, "test": held_out}})
    (folder / "recipe.yaml").write_text(RECIPE.replace("DROPOUT", "0.1"), encoding="utf-8")
    return folder


def overrides(folder: Path) -> list[str]:
    return [f"data.dataset={folder / 'data'}", f"data.cache={folder / 'cache'}"]


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> TrainingResult:
    return run_training(folder / "recipe.yaml", folder / "undisturbed", overrides(folder))


def curve(output: Path) -> list[float]:
    return [point["loss"] for point in json.loads((output / "training.json").read_text())["loss_curve"]]


def test_a_tiny_model_learns_to_tell_its_clips_apart_and_its_output_loads(folder: Path) -> None:
    recipe = folder / "overfit.yaml"
    recipe.write_text(RECIPE.replace("DROPOUT", "0.0"), encoding="utf-8")
    said: list[str] = []
    result = run_training(
        recipe,
        folder / "overfit",
        [
            *overrides(folder),
            "optimisation.updates=120",
            "optimisation.learning_rate=0.005",
            "optimisation.batch_size=8",
            "optimisation.clips_per_step=null",
            "optimisation.save_every=1000",
            "evaluation.split=test",
            "evaluation.generated_captions=4",
        ],
        say=said.append,
    )
    captions = {entry["track_id"]: entry for entry in json.loads((folder / "overfit" / "inference.json").read_text())}
    assert result.inference == folder / "overfit" / "inference.json"
    assert [captions[f"{kind}-3"]["prediction"] for kind in KINDS] == list(KINDS.values())  # sounds it never heard
    assert result.loss < 0.5 < curve(folder / "overfit")[0]
    assert result.evaluation_loss is not None
    assert (result.train_clips, result.evaluation_clips) == (8, 4)
    assert [(skip.track_id, skip.split) for skip in result.skipped] == [("low-9", "train")]
    assert any("1 rows are left out" in sentence for sentence in said)
    record = json.loads((folder / "overfit" / "training.json").read_text())
    assert record["recipe"]["optimisation"]["updates"] == 120
    assert str(folder) not in (folder / "overfit" / "training.json").read_text()  # it may be published
    assert record["skipped"][0]["reason"] in said[-1]
    assert not (folder / "overfit" / "checkpoints").exists()

    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained(folder / "overfit", trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder / "overfit", trust_remote_code=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == record["parameters"]
    assert processor.feature_extractor.num_mel_bins == 32


def test_a_run_told_to_stop_keeps_its_updates_and_the_same_call_ends_it(
    folder: Path, undisturbed: TrainingResult
) -> None:
    output = folder / "stopped"

    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="7 updates are kept") as caught:
        run_training(folder / "recipe.yaml", output, overrides(folder), progress=stop)
    assert caught.value.exit_code == EXIT_INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(UsageError, match=r"holds a run with optimisation.seed 0, not 1"):
        run_training(folder / "recipe.yaml", output, [*overrides(folder), "optimisation.seed=1"])
    result = run_training(folder / "recipe.yaml", output, overrides(folder))
    assert result.resumed_from == 7
    assert curve(output) == pytest.approx(curve(undisturbed.output), abs=1e-4)


def test_a_run_stopped_after_its_last_update_only_lacks_its_ending(folder: Path, undisturbed: TrainingResult) -> None:
    output = folder / "ending"
    asked = [*overrides(folder), "evaluation.split=test", "evaluation.generated_captions=2"]

    def stop(progress: Progress) -> None:
        if progress.stage == "captioning the evaluation clips":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="12 updates are kept"):
        run_training(folder / "recipe.yaml", output, asked, progress=stop)
    trained: list[Progress] = []
    result = run_training(folder / "recipe.yaml", output, asked, progress=trained.append)
    assert not [progress for progress in trained if progress.stage == "training"]
    assert result.resumed_from == 12
    assert curve(output) == pytest.approx(curve(undisturbed.output), abs=1e-4)
    assert len(json.loads((output / "inference.json").read_text())) == 2


def test_a_run_is_not_continued_on_other_data(folder: Path) -> None:
    output = folder / "changed"

    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_training(folder / "recipe.yaml", output, overrides(folder), progress=stop)
    other = write_dataset(folder / "elsewhere" / "data", {"clips": {"train": [row("low", 1), row("beat", 1)]}})
    with pytest.raises(UsageError, match="begun on other clips"):
        run_training(folder / "recipe.yaml", output, [*overrides(folder)[1:], f"data.dataset={other}"])


def test_a_diverged_run_stops_at_once(folder: Path) -> None:
    with pytest.raises(LpmcError, match=r"the loss is (nan|inf).*learning_rate"):
        run_training(folder / "recipe.yaml", folder / "nan", [*overrides(folder), "optimisation.learning_rate=1e30"])


def test_a_warm_up_longer_than_the_run_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="warm-up of 12 updates"):
        run_training(folder / "recipe.yaml", folder / "warm", [*overrides(folder), "optimisation.warmup_updates=12"])


def test_a_missing_start_and_a_long_warm_up_are_named_before_any_data_are_read(folder: Path) -> None:
    nowhere = [f"data.dataset={folder / 'nowhere'}"]
    with pytest.raises(ModelError, match=r"no captioner could be loaded.*model\.start_from=DIR"):
        run_training("transfer_paper", folder / "none", [*nowhere, f"model.start_from={folder / 'missing'}"])
    with pytest.raises(UsageError, match=r"warm-up of 1000 updates.*optimisation\.warmup_updates=1"):
        run_training("supervised_paper", folder / "none", [*nowhere, "optimisation.updates=20"])


def test_a_finished_run_is_recognised_and_not_repeated(folder: Path, undisturbed: TrainingResult) -> None:
    weights = undisturbed.output / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = run_training(folder / "recipe.yaml", undisturbed.output, overrides(folder))
    assert again.was_finished
    assert again.loss == undisturbed.loss
    assert weights.stat().st_mtime_ns == written
    with pytest.raises(UsageError, match="choose another --output"):
        run_training(folder / "recipe.yaml", undisturbed.output, [*overrides(folder), "optimisation.updates=3"])


def test_accumulating_small_steps_gives_the_losses_of_whole_batches(folder: Path, undisturbed: TrainingResult) -> None:
    exact = ["model.dropout=0.0", "optimisation.updates=4", "optimisation.precision=float32"]
    for name, at_once in (("whole", "null"), ("parts", "1")):
        run_training(
            folder / "recipe.yaml",
            folder / name,
            [*overrides(folder), *exact, f"optimisation.clips_per_step={at_once}"],
        )
    assert curve(folder / "parts") == pytest.approx(curve(folder / "whole"), abs=1e-4)


def test_workers_that_live_on_over_epochs_do_not_change_how_a_run_continues(folder: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    asked = [*overrides(folder), "optimisation.loader_workers=1"]
    alone = run_training(folder / "recipe.yaml", folder / "workers", asked)
    with pytest.raises(Interrupted):
        run_training(folder / "recipe.yaml", folder / "stopped-workers", asked, progress=stop)
    result = run_training(folder / "recipe.yaml", folder / "stopped-workers", asked)
    assert result.resumed_from == 7
    assert curve(result.output) == pytest.approx(curve(alone.output), abs=1e-4)


def test_a_recipe_that_calibrates_starts_with_convolutions_that_tell_the_clips_apart(folder: Path) -> None:
    distance = {}
    waves = [sound(kind, 3) for kind in KINDS]
    for calibrate in ("true", "false"):
        output = folder / f"calibrate-{calibrate}"
        hardly_any = ["optimisation.updates=1", "optimisation.warmup_updates=null", "optimisation.learning_rate=1e-9"]
        run_training(folder / "recipe.yaml", output, [*overrides(folder), *hardly_any, f"model.calibrate={calibrate}"])
        model = LpmcForConditionalGeneration.from_pretrained(output)
        features = LpmcFeatureExtractor.from_pretrained(output)(waves, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            distance[calibrate] = model.model.encoder.conv_stem(features["input_features"]).mean(1).std(0).mean()
    assert distance["true"] > 5 * distance["false"]


def test_training_goes_on_from_a_trained_model(folder: Path, undisturbed: TrainingResult) -> None:
    recipe = folder / "transfer.yaml"
    recipe.write_text(
        f"model: {{start_from: {undisturbed.output}, label_smoothing: 0.0, weights_licence: mine alone}}\n"
        "data: {config: clips}\n"
        "optimisation: {updates: 3, batch_size: 4, learning_rate: 0.0001, log_every: 1}\n",
        encoding="utf-8",
    )
    result = run_training(recipe, folder / "transfer", overrides(folder))
    start = curve(undisturbed.output)
    assert abs(curve(folder / "transfer")[0] - start[-1]) < abs(start[0] - start[-1]) / 2
    assert result.updates == 3
    for output, stated, named in (
        (undisturbed.output, "cc-by-4.0", "license: cc-by-4.0\n"),
        (result.output, "mine alone", "license: other\nlicense_name: mine-alone\n"),
    ):
        assert f"**{stated}**" in (output / "LICENSE-WEIGHTS.md").read_text()
        assert named in (output / "README.md").read_text()
        assert lint_model(output) == []


def test_an_unreachable_tokenizer_is_replaced_aloud(folder: Path) -> None:
    said: list[str] = []
    run_training(
        folder / "recipe.yaml",
        folder / "replaced",
        [*overrides(folder), "model.tokenizer=facebook/bart-base", "optimisation.updates=3"],
        say=said.append,
    )
    assert any("facebook/bart-base cannot be loaded" in sentence for sentence in said)
    assert json.loads((folder / "replaced" / "training.json").read_text())["tokenizer"] == "trained"
