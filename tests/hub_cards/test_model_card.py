"""The model's card: a model index that round-trips, nothing claimed that was not measured, and its lint."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hub_cards import lint_model, render_model_card
from hub_cards.licences import hub_licence

SUMMARY = {"parameters": 12_345_678, "trained on": {"rows": 900, "split": "train"}, "epochs": 3, "note": None}
RESULTS = {"bleu1": 0.2813, "meteor": 0.19, "dataset": "rendered", "split": "test", "rows": 120, "signature": "v1"}


def write_card(directory: Path, text: str) -> Path:
    (directory / "README.md").write_text(text)
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
    text = render_model_card("m", licence="mit", summary={}, results={"bleu1": 0.5})
    card = write_card(tmp_path, text.replace("pipeline_tag: audio-text-to-text\n", ""))
    assert [str(problem) for problem in lint_model(card)] == ["README.md: pipeline_tag is missing"]
    write_card(tmp_path, text.replace("    metrics:\n", "    scores:\n"))
    assert "model-index cannot be read" in str(lint_model(tmp_path)[0])
    write_card(tmp_path, text + "\nTrained in /home/someone/runs/7.\n")
    assert "holds the absolute path '/home/someone/runs/7'" in str(lint_model(tmp_path)[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("cc-by-4.0", "cc-by-4.0"),
        ("Attribution-NonCommercial 3.0 International", "cc-by-nc-3.0"),
        ("Attribution-NonCommercial-ShareAlike 3.0", "cc-by-nc-sa-3.0"),
        ("Creative Commons Attribution 4.0 International License", "cc-by-4.0"),
        ("http://creativecommons.org/licenses/by-nc-nd/3.0/us/", "cc-by-nc-nd-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0 1.0 Universal", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("CC BY-SA 4.0 (text)", "cc-by-sa-4.0"),
        ("All rights reserved", None),
        ("CC BY 1.0", None),
        ("", None),
    ],
)
def test_licences_are_known_under_the_names_that_corpora_give_them(text, expected):
    assert hub_licence(text) == expected
