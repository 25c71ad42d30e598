"""What stores hold, for a person and as JSON: every plan with its outcomes, what was sent, spent and found.

Stores are only read, without their lock, so a run may be under way. The stores of several shards are added up. A plan
whose last run is finished is reported from the ledger that the run left; of one that is not, the verdicts are read.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.ledger import Ledger
from dataset_builder.captioning.parsing import Parsed, parse_answer
from dataset_builder.captioning.prices import COSTS_PER_DOLLAR, exact_dollars, format_dollars
from dataset_builder.captioning.store_reader import open_store_to_read

_ROW_FIELDS = frozenset(field.name for field in fields(CaptionRow))


@dataclass
class _Plan:
    """A plan over all stores: the last run of each, and their rows."""

    facts: Mapping[str, Any]
    started: float
    last: float
    runs: int = 0
    jobs: int = 0
    unfinished: int = 0  # stores whose last run of the plan has not ended
    jobs_by_instruction: Counter[str] | None = field(default_factory=Counter)  # None: not known (shards)
    ledger: Ledger = field(default_factory=Ledger)


def store_report(stores: Sequence[Path]) -> dict[str, Any]:
    """The report of one store, or of the stores of all shards of a run. Raises `TableError` when one can't be read."""
    plans: dict[str, _Plan] = {}
    attempts: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    batches: Counter[str] = Counter()
    for path in stores:
        with open_store_to_read(path) as database:
            database.execute("BEGIN")  # one moment of the store, however long the reading takes
            _add_plans(database, plans)
            attempts.update(_attempts(database))
            tokens.update(_answer_tokens(database))
            batches.update(dict(database.execute("SELECT status, count(*) FROM batch GROUP BY status")))
            database.execute("COMMIT")
    return {
        "stores": [str(path) for path in stores],
        "requests": _requests(attempts),
        "tokens": {"prompt": tokens["prompt"], "completion": tokens["completion"]},
        "spent": _spent(attempts),
        "batches": dict(batches),
        "plans": [_plan_dict(signature, plan) for signature, plan in plans.items()],
    }


def _add_plans(database: sqlite3.Connection, plans: dict[str, _Plan]) -> None:
    """Add the plans of one store to those of the others."""
    runs: dict[str, list[dict[str, Any]]] = {}
    rows = database.execute(
        "SELECT signature, plan.facts, started_at, ended_at, jobs, run.facts, ledger"
        " FROM run JOIN plan ON plan.id = run.plan ORDER BY run.id"
    )
    for signature, plan_facts, started, ended, jobs, facts, ledger in rows:
        run = {"facts": json.loads(facts), "started": started, "ended": ended, "jobs": jobs, "ledger": ledger}
        plan = plans.get(signature)
        if plan is None:
            plan = plans[signature] = _Plan(json.loads(plan_facts), started, started)
        plan.runs += 1
        plan.started = min(plan.started, started)
        plan.last = max(plan.last, ended or started)
        runs.setdefault(signature, []).append(run)
    for signature, found in runs.items():
        # A preview asks for a few rows and a hand-in of batches for none: they stand for the plan only while there is
        # no run over the whole input.
        last = next((run for run in reversed(found) if "instructions" in run["facts"]), found[-1])
        _add_run(database, signature, plans[signature], last)


def _add_run(database: sqlite3.Connection, signature: str, plan: _Plan, run: Mapping[str, Any]) -> None:
    plan.jobs += run["jobs"]
    instructions = run["facts"].get("instructions")
    if instructions is None or "shard" in run["facts"] or plan.jobs_by_instruction is None:
        plan.jobs_by_instruction = None
    else:
        plan.jobs_by_instruction.update({name: run["jobs"] // len(instructions) for name in instructions})
    if run["ledger"] is not None:
        plan.ledger.absorb(json.loads(run["ledger"]))
        return
    plan.unfinished += 1
    plan.last = max([plan.last, *_last_answer(database)])
    for row in _judged_rows(database, signature, instructions):
        plan.ledger.add(row)


def _last_answer(database: sqlite3.Connection) -> list[float]:
    return [time for (time,) in database.execute("SELECT max(answered_at) FROM answer") if time is not None]


def _judged_rows(
    database: sqlite3.Connection, signature: str, instructions: Sequence[str] | None
) -> Iterator[CaptionRow]:
    """The rows that are settled so far, each (track, instruction) once."""
    seen: set[int] = set()  # hashes: two million pairs of texts would take half a gigabyte
    rows = database.execute(
        "SELECT track, instruction, outcome, record, text, model, prompt_tokens, completion_tokens"
        " FROM verdict LEFT JOIN answer ON answer.request = verdict.request"
        " WHERE plan = (SELECT id FROM plan WHERE signature = ?)",
        (signature,),
    )
    for track, instruction, outcome, record, text, model, prompt_tokens, completion_tokens in rows:
        identity = hash((track, instruction))
        if identity in seen or (instructions is not None and instruction not in instructions):
            continue
        seen.add(identity)
        judged: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(record).items()
            if name in _ROW_FIELDS
        }
        judged |= {"model_answered": model, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        judged |= {"track_id": track, "instruction": instruction, "outcome": outcome, "caption": None}
        if outcome == "ok" and text is not None and isinstance(parsed := parse_answer(instruction, text), Parsed):
            judged["caption"] = parsed.caption
        yield CaptionRow(**judged)


def _attempts(database: sqlite3.Connection) -> Counter[str]:
    """Attempts by how they ended (`open`: not yet), and `cost ...` sums in 1e-12 dollars."""
    counts: Counter[str] = Counter()
    rows = database.execute(
        "SELECT coalesce(kind, 'open'), count(*), coalesce(sum(price), 0), sum(price IS NULL) FROM"
        " (SELECT kind, CASE WHEN kind IS NULL THEN reserved_cost ELSE cost END AS price FROM attempt) GROUP BY kind"
    )
    for kind, count, cost, unpriced in rows:
        counts[kind] += count
        counts["cost open" if kind == "open" else "cost settled"] += cost
        counts["cost unpriced"] += unpriced
    return counts


def _answer_tokens(database: sqlite3.Connection) -> dict[str, int]:
    row = database.execute(
        "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM answer"
    ).fetchone()
    return {"prompt": row[0], "completion": row[1]}


def _requests(attempts: Counter[str]) -> dict[str, Any]:
    kinds = {kind: count for kind, count in attempts.items() if not kind.startswith("cost ")}
    sent = sum(kinds.values())
    answered, lost, waiting = (kinds.pop(kind, 0) for kind in ("answer", "lost", "open"))
    failed = {kind: kinds[kind] for kind in sorted(kinds)}
    return {"sent": sent, "answered": answered, "failed": failed, "lost": lost, "open": waiting}


def _spent(attempts: Counter[str]) -> dict[str, Any]:
    """Dollars as decimal strings. `usd` is None when the price of any request is unknown: then nothing is the sum."""
    unpriced = attempts["cost unpriced"]
    settled, waiting = attempts["cost settled"], attempts["cost open"]
    return {
        "usd": None if unpriced else exact_dollars(settled),
        "usd_reserved": None if unpriced else exact_dollars(waiting),
        "usd_of_priced": exact_dollars(settled) if settled else None,
        "unpriced_requests": unpriced,
    }


def _plan_dict(signature: str, plan: _Plan) -> dict[str, Any]:
    account = plan.ledger.to_dict()
    finished = not plan.unfinished
    settled = plan.ledger.rows
    by_instruction = {}
    for name in dict.fromkeys([*(plan.jobs_by_instruction or ()), *account["by_instruction"]]):
        outcomes = dict(account["by_instruction"].get(name, {}).get("outcomes", {}))
        if plan.jobs_by_instruction is not None:
            outcomes["pending"] = max(plan.jobs_by_instruction[name] - sum(outcomes.values()), 0)
        by_instruction[name] = outcomes
    return {
        "signature": signature,
        "facts": dict(plan.facts),
        "models_answered": account["models_answered"],
        "first_run": _date(plan.started),
        "last_change": _date(plan.last),
        "runs": plan.runs,
        "finished": finished,
        "jobs": plan.jobs,
        "outcomes": account["outcomes"] | {"pending": max(plan.jobs - settled, 0)},
        "no_longer_asked": max(settled - plan.jobs, 0),
        "outcomes_by_instruction": by_instruction,
        "ledger": account,
    }


def _date(time: float) -> str:
    return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="seconds")


# --- for a person ---------------------------------------------------------------------------------------------------


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as lines of text."""
    requests, tokens = report["requests"], report["tokens"]
    failed = ", ".join(f"{count:,} {kind}" for kind, count in requests["failed"].items()) or "none"
    lines = [
        f"store: {', '.join(report['stores'])}",
        f"requests: {requests['sent']:,} sent, {requests['answered']:,} answered, {requests['lost']:,} lost,"
        f" {requests['open']:,} under way; failed: {failed}",
        f"tokens: {tokens['prompt']:,} in, {tokens['completion']:,} out",
        f"spent: {_spent_words(report['spent'])}",
    ]
    if report["batches"]:
        lines.append("batches: " + ", ".join(f"{count:,} {status}" for status, count in report["batches"].items()))
    if not report["plans"]:
        lines.append("no run was started from this store")
    for plan in report["plans"]:
        lines += ["", *_plan_lines(plan)]
    return lines


def _spent_words(spent: Mapping[str, Any]) -> str:
    if spent["usd"] is None:
        known = f"; {_dollars(spent['usd_of_priced'])} for the others" if spent["usd_of_priced"] else ""
        return f"unknown ({spent['unpriced_requests']:,} requests went out without a known price{known})"
    waiting = f", at most {_dollars(spent['usd_reserved'])} more under way" if Decimal(spent["usd_reserved"]) else ""
    return f"{_dollars(spent['usd'])}{waiting}"


def _dollars(exact: str) -> str:
    return format_dollars(int(Decimal(exact) * COSTS_PER_DOLLAR))


def _plan_lines(plan: Mapping[str, Any]) -> list[str]:
    facts, account = plan["facts"], plan["ledger"]
    answered = ", ".join(f"{name} ({count:,})" for name, count in account["models_answered"].items()) or "nobody yet"
    lines = [
        f"plan {plan['signature'][:12]}: {facts.get('model')} at {facts.get('provider')}, wording"
        f" {facts.get('wording')} {facts.get('wording_version')}; answered: {answered}",
        f"  {plan['runs']:,} runs, {plan['first_run']} to {plan['last_change']},"
        f" {'finished' if plan['finished'] else 'not finished'}; {plan['jobs']:,} captions asked for",
    ]
    names = list(
        dict.fromkeys([*plan["outcomes"], *(n for part in plan["outcomes_by_instruction"].values() for n in part)])
    )
    rows = [
        [
            name,
            *(
                "-" if outcome == "pending" and outcome not in part else f"{part.get(outcome, 0):,}"
                for outcome in names
            ),
        ]
        for name, part in plan["outcomes_by_instruction"].items()
    ]
    rows.append(["all", *(f"{plan['outcomes'].get(outcome, 0):,}" for outcome in names)])
    lines += _columns(["", *names], rows)
    if plan["no_longer_asked"]:
        lines.append(f"  {plan['no_longer_asked']:,} of these are settled captions that the last run did not ask for")
    if account["template_fallbacks"]:
        lines.append(f"  {account['template_fallbacks']:,} rows carry a template caption in the place of a missing one")
    lines += _caption_lines(account)
    if not plan["finished"]:
        lines.append("  near-duplicates and contradictions are counted when the run ends")
    lines += [f"  why not: {count:,} x {reason}" for reason, count in account["reasons"].items()]
    lines += [f"  ALARM {alarm}" for alarm in account["alarms"]]
    return lines


def _caption_lines(account: Mapping[str, Any]) -> list[str]:
    rows, details = [], []
    for name, part in account["by_instruction"].items():
        if not part["outcomes"].get("ok"):
            continue
        words, coverage, opener = part["words"], part["tag_coverage"], next(iter(part["openers"]), None)
        rows.append(
            [
                name,
                "-" if words["mean"] is None else f"{words['mean']:.1f} ({words['p10']}-{words['p90']})",
                "-" if coverage["mean"] is None else f"{coverage['mean']:.1%} / {coverage['median']:.0%}",
                _percent(part["unsupported"]["any"]),
                _percent(part["near_duplicates"]),
                _percent(part["contradictions"]),
                "-" if opener is None else f"{opener['opener']!r} {opener['share']:.1%}",
            ]
        )
        for title, shares in (("unsupported", part["unsupported"]["by_category"]), ("style", part["soft"])):
            if shares:
                found = ", ".join(f"{what} {_percent(share)}" for what, share in shares.items())
                details.append(f"  {name}, {title}: {found}")
    header = ["", "words (10-90 %)", "tags covered", "unsupported", "near-duplicates", "contradictions", "opener"]
    return (_columns(header, rows) if rows else []) + details


def _percent(share: Mapping[str, Any] | None) -> str:
    """A share with its 95 % interval; a dash when nothing was looked at."""
    if share is None or share["share"] is None:
        return "-"
    return f"{share['share']:.1%} ({100 * share['low']:.1f}-{100 * share['high']:.1f})"


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right, each as wide as it needs to be."""
    lines = (header, *rows)
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    padded = [
        [
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return ["  " + "  ".join(line).rstrip() for line in padded]
