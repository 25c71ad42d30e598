"""What a run tells while it trains, how it is asked to stop, and when it must."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lpmc_errors import LpmcError
from modeling_lpmc.training.processes import any_process
from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `stage` in words, `done` of `total`, and the last logged loss while it trains."""

    stage: str
    done: int
    total: int
    loss: float | None = None


class StopRequest:
    """What SIGINT and SIGTERM mean: while training, end after this update; otherwise, and when repeated, at once."""

    def __init__(self) -> None:
        self.training = False
        self.asked = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.training or self.asked:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals inside the block; outside the main thread Python allows none, so nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def after_this_update(self) -> Iterator[None]:
        """Inside the block the first signal only sets `asked`."""
        self.training = True
        try:
            yield
        finally:
            self.training = False


class TrainingWatch(TrainerCallback):
    """Reports progress, obeys a `StopRequest`, ends a diverged run, and notes the seconds beside every logged loss."""

    def __init__(
        self,
        stop: StopRequest,
        report: Callable[[Progress], None],
        sampler: ClipSampler | BalancedTagSampler,
        updates_per_epoch: int,
    ) -> None:
        self.stop = stop
        self.report = report
        self.sampler = sampler
        self.updates_per_epoch = updates_per_epoch
        self.loss: float | None = None
        self.seconds_before = 0.0  # of the processes that this one continues
        self.started = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the clock of a continued run."""
        self.started = time.monotonic()
        self.seconds_before = max((entry.get("seconds", 0.0) for entry in state.log_history), default=0.0)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose the epoch's draws: the library does not reach the sampler of a run resumed on several devices."""
        self.sampler.set_epoch(state.global_step // self.updates_per_epoch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """After an update: report, and save and stop when asked to."""
        self.report(Progress("training", state.global_step, state.max_steps, self.loss))
        if state.global_step >= state.max_steps:
            control.should_log = True  # so that the curve has its last point
        if any_process(self.stop.asked):
            self.stop.asked = True
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the time; raise `LpmcError` when the loss is not a number any more."""
        if not logs or "loss" not in logs:
            return
        self.loss = float(logs["loss"])
        state.log_history[-1]["seconds"] = round(self.seconds_before + time.monotonic() - self.started, 2)
        if not math.isfinite(self.loss):
            raise LpmcError(
                f"update {state.global_step}", f"the loss is {self.loss}", "lower optimisation.learning_rate"
            )

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the caller breathe while clips are evaluated."""
        self.report(Progress("evaluating", state.global_step, state.max_steps, self.loss))
