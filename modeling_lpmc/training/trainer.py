"""The parts of transformers' training loop that this project decides itself."""

from __future__ import annotations

import shutil
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, HubStrategy
from transformers.utils import PushInProgress

from lpmc_files import write_json
from modeling_lpmc.export import write_model_card
from modeling_lpmc.saving_lpmc import SAVED_BESIDE_WEIGHTS, WEIGHTS, complete_directory
from modeling_lpmc.training.audio_cache import FULL_SCALE
from modeling_lpmc.training.augmentation import AugmentationArguments, augmented
from modeling_lpmc.training.data import IGNORED_LABEL
from modeling_lpmc.training.feed import ReadAhead
from modeling_lpmc.training.optimiser import decaying_parameters
from modeling_lpmc.training.processes import of_all_processes
from modeling_lpmc.training.provenance import PROVENANCE
from modeling_lpmc.training.run_directory import RECORD, RESUME, card_summary, read_json
from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler
from modeling_lpmc.training.throughput import ThroughputWatch
from modeling_lpmc.training.update_batches import ClipsWithFillers, EvaluationBatches, UpdateBatches


class CaptionTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer whose run is a function of recipe and data, however it is cut up.

    The clips of an update come from `sampler` and are the same over any number of processes and steps of accumulation;
    dropout depends on seed, update and part of the update alone; a loss that is logged after a resumption is the one
    that an undisturbed run logs. `weight_decay_on` is the recipe's ("all" as in the released AdamW; the library spares
    biases and norms), `provenance` is written beside the weights of every checkpoint.

    What it pushes has this project's card and no pickle, and every commit loads; only checkpoints that `hub_strategy`
    asks for beside the model hold what PyTorch pickles, the state of the optimiser.
    """

    def __init__(
        self,
        *,
        sampler: ClipSampler | BalancedTagSampler,
        weight_decay_on: str = "all",
        augmentation: AugmentationArguments | None = None,
        provenance: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler = sampler
        self.weight_decay_on = weight_decay_on
        self.augmentation = augmentation
        self.throughput: ThroughputWatch | None = None
        self.provenance = provenance
        self._api = HfApi(library_name="transformers")  # one for all uploads, which then come one after the other
        self._part = (-1, 0)  # update that is being computed, and the number of its next part in this process
        self._loss_sum = torch.tensor(0.0, device=self.args.device)  # of the updates since one was logged
        self._logged_at = 0  # update

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's, which goes on with the sum of losses that the checkpoint has not logged yet."""
        self._loss_sum.zero_()
        self._logged_at = 0
        if isinstance(resume_from_checkpoint, str):
            kept = read_json(Path(resume_from_checkpoint, RESUME)) or {}
            sums = kept.get("loss_sums", [0.0])
            own = sums[self.args.process_index] if len(sums) == self.args.world_size else sum(sums) / len(sums)
            self._loss_sum.fill_(own)
            self._logged_at = kept.get("logged_at", 0)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self.sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Loads the parts of `UpdateBatches`; Accelerate does not deal them out again."""
        args = self.args
        at_once = args.per_device_train_batch_size
        batches = UpdateBatches(
            self.sampler,
            batch_size=at_once * args.world_size * args.gradient_accumulation_steps,
            at_once=at_once,
            processes=args.world_size,
            process=args.process_index,
        )
        return self._loader(ClipsWithFillers(self.train_dataset), batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Gives every clip to exactly one process; the library's loader repeats some to fill batches up."""
        if self.compute_metrics is not None:  # then the library's loop gathers batches, and must find as many in each
            return super().get_eval_dataloader(eval_dataset)
        named = isinstance(eval_dataset, str)
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        dataset = self.eval_dataset[eval_dataset] if named else dataset  # type: ignore[index]
        args = self.args
        batches = EvaluationBatches(
            len(dataset),
            at_once=args.per_device_eval_batch_size,
            processes=args.world_size,
            process=args.process_index,
        )
        return self._loader(dataset, batches)

    def _loader(self, dataset: Any, batches: Any) -> DataLoader[Any]:
        threads = self.args.dataloader_num_workers
        return ReadAhead(dataset, batch_sampler=batches, collate_fn=self.data_collator, threads=threads)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The library's, with the time noted that batches take to come."""
        batches = epoch_iterator if self.throughput is None else self.throughput.batches(epoch_iterator)
        return super().get_batch_samples(batches, num_batches, device)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The library's; training clips are changed first as `augmentation` says."""
        if self.augmentation and model.training:
            captioner: Any = self.accelerator.unwrap_model(model, keep_torch_compile=False)
            waves = inputs.pop("input_values", None)
            features = inputs["input_features"] if waves is None else captioner.model.encoder.log_mel(waves)
            inputs = {**inputs, "input_features": augmented(features, self.augmentation)}
        return super().compute_loss(model, inputs, *args, **kwargs)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The library's, with the dropout of this part of this update."""
        update, number = self._part
        number = number if update == self.state.global_step else 0
        self._part = (self.state.global_step, number + 1)
        place = number * self.args.world_size + self.args.process_index
        seed = np.random.SeedSequence([self.args.seed, self.state.global_step, place])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._loss_sum += loss
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The library's, where "loss" is the mean over all updates since it was last logged, also before a kill."""
        updates = self.state.global_step - self._logged_at
        if "loss" in logs and updates > 0:
            sums = [own for own, *_ in of_all_processes([self._loss_sum.item()])]
            logs["loss"] = sum(sums) / len(sums) / updates
            self._loss_sum.zero_()
            self._logged_at = self.state.global_step
        super().log(logs, start_time)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Mean loss of a token over all clips, whatever their batches; the library's loop when it is not all wanted."""
        if not prediction_loss_only:
            return super().evaluation_loop(dataloader, description, None, ignore_keys, metric_key_prefix)
        model: Any = self.model
        model.eval()
        model.to(self.args.device)
        total = tokens = clips = 0.0
        for batch in dataloader:
            inputs = self._prepare_inputs(batch)
            counted = int((inputs["labels"] != IGNORED_LABEL).sum())
            with torch.no_grad(), self.accelerator.autocast():
                total += float(model(**inputs).loss) * counted
            tokens += counted
            clips += len(inputs["labels"])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        total, tokens, clips = map(sum, zip(*of_all_processes([total, tokens, clips]), strict=True))
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total / tokens}, int(clips))  # type: ignore[arg-type]

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs on the device; there the int16 waveforms of the cache become floats in [-1, 1]."""
        device = self.args.device  # the library waits for each copy
        inputs = {key: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for key, v in inputs.items()}
        prepared = super()._prepare_inputs(inputs)
        waves = prepared.get("input_values")
        if waves is not None and not waves.is_floating_point():
            prepared["input_values"] = waves.float() / FULL_SCALE
        return prepared

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that decay; see `decaying_parameters`."""
        return decaying_parameters(model, self.weight_decay_on)

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

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Before the library writes trainer_state.json, which makes a checkpoint whole.
        sums = [own for own, *_ in of_all_processes([self._loss_sum.item()])]
        if self.args.should_save:
            folder = Path(str(self.args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
            write_json(folder / RESUME, {"loss_sums": sums, "logged_at": self._logged_at})
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # training_args.bin is a pickle of everything the run was told, tokens and local paths too; the provenance and
        # training.json say what is worth knowing.
        folder = Path(output_dir or str(self.args.output_dir))
        super()._save(output_dir, state_dict=state_dict)
        Path(folder, TRAINING_ARGS_NAME).unlink(missing_ok=True)
        if self.provenance is not None:
            write_json(folder / PROVENANCE, self.provenance)

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
