"""MTG-Jamendo as its repository is checked out: ragged tables, five splits, names and licences beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_builder.leaks import find_leaks
from dataset_builder.sources.mtg_jamendo import PARTS, read_mtg_jamendo
from dataset_builder.sources.options import read_source
from dataset_builder.tracks import TaggedTrack, write_tracks
from hub_cards.licences import audio_publishable
from lpmc_errors import TableError, UsageError

# Made here in the true format: CR LF, one tab a tag, and the names that the corpus gives its files.
HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
ROWS = [
    "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tmood/theme---background",
    "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---punkrock\tinstrument---guitar\tgenre---rock",
    "track_1376256\tartist_490499\talbum_161779\t56/1376256.mp3\t166.0\tgenre---ballad\tmood/theme---ballad",
    "track_0000007\tartist_000001\talbum_000002\t07/7.mp3\t31.0\tgenre---jazz",
    "track_0000008\tartist_000001\talbum_000002\t08/8.mp3\t31.0\tgenre---jazz",
]
SPLIT_0 = {"train": ROWS[:1], "validation": ROWS[1:2], "test": ROWS[2:4]}
SPLIT_1 = {"train": ROWS[2:4], "validation": ROWS[:1], "test": ROWS[1:2]}
BASE = "raw_30s_cleantags_50artists.tsv"
NAMES = [
    "TRACK_ID\tARTIST_ID\tALBUM_ID\tTRACK_NAME\tARTIST_NAME\tALBUM_NAME\tRELEASEDATE\tURL",
    'track_0000948\tartist_000087\talbum_000149\t12" "Mix\tBand\tAlbum\t2004-12-09\thttp://www.jamendo.com/track/948',
    "track_0000214\tartist_000014\talbum_000031\tTitle\t\tArtist\tAlbum\t\thttp://www.jamendo.com/track/214",
]
LICENCES = """\
48/948.mp3
Mix by Band from Jamendo: http://www.jamendo.com/track/948
Available under a Creative Commons Attribution license: http://creativecommons.org/licenses/by/3.0/

14/214.mp3
Available under a licence of mine: http://creativecommons.org/publicdomain/zero/1.0/
Available under a Creative Commons Attribution-NonCommercial license: http://creativecommons.org/licenses/by-nc/3.0/

56/1376256.mp3
Title by Artist from Jamendo: http://www.jamendo.com/track/1376256
Available under Licence Art Libre: http://artlibre.org/licence/lal
"""


def _table(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in (header, *rows)).encode())
    return path


def _publish(root: Path, rows: list[str] = ROWS, splits: dict[str, dict[str, list[str]]] | None = None) -> Path:
    """A checkout without links: `autotagging.tsv` is a small text file."""
    _table(root / "data" / BASE, rows)
    (root / "data/autotagging.tsv").write_bytes(BASE.encode())  # no line end
    for split, parts in (splits or {"0": SPLIT_0, "1": SPLIT_1}).items():
        for part in PARTS:
            _table(root / f"data/splits/split-{split}/autotagging-{part}.tsv", parts[part])
    _table(root / "data/raw.meta.tsv", NAMES[1:], NAMES[0])
    (root / "audio_licenses.txt").write_text(LICENCES, "utf-8")
    return root


def _read(root: Path, **options) -> tuple[list[TaggedTrack], list[tuple[str, str]]]:
    skipped: list[tuple[str, str]] = []
    tracks = read_mtg_jamendo(root, on_skip=lambda item, reason: skipped.append((str(item), reason)), **options)
    return list(tracks), skipped


def test_a_track_has_its_tags_without_category_its_facts_with_it_and_what_lies_beside(tmp_path):
    tracks, _ = _read(_publish(tmp_path))
    assert tracks[0] == TaggedTrack(
        track_id="track_0000948",
        tags=("background",),
        split="train",
        source="mtg_jamendo",
        licence="http://creativecommons.org/licenses/by/3.0/",
        audio_path="48/948.mp3",
        title='12" "Mix',
        artist="Band",
        album="Album",
        year=2004,
        extra={
            "artist_id": "artist_000087",
            "album_id": "album_000149",
            "duration": 212.7,
            "facts": {"genre": [], "instrument": [], "mood/theme": ["background"]},
        },
    )


def test_rows_of_any_length_are_read_with_tags_in_the_order_of_the_corpus(tmp_path):
    tracks, _ = _read(_publish(tmp_path))
    assert tracks[1].tags == ("punkrock", "guitar", "rock")
    assert tracks[1].extra["facts"] == {"genre": ["punkrock", "rock"], "instrument": ["guitar"], "mood/theme": []}


def test_a_word_that_two_categories_give_is_one_tag_and_stays_in_the_facts_of_both(tmp_path):
    track = _read(_publish(tmp_path))[0][2]
    assert track.tags == ("ballad",)
    assert track.dropped_tags == ("ballad",)
    assert track.extra["facts"] == {"genre": ["ballad"], "instrument": [], "mood/theme": ["ballad"]}


def test_empty_tag_cells_are_dropped_and_counted_and_a_track_without_tags_stays(tmp_path):
    rows = [f"{ROWS[0]}\t", "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t1.0"]
    tracks, skipped = _read(_publish(tmp_path, [*rows, *ROWS[2:]]))
    assert (tracks[0].tags, tracks[0].dropped_tags) == (("background",), ("",))
    assert (tracks[1].tags, tracks[1].dropped_tags) == ((), ())
    assert len(skipped) == 1  # the one in no split


def test_a_title_with_one_quote_swallows_no_lines_and_the_known_empty_cell_is_passed_over(tmp_path):
    tracks, skipped = _read(_publish(tmp_path))
    assert (tracks[1].title, tracks[1].artist, tracks[1].album, tracks[1].year) == ("Title", "Artist", "Album", None)
    assert [item for item, _ in skipped] == ["track_0000008"]


def test_titles_artists_and_albums_never_become_tags(tmp_path):
    assert not {"Band", "Album", "Mix"} & {tag for track in _read(_publish(tmp_path))[0] for tag in track.tags}


def test_the_splits_are_the_corpus_s_own_and_another_one_can_be_chosen(tmp_path):
    _publish(tmp_path)
    assert [track.split for track in _read(tmp_path)[0]] == ["train", "validation", "test", "test"]
    assert [track.split for track in _read(tmp_path, split="1")[0]] == ["validation", "test", "train", "train"]
    through_the_options = read_source("mtg_jamendo", tmp_path, ["split=1"], on_skip=lambda item, reason: None)
    assert [track.split for track in through_the_options] == ["validation", "test", "train", "train"]


def test_a_track_in_no_split_is_left_out_with_a_reason_and_is_no_error_where_nobody_listens(tmp_path):
    _publish(tmp_path)
    assert _read(tmp_path)[1] == [("track_0000008", "is in no file of split 0")]
    assert len(list(read_mtg_jamendo(tmp_path))) == 4


def test_without_a_split_every_track_is_read_and_song_describer_s_are_still_marked(tmp_path):
    tracks, skipped = _read(_publish(tmp_path), split="none")
    assert ({track.split for track in tracks}, len(tracks), skipped) == ({""}, 5, [])
    assert [track.extra.get("evaluation_pool") for track in tracks] == [None, None, *["song_describer"] * 2, None]


@pytest.mark.parametrize("split", ["0", "1"])
def test_the_tracks_song_describer_was_drawn_from_are_marked_whichever_split_is_chosen(tmp_path, split):
    tracks, _ = _read(_publish(tmp_path), split=split)
    marked = {track.track_id for track in tracks if track.extra.get("evaluation_pool") == "song_describer"}
    assert marked == {"track_1376256", "track_0000007"}


def test_training_on_another_split_is_found_out_as_a_leak_of_the_evaluation_pool(tmp_path):
    _publish(tmp_path)
    for split, leaking in (("0", set()), ("1", {"track_1376256", "track_0000007"})):
        output = tmp_path / f"{split}.parquet"
        write_tracks(_read(tmp_path, split=split)[0], output)
        assert set(find_leaks(output).training_ids) == leaking


def test_without_split_0_s_test_file_no_other_split_can_be_read(tmp_path):
    _publish(tmp_path)
    (tmp_path / "data/splits/split-0/autotagging-test.tsv").unlink()
    for split in ("1", "none"):
        with pytest.raises(TableError, match="cannot be kept apart from Song Describer's clips"):
            _read(tmp_path, split=split)


@pytest.mark.parametrize("split", ["0", "1"])
def test_a_split_file_that_was_cut_off_is_refused_for_it_guards_the_evaluation(tmp_path, split):
    _publish(tmp_path)
    path = tmp_path / "data/splits/split-0/autotagging-test.tsv"
    for cut in (3, 20):
        path.write_bytes(_table(path, SPLIT_0["test"]).read_bytes()[:-cut])
        with pytest.raises(TableError, match=r"ends in the middle of a line|cells, expected"):
            _read(tmp_path, split=split)


def test_a_track_in_two_parts_of_a_split_is_refused(tmp_path):
    _publish(tmp_path, splits={"0": SPLIT_0 | {"train": [ROWS[0], ROWS[2]]}})
    with pytest.raises(TableError, match="has the track track_1376256, which is in test and in train"):
        _read(tmp_path)


def test_tracks_that_a_split_names_and_the_table_lacks_are_told(tmp_path):
    _, skipped = _read(_publish(tmp_path, ROWS[:3]))
    assert skipped[-1][1] == "lacks 1 tracks that the files of split 0 name (track_0000007, ...)"


def test_a_missing_split_file_is_named_with_where_to_get_it(tmp_path):
    _publish(tmp_path)
    with pytest.raises(TableError, match=r"split-3.autotagging-train\.tsv: no such file of the split; download the "):
        _read(tmp_path, split="3")


@pytest.mark.parametrize("link", ["text", "symbolic"])
def test_the_table_is_followed_through_its_link_however_the_checkout_stored_it(tmp_path, link):
    path = _publish(tmp_path) / "data/autotagging.tsv"
    if link == "symbolic":
        path.unlink()
        path.symlink_to(BASE)
    assert len(_read(tmp_path)[0]) == 4


def test_a_link_whose_target_was_not_downloaded_is_explained(tmp_path):
    path = _publish(tmp_path) / "data/autotagging.tsv"
    (tmp_path / "data" / BASE).unlink()
    with pytest.raises(TableError, match=f"stands for the file '{BASE}', which is not there; download {BASE} as well"):
        _read(tmp_path)
    path.unlink()
    path.symlink_to(BASE)
    with pytest.raises(TableError, match=f"is a link to {BASE}, which is not there"):
        _read(tmp_path)


@pytest.mark.parametrize("target", ["../../secret.tsv", "/etc/secret.tsv", "C:\\secret.tsv"])
def test_a_link_stored_as_text_never_leads_out_of_the_corpus(tmp_path, target):
    root = _publish(tmp_path / "corpus")
    _table(tmp_path / "secret.tsv", ROWS)
    (root / "data/autotagging.tsv").write_text(target)
    with pytest.raises(TableError, match="leads out of the corpus"):
        _read(root)


def test_a_link_stored_as_text_that_names_itself_ends(tmp_path):
    path = _publish(tmp_path) / "data/autotagging.tsv"
    path.write_text("autotagging.tsv")
    with pytest.raises(TableError, match="leads back to itself"):
        _read(tmp_path)


def test_the_root_may_be_the_repository_its_data_folder_the_one_above_or_the_table(tmp_path):
    root = _publish(tmp_path / "above/mtg-jamendo-dataset")
    expected, _ = _read(root)
    for given in (tmp_path / "above", root / "data", root / "data/autotagging.tsv", root / "data" / BASE):
        assert _read(given)[0] == expected, given


def test_a_subset_has_its_own_table_and_splits_also_where_its_table_is_named(tmp_path):
    _publish(tmp_path)
    genre = [f"{line.split('genre---')[0]}genre---jazz" for line in ROWS[1:4]]
    path = _table(tmp_path / "data/autotagging_genre.tsv", genre)
    for part, rows in (("train", genre[:1]), ("validation", genre[1:2]), ("test", genre[2:])):
        _table(tmp_path / f"data/splits/split-0/autotagging_genre-{part}.tsv", rows)
    tracks, _ = _read(tmp_path, subset="genre")
    assert [track.split for track in tracks] == ["train", "validation", "test"]
    assert [track.extra.get("evaluation_pool") for track in tracks] == [None, "song_describer", "song_describer"]
    assert _read(path)[0] == tracks
    (tmp_path / "data/splits/split-0/autotagging-test.tsv").unlink()  # then the subset's own test tracks are marked
    assert [track.extra.get("evaluation_pool") for track in _read(path)[0]] == [None, None, "song_describer"]


def test_the_smaller_download_has_other_file_names(tmp_path):
    _publish(tmp_path)
    paths = [track.audio_path for track in read_source("mtg_jamendo", tmp_path, ["audio_low=yes"])]
    assert paths[:2] == ["48/948.low.mp3", "14/214.low.mp3"]


def test_the_licence_is_that_of_the_track_s_block_and_no_title_can_pose_as_one(tmp_path):
    tracks, _ = _read(_publish(tmp_path))
    assert [track.licence for track in tracks] == [
        "http://creativecommons.org/licenses/by/3.0/",
        "http://creativecommons.org/licenses/by-nc/3.0/",
        "http://artlibre.org/licence/lal",
        "",  # no block
    ]
    publishable = [audio_publishable("mtg_jamendo", track.licence) for track in tracks]
    assert publishable == [True, True, False, False]


def test_a_second_block_for_a_track_changes_no_licence(tmp_path):
    _publish(tmp_path)
    with (tmp_path / "audio_licenses.txt").open("a") as file:
        file.write("\n48/948.mp3\nX by Y\nAvailable under CC0: http://creativecommons.org/publicdomain/zero/1.0/\n")
    tracks, skipped = _read(tmp_path)
    assert tracks[0].licence == "http://creativecommons.org/licenses/by/3.0/"
    assert "states the licence of 48/948.mp3 a second time" in skipped[0][1]


def test_without_the_files_of_names_and_licences_these_are_unknown(tmp_path):
    _publish(tmp_path)
    (tmp_path / "data/raw.meta.tsv").unlink()
    (tmp_path / "audio_licenses.txt").unlink()
    track = _read(tmp_path)[0][0]
    assert (track.title, track.artist, track.year, track.licence) == (None, None, None, "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("track_0000948\tartist_000087", "has 2 cells, expected five and the tags"),
        ("948\tartist_000087\talbum_000149\t48/948.mp3\t1.0\tgenre---a", "has TRACK_ID '948', expected the form"),
        ("track_0000948\t87\talbum_000149\t48/948.mp3\t1.0\tgenre---a", "has ARTIST_ID '87', expected the form"),
        ("track_0000948\tartist_000087\talbum_000149\t../../etc/passwd\t1.0", "has the path '../../etc/passwd', "),
        ("track_0000948\tartist_000087\talbum_000149\t/48/948.mp3\t1.0", "has the path '/48/948.mp3', expected"),
        ("track_0000948\tartist_000087\talbum_000149\t48/948.mp3\tsoon", "has the duration 'soon', expected seconds"),
        ("track_0000948\tartist_000087\talbum_000149\t48/948.mp3\tnan", "has the duration 'nan', expected seconds"),
        ("track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t1.0\trock", "has the tag 'rock', expected one of"),
        ("track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t1.0\tmood---rock", "has the tag 'mood---rock'"),
        (
            "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t1.0\tgenre---ro\0ck",
            r"has the tag 'genre---ro\x00ck",
        ),
        (ROWS[1], "repeats the track track_0000214"),
    ],
)
def test_a_bad_line_is_left_out_by_its_number_or_stops_where_nobody_listens(tmp_path, line, problem):
    _publish(tmp_path, [ROWS[1], line, ROWS[2]])
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["track_0000214", "track_1376256"]
    assert skipped[0][0].endswith(f"{BASE}, line 3")
    assert problem in skipped[0][1]
    with pytest.raises(TableError, match="line 3"):
        list(read_mtg_jamendo(tmp_path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (f"{HEADER}\r\n".encode(), "has no track that can be used"),
        (b"\xff\xfb\x90\x44" * 50, "is not UTF-8"),
        (f"{HEADER}\r\n{ROWS[0]}\tgenre---ar\xeda\r\n".encode("latin-1"), r"line 2: is not UTF-8 \(byte 0xed\)"),
        (b"<!doctype html>\n<html>" + b"x" * 2000, "expected the columns TRACK_ID ARTIST_ID"),
        (HEADER.encode() + b"\r\n" + b"genre" * 400_000, "line 2: is longer than"),
    ],
)
def test_another_or_a_damaged_file_is_named(tmp_path, content, problem):
    _publish(tmp_path)
    (tmp_path / "data" / BASE).write_bytes(content)
    with pytest.raises(TableError, match=problem):
        _read(tmp_path)


def test_a_byte_order_mark_and_unix_line_ends_change_nothing(tmp_path):
    expected, _ = _read(_publish(tmp_path))
    path = tmp_path / "data" / BASE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n"))
    assert _read(tmp_path)[0] == expected


def test_a_bad_line_of_names_costs_the_names_alone(tmp_path):
    _publish(tmp_path)
    _table(tmp_path / "data/raw.meta.tsv", [*NAMES[1:], "track_0000007\tartist_000001\tshort", NAMES[1]], NAMES[0])
    tracks, skipped = _read(tmp_path)
    assert [(track.track_id, track.title) for track in tracks[::3]] == [
        ("track_0000948", '12" "Mix'),
        ("track_0000007", None),
    ]
    assert [reason[:24] for _, reason in skipped[:2]] == ["has 3 cells, expected 8 ", "repeats the track track_"]


@pytest.mark.parametrize("name", ["data/raw.meta.tsv", "audio_licenses.txt"])
def test_a_wrong_file_of_names_or_licences_is_not_taken_for_one_that_is_missing(tmp_path, name):
    (_publish(tmp_path) / name).write_text("TRACK_ID\n" if name.endswith(".tsv") else "404: Not Found")
    with pytest.raises(TableError, match=r"names no track|states no track's licence"):
        _read(tmp_path)


@pytest.mark.parametrize("options", [{"split": "5"}, {"split": "train"}, {"subset": "moods"}])
def test_an_unknown_split_or_subset_is_answered_with_the_choice(tmp_path, options):
    with pytest.raises(UsageError, match=r"is no choice of MTG-Jamendo; take one of (0, 1|all, top50tags)"):
        _read(_publish(tmp_path), **options)


def test_a_folder_without_the_table_says_what_was_looked_for(tmp_path):
    with pytest.raises(TableError, match=r"has no data/autotagging\.tsv; give a checkout of https://github\.com/MTG"):
        _read(tmp_path)
