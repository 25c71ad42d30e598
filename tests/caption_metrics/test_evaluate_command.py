"""`lpmc evaluate` and `lpmc push-metric` as a person meets them: files in, a report out, one line for a mistake."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from small_captions import deaf, facts_of, listening, pairs_of
from typer.testing import CliRunner

from caption_metrics import space
from caption_metrics.pairs import Pair
from caption_metrics.score import evaluate_captions
from lpmc import app

FACTS = facts_of(60)
GOOD, WORSE, DEAF = listening(FACTS, 0.9), listening(FACTS, 0.3), deaf(FACTS)
QUICK = ("--samples", "100")


def rows(captions: Sequence[str], *, references: bool = True, predictions: bool = True) -> list[dict[str, Any]]:
    return [
        {"id": pair.id}
        | ({"prediction": pair.prediction} if predictions else {})
        | ({"ground_truth": pair.references[0], "mode": pair.tags[2]} if references else {})
        for pair in pairs_of(captions, FACTS)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("systems")
    for name, captions in {"good": GOOD, "worse": WORSE, "deaf": DEAF}.items():
        (path / f"{name}.json").write_text(json.dumps(rows(captions)))
    only = "\n".join(map(json.dumps, rows(GOOD, references=False)))
    (path / "predictions.jsonl").write_text(only)
    (path / "references.jsonl").write_text("\n".join(map(json.dumps, rows(GOOD, predictions=False)[::-1])))
    return path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])

    return invoke


def test_one_file_gives_the_card(run: Any) -> None:
    result = run("good.json", "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    pairs = [Pair(p.prediction, p.references, id=p.id, extra={"mode": p.tags[2]}) for p in pairs_of(GOOD, FACTS)]
    assert json.loads(result.stdout) == evaluate_captions(pairs, samples=100).to_dict()


def test_predictions_and_references_in_two_files_are_joined(run: Any) -> None:
    one, two = run("good.json", "--json", *QUICK), run("predictions.jsonl", "references.jsonl", "--json", *QUICK)
    assert two.exit_code == 0, two.stderr
    assert json.loads(two.stdout) == json.loads(one.stdout)
    other = run("predictions.jsonl", "--references", "references.jsonl", "--json", *QUICK)
    assert other.stdout == two.stdout


def test_a_system_that_loses_to_blind_captions_ends_with_exit_code_1_and_one_line(run: Any, folder: Path) -> None:
    result = run("good.json", "--require-beats-blind", "--json", "--markdown", "card.md", *QUICK)
    assert result.exit_code == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("lpmc: not every blind row is beaten: BLEU-1 (")
    assert "shuffled" in line
    assert "facts: F1" not in line
    assert json.loads(result.stdout)["beats_all_blind"]["bleu1"] is False  # the result is there all the same
    assert "no !" in (folder / "card.md").read_text()
    passed = run("good.json", "--require-beats-blind", "--required-scores", "facts_f1,facts_recall", *QUICK)
    assert passed.exit_code == 0, passed.stderr
    assert run("good.json", "--required-scores", "bleu1", *QUICK).exit_code == 1
    assert run("good.json", *QUICK).exit_code == 0  # marked, but not asked for


def test_what_could_not_be_tested_is_not_passed(run: Any, folder: Path) -> None:
    for clips, reason in ((1, "blind rows need at least 2 pairs"), (5, "5 captions are too few to tell")):
        (folder / "few.json").write_text(json.dumps(rows(GOOD)[:clips]))
        result = run("few.json", "--require-beats-blind", *QUICK)
        assert result.exit_code == 1
        assert f"nothing was tested, {reason}" in result.stderr.strip().splitlines()[-1]
        assert run("few.json", *QUICK).exit_code == 0


def test_systems_are_compared_and_the_reports_written(run: Any, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(
        *("--compare", "good.json", "bad=worse.json", "deaf.json", "--baseline", "bad"),
        *("--markdown", "out/report.md", "--plot", "facts.svg", *QUICK),
    )
    assert result.exit_code == 0, result.stderr
    for text in (result.stdout, (folder / "out" / "report.md").read_text()):
        assert "good less bad" in text
        assert "better +" in text
        assert "blind: shuffled less bad" in text
    drawing = (folder / "facts.svg").read_text()
    assert all(name in drawing for name in ("good", "bad", "deaf", "blind: shuffled"))
    listed = run("--compare", "good.json", "worse.json", "--json", "--no-blind", *QUICK)
    found = json.loads(listed.stdout)
    assert found["baseline"] == "good"
    assert list(found["differences"]) == ["worse"]
    lost = run("--compare", "good.json", "worse.json", "--required-scores", "bleu4", *QUICK)
    assert lost.exit_code == 1
    assert "good BLEU-4 (" in lost.stderr


def test_markdown_goes_to_standard_output_alone(run: Any) -> None:
    result = run("good.json", "--markdown", "-", *QUICK)
    assert result.exit_code == 0
    assert result.stdout.startswith("**Scores (percent)**\n\n| 60 captions | score |")
    assert "┃" not in result.stdout


def test_parts_of_the_clips_are_scored(run: Any) -> None:
    result = run("good.json", "--slice-by", "mode", "--regions", "--json", "--no-blind", *QUICK)
    assert result.exit_code == 0, result.stderr
    card = json.loads(result.stdout)
    assert {row["dimension"] for row in card["regions"]["slices"]["scores"]} >= {"any region"}
    found = card["slices"]
    labels = {row["label"] for row in found["scores"]} | set(found["too_small"].get("mode", ()))
    assert labels == {"slow", "fast"}


def test_without_intervals_nothing_is_drawn(run: Any) -> None:
    found = json.loads(run("good.json", "--json", "--no-intervals").stdout)
    assert found["intervals"] == {}
    assert found["beats_blind"] == {}
    assert found["blind"]["shuffled"]["bleu1"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.json"], 1, "none.json: no such file"),
        (["good.json", "worse.json", "deaf.json"], 2, "deaf.json: is one file too many; add --compare"),
        (["--compare", "good.json"], 2, "--compare: needs the files of at least two systems"),
        (["--compare", "good.json", "good.json"], 2, "names two of the systems; write NAME=FILE"),
        (["--compare", "good.json", "worse.json", "--baseline", "x"], 2, "x: is not among the systems"),
        (
            ["--compare", "good.json", "worse.json", "--slice-by", "mode"],
            2,
            "--slice-by, --regions, --coco: are for one system",
        ),
        (["--compare", "good.json", "worse.json", "--no-intervals"], 2, "--compare: rests on intervals"),
        (["good.json", "--baseline", "x"], 2, "--baseline: is for comparisons; add --compare"),
        (["good.json", "--require-beats-blind", "--no-blind"], 2, "--require-beats-blind: needs blind rows"),
        (["good.json", "--required-scores", "bleu9"], 2, "bleu9: is no score"),
        (["good.json", "--json", "--markdown", "-"], 2, "--json and --markdown -: both write to standard output"),
        (["good.json", "--markdown", "."], 2, ".: is a folder"),
        (["good.json", "--markdown", "good.json/x.md"], 2, "good.json is a file and no folder"),
        (["good.json", "--plot", "good.json/a/x.svg"], 2, "can't be written: "),
        (["good.json", "--plot", "x.gif"], 2, "pictures of type .gif are not written"),
        (["good.json", "--fluency-model", "x"], 2, "--fluency-model: penalises a similarity"),
        (["good.json", "--prediction-column", "said"], 1, "has no column said; it has id, prediction"),
        (["good.json", "--training-captions", "none.txt"], 1, "none.txt: no such file"),
        (["predictions.jsonl"], 1, "has no reference column"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_scored(
    run: Any, arguments: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caption_metrics.caption_scorer.CaptionScorer.add", refused)
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def refused(*arguments: Any) -> None:
    raise AssertionError("captions were scored")


def test_a_picture_without_matplotlib_is_refused_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("good.json", "--plot", "x.svg")
    assert result.exit_code == 1
    assert "matplotlib: is not installed; pip install 'lp-musiccaps[plot]'" in result.stderr


def test_an_interrupted_run_leaves_the_report_of_the_last_one(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "kept.md").write_text("the last report")

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Pair]:
        yield from pairs_of(GOOD, FACTS)
        raise KeyboardInterrupt

    monkeypatch.setattr("caption_metrics.pairs.iterate_pairs", interrupted)
    result = run("good.json", "--markdown", "kept.md")
    assert result.exit_code == 75
    assert "lpmc: interrupted; run the same command again" in result.stderr
    assert (folder / "kept.md").read_text() == "the last report"


def test_the_metric_is_published_with_a_card_as_an_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def publish(repo: str, **options: Any) -> space.PublishedMetric:
        asked.append((repo, options))
        return space.PublishedMetric(repo, "abc", f"https://hub/spaces/{repo}", ("app.py", "README.md"))

    monkeypatch.setattr(space, "publish_metric", publish)
    (folder / "card.json").write_text('{"bleu1": 0.3}')
    result = CliRunner().invoke(
        app, ["push-metric", "--repo", "org/metric", "--results", str(folder / "card.json"), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["revision"] == "abc"
    assert asked == [("org/metric", {"private": False, "results": {"bleu1": 0.3}})]
    (folder / "list.json").write_text("[]")
    result = CliRunner().invoke(app, ["push-metric", "--repo", "o/m", "--results", str(folder / "list.json")])
    assert result.exit_code == 1
    assert "is no score card; write one with `lpmc evaluate FILE --json`" in result.stderr


def test_a_score_whose_package_is_missing_is_refused_before_any_caption_is_scored(run: Any) -> None:
    if importlib.util.find_spec("pycocoevalcap"):
        pytest.skip("pycocoevalcap is installed here")
    result = run("good.json", "--coco")
    assert result.exit_code == 1
    assert result.stderr.strip() == "lpmc: pycocoevalcap: is not installed; pip install 'lp-musiccaps[coco]'"
