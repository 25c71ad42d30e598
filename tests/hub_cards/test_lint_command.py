"""`lpmc lint PATH`: what lies there, its problems, and the exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from card_material import SCORES, write_dataset, write_model
from typer.testing import CliRunner

from hub_cards import lint_dataset, lint_directory, lint_space, render_metric_card, render_model_card
from hub_cards.render_space import read_metric
from lpmc import app
from lpmc_errors import UsageError

PROJECT = Path(__file__).parents[2]
RUNNER = CliRunner()


def test_each_kind_of_card_is_recognised_by_what_lies_there(tmp_path):
    write_dataset(tmp_path / "data")
    results = {"bleu1": SCORES["bleu1"]}
    card = render_model_card("m", licence="mit", summary={}, results=results)
    write_model(tmp_path / "model", card)
    metric = tmp_path / "metric"
    metric.mkdir()
    module = PROJECT / "caption_metrics/caption_metrics.py"
    (metric / module.name).write_text(module.read_text())
    (metric / "README.md").write_text(render_metric_card(read_metric(module)))
    found = {path: lint_directory(path) for path in (tmp_path / "data", tmp_path / "model", metric, PROJECT / "space")}
    assert [kind for kind, _ in found.values()] == ["dataset", "model", "metric", "space"]
    assert [problems for _, problems in found.values()] == [[], [], [], []]


def test_a_card_can_be_named_by_its_file(tmp_path):
    assert lint_directory(write_dataset(tmp_path) / "README.md") == ("dataset", [])


def test_a_data_set_that_lost_its_card_is_still_a_data_set(tmp_path):
    (write_dataset(tmp_path) / "README.md").unlink()
    assert lint_directory(tmp_path)[0] == "dataset"


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_a_card_is_wrong_usage(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        lint_directory(tmp_path / name)


def test_the_command_prints_problems_and_exits_with_one(tmp_path):
    card = write_dataset(tmp_path) / "README.md"
    good = RUNNER.invoke(app, ["lint", str(tmp_path)])
    assert (good.exit_code, good.stdout) == (0, f"{tmp_path}: dataset, 0 problems\n")

    card.write_text(card.read_text().replace("language: en", "language: no"))
    bad = RUNNER.invoke(app, ["lint", str(tmp_path)])
    assert bad.exit_code == 1
    assert bad.stdout.splitlines()[-1] == f"{tmp_path}: dataset, 1 problem"
    as_json = RUNNER.invoke(app, ["lint", str(tmp_path), "--json"])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["problems"] == [
        {"path": "README.md", "message": "language False is no ISO code: YAML reads it as a truth value, quote it"}
    ]
    assert RUNNER.invoke(app, ["lint", str(tmp_path / "none")]).exit_code == 2


def test_the_lint_of_a_data_set_needs_no_torch(tmp_path):
    write_dataset(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from hub_cards import lint_dataset\n"
        f"assert lint_dataset(Path({str(tmp_path)!r})) == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


ODD_VALUES = [None, True, 1.0, "2026-01-02", "", [], [None], [{"a": 1}], {"a": {"b": 1}}, [[1]]]


@pytest.mark.parametrize("kind", ["data", "space"])
def test_no_value_of_the_front_matter_makes_the_lint_crash(tmp_path, kind):
    directory = write_dataset(tmp_path / "data") if kind == "data" else tmp_path / "space"
    if kind == "space":
        shutil.copytree(PROJECT / "space", directory, ignore=shutil.ignore_patterns("__pycache__"))
    _, front, body = (directory / "README.md").read_text().split("---\n", 2)
    values = yaml.safe_load(front)
    lint = lint_dataset if kind == "data" else lint_space
    for name in values:
        for value in ODD_VALUES:
            (directory / "README.md").write_text(f"---\n{yaml.safe_dump({**values, name: value})}---\n{body}")
            assert isinstance(lint(directory), list), name
