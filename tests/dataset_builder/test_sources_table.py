"""The user's own tables: what people really have in them, and one clear line for what cannot be read."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.leaks import LeakFinder
from dataset_builder.sources.options import read_source
from dataset_builder.sources.table import read_table, split_tags
from dataset_builder.tracks import TaggedTrack, clean_tags
from lpmc_errors import TableError

PROJECT = Path(__file__).resolve().parents[2]


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def _fault(path: Path, **options: str) -> str:
    with pytest.raises(TableError) as caught:
        list(read_table(path, **options))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert caught.value.remedy
    return message.removeprefix(str(path))


def test_all_recognised_columns_are_read_and_ids_stay_text(tmp_path):
    path = _write(
        tmp_path / "own.csv",
        "\ufeffTrack_ID,Tags,Path,Title,Artist_Name,Release,Year,Split,License,Caption,Mine\r\n"
        '007,"rock, loud guitar",a/007.mp3,T,A,R,1999.0,valid,CC BY 4.0,A loud song.,x\r\n'
        "\r\n"
        "8,,,,,,,,,,\r\n",
    )
    assert list(read_table(path)) == [
        TaggedTrack(
            track_id="007",
            tags=("rock", "loud guitar"),
            split="valid",
            source="table",
            licence="CC BY 4.0",
            audio_path="a/007.mp3",
            reference_captions=("A loud song.",),
            title="T",
            artist="A",
            album="R",
            year=1999,
        ),
        TaggedTrack(track_id="8", tags=(), source="table"),  # a track without tags stays in
    ]


def test_the_same_rows_come_out_of_every_format(tmp_path):
    rows = [{"id": "1", "tags": ["jazz", "slow"], "year": 1960}, {"id": "2", "tags": [], "year": None}]
    _write(tmp_path / "a.json", json.dumps(rows, indent=1))
    _write(tmp_path / "a.jsonl", "\r\n".join(json.dumps(row) for row in rows) + "\r\n\r\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    _write(tmp_path / "a.tsv", "id\ttags\tyear\n1\tjazz, slow\t1960\n2\t\t\n")
    _write(tmp_path / "a.csv", 'id;tags;year\n1;"jazz, slow";1960\n2;;\n')  # as spreadsheets write it in Europe
    read = {path.suffix: list(read_table(path)) for path in tmp_path.iterdir()}
    assert len(read) == 5
    assert all(tracks == read[".csv"] for tracks in read.values())
    assert [track.tags for track in read[".csv"]] == [("jazz", "slow"), ()]
    assert [track.year for track in read[".csv"]] == [1960, None]


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ('["rock", "r\'n\'b"]', ("rock", "r'n'b")),
        ("['rock', \"drum 'n' bass\"]", ("rock", "drum 'n' bass")),
        ("rock, pop ,rock", ("rock", "pop")),
        ("rock; slow, sad; pop", ("rock", "slow, sad", "pop")),
        ("rock|a;b|c, d", ("rock", "a;b", "c, d")),
        ("just one", ("just one",)),
        ("[]", ()),
        ("  ", ()),
        (None, ()),
        (["rock", None, " pop "], ("rock", "pop")),
    ],
)
def test_tags_are_split_by_the_stated_rule(cell, tags):
    assert clean_tags(split_tags(cell)) == tags


def test_an_explicit_separator_switches_the_rules_off():
    assert split_tags("rock/[live]/a, b", "/") == ["rock", "[live]", "a, b"]


@pytest.mark.parametrize("cell", ["['rock' 'jazz']", "[rock, jazz]", "[1, [2]]", 7, {"rock": 1}, "[__import__('os')]"])
def test_tags_that_are_no_list_of_words_are_refused(cell):
    with pytest.raises(ValueError):
        split_tags(cell)


def test_named_columns_are_taken_and_their_absence_names_the_columns_there_are(tmp_path):
    path = _write(tmp_path / "own.csv", "number,words,tags\n1,a|b,no\n")
    assert _fault(path) == (
        ": has no column for the id (track_id, id, clip_id, fname, file_name); it has number, words, tags; "
        "name it with --set id_column=NAME"
    )
    assert "has no column 'wrods'; it has number, words, tags; name it with --set tags_column=NAME" in _fault(
        path, id_column="number", tags_column="wrods"
    )
    assert [track.tags for track in read_table(path, id_column="number", tags_column="words")] == [("a", "b")]
    untagged = _write(tmp_path / "untagged.csv", "id,title\n1,x\n")
    assert "has no column for the tags" in _fault(untagged)


def test_repeated_ids_are_all_named_with_their_lines(tmp_path):
    path = _write(tmp_path / "own.csv", "id,tags\na,x\nb,x\na,x\nb,y\n")
    assert _fault(path).startswith(": ids occur twice: 'a' (2 and 4), 'b' (3 and 5); make them unique")
    many = _write(tmp_path / "many.csv", "id,tags\n" + "a,x\n" * 9)
    assert "and 3 more" in _fault(many)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("no.csv", None, ": no such table file"),
        ("empty.csv", "", ": is empty"),
        ("header.csv", "id,tags\n", ": has no rows"),
        ("blank.csv", "\n\n", ": has no header"),
        ("twice.csv", "id,tags,tags\n1,a,b\n", ": has two columns named 'tags'"),
        ("latin.csv", b"id,tags\n1,caf\xe9\n", ": is not UTF-8 (byte 0xe9"),
        ("wide.csv", "\ufeffid,tags\n1,a\n".encode("utf-16"), ": is not UTF-8 (byte 0xff"),
        ("ragged.csv", "id,tags\n1,a\n2,b,c\n", ", line 3: has 3 cells, expected 2 as in the header"),
        ("short.tsv", "id\ttags\n1\n", ", line 2: has 1 cells, expected 2"),
        ("quote.csv", 'id,tags\n1,"' + "x" * 140_000, ", line 2: is not readable as CSV"),
        ("noid.csv", "id,tags\n ,a\n", ", line 2: has no id"),
        ("tags.csv", "id,tags\n1,\"['a' 'b']\"\n", ", line 2: has tags that cannot be read"),
        ("bad.jsonl", '{"id": 1, "tags": []}\n{"id": 2', ", line 2: is no valid JSON"),
        ("list.jsonl", "[1]\n", ", line 1: holds list, expected an object"),
        ("bad.json", '[{"id": 1, "tags": []}, {"id": ', ", row 2: is no valid JSON"),
        ("object.json", '{"a": {}}', ": is no list of objects"),
        ("none.json", "[]", ": has no rows"),
        ("words.json", '["a"]', ", row 1: holds str, expected an object"),
        ("not.parquet", "PAR1 no", ": is not readable as Parquet"),
        ("table.xlsx", "x", ": has the unknown ending '.xlsx'"),
    ],
)
def test_a_table_that_cannot_be_read_gives_one_line(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        _write(path, content)
    assert _fault(path).startswith(problem)


def test_a_folder_stands_for_its_only_table(tmp_path):
    _write(tmp_path / "a.csv", "id,tags\n1,x\n")
    assert [track.track_id for track in read_table(tmp_path)] == ["1"]
    _write(tmp_path / "b.tsv", "id\ttags\n1\tx\n")
    assert "is a folder with 2 table files (a.csv, b.tsv)" in _fault(tmp_path)


def test_numbers_as_ids_and_embedded_audio_come_out_of_parquet(tmp_path):
    audio = pa.array([{"bytes": b"0" * 1000, "path": "x.flac"}] * 2)
    columns = {"id": pa.array([7.0, 8.0]), "tags": pa.array([["a"], None]), "audio": audio}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    tracks = list(read_table(tmp_path / "a.parquet"))
    assert [(track.track_id, track.tags, track.audio_path) for track in tracks] == [
        ("7", ("a",), "x.flac"),
        ("8", (), "x.flac"),
    ]


@pytest.mark.parametrize("name", ["a.parquet", "saved"])
def test_embedded_audio_is_told_of_row_by_row_without_loading_it(tmp_path, name):
    audio = [{"bytes": b"fLaC", "path": "/home/me/1.flac"}, None, {"bytes": None, "path": "/home/me/3.flac"}]
    table = pa.table({"id": ["1", "2", "3"], "tags": [["x"]] * 3, "audio": audio})
    if name == "saved":
        datasets.Dataset(table).save_to_disk(tmp_path / name)
    else:
        pq.write_table(table, tmp_path / name, row_group_size=1)
    tracks = list(read_table(tmp_path / name))
    assert [track.audio_path for track in tracks] == ["1.flac", None, "3.flac"]
    assert [track.has_embedded_audio for track in tracks] == [True, False, False]


def test_half_a_surrogate_pair_makes_a_bad_row_and_an_escaped_character_does_not(tmp_path):
    rows = [{"id": "a\ud800", "tags": "x"}, {"id": "b", "tags": "\U0001f600"}, {"id": "c", "tags": ["\udc00"]}]
    lines = _write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    listed = _write(tmp_path / "a.json", json.dumps(rows))
    for path in (lines, listed):
        tracks, skipped = _listen(path)
        assert [(track.track_id, track.tags) for track in tracks] == [("b", ("\U0001f600",))]
        assert len(skipped) == 2
        assert all("half a surrogate pair" in line for line in skipped)


def test_columns_that_tell_of_leaks_are_kept(tmp_path):
    path = _write(
        tmp_path / "a.csv", "id,tags,ytid,artist_id,is_audioset_eval,mood\n1,x,-abc,1,1,glad\n2,x,,0,False,sad\n"
    )
    tracks = list(read_table(path))
    assert [track.extra for track in tracks] == [
        {"ytid": "-abc", "artist_id": "1", "is_audioset_eval": True},
        {"artist_id": "0", "is_audioset_eval": False},
    ]
    finder = LeakFinder()
    for track in tracks:
        finder.add(track.track_id, track.split, track.source, track.artist, track.extra)
    assert finder.finish().training_ids == {"1"}


def test_captions_may_be_one_or_several_and_later_json_rows_may_leave_columns_out(tmp_path):
    path = _write(
        tmp_path / "a.jsonl",
        '{"id": "1", "tags": "a", "caption": ["One.", "Two."]}\n{"id": "2"}\n'
        '{"id": "3", "tags": "b", "caption": "[Live] one."}\n',
    )
    assert [track.reference_captions for track in read_table(path)] == [("One.", "Two."), (), ("[Live] one.",)]


def _listen(root: Path, **options: str) -> tuple[list[TaggedTrack], list[str]]:
    skipped: list[str] = []
    tracks = list(read_table(root, on_skip=lambda item, why: skipped.append(f"{item}: {why}"), **options))
    return tracks, [line.removeprefix(f"{root}") for line in skipped]


def test_bad_rows_are_left_out_and_named_where_somebody_listens(tmp_path):
    path = _write(
        tmp_path / "own.csv",
        "id,tags,audio\n"
        "a,x,a.mp3\n"
        "b,x\n"
        " ,x,c.mp3\n"
        "d,\"['x' 'y']\",d.mp3\n"
        "a,y,a.mp3\n"
        "f,x,../f.mp3\n"
        "g,x,/home/me/g.mp3\n"
        "h,x,C:\\music\\h.mp3\n"
        "i,x,sub\\./i.mp3\n"
        "j,x,https://example.org/j.mp3\n",
    )
    tracks, skipped = _listen(path)
    assert [(track.track_id, track.audio_path) for track in tracks] == [
        ("a", "a.mp3"),
        ("i", "sub/i.mp3"),
        ("j", None),
    ]
    assert [line.partition(" (")[0] for line in skipped] == [
        ", line 3: has 2 cells, expected 3 as in the header",
        ", line 4: has no id",
        ", line 5: has tags that cannot be read",
        ", line 6: repeats the id 'a' of an earlier row",
        ", line 7: names the path '../f.mp3', which leads out of the folder of the audio",
        ", line 8: names the absolute path '/home/me/g.mp3', expected one relative to the folder of the audio",
        ", line 9: names the absolute path 'C:\\\\music\\\\h.mp3', expected one relative to the folder of the audio",
    ]
    lines = _write(tmp_path / "own.jsonl", '{"id": "a", "tags": []}\n{"id"\n[1]\n' + "[" * 100_000 + '\n{"tags": []}\n')
    tracks, skipped = _listen(lines)
    assert [track.track_id for track in tracks] == ["a"]
    assert [line.partition(" (")[0] for line in skipped] == [
        ", line 2: is no valid JSON",
        ", line 3: holds list, expected an object",
        ", line 4: is no valid JSON",
        ", line 5: has no id",
    ]
    _write(path, "id,tags\n,x\n")
    with pytest.raises(TableError, match="has no row that can be used"):
        _listen(path)


@pytest.mark.parametrize(
    "cell", ["[" * 200_000, "[" + "1," * 600_000 + "]", "[" + "-" * 100_000 + "1]", '["' + "x" * 2**20]
)
def test_a_cell_that_would_take_the_memory_is_a_bad_row(tmp_path, cell):
    path = _write(tmp_path / "own.jsonl", json.dumps({"id": "1", "tags": cell}) + '\n{"id": "2", "tags": "x"}\n')
    tracks, skipped = _listen(path)
    assert [track.track_id for track in tracks] == ["2"]
    assert ", line 1: has tags that cannot be read" in skipped[0]
    assert len(skipped[0]) < 300


def test_a_tag_of_one_space_does_not_make_a_list_look_printed(tmp_path):
    cell = """['sad', ' ', 'sad', '', "80's"]""".replace('"', '""')
    (track,) = read_table(_write(tmp_path / "own.csv", f'id,tags\n1,"{cell}"\n'))
    assert (track.tags, track.dropped_tags) == (("sad", "80's"), ("", "sad", ""))


def test_licence_and_split_stand_for_the_rows_that_state_none(tmp_path):
    path = _write(tmp_path / "own.csv", "id,tags,licence,split\n1,x,,\n2,x,CC0 1.0,test\n")
    tracks = list(read_source("table", path, ["licence=CC BY 4.0", "split=train"]))
    assert [(track.licence, track.split) for track in tracks] == [("CC BY 4.0", "train"), ("CC0 1.0", "test")]


@pytest.mark.parametrize("name", ["own.csv.gz", "own.jsonl.gz", "OWN.TSV.GZ"])
def test_compressed_text_is_read_and_a_torn_archive_named(tmp_path, name):
    texts = {"csv": "id,tags\n1,x\n", "jsonl": '{"id": "1", "tags": "x"}\n', "TSV": "id\ttags\n1\tx\n"}
    text = texts[name.split(".")[1]]
    path = _write(tmp_path / name, gzip.compress(text.encode()))
    assert [(track.track_id, track.tags) for track in read_table(path)] == [("1", ("x",))]
    for torn in (path.read_bytes()[:-9], b"no gzip", gzip.compress(text.encode())[:10] + b"\xff" * 20):
        assert ": is not readable as gzip" in _fault(_write(path, torn))


ROWS = [{"id": f"{number:03d}", "tags": ["rock", "loud"], "title": "T"} for number in range(7)]


def _data_set(rows: list[dict]) -> datasets.Dataset:
    """With audio bytes inside, as the Audio feature stores them."""
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "tags": datasets.List(datasets.Value("string")),
            "title": datasets.Value("string"),
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        }
    )
    rows = [row | {"audio": {"bytes": b"0" * 1000, "path": f"/home/me/.cache/{row['id']}.flac"}} for row in rows]
    return datasets.Dataset.from_list(rows, features=features)


def test_a_saved_data_set_is_read_with_its_splits_and_without_its_audio(tmp_path):
    both = datasets.DatasetDict(train=_data_set(ROWS[:5]), test=_data_set(ROWS[5:]))
    both.save_to_disk(str(tmp_path / "both"), num_shards={"train": 2, "test": 1})
    tracks = list(read_table(tmp_path / "both"))
    assert [track.track_id for track in tracks] == [row["id"] for row in ROWS]
    assert [track.split for track in tracks] == ["train"] * 5 + ["test"] * 2
    assert tracks[0].tags == ("rock", "loud")
    assert tracks[0].audio_path == "000.flac"  # never the path of the machine that saved it
    _data_set(ROWS).save_to_disk(str(tmp_path / "one"))
    assert [track.split for track in read_table(tmp_path / "one", split="train")] == ["train"] * 7
    (tmp_path / "both/train/data-00000-of-00002.arrow").write_bytes(b"torn")
    assert "train/data-00000-of-00002.arrow: is not readable as Arrow" in _fault(tmp_path / "both")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("dataset_dict.json", "{", "/dataset_dict.json: is no valid JSON"),
        ("dataset_dict.json", "[]", "/dataset_dict.json: holds no JSON object"),
        ("dataset_dict.json", '{"splits": ["../other"]}', "/dataset_dict.json: names no splits"),
        ("dataset_dict.json", '{"splits": ["gone"]}', "/gone/state.json: cannot be read"),
        ("state.json", '{"_data_files": []}', "/state.json: names no data files"),
        ("state.json", '{"_data_files": [{"filename": "../a.arrow"}]}', "/state.json: names no data files in its own"),
        ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}', "/state.json: names no data files in its own"),
        ("state.json", '{"_data_files": [{"filename": "a.arrow"}]}', "/a.arrow: no such table file"),
        (
            "state.json",
            '{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i.arrow"}]}',
            ": is a data set with an index file",
        ),
    ],
)
def test_a_saved_data_set_that_leads_elsewhere_or_is_torn_is_refused(tmp_path, name, content, problem):
    _write(tmp_path / name, content)
    assert _fault(tmp_path).startswith(problem)


def _parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/valid-00000-of-00001.parquet"),
        ("data/train-00000-of-00002-0a1b.parquet", "data/train-00001-of-00002-0a1b.parquet", "data/valid.parquet"),
        ("msd/train-00000-of-00002.parquet", "msd/train-00001-of-00002.parquet", "msd/valid-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/valid/0000.parquet"),
        ("train/0000.parquet", "train/0001.parquet", "valid/0000.parquet"),
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "valid-00000-of-00001.parquet"),
    ],
)
def test_a_directory_of_shards_is_read_with_the_splits_of_their_names(tmp_path, names):
    for name, rows in zip(names, (ROWS[:3], ROWS[3:5], ROWS[5:])):
        _parquet(tmp_path / name, rows)
    _write(tmp_path / "README.md", "x")
    _parquet(tmp_path / ".cache" / "train-00000-of-00001.parquet", ROWS)
    tracks = list(read_table(tmp_path))
    assert [(track.track_id, track.split) for track in tracks] == [
        (row["id"], "train" if number < 5 else "valid") for number, row in enumerate(ROWS)
    ]


def test_rows_may_state_their_own_split_and_repeat_no_id_of_another_file(tmp_path):
    _write(tmp_path / "train.csv", "id,tags,split\n1,x,extra\n2,x,\n")
    _write(tmp_path / "test.csv", "id,tags\n3,x\n")
    assert [(track.track_id, track.split) for track in read_table(tmp_path)] == [
        ("3", "test"),
        ("1", "extra"),
        ("2", "train"),
    ]
    _write(tmp_path / "test.csv", "id,tags\n2,x\n")
    tracks, skipped = _listen(tmp_path)
    assert [track.track_id for track in tracks] == ["2", "1"]
    assert skipped == ["/train.csv, line 3: repeats the id '2' of an earlier row"]
    assert ": ids occur twice: '2'" in _fault(tmp_path)
    _write(tmp_path / "train.csv", "id,words\n1,x\n")
    assert "train.csv: has no column for the tags" in _fault(tmp_path)


def test_one_of_several_configurations_must_be_named(tmp_path):
    for config in ("msd", "mtt"):
        _parquet(tmp_path / config / "train-00000-of-00001.parquet", [{"id": config, "tags": ["x"]}])
    assert ": holds 2 tables (msd, mtt); name one with --set config=NAME" in _fault(tmp_path)
    assert [track.track_id for track in read_source("table", tmp_path, ["config=mtt"])] == ["mtt"]
    assert ": has no configuration 'mc'; it has msd, mtt" in _fault(tmp_path, config="mc")


def test_a_missing_shard_is_named(tmp_path):
    for name in ("train-00000-of-00003.parquet", "train-00002-of-00003.parquet"):
        _parquet(tmp_path / "data" / name, ROWS[:1])
    assert "data: lacks shard 1 of the 3 of split train" in _fault(tmp_path)


def test_numbers_of_classes_are_read_by_their_names(tmp_path):
    label = datasets.ClassLabel(names=["jazz", "rock"])
    text = datasets.Value("string")
    features = datasets.Features({"id": text, "tags": datasets.List(label), "genre": label})
    rows = [{"id": "1", "tags": [1, 0], "genre": 1}, {"id": "2", "tags": [-1], "genre": None}]
    data_set = datasets.Dataset.from_list(rows, features=features)
    data_set.save_to_disk(str(tmp_path / "saved"))
    data_set.to_parquet(str(tmp_path / "a.parquet"))
    for path in (tmp_path / "saved", tmp_path / "a.parquet"):
        assert [track.tags for track in read_table(path)] == [("rock", "jazz"), ()]
        assert [track.tags for track in read_table(path, tags_column="genre")] == [("rock",), ()]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_large_table_is_streamed_in_little_memory(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    rows = 60_000
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(("track_id", "tags", "caption"))
            writer.writerows((str(row), "['rock', 'loud', 'electric guitar']", "x" * 400) for row in range(rows))
        else:
            items = ({"track_id": str(row), "tags": ["rock", "loud"], "caption": "x" * 400} for row in range(rows))
            file.write("[" + ",\n".join(map(json.dumps, items)) + "]")
    script = (
        "import resource, sys; from pathlib import Path; from dataset_builder.sources.table import read_table;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "rows = sum(1 for _ in read_table(Path(sys.argv[1])));"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, cwd=PROJECT)
    read, growth = map(int, done.stdout.split())
    unit = 1024 if sys.platform != "darwin" else 1
    assert read == rows
    assert growth * unit < 24 * 2**20 < path.stat().st_size  # less than the file itself; resource counts in KiB


def test_what_a_build_wrote_is_read_again_with_its_splits(tmp_path):
    import small_corpus

    from dataset_builder.build import build_dataset

    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(8))
    build_dataset(corpus.captions, corpus.tracks, config="mine", output=tmp_path / "lp-musiccaps")

    for root in (tmp_path / "lp-musiccaps", tmp_path / "lp-musiccaps/mine"):
        found = list(read_table(root))
        assert {track.track_id: track.split for track in found}["t5"] == "valid"
        assert [track.tags for track in found if track.track_id == "t0"] == [("rock", "piano", "mood 0")]
        assert len(found) == 8
