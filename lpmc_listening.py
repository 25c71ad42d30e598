"""The command that asks whether a captioner listens: real audio against noise, silence and another clip's sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpmc_console import JsonFlag, emit, extra_needed, progress_bar, say
from lpmc_errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL

NAMED = 20  # skipped rows that are named; all of them are in the report


def listening_command(
    file: Annotated[
        str,
        typer.Argument(help="A table with paths to audio and reference captions or tags: JSON, CSV, Parquet."),
    ],
    model: Annotated[str, typer.Option("--model", help="A model directory or a Hub id.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for captions and report; run again to resume.")],
    audio_root: Annotated[
        Path | None, typer.Option("--audio-root", help="Where relative paths start; default: the table's folder.")
    ] = None,
    audio_column: Annotated[str | None, typer.Option("--audio-column", help="The column with the paths.")] = None,
    reference_column: Annotated[str | None, typer.Option("--reference-column", help="The one with captions.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only rows whose column `split` says this.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="Only the first so many rows.")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", help="Also damaged: quieter, clipped, band-limited, mp3, offset, short, faster."),
    ] = None,
    judge_by: Annotated[
        list[str] | None, typer.Option("--judge-by", help="The measure that must fall; default facts_f1. Repeatable.")
    ] = None,
    beams: Annotated[int | None, typer.Option("--beams", min=1, help="Default: the model's own (5).")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Clips captioned together.")] = 8,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=100, help="Bootstrap samples.")] = 1_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise, the exchanged clips and the bootstrap.")] = 0,
    required: Annotated[
        bool, typer.Option("--require-dependence", help="Exit with 1 unless the captions depend on the audio.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Test whether a captioner listens: caption each clip, then noise, silence and another clip in its place."""
    with extra_needed("model"):
        import datasets
        import transformers

        from modeling_lpmc.audio_dependence import JUDGED_BY
        from modeling_lpmc.captioner import Captioner
        from modeling_lpmc.listening import read_recordings, run_listening_test

        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    recordings, skipped = read_recordings(
        file,
        audio_root=audio_root,
        audio_column=audio_column,
        reference_column=reference_column,
        split=split,
        limit=limit,
    )
    captioner = Captioner.from_pretrained(model, device)
    with progress_bar("audio-dependence") as update:
        result = run_listening_test(
            recordings,
            captioner,
            output,
            model=model,
            skipped=skipped,
            batch_size=batch_size,
            num_beams=beams,
            corruptions=condition or (),
            judged_by=judge_by or JUDGED_BY,
            samples=samples,
            seed=seed,
            progress=lambda done, total: update(done, total, ""),
        )
    for row in result.skipped[:NAMED]:
        say(f"left out {row.id}: {row.reason}")
    if len(result.skipped) > NAMED:
        say(f"... and {len(result.skipped) - NAMED} more; the report names them all")
    emit(result.to_dict(), as_json, lambda: print(f"{result.report.markdown()}\nwritten to {output}"))
    if required and not result.report.depends:
        say(f"lpmc: {model}: {result.report.verdict}")
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(EXIT_PARTIAL if result.skipped else EXIT_DONE)
