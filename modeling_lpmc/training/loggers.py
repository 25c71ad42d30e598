"""TensorBoard and trackio, by the library's callbacks, with the run's scores and sample captions shown as well.

Nothing leaves the machine: TensorBoard's files lie in the run's directory, trackio's in its own folder (`TRACKIO_DIR`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback

from lpmc_errors import MissingExtraError

EXTRA = "loggers"
PROJECT = "lp-musiccaps"  # of trackio, which groups runs by it
SAMPLES = "sample captions"
TENSORBOARD_FOLDER = "tensorboard"

# Shows the scores of an evaluation (`eval_facts_f1` and the like) and its sample captions, a Markdown table or "".
Board = Callable[[TrainingArguments, TrainerState, TrainerControl, Mapping[str, float], str], None]


def check_loggers(names: Sequence[str]) -> None:
    """Raise `MissingExtraError` for a logger whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise MissingExtraError(name, extra=EXTRA)


def boards(names: Sequence[str], directory: Path) -> tuple[list[TrainerCallback], list[Board]]:
    """The library's callbacks of the loggers `names`, and what shows scores and samples on each."""
    callbacks: list[TrainerCallback] = []
    shown: list[Board] = []
    if "tensorboard" in names:
        tensorboard = LocalTensorBoard(directory / TENSORBOARD_FOLDER)
        callbacks.append(tensorboard)
        shown.append(tensorboard.show)
    if "trackio" in names:
        trackio = LocalTrackio(directory.resolve().name)
        callbacks.append(trackio)
        shown.append(trackio.show)
    return callbacks, shown


class LocalTensorBoard(TensorBoardCallback):
    """The library's callback, which writes into `folder`, and nothing after training has ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.logging_dir = str(folder)  # the library's own choice lies in the checkpoints, which go at the end

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log what training says; the closing evaluation is that of the best weights and belongs to no update."""
        if self.tb_writer is not None:
            super().on_log(args, state, control, logs=logs, **kwargs)

    def show(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        scores: Mapping[str, float],
        table: str,
    ) -> None:
        """Log scores and sample captions."""
        self.on_log(args, state, control, logs={**scores, **({SAMPLES: table} if table else {})})


class LocalTrackio(TrackioCallback):
    """The library's callback with a project and a run of this project's names, which opens no Space.

    trackio prints to standard output, which is the program's result; here that goes to standard error.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def setup(self, args: TrainingArguments, state: TrainerState, model: Any, **kwargs: Any) -> None:
        """Begin or go on with the run."""
        args.project, args.run_name, args.trackio_static_space_id = PROJECT, self._run, False
        with redirect_stdout(sys.stderr):
            super().setup(args, state, model, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log what training says; the closing evaluation is that of the best weights and belongs to no update."""
        if self._initialized:
            super().on_log(args, state, control, model=model, logs=logs, **kwargs)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        """Close the run."""
        with redirect_stdout(sys.stderr):
            super().on_train_end(args, state, control, model=model, processing_class=processing_class, **kwargs)

    def show(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        scores: Mapping[str, float],
        table: str,
    ) -> None:
        """Log scores and sample captions."""
        if scores:
            self.on_log(args, state, control, logs=dict(scores))
        if table and self._initialized:
            self._trackio.log({SAMPLES: self._trackio.Markdown(table), "train/global_step": state.global_step})
