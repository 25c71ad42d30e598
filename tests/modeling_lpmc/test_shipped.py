"""The captioner that ships: it loads by name and by folder, is small, and hears what it has never heard before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from caption_metrics.score import Pair, evaluate_captions
from hub_cards.lint_cards import lint_model
from lpmc_errors import LpmcError
from modeling_lpmc.captioner import Captioner
from modeling_lpmc.shipped import SHIPPED, SHIPPED_FOLDER, model_source

MOST_BYTES = 25e6  # of all files of the model in the repository
CLIPS = 50  # one of each genre
SEED = 20_231_105  # of no corpus that it was trained on


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.from_pretrained(SHIPPED)


def test_it_is_small_in_half_precision_and_tells_what_it_is():
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.iterdir()) < MOST_BYTES
    weights = load_file(SHIPPED_FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    config = json.loads((SHIPPED_FOLDER / "config.json").read_text("utf-8"))
    assert config["demonstration"] is True
    assert config["weights_licence"] == "apache-2.0"
    assert lint_model(SHIPPED_FOLDER) == []


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_source(SHIPPED) == str(SHIPPED_FOLDER)
    (tmp_path / SHIPPED).mkdir()
    assert model_source(SHIPPED) == SHIPPED
    assert model_source("org/other") == "org/other"


def test_its_folder_loads_with_the_code_that_lies_there(tmp_path):
    code = (
        "from transformers import AutoModel, AutoProcessor\n"
        f"model = AutoModel.from_pretrained({str(SHIPPED_FOLDER)!r}, trust_remote_code=True)\n"
        f"processor = AutoProcessor.from_pretrained({str(SHIPPED_FOLDER)!r}, trust_remote_code=True)\n"
        "print(type(model).__name__, type(model).__module__.split('.')[0], type(processor).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["LpmcForConditionalGeneration", "transformers_modules", "LpmcProcessor"]


@pytest.mark.parametrize(
    ("soundfont", "ahead_of_the_template"),
    [
        ("fluid", 0.05),  # new arrangements, played by one of the SoundFonts that it learned from
        ("default", None),  # by one that it did not: on so few clips not ahead of a template of the most frequent tags
    ],
)
def test_it_knows_new_music_better_than_any_caption_that_never_listened(
    soundfont: str, ahead_of_the_template: float | None, captioner: Captioner, tmp_path: Path
):
    pytest.importorskip("pretty_midi", reason="the SoundFont comes with the extra `render`")
    from dataset_builder.sources.rendered import render_corpus
    from dataset_builder.sources.rendered_fonts import find_soundfont

    try:
        find_soundfont(soundfont)
    except LpmcError as error:
        pytest.skip(str(error))
    tracks = render_corpus(tmp_path, clips=CLIPS, seed=SEED, soundfonts=soundfont)
    said = [found.caption for found in captioner.caption_files([tmp_path / str(track.audio_path) for track in tracks])]
    pairs = [Pair(text, track.reference_captions, track.tags) for text, track in zip(said, tracks, strict=True)]
    card = evaluate_captions(pairs).to_dict()
    blind = {name: row["facts_f1"] for name, row in card["blind"].items() if row.get("facts_f1") is not None}
    template = blind.pop("majority_template")
    assert {"constant", "shuffled", "own_shuffled"} <= set(blind)
    assert card["facts_f1"] > max(blind.values()) + 0.1, (card["facts_f1"], blind)
    if ahead_of_the_template is not None:
        assert card["facts_f1"] > template + ahead_of_the_template, (card["facts_f1"], template)
    assert len(set(said)) > CLIPS / 2
