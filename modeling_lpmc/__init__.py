"""The captioner: audio in, captions out; trained, converted and exported with transformers.

Importing this package loads neither torch nor transformers; each name below does so when it is first used. The
exception is a machine that has torchaudio: if that is broken, transformers must be told before anything else uses it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

if find_spec("torchaudio") and find_spec("transformers"):
    import_module(f"{__name__}.configuration_lpmc")  # leaves a broken torchaudio out, with a warning

_HOMES = {
    "LpmcConfig": "configuration_lpmc",
    "LpmcFeatureExtractor": "feature_extraction_lpmc",
    "LpmcForConditionalGeneration": "modeling_lpmc",
    "LpmcModel": "modeling_lpmc",
    "LpmcProcessor": "processing_lpmc",
    "MusicCaptioningPipeline": "pipeline_lpmc",
    "convert_checkpoint": "conversion",
    "load_tokenizer": "tokenizer",
    "save_for_hub": "export",
    "train_tokenizer": "tokenizer",
}

__all__ = [
    "LpmcConfig",
    "LpmcFeatureExtractor",
    "LpmcForConditionalGeneration",
    "LpmcModel",
    "LpmcProcessor",
    "MusicCaptioningPipeline",
    "convert_checkpoint",
    "load_tokenizer",
    "save_for_hub",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
