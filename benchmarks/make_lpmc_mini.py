"""Make `lpmc_mini`, the small captioner that ships with the package: corpus, captions, training, measurement, card.

    python benchmarks/make_lpmc_mini.py --folder DIR [--clips N] [--set key=value ...] [--install]

    DIR/corpus, tracks.parquet       rendered clips; `ood` are the test clips, played by a SoundFont held out
    DIR/told.parquet                 the same without key and metre, which a model of this size only guesses
    DIR/captions.parquet             the grammar's captions of those tags (writing, summary, paraphrase)
    DIR/lp-musiccaps                 the data set
    DIR/model                        the captioner, by the recipe `lpmc_mini`; a killed training resumes
    DIR/measured.json                its scores on `test` and `ood`, and whether it listens

Every step is kept where its file stands. `--install` copies the model into the package, in float16.
Needs Debian's packages fluid-soundfont-gm, musescore-general-soundfont-lossless and opl3-soundfont.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from lpmc_console import progress_bar  # noqa: E402
from lpmc_errors import LpmcError  # noqa: E402
from lpmc_files import write_json  # noqa: E402

TARGET = PROJECT / "modeling_lpmc" / "checkpoints" / "lpmc_mini"
CONFIG = "rendered"
SEED = 1  # of the corpus; the quickstart's is 0, that of the claims table 7
FONTS, HELD_OUT = "fluid,musescore,opl3", "default"
UNTOLD = re.compile(r".* (?:major|minor)|\d+/\d+ time")  # tags
INSTRUCTIONS = ("writing", "summary", "paraphrase")
LISTENING_CLIPS = 240
RECORD = "measured.json"
KEPT_FILES = re.compile(r".*\.(?:json|safetensors|md|png)|LICENSE")
LEFT_OUT = {"inference.json", "samples.md"}


def make(folder: Path, clips: int, workers: int, overrides: list[str]) -> Path:
    """Do what is missing; return the model directory. Raises the `LpmcError`s of the steps."""
    from dataset_builder.build import build_dataset
    from dataset_builder.captioning.pseudo_caption import caption_with_grammar
    from dataset_builder.sources.options import read_source
    from dataset_builder.tracks import read_tracks, write_tracks
    from modeling_lpmc.training.train import run_training

    tracks, told, captions = (folder / f"{name}.parquet" for name in ("tracks", "told", "captions"))
    options = [f"clips={clips}", f"seed={SEED}", f"soundfonts={FONTS}", f"held_out_soundfont={HELD_OUT}"]
    if not tracks.is_file():
        with progress_bar("render") as update:
            found = read_source(
                "rendered",
                folder / "corpus",
                [*options, f"workers={workers}"],
                progress=lambda done, total: update(done, total, ""),
            )
            write_tracks(found, tracks)
    if not told.is_file():
        write_tracks(
            [
                replace(track, tags=tuple(tag for tag in track.tags if not UNTOLD.fullmatch(tag)))
                for track in read_tracks(tracks)
            ],
            told,
        )
    if not captions.is_file():
        caption_with_grammar(told, captions, INSTRUCTIONS, seed=SEED)
    dataset = folder / "lp-musiccaps"
    if not (dataset / "README.md").is_file():
        with progress_bar("build") as update:
            build_dataset(
                captions,
                told,
                config=CONFIG,
                output=dataset,
                audio_root=folder / "corpus",
                progress=lambda done, total: update(done, total, ""),
            )
    with progress_bar("train") as update:
        trained = run_training(
            "lpmc_mini",
            folder / "model",
            [f"data.dataset={dataset}", f"data.cache={folder / 'cache'}", *overrides],
            progress=lambda progress: update(progress.done, progress.total, progress.stage),
            say=print,
        )
    return trained.output


def measure(folder: Path, model: Path) -> dict[str, Any]:
    """Scores on both held-out parts against the exact facts and references, with blind rows; what it hears of `ood`."""
    from benchmarks.claims_material import HeldOutClip
    from benchmarks.claims_runs import CAPTIONED_TOGETHER, captions_of_clips
    from benchmarks.claims_scores import exact_references, score_cards
    from dataset_builder.tracks import read_tracks
    from modeling_lpmc.audio_dependence import audio_dependence
    from modeling_lpmc.captioner import Captioner
    from modeling_lpmc.listening import beginning, captions_without_gate

    if (folder / RECORD).is_file():
        return dict(json.loads((folder / RECORD).read_text("utf-8")))
    captioner = Captioner.from_pretrained(str(model))
    caption = captions_without_gate(captioner, batch_size=CAPTIONED_TOGETHER)
    found: dict[str, Any] = {}
    for split in ("test", "ood"):
        clips = [
            HeldOutClip(track.track_id, folder / "corpus" / str(track.audio_path), track.reference_captions, track.tags)
            for track in read_tracks(folder / "tracks.parquet")
            if track.split == split
        ]
        with progress_bar(f"caption {split}") as update:
            said = captions_of_clips(clips, caption, captioner.sampling_rate, update)
        found[split] = score_cards(said, clips, samples=1000) | {
            "captions": [{"track_id": c.track_id, "caption": text} for c, text in zip(clips[:40], said, strict=False)]
        }
        if split == "ood":
            heard = clips[:LISTENING_CLIPS]
            report = audio_dependence(
                caption,
                [beginning(clip.path, captioner.sampling_rate) for clip in heard],
                [exact_references(clip) for clip in heard],
                sampling_rate=captioner.sampling_rate,
                batch=CAPTIONED_TOGETHER,
            )
            found["listening"] = report.to_dict()
    write_json(folder / RECORD, found)
    return found


def install(model: Path) -> None:
    """Copy the model into the package, its weights in float16, its code as links to the package's own."""
    import torch
    from safetensors.torch import load_file, save_file

    TARGET.mkdir(parents=True, exist_ok=True)
    for path in TARGET.iterdir():
        path.unlink()
    for path in sorted(model.iterdir()):
        if path.is_file() and KEPT_FILES.fullmatch(path.name) and path.name not in LEFT_OUT:
            shutil.copyfile(path, TARGET / path.name)
    for path in sorted((PROJECT / "modeling_lpmc").glob("*_lpmc.py")):  # links: one code, here and in the package
        (TARGET / path.name).symlink_to(Path("..", "..", path.name))
    weights = load_file(TARGET / "model.safetensors")
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(halves, TARGET / "model.safetensors", metadata={"format": "pt"})
    (TARGET / "model.safetensors").chmod(0o644)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=30_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting over the recipe")
    parser.add_argument("--install", action="store_true")
    wanted = parser.parse_args()
    try:
        model = make(wanted.folder, wanted.clips, wanted.workers, wanted.set)
        measured = measure(wanted.folder, model)
    except LpmcError as error:
        print(f"make_lpmc_mini: {error}", file=sys.stderr)
        return error.exit_code
    for split in ("test", "ood"):
        exact = measured[split]["exact"]
        print(split, json.dumps({key: value for key, value in exact.items() if key != "facts_by_category"})[:1500])
    if wanted.install:
        install(model)
        print(f"installed in {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
