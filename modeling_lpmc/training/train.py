"""Train a captioner on the data set through transformers' Seq2SeqTrainer, resumably.

The library does the training loop, accumulation, mixed precision and devices (Accelerate). This file reads the recipe,
puts data, model and trainer together, and leaves an output directory that AutoModel loads.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME
from torch.utils.data import Subset
from transformers import PrinterCallback, Seq2SeqTrainingArguments, TrainerState, set_seed

from lpmc_errors import Interrupted, LpmcError, UsageError, disk_faults_named
from lpmc_files import write_json
from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.export import save_for_hub
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.training.arguments import OptimisationArguments, TrainingRecipe, load_recipe
from modeling_lpmc.training.data import CaptionCollator, CaptionedClips, ClipDataset, SkippedRow, read_split
from modeling_lpmc.training.model import model_to_train
from modeling_lpmc.training.run_directory import CAPTIONS, RunDirectory
from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler
from modeling_lpmc.training.trainer import CaptionTrainer, Progress, StopRequest, TrainingWatch

RECORDED_PACKAGES = ("lp-musiccaps", "torch", "transformers", "accelerate", "datasets", "tokenizers")

ReportProgress = Callable[[Progress], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a run made. `seconds` is the time spent training, over all the processes that a resumed run had."""

    output: Path
    updates: int
    loss: float
    evaluation_loss: float | None
    seconds: float
    train_clips: int
    evaluation_clips: int
    skipped: tuple[SkippedRow, ...]
    inference: Path | None
    resumed_from: int | None
    was_finished: bool


def run_training(
    recipe: Path | str,
    output: Path | str,
    overrides: Sequence[str] = (),
    *,
    progress: ReportProgress | None = None,
    say: Say | None = None,
) -> TrainingResult:
    """Train what `recipe` (a YAML file or a shipped name) says and save the captioner into `output`.

    The same call continues a run that was interrupted or killed, and returns at once when it is done. `progress` is
    called often, `say` with the few sentences a user must read (a replaced tokenizer, rows left out).

    Raises `UsageError` for a recipe or data set that does not fit, `TableError` for data without audio or captions,
    `ModelError` for a model or tokenizer that cannot be loaded, `DiskError`, and `Interrupted` (run again to resume)
    after SIGINT or SIGTERM.
    """
    resolved = load_recipe(Path(recipe), overrides)
    directory = RunDirectory(Path(output))
    report = progress or (lambda _: None)
    tell = say or (lambda _: None)
    done = directory.finished(resolved.as_dict())
    if done is not None:
        tell(f"{output}: already trained with this recipe")
        return _result(directory, done, was_finished=True)
    stop = StopRequest()
    with stop.installed(), disk_faults_named(directory.path):
        try:
            directory.begin(resolved.as_dict())
            return _run(resolved, directory, stop, report, tell)
        except KeyboardInterrupt as error:
            raise _interrupted(directory) from error
        except torch.cuda.OutOfMemoryError as error:
            raise LpmcError(
                "optimisation.clips_per_step", "the GPU has too little memory", "give a smaller divisor of batch_size"
            ) from error


def _run(
    recipe: TrainingRecipe, directory: RunDirectory, stop: StopRequest, report: ReportProgress, tell: Say
) -> TrainingResult:
    set_seed(recipe.optimisation.seed)
    arguments = _trainer_arguments(recipe, directory)
    with arguments.main_process_first():  # the first process fills the caches, the others find them
        train, held_out = _read_data(recipe, report)
        checkpoint = directory.last_checkpoint()
        _check_same_data(directory, train, resuming=checkpoint is not None)
        model, processor = model_to_train(recipe.model, train, directory, checkpoint and checkpoint[0], tell)
        train_set = ClipDataset(train, processor, recipe.data, _reporter(report))
        held_out_set = ClipDataset(held_out, processor, recipe.data, _reporter(report)) if held_out else None
    skipped = [*train.skipped, *(held_out.skipped if held_out else [])]
    if skipped:
        reasons = sorted({skip.reason for skip in skipped})
        tell(f"{len(skipped)} rows are left out ({'; '.join(reasons[:3])}{'; ...' if len(reasons) > 3 else ''})")
    sampler = _sampler(recipe, train)
    per_epoch = math.ceil(len(sampler) / recipe.optimisation.batch_size)
    updates, warmup = _schedule(recipe.optimisation, per_epoch)
    arguments.max_steps, arguments.warmup_steps = updates, warmup
    trainer = CaptionTrainer(
        sampler=sampler,
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=held_out_set,
        data_collator=_collator(model.config),
        processing_class=processor,
        callbacks=[TrainingWatch(stop, report, sampler, per_epoch)],
    )
    trainer.remove_callback(PrinterCallback)
    if checkpoint is not None and checkpoint[1] >= updates:  # killed after the last update: only the ending is missing
        trainer.state = TrainerState.load_from_json(str(checkpoint[0] / "trainer_state.json"))
    else:
        if checkpoint is not None:
            tell(f"continuing after update {checkpoint[1]} of {updates}")
        with stop.after_this_update():
            trainer.train(resume_from_checkpoint=str(checkpoint[0]) if checkpoint else None)
        if stop.asked and trainer.state.global_step < updates:
            raise _interrupted(directory)
    evaluation_loss = None
    if held_out is not None and held_out_set is not None:
        evaluation_loss = float(trainer.evaluate()["eval_loss"])
        number = min(recipe.evaluation.generated_captions, len(held_out))
        if number:
            report(Progress("captioning the evaluation clips", 0, number))
            _write_captions(trainer, Subset(held_out_set, range(number)), held_out, processor, directory)
    record = _record(recipe, trainer, (train, held_out), evaluation_loss) | {
        "updates": updates,
        "warmup_updates": warmup,
        "resumed_from": checkpoint[1] if checkpoint else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokenizer": directory.noted("tokenizer"),
        "vocabulary": len(processor.tokenizer),
    }
    if trainer.is_world_process_zero():
        save_for_hub(model, processor, directory.path)
        directory.finish(record)
    return _result(directory, record, was_finished=False)


def _read_data(recipe: TrainingRecipe, report: ReportProgress) -> tuple[CaptionedClips, CaptionedClips | None]:
    cache = Path(recipe.data.cache) if recipe.data.cache else Path(HF_HOME) / "lp-musiccaps"
    rate = LpmcFeatureExtractor().sampling_rate
    wanted = [(recipe.data.split, recipe.data.max_rows)]
    if recipe.evaluation.split is not None:
        wanted.append((recipe.evaluation.split, recipe.evaluation.max_rows))
    clips = [read_split(recipe.data, split, rows, rate, cache, _reporter(report)) for split, rows in wanted]
    return clips[0], clips[1] if len(clips) > 1 else None


def _check_same_data(directory: RunDirectory, train: CaptionedClips, *, resuming: bool) -> None:
    """A checkpoint goes on with the clips it began with. Raises `UsageError` when they have changed."""
    if resuming and directory.noted("data_fingerprint") != train.fingerprint:
        raise UsageError(
            directory.path, "was begun on other clips or captions than the data set now has", "choose another --output"
        )
    directory.note("data_fingerprint", train.fingerprint)


def _reporter(report: ReportProgress) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: report(Progress(stage, done, total))


def _collator(config: LpmcConfig) -> CaptionCollator:
    assert config.pad_token_id is not None
    assert config.decoder_start_token_id is not None
    return CaptionCollator(config.pad_token_id, config.decoder_start_token_id)


def _sampler(recipe: TrainingRecipe, train: CaptionedClips) -> ClipSampler | BalancedTagSampler:
    captions = [len(own) for own in train.captions]
    data, run = recipe.data, recipe.optimisation
    if data.sampling == "balanced_tags":
        return BalancedTagSampler(train.tags, captions, run.seed, draws=data.draws_per_epoch)
    multiple = run.batch_size if data.drop_last else 1
    sampler = ClipSampler(captions, run.seed, shuffle=data.sampling == "shuffled", multiple=multiple)
    if not len(sampler):
        raise UsageError(
            "data.drop_last", f"{len(train)} clips do not fill one batch of {run.batch_size}", "set it to false"
        )
    return sampler


def _schedule(run: OptimisationArguments, per_epoch: int) -> tuple[int, int]:
    """Updates of the run and of its warm-up. Raises `UsageError` when the warm-up takes up the run."""
    updates = run.updates or max(1, round((run.epochs or 0) * per_epoch))
    warmup = run.warmup_updates or round((run.warmup_epochs or 0) * per_epoch)
    if warmup >= updates:
        raise UsageError(
            "optimisation",
            f"a warm-up of {warmup} updates leaves nothing of a run of {updates}",
            "lower warmup_updates or train longer",
        )
    return updates, warmup


def _trainer_arguments(recipe: TrainingRecipe, directory: RunDirectory) -> Seq2SeqTrainingArguments:
    """The library's settings, all but the number of updates. They also join the processes of a distributed run."""
    run, evaluation = recipe.optimisation, recipe.evaluation
    gpu = torch.cuda.is_available()
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(directory.checkpoints),
        use_cpu=not torch.accelerator.is_available(),  # several processes on a CPU are joined only when told so
        lr_scheduler_type="cosine_with_min_lr",  # from 0 to the peak, then half a cosine: the released schedule
        lr_scheduler_kwargs={"min_lr": run.final_learning_rate},
        learning_rate=run.learning_rate,
        weight_decay=run.weight_decay,
        max_grad_norm=run.max_gradient_norm,
        optim="adamw_torch_fused" if gpu else "adamw_torch",  # 2 ms instead of 17 on an H100, of an update of 80
        bf16=run.precision == "bfloat16" or (run.precision == "auto" and gpu and torch.cuda.is_bf16_supported()),
        ddp_find_unused_parameters=False,  # every parameter takes part in every update
        dataloader_num_workers=run.loader_workers,
        dataloader_persistent_workers=run.loader_workers > 0,  # an epoch of the pre-training is 32 updates
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        seed=run.seed,
        logging_steps=run.log_every,
        logging_nan_inf_filter=False,  # a loss that is not a number must be seen
        save_steps=run.save_every,
        save_total_limit=run.keep_checkpoints,
        eval_strategy="steps" if evaluation.split and evaluation.every_updates else "no",
        eval_steps=evaluation.every_updates,
        predict_with_generate=True,  # acts in predict() alone: without metrics evaluate() wants the loss only
        disable_tqdm=True,
        report_to="none",
    )
    devices = arguments.world_size
    at_once = run.clips_per_step or max(1, run.batch_size // devices)
    if run.batch_size % (at_once * devices):
        raise UsageError(
            "optimisation.batch_size",
            f"{run.batch_size} cannot be split over {devices} devices taking {at_once} clips at a time",
            "change batch_size or clips_per_step",
        )
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = at_once
    arguments.gradient_accumulation_steps = run.batch_size // (at_once * devices)
    return arguments


def _write_captions(
    trainer: CaptionTrainer,
    clips: Subset[dict[str, Any]],
    held_out: CaptionedClips,
    processor: LpmcProcessor,
    directory: RunDirectory,
) -> None:
    """Caption `clips`, the first of `held_out`, and write the captions beside their references."""
    tokens = np.asarray(trainer.predict(clips).predictions)  # (clips, tokens), -100 after the end
    tokens = tokens[: len(clips)]  # several devices fill the last batch up with clips they have had
    captions = processor.batch_decode(np.where(tokens < 0, processor.tokenizer.pad_token_id, tokens))
    rows = [
        {"track_id": track_id, "prediction": caption.strip(), "ground_truth": references[0]}
        for track_id, caption, references in zip(held_out.track_ids, captions, held_out.captions, strict=False)
    ]
    if trainer.is_world_process_zero():
        write_json(directory.path / CAPTIONS, rows)


def _record(
    recipe: TrainingRecipe,
    trainer: CaptionTrainer,
    splits: tuple[CaptionedClips, CaptionedClips | None],
    evaluation_loss: float | None,
) -> dict[str, Any]:
    """What `training.json` says of data, losses, time and machine."""
    train, held_out = splits
    history = trainer.state.log_history
    curve = [_point(entry, "loss") for entry in history if "loss" in entry]
    return {
        "recipe": recipe.as_dict(),
        "loss": curve[-1]["loss"],
        "evaluation_loss": evaluation_loss,
        "seconds": curve[-1]["seconds"],
        "data_fingerprint": train.fingerprint,
        "rows": {clips.split: clips.rows for clips in splits if clips},
        "train_clips": len(train),
        "train_captions": sum(map(len, train.captions)),
        "evaluation_clips": len(held_out) if held_out else 0,
        "skipped": [asdict(skip) for clips in splits if clips for skip in clips.skipped],
        "loss_curve": curve,
        "evaluation_curve": [_point(entry, "eval_loss") for entry in history if "eval_loss" in entry],
        "device": str(trainer.args.device),
        "precision": "bfloat16" if trainer.args.bf16 else "float32",
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _point(entry: dict[str, Any], name: str) -> dict[str, Any]:
    point = {"update": entry["step"], "epoch": entry.get("epoch"), "loss": entry[name]}
    return point | {key: entry[key] for key in ("learning_rate", "grad_norm", "seconds") if key in entry}


def _versions() -> dict[str, str]:
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that was never installed
            found[name] = "not installed"
    return found


def _interrupted(directory: RunDirectory) -> Interrupted:
    checkpoint = directory.last_checkpoint()
    kept = f"{checkpoint[1]} updates are kept" if checkpoint else "nothing was trained yet"
    return Interrupted(directory.path, f"interrupted, {kept}", "run the same command again to continue")


def _result(directory: RunDirectory, record: dict[str, Any], *, was_finished: bool) -> TrainingResult:
    inference = directory.path / CAPTIONS
    return TrainingResult(
        output=directory.path,
        updates=record["updates"],
        loss=record["loss"],
        evaluation_loss=record["evaluation_loss"],
        seconds=record["seconds"],
        train_clips=record["train_clips"],
        evaluation_clips=record["evaluation_clips"],
        skipped=tuple(SkippedRow(**skip) for skip in record["skipped"]),
        inference=inference if inference.exists() else None,
        resumed_from=record["resumed_from"],
        was_finished=was_finished,
    )
