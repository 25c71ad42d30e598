"""The data set's card: what its front matter and body say about the files, and what the lint finds wrong."""

from __future__ import annotations

import json
import re

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from card_material import FEATURES, write_cards, write_config, write_dataset
from huggingface_hub import DatasetCard

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.ledger import Ledger
from hub_cards import lint_dataset
from hub_cards.licences import SOURCES
from hub_cards.lint import find_absolute_paths, find_secrets
from hub_cards.render import size_category


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
            outcomes={"writing": {"ok": 4, "skipped_no_tags": 2}, "attribute_prediction": {"ok": 5, "rejected": 1}},
            template_captions={"attribute_prediction": 1},
            models={"SmolLM2-135M": 1236},
            wordings={"small (0123456789ab)": 1242},
            pipeline={"temperature": 0.0, "started": "2026-01-02", "top_p": None, "signature": "f00"},
        )
        / "README.md"
    ).read_text()

    assert "| instruction | ok | rejected | skipped_no_tags | in all | template in its place |" in text
    assert "| writing | 4 | 0 | 2 | 6 | 0 |" in text
    assert "| attribute_prediction | 5 | 1 | 0 | 6 | 1 |" in text
    assert "SmolLM2-135M (1,236 captions)" in text
    assert "small (0123456789ab) (1,242 captions)" in text
    assert "| started | 2026-01-02 |" in text
    assert "top_p" not in text, "what is not known is left out"
    assert "signature" not in text, "bookkeeping stays in pipeline.json"
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
    made = {"quality": account["by_instruction"], "alarms": account["alarms"], "outcomes": {"writing": {"ok": 250}}}
    text = (write_cards(tmp_path, write_config(tmp_path, "fma", {"train": [250]}, **made)) / "README.md").read_text()
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
        ({"fma": 6}, {"CC BY 4.0": 5, "CC0": 1}, ["cc-by-4.0", "cc0-1.0"]),
        ({"musiccaps": 6}, {"": 6}, "cc-by-sa-4.0"),
        ({"fma": 6}, {"All rights reserved": 6}, "other"),
        ({"fma": 6}, {"Public Domain Mark 1.0": 6}, "other"),
        ({"my own": 6}, {"": 6}, "other"),
        ({"my own": 6}, {"mit": 6}, "mit"),
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
        ("tags:\n", "tags:\n- 2026\n", "tags: 2026 is no tag: YAML reads it as a number, quote it"),
        ("tags:\n", "tags:\n- no\n", "tags: False is no tag: YAML reads it as a truth value, quote it"),
        ("tags:\n", "tags:\n- 2026-01-02\n", "YAML reads it as a date, quote it"),
        ("language: en", "language: no", "language False is no ISO code: YAML reads it as a truth value, quote it"),
        ("pretty_name: LP-MusicCaps", "pretty_name: 1.0", "pretty_name 1.0 must be text: YAML reads it as a number"),
        ("language: en", "language: en\nlanguage: de", "front matter is no YAML: 'language' stands there twice"),
        ("- config_name: fma", "- config_name: yes", "config_name True must be text"),
        ("## Limits", "[it](https://)\n\n## Limits", "link to https://, which is no address of the web"),
        (
            "## Limits",
            "[it](http://a.example/b c)\n\n## Limits",
            "link to http://a.example/b c, which is no address of the web",
        ),
        ("## Limits", "[it](htps://arxiv.org)\n\n## Limits", "link to htps://arxiv.org, which is no address"),
        ("## Limits", "[it]()\n\n## Limits", "a link leads nowhere"),
        ("## Limits", "[it](../)\n\n## Limits", "link to ../, which does not exist here"),
        ("## Limits", "[it](LICENSE.md#none)\n\n## Limits", "link to #none, but no heading of LICENSE.md"),
        ("pretty_name", "extra_gated_fields:\n  Company: txt\npretty_name", "'Company' has the type 'txt'"),
        ("pretty_name", "extra_gated_fields:\n  Use:\n    type: select\npretty_name", "without a list of options"),
        ("pretty_name", "extra_gated_fields: yes\npretty_name", "must be names with their types"),
        ("pretty_name", "extra_gated_heading: 3\npretty_name", "extra_gated_heading 3 must be text"),
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


@pytest.mark.parametrize(
    "path", ["/home/someone/a.mp3", "C:\\music\\a.mp3", "d:/music/a.mp3", "\\\\server\\music\\a.mp3"]
)
@pytest.mark.parametrize("column", ["path", "audio"])
def test_absolute_paths_in_the_files_are_named(tmp_path, column, path):
    features = datasets.Features({**FEATURES, "audio": datasets.Audio()})
    audio = {"bytes": b"RIFF", "path": path if column == "audio" else "a.mp3"}
    row = {"audio": audio, **({"path": path} if column == "path" else {})}
    config = write_config(tmp_path, "fma", {"train": [2]}, features, row, audio_embedded=2)
    found = [str(each) for each in lint_dataset(write_cards(tmp_path, config))]
    assert found == [f"fma/train-00000-of-00001.parquet: holds the absolute path {path!r}"]


def test_links_that_lead_somewhere_are_no_problem(tmp_path):
    card = write_dataset(tmp_path) / "README.md"
    good = "[a](#limits) [b](LICENSE.md#licences) [c](/datasets/org/name) [d](mailto:a@b.example) ![e](LICENSE.md)"
    more = '<https://arxiv.org/abs/2307.16372> `[f](nowhere)` [g](LICENSE.md "a title")'
    card.write_text(f"{card.read_text()}\n{good}\n{more}\n")
    assert lint_dataset(tmp_path) == []


@pytest.mark.parametrize(
    "source", ["magnatagatune", "msd_ecals", "mtg_jamendo", "musiccaps", "song_describer", "jamendo_max_caps"]
)
def test_corpora_with_terms_ask_for_an_agreement_before_the_download(tmp_path, source):
    directory = write_dataset(tmp_path, sources={source: 6}, licences={"": 6})
    data = DatasetCard.load(directory / "README.md").data

    assert f"- {SOURCES[source].title}: {SOURCES[source].gate}." in data["extra_gated_prompt"].splitlines()
    assert data["extra_gated_fields"]["I will keep to these terms"] == "checkbox"
    assert data["extra_gated_heading"]
    assert data["extra_gated_button_content"]
    assert SOURCES[source].gate in (directory / "README.md").read_text().split("---", 2)[2], "the body says why, too"
    assert lint_dataset(directory) == []

    front, body = (directory / "README.md").read_text().split("\n---\n", 1)
    kept = {name: value for name, value in yaml.safe_load(front.strip("-")).items() if not name.startswith("extra")}
    (directory / "README.md").write_text(f"---\n{yaml.safe_dump(kept)}---\n{body}")
    assert any(f"extra_gated_fields is missing: {SOURCES[source].title}" in str(p) for p in lint_dataset(directory))


def test_a_free_corpus_asks_for_nothing(tmp_path):
    assert "extra_gated" not in (write_dataset(tmp_path) / "README.md").read_text()


def test_a_corpus_for_evaluation_says_so(tmp_path):
    text = (write_dataset(tmp_path / "a", sources={"song_describer": 6}) / "README.md").read_text()
    assert "its rows are for evaluation. Train nothing on them." in text
    assert "for evaluation" not in (write_dataset(tmp_path / "b") / "README.md").read_text()


def test_what_was_withheld_left_out_or_let_through_is_counted(tmp_path):
    text = (
        write_dataset(
            tmp_path,
            audio_embedded=3,
            without_audio=(("t1", "no such file"), ("t2", "no such file")),
            doubtful_audio=(("t3", "silent"),),
            withheld_audio={"CC BY-ND 9.9": 1},
            left_out={"artist": 12},
            allowed_leaks={"recording": 7},
            sources={"fma": 18},
        )
        / "README.md"
    ).read_text()

    assert (
        "Tracks with their original audio file: 3; without one: 2 "
        "(ids and reasons: `without_audio` in `fma/build.json`)." in text
    )
    assert "worth a look: 1 (ids and reasons: `doubtful_audio` in `fma/build.json`)." in text
    assert "Tracks whose audio was left out for their licence: 1 (CC BY-ND 9.9)." in text
    assert "left out, since they would leak into the evaluation: 12 (artist)." in text
    assert "> **Training tracks that also touch the evaluation, kept on request: 7 (recording).**" in text
    assert lint_dataset(tmp_path) == []


def test_a_configuration_without_audio_shows_how_to_join_ones_own(tmp_path):
    text = (write_dataset(tmp_path) / "README.md").read_text()
    code = re.search(r"```python\n(from dataset_builder.*?)```", text, re.DOTALL)[1]
    compile(code, "card", "exec")
    assert 'LPMusicCaps(config_name="generic", data_dir="lp-musiccaps/fma", audio_root="my-audio")' in code
    with_audio = (write_dataset(tmp_path / "b", audio_embedded=6) / "README.md").read_text()
    assert "audio_root" not in with_audio


@pytest.mark.parametrize(
    ("making", "problem"),
    [
        ({"sources": {"fma": 7}}, "sources add up to 7, the Parquet footers say 6 rows"),
        ({"licences": {"CC BY 4.0": 5}}, "licences add up to 5, the Parquet footers say 6 rows"),
        ({"outcomes": {"writing": {"ok": 6, "rejected": 1}}}, "outcomes of writing add up to 7"),
        ({"outcomes": {"writing": {"ok": 1}}, "template_captions": {"writing": 2}}, "more templates than outcomes"),
        ({"audio_embedded": 7}, "audio_embedded is 7, there are 6 rows"),
    ],
)
def test_counts_that_do_not_add_up_to_the_rows_are_named(tmp_path, making, problem):
    found = [str(each) for each in lint_dataset(write_dataset(tmp_path, **making))]
    assert [each for each in found if problem in each and each.startswith("fma/build.json")], found


def test_a_making_that_cannot_be_read_is_a_problem_and_no_crash(tmp_path):
    directory = write_dataset(tmp_path)
    made = json.loads((directory / "fma/build.json").read_text())
    (directory / "fma/build.json").write_text(json.dumps({**made, "colour": "red"}))
    assert any("cannot be compared with the files" in str(problem) for problem in lint_dataset(directory))


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


AUDIO = datasets.Features({**FEATURES, "audio": datasets.Audio()})


def test_the_card_plays_a_clip_of_a_configuration_that_has_one(tmp_path):
    """A configuration may have an audio column and, for licences' sake, audio in some rows or in none."""
    rows = {"train": [4]}
    configs = [
        write_config(tmp_path, name, rows, AUDIO, audio_embedded=embedded, licences={"CC0": 4})
        for name, embedded in (("held", 0), ("part", 1), ("whole", 4))
    ]
    text = (write_cards(tmp_path, *configs) / "README.md").read_text()
    column = {
        line.split("|")[1].strip(" `"): line.split("|")[6].strip() for line in text.splitlines() if "kB |" in line
    }
    assert column == {"held": "none", "part": "in some rows", "whole": "embedded"}
    assert 'clips = load_dataset("lp-musiccaps", "whole", split="train")' in text
    assert 'next(row["audio"] for row in clips if row["audio"])' in text

    alone = (
        write_cards(tmp_path / "b", write_config(tmp_path / "b", "held", rows, AUDIO, audio_embedded=0)) / "README.md"
    )
    assert "To play a clip" not in alone.read_text()


def test_audio_that_was_held_back_is_told_in_one_line_also_for_many_licences(tmp_path):
    withheld = {"All rights reserved": 2, "": 1, "FMA-Limited: Download Only": 1}
    text = (write_dataset(tmp_path, audio_embedded=2, withheld_audio=withheld) / "README.md").read_text()
    assert (
        "Tracks whose audio was left out for their licence: "
        "2 (All rights reserved), 1 (none stated), 1 (FMA-Limited: Download Only).\n"
    ) in text
    assert lint_dataset(tmp_path) == []


def test_no_gate_denies_audio_that_the_data_set_may_hold():
    """A private data set may embed what cannot be published: the terms speak of the corpus, not of this data set."""
    assert not any("this data set" in known.gate for known in SOURCES.values())
