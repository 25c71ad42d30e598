"""The cards of the demo's Space and of the evaluate module: rendered from the code beside them, and their lint."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from card_material import SCORES, with_one_digit_changed
from huggingface_hub import SpaceCard

from hub_cards import lint_metric, lint_space, render_metric_card, render_space_card
from hub_cards.render_space import SpaceFacts, read_metric, read_space

PROJECT = Path(__file__).parents[2]
PINNED = re.search(r"^gradio==(\S+)", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)[1]
MODULE = PROJECT / "caption_metrics/caption_metrics.py"


@pytest.fixture
def space(tmp_path: Path) -> Path:
    for name in ("README.md", "app.py", "requirements.txt"):
        shutil.copy(PROJECT / "space" / name, tmp_path)
    return tmp_path


@pytest.fixture
def metric(tmp_path: Path) -> Path:
    shutil.copy(MODULE, tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(SCORES))
    (tmp_path / "README.md").write_text(render_metric_card(read_metric(MODULE), results=SCORES))
    return tmp_path


def test_the_space_s_card_is_what_is_rendered_from_its_app_and_the_pinned_gradio():
    rendered = render_space_card(read_space(PROJECT / "space/app.py"), sdk_version=PINNED)
    assert (PROJECT / "space/README.md").read_text(encoding="utf-8") == rendered


def test_the_space_s_card_follows_the_limits_of_the_app_and_names_what_it_uses():
    facts = SpaceFacts(max_minutes=12, max_file_size="2gb", keep_seconds=7200)
    text = render_space_card(facts, sdk_version="6.0.0", models=["org/lpmc", "./local"], datasets=["org/lp-musiccaps"])
    assert "half a second to 12 minutes, up to 2 GB" in text
    assert "deleted after 2 hours" in text
    data = SpaceCard(text).data
    assert (data.models, data.datasets, data.sdk_version) == (["org/lpmc"], ["org/lp-musiccaps"], "6.0.0")
    assert data.python_version == "3.12", "text, though YAML would read a number"


def test_the_space_of_the_project_has_no_problem(space):
    assert lint_space(space) == []


def test_a_changed_number_of_the_space_s_card_is_found(space):
    text = (space / "README.md").read_text()
    missed = []
    for spoiled, line in with_one_digit_changed(text):
        (space / "README.md").write_text(spoiled)
        if not lint_space(space):
            missed.append(line.split(":")[0])
    # Pins are a choice; the first test holds them against constraints.txt.
    assert set(missed) <= {"sdk_version", "python_version"}


def test_an_invented_number_in_the_space_s_card_is_found(space):
    card = space / "README.md"
    card.write_text(card.read_text() + "\nUsed by 1,234 people. Files of up to 300 MB.\n")
    assert [str(problem) for problem in lint_space(space)] == [
        f"README.md: no result file holds the number {number} in 'Used by 1,234 people. Files of up to 300 MB.'"
        for number in ("1,234", "300 MB")
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title: .*", "title: 2026", "title 2026 is not text: YAML reads it as a number, quote it"),
        ("title: .*\n", "", "title is missing"),
        ("emoji: .*", "emoji: music", "emoji 'music' is not an emoji"),
        ("colorFrom: .*", "colorFrom: orange", "colorFrom 'orange' is not one of blue, gray, green"),
        ("sdk: gradio", "sdk: streamlit", "sdk 'streamlit' is not one of docker, gradio, static"),
        (
            "sdk_version: .*",
            "sdk_version: 6.3",
            "sdk_version 6.3 is not a version such as 6.31.0: YAML reads it as a number",
        ),
        ("sdk_version: .*\n", "", "sdk_version is missing: the Hub would choose one"),
        ("python_version: .*", "python_version: 3.12", "python_version 3.12 is not a version of Python 3"),
        ("python_version: .*", 'python_version: "2.7"', "python_version '2.7' is not a version of Python 3"),
        ("app_file: .*", "app_file: page.py", "app_file 'page.py' does not exist"),
        ("app_file: .*", "app_file: /app.py", "app_file '/app.py' is not the path of a file here"),
        ("license: .*", "license: Apache", "license 'Apache' is not one of the Hub's identifiers"),
        ("short_description: .*", f"short_description: {'a' * 61}", "is not text of up to 60 characters"),
        ("suggested_hardware: .*", "suggested_hardware: big", "suggested_hardware 'big' is not a flavour of hardware"),
        ("suggested_hardware: .*", "hardware: t4-small", "hardware is no setting of a Space; suggested_hardware is"),
        (
            "startup_duration_timeout: .*",
            "startup_duration_timeout: 30",
            "startup_duration_timeout 30 is not a duration",
        ),
        ("pinned|tags:", "pinned: maybe\ntags:", "pinned 'maybe' is not true or false"),
        ("tags:", "models: org/x\ntags:", "models 'org/x' is not a list of ids on the Hub"),
        ("tags:", "datasets:\n  - a/b/c\ntags:", "datasets ['a/b/c'] is not a list of ids on the Hub"),
        ("tags:\n", "tags:\n  - no\n", "tags [False, 'music',"),
        ("tags:", "fullWidth: 1\ntags:", "fullWidth 1 is not true or false"),
        ("tags:", "header: big\ntags:", "header 'big' is not mini or default"),
        (
            "tags:",
            "hf_oauth_expiration_minutes: 99999\ntags:",
            "hf_oauth_expiration_minutes 99999 is not a whole number",
        ),
        ("tags:", "preload_from_hub: org/x\ntags:", "preload_from_hub 'org/x' is not a list of"),
        ("tags:", "custom_headers:\n  x-frame: deny\ntags:", "custom_headers {'x-frame': 'deny'} is not names"),
        ("tags:", "thumbnail: a.png\ntags:", "thumbnail 'a.png' does not exist"),
        ("tags:", "app_port: 0\ntags:", "app_port 0 is not a whole number, the port"),
        ("tags:", "colour: red\ntags:", "colour is no setting of a Space"),
        (r"\]\(https://arxiv.org/abs/2307.16372\)", "](paper.pdf)", "link to paper.pdf, which does not exist"),
    ],
)
def test_the_lint_names_what_is_wrong_with_a_space(space, old, new, problem):
    card = space / "README.md"
    spoiled = re.sub(old, lambda _: new, card.read_text(), count=1)
    assert spoiled != card.read_text()
    card.write_text(spoiled)
    found = [str(each) for each in lint_space(space)]
    assert any(problem in each for each in found), found


def test_another_gradio_in_the_requirements_is_named(space):
    (space / "requirements.txt").write_text("gradio==5.0.0\n")
    assert [str(each) for each in lint_space(space)] == [
        f"requirements.txt: pins gradio 5.0.0, the card's sdk_version is {PINNED}"
    ]


def test_the_metric_s_card_tells_what_the_module_says_of_itself(metric):
    text = (metric / "README.md").read_text()
    facts = read_metric(MODULE)
    assert facts.description in text
    assert "training_captions (list of str, optional)" in text
    assert facts.options.items() >= {"training_captions": None, "tags": None, "blind": True, "seed": 0}.items()
    assert "`blind=True`" in text
    assert "| bleu1 | 0.2813 | 0.2936 | 0.117 | `order:1\\|tok:13a` |" in text
    assert "| meteor | 0.19004 | - | 0.08 |" in text
    assert lint_metric(metric) == []


def test_a_metric_without_an_example_claims_none(metric):
    (metric / "evaluation.json").unlink()
    (metric / "README.md").write_text(render_metric_card(read_metric(MODULE), repo_id="org/metrics"))
    assert "## An example" not in (metric / "README.md").read_text()
    assert lint_metric(metric) == []
    with pytest.raises(ValueError, match="results hold no score"):
        render_metric_card(read_metric(MODULE), results={"n": 3})


def test_every_changed_digit_of_the_metric_s_card_is_found(metric):
    text = (metric / "README.md").read_text()
    for spoiled, line in with_one_digit_changed(text):
        (metric / "README.md").write_text(spoiled)
        assert lint_metric(metric), line


def test_the_lint_names_what_is_wrong_with_a_metric(metric):
    card = metric / "README.md"
    text = card.read_text()
    card.write_text(text.replace("  - evaluate\n", "") + "\nIt agrees with people in 97 % of the cases.\n")
    found = [str(each) for each in lint_metric(metric)]
    assert "README.md: tags lacks 'evaluate': evaluate's pages list modules by it" in found
    assert any("no result file holds the number 97 %" in each for each in found)
    card.write_text(text)
    (metric / "caption_metrics.py").unlink()
    assert "README.md: 0 evaluate modules lie beside the card, expected one" in map(str, lint_metric(metric))
