"""Reading ratings: what the rating page writes, what a crash leaves, and what a line must say to count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caption_metrics.ratings import Plan, Rater, parse_rating, read_ratings
from lpmc_errors import TableError

# A line as the rating page stores it, with keys that the analysis doesn't know.
LINE: dict[str, Any] = {
    "rating_id": "3f0a9c1b2d4e5f60",
    "study": "s-1",
    "rater": "r-1",
    "item": "clip-17",
    "audio": "9d0c5e2b11aa4f37.wav",
    "pair": ["human", "ours"],
    "kind": "real",
    "duplicate_of": None,
    "answers": {"more_correct": "left", "less_wrong": "tie", "overall": None},
    "claims": {"left": ["instrument: piano", "mood: sad"], "right": ["genre: rock"]},
    "wrong_claims": {"left": [], "right": None},
    "listened_s": 10.02,
    "seconds": 31.5,
    "order_seed": 3482761190,
    "time": "2026-11-23T17:45:10Z",
    "simulated": False,
    "block": 3,
    "slot": "b3t07",
    "via": "page",
}


def line(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {**LINE, "rating_id": f"id{number}", "item": f"clip-{number}", **changes}


def write(path: Path, rows: list[dict[str, Any]], torn: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + torn, encoding="utf-8")
    return path


def test_a_line_of_the_rating_page_becomes_a_rating(tmp_path: Path) -> None:
    found = read_ratings(write(tmp_path / "ratings.jsonl", [LINE]))
    (rating,) = found.ratings
    assert (rating.left, rating.right, rating.kind, rating.seconds) == ("human", "ours", "real", 31.5)
    assert rating.answers == {"more_correct": "left", "less_wrong": "tie"}  # a question not asked is absent
    assert rating.wrong_claims == {"left": [], "right": None}
    assert (found.study, found.problems, found.simulated, found.plan) == ("s-1", (), False, None)


def test_one_simulated_rating_makes_the_whole_file_simulated(tmp_path: Path) -> None:
    rows = [line(1), line(2, simulated=True), line(3)]
    assert read_ratings(write(tmp_path / "ratings.jsonl", rows)).simulated


def test_a_torn_last_line_is_left_out_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.jsonl", [line(1)], torn='{"rating_id": "id2", "rater": "r')
    path.write_bytes(path.read_bytes() + "ü".encode()[:1])
    found = read_ratings(path)
    assert len(found.ratings) == 1
    assert found.problems == (("ratings.jsonl, line 2", "is torn: the file ends inside it"),)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answers": {"more_correct": "A", "less_wrong": "tie"}}, "answer 'A' to more_correct, expected left, tie"),
        ({"answers": {"more_correct": "left"}}, "answer None to less_wrong"),
        ({"answers": None}, "has no answers"),
        ({"kind": "practice"}, "kind 'practice', expected real, gold, duplicate"),
        ({"pair": ["human"]}, "expected the two systems"),
        ({"pair": ["human", "human"]}, "pair holds 'human' twice"),
        ({"pair": ["human", "mismatched"]}, "a real comparison of human and mismatched; gold ones hold"),
        ({"kind": "gold"}, "a gold comparison of human and ours"),
        ({"kind": "duplicate"}, "duplicate_of None in a duplicate comparison"),
        ({"duplicate_of": "id1"}, "duplicate_of 'id1' in a real comparison"),
        ({"simulated": None}, "it must be known whether people rated"),
        ({"rater": ""}, "rater '', expected a text"),
        ({"seconds": -1}, "seconds -1, expected seconds"),
        ({"seconds": float("nan")}, "seconds nan, expected seconds"),
        ({"claims": {"left": "piano"}}, "claims are not lists"),
        ({"rating_id": "id1", "item": "other"}, "rating_id id1: another rating has it as well; the first is kept"),
        (
            {"rating_id": "id9", "item": "clip-1", "pair": ["ours", "human"]},
            "r-1 judged these captions of clip-1",
        ),
    ],
)
def test_a_line_that_cannot_count_is_recorded_with_its_place_and_reason(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    found = read_ratings(write(tmp_path / "ratings.jsonl", [line(1), line(2, **changes), line(3)]))
    assert [rating.rating_id for rating in found.ratings] == ["id1", "id3"]
    ((where, told),) = found.problems
    assert where == "ratings.jsonl, line 2"
    assert problem in told


def test_a_missing_field_and_a_line_that_is_no_object_are_named(tmp_path: Path) -> None:
    without = {key: value for key, value in line(2).items() if key != "item"}
    path = write(tmp_path / "ratings.jsonl", [line(1), without])
    path.write_text(path.read_text() + "[1]\nnonsense\n")
    assert [told for _, told in read_ratings(path).problems] == [
        "has no item",
        "is a list, expected an object",
        "is not JSON",
    ]


def test_a_rating_written_twice_counts_once(tmp_path: Path) -> None:
    found = read_ratings(write(tmp_path / "ratings.jsonl", [line(1), line(1)]))
    assert len(found.ratings) == 1
    assert "written twice" in found.problems[0][1]


def test_a_duplicate_needs_the_rating_that_it_repeats(tmp_path: Path) -> None:
    again = {"kind": "duplicate", "pair": ["ours", "human"]}
    rows = [
        line(1),
        line(2, item="clip-1", duplicate_of="id1", **again),
        line(3, item="clip-1", duplicate_of="gone", **again),
        line(4, item="clip-1", duplicate_of="id1", **{**again, "rater": "r-2"}),
    ]
    found = read_ratings(write(tmp_path / "ratings.jsonl", rows))
    assert [rating.rating_id for rating in found.ratings] == ["id1", "id2"]
    assert [told for _, told in found.problems] == [
        "the rating gone that it repeats is not there",
        "the rating id1 that it repeats is of another rater, item or pair",
    ]


def test_a_study_folder_brings_its_plan_and_what_raters_said(tmp_path: Path) -> None:
    write(tmp_path / "ratings" / "ratings.jsonl", [line(1)])
    write(
        tmp_path / "ratings" / "raters.jsonl",
        [{"rater": "r-1", "familiarity": 4, "playback": "headphones"}, {"rater": "r-2", "familiarity": 9}],
    )
    study = {"raters_per_unit": 3, "planned": {"real": 600, "real_by_pair": {"human|ours": 600}}}
    (tmp_path / "study.json").write_text(json.dumps(study))
    found = read_ratings(tmp_path)
    assert found.plan == Plan(600, 3, {"human|ours": 600})
    assert found.raters == {"r-1": Rater("r-1", 4, "headphones")}
    assert found.problems == (("raters.jsonl, line 2", "familiarity 9, expected 0 to 5"),)
    assert read_ratings(tmp_path / "ratings" / "ratings.jsonl").plan == found.plan


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rating that can be used; check"),
        ([{"rater": "r"}], r"holds no rating that can be used \(first: ratings.jsonl, line 1: has no rating_id\)"),
        ([line(1), line(2, study="s-2")], "mixes the studies s-1, s-2"),
        ([line(1, kind="gold", pair=["human", "mismatched"])], "holds gold and duplicate comparisons only"),
    ],
)
def test_a_file_of_no_use_stops_the_analysis_with_a_reason(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read_ratings(write(tmp_path / "ratings.jsonl", rows))


def test_a_missing_file_an_empty_folder_and_a_spoilt_plan_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_ratings(tmp_path / "gone.jsonl")
    with pytest.raises(TableError, match=r"has no ratings/ratings\.jsonl; nobody has rated yet"):
        read_ratings(tmp_path)
    write(tmp_path / "ratings" / "ratings.jsonl", [line(1)])
    (tmp_path / "study.json").write_text('{"planned": 3}')
    with pytest.raises(TableError, match="is not the plan of a study"):
        read_ratings(tmp_path)


def test_parse_rating_takes_one_object() -> None:
    assert parse_rating(LINE).pair == {"human", "ours"}
    with pytest.raises(ValueError, match="has no rating_id"):
        parse_rating({})
