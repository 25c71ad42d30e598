"""Reading predictions from the files and data sets that systems write, and naming what is wrong with one."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus

from caption_metrics import pair_datasets, pair_files
from caption_metrics.pairs import Pair, iterate_pairs, read_captions_file, read_pairs
from dataset_builder.build import build_dataset
from lpmc_errors import TableError

ROWS = [
    {"prediction": "A piano, softly.", "ground_truth": 'A "soft" piano.'},
    {"prediction": "", "ground_truth": "Zwei Gitarren,\nümlaut."},
]
EXPECTED = [Pair("A piano, softly.", ('A "soft" piano.',)), Pair("", ("Zwei Gitarren,\nümlaut.",))]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    kind = path.suffixes[0].lower()
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)
        return path
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8-sig", newline="") as file:
        if kind == ".json":
            json.dump(rows, file, ensure_ascii=False, indent=1)
        elif kind == ".jsonl":
            file.write("\n".join(map(json.dumps, rows)) + "\n\n")
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("inference.json", "rows.jsonl", "rows.csv", "rows.tsv", "rows.parquet"),
        *("rows.json.gz", "rows.jsonl.gz", "rows.csv.gz", "ROWS.JSON"),
    ],
)
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.lower(), ROWS)
    if name.isupper():
        path = path.rename(tmp_path / name)
    assert read_pairs(path) == EXPECTED


def test_a_row_keeps_its_id_its_tags_and_its_other_cells_as_text(tmp_path: Path) -> None:
    row = {"ytid": "x1", "caption": "A tuba.", "reference_captions": ["A tuba.", "Brass."], "tags": ["tuba", "brass"]}
    row |= {"genre": "brass band", "bpm": 120.0, "plays": 7, "vocals": False, "region": None, "odd": float("nan")}
    row |= {"caption_writing": "A tuba.", "story": "x" * 1000, "embedding": [0.1, 0.2], "audio": {"bytes": b"R"}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "captions.parquet")
    assert read_pairs(tmp_path / "captions.parquet") == [
        Pair(
            *("A tuba.", ("A tuba.", "Brass."), ("tuba", "brass"), "x1"),
            extra={"genre": "brass band", "bpm": "120", "plays": "7", "vocals": "false"},
        )
    ]


def test_sound_pictures_and_vectors_are_not_read() -> None:
    heavy = {"audio": pa.struct({"bytes": pa.binary()}), "image": pa.binary(), "clap": pa.list_(pa.float32())}
    heavy |= {"hash": pa.binary(16), "names": pa.list_(pa.binary())}
    light = {"caption": pa.string(), "references": pa.list_(pa.large_string()), "bpm": pa.float64()}
    light |= {"genre": pa.dictionary(pa.int8(), pa.string()), "made": pa.timestamp("s"), "none": pa.null()}
    assert pair_files.readable_columns(pa.schema({**heavy, **light})) == list(light)


def test_lists_are_read_from_the_cells_of_a_csv_file(tmp_path: Path) -> None:
    row = {"id": "7", "prediction": "[sic]", "references": '["One.", "Two, too."]'}
    row |= {"aspect_list": "['r&b', \"rock'n'roll\"]"}
    pairs = read_pairs(write(tmp_path / "rows.csv", [row, {**row, "references": "[One]", "aspect_list": "a, b ,"}]))
    assert pairs[0] == Pair("[sic]", ("One.", "Two, too."), ("r&b", "rock'n'roll"), "7")
    assert (pairs[1].references, pairs[1].tags) == (("[One]",), ("a", "b"))


def test_a_spreadsheet_s_semicolons_divide_cells(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('prediction;ground_truth\n"A; b";c, d\n')
    assert read_pairs(tmp_path / "rows.csv") == [Pair("A; b", ("c, d",))]


def test_the_released_files_are_read_whether_they_are_lists_or_have_a_name_for_each_row(tmp_path: Path) -> None:
    of_audio = {"0": {"predictions": "Drums.", "true_captions": "A drum.", "audio_id": "[x]-[30-40]"}}
    (tmp_path / "audio.json").write_text(json.dumps(of_audio))
    assert read_pairs(tmp_path / "audio.json") == [Pair("Drums.", ("A drum.",), id="[x]-[30-40]")]
    named = {"clip 1": {"prediction": ["Drums."], "ground_truth": "A drum.", "source": "mtt"}}
    (tmp_path / "named.json").write_text(json.dumps(named))
    assert read_pairs(tmp_path / "named.json") == [Pair("Drums.", ("A drum.",), id="clip 1", extra={"source": "mtt"})]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [{"said": "a", "true": "b", "no": "9", "prediction": "c", "ground_truth": "d"}])
    pairs = list(iterate_pairs(path, prediction="said", reference="true", id_column="no"))
    assert pairs == [Pair("a", ("b",), id="9")]
    with pytest.raises(TableError, match="has no column sung; it has said, true, no, prediction, ground_truth"):
        read_pairs(path, prediction="sung")
    with pytest.raises(TableError, match="has no column ids; it has"):
        iterate_pairs(path, id_column="ids")


PAIR = '{"prediction": "a", "ground_truth": "b"}'
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", "", "is empty"),
        ("rows.json", " \n", "has no rows"),
        ("rows.json", '{"prediction": "a"}', "entry 'prediction': is a text, expected the row or the captions of one"),
        ("rows.json", '{"predictions": ["a"], "references": ["b"]}', "entry 'predictions': is a list of 1, expected"),
        ("rows.json", '{"clip": [1]}', "entry 'clip': is a list of 1"),
        ("rows.json", '{"clip" "a"}', r"is not JSON \(line 1: expected : after a name\)"),
        ("rows.json", "{1: 2}", "expected a name in double quotes"),
        ("rows.json", '"a"', "is not JSON, or neither a list nor an object"),
        ("rows.json", "[]", "has no rows"),
        ("rows.json", '["a"]', "has no reference column"),
        ("rows.json", "[3]", "row 1: is a number, expected an object"),
        ("rows.json", f'[{{"id": {"9" * 5_000}}}]', r"is not JSON \(line 1: a number of thousands of digits\)"),
        ("rows.jsonl", f'{PAIR}\n{{"id": {"9" * 5_000}}}', r"line 2: is not JSON \(a number of thousands of digits"),
        ("rows.json", f"[{PAIR}\n,\n{PAIR}", r"is not JSON \(line 3: it ends too early\)"),
        ("rows.json", f"[{PAIR}\n,\n" + '{"prediction": "a', r"is not JSON \(line 3: Unterminated string"),
        ("rows.json", f"[{PAIR},\n" + '{"prediction": tru, "x": "' + "y" * 99 + '"}]', r"line 2: Expecting value\)"),
        ("rows.json", f"[{PAIR}\n{PAIR}]", r"line 2: expected , or \]"),
        ("rows.json", f"[{PAIR}]\n[{PAIR}]", "goes on after its end"),
        ("rows.json", f"{DEEP}", "is nested too deeply"),
        (
            "rows.json",
            '[{"text": "a", "ground_truth": "b"}]',
            r"no prediction column \(.*\); it has text, ground_truth",
        ),
        ("rows.json", '[{"prediction": "a", "human": "b"}]', r"no reference column \(.*\); it has prediction, human"),
        ("rows.json", '[{"prediction": null, "ground_truth": "b"}]', "row 1: column prediction holds nothing"),
        ("rows.json", '[{"prediction": NaN, "ground_truth": "b"}]', "row 1: column prediction holds nothing"),
        ("rows.json", '[{"prediction": 3, "ground_truth": "b"}]', "row 1: column prediction holds a number"),
        ("rows.json", '[{"prediction": ["a", "b"], "ground_truth": "b"}]', "holds a list of 2, expected a text"),
        ("rows.json", f'[{PAIR}, {{"ground_truth": "b"}}]', "row 2: column prediction holds nothing"),
        ("rows.json", '[{"prediction": "a", "ground_truth": " "}]', "row 1: column ground_truth holds no reference"),
        ("rows.json", '[{"prediction": "a", "ground_truth": ["nan"]}]', "row 1: column ground_truth holds no referen"),
        ("rows.json", '[{"prediction": "\\ud800", "ground_truth": "b"}]', "holds half of a character"),
        ("rows.jsonl", f"{PAIR}\n\n{{", "line 3: is not JSON"),
        ("rows.jsonl", f'{PAIR}\n\n{{"prediction": 1}}', "line 3: column prediction holds a number"),
        ("rows.jsonl", f"{PAIR}\n3", "line 2: is a number, expected an object"),
        ("rows.csv", "prediction,ground_truth\na, b, c\n", "row 1: has more cells than the header"),
        ("rows.csv", "ground_truth,prediction\na\n", "row 1: column prediction holds nothing"),
        ("rows.csv", "prediction,ground_truth\nNaN,b\n", "row 1: column prediction holds 'NaN', which stands for"),
        ("rows.csv", "prediction,prediction\na,b\n", "has two columns named 'prediction'"),
        ("rows.csv", 'prediction,ground_truth\na,"b\n', r"is not CSV \(unexpected end of data\)"),
        ("rows.csv", f"prediction,ground_truth\na,{'b' * 200_000}\n", r"is not CSV \(field larger than"),
        ("rows.csv", "prediction,ground_truth\n", "has no rows"),
        ("rows.parquet", "PAR", "is not a Parquet file"),
        ("rows.xlsx", "a", "files of type .xlsx are not read"),
        ("rows.parquet.gz", "a", "files of type .gz are not read"),
        ("rows.txt", "a", "has captions alone; give the references in a second file"),
        ("rows.json.gz", "a", "is no whole gzip file"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=message) as caught:
        read_pairs(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_other_encodings_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_pairs(tmp_path / "nowhere.json")
    encodings = {"latin-1": "line 2: is not UTF-8 text", "utf-16": "is UTF-16 text", "utf-16-le": "holds zero bytes"}
    for encoding, message in encodings.items():
        (tmp_path / "rows.csv").write_bytes("prediction,ground_truth\nümlaut,b\n".encode(encoding))
        with pytest.raises(TableError, match=message):
            read_pairs(tmp_path / "rows.csv")
    whole = gzip.compress(("prediction,ground_truth\n" + "a,b\n" * 9_000).encode(), mtime=0)
    for damaged in (whole[:-9], whole[:30] + b"\xff\xff" + whole[32:]):
        (tmp_path / "torn.csv.gz").write_bytes(damaged)
        with pytest.raises(TableError, match="is no whole gzip file"):
            read_pairs(tmp_path / "torn.csv.gz")
    write(tmp_path / "torn.parquet", ROWS)
    content = bytearray((tmp_path / "torn.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    (tmp_path / "torn.parquet").write_bytes(content)
    with pytest.raises(TableError, match=r"torn\.parquet"):
        read_pairs(tmp_path / "torn.parquet")


def test_a_line_that_does_not_end_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_files, "LONGEST_VALUE", 64)
    for name, first in (("rows.jsonl", PAIR), ("rows.csv", "prediction,ground_truth")):
        (tmp_path / name).write_text(f"{first}\n" + "x" * 64 + "\n")
        with pytest.raises(TableError, match="line 2: goes on for"):
            read_pairs(tmp_path / name)


def test_a_name_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be opened: File name too long"):
        read_pairs(tmp_path / ("x" * 5_000 + ".csv"))


def test_one_text_is_no_list_of_references_or_tags() -> None:
    with pytest.raises(TableError, match=r"the references of a pair: are one text; give a tuple: \('A slow piano.',\)"):
        Pair("A sad piano.", "A slow piano.")  # type: ignore[arg-type]
    with pytest.raises(TableError, match="the tags of a pair: are one text"):
        Pair("A sad piano.", ("A slow piano.",), "piano")  # type: ignore[arg-type]


def test_a_wrong_file_is_named_before_the_first_pair_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"said": "a"}]')
    with pytest.raises(TableError, match="no prediction column"):
        iterate_pairs(tmp_path / "rows.json")


def test_json_is_read_alike_wherever_the_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prediction": f'{{"a": [{n}]}} \\ "ü𝄞" ' * n, "ground_truth": ["]", "},"], "n": n} for n in range(30)]
    path = tmp_path / "rows.json"
    for text in (json.dumps(rows), json.dumps(rows, indent=3, ensure_ascii=False).replace("\n", "\r\n")):
        path.write_text(text, encoding="utf-8", newline="")
        expected = [row["prediction"] for row in json.loads(text)]
        for chunk in (1, 2, 3, 7, 64):
            monkeypatch.setattr(pair_files, "CHUNK", chunk)
            pairs = read_pairs(path)
            assert [pair.prediction for pair in pairs] == expected
            assert [pair.extra["n"] for pair in pairs] == [str(n) for n in range(30)]


STREAM = """
import resource, sys
from caption_metrics.pairs import iterate_pairs
next(iterate_pairs(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for pair in iterate_pairs(sys.argv[1]))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["rows.json", "rows.parquet"])
def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path: Path, name: str) -> None:
    captions = 60_000
    row = {"prediction": "A slow song. " * 40, "ground_truth": "A song."}  # 31 MB in all
    path, short = tmp_path / name, write(tmp_path / f"short-{name}", [row] * 2_000)
    if path.suffix == ".json":
        path.write_text(f"[{','.join([json.dumps(row)] * captions)}]")
    else:
        table = pa.Table.from_pylist([{**row, "prediction": f"{n} {row['prediction']}"} for n in range(2_000)])
        with pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False) as writer:
            for _ in range(captions // 2_000):
                writer.write_table(table)
    assert path.stat().st_size > 30_000_000
    done = subprocess.run([sys.executable, "-c", STREAM, path, short], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == captions
    assert grown < 12_000, f"{grown} kB"  # a reader that keeps the file takes 60 MB and more


def test_captions_alone_come_from_lines_or_a_column(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("one\n\n two \n", encoding="utf-8")
    assert read_captions_file(tmp_path / "train.txt") == ["one", "two"]
    assert read_captions_file(write(tmp_path / "train.json", [{"caption": "three"}])) == ["three"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(TableError, match="holds no captions"):
        read_captions_file(tmp_path / "empty.txt")
    with pytest.raises(TableError, match="no such file"):
        read_captions_file(tmp_path / "nowhere.txt")


# --- data sets ------------------------------------------------------------------------------------------------------


def test_a_folder_of_save_to_disk_is_read_by_its_split(tmp_path: Path) -> None:
    one = datasets.Dataset.from_list([{**row, "clip_id": number} for number, row in enumerate(ROWS)])
    one = one.add_column("samples", [[0.5], [0.25]])
    expected = [Pair(pair.prediction, pair.references, id=str(number)) for number, pair in enumerate(EXPECTED)]
    one.save_to_disk(tmp_path / "one")
    assert read_pairs(tmp_path / "one") == expected
    datasets.DatasetDict(train=one.select([0]), test=one.select([1, 0])).save_to_disk(tmp_path / "two")
    assert read_pairs(tmp_path / "two") == expected[::-1], "the test split, where none is named"
    assert read_pairs(f"{tmp_path}/two::train") == expected[:1]
    with pytest.raises(TableError, match="has no split dev; it has train, test"):
        read_pairs(f"{tmp_path}/two::dev")
    with pytest.raises(TableError, match="has no configurations"):
        read_pairs(f"{tmp_path}/two:small:train")


def test_a_built_directory_is_read_by_configuration_and_split(tmp_path: Path) -> None:
    tracks = small_corpus.tracks(6)
    corpus = small_corpus.write_corpus(tmp_path / "in", tracks, small_corpus.captions(tracks))
    for config in ("small", "large"):
        build_dataset(corpus.captions, corpus.tracks, config=config, output=tmp_path / "built")
    columns = {"prediction": "caption_writing", "reference": "caption_summary"}
    pairs = read_pairs(f"{tmp_path}/built:small:train", **columns)
    assert pairs
    assert {pair.id for pair in pairs} <= {track.track_id for track in tracks}
    assert pairs[0].tags
    assert pairs[0].extra["title"]
    assert read_pairs(f"{tmp_path}/built::train", **columns) == pairs, "the default configuration"
    with pytest.raises(TableError, match="has no configuration tiny"):
        read_pairs(f"{tmp_path}/built:tiny", **columns)


def test_a_folder_of_everything_is_refused_before_it_is_listed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_datasets, "MOST_FILES", 3)
    (tmp_path / "deep").mkdir()
    for number in range(4):
        (tmp_path / "deep" / f"{number}.jsonl").write_text(json.dumps(ROWS[0]))
    with pytest.raises(TableError, match="is a folder of more than 3 files"):
        read_pairs(tmp_path)
    (tmp_path / "deep" / "0.jsonl").unlink()
    assert len(read_pairs(tmp_path / "deep")) == 3


def test_a_folder_that_holds_no_data_set_and_a_name_that_is_nowhere_are_named(tmp_path: Path) -> None:
    for source in (tmp_path, f"{tmp_path}:config", "nobody/nothing-of-this-name", "nobody/nothing:config:test"):
        with pytest.raises(TableError) as caught:
            read_pairs(source)
        assert "\n" not in str(caught.value)
        assert "is a folder" in str(caught.value) or "no such file" in str(caught.value), str(caught.value)
