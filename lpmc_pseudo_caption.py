"""The commands around pseudo-captioning: `lpmc pseudo-caption`, `lpmc report`, `lpmc merge-shards`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpmc_console import JsonFlag, emit, progress_bar, say
from lpmc_errors import EXIT_DONE, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from dataset_builder.captioning.batch import BatchProgress
    from dataset_builder.captioning.batch_files import BatchFile
    from dataset_builder.captioning.batch_results import ResultReport
    from dataset_builder.captioning.estimate import Estimate
    from dataset_builder.captioning.jobs import AskPlan
    from dataset_builder.captioning.pseudo_caption import CaptioningSummary, RunLimits, Shard
    from dataset_builder.captioning.run_state import AskProgress, Backend

BACKENDS = ("openai", "local", "grammar", "tag-concat", "template", "k2c")
HTTP_CONCURRENCY = 512  # most requests at once; the engine starts with a few and learns what the server takes


def pseudo_caption(
    tracks: Annotated[Path, typer.Argument(help="The tracks table (Parquet) of `lpmc tracks`.")],
    output: Annotated[Path | None, typer.Option("--output", help="The captions table to write (Parquet).")] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Where raw answers are kept (SQLite); default: OUTPUT with .store.sqlite."),
    ] = None,
    instructions: Annotated[str, typer.Option("--instructions", help="Comma-separated; all four by default.")] = (
        "writing,summary,paraphrase,attribute_prediction"
    ),
    backend: Annotated[str, typer.Option("--backend", help=", ".join(BACKENDS))] = "local",
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            "--base-url",
            help="An OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1; repeat it for several servers.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model name at the endpoint, or a local model.")] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="Who answers, as part of what an answer is stored under; default: the host."),
    ] = None,
    wording: Annotated[
        str | None,
        typer.Option(
            "--wording",
            help="released (the paper's), grounded (strict), small (few-shot, models of 0.1 to 3 B), or a YAML file.",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, help="Default: the server's; local: 0.")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0.0, max=1.0, help="Default: the server's.")] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", min=8, help="Longest answer; default: by instruction and wording.")
    ] = None,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Draw so many answers for each row, keep the most faithful.")
    ] = 1,
    share_identical: Annotated[
        bool, typer.Option("--share-identical-prompts", help="One answer for all tracks whose tags are equal.")
    ] = False,
    structured: Annotated[
        str, typer.Option("--structured", help="auto, json_schema, json_object or text, for wordings with a schema.")
    ] = "auto",
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Most requests under way at once (openai); adapts below it.")
    ] = HTTP_CONCURRENCY,
    rpm: Annotated[float | None, typer.Option("--rpm", min=0.001, help="Requests a minute, of the account.")] = None,
    tpm: Annotated[float | None, typer.Option("--tpm", min=0.001, help="Tokens a minute, of the account.")] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds to wait for one answer (openai).")
    ] = 300.0,
    patience: Annotated[
        float, typer.Option("--patience", min=0.01, help="Minutes without one answer after which the run stops.")
    ] = 10.0,
    max_usd: Annotated[
        str | None, typer.Option("--max-usd", help="Most dollars to spend from this store, over all runs.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=0, help="Most tokens to use from this store, over all runs.")
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option(
            "--max-requests",
            min=0,
            help="Most requests to send from this store, over all runs (a request that a 429 sent back counts).",
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Your own price table (YAML), in place of the dated one.")
    ] = None,
    allow_unknown_price: Annotated[
        bool, typer.Option("--allow-unknown-price", help="Ask a public endpoint whose price is not known.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Say what the run would send and cost, from its own prompts; ask nothing."),
    ] = False,
    preview: Annotated[
        int, typer.Option("--preview", min=0, help="Finish so many rows, show them with their prompts, and stop there.")
    ] = 0,
    batch: Annotated[
        bool, typer.Option("--batch", help="Hand the requests in as batch files (half the price at some providers).")
    ] = False,
    poll: Annotated[float, typer.Option("--poll", min=0.01, help="Seconds between two looks at batches.")] = 30.0,
    write_batch: Annotated[
        Path | None,
        typer.Option("--write-batch", help="Write the missing requests as JSONL files for `vllm run-batch`, and stop."),
    ] = None,
    read_batch: Annotated[
        Path | None,
        typer.Option("--read-batch", help="Take the answers that `vllm run-batch` wrote to files of --write-batch."),
    ] = None,
    give_up_batches: Annotated[
        bool, typer.Option("--give-up-batches", help="Ask again for what batches hold that the endpoint lost.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: only part I (from 0) of N; see `lpmc merge-shards`.")
    ] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Put the template caption in place of a failed answer.")
    ] = True,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Send requests again that the endpoint refused in an earlier run.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which captions the grammar writes.")] = 0,
    keep_from: Annotated[
        Path | None,
        typer.Option(
            "--keep-from",
            help="A captions table whose captions of a model stay as they are; the grammar writes the others.",
        ),
    ] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Send nothing: write the table from what the store holds.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn the tags of every track into captions. Run it again to resume: an answer is never bought twice."""
    from dataset_builder.captioning import pseudo_caption as captioning
    from dataset_builder.captioning.jobs import BASELINES
    from dataset_builder.tracks import open_tracks

    names = captioning.parse_instructions(instructions)
    part = captioning.parse_shard(shard) if shard else captioning.Shard()
    open_tracks(tracks).close()  # a wrong table is named before a model is loaded
    if output is None and not (estimate or (store and (preview or write_batch))):
        raise UsageError("--output", "is missing", "name the captions table to write, e.g. --output captions.parquet")
    if (seed or keep_from) and backend != "grammar":
        option = "--seed" if seed else "--keep-from"
        raise UsageError(option, "belongs to --backend grammar", "add --backend grammar or leave it out")
    if backend in BASELINES or backend == "grammar":
        if estimate or preview or batch or write_batch or read_batch:
            raise UsageError(
                f"--backend {backend}", "asks no model: there is nothing to price or to hand in", "leave it out"
            )
        assert output is not None
        if backend in BASELINES:
            _finish(captioning.caption_with_baseline(tracks, output, backend), as_json)
        if shard:
            raise UsageError("--shard", "is nothing for --backend grammar", "leave it out: one process is enough")
        with progress_bar("pseudo-caption") as update:
            written = captioning.caption_with_grammar(
                tracks,
                output,
                names,
                seed=seed,
                share_identical=share_identical,
                fallback=fallback,
                keep_from=keep_from,
                on_progress=update,
            )
        _finish(written, as_json)
    if shard and store is None and output is None:
        raise UsageError("--shard", "needs a store of its own for every part", "add --output or --store")
    kept = store or (output or tracks).with_suffix(".store.sqlite")
    rungs: dict[str, str] = {}

    def connect() -> Backend:
        return _backend(
            backend,
            base_url,
            model,
            provider,
            concurrency=concurrency,
            timeout=timeout,
            structured=structured,
            rungs=rungs,
            api_key="not needed" if estimate or write_batch or from_store else None,
        )

    answering = connect()
    rung = "json_schema" if structured == "auto" else structured
    plan = captioning.make_plan(
        answering,
        names,
        wording=wording,
        temperature=temperature,
        fallback=fallback,
        token_limit=answer_tokens,
        top_p=top_p,
        candidates=candidates,
        share_identical=share_identical,
    )
    limits = _limits(answering, max_usd, max_tokens, max_requests, prices, rpm, tpm, patience)
    if estimate:
        _show_estimate(captioning.price_tracks(tracks, kept, plan, limits, part), as_json)
    if not from_store:
        _check_money(answering, plan, limits, tracks, kept, part, allow_unknown_price)
    if preview:
        _show_preview(captioning.preview_tracks(tracks, kept, answering, plan, preview, limits, part), as_json)
    if read_batch:
        _show_results(captioning.take_batch_results(kept, read_batch, limits))
    if write_batch:
        _show_files(captioning.write_batch_requests(tracks, kept, plan, write_batch, part, rung), as_json)
    assert output is not None
    with progress_bar("batches") as update:
        outcomes = captioning.ask_in_batches(
            tracks,
            kept,
            connect,  # a client of its own: connections belong to the event loop that opened them
            plan,
            limits,
            part,
            submit=batch and not from_store,
            remembered=rungs,
            give_up=give_up_batches,
            retry_refused=retry_refused,
            interval=poll,
            on_progress=lambda progress: _show_batches(update, progress),
        )
    for outcome in outcomes:
        told = f": {outcome.message}" if outcome.message else ""
        say(f"batch {outcome.id or '(none)'}: {outcome.status}, {outcome.answers} answers{told}")
    with _panel("pseudo-caption", limits) as show:
        summary = captioning.caption_tracks(
            tracks,
            output,
            kept,
            answering,
            plan,
            show,
            limits=limits,
            shard=part,
            retry_refused=retry_refused,
            ask=not from_store,
            remembered=rungs,
        )
    _finish(summary, as_json)


def _backend(
    name: str,
    base_url: list[str] | None,
    model: str | None,
    provider: str | None,
    *,
    concurrency: int,
    timeout: float,
    structured: str,
    rungs: dict[str, str],
    api_key: str | None,
) -> Backend:
    if name == "openai":
        from dataset_builder.captioning.backends.openai_chat import ChatBackend

        if not model:
            raise UsageError("--model", "is needed with --backend openai", "name the model that the endpoint serves")
        return ChatBackend(
            model,
            base_url=base_url,
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            provider=provider,
            structured=structured,
            rungs=rungs,
        )
    if name not in BACKENDS:
        raise UsageError(f"--backend {name}", "is unknown", f"choose from {', '.join(BACKENDS)}")
    if base_url:
        raise UsageError("--base-url", "belongs to --backend openai", "add --backend openai or leave it out")
    if name == "k2c":
        from dataset_builder.captioning.backends.k2c import K2CBackend

        return K2CBackend(model) if model else K2CBackend()
    from dataset_builder.captioning.backends.local import DEFAULT_MODEL as LOCAL_MODEL
    from dataset_builder.captioning.backends.local import LocalBackend

    return LocalBackend(model or LOCAL_MODEL)


def _limits(
    backend: Backend,
    max_usd: str | None,
    max_tokens: int | None,
    max_requests: int | None,
    prices: Path | None,
    rpm: float | None,
    tpm: float | None,
    patience_minutes: float,
) -> RunLimits:
    from decimal import Decimal, InvalidOperation

    from dataset_builder.captioning.budget import BudgetLimits
    from dataset_builder.captioning.prices import load_prices
    from dataset_builder.captioning.pseudo_caption import RunLimits

    try:
        dollars = None if max_usd is None else Decimal(max_usd)
    except InvalidOperation as error:
        raise UsageError(f"--max-usd {max_usd}", "is no number", "give dollars, e.g. --max-usd 20") from error
    price = load_prices(prices).of(backend.model, backend.provider)
    return RunLimits(BudgetLimits(dollars, max_tokens, max_requests), price, rpm, tpm, patience_minutes * 60)


def _check_money(
    backend: Backend,
    plan: AskPlan,
    limits: RunLimits,
    tracks: Path,
    store: Path,
    shard: Shard,
    allow_unknown: bool,
) -> None:
    """Stop before money is spent that nobody counted or agreed to."""
    from dataset_builder.captioning.budget import check_price_known
    from dataset_builder.captioning.estimate import CONSENT_USD, needs_consent
    from dataset_builder.captioning.pseudo_caption import price_tracks

    at_home = backend.name != "openai" or backend.provider == "self-hosted"
    check_price_known(plan.model, at_home, limits.price, allow_unknown)
    if limits.price is None or limits.budget.max_usd is not None:
        return
    expected = price_tracks(tracks, store, plan, limits, shard)
    if not needs_consent(expected):
        return
    for line in expected.lines():
        say(line)
    if sys.stdin.isatty() and typer.confirm("Go on?", err=True):
        return
    raise UsageError(
        f"--model {plan.model}",
        f"the run may cost more than ${CONSENT_USD}",
        "say how much it may cost with --max-usd, or look at it with --estimate",
    )


def _show_estimate(found: Estimate, as_json: bool) -> None:
    def text() -> None:
        for line in found.lines():
            print(line)

    emit(found.to_dict(), as_json, text)
    raise typer.Exit(EXIT_DONE)


def _show_files(files: list[BatchFile], as_json: bool) -> None:
    listed = [{"file": str(file.path), "requests": file.requests, "command": file.command} for file in files]

    def text() -> None:
        for file in files:
            print(f"{file.requests} requests in {file.path}\n    {file.command}")
        print("Run them, then the same lpmc command with --read-batch in the place of --write-batch.")

    emit(listed, as_json, text)
    raise typer.Exit(EXIT_DONE)


def _show_results(report: ResultReport) -> None:
    faults = ", ".join(f"{count} {kind}" for kind, count in report.faults.items()) or "none"
    say(f"{report.answers} answers read; faults: {faults}")
    for reason, count in report.problems.items():
        say(f"{count} lines not used: {reason}, e.g. {report.examples[reason]}")


def _show_batches(update: Callable[..., None], progress: BatchProgress) -> None:
    done = sum(state.completed for state in progress.under_way)
    total = sum(state.total for state in progress.under_way)
    states = ", ".join(f"{state.id} {state.status}" for state in progress.under_way[:3]) or "no batch"
    update(done, total, f"{states}; {progress.waiting_files} files waiting, {progress.answers} answers read")


def _show_preview(rows: list[Any], as_json: bool) -> None:
    shown = [
        {
            "track_id": row.track_id,
            "instruction": row.instruction,
            "prompt": [{"role": message.role, "content": message.content} for message in request.prompt.messages],
            "caption": row.caption,
            "outcome": row.outcome,
            "reason": row.reason,
            "caption_origin": row.caption_origin,
            "tag_coverage": row.tag_coverage,
            "unsupported": list(row.unsupported),
        }
        for request, row in rows
    ]

    def text() -> None:
        seen: set[str] = set()
        for item in shown:
            print(f"--- {item['track_id']}, {item['instruction']}: {item['outcome']}")
            for message in item["prompt"]:
                again = message["content"] in seen and message["role"] == "system"
                print(f"[{message['role']}] {'(as above)' if again else message['content']}")
                seen.add(message["content"])
            reason = f"   ({item['reason']})" if item["reason"] else ""
            print(f"=> {item['caption']}{reason}")
        print("These answers are stored; run the same command without --preview for the rest.")

    emit(shown, as_json, text)
    raise typer.Exit(EXIT_DONE)


@contextmanager
def _panel(title: str, limits: RunLimits) -> Iterator[Callable[[AskProgress, int], None]]:
    """Give `show(progress, total)` for the live panel."""
    import time

    from dataset_builder.captioning.panel import RunSnapshot, run_panel

    started = time.monotonic()
    with run_panel(title) as draw:

        def show(progress: AskProgress, total: int) -> None:
            draw(
                RunSnapshot(
                    progress.jobs,
                    total,
                    started,
                    progress.reused,
                    progress.sent,
                    progress.answers,
                    progress.faults,
                    progress.rate_limited,
                    progress.rejected,
                    progress.failed,
                    progress.in_flight,
                    progress.limit,
                    progress.prompt_tokens,
                    progress.completion_tokens,
                    progress.cost,
                    progress.cost_before,
                    limits.budget.max_usd,
                    progress.note,
                )
            )

        yield show


def _finish(summary: CaptioningSummary, as_json: bool) -> None:
    def text() -> None:
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(summary.outcomes.items()))
        print(f"{summary.rows} captions of {summary.tracks} tracks in {summary.output}: {outcomes}")
        print(
            f"{summary.template_fallbacks} rows carry the template in place of an answer; "
            f"{summary.requests_sent} requests sent, {summary.answers_bought} answers bought "
            f"({summary.prompt_tokens} + {summary.completion_tokens} tokens), {summary.jobs_reused} rows from the store"
        )
        for alarm in summary.alarms:
            say(f"notice: {alarm}")
        print(f"next: lpmc build {summary.output} --tracks TRACKS --config NAME")

    emit(asdict(summary), as_json, text)
    raise typer.Exit(EXIT_PARTIAL if summary.failed else EXIT_DONE)


def report(
    stores: Annotated[list[Path], typer.Argument(help="The --store of a run; of a sharded run, all of them.")],
    as_json: JsonFlag = False,
) -> None:
    """What a store holds: outcomes that add up to the input, tokens, cost, faithfulness, openers. Reads only."""
    from dataset_builder.captioning.report import report_lines, store_report

    found = store_report(stores)

    def text() -> None:
        for line in report_lines(found):
            print(line)

    emit(found, as_json, text)


def merge_shards(
    tables: Annotated[list[Path], typer.Argument(help="The captions tables of every --shard I/N of one run.")],
    tracks: Annotated[Path, typer.Option("--tracks", help="The tracks table (Parquet) that was captioned.")],
    output: Annotated[Path, typer.Option("--output", help="The captions table to write (Parquet).")],
    as_json: JsonFlag = False,
) -> None:
    """Put the tables of a sharded run together: the same table that one process would have written."""
    from dataset_builder.captioning.finish import merge_shards as merge

    ledger = merge(tables, tracks, output)
    found = {"output": str(output), "rows": ledger.rows, "outcomes": dict(ledger.outcomes)}
    counts = ", ".join(f"{count} {name}" for name, count in sorted(ledger.outcomes.items()))
    emit(found, as_json, lambda: print(f"{ledger.rows} captions in {output}: {counts}"))
