"""A score card for the terminal: every score beside what the blind captions get, and how it was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from caption_metrics.score import Score, ScoreCard

LABELS = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rougeL": "ROUGE-L",
    "bertscore": "BERTScore F1",
    "length_avg": "words a caption",
    "length_std": "  standard deviation",
    "vocab_size": "vocabulary",
    "vocab_size_released": "vocabulary (released code)",
    "vocab_novelty": "new words (Novel_v)",
    "caption_novelty": "new captions (Novel_c)",
    "facts_precision": "facts: precision",
    "facts_recall": "facts: recall",
    "facts_f1": "facts: F1",
    "facts_hallucination_rate": "facts: hallucinated",
    "tag_coverage": "tags covered",
    "unsupported_instrument_rate": "captions with an unsupported instrument",
}
BLIND_LABELS = {"constant": "blind: constant", "shuffled": "blind: shuffled", "majority_template": "blind: top tags"}
NOT_PERCENT = frozenset({"length_avg", "length_std", "vocab_size", "vocab_size_released"})
LOWER_IS_BETTER = frozenset({"facts_hallucination_rate", "unsupported_instrument_rate"})
NO_CONTEST = NOT_PERCENT | {"vocab_novelty", "caption_novelty"}  # more is not better


def render_table(card: ScoreCard) -> Table:
    """A rich table: one row a score (fractions x100), one column a blind row; a blind value that wins is red."""
    table = Table(title=f"{card.n:,} captions", caption=_remarks(card), caption_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("score", justify="right", style="bold")
    for name in card.blind:
        table.add_column(BLIND_LABELS.get(name, name), justify="right")
    table.add_column("signature", style="dim", overflow="fold")
    for name, value in card.scores.items():
        rivals = [_rival(name, value, row.get(name)) for row in card.blind.values()]
        table.add_row(LABELS.get(name, name), format_score(name, value), *rivals, card.signatures.get(name, ""))
    return table


def format_score(name: str, value: Score) -> str:
    """A score as the paper prints it: percent with two decimals, counts as they are, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if name in NOT_PERCENT else f"{100 * value:.2f}"


def _rival(name: str, value: Score, blind: Score) -> str:
    text = format_score(name, blind)
    if value is None or blind is None or name in NO_CONTEST:
        return text
    wins = blind < value if name in LOWER_IS_BETTER else blind > value
    return f"[red]{text}[/red]" if wins else text


def _remarks(card: ScoreCard) -> str | None:
    remarks = [f"{LABELS.get(name, name)}: {note}" for name, note in card.notes.items()]
    beaten = [
        LABELS.get(name, name)
        for name, value in card.scores.items()
        if any("[red]" in _rival(name, value, row.get(name)) for row in card.blind.values())
    ]
    if beaten:
        remarks.append(f"Captions made without hearing the music score better on {', '.join(beaten)}.")
    return "\n".join(remarks) or None
