"""A listening study's analysis for people and programs: the terminal, Markdown, JSON and a plot.

Where a single rating is simulated, each of the four says so in its title.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caption_metrics.rating_analysis import RatingAnalysis
from caption_metrics.rating_tables import sections, signature
from caption_metrics.ratings import QUESTIONS
from lpmc_files import atomic_path, write_json, write_text

if TYPE_CHECKING:
    from rich.console import Console

SIMULATED = "SIMULATED RATINGS, NOT A RESULT"
FILES = ("ratings_analysis.json", "ratings_analysis.md", "ratings_analysis.png")
# Okabe and Ito's colours, which people with colour blindness tell apart: blue, grey, vermilion.
COLOURS = {"win": "#0072B2", "tie": "#999999", "lose": "#D55E00"}
NARROW = 6  # % of a bar below which its number does not fit into it
LONGEST_LABEL = 40  # characters of a system's name in the plot


def report_title(analysis: RatingAnalysis) -> str:
    """The title, which says whether anything is simulated."""
    title = f"Listening study {analysis.study}"
    return f"{title}: {SIMULATED}" if analysis.simulated else title


def to_dict(analysis: RatingAnalysis) -> dict[str, Any]:
    """Everything, for JSON; `title` and `simulated` say whether it is a result at all.

    `kept` is the result to report, over the raters whom no rule excludes; `everyone` is over all.
    """
    told = asdict(analysis)
    told["quality"]["excluded"] = list(analysis.quality.excluded)
    told["quality"]["rules"]["text"] = analysis.quality.rules.describe()
    return {
        "title": report_title(analysis),
        "simulated": told.pop("simulated"),
        "signature": signature(analysis),
        "questions": QUESTIONS,
        **told,
    }


def markdown(analysis: RatingAnalysis) -> str:
    """The whole report as Markdown."""
    parts = [f"# {_escaped(report_title(analysis))}"]
    for section in sections(analysis):
        if section.heading:
            parts.append(f"## {_escaped(section.heading)}")
        parts += [_escaped(line) for line in section.lines]
        if section.header:
            aligned = [":---", *["---:"] * (len(section.header) - 1)]
            table = [section.header, aligned, *(map(_escaped, row) for row in section.rows)]
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
    return "\n\n".join(parts) + "\n"


def print_report(analysis: RatingAnalysis, console: Console | None = None) -> None:
    """The report on the terminal, without every two systems and each rater, which the files hold."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = console or Console()
    out.print(Text(_plain(report_title(analysis)), style="bold red" if analysis.simulated else "bold"))
    for section in sections(analysis):
        if section.detail:
            continue
        if section.heading:
            out.print(Text(f"\n{_plain(section.heading)}", style="bold"))
        for line in section.lines:
            bad = line.startswith(("Warning", "Sanity check FAILED"))
            out.print(Text(_plain(line), style="red" if bad else ""))
        if section.header:
            table = Table(box=SIMPLE_HEAD)
            for place, name in enumerate(section.header):
                table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
            for row in section.rows:
                table.add_row(*(Text(_plain(cell)) for cell in row))
            out.print(table)
    out.print("Every two systems, and each rater: --output FOLDER, or --json.")
    if analysis.simulated:
        out.print(Text(SIMULATED, style="bold red"))


def write_report(analysis: RatingAnalysis, folder: Path) -> list[Path]:
    """Write the JSON, the Markdown and the plot to `folder`; each whole or not at all. Raises `DiskError`."""
    paths = [folder / name for name in FILES]
    write_json(paths[0], to_dict(analysis))
    write_text(paths[1], markdown(analysis))
    with atomic_path(paths[2]) as temporary:
        draw_plot(analysis, temporary)
    return paths


def draw_plot(analysis: RatingAnalysis, path: Path) -> None:
    """Win, tie and lose of each pair on the left, strengths with intervals on the right; one row a question. A PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    questions = (analysis.kept or analysis.everyone).questions
    height = sum(1.3 + 0.32 * max(len(row.pairs), len(row.preference.strengths)) for row in questions)
    figure = Figure(figsize=(11, 0.9 + height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_label(report_title(analysis), 120), color="red" if analysis.simulated else "black")
    for (bars, scale), result in zip(figure.subplots(len(questions), 2, squeeze=False), questions, strict=True):
        names = [_label(f"{row.system} against {row.opponent}") for row in result.pairs]
        start = [0.0] * len(names)
        for kind, colour in COLOURS.items():
            parts = [100 * (getattr(row, kind).value or 0.0) for row in result.pairs]
            drawn = bars.barh(range(len(names)), parts, left=start, color=colour, label=kind)
            numbers = [f"{part:.0f}" if part >= NARROW else "" for part in parts]
            bars.bar_label(drawn, numbers, label_type="center", color="white")
            start = [done + part for done, part in zip(start, parts, strict=True)]
        bars.set_yticks(range(len(names)), names)
        bars.invert_yaxis()
        bars.set(xlim=(0, 100), xlabel="% of ratings: win (blue), tie (grey), lose (red)")
        bars.set_title(QUESTIONS[result.question], fontsize="medium")
        ranked = result.preference.strengths
        for place, row in enumerate(ranked):
            if row.low is not None and row.high is not None:
                scale.plot([row.low, row.high], [place, place], color=COLOURS["win"])
            scale.plot(row.value, place, "o", color=COLOURS["win"])
        scale.axvline(0, color=COLOURS["tie"], linewidth=0.8)
        scale.set_yticks(range(len(ranked)), [_label(row.system) for row in ranked])
        scale.set_ylim(len(ranked) - 0.5, -0.5)
        scale.set(xlabel=_label(f"log-odds above {result.preference.reference}"))
        scale.set_title("strength, 95 % interval", fontsize="medium")
    if analysis.simulated:
        figure.text(0.5, 0.5, "SIMULATED", fontsize=70, color="red", alpha=0.12, ha="center", va="center", rotation=20)
    figure.savefig(path, format="png", dpi=120)


def _plain(text: str) -> str:
    """Without the control characters that a name in a file may hold."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\|<*_`[#" else sign for sign in _plain(text))


def _label(text: str, longest: int = LONGEST_LABEL) -> str:
    plain = _plain(text)
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return short.replace("$", r"\$")  # matplotlib reads formulas between dollars
