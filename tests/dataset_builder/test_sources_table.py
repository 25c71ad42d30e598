"""The user's own tables: what people really have in them, and one clear line for what cannot be read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.sources.table import parse_tags, read_table
from dataset_builder.tracks import TaggedTrack
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
    assert parse_tags(cell) == tags


def test_an_explicit_separator_switches_the_rules_off():
    assert parse_tags("rock/[live]/a, b", "/") == ("rock", "[live]", "a, b")


@pytest.mark.parametrize("cell", ["['rock' 'jazz']", "[rock, jazz]", "[1, [2]]", 7, {"rock": 1}, "[__import__('os')]"])
def test_tags_that_are_no_list_of_words_are_refused(cell):
    with pytest.raises(ValueError):
        parse_tags(cell)


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


def test_captions_may_be_one_or_several_and_later_json_rows_may_leave_columns_out(tmp_path):
    path = _write(
        tmp_path / "a.jsonl",
        '{"id": "1", "tags": "a", "caption": ["One.", "Two."]}\n{"id": "2"}\n'
        '{"id": "3", "tags": "b", "caption": "[Live] one."}\n',
    )
    assert [track.reference_captions for track in read_table(path)] == [("One.", "Two."), (), ("[Live] one.",)]


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
