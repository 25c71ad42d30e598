"""The results of a model's card: its scores, their intervals, and beside them what captions score that were made blind.

`results` is a score card as `lpmc evaluate --json` prints it, or what `training.json` keeps of one. The lint renders it
once more and lets be what it finds again word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub_cards.rendering import cell, plain

DESCRIBED = ("dataset", "split", "rows", "n", "signature", "command")  # of the results, and no scores
BLIND_TYPE = "{metric}_blind_{row}"  # of the model index; the row follows the last `_blind_`


def scores_of(results: Mapping[str, Any] | None) -> tuple[dict[str, float], dict[str, Any]]:
    """The scores of `results` by name, and what describes them. Raises `ValueError` where there is no score."""
    if results is None:
        return {}, {}
    flat = {**results, **results.get("metrics", {})}
    conditions = {name: flat[name] for name in DESCRIBED if flat.get(name) is not None}
    if isinstance(conditions.get("signature"), Mapping):
        del conditions["signature"]  # one for each metric: it stands in the metric's row
    scores = {name: value for name, value in flat.items() if name not in DESCRIBED and _is_number(value)}
    if not scores:
        raise ValueError(f"results hold no number, only {', '.join(results) or 'nothing'}")
    return scores, conditions


def interval_of(results: Mapping[str, Any], name: str) -> list[float] | None:
    """The ends of a score's interval; None where it has none."""
    ends = (results.get("intervals") or {}).get(name)
    return list(ends) if isinstance(ends, (list, tuple)) and len(ends) == 2 and all(map(_is_number, ends)) else None


def blind_of(results: Mapping[str, Any], name: str) -> dict[str, float]:
    """What each blind row scores, by its name; rows without a value are left out."""
    rows = results.get("blind")
    found = {row: scores.get(name) for row, scores in rows.items()} if isinstance(rows, Mapping) else {}
    return {row: value for row, value in found.items() if _is_number(value)}


def results_lines(results: Mapping[str, Any] | None) -> list[str]:
    """The results as the lines of a Markdown table and, where there are intervals or blind rows, how they were made."""
    scores, _ = scores_of(results)
    if results is None or not scores:
        return []
    signatures = results.get("signature")
    signatures = signatures if isinstance(signatures, Mapping) else {}
    rows = [row for row in results.get("blind") or {} if any(row in blind_of(results, name) for name in scores)]
    ends = {name: found for name in scores if (found := interval_of(results, name))}
    columns = [*(["interval"] if ends else []), *(f"blind: {row}" for row in rows)]
    heads = ["metric", "value", *columns, *(["how"] if signatures else [])]
    rules = ["---", "---:", *("---:" for _ in columns), *(["---"] if signatures else [])]
    lines = [f"| {' | '.join(cell(head) for head in heads)} |", f"|{'|'.join(rules)}|"]
    for name, value in scores.items():
        cells = [name, plain(value)]
        if ends:
            cells.append(" to ".join(map(plain, ends[name])) if name in ends else "")
        blind = blind_of(results, name)
        cells += [plain(blind[row]) if row in blind else "" for row in rows]
        if signatures:
            cells.append(f"`{signatures[name]}`" if signatures.get(name) else "")
        lines.append(f"| {' | '.join(map(cell, cells))} |")
    made = [("Intervals", "intervals", ends), ("Blind rows, made without hearing the music", "blind", rows)]
    lines += [""] if any(there for *_, there in made) else []
    lines += [f"{what}: `{signatures[key]}`." for what, key, there in made if there and signatures.get(key)]
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
