"""The commands around the data set: a corpus read into a tracks table, the directory built, linted and published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lpmc_console import JsonFlag, emit, extra_needed, progress_bar, say
from lpmc_errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, LpmcError, UsageError

NAMED = 20  # items that a report names; all of them are in its JSON


def tracks(
    source: Annotated[
        str,
        typer.Argument(
            help="The corpus: musiccaps, magnatagatune, msd_ecals, mtg_jamendo, fma, song_describer, slakh, "
            "jamendo_max_caps, table, audio_folder or rendered."
        ),
    ],
    root: Annotated[Path, typer.Option("--root", help="The corpus: its folder or its file.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="The tracks table to write (Parquet); without it, only the report.")
    ] = None,
    audio_root: Annotated[
        Path | None,
        typer.Option("--audio-root", help="Folder that relative audio paths start from, where it is not --root."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the source as KEY=VALUE, e.g. clips=100, tags_column=keywords."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a corpus in its owners' own format, report on it, and write the tracks table.

    The report counts rows, tags and licences, and names doubts: contradictory or misspelled tags (never changed),
    missing audio, what training and evaluation splits share. Exit code 3 when bad items of the corpus were skipped.
    """
    from dataset_builder.sources.bad_rows import ByChoice
    from dataset_builder.sources.options import parse_options, read_source, source_options
    from dataset_builder.tracks import check_ids, write_tracks
    from dataset_builder.tracks_report import TracksSurvey, printable
    from dataset_builder.tracks_report_text import plain_line, print_report

    options = list(option or [])
    with extra_needed("render"):
        given = parse_options(source, options)
        if audio_root is not None and "audio_root" in source_options(source) and "audio_root" not in given:
            options.append(f"audio_root={audio_root}")
    if output is not None:
        _check_output(output, root)
    if audio_root is not None and not os.path.isdir(audio_root):
        raise UsageError(f"--audio-root {audio_root}", "no such folder", "name the folder of the audio")
    skipped: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []

    def record(item: Any, reason: str) -> None:
        chosen = left_out if isinstance(reason, ByChoice) else skipped
        chosen.append(printable({"item": str(item), "reason": str(reason)}))

    def name_first(title: str, items: list[dict[str, str]]) -> None:
        for item in items[:NAMED]:
            say(plain_line(f"{title} {item['item']}: {item['reason']}"))
        if len(items) > NAMED:
            say(f"... and {len(items) - NAMED} more {title}; --json names them all")

    survey = TracksSurvey(audio_root or given.get("audio_root") or (root.parent if os.path.isfile(root) else root))
    with extra_needed("render"), progress_bar(f"tracks {source}") as update:

        def counted() -> Iterator[Any]:
            found = read_source(
                source,
                root,
                options,
                on_skip=record,
                progress=lambda done, total: update(done, total, ""),
            )
            for number, track in enumerate(survey.watch(found), 1):
                if number % 5_000 == 0:  # how many will come, no reader knows
                    update(number, None, "")
                yield track

        try:
            if output is None:
                for _ in check_ids(counted(), root):
                    pass
            else:
                write_tracks(counted(), output)
        except LpmcError:
            name_first("skipped", skipped)  # perhaps the reason why nothing was left
            raise
        report = survey.finish()
    result = {"source": source, "output": None if output is None else str(output), **report.as_json()}

    def text() -> None:
        print_report(report)
        name_first("left out", left_out)
        name_first("skipped", skipped)
        if output is None:
            print("nothing was written; add --output tracks.parquet for the table")
        else:
            print(f"{report.tracks} tracks written to {output}")
            print(f"next: lpmc pseudo-caption {output} --output captions.parquet")

    emit(result | {"left_out": left_out, "skipped": skipped}, as_json, text)
    raise typer.Exit(EXIT_PARTIAL if skipped else EXIT_DONE)


def _check_output(output: Path, root: Path) -> None:
    """Before a long run: `output` must be a place for a file, and not the corpus."""
    if os.path.isdir(output):  # unlike pathlib's, no error for a name that is too long
        raise UsageError(f"--output {output}", "is a folder", "name the table's file, e.g. tracks.parquet")
    if os.path.exists(output) and os.path.exists(root) and output.samefile(root):
        raise UsageError(f"--output {output}", "is the corpus itself", "name another file")
    taken = next((each for each in output.absolute().parents if os.path.lexists(each)), None)
    if taken is not None and not taken.is_dir():
        raise UsageError(f"--output {output}", f"{taken} is no folder", "name another place")


def build(
    captions: Annotated[Path, typer.Argument(help="The captions table (Parquet) of `lpmc pseudo-caption`.")],
    tracks: Annotated[Path, typer.Option("--tracks", help="The tracks table (Parquet) that was captioned.")],
    config: Annotated[str, typer.Option("--config", help="Name of the configuration, e.g. rendered, mtt, msd.")],
    output: Annotated[Path, typer.Option("--output", help="The dataset directory.")] = Path("lp-musiccaps"),
    audio_root: Annotated[
        Path | None, typer.Option("--audio-root", help="Folder that relative audio paths start from: embeds the audio.")
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option("--audio", help="With --audio-root: all (default), or publishable: where the licence lets it."),
    ] = None,
    leaks: Annotated[
        str,
        typer.Option(
            "--leaks",
            help="Training tracks that an evaluation split has too: refuse, drop (leave them out), or allow (keep "
            "shared artists and recordings as the corpus has them).",
        ),
    ] = "refuse",
    num_proc: Annotated[
        int, typer.Option("--num-proc", min=0, help="Processes that write shards; 0: as many as there are cores.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Join captions, tracks and audio into the directory that `load_dataset` opens and `lpmc push` publishes.

    Run it again to resume: finished shards are kept. Exit code 3 when audio files were left out or look cut short.
    """
    from dataclasses import asdict

    from dataset_builder.build import build_dataset

    with progress_bar("build") as update:
        report = build_dataset(
            captions,
            tracks,
            config=config,
            output=output,
            audio_root=audio_root,
            audio=audio,
            leaks=leaks,
            num_proc=num_proc or os.cpu_count() or 1,
            progress=lambda d, t: update(d, t, ""),
        )

    def text() -> None:
        splits = ", ".join(f"{name} {count}" for name, count in report.rows.items())
        print(f"{output}: configuration {config}, rows: {splits}")
        if report.audio_embedded is not None:
            print(f"audio embedded in {report.audio_embedded} of {report.tracks} rows")
        for title, items in (("no audio for", report.failed_audio), ("look at the audio of", report.doubtful_audio)):
            for item, reason in items[:NAMED]:
                say(f"{title} {item}: {reason}")
            if len(items) > NAMED:
                say(f"... and {len(items) - NAMED} more, all in {output / config / 'build.json'}")
        for licence, count in report.withheld_audio.items():
            say(f"audio of {count} tracks withheld: {licence or 'no licence stated'}")
        for kind, count in report.left_out.items():
            say(f"left out {count} training tracks {KINDS[kind]}")
        for kind, count in report.allowed_leaks.items():
            say(f"kept {count} training tracks {KINDS[kind]}")
        print(f'open it with: load_dataset("{output.name}", "{config}")   (from {output.resolve().parent})')

    from dataset_builder.leaks import KINDS

    emit(asdict(report) | {"directory": str(report.directory)}, as_json, text)
    raise typer.Exit(EXIT_PARTIAL if report.failed_audio or report.doubtful_audio else EXIT_DONE)


def push(
    directory: Annotated[Path, typer.Argument(help="The dataset directory of `lpmc build`.")],
    repo: Annotated[str, typer.Option("--repo", help="ORG/NAME on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    gated: Annotated[
        str | None,
        typer.Option("--gated", help="Let readers ask for access: auto (all get it) or manual (you decide)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, list what would be sent.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Publish a dataset directory on the Hugging Face Hub (token: `hf auth login` or HF_TOKEN).

    Readers see the old version until all is there, then the new one. Run it again to resume.
    """
    import signal
    from dataclasses import asdict

    from rich.console import Console

    from dataset_builder.publish import PushPlan, plan_push, push_dataset
    from lpmc_errors import EXIT_INTERRUPTED

    def leave(*unused: object) -> None:
        # At once, and not by an exception: the client's threads would finish their files first, which takes minutes.
        Console(stderr=True).show_cursor(True)
        say(f"\nlpmc: interrupted; run the same command again to resume: what is on {repo} already is not sent again")
        os._exit(EXIT_INTERRUPTED)

    def told(plan: PushPlan) -> None:
        where = "private" if plan.private else "public"
        gate = f", gated ({plan.gated})" if plan.gated else ""
        say(
            f"{repo} ({where}{gate}, {'exists' if plan.exists else 'will be created'}): {len(plan.files)} files, "
            f"{plan.bytes_in_all / 1e6:,.1f} MB; to send {len(plan.new) + len(plan.changed)}, "
            f"{plan.bytes_to_send / 1e6:,.1f} MB; there already {len(plan.same)}; to delete {len(plan.deleted)}"
        )
        if plan.asks_nobody:
            say(
                f"the card holds terms of {', '.join(plan.terms)}; the Hub has readers agree to them only in a gated "
                "repository: add --gated auto"
            )

    if dry_run:
        plan = plan_push(directory, repo, private=private, gated=gated)

        def listed() -> None:
            told(plan)
            for title, names in (("new", plan.new), ("changed", plan.changed), ("there", plan.same)):
                for name in names:
                    print(f"{title:8}{plan.files[name]:>15,}  {name}")
            for name in plan.deleted:
                print(f"{'delete':8}{'':>15}  {name}")

        emit(asdict(plan) | {"dry_run": True, "bytes_to_send": plan.bytes_to_send}, as_json, listed)
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    with progress_bar("push (MB)") as update:
        done = push_dataset(
            directory,
            repo,
            private=private,
            gated=gated,
            on_plan=told,
            progress=lambda there, total, note: update(there // 1_000_000, total // 1_000_000, note),
        )

    def text() -> None:
        say(f"sent {done.sent_files} files, {done.sent_bytes / 1e6:,.1f} MB, in {done.commits} commits")
        print(f"published: {done.url} (revision {done.revision})")

    emit(asdict(done), as_json, text)


def lint(
    path: Annotated[Path, typer.Argument(help="The folder of a data set, a model, the metric or a Space.")],
    as_json: JsonFlag = False,
) -> None:
    """Check a card and what lies beside it, without a network: front matter, licences, links, and every number."""
    from hub_cards.lint_cards import lint_directory

    kind, problems = lint_directory(path)

    def text() -> None:
        for problem in problems:
            print(problem)
        print(f"{path}: {kind}, {len(problems)} problem{'' if len(problems) == 1 else 's'}")

    found = [{"path": problem.path, "message": problem.message} for problem in problems]
    emit({"path": str(path), "kind": kind, "problems": found}, as_json, text)
    raise typer.Exit(EXIT_FAILED if problems else EXIT_DONE)
