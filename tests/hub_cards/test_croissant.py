"""The Croissant document of a data set: mlcroissant opens the files with it, offline; the lint names its faults."""

from __future__ import annotations

import json
import subprocess
import sys

import datasets
import pytest
from card_material import write_cards, write_config

from hub_cards import lint_dataset, render_croissant

TEXT = datasets.Value("string")
FEATURES = datasets.Features(
    {
        "track_id": TEXT,
        "year": datasets.Value("int64"),
        "is_crawled": datasets.Value("bool"),
        "tag": datasets.List(TEXT),
        "path": TEXT,
        "audio": datasets.Audio(sampling_rate=16_000),
        "provenance": {"source": TEXT, "captions": [{"instruction": TEXT, "attempts": datasets.Value("int64")}]},
        "scores": [
            {"instruction": TEXT, "tag_coverage": datasets.Value("float64"), "unsupported": datasets.List(TEXT)}
        ],
    }
)
ROW = {
    "year": 1999,
    "is_crawled": True,
    "tag": ["rock", "piano"],
    "audio": {"bytes": b"RIFF", "path": "b.mp3"},
    "provenance": {"source": "fma", "captions": [{"instruction": "writing", "attempts": 1}]},
    "scores": [
        {"instruction": "writing", "tag_coverage": 0.5, "unsupported": ["mood: sad"]},
        {"instruction": "summary", "tag_coverage": None, "unsupported": []},
    ],
}


@pytest.fixture
def directory(tmp_path):
    first = write_config(tmp_path, "fma", {"train": [3, 2], "test": [1]}, FEATURES, ROW, audio_embedded=6)
    second = write_config(tmp_path, "mtt.v-2", {"valid": [2]})
    return write_cards(tmp_path, first, second)


def test_mlcroissant_reads_the_records_of_every_configuration(directory):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(directory / "croissant.json"))

    records = list(dataset.records("fma"))
    assert len(records) == 6
    record = next(each for each in records if each["fma/track_id"] == b"train-1-1")
    assert record["fma/split"] == b"train"
    assert (record["fma/year"], record["fma/is_crawled"]) == (1999, True)
    assert record["fma/tag"] == [b"rock", b"piano"]
    assert record["fma/audio"] == b"RIFF"
    assert record["fma/provenance"] == {"fma/provenance/source": b"fma"}
    assert [score["fma/scores/instruction"] for score in record["fma/scores"]] == [b"writing", b"summary"]
    assert record["fma/scores"][0]["fma/scores/unsupported"] == [b"mood: sad"]
    assert len(list(dataset.records("mtt.v-2"))) == 2


def test_mlcroissant_reads_one_split_alone(directory):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(directory / "croissant.json"))
    records = list(dataset.records("fma", filters={"fma/split": "test"}))
    assert [(each["fma/track_id"], each["fma/split"]) for each in records] == [(b"test-0-0", b"test")]


def test_the_document_is_not_taken_for_data(directory):
    assert datasets.load_dataset(str(directory), "fma", split="test").num_rows == 1


def test_the_same_files_give_the_same_document_and_every_path_in_it_is_relative(directory):
    from hub_cards import read_config

    configs = [read_config(directory, name) for name in ("fma", "mtt.v-2")]
    text = (directory / "croissant.json").read_text()
    assert render_croissant(configs) == text
    assert str(directory) not in text
    document = json.loads(text)
    assert document["distribution"][0]["includes"] == ["fma/train-*.parquet", "fma/test-*.parquet"]
    assert "sha256" not in text, "nothing is hashed: a build would read all audio once more"
    assert lint_dataset(directory) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"column": "year"', '"column": "yeer"', "'fma/year' reads the column 'yeer', which the files of 'fma-files'"),
        ('"@id": "fma/year"', '"@id": "fma/tag"', "2 parts have the @id 'fma/tag'"),
        (
            '"@id": "fma-files"\n',
            '"@id": "x"\n',
            "refers to 'x', which is no part of it",
        ),
        ('"fma-splits/name"\n', '"fma-splits/nome"\n', "refers to 'fma-splits/nome', which is no part of it"),
        ("fma/test-*.parquet", "fma/tests-*.parquet", "no file matches 'fma/tests-*.parquet'"),
        ('"fma/test-*.parquet"', '"fma/train-*.parquet"', "describes no file set that fma/test-00000-of-00001.parquet"),
        ('"dataType": "cr:Int64"', '"dataType": "sc:Text"', "recordSet differ from what the files give"),
        ('"cc-by-4.0"', '"mit"', "license differ from what the files give"),
        ('"@type": "cr:RecordSet"', '"@type": "cr:Records"', "croissant.json: "),
        ("{\n", "[\n", "croissant.json: is no JSON"),
    ],
)
def test_the_lint_names_what_is_wrong_with_a_document(directory, old, new, problem):
    path = directory / "croissant.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    found = [str(each) for each in lint_dataset(directory)]
    assert any(problem in each for each in found), found


def test_mlcroissant_s_own_objections_are_passed_on(directory):
    pytest.importorskip("mlcroissant")
    path = directory / "croissant.json"
    document = json.loads(path.read_text())
    del document["recordSet"][1]["field"][1]["dataType"]
    path.write_text(json.dumps(document))
    found = [str(each) for each in lint_dataset(directory)]
    assert len(found) == 1
    assert found[0].startswith("croissant.json: mlcroissant refuses it: Found the following 1 error(s)")


def test_without_mlcroissant_the_own_checks_remain(directory):
    path = directory / "croissant.json"
    path.write_text(path.read_text().replace('"column": "year"', '"column": "yeer"', 1))
    code = (
        "import sys; sys.modules['mlcroissant'] = None\n"
        "from pathlib import Path; from hub_cards import lint_dataset\n"
        f"print(*lint_dataset(Path({str(directory)!r})), sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "reads the column 'yeer'" in printed
