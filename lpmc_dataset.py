"""The commands around the data set: a corpus read into a tracks table, the directory built, linted and published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lpmc_console import JsonFlag, emit, extra_needed, progress_bar, say
from lpmc_errors import EXIT_DONE, EXIT_PARTIAL


def tracks(
    source: Annotated[
        str, typer.Argument(help="Name of the corpus reader, e.g. rendered, audio_folder, table, musiccaps.")
    ],
    root: Annotated[Path, typer.Option("--root", help="The corpus: its folder or its file.")],
    output: Annotated[Path, typer.Option("--output", help="The tracks table to write (Parquet).")],
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the source as KEY=VALUE, e.g. clips=100, tags_column=keywords."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a corpus in its owners' own format and write the tracks table."""
    from dataset_builder.sources.options import read_source
    from dataset_builder.tracks import write_tracks

    skipped: list[dict[str, str]] = []
    counts = {"without_tags": 0}
    with extra_needed("render"), progress_bar(f"tracks {source}") as update:

        def counted() -> Iterator[Any]:
            found = read_source(
                source,
                root,
                option or [],
                on_skip=lambda item, reason: skipped.append({"item": str(item), "reason": reason}),
                progress=lambda done, total: update(done, total, ""),
            )
            for track in found:
                counts["without_tags"] += not track.tags
                yield track

        rows = write_tracks(counted(), output)
    result = {"output": str(output), "tracks": rows, **counts, "skipped": skipped}

    def text() -> None:
        print(f"{rows} tracks written to {output} ({counts['without_tags']} without tags)")
        for item in skipped:
            say(f"skipped {item['item']}: {item['reason']}")

    emit(result, as_json, text)
    raise typer.Exit(EXIT_PARTIAL if skipped else EXIT_DONE)


def build(
    captions: Annotated[Path, typer.Argument(help="The captions table (Parquet) of `lpmc pseudo-caption`.")],
    tracks: Annotated[Path, typer.Option("--tracks", help="The tracks table (Parquet) that was captioned.")],
    config: Annotated[str, typer.Option("--config", help="Name of the configuration, e.g. rendered, mtt, msd.")],
    output: Annotated[Path, typer.Option("--output", help="The dataset directory.")] = Path("lp-musiccaps"),
    audio_root: Annotated[
        Path | None, typer.Option("--audio-root", help="Folder that relative audio paths start from.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Join captions, tracks and audio into the directory that `load_dataset` opens and `lpmc push` publishes."""
    from dataclasses import asdict

    from dataset_builder.build import build_dataset

    with progress_bar("build") as update:
        report = build_dataset(
            captions,
            tracks,
            config=config,
            output=output,
            audio_root=audio_root,
            progress=lambda d, t: update(d, t, ""),
        )

    def text() -> None:
        splits = ", ".join(f"{name} {count}" for name, count in report.rows.items())
        print(f"{output}: configuration {config}, rows: {splits}")
        for item, reason in report.failed_audio:
            say(f"no audio for {item}: {reason}")
        print(f'open it with: load_dataset("{output.name}", "{config}")   (from {output.resolve().parent})')

    emit(asdict(report) | {"directory": str(report.directory)}, as_json, text)
    raise typer.Exit(EXIT_PARTIAL if report.failed_audio else EXIT_DONE)


def push(
    directory: Annotated[Path, typer.Argument(help="The dataset directory of `lpmc build`.")],
    repo: Annotated[str, typer.Option("--repo", help="ORG/NAME on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish a dataset directory on the Hugging Face Hub (token: `hf auth login` or HF_TOKEN)."""
    from dataset_builder.publish import push_dataset

    url = push_dataset(directory, repo, private=private)
    emit({"url": url}, as_json, lambda: print(f"published: {url}"))
