"""What a data set's card could tell a reader wrong without a wrong number, and what is no problem."""

from __future__ import annotations

import re

import pytest
from card_material import write_dataset

from hub_cards import lint_dataset

CHANGED = {  # what a reader would be told wrong, without one number of a result file being touched
    "another licence": ("license: cc-by-4.0", "license: mit", "license is mit; rows and sources say cc-by-4.0"),
    "no licence known": (
        "license: cc-by-4.0",
        "license: other\nlicense_name: mine\nlicense_link: LICENSE.md",
        "license is other; rows and sources say cc-by-4.0",
    ),
    "a corpus's terms": (r"\| FMA \|.*\|", "| FMA | public domain | free |", "lacks the line '| FMA |"),
    "what the rows state": (r"As the rows of .*\n", "", "lacks the line 'As the rows of"),
    "the warning": (r"> \*\*Do not use.*\n", "", "lacks the line '> **Do not use"),
    "test as training": ("path: fma/train-", "path: fma/test-", "the split 'train' takes test-00000-of-00001.parquet"),
    "a boast as a name": ("pretty_name: .*", "pretty_name: 900,000 songs", "no result file holds the number 900,000"),
    "a dead image": ("## Limits", "<img src='plot.png'>\n\n## Limits", "link to plot.png, which does not exist"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_card_that_tells_a_reader_wrong_in_words_fails(tmp_path, case):
    outcomes = {"attribute_prediction": {"ok": 6}}
    directory = write_dataset(tmp_path, outcomes=outcomes, models={"m": 6})
    old, new, problem = CHANGED[case]
    card = directory / "README.md"
    card.write_text(re.sub(old, new, card.read_text(), count=1))
    assert any(problem in str(found) for found in lint_dataset(directory)), lint_dataset(directory)


def test_terms_taken_out_of_the_licences_file_are_missed(tmp_path):
    directory = write_dataset(tmp_path)
    licences = directory / "LICENSE.md"
    licences.write_text(re.sub(r"\| FMA \|.*\|", "| FMA | public domain | free |", licences.read_text()))
    assert [problem.path for problem in lint_dataset(directory)] == ["LICENSE.md"]


def test_sentences_of_ones_own_are_no_problem(tmp_path):
    directory = write_dataset(tmp_path)
    card = directory / "README.md"
    text = card.read_text().replace("## Limits\n", "## Limits\n\nMade for a workshop; GPT-4 had no part in it.\n")
    card.write_text(text + "\n## Thanks\n\nTo all who tagged. See [the licences](LICENSE.md).\n")
    assert lint_dataset(directory) == []


@pytest.mark.parametrize("name", ["README.md", "LICENSE.md", "fma/build.json"])
def test_a_file_in_another_encoding_is_named(tmp_path, name):
    path = write_dataset(tmp_path) / name
    path.write_bytes(path.read_bytes().replace(b"fma", b"fm\xe9", 1))
    assert f"{name}: is no UTF-8 text" in map(str, lint_dataset(tmp_path))


def test_a_making_that_is_no_object_is_a_problem(tmp_path):
    (write_dataset(tmp_path) / "fma/build.json").write_text("[]")
    assert any("cannot be compared with the files" in str(problem) for problem in lint_dataset(tmp_path))


@pytest.mark.parametrize("path", ["/etc/*", '""', '"***"', "../*", "5", "a" * 300])
def test_a_pattern_that_can_match_nothing_here_is_a_problem_and_no_crash(tmp_path, path):
    card = write_dataset(tmp_path) / "README.md"
    card.write_text(card.read_text().replace("path: fma/train-*.parquet", f"path: {path}"))
    assert any("belongs to no split of the card" in str(problem) for problem in lint_dataset(tmp_path))


@pytest.mark.parametrize("target", ["http://[bad", "a" * 300 + ".md", "a\0.md"])
def test_a_link_that_no_system_can_follow_is_a_problem_and_no_crash(tmp_path, target):
    card = write_dataset(tmp_path) / "README.md"
    card.write_text(f"{card.read_text()}\nSee [there]({target}).\n")
    assert any(str(problem).startswith("README.md: link to") for problem in lint_dataset(tmp_path))


def test_a_licence_link_with_a_name_too_long_is_a_problem_and_no_crash(tmp_path):
    card = write_dataset(tmp_path) / "README.md"
    other = f"license: other\nlicense_name: mine\nlicense_link: {'a' * 300}"
    card.write_text(card.read_text().replace("license: cc-by-4.0", other))
    assert any("neither an https address nor a file" in str(problem) for problem in lint_dataset(tmp_path))
