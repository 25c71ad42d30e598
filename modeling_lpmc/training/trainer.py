"""The parts of transformers' training loop that this project decides itself."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from huggingface_hub import HfApi
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import PushInProgress

from lpmc_errors import LpmcError
from lpmc_files import write_json
from modeling_lpmc.export import write_model_card
from modeling_lpmc.saving_lpmc import SAVED_BESIDE_WEIGHTS, WEIGHTS, complete_directory
from modeling_lpmc.training.audio_cache import FULL_SCALE
from modeling_lpmc.training.run_directory import RECORD, card_summary
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


class CaptionTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with given draws, and weight decay on every parameter (as the released AdamW; the library spares
    biases and norms). What it pushes has this project's card and no pickle, and every commit loads; only checkpoints
    that `hub_strategy` asks for beside the model hold what PyTorch pickles, the state of the optimiser."""

    def __init__(self, *, sampler: ClipSampler | BalancedTagSampler, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sampler = sampler
        self._api = HfApi(library_name="transformers")  # one for all uploads, which then come one after the other

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self.sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The library's loader; its workers stay alive over epochs, so its seeds must not come from dropout's.

        A continued run starts its workers once more than the undisturbed one.
        """
        loader = super().get_train_dataloader()
        if self.args.dataloader_num_workers:
            inner: Any = getattr(loader, "base_dataloader", loader)  # Accelerate wraps it
            inner.generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs on the device; there the int16 waveforms of the cache become floats in [-1, 1]."""
        prepared = super()._prepare_inputs(inputs)
        waves = prepared.get("input_values")
        if waves is not None and not waves.is_floating_point():
            prepared["input_values"] = waves.float() / FULL_SCALE
        return prepared

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that decay: all of them."""
        return [name for name, _ in model.named_parameters()]

    def create_model_card(  # type: ignore[override]
        self,
        *,
        license: str | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset_tags: str | list[str] | None = None,
        **unused: Any,
    ) -> None:
        """Write README.md and the record that holds its numbers, training.json, into the output directory.

        `license` is that of the weights and is kept with them. `finetuned_from` and `dataset_tags` are ids on the Hub.
        The library's other details have no place on this card. Raises `ModelError` if no model was saved there.
        """
        if not self.is_world_process_zero():
            return
        output, model = Path(str(self.args.output_dir)), self.accelerator.unwrap_model(self.model)
        if license is not None:
            model.config.weights_licence = license
            model.config.save_pretrained(output)
            complete_directory(output)
        facts = self._facts(model)
        write_json(output / RECORD, facts)
        write_model_card(
            output,
            model_name=model_name,
            summary=card_summary(facts),
            repo_id=self.hub_model_id,
            base_model=finetuned_from,
            datasets=[dataset_tags] if isinstance(dataset_tags, str) else dataset_tags or [],
        )

    def _facts(self, model: nn.Module) -> dict[str, Any]:
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        held_out = [entry["eval_loss"] for entry in self.state.log_history if "eval_loss" in entry]
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_clips": len(self.train_dataset) if isinstance(self.train_dataset, Sized) else None,
            "updates": self.state.global_step,
            "epochs": self.state.epoch,
            "loss": losses[-1] if losses else None,
            "evaluation_loss": held_out[-1] if held_out else None,
            "precision": "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32",
        }

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # training_args.bin is a pickle of everything the run was told, tokens and local paths too; training.json and
        # recipe.yaml say what is worth knowing.
        super()._save(output_dir, state_dict=state_dict)
        Path(output_dir or str(self.args.output_dir), TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Not the library's, which would push weights and settings without the code that loads them, and writes
        # training_args.bin anew before it does.
        args, strategy = self.args, self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        before: Any = self.push_in_progress
        busy = before is not None and not before.is_done()
        if busy and not args.hub_always_push:
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        output, checkpoint = Path(str(args.output_dir)), Path(checkpoint_folder)
        for path in checkpoint.iterdir():
            if SAVED_BESIDE_WEIGHTS.fullmatch(path.name) or WEIGHTS.fullmatch(path.name):
                shutil.copyfile(path, output / path.name)
        complete_directory(output)
        self.create_model_card()
        title = f"Training in progress, step {self.state.global_step}"
        jobs = [self._upload(output, title)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):  # whole, so that a run can go on from it
            place = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else checkpoint.name
            jobs.append(self._upload(checkpoint, f"{title}, checkpoint", path_in_repo=place))
        uploads: Any = jobs  # the library's own hint is a single one
        if busy:
            before.jobs.extend(uploads)
        else:
            self.push_in_progress: Any = PushInProgress(uploads)

    def _upload(self, folder: Path, title: str, **options: Any) -> Any:
        """Begin to upload `folder`; returns what waits for the end."""
        return self._api.upload_folder(
            repo_id=str(self.hub_model_id),
            folder_path=folder,
            commit_message=title,
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            ignore_patterns=["_*", f"{PREFIX_CHECKPOINT_DIR}-*", TRAINING_ARGS_NAME],
            run_as_future=True,
            **options,
        )


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
        if self.stop.asked:
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
