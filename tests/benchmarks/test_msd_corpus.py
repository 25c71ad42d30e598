"""The synthetic MSD-ECALS that the benchmarks are run on: does it look like what is published of the real one?"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from statistics import mean, median, pstdev

import pytest

from benchmarks import msd_corpus
from dataset_builder.captioning.captions_table import CaptionRow, read_captions, read_pipeline
from dataset_builder.leaks import find_leaks
from dataset_builder.sources import load_source
from dataset_builder.tracks import count_tracks, write_tracks

ROWS = 4_000


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    msd_corpus.write_release(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def tracks(release: Path) -> Path:
    """The tracks table that the project's own reader makes of the release."""
    write_tracks(load_source("msd_ecals")(release), release / "tracks.parquet")
    return release / "tracks.parquet"


def read_json(release: Path, name: str) -> dict:
    return json.loads((release / "ecals_annotation" / name).read_text())


def test_the_files_are_those_of_the_real_release(release: Path) -> None:
    annotation = read_json(release, "annotation.json")
    assert len(annotation) == ROWS
    for track_id, song in annotation.items():
        assert list(song) == ["tag", "release", "artist_name", "year", "title", "track_id"]
        assert song["track_id"] == track_id
        assert len(track_id) == 18
        assert track_id.startswith("TR")
    tags = set(read_json(release, "ecals_tags.json"))
    assert len(tags) == 1_054
    assert {tag for song in annotation.values() for tag in song["tag"]} <= tags
    assert mean(song["year"] == 0 for song in annotation.values()) == pytest.approx(0.484, abs=0.03)


def test_every_track_stands_in_one_list_of_the_split_file(release: Path) -> None:
    lists = read_json(release, "ecals_track_split.json")
    assert list(lists) == ["train_track", "extra_track", "valid_track", "test_track"]
    assert sorted(itertools.chain.from_iterable(lists.values())) == sorted(read_json(release, "annotation.json"))
    assert all(lists.values())


def test_a_release_of_full_size_has_the_published_rows_in_each_split() -> None:
    assert msd_corpus.split_sizes(513_977) == {"train": 444_865, "valid": 34_481, "test": 34_631}
    assert sum(msd_corpus.split_sizes(514_000).values()) == 514_000
    with pytest.raises(ValueError, match="too few"):
        msd_corpus.split_sizes(2)


def test_tags_and_tag_sets_are_as_many_as_published(release: Path) -> None:
    tagged = [song["tag"] for song in read_json(release, "annotation.json").values()]
    assert all(len(set(tags)) == len(tags) for tags in tagged)
    assert mean(map(len, tagged)) == pytest.approx(10.2, abs=0.5)
    assert median(map(len, tagged)) == pytest.approx(8, abs=1)
    assert len({frozenset(tags) for tags in tagged}) / ROWS == pytest.approx(139_541 / 513_977, abs=0.03)
    frequent = Counter(tag for tags in tagged for tag in tags).most_common()
    assert frequent[0][1] > 100 * frequent[-1][1]  # some are everywhere and most are rare, as in any tag vocabulary


def test_the_project_reads_every_track_and_finds_no_artist_in_two_splits(tracks: Path) -> None:
    assert count_tracks(tracks) == ROWS
    assert not find_leaks(tracks)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(release: Path, tmp_path: Path) -> None:
    def annotation(folder: Path) -> bytes:
        return (folder / "ecals_annotation/annotation.json").read_bytes()

    msd_corpus.write_release(tmp_path / "again", ROWS)
    msd_corpus.write_release(tmp_path / "other", ROWS, seed=1)
    assert annotation(tmp_path / "again") == annotation(release)
    assert annotation(tmp_path / "other") != annotation(release)


def test_captions_have_the_published_lengths_and_some_failed(tracks: Path) -> None:
    rows = list(msd_corpus.caption_rows(tracks))
    assert len(rows) == 4 * ROWS
    lengths = [len(row.caption.split()) for row in rows if row.outcome == "ok" and row.caption]
    assert mean(lengths) == pytest.approx(37.3, abs=1)
    assert pstdev(lengths) == pytest.approx(26.8, abs=1)
    shares = Counter(row.outcome for row in rows)
    for outcome, share in msd_corpus.FAILED.items():
        assert shares[outcome] / len(rows) == pytest.approx(share, rel=0.4)
    kept = [row for row in rows if row.outcome != "ok" and row.caption]
    assert kept
    assert {(row.outcome, row.caption_origin) for row in kept} == {("rejected", "template")}


def test_shuffled_captions_are_the_same_rows_in_another_order(tracks: Path, tmp_path: Path) -> None:
    msd_corpus.write_synthetic_captions(tracks, tmp_path / "ordered.parquet")
    msd_corpus.write_synthetic_captions(tracks, tmp_path / "shuffled.parquet", shuffled=True)
    ordered, shuffled = (list(read_captions(tmp_path / f"{name}.parquet")) for name in ("ordered", "shuffled"))

    def key(row: CaptionRow) -> tuple[str, str]:
        return row.track_id, row.instruction

    assert ordered != shuffled
    assert sorted(ordered, key=key) == sorted(shuffled, key=key)
    neighbours = sum(one.track_id == next_one.track_id for one, next_one in itertools.pairwise(shuffled))
    assert neighbours < 10
    assert read_pipeline(tmp_path / "shuffled.parquet") == read_pipeline(tmp_path / "ordered.parquet") != {}
