"""Write a model directory, whole or not at all, that anyone loads by name, and the card that belongs to it.

What makes a directory complete is in `saving_lpmc.py`, as `save_pretrained` alone must leave the same. Here it is made
in a folder beside the target and then moved into place.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lpmc_errors import ModelError, disk_faults_named
from lpmc_files import write_text

from .feature_extraction_lpmc import LpmcFeatureExtractor
from .processing_lpmc import LpmcProcessor
from .saving_lpmc import (
    CODE_LICENCE_FILES,
    NOT_STATED,
    PROCESSOR_FILES,
    WEIGHTS,
    WEIGHTS_LICENCE_FILE,
    code_files,
    has_tokenizer,
)

CODE_FILES = tuple(path.name for path in code_files())
CARD, EVALUATION = "README.md", "evaluation.json"
PICTURES = {"loss.png": "The course of its training"}  # shown where they lie beside the card

# What a save before this one may have left, and nothing else: weights in other parts, another tokenizer, older code.
_OURS = re.compile(WEIGHTS.pattern + r"|\w+_lpmc\.py")


def save_for_hub(
    model: PreTrainedModel,
    processor: LpmcProcessor | LpmcFeatureExtractor,
    directory: Path | str,
    *,
    weights_licence: str | None = None,
    licence_note: str | None = None,
) -> list[Path]:
    """Save weights, settings, tokenizer, code and licences of a captioner into `directory`; return the files, sorted.

    `AutoModel`, `AutoModelForSpeechSeq2Seq`, `AutoProcessor`, `AutoFeatureExtractor`, `AutoTokenizer` and
    `pipeline("music-captioning")` then load from there with `trust_remote_code=True`, where this project is not
    installed. `processor` may be a feature extractor alone, for a model whose tokenizer is not known; then only model,
    config and extractor load.

    `weights_licence`, an identifier of the Hub or words, and `licence_note`, sentences about who claims what, go into
    LICENSE-WEIGHTS.md and into the model's config, with which they stay. None leaves what the config says.

    The files are made in a folder beside `directory` and moved there when all of them are whole, config.json last; what
    an earlier save left there and this one did not make goes. Raises `ModelError` if `directory` is a file, and
    `DiskError` when the files cannot be written.
    """
    target = Path(directory)
    if target.exists() and not target.is_dir():
        raise ModelError(target, "it is a file", "name a directory for the model")
    captioner: Any = model
    if weights_licence is not None:
        captioner.config.weights_licence = weights_licence
    if licence_note is not None:
        captioner.config.weights_licence_note = licence_note
    attached = captioner.processor
    with disk_faults_named(target):
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.resolve().parent) as name:
            staging = Path(name)
            if (target / CODE_LICENCE_FILES[0]).is_file():  # perhaps not ours; then it stays
                shutil.copyfile(target / CODE_LICENCE_FILES[0], staging / CODE_LICENCE_FILES[0])
            captioner.processor = processor
            try:
                captioner.save_pretrained(staging)
            finally:
                captioner.processor = attached
            made = sorted((path for path in staging.iterdir()), key=lambda path: path.name == "config.json")
            for path in made:
                path.chmod(0o644)  # safetensors writes for its owner alone
                path.replace(target / path.name)
        kept = {path.name for path in made}
        for path in target.iterdir():
            if path.name not in kept and (path.name in PROCESSOR_FILES or _OURS.fullmatch(path.name)):
                path.unlink()
    return sorted(target / path.name for path in made)


def write_model_card(
    directory: Path | str,
    *,
    model_name: str | None = None,
    summary: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    results: Mapping[str, Any] | None = None,
    data_licence: str | None = None,
) -> Path:
    """Write the README.md of a saved captioner and return its path; call it when all other files lie there.

    Licence and whether it is a demonstration come from config.json, measured values from evaluation.json where that
    lies beside it. `model_name` is the directory's name unless given. `summary` is told as a table; its numbers must
    stand in a result file of the directory, such as training.json or conversion.json, or the lint refuses the card.
    `results` are the scores of training.json, told where there is no evaluation.json; `data_licence` is that of the
    data it was trained on.
    `repo_id`, `base_model` and `datasets` are ids on the Hub.

    Raises `ModelError` if the directory holds no saved captioner or evaluation.json no number, and `DiskError`.
    """
    folder = Path(directory)
    config = _read_object(folder / "config.json")
    if config is None:
        raise ModelError(folder, "it holds no saved captioner", "save the model there first")
    from hub_cards import render_model_card  # and with it pyarrow: a model is saved without

    results = _read_object(folder / EVALUATION) or results
    pictures = {title: name for name, title in PICTURES.items() if (folder / name).is_file()}
    try:
        text = render_model_card(
            model_name or folder.resolve().name,
            licence=config.get("weights_licence") or NOT_STATED,
            licence_link=WEIGHTS_LICENCE_FILE,
            licence_note=config.get("weights_licence_note"),
            summary=summary or {},
            results=results,
            demonstration=bool(config.get("demonstration")),
            writes_words=has_tokenizer(folder),
            repo_id=repo_id,
            base_model=base_model,
            datasets=datasets,
            pictures=pictures,
            data_licence=data_licence,
        )
    except ValueError as error:
        raise ModelError(folder / EVALUATION, str(error), "measure the model again with `lpmc evaluate`") from error
    write_text(folder / CARD, text)
    return folder / CARD


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
