"""The exported directory: whole, free of this machine's paths, and loadable where this project is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_captioner import small_model, small_processor

from hub_cards import lint_model
from lpmc_errors import ModelError
from modeling_lpmc import LpmcFeatureExtractor, LpmcForConditionalGeneration, LpmcProcessor, save_for_hub
from modeling_lpmc.export import CODE_FILES, write_model_card
from modeling_lpmc.training.run_directory import RunDirectory

# Runs with -I -S: neither the working directory nor PYTHONPATH is searched, and no .pth file is read, so that the
# project (which such a file makes importable) is out of reach; the packages themselves are found by their folder alone.
ELSEWHERE = """
import importlib.util, json, sys
sys.path.append(sys.argv[1])
folder, wave = sys.argv[2], sys.argv[3]
found = [name for name in ("modeling_lpmc", "lpmc_errors", "lpmc_files") if importlib.util.find_spec(name)]
assert not found, f"importable here: {found}"
import soundfile, torch
from transformers import AutoModel, AutoModelForSpeechSeq2Seq, AutoFeatureExtractor, AutoProcessor, pipeline
torch.set_num_threads(1)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
other = AutoModelForSpeechSeq2Seq.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
audio, rate = soundfile.read(wave, dtype="float32")
inputs = processor(audio=audio, sampling_rate=rate, chunk=True, return_tensors="pt")
alone = extractor(audio[:160000], rate, return_tensors="pt")["input_features"][0]
assert torch.equal(inputs["input_features"][0], alone)
tokens = model.generate(**inputs)
assert torch.equal(tokens, other.generate(**inputs))
captions = pipeline("music-captioning", model=folder, trust_remote_code=True, device=-1)
print(json.dumps({
    "texts": processor.batch_decode(tokens),
    "pipeline": captions(wave, batch_size=2),
    "module": type(model).__module__,
    "tied": model.lm_head.weight is model.model.shared.weight,
}))
assert "modeling_lpmc" not in sys.modules
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    model.generation_config.max_length = 18
    save_for_hub(model, processor, folder)
    return folder


def test_a_process_without_this_project_captions_a_file(exported: Path, oracle_model: Path, tmp_path: Path) -> None:
    wave = oracle_model / "small_clip0.wav"
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ELSEWHERE, sysconfig.get_path("purelib"), str(exported), str(wave)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["module"].startswith("transformers_modules.")
    assert result["tied"]

    model = LpmcForConditionalGeneration.from_pretrained(exported).eval()
    processor = LpmcProcessor.from_pretrained(exported)
    import soundfile

    audio, rate = soundfile.read(wave, dtype="float32")
    inputs = processor(audio=audio, sampling_rate=rate, return_tensors="pt")
    here = processor.batch_decode(model.generate(**inputs))
    assert result["texts"] == here
    assert result["pipeline"] == [{"start": 0.0, "end": 10.0, "text": here[0].strip()}]
    assert here[0].strip(), "an empty caption would prove nothing"


def test_our_own_classes_load_it_bit_for_bit(exported: Path) -> None:
    original = small_model(vocab_size=300).state_dict()
    loaded = LpmcForConditionalGeneration.from_pretrained(exported).state_dict()
    assert original.keys() == loaded.keys()
    for name, value in original.items():
        assert torch.equal(value, loaded[name]), name


def test_the_head_is_stored_once(exported: Path) -> None:
    stored = load_file(exported / "model.safetensors")
    assert [name for name, value in stored.items() if value.shape == (300, 32)] == ["model.shared.weight"]
    unique = sum(parameter.numel() for parameter in small_model().parameters()) + 300  # and final_logits_bias
    assert (exported / "model.safetensors").stat().st_size == pytest.approx(4 * unique, rel=0.05)


def test_the_config_names_the_classes_and_the_pipeline(exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_lpmc.LpmcConfig",
        "AutoModel": "modeling_lpmc.LpmcForConditionalGeneration",
        "AutoModelForSpeechSeq2Seq": "modeling_lpmc.LpmcForConditionalGeneration",
    }
    assert config["custom_pipelines"]["music-captioning"]["impl"] == "pipeline_lpmc.MusicCaptioningPipeline"
    assert not {"num_beams", "max_length", "no_repeat_ngram_size"} & config.keys()
    decoding = json.loads((exported / "generation_config.json").read_text())
    assert (decoding["num_beams"], decoding["no_repeat_ngram_size"]) == (5, 3)
    assert "_from_model_config" not in decoding


def test_what_version_4_reads_is_there_too(exported: Path) -> None:
    extractor = json.loads((exported / "preprocessor_config.json").read_text())
    assert extractor["auto_map"]["AutoFeatureExtractor"] == "feature_extraction_lpmc.LpmcFeatureExtractor"
    assert extractor["auto_map"]["AutoProcessor"] == "modeling_lpmc.LpmcProcessor"
    assert json.loads((exported / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_no_file_tells_where_it_was_made(exported: Path) -> None:
    home, project = str(Path.home()), str(Path(__file__).parents[2])
    for path in exported.iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text(encoding="utf-8")
            assert not [known for known in (home, project, str(exported), str(exported.parent)) if known in text], path


def test_the_code_beside_the_weights_imports_only_what_a_stranger_has() -> None:
    import ast

    package = Path(__file__).parents[2] / "modeling_lpmc"
    for name in CODE_FILES:
        source = (package / name).read_text()
        assert source.startswith("# Copyright 20"), name
        wanted = set()
        for node in ast.parse(source).body:  # imports inside try are optional
            if isinstance(node, ast.Import):
                wanted |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                wanted.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                assert f"{node.module}.py" in CODE_FILES, f"{name}: {node.module}"
        assert wanted <= {"torch", "numpy", "transformers"} | set(sys.stdlib_module_names), name


def test_exporting_what_was_exported_changes_nothing(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    save_for_hub(LpmcForConditionalGeneration.from_pretrained(exported), LpmcProcessor.from_pretrained(exported), again)
    save_for_hub(LpmcForConditionalGeneration.from_pretrained(again), LpmcProcessor.from_pretrained(again), again)
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in exported.iterdir())
    for path in exported.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_model_without_tokenizer_is_saved_with_its_extractor_alone(tmp_path: Path) -> None:
    made = save_for_hub(small_model(), LpmcFeatureExtractor(), tmp_path / "model")
    assert not [path for path in made if "token" in path.name or path.name == "processor_config.json"]
    assert LpmcFeatureExtractor.from_pretrained(tmp_path / "model").sampling_rate == 16000


def test_a_failed_export_leaves_the_old_model_as_it_was(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    processor = small_processor()
    save_for_hub(small_model(seed=1, vocab_size=300), processor, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the tokenizer cannot be written")

    monkeypatch.setattr(type(processor.tokenizer), "save_pretrained", fail)
    with pytest.raises(RuntimeError, match="cannot be written"):
        save_for_hub(small_model(seed=2, vocab_size=300), processor, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "no half-written folder is left"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ModelError, match="it is a file; name a directory"):
        save_for_hub(small_model(), LpmcFeatureExtractor(), tmp_path / "model")


def test_nothing_of_an_earlier_save_is_left_and_nothing_else_is_touched(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = LpmcForConditionalGeneration.from_pretrained(exported)
    model.save_pretrained(folder, max_shard_size="40KB")
    for name in ("older_lpmc.py", "notes.py", "evaluation.json"):
        (folder / name).write_text("{}")
    save_for_hub(model, model_extractor := LpmcFeatureExtractor(), folder)
    names = {path.name for path in folder.iterdir()}
    assert {"notes.py", "evaluation.json", "model.safetensors"} <= names
    assert not [name for name in names if "-of-" in name or name.endswith("index.json") or "token" in name], names
    assert "older_lpmc.py" not in names
    assert model.processor is not model_extractor, "the model is as it was before"


def test_the_licence_of_the_weights_stays_with_them(tmp_path: Path) -> None:
    claims = "The repository says mit, its captions are CC BY-NC 4.0."
    model, processor = small_model(), small_processor()
    save_for_hub(model, processor, tmp_path / "one", weights_licence="cc-by-nc-4.0", licence_note=claims)
    save_for_hub(LpmcForConditionalGeneration.from_pretrained(tmp_path / "one"), processor, tmp_path / "two")
    for name in ("one", "two"):
        text = (tmp_path / name / "LICENSE-WEIGHTS.md").read_text()
        assert "**cc-by-nc-4.0**" in text
        assert claims in text
        assert "Apache License" in (tmp_path / name / "LICENSE").read_text()
    card = write_model_card(tmp_path / "two").read_text()
    assert "license: cc-by-nc-4.0\n" in card
    assert claims in card
    save_for_hub(small_model(), processor, tmp_path / "three")
    assert "**not stated**" in (tmp_path / "three" / "LICENSE-WEIGHTS.md").read_text()
    assert "license_link: LICENSE-WEIGHTS.md" in write_model_card(tmp_path / "three").read_text()
    assert lint_model(tmp_path / "two") == lint_model(tmp_path / "three") == []


def test_a_card_tells_what_lies_beside_it_and_passes_the_lint(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-captioner"
    model = LpmcForConditionalGeneration.from_pretrained(exported)
    model.config.demonstration = True
    save_for_hub(model, LpmcProcessor.from_pretrained(exported), folder)
    (folder / "evaluation.json").write_text(json.dumps({"bleu4": 0.125, "rows": 20, "dataset": "org/music"}))
    (folder / "conversion.json").write_text(json.dumps({"parameters": 12345}))
    text = write_model_card(
        folder, summary={"parameters": 12345}, repo_id="org/my-captioner", base_model="org/base", datasets=["org/music"]
    ).read_text()
    for line in ("# my-captioner", "| bleu4 | 0.125 |", "| parameters | 12,345 |", "base_model: org/base"):
        assert f"{line}\n" in text, line
    assert "A demonstration" in text
    assert lint_model(folder) == []


def test_a_card_promises_captions_only_where_a_tokenizer_lies(exported: Path, tmp_path: Path) -> None:
    save_for_hub(small_model(), LpmcFeatureExtractor(), tmp_path / "numbers")
    text = write_model_card(tmp_path / "numbers").read_text()
    assert "Its tokenizer is not here" in text
    assert 'pipeline("music-captioning"' not in text
    assert "lpmc caption" not in text
    assert lint_model(tmp_path / "numbers") == []
    save_for_hub(LpmcForConditionalGeneration.from_pretrained(exported), small_processor(), tmp_path / "words")
    text = write_model_card(tmp_path / "words").read_text()
    assert 'pipeline("music-captioning"' in text
    assert "Its tokenizer is not here" not in text


def test_a_card_needs_a_model_and_numbers_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no saved captioner; save the model there first"):
        write_model_card(tmp_path)
    save_for_hub(small_model(), LpmcFeatureExtractor(), tmp_path / "model")
    (tmp_path / "model" / "evaluation.json").write_text(json.dumps({"dataset": "org/music"}))
    with pytest.raises(ModelError, match="results hold no number"):
        write_model_card(tmp_path / "model")
    assert not (tmp_path / "model" / "README.md").exists()


def test_a_finished_run_has_a_card_of_what_it_recorded(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_for_hub(
        LpmcForConditionalGeneration.from_pretrained(exported), LpmcProcessor.from_pretrained(exported), folder
    )
    record = {
        "recipe": {"model": {"start_from": "org/base"}, "data": {"dataset": "org/music"}},
        "loss": 1.2345678,
        "evaluation_loss": None,
        "updates": 1200,
        "parameters": 76543,
        "train_clips": 80,
        "train_captions": 320,
        "evaluation_clips": 0,
        "precision": "float32",
    }
    RunDirectory(folder).finish(record)
    card = (folder / "README.md").read_text()
    for line in (
        "| updates | 1,200 |",
        "| training loss at the end | 1.23457 |",
        "- org/music",
        "base_model: org/base",
    ):
        assert f"{line}\n" in card, line
    assert "held-out" not in card
    assert json.loads((folder / "training.json").read_text()) == record
    assert lint_model(folder) == []
