"""`lpmc space`: the page goes to the Hub in one commit, and what lies there starts where nothing of the project is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import free_port
from gradio_client import Client, handle_file
from hub_double import HubDouble
from tone_model import CAPTIONS, save_tone_model, write_track

from lpmc_errors import UsageError
from space import space_files
from space.publish import bundle

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tone_model(tmp_path_factory.mktemp("models") / "tones")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[HubDouble]:
    with HubDouble() as double:
        yield double


def lpmc(hub: HubDouble, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lpmc", "space", *map(str, arguments)],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | hub.environment(home),
        capture_output=True,
        text=True,
    )


def test_the_published_page_starts_by_itself_and_captions(hub: HubDouble, model: Path, tmp_path: Path) -> None:
    done = lpmc(hub, tmp_path, "--repo", "org/captions", "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    published = json.loads(done.stdout)
    there = hub.files("space", "org/captions")
    assert set(there) == {".gitattributes", *published["files"]}
    assert "model/model.safetensors" in there
    copy = tmp_path / "copy"
    for name, content in there.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADIO", "LPMC"))
    }
    environment |= {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=copy, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        path = write_track(tmp_path / "song.wav", [("high", 10)])
        _, caption, _ = client.predict(handle_file(path), api_name="/caption")
        assert caption == CAPTIONS["high"]
    finally:
        process.terminate()
        process.wait(timeout=30)
    used = {path.relative_to(copy).parts[0] for path in copy.rglob("*.pyc")}
    assert {"modeling_lpmc", "caption_metrics"} <= used  # the copy's modules ran, and no installed ones


def test_publishing_again_brings_it_up_to_date_and_keeps_what_others_put_there(hub: HubDouble, tmp_path: Path) -> None:
    assert lpmc(hub, tmp_path, "--repo", "org/again").returncode == 0
    repository = hub.repository("space", "org/again")
    first = repository.resolve("main")
    done = lpmc(hub, tmp_path, "--repo", "org/again", "--model", "org/tones", "--json")
    assert done.returncode == 0, done.stderr
    assert hub.files("space", "org/again")["model.txt"] == b"org/tones\n"
    assert json.loads(done.stdout)["revision"] == hub.repository("space", "org/again").resolve("main") != first
    assert lpmc(hub, tmp_path, "--repo", "org/again").returncode == 0
    assert "model.txt" not in hub.files("space", "org/again")


def test_a_name_that_no_space_can_have_is_wrong_usage(hub: HubDouble, tmp_path: Path) -> None:
    done = lpmc(hub, tmp_path, "--repo", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lpmc: --repo nobody: is no name of a Space; write USER/NAME or ORGANISATION/NAME\n"


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: HubDouble, tmp_path: Path) -> None:
    done = lpmc(hub, tmp_path, "--repo", "org/dry", "--dry-run", "--json")
    assert json.loads(done.stdout)["files"] == sorted(space_files())
    with pytest.raises(KeyError):
        hub.repository("space", "org/dry")


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a model directory nor a Hub id"):
        bundle("no such thing")
    with pytest.raises(UsageError, match="holds no saved captioner"):
        bundle(str(tmp_path))


def test_the_bundle_holds_every_module_that_the_page_may_import_and_no_other_room() -> None:
    names = set(space_files())
    assert {"caption_metrics/lexicon.yaml", "modeling_lpmc/track_captions.py", "lpmc_errors.py"} <= names
    assert {name.split("/")[0] for name in names if "/" in name} == {"modeling_lpmc", "caption_metrics"}
    assert not any("training/" in name for name in names)
