"""What a build does not let through: evaluation tracks in training data, audio without a licence, damaged files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small_corpus
from typer.testing import CliRunner

from dataset_builder import shards
from dataset_builder.build import build_dataset
from dataset_builder.tracks import TaggedTrack
from lpmc import app
from lpmc_errors import EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, LpmcError, TableError, UsageError


def rows_of(directory: Path, config: str, split: str) -> list[dict]:
    return [row for path in sorted((directory / config).glob(f"{split}-*")) for row in pq.read_table(path).to_pylist()]


def written(folder: Path, tagged: list[TaggedTrack]) -> small_corpus.Corpus:
    return small_corpus.write_corpus(folder, tagged, small_corpus.captions(tagged, ("writing",)))


def tracks_with(**change: object) -> list[TaggedTrack]:
    """Eight tracks of which one in training, t3, is changed."""
    return [replace(track, **change) if track.track_id == "t3" else track for track in small_corpus.tracks(8)]


LEAKS = {
    "artist": (tracks_with(artist="A THIRD artist"), "by an artist that an evaluation split has too: 'a third artist'"),
    "recording": (
        [replace(t, extra={"recording_id": f"r{int(t.track_id[1:]) % 5}"}) for t in small_corpus.tracks(8)],
        "of a recording that an evaluation split has too",
    ),
    "audioset_eval": (tracks_with(extra={"is_audioset_eval": True}), "of AudioSet's evaluation set: 'fma' (no split"),
    "evaluation_pool": (
        tracks_with(extra={"evaluation_pool": "song_describer"}),
        "of the clips an evaluation set was drawn from: 'song_describer'",
    ),
    "evaluation_only": (tracks_with(source="song_describer"), "of a corpus that is for evaluation only"),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_refused_by_name_and_nothing_is_written(tmp_path, kind):
    tagged, named = LEAKS[kind]
    corpus = written(tmp_path / "in", tagged)

    with pytest.raises(TableError) as caught:
        build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out")

    assert named in str(caught.value)
    assert "e.g. t" in str(caught.value)
    assert "--leaks drop" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", LEAKS)
def test_leaking_training_tracks_can_be_left_out_and_the_card_counts_them(tmp_path, kind):
    tagged, _ = LEAKS[kind]
    corpus = written(tmp_path / "in", tagged)

    report = build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out", leaks="drop")

    ids = [row["track_id"] for row in rows_of(tmp_path / "out", "x", "train")]
    expected = {"recording": ["t3", "t4"]}.get(kind, ["t0", "t4", "t7"])
    assert ids == expected
    assert report.left_out == {kind: 4 - len(expected)}
    assert report.rows["valid"] == report.rows["test"] == 2, "evaluation splits stay whole"
    assert json.loads((tmp_path / "out/x/build.json").read_text())["left_out"] == report.left_out


@pytest.mark.parametrize("kind", LEAKS)
def test_shared_artists_may_be_allowed_and_evaluation_sets_never(tmp_path, kind):
    tagged, _ = LEAKS[kind]
    corpus = written(tmp_path / "in", tagged)

    def built() -> object:
        return build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out", leaks="allow")

    if kind in ("artist", "recording"):
        assert built().allowed_leaks == {kind: 1 if kind == "artist" else 2}
        assert len(rows_of(tmp_path / "out", "x", "train")) == 4
    else:
        with pytest.raises(TableError, match=r"--leaks drop` to leave these training tracks out$"):
            built()


def test_a_corpus_for_evaluation_alone_builds_as_a_test_split_and_as_nothing_else(tmp_path):
    described = [replace(track, source="song_describer", split="test") for track in small_corpus.tracks(3)]
    corpus = written(tmp_path / "in", described)
    report = build_dataset(corpus.captions, corpus.tracks, config="sdd", output=tmp_path / "out")
    assert report.rows == {"test": 3}

    corpus = written(tmp_path / "again", [replace(track, split="train") for track in described])
    for leaks in ("refuse", "drop", "allow"):
        with pytest.raises(TableError, match="evaluation only"):
            build_dataset(corpus.captions, corpus.tracks, config="sdd", output=tmp_path / "other", leaks=leaks)


def test_a_split_of_which_every_track_leaks_is_not_there_and_no_empty_shard_is_left(tmp_path):
    tagged = [replace(t, artist="One") if t.split in ("train", "") else t for t in small_corpus.tracks(8)]
    tagged = [replace(t, artist="One") if t.split == "test" else t for t in tagged]
    corpus = written(tmp_path / "in", tagged)

    report = build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out", leaks="drop")

    assert report.rows == {"valid": 2, "test": 2}
    assert not list((tmp_path / "out/x").glob("train-*"))


def test_audio_is_withheld_where_no_licence_lets_it_be_published(tmp_path):
    licences = ["CC BY 4.0", "", "All rights reserved", "CC0 1.0"]
    tagged = [replace(t, split="train", licence=licences[n % 4]) for n, t in enumerate(small_corpus.tracks(8))]
    corpus = written(tmp_path / "in", tagged)
    options = {"config": "fma", "audio_root": corpus.audio}

    report = build_dataset(corpus.captions, corpus.tracks, output=tmp_path / "public", audio="publishable", **options)

    rows = rows_of(tmp_path / "public", "fma", "train")
    assert [row["audio"] is not None for row in rows] == [True, False, False, True] * 2
    assert [row["caption_writing"] is not None for row in rows] == [True] * 8
    assert report.withheld_audio == {"": 2, "All rights reserved": 2}
    assert (report.audio_embedded, report.failed_audio) == (4, [])
    report = build_dataset(corpus.captions, corpus.tracks, output=tmp_path / "own", **options)
    assert (report.audio_embedded, report.withheld_audio) == (8, {}), "at home the audio is the user's own affair"


def test_musiccaps_audio_is_withheld_even_where_a_row_claims_a_licence(tmp_path):
    tagged = [replace(t, source="musiccaps", licence="CC BY 4.0", split="train") for t in small_corpus.tracks(2)]
    corpus = written(tmp_path / "in", tagged)

    report = build_dataset(
        *(corpus.captions, corpus.tracks),
        config="mc",
        output=tmp_path / "out",
        audio_root=corpus.audio,
        audio="publishable",
    )

    assert (report.audio_embedded, report.withheld_audio) == (0, {"CC BY 4.0": 2})


def test_each_damaged_file_is_named_the_rest_is_kept_and_the_exit_code_says_so(tmp_path, recordings):
    corpus = written(tmp_path / "in", small_corpus.tracks(8))
    clips = corpus.audio / "clips"
    clips.joinpath("t0.wav").write_bytes(clips.joinpath("t0.wav").read_bytes()[:1_000])  # a download that broke off
    clips.joinpath("t1.wav").write_text("<html>Video unavailable</html>")
    shutil.copy(recordings[1], clips / "t2.wav")  # an MP3
    clips.joinpath("t4.wav").write_bytes(b"")
    clips.joinpath("t5.wav").unlink()

    done = CliRunner().invoke(
        app,
        [
            *("build", str(corpus.captions), "--tracks", str(corpus.tracks), "--config", "fma", "--json"),
            *("--output", str(tmp_path / "out"), "--audio-root", str(corpus.audio), "--num-proc", "1"),
        ],
    )

    assert done.exit_code == EXIT_PARTIAL
    report = json.loads(done.stdout)
    assert dict(report["failed_audio"]) == {
        "t0": "clips/t0.wav: is damaged or cut short (956 of 3200 bytes of sound); fetch it anew",
        "t1": "clips/t1.wav: is an HTML page, not audio",
        "t2": "clips/t2.wav: is named .wav but holds MP3; rename it to .mp3",
        "t4": "clips/t4.wav: is empty (0 bytes)",
        "t5": "clips/t5.wav: no such file",
    }
    assert report["audio_embedded"] == 3
    rows = [row for split in ("train", "valid", "test") for row in rows_of(tmp_path / "out", "fma", split)]
    assert sorted(row["track_id"] for row in rows if row["audio"]) == ["t3", "t6", "t7"]
    assert all(row["caption_writing"] for row in rows)


def test_the_command_line_refuses_a_leak_in_one_line(tmp_path):
    corpus = written(tmp_path / "in", LEAKS["artist"][0])
    arguments = ["build", str(corpus.captions), "--tracks", str(corpus.tracks), "--config", "x"]

    done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out")])

    assert done.exit_code == EXIT_FAILED
    assert done.stderr.startswith("lpmc: ")
    assert len(done.stderr.strip().splitlines()) == 1
    done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), "--leaks", "drop"])
    assert done.exit_code == 0
    assert "left out 1 training tracks by an artist that an evaluation split has too" in done.stderr
    done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), "--leaks", "maybe"])
    assert done.exit_code == EXIT_USAGE


def test_a_path_that_leads_out_of_the_audio_folder_is_not_followed(tmp_path):
    corpus = written(tmp_path / "in", small_corpus.tracks(2))
    secret = tmp_path / "in/secret.wav"
    shutil.copy(corpus.audio / "clips/t0.wav", secret)
    corpus = written(
        tmp_path / "in", [replace(small_corpus.tracks(2)[0], audio_path="../secret.wav"), small_corpus.tracks(2)[1]]
    )
    shutil.copy(corpus.audio / "clips/t1.wav", secret)

    report = build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out", audio_root=corpus.audio)

    assert [track_id for track_id, _ in report.failed_audio] == ["t0"]
    assert rows_of(tmp_path / "out", "x", "train")[0]["audio"] is None


def test_unknown_choices_are_wrong_usage(tmp_path):
    corpus = written(tmp_path / "in", small_corpus.tracks(2))
    for options in ({"audio": "some"}, {"leaks": "some"}, {"audio": "publishable"}):
        with pytest.raises(UsageError):
            build_dataset(corpus.captions, corpus.tracks, config="x", output=tmp_path / "out", **options)


def test_a_failed_build_leaves_no_empty_folder(tmp_path):
    corpus = written(tmp_path / "in", small_corpus.tracks(2))
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "new", tmp_path / "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        with pytest.raises(LpmcError):
            build_dataset(corpus.captions, corpus.tracks, config="x", output=output, audio_root=tmp_path / "empty")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old").is_dir(), "a folder of the user's stays"


def test_a_damaged_account_of_another_configuration_is_named(tmp_path):
    corpus = written(tmp_path / "in", small_corpus.tracks(2))
    build_dataset(corpus.captions, corpus.tracks, config="one", output=tmp_path / "out")
    (tmp_path / "out/one/build.json").write_text("{")

    with pytest.raises(TableError, match=r"one/build.json: does not say how the configuration was made"):
        build_dataset(corpus.captions, corpus.tracks, config="two", output=tmp_path / "out")


def test_texts_far_longer_than_captions_come_in_smaller_row_groups(tmp_path):
    tagged = [replace(track, split="train") for track in small_corpus.tracks(40)]
    rows = [replace(row, caption=f"{row.track_id} {row.caption * 2_000}") for row in small_corpus.captions(tagged)]
    rows = [replace(row, caption=str(hash(row.caption)) + row.caption) for row in rows]
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged, rows)
    whole = build_dataset(corpus.captions, corpus.tracks, config="whole", output=tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "TEXT_BYTES_PER_GROUP", 1_000_000)
        build_dataset(corpus.captions, corpus.tracks, config="cut", output=tmp_path / "out")

    assert whole.rows == {"train": 40}
    groups = pq.read_metadata(tmp_path / "out/cut/train-00000-of-00001.parquet").num_row_groups
    assert groups > 5
    assert rows_of(tmp_path / "out", "cut", "train") == rows_of(tmp_path / "out", "whole", "train")
