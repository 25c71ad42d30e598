"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lpmc_console import (
    JsonFlag,
    emit,
    extra_needed,
    interrupt_is_answered,
    one_line,
    progress_bar,
    quiet_libraries,
    say,
)
from lpmc_dataset import build, lint, push, tracks
from lpmc_errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    Interrupted,
    LpmcError,
    UsageError,
    disk_fault,
)
from lpmc_evaluate import evaluate, push_metric
from lpmc_listening import listening_command
from lpmc_pseudo_caption import merge_shards, pseudo_caption, report
from lpmc_ratings import app as ratings
from lpmc_train import app as training

EPILOG = (
    "Exit codes: 0 done; 1 the run failed; 2 wrong usage; 3 done, but some items were recorded as failed; "
    "75 interrupted, run the same command again to resume."
)


class FaultsInOneLine(TyperGroup):
    """Every foreseen fault is one line on standard error and a documented exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `LpmcError`, Ctrl-C and disk faults end the program with their exit code."""
        try:
            return super().invoke(ctx)
        except LpmcError as error:
            if error.exit_code == EXIT_INTERRUPTED:
                interrupt_is_answered()
            say(f"lpmc: {one_line(str(error))}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            interrupt_is_answered()
            say("lpmc: interrupted; run the same command again")
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            fault = disk_fault(error, error.filename or "the disk")
            if fault is None and error.filename is None:
                raise
            said = str(fault) if fault else f"{error.filename}: {error.strerror}"
            say(f"lpmc: {one_line(said)}")
            ctx.exit(EXIT_FAILED)


app = typer.Typer(
    name="lpmc",
    cls=FaultsInOneLine,
    help="LP-MusicCaps: tags to captions, the dataset, the model, its scores and the demo.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="A model directory (of `lpmc train` or `lpmc convert`), a Hub id, or lpmc_mini, which ships."
    ),
]
DEFAULT_QUICKSTART = Path("quickstart-output")
DEFAULT_MODEL = "lpmc_mini"  # `modeling_lpmc.shipped`, which is not imported here: it would load torch


@app.command()
def quickstart(
    audio: Annotated[
        list[Path] | None, typer.Option("--audio", help="Also caption this file (may be repeated).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="Where everything is written.")] = DEFAULT_QUICKSTART,
    clips: Annotated[int, typer.Option("--clips", min=40, help="Number of 10-second clips to render.")] = 240,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the corpus and the training.")] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="Train a small model on it (2 minutes) instead of taking lpmc_mini.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Do everything once, small: render a corpus, caption its tags, build the dataset, caption audio, score it."""
    with extra_needed("all"):
        from lpmc_quickstart import run_quickstart

        quiet_libraries()
        result = run_quickstart(output, audio or [], clips=clips, seed=seed, train=train, say=say, bar=progress_bar)
    emit(result.to_dict(), as_json, lambda: result.print_report())
    raise typer.Exit(EXIT_PARTIAL if result.failed_files else EXIT_DONE)


app.command()(tracks)
app.command("pseudo-caption")(pseudo_caption)
app.command()(report)
app.command()(merge_shards)
app.command()(build)
app.command()(push)
app.command()(lint)
app.add_typer(training)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="A checkpoint of the released code (.pth), a folder of them, or ORG/NAME on the Hub.")
    ],
    output: Annotated[Path, typer.Option("--output", help="The model directory to write.")],
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Which one: transfer, pretrain or supervised in seungheondoh/lp-music-caps."),
    ] = None,
    file: Annotated[str | None, typer.Option("--file", help="Which one, by its path in repository or folder.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the Hub.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="JSON with the sizes, where the weights can't tell.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            help="Directory or Hub id of its tokenizer; default: facebook/bart-base, where the vocabulary is as large.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert a released checkpoint, from a file or the Hub, checked key by key and number by number."""
    from dataclasses import asdict

    with extra_needed("model"):
        from modeling_lpmc.conversion import convert_source

        quiet_libraries()
        with progress_bar("convert") as update:
            report = convert_source(
                source,
                output,
                variant=variant,
                file=file,
                revision=revision,
                sizes=config,
                tokenizer=tokenizer,
                progress=update,
                say=say,
            )

    def text() -> None:
        parity = report.parity
        print(f"{output}: {report.mapped} tensors, {report.parameters:,} parameters, tokenizer: {report.tokenizer}")
        print(
            f"beside the checkpoint: log-mel {parity.log_mel_relative:g} (relative), encoder "
            f"{parity.encoder_max_abs:g}, loss {parity.loss_abs:g}, logits {parity.logits_max_abs:g}; the same tokens "
            f"greedily and with {parity.beams} beams"
        )
        print(f"licence: {report.licence}")
        if report.tokenizer == "none":
            print(f"next: read {output / 'PARITY.md'}; it writes no words yet: run it again with --tokenizer DIR_OR_ID")
        else:
            print(f"next: read {output / 'PARITY.md'}; lpmc caption FILE --model {output}")

    emit(asdict(report), as_json, text)


@app.command()
def caption(
    paths: Annotated[list[Path], typer.Argument(help="Audio files or folders (searched recursively).")],
    model: ModelOption = DEFAULT_MODEL,
    beams: Annotated[
        int | None, typer.Option("--beams", min=1, help="Beams of the search; default: the model's own (5).")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="10-second windows decoded together.")] = 8,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default: a GPU if any.")] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16 (GPU) or int8 (CPU: faster, captions may differ).")
    ] = "float32",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Also write the JSON to this file; with --format, the folder to write to."),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="What a trainer reads: acestep, audiocraft, stable-audio, musicgen-trainer, hf, jsonl, csv, srt.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --format: caption again what is done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --format: say what would be written.")] = False,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Of folders only files that match this glob (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Of folders no files that match this glob (repeatable).")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Also what lies in the folders of folders.")
    ] = True,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/n: this machine's share of the files, the i-th of n.")
    ] = None,
    facts: Annotated[
        bool, typer.Option("--facts/--no-facts", help="Measure tempo, key and loudness beside the captions.")
    ] = True,
    style: Annotated[
        str, typer.Option("--style", help="house, or raw: the track's caption keeps remarks on quality and use.")
    ] = "house",
    as_json: JsonFlag = False,
) -> None:
    """Caption audio files: one sentence per 10 seconds and one for the track."""
    if format_name is None and (overwrite or dry_run):
        raise UsageError("--overwrite and --dry-run", "belong to --format", "name a format, or leave them out")
    with extra_needed("model"):
        from modeling_lpmc.captioner import Captioner, FailedFile, TrackCaption
        from modeling_lpmc.selection import Selection, Shard, find_audio
        from modeling_lpmc.track_captions import STYLES

        quiet_libraries()
    if style not in STYLES:
        raise UsageError(f"--style {style}", "is unknown", f"use {' or '.join(STYLES)}")
    share = None if shard is None else Shard.parse(shard)
    selection = Selection(recursive, tuple(include or ()), tuple(exclude or ()), share)
    if format_name is not None:
        from lpmc_folder import caption_folder

        raise typer.Exit(
            caption_folder(
                paths,
                format_name,
                output,
                overwrite=overwrite,
                dry_run=dry_run,
                load=lambda: Captioner.from_pretrained(model, device, precision=precision),
                batch_size=batch_size,
                num_beams=beams,
                as_json=as_json,
                selection=selection,
                facts=facts,
                style=style,
            )
        )
    from lpmc_files import write_json

    if output is not None and output.is_dir():
        raise UsageError(output, "is a folder", "name a file for the JSON")
    files = find_audio(paths, selection)
    captioner = Captioner.from_pretrained(model, device, precision=precision)
    results: list[TrackCaption] = []
    failed: list[FailedFile] = []

    def show(result: TrackCaption) -> None:
        measured = f", {result.facts}" if result.facts is not None and str(result.facts) else ""
        print(f"{result.path} ({result.duration:.2f} s{measured}): {result.caption}")
        for segment in result.segments:
            print(f"  {segment.start:8.2f} - {segment.end:8.2f} s  {segment.text}", flush=True)
        for note in result.notes:
            print(f"  the segments disagree: {note}", flush=True)

    def write() -> None:
        records = [result.to_dict() for result in results]
        emit(records, as_json, lambda: None)  # first: the file may be where none can be written
        if output is not None:
            write_json(output, records)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that both ways to end it keep what is done
    try:
        with progress_bar("caption") as update:
            for result in captioner.caption_files(
                files, batch_size=batch_size, num_beams=beams, facts=facts, style=style
            ):
                if isinstance(result, TrackCaption):
                    results.append(result)
                    if not as_json:
                        show(result)  # at once, as the next file may be the one that ends the run
                else:
                    failed.append(result)
                    say(f"lpmc: {one_line(result.error)}")
                update(len(results) + len(failed), len(files), "")
    except (KeyboardInterrupt, LpmcError) as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cost what is done
        if results:
            write()
        if isinstance(error, LpmcError):
            raise
        done = f"interrupted with {len(results)} of {len(files)} files captioned"
        kept = "their captions are written; name the other files to go on" if results else "run it again"
        raise Interrupted("caption", done, kept) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    write()
    if failed:
        raise typer.Exit(EXIT_PARTIAL if results else EXIT_FAILED)


app.command()(evaluate)
app.command("push-metric")(push_metric)
app.command("audio-dependence")(listening_command)
app.add_typer(ratings)


@app.command()
def demo(
    model: ModelOption = DEFAULT_MODEL,
    port: Annotated[int | None, typer.Option("--port", help="Default: the first free port from 7860.")] = None,
) -> None:
    """Open the Gradio page that captions music in the browser."""
    with extra_needed("space"):
        from space.app import launch

        quiet_libraries()
        launch(model, port=port)


@app.command()
def space(
    repo: Annotated[str, typer.Option("--repo", help="ORG/NAME of the Space.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Its model: a directory, which goes along, or a Hub id.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files; nothing leaves this machine.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish the Gradio page as a Space of the Hub."""
    with extra_needed("space"):
        from space.publish import bundle, publish_space

    if dry_run:
        files = sorted(bundle(model))
        emit({"files": files}, as_json, lambda: print("\n".join(files)))
        return
    published = publish_space(repo, model=model, private=private)
    found = {"url": published.url, "revision": published.revision, "files": list(published.files)}
    emit(found, as_json, lambda: print(f"{published.url}: {len(published.files)} files"))


def main() -> None:
    """Entry point of the console script."""
    # Threads that spin while they wait make torch five times slower on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


if __name__ == "__main__":
    main()
