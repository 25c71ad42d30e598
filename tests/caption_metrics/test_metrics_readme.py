"""The README of the package: its lines of Python run as they stand there, and so do its `lpmc evaluate` commands."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_models import bert_config, save_bert, save_bert_tokenizer, save_clap

import caption_metrics

PACKAGE = Path(caption_metrics.__file__).parent
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)` \| .* \| `(.+)` \|$", README, re.MULTILINE)
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^lpmc evaluate (.*?)(?: {2,}#.*)?$", README, re.MULTILINE)
STANDING_IN = {  # small models for those that are not at hand
    "roberta-large": "bert",
    "sentence-transformers/paraphrase-TinyBERT-L6-v2": "bert",
    "org/detector": "detector",
    "laion/larger_clap_music": "clap",
}
AT_HAND = """
import json, rich
from pathlib import Path
from caption_metrics import *
track = {"path": "a.mp3", "segments": [{"start": 0, "end": 10, "text": "A man sings."}]}
said = [row["prediction"] for row in json.loads(Path("inference.json").read_text())]
meant = [[row["ground_truth"]] for row in json.loads(Path("inference.json").read_text())]
recordings = [f"recordings/{number % 4}.wav" for number in range(len(said))]
"""
COMMAND_WORDS = [[STANDING_IN.get(word, word) for word in shlex.split(command)] for command in dict.fromkeys(COMMANDS)]
BATCHES = 'batches = [(["a sad piano"], ["a piano"]), (["drums"], [["drums", "loud drums"]])]'
RUN_COMMANDS = """
import sys
from typer.testing import CliRunner
from lpmc import app
results = [CliRunner().invoke(app, ["evaluate", *words]) for words in json.loads(sys.argv[1])]
print(json.dumps([[done.exit_code, done.output[-300:]] for done in results]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the README's lines name."""
    home = tmp_path_factory.mktemp("readme")
    captions = ["a sad piano and no drums", "fast rock with loud drums", "a woman sings a soft song", "a slow violin"]
    rows = [
        {
            "id": number,
            "prediction": captions[number % 4] + " plays" * (number % 3),
            "ground_truth": f"{captions[number % 4]} and guitar",
            "vocals": ("no", "female")[number % 4 == 2],
            "tags": ["guitar", ("piano", "drums")[number % 2]],
            "genre": ("jazz", "rock")[number % 2],
            "path": f"{number % 4}.wav",
        }
        for number in range(60)
    ]
    (home / "inference.json").write_text(json.dumps(rows))
    for name in ("a", "b"):
        (home / f"{name}.json").write_text(json.dumps(rows))
    (home / "predictions.csv").write_text(
        "id,prediction\n" + "".join(f"{row['id']},{row['prediction']}\n" for row in rows)
    )
    (home / "references.jsonl").write_text(
        "".join(json.dumps({"id": row["id"], "references": [row["ground_truth"]]}) + "\n" for row in reversed(rows))
    )
    (home / "train.txt").write_text("a slow piano\nloud drums\n")
    (home / "recordings").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 0.1, 8_000)
        soundfile.write(home / "recordings" / f"{number}.wav", noise, 16_000)
    return home


@pytest.fixture(scope="module")
def models(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("bert_score")
    save_bert(folder / "bert")
    save_clap(folder / "clap")
    save_bert_tokenizer(folder / "detector")
    labels = {"id2label": {0: "fluent", 1: "error"}, "label2id": {"fluent": 0, "error": 1}}
    network = transformers.BertForSequenceClassification(bert_config(num_hidden_layers=1, **labels))
    network.save_pretrained(folder / "detector")
    return folder


@pytest.fixture(scope="module")
def told(models: Path) -> list[str]:
    """What one process prints in which every line of the README ran: they share what takes longest, the imports."""
    lines = [AT_HAND]
    for name, line in ROWS:
        module, _, function = name.rpartition(".")
        if module == "coco" and not (shutil.which("java") and importlib.util.find_spec("pycocoevalcap")):
            continue
        lines += [f"from caption_metrics.{module} import {function}"] * bool(module) + [line]
        if name == "evaluate_captions":
            lines.append("other = card")
    (block,) = BLOCKS
    lines += [BATCHES, block.replace("path/to/caption_metrics", str(PACKAGE)), RUN_COMMANDS]
    code = "\n".join(lines)
    for usual, small in STANDING_IN.items():
        code = code.replace(f'"{usual}"', f'"{small}"')
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(COMMAND_WORDS)],
        cwd=models,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.splitlines()


def test_the_table_names_the_public_surface() -> None:
    assert sorted(name for name, _ in ROWS if "." not in name) == sorted(caption_metrics.__all__)
    for name, line in ROWS:
        assert name.split(".")[-1] in line


def test_the_line_of_every_name_runs(told: list[str], models: Path) -> None:
    assert (models / "metric-space" / "app.py").is_file()
    assert told[-2] == "0.75", "BLEU-1 of the lines for `evaluate`"


def test_every_command_for_captions_runs(told: list[str], models: Path) -> None:
    assert len(COMMAND_WORDS) > 10
    for command, (code, output) in zip(COMMAND_WORDS, json.loads(told[-1]), strict=True):
        assert (code, output) == (0, output), command
    assert (models / "report.md").is_file()
    assert (models / "facts.png").is_file()
