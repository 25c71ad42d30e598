"""What a user does with a built directory: `load_dataset` from its parent folder, and the builder class and script.

The clients run in processes of their own, as a user's do: with the working directory beside the data set and a fresh
cache. Where it matters they run where `datasets` and soundfile are installed and nothing else, or in `datasets` 3.6.
"""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
import small_corpus
from interpreters import client

from dataset_builder import lp_musiccaps
from dataset_builder.build import build_dataset

HEAD = """
import io, json, sys
import soundfile
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
found["columns"] = list(columns)[0]  # read to the end: pyarrow may abort a process that leaves a stream half read
clips = load_dataset("lp-musiccaps", "with-audio", split="train").cast_column("audio", Audio(decode=False))
found["played"] = [len(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]) if row["audio"] else None for row in clips]
stream = load_dataset("lp-musiccaps", "with-audio", split="train", streaming=True)
stream = stream.cast_column("audio", Audio(decode=False))
found["names"] = [row["audio"]["path"] if row["audio"] else None for row in stream]
print(json.dumps(found))
"""
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    folder = tmp_path_factory.mktemp("corpus") / "data"
    corpus = small_corpus.write_corpus(folder, small_corpus.tracks(8), shuffled=True)
    (corpus.audio / "clips/t4.wav").unlink()
    return corpus


def test_the_directory_opens_by_its_name_plain_and_streaming_and_its_clips_play(corpus, tmp_path, datasets_alone):
    build_dataset(corpus.captions, corpus.tracks, config="text", output=tmp_path / "lp-musiccaps")
    build_dataset(
        corpus.captions, corpus.tracks, config="with-audio", output=tmp_path / "lp-musiccaps", audio_root=corpus.audio
    )

    found = client(LOADING, tmp_path, environment=datasets_alone)

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
}))
"""
)


def test_the_builder_file_alone_joins_the_tables_with_the_users_audio(corpus, tmp_path, datasets_alone):
    shutil.copy(lp_musiccaps.__file__, tmp_path / "lp_musiccaps.py")

    found = client(BUILDING, tmp_path, "rendered", corpus.tracks.parent, corpus.audio, environment=datasets_alone)

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
    "rows": {split: table.remove_columns("audio").to_list() for split, table in rows.items()},
    "played": [len(soundfile.read(row["audio"]["path"])[0]) if row["audio"] else None for row in clips],
    "streamed": [row["tag_top188"] for row in stream][0],
}))
"""


def test_datasets_3_runs_the_same_file_as_a_loading_script(corpus, tmp_path, datasets_3):
    (tmp_path / "lp_musiccaps").mkdir()
    shutil.copy(lp_musiccaps.__file__, tmp_path / "lp_musiccaps/lp_musiccaps.py")
    build_dataset(corpus.captions, corpus.tracks, config="generic", output=tmp_path / "out")

    found = client(SCRIPT, tmp_path, corpus.tracks.parent, corpus.audio, environment=datasets_3)

    files = {split: next((tmp_path / "out/generic").glob(f"{split}-*.parquet")) for split in ("train", "valid", "test")}
    assert found["rows"] == {split: pq.read_table(path).to_pylist() for split, path in files.items()}
    assert [len(rows) for rows in found["rows"].values()] == [4, 2, 2]
    assert found["played"] == [1600, 1600, None, 1600]
    assert found["streamed"] == ["rock", "piano", "mood 0"]


PARQUET_ALONE = """
import json, sys
from datasets import Features, load_dataset
rows = load_dataset("parquet", data_files=sys.argv[1], split="train")
print(json.dumps({"tag": rows["tag"][0], "captions": len(rows["provenance"][0]["captions"])}))
"""


@pytest.mark.parametrize("environment", ["datasets_alone", "datasets_3"])
def test_a_published_file_without_its_card_is_read_by_every_release(corpus, tmp_path, environment, request):
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")
    file = next((tmp_path / "out/fma").glob("train-*.parquet"))

    found = client(PARQUET_ALONE, tmp_path, file, environment=request.getfixturevalue(environment))

    assert found == {"tag": ["rock", "piano", "mood 0"], "captions": 4}
