"""The environments that people open the data set or the captioner in, each an interpreter that runs a client's code.

`make test` installs them: `datasets` and soundfile alone, `datasets` 3.6, this project with torchcodec beside it, and
torch with the oldest or the newest transformers and nothing else; `make matrix` adds releases of transformers between.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hub_double import HubDouble

PROJECT = Path(__file__).resolve().parent.parent
DATASETS_ALONE = PROJECT / ".venv-datasets/bin/python"
DATASETS_3 = PROJECT / ".venv-datasets3/bin/python"
TORCHCODEC = Path(sys.prefix) / "torchcodec"  # the folder that torchcodec lies in, beside the packages of the project

NEEDS = (
    "datasets-alone",
    "datasets-3",
    "torchcodec",
    "ffmpeg",
    "transformers-oldest",
    "transformers-newest",
    "transformers-between",
    "library-suite",
)
"""What LPMC_REQUIRE may name, with commas between: tests that lack one of these then fail where they would skip."""
LEFT_TO_THE_MATRIX = "transformers-between"  # the one of them that `make matrix` installs and `make test` does not

CLIENT_SECONDS = 300  # a client takes up to 20 s on two busy cores; one that hangs is to fail, not to stop the suite

_HOW = "`make test` installs it"
_FFMPEG_LIBRARIES = ("avcodec", "avdevice", "avfilter", "avformat", "avutil", "swresample", "swscale")
_FFMPEG_SONAMES = range(3, 70)  # of FFmpeg 4 (libswresample.so.3) to 8 (libavcodec.so.62), and some more


def _versions(variable: str) -> tuple[str, ...]:
    """The releases of transformers that `variable` of the Makefile lists."""
    found = re.search(rf"^{variable} := ([\d. ]+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert found, f"the Makefile says no {variable}"
    return tuple(found[1].split())


def pinned(package: str) -> str:
    """The version of `package` that constraints.txt names."""
    found = re.search(rf"^{package}==([^ ;]+)", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    assert found, f"constraints.txt pins no {package}"
    return found[1]


TRANSFORMERS_NEEDS = (
    dict.fromkeys(_versions("TRANSFORMERS_OLDEST"), "transformers-oldest")
    | dict.fromkeys(_versions("TRANSFORMERS_BETWEEN"), "transformers-between")
    | {pinned("transformers"): "transformers-newest"}
)
"""Each release of transformers that the captioner is loaded with, and what LPMC_REQUIRE calls it."""


@dataclass(frozen=True)
class Environment:
    """An interpreter, the folders of packages beside its own, and a folder of libraries that hide the system's."""

    python: str
    packages: tuple[Path, ...] = ()
    libraries: Path | None = None


PROJECT_ITSELF = Environment(sys.executable)


def client(
    code: str,
    folder: Path,
    *arguments: object,
    environment: Environment = PROJECT_ITSELF,
    hub: HubDouble | None = None,
) -> Any:
    """Run `code` in `folder` as a user would: a process of its own, a fresh cache, no network but `hub`.

    Returns the last line that it prints, read as JSON. `folder` is the working directory, so that
    `load_dataset("lp-musiccaps")` finds a directory of that name there.
    """
    cache = folder / ".cache-of-the-test"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables |= hub.environment(cache) if hub else {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    variables = {name: value for name, value in variables.items() if not name.startswith(("PYTHON", "LD_LIBRARY_PATH"))}
    variables["OMP_NUM_THREADS"] = "1"  # clips are short, and starting threads takes longer than they save
    if environment.packages:
        variables["PYTHONPATH"] = os.pathsep.join(map(str, environment.packages))
    if environment.libraries:
        variables["LD_LIBRARY_PATH"] = str(environment.libraries)
    done = subprocess.run(
        [environment.python, "-c", code, *map(str, arguments)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def datasets_alone() -> Environment:
    """`pip install datasets soundfile` and nothing else, in the newest versions. Skips where it is not installed."""
    return Environment(_existing("datasets-alone", DATASETS_ALONE))


def datasets_3() -> Environment:
    """`datasets` 3.6 and soundfile; LPMC_DATASETS_3_PYTHON names another interpreter that has them."""
    return Environment(_existing("datasets-3", Path(os.environ.get("LPMC_DATASETS_3_PYTHON") or DATASETS_3)))


def transformers(version: str) -> Environment:
    """`pip install torch transformers` in that version and nothing else. Skips where it is not installed."""
    need = TRANSFORMERS_NEEDS[version]
    how = "`make matrix` installs it" if need == LEFT_TO_THE_MATRIX else _HOW
    return Environment(_existing(need, PROJECT / f".venv-transformers-{version}/bin/python", how))


def torchcodec() -> Environment:
    """This project's packages and torchcodec, with FFmpeg's libraries. Skips where one of them is not installed."""
    found = torchcodec_installed()
    if ctypes.util.find_library("avcodec") is None:
        lacking("ffmpeg", "FFmpeg's libraries are not installed (apt-get install ffmpeg)")
    return found


def torchcodec_without_ffmpeg(folder: Path) -> Environment:
    """torchcodec on a machine without FFmpeg: empty files in `folder` stand before the libraries of the system."""
    for name in _FFMPEG_LIBRARIES:
        for number in _FFMPEG_SONAMES:
            (folder / f"lib{name}.so.{number}").touch()
    return replace(torchcodec_installed(), libraries=folder)


def torchcodec_installed() -> Environment:
    """This project's packages and torchcodec, whether it can be loaded or not."""
    if not (TORCHCODEC / "torchcodec").is_dir():
        lacking("torchcodec", f"{TORCHCODEC} does not exist: {_HOW}")
    return Environment(sys.executable, (TORCHCODEC,))


def _existing(need: str, python: Path, how: str = _HOW) -> str:
    if not python.is_file():
        lacking(need, f"{python} does not exist: {how}")
    return str(python)


def required() -> frozenset[str]:
    """The needs that LPMC_REQUIRE names. Raises `ValueError` for a name that no test asks for."""
    names = frozenset(filter(None, os.environ.get("LPMC_REQUIRE", "").split(",")))
    if names - set(NEEDS):
        raise ValueError(f"LPMC_REQUIRE: {', '.join(sorted(names - set(NEEDS)))} unknown; known are {', '.join(NEEDS)}")
    return names


def lacking(need: str, reason: str) -> NoReturn:
    """Skip the test, with the reason; fail it where LPMC_REQUIRE names `need`, so that CI misses nothing unseen."""
    assert need in NEEDS, need
    if need in required():
        pytest.fail(f"LPMC_REQUIRE names {need}, but {reason}")
    pytest.skip(reason)
