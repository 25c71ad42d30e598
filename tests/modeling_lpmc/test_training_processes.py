"""Two processes train as one: the same clips, tokens and dropout in every update, the same losses and weights."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import (
    KillAt,
    asked,
    curve,
    error_of,
    one_thread,
    record,
    run_shared,
    weights,
    write_corpus,
    write_recipe,
)

from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler
from modeling_lpmc.training.train import run_training
from modeling_lpmc.training.update_batches import EvaluationBatches, Filler, UpdateBatches

# Of summation in another order, over 14 updates. One clip more or less in an update changes the third digit of a loss.
LOSS_TOLERANCE = 2e-5
WEIGHT_TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_corpus(folder, seconds=12.0)
    write_recipe(folder)
    return folder


@pytest.mark.parametrize("number", range(1, 14))
@pytest.mark.parametrize(("processes", "at_once"), [(2, 1), (2, 2), (4, 1), (1, 2)])
def test_each_clip_of_an_update_is_learnt_from_once_whoever_takes_it(number: int, processes: int, at_once: int) -> None:
    sampler = ClipSampler([2] * number, 0)
    alone = list(UpdateBatches(sampler, batch_size=4, at_once=4))
    shares = [
        UpdateBatches(sampler, batch_size=4, at_once=at_once, processes=processes, process=process)
        for process in range(processes)
    ]
    assert {len(share) for share in shares} == {len(list(share)) for share in shares}
    assert len({len(share) for share in shares}) == 1
    steps = 4 // (processes * at_once)
    parts = [list(share) for share in shares]
    for update, clips in enumerate(alone):
        own = [part for share in parts for part in share[update * steps : (update + 1) * steps]]
        assert sorted(draw.clip for part in own for draw in part if not isinstance(draw, Filler)) == sorted(
            draw.clip for draw in clips if not isinstance(draw, Filler)
        )


@pytest.mark.parametrize("number", range(9))
def test_each_clip_is_evaluated_in_exactly_one_process(number: int) -> None:
    batches = [EvaluationBatches(number, at_once=2, processes=3, process=process) for process in range(3)]
    assert sorted(clip for own in batches for batch in own for clip in batch) == list(range(number))
    assert all(len(own) == len(list(own)) for own in batches)


@pytest.mark.parametrize(
    "more",
    [
        ["evaluation.split=test", "evaluation.every_updates=5", "evaluation.generated_captions=5"],
        [
            *("data.sampling=balanced_tags", "data.draws_per_epoch=9", "optimisation.max_gradient_norm=0.5"),
            *("augmentation.level_db=9", "augmentation.equaliser_db=3", "augmentation.noise_share=0.5"),
        ],
    ],
    ids=["shuffled, evaluated", "balanced, clipped, augmented"],
)
def test_two_processes_train_as_one_also_with_dropout(
    folder: Path, more: list[str], request: pytest.FixtureRequest
) -> None:
    alone, shared = (folder / f"{name}-{request.node.callspec.id}" for name in ("alone", "shared"))
    with one_thread():
        run_training(folder / "recipe.yaml", alone, asked(folder, *more))
    killed = run_shared(folder / "recipe.yaml", shared, asked(folder, *more), KillAt(update=6))
    assert killed[0] == -signal.SIGKILL
    assert run_shared(folder / "recipe.yaml", shared, asked(folder, *more)) == [0, 0], error_of(shared)
    assert (record(alone)["processes"], record(shared)["processes"]) == (1, 2)
    assert record(shared)["resumed_from"] == 4
    np.testing.assert_allclose(curve(shared), curve(alone), rtol=0, atol=LOSS_TOLERANCE)
    expected, found = weights(alone), weights(shared)
    for name, tensor in expected.items():
        if name.endswith("k_proj.bias"):  # shifts all scores of a query alike: its gradient is rounding, which Adam
            continue  # makes as large as any other
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=WEIGHT_TOLERANCE)
    if "evaluation.split=test" in more:
        losses = [[point["loss"] for point in record(output)["evaluation_curve"]] for output in (alone, shared)]
        assert losses[1] == pytest.approx(losses[0], abs=LOSS_TOLERANCE)
        assert (shared / "inference.json").read_text() == (alone / "inference.json").read_text()


def test_drop_last_leaves_the_same_clips_out_of_every_share() -> None:
    sampler = ClipSampler([1] * 11, 0, multiple=4)
    shares = [UpdateBatches(sampler, batch_size=4, at_once=1, processes=2, process=process) for process in range(2)]
    assert [len(share) for share in shares] == [4, 4]
    assert not [draw for share in shares for part in share for draw in part if isinstance(draw, Filler)]


def test_balanced_draws_are_dealt_out_in_their_order() -> None:
    sampler = BalancedTagSampler([["a"], ["b"], ["a", "b"]], [1, 2, 1], 3, draws=6)
    drawn = list(sampler)
    shares = [list(UpdateBatches(sampler, batch_size=4, at_once=1, processes=2, process=p)) for p in range(2)]
    assert [part[0] for pair in zip(*shares, strict=True) for part in pair] == drawn
