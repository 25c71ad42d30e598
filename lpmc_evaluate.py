"""The commands that judge captions: score a file, compare systems, publish the metric."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpmc_console import JsonFlag, emit, extra_needed, progress_bar, say
from lpmc_errors import EXIT_FAILED, TableError, UsageError

if TYPE_CHECKING:
    from caption_metrics.compare import Comparison
    from caption_metrics.measures import CaptionTable
    from caption_metrics.score import ScoreCard

PRED_REF = 2  # files: predictions and references
PLAIN_WIDTH = 160  # columns where there is no terminal to ask

_MODEL = "a folder or a name on the Hub"


def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            help="A file with predictions and references (inference.json, CSV, JSONL, Parquet, a data set), or one of "
            "predictions and one of references; with --compare one file a system, as FILE or NAME=FILE."
        ),
    ],
    compare: Annotated[bool, typer.Option("--compare", help="Compare the systems of several files.")] = False,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="System that the others are compared with; default: the first.")
    ] = None,
    references: Annotated[
        str | None, typer.Option("--references", help="References of all files, where these hold predictions alone.")
    ] = None,
    prediction_column: Annotated[
        str | None, typer.Option("--prediction-column", help="Column of the captions.")
    ] = None,
    reference_column: Annotated[
        str | None, typer.Option("--reference-column", help="Column of the references.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id-column", help="Column that names the clips.")] = None,
    training_captions: Annotated[
        Path | None,
        typer.Option("--training-captions", help="Captions of the training set: adds novelty, and the blind constant."),
    ] = None,
    bertscore_model: Annotated[
        str | None, typer.Option("--bertscore-model", help=f"Adds BERTScore: {_MODEL} (roberta-large: the paper's).")
    ] = None,
    similarity_model: Annotated[
        str | None, typer.Option("--similarity-model", help=f"Adds sentence similarity: {_MODEL}.")
    ] = None,
    fluency_model: Annotated[
        str | None, typer.Option("--fluency-model", help=f"Adds FENSE, with an error detector: {_MODEL}.")
    ] = None,
    clap_model: Annotated[
        str | None, typer.Option("--clap-model", help=f"Adds CLAP similarity and retrieval of the audio: {_MODEL}.")
    ] = None,
    audio_column: Annotated[
        str | None, typer.Option("--audio-column", help="Column of the recordings' paths, for --clap-model.")
    ] = None,
    audio_root: Annotated[Path | None, typer.Option("--audio-root", help="Folder of the recordings.")] = None,
    slice_by: Annotated[
        str | None,
        typer.Option("--slice-by", help="Also score parts of the clips: genre,region,tempo,vocals,source or a column."),
    ] = None,
    regions: Annotated[
        bool,
        typer.Option("--regions", help="Also score regions outside the West and rare genres, and what is put there."),
    ] = False,
    coco: Annotated[
        bool, typer.Option("--coco", help="Adds Java METEOR 1.5 and CIDEr under their own names (extra coco, Java).")
    ] = False,
    blind: Annotated[bool, typer.Option("--blind/--no-blind", help="Score captions made without hearing, too.")] = True,
    intervals: Annotated[bool, typer.Option("--intervals/--no-intervals", help="95 % intervals by bootstrap.")] = True,
    samples: Annotated[int, typer.Option("--samples", min=100, help="Bootstrap samples.")] = 1_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    require_beats_blind: Annotated[
        bool,
        typer.Option(
            "--require-beats-blind", help="Exit code 1 unless the scores beat every blind row with their interval."
        ),
    ] = False,
    required_scores: Annotated[
        str | None,
        typer.Option(
            "--required-scores",
            help="Which, as bleu1,rougeL; default: BLEU, METEOR, ROUGE-L, facts F1 and those of the models given.",
        ),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the report as Markdown; - for standard output.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw facts by category with intervals: a .png, .svg or .pdf.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score captions against references, beside what captions get that were made without hearing the music."""
    to_stdout = str(markdown) == "-"
    wanted = _listed(required_scores)
    _check(compare, files, baseline, references, as_json, to_stdout, markdown, plot)
    if (require_beats_blind or wanted) and not (blind and intervals):
        raise UsageError("--require-beats-blind", "needs blind rows and intervals", "leave --no-... away")
    if compare and not intervals:
        raise UsageError("--compare", "rests on intervals", "leave --no-intervals away")
    if compare and (slice_by or regions or coco):
        raise UsageError("--slice-by, --regions, --coco", "are for one system", "evaluate the files one by one")
    models = {
        "bertscore_model": bertscore_model,
        "similarity_model": similarity_model,
        "fluency_model": fluency_model,
        "clap_model": clap_model,
        "audio_column": audio_column,
        "audio_root": audio_root,
    }
    with extra_needed("metrics"):
        from caption_metrics.pairs import read_captions_file
        from caption_metrics.report import LABELS

        for score in wanted:
            if score not in LABELS:
                raise UsageError(score, "is no score", f"name some of {', '.join(LABELS)}")
        if plot is not None:
            from caption_metrics.plot import check_plot

            check_plot(plot)
        read = _Reader(references, prediction_column, reference_column, id_column)
        settings: dict[str, Any] = {**models, "blind": blind, "samples": samples, "seed": seed}
        settings["training_captions"] = read_captions_file(training_captions) if training_captions else None
        result: ScoreCard | Comparison
        with progress_bar("evaluate") as update:
            settings["progress"] = lambda done, total: update(done, total or None, "captions")
            if compare:
                from caption_metrics.compare import compare_systems

                systems = {name: list(read(file)) for name, file in _named(files).items()}
                result = compare_systems(systems, baseline=baseline, **settings)
                cards = dict(result.cards)
            else:
                from caption_metrics.score import evaluate_captions

                parts: dict[str, Any] = {"slice_by": _listed(slice_by), "regions": regions, "coco": coco}
                result = evaluate_captions(read(*files), intervals=intervals, **parts, **settings)
                cards = {"": result}
        _write(result, cards, markdown, plot, samples, seed)
        if not to_stdout:
            emit(result.to_dict(), as_json, lambda: _show(result))
        lost = _lost(cards, wanted) if require_beats_blind or wanted else []
    if lost:
        say(f"lpmc: not every blind row is beaten: {'; '.join(lost)}")
        raise typer.Exit(EXIT_FAILED)


def push_metric(
    repo: Annotated[str, typer.Option("--repo", help="USER/NAME of the Space.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="A card of `lpmc evaluate --json`, shown as an example.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish the metric as a Space, so that `evaluate.load("USER/NAME")` works without this package."""
    from dataclasses import asdict

    with extra_needed("metrics"):
        from caption_metrics.space import publish_metric

        shown = _read_json(results) if results is not None else None
        published = publish_metric(repo, private=private, results=shown)
    emit(asdict(published), as_json, lambda: print(f"{published.url}: {len(published.files)} files"))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(path, f"is no score card: {error}", "write one with `lpmc evaluate FILE --json`") from error
    if not isinstance(value, dict):
        raise TableError(path, "is no score card", "write one with `lpmc evaluate FILE --json`")
    return value


def _check(
    compare: bool,
    files: Sequence[str],
    baseline: str | None,
    references: str | None,
    as_json: bool,
    to_stdout: bool,
    markdown: Path | None,
    plot: Path | None,
) -> None:
    if compare and len(files) < 2:
        raise UsageError("--compare", "needs the files of at least two systems", "name more")
    if not compare and len(files) > (1 if references else PRED_REF):
        raise UsageError(files[-1], "is one file too many", "add --compare to compare systems")
    if not compare and baseline is not None:
        raise UsageError("--baseline", "is for comparisons", "add --compare")
    if as_json and to_stdout:
        raise UsageError("--json and --markdown -", "both write to standard output", "name a file for one of them")
    if markdown is not None and not to_stdout and markdown.is_dir():
        raise UsageError(markdown, "is a folder", "name a file for the report")
    for target in (None if to_stdout else markdown, plot):
        if target is not None:
            _check_writable(target)


def _check_writable(target: Path) -> None:
    """Find out before captions are scored what a look at the folders can tell."""
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "may not be written to" if folder.is_dir() else "is a file and no folder"
        raise UsageError(target, f"can't be written: {folder} {what}", "name a file in a folder of your own")


class _Reader:
    """Reads pairs from one file, or from one of predictions and one of references."""

    def __init__(self, references: str | None, prediction: str | None, reference: str | None, ids: str | None) -> None:
        self._references, self._prediction, self._reference, self._ids = references, prediction, reference, ids

    def __call__(self, file: str, references: str | None = None) -> Any:
        meant = references or self._references
        if meant is None:
            from caption_metrics.pairs import iterate_pairs

            return iterate_pairs(file, prediction=self._prediction, reference=self._reference, id_column=self._ids)
        from caption_metrics.pair_join import join_pairs

        return join_pairs(file, meant, id_column=self._ids, prediction=self._prediction, reference=self._reference)


def _named(files: Sequence[str]) -> dict[str, str]:
    """Files by the names of their systems: NAME=FILE, else the file's, or its folder's where files are called alike."""
    given = [file.partition("=") if "=" in file and not Path(file).exists() else ("", "", file) for file in files]
    stems = [Path(file).stem for _, _, file in given]
    names = [
        name or (stem if stems.count(stem) == 1 else Path(file).resolve().parent.name)
        for (name, _, file), stem in zip(given, stems, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(name, "names two of the systems", "write NAME=FILE for each")
    return {name: file for name, (_, _, file) in zip(names, given, strict=True)}


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _write(
    result: ScoreCard | Comparison,
    cards: Mapping[str, ScoreCard],
    markdown: Path | None,
    plot: Path | None,
    samples: int,
    seed: int,
) -> None:
    from caption_metrics.report import to_markdown
    from lpmc_files import write_text

    if markdown is not None:
        text = to_markdown(result)
        if str(markdown) == "-":
            print(text)
        else:
            write_text(markdown, text)
    if plot is not None:
        from caption_metrics.plot import plot_categories

        tables: dict[str, CaptionTable] = {name or "captions": card.table for name, card in cards.items() if card.table}
        first = next(iter(cards.values()))
        tables |= {f"blind: {name}": table for name, table in first.blind_tables.items()}
        plot_categories(tables, plot, samples=samples, seed=seed)


def _show(result: ScoreCard | Comparison) -> None:
    from rich.console import Console

    from caption_metrics.report import to_terminal

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=PLAIN_WIDTH)
    console.print(to_terminal(result))


def _lost(cards: Mapping[str, ScoreCard], wanted: Sequence[str]) -> list[str]:
    """For every system the scores that lose to a blind row, as a clause."""
    from caption_metrics.report import BLIND_LABELS, LABELS
    from caption_metrics.score import required_claims

    clauses = []
    for name, card in cards.items():
        if not card.beats_blind:
            reasons = [card.notes[note] for note in ("blind", "beats_blind", "intervals") if note in card.notes]
            clauses.append(f"{name + ': ' if name else ''}nothing was tested, {reasons[0] if reasons else 'no score'}")
            continue
        for score in required_claims(card, wanted):
            rows = [BLIND_LABELS.get(row, row).removeprefix("blind: ") for row in card.unbeaten_rows(score)]
            if rows:
                clauses.append(f"{name + ' ' if name else ''}{LABELS.get(score, score)} ({', '.join(rows)})")
    return clauses
