"""Song Describer as it lies at Zenodo: one line a caption, audio under another name, and never training data."""

from __future__ import annotations

import csv
import inspect
import sys
from pathlib import Path

import pytest

from dataset_builder.leaks import EVALUATION_ONLY, find_leaks, is_training
from dataset_builder.sources.options import read_source
from dataset_builder.sources.song_describer import COLUMNS, read_song_describer
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import TableError, UsageError

# Made here in the true format; `True`, `False` and nothing are what pandas wrote for good, bad and not checked.
HEADER = (*COLUMNS[:4], "familiarity", *COLUMNS[4:])
ROWS = [
    ("12", "948", "A slow tune, sad\nand long.", "True", "3", "87", "149", "48/948.mp3", "212.7"),
    ("7", "948", 'He calls it "jazz".', "", "0", "87", "149", "48/948.mp3", "212.7"),
    ("3", "214", "Loud punk.", "False", "5", "14", "31", "14/214.mp3", "124.6"),
    ("4", "7", "Piano.", "True", "", "1", "2", "07/7.mp3", "31.0"),
    ("5", "948", "Third.", "True", "1", "87", "149", "48/948.mp3", "212.7"),
]
TAGS = [
    "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tgenre---jazz\tmood/theme---sad\tmood/theme---jazz",
    "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---punk",
]
NAMES = ["track_0000948\tartist_000087\talbum_000149\tTitle\tBand\tAlbum\t2004-12-09\thttp://www.jamendo.com/track/948"]
LICENCES = """\
48/948.mp3
Title by Band from Jamendo: http://www.jamendo.com/track/948
Available under a Creative Commons Attribution-ShareAlike license: http://creativecommons.org/licenses/by-sa/3.0/
--
14/214.mp3
Punk by Band from Jamendo: http://www.jamendo.com/track/214
Available under a Creative Commons Attribution license: http://creativecommons.org/licenses/by/3.0/
--
"""


def _publish(root: Path, rows=ROWS, header=HEADER, name: str = "song_describer.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return root


def _publish_all(root: Path) -> Path:
    _publish(root)
    (root / "song_describer_14_04_23.mtg-jamendo.tsv").write_text("".join(f"{line}\r\n" for line in TAGS))
    (root / "audio_metadata.tsv").write_text("".join(f"{line}\n" for line in NAMES))
    (root / "audio_licenses.txt").write_text(LICENCES)
    return root


def _read(root: Path, **options) -> tuple[list[TaggedTrack], list[tuple[str, str]]]:
    skipped: list[tuple[str, str]] = []
    tracks = read_song_describer(root, on_skip=lambda item, reason: skipped.append((str(item), reason)), **options)
    return list(tracks), skipped


def test_the_captions_of_a_track_are_its_references_in_the_order_of_the_file(tmp_path):
    tracks, skipped = _read(_publish_all(tmp_path))
    assert skipped == []
    assert [track.track_id for track in tracks] == ["948", "214", "7"]
    assert tracks[0] == TaggedTrack(
        track_id="948",
        tags=("jazz", "sad"),
        dropped_tags=("jazz",),  # two categories have it
        split="test",
        source="song_describer",
        licence="http://creativecommons.org/licenses/by-sa/3.0/",
        audio_path="audio/48/948.2min.mp3",
        reference_captions=("A slow tune, sad\nand long.", 'He calls it "jazz".', "Third."),
        title="Title",
        artist="Band",
        album="Album",
        year=2004,
        extra={
            "artist_id": "87",
            "album_id": "149",
            "duration": 212.7,
            "evaluation_pool": "song_describer",
            "caption_id": ["12", "7", "5"],
            "is_valid_subset": [True, None, True],
            "familiarity": [3, 0, 1],
            "facts": {"genre": ["jazz"], "instrument": [], "mood/theme": ["sad", "jazz"]},
        },
    )
    assert tracks[2].extra["familiarity"] == [None]


@pytest.mark.parametrize("spellings", [("True", "False"), ("TRUE", "false"), ("1.0", "0.0"), ("1", "0")])
def test_the_valid_subset_goes_by_the_value_of_its_column_however_it_is_spelt(tmp_path, spellings):
    spelt = {"True": spellings[0], "False": spellings[1], "": ""}
    rows = [(*row[:3], spelt[row[3]], *row[4:]) for row in ROWS]
    _publish(tmp_path, rows)
    tracks = list(read_source("song_describer", tmp_path, ["subset=valid"]))
    assert [(track.track_id, track.reference_captions) for track in tracks] == [
        ("948", ("A slow tune, sad\nand long.", "Third.")),
        ("7", ("Piano.",)),
    ]
    assert [track.extra["caption_id"] for track in tracks] == [["12", "5"], ["4"]]


def test_no_option_makes_it_training_data_and_the_finder_of_leaks_knows_it(tmp_path):
    assert "song_describer" in EVALUATION_ONLY
    assert set(inspect.signature(read_song_describer).parameters) == {"root", "subset", "on_skip"}
    for subset in ("all", "valid"):
        assert not any(is_training(track.split) for track in _read(_publish(tmp_path), subset=subset)[0])
    with pytest.raises(UsageError, match="is no option of the source song_describer"):
        read_source("song_describer", tmp_path, ["split=train"])


def test_its_ids_meet_those_of_mtg_jamendo_in_the_search_for_leaks(tmp_path):
    other = TaggedTrack("track_0000948", ("jazz",), split="train", source="mtg_jamendo")
    same_artist = TaggedTrack(
        "track_0000949", ("jazz",), split="train", source="mtg_jamendo", extra={"artist_id": "artist_000087"}
    )
    write_tracks([*_read(_publish(tmp_path))[0], other, same_artist], tmp_path / "tracks.parquet")
    assert set(find_leaks(tmp_path / "tracks.parquet").training_ids) == {"track_0000948", "track_0000949"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ((), "audio/48/948.2min.mp3"),  # not there: the report looks for it
        (("audio/48/948.2min.mp3",), "audio/48/948.2min.mp3"),
        (("audio/audio/48/948.2min.mp3",), "audio/audio/48/948.2min.mp3"),
    ],
)
def test_audio_is_the_two_minutes_also_where_unpacking_doubled_the_folder(tmp_path, made, expected):
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert _read(_publish(tmp_path))[0][0].audio_path == expected
    assert _read(tmp_path / "song_describer.csv")[0][0].audio_path == expected


def test_audio_paths_are_relative_to_the_root_also_where_the_table_lies_in_a_folder_of_it(tmp_path):
    _publish(tmp_path / "data")
    assert _read(tmp_path)[0][0].audio_path == "data/audio/48/948.2min.mp3"
    (tmp_path / "audio").mkdir()
    assert _read(tmp_path)[0][0].audio_path == "audio/48/948.2min.mp3"


def test_without_the_files_beside_it_the_corpus_has_no_tags_names_or_licences(tmp_path):
    track = _read(_publish(tmp_path))[0][0]
    assert (track.tags, track.title, track.licence, "facts" in track.extra) == ((), None, "", False)


def test_the_tags_of_the_data_card_s_columns_come_before_those_of_the_table_beside(tmp_path):
    _publish_all(tmp_path)
    columns = (*HEADER, "genre", "instrument", "mood/theme")
    rows = [(*row, "['rock', \"80's\"]", "[]", '["calm", ""]') for row in ROWS]
    tracks, skipped = _read(_publish(tmp_path, rows, columns))
    assert skipped == []
    assert (tracks[0].tags, tracks[0].dropped_tags) == (("rock", "80's", "calm"), ("",))
    assert tracks[0].extra["facts"]["genre"] == ["rock", "80's"]


@pytest.mark.parametrize("cell", ["rock, pop", "[1, 2]", "__import__('os')", "[" * 100_000, "{'a': 1}"])
def test_a_cell_of_tags_that_is_no_list_of_words_makes_a_bad_line(tmp_path, cell):
    rows = [(*row, "[]") for row in ROWS]
    rows[2] = (*ROWS[2], cell)
    tracks, skipped = _read(_publish(tmp_path, rows, (*HEADER, "genre")))
    assert [track.track_id for track in tracks] == ["948", "7"]
    assert len(skipped) == 1


def _changed(column: str, value: str) -> list[tuple[str, ...]]:
    row = dict(zip(HEADER, ROWS[4], strict=True)) | {column: value}
    return [*ROWS[:4], tuple(row.values())]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("caption_id", "12", "repeats the caption 12"),
        ("caption_id", "", "has caption_id '', expected a number"),
        ("track_id", "../9", "has track_id '../9', expected a number"),
        ("path", "../../etc/passwd.mp3", "has the path '../../etc/passwd.mp3', expected NN/NUMBER.mp3"),
        ("path", "14/214.mp3", "says of the track 948 something else than a line before it"),
        ("artist_id", "88", "says of the track 948 something else than a line before it"),
        ("caption", "  ", "has no caption"),
        ("is_valid_subset", "perhaps", "has is_valid_subset 'perhaps', expected True, False or nothing"),
        ("familiarity", "nan", "has familiarity 'nan', expected a number"),
        ("familiarity", "much", "has familiarity 'much', expected a number"),
        ("duration", "-1", "has the duration '-1', expected seconds"),
    ],
)
def test_a_bad_line_is_left_out_by_its_number_or_stops_where_nobody_listens(tmp_path, column, value, problem):
    _publish(tmp_path, _changed(column, value))
    tracks, skipped = _read(tmp_path)
    assert [(item.rpartition(", ")[2], reason) for item, reason in skipped] == [("line 7", problem)]
    assert "Third." not in tracks[0].reference_captions
    with pytest.raises(TableError, match="line 7"):
        list(read_song_describer(tmp_path))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the csv module of Python 3.10 refuses the whole file")
def test_a_caption_with_a_nul_byte_is_left_out(tmp_path):
    tracks, skipped = _read(_publish(tmp_path, _changed("caption", "a\0b")))
    assert "has a NUL byte in its caption" in skipped[0][1]
    assert len(tracks[0].reference_captions) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (",".join(HEADER).encode() + b"\n", "has no rows"),
        (b"caption_id,track_id,caption\n1,2,a\n", "has no column is_valid_subset, artist_id"),
        (b"<!doctype html>\n<html>\n", "has no column caption_id"),
        (",".join(HEADER).encode() + b"\n1,2,caf\xe9,True,1,1,1,02/2.mp3,3\n", "is not UTF-8"),
        (",".join(HEADER).encode() + b'\n1,2,"cut o', "has 3 cells, expected 9"),
        (",".join(HEADER).encode() + b"\n1,2," + b"x" * 200_000 + b",True,1,1,1,02/2.mp3,3\n", "field larger than"),
    ],
)
def test_another_or_a_damaged_file_is_named(tmp_path, content, problem):
    (tmp_path / "song_describer.csv").write_bytes(content)
    with pytest.raises(TableError, match=problem):
        _read(tmp_path)


def test_a_table_without_any_usable_caption_is_refused(tmp_path):
    with pytest.raises(TableError, match="has no caption that can be used"):
        _read(_publish(tmp_path, [(*ROWS[0][:2], "", *ROWS[0][3:])]))


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path):
    rows = [row for row in ROWS if "\n" not in row[2]]
    expected, _ = _read(_publish(tmp_path, rows))
    path = tmp_path / "song_describer.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert _read(tmp_path)[0] == expected


def test_the_table_of_tags_may_have_mtg_jamendo_s_header(tmp_path):
    expected, _ = _read(_publish_all(tmp_path))
    path = tmp_path / "song_describer_14_04_23.mtg-jamendo.tsv"
    path.write_text("TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n" + path.read_text())
    assert _read(tmp_path) == (expected, [])


def test_two_tables_of_tags_are_refused_for_either_could_be_the_old_one(tmp_path):
    (_publish_all(tmp_path) / "song_describer.mtg-jamendo.tsv").write_text(TAGS[0])
    with pytest.raises(TableError, match="has 2 tables of tags"):
        _read(tmp_path)


def test_a_folder_without_the_table_says_where_it_is(tmp_path):
    with pytest.raises(TableError, match=r"has no song_describer\.csv; download it from https://zenodo\.org/"):
        _read(tmp_path)
    with pytest.raises(UsageError, match="take one of all, valid"):
        _read(_publish(tmp_path), subset="test")
