"""How well `extract_facts` reads captions, held against labels made by hand (`fact_labels/RULES.md`).

    python tests/caption_metrics/fact_calibration.py PUBLISHED_CAPTIONS

prints the tables of `caption_metrics/CALIBRATION.md`. PUBLISHED_CAPTIONS is the folder of the published result files.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caption_metrics.facts import CATEGORIES, Fact, extract_facts, with_kinds
from caption_metrics.lexicon import lexicon_values, load_lexicon, tokenize

FOLDER = Path(__file__).with_name("fact_labels")
LABELS, SECOND_LABELS = FOLDER / "labels.jsonl", FOLDER / "second_labels.jsonl"
SPLITS = ("development", "held-out")
PUBLISHED_ROWS = 2_839
DRAWN = (  # file, field, captions
    ("caption_writing", "ground_truth", 120),
    ("caption_writing", "prediction", 60),
    ("caption_attribute_prediction", "prediction", 40),
    ("baseline_k2c", "prediction", 20),
)
SEED, SAMPLES = 0, 2_000  # of the bootstrap over captions
OTHER = "OTHER: "  # before the words of a fact for which the lexicon has no value


@dataclass(frozen=True)
class Labels:
    """The labels of one caption: where it stands, and the facts as written down ("instrument:piano")."""

    file: str
    row: int
    field: str
    facts: tuple[str, ...]
    denied: tuple[str, ...] = ()
    sha256: str = ""
    split: str = ""

    @property
    def place(self) -> tuple[str, int, str]:
        return self.file, self.row, self.field

    def stated(self) -> frozenset[Fact]:
        return frozenset(map(labelled_fact, self.facts))


def read_labels(path: Path) -> list[Labels]:
    """One line, one caption."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Labels(**{**row, "facts": tuple(row["facts"]), "denied": tuple(row.get("denied", ()))}) for row in rows]


def labelled_fact(label: str) -> Fact:
    """The fact of a label. Words that were `OTHER` become a fact of the lexicon once it lists them in the category."""
    category, _, value = label.partition(":")
    if value.startswith(OTHER):
        lexicon, form = load_lexicon(), tokenize(value.removeprefix(OTHER))
        for table in (lexicon.forms, lexicon.weak, lexicon.whole):
            for fact in table.get(form, ()):
                if fact.category == category:
                    return fact
    return Fact(category, value)


def is_known(fact: Fact) -> bool:
    """Whether the lexicon has the value; keys, BPM numbers and decades are open."""
    return not fact.value.startswith(OTHER)


def drawn_places() -> Iterator[tuple[tuple[str, int, str], str]]:
    """The places that the seed draws, each with its half; the rule that RULES.md states."""
    rng = random.Random(6)
    rows = rng.sample(range(PUBLISHED_ROWS), sum(count for _, _, count in DRAWN))
    start = 0
    for file, field, count in DRAWN:
        mine = rows[start : start + count]
        start += count
        held_out = set(rng.sample(mine, count // 2))
        rng.sample(sorted(held_out), count // 4)  # the second reader's
        for row in mine:
            yield (file, row, field), "held-out" if row in held_out else "development"


def captions_of(folder: Path, labels: Iterable[Labels]) -> list[str]:
    """The captions that were labelled, in order. Raises `ValueError` when one is not the text that was labelled."""
    files: dict[str, list[dict[str, str]]] = {}
    texts: list[str] = []
    for label in labels:
        if label.file not in files:
            files[label.file] = json.loads((folder / label.file / "inference.json").read_text(encoding="utf-8"))
        text = files[label.file][label.row][label.field]
        if hashlib.sha256(text.encode()).hexdigest()[:16] != label.sha256:
            raise ValueError(f"{label.place}: not the caption that was labelled")
        texts.append(text)
    return texts


Counts = NDArray[np.int64]  # (captions, categories, 4): claimed, supported, stated, found


def count(claimed: Sequence[frozenset[Fact]], stated: Sequence[frozenset[Fact]]) -> Counts:
    """The four counts of `FactCounts` for each caption and category of `CATEGORIES`."""
    table = np.zeros((len(claimed), len(CATEGORIES), 4), dtype=np.int64)
    for row, (mine, theirs) in enumerate(zip(claimed, stated, strict=True)):
        for column, facts in enumerate((mine, mine & with_kinds(theirs), theirs, theirs & with_kinds(mine))):
            for fact in facts:
                table[row, CATEGORIES.index(fact.category), column] += 1
    return table


def shares(counts: Counts) -> NDArray[np.float64]:
    """Precision, recall and F1 (..., 3) of summed counts (..., 4); NaN where there is nothing to divide by."""
    claimed, supported, stated, found = np.moveaxis(np.asarray(counts, float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = supported / claimed, found / stated
        return np.stack([precision, recall, 2 * precision * recall / (precision + recall)], axis=-1)


def interval(counts: Counts, places: Sequence[int]) -> NDArray[np.float64]:
    """The 95 % interval (2, 3) of precision, recall and F1 over the categories `places`: captions drawn again."""
    rows = counts[:, list(places)].sum(axis=1)
    drawn = np.random.default_rng(SEED).integers(0, len(rows), (SAMPLES, len(rows)))
    return np.nanpercentile(shares(rows[drawn].sum(axis=1)), [2.5, 97.5], axis=0)


def measured(folder: Path) -> dict[str, Counts]:
    """The extractor's counts on each half of the labelled captions."""
    labels = read_labels(LABELS)
    texts = captions_of(folder, labels)
    result: dict[str, Counts] = {}
    for split in SPLITS:
        chosen = [(text, label) for text, label in zip(texts, labels, strict=True) if label.split == split]
        result[split] = count([extract_facts(text) for text, _ in chosen], [label.stated() for _, label in chosen])
    return result


def known_recall(folder: Path, split: str) -> float:
    """Recall of those labelled facts for which the lexicon has a value."""
    labels = [label for label in read_labels(LABELS) if label.split == split]
    claimed = [extract_facts(text) for text in captions_of(folder, labels)]
    known = [frozenset(filter(is_known, label.stated())) for label in labels]
    return float(shares(count(claimed, known).sum(axis=(0, 1)))[1])


def kappa(first: Sequence[frozenset[Fact]], second: Sequence[frozenset[Fact]], category: str) -> float:
    """Cohen's kappa of two readers over all pairs of a caption and a value that either of them used at all.

    Both readers' facts are taken with what they imply. NaN where neither used a value.
    """
    sides = [
        [{fact for fact in with_kinds(facts) if fact.category == category} for facts in side]
        for side in (first, second)
    ]
    values = sorted(set().union(*sides[0], *sides[1]))
    if not values:
        return float("nan")
    one, two = (np.array([[value in facts for value in values] for facts in side]) for side in sides)
    agreed, by_chance = np.mean(one == two), one.mean() * two.mean() + (1 - one.mean()) * (1 - two.mean())
    return float((agreed - by_chance) / (1 - by_chance))


def agreement() -> tuple[list[frozenset[Fact]], list[frozenset[Fact]]]:
    """What the first and the second reader stated on the captions that both labelled."""
    first = {label.place: label.stated() for label in read_labels(LABELS)}
    second = read_labels(SECOND_LABELS)
    return [first[label.place] for label in second], [label.stated() for label in second]


def bad_labels(labels: Iterable[Labels]) -> list[str]:
    """Labels that name no category or no value of the lexicon, no open value, and are not marked as OTHER."""
    wrong: list[str] = []
    for label in labels:
        for text in (*label.facts, *label.denied):
            category, _, value = text.partition(":")
            open_value = category in CATEGORIES and extract_facts(value) == {Fact(category, value)}
            if not (open_value or value.startswith(OTHER) or value in lexicon_values(category)):
                wrong.append(f"{label.place}: {text}")
    return wrong


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _row(name: str, counts: Counts, places: Sequence[int]) -> str:
    sums = counts[:, list(places)].sum(axis=(0, 1))
    values, bounds = shares(sums), interval(counts, places) if sums.all() else np.full((2, 3), np.nan)
    cells = [
        _cell(value) + ("" if np.isnan(low) else f" ({_cell(low)} to {_cell(high)})")
        for value, low, high in zip(values, *bounds, strict=True)
    ]
    return f"| {name} | {sums[2]} | {sums[0]} | {' | '.join(cells)} |"


def _tables(folder: Path) -> Iterator[str]:
    for split, counts in measured(folder).items():
        yield f"\n**{split}**, {len(counts)} captions\n"
        yield "| category | labelled | claimed | precision | recall | F1 |\n|---|---|---|---|---|---|"
        for place, category in enumerate(CATEGORIES):
            yield _row(category, counts, [place])
        yield _row("all (micro)", counts, range(len(CATEGORIES)))
        by_caption = counts.sum(axis=1)
        means = [np.nanmean(column) for column in shares(by_caption).T]
        yield f"| mean over captions | | | {' | '.join(_cell(float(mean)) for mean in means)} |"
        by_kind: dict[str, list[int]] = {}
        chosen = [label for label in read_labels(LABELS) if label.split == split]
        for row, label in enumerate(chosen):
            by_kind.setdefault(f"{label.file} {label.field}", []).append(row)
        f1 = {kind: _cell(float(shares(counts[rows].sum(axis=(0, 1)))[2])) for kind, rows in by_kind.items()}
        yield f"\nF1 by kind: {', '.join(f'{kind} ({len(by_kind[kind])}) {value}' for kind, value in f1.items())}"
        yield f"\nRecall of the facts that the lexicon has a value for: {_cell(known_recall(folder, split))}"
    labels = read_labels(LABELS)
    other = [fact for label in labels for fact in label.stated() if not is_known(fact)]
    words = Counter(str(fact).replace(OTHER, "") for fact in other)
    by_category = dict(Counter(sorted(fact.category for fact in other)))
    yield f"\nNo value in the lexicon: {len(other)} labels, {by_category}; {words.most_common(12)}"
    if SECOND_LABELS.exists():
        first, second = agreement()
        counts = count(second, first)
        yield f"\n**second reader**, {len(first)} captions\n"
        yield "| category | first | second | F1 | kappa |\n|---|---|---|---|---|"
        for place, category in enumerate(CATEGORIES):
            sums = counts[:, place].sum(axis=0)
            f1, agreed = _cell(float(shares(sums)[2])), f"{kappa(first, second, category):.2f}".replace("nan", "-")
            yield f"| {category} | {sums[2]} | {sums[0]} | {f1} | {agreed} |"
        sums = counts.sum(axis=(0, 1))
        low, high = interval(counts, range(len(CATEGORIES)))[:, 2]
        f1 = float(shares(sums)[2])
        yield f"| all (micro) | {sums[2]} | {sums[0]} | {_cell(f1)} ({_cell(low)} to {_cell(high)}) | |"
        labels = read_labels(SECOND_LABELS)
        held = {label.place: label for label in read_labels(LABELS)}
        texts = captions_of(folder, [held[label.place] for label in labels])
        claimed = [extract_facts(text) for text in texts]
        for name, stated in (("first", first), ("second", second)):
            values = shares(count(claimed, stated).sum(axis=(0, 1)))
            yield f"\nThe extractor on these captions against the {name} reader: {', '.join(map(_cell, values))}"


if __name__ == "__main__":
    for line in _tables(Path(sys.argv[1])):
        print(line)
