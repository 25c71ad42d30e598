"""Does anything of an evaluation set stand in the training data, and is nothing accused that does not?"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.leaks import KINDS, LeakFinder, LeakReport, find_leaks, is_training
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import TableError


def track(track_id: str, split: str, source: str = "fma", artist: str | None = None, **extra: object) -> TaggedTrack:
    return TaggedTrack(track_id, ("rock",), split=split, source=source, artist=artist, extra=extra)


def leaks_of(*tracks: TaggedTrack) -> LeakReport:
    finder = LeakFinder()
    for each in tracks:
        finder.add(each.track_id, each.split, each.source, each.artist, each.extra)
    return finder.finish()


@pytest.mark.parametrize("split", ["", "train", "Training", "extra", "train_extra", "fold_3", "all"])
def test_unknown_and_missing_split_names_count_as_training(split: str) -> None:
    assert is_training(split)


@pytest.mark.parametrize(
    "split", ["valid", "validation", "Test", "test-clean", "dev", "eval", "held-out", "holdout", "omitted"]
)
def test_evaluation_splits_and_omitted_doublets_are_no_training(split: str) -> None:
    assert not is_training(split)


def test_an_artist_in_train_and_test_is_named_with_counts_splits_and_an_example() -> None:
    report = leaks_of(
        track("1", "train", artist_id="7"),
        track("2", "train", artist_id="7"),
        track("3", "test", artist_id="7"),
        track("4", "validation", artist_id="7"),
        track("5", "train", artist_id="8"),
    )
    (leak,) = report.leaks
    assert (leak.kind, leak.item, leak.training_tracks, leak.evaluation_tracks) == ("artist", "7", 2, 2)
    assert leak.splits == ("train", "test", "validation")
    assert leak.example == "1"
    assert report.training_ids == {"1", "2"}
    assert report.by_kind == {"artist": 2}
    assert report.between_evaluations == {"artist": 1}


def test_clean_splits_give_an_empty_report_that_is_false() -> None:
    report = leaks_of(track("1", "train", artist_id="7"), track("2", "test", artist_id="8", recording_id="r"))
    assert report == LeakReport()
    assert not report


def test_nothing_added_gives_an_empty_report() -> None:
    assert leaks_of() == LeakReport()


def test_artist_names_meet_across_corpora_without_case_width_and_spacing() -> None:
    report = leaks_of(
        track("1", "train", "fma", "SIGUR  Rós", artist_id="7"), track("2", "test", "mtt", "ｓigur rós ", artist_id="9")
    )
    assert [(leak.item, leak.training_tracks, leak.evaluation_tracks) for leak in report.leaks] == [("sigur rós", 1, 1)]


def test_two_artists_of_one_name_in_one_corpus_are_two_when_their_ids_say_so() -> None:
    assert not leaks_of(
        track("1", "train", artist="Karma", artist_id="7"), track("2", "test", artist="Karma", artist_id="8")
    )


def test_a_name_leaks_within_a_corpus_when_one_of_the_rows_has_no_id() -> None:
    report = leaks_of(track("1", "train", artist="Karma", artist_id="7"), track("2", "test", artist="karma"))
    assert report.training_ids == {"1"}


def test_ids_of_different_corpora_are_different_artists() -> None:
    assert not leaks_of(track("1", "train", "fma", artist_id="7"), track("2", "test", "msd_ecals", artist_id="7"))


@pytest.mark.parametrize(
    "name", ["Various Artists", "unknown", " ", "N/A", "Traditional", "Anonymous", "V.A.", "[unknown]"]
)
def test_names_that_name_nobody_never_leak(name: str) -> None:
    assert not leaks_of(track("1", "train", artist=name), track("2", "test", artist=name))


def test_clips_of_one_recording_in_two_splits_leak() -> None:
    report = leaks_of(
        track("a1", "train", "magnatagatune", recording_id="http://he3.magnatune.com/x.mp3"),
        track("a2", "valid", "magnatagatune", recording_id="http://he3.magnatune.com/x.mp3"),
    )
    assert [(leak.kind, leak.item) for leak in report.leaks] == [("recording", "http://he3.magnatune.com/x.mp3")]


def test_recording_ids_of_different_corpora_do_not_meet_but_youtube_ids_do() -> None:
    assert not leaks_of(track("1", "train", "fma", recording_id="5"), track("2", "test", "slakh", recording_id="5"))
    report = leaks_of(
        track("[x]-[0-10]", "train", "mine", ytid="x"),
        track("[x]-[30-40]", "test", "musiccaps", ytid="x", recording_id="x"),
    )
    assert report.by_kind == {"recording": 1}
    assert report.leaks[0].item == "x"


def test_a_song_describer_track_is_found_under_its_mtg_jamendo_id() -> None:
    report = leaks_of(
        track("track_0000948", "train", "mtg_jamendo", artist_id="artist_000087"),
        track("track_0009480", "train", "mtg_jamendo", artist_id="artist_000870"),
        track("948", "test", "song_describer", artist_id="87"),
    )
    assert report.by_kind == {"track": 1, "artist": 1}
    assert report.training_ids == {"track_0000948"}
    assert [leak.item for leak in report.leaks] == ["948", "87"]


def test_jamendos_ids_are_one_space_for_all_three_corpora_and_other_corpora_have_their_own() -> None:
    assert leaks_of(track("948", "train", "jamendo_max_caps"), track("948", "test", "song_describer"))
    assert not leaks_of(track("948", "train", "fma"), track("948", "test", "song_describer"))


@pytest.mark.parametrize("value", [True, "True", "true", 1, "1", 1.0])
def test_an_audioset_evaluation_clip_in_train_leaks_by_value(value: object) -> None:
    report = leaks_of(track("1", "train", "musiccaps", is_audioset_eval=value))
    assert [(leak.kind, leak.item, leak.example) for leak in report.leaks] == [("audioset_eval", "musiccaps", "1")]


@pytest.mark.parametrize("value", [False, "False", 0, None, ""])
def test_a_clip_outside_audiosets_evaluation_set_may_be_trained_on(value: object) -> None:
    assert not leaks_of(track("1", "train", "musiccaps", is_audioset_eval=value))


def test_evaluation_corpora_and_pools_must_not_stand_in_training() -> None:
    report = leaks_of(
        track("1", "", "song_describer"),
        track("2", "train", "mtg_jamendo", evaluation_pool="song_describer"),
        track("3", "test", "mtg_jamendo", evaluation_pool="song_describer"),
        track("4", "test", "song_describer"),
    )
    assert [(leak.kind, leak.item, leak.training_tracks, leak.example) for leak in report.leaks] == [
        ("evaluation_only", "song_describer", 1, "1"),
        ("evaluation_pool", "song_describer", 1, "2"),
    ]
    assert report.training_ids == {"1", "2"}


def test_what_valid_and_test_share_is_counted_and_no_reason_to_refuse() -> None:
    report = leaks_of(
        track("1", "valid", recording_id="r", artist="Foo"),
        track("2", "test", recording_id="r", artist="Foo"),
        track("3", "test", recording_id="s", artist="Foo"),
    )
    assert not report
    assert report.between_evaluations == {"artist": 1, "recording": 1}


def test_artists_of_one_name_and_different_ids_share_no_evaluation_splits() -> None:
    report = leaks_of(track("1", "valid", artist="Foo", artist_id="1"), track("2", "test", artist="Foo", artist_id="2"))
    assert report.between_evaluations == {}


def test_omitted_doublets_neither_leak_nor_make_others_leak() -> None:
    assert not leaks_of(
        track("1", "omitted", "slakh", recording_id="u"),
        track("2", "test", "slakh", recording_id="u"),
        track("3", "omitted", "slakh", recording_id="v"),
        track("4", "train", "slakh", recording_id="v"),
    )


def test_leaks_come_gravest_kind_first_then_largest() -> None:
    report = leaks_of(
        *(track(f"a{n}", "train", artist="Small" if n == 0 else "Large") for n in range(3)),
        track("t1", "test", artist="Small"),
        track("t2", "test", artist="Large"),
        track("e", "train", "musiccaps", is_audioset_eval=True),
    )
    assert [leak.item for leak in report.leaks] == ["musiccaps", "large", "small"]
    assert list(report.by_kind) == [kind for kind in KINDS if kind in report.by_kind]


def test_a_tracks_table_is_searched_as_its_tracks_are(tmp_path: Path) -> None:
    table = tmp_path / "tracks.parquet"
    write_tracks(
        [track("1", "train", artist="Foo", artist_id="7"), track("2", "test", artist_id="7"), track("3", "")], table
    )
    report = find_leaks(table)
    assert report.training_ids == {"1"}
    assert report.leaks[0].item == "7"


def test_a_table_with_ids_and_tags_alone_has_no_leaks(tmp_path: Path) -> None:
    pq.write_table(pa.table({"track_id": ["1"], "tags": [["rock"]]}), tmp_path / "t.parquet")
    assert find_leaks(tmp_path / "t.parquet") == LeakReport()


def test_extra_that_is_no_json_is_named_with_its_track(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"track_id": ["9"], "tags": [["rock"]], "extra": ['{"artist_id": ']}), tmp_path / "t.parquet"
    )
    with pytest.raises(TableError, match=r"track '9'.*no JSON object"):
        find_leaks(tmp_path / "t.parquet")


def test_extra_that_is_a_list_is_ignored(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"track_id": ["9"], "tags": [["rock"]], "extra": [json.dumps(["artist_id"])]}), tmp_path / "t.parquet"
    )
    assert not find_leaks(tmp_path / "t.parquet")
