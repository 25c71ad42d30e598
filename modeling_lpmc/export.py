"""Write a model directory that anyone can load with `trust_remote_code=True`, and that is fit to be pushed to the Hub.

What transformers' own `save_pretrained` leaves out is added here: the auto_map of every auto class, the code files, the
custom pipeline, the preprocessor_config.json and the tokenizer class that transformers 4.53 can read. Paths of this
machine are taken out.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lpmc_errors import ModelError, disk_faults_named
from lpmc_files import write_text

from .feature_extraction_lpmc import LpmcFeatureExtractor
from .processing_lpmc import LpmcProcessor

CODE_FILES = (
    "configuration_lpmc.py",
    "feature_extraction_lpmc.py",
    "processing_lpmc.py",
    "modeling_lpmc.py",
    "pipeline_lpmc.py",
)
PIPELINE_TASK = "music-captioning"

_MODEL_CLASS = "modeling_lpmc.LpmcForConditionalGeneration"
_MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_lpmc.LpmcConfig",
    "AutoModel": _MODEL_CLASS,  # the captioner itself, so that AutoModel's result has `generate`
    "AutoModelForSpeechSeq2Seq": _MODEL_CLASS,
}
_EXTRACTOR_AUTO_MAP = {"AutoFeatureExtractor": "feature_extraction_lpmc.LpmcFeatureExtractor"}
_PROCESSOR_AUTO_MAP = _EXTRACTOR_AUTO_MAP | {"AutoProcessor": "processing_lpmc.LpmcProcessor"}
_PIPELINES = {
    PIPELINE_TASK: {
        "impl": "pipeline_lpmc.MusicCaptioningPipeline",
        "pt": ["AutoModelForSpeechSeq2Seq"],
        "type": "multimodal",
    }
}
_V5_TOKENIZER_CLASS, _PORTABLE_TOKENIZER_CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"
# What the library notes about the machine that saved; _from_model_config makes old versions forget the beams.
_LOCAL_KEYS = ("_name_or_path", "name_or_path", "_from_model_config", "is_local", "local_files_only", "tokenizer_file")


def save_for_hub(
    model: PreTrainedModel, processor: LpmcProcessor | LpmcFeatureExtractor, directory: Path | str
) -> list[Path]:
    """Save weights, configs, tokenizer and code of a captioner into `directory`; return the files, sorted.

    `AutoModel`, `AutoModelForSpeechSeq2Seq`, `AutoProcessor`, `AutoFeatureExtractor` and `pipeline("music-captioning")`
    then load from there with `trust_remote_code=True`, where this project is not installed. `processor` may be a
    feature extractor alone, for a model whose tokenizer is not known; then there is no processor and no pipeline.

    The files are made in a folder beside `directory` and moved there when all of them are whole, config.json last.
    Raises `ModelError` if `directory` is a file, and `DiskError` when the files cannot be written.
    """
    target = Path(directory)
    if target.exists() and not target.is_dir():
        raise ModelError(target, "it is a file", "name a directory for the model")
    with disk_faults_named(target):
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.resolve().parent) as name:
            staging = Path(name)
            _save_model(model, staging, with_pipeline=isinstance(processor, LpmcProcessor))
            if isinstance(processor, LpmcProcessor):
                _save_processor(processor, staging)
            else:
                _save_extractor(processor, staging, _EXTRACTOR_AUTO_MAP)
            for file in CODE_FILES:
                shutil.copyfile(Path(__file__).parent / file, staging / file)
            made = sorted((path for path in staging.iterdir()), key=lambda path: path.name == "config.json")
            for path in made:
                path.chmod(0o644)  # safetensors writes for its owner alone
                path.replace(target / path.name)
    return sorted(target / path.name for path in made)


def _save_model(model: PreTrainedModel, staging: Path, *, with_pipeline: bool) -> None:
    model.save_pretrained(staging)
    config = _read_portable(staging / "config.json")
    config["architectures"] = [_MODEL_CLASS.split(".")[1]]
    config["auto_map"] = _MODEL_AUTO_MAP  # the library's own saving would keep one of the two model entries
    config.pop("custom_pipelines", None)
    if with_pipeline:
        config["custom_pipelines"] = _PIPELINES
    _write(staging / "config.json", config)
    _write(staging / "generation_config.json", _read_portable(staging / "generation_config.json"))


def _save_processor(processor: LpmcProcessor, staging: Path) -> None:
    processor.save_pretrained(staging)
    _save_extractor(processor.feature_extractor, staging, _PROCESSOR_AUTO_MAP)
    joint = _read_portable(staging / "processor_config.json")
    joint["auto_map"] = _PROCESSOR_AUTO_MAP
    joint["feature_extractor"] = _read_portable(staging / "preprocessor_config.json")
    joint["feature_extractor"]["auto_map"] = _EXTRACTOR_AUTO_MAP
    _write(staging / "processor_config.json", joint)
    tokenizer = _read_portable(staging / "tokenizer_config.json")
    if tokenizer.get("tokenizer_class") in (None, _V5_TOKENIZER_CLASS):
        tokenizer["tokenizer_class"] = _PORTABLE_TOKENIZER_CLASS
    tokenizer.pop("backend", None)
    if not tokenizer.get("extra_special_tokens"):
        tokenizer.pop("extra_special_tokens", None)  # version 5 writes a list, where version 4 wants a dict
    _write(staging / "tokenizer_config.json", tokenizer)


def _save_extractor(extractor: LpmcFeatureExtractor, staging: Path, auto_map: dict[str, str]) -> None:
    extractor.save_pretrained(staging)
    preprocessor = _read_portable(staging / "preprocessor_config.json")
    preprocessor["auto_map"] = auto_map
    if "AutoProcessor" in auto_map:
        preprocessor["processor_class"] = auto_map["AutoProcessor"].split(".")[1]
    _write(staging / "preprocessor_config.json", preprocessor)


def _read_portable(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in loaded.items() if key not in _LOCAL_KEYS}


def _write(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
