"""The golden curve: fifty updates of a tiny captioner on a fixed corpus, with dropout, against stored losses."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import asked, curve, one_thread, record, weights, write_corpus, write_recipe

from lpmc_errors import LpmcError
from modeling_lpmc.training.train import run_training

FIFTY = (
    *("optimisation.updates=50", "optimisation.warmup_updates=5", "optimisation.learning_rate=0.001"),
    *("optimisation.clips_per_step=2", "optimisation.max_gradient_norm=1.0", "optimisation.log_every=1"),
    "optimisation.save_every=1000",
)
# fmt: off
GOLDEN = [
    5.84462, 5.87286, 5.85094, 5.84640, 5.76169, 5.75122, 5.65713, 5.63402, 5.66798, 5.58530, 5.41781, 5.39521,
    5.29934, 5.36053, 5.33585, 5.29792, 5.27485, 5.11471, 5.10075, 5.05221, 4.94968, 4.98048, 4.95442, 4.99558,
    4.81704, 4.89144, 4.98533, 4.78187, 4.91554, 4.95922, 4.88330, 4.90157, 4.73895, 4.86546, 4.67936, 4.70256,
    4.71482, 4.86370, 4.68665, 4.64490, 4.73801, 4.69393, 4.85064, 4.75125, 4.54640, 4.63796, 4.68245, 5.06204,
    4.70708, 4.58948,
]
# fmt: on
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write_corpus(folder)
    write_recipe(folder)
    return folder


@pytest.fixture(scope="module")
def golden(folder: Path) -> Path:
    with one_thread():
        run_training(folder / "recipe.yaml", folder / "golden", asked(folder, *FIFTY))
    return folder / "golden"


def losses(output: Path) -> np.ndarray:
    return np.array([loss for _, loss, _ in curve(output)])


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="dropout draws from MKL's generator, which only x86 has"
)
def test_fifty_updates_give_the_stored_losses(golden: Path) -> None:
    np.testing.assert_allclose(losses(golden), GOLDEN, rtol=0, atol=TOLERANCE)


def test_the_same_seed_gives_the_same_run_bit_for_bit(folder: Path, golden: Path) -> None:
    with one_thread():
        run_training(folder / "recipe.yaml", folder / "again", asked(folder, *FIFTY))
    assert curve(folder / "again") == curve(golden)
    first, second = weights(golden), weights(folder / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "changed",
    [
        "optimisation.seed=1",
        "data.sampling=ordered",
        "data.captions=[caption_writing]",
        "model.spectrum=power",
        "model.dropout=0.0",
        "model.label_smoothing=0.05",
        "optimisation.warmup_updates=6",
        "optimisation.beta2=0.9",
    ],
)
def test_a_setting_that_acts_leaves_the_golden_curve(folder: Path, golden: Path, changed: str) -> None:
    output = folder / changed
    ten = "optimisation.updates=10"  # so that a change of the schedule's length, too, is told apart by the others
    with one_thread():
        base = folder / "base"
        if not base.exists():
            run_training(folder / "recipe.yaml", base, asked(folder, *FIFTY, ten))
        run_training(folder / "recipe.yaml", output, asked(folder, *FIFTY, ten, changed))
    assert np.abs(losses(output) - losses(base)).max() > TOLERANCE


def test_bfloat16_on_a_cpu_stays_close_to_float32_and_is_recorded(folder: Path, golden: Path) -> None:
    output = folder / "bfloat16"
    with one_thread():
        run_training(folder / "recipe.yaml", output, asked(folder, *FIFTY, "optimisation.precision=bfloat16"))
    assert (record(golden)["precision"], record(output)["precision"]) == ("float32", "bfloat16")
    difference = np.abs(losses(output) - losses(golden))
    assert 1e-5 < difference.max() < 0.15
    assert all(tensor.dtype == torch.float32 for tensor in weights(output).values())


def test_decay_on_matrices_spares_biases_norms_and_positions(folder: Path) -> None:
    from modeling_lpmc import LpmcForConditionalGeneration
    from modeling_lpmc.training.optimiser import decaying_parameters

    model = LpmcForConditionalGeneration.from_pretrained(folder / "golden")
    names = {name for name, _ in model.named_parameters()}
    assert set(decaying_parameters(model, "all")) == names
    spared = names - set(decaying_parameters(model, "matrices"))
    assert spared == {name for name in names if name.endswith("bias") or "norm" in name or "positions" in name}


def test_compiling_without_a_compiler_is_refused_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is compiled for by triton")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(LpmcError, match=r"optimisation\.compile: needs the C\+\+ compiler no-such-compiler"):
        run_training(folder / "recipe.yaml", folder / "compiled", asked(folder, *FIFTY, "optimisation.compile=true"))
    assert not (folder / "compiled").exists()
