"""A score card or a comparison for readers: the terminal (rich) or Markdown, with signatures under every table.

Both are made from the same rows of text, so that they say the same. A score that does not beat every blind row carries
a mark that is no colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from caption_metrics.blind import OWN_SHUFFLED
from caption_metrics.score import PER_CAPTION, Interval, Score, ScoreCard

if TYPE_CHECKING:
    from caption_metrics.compare import Comparison

LABELS = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rougeL": "ROUGE-L",
    "bertscore": "BERTScore F1",
    "similarity": "sentence similarity",
    "fense": "FENSE",
    "fluency_errors": "captions with errors",
    "clap": "CLAP similarity",
    "retrieval_r1": "caption to audio R@1",
    "retrieval_r5": "caption to audio R@5",
    "retrieval_r10": "caption to audio R@10",
    "meteor_java_1.5": "METEOR 1.5 (Java)",
    "cider": "CIDEr (x100)",
    "length_avg": "words a caption",
    "length_std": "  standard deviation",
    "vocab_size": "vocabulary",
    "vocab_size_released": "vocabulary (released code)",
    "vocab_novelty": "new words (Novel_v)",
    "vocab_novelty_released": "new words (released code)",
    "caption_novelty": "new captions (Novel_c)",
    "facts_precision": "facts: precision",
    "facts_recall": "facts: recall",
    "facts_f1": "facts: F1",
    "facts_hallucination_rate": "facts: hallucinated",
    "tag_coverage": "tags covered",
    "unsupported_instrument_rate": "captions with an unsupported instrument",
}
BLIND_LABELS = {
    "constant": "blind: constant",
    "constant_best": "blind: best training caption",
    "shuffled": "blind: shuffled",
    "majority_template": "blind: top tags",
    OWN_SHUFFLED: "blind: own captions shuffled",
}
NOT_PERCENT = frozenset({"length_avg", "length_std", "vocab_size", "vocab_size_released"})
MARK = "!"  # beside a blind value that the system does not beat
BETTER, WORSE = "+", "-"  # beside a difference whose corrected p is small


@dataclass(frozen=True)
class Grid:
    """A table as text: a title, the heads of the columns, rows of cells, and lines below."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()

    def rich(self) -> RenderableType:
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for place, head in enumerate(self.heads):
            table.add_column(head, justify="right" if place else "left", no_wrap=not place)
        for row in self.rows:
            table.add_row(*(_coloured(cell) for cell in row))
        return Group(table, *(Text(line) for line in self.below))

    def markdown(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

        rule = "|" + "---|" + "---:|" * (len(self.heads) - 1)
        lines = [f"**{self.title}**", "", line(self.heads), rule, *map(line, self.rows)]
        return "\n".join([*lines, "", *(f"{text}  " for text in self.below)]) + "\n"


def _coloured(cell: str) -> str:
    text, first = escape(cell), cell.partition("\n")[0]
    if first.endswith((f" {MARK}", f" {WORSE}")):
        return f"[red]{text}[/red]"
    return f"[green]{text}[/green]" if first.endswith(f" {BETTER}") else text


# --- one card -------------------------------------------------------------------------------------------------------


def render_table(card: ScoreCard) -> RenderableType:
    """The whole card for the terminal: scores beside blind rows, facts by category, warnings, slices, signatures."""
    parts = [grid.rich() for grid in card_grids(card)]
    for slices in (card.slices, card.regions):
        if slices is not None:
            from rich.markdown import Markdown

            parts.append(Markdown(slices.markdown()))
    return Group(*parts, *(Text(line) for line in (*_warnings(card), *_signatures(card))))


def card_markdown(card: ScoreCard) -> str:
    """The whole card as Markdown."""
    parts = [grid.markdown() for grid in card_grids(card)]
    parts += [slices.markdown() for slices in (card.slices, card.regions) if slices is not None]
    warnings, signatures = _warnings(card), _signatures(card)
    if warnings:
        parts.append("\n".join(f"- {line}" for line in warnings) + "\n")
    return "\n".join([*parts, "```text", *signatures, "```", ""])


def card_grids(card: ScoreCard) -> list[Grid]:
    """The tables of a card: its scores, and facts by category where there are any."""
    heads = [f"{card.n:,} captions", "score"]
    if card.intervals:
        heads.append(f"{_level(card)} interval")
    heads += [BLIND_LABELS.get(name, name) for name in card.blind]
    if card.beats_blind:
        heads.append("beats all")
    rows = []
    for name, value in card.scores.items():
        row = [LABELS.get(name, name), format_score(name, value)]
        if card.intervals:
            row.append(format_interval(name, card.intervals.get(name)))
        unbeaten = card.unbeaten_rows(name)
        for rival, scores in card.blind.items():
            mark = f" {MARK}" if rival in unbeaten and value is not None else ""
            row.append(format_score(name, scores.get(name)) + mark)
        if card.beats_blind:
            won = card.beaten(name)
            row.append("" if won is None or value is None else "yes" if won else f"no {MARK}")
        rows.append(tuple(row))
    grids = [Grid("Scores (percent)", tuple(heads), tuple(rows), tuple(_verdict(card)))]
    categories = _category_grid(card)
    return [*grids, categories] if categories else grids


def _category_grid(card: ScoreCard) -> Grid | None:
    if card.facts is None:
        return None
    rows = []
    for category, score in card.facts.by_category.items():
        if not score.claimed and not score.stated:
            continue
        ends = card.fact_intervals.get(category, {})
        shares = {"precision": score.precision, "recall": score.recall, "f1": score.f1}
        cells = [f"{format_score(name, value)} {_brackets(name, ends.get(name))}" for name, value in shares.items()]
        rows.append((category, *cells, f"{score.claimed:,}", f"{score.stated:,}"))
    if card.facts.per_caption is not None:
        ends = card.fact_intervals.get(PER_CAPTION, {})
        means = card.facts.per_caption.to_dict()
        cells = [f"{format_score(name, value)} {_brackets(name, ends.get(name))}" for name, value in means.items()]
        rows.append(("mean over captions", *cells, "", ""))
    heads = ("category", "precision", "recall", "F1", "claimed", "stated")
    return Grid("Facts by category (percent)", heads, tuple(rows)) if rows else None


def _verdict(card: ScoreCard) -> list[str]:
    tested = [name for name in card.beats_blind if card.scores.get(name) is not None]
    if not tested:
        return []
    won = [LABELS.get(name, name) for name in tested if card.beaten(name)]
    lost = [LABELS.get(name, name) for name in tested if not card.beaten(name)]
    lines = []
    if lost:
        lines.append(
            f"{MARK} Captions made without hearing the music are not beaten on {', '.join(lost)}: the {_level(card)} "
            "interval of the difference to a blind row reaches 0 or beyond. These scores say nothing about listening."
        )
    if won:
        lines.append(f"Every blind row is beaten on {', '.join(won)}.")
    return lines


def _warnings(card: ScoreCard) -> list[str]:
    return [
        *(f"Warning, {warning.name}: {warning.message}" for warning in card.warnings),
        *(f"{LABELS.get(name, name)}: {note}" for name, note in card.notes.items()),
    ]


def _signatures(card: ScoreCard) -> list[str]:
    """One line a signature, with the scores that share it."""
    shared: dict[str, list[str]] = {}
    for name, signature in card.signatures.items():
        shared.setdefault(signature, []).append(name)
    return [f"{', '.join(names)}: {signature}" for signature, names in shared.items()]


def _level(card: ScoreCard) -> str:
    return f"{100 * card.resampling.level:g} %" if card.resampling else ""


# --- a comparison ---------------------------------------------------------------------------------------------------


def to_terminal(result: ScoreCard | Comparison) -> RenderableType:
    """A card or a comparison for `rich.print`."""
    return render_table(result) if isinstance(result, ScoreCard) else render_comparison(result)


def to_markdown(result: ScoreCard | Comparison) -> str:
    """A card or a comparison as Markdown."""
    return card_markdown(result) if isinstance(result, ScoreCard) else comparison_markdown(result)


def render_comparison(comparison: Comparison) -> RenderableType:
    """A comparison for the terminal: scores of all systems, differences to the baseline, what was tested and how."""
    return Group(
        *(grid.rich() for grid in comparison_grids(comparison)), *(Text(line) for line in _closing(comparison))
    )


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison as Markdown."""
    parts = [grid.markdown() for grid in comparison_grids(comparison)]
    return "\n".join([*parts, "```text", *_closing(comparison), "```", ""])


def comparison_grids(comparison: Comparison) -> list[Grid]:
    """Scores with intervals, one column a system; then differences to the baseline with their p values."""
    base = comparison.cards[comparison.baseline]
    scores = []
    for score in base.scores:
        cells = [LABELS.get(score, score)]
        for card in comparison.cards.values():
            mark = f" {MARK}" if card.beaten(score) is False and card.scores.get(score) is not None else ""
            cells.append(_two_lines(score, card.scores.get(score), card.intervals.get(score), mark))
        for row, values in base.blind.items():
            if row != OWN_SHUFFLED:  # every system has its own
                cells.append(_two_lines(score, values.get(score), base.blind_intervals[row].get(score)))
        scores.append(tuple(cells))
    below = [f"[ ]: {_level(base)} intervals."]
    if comparison.blind:
        below.append(f"{MARK}: does not beat every blind row, so that the score says nothing about listening.")
    heads = ("score", *comparison.cards, *comparison.blind)
    first = Grid(f"{comparison.n:,} captions (percent)", heads, tuple(scores), tuple(below))
    return [first, *(_differences(comparison, name) for name in comparison.differences)]


def _differences(comparison: Comparison, name: str) -> Grid:
    rows = []
    for score, found in comparison.differences[name].items():
        if math.isnan(found.value):
            continue
        mark = "" if found.better is None else f"better {BETTER}" if found.better else f"worse {WORSE}"
        ends = f"{_points(found.low)} to {_points(found.high)}"
        cells = (_points(found.value), ends, _p_value(found.p), _p_value(found.p_holm), mark)
        rows.append((LABELS.get(score, score), *cells))
    level = _level(comparison.cards[comparison.baseline])
    heads = ("points", "difference", f"{level} interval", "p", "p (Holm)", "verdict")
    return Grid(f"{name} less {comparison.baseline}", heads, tuple(rows))


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _p_value(p: float) -> str:
    return "-" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _two_lines(score: str, value: Score, ends: Interval | None, mark: str = "") -> str:
    return f"{format_score(score, value)}{mark}" + (f"\n{_brackets(score, ends)}" if ends else "")


def _closing(comparison: Comparison) -> list[str]:
    lines = [f"{LABELS.get(name, name)}: {note}" for name, note in comparison.notes.items()]
    for name, card in comparison.cards.items():
        lines += [f"Warning, {name}, {warning.name}: {warning.message}" for warning in card.warnings]
    lines.append(
        f"{BETTER} / {WORSE}: better / worse than {comparison.baseline}, p at most "
        f"{1 - comparison.resampling.level:.2g} after Holm's correction over all {comparison.tests} differences. p is "
        "that of approximate randomisation, the interval that of the paired bootstrap, not corrected."
    )
    return [*lines, *_signatures(comparison.cards[comparison.baseline]), f"differences: {comparison.signature}"]


# --- cells ----------------------------------------------------------------------------------------------------------


def format_score(name: str, value: Score) -> str:
    """A score as the paper prints it: percent with two decimals, counts as they are, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if name in NOT_PERCENT else f"{100 * value:.2f}"


def format_interval(name: str, ends: Interval | None) -> str:
    """The ends of an interval as `format_score` writes them; empty for none."""
    return "" if ends is None else f"{format_score(name, ends[0])} to {format_score(name, ends[1])}"


def _brackets(name: str, ends: Interval | None) -> str:
    return "" if ends is None else f"[{format_score(name, ends[0])}, {format_score(name, ends[1])}]"


__all__ = [
    "Grid",
    "card_grids",
    "card_markdown",
    "comparison_grids",
    "comparison_markdown",
    "format_interval",
    "format_score",
    "render_comparison",
    "render_table",
    "to_markdown",
    "to_terminal",
]
