"""A run that is killed at any moment, and started again by the same command, is the run that nobody disturbed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from training_runs import (
    KillAt,
    asked,
    curve,
    error_of,
    one_thread,
    record,
    run_apart,
    weights,
    write_corpus,
    write_recipe,
)

from lpmc_errors import Interrupted, UsageError
from modeling_lpmc.training.arguments import load_recipe
from modeling_lpmc.training.progress import Progress
from modeling_lpmc.training.run_directory import RunDirectory
from modeling_lpmc.training.train import run_training

PROJECT = Path(__file__).resolve().parents[2]

# Updates are logged at 3, 6, ... and saved at 4, 8, 12: no checkpoint but the third falls on a logged update. Eleven
# clips make three updates an epoch, the last of three clips; an update has four parts.
SHUFFLED = (
    KillAt(update=6),  # the second epoch's last; kept is the fourth, and a loss that was not logged yet
    KillAt(part=10),  # in the middle of an update
)
BALANCED = (KillAt(part=3), KillAt(file="checkpoint-8/model.safetensors"), KillAt(file="/training.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_corpus(folder, seconds=12.0)  # so that windows are drawn too
    write_recipe(folder)
    return folder


@pytest.mark.parametrize(
    ("more", "moments"),
    [
        (["optimisation.loader_workers=1"], SHUFFLED),
        (
            [
                "data.sampling=balanced_tags",
                "data.draws_per_epoch=10",
                "evaluation.split=test",
                "evaluation.every_updates=5",
                "augmentation.level_db=9",
                "augmentation.noise_share=0.5",
            ],
            BALANCED,
        ),
    ],
    ids=["shuffled, with a worker", "balanced, evaluated on the way"],
)
def test_a_run_killed_again_and_again_ends_as_the_undisturbed_one_bit_for_bit(
    folder: Path, more: list[str], moments: tuple[KillAt, ...], request: pytest.FixtureRequest
) -> None:
    undisturbed, killed = (folder / f"{name}-{request.node.callspec.id}" for name in ("undisturbed", "killed"))
    with one_thread():
        run_training(folder / "recipe.yaml", undisturbed, asked(folder, *more))
    for moment in moments:
        code = run_apart(folder / "recipe.yaml", killed, asked(folder, *more), moment)
        assert code == -signal.SIGKILL, (moment, code)
    assert run_apart(folder / "recipe.yaml", killed, asked(folder, *more)) == 0, error_of(killed)
    assert [update for update, *_ in curve(undisturbed)] == [3, 6, 9, 12, 14]
    assert curve(killed) == curve(undisturbed)
    assert [point["loss"] for point in record(killed)["evaluation_curve"]] == [
        point["loss"] for point in record(undisturbed)["evaluation_curve"]
    ]
    expected, found = weights(undisturbed), weights(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (killed / "checkpoints").exists()


def test_a_second_run_into_the_same_directory_is_refused_while_the_first_one_works(folder: Path) -> None:
    output = folder / "contested"
    with RunDirectory(output).locked(), pytest.raises(UsageError, match="another process trains there"):
        run_training(folder / "recipe.yaml", output, asked(folder))
    assert not list(output.glob("checkpoints/checkpoint-*"))


def test_every_checkpoint_says_where_it_comes_from_without_naming_a_folder(folder: Path) -> None:
    output = folder / "told"

    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 5:
            raise KeyboardInterrupt

    with one_thread(), pytest.raises(Interrupted):
        run_training(folder / "recipe.yaml", output, asked(folder), progress=stop)
    text = (output / "checkpoints" / "checkpoint-4" / "provenance.json").read_text()
    told = json.loads(text)
    assert told["recipe"] == load_recipe(folder / "recipe.yaml", asked(folder)).as_dict()
    assert told["data"]["train"]["clips"] == 11
    assert told["data"]["train"]["captions"] == 16
    assert len(told["data"]["train"]["fingerprint"]) == 32
    assert told["versions"]["torch"] == torch.__version__
    head = subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert [state["commit"] for state in told["code"]] == [head or None]
    assert str(folder) not in text
    assert str(PROJECT) not in text
