"""Training a captioner on the data set; see `recipes/` for what the paper and its released code did.

    from modeling_lpmc.training import run_training
    result = run_training("quickstart", "my-captioner", ["data.dataset=lp-musiccaps"])

Importing this package loads neither torch nor transformers; each name below does so when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Progress": "trainer",
    "TrainingRecipe": "arguments",
    "TrainingResult": "train",
    "load_recipe": "arguments",
    "run_training": "train",
    "shipped_recipes": "arguments",
}

__all__ = ["Progress", "TrainingRecipe", "TrainingResult", "load_recipe", "run_training", "shipped_recipes"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
