"""Shared fixtures: where the test material lies, and an environment that never leaves the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other when servers run beside tests

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("LPMC_TEST_MATERIAL", PROJECT.parent / "shared"))


def _material(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"test material {relative} is not on this machine (set LPMC_TEST_MATERIAL to its folder)")
    return path


@pytest.fixture(scope="session")
def oracle_model() -> Path:
    """A small checkpoint in the released format with what the released code computed from it."""
    return _material("oracle/released_model")


@pytest.fixture(scope="session")
def published_captions() -> Path:
    """Published captions (CC-BY-NC, read where they are) with their published scores."""
    return _material("oracle/published_captions")


@pytest.fixture(scope="session")
def recordings() -> list[Path]:
    """Two real recordings: a mono 22.05 kHz WAV of 30.013 s and a stereo 22.05 kHz MP3 of 59.95 s."""
    folder = _material("audio")
    return [folder / "orchestra.wav", folder / "electronic.mp3"]
