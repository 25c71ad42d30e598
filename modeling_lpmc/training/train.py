"""Train a captioner on the data set through transformers' Seq2SeqTrainer, resumably.

The library does the training loop, accumulation, mixed precision and devices (Accelerate). This file reads the recipe,
puts data, model and trainer together, and leaves an output directory that AutoModel loads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from transformers import PrinterCallback, Seq2SeqTrainingArguments, TrainerState, set_seed

from lpmc_errors import Interrupted, LpmcError, UsageError, disk_faults_named
from lpmc_files import write_json
from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.export import save_for_hub
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.training.arguments import TrainingRecipe, load_recipe
from modeling_lpmc.training.data import CaptionedClips, ClipDataset, SkippedRow, read_split
from modeling_lpmc.training.feed import COMPILED_WIDTHS, CaptionCollator
from modeling_lpmc.training.model import check_start, model_to_train
from modeling_lpmc.training.optimiser import schedule, trainer_arguments
from modeling_lpmc.training.processes import from_process_zero
from modeling_lpmc.training.progress import Progress, StopRequest, TrainingWatch
from modeling_lpmc.training.provenance import code_state, provenance
from modeling_lpmc.training.results import final_results
from modeling_lpmc.training.run_directory import CAPTIONS, RunDirectory
from modeling_lpmc.training.sample_captions import caption_clips
from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler
from modeling_lpmc.training.throughput import THROUGHPUT_KEYS, ThroughputWatch
from modeling_lpmc.training.trainer import CaptionTrainer
from modeling_lpmc.training.watching import (
    best_settings,
    check_watching,
    history_of,
    load_best,
    stopped_early,
    watchers,
)

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
    stop = StopRequest()
    with ExitStack() as held:
        held.enter_context(stop.installed())
        held.enter_context(disk_faults_named(Path(output)))
        arguments = trainer_arguments(resolved, RunDirectory(Path(output)).checkpoints)
        speaks = arguments.process_index == 0  # of several processes only the first one writes and reports
        directory = RunDirectory(Path(output), writes=speaks)
        report: ReportProgress = progress if progress and speaks else lambda _: None
        tell: Say = say if say and speaks else lambda _: None
        try:
            done = from_process_zero(lambda: _claim(directory, resolved, held))
            if done is not None:
                tell(f"{output}: already trained with this recipe")
                return _result(directory, done, was_finished=True)
            return _run(resolved, directory, arguments, stop, report, tell)
        except KeyboardInterrupt as error:
            raise _interrupted(directory) from error
        except torch.cuda.OutOfMemoryError as error:
            raise LpmcError(
                "optimisation.clips_per_step", "the GPU has too little memory", "give a smaller divisor of batch_size"
            ) from error


def _claim(directory: RunDirectory, recipe: TrainingRecipe, held: ExitStack) -> dict[str, Any] | None:
    """The record of a finished run; otherwise take the directory for this one until `held` closes."""
    record = directory.finished(recipe.as_dict())
    if record is None:
        held.enter_context(directory.locked())
        record = directory.finished(recipe.as_dict())  # by a run that ended since
    if record is None:
        directory.begin(recipe.as_dict())
        directory.last_checkpoint()  # removes what a kill left half written, before other processes look
    else:
        directory.tidy()  # a kill after the last file leaves checkpoints behind
    return record


def _run(
    recipe: TrainingRecipe,
    directory: RunDirectory,
    arguments: Seq2SeqTrainingArguments,
    stop: StopRequest,
    report: ReportProgress,
    tell: Say,
) -> TrainingResult:
    check_watching(recipe, tell)
    check_start(recipe.model)
    if recipe.optimisation.updates and recipe.optimisation.warmup_updates:
        schedule(recipe.optimisation, per_epoch=1)  # which neither needs; with epochs it waits for the data
    with arguments.main_process_first():  # the first process fills the caches, the others find them
        train, held_out = _read_data(recipe, report)
        checkpoint = directory.last_checkpoint()
        record = _signed(recipe, directory, (train, held_out), resuming=checkpoint is not None)
        set_seed(recipe.optimisation.seed)  # not before: reading data may draw, or not, as the caches have it
        model, processor = model_to_train(recipe.model, train, directory, checkpoint and checkpoint[0], tell)
        data = replace(
            recipe.data, max_caption_tokens=min(recipe.data.max_caption_tokens, model.config.max_position_embeddings)
        )
        train_set = ClipDataset(train, processor, data, _reporter(report))
        held_out_set = ClipDataset(held_out, processor, data, _reporter(report)) if held_out else None
    skipped = [*train.skipped, *(held_out.skipped if held_out else [])]
    if skipped:
        reasons = sorted({skip.reason for skip in skipped})
        tell(f"{len(skipped)} rows are left out ({'; '.join(reasons[:3])}{'; ...' if len(reasons) > 3 else ''})")
    sampler = _sampler(recipe, train)
    per_epoch = math.ceil(len(sampler) / recipe.optimisation.batch_size)
    updates, warmup = schedule(recipe.optimisation, per_epoch)
    arguments.max_steps, arguments.warmup_steps = updates, warmup
    for name, value in best_settings(recipe).items():
        setattr(arguments, name, value)
    throughput = ThroughputWatch(model.config)
    trainer = CaptionTrainer(
        sampler=sampler,
        weight_decay_on=recipe.optimisation.weight_decay_on,
        augmentation=recipe.augmentation,
        provenance=record,
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=held_out_set,
        data_collator=_collator(model.config, COMPILED_WIDTHS if recipe.optimisation.compile else ()),
        processing_class=processor,
        callbacks=[TrainingWatch(stop, report, sampler, per_epoch), throughput],
    )
    trainer.throughput = throughput
    trainer.remove_callback(PrinterCallback)
    for callback in watchers(recipe, directory, processor, train, held_out, held_out_set, report):
        trainer.add_callback(callback)
    if checkpoint is not None and (
        checkpoint[1] >= updates or stopped_early(history_of(checkpoint[0]), recipe.evaluation)
    ):  # killed after the last update: only the ending is missing
        trainer.state = TrainerState.load_from_json(str(checkpoint[0] / "trainer_state.json"))
        trainer.state.is_world_process_zero = directory.writes
        trainer.state.is_local_process_zero = trainer.is_local_process_zero()
    else:
        if checkpoint is not None:
            tell(f"continuing after update {checkpoint[1]} of {updates}")
        with stop.after_this_update():
            trainer.train(resume_from_checkpoint=str(checkpoint[0]) if checkpoint else None)
        if stop.asked and trainer.state.global_step < updates:
            raise _interrupted(directory)
    best_update = load_best(trainer, directory)
    evaluation_loss = None
    if held_out is not None and held_out_set is not None:
        evaluation_loss = float(trainer.evaluate()["eval_loss"])
        number = min(recipe.evaluation.generated_captions, len(held_out))
        if number:
            report(Progress("captioning the evaluation clips", 0, number))
            _write_captions(
                directory, held_out, caption_clips(model, processor, held_out_set, range(number), arguments)
            )
    record = (
        record
        | _course(trainer, (train, held_out), evaluation_loss)
        | {
            "updates": updates,
            "warmup_updates": warmup,
            "resumed_from": checkpoint[1] if checkpoint else None,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tokenizer": directory.noted("tokenizer"),
            "vocabulary": len(processor.tokenizer),
            "throughput": throughput.summary(),
        }
        | final_results(trainer, recipe, directory, processor, train, held_out, held_out_set, best_update=best_update)
    )
    if directory.writes:
        save_for_hub(trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False), processor, directory.path)
        directory.finish(record)
    arguments.distributed_state.wait_for_everyone()  # so that what any process returns with lies there
    return _result(directory, record, was_finished=False)


def _signed(
    recipe: TrainingRecipe,
    directory: RunDirectory,
    clips: tuple[CaptionedClips, CaptionedClips | None],
    *,
    resuming: bool,
) -> dict[str, Any]:
    """The provenance of what comes now. A checkpoint goes on with the clips it began with.

    Raises `UsageError` when they have changed.
    """
    code = (directory.noted("code") or []) if resuming else []
    state = code_state()
    record = provenance(recipe, clips, [*code, *([state] if state not in code else [])])
    if resuming and directory.noted("data") != record["data"]:
        raise UsageError(
            directory.path, "was begun on other clips or captions than the data set now has", "choose another --output"
        )
    directory.note("data", record["data"])
    directory.note("code", record["code"])
    return record


def _read_data(recipe: TrainingRecipe, report: ReportProgress) -> tuple[CaptionedClips, CaptionedClips | None]:
    cache = Path(recipe.data.cache) if recipe.data.cache else Path(HF_HOME) / "lp-musiccaps"
    rate = LpmcFeatureExtractor().sampling_rate
    wanted = [(recipe.data.split, recipe.data.max_rows)]
    if recipe.evaluation.split is not None:
        wanted.append((recipe.evaluation.split, recipe.evaluation.max_rows))
    clips = [read_split(recipe.data, split, rows, rate, cache, _reporter(report)) for split, rows in wanted]
    return clips[0], clips[1] if len(clips) > 1 else None


def _reporter(report: ReportProgress) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: report(Progress(stage, done, total))


def _collator(config: LpmcConfig, widths: tuple[int, ...]) -> CaptionCollator:
    assert config.pad_token_id is not None
    assert config.decoder_start_token_id is not None
    return CaptionCollator(config.pad_token_id, config.decoder_start_token_id, widths)


def _sampler(recipe: TrainingRecipe, train: CaptionedClips) -> ClipSampler | BalancedTagSampler:
    captions = train.caption_counts
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


def _write_captions(directory: RunDirectory, held_out: CaptionedClips, captions: Sequence[str]) -> None:
    """Write the captions of the first clips of `held_out` beside their references."""
    rows = [
        {"track_id": track_id, "prediction": caption, "ground_truth": references[0]}
        for track_id, caption, references in zip(held_out.track_ids, captions, held_out.captions, strict=False)
    ]
    if directory.writes:
        write_json(directory.path / CAPTIONS, rows)


def _course(
    trainer: CaptionTrainer,
    splits: tuple[CaptionedClips, CaptionedClips | None],
    evaluation_loss: float | None,
) -> dict[str, Any]:
    """What `training.json` says of data, losses, time and machine, beside the provenance."""
    train, held_out = splits
    history = trainer.state.log_history
    curve = [_point(entry, "loss") for entry in history if "loss" in entry]
    return {
        "loss": curve[-1]["loss"],
        "evaluation_loss": evaluation_loss,
        "seconds": curve[-1]["seconds"],
        "train_clips": len(train),
        "train_captions": int(train.caption_counts.sum()),
        "evaluation_clips": len(held_out) if held_out else 0,
        "skipped": [asdict(skip) for clips in splits if clips for skip in clips.skipped],
        "loss_curve": curve,
        "evaluation_curve": [_point(entry, "eval_loss") for entry in history if "eval_loss" in entry],
        "device": trainer.args.device.type,
        "processes": trainer.args.world_size,
        "precision": "bfloat16" if trainer.args.bf16 else "float32",
    }


def _point(entry: dict[str, Any], name: str) -> dict[str, Any]:
    point = {"update": entry["step"], "epoch": entry.get("epoch"), "loss": entry[name]}
    return point | {
        key: entry[key] for key in ("learning_rate", "grad_norm", "seconds", *THROUGHPUT_KEYS) if key in entry
    }


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
