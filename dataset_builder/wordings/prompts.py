"""What a wording is made of, and the prompt that it renders.

A wording has one `Text` an instruction. Rendering joins strings that were cut once, when the wording was made: a run
renders two million prompts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lpmc_errors import UsageError

INSTRUCTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")
PLACEHOLDER = "{tags}"
MAX_TOKENS = {"writing": 256, "summary": 256, "paraphrase": 256, "attribute_prediction": 512}
"""The longest answer that is paid for, in tokens: about three times the longest published caption."""

# What str.format would fill in; a colon alone is no sign of it, as in the JSON-like {type: object}.
_OTHER_PLACEHOLDER = re.compile(r"\{\s*(?:[A-Za-z_]\w*(?:[.!\[][^{}]*)?|tags\b[^{}]*)\s*\}")


@dataclass(frozen=True)
class Message:
    """One chat message; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt. The first `shared` messages are equal for every track (local models cache them).

    `schema` is the JSON schema of the answer as compact JSON text, or "" for an answer in prose. The messages do not
    depend on it: they describe the answer in words, so that an endpoint without structured output gets the same ones.
    """

    messages: tuple[Message, ...]
    wording: str
    wording_version: str
    shared: int = 0
    schema: str = ""


@dataclass(frozen=True)
class Text:
    """The texts of one instruction. `prompt` and `prompt_single` (for exactly one tag) hold `{tags}` once.

    `examples` are (tags, answer) pairs, worked out before the question. Raises `ValueError` for a template that does
    not hold `{tags}` exactly once.
    """

    prompt: str
    prompt_single: str = ""  # "": `prompt` serves one tag too
    system: str = ""
    examples: tuple[tuple[tuple[str, ...], str], ...] = ()
    schema: str = ""
    max_tokens: int = 256

    def __post_init__(self) -> None:
        for template in filter(None, (self.prompt, self.prompt_single)):
            check_template(template)


@dataclass(frozen=True)
class _Cut:
    """A `Text` made ready: what comes before and after the tags, for several tags and for one."""

    head: tuple[Message, ...]
    several: tuple[str, str]
    single: tuple[str, str]
    schema: str
    max_tokens: int


@dataclass(frozen=True)
class Wording:
    """Named texts for some of the four instructions. `version` is a hash of them: a changed word, a changed version."""

    name: str
    version: str
    texts: Mapping[str, Text] = field(compare=False, repr=False)
    _cuts: dict[str, _Cut] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cuts", {instruction: _cut(text) for instruction, text in self.texts.items()})

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instructions that this wording has texts for, in the order of `INSTRUCTIONS`."""
        return tuple(instruction for instruction in INSTRUCTIONS if instruction in self.texts)

    def render(self, instruction: str, tags: Sequence[str]) -> Prompt:
        """The prompt of a track with `tags` (one or more) for `instruction`.

        Raises `UsageError` when the wording lacks the instruction, and `ValueError` without tags: the paper sends no
        request for a track that has none.
        """
        cut = self._cuts.get(instruction) or self._lacks(instruction)
        if not tags:
            raise ValueError("a prompt needs at least one tag")
        before, after = cut.several if len(tags) > 1 else cut.single
        question = Message("user", before + ", ".join(tags) + after)
        return Prompt((*cut.head, question), self.name, self.version, len(cut.head), cut.schema)

    def max_tokens(self, instruction: str) -> int:
        """The longest answer to pay for, in tokens. Raises `UsageError` when the wording lacks the instruction."""
        return (self._cuts.get(instruction) or self._lacks(instruction)).max_tokens

    def _lacks(self, instruction: str) -> _Cut:
        raise UsageError(
            f"--instructions {instruction}",
            f"the wording {self.name} has no text for it",
            f"choose from {', '.join(self.instructions)}, or another --wording",
        )


def check_template(template: str) -> None:
    """Raise `ValueError`, saying why, unless `{tags}` stands in `template` exactly once and is its only placeholder.

    All other braces stand for themselves, so that JSON can be written down as it is.
    """
    if "{" + PLACEHOLDER in template or PLACEHOLDER + "}" in template:
        raise ValueError("write {tags} in single braces")
    others = [found for found in _OTHER_PLACEHOLDER.findall(template) if found != PLACEHOLDER]
    if others:
        raise ValueError(f"has the unknown placeholder {others[0]}; only {PLACEHOLDER} is filled in")
    count = template.count(PLACEHOLDER)
    if count != 1:
        raise ValueError(f"must hold {PLACEHOLDER} exactly once, found {count}")


def texts_version(texts: Any) -> str:
    """12 hex digits of the sha256 of `texts` as JSON; dictionaries in any order."""
    return hashlib.sha256(json.dumps(texts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def make_wording(name: str, texts: Mapping[str, Text]) -> Wording:
    """A wording whose version is a hash of `texts`."""
    return Wording(name, texts_version({instruction: asdict(text) for instruction, text in texts.items()}), texts)


def _cut(text: Text) -> _Cut:
    several = _halves(text.prompt)
    single = _halves(text.prompt_single) if text.prompt_single else several
    head = [Message("system", text.system)] if text.system else []
    for tags, answer in text.examples:
        before, after = single if len(tags) == 1 else several
        head += [Message("user", before + ", ".join(tags) + after), Message("assistant", answer)]
    return _Cut(tuple(head), several, single, text.schema, text.max_tokens)


def _halves(template: str) -> tuple[str, str]:
    before, _, after = template.partition(PLACEHOLDER)
    return before, after
