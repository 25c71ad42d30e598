"""FMA as it is published: three header lines, literals in cells, and a licence of its own for every track."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from dataset_builder.sources.fma import read_fma
from dataset_builder.sources.fma_licences import open_licence
from dataset_builder.sources.options import read_source
from dataset_builder.sources.table import read_table
from dataset_builder.tracks import TaggedTrack
from hub_cards.licences import hub_licence
from lpmc_errors import TableError, UsageError

# The columns of the published file by group, in its order.
GROUPS = {
    "album": "comments date_created date_released engineer favorites id information listens producer tags title tracks "
    "type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude "
    "location longitude members name related_projects tags website wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all "
    "information interest language_code license listens lyricist number publisher tags title",
}
COLUMNS = [(group, name) for group, names in GROUPS.items() for name in names.split()]
GENRES = "genre_id,#tracks,parent,title,top_level\n12,32923,0,Rock,12\n25,9261,12,Punk,12\n76,100,25,Power-Pop,12\n"
HTML = "<p>A \"biography\",\nin <b>two</b> lines &amp; with tags: ['rock']</p>"


def _track(number: int, **changes: Any) -> dict[str, Any]:
    """A row by `group.name`, made here."""
    return {
        "track_id": number,
        "album.id": 60,
        "album.information": HTML,
        "album.title": "An Album",
        "album.tags": "['of the album']",
        "album.date_released": "2009-01-05 00:00:00",
        "artist.id": 7,
        "artist.bio": HTML,
        "artist.name": "The Makers",
        "artist.tags": "['of the artist']",
        "set.split": "training",
        "set.subset": "small",
        "track.genre_top": "Rock",
        "track.genres": "[76]",
        "track.genres_all": "[12, 25, 76]",
        "track.license": "Attribution 3.0 United States",
        "track.tags": "['fast', 'loud']",
        "track.title": "Song",
    } | {key.replace("__", "."): value for key, value in changes.items()}


def _publish(root: Path, *tracks: dict[str, Any]) -> Path:
    folder = root / "fma_metadata"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tracks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *(group for group, _ in COLUMNS)])
        writer.writerow(["", *(name for _, name in COLUMNS)])
        writer.writerow(["track_id", *("" for _ in COLUMNS)])
        for track in tracks:
            writer.writerow([track["track_id"], *(track.get(f"{group}.{name}", "") for group, name in COLUMNS)])
    (folder / "genres.csv").write_text(GENRES, "utf-8")
    return root


def _read(root: Path, **options: Any) -> tuple[list[TaggedTrack], list[str]]:
    skipped: list[str] = []
    tracks = list(read_fma(root, on_skip=lambda item, why: skipped.append(f"{Path(str(item)).name}: {why}"), **options))
    return tracks, skipped


def test_a_track_has_its_genres_their_parents_and_its_own_tags(tmp_path):
    _publish(tmp_path, _track(2, set__split="validation"))
    (track,) = read_fma(tmp_path)
    assert track == TaggedTrack(
        track_id="2",
        tags=("Power-Pop", "Rock", "Punk", "fast", "loud"),
        split="validation",
        source="fma",
        licence="CC BY 3.0 (Attribution 3.0 United States)",
        audio_path="fma_large/000/000002.mp3",
        title="Song",
        artist="The Makers",
        album="An Album",
        year=2009,
        extra={
            "artist_id": "7",
            "album_id": "60",
            "subset": "small",
            "facts": {"genre": ["Power-Pop"], "parent_genre": ["Rock", "Punk"]},
        },
    )
    assert hub_licence(track.licence) == "cc-by-3.0"


def test_html_of_any_length_is_never_read(tmp_path):
    _publish(tmp_path, _track(2, album__information="<p>" + "x\n" * 200_000 + "</p>"), _track(3))
    tracks = list(read_fma(tmp_path))
    assert len(tracks) == 2
    assert "<p>" not in repr(tracks)
    # The limit of a cell is the interpreter's own; a reader that runs beside this one keeps its limit.
    reading = read_fma(tmp_path)
    next(reading)
    (tmp_path / "quote.csv").write_text('id,tags\n1,"' + "x" * 140_000)
    with pytest.raises(TableError, match="is not readable as CSV"):
        list(read_table(tmp_path / "quote.csv"))
    assert len(list(reading)) == 1


def test_names_of_artist_album_and_track_are_no_tags(tmp_path):
    tags = "['the makers', 'Live: The Makers!', 'an album', 'SONG', 'song writing', 'makers of songs', 'Punk', '']"
    _publish(tmp_path, _track(2, track__tags=tags))
    (track,), skipped = _read(tmp_path)
    assert track.tags == ("Power-Pop", "Rock", "Punk", "song writing", "makers of songs")
    assert track.dropped_tags == ("Punk", "")
    assert skipped == ["tracks.csv: 4 tags of 1 tracks were dropped, which name artist, album or track"]
    assert _read(tmp_path, track_tags=False)[0][0].tags == ("Power-Pop", "Rock", "Punk")


def test_tracks_without_genres_or_tags_are_kept(tmp_path):
    _publish(tmp_path, _track(2, track__genres="[]", track__genres_all="[]", track__tags=""))
    (track,) = read_fma(tmp_path)
    assert track.tags == ()


OPEN = {
    "Attribution": "CC BY",
    "Creative Commons Attribution": "CC BY",
    "CC Attribution": "CC BY",
    "Attribution 3.0 United States": "CC BY 3.0",
    "Attribution 3.0 International": "CC BY 3.0",
    "Attribution 3.0 Unported": "CC BY 3.0",
    "Attribution 2.0 UK: England & Wales": "CC BY 2.0",
    "Creative Commons Attribution 4.0 International": "CC BY 4.0",
    "CC BY 4.0": "CC BY 4.0",
    "CC-BY 1.0": "CC BY 1.0",
    "http://creativecommons.org/licenses/by/3.0/us/": "CC BY 3.0",
    "CC0 1.0 Universal": "CC0 1.0",
    "CC0": "CC0 1.0",
    "Creative Commons Zero (CC0)": "CC0 1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "CC0 1.0",
}
CLOSED = [
    "",
    "Attribution-NonCommercial",
    "Attribution-Noncommercial 3.0 United States",
    "Attribution-Noncommercial-Share Alike 3.0 United States",
    "Attribution-NonCommercial-ShareAlike 3.0 International",
    "Attribution-NonCommercial-NoDerivatives (aka Music Sharing) 3.0 International",
    "Attribution-Noncommercial-No Derivative Works 3.0 Germany",
    "Creative Commons Attribution-NonCommercial-NoDerivatives 4.0",
    "Attribution-ShareAlike",
    "Attribution ShareAlike 4.0",
    "Attribution Share Alike 3.0 US",
    "Attribution-NoDerivatives 4.0 International",
    "Attribution-No Derivative Works 3.0",
    "Attribution NonCommercial",
    "Attribution Non-Commercial 4.0",
    "CC BY-NC 4.0",
    "CC BY SA 4.0",
    "CC BY NC",
    "http://creativecommons.org/licenses/by-nc/3.0/",
    "http://creativecommons.org/licenses/by-sa/3.0/",
    "FMA-Limited: Download Only",
    "FMA Sound Recording Common Law",
    "Sound Recording Common Law",
    "Free Art License",
    "Orphan work",
    "The Music Bed: Non-Commercial",
    "Public Domain Mark 1.0",
    "Sampling Plus 1.0",
    "Creative Commons Sampling+ 1.0",
    "All Rights Reserved",
    "No rights but attribution",
    "attribution required, all rights reserved",
    "https://example.org/creativecommons.org/licenses/by/4.0/",
    "not https://creativecommons.org/licenses/by/4.0/",
    "unlike https://creativecommons.org/licenses/by/4.0/",
    "CC0 for friends",
    "everything CC0 1.0",
]


@pytest.mark.parametrize(("title", "short"), [*OPEN.items(), *((title, None) for title in CLOSED)])
def test_only_cc0_and_plain_attribution_are_open(title, short):
    assert open_licence(title) == short
    assert open_licence(f"  {title.upper()} ") == short


def test_tracks_under_other_licences_are_counted_and_told_in_one_line_each(tmp_path):
    tracks = [_track(number, track__license=title) for number, title in enumerate([*CLOSED, *CLOSED, *OPEN], 1)]
    _publish(tmp_path, *tracks)
    read, skipped = _read(tmp_path)
    assert [track.licence for track in read] == [f"{short} ({title})" for title, short in OPEN.items()]
    assert {hub_licence(track.licence) for track in read} >= {"cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc0-1.0"}
    assert len(skipped) == len(CLOSED)
    left_out = "were left out; --set licences=all takes them"
    assert f"tracks.csv: 2 tracks under 'Orphan work' {left_out}" in skipped
    assert f"tracks.csv: 2 tracks that state no licence {left_out}" in skipped
    assert len(list(read_fma(tmp_path))) == len(OPEN)  # a choice, no fault: it needs no listener
    every = list(read_source("fma", tmp_path, ["licences=all"]))
    assert len(every) == len(tracks)
    assert every[1].licence == "Attribution-NonCommercial"
    _publish(tmp_path, *tracks[:3])
    with pytest.raises(TableError, match="has 3 tracks, none of them under CC0 or CC BY; take all with --set licences"):
        list(read_fma(tmp_path))
    with pytest.raises(UsageError, match="choose open or all"):
        list(read_fma(tmp_path, licences="any"))


def test_subsets_contain_the_smaller_ones_and_name_their_folder(tmp_path):
    _publish(tmp_path, *(_track(i, set__subset=name) for i, name in enumerate(("small", "medium", "large"), 1)))
    ids = {subset: [track.track_id for track in read_fma(tmp_path, subset=subset)] for subset in ("small", "medium")}
    assert ids == {"small": ["1"], "medium": ["1", "2"]}
    for subset in ("large", "full"):
        tracks = list(read_source("fma", tmp_path, [f"subset={subset}"]))
        assert [track.audio_path for track in tracks] == [f"fma_{subset}/000/00000{i}.mp3" for i in (1, 2, 3)]
    with pytest.raises(UsageError, match="choose small or medium or large or full"):
        list(read_fma(tmp_path, subset="tiny"))


def test_the_folder_of_the_audio_is_the_one_that_is_there(tmp_path):
    _publish(tmp_path, _track(123456))
    (tmp_path / "fma_full/123").mkdir(parents=True)
    assert [track.audio_path for track in read_fma(tmp_path)] == ["fma_full/123/123456.mp3"]
    assert [track.audio_path for track in read_fma(tmp_path, subset="small")] == ["fma_full/123/123456.mp3"]
    (tmp_path / "fma_small").mkdir()
    assert [track.audio_path for track in read_fma(tmp_path, subset="small")] == ["fma_small/123/123456.mp3"]
    (tmp_path / "fma_full/123").rmdir()
    (tmp_path / "fma_full").rmdir()
    assert [track.audio_path for track in read_fma(tmp_path)] == ["fma_small/123/123456.mp3"]
    (tmp_path / "fma_large").mkdir()
    assert [track.audio_path for track in read_fma(tmp_path)] == ["fma_large/123/123456.mp3"]


@pytest.mark.parametrize("where", [".", "fma_metadata", "fma_metadata/tracks.csv", ".."])
def test_root_may_be_the_corpus_the_metadata_or_the_folder_above(tmp_path, where):
    _publish(tmp_path / "fma", _track(2))
    (tmp_path / "fma/fma_small").mkdir()
    (track,) = read_fma((tmp_path / "fma" / where).resolve())
    prefix = "fma/" if where == ".." else ""
    assert track.audio_path == f"{prefix}fma_small/000/000002.mp3"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"track_id": "2x"}, "has the track_id '2x', expected a number of at most six digits"),
        ({"track_id": "../../etc"}, "has the track_id '../../etc'"),
        ({"track_id": "1234567"}, "has the track_id '1234567'"),
        ({"track_id": 1}, "repeats the track 1"),
        ({"set__split": "train"}, "has the split 'train' and subset 'small'"),
        ({"set__subset": ""}, "has the split 'training' and subset ''"),
        ({"track__genres": "[999]"}, "has the genre 999, which genres.csv does not know"),
        ({"track__genres": "['Rock']"}, "has the genre Rock, which genres.csv does not know"),
        ({"track__genres": "__import__('os')"}, "\"__import__('os')\" is no list"),
        ({"track__genres_all": "[" * 100_000}, "is no list"),
        ({"track__tags": "{'a': 1}"}, "\"{'a': 1}\" is no list"),
        ({"track__tags": "[['a']]"}, "track.tags holds more than words"),
        ({"track__tags": "[" + "'a', " * 300_000 + "]"}, "is a list of 1500002 characters, expected at most"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_the_others_are_read(tmp_path, changes, problem):
    _publish(tmp_path, _track(1), _track(2, **changes), _track(3))
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["1", "3"]
    assert len(skipped) == 1
    assert skipped[0].startswith("tracks.csv, line 9: ")  # a row takes three lines: two cells of HTML have two each
    assert problem in skipped[0]
    with pytest.raises(TableError, match=r"tracks\.csv, line 9: .*download fma_metadata\.zip again"):
        list(read_fma(tmp_path))


def test_a_row_that_was_cut_off_is_a_bad_row_and_a_cell_that_was_makes_a_bad_file(tmp_path):
    path = _publish(tmp_path, _track(1), _track(2)) / "fma_metadata/tracks.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b",Attribution")])
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["1"]
    assert "cells, expected at least" in skipped[0]
    path.write_bytes(whole[: whole.rindex(b"<b>two</b>")])
    with pytest.raises(TableError, match=r"tracks\.csv, line \d+: is damaged \(unexpected end of data\)"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tracks.csv", b"", "is not FMA's tracks.csv: it lacks track.genres"),
        ("tracks.csv", b"a,b\n1,2\n", "is not FMA's tracks.csv: it lacks track.genres"),
        ("tracks.csv", b"\xff\xfea,b", "is not UTF-8"),
        ("genres.csv", b"", "has the columns none, expected genre_id and title"),
        ("genres.csv", b"genre_id,title\n", "has no rows"),
        ("genres.csv", b"genre_id,title\nrock,12\n", "has a row without a number and title"),
        ("genres.csv", b"genre_id,title\n1,caf\xe9\n", "is not UTF-8"),
        ("genres.csv", None, "no such file; it comes with tracks.csv"),
    ],
)
def test_a_file_that_is_not_as_published_is_named_also_with_a_listener(tmp_path, name, content, problem):
    path = _publish(tmp_path, _track(1)) / "fma_metadata" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        _read(tmp_path)
    assert caught.value.item == str(path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_header_needs_all_three_lines_and_the_file_a_row(tmp_path):
    path = _publish(tmp_path, _track(1)) / "fma_metadata/tracks.csv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]), "utf-8")
    with pytest.raises(TableError, match="it has no third header line that begins with track_id"):
        list(read_fma(tmp_path))
    path.write_text("".join(lines[:3]), "utf-8")
    with pytest.raises(TableError, match="has no track that can be used"):
        list(read_fma(tmp_path))
    path.write_text("\ufeff" + "".join(lines).replace("\n", "\r\n"), "utf-8")  # as a spreadsheet saves it
    path.with_name("genres.csv").write_text("\ufeff" + GENRES, "utf-8")
    assert len(list(read_fma(tmp_path))) == 1
    with pytest.raises(TableError, match=r"has no fma_metadata/tracks\.csv; unpack fma_metadata\.zip"):
        list(read_fma(tmp_path / "fma_metadata" / "nowhere"))
