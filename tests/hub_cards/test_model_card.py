"""The model's card: a model index that round-trips, nothing claimed that was not measured, and its lint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from hub_cards import lint_model, render_model_card

SUMMARY = {"parameters": 12_345_678, "trained on": {"rows": 900, "split": "train"}, "epochs": 3, "note": None}
RESULTS = {"bleu1": 0.2813, "meteor": 0.19, "dataset": "rendered", "split": "test", "rows": 120, "signature": "v1"}


def write_card(directory: Path, text: str, results: dict | None = RESULTS) -> Path:
    """A model directory: its card, and beside it what was measured and how it was trained."""
    (directory / "README.md").write_text(text)
    trained = {"parameters": 12_345_678, "rows": {"train": 900}, "epochs": 3}
    (directory / "training.json").write_text(json.dumps(trained))
    if results is not None:
        (directory / "evaluation.json").write_text(json.dumps(results))
    return directory


def test_results_round_trip_through_the_model_index(tmp_path):
    text = render_model_card("lpmc-mini", licence="cc-by-4.0", summary=SUMMARY, results=RESULTS)

    data = ModelCard(text).data
    assert data.license == "cc-by-4.0"
    assert data.pipeline_tag == "audio-text-to-text"
    assert data.library_name == "transformers"
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "bleu1": 0.2813,
        "meteor": 0.19,
    }
    assert {(result.dataset_name, result.dataset_split) for result in data.eval_results} == {("rendered", "test")}
    assert "| bleu1 | 0.2813 |" in text
    assert "Measured on dataset: rendered; split: test; rows: 120; signature: v1." in text
    assert "| parameters | 12,345,678 |" in text
    assert "| trained on | rows 900, split train |" in text
    assert lint_model(write_card(tmp_path, text)) == []


def test_a_nested_report_of_metrics_is_read_as_well():
    text = render_model_card("m", licence="mit", summary={}, results={"metrics": {"bleu1": 0.5}, "dataset": "org/x"})
    assert ModelCard(text).data.eval_results[0].metric_value == 0.5


def test_nothing_is_claimed_for_a_model_that_was_not_measured(tmp_path):
    text = render_model_card("lpmc-mini", licence="mit", summary={}, results=None)
    assert "Nothing was measured for this model." in text
    assert ModelCard(text).data.eval_results is None
    assert "model-index" not in text
    assert lint_model(write_card(tmp_path, text)) == []
    with pytest.raises(ValueError, match="results hold no number"):
        render_model_card("m", licence="mit", summary={}, results={"dataset": "x"})


def test_a_demonstration_says_so_at_the_top_and_in_its_tags():
    text = render_model_card("lpmc-mini", licence="mit", summary={}, demonstration=True)
    assert "**A demonstration.**" in text.split("## ")[0]
    assert "demonstration" in ModelCard(text).data.tags
    assert "A demonstration" not in render_model_card("lpmc-mini", licence="mit", summary={})


def test_a_licence_that_the_hub_does_not_know_is_named_and_linked(tmp_path):
    text = render_model_card("m", licence="mit on the Hub, CC BY-NC 4.0 on GitHub", summary={})
    data = ModelCard(text).data
    assert (data.license, data["license_name"], data["license_link"]) == (
        "other",
        "mit-on-the-hub-cc-by-nc-4.0-on-github",
        "LICENSE",
    )
    assert any("license_link 'LICENSE'" in str(problem) for problem in lint_model(write_card(tmp_path, text)))
    (tmp_path / "LICENSE").write_text("see above")
    assert lint_model(tmp_path) == []


def test_local_folders_stay_out_of_the_front_matter():
    text = render_model_card(
        "m",
        licence="mit",
        summary={},
        base_model="/home/someone/model",
        datasets=["./lp-musiccaps", "org/lp-musiccaps"],
    )
    assert ModelCard(text).data.datasets == ["org/lp-musiccaps"]
    assert ModelCard(text).data.base_model is None
    assert "/home/someone" not in text


def test_the_examples_name_the_repository_when_it_is_known():
    assert 'model="org/lpmc-mini"' in render_model_card("lpmc-mini", licence="mit", summary={}, repo_id="org/lpmc-mini")
    assert 'model="./lpmc-mini"' in render_model_card("lpmc-mini", licence="mit", summary={})


def test_the_lint_names_what_is_wrong_with_a_model_card(tmp_path):
    text = render_model_card("m", licence="mit", summary={}, results={"bleu1": 0.2813})
    card = write_card(tmp_path, text.replace("pipeline_tag: audio-text-to-text\n", ""))
    assert [str(problem) for problem in lint_model(card)] == ["README.md: pipeline_tag is missing"]
    write_card(tmp_path, text + "\nTrained in /home/someone/runs/7.\n")
    assert "holds the absolute path '/home/someone/runs/7'" in str(lint_model(tmp_path)[0])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("    metrics:\n", "    scores:\n", "model-index cannot be read: ValueError"),
        ("- name: m\n", "- title: m\n", "model-index cannot be read"),
        ("value: 0.2813", 'value: "0.2813"', "model-index: bleu1 is '0.2813', expected a number"),
        ("value: 0.2813", "value: .nan", "model-index: bleu1 is nan, expected a number"),
        ("value: 0.2813", "value: 0.28130001", "model-index: bleu1 is 0.28130001, the result file says 0.2813"),
        ("value: 0.2813", "value: 0.281", "model-index: bleu1 is 0.281, the result file says 0.2813"),
        ("type: bleu1", "type: bleu9", "model-index: no result file holds bleu9"),
        ("name: bleu1", "name: bleu4", "model-index: bleu1 is called bleu4"),
        (
            "library_name: transformers",
            "library_name: 5.23",
            "library_name 5.23 must be text: YAML reads it as a number",
        ),
        ("language: en", "language: no", "language False is no ISO code"),
        ("license: mit", "license: cc-by-5.0", "license 'cc-by-5.0' is not one of the Hub's identifiers"),
        ("language: en", "datasets:\n- a b\nlanguage: en", "datasets: 'a b' is no id on the Hub"),
    ],
)
def test_faults_of_the_front_matter_and_the_model_index_are_named(tmp_path, old, new, problem):
    text = render_model_card("m", licence="mit", summary={}, results={"bleu1": 0.2813})
    assert old in text
    found = [str(each) for each in lint_model(write_card(tmp_path, text.replace(old, new, 1)))]
    assert any(problem in each for each in found), found


@pytest.mark.parametrize("name", ["license", "language", "tags", "datasets", "model-index", "pipeline_tag"])
@pytest.mark.parametrize("value", [None, True, 1.0, "2026-01-02", [], [None], [{"a": 1}], {"a": {"b": 1}}, "", [[1]]])
def test_no_value_of_the_front_matter_makes_the_lint_crash(tmp_path, name, value):
    front, body = render_model_card("m", licence="mit", summary={}, results=RESULTS).split("---\n", 2)[1:]
    spoiled = yaml.safe_dump({**yaml.safe_load(front), name: value})
    assert isinstance(lint_model(write_card(tmp_path, f"---\n{spoiled}---\n{body}")), list)


def test_each_metric_carries_its_own_signature(tmp_path):
    results = {"bleu1": 0.2813, "n": 120, "signature": {"bleu1": "order:1|tok:13a"}}
    text = render_model_card("m", licence="mit", summary={}, results=results)
    assert "| bleu1 | 0.2813 | `order:1\\|tok:13a` |" in text
    assert "Measured on n: 120." in text
    assert lint_model(write_card(tmp_path, text, results)) == []
