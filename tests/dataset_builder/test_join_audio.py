"""Published captions joined with the reader's own audio, and what is told about tracks that have none."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import small_corpus
import soundfile

from dataset_builder.build import build_dataset
from dataset_builder.lp_musiccaps import AudioFiles, JoinError, LPMusicCaps, join_audio

IDS = [f"TRAAA{number:02d}128F93000000" for number in range(8)]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A text-only configuration as it is on the Hub, and in `audio` files that are called like the tracks."""
    tagged = [
        replace(track, track_id=track_id, source="msd_ecals", audio_path=f"8/1/{track_id[5:7]}.clip.mp3")
        for track, track_id in zip(small_corpus.tracks(8), IDS, strict=True)
    ]
    rows = small_corpus.captions(tagged)
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged, rows)
    build_dataset(corpus.captions, corpus.tracks, config="msd", output=tmp_path / "lp-musiccaps")
    for number, track_id in enumerate(IDS[:-2]):
        path = tmp_path / "audio" / track_id[2] / f"{track_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, [0.1 * number] * 800, 16_000)
    return tmp_path / "lp-musiccaps"


def heard(row: dict) -> int | None:
    return None if row["audio"] is None else len(soundfile.read(row["audio"]["path"])[0])


def test_the_builder_joins_a_published_configuration_with_the_readers_audio(published, tmp_path, caplog):
    builder = LPMusicCaps(
        config_name="msd",
        data_dir=str(published / "msd"),
        audio_root=str(tmp_path / "audio"),
        cache_dir=str(tmp_path / "c"),
    )
    with caplog.at_level(logging.WARNING):
        builder.download_and_prepare()

    rows = builder.as_dataset()
    assert {split: len(table) for split, table in rows.items()} == {"train": 4, "valid": 2, "test": 2}
    train = rows["train"].cast_column("audio", datasets.Audio(decode=False))
    assert [heard(row) for row in train] == [800, 800, 800, None]
    assert train["caption_writing"][0] == "A writing of rock, piano, mood 0."
    assert train["provenance"][0]["captions"][0]["request_key"] == f"key-{IDS[0]}-attribute_prediction"
    assert train["path"][0] == "8/1/00.clip.mp3"
    assert builder.ids_without_audio == {"train": [IDS[7]], "valid": [], "test": [IDS[6]]}
    assert "train: 1 tracks have no audio under" in caplog.text
    assert IDS[7] in caplog.text


def test_a_published_configuration_with_audio_gets_the_readers_own_instead(published, tmp_path):
    directory = tmp_path / "again"
    build_dataset(
        *(tmp_path / "in/captions.parquet", tmp_path / "in/tracks.parquet"),
        config="msd",
        output=directory,
        audio_root=tmp_path / "in/audio",
    )
    builder = LPMusicCaps(
        data_dir=str(directory / "msd"), audio_root=str(tmp_path / "audio"), cache_dir=str(tmp_path / "c")
    )
    builder.download_and_prepare()

    audio = builder.as_dataset(split="train").cast_column("audio", datasets.Audio(decode=False))[0]["audio"]
    assert audio["path"].startswith(str(tmp_path / "audio"))


def test_a_loaded_data_set_is_joined_and_the_ids_without_audio_are_returned(published, tmp_path):
    rows = datasets.load_dataset(
        "parquet", data_files=str(published / "msd/train-*.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )

    joined, missing = join_audio(rows, str(tmp_path / "audio"))

    assert missing == [IDS[7]]
    assert joined.features["audio"] == datasets.Audio(sampling_rate=16_000)
    plain = joined.cast_column("audio", datasets.Audio(decode=False))
    assert [heard(row) for row in plain] == [800, 800, 800, None]
    with pytest.raises(JoinError, match="no such audio folder"):
        join_audio(rows, str(tmp_path / "nowhere"))
    for others in (rows.to_iterable_dataset(), datasets.DatasetDict(train=rows)):
        with pytest.raises(JoinError, match="cannot be joined; load one split, without streaming"):
            join_audio(others, str(tmp_path / "audio"))


def test_a_name_that_two_files_have_or_that_tells_nothing_finds_none(tmp_path):
    for name in ("a/TRAAA00128F93000000.mp3", "b/TRAAA00128F93000000.flac", "a/TRAAA01128F93000000.mp3", "a/831.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = AudioFiles(str(tmp_path))

    assert files.find(None, "TRAAA00128F93000000") is None, "two files are called so"
    assert files.find(None, "TRAAA01128F93000000") == str(tmp_path / "a/TRAAA01128F93000000.mp3")
    assert files.find(None, "831") is None, "too short to mean this track"
    assert files.find("a/831.mp3", "831") == str(tmp_path / "a/831.mp3")
    assert files.find("a/none.mp3", "TRAAA02128F93000000") is None


def test_musiccaps_clips_are_found_by_their_name_or_their_video(tmp_path):
    from dataset_builder.lp_musiccaps import youtube_id

    for name in ("[abcdefghijk]-[30-40].wav", "zyxwvutsrqp.m4a"):
        (tmp_path / name).touch()
    files = AudioFiles(str(tmp_path))

    clip = "[abcdefghijk]-[30-40]"
    assert files.find(None, clip, youtube_id(clip)) == str(tmp_path / f"{clip}.wav")
    clip = "[zyxwvutsrqp]-[0-10]"
    assert files.find(None, clip, youtube_id(clip)) == str(tmp_path / "zyxwvutsrqp.m4a")


def test_the_default_configuration_and_a_missing_folder_are_named(published, tmp_path):
    with pytest.raises(JoinError, match="no such audio folder"):
        LPMusicCaps(
            config_name="msd",
            data_dir=str(published / "msd"),
            audio_root=str(tmp_path / "nowhere"),
            cache_dir=str(tmp_path / "c"),
        ).download_and_prepare()
    shutil.rmtree(published / "msd")
    with pytest.raises(JoinError, match=r"no such file; data_dir must hold"):
        LPMusicCaps(config_name="msd", data_dir=str(published / "msd"), cache_dir=str(tmp_path / "c"))


def test_a_second_look_sees_new_audio_and_names_again_what_is_missing(published, tmp_path):
    def prepared() -> LPMusicCaps:
        builder = LPMusicCaps(
            config_name="msd",
            data_dir=str(published / "msd"),
            audio_root=str(tmp_path / "audio"),
            cache_dir=str(tmp_path / "c"),
        )
        builder.download_and_prepare()
        return builder

    assert prepared().ids_without_audio["train"] == [IDS[7]]
    assert prepared().ids_without_audio["train"] == [IDS[7]], "also when the rows come from the cache"
    shutil.copy(tmp_path / "audio/A" / f"{IDS[0]}.wav", tmp_path / "audio/A" / f"{IDS[7]}.wav")
    again = prepared()
    assert again.ids_without_audio["train"] == []
    rows = again.as_dataset(split="train").cast_column("audio", datasets.Audio(decode=False))
    assert [heard(row) for row in rows] == [800] * 4


@pytest.mark.parametrize("path", ["{outside}/private.wav", "../outside/private.wav", "a/../../outside/private.wav"])
def test_a_foreign_table_cannot_name_a_file_outside_of_the_readers_folder(tmp_path, path):
    for folder in ("outside", "my-audio/a"):
        (tmp_path / folder).mkdir(parents=True)
    soundfile.write(tmp_path / "outside/private.wav", [0.1] * 800, 16_000)
    soundfile.write(tmp_path / "my-audio/a/mine.wav", [0.1] * 800, 16_000)
    named = [path.format(outside=tmp_path / "outside"), "a/mine.wav", str(tmp_path / "my-audio/a/mine.wav")]
    rows = datasets.Dataset.from_dict({"track_id": ["x", "y", "z"], "path": named})

    joined, missing = join_audio(rows, str(tmp_path / "my-audio"))

    assert missing == ["x"]
    assert [heard(row) for row in joined.cast_column("audio", datasets.Audio(decode=False))] == [None, 800, 800]


def test_the_builder_refuses_to_make_training_data_of_an_evaluation_set(tmp_path):
    described = [replace(track, source="song_describer", split="train") for track in small_corpus.tracks(2)]
    corpus = small_corpus.write_corpus(tmp_path / "in", described)
    builder = LPMusicCaps(data_dir=str(corpus.tracks.parent), cache_dir=str(tmp_path / "c"))

    with pytest.raises(JoinError, match="has tracks of song_describer in `train`; that corpus is for evaluation only"):
        builder.download_and_prepare()

    small_corpus.write_corpus(tmp_path / "test", [replace(track, split="test") for track in described])
    builder = LPMusicCaps(data_dir=str(tmp_path / "test"), cache_dir=str(tmp_path / "c"))
    builder.download_and_prepare()
    assert len(builder.as_dataset(split="test")) == 2
