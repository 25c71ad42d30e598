"""A picture of how well systems name each category of facts, with intervals. Needs matplotlib, no display."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caption_metrics.fact_columns import CATEGORY_MEASURES
from caption_metrics.measures import CaptionTable
from caption_metrics.significance import LEVEL, SAMPLES, bootstrap_together, interval
from lpmc_errors import MissingExtraError, UsageError
from lpmc_files import atomic_path

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, told apart by most colour-blind readers; every system has a shape of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
WIDTH = 8.0  # inches
HEIGHT_OF_MARK = 0.17  # inches for one system in one category
DOTS = 150  # a PNG's dots an inch
POINT = 5.0  # size of a mark in points


def check_plot(path: Path) -> None:
    """Find out before anything is computed whether a picture can be written there.

    Raises `UsageError` for a folder or another type of file, `MissingExtraError` without matplotlib.
    """
    if path.is_dir():
        raise UsageError(path, "is a folder", "name a file for the picture, such as facts.png")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            path, f"pictures of type {path.suffix or '(none)'} are not written", f"use {', '.join(SUFFIXES)}"
        )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="plot") from error


def plot_categories(
    tables: Mapping[str, CaptionTable],
    path: Path,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> None:
    """Draw the F1 of every category of facts for every system (by name), with bootstrap intervals, into a file.

    Categories that no reference states are left out, and marks of scores that are not defined. Random: the bootstrap's
    captions, by `seed`. Raises what `check_plot` raises, and `DiskError`.
    """
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # of itself it draws without a display

    sums = {name: table.sums() for name, table in tables.items()}
    n = len(next(iter(tables.values())))
    f1 = {category: measures[2] for category, measures in CATEGORY_MEASURES.items()}
    shown = [category for category in f1 if any(found[f"facts_{category}_stated"] for found in sums.values())]
    drawn = bootstrap_together(tables, [f1[category] for category in shown], samples=samples, seed=seed)
    height = 1.6 + HEIGHT_OF_MARK * (len(tables) + 1.5) * len(shown)
    with rc_context({"svg.hashsalt": "facts", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(tables):
            offset = (place - (len(tables) - 1) / 2) * 0.8 / len(tables)
            rows = []
            for row, category in enumerate(shown):
                value = float(f1[category].value(sums[name]))
                low, high = interval(drawn[name][f1[category].name], level)
                if not np.isnan([value, low, high]).any():
                    rows.append((row + offset, 100 * value, 100 * max(value - low, 0.0), 100 * max(high - value, 0.0)))
            _draw(axes, name, place, rows)
        axes.set_yticks(range(len(shown)), [_label(category, sums) for category in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.set_xlabel(
            f"F1 of facts against the references, percent, with {100 * level:g} % intervals ({n:,} captions)"
        )
        axes.grid(axis="x", color="#dddddd")
        for edge in range(1, len(shown)):
            axes.axhline(edge - 0.5, color="#eeeeee", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=min(3, len(tables)), frameon=False)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DOTS, metadata=_METADATA.get(path.suffix.lower()))


_METADATA = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same picture, the same bytes


def _draw(axes: Any, name: str, place: int, rows: list[tuple[float, float, float, float]]) -> None:
    heights, values, below, above = np.array(rows).reshape(-1, 4).T
    axes.errorbar(
        values,
        heights,
        xerr=[below, above],
        fmt=SHAPES[place % len(SHAPES)],
        color=COLOURS[place % len(COLOURS)],
        markersize=POINT,
        elinewidth=1.2,
        capsize=2,
        label=name,
    )


def _label(category: str, sums: Mapping[str, Mapping[str, float]]) -> str:
    stated = max(found[f"facts_{category}_stated"] for found in sums.values())
    return f"{category}\n({stated:,.0f} stated)"
