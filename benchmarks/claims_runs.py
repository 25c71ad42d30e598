"""One run of the claims table: train, caption the test clips, listen to substituted sounds, score; each kept when done.

runs/NAME/model/           the captioner, by `run_training` (a killed training resumes there)
runs/NAME/captions.json    what it says of each clip of `test` and `ood`
runs/NAME/listening.json   the audio-dependence report on a part of `test`
runs/NAME/scores.json      score cards with blind rows   rows-SPLIT.npz: the numbers of each caption behind them
runs/NAME/run.json         written last, so it marks a finished run: what it was and what it took
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims_material import CONFIG, TEST, Bar, HeldOutClip, Material, Say
from benchmarks.claims_plan import Run, Sizes, captions_of_a_run
from benchmarks.claims_scores import save_rows, score_cards
from lpmc_errors import ModelError
from lpmc_files import write_json
from modeling_lpmc.audio_dependence import REAL, audio_dependence
from modeling_lpmc.captioner import Captioner
from modeling_lpmc.listening import beginning, captions_without_gate
from modeling_lpmc.training.train import run_training

RECIPE = Path(__file__).with_name("claims_recipe.yaml")
DONE = "run.json"
PEAK_FROM_SCRATCH = 1.0e-3  # learning rate; the quickstart's 7e-4 at batches of 8, here of 32
PEAK_OF_TRANSFER = 3.0e-4  # of weights that have learnt already
FROM_SCRATCH = (  # what a captioner that is taken over brings along
    "model.spectrum=real",  # as released
    "model.initial_deviation=0.1",  # about 1 / sqrt(d_model); the quickstart's recipe tells what 0.02 does
    "model.calibrate=true",
    "model.max_caption_positions=160",
)
WARMUP = 0.05  # of the updates
CAPTIONED_TOGETHER = 32  # clips


@dataclass(frozen=True)
class Lab:
    """Where the runs lie, what they learn from, how large they are, and whom to tell."""

    folder: Path
    material: Material
    sizes: Sizes
    precision: str
    say: Say
    bar: Bar

    def place(self, run: Run | str) -> Path:
        return run_folder(self.folder, run)


def run_folder(folder: Path, run: Run | str) -> Path:
    """Where a run lies in the folder of the table."""
    return folder / "runs" / (run if isinstance(run, str) else run.name)


def finished(folder: Path, run: Run) -> dict[str, Any] | None:
    """What a finished run has noted of itself, or None."""
    try:
        found = json.loads((run_folder(folder, run) / DONE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def precision_here() -> str:
    """bfloat16 where the hardware multiplies it (a GPU, a CPU with tiles), else float32."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return "bfloat16" if tiles and tiles() else "float32"


def do_run(lab: Lab, run: Run) -> dict[str, Any]:
    """Do what is missing of a run and return its note. Raises the `LpmcError`s of the steps."""
    started = time.monotonic()
    place = lab.place(run)
    with lab.bar(run.name) as update:
        trained = run_training(
            RECIPE,
            place / "model",
            overrides(lab, run),
            progress=lambda progress: update(progress.done, progress.total, progress.stage),
            say=lambda text: lab.say(f"    {text}"),
        )
    captions, captioning_s = _captions(lab, run)
    cards = {
        name: score_cards(captions[name], clips, samples=lab.sizes.samples)
        for name, clips in lab.material.clips.items()
        if clips
    }
    for name in cards:
        save_rows(place / f"rows-{name}.npz", captions[name], lab.material.clips[name])
    write_json(place / "scores.json", cards)
    note = {
        "system": asdict(run.system),
        "seed": run.seed,
        "updates": trained.updates,
        "loss": trained.loss,
        "train_clips": trained.train_clips,
        "clips_heard": trained.updates * lab.sizes.batch_size,
        "training_s": trained.seconds,
        "captions": captions_of_a_run(lab.sizes),
        "captioning_s": captioning_s,
        "other_s": max(0.0, time.monotonic() - started - trained.seconds - captioning_s),
    }
    write_json(place / DONE, note)
    return note


def overrides(lab: Lab, run: Run) -> list[str]:
    """The settings of a run over the shared recipe, as `lpmc train` takes them."""
    system, sizes = run.system, lab.sizes
    found = [
        f"data.dataset={lab.material.dataset}",
        f"data.config={CONFIG}",
        f"data.cache={lab.folder / 'cache'}",
        f"data.split={system.split}",
        f"data.captions=[{', '.join(system.captions)}]",
        f"optimisation.updates={system.updates}",
        f"optimisation.warmup_updates={max(1, round(WARMUP * system.updates))}",
        f"optimisation.batch_size={sizes.batch_size}",
        f"optimisation.precision={lab.precision}",
        f"optimisation.seed={run.seed}",
    ]
    if run.starts_from:
        model = lab.place(run.starts_from) / "model"
        if not (model / "training.json").is_file():
            raise ModelError(model, "is not trained yet", "run the table without --only, or again")
        # What a captioner brings along must not be given again.
        return [*found, f"model.start_from={model}", f"optimisation.learning_rate={PEAK_OF_TRANSFER}"]
    return [
        *found,
        f"model.tokenizer={lab.material.tokenizer}",
        f"model.d_model={sizes.d_model}",
        f"model.encoder_layers={sizes.layers}",
        f"model.decoder_layers={sizes.layers}",
        f"model.attention_heads={sizes.attention_heads}",
        f"model.feed_forward={3 * sizes.d_model}",
        *FROM_SCRATCH,
        f"optimisation.learning_rate={PEAK_FROM_SCRATCH}",
    ]


def _captions(lab: Lab, run: Run) -> tuple[dict[str, list[str]], float]:
    """The captions of the run's model by split, and the seconds that captioning and listening took."""
    place = lab.place(run)
    said, heard = place / "captions.json", place / "listening.json"
    if said.is_file() and heard.is_file():
        kept = json.loads(said.read_text("utf-8"))
        return kept["captions"], kept["seconds"]
    started = time.monotonic()
    captioner = Captioner.from_pretrained(str(place / "model"))
    caption = captions_without_gate(captioner, batch_size=CAPTIONED_TOGETHER, num_beams=lab.sizes.beams)
    captions: dict[str, list[str]] = {}
    for name, clips in lab.material.clips.items():
        with lab.bar(f"{run.name} on {name}") as update:
            captions[name] = captions_of_clips(clips, caption, captioner.sampling_rate, update)
    test = lab.material.clips[TEST][: lab.sizes.listening_clips]
    report = audio_dependence(
        caption,
        [beginning(clip.path, captioner.sampling_rate) for clip in test],
        [clip.references for clip in test],
        sampling_rate=captioner.sampling_rate,
        batch=CAPTIONED_TOGETHER,
        samples=lab.sizes.samples,
        known={(REAL, number): text for number, text in enumerate(captions[TEST][: len(test)])},
    )
    write_json(heard, report.to_dict())
    seconds = time.monotonic() - started
    write_json(said, {"captions": captions, "seconds": seconds})
    return captions, seconds


def captions_of_clips(
    clips: Sequence[HeldOutClip],
    caption: Callable[[Sequence[Any]], Sequence[str]],
    rate: int,
    update: Callable[..., None],
) -> list[str]:
    """What `caption` says of the beginning of each clip at `rate` Hz; tells `update(done, total, "")` on the way."""
    found: list[str] = []
    for first in range(0, len(clips), CAPTIONED_TOGETHER):
        part = clips[first : first + CAPTIONED_TOGETHER]
        found += caption([beginning(clip.path, rate) for clip in part])
        update(len(found), len(clips), "")
    return found
