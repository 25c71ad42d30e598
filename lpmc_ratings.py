"""The commands of a listening study: design it, serve its page, carry it to and from Label Studio, analyse it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpmc_console import JsonFlag, emit, extra_needed, say
from lpmc_errors import EXIT_DONE, EXIT_PARTIAL, LpmcError, TableError, UsageError

app = typer.Typer(
    name="ratings",
    help="A blinded A/B listening study: prepare it, collect ratings, analyse them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def prepare(
    items: Annotated[
        Path, typer.Option("--items", help="JSON lines with `item`, `audio` (relative to this file), human caption.")
    ],
    systems: Annotated[
        list[str],
        typer.Option("--systems", help="JSON lines with `item` and `caption`, as FILE or NAME=FILE; more may follow."),
    ],
    output: Annotated[Path, typer.Option("--output", help="The new folder of the study.")],
    more_systems: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="Further systems.")] = None,
    human: Annotated[str, typer.Option("--human", help="Column of --items with the human caption.")] = "human",
    constant: Annotated[
        str | None, typer.Option("--constant", help="Caption of the blind system; default: the most central human one.")
    ] = None,
    raters: Annotated[int, typer.Option("--raters-per-unit", help="Raters of each comparison.")] = 3,
    block_size: Annotated[int, typer.Option("--block-size", help="Comparisons that a rater gets at once.")] = 20,
    gold: Annotated[float, typer.Option("--gold-share", help="Gold items as a share of a block.")] = 0.1,
    duplicates: Annotated[float, typer.Option("--duplicate-share", help="Repeats as a share of a block.")] = 0.1,
    constant_share: Annotated[
        float, typer.Option("--constant-share", help="Share of the clips on which the blind system is compared.")
    ] = 0.25,
    min_listen: Annotated[
        float, typer.Option("--min-listen", help="Seconds of playback before the answers unlock.")
    ] = 5.0,
    claim_hours: Annotated[
        float, typer.Option("--claim-hours", help="Hours without a rating after which a block is given away.")
    ] = 24.0,
    overall: Annotated[
        bool, typer.Option("--overall/--no-overall", help="Ask which caption is better overall.")
    ] = True,
    claims: Annotated[bool, typer.Option("--claims/--no-claims", help="Ask which claims are wrong.")] = True,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the whole design.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Design a blinded A/B study: human captions against each system's, with gold items, repeats and a blind system."""
    from space.rating_prepare import notes, prepare_study
    from space.rating_study import Settings

    settings = Settings(
        raters_per_unit=raters,
        block_size=block_size,
        gold_share=gold,
        duplicate_share=duplicates,
        constant_share=constant_share,
        min_listen_s=min_listen,
        claim_hours=claim_hours,
        overall=overall,
        claims=claims,
        seed=seed,
    )
    names = [*systems, *(more_systems or [])]
    study = prepare_study(items, names, output, human=human, constant=constant, settings=settings)
    planned = study.planned()

    def text() -> None:
        print(
            f"{output}: study {study.study}, {planned['real']} ratings planned in {planned['blocks']} blocks "
            f"(and {planned['gold']} of gold items, {planned['duplicate']} of repeats), {len(study.clips)} clips"
        )
        for note in notes(study):
            print(f"  {note}")
        print(f"next: lpmc ratings serve {output}")

    emit({"study": study.study, "output": str(output), "planned": planned, "notes": notes(study)}, as_json, text)


@app.command()
def serve(
    study: Annotated[Path, typer.Argument(help="A folder of `lpmc ratings prepare`.")],
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65_535, help="Default: the first free port from 7860.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of the ratings; default: `ratings` in the study.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share/--no-share", help="Open a public address through gradio.live.")
    ] = False,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="A trial run: every rating is stored as simulated.")
    ] = False,
) -> None:
    """Serve the rating page. End it and start it again at any time: raters go on where they were."""
    with extra_needed("space"):
        from space.rating import serve as serve_page

        serve_page(study, store=store, port=port, share=share, simulated=simulated)


@app.command("export-label-studio")
def export_label_studio(
    study: Annotated[Path, typer.Argument(help="A folder of `lpmc ratings prepare`.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for tasks.json and labelling_config.xml.")],
    audio_url: Annotated[
        str,
        typer.Option("--audio-url", help="Where browsers find the sounds, e.g. https://example.org/study/audio."),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Write the study as tasks and a labelling configuration for Label Studio, as blind as the page."""
    from space.rating_label_studio import CONFIG_FILE, TASKS_FILE, export_tasks
    from space.rating_study import load_study

    design = load_study(study)
    tasks = export_tasks(design, output, audio_url)
    overlap = design.settings.raters_per_unit

    def text() -> None:
        print(f"{output}: {tasks} tasks in {TASKS_FILE}, the labelling interface in {CONFIG_FILE}")
        print(f"next: import both into a project with {overlap} annotations a task, then export it there as JSON")

    emit({"tasks": tasks, "annotations_per_task": overlap, "output": str(output)}, as_json, text)


@app.command("import-label-studio")
def import_label_studio(
    study: Annotated[Path, typer.Argument(help="The study that the tasks came from.")],
    export: Annotated[Path, typer.Argument(help="Label Studio's export of the project, as JSON.")],
    output: Annotated[Path, typer.Option("--output", help="The ratings to write (JSON lines), a new file.")],
    simulated: Annotated[
        bool, typer.Option("--simulated", help="No people annotated: store every rating as simulated.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn Label Studio's JSON export into ratings. Exit code 3 when annotations were left out."""
    import json

    from lpmc_files import write_text
    from space.rating_label_studio import import_ratings
    from space.rating_study import load_study

    if output.exists():
        raise UsageError(output, "exists", "name a new file; ratings are never written over")
    found = import_ratings(load_study(study), export, simulated=simulated)
    if not found.ratings and found.problems:
        what, why = found.problems[0]
        raise TableError(export, f"holds no rating that can be used ({what}: {why})", "check that study and export fit")
    write_text(output, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in found.ratings))

    def text() -> None:
        raters, mark = len({record["rater"] for record in found.ratings}), " SIMULATED" if simulated else ""
        print(f"{output}: {len(found.ratings)}{mark} ratings of {raters} raters")
        for what, why in found.problems:
            say(f"left out {what}: {why}")

    emit(
        {"simulated": simulated, "ratings": len(found.ratings), "left_out": [list(p) for p in found.problems]},
        as_json,
        text,
    )
    raise typer.Exit(EXIT_PARTIAL if found.problems else EXIT_DONE)


@app.command()
def analyse(
    ratings: Annotated[Path, typer.Argument(help="The folder of a study, or its ratings.jsonl.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for the report: JSON, Markdown and a plot.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=100, help="Resamples of an interval.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resamples.")] = 0,
    min_gold: Annotated[
        float, typer.Option("--min-gold", min=0, max=1, help="Exclude raters with a smaller share of gold right.")
    ] = 0.6,
    min_seconds: Annotated[
        float, typer.Option("--min-seconds", min=0, help="Exclude raters with a smaller median time a comparison.")
    ] = 10.0,
    require_beats_blind: Annotated[
        bool,
        typer.Option("--require-beats-blind", help="Exit with 1 unless people beat the blind caption."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Analyse a study: win, tie and lose, strengths, agreement between raters, and how well each worked.

    Every result is given with and without the raters whom the rules exclude; fix --min-gold and --min-seconds before
    anyone rates. Exit code 3 when some lines could not be used.
    """
    with extra_needed("metrics"):
        from caption_metrics.rating_analysis import analyse as analyse_ratings
        from caption_metrics.rating_quality import ExclusionRules
        from caption_metrics.rating_report import print_report, report_title, to_dict, write_report
        from caption_metrics.ratings import read_ratings

        rules = ExclusionRules(min_gold_accuracy=min_gold, min_median_seconds=min_seconds)
        analysis = analyse_ratings(read_ratings(ratings), rules=rules, samples=samples, seed=seed)
        written = write_report(analysis, output) if output is not None else []
    if analysis.simulated:
        say(report_title(analysis))
    emit(to_dict(analysis), as_json, lambda: print_report(analysis))
    for path in written:
        say(f"wrote {path}")
    if require_beats_blind and analysis.sanity.verdict != "passed":
        reasons = "; ".join(analysis.sanity.reasons)
        raise LpmcError(
            ratings, f"sanity check {analysis.sanity.verdict}: {reasons}", "do not report these preferences"
        )
    raise typer.Exit(EXIT_PARTIAL if analysis.problems else EXIT_DONE)


@app.command()
def power(
    win_rate: Annotated[float, typer.Option("--win-rate", help="Win rate to find, of comparisons without ties.")] = 0.6,
    ties: Annotated[float, typer.Option("--ties", help="Share of ties among all comparisons.")] = 0.2,
    raters: Annotated[int, typer.Option("--raters", help="Raters of the study.")] = 24,
    ratings_per_rater: Annotated[
        int, typer.Option("--ratings-per-rater", help="Real comparisons of each rater, without gold and duplicates.")
    ] = 20,
    raters_per_unit: Annotated[int, typer.Option("--raters-per-unit", help="Raters of one clip and pair.")] = 3,
    systems: Annotated[int, typer.Option("--systems", help="Systems, each compared with people's captions.")] = 1,
    rater_sd: Annotated[float, typer.Option("--rater-sd", help="How far raters differ (log-odds); assumed.")] = 0.4,
    item_sd: Annotated[float, typer.Option("--item-sd", help="How far clips differ (log-odds); assumed.")] = 1.0,
    simulations: Annotated[int, typer.Option("--simulations", min=100, help="Simulated studies.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the simulated studies.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Say what a study of this size can show, by arithmetic and by simulation, before anyone rates."""
    with extra_needed("metrics"):
        from caption_metrics.rating_power import StudyPlan, plan_power, power_lines

        plan = StudyPlan(raters, ratings_per_rater, raters_per_unit, systems, win_rate, ties, rater_sd, item_sd)
        found = plan_power(plan, simulations=simulations, seed=seed)
    emit(found.to_dict(), as_json, lambda: print("\n".join(power_lines(found))))


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(help="The ratings to write (JSONL); the truth goes beside it.")],
    strength: Annotated[
        list[str] | None,
        typer.Option("--strength", help="A system and its log-odds, NAME=VALUE; repeat it. The first is the opponent."),
    ] = None,
    raters: Annotated[int, typer.Option("--raters", help="Simulated raters.")] = 24,
    clips: Annotated[int, typer.Option("--clips", help="Clips on which each pair is compared.")] = 60,
    raters_per_unit: Annotated[int, typer.Option("--raters-per-unit", help="Raters of one clip and pair.")] = 3,
    every_pair: Annotated[bool, typer.Option("--every-pair", help="Compare every two systems.")] = False,
    ties: Annotated[float, typer.Option("--ties", help="Share of ties between equals.")] = 0.2,
    left: Annotated[float, typer.Option("--left", help="What the left side gains, in log-odds.")] = 0.0,
    rater_sd: Annotated[float, typer.Option("--rater-sd", help="How far raters differ (log-odds).")] = 0.4,
    item_sd: Annotated[float, typer.Option("--item-sd", help="How far clips differ (log-odds).")] = 1.0,
    careless: Annotated[int, typer.Option("--careless", help="Raters who answer at random.")] = 0,
    sided: Annotated[int, typer.Option("--sided", help="Raters who nearly always take the left side.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Write SIMULATED ratings with a known truth, to try the analysis on; every record says that it is simulated."""
    with extra_needed("metrics"):
        from caption_metrics.rating_simulation import STRENGTHS, Truth, parse_strengths, simulate_ratings, write_ratings

        truth = Truth(
            parse_strengths(strength) if strength else dict(STRENGTHS),
            *(raters, clips, raters_per_unit, every_pair, ties, left, rater_sd, item_sd, careless, sided, seed),
        )
        records = simulate_ratings(truth)
        beside = write_ratings(output, records, truth)
    told = {"simulated": True, "ratings": len(records), "output": str(output), "truth": str(beside)}
    emit(told, as_json, lambda: print(f"wrote {len(records):,} SIMULATED ratings to {output}, their truth to {beside}"))
