"""What a recipe means in the library's words: its settings, the schedule, and which parameters decay."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import Seq2SeqTrainingArguments

from lpmc_errors import MissingExtraError, UsageError
from modeling_lpmc.training.arguments import OptimisationArguments, TrainingRecipe

JOINING_SECONDS = 24 * 3600  # the other processes wait while the first one decodes all audio, once
POSITIONS = "embed_positions"  # part of the name of learned positions: tables, but no product of matrices


def trainer_arguments(recipe: TrainingRecipe, checkpoints: Path) -> Seq2SeqTrainingArguments:
    """The library's settings, all but the number of updates. They also join the processes of a distributed run.

    Raises `UsageError` when the batch cannot be split over the processes, or there is no compiler to compile with.
    """
    run, evaluation = recipe.optimisation, recipe.evaluation
    gpu = torch.cuda.is_available()
    bfloat16 = run.precision == "bfloat16" or (run.precision == "auto" and gpu and torch.cuda.is_bf16_supported())
    if run.compile and not gpu:
        _check_compiler()
    # `accelerate launch` has settings of its own for both, which would act behind the recipe's back.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if bfloat16 else "no"
    os.environ["ACCELERATE_DYNAMO_BACKEND"] = "inductor" if run.compile else "no"
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=not torch.accelerator.is_available(),  # several processes on a CPU are joined only when told so
        lr_scheduler_type="cosine_with_min_lr",  # from 0 to the peak, then half a cosine: the released schedule
        lr_scheduler_kwargs={"min_lr": run.final_learning_rate},
        learning_rate=run.learning_rate,
        weight_decay=run.weight_decay,
        adam_beta2=run.beta2,
        max_grad_norm=run.max_gradient_norm,
        optim="adamw_torch_fused" if gpu else "adamw_torch",  # 2 ms instead of 17 on an H100, of an update of 80
        bf16=bfloat16,
        torch_compile=run.compile,
        ddp_find_unused_parameters=False,  # every parameter takes part in every update
        ddp_timeout=JOINING_SECONDS,
        average_tokens_across_devices=True,  # `num_items_in_batch` then counts the tokens of all processes
        dataloader_num_workers=run.loader_workers,
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
    if arguments.n_gpu > 1:  # one process beside several GPUs: train on one, the others want a process each
        arguments._n_gpu = 1
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


def schedule(run: OptimisationArguments, per_epoch: int) -> tuple[int, int]:
    """Updates of the run and of its warm-up. Raises `UsageError` when the warm-up takes up the run."""
    updates = run.updates or max(1, round((run.epochs or 0) * per_epoch))
    warmup = run.warmup_updates or round((run.warmup_epochs or 0) * per_epoch)
    if warmup >= updates:
        raise UsageError(
            "optimisation",
            f"a warm-up of {warmup} updates leaves nothing of a run of {updates}",
            f"train longer or shorten it, as in optimisation.warmup_updates={max(1, updates // 20)}",
        )
    return updates, warmup


def decaying_parameters(model: nn.Module, which: str) -> list[str]:
    """Names of the parameters that decay.

    "all" is every one, as in the released AdamW. "matrices" leaves out what has one axis (biases, norms), whose size
    says nothing about how strongly inputs are weighed, and the tables of positions, of which rows that no caption
    reaches would only shrink.
    """
    return [
        name
        for name, parameter in model.named_parameters()
        if which == "all" or (parameter.ndim > 1 and POSITIONS not in name)
    ]


def _check_compiler() -> None:
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch looks for it
    if shutil.which(compiler) is None:
        raise MissingExtraError(
            "optimisation.compile",
            f"needs the C++ compiler {compiler}, which is not installed",
            "install it or set it to false",
        )
