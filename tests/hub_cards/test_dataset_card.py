"""The data set's card: what its front matter and body say about the files, and what the lint finds wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.ledger import Ledger
from hub_cards import ConfigFacts, Making, lint_dataset, read_config, render_dataset_card
from hub_cards.lint import find_absolute_paths, find_secrets
from hub_cards.render import render_licences, size_category

FEATURES = datasets.Features({"track_id": datasets.Value("string"), "path": datasets.Value("string")})


def write_config(directory: Path, name: str, splits: dict[str, list[int]], **making: object) -> ConfigFacts:
    """A configuration whose splits have the given rows in each of their files."""
    folder = directory / name
    folder.mkdir(parents=True)
    for split, shards in splits.items():
        for index, rows in enumerate(shards):
            table = pa.table({"track_id": [f"t{i}" for i in range(rows)], "path": ["a/b.mp3"] * rows})
            path = folder / f"{split}-{index:05d}-of-{len(shards):05d}.parquet"
            pq.write_table(table.cast(FEATURES.arrow_schema), path)
    defaults = {"layout": "generic", "sources": {"fma": 5}, "licences": {"CC BY 4.0": 5}}
    (folder / "build.json").write_text(json.dumps(Making(**{**defaults, **making}).as_json()))
    return read_config(directory, name)


def write_dataset(directory: Path, **making: object) -> Path:
    config = write_config(directory, "fma", {"train": [3, 2], "test": [1]}, **making)
    (directory / "LICENSE.md").write_text(render_licences([config]))
    (directory / "README.md").write_text(render_dataset_card([config]))
    return directory


def test_the_front_matter_states_what_the_files_hold(tmp_path):
    data = DatasetCard.load(write_dataset(tmp_path) / "README.md").data

    assert data.license == "cc-by-4.0"
    assert data.language == "en"
    assert data.task_categories == ["text-to-audio"]
    assert data.size_categories == "n<1K"
    assert data["configs"] == [
        {
            "config_name": "fma",
            "data_files": [
                {"split": "train", "path": "fma/train-*.parquet"},
                {"split": "test", "path": "fma/test-*.parquet"},
            ],
            "default": True,
        }
    ]
    splits = {split["name"]: split for split in data["dataset_info"]["splits"]}
    footers = [pq.read_metadata(path) for path in sorted((tmp_path / "fma").glob("train-*"))]
    assert splits["train"]["num_examples"] == 5
    assert splits["train"]["num_bytes"] == sum(footer.row_group(0).total_byte_size for footer in footers)
    assert splits["test"]["num_examples"] == 1
    assert data["dataset_info"]["download_size"] == sum(
        path.stat().st_size for path in (tmp_path / "fma").glob("*.parquet")
    )


def test_the_body_tells_what_failed_who_answered_and_what_to_beware_of(tmp_path):
    text = (
        write_dataset(
            tmp_path,
            outcomes={"writing": {"ok": 1234, "parse_failed": 2}, "attribute_prediction": {"ok": 5, "rejected": 1}},
            template_captions={"attribute_prediction": 1},
            models={"SmolLM2-135M": 1236},
            wordings={"small (0123456789ab)": 1242},
            pipeline={"temperature": 0.0, "started": "2026-01-02"},
        )
        / "README.md"
    ).read_text()

    assert "| instruction | ok | parse_failed | rejected | template in its place |" in text
    assert "| writing | 1,234 | 2 | 0 | 0 |" in text
    assert "| attribute_prediction | 5 | 0 | 1 | 1 |" in text
    assert "SmolLM2-135M (1,236 captions)" in text
    assert "small (0123456789ab) (1,242 captions)" in text
    assert "| started | 2026-01-02 |" in text
    assert "Do not use `caption_attribute_prediction`" in text
    assert "No such caption was written by listening" in text
    assert "| `fma` | train | 5 | 2 |" in text
    assert lint_dataset(tmp_path) == []


def test_the_body_tells_how_faithful_the_captions_are_with_intervals(tmp_path):
    ledger = Ledger()
    for number in range(250):
        unsupported = ("mood: happy",) if number < 5 else ()
        ledger.add(
            CaptionRow(
                f"t{number}", "writing", f"A slow song, take {number}.", "ok", tag_coverage=0.9, unsupported=unsupported
            )
        )
    account = ledger.to_dict()
    made = {"quality": account["by_instruction"], "alarms": account["alarms"]}
    text = (write_dataset(tmp_path, outcomes={"writing": {"ok": 250}}, **made) / "README.md").read_text()
    assert '| writing | 250 | 5 to 5 | 90.0 % | 2.0 % (0.9 to 4.6) | - | "a slow song" 100.0 % |' in text
    assert "**Look at this first:** writing: 100.0% of the captions begin with 'a slow song'." in text
    assert lint_dataset(tmp_path) == []


def test_without_attribute_prediction_there_is_no_warning_about_it(tmp_path):
    text = (write_dataset(tmp_path, outcomes={"writing": {"ok": 5}}) / "README.md").read_text()
    assert "Do not use" not in text


def test_captions_without_a_language_model_are_not_laid_to_one(tmp_path):
    by_model = (write_dataset(tmp_path / "a", models={"m": 5}) / "README.md").read_text()
    by_template = (write_dataset(tmp_path / "b") / "README.md").read_text()
    assert "most of them by a language model" in by_model
    assert "without a language model: one row a track" in by_template


@pytest.mark.parametrize(
    ("sources", "licences", "expected"),
    [
        ({"fma": 2}, {"CC BY 4.0": 1, "CC0": 1}, ["cc-by-4.0", "cc0-1.0"]),
        ({"musiccaps": 2}, {"": 2}, "cc-by-sa-4.0"),
        ({"fma": 2}, {"All rights reserved": 2}, "other"),
        ({"my own": 2}, {"": 2}, "other"),
        ({"my own": 2}, {"mit": 2}, "mit"),
    ],
)
def test_the_licence_is_that_of_the_rows_and_sources_and_other_where_one_is_not_known(
    tmp_path, sources, licences, expected
):
    directory = write_dataset(tmp_path, sources=sources, licences=licences)
    data = DatasetCard.load(directory / "README.md").data
    assert data.license == expected
    if expected == "other":
        assert (data["license_name"], data["license_link"]) == ("per-source", "LICENSE.md")
    assert lint_dataset(directory) == []
    assert all(name in (directory / "LICENSE.md").read_text() for name in licences)


def test_text_of_a_corpus_cannot_break_out_of_its_table_cell(tmp_path):
    text = (write_dataset(tmp_path, models={"a|b\n# <b>Heading</b>": 1}) / "README.md").read_text()
    assert "a\\|b # &lt;b&gt;Heading&lt;/b&gt;" in text


def test_size_categories_are_the_hubs():
    assert [size_category(rows) for rows in (0, 999, 1_000, 25_860, 513_977)] == [
        *("n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M")
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("license: cc-by-4.0", "license: CC-BY-4.0", "license 'CC-BY-4.0' is not one of the Hub's identifiers"),
        ("license: cc-by-4.0", "license: other", "license `other` needs license_name"),
        ("language: en", "language: English", "language 'English' is no ISO code"),
        ("- text-to-audio", "- audio-text-to-text", "no task that the Hub shows for data sets"),
        ("size_categories: n<1K", "size_categories: small", "size_categories 'small' is unknown"),
        ("num_examples: 5", "num_examples: 6", "num_examples is 6, the Parquet footers say 5"),
        (r"num_bytes: \d+", "num_bytes: 1", "num_bytes is 1, the Parquet footers say"),
        ("  default: true\n", "", "0 configurations have `default: true`, expected one"),
        ("path: fma/test-", "path: fma/tests-", "no file matches 'fma/tests-*.parquet'"),
        ("- name: path", "- name: paths", "its columns are not the features of the card"),
        (
            "## Limits",
            "See [the limits](#limit) and [this](missing.md).\n\n## Limits",
            "link to #limit, but no heading",
        ),
        ("## Limits", "[this](missing.md)\n\n## Limits", "link to missing.md, which does not exist"),
        ("pretty_name: LP-MusicCaps\n", "", "pretty_name is missing"),
        ("tags:\n", "tags:\n- 2026\n", "tags must be a list of strings"),
        ("\n---\n", "\n: [\n---\n", "front matter is no YAML"),
    ],
)
def test_the_lint_names_what_is_wrong_with_a_card(tmp_path, old, new, problem):
    card = write_dataset(tmp_path) / "README.md"
    text = card.read_text()
    spoiled = re.sub(old, lambda _: new, text, count=1)
    assert spoiled != text
    card.write_text(spoiled)

    found = [str(each) for each in lint_dataset(tmp_path)]

    assert any(problem in each for each in found), found


def test_the_lint_looks_into_the_files(tmp_path):
    directory = write_dataset(tmp_path)
    assert lint_dataset(directory) == []
    table = pa.table({"track_id": ["t0"], "path": ["/home/someone/music/a.mp3"]}).cast(FEATURES.arrow_schema)
    pq.write_table(table, directory / "fma/test-00000-of-00001.parquet")
    (directory / "fma/valid-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")

    found = [str(each) for each in lint_dataset(directory)]

    assert any("test-00000-of-00001.parquet: holds the absolute path '/home/someone/music/a.mp3'" in e for e in found)
    assert any("fma/valid-*.parquet: cannot be read" in each for each in found)
    assert any("valid-00000-of-00001.parquet: belongs to no split of the card" in each for each in found)


def test_a_folder_without_a_card_is_a_problem_and_no_crash(tmp_path):
    assert [str(problem) for problem in lint_dataset(tmp_path)] == ["README.md: is missing"]
    (tmp_path / "README.md").write_text("# No front matter\n")
    assert "has no front matter" in str(lint_dataset(tmp_path)[0])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Made in /home/someone/lp.", ["/home/someone/lp"]),
        ("`--output /srv/data/lp-musiccaps`", ["/srv/data/lp-musiccaps"]),
        ("from file:///data/x", ["file:///data/x"]),
        (r"C:\Users\someone\lp", [r"C:\Users"]),
        ("https://arxiv.org/abs/2307.16372 and 12/8 time, train/valid/test, and/or", []),
        ("[the corpus](/datasets/org/name)", []),
        ("</details> <b>a</b> 1/2", []),
    ],
)
def test_absolute_paths_are_told_from_addresses_and_fractions(text, found):
    assert find_absolute_paths(text) == found


def test_keys_are_found_and_never_shown_whole():
    key = "hf_" + "Ab3" * 12
    assert find_secrets(f"token: {key}") == ["hf_Ab..."]
    assert find_secrets("sk-" + "a" * 20) == ["sk-aa..."]
    assert find_secrets("task-specific, hf_hub, risk-averse-and-very-careful-people, LP-MusicCaps") == []
