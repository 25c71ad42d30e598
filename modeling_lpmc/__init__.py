"""The captioner: audio in, captions out; trained, converted and exported with transformers.

Importing this package loads neither torch nor transformers; each name below does so when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
