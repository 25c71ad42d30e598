"""Renders the cards of the demo's Space and of the `evaluate` module, which lies in a Space of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub_cards.rendering import PAPER, front_matter, hub_ids, template, tidy

SPACE_TAGS = ["music", "music-captioning", "audio-to-text", "lp-musiccaps"]
METRIC_TAGS = ["evaluate", "metric", "music", "music-captioning", "audio-captioning"]
SHORT_DESCRIPTION = "Upload music, read what it sounds like, every 10 seconds"
_SIZE = re.compile(r"(\d+)\s*([kmg]b)", re.IGNORECASE)
_UNITS = {"kb": "kB", "mb": "MB", "gb": "GB"}
_IN_WORDS = {5: "five", 10: "ten", 15: "fifteen", 20: "twenty", 30: "thirty"}


@dataclass(frozen=True)
class SpaceFacts:
    """What the demo page allows: minutes and bytes of one upload, and the seconds that it is kept."""

    max_minutes: int
    max_file_size: str  # as the page has it, `100mb`
    keep_seconds: int


@dataclass(frozen=True)
class MetricFacts:
    """What an `evaluate` module says of itself, and the parameters of its `compute` besides the two lists of texts."""

    name: str
    description: str
    inputs: str
    options: Mapping[str, Any] = field(default_factory=dict)  # parameter -> default


def read_space(app: Path) -> SpaceFacts:
    """The facts of the page, from the constants of its app.py, which is read and not run.

    Raises `KeyError` for an app that lacks one.
    """
    found = constants(app)
    return SpaceFacts(found["MAX_MINUTES"], found["MAX_FILE_SIZE"], found["KEEP_SECONDS"])


def read_metric(module: Path) -> MetricFacts:
    """The facts of an `evaluate` module, from its source, which is read and not run.

    Raises `KeyError` for a module without `_DESCRIPTION` and `_INPUTS`.
    """
    found = constants(module)
    compute = next(
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "_compute"
    )
    names = [argument.arg for argument in compute.args.args][-len(compute.args.defaults) :]
    defaults = [ast.literal_eval(value) for value in compute.args.defaults]
    options = dict(zip(names, defaults, strict=True)) if defaults else {}
    return MetricFacts(module.stem, found["_DESCRIPTION"].strip(), found["_INPUTS"].strip(), options)


def constants(source: Path) -> dict[str, Any]:
    """The module-level names of a Python file that are bound to a literal."""
    found: dict[str, Any] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def render_space_card(
    facts: SpaceFacts,
    *,
    sdk_version: str,
    python_version: str = "3.12",
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> str:
    """The README.md of the demo's Space.

    `sdk_version` is the pinned release of Gradio. `models` and `datasets` are ids on the Hub; other names are left out.
    """
    head = {
        "title": "Music captioning (LP-MusicCaps)",
        "emoji": "🎼",
        "colorFrom": "indigo",
        "colorTo": "purple",
        "sdk": "gradio",
        "sdk_version": sdk_version,
        "python_version": python_version,
        "app_file": "app.py",
        "license": "apache-2.0",
        "short_description": SHORT_DESCRIPTION,
        "suggested_hardware": "cpu-basic",
        "startup_duration_timeout": "30m",
        "models": hub_ids(models),
        "datasets": hub_ids(datasets),
        "tags": SPACE_TAGS,
    }
    limit = _SIZE.fullmatch(facts.max_file_size)
    kept = facts.keep_seconds / 3600  # seconds of an hour
    body = template("space_card.md.j2").render(
        paper=PAPER,
        minutes=_IN_WORDS.get(facts.max_minutes, facts.max_minutes),
        file_size=f"{limit[1]} {_UNITS[limit[2].lower()]}" if limit else facts.max_file_size,
        kept="an hour" if kept == 1 else f"{kept:g} hours",
    )
    return f"---\n{front_matter(head)}\n---\n\n{tidy(body)}"


def render_metric_card(
    facts: MetricFacts,
    *,
    repo_id: str | None = None,
    results: Mapping[str, Any] | None = None,
    sdk_version: str | None = None,
    python_version: str | None = None,
    requirements: Sequence[str] = (),
) -> str:
    """The README.md of the Space that holds the `evaluate` module.

    `sdk_version` is the release of Gradio that runs the page `app.py`; without it the Space shows this card alone.
    `requirements` are the lines of its requirements.txt, where the module lies there with all that it imports.
    `results` is a score card as `lpmc evaluate --json` prints it, to show as an example with its blind rows beside the
    scores; it must lie beside the card as evaluation.json. Raises `ValueError` when it holds no score.
    """
    head = {
        "title": "Music caption metrics",
        "emoji": "📏",
        "colorFrom": "indigo",
        "colorTo": "gray",
        "sdk": "gradio" if sdk_version else "static",
        "sdk_version": sdk_version,
        "python_version": python_version,
        "app_file": "app.py" if sdk_version else None,
        "license": "apache-2.0",
        "short_description": "BLEU, METEOR, ROUGE-L and musical facts of captions",
        "tags": METRIC_TAGS,
    }
    scores = {name: value for name, value in (results or {}).items() if _is_number(value) and name != "n"}
    if results is not None and not scores:
        raise ValueError(f"results hold no score, only {', '.join(results) or 'nothing'}")
    blind = (results or {}).get("blind", {})
    body = template("metric_card.md.j2").render(
        facts=facts,
        address=repo_id or f"path/to/{facts.name}",
        install=_installed(requirements) or "'lp-musiccaps[metrics]'",
        alone=bool(requirements),
        paper=PAPER,
        results=results,
        scores=scores,
        blind={system: row for system, row in blind.items() if isinstance(row, Mapping)},
        signature=(results or {}).get("signature", {}),
    )
    return f"---\n{front_matter(head)}\n---\n\n{tidy(body)}"


def _installed(requirements: Sequence[str]) -> str:
    """Requirements as one types them after `pip install`: a release only where it is pinned."""
    return " ".join(line if "==" in line else re.split(r"[^\w.-]", line)[0] for line in requirements)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
