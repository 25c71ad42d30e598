"""Predictions and references in two files: joined by the names of the clips, or by order, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caption_metrics.pair_join import join_pairs
from caption_metrics.pairs import Pair
from lpmc_errors import TableError

MEANT = [
    {"clip_id": 1, "caption": "A sad piano.", "genre": "jazz", "tags": ["piano"]},
    {"clip_id": 2, "caption": "Fast drums.", "genre": "rock", "tags": ["drums"]},
    {"clip_id": 1, "caption": "Slow jazz.", "genre": "jazz", "tags": ["slow"]},
]


@pytest.fixture
def meant(tmp_path: Path) -> Path:
    return write(tmp_path / "references.json", MEANT)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_files_are_joined_by_name_whatever_their_order_and_type(tmp_path: Path, meant: Path) -> None:
    said = write(tmp_path / "said.csv", "caption,clip_id,model,genre\nDrums!,2,m,pop\nA piano.,1,m,pop\n")
    drums = Pair("Drums!", ("Fast drums.",), ("drums",), "2", {"genre": "rock", "model": "m"})
    piano = Pair("A piano.", ("A sad piano.", "Slow jazz."), ("piano", "slow"), "1", {"genre": "jazz", "model": "m"})
    assert list(join_pairs(said, meant)) == [drums, piano], "references say what a clip is, not predictions"


def test_objects_of_captions_by_name_are_joined(tmp_path: Path) -> None:
    said = write(tmp_path / "said.json", {"b": "Drums.", "a": ["Piano."]})
    meant = write(tmp_path / "meant.json", {"a": ["A piano.", "Keys."], "b": "A drum."})
    assert list(join_pairs(said, meant)) == [
        Pair("Drums.", ("A drum.",), id="b"),
        Pair("Piano.", ("A piano.", "Keys."), id="a"),
    ]


def test_names_may_stand_in_columns_of_different_names(tmp_path: Path, meant: Path) -> None:
    said = write(tmp_path / "said.jsonl", '{"id": "2", "prediction": ""}\n{"id": "1", "prediction": "x"}')
    assert [pair.id for pair in join_pairs(said, meant)] == ["2", "1"]


def test_a_named_column_joins(tmp_path: Path) -> None:
    rows = [{"id": n, "song": f"s{2 - n}", "caption": str(n)} for n in range(2)]
    said, meant = write(tmp_path / "said.json", rows), write(tmp_path / "meant.json", rows[::-1])
    joined = list(join_pairs(said, meant, id_column="song", prediction="caption", reference="caption"))
    assert [(pair.id, pair.prediction, pair.references) for pair in joined] == [
        ("s2", "0", ("0",)),
        ("s1", "1", ("1",)),
    ]
    with pytest.raises(TableError, match=r"said.json: has no column track; it has id, song, caption"):
        join_pairs(said, meant, id_column="track")


def test_files_without_names_are_joined_by_order_if_they_are_equally_long(tmp_path: Path) -> None:
    said = write(tmp_path / "said.txt", "A piano.\n\nDrums, fast\n")
    rows = ['{"references": ["A sad piano.", "Keys."]}', "", '{"references": ["x"]}', '{"references": ["Drums."]}']
    meant = write(tmp_path / "meant.jsonl", "\n".join(rows))
    expected = [("A piano.", ("A sad piano.", "Keys.")), ("", ("x",)), ("Drums, fast", ("Drums.",))]
    assert list(join_pairs(said, meant)) == [Pair(*pair) for pair in expected]
    lists = json.dumps([[*texts] if len(texts) > 1 else texts[0] for _, texts in expected])
    texts = json.dumps([text for text, _ in expected])
    for suffix in (".json", ".jsonl"):
        one, other = tmp_path / f"texts{suffix}", tmp_path / f"lists{suffix}"
        for file, text in ((one, texts), (other, lists)):
            write(file, text if suffix == ".json" else "\n".join(map(json.dumps, json.loads(text))))
        assert list(join_pairs(one, other)) == [Pair(*pair) for pair in expected]
    write(said, "A piano.\n")
    with pytest.raises(
        TableError, match=r"said.txt: has 1 rows, .*meant.jsonl has 3, and neither names its clips; give"
    ):
        join_pairs(said, meant)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([{"id": 1, "caption": "a"}], r"references.json: 1 clip has no prediction in .*said.json \('2'\)"),
        (
            [{"id": n, "caption": "a"} for n in (1, 2, 5, 3, 7, 8)],
            r"said.json: 4 clips have no reference in .*references.json \('5', '3', '7', \.\.\.\)",
        ),
        ([{"id": n, "caption": "a"} for n in (1, 2, 2)], r"said.json: 1 clip has more than one row \('2'\)"),
        ([{"caption": "a"}], r"said.json: has no column that names the clips, but .*references.json has clip_id"),
        ([{"id": None, "caption": "a"}], r"said.json, row 1: column id names no clip"),
        ([{"id": "\ud800", "caption": "a"}], "holds half of a character"),
        ([{"id": 1, "caption": None}], r"said.json, row 1: column caption holds nothing"),
        ([{"id": 1, "text": "a"}], r"said.json: has no prediction column"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_counts_and_examples(
    tmp_path: Path, meant: Path, said: Any, message: str
) -> None:
    with pytest.raises(TableError, match=message) as caught:
        join_pairs(write(tmp_path / "said.json", said), meant)
    assert "\n" not in str(caught.value)


def test_what_could_break_a_database_is_text_like_any_other(tmp_path: Path) -> None:
    odd = ["'); DROP TABLE meant; --", "a\0b", "ü𝄞", "1", "1.0"]
    rows = [{"id": name, "caption": f"{name}!", "note": name} for name in odd]
    said, meant = write(tmp_path / "said.json", rows), write(tmp_path / "meant.json", rows[::-1])
    assert [(p.id, p.prediction, p.references[0], p.extra["note"]) for p in join_pairs(said, meant)] == [
        (name, f"{name}!", f"{name}!", name) for name in odd
    ]
