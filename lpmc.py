"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lpmc_console import JsonFlag, emit, extra_needed, progress_bar, say
from lpmc_dataset import build, lint, push, tracks
from lpmc_errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    Interrupted,
    LpmcError,
    ModelError,
    UsageError,
    disk_fault,
)
from lpmc_evaluate import evaluate, push_metric
from lpmc_listening import listening_command
from lpmc_pseudo_caption import merge_shards, pseudo_caption, report
from lpmc_ratings import app as ratings

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
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not spoil the exit code
            say(f"lpmc: {_one_line(str(error))}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            say("lpmc: interrupted; run the same command again")
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            fault = disk_fault(error, error.filename or "the disk")
            if fault is None and error.filename is None:
                raise
            said = str(fault) if fault else f"{error.filename}: {error.strerror}"
            say(f"lpmc: {_one_line(said)}")
            ctx.exit(EXIT_FAILED)


def _one_line(text: str) -> str:
    """`text` with line breaks and other control characters, which a file may have in its name, written out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


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
    typer.Option("--model", help="A model directory (of `lpmc train`, `lpmc convert` or the quickstart) or a Hub id."),
]
DEFAULT_QUICKSTART = Path("quickstart-output")
DEFAULT_MODEL = str(DEFAULT_QUICKSTART / "model")


@app.command()
def quickstart(
    audio: Annotated[
        list[Path] | None, typer.Option("--audio", help="Also caption this file (may be repeated).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="Where everything is written.")] = DEFAULT_QUICKSTART,
    clips: Annotated[int, typer.Option("--clips", min=40, help="Number of 10-second clips to render.")] = 240,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the corpus and the training.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Do everything once, small: render a corpus, caption its tags, build the dataset, train, caption audio."""
    with extra_needed("all"):
        from lpmc_quickstart import run_quickstart

        quiet_libraries()
        result = run_quickstart(output, audio or [], clips=clips, seed=seed, say=say, bar=progress_bar)
    emit(result.to_dict(), as_json, lambda: result.print_report())
    raise typer.Exit(EXIT_PARTIAL if result.failed_files else EXIT_DONE)


app.command()(tracks)
app.command("pseudo-caption")(pseudo_caption)
app.command()(report)
app.command()(merge_shards)
app.command()(build)
app.command()(push)
app.command()(lint)


class RecipeFirst(TyperGroup):
    """`lpmc train RECIPE ...` is its command `recipe`, unless the first word is another command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front where only a recipe was given."""
        named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if named else ["recipe", *args])


training = typer.Typer(
    name="train",
    cls=RecipeFirst,
    help="Train the captioning model: lpmc train RECIPE --output DIR [KEY=VALUE ...]; or prepare its data once.",
    no_args_is_help=True,
)
app.add_typer(training)


@training.command("recipe")
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML) or the name of one that ships, e.g. quickstart.")],
    output: Annotated[Path, typer.Option("--output", help="The model directory to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE, e.g. optimisation.learning_rate=1e-4.")
    ] = None,
    push_to: Annotated[
        str | None, typer.Option("--push-to", help="Then publish it as ORG/NAME; after a failed push run it again.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private (--push-to).")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train the captioning model on a dataset directory or Hub dataset. Run it again to resume."""
    from dataclasses import asdict

    with extra_needed("train"):
        from modeling_lpmc.publish_model import check_push, push_model
        from modeling_lpmc.training.train import run_training

        quiet_libraries()
        if private and push_to is None:
            raise UsageError("--private", "is for a repository on the Hub", "add --push-to ORG/NAME")
        if push_to is not None:
            check_push(push_to, private=private)  # a token that may not write is found before it costs a training
        with progress_bar("train") as update:
            result = run_training(
                recipe, output, overrides or [], progress=lambda p: update(p.done, p.total, p.stage), say=say
            )

    pushed = None
    if push_to is not None and not int(os.environ.get("RANK", "0")):  # of several processes the first
        say(f"{output} is trained and saved; publishing it as {push_to}")
        pushed = push_model(output, push_to, private=private)

    def text() -> None:
        measured = "" if result.evaluation_loss is None else f", {result.evaluation_loss:.3f} on held-out clips"
        print(f"{output}: {result.updates} updates on {result.train_clips} clips, loss {result.loss:.3f}{measured}")
        for row in result.skipped:
            say(f"left out {row.track_id}: {row.reason}")
        if pushed is not None:
            print(f"published: {pushed.url} ({len(pushed.files)} files, revision {pushed.revision})")
        print(f"next: lpmc caption FILE --model {output}   or   lpmc demo --model {output}")

    emit(_plain(asdict(result)) | ({"pushed": asdict(pushed)} if pushed else {}), as_json, text)
    raise typer.Exit(EXIT_PARTIAL if result.skipped else EXIT_DONE)


@training.command("prepare")
def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="A dataset directory or Hub dataset; with --verify the folder to look over.")
    ],
    output: Annotated[Path | None, typer.Option("--output", help="The folder to write the shards to.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="Its configuration, where it has several.")] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split (may be repeated); default: all.")
    ] = None,
    captions: Annotated[
        list[str] | None, typer.Option("--captions", help="Only this caption column (may be repeated); default: all.")
    ] = None,
    tags: Annotated[str, typer.Option("--tags", help="Column of tags, for balanced sampling.")] = "tag",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Files decoded at once; default: one a processor.")
    ] = None,
    verify_only: Annotated[
        bool, typer.Option("--verify", help="Write nothing: read every shard of DATASET against its checksum.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Decode a dataset once into 16 kHz shards, for data.dataset=DIR. Run it again to resume."""
    from dataclasses import asdict

    if verify_only == (output is not None):
        raise UsageError("lpmc train prepare", "needs one of --output and --verify", "name a folder with --output DIR")
    with extra_needed("train"):
        from modeling_lpmc.training.prepare import prepare
        from modeling_lpmc.training.shards import verify

        quiet_libraries()
    with progress_bar("prepare") as update:
        if output is None:
            read, faults = verify(Path(dataset), lambda stage, done, total: update(done, total, stage))
        else:
            result = prepare(
                dataset,
                output,
                config=config,
                splits=split or [],
                captions=captions or [],
                tags=tags,
                workers=workers,
                report=lambda stage, done, total: update(done, total, stage),
            )
    if output is None:
        emit({"shards": read, "faults": faults}, as_json, lambda: print(f"{dataset}: {read} shards read"))
        for fault in faults:
            say(_one_line(fault))
        raise typer.Exit(EXIT_FAILED if faults else EXIT_DONE)

    def text() -> None:
        for name, clips in result.clips.items():
            print(f"{output}/{name}: {clips} clips, {result.hours[name]:.2f} hours")
            for row, track_id, reason in result.left_out[name]:
                say(f"left out {_one_line(track_id)} (row {row}): {_one_line(reason)}")
        print(f"next: lpmc train RECIPE --output MODEL data.dataset={output}")

    emit(_plain(asdict(result)), as_json, text)
    raise typer.Exit(EXIT_PARTIAL if any(result.left_out.values()) else EXIT_DONE)


def _plain(value: Any) -> Any:
    """Paths as text, so that JSON can hold them."""
    return json.loads(json.dumps(value, default=str))


def quiet_libraries() -> None:
    """Switch off the bars that datasets and transformers draw of their own: one bar a command is enough."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


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


def _existing(model: str) -> str:
    """`model` as given; the default one, which looks like a Hub id, only when the quickstart has made it."""
    if model == DEFAULT_MODEL and not Path(model).is_dir():
        raise ModelError(
            model, "the quickstart's model is not here", "run `lpmc quickstart` or name a model with --model"
        )
    return model


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
    output: Annotated[Path | None, typer.Option("--output", help="Also write the JSON to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Caption audio files: one sentence per 10 seconds and one for the track."""
    with extra_needed("model"):
        from modeling_lpmc.captioner import Captioner, FailedFile, TrackCaption, find_audio

        quiet_libraries()
    from lpmc_files import write_json

    if output is not None and output.is_dir():
        raise UsageError(output, "is a folder", "name a file for the JSON")
    files = find_audio(paths)
    captioner = Captioner.from_pretrained(_existing(model), device, precision=precision)
    results: list[TrackCaption] = []
    failed: list[FailedFile] = []

    def show(result: TrackCaption) -> None:
        print(f"{result.path} ({result.duration:.2f} s): {result.caption}")
        for segment in result.segments:
            print(f"  {segment.start:8.2f} - {segment.end:8.2f} s  {segment.text}", flush=True)

    def write() -> None:
        records = [result.to_dict() for result in results]
        emit(records, as_json, lambda: None)  # first: the file may be where none can be written
        if output is not None:
            write_json(output, records)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that both ways to end it keep what is done
    try:
        with progress_bar("caption") as update:
            for result in captioner.caption_files(files, batch_size=batch_size, num_beams=beams):
                if isinstance(result, TrackCaption):
                    results.append(result)
                    if not as_json:
                        show(result)  # at once, as the next file may be the one that ends the run
                else:
                    failed.append(result)
                    say(f"lpmc: {_one_line(result.error)}")
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
        launch(_existing(model), port=port)


def main() -> None:
    """Entry point of the console script."""
    # Threads that spin while they wait make torch five times slower on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


if __name__ == "__main__":
    main()
