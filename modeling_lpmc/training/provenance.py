"""Where a checkpoint comes from: resolved recipe, state of the code, signature of the data, versions.

It may be published with the model, so it names no folder of this machine.
"""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from modeling_lpmc.training.arguments import TrainingRecipe
from modeling_lpmc.training.data import CaptionedClips

PROVENANCE = "provenance.json"  # beside the weights of every checkpoint
PACKAGE = "lp-musiccaps"
RECORDED_PACKAGES = (PACKAGE, "torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "safetensors")
GIT_SECONDS = 20  # a file system that hangs must not hang the training


def provenance(
    recipe: TrainingRecipe, clips: tuple[CaptionedClips, CaptionedClips | None], code: list[dict[str, Any]]
) -> dict[str, Any]:
    """The record for a checkpoint or a model. `code` holds the state of the code in each process that trained it."""
    return {"recipe": recipe.as_dict(), "code": code, "data": data_signature(recipe, clips), "versions": versions()}


def data_signature(
    recipe: TrainingRecipe, clips: tuple[CaptionedClips, CaptionedClips | None]
) -> dict[str, dict[str, Any]]:
    """Of training and evaluation clips: how many, and a fingerprint that changes with any caption, tag or sound."""
    return {
        use: {
            "dataset": recipe.as_dict()["data"]["dataset"],
            "config": recipe.data.config,
            "split": split.split,
            "rows": split.rows,
            "clips": len(split),
            "captions": int(split.caption_counts.sum()),
            "fingerprint": split.fingerprint,
        }
        for use, split in zip(("train", "evaluation"), clips, strict=True)
        if split is not None
    }


def code_state() -> dict[str, Any]:
    """The code that runs: `commit` and `changed` (files differ from it) of a checkout, or of an installation from git.

    Both are None where git does not know, as for a release.
    """
    folder = Path(__file__).resolve().parents[2]
    if (
        folder / ".git"
    ).exists():  # not merely somewhere inside another project's checkout, as a virtual environment is
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return {"commit": commit, "changed": None if changes is None else bool(changes)}
    return {"commit": _installed_commit(), "changed": None}


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that was never installed
            found[name] = "not installed"
    return found


def _git(folder: Path, *command: str) -> str | None:
    """What git says; None when it is not installed or refuses (a checkout of another owner)."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installed_commit() -> str | None:
    """The commit that `pip install git+...` noted (PEP 610)."""
    try:
        noted = distribution(PACKAGE).read_text("direct_url.json")
        return json.loads(noted)["vcs_info"]["commit_id"] if noted else None
    except (PackageNotFoundError, ValueError, KeyError):
        return None
