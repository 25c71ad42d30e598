"""One built directory, opened in each environment: the same rows, the same bytes of audio, clips that play."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import interpreters
import pyarrow.parquet as pq
import pytest
import soundfile
from hub_double import HubDouble
from interpreters import client

ROWS = """
import hashlib, importlib.metadata, importlib.util, io, json, sys
import datasets, soundfile
from datasets import Audio, get_dataset_config_names, load_dataset

def shown(row):
    clip = row.get("audio")
    if clip:
        frames = len(soundfile.read(io.BytesIO(clip["bytes"]))[0])
        row["audio"] = [clip["path"], hashlib.sha256(clip["bytes"]).hexdigest(), frames]
    return row

name = sys.argv[1]

def rows_of(config, streaming):
    opened = load_dataset(name, config, streaming=streaming)
    if config == "with-audio":
        opened = {split: rows.cast_column("audio", Audio(decode=False)) for split, rows in opened.items()}
    return {split: [shown(row) for row in rows] for split, rows in opened.items()}

configs = get_dataset_config_names(name)
packages = ("dataset_builder", "torch", "torchcodec", "librosa")
print(json.dumps({
    "datasets": datasets.__version__,
    "has": [name for name in packages if importlib.util.find_spec(name)],
    "torchcodec": importlib.metadata.version("torchcodec") if importlib.util.find_spec("torchcodec") else None,
    "decodes": getattr(datasets.config, "TORCHCODEC_AVAILABLE", None),
    "plain": {config: rows_of(config, False) for config in configs},
    "streaming": {config: rows_of(config, True) for config in configs},
}))
"""
SPLITS = ("train", "valid", "test")
PINS = dict(re.findall(r"^([\w-]+)==(\S+)", (interpreters.PROJECT / "constraints.txt").read_text(), re.MULTILINE))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("audio"):
        content = row["audio"]["bytes"]
        frames = soundfile.info(io.BytesIO(content)).frames
        row["audio"] = [row["audio"]["path"], hashlib.sha256(content).hexdigest(), frames]
    return row


def _in_the_files(directory: Path, config: str) -> dict[str, list[dict[str, Any]]]:
    """The rows as pyarrow reads them, without `datasets`."""
    files = {split: sorted((directory / config).glob(f"{split}-*.parquet")) for split in SPLITS}
    return {
        split: [_shown(row) for path in paths for row in pq.read_table(path).to_pylist()]
        for split, paths in files.items()
    }


def _expected(built: Any) -> dict[str, Any]:
    return {config: _in_the_files(built.directory, config) for config in ("text", "with-audio")}


@pytest.fixture(scope="module", params=["datasets_alone", "datasets_3", "torchcodec"])
def opened(request: pytest.FixtureRequest, built: Any) -> tuple[str, dict[str, Any]]:
    """The environment's name, and what it read."""
    environment = request.getfixturevalue(request.param)
    return request.param, client(ROWS, built.folder, "lp-musiccaps", environment=environment)


def test_the_environment_is_the_one_that_its_users_have(opened):
    name, found = opened
    version, has, codec, decodes = {
        "datasets_alone": (PINS["datasets"], [], None, False),
        "datasets_3": ("3.6.0", [], None, None),
        "torchcodec": (PINS["datasets"], ["dataset_builder", "torch", "torchcodec"], PINS["torchcodec"], True),
    }[name]
    assert (found["datasets"], found["has"]) == (version, has)
    assert (found["torchcodec"], found["decodes"]) == (codec, decodes)


@pytest.mark.parametrize("way", ["plain", "streaming"])
def test_the_directory_gives_the_rows_of_its_files_and_its_clips_play(opened, built, way):
    assert opened[1][way] == _expected(built)


UPLOAD = """
import json, sys
from huggingface_hub import HfApi
HfApi().create_repo("org/lp-musiccaps", repo_type="dataset")
HfApi().upload_folder(repo_id="org/lp-musiccaps", repo_type="dataset", folder_path=sys.argv[1])
print(json.dumps("done"))
"""


def test_the_published_directory_gives_them_too(built, tmp_path, datasets_alone, datasets_3):
    with HubDouble() as hub:
        client(UPLOAD, tmp_path, built.directory, environment=datasets_alone, hub=hub)
        for place, environment in (("alone", datasets_alone), ("3", datasets_3)):
            home = tmp_path / place  # away from the directory, with a cache that holds nothing of it
            home.mkdir()
            found = client(ROWS, home, "org/lp-musiccaps", environment=environment, hub=hub)
            assert found["plain"] == found["streaming"] == _expected(built)


def test_the_rows_compared_hold_what_is_easily_lost(built):
    """So that equal rows mean something: nulls, empty lists, other scripts, four formats, a clip that is missing."""
    text = _in_the_files(built.directory, "text")["train"][0]
    assert text["title"] == "夜曲 – “Nº 1” 🎹\nin two lines"
    assert text["year"] is None
    assert None in (text["caption_writing"], text["caption_summary"])
    assert [] in [score["unsupported"] for score in text["scores"]]
    rows = _in_the_files(built.directory, "with-audio")
    clips = [row["audio"] for split in SPLITS for row in rows[split]]
    assert clips.count(None) == 1
    assert {Path(clip[0]).suffix for clip in clips if clip} == {".wav", ".flac", ".mp3", ".ogg"}
    originals = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built.corpus.audio.rglob("t*")}
    assert {clip[0]: clip[1] for clip in clips if clip} == originals
