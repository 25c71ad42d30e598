"""The whole way once, small: render a corpus, caption its tags, build the dataset, caption what the model never heard.

The model is the one that ships, `lpmc_mini`; with `train` a smaller one learns from the data set just built. Each step
leaves its file in the output folder and is skipped when that file is there, so an interrupted quickstart goes on where
it stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caption_metrics.score import Pair, evaluate_captions
from dataset_builder.build import build_dataset
from dataset_builder.captioning.backends.local import LocalBackend
from dataset_builder.captioning.pseudo_caption import CaptioningSummary, caption_tracks, make_plan
from dataset_builder.sources.options import read_source
from dataset_builder.tracks import read_tracks, write_tracks
from lpmc_errors import AudioError
from lpmc_files import write_json
from modeling_lpmc.captioner import Captioner, FailedFile, TrackCaption, find_audio
from modeling_lpmc.shipped import SHIPPED, SHIPPED_FOLDER
from modeling_lpmc.training.progress import Progress
from modeling_lpmc.training.run_directory import CAPTIONS
from modeling_lpmc.training.train import run_training

CONFIG = "rendered"
INSTRUCTION = "writing"
TEST_CLIPS_SHOWN = 5
DEMONSTRATION = (
    "This model trained for minutes on a few hundred synthetic clips. It is a demonstration: it shows that every part "
    "works, and its captions of real recordings are not to be trusted."
)
OF_THE_SHIPPED_MODEL = (
    "lpmc_mini learned from synthetic clips alone. Less than half of what it says of clips like these is true; of real "
    "recordings it may be wrong altogether, and it has never heard a voice."
)
Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOutClip:
    """A clip of the test split, what the model says of it, and its tags."""

    track_id: str
    caption: str
    tags: str


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart made. `scores` is the score card over the test split, with its blind rows."""

    output: str
    clips: int
    outcomes: dict[str, int]
    template_fallbacks: int
    rows: dict[str, int]
    seconds: dict[str, float]
    held_out: tuple[HeldOutClip, ...]
    scores: dict[str, Any]
    files: tuple[dict[str, Any], ...]
    failed_files: tuple[dict[str, str], ...]
    model: str
    demonstration: str

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON data."""
        return asdict(self)

    def print_report(self) -> None:
        """Print the result for a person: captions, scores beside their blind rows, and what to run next."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        table = Table("held-out clip", "the model says", "its tags", title="Clips the model never heard")
        for clip in self.held_out[:TEST_CLIPS_SHOWN]:
            table.add_row(clip.track_id, clip.caption, clip.tags)
        console.print(table)
        for entry in self.files:
            table = Table("from", "to", "caption", title=f"{entry['path']} ({entry['duration']:.2f} s)")
            for segment in entry["segments"]:
                table.add_row(f"{segment['start']:.2f} s", f"{segment['end']:.2f} s", segment["text"])
            console.print(table)
        for failed in self.failed_files:
            console.print(f"no caption: {failed['error']}", highlight=False, markup=False)
        console.print(self._score_table())
        total = sum(self.seconds.values())
        steps = ", ".join(f"{name} {value:.0f} s" for name, value in self.seconds.items())
        console.print(f"{total:.0f} seconds ({steps}). Results: {self.output}/quickstart.json", highlight=False)
        console.print(self.demonstration, style="bold", highlight=False)
        program = "lpmc" if shutil.which("lpmc") else sys.argv[0]
        console.print("Next:", highlight=False)
        named = "" if self.model == SHIPPED else f" --model {self.model}"
        for command, effect in (("demo", "opens it in the browser"), ("caption FILE", "captions your own recording")):
            console.print(f"  {program} {command}{named}", highlight=False, soft_wrap=True)
            console.print(f"      {effect}", highlight=False)

    def _score_table(self) -> Any:
        from rich.table import Table

        names = [
            name for name in ("bleu1", "bleu4", "rougeL", "meteor", "facts_f1") if self.scores.get(name) is not None
        ]
        title = f"{self.scores.get('n')} held-out clips: the score means nothing where a blind row reaches it"
        table = Table("system", *names, title=title)
        rows = {
            "the model": self.scores,
            **{f"blind: {name}": row for name, row in self.scores.get("blind", {}).items()},
        }
        for system, values in rows.items():
            cells = (values.get(name) for name in names)
            table.add_row(system, *("-" if value is None else f"{100 * value:.1f}" for value in cells))
        return table


def run_quickstart(
    output: Path, audio: list[Path], *, clips: int, seed: int, train: bool, say: Say, bar: Bar
) -> QuickstartResult:
    """Do every step into `output`, caption the test clips and the files of `audio`, and write quickstart.json.

    `train` makes a small model from the data set, about two minutes; else the captions are those of `lpmc_mini`.

    Raises the `LpmcError`s of the steps; a file of `audio` that can't be captioned is recorded, not raised.
    """
    seconds: dict[str, float] = {}
    for path in audio:
        if not path.exists():  # named before minutes are spent
            raise AudioError(path, "no such file or folder", "correct --audio")
    files = find_audio(audio) if audio else []
    steps = _Steps(output, seconds, say, bar)
    tracks = steps.render(clips, seed)
    summary = steps.pseudo_caption(tracks)
    dataset, rows = steps.build(tracks)
    model = steps.train(dataset, seed) if train else steps.shipped()
    held_out, scores = steps.evaluate(model, tracks)
    captioned = steps.caption(model, files)
    result = QuickstartResult(
        str(output),
        clips,
        summary.outcomes,
        summary.template_fallbacks,
        rows,
        {name: round(value, 1) for name, value in seconds.items()},
        held_out,
        scores,
        tuple(item.to_dict() for item in captioned if isinstance(item, TrackCaption)),
        tuple({"path": item.path, "error": item.error} for item in captioned if isinstance(item, FailedFile)),
        str(model) if train else SHIPPED,
        DEMONSTRATION if train else OF_THE_SHIPPED_MODEL,
    )
    write_json(output / "quickstart.json", result.to_dict())
    return result


@dataclass
class _Steps:
    output: Path
    seconds: dict[str, float]
    say: Say
    bar: Bar

    def _timed(self, name: str) -> _Timer:
        return _Timer(self.seconds, name)

    def render(self, clips: int, seed: int) -> Path:
        self.say(f"1/6 render {clips} clips of 10 seconds with known tags")
        tracks = self.output / "tracks.parquet"
        with self._timed("render"), self.bar("render") as update:
            options = [f"clips={clips}", f"seed={seed}"]
            found = read_source(
                "rendered", self.output / "corpus", options, progress=lambda done, total: update(done, total, "")
            )
            write_tracks(found, tracks)
        return tracks

    def pseudo_caption(self, tracks: Path) -> CaptioningSummary:
        self.say("2/6 turn their tags into captions with a local language model (SmolLM2-135M-Instruct)")
        backend = LocalBackend()
        plan = make_plan(backend, (INSTRUCTION,))
        with self._timed("pseudo-caption"), self.bar("pseudo-caption") as update:
            summary = caption_tracks(
                tracks,
                self.output / "captions.parquet",
                self.output / "store.sqlite",
                backend,
                plan,
                lambda done, total: update(done.jobs, total, f"{done.answers} answers"),
            )
        kept = summary.outcomes.get("ok", 0)
        self.say(
            f"    {kept} answers kept; {summary.template_fallbacks} named what no tag supports, left out most of the "
            "tags or looped: the template stands in for them, marked so"
        )
        return summary

    def build(self, tracks: Path) -> tuple[Path, dict[str, int]]:
        dataset = self.output / "lp-musiccaps"
        self.say(f"3/6 build the dataset {dataset}")
        with self._timed("build"), self.bar("build") as update:
            report = build_dataset(
                self.output / "captions.parquet",
                tracks,
                config=CONFIG,
                output=dataset,
                audio_root=self.output / "corpus",
                progress=lambda done, total: update(done, total, ""),
            )
        return dataset, dict(report.rows)

    def train(self, dataset: Path, seed: int) -> Path:
        self.say("4/6 train a small model on it")
        model = self.output / "model"
        overrides = [f"data.dataset={dataset}", f"data.config={CONFIG}", f"optimisation.seed={seed}"]
        overrides.append(f"data.cache={self.output / 'cache'}")
        overrides.append(f"data.captions=[caption_{INSTRUCTION}]")  # pseudo captions alone, as in the paper's zero-shot
        with self._timed("train"), self.bar("train") as update:

            def show(progress: Progress) -> None:
                update(progress.done, progress.total, progress.stage)

            run_training("quickstart", model, overrides, progress=show, say=lambda text: self.say(f"    {text}"))
        return model

    def shipped(self) -> Path:
        """The model of the package, and what it says of the test clips."""
        self.say("4/6 take the model that ships, lpmc_mini (--train makes one from this data set instead)")
        said = self.output / SHIPPED / CAPTIONS
        if not said.is_file():
            test = [track for track in read_tracks(self.output / "tracks.parquet") if track.split == "test"]
            paths = [self.output / "corpus" / str(track.audio_path) for track in test]
            captioner = Captioner.from_pretrained(str(SHIPPED_FOLDER))
            rows = []
            with self._timed("caption the test clips"), self.bar("caption") as update:
                for track, found in zip(test, captioner.caption_files(paths), strict=True):
                    if isinstance(found, FailedFile):
                        raise AudioError(found.path, found.error, "delete it and run again")
                    reference = track.reference_captions[0]
                    rows.append({"track_id": track.track_id, "prediction": found.caption, "ground_truth": reference})
                    update(len(rows), len(test), "")
            write_json(said, rows)
        return SHIPPED_FOLDER

    def evaluate(self, model: Path, tracks: Path) -> tuple[tuple[HeldOutClip, ...], dict[str, Any]]:
        self.say("5/6 score its captions of the held-out clips")
        with self._timed("evaluate"):
            folder = self.output / SHIPPED if model == SHIPPED_FOLDER else model
            said = {row["track_id"]: row["prediction"] for row in json.loads((folder / CAPTIONS).read_text("utf-8"))}
            heard = [track for track in read_tracks(tracks) if track.track_id in said]
            # Scored against the references that the corpus composed from its exact facts: the model has never seen
            # one of these sentences, nor anything in their style.
            pairs = [Pair(said[track.track_id], track.reference_captions, track.tags) for track in heard]
            card = evaluate_captions(pairs)
        clips = (HeldOutClip(track.track_id, said[track.track_id], ", ".join(track.tags)) for track in heard)
        return tuple(clips), card.to_dict()

    def caption(self, model: Path, files: list[Path]) -> list[TrackCaption | FailedFile]:
        if not files:
            self.say("6/6 no file to caption (name one with --audio FILE)")
            return []
        self.say(f"6/6 caption {len(files)} file(s)")
        with self._timed("caption"):
            return list(Captioner.from_pretrained(str(model)).caption_files(files))


class _Timer:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds = seconds
        self._name = name

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *arguments: object) -> None:
        self._seconds[self._name] = time.monotonic() - self._start
