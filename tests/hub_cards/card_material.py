"""Small data sets and models to render cards for: real Parquet files and result files, with the counts in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from hub_cards import ConfigFacts, Making, read_config, render_croissant, render_dataset_card
from hub_cards.render import render_licences

FEATURES = datasets.Features({"track_id": datasets.Value("string"), "path": datasets.Value("string")})
ROWS = {"train": [3, 2], "test": [1]}  # rows in each file of each split
SCORES = {  # a score card as `lpmc evaluate --json` prints it
    "bleu1": 0.2813,
    "meteor": 0.19004,
    "n": 120,
    "signature": {"bleu1": "order:1|tok:13a", "meteor": "nltk|alpha:0.9"},
    "blind": {"constant": {"bleu1": 0.2936, "meteor": None}, "shuffled": {"bleu1": 0.117, "meteor": 0.08}},
}
TRAINING = {
    "parameters": 1_229_440,
    "updates": 1000,
    "rows": {"train": 192, "test": 24},
    "recipe": {"optimisation": {"batch_size": 8, "learning_rate": 0.0007}},
    "loss_curve": [{"update": 20, "loss": 31.4}],
    "versions": {"torch": "2.13.0"},
}


def write_config(
    directory: Path,
    name: str,
    splits: dict[str, list[int]],
    features: datasets.Features = FEATURES,
    row: dict[str, Any] | None = None,
    **making: object,
) -> ConfigFacts:
    """A configuration whose splits have the given rows in each of their files; `row` fills further columns."""
    folder = directory / name
    folder.mkdir(parents=True)
    for split, shards in splits.items():
        for index, rows in enumerate(shards):
            values = [{"track_id": f"{split}-{index}-{i}", "path": "a/b.mp3", **(row or {})} for i in range(rows)]
            table = pa.Table.from_pylist(values, schema=features.arrow_schema)
            pq.write_table(table, folder / f"{split}-{index:05d}-of-{len(shards):05d}.parquet")
    rows = sum(map(sum, splits.values()))
    defaults = {"layout": "generic", "sources": {"fma": rows}, "licences": {"CC BY 4.0": rows}}
    (folder / "build.json").write_text(json.dumps(Making(**{**defaults, **making}).as_json()))
    return read_config(directory, name)


def write_cards(directory: Path, *configs: ConfigFacts) -> Path:
    """Every file beside the configurations, as `lpmc build` renders them."""
    (directory / "LICENSE.md").write_text(render_licences(configs))
    (directory / "README.md").write_text(render_dataset_card(configs))
    (directory / "croissant.json").write_text(render_croissant(configs))
    return directory


def write_dataset(directory: Path, **making: object) -> Path:
    """A data set directory of six rows in one configuration."""
    return write_cards(directory, write_config(directory, "fma", ROWS, **making))


def write_model(directory: Path, card: str, scores: dict[str, Any] | None = SCORES) -> Path:
    """A model directory with a card and the result files beside it."""
    directory.mkdir(exist_ok=True)
    (directory / "README.md").write_text(card)
    (directory / "config.json").write_text(json.dumps({"d_model": 128, "vocab_size": 763}))
    (directory / "training.json").write_text(json.dumps(TRAINING))
    if scores is not None:
        (directory / "evaluation.json").write_text(json.dumps(scores))
    return directory


def with_one_digit_changed(text: str) -> Iterator[tuple[str, str]]:
    """The text with the last digit of each of its numbers changed in turn; with each, the number's line."""
    for found in re.finditer(r"\d+", text):
        place = found.end() - 1
        changed = f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}"
        yield changed, changed[: found.end()].splitlines()[-1]
