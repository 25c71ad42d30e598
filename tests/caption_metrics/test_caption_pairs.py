"""Reading predictions from the files that systems write, and naming what is wrong with a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caption_metrics.pairs import Pair, read_captions_file, read_pairs
from lpmc_errors import TableError

ROWS = [
    {"prediction": "A piano, softly.", "ground_truth": 'A "soft" piano.'},
    {"prediction": "", "ground_truth": "Zwei Gitarren, ümlaut."},
]
EXPECTED = [Pair("A piano, softly.", ('A "soft" piano.',)), Pair("", ("Zwei Gitarren, ümlaut.",))]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["inference.json", "rows.jsonl", "rows.csv", "rows.tsv", "rows.parquet", "ROWS.JSON"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.lower(), ROWS)
    if name.isupper():
        path = path.rename(tmp_path / name)
    assert read_pairs(path) == EXPECTED


def test_several_references_and_tags_are_read_from_parquet(tmp_path: Path) -> None:
    rows = [{"caption": "A tuba.", "reference_captions": ["A tuba.", "Brass."], "tags": ["tuba", "brass"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "captions.parquet")
    assert read_pairs(tmp_path / "captions.parquet") == [Pair("A tuba.", ("A tuba.", "Brass."), ("tuba", "brass"))]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [{"said": "a", "true": "b", "prediction": "c", "ground_truth": "d"}])
    assert read_pairs(path, prediction="said", reference="true") == [Pair("a", ("b",))]
    with pytest.raises(TableError, match="has no column sung; it has said, true, prediction, ground_truth"):
        read_pairs(path, prediction="sung")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", "", "is not JSON"),
        ("rows.json", '{"prediction": "a"}', "holds a dict, expected a list"),
        ("rows.json", "[]", "has no rows"),
        ("rows.json", '["a"]', "row 1: is a str, expected an object"),
        (
            "rows.json",
            '[{"text": "a", "ground_truth": "b"}]',
            r"no prediction column \(.*\); it has text, ground_truth",
        ),
        ("rows.json", '[{"prediction": "a", "human": "b"}]', r"no reference column \(.*\); it has prediction, human"),
        ("rows.json", '[{"prediction": null, "ground_truth": "b"}]', "row 1: column prediction holds nothing"),
        ("rows.json", '[{"prediction": "a", "ground_truth": " "}]', "row 1: column ground_truth holds no reference"),
        ("rows.jsonl", '{"prediction": "a", "ground_truth": "b"}\n{', "line 2: is not JSON"),
        ("rows.csv", "prediction,ground_truth\na, b, c\n", "row 1: has more cells than the header"),
        ("rows.csv", "", "has no rows"),
        ("rows.parquet", "PAR", "is not a Parquet file"),
        ("rows.xlsx", "a", "files of type .xlsx are not read"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=message) as caught:
        read_pairs(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_other_encodings_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_pairs(tmp_path / "nowhere.json")
    with pytest.raises(TableError, match="is a folder"):
        read_pairs(tmp_path)
    (tmp_path / "latin.csv").write_bytes("prediction,ground_truth\nümlaut,b\n".encode("latin-1"))
    with pytest.raises(TableError, match="is not UTF-8 text"):
        read_pairs(tmp_path / "latin.csv")


def test_captions_alone_come_from_lines_or_a_column(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("one\n\n two \n", encoding="utf-8")
    assert read_captions_file(tmp_path / "train.txt") == ["one", "two"]
    assert read_captions_file(write(tmp_path / "train.json", [{"caption": "three"}])) == ["three"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(TableError, match="holds no captions"):
        read_captions_file(tmp_path / "empty.txt")
    with pytest.raises(TableError, match="no such file"):
        read_captions_file(tmp_path / "nowhere.txt")
