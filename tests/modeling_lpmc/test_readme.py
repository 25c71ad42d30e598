"""The README of the package in a process of its own: every line of Python in it runs as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hub_double import HubDouble
from small_captioner import ending_model, small_processor

import modeling_lpmc
from modeling_lpmc import save_for_hub

PROJECT = Path(modeling_lpmc.__file__).parents[1]
README = (PROJECT / "modeling_lpmc/README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|.*\| `(.+)` \|$", README, re.MULTILINE)
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

# What the README says its reader has.
AT_HAND = """
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
long_samples = np.random.default_rng(0).standard_normal(250_000).astype(np.float32) * 0.1
samples = long_samples[:160_000]
rows = [{"audio": samples, "caption": "A calm piano."}, {"audio": samples[:90_000], "caption": "Loud guitars."}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`model/` and `song.mp3`, as in the README."""
    save_for_hub(ending_model(), small_processor(), tmp_path / "model")
    tone = np.sin(np.arange(16_000 * 12) * 0.1).astype(np.float32) * 0.3
    soundfile.write(tmp_path / "song.mp3", tone, 16_000)
    return tmp_path


def test_the_table_names_the_public_surface():
    assert sorted(name for name, _ in ROWS) == sorted(modeling_lpmc.__all__)
    for name, line in ROWS:
        assert name in line


def test_the_line_of_every_name_runs(folder: Path, oracle_model: Path, tmp_path: Path):
    shutil.copy(oracle_model / "small_checkpoint.pth", folder / "small.pth")
    shutil.copy(oracle_model / "small_config.json", folder / "small.json")
    with HubDouble() as hub:
        said = run("from modeling_lpmc import *\n" + "\n".join(line for _, line in ROWS), folder, hub)
    assert "[transformers]" not in said, "a warning of the library"
    assert (folder / "copy" / "model.safetensors").exists()
    assert (folder / "converted" / "PARITY.md").exists()


def test_the_examples_run_one_after_the_other(folder: Path):
    with HubDouble() as hub:
        run("\n".join(BLOCKS).replace("ME/", "org/"), folder, hub)
        published = hub.files("model", "org/my-captioner")
    assert "tokenizer.json" in published
    assert "CC BY 4.0" in published["LICENSE-WEIGHTS.md"].decode()
    assert (folder / "tuned" / "tokenizer.json").exists()


def run(code: str, folder: Path, hub: HubDouble) -> str:
    environment = hub.environment(folder / "home") | {"PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", AT_HAND + code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr
