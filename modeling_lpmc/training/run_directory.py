"""What lies in the output directory of a run, and how a run finds its way back after a kill.

While it trains: `checkpoints/run.json` (the resolved recipe and notes), `checkpoints/checkpoint-N/`, of which each says
in `provenance.json` where it comes from, and `checkpoints/lock`, held by the one run that may write here.
When it is done: the model's own files, `README.md`, `training.json` (written last, so it marks a finished run) and,
when asked for, `inference.json`; `checkpoints/` is then removed.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import UsageError
from lpmc_files import claimed, write_json
from modeling_lpmc.export import write_model_card

LOCK = "checkpoints/lock"  # below the directory
RECORD = "training.json"
RESUME = "resume.json"  # of a checkpoint: what the library's own files leave out
CAPTIONS = "inference.json"  # [{"prediction", "ground_truth"}], the format of the released code and of `lpmc evaluate`
# What the card tells of a record: key -> how it is called there. Its numbers are held against the record by the lint.
_ON_THE_CARD = {
    "parameters": "parameters",
    "vocabulary": "vocabulary",
    "train_clips": "clips it was trained on",
    "train_captions": "captions it was trained on",
    "updates": "updates",
    "epochs": "epochs",
    "loss": "training loss at the end",
    "evaluation_loss": "loss on held-out clips (evaluation)",
    "evaluation_clips": "held-out clips (evaluation)",
    "precision": "precision",
}
_CHECKPOINT_FILES = ("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", RESUME)


@dataclass(frozen=True)
class RunDirectory:
    """The output directory of one run. Of several processes one `writes`; in the others all that writes is idle."""

    path: Path
    writes: bool = True

    @property
    def checkpoints(self) -> Path:
        """Where the run keeps what it resumes from."""
        return self.path / "checkpoints"

    def finished(self, recipe: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a finished run with this `recipe`, or None.

        Raises `UsageError` when the directory belongs to a run with another recipe.
        """
        record = read_json(self.path / RECORD)
        if record is not None:
            self._check_same(record.get("recipe"), recipe)
        return record

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs out inside the block. Raises `UsageError` while another one is at work here; `DiskError`."""
        return claimed(self.path, LOCK, "trains")

    def begin(self, recipe: dict[str, Any]) -> None:
        """Claim the directory for `recipe`.

        Raises `UsageError` when it holds a checkpoint of another recipe or a foreign model; `DiskError`.
        """
        begun = read_json(self.checkpoints / "run.json")
        if begun is not None and self.last_checkpoint() is not None:
            self._check_same(begun.get("recipe"), recipe)
            return
        if (self.path / "config.json").exists():
            raise UsageError(self.path, "holds a model that this run did not make", "choose another --output")
        write_json(self.checkpoints / "run.json", {"recipe": recipe})

    def note(self, name: str, value: Any) -> None:
        """Keep a fact that the finished run's record will want, across kills. Raises `DiskError`."""
        if not self.writes:
            return
        file = self.checkpoints / "run.json"
        write_json(file, {**(read_json(file) or {}), name: value})

    def noted(self, name: str) -> Any:
        """A fact kept by `note`."""
        return (read_json(self.checkpoints / "run.json") or {}).get(name)

    def last_checkpoint(self) -> tuple[Path, int] | None:
        """The newest whole checkpoint and its update; removes newer ones that a kill left half written."""
        found = [path for path in self.checkpoints.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
        for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
            state = read_json(path / "trainer_state.json")  # the trainer writes it last
            if state is not None and all((path / name).is_file() for name in _CHECKPOINT_FILES):
                return path, int(state["global_step"])
            if self.writes:
                shutil.rmtree(path, ignore_errors=True)
        return None

    def finish(self, record: dict[str, Any]) -> None:
        """Write the saved model's card and `record`, and remove what a run resumes from. Raises `DiskError`."""
        recipe = record.get("recipe", {})
        write_model_card(
            self.path,
            summary=card_summary(record),
            base_model=recipe.get("model", {}).get("start_from"),
            datasets=[name for name in [recipe.get("data", {}).get("dataset")] if name],
            results=record.get("results"),
            data_licence=record.get("data_licence"),
        )
        write_json(self.path / RECORD, record)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a finished run does not need any more."""
        if self.writes:
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _check_same(self, theirs: Any, ours: dict[str, Any]) -> None:
        theirs = theirs if isinstance(theirs, dict) else {}
        for section, values in ours.items():
            for key, value in values.items():
                known = theirs.get(section, {}).get(key)
                if known != value:
                    raise UsageError(
                        self.path,
                        f"holds a run with {section}.{key} {known!r}, not {value!r}",
                        "give the same settings to continue it, or choose another --output",
                    )


def card_summary(record: dict[str, Any]) -> dict[str, Any]:
    """What a model's card tells of the training that `record` describes, as name -> value."""
    return {name: record[key] for key, name in _ON_THE_CARD.items() if record.get(key) not in (None, 0)}


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is none, or not a whole one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: cut short by a kill
        return None
    return value if isinstance(value, dict) else None
