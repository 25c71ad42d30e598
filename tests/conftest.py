"""Shared fixtures: where the test material lies, and an environment that never leaves the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import interpreters
import pytest
from hub_clients import Pusher
from hub_double import HubDouble

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # two processes that compute on two threads each are slower than on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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


def pytest_configure(config: pytest.Config) -> None:
    try:
        interpreters.required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def datasets_alone() -> interpreters.Environment:
    """`pip install datasets soundfile`, and nothing else: no torch, nothing of this project."""
    return interpreters.datasets_alone()


@pytest.fixture(scope="session")
def datasets_3() -> interpreters.Environment:
    """`datasets` 3.6, the last one that runs loading scripts."""
    return interpreters.datasets_3()


@pytest.fixture(scope="session")
def torchcodec() -> interpreters.Environment:
    """This project with torchcodec and FFmpeg, where the `Audio` feature decodes."""
    return interpreters.torchcodec()


@pytest.fixture(scope="session")
def torchcodec_without_ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> interpreters.Environment:
    """This project with torchcodec on a machine that has no FFmpeg."""
    return interpreters.torchcodec_without_ffmpeg(tmp_path_factory.mktemp("no-ffmpeg"))


@pytest.fixture(scope="module")
def double() -> Iterator[HubDouble]:
    """A Hub on this machine, one a module."""
    with HubDouble() as hub:
        yield hub


@pytest.fixture
def hub(double: HubDouble) -> HubDouble:
    """The same with nothing on it."""
    double.state.forget()
    return double


@pytest.fixture(scope="module")
def pusher(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    """A process that pushes to the double; one a module, as its imports take seconds."""
    process = Pusher(double.environment(tmp_path_factory.mktemp("home")))
    yield process
    process.close()
