"""The documented commands of launchers start a run in two real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_runs import asked, curve, one_thread, record, write_corpus, write_recipe

from modeling_lpmc.training.train import run_training

PROJECT = Path(__file__).resolve().parents[2]
LAUNCHERS = {
    "accelerate": ["accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    write_corpus(folder)
    write_recipe(folder)
    return folder


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_starts_a_recipe_in_two_processes_and_one_of_them_speaks(folder: Path, launcher: str) -> None:
    overrides = asked(folder, "optimisation.updates=5")
    with one_thread():
        run_training(folder / "recipe.yaml", folder / f"{launcher}-alone", overrides)
    output = folder / launcher
    # Ports of its own: accelerate's default is one for the whole machine.
    own_port = ["--main_process_port", "0"] if launcher == "accelerate" else []
    done = subprocess.run(
        [
            *(sys.executable, "-m", *LAUNCHERS[launcher], *own_port, "-m", "modeling_lpmc.training"),
            *(str(folder / "recipe.yaml"), "--output", str(output), *overrides),
        ],
        cwd=PROJECT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert record(output)["processes"] == 2
    assert done.stdout.count("5 updates on 11 clips") == 1
    np.testing.assert_allclose(curve(output), curve(folder / f"{launcher}-alone"), rtol=0, atol=2e-5)
