"""The app as a Space starts it: its files alone in a folder, `python app.py`, a small model that was really trained."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tone_model import save_tone_model

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 120


@dataclass(frozen=True)
class Served:
    """A running app: its address, the folder it lies in, the file its output goes to."""

    url: str
    folder: Path
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app of a Space repository, running with a model folder that lies in it."""
    from space import space_files

    folder = tmp_path_factory.mktemp("space")
    for name, source in space_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    save_tone_model(folder / "tones", demonstration=True)
    port = free_port()
    log = folder / "log.txt"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADIO"))}
    environment |= {
        "LPMC_MODEL": "tones",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("uploads")),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS * 5):
            if process.poll() is not None:
                pytest.fail(f"the app ended with code {process.returncode}:\n{log.read_text()[-3000:]}")
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        else:
            pytest.fail(f"the app did not answer within {START_SECONDS} s:\n{log.read_text()[-3000:]}")
        yield Served(url, folder, log)
    finally:
        process.terminate()
        process.wait(timeout=30)
