"""`lpmc caption` that is ended early loses nothing that it had captioned, and says how far it came."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_captioner import small_model, small_processor

from lpmc_errors import EXIT_INTERRUPTED, EXIT_USAGE
from modeling_lpmc import save_for_hub

LPMC = [sys.executable, "-c", "import lpmc; lpmc.main()"]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a folder with a short file before many that take long."""
    folder = tmp_path_factory.mktemp("material")
    save_for_hub(small_model(), small_processor(), folder / "model")
    (folder / "audio").mkdir()
    noise = np.random.default_rng(0).standard_normal(16_000 * 300) * 0.1
    soundfile.write(folder / "audio" / "00.wav", noise[: 16_000 * 80], 16_000)
    soundfile.write(folder / "long.wav", noise, 16_000)
    for number in range(1, 200):
        (folder / "audio" / f"{number:03}.wav").symlink_to(folder / "long.wav")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_captioned_is_written_when_the_run_is_ended(
    number: signal.Signals, material: Path, tmp_path: Path
) -> None:
    output = tmp_path / "captions.json"
    command = [*LPMC, "caption", str(material / "audio"), "--model", str(material / "model"), "--beams", "1"]
    process = subprocess.Popen(
        [*command, "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # comes before the other files are done
    assert first.startswith(str(material / "audio" / "00.wav"))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    written = json.loads(output.read_text())
    assert 1 <= len(written) < 200
    assert written[0]["path"] == str(material / "audio" / "00.wav")
    assert f"interrupted with {len(written)} of 200 files captioned" in said.splitlines()[-1]


def test_an_output_that_cannot_be_a_file_is_said_before_the_work(material: Path, tmp_path: Path) -> None:
    command = [*LPMC, "caption", str(material / "long.wav"), "--model", str(material / "model")]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, errors="replace")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert "is a folder" in done.stderr
