# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""What `save_pretrained` and `push_to_hub` leave behind: a directory that a stranger loads by name, whole.

The library saves what it knows: weights, settings, and the Python file of the class at hand. Added here are the names
of all auto classes, all code files, the custom pipeline, the tokenizer that lies where the model came from, settings
that transformers 4.53 can read, and the licences of code and weights. Notes about the machine that saved are taken out.

This file travels to the Hub as remote code: it imports transformers and its neighbours, nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

from transformers.utils import cached_file, logging

from .feature_extraction_lpmc import LpmcFeatureExtractor
from .licence_lpmc import APACHE_2

logger = logging.get_logger(__name__)

PIPELINE_TASK = "music-captioning"
CODE_LICENCE_FILES = ("LICENSE", "LICENSE-CODE")  # the second where somebody else's file has the name of the first
WEIGHTS_LICENCE_FILE = "LICENSE-WEIGHTS.md"
NOT_STATED = "not stated"

_MODEL_CLASS = "modeling_lpmc.LpmcForConditionalGeneration"
_MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_lpmc.LpmcConfig",
    "AutoModel": _MODEL_CLASS,  # the captioner itself, so that AutoModel's result has `generate`
    "AutoModelForSpeechSeq2Seq": _MODEL_CLASS,
}
_EXTRACTOR_AUTO_MAP = {"AutoFeatureExtractor": "feature_extraction_lpmc.LpmcFeatureExtractor"}
_PROCESSOR_CLASS = "LpmcProcessor"
# By way of the model's file, which names all others: who loads only a processor and saves it has every file, as the
# model's weights may come to lie beside it. (The processor's file cannot name the model's: version 4.53 follows a
# circle of names for ever.)
_PROCESSOR_AUTO_MAP = {**_EXTRACTOR_AUTO_MAP, "AutoProcessor": f"modeling_lpmc.{_PROCESSOR_CLASS}"}
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

_CONFIG, _GENERATION, _CARD = "config.json", "generation_config.json", "README.md"
_EXTRACTOR, _PROCESSOR, _TOKENIZER = "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"
_WEIGHTS, _WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"  # in one file, or the list of its parts
_VOCABULARIES = ("tokenizer.json", "vocab.json")  # a directory with one of them holds a tokenizer
# The files of a processor, wherever a version of the library has put them.
PROCESSOR_FILES = (
    *(_EXTRACTOR, _PROCESSOR, _TOKENIZER, *_VOCABULARIES),
    *("merges.txt", "special_tokens_map.json", "added_tokens.json"),
)
WEIGHTS = re.compile(r"model(?:-\d{5}-of-\d{5})?\.safetensors|" + re.escape(_WEIGHTS_INDEX))
# All that is saved beside the weights and their index, and the licence of the code.
SAVED_BESIDE_WEIGHTS = re.compile(
    r"\w+_lpmc\.py|(?:generation_)?config\.json|LICENSE-WEIGHTS\.md|" + "|".join(map(re.escape, PROCESSOR_FILES))
)

# Licences that the Hub knows and people give to weights. Any other goes into a card as `other` with its name, since the
# Hub refuses a card with an identifier that it does not know.
_COMMON_LICENCES = frozenset(
    {"apache-2.0", "mit", "openrail", "cc0-1.0"}
    | {"cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"}
)
_UNFILLED = "[More Information Needed]"  # of the form that the library makes a card of

_WEIGHTS_LICENCE = """\
# Licence of the weights

The weights (`*.safetensors`), and the tokenizer and the settings beside them: **{licence}**.
{note}
The Python files are another work, with a licence of their own: the Apache License 2.0, in `{code_file}`.
"""
_NO_LICENCE = "Whoever published them has not said what others may do with them; ask before you use them.\n"

_SHORT_CARD = """\
---
language: en
library_name: transformers
pipeline_tag: audio-text-to-text
license: {identifier}
{names}tags:
{tags}
---

# {name}

{warning}A music captioning model: it listens to windows of ten seconds of mono sound and writes a sentence about each.

```python
from transformers import pipeline

captioner = pipeline("{task}", model="{repo_id}", trust_remote_code=True)
print(captioner("song.mp3"))  # [{{"start": 0.0, "end": 10.0, "text": "..."}}, ...], times in seconds
```

`trust_remote_code=True` runs the Python files of this repository: read them first, and pin `revision=` to what you
have read.

Nothing was measured for this card, and nothing is said about what the model was trained on.

## Licence

The weights: {licence}, see `{weights_file}`. The code: Apache-2.0, see `{code_file}`.
"""
_DEMONSTRATION = (
    "> **A demonstration.** It shows how such a model is made and used; its captions of real recordings are not to be "
    "relied on.\n\n"
)
_CARD_TAGS = ("music", "music-captioning", "audio-captioning", "custom_code")


# Tokens that models were loaded with, for the files that are looked up later. Not on the model, which may be pickled.
_TOKENS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def complete_directory(directory: str | os.PathLike[str]) -> None:
    """Bring what was saved into `directory` into the form that every supported version loads by name.

    Writes the code files and their licence, and rewrites those settings files that lie there. A second call changes
    nothing. Raises `OSError`.
    """
    folder = Path(directory)
    for source in code_files():
        if not (folder / source.name).exists() or not source.samefile(folder / source.name):
            shutil.copyfile(source, folder / source.name)
    (folder / code_licence_file(folder)).write_text(APACHE_2, encoding="utf-8")
    if (folder / _CONFIG).exists():
        config = _read_portable(folder / _CONFIG)
        config["architectures"] = [_MODEL_CLASS.split(".")[1]]
        config["auto_map"] = _MODEL_AUTO_MAP  # the library's own saving would keep one of the two model entries
        config["custom_pipelines"] = _PIPELINES
        _write(folder / _CONFIG, config)
        _write_weights_licence(folder, config)
    if (folder / _GENERATION).exists():
        _write(folder / _GENERATION, _read_portable(folder / _GENERATION))
    if (folder / _TOKENIZER).exists():
        _write(folder / _TOKENIZER, _portable_tokenizer(_read_portable(folder / _TOKENIZER)))
    if (folder / _EXTRACTOR).exists():
        extractor = _read_portable(folder / _EXTRACTOR)
        extractor["processor_class"] = _PROCESSOR_CLASS
        extractor["auto_map"] = _PROCESSOR_AUTO_MAP
        _write(folder / _EXTRACTOR, extractor)
        if has_tokenizer(folder):
            _write_processor(folder, extractor)


def code_files() -> list[Path]:
    """The Python files that make up the remote code, by name; they lie beside this one, wherever it was loaded from."""
    return sorted(Path(__file__).parent.glob("*_lpmc.py"))


def code_licence_file(directory: Path) -> str:
    """The name that the licence of the code has in `directory`: a file that lies there and says another stays."""
    own, other = CODE_LICENCE_FILES
    there = directory / own
    return other if there.is_file() and there.read_bytes() != APACHE_2.encode() else own


def has_tokenizer(directory: Path) -> bool:
    """Whether `directory` holds a tokenizer."""
    return (directory / _TOKENIZER).exists() and any((directory / name).exists() for name in _VOCABULARIES)


class LpmcSavingMixin:
    """Saves the captioner with everything that others need to load it. A base in front of the library's own.

    `processor` may be set to the `LpmcProcessor` (or the extractor alone) that belongs to the model, and is then saved
    with it. Where it is not set, the processor files go along that lie where the model was loaded from, unless the
    target holds a tokenizer. `config.weights_licence` (a Hub identifier or words) and `config.weights_licence_note`
    (sentences) say what others may do with the weights.
    """

    processor: Any = None
    _origin: dict[str, Any] | None = None  # where from_pretrained found the model, as `cached_file` wants it

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """As in the library; the model remembers where it came from."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)  # type: ignore[misc]
        if pretrained_model_name_or_path is not None:
            model = loaded[0] if isinstance(loaded, tuple) else loaded
            commit = getattr(model.config, "_commit_hash", None)  # version 4; version 5 gives the commit as revision
            revision = commit or kwargs.get("revision")
            if kwargs.get("token"):
                _TOKENS[model] = kwargs["token"]
            place = str(pretrained_model_name_or_path)
            model._origin = {  # a folder stays the same when the process goes to another, or it may name a repository
                "path_or_repo_id": os.path.abspath(place) if os.path.isdir(place) else place,
                "revision": None if revision is None else str(revision),
                "subfolder": kwargs.get("subfolder") or "",
                "cache_dir": kwargs.get("cache_dir"),
            }
        return loaded

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, *args: Any, **kwargs: Any) -> Any:
        """As in the library, and complete: with code, processor, licences, and settings that all versions read.

        Weights are safetensors in every version, whatever `safe_serialization` says: a pickle runs what it holds. Of an
        earlier save in one file or in parts nothing stays that would be loaded in the place of this one.
        """
        if not kwargs.get("safe_serialization", True):
            logger.warning("safe_serialization=False is not obeyed: the weights are saved as safetensors.")
            kwargs["safe_serialization"] = True
        weights = [Path(save_directory) / name for name in (_WEIGHTS, _WEIGHTS_INDEX)]
        before = [_state_of(path) for path in weights]
        card = Path(save_directory) / _CARD
        self.__dict__["_card"] = card.read_text(encoding="utf-8") if card.is_file() else None
        try:
            result = super().save_pretrained(save_directory, is_main_process, *args, **kwargs)  # type: ignore[misc]
        finally:
            del self.__dict__["_card"]
        may_write = getattr(self, "should_save_on_this_rank", bool)  # version 5 knows more about the processes
        if may_write(is_main_process) and os.path.isdir(save_directory):
            # The library leaves both, and then loads the whole file, old as it may be.
            after = [_state_of(path) for path in weights]
            kept = [path for path, old, new in zip(weights, before, after, strict=True) if old == new]
            if len(kept) == 1 and None not in after:
                kept[0].unlink()
            self._complete(Path(save_directory), kwargs.get("token"))
        return result

    def _upload_modified_files(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        # `save_pretrained(push_to_hub=True)` uploads before it returns: what is missing must be there by now.
        folder = Path(working_dir)
        self._complete(folder, kwargs.get("token"))
        if (folder / _CONFIG).exists() and _is_blank_card(folder / _CARD):
            kept = self.__dict__.get("_card")  # the library has just put its blank form in the place of this one
            text = kept or _short_card(folder, repo_id)
            (folder / _CARD).write_text(text, encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)  # type: ignore[misc]

    def _complete(self, folder: Path, token: Any) -> None:
        if not (folder / _CONFIG).exists():  # adapters alone: the model is elsewhere
            return
        if self.processor is not None:
            self.processor.save_pretrained(folder)
        elif not has_tokenizer(folder):
            self._fetch_processor(folder, token)
        if not (folder / _EXTRACTOR).exists():
            config: Any = self.config  # type: ignore[attr-defined]
            LpmcFeatureExtractor.for_config(config).save_pretrained(folder)
        complete_directory(folder)

    def _fetch_processor(self, folder: Path, token: Any) -> None:
        """Copy the processor files from where the model was loaded, if they are there and still fit."""
        found = {name: self._find(name, token) for name in (_CONFIG, *PROCESSOR_FILES)}
        if found[_TOKENIZER] is None or not any(found[name] for name in _VOCABULARIES):
            return
        config: Any = self.config  # type: ignore[attr-defined]
        if (source := found[_CONFIG]) is not None and _read_portable(source).get("vocab_size") != config.vocab_size:
            logger.warning("The vocabulary has another size than when loaded; saving without a tokenizer.")
            return
        for name in PROCESSOR_FILES:
            if (source := found[name]) is not None and not (folder / name).exists():
                shutil.copyfile(source, folder / name)

    def _find(self, name: str, token: Any) -> Path | None:
        if self._origin is None:
            return None
        quietly = ("gated_repo", "missing_entries", "connection_errors")
        asked = {**self._origin, **{f"_raise_exceptions_for_{reason}": False for reason in quietly}}
        try:
            path = cached_file(filename=name, token=token or _TOKENS.get(self), **asked)
        except (OSError, ValueError) as error:  # the folder is gone, and its name is no repository's
            logger.warning("%s cannot be looked up where the model came from: %s", name, error)
            return None
        return None if path is None else Path(path)


def _portable_tokenizer(tokenizer: dict[str, Any]) -> dict[str, Any]:
    if tokenizer.get("tokenizer_class") in (None, _V5_TOKENIZER_CLASS):
        tokenizer["tokenizer_class"] = _PORTABLE_TOKENIZER_CLASS
    tokenizer.pop("backend", None)
    tokenizer.pop("auto_map", None)  # a tokenizer has no code of its own; a remote processor leaves its name here
    if not tokenizer.get("extra_special_tokens"):
        tokenizer.pop("extra_special_tokens", None)  # version 5 writes a list, where version 4 wants a dict
    return tokenizer


def _write_processor(folder: Path, extractor: dict[str, Any]) -> None:
    joint = _read_portable(folder / _PROCESSOR) if (folder / _PROCESSOR).exists() else {}
    joint["processor_class"] = _PROCESSOR_CLASS
    joint["auto_map"] = _PROCESSOR_AUTO_MAP
    joint["feature_extractor"] = {**extractor, "auto_map": _EXTRACTOR_AUTO_MAP}
    _write(folder / _PROCESSOR, joint)


def _write_weights_licence(folder: Path, config: dict[str, Any]) -> None:
    licence, note = config.get("weights_licence"), config.get("weights_licence_note")
    if not licence:
        note = f"{note}\n{_NO_LICENCE}" if note else _NO_LICENCE
    note = f"\n{note.strip()}\n" if note else ""
    text = _WEIGHTS_LICENCE.format(licence=licence or NOT_STATED, note=note, code_file=code_licence_file(folder))
    (folder / WEIGHTS_LICENCE_FILE).write_text(text, encoding="utf-8")


def _is_blank_card(card: Path) -> bool:
    """Whether a card is the library's form, with nothing filled in that matters."""
    if not card.is_file():
        return False
    text = card.read_text(encoding="utf-8")
    return _UNFILLED in text and re.search(r"^license:", text, re.MULTILINE) is None


def _short_card(folder: Path, repo_id: str) -> str:
    """A card for a model of which nothing is known but its files; tags of the blank form are kept."""
    config = _read_portable(folder / _CONFIG)
    licence = config.get("weights_licence") or NOT_STATED
    given = re.findall(r"^- (\S.*)$", (folder / _CARD).read_text(encoding="utf-8").split("---")[1], re.MULTILINE)
    names = ""
    if licence not in _COMMON_LICENCES:
        name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "not-stated"
        names = f"license_name: {name}\nlicense_link: {WEIGHTS_LICENCE_FILE}\n"
    return _SHORT_CARD.format(
        identifier="other" if names else licence,
        names=names,
        tags="\n".join(f"- {tag}" for tag in dict.fromkeys([*given, *_CARD_TAGS])),
        name=repo_id.rsplit("/", 1)[-1],
        task=PIPELINE_TASK,
        warning=_DEMONSTRATION if config.get("demonstration") else "",
        repo_id=repo_id,
        licence=licence,
        weights_file=WEIGHTS_LICENCE_FILE,
        code_file=code_licence_file(folder),
    )


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written again; None where there is none."""
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_portable(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in loaded.items() if key not in _LOCAL_KEYS}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["LpmcSavingMixin", "code_files", "complete_directory", "has_tokenizer"]
