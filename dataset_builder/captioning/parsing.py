"""From a raw answer to a caption.

Raw answers are stored before they come here, so a better parser costs no request: raise `PARSER_VERSION` and read
the store again.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass

PARSER_VERSION = "1"

_FENCE = re.compile(r"^```[a-z]*\s*|\s*```$", re.IGNORECASE)
_LABEL = re.compile(r"^(?:caption|description|song description|answer|output|summary)\s*:\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
_DICTIONARY_KEY = re.compile(r"""["']?(?:new_attributes?|description)["']?\s*[:=]""", re.IGNORECASE)
_DESCRIPTION = re.compile(r"""["']?description["']?\s*[:=]\s*""", re.IGNORECASE)
_NEW_ATTRIBUTE = re.compile(
    r"""["']?new_attributes?["']?\s*[:=]\s*(?:\[(?P<list>[^\]]*)\]?|(?P<text>[^\n{}]*))""", re.IGNORECASE
)


@dataclass(frozen=True)
class Parsed:
    """A clean caption, and the attributes that the model declares to have added (attribute_prediction only)."""

    caption: str
    new_attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParseFailure:
    """An answer that holds no caption; `reason` says why."""

    reason: str


def parse_answer(instruction: str, text: str) -> Parsed | ParseFailure:
    """The caption in a raw answer: one line, without quotes, fences, labels or dictionary text."""
    parsed = _parse_dictionary(text) if instruction == "attribute_prediction" else _parse_sentence(text)
    if isinstance(parsed, Parsed) and "new_attribute" in parsed.caption:
        return ParseFailure("the caption names the dictionary key new_attribute")
    return parsed


def _parse_sentence(text: str) -> Parsed | ParseFailure:
    caption = _clean(text)
    return Parsed(caption) if caption else ParseFailure("the answer is empty")


def _clean(text: str) -> str:
    text = _FENCE.sub("", text.strip())
    # Models leave the braces of the asked-for dictionary in prose: one at the end, or a pair around each tag.
    text = _LABEL.sub("", " ".join(text.replace("{", "").replace("}", "").split()))
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _attribute_list(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple | set):
        return ()
    names = (str(item).strip().strip("'\"").strip() for item in value if not isinstance(item, dict | list))
    return tuple(dict.fromkeys(name for name in names if name))


def _literal(text: str) -> dict[str, object] | None:
    start, end = text.find("{"), text.rfind("}")
    candidates = [text[start : end + 1]] if 0 <= start < end else []
    candidates.append("{" + text.strip().strip("{}") + "}")  # the opening brace is often missing
    for candidate in candidates:
        for read in (json.loads, ast.literal_eval):  # both read literals only and run nothing
            try:
                value = read(candidate)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
            if isinstance(value, dict):
                return {str(key).strip().lower(): item for key, item in value.items()}
    return None


def _parse_dictionary(text: str) -> Parsed | ParseFailure:
    text = _FENCE.sub("", text.strip())
    if not text:
        return ParseFailure("the answer is empty")
    if not _DICTIONARY_KEY.search(text):
        return _parse_sentence(text)  # prose: the model gave the description alone
    literal = _literal(text)
    if literal is not None:
        added = _attribute_list(literal.get("new_attribute", literal.get("new_attributes")))
        description = literal.get("description")
        if isinstance(description, str) and _clean(description):
            return Parsed(_clean(description), added)
    return _parse_broken_dictionary(text)


def _parse_broken_dictionary(text: str) -> Parsed | ParseFailure:
    """Broken quotes, missing braces, cut ends: the caption is what follows `description`, up to the next key."""
    found = _NEW_ATTRIBUTE.search(text)
    added: tuple[str, ...] = ()
    if found:
        listed = found.group("list") if found.group("list") is not None else found.group("text").strip().rstrip(",")
        added = _attribute_list(listed)
    opening = _DESCRIPTION.search(text)
    if opening is None:
        return ParseFailure("the dictionary has no description")
    rest = text[opening.end() :]
    following = re.search(r"""[,\n]\s*["']?new_attributes?["']?\s*[:=]""", rest, re.IGNORECASE)
    caption = rest[: following.start()] if following else rest
    caption = caption.strip().rstrip("}").strip().rstrip(",").strip()
    if caption[:1] in _QUOTES:
        caption = caption[1:]
    caption = _clean(caption.rstrip("\"'”’ "))
    if caption.startswith(("[", "(")):
        caption = caption.strip("[]()\"' ")
    return Parsed(caption, added) if caption else ParseFailure("the description is empty")
