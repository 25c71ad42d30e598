"""The captioner that comes with the package, by its name."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "lpmc_mini"
SHIPPED_FOLDER = Path(__file__).parent / "checkpoints" / SHIPPED


def model_source(name: str) -> str:
    """Where the model `name` is loaded from: `lpmc_mini` lies in the package, unless a folder here has that name."""
    return str(SHIPPED_FOLDER) if name == SHIPPED and not Path(name).is_dir() else name
