"""From a raw answer to a caption.

Raw answers are stored before they come here, so a better parser costs no request: raise `PARSER_VERSION` and read
the store again.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

PARSER_VERSION = "2"  # 2: prose with a colon is prose; Markdown labels, thoughts and null descriptions are recognised
STEM_LETTERS = 5  # "sooth" is in soothing, soothes and soothingly

_FENCE = re.compile(r"^```[a-z]*\s*|\s*```$", re.IGNORECASE)
_LABEL = re.compile(r"^\**(?:caption|description|song description|answer|output|summary)\**\s*:\**\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
_THOUGHT = ("<think>", "</think>")  # what reasoning models put before their answer where the server leaves it in
_WORD = re.compile(r"[^\W_]+")

# A key of the asked-for dictionary: quoted, or with its underscore, or "description:" where a line, item or sentence
# begins. A sentence may well hold the words "new attributes", or "description" before a colon.
_DESCRIPTION_KEY = r"""(?:["']description["']|(?:^|(?<=[{\[\],;.\n]))[\s*#-]*description)["'*]*\s*[:=]"""
_DICTIONARY_KEY = re.compile(
    rf"""(?:["']new[_ ]attributes?["']|new_attributes?)["'*]*\s*[:=]|{_DESCRIPTION_KEY}""", re.IGNORECASE
)
_DESCRIPTION = re.compile(rf"{_DESCRIPTION_KEY}[\s*]*", re.IGNORECASE)
_NEW_ATTRIBUTE = re.compile(
    r"""["']?new[_ ]attributes?["'*]*\s*[:=][\s*]*(?:\[(?P<list>[^\]]*)\]?|(?P<text>[^\n{}]*))""", re.IGNORECASE
)
_NEXT_KEY = re.compile(r"""[,\n]\s*["'*]*new[_ ]attributes?["'*]*\s*[:=]""", re.IGNORECASE)
_JSON = json.JSONDecoder(strict=False)  # a line break inside a string is no reason to lose the answer


@dataclass(frozen=True)
class Parsed:
    """A clean caption, and for attribute_prediction the attributes that the model declares to have added.

    `new_attributes_used` are those of them whose words appear in the caption.
    """

    caption: str
    new_attributes: tuple[str, ...] = ()
    new_attributes_used: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParseFailure:
    """An answer that holds no caption; `reason` says why."""

    reason: str


def parse_answer(instruction: str, text: str) -> Parsed | ParseFailure:
    """The caption in a raw answer: one line, without quotes, fences, labels or dictionary text."""
    if text.lstrip().startswith(_THOUGHT[0]):
        _, ended, text = text.partition(_THOUGHT[1])
        if not ended:
            return ParseFailure("the answer ends inside the model's thoughts")
    parsed = _parse_dictionary(text) if instruction == "attribute_prediction" else _parse_sentence(text)
    if isinstance(parsed, Parsed) and "new_attribute" in parsed.caption:
        return ParseFailure("the caption names the dictionary key new_attribute")
    return parsed


def attributes_in(caption: str, attributes: Sequence[str]) -> tuple[str, ...]:
    """Those `attributes` that `caption` names: all their words occur in it, by their first five letters."""
    if not attributes:
        return ()
    stems = _stems(caption)
    return tuple(name for name in attributes if (wanted := _stems(name)) and wanted <= stems)


def _stems(text: str) -> set[str]:
    return {word[:STEM_LETTERS] for word in _WORD.findall(text.lower())}


def _parsed(caption: str, added: tuple[str, ...]) -> Parsed:
    return Parsed(caption, added, attributes_in(caption, added))


def _parse_sentence(text: str) -> Parsed | ParseFailure:
    caption = _clean(text)
    return Parsed(caption) if caption else ParseFailure("the answer is empty")


def _clean(text: str) -> str:
    text = text.strip()
    if "```" in text:
        text = _FENCE.sub("", text)
    # Models leave the braces of the asked-for dictionary in prose: one at the end, or a pair around each tag.
    text = " ".join(text.replace("{", "").replace("}", "").split())
    if ":" in text:
        text = _LABEL.sub("", text)
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _attribute_list(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple | set):
        return ()
    names = (str(item).strip(" \t\r\n'\"*") for item in value if not isinstance(item, dict | list))
    return tuple(dict.fromkeys(name for name in names if name))


def _literal(text: str) -> dict[str, object] | None:
    """The dictionary that stands in `text` as JSON or as a Python literal, with lower-case keys."""
    start, end = text.find("{"), text.rfind("}")
    values: list[object] = []
    if start >= 0:
        try:
            values.append(_JSON.raw_decode(text, start)[0])  # whatever follows the object is of no interest
        except (ValueError, RecursionError):
            if start < end:
                values.append(_python_literal(text[start : end + 1]))
    if not values or values == [None]:
        values.append(_python_literal("{" + text.strip().strip("{}") + "}"))  # the opening brace is often missing
    for value in values:
        if isinstance(value, dict):
            return {str(key).strip().lower().replace(" ", "_"): item for key, item in value.items()}
    return None


def _python_literal(text: str) -> object:
    try:
        with warnings.catch_warnings():  # a stray backslash in an answer is no fault of the program
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)  # reads literals only and runs nothing
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _parse_dictionary(text: str) -> Parsed | ParseFailure:
    # Most models that leave the dictionary out write plain sentences: told apart without a search.
    if ":" not in text and "=" not in text:
        return _parse_sentence(text)
    text = _FENCE.sub("", text.strip())
    if not _DICTIONARY_KEY.search(text):
        return _parse_sentence(text)  # prose: the model gave the description alone
    literal = _literal(text)
    if literal is not None and "description" in literal:
        added = _attribute_list(literal.get("new_attribute", literal.get("new_attributes")))
        description = literal["description"]
        caption = _clean(description) if isinstance(description, str) else ""
        return _parsed(caption, added) if caption else ParseFailure("the description is empty")
    return _parse_broken_dictionary(text)


def _parse_broken_dictionary(text: str) -> Parsed | ParseFailure:
    """Broken quotes, missing braces, cut ends: the caption is what follows `description`, up to the next key."""
    opening = _DESCRIPTION.search(text)
    if opening is None:
        return ParseFailure("the dictionary has no description")
    rest = text[opening.end() :]
    # Before the description or after it, never across: a list whose bracket is missing would swallow the caption.
    found = _NEW_ATTRIBUTE.search(text[: opening.start()]) or _NEW_ATTRIBUTE.search(rest)
    added: tuple[str, ...] = ()
    if found:
        added = _attribute_list(found.group("list") or (found.group("text") or "").strip().rstrip(",."))
    following = _NEXT_KEY.search(rest)
    caption = rest[: following.start()] if following else rest
    caption = caption.strip().rstrip("}").strip().rstrip(",").strip()
    if caption[:1] in _QUOTES:
        caption = caption[1:]
    caption = _clean(caption.rstrip("\"'”’ "))
    if caption.startswith(("[", "(")):
        caption = caption.strip("[]()\"' ")
    return _parsed(caption, added) if caption else ParseFailure("the description is empty")
