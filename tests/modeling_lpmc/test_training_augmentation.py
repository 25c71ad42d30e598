"""Damage to training clips: what is changed, by how much, and that nothing is where nothing is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from training_runs import asked, curve, one_thread, record, write_corpus, write_recipe

from lpmc_errors import UsageError
from modeling_lpmc.training.arguments import load_recipe
from modeling_lpmc.training.augmentation import FLOOR_DB, AugmentationArguments, augmented
from modeling_lpmc.training.train import run_training

CLIPS, BANDS, FRAMES = 400, 128, 40


@pytest.fixture
def features() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(CLIPS, BANDS, FRAMES) * 8 - 30


def change(features: torch.Tensor, **wanted: float) -> torch.Tensor:
    torch.manual_seed(2)
    return augmented(features, AugmentationArguments(**wanted))


def test_nothing_is_changed_where_nothing_is_asked_for(features):
    assert not AugmentationArguments()
    assert torch.equal(change(features), features)


def test_a_level_is_one_number_a_clip_within_its_bounds(features):
    shift = (change(features, level_db=12.0) - features).mean((1, 2))
    assert (change(features, level_db=12.0) - features - shift[:, None, None]).abs().max() < 1e-4
    assert -12.0 <= shift.min() < -11.0
    assert 11.0 < shift.max() <= 12.0


def test_an_equaliser_moves_each_band_alike_in_all_frames_and_smoothly(features):
    gain = change(features, equaliser_db=4.0) - features
    assert (gain - gain[:, :, :1]).abs().max() < 1e-4
    curve = gain[:, :, 0]
    assert curve[:, 0].std() == pytest.approx(4.0, abs=0.5)  # a knot lies at either end
    assert curve.diff(dim=1).abs().max() < curve.abs().max() / 4
    assert abs(float(curve.mean())) < 0.5


def test_noise_fills_what_is_soft_and_leaves_what_is_loud_in_its_share_of_clips(features):
    quiet = features.clone()
    quiet[:, :, ::2] = FLOOR_DB
    noisy = change(quiet, noise_share=0.3)
    touched = (noisy != quiet).flatten(1).any(1)
    assert float(touched.float().mean()) == pytest.approx(0.3, abs=0.08)
    assert noisy[touched][:, :, ::2].mean() > FLOOR_DB + 5
    assert (noisy >= quiet - 1e-3).all()  # noise adds power
    assert (noisy - quiet)[touched][:, :, 1::2].median() < 0.1


def test_a_low_pass_takes_off_what_lies_above_one_cutoff_a_clip(features):
    features = features + 60  # so that nothing reaches the floor
    cut = features - change(features, low_pass_share=1.0)
    above = cut[:, :, 0] > 0
    first = above.int().argmax(1)
    assert torch.equal(above, torch.arange(BANDS)[None] >= first[:, None])
    assert first.min() > 0.4 * BANDS
    assert first.float().std() > 5
    assert 14.9 < cut[above].min() < 20
    assert 55 < cut[above].max() < 60.1


def test_no_feature_falls_below_silence(features):
    assert change(features - 60, level_db=30.0, low_pass_share=1.0).min() == FLOOR_DB


def test_silence_stays_silence_but_for_noise(features):
    features[:, :, 5] = FLOOR_DB
    louder = change(features, level_db=30.0, equaliser_db=6.0)
    assert (louder[:, :, 5] == FLOOR_DB).all()
    assert (change(features, noise_share=1.0, level_db=30.0)[:, :, 5] > FLOOR_DB).float().mean() > 0.9


def test_the_same_generator_gives_the_same_damage(features):
    wanted = {"level_db": 6.0, "equaliser_db": 3.0, "noise_share": 0.5, "low_pass_share": 0.5}
    assert torch.equal(change(features, **wanted), change(features, **wanted))
    assert math.isfinite(float(change(features, **wanted).sum()))


def test_a_recipe_with_a_share_above_one_is_refused():
    assert load_recipe("quickstart", ["augmentation.noise_share=0.25"]).augmentation.noise_share == 0.25
    with pytest.raises(UsageError, match=r"augmentation\.noise_share: is 1\.5; give a share from 0 to 1"):
        load_recipe("quickstart", ["augmentation.noise_share=1.5"])


@pytest.mark.parametrize("seconds", [10.0, 12.0], ids=["cached spectrograms", "waveforms"])
def test_a_run_hears_the_damage_and_its_evaluation_does_not(tmp_path: Path, seconds: float) -> None:
    write_corpus(tmp_path, seconds=seconds)
    recipe = write_recipe(tmp_path)
    standing = ["optimisation.updates=1", "optimisation.warmup_updates=0", "optimisation.learning_rate=1e-30"]
    standing += ["evaluation.split=test", "optimisation.log_every=1"]
    with one_thread():
        run_training(recipe, tmp_path / "plain", asked(tmp_path, *standing))
        run_training(recipe, tmp_path / "damaged", asked(tmp_path, *standing, "augmentation.level_db=40"))
    assert curve(tmp_path / "plain") != curve(tmp_path / "damaged")
    assert record(tmp_path / "plain")["evaluation_loss"] == record(tmp_path / "damaged")["evaluation_loss"]
