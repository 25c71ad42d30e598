"""What a run ends with: the last sample captions, scores with intervals, the picture of its course."""

from __future__ import annotations

import json
from typing import Any

from transformers import Trainer

from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.training.arguments import TrainingRecipe
from modeling_lpmc.training.caption_scores import check_scores, scores_of, told_results
from modeling_lpmc.training.data import CaptionedClips, ClipDataset
from modeling_lpmc.training.data_licence import data_licence
from modeling_lpmc.training.loss_plot import PLOT, check_plot, plot_training
from modeling_lpmc.training.run_directory import CAPTIONS, RunDirectory
from modeling_lpmc.training.sample_captions import FINAL, SampleBook, caption_clips, fixed_clips


def final_results(
    trainer: Trainer,
    recipe: TrainingRecipe,
    directory: RunDirectory,
    processor: LpmcProcessor,
    train: CaptionedClips,
    held_out: CaptionedClips | None,
    held_out_set: ClipDataset | None,
    *,
    best_update: int | None,
) -> dict[str, Any]:
    """What `training.json` gains at the end; call it in every process, when `inference.json` has been written.

    `best_update` is what `load_best` returned. Keys: `updates`, `best_update`, `best_by` and `stopped_early` where the
    recipe asks for the best weights; `data_licence`, which may be "not stated"; `results`, the scores of
    inference.json with intervals and blind rows, from which the card is made, where captions were generated and the
    extra `metrics` is installed. Writes the samples of the saved weights and `loss.png`.
    """
    args, state = trainer.args, trainer.state
    found: dict[str, Any] = {}
    samples = fixed_clips(recipe.evaluation.sample_captions, len(held_out)) if held_out else []
    if held_out is not None and held_out_set is not None and samples:
        captions = caption_clips(trainer.model, processor, held_out_set, samples, args)
        if state.is_world_process_zero:
            book = SampleBook(directory.path)
            book.begin(state.global_step)
            book.add(FINAL, held_out, samples, captions)
    if recipe.evaluation.best_by is not None:
        found |= {
            "updates": state.global_step,
            "best_update": best_update,
            "best_by": recipe.evaluation.best_by,
            "stopped_early": state.global_step < state.max_steps,
        }
    if not state.is_world_process_zero:
        return found
    found["data_licence"] = data_licence(recipe.data.dataset)
    if check_plot():
        plot_training(state.log_history, directory.path / PLOT, best_update)
    if recipe.evaluation.generated_captions and check_scores():
        rows = json.loads((directory.path / CAPTIONS).read_text(encoding="utf-8"))
        card = scores_of(
            [row["prediction"] for row in rows],
            [row["ground_truth"] for row in rows],
            [text for texts in train.captions for text in texts],
            intervals=True,
        )
        dataset = recipe.as_dict()["data"]["dataset"]
        found["results"] = told_results(card, dataset, str(recipe.evaluation.split))
    return found
