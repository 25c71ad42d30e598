"""What looks on while a captioner trains: sample captions, scores beside blind ones, the best weights, an early end.

Everything here rests on the evaluations that `evaluation.every_updates` asks for. What a continued run needs to know
(scores so far, the best update, how long ago it was) stands in the trainer's own log, which every checkpoint holds.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lpmc_errors import ModelError
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.training.arguments import EvaluationArguments, TrainingRecipe
from modeling_lpmc.training.caption_scores import check_scores, curve_points, score_values, scores_of
from modeling_lpmc.training.data import CaptionedClips, ClipDataset
from modeling_lpmc.training.loggers import Board, boards, check_loggers
from modeling_lpmc.training.loss_plot import PLOT, check_plot, plot_training
from modeling_lpmc.training.processes import from_process_zero
from modeling_lpmc.training.progress import Progress
from modeling_lpmc.training.run_directory import RunDirectory
from modeling_lpmc.training.sample_captions import SampleBook, caption_clips, fixed_clips, rows_until, write_rows

METRICS = "metrics.jsonl"
ReportProgress = Callable[[Progress], None]
Say = Callable[[str], None]


def check_watching(recipe: TrainingRecipe, tell: Say) -> None:
    """Find out before data are read what the recipe's watching lacks; `tell` hears of what is done without.

    Raises `MissingExtraError` for a logger that is not installed, and for scores that decide which weights are the best
    and cannot be computed.
    """
    evaluation = recipe.evaluation
    check_loggers(evaluation.loggers or ())
    lacking = []
    scored = evaluation.scored_captions or evaluation.generated_captions
    if scored and not check_scores(needed=evaluation.best_by not in (None, "loss")):
        lacking.append("captions are not scored")
    if not check_plot():
        lacking.append(f"no {PLOT} is drawn")
    if lacking:
        tell(f"{' and '.join(lacking)}: the extra is not installed (pip install 'lp-musiccaps[metrics]')")


def best_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """What the trainer's arguments must know to follow which evaluation was the best; empty where nothing asks."""
    best_by = recipe.evaluation.best_by
    if best_by is None:
        return {}
    # Not `load_best_model_at_end`: it wants saves and evaluations in step, and an ending that was killed lacks it.
    # With a limit of one the library removes all but the best when `train` returns, and a stopped run loses its end.
    return {
        "metric_for_best_model": best_by,
        "greater_is_better": best_by != "loss",
        "save_total_limit": max(2, recipe.optimisation.keep_checkpoints),
    }


def stopped_early(history: Sequence[Mapping[str, Any]], evaluation: EvaluationArguments) -> bool:
    """Whether a run with this log (`TrainerState.log_history`, also of a checkpoint) has run out of patience."""
    if evaluation.patience is None or evaluation.best_by is None:
        return False
    name = f"eval_{evaluation.best_by}"
    since, best = 0, _worst(evaluation.best_by)
    for value in (entry[name] for entry in history if name in entry):
        if _better(value, best, evaluation.best_by):
            best, since = value, 0
        elif math.isfinite(best):  # a model that claims nothing yet has no F1
            since += 1
    return since >= evaluation.patience


def load_best(trainer: Trainer, directory: RunDirectory) -> int | None:
    """Put the weights of the best evaluation into the trainer's model and return its update; None: nothing was asked.

    Every process must call it. Raises `ModelError` when their checkpoint is gone.
    """
    best = trainer.state.best_global_step
    if trainer.args.metric_for_best_model is None or not best:
        return None
    if best != trainer.state.global_step:
        checkpoint = directory.checkpoints / f"checkpoint-{best}"
        if not checkpoint.is_dir():
            raise ModelError(checkpoint, "the best weights are gone", "train again into another --output")
        trainer.state.best_model_checkpoint = str(checkpoint)
        library = logging.getLogger("transformers.trainer")
        level = library.level
        library.setLevel(logging.ERROR)  # it warns of weights that are tied to others and therefore stored once
        try:
            trainer._load_best_model()
        finally:
            library.setLevel(level)
    return int(best)


def watchers(
    recipe: TrainingRecipe,
    directory: RunDirectory,
    processor: LpmcProcessor,
    train: CaptionedClips,
    held_out: CaptionedClips | None,
    held_out_set: ClipDataset | None,
    report: ReportProgress,
) -> list[TrainerCallback]:
    """The callbacks to add to the trainer, in this order, after its own; `check_watching` has passed.

    At each evaluation during training they write `samples.md`, `samples.jsonl`, `metrics.jsonl` and `loss.png` into the
    run's directory (process zero alone writes; all processes caption), add `eval_facts_f1` and the like to the
    evaluation's metrics, ask for a checkpoint of the best weights, and end training when patience runs out. The losses
    of the run are those of one that nobody watches.
    """
    loggers, shown = boards(recipe.evaluation.loggers or (), directory.path)
    watch = EvaluationWatch(recipe, directory.path, processor, train, held_out, held_out_set, report, shown)
    return [*loggers, watch]


class EvaluationWatch(TrainerCallback):
    """Follows the evaluations of a run; see `watchers`."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        folder: Path,
        processor: LpmcProcessor,
        train: CaptionedClips,
        held_out: CaptionedClips | None,
        held_out_set: ClipDataset | None,
        report: ReportProgress,
        shown: Sequence[Board],
    ) -> None:
        self.evaluation = recipe.evaluation
        self.folder = folder
        self.processor = processor
        self.train = train
        self.held_out, self.held_out_set = held_out, held_out_set
        self.report = report
        self.boards = shown
        self.book = SampleBook(folder)
        self.rows: list[dict[str, Any]] = []  # of metrics.jsonl
        self.training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up what the run had written before it was interrupted."""
        self.training = True
        if state.is_world_process_zero:
            self.book.begin(state.global_step)
            self.rows = rows_until(self.folder / METRICS, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A run that ends before `log_every` updates still needs a loss to record."""
        every, patience = self.evaluation.every_updates, self.evaluation.patience
        if every and patience and state.global_step % every == 0:
            control.should_log |= not any("loss" in entry for entry in state.log_history)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What is evaluated after training is no part of its course."""
        self.training = False

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Caption, score, write, and decide about the best weights and the end."""
        if not self.training:  # the closing evaluation, of the weights that are saved: perhaps known already
            state.log_history[-1]["step"] = step = state.best_global_step or state.global_step
            if any(entry["step"] == step and "eval_loss" in entry for entry in state.log_history[:-1]):
                state.log_history.pop()
        if not self.training or metrics is None or self.held_out is None or self.held_out_set is None:
            return
        samples = fixed_clips(self.evaluation.sample_captions, len(self.held_out))
        scored = fixed_clips(self.evaluation.scored_captions, len(self.held_out))
        numbers = sorted({*samples, *scored})

        def captioning(done: int, total: int) -> None:
            self.report(Progress("captioning the evaluation clips", done, total))

        made = caption_clips(model, self.processor, self.held_out_set, numbers, args, captioning)
        captions = dict(zip(numbers, made, strict=True))
        table = ""
        if samples and state.is_world_process_zero:
            table = self.book.add(state.global_step, self.held_out, samples, [captions[number] for number in samples])
        found = self._scored(state, scored, captions, metrics) if scored else {}
        best_by = f"eval_{self.evaluation.best_by}"
        if self.evaluation.best_by and best_by not in found | metrics:
            found[best_by] = math.nan  # a score without a value, which is never the best
        metrics.update(found)
        state.log_history[-1].update(found)  # the evaluation's own entry, which checkpoints hold
        self._judge(args, state, control, metrics)
        if state.is_world_process_zero:
            for board in self.boards:
                board(args, state, control, found, table)
            if check_plot():
                plot_training(state.log_history, self.folder / PLOT)

    def _scored(
        self,
        state: TrainerState,
        numbers: Sequence[int],
        captions: Mapping[int, str],
        metrics: Mapping[str, float],
    ) -> dict[str, float]:
        """The scores as the trainer calls them, `eval_facts_f1` and of the best blind row `eval_facts_f1_blind`."""

        def scored() -> dict[str, float]:
            if not check_scores():
                return {}
            assert self.held_out is not None
            card = scores_of(
                [captions[number] for number in numbers],
                [self.held_out.captions[number][0] for number in numbers],
                [text for texts in self.train.captions for text in texts],
                intervals=False,
            )
            row = {"update": state.global_step, "clips": len(numbers), "loss": metrics.get("eval_loss")}
            self.rows.append(row | score_values(card))
            write_rows(self.folder / METRICS, self.rows)
            return {f"eval_{name}": value for name, value in curve_points(card).items()}

        return from_process_zero(scored)  # each process must draw the same conclusions

    def _judge(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float]
    ) -> None:
        best_by = self.evaluation.best_by
        if best_by is None:
            return
        value = metrics[f"eval_{best_by}"]
        if _better(value, _worst(best_by) if state.best_metric is None else state.best_metric, best_by):
            control.should_save = True  # the trainer notes the update as the best after this, and then saves
        if stopped_early(state.log_history, self.evaluation):
            control.should_save = True  # so that a continued run sees that it had ended
            control.should_training_stop = True


def _worst(best_by: str) -> float:
    return math.inf if best_by == "loss" else -math.inf


def _better(value: float, than: float, best_by: str) -> bool:
    return value < than if best_by == "loss" else value > than


def history_of(checkpoint: Path) -> list[dict[str, Any]]:
    """The log that a checkpoint holds."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return list(state["log_history"])
