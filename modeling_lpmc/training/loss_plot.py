"""The course of a run as a picture: losses, facts F1 beside its blind row, learning rate. Needs matplotlib, no display.

Colours are Okabe and Ito's; each line has a dash of its own as well, so that they are told apart without colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lpmc_files import atomic_path

PLOT = "loss.png"
WIDTH = 8.0  # inches
PANEL = 2.4  # inches, the height of one
DOTS = 120  # an inch
SMOOTHED_FROM = 200  # points; a longer training curve is drawn pale, with its running mean over a twentieth of it
SMOOTHING = 20  # parts

# What the trainer logs it as, how it is called, colour, dashes, mark.
_LINES = {
    "loss": ("training loss", "#0072B2", "-", ""),
    "eval_loss": ("evaluation loss", "#D55E00", "--", "o"),
    "eval_facts_f1": ("facts F1", "#009E73", "-", "s"),
    "eval_facts_f1_blind": ("facts F1, best blind row", "#000000", ":", "x"),
    "learning_rate": ("learning rate", "#CC79A7", "-", ""),
}
_PANELS = (
    ("loss (nats a token)", ("loss", "eval_loss")),
    ("facts F1", ("eval_facts_f1", "eval_facts_f1_blind")),
    ("learning rate", ("learning_rate",)),
)


def check_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_training(history: Sequence[Mapping[str, Any]], path: Path, best: int | None = None) -> bool:
    """Draw a trainer's log (`TrainerState.log_history`) into the PNG `path`; whether there was anything to draw.

    Panels without a point are left out. `best` marks the update whose weights were kept. Raises `DiskError`.
    """
    points = {name: _points(history, name) for name in _LINES}
    panels = [(title, names) for title, names in _PANELS if any(points[name] for name in names)]
    if not panels:
        return False
    from matplotlib.figure import Figure  # of itself it draws without a display

    figure = Figure(figsize=(WIDTH, PANEL * len(panels) + 0.4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True
    ):
        for name in names:
            _draw(axes, name, points[name])
        if best is not None:
            axes.axvline(best, color="#999999", linewidth=0.8, label=f"best, update {best:,}")
        axes.set_ylabel(title)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("update")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DOTS, metadata={"Software": None})  # the same picture, the same bytes
    return True


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    found = [(int(entry["step"]), float(entry[name])) for entry in history if name in entry]
    return sorted((update, value) for update, value in found if math.isfinite(value))


def _draw(axes: Any, name: str, points: Sequence[tuple[int, float]]) -> None:
    if not points:
        return
    label, colour, dash, mark = _LINES[name]
    updates, values = [update for update, _ in points], [value for _, value in points]
    smooth = not mark and name == "loss" and len(points) > SMOOTHED_FROM
    if smooth:
        width = len(points) // SMOOTHING
        means = [sum(values[max(0, i - width) : i + 1]) / (i + 1 - max(0, i - width)) for i in range(len(values))]
        axes.plot(updates, values, dash, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(updates, means, dash, color=colour, linewidth=1.4, label=f"{label}, mean of {width + 1} points")
        return
    axes.plot(
        updates,
        values,
        dash,
        color=colour,
        marker=mark or (None if len(points) > 1 else "."),
        markersize=4,
        label=label,
    )
