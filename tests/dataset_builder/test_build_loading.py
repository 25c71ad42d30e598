"""What a user does with a built directory: `load_dataset` from its parent folder, and the builder class and script.

The clients run in processes of their own, as a user's do: with the working directory beside the data set and a fresh
cache. None of this may need torchcodec.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_corpus

from dataset_builder import lp_musiccaps
from dataset_builder.build import build_dataset

HEAD = """
import io, json, sys
sys.modules["torchcodec"] = None  # a machine without it, whatever is installed here
import datasets, soundfile
datasets.config.TORCHCODEC_AVAILABLE = False
from datasets import Audio, get_dataset_config_names, load_dataset
"""

# What the card tells a user to write.
LOADING = (
    HEAD
    + """
found = {"configs": get_dataset_config_names("lp-musiccaps")}
default = load_dataset("lp-musiccaps")
found["default"] = {split: len(rows) for split, rows in default.items()}
found["caption"] = default["train"][0]["caption_writing"]
text = load_dataset("lp-musiccaps", "text", split="test", streaming=True)
found["streamed"] = [row["track_id"] for row in text]
columns = load_dataset("lp-musiccaps", "with-audio", split="train", streaming=True, columns=["track_id", "tag"])
found["columns"] = next(iter(columns))
clips = load_dataset("lp-musiccaps", "with-audio", split="train").cast_column("audio", Audio(decode=False))
found["played"] = [len(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]) if row["audio"] else None for row in clips]
stream = load_dataset("lp-musiccaps", "with-audio", split="train", streaming=True)
stream = stream.cast_column("audio", Audio(decode=False))
found["names"] = [row["audio"]["path"] if row["audio"] else None for row in stream]
print(json.dumps(found))
"""
)


def client(code: str, folder: Path, *arguments: object, python: str = sys.executable) -> dict:
    """Run `code` in `folder` with a fresh cache and no network; return the JSON of its last line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= {"HF_HOME": str(folder / ".cache-of-the-test"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    folder = tmp_path_factory.mktemp("corpus") / "data"
    corpus = small_corpus.write_corpus(folder, small_corpus.tracks(8), shuffled=True)
    (corpus.audio / "clips/t4.wav").unlink()
    return corpus


def test_the_directory_opens_by_its_name_plain_and_streaming_and_its_clips_play(corpus, tmp_path):
    build_dataset(corpus.captions, corpus.tracks, config="text", output=tmp_path / "lp-musiccaps")
    build_dataset(
        corpus.captions, corpus.tracks, config="with-audio", output=tmp_path / "lp-musiccaps", audio_root=corpus.audio
    )

    found = client(LOADING, tmp_path)

    assert found["configs"] == ["text", "with-audio"]
    assert found["default"] == {"train": 4, "valid": 2, "test": 2}
    assert found["caption"] == "A writing of rock, piano, mood 0."
    assert found["streamed"] == ["t2", "t6"]
    assert found["columns"] == {"track_id": "t0", "tag": ["rock", "piano", "mood 0"]}
    assert found["played"] == [1600, 1600, None, 1600]
    assert found["names"] == ["t0.wav", "t3.wav", None, "t7.wav"]


# The builder file alone, away from the project, as a user copies it beside the tables.
BUILDING = (
    HEAD
    + """
sys.path.insert(0, ".")
import lp_musiccaps
builder = lp_musiccaps.LPMusicCaps(config_name=sys.argv[1], data_dir=sys.argv[2], audio_root=sys.argv[3])
builder.download_and_prepare()
train = builder.as_dataset(split="train")
stream = builder.as_streaming_dataset(split="train").cast_column("audio", Audio(decode=False))
clips = train.cast_column("audio", Audio(decode=False))
print(json.dumps({
    "rows": {split: info.num_examples for split, info in builder.info.splits.items()},
    "captions": train["caption_writing"][:2],
    "facts": "facts" in train.column_names,
    "played": [len(soundfile.read(row["audio"]["path"])[0]) if row["audio"] else None for row in clips],
    "streamed": [len(soundfile.read(row["audio"]["path"])[0]) if row["audio"] else None for row in stream],
    "project": sorted(name for name in sys.modules if name.startswith(("dataset_builder", "lpmc", "hub_cards"))),
}))
"""
)


def test_the_builder_file_alone_joins_the_tables_with_the_users_audio(corpus, tmp_path):
    shutil.copy(lp_musiccaps.__file__, tmp_path / "lp_musiccaps.py")

    found = client(BUILDING, tmp_path, "rendered", corpus.tracks.parent, corpus.audio)

    assert found["project"] == [], "the file must not need the project that it came from"
    assert found["rows"] == {"train": 4, "valid": 2, "test": 2}
    assert found["captions"] == ["A writing of rock, piano, mood 0.", "A writing of rock, piano, mood 3."]
    assert found["played"] == found["streamed"] == [1600, 1600, None, 1600]
    assert found["facts"], "the rendered layout has the exact facts"


def test_the_builder_gives_the_rows_that_a_build_publishes(corpus, tmp_path):
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")
    builder = lp_musiccaps.LPMusicCaps(data_dir=str(corpus.tracks.parent), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()

    import datasets

    published = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "out/fma/train-*.parquet"),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )
    assert builder.as_dataset(split="train").to_list() == published.to_list()
    assert builder.info.features == published.features


def test_changed_tables_are_read_anew_and_not_taken_from_the_cache(tmp_path):
    def titles() -> list[str]:
        builder = lp_musiccaps.LPMusicCaps(data_dir=str(tmp_path / "in"), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        return list(builder.as_dataset(split="train")["title"])

    small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(1))
    assert titles() == ["Title 0"]
    small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(4))
    assert titles() == ["Title 0", "Title 3"]


def test_two_processes_prepare_what_one_does(tmp_path, monkeypatch):
    from dataset_builder import tracks

    monkeypatch.setattr(tracks, "ROWS_PER_GROUP", 2)  # several row groups, as a long table has
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(9))
    shutil.copy(lp_musiccaps.__file__, tmp_path / "lp_musiccaps.py")
    code = """
import json, sys
sys.path.insert(0, ".")
import lp_musiccaps
if __name__ == "__main__":
    builder = lp_musiccaps.LPMusicCaps(data_dir=sys.argv[1])
    builder.download_and_prepare(num_proc=2)
    print(json.dumps({split: rows["track_id"][:] for split, rows in builder.as_dataset().items()}))
"""

    found = client(code, tmp_path, corpus.tracks.parent)

    assert {split: sorted(ids) for split, ids in found.items()} == {
        "train": ["t0", "t3", "t4", "t7", "t8"],
        "valid": ["t1", "t5"],
        "test": ["t2", "t6"],
    }


@pytest.mark.parametrize(("name", "expected"), [("tracks.parquet", "no such file"), (None, "data_dir: is not given")])
def test_the_builder_names_a_missing_table(corpus, tmp_path, name, expected):
    folder = None
    if name:
        folder = tmp_path / "in"
        shutil.copytree(corpus.tracks.parent, folder)
        (folder / name).unlink()

    def prepare() -> None:
        builder = lp_musiccaps.LPMusicCaps(data_dir=folder and str(folder), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()

    with pytest.raises(lp_musiccaps.JoinError, match=expected):
        prepare()


SCRIPT = """
import json, sys
import soundfile
from datasets import Audio, load_dataset
rows = load_dataset("lp_musiccaps", "generic", data_dir=sys.argv[1], audio_root=sys.argv[2], trust_remote_code=True)
rest = {"data_dir": sys.argv[1], "streaming": True, "split": "train", "trust_remote_code": True}
stream = load_dataset("lp_musiccaps", "mtt", **rest)
clips = rows["train"].cast_column("audio", Audio(decode=False))
print(json.dumps({
    "rows": {split: len(table) for split, table in rows.items()},
    "provenance": clips[0]["provenance"]["captions"][0],
    "played": [len(soundfile.read(row["audio"]["path"])[0]) if row["audio"] else None for row in clips],
    "streamed": [row["tag_top188"] for row in stream][0],
}))
"""


def test_datasets_3_runs_the_same_file_as_a_loading_script(corpus, tmp_path):
    python = os.environ.get("LPMC_DATASETS_3_PYTHON")
    if not python:
        pytest.skip("set LPMC_DATASETS_3_PYTHON to an interpreter that has datasets 3 and soundfile")
    (tmp_path / "lp_musiccaps").mkdir()
    shutil.copy(lp_musiccaps.__file__, tmp_path / "lp_musiccaps/lp_musiccaps.py")

    found = client(SCRIPT, tmp_path, corpus.tracks.parent, corpus.audio, python=python)

    assert found["rows"] == {"train": 4, "valid": 2, "test": 2}
    assert found["provenance"]["request_key"] == "key-t0-attribute_prediction"
    assert found["played"] == [1600, 1600, None, 1600]
    assert found["streamed"] == ["rock", "piano", "mood 0"]
