"""MusicCaps as it is published: one CSV, or the JSON form of the released code."""

from __future__ import annotations

import csv
import json
import os
from ast import literal_eval
from collections import Counter
from pathlib import Path

import pytest

from dataset_builder.sources.musiccaps import COLUMNS, read_musiccaps
from dataset_builder.tracks import TaggedTrack, clean_tags
from lpmc_errors import AudioError, TableError

# Made here in the true format; the aspects are spelt as people spell them.
ASPECTS = "['low quality', \"80's ballad\", 'acordion']"
ROWS = [
    ("-0Gj8-vB1q4", 30, 40, "/m/0140xf,/m/02cjck", ASPECTS, "A sad song.", 4, False, True),
    ("abc_DEF-123", 0, 10, "/m/04rlf", "['fast tempo']", "It is fast,\nand loud.", 0, True, True),
    ("zzzzzzzzzzz", 140, 150, "/m/04rlf", "[]", "Nothing to say.", 9, False, False),
]


def _publish(path: Path, rows=ROWS, header=COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def test_the_public_csv_gives_clips_with_aspects_caption_and_published_columns(tmp_path):
    tracks = list(read_musiccaps(_publish(tmp_path / "musiccaps-public.csv")))
    assert tracks[0] == TaggedTrack(
        track_id="[-0Gj8-vB1q4]-[30-40]",
        tags=("low quality", "80's ballad", "acordion"),
        split="test",
        source="musiccaps",
        licence="CC BY-SA 4.0 (text)",
        reference_captions=("A sad song.",),
        extra={
            "ytid": "-0Gj8-vB1q4",
            "start_s": 30,
            "end_s": 40,
            "author_id": 4,
            "is_balanced_subset": False,
            "is_audioset_eval": True,
            "audioset_positive_labels": "/m/0140xf,/m/02cjck",
            "recording_id": "-0Gj8-vB1q4",
        },
    )
    assert tracks[1].reference_captions == ("It is fast,\nand loud.",)
    assert tracks[2].tags == ()  # a clip without aspects stays in


@pytest.mark.parametrize(
    ("spellings", "splits"),
    [(("True", "False"), ["test", "train"]), (("1", "0"), ["test", "train"]), (("TRUE", "false"), ["test", "train"])],
)
def test_the_split_follows_the_value_of_the_flag_however_it_is_spelt(tmp_path, spellings, splits):
    rows = [(*row[:-1], spelling) for row, spelling in zip(ROWS, spellings, strict=False)]
    tracks = list(read_musiccaps(_publish(tmp_path / "musiccaps-public.csv", rows)))
    assert [track.split for track in tracks] == splits


def test_the_released_json_is_read_as_it_stands(published_captions):
    path = published_captions / "musiccaps_annotation_sample.json"
    clips = json.loads(path.read_text("utf-8"))
    tracks = list(read_musiccaps(path))
    assert len(tracks) == 20
    assert [track.track_id for track in tracks] == list(clips)
    assert {track.split for track in tracks} == {"train", "test"}
    for track, clip in zip(tracks, clips.values(), strict=True):
        assert track.tags == clean_tags(clip["aspect_list"])
        assert track.reference_captions == (clip["caption"].strip(),)
        assert track.split == ("test" if clip["is_audioset_eval"] else "train")
        assert {"recording_id": clip["ytid"]} | {
            name: clip[name] for name in track.extra if name in clip
        } == track.extra


def test_the_csv_and_the_json_form_give_the_same_tracks(tmp_path):
    _publish(tmp_path / "csv/musiccaps-public.csv")
    clips = {}
    for row in ROWS:
        clip = dict(zip(COLUMNS, row, strict=True)) | {"aspect_list": literal_eval(row[4])}
        clips[f"[{row[0]}]-[{row[1]}-{row[2]}]"] = clip
    (tmp_path / "clips.json").write_text(json.dumps(clips), "utf-8")
    assert list(read_musiccaps(tmp_path / "csv")) == list(read_musiccaps(tmp_path / "clips.json"))


def test_half_a_surrogate_pair_in_the_json_form_makes_a_bad_row(tmp_path):
    clips = [dict(zip(COLUMNS, row, strict=True)) | {"aspect_list": ["sad"]} for row in ROWS]
    clips[1]["caption"] = "half \ud83d a face"
    (tmp_path / "clips.json").write_text(json.dumps(dict(enumerate(clips))), "utf-8")
    skipped: list[str] = []
    tracks = list(read_musiccaps(tmp_path / "clips.json", on_skip=lambda item, why: skipped.append(why)))
    assert len(tracks) == 2
    assert skipped == ["holds half a surrogate pair, which is no character"]


def test_a_folder_of_audio_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = _publish(tmp_path / "musiccaps-public.csv")
    (tmp_path / "audio").mkdir()

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AudioError, match=r"audio: cannot be read \(Permission denied\)"):
        list(read_musiccaps(path, audio_root=tmp_path / "audio"))


def test_audio_is_found_by_clip_name_or_by_video_id_and_missing_audio_is_none(tmp_path):
    path = _publish(tmp_path / "musiccaps-public.csv")
    audio = tmp_path / "audio"
    for name in ("-0Gj8-vB1q4.m4a", "deep/[-0Gj8-vB1q4]-[30-40].wav", "abc_DEF-123.webm", ".zzzzzzzzzzz.mp3"):
        (audio / name).parent.mkdir(parents=True, exist_ok=True)
        (audio / name).touch()
    tracks = read_musiccaps(path, audio_root=audio)
    assert [track.audio_path for track in tracks] == ["deep/[-0Gj8-vB1q4]-[30-40].wav", "abc_DEF-123.webm", None]
    with pytest.raises(AudioError, match="no such folder of audio"):
        list(read_musiccaps(path, audio_root=tmp_path / "nowhere"))


def _changed(column: str, value: object) -> list[tuple]:
    row = dict(zip(COLUMNS, ROWS[0], strict=True)) | {column: value}
    return [ROWS[1], tuple(row.values())]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("aspect_list", "low quality, sad", "aspect_list is 'low quality, sad', expected a list written out"),
        ("aspect_list", "['low' 'sad']", "aspect_list: \"['low' 'sad']\" is a printed array"),
        ("start_s", "soon", "start_s is 'soon', expected a number"),
        ("end_s", "1.5", "end_s is '1.5', expected a whole number"),
        ("start_s", "nan", "start_s is 'nan', expected a whole number"),
        ("is_audioset_eval", "perhaps", "is_audioset_eval is 'perhaps', expected True or False"),
        ("ytid", "", "ytid is empty"),
    ],
)
def test_a_row_that_is_not_as_published_is_named_by_its_line(tmp_path, column, value, problem):
    path = _publish(tmp_path / "musiccaps-public.csv", _changed(column, value))
    with pytest.raises(TableError) as caught:
        list(read_musiccaps(path))
    assert caught.value.problem.startswith(problem)
    assert caught.value.item == f"{path}, line 4"  # the caption before it spans two lines


def test_bad_rows_are_left_out_and_named_where_somebody_listens(tmp_path):
    rows = [ROWS[0], (*ROWS[1][:5], "x", "4"), _changed("start_s", "soon")[1], ROWS[0], ROWS[2]]
    path = _publish(tmp_path / "musiccaps-public.csv", rows)
    skipped: list[tuple[str, str]] = []
    tracks = list(read_musiccaps(tmp_path, on_skip=lambda item, why: skipped.append((item, why))))
    assert [track.extra["ytid"] for track in tracks] == [ROWS[0][0], ROWS[2][0]]
    assert skipped == [
        (f"{path}, line 3", "has 7 cells, expected 9 as in the header"),
        (f"{path}, line 4", "start_s is 'soon', expected a number"),
        (f"{path}, line 5", "repeats the clip [-0Gj8-vB1q4]-[30-40]"),
    ]
    _publish(path, rows[1:3])
    with pytest.raises(TableError, match=r"has no row that can be used; download musiccaps-public\.csv again"):
        list(read_musiccaps(tmp_path, on_skip=lambda item, why: None))


def test_empty_and_repeated_aspects_are_kept_apart(tmp_path):
    path = _publish(tmp_path / "musiccaps-public.csv", _changed("aspect_list", "['sad', ' ', 'sad ', 'slow']"))
    tracks = list(read_musiccaps(path))
    assert (tracks[1].tags, tracks[1].dropped_tags) == (("sad", "slow"), ("", "sad"))


def test_the_whole_corpus_has_its_published_splits(tmp_path):
    evaluated = [number < 2_858 for number in range(5_521)]
    rows = [(f"id{number:09d}", *ROWS[0][1:-1], is_eval) for number, is_eval in enumerate(evaluated)]
    tracks = list(read_musiccaps(_publish(tmp_path / "musiccaps-public.csv", rows)))
    assert Counter(track.split for track in tracks) == {"test": 2_858, "train": 2_663}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (",".join(COLUMNS).encode(), "has no rows"),
        (",".join(COLUMNS).encode() + b"\nid,0,10,/m/1,\"['a']\",caf\xe9,1,False,True\n", "is not UTF-8"),
        (",".join(COLUMNS).encode() + b'\nid,0,10,/m/1,"[' + b"'a', " * 200_000, "is not readable as CSV"),
    ],
)
def test_a_torn_or_foreign_file_is_named_also_with_a_listener(tmp_path, content, problem):
    (tmp_path / "musiccaps-public.csv").write_bytes(content)
    with pytest.raises(TableError, match=problem):
        list(read_musiccaps(tmp_path, on_skip=lambda item, why: None))


def test_a_repeated_clip_and_foreign_files_are_named(tmp_path):
    twice = _publish(tmp_path / "twice.csv", [ROWS[0], ROWS[0]])
    with pytest.raises(TableError, match=r"line 3: repeats the clip \[-0Gj8-vB1q4\]-\[30-40\]"):
        list(read_musiccaps(twice))
    foreign = _publish(tmp_path / "foreign.csv", [("x", "y")], ("ytid", "caption"))
    with pytest.raises(TableError, match=r"has no column start_s, end_s, .*; it has ytid, caption"):
        list(read_musiccaps(foreign))
    with pytest.raises(TableError, match="no such file or folder"):
        list(read_musiccaps(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"has 0 MusicCaps files \(none\)"):
        list(read_musiccaps(tmp_path / "empty"))
    for content in ("[" * 100_000, "[1]", "{}", "{", '{"a": 1}'):
        (tmp_path / "bad.json").write_text(content, "utf-8")
        with pytest.raises(TableError, match=r"bad\.json: (maps no clip names|is no valid JSON)"):
            list(read_musiccaps(tmp_path / "bad.json"))
