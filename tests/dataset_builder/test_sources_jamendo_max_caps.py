"""JamendoMaxCaps: dated files of what Jamendo's API says of its tracks, and a file of captions that a machine wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataset_builder.sources.jamendo_max_caps import read_jamendo_max_caps
from dataset_builder.sources.options import read_source
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from lpmc_errors import TableError

# Made here in the true format. The API writes an object without entries as [].
TRACKS: list[dict[str, Any]] = [
    {
        "id": "1176956",
        "name": "Night &amp; Day",
        "duration": 186,
        "artist_id": "434847",
        "artist_name": "K.R",
        "album_name": "Album",
        "album_id": "128822",
        "license_ccurl": "http://creativecommons.org/licenses/by-nc-sa/3.0/",
        "releasedate": "2013-11-20",
        "audio": "https://storage.jamendo.com/?trackid=1176956",
        "musicinfo": {
            "vocalinstrumental": "instrumental",
            "lang": "",
            "gender": "",
            "acousticelectric": "electric",
            "speed": "high",
            "tags": {"genres": ["electronic", "lounge"], "instruments": ["drum"], "vartags": ["lounge", "racing"]},
        },
    },
    {"id": "007", "name": "B", "artist_id": 5, "license_ccurl": "", "releasedate": "0000-00-00", "musicinfo": []},
    {"id": "9", "musicinfo": {"speed": "", "tags": []}},
]
CAPTIONS: list[dict[str, Any]] = [
    {"start_time": 60.0, "end_time": 90.0, "caption": "In F# minor at 84 BPM, for racing games.", "id": "1176956"},
    {"start_time": 0.0, "end_time": 30.0, "caption": "Solo lute.", "id": "31"},
    {"start_time": 0.0, "end_time": 30.0, "caption": "A fast start.", "id": "1176956"},
    {"start_time": 0, "end_time": 30, "caption": "Quiet.", "id": "007"},
]


def _lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def _publish(root: Path, tracks: list[Any] = TRACKS, captions: list[Any] = CAPTIONS) -> Path:
    _lines(root / "2013-11-20.jsonl", tracks)
    _lines(root / "final_caption30sec.jsonl", captions)
    return root


def _read(root: Path) -> tuple[list[TaggedTrack], list[tuple[str, str]]]:
    skipped: list[tuple[str, str]] = []
    tracks = read_jamendo_max_caps(root, on_skip=lambda item, reason: skipped.append((str(item), reason)))
    return list(tracks), skipped


def test_a_track_has_the_tags_of_its_artist_its_licence_and_the_captions_of_its_windows(tmp_path):
    tracks, skipped = _read(_publish(tmp_path))
    assert skipped == []
    assert tracks[0] == TaggedTrack(
        track_id="1176956",
        tags=("electronic", "lounge", "drum", "racing"),
        dropped_tags=("lounge",),  # a genre and a tag
        split="train",
        source="jamendo_max_caps",
        licence="http://creativecommons.org/licenses/by-nc-sa/3.0/",
        audio_path="1176956.mp3",
        reference_captions=("In F# minor at 84 BPM, for racing games.", "A fast start."),
        title="Night &amp; Day",
        artist="K.R",
        album="Album",
        year=2013,
        extra={
            "artist_id": "434847",
            "album_id": "128822",
            "duration": 186.0,
            "facts": {
                "genres": ["electronic", "lounge"],
                "instruments": ["drum"],
                "vartags": ["lounge", "racing"],
                "vocalinstrumental": "instrumental",
                "acousticelectric": "electric",
                "speed": "high",
                "captions_by_machine": True,
                "caption_windows": [[60.0, 90.0], [0.0, 30.0]],
            },
        },
    )


def test_what_the_machine_claims_of_key_and_tempo_never_becomes_a_tag(tmp_path):
    tracks, _ = _read(_publish(tmp_path, [*TRACKS, {"id": "31", "musicinfo": {"tags": {"vartags": ["lute"]}}}]))
    assert [track.tags for track in tracks] == [("electronic", "lounge", "drum", "racing"), (), (), ("lute",)]
    # Nor do speed and the other attributes: of what would `high` be a tag?


def test_objects_without_entries_are_lists_and_mean_no_tags(tmp_path):
    tracks, skipped = _read(_publish(tmp_path))
    assert [(track.track_id, track.tags, track.year, track.licence) for track in tracks[1:3]] == [
        ("007", (), None, ""),
        ("9", (), None, ""),
    ]
    assert tracks[2].extra == {}
    assert skipped == []


def test_a_track_that_has_only_captions_is_read_without_tags(tmp_path):
    tracks, _ = _read(_publish(tmp_path))
    assert [track.track_id for track in tracks] == ["1176956", "007", "9", "31"]
    assert (tracks[3].tags, tracks[3].reference_captions) == ((), ("Solo lute.",))
    assert _read(tmp_path / "final_caption30sec.jsonl")[0][0].reference_captions == tracks[0].reference_captions


def test_the_dated_files_alone_are_enough_and_are_read_by_date(tmp_path):
    _lines(tmp_path / "2014-01-01.jsonl", TRACKS[:1])
    _lines(tmp_path / "2004-01-01.jsonl", TRACKS[2:])
    assert [track.track_id for track in _read(tmp_path)[0]] == ["9", "1176956"]
    assert [track.track_id for track in _read(tmp_path / "2014-01-01.jsonl")[0]] == ["1176956"]


def test_a_track_in_several_dated_files_is_read_once_and_its_first_line_counts(tmp_path):
    _publish(tmp_path)
    _lines(tmp_path / "2014-01-01.jsonl", [TRACKS[0] | {"name": "Later"}, {"id": "5"}])
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["1176956", "007", "9", "5", "31"]
    assert (tracks[0].title, skipped) == ("Night &amp; Day", [])


def test_the_older_file_of_captions_is_read_only_where_the_newer_is_not_there(tmp_path):
    _publish(tmp_path)
    _lines(tmp_path / "caption30sec.jsonl", [CAPTIONS[3] | {"caption": "Old."}])
    assert _read(tmp_path)[0][1].reference_captions == ("Quiet.",)
    (tmp_path / "final_caption30sec.jsonl").unlink()
    assert _read(tmp_path)[0][1].reference_captions == ("Old.",)


def test_the_files_are_found_one_folder_down_and_the_audio_where_the_card_s_script_writes_it(tmp_path):
    _publish(tmp_path / "metadata")
    (tmp_path / "mp3_files").mkdir()
    track = _read(tmp_path)[0][0]
    assert (track.tags[:1], track.audio_path) == (("electronic",), "mp3_files/1176956.mp3")


def test_ids_stay_text_as_published_and_survive_the_tracks_table(tmp_path):
    tracks, _ = _read(_publish(tmp_path))
    write_tracks(tracks, tmp_path / "tracks.parquet")
    again = list(read_tracks(tmp_path / "tracks.parquet"))
    assert [track.track_id for track in again] == ["1176956", "007", "9", "31"]
    assert again[0].extra == tracks[0].extra


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "1"', "is no valid JSON"),
        ("[1, 2]", "holds list, expected an object"),
        ('{"name": "no id"}', "has the id 'None', expected a number"),
        ('{"id": true}', "has the id 'True', expected a number"),
        ('{"id": "../../etc/passwd"}', "has the id '../../etc/passwd', expected a number"),
        ('{"id": "1", "musicinfo": "none"}', "has musicinfo 'none', expected an object"),
        ('{"id": "1", "musicinfo": {"tags": ["rock"]}}', "has tags \"['rock']\", expected an object"),
        ('{"id": "1", "musicinfo": {"tags": {"genres": "rock"}}}', "has genres 'rock', expected a list of words"),
        ('{"id": "1", "musicinfo": {"tags": {"genres": [7]}}}', "has genres '[7]', expected a list of words"),
        ('{"id": "1", "name": {"a": 1}}', "has name \"{'a': 1}\", expected a text"),
        ('{"id": "1", "duration": NaN}', "is no valid JSON (NaN is no number)"),
        ('{"id": "1", "name": "half \\ud83d"}', "holds a NUL or half a character"),
        ('{"id": "1", "name": "nul \\u0000"}', "holds a NUL or half a character"),
        ('{"id": "1", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
    ],
)
def test_a_bad_line_of_a_dated_file_is_left_out_by_its_number_or_stops(tmp_path, line, problem):
    _publish(tmp_path, [TRACKS[1], line, TRACKS[2]], [])
    (tmp_path / "final_caption30sec.jsonl").unlink()
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["007", "9"]
    assert skipped[0][0].endswith("2013-11-20.jsonl, line 2")
    assert problem in skipped[0][1]
    with pytest.raises(TableError, match="line 2"):
        list(read_jamendo_max_caps(tmp_path))


def test_a_smiley_written_as_two_halves_and_a_backslash_before_u0000_are_plain_text(tmp_path):
    name = "\U0001f600 \\u0000"
    tracks, skipped = _read(_publish(tmp_path, [{"id": "1", "name": name}]))
    assert (tracks[0].title, skipped) == (name, [])


@pytest.mark.parametrize("duration", ["1e999", "-3", '"long"', "1" + "0" * 400])
def test_a_duration_that_is_none_is_unknown(tmp_path, duration):
    tracks, _ = _read(_publish(tmp_path, [f'{{"id": "1", "duration": {duration}}}']))
    assert "duration" not in tracks[0].extra


def test_a_track_whose_line_was_left_out_does_not_come_back_through_its_captions(tmp_path):
    tracks, skipped = _read(_publish(tmp_path, [TRACKS[0] | {"musicinfo": "x"}, TRACKS[1]]))
    assert [track.track_id for track in tracks] == ["007", "31"]
    assert len(skipped) == 1


@pytest.mark.parametrize(
    ("caption", "problem"),
    [
        (CAPTIONS[0] | {"id": None}, "has the id 'None', expected a number"),
        (CAPTIONS[0] | {"start_time": 90.0}, "has the window 90.0 to 90.0, expected seconds"),
        (CAPTIONS[0] | {"end_time": "90"}, "has the window 60.0 to '90', expected seconds"),
        (CAPTIONS[0] | {"caption": " "}, "has no caption"),
        (CAPTIONS[0] | {"caption": ["a"]}, "has no caption"),
        (CAPTIONS[0] | {"caption": "half \ud83d"}, "holds a NUL or half a character"),
        ("{]", "is no valid JSON"),
    ],
)
def test_a_bad_line_of_captions_costs_that_caption_alone(tmp_path, caption, problem):
    tracks, skipped = _read(_publish(tmp_path, captions=[caption, *CAPTIONS[1:]]))
    assert [track.reference_captions for track in tracks[:2]] == [("A fast start.",), ("Quiet.",)]
    assert problem in skipped[0][1]


def test_captions_of_many_tracks_lying_in_any_order_keep_the_order_of_the_file(tmp_path):
    windows = [
        {"start_time": (7 * place) % 50, "end_time": 60, "caption": f"{place}", "id": track_id}
        for place in range(50)
        for track_id in ("1", "2", "3")
    ]
    tracks, _ = _read(_publish(tmp_path, [{"id": track_id} for track_id in "312"], windows))
    assert [track.reference_captions for track in tracks] == [tuple(map(str, range(50)))] * 3


def test_a_window_that_is_captioned_twice_keeps_its_first_caption(tmp_path):
    _publish(tmp_path, captions=[*CAPTIONS, CAPTIONS[0] | {"caption": "Again."}])
    tracks, skipped = _read(tmp_path)
    assert tracks[0].reference_captions == ("In F# minor at 84 BPM, for racing games.", "A fast start.")
    assert skipped[0][1] == "repeats the caption of 1176956 at 60 s"


@pytest.mark.parametrize("name", ["2013-11-20.jsonl", "final_caption30sec.jsonl"])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: content[:-9], "ends in the middle of line"),
        (lambda content: content.replace(b'"id"', b'"\xefd"', 1), r"line 1: is not UTF-8 \(byte 0xef\)"),
        (lambda content: b"PAR1" + b"\xff\xfe" * 99, "is not UTF-8"),
        (lambda content: b"x" * (1 << 21), "is longer than"),
    ],
)
def test_another_or_a_damaged_file_is_named(tmp_path, name, damage, problem):
    path = _publish(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TableError, match=rf"{name}.*{problem}"):
        _read(tmp_path)


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_change_nothing(tmp_path):
    expected, _ = _read(_publish(tmp_path))
    for path in tmp_path.glob("*.jsonl"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    tracks, skipped = _read(tmp_path)
    assert tracks == expected
    assert skipped == []


def test_nothing_usable_and_a_folder_without_the_files_are_refused(tmp_path):
    with pytest.raises(TableError, match=r"has neither YYYY-MM-DD\.jsonl files nor final_caption30sec\.jsonl"):
        _read(tmp_path)
    _publish(tmp_path, [{"id": "?"}], [{"id": "?"}])
    with pytest.raises(TableError, match="has no track that can be used"):
        _read(tmp_path)


def test_it_is_read_by_name(tmp_path):
    assert len(list(read_source("jamendo_max_caps", _publish(tmp_path)))) == 4
