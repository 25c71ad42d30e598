"""MSD-ECALS as it is published: one large JSON object, four lists of ids, and pickles that nobody should open."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.sources import json_members, msd_ecals
from dataset_builder.sources.json_members import read_members
from dataset_builder.sources.msd_ecals import LICENCE, read_msd_ecals
from dataset_builder.sources.options import read_source
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from hub_cards.licences import audio_publishable, hub_licence
from lpmc_errors import TableError, UsageError

A, B, C, D = "TRAAAAA128F0000001", "TRBBBBB128F0000002", "TRCCCCC128F0000003", "TRDDDDD128F0000004"
LISTS = {"train_track": [A], "extra_track": [B], "valid_track": [C], "test_track": [D]}


def _member(track_id: str, *tags: str, **changes: Any) -> dict[str, Any]:
    names = {"release": "A Record", "artist_name": "Somebody", "year": 2001, "title": "A Song"}
    return {"tag": list(tags or ("rock", "00s")), **names, "track_id": track_id} | changes


FOUR = {name: _member(name) for name in (A, B, C, D)}


def _publish(root: Path, annotation: Any = None, lists: Any = None, tags: Any = ("00s", "rock", "sad")) -> Path:
    """`annotation` is an object, or text or bytes that stand in the file as they are."""
    folder = root / "ecals_annotation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "annotation.json": FOUR if annotation is None else annotation,
        "ecals_track_split.json": LISTS if lists is None else lists,
        "ecals_tags.json": tags,
    }.items():
        if content is not None:
            text = content if isinstance(content, (str, bytes)) else json.dumps(content)
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


class _Skipped(list[tuple[str, str]]):
    def __call__(self, item: object, reason: str) -> None:
        self.append((str(item), reason))


def test_a_track_has_its_tags_its_names_and_the_list_it_came_from(tmp_path):
    root = _publish(tmp_path, FOUR | {A: _member(A, "rock", " sad", "rock", "", title="  Ñandú ", release="")})
    assert next(read_msd_ecals(root)) == TaggedTrack(
        track_id=A,
        tags=("rock", "sad"),
        split="train",
        source="msd_ecals",
        licence=LICENCE,
        audio_path=None,
        title="Ñandú",
        artist="Somebody",
        album=None,
        year=2001,
        extra={"split_list": "train_track"},
        dropped_tags=("rock", ""),
    )
    assert hub_licence(LICENCE) == "unknown"
    assert not audio_publishable("msd_ecals", LICENCE)


def test_training_is_the_train_list_and_the_extra_list(tmp_path):
    tracks = list(read_msd_ecals(_publish(tmp_path)))
    assert [(track.track_id, track.split) for track in tracks] == [
        (A, "train"),
        (B, "train"),
        (C, "valid"),
        (D, "test"),
    ]
    assert [track.extra["split_list"] for track in tracks] == list(LISTS)


@pytest.mark.parametrize(
    ("year", "expected"), [(0, None), (None, None), (1969, 1969), (1969.0, 1969), (float("nan"), None)]
)
def test_the_year_zero_is_unknown(tmp_path, year, expected):
    root = _publish(tmp_path, FOUR | {A: _member(A, year=year)})
    assert next(read_msd_ecals(root)).year == expected


def test_names_that_are_missing_or_look_like_numbers_are_text_or_none(tmp_path):
    root = _publish(tmp_path, FOUR | {A: _member(A, title=1979, release=None, artist_name=float("nan"))})
    track = next(read_msd_ecals(root))
    assert (track.title, track.album, track.artist) == ("1979", None, None)


def test_a_track_without_tags_is_kept_and_a_tag_outside_the_vocabulary_stays_and_is_named(tmp_path):
    root = _publish(tmp_path, FOUR | {A: _member(A) | {"tag": []}, B: _member(B, "rock", "acordion")})
    first, second, *_ = read_msd_ecals(root)
    assert (first.tags, first.extra) == ((), {"split_list": "train_track"})
    assert second.tags == ("rock", "acordion")
    assert second.extra == {"split_list": "extra_track", "tags_outside_vocabulary": ["acordion"]}
    (root / "ecals_annotation/ecals_tags.json").unlink()  # it is optional
    assert list(read_msd_ecals(root))[1].extra == {"split_list": "extra_track"}


def test_ids_that_annotation_and_splits_do_not_share_are_told_of(tmp_path):
    skipped = _Skipped()
    annotation = {name: FOUR[name] for name in (A, B, D)} | {"TRX": _member("TRX")}
    root = _publish(tmp_path, annotation)
    assert [track.track_id for track in read_msd_ecals(root, on_skip=skipped)] == [A, B, D]
    folder = root / "ecals_annotation"
    assert skipped == [
        (f"{folder}/annotation.json, 'TRX'", "is in no list of ecals_track_split.json"),
        (f"{folder}/ecals_track_split.json, {C!r}", "is in valid_track and has no annotation"),
    ]
    with pytest.raises(TableError, match="'TRX': is in no list"):
        list(read_msd_ecals(root))
    _publish(tmp_path, {name: FOUR[name] for name in (A, B, D)})
    with pytest.raises(TableError, match="is in valid_track and has no annotation"):
        list(read_msd_ecals(root))


def test_an_id_in_two_splits_is_in_neither(tmp_path):
    skipped = _Skipped()
    root = _publish(tmp_path, lists=LISTS | {"test_track": [D, A], "valid_track": [C, A]})
    assert [track.track_id for track in read_msd_ecals(root, on_skip=skipped)] == [B, C, D]
    listed = f"{root}/ecals_annotation/ecals_track_split.json, {A!r}"
    assert skipped == [(listed, "is in train_track and in valid_track, so in neither split")]
    with pytest.raises(TableError, match="in neither split"):
        list(read_msd_ecals(root))


def test_an_id_that_is_listed_twice_for_one_split_counts_once_and_is_told_of(tmp_path):
    skipped = _Skipped()
    root = _publish(tmp_path, lists=LISTS | {"extra_track": [B, A]})
    tracks = list(read_msd_ecals(root, on_skip=skipped))
    assert [(track.track_id, track.extra["split_list"]) for track in tracks][:2] == [
        (A, "train_track"),
        (B, "extra_track"),
    ]
    assert len(tracks) == 4
    assert [reason for _, reason in skipped] == ["is in extra_track again, after train_track; it counts once"]


BAD_MEMBERS = [
    ([], "is list, expected an object"),
    ({"tag": ["rock"]}, "has no 'release'"),
    (_member("TRZ"), "has the track_id 'TRZ'"),
    (_member(A) | {"tag": "rock, sad"}, "has tags that are no list of text"),
    (_member(A) | {"tag": ["rock", None]}, "has tags that are no list of text"),
    (_member(A, "ro\ud800ck"), "has characters in its id or tags that are no text"),
    (_member(A, "ro\0ck"), "has characters in its id or tags that are no text"),
    (_member(A, title="\udc00"), "has characters in title that are no text"),
    (_member(A, title=["x"]), "has list for title, expected text"),
    (_member(A, artist_name=True), "has bool for artist_name, expected text"),
    (_member(A, year="1999"), "has '1999' for year"),
    (_member(A, year=19), "has '19' for year"),
    (_member(A, year=1999.5), "has '1999.5' for year"),
    (_member(A, year=float("inf")), "has 'inf' for year"),
    (_member(A, year=True), "has 'True' for year"),
    (_member(A, year=False), "has 'False' for year"),
]


@pytest.mark.parametrize(("member", "problem"), BAD_MEMBERS, ids=[problem for _, problem in BAD_MEMBERS])
def test_a_bad_member_is_left_out_and_named_by_its_id(tmp_path, member, problem):
    skipped = _Skipped()
    root = _publish(tmp_path, FOUR | {A: member})
    tracks = list(read_msd_ecals(root, on_skip=skipped))
    assert [track.track_id for track in tracks] == [B, C, D]
    assert skipped == [(f"{root}/ecals_annotation/annotation.json, {A!r}", problem)]
    with pytest.raises(TableError, match="correct or remove it"):
        list(read_msd_ecals(root))
    write_tracks(tracks, tmp_path / "tracks.parquet")


def test_an_id_that_is_annotated_twice_counts_once(tmp_path):
    skipped = _Skipped()
    members = ", ".join(f"{json.dumps(name)}: {json.dumps(FOUR[name])}" for name in (A, B, A, C, D))
    root = _publish(tmp_path, "{" + members + "}")
    assert [track.track_id for track in read_msd_ecals(root, on_skip=skipped)] == [A, B, C, D]
    assert [reason for _, reason in skipped] == ["is annotated a second time"]


def test_the_folder_its_annotation_folder_and_the_file_read_the_same(tmp_path):
    root = _publish(tmp_path)
    expected = list(read_source("msd_ecals", root))
    assert len(expected) == 4
    assert list(read_source("msd_ecals", root / "ecals_annotation")) == expected
    assert list(read_source("msd_ecals", root / "ecals_annotation/annotation.json")) == expected
    (root / "musiccaps").mkdir()
    (root / "musiccaps/annotation.json").write_text("{}")  # the released code keeps several corpora side by side
    assert list(read_source("msd_ecals", root)) == expected


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ({**LISTS, "train_track": None}, "has no list train_track"),
        ({"train_track": [A]}, "has no list extra_track, valid_track, test_track"),
        ([A], "has no list train_track"),
        ({**LISTS, "test_track": [7]}, "has '7' in test_track, expected ids"),
        ("{", "is no valid JSON"),
        ("", "is no valid JSON"),
        (b"\xff\xfe{", "is no valid JSON"),
        ("[" * 100_000, "is no valid JSON"),
    ],
)
def test_splits_that_are_not_as_published_are_refused(tmp_path, lists, problem):
    with pytest.raises(TableError, match=problem):
        list(read_msd_ecals(_publish(tmp_path, lists=lists), on_skip=_Skipped()))


def test_missing_files_are_named_with_the_place_to_get_them(tmp_path):
    with pytest.raises(TableError, match=r"has no annotation\.json; download ecals_annotation from https://zenodo"):
        list(read_msd_ecals(tmp_path))
    _publish(tmp_path)
    (tmp_path / "ecals_annotation/ecals_track_split.json").unlink()
    with pytest.raises(TableError, match=r"ecals_track_split\.json: no such file; keep it beside annotation\.json"):
        list(read_msd_ecals(tmp_path, on_skip=_Skipped()))  # without it, every track would be trained on
    for foreign in ({"rock": 1}, [1]):
        _publish(tmp_path, tags=foreign)
        with pytest.raises(TableError, match=r"ecals_tags\.json: is no list of tags"):
            list(read_msd_ecals(tmp_path, on_skip=_Skipped()))


def test_a_file_that_is_read_whole_and_far_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(msd_ecals, "MAX_BYTES", 50)
    with pytest.raises(TableError, match=r"ecals_track_split\.json: has more than 50 bytes"):
        list(read_msd_ecals(_publish(tmp_path)))


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("", "is empty"),
        ("{}", "has no track that can be used"),
        ("[]", "is no JSON object"),
        ("\n \n", "is no JSON object"),
        (json.dumps(FOUR)[:-40], f"is cut off or no valid JSON after the member {C!r}"),
        (json.dumps(FOUR)[:-1], f"is cut off or no valid JSON after the member {C!r}"),
        (json.dumps(FOUR)[:20], r"is cut off or no valid JSON at the first member"),
        (json.dumps(FOUR) * 2, "goes on behind the end of the object"),
        (json.dumps(FOUR)[:-1] + ",}", "expected a name in double quotes"),
        (json.dumps(FOUR).replace('}, "TRC', '} "TRC'), f"after the member {A!r} .expected a comma or the end"),
        (json.dumps(FOUR).replace(': {"tag"', ' {"tag"'), "expected a colon"),
        ("{" + f'"{A}": ' + "[" * 100_000, "is nested too deeply at the first member"),
        ("{" + f'"{A}": ' + "9" * 5000 + "}", "is cut off or no valid JSON at the first member"),
        (json.dumps(FOUR).encode().replace(b"A Song", b"A S\xf6ng"), "is not UTF-8 .byte 0xf6"),
        (b"PK\x03\x04", "is no JSON object"),
    ],
)
def test_an_annotation_that_is_damaged_or_another_file_is_refused_also_when_rows_may_be_skipped(
    tmp_path, annotation, problem
):
    with pytest.raises(TableError, match=problem):
        list(read_msd_ecals(_publish(tmp_path, annotation), on_skip=_Skipped()))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1000])
def test_members_are_whole_wherever_the_file_is_cut_into_chunks(tmp_path, monkeypatch, chunk):
    members = {"a": 12345, 'ü\\"': [1, {"b": None}], "": "x, }", "n": -1.5e3, "t": True}
    path = tmp_path / "members.json"
    path.write_text("\ufeff \r\n" + json.dumps(members, indent=2) + "\r\n\r\n", "utf-8", newline="")
    monkeypatch.setattr(json_members, "CHUNK", chunk)
    assert dict(read_members(path)) == members


def test_a_member_larger_than_any_track_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_members, "CHUNK", 100)
    monkeypatch.setattr(json_members, "MAX_MEMBER", 1000)
    path = tmp_path / "members.json"
    path.write_text('{"small": 1, "large": "' + "x" * 100_000)
    with path.open() as file:
        members = json_members._members(path, file)
        assert next(members) == ("small", 1)
        with pytest.raises(TableError, match="after the member 'small'"):
            next(members)
        assert file.tell() < 2000


SEVEN = {A: "8134074", B: 2, C: "8134076"}
PREVIEW = {"8134074": "8/1/8134074.clip.mp3", 2: "2/2.clip.mp3", "1": "1/1.clip.mp3"}
PATHS = {A: "8/1/8134074.clip.mp3", B: "2/2.clip.mp3"}


def _pickle(root: Path, first: bytes, second: bytes) -> Path:
    folder = root / "lastfm_annotation"
    folder.mkdir(exist_ok=True)
    (folder / "MSD_id_to_7D_id.pkl").write_bytes(first)
    (folder / "7D_id_to_path.pkl").write_bytes(second)
    return root


@pytest.mark.parametrize("name", ["paths.json", "paths.csv", "paths.tsv", "paths.jsonl", "published.parquet"])
def test_audio_paths_come_from_a_table_or_a_json_object_of_the_users_own(tmp_path, name):
    file = tmp_path / name
    rows = [{"track_id": key, "path": path} for key, path in {**PATHS, "TRother": "1/1.clip.mp3"}.items()]
    if name == "paths.json":
        file.write_text(json.dumps({row["track_id"]: row["path"] for row in rows}), "utf-8-sig")
    elif name.endswith(".jsonl"):
        file.write_text("\n".join(map(json.dumps, rows)))
    elif name.endswith(".parquet"):  # as the published captions, where a path may be null
        columns = {"track_id": [row["track_id"] for row in rows] + [C], "path": [row["path"] for row in rows] + [None]}
        pq.write_table(pa.table(columns | {"title": ["x"] * 4}), file)
    else:
        sign = "," if name.endswith("csv") else "\t"
        file.write_text("".join(f"{sign.join(row)}\n" for row in [("track_id", "path"), *(r.values() for r in rows)]))
    tracks = read_source("msd_ecals", _publish(tmp_path), [f"paths={file}"])
    assert [track.audio_path for track in tracks] == ["8/1/8134074.clip.mp3", "2/2.clip.mp3", None, None]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("../../home/me/x.mp3", "leads out of the folder"),
        ("/data/x.mp3", "names the absolute path"),
        ("8/1/../../../x.mp3", "leads out of the folder"),
        ("C:/x.mp3", "names the absolute path"),
        ("8\\..\\..\\x.mp3", "leads out of the folder"),
        ("8/\0.mp3", "has characters that no path has"),
        ("8/\ud800.mp3", "has characters that no path has"),
        (".", "which is no file's"),
        ("8/1/", "which is no file's"),
        (7, "has int for a path"),
    ],
)
def test_a_path_that_leads_out_is_told_of_and_not_taken(tmp_path, path, problem):
    skipped = _Skipped()
    file = tmp_path / "paths.json"
    file.write_text(json.dumps({A: path, B: "8/1/ü (live).mp3"}))
    tracks = list(read_msd_ecals(_publish(tmp_path), paths=file, on_skip=skipped))
    assert [track.audio_path for track in tracks] == [None, "8/1/ü (live).mp3", None, None]
    assert skipped[0][0] == f"{file}, {A!r}"
    assert problem in skipped[0][1]


def test_an_id_with_two_paths_keeps_the_first_and_is_told_of(tmp_path):
    skipped = _Skipped()
    file = tmp_path / "paths.csv"
    file.write_text(f"track_id,path\n{A},1.mp3\n{A},2.mp3\n")
    assert next(read_msd_ecals(_publish(tmp_path), paths=file, on_skip=skipped)).audio_path == "1.mp3"
    assert skipped == [(f"{file}, {A!r}", "comes a second time")]


def test_a_file_of_paths_that_is_missing_foreign_or_of_other_ids_is_named(tmp_path):
    root = _publish(tmp_path)
    with pytest.raises(TableError, match="no such table file"):
        list(read_msd_ecals(root, paths=tmp_path / "nowhere.json"))
    (tmp_path / "paths.csv").write_text("id,file\n1,2\n")
    with pytest.raises(TableError, match="has the columns id, file; it needs track_id and path"):
        list(read_msd_ecals(root, paths=tmp_path / "paths.csv"))
    (tmp_path / "paths.json").write_text('{"SO1": "1.mp3"}')
    with pytest.raises(TableError, match=r"has no path of a track in ecals_track_split\.json"):
        list(read_msd_ecals(root, paths=tmp_path / "paths.json"))
    with pytest.raises(UsageError, match="give one of the two"):
        list(read_msd_ecals(root, paths=tmp_path / "paths.csv", pickles=True))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_pickles_give_the_paths_when_they_are_allowed_and_are_not_opened_by_default(tmp_path, protocol):
    root = _pickle(_publish(tmp_path), pickle.dumps(SEVEN, protocol), pickle.dumps(PREVIEW, protocol))
    for where in (root, root / "ecals_annotation", root / "ecals_annotation/annotation.json"):
        tracks = read_source("msd_ecals", where, ["pickles=true"])
        assert [track.audio_path for track in tracks] == ["8/1/8134074.clip.mp3", "2/2.clip.mp3", None, None]
    for name in ("MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl"):
        (root / "lastfm_annotation" / name).write_bytes(b"no pickle")
    assert [track.audio_path for track in read_source("msd_ecals", root)] == [None] * 4
    with pytest.raises(TableError, match="is no pickled dictionary that can be read"):
        list(read_source("msd_ecals", root, ["pickles=true"]))


class _Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_key", [True, False])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_runs_none_in_either_mode(tmp_path, protocol, as_key):
    trap = tmp_path / "trapped"
    evil = {A: _Bomb(trap)} if not as_key else {_Bomb(trap): A}
    good = pickle.dumps(PREVIEW, protocol)
    root = _pickle(_publish(tmp_path), pickle.dumps(evil, protocol), good)
    assert len(list(read_source("msd_ecals", root))) == 4
    with pytest.raises(TableError, match="holds more than text and whole numbers"):
        list(read_source("msd_ecals", root, ["pickles=true"], on_skip=_Skipped()))
    root = _pickle(root, pickle.dumps(SEVEN, protocol), pickle.dumps({"8134074": _Bomb(trap)}, protocol))
    with pytest.raises(TableError, match="holds more than text and whole numbers"):
        list(read_source("msd_ecals", root, ["pickles=true"], on_skip=_Skipped()))
    assert not trap.exists()
    pickle.loads(pickle.dumps(_Bomb(trap)))  # it would have worked
    assert trap.exists()


def test_missing_pickles_are_named(tmp_path):
    with pytest.raises(TableError, match=r"has no MSD_id_to_7D_id\.pkl; keep it in lastfm_annotation"):
        list(read_msd_ecals(_publish(tmp_path), pickles=True))


def test_the_tracks_survive_the_tracks_table(tmp_path):
    tracks = list(read_msd_ecals(_publish(tmp_path, FOUR | {A: _member(A, "acordion", title='a "b"\n\tc')})))
    write_tracks(tracks, tmp_path / "tracks.parquet")
    assert list(read_tracks(tmp_path / "tracks.parquet")) == tracks
