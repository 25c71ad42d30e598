"""The captioner that comes with the package, by its name."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "lpmc_mini"
SHIPPED_FOLDER = Path(__file__).parent / "checkpoints" / SHIPPED


MODEL_FOLDER = "model"  # beside the page of a Space: the model directory that it was published with
MODEL_NAME = "model.txt"  # beside the page of a Space: the Hub id of its model


def model_of_page(folder: Path) -> str:
    """The model of the page that lies in `folder`: the one it was published with, else the one that ships."""
    if (folder / MODEL_FOLDER).is_dir():
        return str(folder / MODEL_FOLDER)
    if (folder / MODEL_NAME).is_file():
        return (folder / MODEL_NAME).read_text(encoding="utf-8").strip() or SHIPPED
    return SHIPPED


def model_source(name: str) -> str:
    """Where the model `name` is loaded from: `lpmc_mini` lies in the package, unless a folder here has that name."""
    return str(SHIPPED_FOLDER) if name == SHIPPED and not Path(name).is_dir() else name
