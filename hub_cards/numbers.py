"""Whether every number of a card is held by a result file that lies beside it.

A card that can be rendered again from its facts is compared line by line. In any other line each number must be a value
of a result file at the precision it is printed with; where the words before it name a value, that very value.
And the words around a number must share one with the names that lead to the value: `12 hours` is not explained by a
batch of twelve. Code blocks, addresses and the templates' own words are let be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from hub_cards.rendering import NUMBER

_NUMBER = re.compile(
    r"(?<![\w.])(?!(?=\d*[a-f])[0-9a-f]{7,64}\b)"  # a hash, or its first signs, is a name; `12x` and `10s` are not
    r"(?:(?P<date>\d{4}-\d\d-\d\d)|(?P<version>\d+(?:\.\d+){2,})"
    r"|(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<unit>\s?%|\s?(?:[kMG]B|bytes)\b|[kMB]\b)?)"
)
_NAME_BEFORE = re.compile(r"(?<![\w.-])[A-Za-z_][\w.-]*$")  # `BLEU-4` and `SmolLM2-135M` are names
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "bytes": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
_FENCE = re.compile(r"^\s*(```|~~~)")
# Addresses, comments, and names of licences, whose numbers are no results.
_NAMES = re.compile(
    r"\b(?:CC0|CC[ -]BY(?:-[A-Z]{2})*|[AL]?GPL|MPL|EUPL|Apache(?: License)?)[ -]v?\d(?:\.\d)?\b|\barxiv:\S+|<!--.*?-->"
    r"|\]\([^)]*\)|<?https?://[^\s>)]+>?"
)
_BAR = "\0"  # stands for a bar that does not divide cells
_SIGNATURE = re.compile(rf"[^\s|`]*{_BAR}[^\s|`]*")
_SEPARATORS = re.compile(r"[\s,;()]+")
_LIST_MARKER = re.compile(r"^\s*\d+[.)]\s")
_LINKING = frozenset({"of", "is", "was", "at", "to", "about", "score", "reached", "reaches", "=", ":"})
_IDENTIFIER = re.compile(r"[A-Za-z]+(?=\w*[\d_])\w+")
_SAY_NOTHING = frozenset(
    {"a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "no", "not", "of", "on", "or", "per"}
    | {"than", "the", "this", "to", "was", "with"}
)
_SHORT_FOR = {"s": "second", "min": "minute", "h": "hour", "lr": "learning", "params": "parameter"}
_WHOLE_FROM = 100  # a measurement may be printed without decimals from here on; below, too many would fit by chance


@dataclass(frozen=True)
class Value:
    """A number of a result file (the `file`-th), and the names that lead to it, outermost first."""

    names: tuple[str, ...]
    number: float | int
    file: int = 0


@dataclass(frozen=True)
class Results:
    """The numbers of result files, and the words with digits of their texts (versions, dates, names)."""

    values: tuple[Value, ...] = ()
    words: frozenset[str] = frozenset()
    by_name: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    texts: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name -> the texts that it stands for

    def of(self, text: str) -> tuple[Value, ...]:
        """The values that `text` names, in each file the least nested ones alone; empty when it names none."""
        found = self.by_name.get(_name(text), ())
        depth = {value.file: min(len(other.names) for other in found if other.file == value.file) for value in found}
        return tuple(value for value in found if len(value.names) == depth[value.file])


def gather(values: Iterable[Any]) -> Results:
    """The numbers and texts of JSON values. Series (lists of objects, such as a loss curve) are left out."""
    numbers: list[Value] = []
    by_name: dict[str, list[Value]] = {}
    texts: dict[str, set[str]] = {}
    for file, names, leaf in ((file, *found) for file, value in enumerate(values) for found in _leaves(value, ())):
        if isinstance(leaf, str):
            texts.setdefault(_name(names[-1]) if names else "", set()).add(leaf)
            continue
        numbers.append(Value(names, leaf, file))
        for name in {_name(name) for name in names}:
            by_name.setdefault(name, []).append(numbers[-1])
    words = {word for group in texts.values() for text in group for word in _SEPARATORS.split(text)}
    return Results(
        tuple(numbers),
        frozenset(word for word in words if re.search(r"\d", word)),
        {name: tuple(group) for name, group in by_name.items()},
        {name: frozenset(group) for name, group in texts.items()},
    )


def read_results(directory: Path, files: Iterable[str]) -> Results:
    """`gather` over those of the JSON files `files` that lie in `directory`; broken ones hold nothing."""
    values = []
    for name in files:
        try:
            values.append(json.loads((directory / name).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return gather(values)


def _leaves(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            # `metrics` is a folder of names, not a name: what lies in it is as good as at the top
            yield from _leaves(part, names if name == "metrics" and not names else (*names, str(name)))
    elif isinstance(value, (list, tuple)):
        if not any(isinstance(part, Mapping) for part in value):
            for part in value:
                yield from _leaves(part, names)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield names, value


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def untraced_lines(text: str, results: Results, fixed: Iterable[re.Pattern[str]] = ()) -> Iterator[tuple[str, str]]:
    """Each number of Markdown `text` that `results` does not hold, with the line it stands in."""
    patterns = tuple(fixed)
    for paragraph in _paragraphs(text):
        around = " ".join(paragraph)
        for line in paragraph:
            for number in untraced_numbers(line, results, patterns, around):
                yield number, line.strip()


def untraced_numbers(
    line: str, results: Results, fixed: tuple[re.Pattern[str], ...] = (), around: str = ""
) -> list[str]:
    """The numbers of one line that `results` does not hold; `around` is the paragraph that the line belongs to."""
    match = next((found for pattern in fixed if (found := pattern.fullmatch(line))), None)
    if match is not None:  # a line of the template: only what data filled in is looked at
        filled = " ".join(part for part in match.groups() if part)
        return untraced_numbers(filled, results, around=line)
    line = _bars_hidden(_LIST_MARKER.sub("", _NAMES.sub(" ", line)))
    cells = [part.strip("`* ") for part in line.split("|")] if line.lstrip().startswith("|") else []
    label = next((part for part in cells if part), "")
    missing = _unheld_signatures(line, results, label)
    line = _SIGNATURE.sub(" ", line)
    named = results.of(label) if label else ()
    # A row that is called `facts_f9` speaks of that and of nothing else.
    words = frozenset({_name(label)}) if _IDENTIFIER.fullmatch(label) else _words(f"{line} {around}")
    for match in _NUMBER.finditer(line):
        if _NAME_BEFORE.search(line[: match.start()]):
            continue
        if not _held(match, results, named or results.of(_word_before(line, match.start())), words):
            missing.append(match.group().strip())
    return missing


def _bars_hidden(line: str) -> str:
    hidden = line.replace("\\|", _BAR)
    return hidden if line.lstrip().startswith("|") else hidden.replace("|", _BAR)


def _unheld_signatures(line: str, results: Results, label: str) -> list[str]:
    """The signatures (`order:1|smooth:none`) that no result file holds, or not for what the row is called."""
    missing = []
    for found in _SIGNATURE.findall(line):
        signature = found.replace(_BAR, "|").rstrip(".,;:")
        of_row = results.texts.get(_name(label)) if label else None
        parts = [part for part in _SEPARATORS.split(signature) if re.search(r"\d", part)]
        if not (signature in of_row if of_row else all(part in results.words for part in parts)):
            missing.append(signature)
    return missing


def _words(text: str) -> frozenset[str]:
    """The words of a text that can name something, without a plural's s; `BLEU-4` and `bleu4` are one."""
    found: set[str] = set()
    for word in text.split():
        parts = [word, *re.split(r"[\W_]+", word)]
        found.update(_singular(_name(part)) for part in parts)
    return frozenset(found - _SAY_NOTHING - {""})


def _singular(word: str) -> str:
    word = _SHORT_FOR.get(word, word)
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _word_before(line: str, start: int) -> str:
    words = line[:start].split()
    while words and words[-1].strip(":=~`*(").lower() in _LINKING | {""}:
        words.pop()
    # What a comma or a full stop divides from the number does not name it.
    return words[-1].strip("`*|()[]{}:=~") if words and not words[-1].endswith((",", ";", ".", ")")) else ""


def _held(match: re.Match[str], results: Results, named: tuple[Value, ...], words: frozenset[str]) -> bool:
    text = match.group("date") or match.group("version")
    if text:
        return any(text in word for word in results.words)
    number, unit = match.group("number"), (match.group("unit") or "").strip()
    return any(
        _prints_as(value.number, number, unit) and (named or words & _words(" ".join(value.names)))
        for value in named or results.values
    )


def _prints_as(value: float | int, number: str, unit: str) -> bool:
    """Whether `value` rounds to the printed `number`: as it is, as a percentage, or in the unit."""
    shown = float(number.replace(",", ""))
    mantissa, _, exponent = number.replace(",", "").lower().partition("e")
    half = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    value = abs(value)
    if unit in _UNITS:
        return abs(value / _UNITS[unit] - shown) <= half * (1 + 1e-9)
    is_share = isinstance(value, float) and value <= 1
    forms = [100 * value] if is_share and unit else [value, 100 * value] if is_share else [value]
    if "." in number or exponent or unit:
        # float error of a rounding at the half; 12 digits are more than any card prints
        return any(abs(form - shown) <= half + 1e-12 * max(1.0, form) for form in forms)
    return value == shown or (isinstance(value, float) and value >= _WHOLE_FROM and abs(value - shown) <= half)


def prose_lines(text: str) -> Iterator[str]:
    """The lines of Markdown outside code blocks (fenced, or indented by four after an empty line)."""
    fenced = indented = False
    before = ""
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            before = line
            continue
        indented = line.startswith("    ") and (indented or not before.strip())
        before = line
        if not fenced and not indented:
            yield line


def _paragraphs(text: str) -> Iterator[list[str]]:
    """The lines of running text between empty lines; a table's line is a paragraph of its own."""
    paragraph: list[str] = []
    for line in prose_lines(text):
        if not line.strip() or line.lstrip().startswith("|"):
            yield paragraph
            paragraph = []
        if line.lstrip().startswith("|"):
            yield [line]
        elif line.strip():
            paragraph.append(line)
    yield paragraph


def altered_lines(text: str, fixed: Iterable[re.Pattern[str]], masked: Iterable[re.Pattern[str]]) -> Iterator[str]:
    """The lines, code included, that stand in the place of a template's line and differ from it in a number."""
    lines = text.splitlines()
    for exact, loose in zip(fixed, masked, strict=True):
        if not any(exact.fullmatch(line) for line in lines):
            yield from (line for line in lines if loose.fullmatch(NUMBER.sub("#", line)))


def differing_lines(card: str, rendered: str) -> Iterator[tuple[str, str | None]]:
    """The lines with a digit of `card` that `rendered` has not in their place.

    With each comes the line that it must have been before somebody changed its numbers, or None when it is a line of
    its own.
    """
    ours = [line for line in card.splitlines() if re.search(r"\d", line)]
    theirs = [line for line in rendered.splitlines() if re.search(r"\d", line)]
    for kind, first, last, other_first, other_last in SequenceMatcher(None, ours, theirs, False).get_opcodes():
        if kind not in ("replace", "delete"):
            continue
        near = theirs[other_first:other_last] + theirs
        for line in ours[first:last]:
            masked = NUMBER.sub("#", line)
            yield line, next((other for other in near if NUMBER.sub("#", other) == masked), None)
