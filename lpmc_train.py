"""The commands that train: `lpmc train RECIPE`, and `lpmc train prepare`, which decodes its data once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lpmc_console import JsonFlag, emit, extra_needed, one_line, progress_bar, quiet_libraries, say
from lpmc_errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, UsageError


class RecipeFirst(TyperGroup):
    """`lpmc train RECIPE ...` is its command `recipe`, unless the first word is another command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front where only a recipe was given."""
        named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if named else ["recipe", *args])


app = typer.Typer(
    name="train",
    cls=RecipeFirst,
    help="Train the captioning model: lpmc train RECIPE --output DIR [KEY=VALUE ...]; or prepare its data once.",
    no_args_is_help=True,
)


@app.command("recipe")
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


@app.command("prepare")
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
            say(one_line(fault))
        raise typer.Exit(EXIT_FAILED if faults else EXIT_DONE)

    def text() -> None:
        for name, clips in result.clips.items():
            print(f"{output}/{name}: {clips} clips, {result.hours[name]:.2f} hours")
            for row, track_id, reason in result.left_out[name]:
                say(f"left out {one_line(track_id)} (row {row}): {one_line(reason)}")
        config = result.config or "null"  # the shipped recipes name one, each that of its corpus
        print(f"next: lpmc train RECIPE --output MODEL data.dataset={output} data.config={config}")

    emit(_plain(asdict(result)), as_json, text)
    raise typer.Exit(EXIT_PARTIAL if any(result.left_out.values()) else EXIT_DONE)


def _plain(value: Any) -> Any:
    """Paths as text, so that JSON can hold them."""
    return json.loads(json.dumps(value, default=str))
