"""The cards' Jinja templates, and how counts, sizes and shares are printed in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

TEMPLATES = Path(__file__).parent / "templates"
PAPER = "https://arxiv.org/abs/2307.16372"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


def template(name: str) -> Template:
    """A template of this package by its file name, with the filters that the cards use."""
    environment = Environment(  # noqa: S701 - Markdown, not HTML: escaping would spoil it; cells go through `cell`
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["size"] = size
    environment.filters["percent"] = lambda share: "-" if share is None else f"{100 * share:.1f} %"
    environment.filters["interval"] = interval
    environment.filters["cell"] = cell
    environment.filters["plain"] = plain
    return environment.get_template(name)


@cache
def fixed_lines(name: str, *, masked: bool = False) -> tuple[re.Pattern[str], ...]:
    """Patterns of a template's lines whose own words hold a number; the groups are what data filled in.

    `masked` puts a `#` for every number.
    """
    patterns = []
    for line in (TEMPLATES / name).read_text(encoding="utf-8").replace("{{ paper }}", PAPER).splitlines():
        words = _JINJA.split(line)
        if any(re.search(r"\d", part) for part in words):
            words = [NUMBER.sub("#", part) for part in words] if masked else words
            patterns.append(re.compile("(.*?)".join(map(re.escape, words))))
    return tuple(patterns)


def plain(value: Any) -> str:
    """A value of a result file as a card prints it: counts with separators, measurements with six digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return str(value)


def size(count: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def interval(share: Mapping[str, Any] | None) -> str:
    """`1.2 % (0.8 to 1.9)` of a share with its 95 % interval; a dash when nothing was looked at."""
    if share is None or share["share"] is None:
        return "-"
    return f"{100 * share['share']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def cell(value: object) -> str:
    """Text for a cell of a Markdown table: one line, no bar, no markup of its own."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text.replace("<", "&lt;").replace(">", "&gt;")


def tidy(body: str) -> str:
    """A rendered body without runs of empty lines, with one line end at its end."""
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """The names and values as YAML lines without the `---`; None and empty lists are left out.

    Text that YAML would read as a number, a date or a truth value (`3.12`, `no`) is quoted, lists stand one a line.
    """
    lines: list[str] = []
    for name, value in values.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):
            lines += [f"{name}:", *(f"  - {_scalar(part)}" for part in value)]
        else:
            lines.append(f"{name}: {_scalar(value)}")
    return "\n".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        try:
            kept = yaml.safe_load(f"a: {value}") == {"a": value}
        except yaml.YAMLError:
            kept = False
        return value if kept else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def hub_ids(names: Iterable[str]) -> list[str]:
    """Those of `names` that are ids on the Hub; local folders are left out."""
    return [name for name in names if re.fullmatch(r"[\w.\-]+/[\w.\-]+", name) and not name.startswith(".")]
