"""The data set directory: what its rows say, what a build refuses, and what stands when it is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small_corpus

from dataset_builder import build, caption_order, lp_musiccaps, shards
from dataset_builder.build import build_dataset
from dataset_builder.captioning.captions_table import write_captions
from dataset_builder.tracks import TaggedTrack, write_tracks
from hub_cards import lint_dataset
from hub_cards.facts import read_config
from lpmc_errors import AudioError, LpmcError, TableError, UsageError


def rows_of(directory: Path, config: str, split: str) -> list[dict]:
    files = sorted((directory / config).glob(f"{split}-*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def corpus(tmp_path: Path) -> small_corpus.Corpus:
    tagged = small_corpus.tracks(8)
    return small_corpus.write_corpus(tmp_path / "in", tagged, small_corpus.with_failures(small_corpus.captions(tagged)))


def test_a_row_has_the_published_columns_and_says_where_each_caption_came_from(corpus, tmp_path):
    report = build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    row = rows_of(tmp_path / "out", "fma", "train")[0]
    assert list(row) == [
        *("track_id", "title", "artist_name", "release", "year", "tag"),
        *("caption_writing", "caption_summary", "caption_paraphrase", "caption_attribute_prediction"),
        *("pseudo_attribute", "caption_ground_truth", "reference_captions", "facts", "path", "provenance", "scores"),
    ]
    assert (row["track_id"], row["artist_name"], row["release"], row["year"]) == ("t0", "An artist", "An album", 2000)
    assert row["tag"] == ["rock", "piano", "mood 0"]
    assert row["caption_writing"] == "A writing of rock, piano, mood 0."
    assert row["caption_summary"] is None, "a failed caption is null, not empty text"
    assert row["caption_paraphrase"] == "a plain sentence"
    assert row["pseudo_attribute"] == ["loud", "live"]
    made = {caption["instruction"]: caption for caption in row["provenance"]["captions"]}
    assert made["summary"]["outcome"] == "parse_failed"
    assert (made["paraphrase"]["outcome"], made["paraphrase"]["caption_origin"]) == ("rejected", "template")
    assert made["writing"]["model_answered"] == "small.gguf", "the folder of a local model is nobody's business"
    assert made["writing"]["request_key"] == "key-t0-writing"
    assert [score["instruction"] for score in row["scores"]] == ["attribute_prediction", "paraphrase", "writing"]
    assert report.outcomes["summary"] == {"ok": 7, "parse_failed": 1}
    assert report.template_captions == {"paraphrase": 1}


def test_an_answer_of_white_space_is_no_caption(corpus, tmp_path):
    blank = [replace(row, caption="  \n") if row.instruction == "writing" else row for row in corpus.rows]
    write_captions(blank, corpus.captions, {})

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    assert {row["caption_writing"] for row in rows_of(tmp_path / "out", "fma", "train")} == {None}


def test_splits_carry_the_names_of_the_corpus_and_tracks_without_one_go_to_train(corpus, tmp_path):
    report = build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    assert report.rows == {"train": 4, "valid": 2, "test": 2}
    ids = [row["track_id"] for row in rows_of(tmp_path / "out", "fma", "train")]
    assert ids == ["t0", "t3", "t4", "t7"], "in the order of the tracks table"
    assert sorted(path.name for path in (tmp_path / "out/fma").glob("*.parquet")) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
        "valid-00000-of-00001.parquet",
    ]


@pytest.mark.parametrize("sort_first", [False, True])
def test_captions_in_any_order_and_in_many_scans_give_the_same_rows(corpus, tmp_path, monkeypatch, sort_first):
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "one")
    shuffled = small_corpus.write_corpus(tmp_path / "shuffled", corpus.tagged, corpus.rows, shuffled=True)
    monkeypatch.setattr(shards, "TEXT_ROWS_PER_GROUP", 3)
    monkeypatch.setattr(caption_order, "TRACKS_PER_BUCKET", 2)
    monkeypatch.setattr(build, "is_ordered", lambda captions, spans: sort_first is False)
    monkeypatch.setattr(lp_musiccaps, "ROWS_PER_BATCH", 5)

    build_dataset(shuffled.captions, shuffled.tracks, config="fma", output=tmp_path / "two")

    for split in ("train", "valid", "test"):
        assert rows_of(tmp_path / "one", "fma", split) == rows_of(tmp_path / "two", "fma", split)


def test_a_track_without_rows_in_the_captions_table_keeps_its_row(corpus, tmp_path):
    kept = [row for row in corpus.rows if row.track_id != "t1"]
    write_captions(kept, corpus.captions, {})

    report = build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    row = rows_of(tmp_path / "out", "fma", "valid")[0]
    assert (row["track_id"], row["caption_writing"], row["provenance"]["captions"]) == ("t1", None, [])
    assert report.tracks_without_captions == 1


def test_baseline_instructions_get_columns_of_their_own(tmp_path):
    tagged = small_corpus.tracks(2)
    rows = small_corpus.captions(tagged, ("tag_concat", "template"))
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged, rows)

    build_dataset(corpus.captions, corpus.tracks, config="baselines", output=tmp_path / "out")

    row = rows_of(tmp_path / "out", "baselines", "train")[0]
    assert row["caption_tag_concat"].startswith("A tag_concat of")
    assert row["caption_template"].startswith("A template of")
    assert row["caption_writing"] is None


def test_musiccaps_keeps_the_columns_of_its_published_form(tmp_path):
    extra = {"ytid": "-0Gj8-vB1q4", "start_s": "30", "end_s": 40, "is_audioset_eval": True, "author_id": 4}
    extra |= {"audioset_positive_labels": "/m/04rlf,/m/02mscn", "is_balanced_subset": False}
    track = TaggedTrack(
        "-0Gj8-vB1q4-[30-40]",
        ("low quality", "piano"),
        split="test",
        source="musiccaps",
        reference_captions=("A person plays the piano.",),
        extra=extra,
    )
    corpus = small_corpus.write_corpus(tmp_path / "in", [track])

    build_dataset(corpus.captions, corpus.tracks, config="mc", output=tmp_path / "out")

    row = rows_of(tmp_path / "out", "mc", "test")[0]
    assert list(row)[:4] == ["fname", "ytid", "aspect_list", "caption_ground_truth"]
    assert (row["fname"], row["start_s"], row["end_s"], row["author_id"]) == ("-0Gj8-vB1q4-[30-40]", 30, 40, 4)
    assert row["aspect_list"] == ["low quality", "piano"]
    assert row["caption_ground_truth"] == "A person plays the piano."
    assert (row["is_audioset_eval"], row["is_balanced_subset"], row["is_crawled"]) == (True, False, None)


def test_a_value_that_does_not_fit_its_published_column_is_named_with_its_track(tmp_path):
    track = TaggedTrack("clip 7", ("piano",), source="musiccaps", extra={"is_audioset_eval": "False"})
    corpus = small_corpus.write_corpus(tmp_path / "in", [track])

    error = refused(corpus, tmp_path / "out")

    assert str(error) == "clip 7: is_audioset_eval is 'False', expected bool; correct the tracks table"


def test_audio_is_embedded_byte_for_byte_under_its_base_name(tmp_path, recordings):
    tagged = [replace(track, audio_path=path.name) for track, path in zip(small_corpus.tracks(2), recordings)]
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged)

    report = build_dataset(
        corpus.captions, corpus.tracks, config="real", output=tmp_path / "out", audio_root=recordings[0].parent
    )

    assert (report.audio_embedded, report.failed_audio) == (2, [])
    for split, path in zip(("train", "valid"), recordings):
        row = rows_of(tmp_path / "out", "real", split)[0]
        assert row["audio"] == {"bytes": path.read_bytes(), "path": path.name}


def test_a_file_that_cannot_be_read_is_named_and_its_row_keeps_its_captions(corpus, tmp_path):
    (corpus.audio / "clips/t4.wav").write_bytes(b"RIFF, but nothing more")
    (corpus.audio / "clips/t5.wav").unlink()

    report = build_dataset(
        corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio
    )

    assert [(track_id, reason.split(":")[0]) for track_id, reason in report.failed_audio] == [
        ("t4", "clips/t4.wav"),
        ("t5", "clips/t5.wav"),
    ]
    assert "ffmpeg" in report.failed_audio[0][1]
    assert "no such file" in report.failed_audio[1][1]
    by_id = {row["track_id"]: row for row in rows_of(tmp_path / "out", "fma", "train")}
    assert by_id["t4"]["audio"] is None
    assert by_id["t4"]["caption_writing"]
    assert by_id["t0"]["audio"]["path"] == "t0.wav"
    assert dict(read_config(tmp_path / "out", "fma").making.without_audio).keys() == {"t4", "t5"}


def test_the_wrong_audio_folder_stops_the_build_and_the_last_one_stands(corpus, tmp_path):
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio)
    before = (tmp_path / "out/fma/train-00000-of-00001.parquet").read_bytes()

    with pytest.raises(AudioError, match=r"not one of 8 audio files .* --audio-root"):
        build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=tmp_path)

    assert (tmp_path / "out/fma/train-00000-of-00001.parquet").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_the_same_inputs_give_the_same_bytes(corpus, tmp_path):
    def digests(output: Path) -> dict[str, str]:
        build_dataset(corpus.captions, corpus.tracks, config="fma", output=output, audio_root=corpus.audio)
        return {
            str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in output.rglob("*")
            if path.is_file()
        }

    first = digests(tmp_path / "one")
    assert len(first) == 8
    assert digests(tmp_path / "two") == first
    assert digests(tmp_path / "one") == first, "built over itself"


def test_shards_are_cut_by_size_and_audio_comes_in_groups_of_a_hundred_rows(tmp_path, monkeypatch):
    tagged = [replace(track, split="train") for track in small_corpus.tracks(250)]
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged, small_corpus.captions(tagged, ("writing",)))

    report = build_dataset(
        *(corpus.captions, corpus.tracks),
        config="fma",
        output=tmp_path / "out",
        audio_root=corpus.audio,
        shard_bytes=200 * 3_244,  # of the clips; the last 50 are the second shard
    )

    files = sorted((tmp_path / "out/fma").glob("*.parquet"))
    assert [path.name for path in files] == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    assert report.files == {"train": len(files)}
    assert len(files) == 2
    footers = [pq.read_metadata(path) for path in files]
    groups = [footer.row_group(index).num_rows for footer in footers for index in range(footer.num_row_groups)]
    assert groups == [100, 100, 50]
    assert footers[0].row_group(0).column(0).has_offset_index, "the page index lets readers skip"
    assert [row["track_id"] for row in rows_of(tmp_path / "out", "fma", "train")] == [t.track_id for t in tagged]


def test_whole_songs_close_a_row_group_before_memory_fills(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_GROUP_BYTES", 7_000)  # two of the 3.2 kB clips

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio)

    footer = pq.read_metadata(tmp_path / "out/fma/train-00000-of-00001.parquet")
    assert [footer.row_group(index).num_rows for index in range(footer.num_row_groups)] == [2, 2]


def test_another_configuration_survives_and_the_card_holds_both(corpus, tmp_path):
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="zebra", output=output)
    before = (output / "zebra/train-00000-of-00001.parquet").read_bytes()
    build_dataset(corpus.captions, corpus.tracks, config="audio", output=output, audio_root=corpus.audio)
    fewer = small_corpus.write_corpus(tmp_path / "fewer", corpus.tagged[:4])
    build_dataset(fewer.captions, fewer.tracks, config="audio", output=output, audio_root=fewer.audio)

    from huggingface_hub import DatasetCard

    card = DatasetCard.load(output / "README.md")
    assert (output / "zebra/train-00000-of-00001.parquet").read_bytes() == before
    assert [(config["config_name"], config.get("default")) for config in card.data["configs"]] == [
        ("zebra", True),
        ("audio", None),
    ]
    stated = {
        info["config_name"]: {split["name"]: split["num_examples"] for split in info["splits"]}
        for info in card.data["dataset_info"]
    }
    assert stated == {"zebra": {"train": 4, "valid": 2, "test": 2}, "audio": {"train": 2, "valid": 1, "test": 1}}
    assert lint_dataset(output) == []


def test_nothing_published_names_a_folder_of_this_machine(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(4))
    tagged = [replace(track, audio_path=str(corpus.audio / (track.audio_path or ""))) for track in corpus.tagged]
    write_tracks(tagged, corpus.tracks)
    rows = small_corpus.with_failures(corpus.rows)
    write_captions(rows, corpus.captions, dict(small_corpus.PIPELINE))

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio)

    assert rows_of(tmp_path / "out", "fma", "train")[0]["path"] == "clips/t0.wav"
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content = (
                    repr(pq.read_table(path).to_pylist()).encode() + repr(pq.read_metadata(path).metadata).encode()
                )
            for folder in (str(tmp_path), "/home/someone", "/tmp/x"):
                assert folder.encode() not in content, f"{path.name} tells {folder}"


def refused(corpus: small_corpus.Corpus, output: Path, **changes) -> LpmcError:
    with pytest.raises(LpmcError) as caught:
        build_dataset(
            **{"captions": corpus.captions, "tracks": corpus.tracks, "config": "fma", "output": output, **changes}
        )
    assert "\n" not in str(caught.value)
    assert not (output / "fma").exists()
    return caught.value


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("unknown_track", "1 track(s) are not in the tracks table tracks.parquet: 'stranger'"),
        ("two_rows_for_one_caption", "track 't0' has two rows for the instruction 'writing'"),
        ("every_answer_failed", "no track has a caption"),
        ("no_captions", "the captions table has no rows"),
        ("no_tracks", "the tracks table has no rows"),
        ("split_name", "'a-b' cannot name a split"),
        ("strange_instruction", '"Robert\'); DROP" is no instruction'),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(corpus, tmp_path, problem, expected):
    rows, tagged = corpus.rows, corpus.tagged
    if problem == "unknown_track":
        rows = [*rows, replace(rows[0], track_id="stranger")]
    if problem == "two_rows_for_one_caption":
        rows = [*rows, rows[0]]
    if problem == "every_answer_failed":
        rows = [replace(row, outcome="api_failed", caption=None, caption_origin=None) for row in rows]
    if problem == "strange_instruction":
        rows = [replace(rows[0], instruction="Robert'); DROP")]
    if problem == "split_name":
        tagged = [replace(tagged[0], split="a-b"), *tagged[1:]]
    write_captions([] if problem == "no_captions" else rows, corpus.captions, {})
    write_tracks([] if problem == "no_tracks" else tagged, corpus.tracks)

    error = refused(corpus, tmp_path / "out")

    assert isinstance(error, TableError)
    assert expected in str(error)


def test_a_track_in_two_splits_is_refused_by_name(corpus, tmp_path):
    table = pq.read_table(corpus.tracks)
    splits = ["test" if number == 8 else row["split"] for number, row in enumerate([*table.to_pylist(), None])]
    twice = [*table.to_pylist(), {**table.to_pylist()[0], "split": splits[8]}]
    pq.write_table(table.from_pylist(twice, schema=table.schema), corpus.tracks)

    assert "track_id 't0' is in the splits train and test" in str(refused(corpus, tmp_path / "out"))


def test_wrong_usage_is_refused_before_anything_is_written(corpus, tmp_path):
    output = tmp_path / "out"
    assert "no such audio folder" in str(refused(corpus, output, audio_root=tmp_path / "nowhere"))
    assert "no audio folder is given" in str(refused(corpus, output, audio="all"))
    assert "cannot name a configuration" in str(refused(corpus, output, config="../fma"))
    assert "no such captions table" in str(refused(corpus, output, captions=tmp_path / "none.parquet"))
    assert not output.exists()


def test_a_folder_with_someone_elses_readme_is_left_alone(corpus, tmp_path):
    output = tmp_path / "project"
    output.mkdir()
    (output / "README.md").write_text("# My thesis\n")

    error = refused(corpus, output)

    assert isinstance(error, UsageError)
    assert (output / "README.md").read_text() == "# My thesis\n"


def test_a_folder_of_that_name_that_is_no_configuration_is_left_alone(corpus, tmp_path):
    (tmp_path / "out/fma").mkdir(parents=True)
    (tmp_path / "out/fma/thesis.txt").write_text("mine")

    with pytest.raises(UsageError, match="is no configuration of a data set"):
        build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    assert (tmp_path / "out/fma/thesis.txt").read_text() == "mine"


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from dataset_builder.build import build_dataset

def progress(done, total):
    if done >= 5:
        os.kill(os.getpid(), signal.SIGKILL)

tracks, captions, output = map(Path, sys.argv[1:])
build_dataset(captions, tracks, config="fma", output=output, progress=progress)
"""


def test_a_killed_build_leaves_the_last_good_one_and_the_next_run_repeats_it(corpus, tmp_path):
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=output)
    good = (output / "fma/train-00000-of-00001.parquet").read_bytes()
    changed = [replace(row, caption="Changed.") if row.outcome == "ok" else row for row in corpus.rows]
    write_captions(changed, corpus.captions, {})

    arguments = [sys.executable, "-c", KILLED_BUILD, str(corpus.tracks), str(corpus.captions), str(output)]
    killed = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": str(Path(build.__file__).parents[1])})

    assert killed.returncode == -signal.SIGKILL
    assert (output / "fma/train-00000-of-00001.parquet").read_bytes() == good
    assert lint_dataset(output) == []
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=output)
    assert rows_of(output, "fma", "train")[0]["caption_writing"] == "Changed."
    assert sorted(path.name for path in output.iterdir()) == ["LICENSE.md", "README.md", "croissant.json", "fma"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from dataset_builder.build import build_dataset
from lpmc_errors import DiskError

tracks, captions, audio, output = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond it, as on a full disk
try:
    build_dataset(captions, tracks, config="fma", output=output, audio_root=audio)
except DiskError as error:
    print(error)
"""


def test_a_full_disk_is_named_and_leaves_nothing_behind(corpus, tmp_path):
    output = tmp_path / "out"
    arguments = [str(path) for path in (corpus.tracks, corpus.captions, corpus.audio, output)]
    environment = {**os.environ, "PYTHONPATH": str(Path(build.__file__).parents[1])}

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments], env=environment, capture_output=True, text=True
    )

    assert f"{output}: the file would exceed the allowed size" in done.stdout, done.stderr
    assert not output.exists()
