"""What the lint of every card shares: front matter, licences, links, paths and keys that must not be published."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from hub_cards.facts import MAKING_FILE, PIPELINE_FILE
from hub_cards.licences import HUB_LICENCES
from hub_cards.numbers import Results, differing_lines, prose_lines, untraced_numbers

CARD = "README.md"

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)|^\s*\[[^\]]+\]:\s*(\S+)|(?:href|src)=[\"']([^\"']*)[\"']")
_LINK_TITLE = re.compile(r"\s+\"[^\"]*\"$")
_CODE_SPAN = re.compile(r"`[^`]*`")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ON_THE_HUB = re.compile(r"/(datasets|spaces|models|docs|papers)/\S+")
# An absolute path in running text: not part of an address (`https://...`) nor a link within the Hub (`/datasets/...`).
_ABSOLUTE = re.compile(
    r"(?<![\w/.:*\])}>%-])(?:/(?!(?:datasets|spaces|models|docs|papers)/)(?:[\w.@-]+/)+[\w.@-]+|[A-Za-z]:[\\/](?![/\\])[\w.-]+)"
    r"|file://\S+"
)
_SECRETS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|api_org_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})"
)


@dataclass(frozen=True)
class Problem:
    """Something to correct: the file (relative to the directory) and what is wrong with it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def find_absolute_paths(text: str) -> list[str]:
    """Absolute paths in a text, as they give away a machine's folders and work nowhere else."""
    return [found.rstrip(".") for found in _ABSOLUTE.findall(text)]


def find_secrets(text: str) -> list[str]:
    """The beginnings (never the whole) of what looks like an access key in a text."""
    return [f"{found[:5]}..." for found in _SECRETS.findall(text)]


class _UniqueNames(yaml.SafeLoader):
    """YAML in which no name may come twice: of two, readers would silently take the last."""


def _mapping(loader: _UniqueNames, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [loader.construct_object(name) for name, _ in node.value]
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_UniqueNames.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_text(path: Path) -> str:
    """The text of a file, whatever its bytes are; `lint_text_files` names those that are no UTF-8."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_front_matter(card: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The front matter of a card, None with the reason when it has none that can be read."""
    match = _FRONT_MATTER.match(read_text(card))
    if match is None:
        return None, [Problem(card.name, "has no front matter between two lines of ---")]
    try:
        front = yaml.load(match.group(1), _UniqueNames)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        return None, [Problem(card.name, f"front matter is no YAML: {' '.join(str(error).split())}")]
    if not isinstance(front, dict):
        return None, [Problem(card.name, "front matter holds no names")]
    return front, []


def body_of(card: str) -> str:
    """The text of a card after its front matter."""
    match = _FRONT_MATTER.match(card)
    return card[match.end() :] if match else card


def as_list(value: Any) -> list[Any]:
    """`value` if it is a list, else a list of it; empty for None."""
    return value if isinstance(value, list) else [] if value is None else [value]


def misread(value: Any) -> str:
    """What YAML made of a text that was not quoted, as a hint; empty for text."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a truth value"),
        ((int, float), "a number"),
        (datetime.date, "a date"),
    )
    return next((f": YAML reads it as {kind}, quote it" for of, kind in kinds if isinstance(value, of)), "")


def lint_texts(front: Mapping[str, Any], names: Iterable[str]) -> Iterator[Problem]:
    """Those of `names` whose value is there and is not text (`no`, `1.0` and dates without quotes)."""
    for name in names:
        if front.get(name) is not None and not isinstance(front[name], str):
            yield Problem(CARD, f"{name} {front[name]!r} must be text{misread(front[name])}")


def lint_list(front: Mapping[str, Any], name: str, fits: Callable[[str], bool], what: str) -> Iterator[Problem]:
    """Whether `name`, where present, is a list of texts of which each `fits`."""
    values = front.get(name)
    if values is None:
        return
    if not isinstance(values, list):
        yield Problem(CARD, f"{name} must be a list")
    for value in as_list(values):
        if not isinstance(value, str) or not fits(value):
            yield Problem(CARD, f"{name}: {value!r} is no {what}{misread(value)}")


def is_hub_id(name: str) -> bool:
    """Whether a text can be the id of a repository on the Hub."""
    return bool(_HUB_ID.fullmatch(name))


def lint_common(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    """Licence, language, tags and links of a card."""
    licences = as_list(front.get("license"))
    if not licences:
        yield Problem(CARD, "license is missing")
    for name in licences:
        if not isinstance(name, str) or name not in HUB_LICENCES:
            yield Problem(CARD, f"license {name!r} is not one of the Hub's identifiers{misread(name)}")
    if "other" in licences:
        for name in ("license_name", "license_link"):
            if not front.get(name):
                yield Problem(CARD, f"license `other` needs {name}")
        link = str(front.get("license_link") or "")
        if (
            link and not link.startswith("https://") and not os.path.isfile(directory / link)
        ):  # false for a name too long, too
            yield Problem(CARD, f"license_link {link!r} is neither an https address nor a file")
    yield from lint_texts(front, ("license_name", "license_link", "pretty_name", "thumbnail"))
    for name in as_list(front.get("language")):
        if not isinstance(name, str) or not _LANGUAGE.fullmatch(name):
            yield Problem(CARD, f"language {name!r} is no ISO code{misread(name)}")
    yield from lint_list(front, "tags", bool, "tag")
    yield from lint_links(directory)


def lint_links(directory: Path) -> Iterator[Problem]:
    """Whether relative links and anchors of the card lead somewhere, and whether addresses are well formed."""
    for line in prose_lines(read_text(directory / CARD)):
        for found in _LINK.finditer(_CODE_SPAN.sub("", line)):
            target = next((part for part in found.groups() if part is not None), "").strip()
            problem = _link_problem(directory, _LINK_TITLE.sub("", target).strip("<>"))
            if problem:
                yield Problem(CARD, problem)


def _link_problem(directory: Path, target: str) -> str:
    if not target:
        return "a link leads nowhere"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", target):
        try:
            parts = urlsplit(target)
        except ValueError:  # a bracket that opens no IPv6 address
            parts = urlsplit("")
        well_formed = parts.scheme == "mailto" or (
            parts.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or "")
        )
        well_formed = well_formed and not re.search(r"\s", target)
        return "" if well_formed else f"link to {target}, which is no address of the web"
    if _ON_THE_HUB.fullmatch(target):
        return ""
    file, _, anchor = target.partition("#")
    path = directory / file if file else directory / CARD
    if file.startswith(("/", "../")) or not os.path.exists(path):  # false for a name too long, too
        return f"link to {file}, which does not exist{' here' if file.startswith(('/', '../')) else ''}"
    if anchor and path.suffix == ".md" and anchor not in _anchors(read_text(path)):
        return f"link to #{anchor}, but no heading{'' if path.name == CARD else f' of {file}'} is called so"
    return ""


def _anchors(text: str) -> set[str]:
    found: Counter[str] = Counter()
    anchors = set()
    for line in prose_lines(body_of(text)):
        if match := _HEADING.match(line):
            anchor = re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", match.group(1).strip().lower()))
            anchors.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
            found[anchor] += 1
    return anchors


def lint_text_files(directory: Path) -> Iterator[Problem]:
    """Absolute paths and access keys in the card and in the JSON files beside it."""
    made = [path for name in (MAKING_FILE, PIPELINE_FILE) for path in sorted(directory.glob(f"*/{name}"))]
    for path in [*sorted(directory.glob("*.md")), *sorted(directory.glob("*.json")), *made]:
        if not path.is_file():
            continue
        where = str(path.relative_to(directory))
        text = read_text(path)
        try:
            path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:  # the character that replaces is one that a model may have written
            yield Problem(where, "is no UTF-8 text")
        if path.suffix == ".json":
            try:
                text = "\n".join(_strings(json.loads(text)))
            except ValueError:
                yield Problem(where, "is no JSON")
        for found in find_absolute_paths(text):
            yield Problem(where, f"holds the absolute path {found!r}")
        for found in find_secrets(text):
            yield Problem(where, f"holds what looks like an access key ({found})")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield str(name)
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def lint_rendered(where: str, text: str, rendered: str, results: Results) -> Iterator[Problem]:
    """Numbers of `text` that differ from those of its rendering, or that no result file holds in lines of its own."""
    prose = set(prose_lines(text))
    for line, expected in differing_lines(text, rendered):
        if expected is not None:
            yield Problem(where, f"says {line.strip()!r}, the result files say {expected.strip()!r}")
        elif line in prose:
            for number in untraced_numbers(line, results):
                yield untraced(where, number, line)


def untraced(where: str, number: str, line: str) -> Problem:
    """The problem of a number that no result file holds."""
    shown = line.strip()
    shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
    return Problem(where, f"no result file holds the number {number} in {shown!r}")
