"""What others may do with the data that a model was trained on, as the data set's own card says."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import DatasetCard

NOT_STATED = "not stated"


def data_licence(dataset: str) -> str:
    """The licence in the front matter of a data set's card, a folder's or the Hub's; "not stated" where none is found.

    A card on the Hub that cannot be reached is one that says nothing here: a run does not fail for it.
    """
    folder = Path(dataset)
    try:
        if folder.exists():
            card = DatasetCard.load(folder / "README.md")
        else:
            card = DatasetCard.load(dataset)
    except Exception:  # no card, no front matter, no network: the client has a dozen kinds
        return NOT_STATED
    found = card.data.get("license")
    names = [str(name) for name in (found if isinstance(found, list) else [found]) if name]
    if names == ["other"]:
        names = [str(card.data.get("license_name") or "other")]
    return ", ".join(names) or NOT_STATED
